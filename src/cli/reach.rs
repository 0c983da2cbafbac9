//! Ways to a running server: its address, or a Kubernetes cluster that it runs in.
//!
//! In a cluster it is asked through the API server's proxy of its Service. Compared with a forwarded port this needs no
//! pod to be picked, works through any proxy that kubectl works through, and takes a right of its own, `get` on
//! `services/proxy`, that can be granted for this one Service.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use http::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;

use crate::query::client::Server;

/// The Service's label, by which it is found, and where it is looked for without the right to list Services.
const LABEL: &str = "app.kubernetes.io/name=editwar";
const HOME: &str = "/api/v1/namespaces/editwar/services/http:editwar:8080/proxy";
/// What its port is called, or which it is.
const PORT_NAMES: &[&str] = &["admin", "api", "http", "https"];
const PORT: u64 = 8080;

/// Where a server is.
#[derive(Clone, Debug)]
pub enum Reach {
    /// At an address.
    At(String),
    /// In a cluster.
    In(Access),
}

/// How a cluster is reached, as kubectl takes it.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Access {
    /// Kubeconfig file; by default as kubectl finds it.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
}

// === impl Reach ===

impl Reach {
    /// The server, ready to be asked.
    ///
    /// # Errors
    /// Where the cluster cannot be reached, or has no such server.
    pub async fn open(&self) -> Result<Server> {
        Ok(match self {
            Reach::At(address) => Server::At(address.clone()),
            Reach::In(access) => {
                let (cluster, _) = access.connect().await?;
                let proxy = find(&cluster).await?;
                Server::Behind { cluster, proxy }
            }
        })
    }
}

// === impl Access ===

impl Access {
    /// A client, and the context's namespace.
    ///
    /// # Errors
    /// Where the kubeconfig makes no sense.
    pub async fn connect(&self) -> Result<(kube::Client, String)> {
        let mut config = self.config().await?;
        // Who waits at a terminal wants to know.
        config.default_retry = false;
        let namespace = config.default_namespace.clone();
        Ok((kube::Client::try_from(config).context("kubeconfig")?, namespace))
    }

    async fn config(&self) -> Result<kube::Config> {
        // A second provider of cryptography is refused, and the first is this one.
        drop(rustls::crypto::ring::default_provider().install_default());
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        match &self.kubeconfig {
            Some(path) => {
                let kubeconfig = Kubeconfig::read_from(path).with_context(|| path.display().to_string())?;
                kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.context("kubeconfig")
            }
            None if self.context.is_some() => kube::Config::from_kubeconfig(&options).await.context("kubeconfig"),
            None => kube::Config::infer().await.context("no cluster is configured: give --kubeconfig"),
        }
    }
}

/// GETs a path of the API server: status and body.
///
/// # Errors
/// Where it does not answer.
pub async fn get(cluster: &kube::Client, path: &str) -> Result<(http::StatusCode, String)> {
    use http_body_util::BodyExt as _;
    let request = Request::get(path).body(kube::client::Body::empty())?;
    let answer = cluster.send(request).await.context("the API server does not answer")?;
    let status = answer.status();
    let body = answer.into_body().collect().await.context("the API server hangs up")?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// The proxy's path of editwar's Service.
async fn find(cluster: &kube::Client) -> Result<String> {
    let (status, body) = get(cluster, &format!("/api/v1/services?labelSelector={}", LABEL.replace('=', "%3D"))).await?;
    if status == http::StatusCode::UNAUTHORIZED {
        bail!("the API server does not know you (401): log in again");
    }
    // Who may not list all Services may still ask this one.
    if !status.is_success() {
        return Ok(HOME.to_owned());
    }
    let list: Value = serde_json::from_str(&body).context("the API server's list of Services")?;
    let services = list["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let found: Vec<String> = services.iter().filter_map(proxy_path).collect();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => bail!(
            "no Service labelled {LABEL} in the cluster: apply editwar's manifests, or give --server URL of a server elsewhere"
        ),
        several => bail!("several servers: {}; give --server URL of one", several.join(", ")),
    }
}

fn proxy_path(service: &Value) -> Option<String> {
    let ports = service["spec"]["ports"].as_array()?;
    let is_ours = |p: &&Value| p["port"].as_u64() == Some(PORT);
    let is_called_so = |p: &&Value| p["name"].as_str().is_some_and(|name| PORT_NAMES.contains(&name));
    let port = ports.iter().find(is_ours).or_else(|| ports.iter().find(is_called_so))?;
    let is_tls = port["name"] == "https" || port["appProtocol"] == "https";
    let (namespace, name) = (service["metadata"]["namespace"].as_str()?, service["metadata"]["name"].as_str()?);
    let scheme = if is_tls { "https" } else { "http" };
    Some(format!("/api/v1/namespaces/{namespace}/services/{scheme}:{name}:{}/proxy", port["port"].as_u64()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_services_port_for_people_is_found() {
        let service = |ports: Value| json!({"metadata": {"namespace": "n", "name": "s"}, "spec": {"ports": ports}});
        let both = json!([{"name": "webhook", "port": 8443}, {"name": "admin", "port": 8080}]);
        assert_eq!(proxy_path(&service(both)).unwrap(), "/api/v1/namespaces/n/services/http:s:8080/proxy");
        let tls = json!([{"name": "webhook", "port": 443}, {"name": "api", "port": 9443, "appProtocol": "https"}]);
        assert_eq!(proxy_path(&service(tls)).unwrap(), "/api/v1/namespaces/n/services/https:s:9443/proxy");
        assert_eq!(proxy_path(&service(json!([{"name": "webhook", "port": 8443}]))), None);
    }
}
