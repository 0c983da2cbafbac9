//! An admission webhook as a source: every review is allowed at once, and then processed like an audit event.
//!
//! The answer never waits: for decoding, for the journal, or for memory. If reviews arrive faster than they are processed,
//! some are dropped and counted; the write itself is not affected.

use hyper::StatusCode;
use serde_json::json;

use super::with_body;
use crate::audit::event::{REVIEW_KEY, review_id};
use crate::audit::json_scan::{member, plain_string, skip_value};
use crate::net::Reply;
use crate::util::clock;

/// Returns the answer to a review: the request is allowed. What the body is does not matter, except for the ID that the
/// answer must repeat.
pub(in crate::ingest) fn answer(body: &[u8]) -> Reply {
    let request = member(body, "request").unwrap_or_default();
    // Of a review that was not read to its end, the ID is the first member of the request.
    let uid = member(request, "uid").or_else(|| first_uid(body)).and_then(plain_string).unwrap_or_default();
    let version = member(body, "apiVersion").and_then(plain_string);
    let mut response = json!({"uid": uid, "allowed": true});
    if review_id(uid).is_some() {
        // kube-apiserver notes it in the audit event of the request, so that both are known to belong together.
        response["auditAnnotations"] = json!({format!("{REVIEW_KEY}{uid}"): ""});
    }
    let answer = json!({
        "apiVersion": version.unwrap_or("admission.k8s.io/v1"), "kind": "AdmissionReview", "response": response,
    });
    let mut reply = Reply::default();
    *reply.status_mut() = StatusCode::OK;
    with_body(reply, "application/json", answer.to_string())
}

fn first_uid(body: &[u8]) -> Option<&[u8]> {
    const KEY: &[u8] = br#""uid":"#;
    let start = memchr::memmem::find(body, KEY)? + KEY.len();
    Some(&body[start..skip_value(body, start)?])
}

/// Returns a review with the time of its arrival, which it does not have itself.
pub(in crate::ingest) fn dated(mut review: Vec<u8>) -> Vec<u8> {
    let Some(open) = review.iter().position(|b| *b == b'{') else { return review };
    let now = jiff::Timestamp::from_microsecond(clock::now()).unwrap_or_default();
    let member = format!(r#""requestReceivedTimestamp":"{now:.6}","#);
    review.splice(open + 1..open + 1, member.into_bytes());
    review
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt as _;

    use super::*;

    async fn answered(body: &str) -> serde_json::Value {
        let body = answer(body.as_bytes()).into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }

    #[tokio::test]
    async fn every_review_is_allowed() {
        let review =
            r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{"uid":"u-1","object":{}}}"#;
        let answer = answered(review).await;
        assert_eq!((&answer["response"]["uid"], &answer["response"]["allowed"]), (&"u-1".into(), &true.into()));
        assert_eq!(answered(&review[..review.len() - 6]).await["response"]["uid"], "u-1", "the rest was not read");
        for broken in ["", "{", "[]", r#"{"request":{"uid":7}}"#, &review[..90]] {
            assert_eq!(answered(broken).await["response"]["allowed"], true, "{broken}");
        }
    }
}
