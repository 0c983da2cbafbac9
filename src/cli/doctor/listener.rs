//! Checks the connection from kube-apiserver to editwar, using the same kubeconfig as kube-apiserver: address, TLS,
//! client certificate or token, and path.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use kube::config::{AuthInfo, Cluster, Kubeconfig};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{CertificateError, ClientConfig, RootCertStore};
use secrecy::ExposeSecret as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::findings::Findings;
use crate::cli::setup::certs;

const TIMEOUT: Duration = Duration::from_secs(10);
/// A batch without events, which has no effect on the server.
const EMPTY_BATCH: &str = r#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":[]}"#;
/// A warning is shown if a certificate expires within this time.
const SOON: Duration = Duration::from_secs(30 * 24 * 3600);

/// The content of a webhook kubeconfig.
struct WebhookTarget {
    uri: http::Uri,
    server_name: String,
    authority: Option<Vec<u8>>,
    certificate: Option<(Vec<u8>, Vec<u8>)>,
    token: Option<String>,
}

/// Checks each step of the connection that a webhook kubeconfig describes, up to the first failure.
pub(super) async fn check(file: &Path, findings: &mut Findings) {
    let target = match read(file) {
        Ok(target) => target,
        Err(error) => {
            let hint =
                "print one with `editwar setup webhook`, and give it to kube-apiserver as --audit-webhook-config-file";
            return findings.bad("webhook kubeconfig", format!("{error:#}"), hint);
        }
    };
    findings.good("webhook kubeconfig", format!("{} posts to {}", file.display(), target.uri));
    if !check_certificate(&target, findings) {
        return;
    }
    let (host, port) = (target.uri.host().unwrap_or_default(), target.uri.port_u16().unwrap_or(443));
    let address = format!("{host}:{port}");
    let stream = match tokio::time::timeout(TIMEOUT, TcpStream::connect(&address)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return unreachable(&address, &error.to_string(), findings),
        Err(_) => return unreachable(&address, "timed out", findings),
    };
    findings.good("listener", format!("{address} accepts connections"));
    if target.uri.scheme_str() != Some("https") {
        findings.weak(
            "TLS",
            "the webhook uses plain HTTP".into(),
            "configure webhook.tls, unless kube-apiserver runs on the same machine",
        );
        return post(&target, stream, findings).await;
    }
    let config = match tls(&target) {
        Ok(config) => config,
        Err(error) => {
            return findings.bad(
                "TLS",
                format!("{error:#}"),
                "print the kubeconfig again with `editwar setup webhook`",
            );
        }
    };
    let Ok(name) = ServerName::try_from(target.server_name.clone()) else {
        return findings.bad(
            "TLS",
            format!("`{}` is not a valid server name", target.server_name),
            "correct tls-server-name",
        );
    };
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream);
    match tokio::time::timeout(TIMEOUT, connected).await {
        Ok(Ok(stream)) => {
            findings.good("TLS", format!("the certificate is valid for {}", target.server_name));
            post(&target, stream, findings).await;
        }
        Ok(Err(error)) => {
            let (text, hint) = tls_trouble(&error, &target.server_name);
            findings.bad("TLS", text, &hint);
        }
        Err(_) => findings.bad("TLS", "the handshake timed out".into(), "check that editwar's webhook listens there"),
    }
}

fn unreachable(address: &str, why: &str, findings: &mut Findings) {
    let hint = "check that `editwar serve` runs with webhook.listen on that address, and that control plane nodes can reach it";
    findings.bad("listener", format!("{address} does not respond: {why}"), hint);
}

fn read(file: &Path) -> Result<WebhookTarget> {
    let config = Kubeconfig::read_from(file).with_context(|| file.display().to_string())?;
    // Uses the current context.
    let context = config.current_context.as_deref().unwrap_or_default();
    let context = config.contexts.iter().find(|c| c.name == context).and_then(|c| c.context.as_ref());
    let context = context.ok_or_else(|| anyhow!("{} has no current context", file.display()))?;
    let cluster = config.clusters.iter().find(|c| c.name == context.cluster).and_then(|c| c.cluster.as_ref());
    let cluster = cluster.ok_or_else(|| anyhow!("{} has no cluster {}", file.display(), context.cluster))?;
    let user = context.user.as_deref().unwrap_or_default();
    let user = config.auth_infos.iter().find(|u| u.name == user).and_then(|u| u.auth_info.as_ref());
    target(cluster, user)
}

fn target(cluster: &Cluster, user: Option<&AuthInfo>) -> Result<WebhookTarget> {
    let server = cluster.server.as_deref().ok_or_else(|| anyhow!("the cluster has no server"))?;
    let uri: http::Uri = server.parse().with_context(|| format!("server {server}"))?;
    let host = uri.host().ok_or_else(|| anyhow!("server {server} has no host"))?.trim_matches(['[', ']']).to_owned();
    let get = |data: Option<&str>, file: Option<&str>| match (data, file) {
        (Some(data), _) => STANDARD.decode(data).map(Some).context("the data is not valid base64"),
        (None, Some(file)) => std::fs::read(file).map(Some).with_context(|| file.to_owned()),
        (None, None) => Ok(None),
    };
    let authority = get(cluster.certificate_authority_data.as_deref(), cluster.certificate_authority.as_deref())
        .context("certificate-authority")?;
    let mut target = WebhookTarget {
        server_name: cluster.tls_server_name.clone().unwrap_or(host),
        uri,
        authority,
        certificate: None,
        token: None,
    };
    if let Some(user) = user {
        let certificate = get(user.client_certificate_data.as_deref(), user.client_certificate.as_deref());
        let key = get(user.client_key_data.as_ref().map(|k| k.expose_secret()), user.client_key.as_deref());
        target.certificate = certificate.context("client-certificate")?.zip(key.context("client-key")?);
        target.token = user.token.as_ref().map(|token| token.expose_secret().to_owned());
    }
    Ok(target)
}

