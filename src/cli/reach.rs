//! Connections to a running server: by its address, or through the Kubernetes cluster in which it runs.
//!
//! In a cluster, the default is the API server's proxy for Services. Compared with port forwarding, this does not need
//! to select a pod, works wherever kubectl works, and has its own permission (`get` on `services/proxy`) that can be
//! granted for this one Service. Port forwarding is needed if the server only listens on its pod's loopback, or
//! requires authentication, since the proxy does not pass on the client's identity. It is used with `--port-forward`, and
//! for Services whose port has `appProtocol: https`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use http::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;

use super::args::Remote;
use super::forward::Forward;
use super::output::Ask;
use crate::query::client::{Server, with_query};
use crate::util::shell::quoted;

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

/// The location of a server.
#[derive(Clone, Debug)]
pub enum Reach {
    /// At an address.
    At(Remote),
    /// In a cluster.
    In(Access),
}

/// How a cluster is reached, as kubectl takes it.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Access {
    /// Kubeconfig file. Default: as for kubectl.
    #[arg(long, global = true, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Context of the kubeconfig to use.
    #[arg(long, global = true, value_name = "NAME")]
    pub context: Option<String>,
    /// Connect to the server through `kubectl port-forward` instead of the API server's proxy.
    #[arg(long, global = true)]
    pub port_forward: bool,
}

/// The Service of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The port of the query API.
    pub port: u64,
    is_tls: bool,
}

/// A client for a server, and the port forwarding that it needs.
pub struct Opened {
    server: Server,
    _forward: Option<Forward>,
}

// === impl Reach ===

impl Reach {
    /// Connects to the server.
    ///
    /// # Errors
    /// The cluster is not reachable, or has no such server.
    pub async fn open(&self) -> Result<Opened> {
        let access = match self {
            Reach::At(remote) => return Ok(Opened { server: remote.open()?, _forward: None }),
            Reach::In(access) => access,
        };
        let (cluster, _) = access.connect().await?;
        let service = find(&cluster).await?;
        if access.port_forward || service.is_tls {
            let forward = Forward::start(access, &service)?;
            let server =
                if service.is_tls { access.behind(&forward).await? } else { Server::At(forward.address("http")) };
            return Ok(Opened { server, _forward: Some(forward) });
        }
        Ok(Opened { server: Server::Behind { cluster, proxy: service.proxy() }, _forward: None })
    }
}

impl Reach {
    /// Returns how users can query for details in the same way.
    pub fn ask(&self) -> Ask {
        let remote = match self {
            Reach::At(remote) => remote,
            Reach::In(_) => return Ask { command: "kubectl editwar who", place: Some(String::new()) },
        };
        let file = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        let shown = [
            ("--server", remote.server.clone()),
            ("--server-ca", file(&remote.server_ca)),
            ("--token-file", file(&remote.token_file)),
            ("--client-cert", file(&remote.client_cert)),
            ("--client-key", file(&remote.client_key)),
        ];
        let shown = shown.into_iter().filter_map(|(flag, value)| Some(format!("{flag} {}", quoted(&value?))));
        Ask { place: Some(shown.collect::<Vec<_>>().join(" ")), ..Ask::default() }
    }
}

impl std::ops::Deref for Opened {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

// === impl Remote ===

impl Remote {
    /// Creates a client with the given credentials.
    fn open(&self) -> Result<Server> {
        let address = self.server.clone().context("no server is configured: set --server URL")?;
        let is_plain = address.starts_with("http://");
        let shows = self.token_file.is_some() || self.client_cert.is_some();
        let is_known = address.starts_with("https://") || (is_plain && shows);
        if !is_known {
            return Ok(Server::At(address));
        }
        let uri: http::Uri = address.parse().with_context(|| {
            format!("expected the URL of a server, such as http://127.0.0.1:8080, got \"{address}\"")
        })?;
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let is_here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if is_plain && !is_here {
            bail!("{address}: refusing to send credentials over an unencrypted connection: use https://");
        }
        drop(rustls::crypto::ring::default_provider().install_default());
        let mut config = kube::Config::new(uri);
        config.default_retry = false;
        if let Some(path) = &self.server_ca {
            let read = || -> Result<Vec<Vec<u8>>> {
                let certificates = CertificateDer::pem_file_iter(path)?.collect::<Result<Vec<_>, _>>()?;
                Ok(certificates.into_iter().map(|certificate| certificate.to_vec()).collect())
            };
            config.root_cert = Some(read().with_context(|| path.display().to_string())?);
        }
        if let Some(path) = &self.token_file {
            let token = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            config.auth_info.token = Some(token.trim().to_owned().into());
        }
        let name = |path: &Option<PathBuf>| path.as_ref().map(|path| path.display().to_string());
        config.auth_info.client_certificate = name(&self.client_cert);
        config.auth_info.client_key = name(&self.client_key);
        let client = kube::Client::try_from(config).with_context(|| address.clone())?;
        Ok(Server::Known { client, address })
    }
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
    fn proxy(&self) -> String {
        let Service { namespace, name, port, is_tls } = self;
        let scheme = if *is_tls { "https" } else { "http" };
        format!("/api/v1/namespaces/{namespace}/services/{scheme}:{name}:{port}/proxy")
    }
}

// === impl Access ===

impl Access {
    /// Creates a client. Also returns the namespace of the context.
    ///
    /// # Errors
    /// The kubeconfig is not valid.
    pub async fn connect(&self) -> Result<(kube::Client, String)> {
        let mut config = self.config().await?;
        // Retries would delay the error message.
        config.default_retry = false;
        let namespace = config.default_namespace.clone();
        Ok((kube::Client::try_from(config).context("kubeconfig")?, namespace))
    }

