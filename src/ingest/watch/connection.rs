//! One list or watch request, and the lines of its response.

use std::time::Duration;

use futures_util::FutureExt;
use http::{Request, StatusCode, header};
use http_body_util::BodyExt;
use kube::client::Body;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// Maximum length of a line: etcd limits objects to 1.5 MiB by default, and some clusters raise that limit.
const LINE_BYTES_MAX: usize = 16 << 20;
/// Maximum size of the answer to a list of one object.
const LIST_BYTES_MAX: usize = 16 << 20;
/// Time without an answer after which a request has failed.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// Time without a line after which a watch is begun again: the API server sends a bookmark every minute, so that two are
/// missing then.
const SILENCE_MAX: Duration = Duration::from_secs(150);

/// How much of the objects is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Only the metadata.
    Metadata,
    /// The whole objects.
    Objects,
}

/// An open watch.
pub(super) struct Connection {
    body: Body,
    buffer: Vec<u8>,
    /// Start of the next line in `buffer`.
    at: usize,
    /// End of the part of `buffer` that was searched for the end of a line.
    searched: usize,
    /// Whether the watch has ended.
    has_ended: bool,
}

/// Why a request or a watch failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// The resourceVersion is too old: what happened since is lost.
    Expired,
    /// The client may not read the resource.
    Forbidden(String),
    /// The resource does not exist, or cannot be watched.
    NotFound,
    /// The API server asks to come back later.
    Busy(Option<Duration>),
    /// Anything else.
    Other(String),
}

/// The answer to a request, before its body is read.
pub(super) struct Answer {
    body: Body,
    /// The time of the API server, in whole seconds, as it was sent.
    pub(super) date: Option<jiff::Timestamp>,
}

/// A list of objects.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct List {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    metadata: ListMetadata,
    /// Null or absent if there are none.
    #[serde(default)]
    items: Option<Vec<Box<RawValue>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    resource_version: String,
}

// === impl List ===

impl List {
    /// Returns the position in the history of the resource at which the list was made.
    pub(super) fn resource_version(&self) -> String {
        self.metadata.resource_version.clone()
    }

    /// Whether it has no objects.
    pub(super) fn is_empty(&self) -> bool {
        self.items.as_ref().is_none_or(Vec::is_empty)
    }

    /// Returns its first object.
    pub(super) fn first_item(self) -> Result<Option<Box<RawValue>>, Failure> {
        let List { api_version, kind, items, .. } = self;
        let Some(item) = items.into_iter().flatten().next() else { return Ok(None) };
        // Items of lists of built-in resources have neither.
        let mut object: serde_json::Map<String, Value> =
            serde_json::from_str(item.get()).map_err(|error| Failure::Other(error.to_string()))?;
        object.entry("apiVersion").or_insert(api_version.into());
        object.entry("kind").or_insert(kind.trim_end_matches("List").into());
        serde_json::value::to_raw_value(&object).map(Some).map_err(|error| Failure::Other(error.to_string()))
    }
}

// === impl Failure ===

impl Failure {
    /// Returns the label value for metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Failure::Expired => "expired",
            Failure::Forbidden(_) => "forbidden",
            Failure::NotFound => "not_found",
            Failure::Busy(_) => "busy",
            Failure::Other(_) => "error",
        }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Failure::Expired => f.write_str("the resourceVersion has expired"),
            Failure::NotFound => f.write_str("the API server does not serve the resource"),
            Failure::Busy(_) => f.write_str("the API server is busy"),
            Failure::Forbidden(message) | Failure::Other(message) => f.write_str(message),
        }
    }
}

// === impl Answer ===

impl Answer {
    /// Sends a GET request. Its path contains the query.
    pub(super) async fn get(client: &kube::Client, path: &str, accept: &str) -> Result<Answer, Failure> {
        let request = Request::get(path)
            .header(header::ACCEPT, accept)
            // A compressed watch would be delivered with a delay.
            .header(header::ACCEPT_ENCODING, "identity")
            .body(Body::empty())
            .map_err(|error| Failure::Other(error.to_string()))?;
        let answer = tokio::time::timeout(ANSWER_TIMEOUT, client.send(request));
        let answer = answer.await.map_err(|_| Failure::Other("no answer within 30 s".to_owned()))?;
        let answer = answer.map_err(|error| Failure::Other(chain(&error)))?;
        let headers = Headers::of(&answer);
        let status = answer.status();
        let body = answer.into_body();
        if status == StatusCode::OK {
            return Ok(Answer { body, date: headers.date });
        }
        let message = message(body).await.unwrap_or_else(|| status.to_string());
        Err(match status {
            StatusCode::GONE => Failure::Expired,
            // A resource that cannot be watched in this way never will be: like one that may not be.
            StatusCode::FORBIDDEN | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_ACCEPTABLE => {
                Failure::Forbidden(message)
            }
            StatusCode::NOT_FOUND => Failure::NotFound,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Failure::Busy(headers.retry_after),
            _ => Failure::Other(message),
        })
    }

    /// Returns the list that the answer has.
    pub(super) async fn list(self) -> Result<List, Failure> {
        let body = http_body_util::Limited::new(self.body, LIST_BYTES_MAX).collect();
        let body = tokio::time::timeout(ANSWER_TIMEOUT, body).await;
        let body = body.map_err(|_| Failure::Other("the list was not received within 30 s".to_owned()))?;
        let bytes = body.map_err(|error| Failure::Other(error.to_string()))?.to_bytes();
        serde_json::from_slice(&bytes).map_err(|error| Failure::Other(error.to_string()))
    }

