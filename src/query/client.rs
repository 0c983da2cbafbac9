//! Asking a running server: one GET, one JSON answer.

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
    #[error("`{0}` is no address of a server, such as http://127.0.0.1:8080")]
    Address(String),
    /// Nobody answers.
    #[error("{url} does not answer: {message}; is `editwar serve` running there?")]
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
    #[error("{url}: the answer cannot be read: {message}")]
    Answer {
        /// Which.
        url: String,
        /// What is wrong.
        message: String,
    },
}

#[derive(Deserialize)]
struct Problem {
    error: String,
}

/// Asks a server; `path` begins with a slash.
///
/// # Errors
/// [`Error`].
pub async fn get<T: DeserializeOwned>(server: &str, path: &str) -> Result<T, Error> {
    let url = format!("{}{path}", server.trim_end_matches('/'));
    let uri: Uri = url.parse().map_err(|_| Error::Address(server.to_owned()))?;
    if uri.scheme_str() != Some("http") || uri.host().is_none() {
        return Err(Error::Address(server.to_owned()));
    }
    let unreachable = |message: String| Error::Unreachable { url: url.clone(), message };
    let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let request = Request::get(uri).body(Empty::<Bytes>::new()).map_err(|e| unreachable(e.to_string()))?;
    let answer = tokio::time::timeout(TIMEOUT, client.request(request)).await;
    let answer = answer.map_err(|_| unreachable("no answer in time".into()))?.map_err(|e| unreachable(cause(&e)))?;
    let status = answer.status();
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect();
    let body = tokio::time::timeout(TIMEOUT, body).await.map_err(|_| unreachable("the answer stalled".into()))?;
    let body = body.map_err(|e| Error::Answer { url: url.clone(), message: e.to_string() })?.to_bytes();
    if !status.is_success() {
        let said = serde_json::from_slice::<Problem>(&body).map(|p| p.error);
        let message = said.unwrap_or_else(|_| "no reason given".into());
        return Err(Error::Refused { url, status, message });
    }
    serde_json::from_slice(&body).map_err(|e| Error::Answer { url, message: e.to_string() })
}

/// The last of an error's causes: the one that says what happened.
fn cause(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}
