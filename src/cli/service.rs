//! Finds editwar's Service in a cluster.

use anyhow::{Context, Result, bail};
use http::Request;
use serde_json::Value;

use crate::query::client::with_query;

/// The label of the Service, and its name and namespace if Services cannot be listed.
const LABEL: &str = "app.kubernetes.io/name=editwar";
const HOME: &str = "editwar";
/// Number and names of the ports: for the query API, and for kube-apiserver.
const ASKED: Port = Port { number: 8080, names: &["admin", "api", "http", "https"] };
const POSTED_TO: Port = Port { number: 8443, names: &["webhook"] };

struct Port {
    number: u64,
    names: &'static [&'static str],
}

/// The Service of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The port of the query API.
    pub port: u64,
    /// Whether the port serves TLS.
    pub is_tls: bool,
}

// === impl Service ===

impl Service {
    fn of(service: &Value) -> Option<Service> {
        let port = port(service, &ASKED)?;
        Some(Service {
            namespace: service["metadata"]["namespace"].as_str()?.to_owned(),
            name: service["metadata"]["name"].as_str()?.to_owned(),
            port: port["port"].as_u64()?,
            is_tls: port["name"] == "https" || port["appProtocol"] == "https",
        })
    }

    /// Returns its path in the API server's proxy.
    pub(super) fn proxy(&self) -> String {
        let Service { namespace, name, port, is_tls } = self;
        let scheme = if *is_tls { "https" } else { "http" };
        format!("/api/v1/namespaces/{namespace}/services/{scheme}:{name}:{port}/proxy")
    }
}

/// GETs a path of the API server. Returns status and body.
///
/// # Errors
/// The API server does not answer.
pub(super) async fn get(cluster: &kube::Client, path: &str) -> Result<(http::StatusCode, String)> {
    use http_body_util::BodyExt as _;
    let request = Request::get(path).body(kube::client::Body::empty())?;
    let answer = cluster.send(request).await.context("the API server does not answer")?;
    let status = answer.status();
    let body = answer.into_body().collect().await.context("the API server closed the connection")?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// Returns a token of the ServiceAccount that may read, for ten minutes. Returns `None` if there is none, or the user may not create
/// tokens for it.
pub(super) async fn reader_token(cluster: &kube::Client, Service { namespace, name, .. }: &Service) -> Option<String> {
    let body = serde_json::json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 600}});
    let request = Request::post(format!("/api/v1/namespaces/{namespace}/serviceaccounts/{name}-reader/token"))
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&body).ok()?)
        .ok()?;
    let answer: Value = cluster.request(request).await.ok()?;
    answer["status"]["token"].as_str().map(str::to_owned)
}

/// Finds editwar's Service.
///
/// # Errors
/// The cluster is not reachable, or has no such Service, or several.
pub(super) async fn find(cluster: &kube::Client) -> Result<Service> {
    let Some(services) = services(cluster).await? else {
        // Without the permission to list Services, access to this one may still be granted.
        let (status, body) = get(cluster, &format!("/api/v1/namespaces/{HOME}/services/{HOME}")).await?;
        let known = status.is_success().then(|| serde_json::from_str(&body).ok()).flatten();
        let known = known.as_ref().and_then(Service::of);
        let unknown = || Service { namespace: HOME.into(), name: HOME.into(), port: ASKED.number, is_tls: false };
        return Ok(known.unwrap_or_else(unknown));
    };
    let found: Vec<Service> = services.iter().filter_map(Service::of).collect();
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => {
            bail!("found no Service with label {LABEL} in the cluster: apply editwar's manifests, or set --server URL")
        }
        several => {
            let names: Vec<String> = several.iter().map(|s| format!("{}/{}", s.namespace, s.name)).collect();
            bail!("found several editwar servers: {}; choose one with --server URL", names.join(", "))
        }
    }
}

/// Returns the URL at which kube-apiserver reaches the webhook: the cluster IP of the Service.
///
/// # Errors
/// The cluster is not reachable, or has no such Service.
pub(super) async fn webhook(cluster: &kube::Client) -> Result<String> {
    let services = services(cluster).await?.unwrap_or_default();
    services.iter().find_map(webhook_url).with_context(|| {
        format!(
            "found no Service with label {LABEL} and a cluster IP: apply editwar's manifests first, or set --server URL"
        )
    })
}

/// Lists the Services of editwar. Returns `None` without the permission to do so.
async fn services(cluster: &kube::Client) -> Result<Option<Vec<Value>>> {
    let (status, body) = get(cluster, &with_query("/api/v1/services", &[("labelSelector", Some(LABEL))])).await?;
    if status == http::StatusCode::UNAUTHORIZED {
        bail!("the API server rejected your credentials (401): log in again");
    }
    if !status.is_success() {
        return Ok(None);
    }
    let mut list: Value = serde_json::from_str(&body).context("the API server's list of Services")?;
    Ok(list["items"].as_array_mut().map(std::mem::take))
}

/// Finds a port of a Service, by number or name.
fn port<'s>(service: &'s Value, wanted: &Port) -> Option<&'s Value> {
    let ports = service["spec"]["ports"].as_array()?;
    let has_name = |p: &&Value| p["name"].as_str().is_some_and(|name| wanted.names.contains(&name));
    ports.iter().find(|p| p["port"].as_u64() == Some(wanted.number)).or_else(|| ports.iter().find(has_name))
}

/// Returns a URL like `https://10.96.0.50:8443`.
fn webhook_url(service: &Value) -> Option<String> {
    let address: std::net::IpAddr = service["spec"]["clusterIP"].as_str()?.parse().ok()?;
    let port = u16::try_from(port(service, &POSTED_TO)?["port"].as_u64()?).ok()?;
    Some(format!("https://{}", std::net::SocketAddr::new(address, port)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_admin_port_of_the_service_is_found() {
        let service = |ports: Value| json!({"metadata": {"namespace": "n", "name": "s"}, "spec": {"ports": ports}});
        let both = json!([{"name": "webhook", "port": 8443}, {"name": "admin", "port": 8080}]);
        assert_eq!(Service::of(&service(both)).unwrap().proxy(), "/api/v1/namespaces/n/services/http:s:8080/proxy");
        let tls = json!([{"name": "webhook", "port": 443}, {"name": "api", "port": 9443, "appProtocol": "https"}]);
        assert_eq!(Service::of(&service(tls)).unwrap().proxy(), "/api/v1/namespaces/n/services/https:s:9443/proxy");
        assert_eq!(Service::of(&service(json!([{"name": "webhook", "port": 8443}]))), None);
    }

    #[test]
    fn webhook_urls_use_the_cluster_ip() {
        let service = |ip: &str| json!({"spec": {"clusterIP": ip, "ports": [{"name": "admin", "port": 8080}, {"name": "webhook", "port": 443}]}});
        assert_eq!(webhook_url(&service("10.96.0.50")).unwrap(), "https://10.96.0.50:443");
        assert_eq!(webhook_url(&service("fd00::5")).unwrap(), "https://[fd00::5]:443");
        assert_eq!(webhook_url(&service("None")), None, "a headless Service has no cluster IP");
    }
}
