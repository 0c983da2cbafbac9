//! The kill switch: turns the enforcer off and on.

use std::time::Duration;

use hyper::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::reply::{Failure, json};
use super::route::Call;
use crate::enforce::control::Control;
use crate::net::{Reply, web};

/// How long the response of the kill switch waits for pauses to be lifted.
const LIFT_WAIT_MAX: Duration = Duration::from_secs(5);

/// The state of the kill switch.
#[derive(Serialize, JsonSchema)]
pub(super) struct Switched {
    /// Whether the enforcer is stopped: it writes nothing except to lift pauses.
    stopped: bool,
    /// How many pauses were lifted since the switch was turned on.
    #[serde(skip_serializing_if = "Option::is_none")]
    lifted: Option<usize>,
    /// Pauses that are not lifted yet, and resources that could not be searched for pauses, each with the reason. They
    /// are retried until the list is empty; `/readyz?verbose` shows the progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_lifted: Option<Vec<String>>,
    /// A note if another replica enforces: this replica's switch does not stop it.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<String>,
}

pub(super) fn stop(call: &Call<'_>) -> Result<Reply, Failure> {
    let enforcer = switch(call, true)?;
    // Requests are handled on threads that may block.
    let progress = tokio::runtime::Handle::current().block_on(enforcer.wait_until_lifted(LIFT_WAIT_MAX));
    let not_lifted = progress.not_lifted.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    let lifted = Some(progress.lifted.len());
    let note = enforcer.other_replica();
    Ok(json(&Switched { stopped: true, lifted, not_lifted: Some(not_lifted), note }))
}

pub(super) fn start(call: &Call<'_>) -> Result<Reply, Failure> {
    switch(call, false)?;
    Ok(json(&Switched { stopped: false, lifted: None, not_lifted: None, note: None }))
}

/// Turns the kill switch on or off. Requires JSON content: a browser sends that from another site's page only after a
/// CORS preflight, which this server never permits.
fn switch<'a>(call: &Call<'a>, is_stopped: bool) -> Result<&'a Control, Failure> {
    let Some(enforcer) = call.api.enforcer() else {
        let error = "this server has no enforcer: start it with --enforce";
        return Err(Failure::new(StatusCode::NOT_FOUND, error));
    };
    if !web::is_json(call.headers) {
        return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send Content-Type: application/json"));
    }
    enforcer.set_stopped(is_stopped);
    tracing::warn!(is_stopped, "the API toggled the kill switch");
    Ok(enforcer)
}
