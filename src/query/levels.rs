//! `/log-level`: what is logged, asked by who may read, changed by who may act; where nobody is asked who they are, by
//! who is on the machine or forwards a port to it.

use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};

use super::api::{Query, problem, text};
use crate::net::Reply;
use crate::telemetry::logs::Levels;

/// The path.
pub const PATH: &str = "/log-level";

/// Answers `GET`, and `PUT ?level=debug` from whom may change it.
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