    /// Returns the lines of a watch.
    pub(super) fn lines(self) -> Connection {
        Connection { body: self.body, buffer: Vec::new(), at: 0, searched: 0, has_ended: false }
    }
}

/// The headers of an answer that matter.
struct Headers {
    date: Option<jiff::Timestamp>,
    retry_after: Option<Duration>,
}

// === impl Headers ===

impl Headers {
    fn of(answer: &http::Response<Body>) -> Headers {
        let text = |name| answer.headers().get(name).and_then(|value: &http::HeaderValue| value.to_str().ok());
        Headers {
            date: text(header::DATE).and_then(date),
            retry_after: text(header::RETRY_AFTER).and_then(|text| text.parse().ok()).map(Duration::from_secs),
        }
    }
}

// === impl Connection ===

impl Connection {
    /// Returns the next line, or `None` at the end of the watch. Can be cancelled.
    pub(super) async fn next(&mut self) -> Result<Option<&[u8]>, Failure> {
        let Some(end) = self.read().await? else { return Ok(None) };
        let line = self.at..end;
        (self.at, self.searched) = (end + 1, end + 1);
        Ok(Some(&self.buffer[line]))
    }

    /// Reads until a whole line is there, and returns its end, or `None` at the end of the watch. Can be cancelled.
    async fn read(&mut self) -> Result<Option<usize>, Failure> {
        loop {
            if let Some(end) = self.end_of_line() {
                return Ok(Some(end));
            }
            if self.buffer.len() - self.at > LINE_BYTES_MAX {
                return Err(Failure::Other(format!("an event of the watch is longer than {LINE_BYTES_MAX} bytes")));
            }
            if self.has_ended {
                return Ok(None);
            }
            let frame = tokio::time::timeout(SILENCE_MAX, self.body.frame()).await;
            let frame = frame.map_err(|_| Failure::Other("no event and no bookmark for four minutes".to_owned()))?;
            // The connection may be closed, which ends a watch like its timeout.
            let Some(Ok(frame)) = frame else {
                self.has_ended = true;
                continue;
            };
            if let Ok(data) = frame.into_data() {
                self.buffer.drain(..self.at);
                self.searched -= self.at;
                self.at = 0;
                self.buffer.extend_from_slice(&data);
            }
        }
    }

    /// Whether `next` returns at once.
    pub(super) fn is_ready(&mut self) -> bool {
        tokio::task::unconstrained(self.read()).now_or_never().is_some()
    }

    /// Whether a whole line is there, so that `next` returns at once.
    pub(super) fn has_line(&mut self) -> bool {
        self.end_of_line().is_some()
    }

    fn end_of_line(&mut self) -> Option<usize> {
        let found = memchr::memchr(b'\n', &self.buffer[self.searched..]);
        match found {
            Some(end) => {
                self.searched += end;
                Some(self.searched)
            }
            None => {
                self.searched = self.buffer.len();
                None
            }
        }
    }
}

impl Content {
    /// Returns the media type of a list, and of the events of a watch.
    pub(super) fn accept(self, is_list: bool) -> &'static str {
        match (self, is_list) {
            (Content::Objects, _) => "application/json",
            (Content::Metadata, true) => "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
            (Content::Metadata, false) => "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
        }
    }
}

/// Returns the message of a `Status`.
async fn message(body: Body) -> Option<String> {
    #[derive(Deserialize)]
    struct Status {
        message: String,
    }
    let body = http_body_util::Limited::new(body, LIST_BYTES_MAX).collect();
    let bytes = tokio::time::timeout(ANSWER_TIMEOUT, body).await.ok()?.ok()?.to_bytes();
    serde_json::from_slice::<Status>(&bytes).ok().map(|status| status.message)
}

fn date(text: &str) -> Option<jiff::Timestamp> {
    jiff::fmt::rfc2822::parse(text).ok().map(|date| date.timestamp())
}

/// Returns the messages of an error and of its causes.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let more = cause.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_returned_as_they_are_whole() {
        let body = Body::from(b"one\n\ntwo\nthr".to_vec());
        let mut connection = Answer { body, date: None }.lines();
        let mut lines = Vec::new();
        while let Ok(Some(line)) = connection.next().await {
            lines.push(String::from_utf8(line.to_vec()).unwrap());
        }
        assert_eq!(lines, ["one", "", "two"], "an incomplete line is the end of a broken connection");
    }

    #[tokio::test]
    async fn a_list_may_have_no_items() {
        let list = |items: &str| Answer {
            body: Body::from(
                format!(r#"{{"kind":"WidgetList","apiVersion":"v1","metadata":{{"resourceVersion":"7"}}{items}}}"#)
                    .into_bytes(),
            ),
            date: None,
        };
        for items in ["", r#","items":null"#, r#","items":[]"#] {
            let list = list(items).list().await.unwrap();
            assert_eq!((list.resource_version(), list.is_empty()), ("7".to_owned(), true));
            assert!(list.first_item().unwrap().is_none());
        }
        let found = list(r#","items":[{"metadata":{}}]"#).list().await.unwrap();
        let item = found.first_item().unwrap().unwrap();
        assert_eq!(item.get(), r#"{"apiVersion":"v1","kind":"Widget","metadata":{}}"#);
    }

    #[test]
    fn the_date_of_an_answer_is_read() {
        let found = date("Mon, 23 Nov 2026 20:37:39 GMT").unwrap();
        assert_eq!(found.to_string(), "2026-11-23T20:37:39Z");
        assert_eq!(date("soon"), None);
    }
}
