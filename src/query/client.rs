//! Asking a running server: one GET, one answer; at its address, or through a cluster's API server.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, StatusCode, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Time for an answer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The most bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is none.
    #[error("expected the URL of a server, such as http://127.0.0.1:8080, got \"{0}\"")]
    Address(String),
    /// Nobody answers.
    #[error("{url} does not respond: {message}; check that `editwar serve` is running there")]
    Unreachable {
        /// Which.
        url: String,
        /// Why.
        message: String,
    },
    /// The server says no.
    #[error("{url}: {message} ({status})")]
    Refused {
        /// Which.
        url: String,
        /// The HTTP status.
        status: StatusCode,
        /// What it said.
        message: String,
    },
    /// The answer is not what was asked for.
    #[error("{url}: cannot read the response: {message}")]
    Answer {
        /// Which.
        url: String,
        /// What is wrong.
        message: String,
    },
}

/// Why: in editwar's words, or in the API server's.
#[derive(Deserialize)]
struct Problem {
    #[serde(alias = "message")]
    error: String,
}

/// A running server.
#[derive(Clone)]
pub enum Server {
    /// At an address such as `http://127.0.0.1:8080`.
    At(String),
    /// At an address, asked by a client that shows who it is, or checks who answers.
    Known {
        /// The client.
        client: kube::Client,
        /// The address that it asks.
        address: String,
    },
    /// Behind a Service, by the API server's proxy.
    Behind {
        /// The cluster.
        cluster: kube::Client,
        /// The Service's path, such as `/api/v1/namespaces/editwar/services/http:editwar:8080/proxy`.
        proxy: String,
    },
}

/// What a server answered.
struct Answer {
    url: String,
    status: StatusCode,
    date: Option<String>,
    body: Bytes,
}

// === impl Server ===

impl Server {
    /// Asks for JSON; `path` begins with a slash.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        let Answer { url, body, .. } = self.answer(path).await?.accepted()?;
        serde_json::from_slice(&body).map_err(|e| Error::Answer { url, message: e.to_string() })
    }

    /// Asks for text; with the server's own time, as its answer tells it.
    ///
    /// # Errors
    /// [`Error`].
    pub async fn text(&self, path: &str) -> Result<(String, Option<String>), Error> {
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

/// Waits for an answer, all of it.
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

/// The last of an error's causes: the one that says what happened.
fn cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}
