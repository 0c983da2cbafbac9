//! A port of the machine, forwarded to a Service by kubectl, for as long as it is needed.
//!
//! kubectl does it, for who runs a kubectl plugin has a kubectl, with the rights and proxies that it works with.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, anyhow, bail};

use super::reach::{Access, Service};

/// How kubectl says that it forwards.
const READY: &str = "Forwarding from 127.0.0.1:";

/// Time for a pod to be ready: kubectl itself waits for a minute, and says nothing.
const POD_TIMEOUT: &str = "--pod-running-timeout=5s";

/// A forwarded port; given up when it is dropped.
#[derive(Debug)]
pub struct Forward {
    kubectl: Child,
    port: u16,
}

// === impl Forward ===

impl Forward {
    /// Forwards a free port to a Service, and waits until it is there.
    ///
    /// # Errors
    /// Where there is no kubectl, or it says why it cannot.
    pub fn start(access: &Access, service: &Service) -> Result<Forward> {
        let mut command = Command::new("kubectl");
        command.args(["port-forward", "--address=127.0.0.1", "-n", &service.namespace, POD_TIMEOUT]);
        command.args(access.kubeconfig.iter().map(|path| format!("--kubeconfig={}", path.display())));
        command.args(access.context.iter().map(|context| format!("--context={context}")));
        command.args([format!("service/{}", service.name), format!(":{}", service.port)]);
        let spawned = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        let mut forward = Forward { kubectl: spawned.context("kubectl cannot be run")?, port: 0 };
        let stdout = forward.kubectl.stdout.take().ok_or_else(|| anyhow!("kubectl has no output"))?;
        let mut line = String::new();
        // It ends by itself where it cannot forward; else this line is the first.
        BufReader::new(stdout).read_line(&mut line).context("kubectl port-forward")?;
        let port = line.strip_prefix(READY).and_then(|rest| rest.split(' ').next()?.parse().ok());
        let Some(port) = port else {
            let mut said = String::new();
            if let Some(stderr) = &mut forward.kubectl.stderr {
                stderr.read_to_string(&mut said).context("kubectl port-forward")?;
            }
            let Service { namespace, name, .. } = service;
            bail!(
                "kubectl port-forward: {}; is a pod behind Service {namespace}/{name} ready? `kubectl get pods -n {namespace}`",
                said.trim()
            );
        };
        forward.port = port;
        Ok(forward)
    }

    /// Where it is.
    pub fn address(&self, scheme: &str) -> String {
        format!("{scheme}://127.0.0.1:{}", self.port)
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        // Gone already, at worst.
        drop(self.kubectl.kill());
        drop(self.kubectl.wait());
    }
}
