//! The decision: whether a reconciler may write an object now.

use hyper::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api::Api;
use super::reply::{Failure, json};
use super::route::Call;
use super::views::{time, time_option};
use crate::audit::event::Micros;
use crate::detect::assessment::{Assessment, WarAssessment};
use crate::detect::object::ObjectState;
use crate::detect::verdict::{Confidence, State};
use crate::net::Reply;
use crate::pipeline::key::ObjectKey;

/// How long after a quiet period a refusal holds although no event arrives. kube-apiserver posts a batch at the latest half a minute
/// after its first event, and services of clouds deliver some minutes late.
const SILENT_AFTER: Micros = 300_000_000;

/// The answer to a reconciler that asks whether it may write an object now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Decision {
    /// Whether the reconciler may write.
    pub allowed: bool,
    /// The state of the war that the decision is based on.
    pub state: State,
    /// How sure the verdict is; null if there is no war over the object.
    pub confidence: Option<Confidence>,
    /// When the state began.
    #[serde(with = "time_option")]
    #[schemars(with = "Option<jiff::Timestamp>")]
    pub since: Option<Micros>,
    /// The parties of the war, the one that asks included.
    pub opponents: Vec<String>,
    /// The reason, in a sentence.
    pub reason: String,
    /// When to ask again; null if there is nothing to wait for.
    #[serde(with = "time_option")]
    #[schemars(with = "Option<jiff::Timestamp>")]
    pub retry_at: Option<Micros>,
    /// The time of the latest event, which the decision is based on.
    #[serde(with = "time_option")]
    #[schemars(with = "Option<jiff::Timestamp>")]
    pub as_of: Option<Micros>,
}

// === impl Api ===

impl Api {
    /// Decides whether a reconciler may write this object now. Only a war whose fields are known can forbid it, and only until some
    /// time after its quiet period: if no events arrive any more, a refusal must not last for ever.
    pub fn decision(&self, key: &ObjectKey) -> Decision {
        let as_of = self.pipeline().latest_of(key.cluster());
        let allowed = |reason: String| Decision {
            allowed: true,
            state: State::Calm,
            confidence: None,
            since: None,
            opponents: Vec::new(),
            reason,
            retry_at: None,
            as_of,
        };
        let look = |state: &ObjectState| {
            let assessment = Assessment::of(state);
            let war = assessment.worst(Confidence::Probable).filter(|war| war.state != State::Calm)?;
            let opponents: Vec<String> = war.tally.parties.keys().map(|p| p.to_string()).collect();
            let until = war.quiet_until();
            // Of all wars that would forbid it.
            let forbids =
                |war: &&WarAssessment<'_>| war.state == State::Sustained && war.confidence >= Confidence::Probable;
            let latest = assessment.wars().filter(forbids).filter_map(WarAssessment::quiet_until).max();
            let expected = self.pipeline().expected_of(key.cluster());
            let has_ended = latest.zip(expected).is_some_and(|(until, expected)| expected > until + SILENT_AFTER);
            let reason = match (war.state, until) {
                (State::Sustained, Some(until)) if has_ended => format!(
                    "{} fought over the object, and no event has arrived since the end of the quiet period at {}",
                    opponents.join(" and "),
                    time::text(until)
                ),
                (State::Sustained, Some(until)) => format!(
                    "{} fight over the object; the last retake was at {}, and the quiet period lasts until {}",
                    opponents.join(" and "),
                    time::text(war.last_retake),
                    time::text(until)
                ),
                (State::Subsiding, _) => "no retake for the quiet period, so one trial write is allowed".into(),
                _ => format!(
                    "{} retake fields from each other, but not often enough to advise a pause",
                    opponents.join(" and ")
                ),
            };
            Some(Decision {
                allowed: war.state != State::Sustained || has_ended,
                state: war.state,
                confidence: Some(war.confidence),
                since: Some(war.state_since),
                opponents,
                reason,
                retry_at: until.filter(|_| !has_ended),
                as_of,
            })
        };
        let reason = || match as_of {
            Some(_) => {
                "nothing is known of this object; the path has the plural and the group, such as deployments.apps/shop/web"
            }
            None if key.cluster().is_empty() && self.pipeline().latest().is_some() => {
                "nothing is known: the server has events of named clusters; add ?cluster=NAME"
            }
            None => "nothing is known: no event of this cluster has arrived",
        };
        match self.pipeline().table().with(key, look) {
            Some(Some(decision)) => decision,
            Some(None) => allowed("no war over this object".to_owned()),
            None => allowed(reason().to_owned()),
        }
    }
}

pub(super) fn show(call: &Call<'_>) -> Result<Reply, Failure> {
    match unavailable(call.api) {
        Some(why) => Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, why)),
        None => Ok(json(&call.api.decision(&call.object()))),
    }
}

/// Returns the reason if the server cannot decide at the moment.
pub(super) fn unavailable(api: &Api) -> Option<&'static str> {
    if !api.is_ready() {
        return Some("the server is starting or stopping; while it reads its journal, it does not know all wars");
    }
    api.is_behind().then_some("this replica has not read all writes of the log yet; ask another one")
}
