//! The web page: shows the answers of the API in a browser.

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, REFERRER_POLICY};

use super::overview;
use super::reply::Failure;
use super::route::Call;
use crate::net::Reply;

/// Allows only the page's own files and the API of this server, and forbids framing.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The document as it is before its script runs, with the list of wars. Built from the page's sources.
const LIST: &str = include_str!("ui/dist/list.html");
/// What the list says before there are rows.
const LOADING: &str = "<p class=\"lead\">Loading…</p>";
const HTML: &str = "text/html; charset=utf-8";

/// Returns the document. If the client may know them, it contains the most urgent rows of the list, so that they are seen
/// before the script has run and asked for all of them.
pub(super) fn index(call: &Call<'_>) -> Result<Reply, Failure> {
    let may_read = call.is_admitted && call.api.is_ready();
    let rows = may_read.then(|| overview::current(call.api).first_rows()).flatten();
    Ok(match rows {
        Some(rows) => {
            let mut reply = file(HTML, LIST.replacen(LOADING, &rows, 1));
            // A browser must not store names and values on disk.
            reply.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            reply
        }
        None => file(HTML, include_str!("ui/index.html")),
    })
}

pub(super) fn style() -> Reply {
    file("text/css; charset=utf-8", include_str!("ui/page.css"))
}

pub(super) fn script() -> Reply {
    file("text/javascript; charset=utf-8", include_str!("ui/dist/page.js"))
}

fn file(content_type: &'static str, text: impl Into<Bytes>) -> Reply {
    let mut reply = Response::new(Full::new(text.into()));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_has_one_place_for_its_rows() {
        assert_eq!(LIST.matches(LOADING).count(), 1);
        let (before, after) = include_str!("ui/index.html").split_once("<div id=\"app\">").unwrap();
        assert!(LIST.starts_with(before) && LIST.ends_with(after), "dist/list.html is older than index.html");
    }
}
