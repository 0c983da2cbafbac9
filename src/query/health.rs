//! Health checks and metrics.

use hyper::StatusCode;

use super::reply::{Failure, text};
use super::route::Call;
use super::views::time;
use crate::enforce::control::Control;
use crate::journal::append::Append as _;
use crate::net::Reply;
use crate::util::clock;

pub(super) fn livez(_: &Call<'_>) -> Reply {
    text(StatusCode::OK, "ok\n".into())
}

/// Answers whether the server and all its sources are ready. With `?verbose`, also gives the time of the latest event, the
/// sources and the status of the enforcer.
pub(super) fn readyz(call: &Call<'_>) -> Reply {
    let api = call.api;
    if !api.is_ready() {
        return text(StatusCode::SERVICE_UNAVAILABLE, "starting or stopping\n".into());
    }
    let waiting: Vec<&str> =
        api.sources().iter().filter(|source| !source.readiness.is_ready()).map(|source| source.name).collect();
    if !waiting.is_empty() {
        return text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready yet: source {}\n", waiting.join(", ")));
    }
    if let Some(Err(why)) = api.journal().map(|journal| journal.check()) {
        return text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"));
    }
    let mut out = String::new();
    if call.parameters.get("verbose").is_some() {
        let latest = api.pipeline().latest().map_or_else(|| "none yet".to_owned(), time::text);
        out.push_str(&format!("latest event: {latest}\n"));
        let sources: Vec<&str> = api.sources().iter().map(|source| source.name).collect();
        out.push_str(&format!("sources: {}\n", sources.join(", ")));
        let enforcer = api.enforcer().map_or_else(|| "off".to_owned(), Control::status);
        out.push_str(&format!("enforcer: {enforcer}\n"));
    }
    out.push_str("ok\n");
    text(StatusCode::OK, out)
}

pub(super) fn metrics(call: &Call<'_>) -> Result<Reply, Failure> {
    Ok(text(StatusCode::OK, call.api.metrics().text(call.api.pipeline(), clock::now_seconds())))
}
