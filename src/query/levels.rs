//! `/log-level`: shows and changes what is logged. Reading requires the right `read`, and changing the right `admin`.
//! Without authentication, only clients on the same machine, or with a forwarded port, can change it.

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};

use super::api::{Query, problem, text};
use crate::net::Reply;
use crate::telemetry::logs::Levels;

/// The path.
pub const PATH: &str = "/log-level";

/// Handles `GET` and, if the client `may_change` the level, `PUT ?level=debug`.
pub fn handle(levels: &Levels, request: &Request<Incoming>, may_change: bool) -> Reply {
    if request.method() != Method::PUT {
        return match *request.method() {
            Method::GET | Method::HEAD => text(StatusCode::OK, levels.text() + "\n"),
            _ => problem(StatusCode::METHOD_NOT_ALLOWED, "use GET, or PUT ?level=debug"),
        };
    }
    if !may_change {
        let why =
            "only local clients can change the log level: kubectl -n editwar port-forward deployment/editwar 8080";
        return problem(StatusCode::FORBIDDEN, why);
    }
    let query = Query::of(request.uri().query().unwrap_or_default());
    match query.get("level").map(|level| levels.set(&level)) {
        Some(Ok(())) => text(StatusCode::OK, levels.text() + "\n"),
        Some(Err(error)) => problem(StatusCode::BAD_REQUEST, &error.to_string()),
        None => problem(StatusCode::BAD_REQUEST, "expected ?level= with error, warn, info, debug or trace"),
    }
}
