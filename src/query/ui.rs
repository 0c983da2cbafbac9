//! The web page: shows the answers of the API in a browser.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY};

use crate::net::Reply;

/// Allows only the page's own files and the API of this server, and forbids framing.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) fn index() -> Reply {
    file("text/html; charset=utf-8", include_str!("ui/index.html"))
}

pub(super) fn style() -> Reply {
    file("text/css; charset=utf-8", include_str!("ui/page.css"))
}

pub(super) fn script() -> Reply {
    file("text/javascript; charset=utf-8", include_str!("ui/dist/page.js"))
}

fn file(content_type: &'static str, text: &'static str) -> Reply {
    let mut reply = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    for (name, value) in [
        (CONTENT_TYPE, content_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        // The page must match the version of the server.
        (CACHE_CONTROL, "no-cache"),
        (REFERRER_POLICY, "no-referrer"),
    ] {
        reply.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    reply.headers_mut().insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    reply
}
