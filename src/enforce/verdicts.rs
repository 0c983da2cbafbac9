//! Derives verdicts on the objects that may be paused from the pipeline's state.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::plan::{PauseRemoval, Verdict};
use crate::detect::actor_class::{ActorClass, ActorClassifier, Role};
use crate::detect::annotations::{self, MODE, PAUSED};
use crate::detect::assessment::{Assessment, WarAssessment};
use crate::detect::fields::FieldValue;
use crate::detect::instance::account;
use crate::detect::object::ObjectState;
use crate::detect::record::Record;
use crate::detect::verdict::{Confidence, State};
use crate::detect::write_history::WriteHistory;
use crate::pipeline::Pipeline;
use crate::pipeline::key::ObjectKey;

/// The cluster that the enforcer and the Golden State act on: the one whose API server posts to `/audit`. Clusters that
/// post to `/audit/CLUSTER` are only observed.
pub const CLUSTER: &str = "";

/// Returns the objects of [`CLUSTER`] over which there is or was a war.
pub fn contested(pipeline: &Pipeline) -> BTreeSet<ObjectKey> {
    pipeline.table().notable().into_iter().filter(|key| key.cluster() == CLUSTER).collect()
}

/// Returns whether the war over an object calls for a pause, or did until its quiet period ended.
pub fn may_need_pause(pipeline: &Pipeline, confidence: Confidence, key: &ObjectKey) -> bool {
    let state = pipeline.table().with(key, |state| Assessment::of(state).state(confidence));
    matches!(state, Some(State::Sustained | State::Subsiding))
}

/// Returns the current verdicts on these objects. `own` is the account of this client, whose writes do not count as
/// removals of a pause.
pub fn verdicts<'k>(
    pipeline: &Pipeline,
    own: &str,
    confidence: Confidence,
    keys: impl Iterator<Item = &'k ObjectKey>,
) -> BTreeMap<ObjectKey, Verdict> {
    keys.filter_map(|key| Some((key.clone(), verdict_on(pipeline, own, confidence, key)?))).collect()
}

/// Returns the current verdict on one object, or `None` if it has only one writer.
pub fn verdict_on(pipeline: &Pipeline, own: &str, confidence: Confidence, key: &ObjectKey) -> Option<Verdict> {
    let classes = &pipeline.policy().classes;
    pipeline.table().with(key, |state| Some(verdict(state, state.history()?, classes, own, confidence)))?
}

/// Returns those of these objects whose wars call for a pause, with the parties and their roles.
pub fn sustained<'k>(
    pipeline: &Pipeline,
    confidence: Confidence,
    keys: impl Iterator<Item = &'k ObjectKey>,
) -> BTreeMap<ObjectKey, Vec<(Arc<str>, Role)>> {
    let look = |state: &ObjectState| {
        let assessment = Assessment::of(state);
        let war = assessment.worst(confidence).filter(|war| war.state == State::Sustained && war.is_ongoing())?;
        let role = |party: &Arc<str>| {
            let client = state.writers().iter().map(|writer| &writer.client).find(|c| c.is_named(party));
            (party.clone(), client.map_or(Role::Operator, |client| client.role))
        };
        Some(war.parties.iter().map(role).collect())
    };
    keys.filter_map(|key| Some((key.clone(), pipeline.table().with(key, look)??))).collect()
}

/// Returns whether the object's war calls for a pause, or would after our write to the fields at these JSON Pointers.
/// `None` stands for creating the object again.
pub fn would_pause(pipeline: &Pipeline, confidence: Confidence, key: &ObjectKey, pointers: Option<&[String]>) -> bool {
    let now = pipeline.latest_of(key.cluster()).unwrap_or(i64::MIN);
    let Some(limits) = pipeline.policy().limits(&key.object()) else { return false };
    let look = |state: &ObjectState| {
        let analysis = state.history()?.analysis();
        let is_contested = match pointers {
            None => analysis.existence_retakes() > 0,
            Some(pointers) => analysis.contested_fields().iter().any(|(path, _)| {
                let path = bare(path.split(['.', '[', ']']));
                pointers.iter().any(|pointer| is_within(&path, &bare(pointer.split('/'))))
            }),
        };
        let assessment = Assessment::of(state);
        let mut next = assessment.worst(confidence).map(|war| war.tally.machine.clone()).unwrap_or_default();
        if is_contested {
            let own = limits.own.clone().unwrap_or_default();
            next.retake(&own, now, limits, true);
        }
        Some(next.state() == State::Sustained)
    };
    pipeline.table().with(key, look).flatten().unwrap_or(false)
}

/// Returns the names in a path, without the selectors of list items.
fn bare<'a>(tokens: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let is_name = |t: &&str| !t.is_empty() && !t.contains(['=', '\'']) && t.parse::<u32>().is_err();
    tokens.filter(is_name).collect()
}

/// Returns whether one of two paths contains the other.
fn is_within(a: &[&str], b: &[&str]) -> bool {
    a.iter().zip(b).all(|(a, b)| a == b)
}

fn verdict(
    state: &ObjectState,
    history: &WriteHistory,
    classes: &ActorClassifier,
    own: &str,
    confidence: Confidence,
) -> Verdict {
    let assessment = Assessment::of(state);
    let war = assessment.worst(confidence);
    let (mut removal, mut mode) = (None, None);
    for record in history.records() {
        for change in &record.changes {
            if *change.path == *annotations::path(PAUSED) && *record.client.actor != *own && !is_true(&change.new) {
                removal = Some(removal_of(record));
            }
            if *change.path == *annotations::path(MODE) {
                mode = change.new.as_ref().and_then(FieldValue::text).map(str::to_owned);
            }
        }
    }
    Verdict {
        state: war.map_or(State::Calm, |war| war.state),
        confidence: war.map_or(confidence, |war| war.confidence),
        until: war.and_then(WarAssessment::quiet_until),
        parties: war.into_iter().flat_map(|war| war.tally.parties.keys().cloned()).collect(),
        over: war.map_or_else(String::new, WarAssessment::over),
        retakes: war.map_or(0, |war| war.tally.retakes),
        since: war.map(|war| war.since),
        removal,
        is_unmanaged: mode.as_deref() == Some("\"unmanaged\""),
        is_honoured: war.is_some_and(|war| war.parties.iter().any(|party| classes.is_honouring(account(party)))),
    }
}

fn is_true(value: &Option<FieldValue>) -> bool {
    value.as_ref().and_then(FieldValue::text) == Some("\"true\"")
}

/// A removal is deliberate if a person removed the annotation in a write that changed nothing but annotations for
/// reconcilers. Any other removal may be a side effect.
fn removal_of(record: &Record) -> PauseRemoval {
    let is_person = record.client.class == ActorClass::Person;
    let is_annotation = |path: &str| path.starts_with("metadata.annotations['platform.kubevirt.io/");
    PauseRemoval {
        at: record.order.at,
        actor: record.client.actor.clone(),
        is_deliberate: is_person && record.changes.iter().all(|change| is_annotation(&change.path)),
    }
}
