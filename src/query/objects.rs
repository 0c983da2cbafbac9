//! Queries about wars and objects: from memory and, with `since`, from the journal.

use std::sync::MutexGuard;

use hyper::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::history::{self, History};
use super::reply::{Failure, json};
use super::route::Call;
use super::views::{Filter, Object, Participants, Party, TimelineEntry, TransitionView, time_option};
use crate::audit::event::Micros;
use crate::detect::verdict::State;
use crate::journal;
use crate::journal::reader::Reader;
use crate::net::Reply;
use crate::pipeline::key::ObjectKey;
use crate::util::clock;

/// Default range of a list of transitions, counted back from the latest event.
const TRANSITIONS_SINCE: &str = "1d";

/// The actors of an object: the parties of its most urgent war, and the other writers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Sides {
    /// The object.
    pub object: Object,
    /// The state of the object's war.
    pub state: State,
    /// The parties of the war.
    pub parties: Vec<Party>,
    /// The actors that write the object but are not parties.
    pub other_writers: Vec<Party>,
}

/// An object's writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub(super) struct Timeline {
    /// The object.
    pub object: Object,
    /// Its writes in order, as far as they are kept.
    pub timeline: Vec<TimelineEntry>,
    /// The time from which no write is missing. Only in answers from the journal.
    #[serde(default, with = "time_option", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<jiff::Timestamp>")]
    pub complete_since: Option<Micros>,
    /// The transitions of the object's wars. Only in answers from the journal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transitions: Vec<TransitionView>,
}

/// A reader of the journal. Only one query uses it at a time.
struct JournalQuery<'a> {
    reader: Reader,
    since: Micros,
    _permit: MutexGuard<'a, ()>,
}

pub(super) fn wars(call: &Call<'_>) -> Result<Reply, Failure> {
    let mut filter = Filter { bytes_max: call.api.report_bytes_max(), ..call.parameters.filter()? };
    if let Some(text) = call.parameters.get("since") {
        filter.war.since = Some(start(text, clock::now())?);
    }
    let contexts = call.contexts();
    let mut report = call.api.reporter().with_contexts(&contexts).report(&filter);
    if let Some(since) = filter.war.since {
        report.coverage.starts_by(since);
    }
    report.coverage.problems.extend(call.api.live_problems());
    Ok(json(&report))
}

pub(super) fn find(call: &Call<'_>) -> Result<Reply, Failure> {
    let filter = call.parameters.filter()?;
    let query = open_journal(call, call.parameters.get("since"))?;
    let kept = match &query {
        Some(query) => query.history(call).named(&filter).map_err(unreadable)?,
        None => Vec::new(),
    };
    let key =
        call.api.reporter().resolve_object(&filter, kept).map_err(|why| Failure::new(StatusCode::NOT_FOUND, why))?;
    Ok(json(&look(call, query.as_ref(), &key)?))
}

pub(super) fn transitions(call: &Call<'_>) -> Result<Reply, Failure> {
    let filter = call.parameters.filter()?;
    let since = call.parameters.get("since").unwrap_or(TRANSITIONS_SINCE);
    let query = open_journal(call, Some(since))?.expect("there is a time");
    Ok(json(&query.history(call).transitions(&filter).map_err(unreadable)?))
}

pub(super) fn writes(call: &Call<'_>) -> Result<Reply, Failure> {
    let filter = call.parameters.filter()?;
    if filter.actor.is_none() {
        return Err(Failure::new(StatusCode::BAD_REQUEST, "`actor` is missing: give a part of the actor's name"));
    }
    let mut found = call.api.reporter().writes_of_actors(&filter);
    found.coverage.problems.extend(call.api.live_problems());
    Ok(json(&found))
}

pub(super) fn object(call: &Call<'_>) -> Result<Reply, Failure> {
    Ok(json(&find_by_path(call)?))
}

pub(super) fn participants(call: &Call<'_>) -> Result<Reply, Failure> {
    let found = find_by_path(call)?;
    let war = found.wars.first();
    let is_party = |p: &Party| war.is_some_and(|w| w.parties.iter().any(|q| q.actor == p.actor));
    let (parties, other_writers) = found.actors.into_iter().partition(is_party);
    Ok(json(&Sides { object: found.object, state: found.state, parties, other_writers }))
}

pub(super) fn timeline(call: &Call<'_>) -> Result<Reply, Failure> {
    let Participants { object, timeline, complete_since, transitions, .. } = find_by_path(call)?;
    Ok(json(&Timeline { object, timeline, complete_since, transitions }))
}

/// Returns the participants of the object that the path names.
fn find_by_path(call: &Call<'_>) -> Result<Participants, Failure> {
    look(call, open_journal(call, call.parameters.get("since"))?.as_ref(), &call.object())
}

fn look(call: &Call<'_>, query: Option<&JournalQuery<'_>>, key: &ObjectKey) -> Result<Participants, Failure> {
    let contexts = call.contexts();
    let found = match query {
        Some(query) => History { contexts: &contexts, ..query.history(call) }.participants(key).map_err(unreadable)?,
        None => call.api.reporter().with_contexts(&contexts).participants(key),
    };
    let unknown = || Failure::new(StatusCode::NOT_FOUND, "editwar has seen no write to this object");
    let mut found = found.ok_or_else(unknown)?;
    found.coverage.problems.extend(call.api.live_problems());
    Ok(found)
}

/// Opens the journal for queries since a time. Returns `None` without a time.
fn open_journal<'a>(call: &Call<'a>, since: Option<&str>) -> Result<Option<JournalQuery<'a>>, Failure> {
    let Some(text) = since else { return Ok(None) };
    let since = start(text, call.api.pipeline().latest().unwrap_or(0))?;
    let Some(journal) = call.api.journal() else {
        let error = "the server has no journal: start it with --journal DIR to query the past";
        return Err(Failure::new(StatusCode::NOT_IMPLEMENTED, error));
    };
    let Some(permit) = call.api.journal_queries().enter() else {
        let error = "too many concurrent queries of the journal: try again later";
        return Err(Failure::new(StatusCode::SERVICE_UNAVAILABLE, error));
    };
    let reader = journal.reader().map_err(|why| Failure::new(StatusCode::SERVICE_UNAVAILABLE, why))?;
    Ok(Some(JournalQuery { reader, since, _permit: permit }))
}

/// Parses the start time of a query: a time, or a duration before `now`.
fn start(text: &str, now: Micros) -> Result<Micros, Failure> {
    history::since(text, now).ok_or_else(|| {
        let error = format!(
            "expected a time such as 2026-02-11T10:00:00Z, a date (in UTC) or a duration such as 7d, got \"{text}\""
        );
        Failure::new(StatusCode::BAD_REQUEST, error)
    })
}

// === impl JournalQuery ===

impl JournalQuery<'_> {
    fn history<'a>(&'a self, call: &Call<'a>) -> History<'a> {
        let api = call.api;
        History {
            reader: &self.reader,
            pipeline: api.pipeline(),
            classes: api.classes(),
            contexts: api.contexts(),
            since: self.since,
        }
    }
}

/// Returns the failure for a journal that cannot be read.
#[expect(clippy::needless_pass_by_value, reason = "for `map_err`")]
fn unreadable(error: journal::Error) -> Failure {
    Failure::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
}
