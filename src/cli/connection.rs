//! Connections to a running server: by its address, or through the Kubernetes cluster in which it runs.
//!
//! In a cluster, the default is the API server's proxy for Services. Compared with port forwarding, this does not need
//! to select a pod, works wherever kubectl works, and has its own permission (`get` on `services/proxy`) that can be
//! granted for this one Service. Port forwarding is needed if the server only listens on its pod's loopback, or
//! requires authentication, since the proxy does not pass on the client's identity. It is used with `--port-forward`, and
//! for Services whose port has `appProtocol: https`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use kube::config::{KubeConfigOptions, Kubeconfig};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use super::args::{Access, KubeAccess, Remote};
use super::forward::Forward;
use super::output::WhoCommand;
use super::service::{self, Service};
use crate::query::client::Server;
use crate::util::shell::quoted;

/// The location of a server.
#[derive(Clone, Debug)]
pub(super) enum ServerTarget {
    /// At an address.
    At(Remote),
    /// In a cluster.
    In(Access),
}

/// A client for a server, and the port forwarding that it needs.
pub(super) struct Connection {
    server: Server,
    _forward: Option<Forward>,
}

// === impl ServerTarget ===

impl ServerTarget {
    /// Connects to the server.
    ///
    /// # Errors
    /// The cluster is not reachable, or has no such server.
    pub(super) async fn open(&self) -> Result<Connection> {
        let access = match self {
            ServerTarget::At(remote) => return Ok(Connection { server: remote.open()?, _forward: None }),
            ServerTarget::In(access) => access,
        };
        let (cluster, _) = access.connect().await?;
        let service = service::find(&cluster).await?;
        if access.port_forward || service.is_tls {
            let forward = Forward::start(access, &service)?;
            let server = if service.is_tls {
                access.behind(&forward, &cluster, &service).await?
            } else {
                Server::At(forward.address("http"))
            };
            return Ok(Connection { server, _forward: Some(forward) });
        }
        Ok(Connection { server: Server::Behind { cluster, proxy: service.proxy() }, _forward: None })
    }

    /// Returns the context in the user's kubeconfig, if the user has chosen one.
    pub(super) fn context(&self) -> Option<&str> {
        match self {
            ServerTarget::At(_) => None,
            ServerTarget::In(access) => access.cluster.context.as_deref(),
        }
    }

    /// Returns how users can query for details in the same way.
    pub(super) fn who_command(&self) -> WhoCommand {
        let remote = match self {
            ServerTarget::At(remote) => remote,
            ServerTarget::In(access) => {
                let context = access.cluster.context.as_ref().map(|context| format!("--context {}", quoted(context)));
                return WhoCommand {
                    command: "kubectl editwar who",
                    server_arguments: Some(context.unwrap_or_default()),
                };
            }
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
        let shown = shown.chain(remote.insecure_skip_tls_verify.then(|| "--insecure-skip-tls-verify".to_owned()));
        WhoCommand { server_arguments: Some(shown.collect::<Vec<_>>().join(" ")), ..WhoCommand::default() }
    }
}

impl std::ops::Deref for Connection {
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
        config.accept_invalid_certs = self.insecure_skip_tls_verify;
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

// === impl Access ===

impl Access {
    /// Creates a client. Also returns the namespace of the context.
    ///
    /// # Errors
    /// The kubeconfig is not valid.
    pub async fn connect(&self) -> Result<(kube::Client, String)> {
        self.cluster.connect().await
    }

    /// Creates a client for a server with TLS and authentication behind a forwarded port. It sends the kubeconfig's
    /// token, which the server verifies with a TokenReview. If the kubeconfig has a client certificate instead, which proves nothing
    /// to the server, it sends a token of the ServiceAccount for readers, if the user may create one.
    async fn behind(&self, forward: &Forward, cluster: &kube::Client, service: &Service) -> Result<Server> {
        let mut config = self.cluster.config().await?;
        let kube::config::AuthInfo { token, token_file, exec, auth_provider, .. } = &config.auth_info;
        if token.is_none() && token_file.is_none() && exec.is_none() && auth_provider.is_none() {
            config.auth_info.token = service::reader_token(cluster, service).await.map(Into::into);
        }
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
        service::webhook(&cluster).await
    }
}

// === impl KubeAccess ===

impl KubeAccess {
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

    /// Returns the flags that choose the same cluster on the command line. Empty if it is the current one.
    pub(super) fn flags(&self) -> String {
        let kubeconfig = self.kubeconfig.as_ref().map(|path| path.display().to_string());
        let chosen = [("--kubeconfig", kubeconfig), ("--context", self.context.clone())];
        let flags = chosen.into_iter().filter_map(|(flag, value)| Some(format!("{flag} {}", quoted(&value?))));
        flags.collect::<Vec<_>>().join(" ")
    }

    async fn config(&self) -> Result<kube::Config> {
        // Fails if a provider is already installed. That is always this one.
        drop(rustls::crypto::ring::default_provider().install_default());
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        match &self.kubeconfig {
            Some(path) => {
                let kubeconfig = Kubeconfig::read_from(path).with_context(|| path.display().to_string())?;
                kube::Config::from_custom_kubeconfig(kubeconfig, &options).await.context("kubeconfig")
            }
            None if self.context.is_some() => kube::Config::from_kubeconfig(&options).await.context("kubeconfig"),
            // Report only the error of the kubeconfig. Outside of a pod, the in-cluster error is expected.
            None => kube::Config::infer().await.map_err(|error| {
                let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string);
                anyhow::anyhow!("no cluster is configured: {why}; set --kubeconfig FILE")
            }),
        }
    }
}
