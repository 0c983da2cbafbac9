//! Checks of request headers that protect against cross-site requests from browsers: the origin of a request and the
//! media type of its body.

use hyper::header::{CONTENT_TYPE, HOST, HeaderMap, ORIGIN};
use hyper::{Method, Request};

/// Media types of JSON documents and of line-delimited JSON. A page of another origin can send these only after a CORS
/// preflight, which the server never allows: see <https://fetch.spec.whatwg.org/#cors-safelisted-request-header>.
const JSON: [&str; 4] = ["application/json", "application/x-ndjson", "application/jsonl", "application/json-seq"];

/// Returns whether a request has exactly one content type and it is JSON. Parameters are ignored.
pub(crate) fn is_json(headers: &HeaderMap) -> bool {
    let mut types = headers.get_all(CONTENT_TYPE).iter();
    let (Some(only), None) = (types.next(), types.next()) else { return false };
    let Ok(text) = only.to_str() else { return false };
    let essence = text.split(';').next().unwrap_or_default().trim_matches([' ', '\t']);
    JSON.iter().any(|json| essence.eq_ignore_ascii_case(json))
}

/// Returns whether a browser reports that a page of another origin sent the request. Navigation (following a link) is
/// allowed from anywhere.
pub(crate) fn is_cross_site<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    let is_navigation = is_read && headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate");
    let is_foreign_site = headers.get_all("sec-fetch-site").iter().any(|site| site != "same-origin" && site != "none");
    let is_foreign_origin = headers
        .get_all(ORIGIN)
        .iter()
        .any(|origin| origin.to_str().ok() != own_origin(request, origin.as_bytes()).as_deref());
    !is_navigation && (is_foreign_site || is_foreign_origin)
}

/// Returns the origin of this server's own pages. The scheme is taken from `other`, since a proxy in front may
/// terminate TLS.
fn own_origin<B>(request: &Request<B>, other: &[u8]) -> Option<String> {
    let named = || request.headers().get(HOST)?.to_str().ok();
    let host = request.uri().authority().map(|authority| authority.as_str()).or_else(named)?.to_ascii_lowercase();
    let (scheme, port) = if other.starts_with(b"https://") { ("https", ":443") } else { ("http", ":80") };
    // Browsers omit the default port of the scheme.
    Some(format!("{scheme}://{}", host.strip_suffix(port).unwrap_or(&host)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_foreign(method: &str, headers: &[(&str, &str)]) -> bool {
        let mut request = Request::builder().method(method).uri("/audit").header(HOST, "LocalHost:8443");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        is_cross_site(&request.body(()).unwrap())
    }

    #[test]
    fn requests_from_foreign_pages_are_detected() {
        assert!(!is_foreign("POST", &[]));
        assert!(!is_foreign("POST", &[("origin", "https://localhost:8443"), ("sec-fetch-site", "same-origin")]));
        assert!(!is_foreign("GET", &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]));
        for origin in ["null", "", "http://localhost", "http://localhost:8443.evil", "http://localhost:8443/", "\u{e9}"]
        {
            assert!(is_foreign("POST", &[("origin", origin)]), "{origin}");
        }
        assert!(is_foreign("POST", &[("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]));
        assert!(is_foreign("GET", &[("sec-fetch-site", "same-site"), ("sec-fetch-mode", "no-cors")]));
        assert!(is_foreign("POST", &[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")]));
    }

    #[test]
    fn exactly_one_json_content_type_is_required() {
        let is = |types: &[&str]| is_json(&types.iter().map(|t| (CONTENT_TYPE, t.parse().unwrap())).collect());
        for json in
            ["application/json", "APPLICATION/JSON ; charset=utf-8", "application/x-ndjson", "application/json;"]
        {
            assert!(is(&[json]), "{json}");
        }
        for other in
            ["", "text/plain; x=application/json", "text/json", "application/jsonx", "json", "application / json"]
        {
            assert!(!is(&[other]), "{other}");
        }
        assert!(!is(&[]) && !is(&["text/plain", "application/json"]) && !is(&["application/json", "application/json"]));
    }
}
