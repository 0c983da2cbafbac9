//! `/log-level`: shows and changes what is logged. Without authentication, only clients on the same machine, or with a
//! forwarded port, can change it.

use hyper::StatusCode;

use super::api::LogLevel;
use super::reply::{problem, text};
use super::route::Call;
use crate::net::Reply;

pub(super) fn show(call: &Call<'_>) -> Reply {
    match call.api.log_level() {
        Some(LogLevel { levels, .. }) => text(StatusCode::OK, levels.text() + "\n"),
        None => absent(),
    }
}

pub(super) fn change(call: &Call<'_>) -> Reply {
    let Some(LogLevel { levels, is_authenticated }) = call.api.log_level() else { return absent() };
    if !is_authenticated && !call.client.to_canonical().is_loopback() {
        let why =
            "only local clients can change the log level: kubectl -n editwar port-forward deployment/editwar 8080";
        return problem(StatusCode::FORBIDDEN, why);
    }
    match call.parameters.get("level").map(|level| levels.set(level)) {
        Some(Ok(())) => text(StatusCode::OK, levels.text() + "\n"),
        Some(Err(error)) => problem(StatusCode::BAD_REQUEST, &error.to_string()),
        None => problem(StatusCode::BAD_REQUEST, "expected ?level= with error, warn, info, debug or trace"),
    }
}

fn absent() -> Reply {
    problem(StatusCode::NOT_FOUND, "the log level of this server cannot be changed")
}
