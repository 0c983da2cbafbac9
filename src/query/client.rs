//! A client for a running server: sends one GET and reads one answer, either directly or through a cluster's API
//! server.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Time limit for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Maximum number of bytes of an answer.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// An error of a query.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The address is not valid.
    #[error("expected the URL of a server with its scheme, such as http://127.0.0.1:8080, got \"{0}\"")]
    Address(String),
    /// The server does not answer.
    #[error("{url} does not respond: {message}; check that `editwar serve` is running there")]
    Unreachable {
        /// The URL.
        url: String,
        /// The reason.
        message: String,
    },
    /// The server answered with an error.
    #[error("{url}: {message} ({status})")]
    Refused {
        /// The URL.
        url: String,
        /// The HTTP status.
        status: StatusCode,
        /// The message of the server.
        message: String,
    },
    /// The response is not the expected JSON, or cannot be read.
    #[error("{url}: cannot read the response: {message}")]
    Answer {
        /// The URL.
        url: String,
        /// What is wrong.
        message: String,
    },
}

/// The error message of editwar, or of the API server.
#[derive(Deserialize)]
struct Problem {
    #[serde(alias = "message")]
    error: String,
}

/// A running server, and how to reach it.
#[derive(Clone)]
pub(crate) enum Server {
    /// Directly, at an address such as `http://127.0.0.1:8080`.
    At(String),
    /// Directly, with a client that authenticates itself or verifies the server.
    Known {
        /// The client.
        client: kube::Client,
        /// The address of the server.
        address: String,
    },
    /// A Service, through the proxy of the API server.
    Behind {
        /// The client for the cluster.
        cluster: kube::Client,
        /// The path of the Service, such as `/api/v1/namespaces/editwar/services/http:editwar:8080/proxy`.
        proxy: String,
    },
}

/// Returns a path with those parameters that have a value.
pub(crate) fn with_query(path: &str, parameters: &[(&str, Option<&str>)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters {
        if let Some(value) = value {
            query.append_pair(name, value);
        }
    }
    format!("{path}?{}", query.finish())
}

/// A complete answer of a server.
struct Answer {
    url: String,
    status: StatusCode,
    date: Option<String>,
    body: Bytes,
}

// === impl Server ===

impl Server {
    /// Requests JSON. `path` begins with a slash.
    ///
    /// # Errors
    /// [`Error`] if there is no answer, or not the expected one.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let Answer { url, body, .. } = self.answer(path).await?.accepted()?;
        serde_json::from_slice(&body).map_err(|e| Error::Answer { url, message: e.to_string() })
    }

    /// Requests text. Also returns the server's time, from the `Date` header of the answer.
    ///
    /// # Errors
    /// [`Error`] if there is no answer, or not the expected one.
    pub(crate) async fn text(&self, path: &str) -> Result<(String, Option<String>), Error> {
        let answer = self.answer(path).await?.accepted()?;
        Ok((String::from_utf8_lossy(&answer.body).into_owned(), answer.date))
    }

    async fn answer(&self, path: &str) -> Result<Answer, Error> {
        match self {
            Server::At(address) => {
                let url = format!("{}{path}", address.trim_end_matches('/'));
                let uri: Uri = url.parse().map_err(|_| Error::Address(address.clone()))?;
                if uri.scheme_str() != Some("http") || uri.host().is_none() {
                    return Err(Error::Address(address.clone()));
                }
                let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
                let request = Request::get(uri).body(Empty::<Bytes>::new());
                let request = request.map_err(|_| Error::Address(address.clone()))?;
                collected(url, client.request(request)).await
            }
            Server::Known { client, address } => {
                let url = format!("{}{path}", address.trim_end_matches('/'));
                let request = Request::get(path).body(kube::client::Body::empty());
                let request = request.map_err(|_| Error::Address(url.clone()))?;
                collected(url, client.send(request)).await
            }
            Server::Behind { cluster, proxy } => {
                let url = format!("{proxy}{path}");
                let request = Request::get(&url).body(kube::client::Body::empty());
                let request = request.map_err(|_| Error::Address(url.clone()))?;
                collected(url, cluster.send(request)).await
            }
        }
    }
}

// === impl Answer ===

impl Answer {
    fn accepted(self) -> Result<Answer, Error> {
        if self.status.is_success() {
            return Ok(self);
        }
        let said = serde_json::from_slice::<Problem>(&self.body).map(|p| p.error);
        let message = said.unwrap_or_else(|_| "the server gave no reason".into());
        Err(Error::Refused { url: self.url, status: self.status, message })
    }
}

/// Waits for an answer and its whole body.
async fn collected<B, E>(
    url: String,
    answer: impl Future<Output = Result<hyper::Response<B>, E>>,
) -> Result<Answer, Error>
where
    B: hyper::body::Body<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    E: std::error::Error + 'static,
{
    let unreachable = |message: String| Error::Unreachable { url: url.clone(), message };
    let answer = tokio::time::timeout(TIMEOUT, answer).await;
    let answer = answer.map_err(|_| unreachable("timed out".into()))?.map_err(|e| unreachable(cause(&e)))?;
    let status = answer.status();
    let date = answer.headers().get(hyper::header::DATE).and_then(|d| d.to_str().ok()).map(str::to_owned);
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect();
    let body = tokio::time::timeout(TIMEOUT, body).await.map_err(|_| unreachable("the response stalled".into()))?;
    let body = body.map_err(|e| Error::Answer { url: url.clone(), message: e.to_string() })?.to_bytes();
    Ok(Answer { url, status, date, body })
}

/// Returns the last of an error's causes, which is the most specific one.
fn cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}
