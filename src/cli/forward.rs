//! Forwards a local port to a Service with `kubectl port-forward`, for as long as it is needed.
//!
//! kubectl is used because users of the kubectl plugin have it, with working credentials and proxy settings.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};

use super::args::Access;
use super::service::Service;

/// The beginning of kubectl's message that the port is ready.
const READY: &str = "Forwarding from 127.0.0.1:";

/// Timeout for a ready pod. By default, kubectl waits for a minute without any message.
const POD_TIMEOUT: &str = "--pod-running-timeout=5s";

/// A forwarded port. It is closed on drop.
#[derive(Debug)]
pub(super) struct Forward {
    kubectl: Child,
    port: u16,
}

// === impl Forward ===

impl Forward {
    /// Forwards a free local port to a Service, and waits until it is ready.
    ///
    /// # Errors
    /// There is no kubectl, or it reports an error.
    pub(super) fn start(access: &Access, service: &Service) -> Result<Forward> {
        let mut command = Command::new("kubectl");
        command.args(["port-forward", "--address=127.0.0.1", "-n", &service.namespace, POD_TIMEOUT]);
        command.args(access.cluster.kubeconfig.iter().map(|path| format!("--kubeconfig={}", path.display())));
        command.args(access.cluster.context.iter().map(|context| format!("--context={context}")));
        command.args([format!("service/{}", service.name), format!(":{}", service.port)]);
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut forward = Forward { kubectl: spawned.context("cannot run kubectl")?, port: 0 };
        let stdout = forward.kubectl.stdout.take().ok_or_else(|| anyhow!("cannot read the output of kubectl"))?;
        let mut line = String::new();
        // kubectl either prints this line first, or exits if it cannot forward the port.
        BufReader::new(stdout).read_line(&mut line).context("kubectl port-forward")?;
        let port = line.strip_prefix(READY).and_then(|rest| rest.split(' ').next()?.parse().ok());
        let Some(port) = port else {
            let mut said = String::new();
            if let Some(stderr) = &mut forward.kubectl.stderr {
                stderr.read_to_string(&mut said).context("kubectl port-forward")?;
            }
            let Service { namespace, name, .. } = service;
            bail!(
                "kubectl port-forward: {}; check that a pod of Service {namespace}/{name} is ready: kubectl get pods -n {namespace}",
                said.trim()
            );
        };
        forward.port = port;
        Ok(forward)
    }

    /// Returns the local URL.
    pub(super) fn address(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}", self.port)
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        // At worst, the process has ended already.
        drop(self.kubectl.kill());
        drop(self.kubectl.wait());
    }
}
