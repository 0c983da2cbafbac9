//! Shows where the events come from, and what they do not show.

use super::reply::{Failure, json};
use super::route::Call;
use super::views::{Coverage, SourceReadiness, Sources, StatsView};
use crate::net::Reply;
use crate::util::clock;

pub(super) fn show(call: &Call<'_>) -> Result<Reply, Failure> {
    let api = call.api;
    let stats = api.pipeline().stats();
    let mut coverage = Coverage::from(&stats);
    coverage.problems.extend(api.live_problems());
    let readiness = |source: &super::api::SourceStatus| SourceReadiness {
        name: source.name.to_owned(),
        is_ready: source.readiness.is_ready(),
    };
    Ok(json(&Sources {
        now: clock::now(),
        sources: api.sources().iter().map(readiness).collect(),
        kinds: api.reporter().kinds(),
        coverage,
        stats: StatsView::from(&stats),
    }))
}
