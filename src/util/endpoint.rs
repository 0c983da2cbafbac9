//! A URL to which JSON is posted.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use hyper::{Request, StatusCode, Uri};

use crate::util::http_client::client_for;

/// Number of bytes of an error message that are read.
const MESSAGE_BYTES_MAX: usize = 4 << 10;

/// How a client authenticates itself, and how it verifies the server.
#[derive(Clone, Debug, Default)]
pub(crate) struct Credentials {
    /// File with a bearer token. Read for each request, so that it can be replaced.
    pub(crate) token_file: Option<PathBuf>,
    /// CA certificates in PEM. Without it, those that this machine trusts.
    pub(crate) ca_file: Option<PathBuf>,
}

/// A URL to which JSON is posted.
pub(crate) struct Endpoint {
    url: Uri,
    client: kube::Client,
    token_file: Option<PathBuf>,
}

// === impl Credentials ===

impl Credentials {
    /// Returns the CA certificates as DER, or `None` if there is no file.
    ///
    /// # Errors
    /// The file cannot be read, or has no certificate.
    pub(crate) fn ca(&self) -> Result<Option<Vec<Vec<u8>>>> {
        let Some(path) = &self.ca_file else { return Ok(None) };
        let pem = std::fs::read(path).with_context(|| path.display().to_string())?;
        let certificates = x509_parser::pem::Pem::iter_from_buffer(&pem).filter_map(Result::ok);
        let certificates: Vec<Vec<u8>> = certificates.map(|pem| pem.contents).collect();
        if certificates.is_empty() {
            bail!("{}: no certificate", path.display());
        }
        Ok(Some(certificates))
    }
}

// === impl Endpoint ===

impl Endpoint {
    /// Creates an endpoint. Must be called on a runtime.
    ///
    /// # Errors
    /// The URL is not valid, or the CA certificates cannot be read.
    pub(crate) fn new(url: &str, credentials: &Credentials) -> Result<Endpoint> {
        let url: Uri = url.parse().context("expected a URL")?;
        let client = client_for(&url, credentials.ca()?).context("cannot create a client")?;
        Ok(Endpoint { url, client, token_file: credentials.token_file.clone() })
    }

    /// Returns the host of the URL, for the log. Other parts of a URL may be secret.
    pub(crate) fn host(&self) -> &str {
        self.url.host().unwrap_or_default()
    }

    /// Posts a body. The answer must arrive `within` this time.
    ///
    /// # Errors
    /// [`Failure`], which says whether the same body may be accepted later.
    pub(crate) async fn post(&self, content_type: &'static str, body: Bytes, within: Duration) -> Result<(), Failure> {
        let posted = tokio::time::timeout(within, self.post_once(content_type, body)).await;
        posted.unwrap_or_else(|_| Err(Failure::temporary(anyhow::anyhow!("no answer in time"))))
    }

    async fn post_once(&self, content_type: &'static str, body: Bytes) -> Result<(), Failure> {
        let request = self.request(content_type, body).map_err(Failure::temporary)?;
        let answer = self.client.send(request).await.map_err(|error| Failure::temporary(error.into()))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let message = Limited::new(answer.into_body(), MESSAGE_BYTES_MAX).collect().await;
        let message =
            message.map(|body| String::from_utf8_lossy(&body.to_bytes()).trim().to_owned()).unwrap_or_default();
        let is_temporary = status.is_server_error()
            || matches!(
                status,
                // With another token or another path, the same body may be accepted.
                StatusCode::TOO_MANY_REQUESTS
                    | StatusCode::REQUEST_TIMEOUT
                    | StatusCode::UNAUTHORIZED
                    | StatusCode::FORBIDDEN
                    | StatusCode::NOT_FOUND
            );
        Err(Failure { is_temporary, error: anyhow::anyhow!("{status} {message}") })
    }

    fn request(&self, content_type: &'static str, body: Bytes) -> Result<Request<kube::client::Body>> {
        let path = self.url.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::post(path).body(kube::client::Body::from(body))?;
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        if let Some(path) = &self.token_file {
            // Small, and on a local disk.
            let token = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
            let mut value = HeaderValue::from_str(&format!("Bearer {}", token.trim()))?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        Ok(request)
    }
}

/// Why a body was not accepted.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Whether the same body may be accepted later.
    pub(crate) is_temporary: bool,
    /// What happened.
    pub(crate) error: anyhow::Error,
}

// === impl Failure ===

impl Failure {
    fn temporary(error: anyhow::Error) -> Failure {
        Failure { is_temporary: true, error }
    }
}