    /// Creates a client for a server with TLS and authentication behind a forwarded port. It sends the kubeconfig's
    /// token, which the server has checked by the API server.
    async fn behind(&self, forward: &Forward) -> Result<Server> {
        let mut config = self.config().await?;
        config.default_retry = false;
        config.cluster_url = forward.address("https").parse().context("a forwarded port")?;
        // The connection to the pod goes through the API server, whose certificate was verified. The server's own
        // certificate is not issued for this machine.
        config.accept_invalid_certs = true;
        Ok(Server::Behind { cluster: kube::Client::try_from(config).context("kubeconfig")?, proxy: String::new() })
    }

    /// Returns the address of the webhook within the cluster.
    ///
    /// # Errors
    /// The cluster is not reachable, or has no such Service.
    pub async fn webhook(&self) -> Result<String> {
        let (cluster, _) = self.connect().await?;
        let services = services(&cluster).await?.unwrap_or_default();
        services.iter().find_map(webhook_url).with_context(|| {
            format!(
                "found no Service with label {LABEL} and a cluster IP: apply editwar's manifests first, or set --server URL"
            )
        })
    }

    async fn config(&self) -> Result<kube::Config> {
        // Fails if a provider is already installed, which is then this one.
        drop(rustls::crypto::ring::default_provider().install_default());
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        match &self.kubeconfig {
            Some(path) => {
                let kubeconfig = Kubeconfig::read_from(path).with_context(|| path.display().to_string())?;
                kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.context("kubeconfig")
            }
            None if self.context.is_some() => kube::Config::from_kubeconfig(&options).await.context("kubeconfig"),
            None => kube::Config::infer().await.context("no cluster is configured: set --kubeconfig"),
        }
    }
}

/// GETs a path of the API server. Returns status and body.
///
/// # Errors
/// The API server does not answer.
pub async fn get(cluster: &kube::Client, path: &str) -> Result<(http::StatusCode, String)> {
    use http_body_util::BodyExt as _;
    let request = Request::get(path).body(kube::client::Body::empty())?;
    let answer = cluster.send(request).await.context("the API server does not answer")?;
    let status = answer.status();
    let body = answer.into_body().collect().await.context("the API server closed the connection")?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// Finds editwar's Service.
async fn find(cluster: &kube::Client) -> Result<Service> {
    let Some(services) = services(cluster).await? else {
        // Without the permission to list Services, access to this one may still be granted.
        return Ok(Service { namespace: HOME.into(), name: HOME.into(), port: ASKED.number, is_tls: false });
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

/// Returns a URL like `https://10.96.0.50:8443`
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
    fn the_services_port_for_people_is_found() {
        let service = |ports: Value| json!({"metadata": {"namespace": "n", "name": "s"}, "spec": {"ports": ports}});
        let both = json!([{"name": "webhook", "port": 8443}, {"name": "admin", "port": 8080}]);
        assert_eq!(Service::of(&service(both)).unwrap().proxy(), "/api/v1/namespaces/n/services/http:s:8080/proxy");
        let tls = json!([{"name": "webhook", "port": 443}, {"name": "api", "port": 9443, "appProtocol": "https"}]);
        assert_eq!(Service::of(&service(tls)).unwrap().proxy(), "/api/v1/namespaces/n/services/https:s:9443/proxy");
        assert_eq!(Service::of(&service(json!([{"name": "webhook", "port": 8443}]))), None);
    }

    #[test]
    fn the_webhook_is_named_by_its_address() {
        let service = |ip: &str| json!({"spec": {"clusterIP": ip, "ports": [{"name": "admin", "port": 8080}, {"name": "webhook", "port": 443}]}});
        assert_eq!(webhook_url(&service("10.96.0.50")).unwrap(), "https://10.96.0.50:443");
        assert_eq!(webhook_url(&service("fd00::5")).unwrap(), "https://[fd00::5]:443");
        assert_eq!(webhook_url(&service("None")), None, "a headless Service has no address that stays");
    }
}