/// Checks whether the client certificate, if there is one, is valid today.
fn check_certificate(target: &WebhookTarget, findings: &mut Findings) -> bool {
    let Some((certificate, _)) = &target.certificate else { return true };
    let hint = "renew it with `editwar setup certs`, print the kubeconfig again, and restart kube-apiserver";
    let facts = match certs::facts(certificate) {
        Ok(facts) => facts,
        Err(error) => {
            findings.bad("client certificate", format!("{error:#}"), hint);
            return false;
        }
    };
    let until = certs::date(facts.until);
    let now = SystemTime::now();
    if now > facts.until {
        findings.bad("client certificate", format!("{} expired on {until}", facts.name), hint);
        return false;
    }
    if now + SOON > facts.until {
        findings.weak("client certificate", format!("{} expires on {until}", facts.name), hint)
    } else {
        findings.good("client certificate", format!("{} is valid until {until}", facts.name))
    }
    true
}

fn tls(target: &WebhookTarget) -> Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let authority =
        target.authority.as_deref().ok_or_else(|| anyhow!("the kubeconfig has no certificate authority"))?;
    for certificate in CertificateDer::pem_slice_iter(authority) {
        roots.add(certificate.context("certificate-authority")?).context("certificate-authority")?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    Ok(match &target.certificate {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => {
            let chain: Vec<CertificateDer<'static>> =
                CertificateDer::pem_slice_iter(chain).collect::<Result<_, _>>().context("client-certificate")?;
            let key = PrivateKeyDer::from_pem_slice(key).context("client-key")?;
            builder.with_client_auth_cert(chain, key).context("client certificate and key")?
        }
    })
}

/// Explains a failed handshake: what is wrong, and what to do.
fn tls_trouble(error: &std::io::Error, name: &str) -> (String, String) {
    let cause = error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(why)) = cause else {
        return (error.to_string(), "check that editwar's webhook listens there, with webhook.tls".into());
    };
    match why {
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => (
            format!("the server's certificate is not valid for {name}"),
            format!("add the name with `editwar setup certs DIR --name {name}`, or correct tls-server-name"),
        ),
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => (
            "the server's certificate has expired".into(),
            "renew it with `editwar setup certs DIR`; the server loads it within seconds".into(),
        ),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            ("the server's certificate is not valid yet: clocks differ".into(), "synchronize the clocks".into())
        }
        // The CAs of `editwar setup certs` all have the same name, so that a wrong one is only noticed by its
        // signature.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => (
            "the server's certificate is from another CA than the one in the kubeconfig".into(),
            "print the kubeconfig again with `editwar setup webhook`, from the directory with the server.crt in use"
                .into(),
        ),
        other => (
            format!("the server's certificate: {other:?}"),
            "create new certificates with `editwar setup certs`".into(),
        ),
    }
}

/// Posts an empty batch, in the same way as kube-apiserver.
async fn post<S>(target: &WebhookTarget, stream: S, findings: &mut Findings)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let hint = "configure the client in webhook.auth: its CA and its name, or its token";
    match tokio::time::timeout(TIMEOUT, send(target, stream)).await {
        Ok(Ok(StatusCode::OK)) => findings.good("webhook", format!("{} accepts batches", target.uri.path())),
        Ok(Ok(status @ StatusCode::UNAUTHORIZED)) => {
            findings.bad("authentication", format!("the server rejects the client ({status})"), hint);
        }
        Ok(Ok(status @ StatusCode::FORBIDDEN)) => {
            let text = format!("the client may not post to {} ({status})", target.uri.path());
            findings.bad(
                "authentication",
                text,
                "add it to webhook.auth.allow with the right `ingest` for this cluster",
            );
        }
        Ok(Ok(StatusCode::NOT_FOUND)) => {
            let text = format!("the webhook has no path {}", target.uri.path());
            findings.bad("webhook", text, "set a server URL in the kubeconfig that ends in /audit or /audit/CLUSTER");
        }
        Ok(Ok(status)) => findings.bad("webhook", format!("returns {status}"), "see the server's log"),
        // In TLS 1.3, the server rejects a client certificate only after the client's first request.
        Ok(Err(error)) => findings.bad("authentication", format!("the server closed the connection: {error:#}"), hint),
        Err(_) => findings.bad("webhook", "timed out".into(), "see the server's log"),
    }
}

async fn send<S>(target: &WebhookTarget, stream: S) -> Result<StatusCode>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let path = target.uri.path_and_query().map_or("/", |p| p.as_str());
    let mut request = Request::post(path)
        .header("host", target.uri.authority().map_or("", |a| a.as_str()))
        .header("content-type", "application/json");
    if let Some(token) = &target.token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let sent = sender.send_request(request.body(Full::new(Bytes::from_static(EMPTY_BATCH.as_bytes())))?).await;
    let answer = match sent {
        Ok(answer) => answer,
        Err(error) => {
            // The error of the connection is more specific than that of the request.
            drop(sender);
            connection.await?.map_err(|cause| anyhow::Error::new(cause).context("TLS"))?;
            return Err(error.into());
        }
    };
    let status = answer.status();
    drop(answer.into_body().collect().await);
    connection.abort();
    Ok(status)
}
