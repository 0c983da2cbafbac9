//! Derives verdicts on the objects that may be paused from the pipeline's state.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::means::{Means, ToolSwitch};
use super::plan::{PauseRemoval, Verdict};
use super::selection::{CLUSTER, Selection, title};
use crate::detect::actor_class::{ActorClass, ActorClassifier, Role};
use crate::detect::annotations::{self, MODE, PAUSED};
use crate::detect::application::applications;
use crate::detect::assessment::{Assessment, WarAssessment};
use crate::detect::fields::{Change, FieldValue};
use crate::detect::instance::account;
use crate::detect::object::ObjectState;
use crate::detect::record::Record;
use crate::detect::verdict::{Confidence, State};
use crate::detect::war::Scope;
use crate::detect::write_history::WriteHistory;
use crate::pipeline::Pipeline;
use crate::pipeline::key::ObjectKey;

/// Returns the objects of [`CLUSTER`] over which there is or was a war.
pub fn contested(pipeline: &Pipeline) -> BTreeSet<ObjectKey> {
    pipeline.table().notable().into_iter().filter(|key| key.cluster() == CLUSTER).collect()
}

/// Returns whether the war over an object calls for a pause, or did until its quiet period ended.
pub fn may_need_pause(pipeline: &Pipeline, confidence: Confidence, key: &ObjectKey) -> bool {
    let state = pipeline.table().with(key, |state| Assessment::of(state).state(confidence));
    matches!(state, Some(State::Sustained | State::Subsiding))
}

/// What verdicts depend on, apart from the events.
#[derive(Clone, Copy, Debug)]
pub struct Judging<'a> {
    /// The pipeline.
    pub pipeline: &'a Pipeline,
    /// The account of this client, whose writes do not count as removals of a pause.
    pub own: &'a str,
    /// The minimum confidence.
    pub confidence: Confidence,
    /// The objects that may be paused, and the tools whose own switches may be used.
    pub selection: &'a Selection,
}

/// What is found about one object.
struct Judgement {
    verdict: Verdict,
    /// The verdict on its Application of Argo CD, if only that can be paused.
    of_application: Option<(ObjectKey, Verdict)>,
}

// === impl Judging ===

impl Judging<'_> {
    /// Returns the current verdicts on these objects, by the object that would carry the pause: the contested object
    /// itself, or its Application of Argo CD, which may be that of several.
    pub fn verdicts<'k>(&self, keys: impl Iterator<Item = &'k ObjectKey>) -> BTreeMap<ObjectKey, Verdict> {
        let mut found: BTreeMap<ObjectKey, Verdict> = BTreeMap::new();
        let mut add = |key: ObjectKey, verdict: Verdict| match found.entry(key) {
            Entry::Vacant(entry) => drop(entry.insert(verdict)),
            Entry::Occupied(mut entry) => merge(entry.get_mut(), verdict),
        };
        for key in keys {
            let Some(Judgement { verdict, of_application }) = self.judge(key) else { continue };
            add(key.clone(), verdict);
            if let Some((application, verdict)) = of_application {
                add(application, verdict);
            }
        }
        found
    }

    /// Returns the current verdict on one object, or `None` if it has only one writer.
    pub fn verdict_on(&self, key: &ObjectKey) -> Option<Verdict> {
        self.judge(key).map(|found| found.verdict)
    }

    fn judge(&self, key: &ObjectKey) -> Option<Judgement> {
        self.pipeline.table().with(key, |state| {
            let verdict = verdict(state, state.history()?, &self.pipeline.policy().classes, self);
            // An Application of Argo CD may carry the pause of another object, without being selected itself.
            if !self.selection.allows(key) {
                return Some(Judgement::of(Verdict { means: None, ..verdict }));
            }
            if verdict.means.is_some() || verdict.is_unmanaged {
                return Some(Judgement::of(verdict));
            }
            Some(match self.by_tools(key, state) {
                None => Judgement::of(verdict),
                Some(ToolSwitch { means: means @ Means::ArgoCd(_), object: application }) => {
                    let object = key.object();
                    let over = format!("{}/{}: {}", title(object.resource, object.group), object.name, verdict.over);
                    let added = Verdict { means: Some(means), over, removal: None, ..verdict.clone() };
                    Judgement { verdict, of_application: Some((application, added)) }
                }
                Some(ToolSwitch { means, .. }) => Judgement::of(Verdict { means: Some(means), ..verdict }),
            })
        })?
    }

    /// Returns the switch of a tool that would pause an object. It does not help against alternating deletions and creations: that of Flux is lost with the object, and
    /// that of Argo CD would keep the object deleted.
    fn by_tools(&self, key: &ObjectKey, state: &ObjectState) -> Option<ToolSwitch> {
        let tools = &self.selection.tools;
        let is_over_existence =
            || Assessment::of(state).worst(self.confidence).is_none_or(|w| w.scope == Scope::Object);
        if tools.is_empty() || is_over_existence() {
            return None;
        }
        let parties = parties(state, self.confidence)?;
        Means::by_tools(tools, key, &parties, &applications(state.history()?.current_fields()?))
    }

    /// Returns whether an object was deleted.
    pub fn is_deleted(&self, key: &ObjectKey) -> bool {
        let look = |state: &ObjectState| Assessment::of(state).deleted_at().is_some();
        self.pipeline.table().with(key, look).unwrap_or(false)
    }
}

// === impl Judgement ===

impl Judgement {
    fn of(verdict: Verdict) -> Judgement {
        Judgement { verdict, of_application: None }
    }
}

/// Adds the verdict on another object to that on an object which would carry the pause of both.
fn merge(verdict: &mut Verdict, other: Verdict) {
    let removal =
        [verdict.removal.take(), other.removal.clone()].into_iter().flatten().max_by_key(|removal| removal.at);
    let is_unmanaged = verdict.is_unmanaged || other.is_unmanaged;
    let until = verdict.until.max(other.until);
    let contested = [&verdict.means, &other.means].into_iter().flatten().flat_map(|means| match means {
        Means::ArgoCd(contested) => contested.clone(),
        Means::Annotations | Means::Flux => Vec::new(),
    });
    let contested: Vec<ObjectKey> = contested.collect();
    if (other.means.is_some(), other.state.urgency()) > (verdict.means.is_some(), verdict.state.urgency()) {
        *verdict = other;
    }
    if let Some(Means::ArgoCd(all)) = &mut verdict.means {
        *all = contested;
    }
    (verdict.removal, verdict.is_unmanaged, verdict.until) = (removal, is_unmanaged, until);
}

/// Returns the parties of the worst war over an object, with their roles.
fn parties(state: &ObjectState, confidence: Confidence) -> Option<Vec<(Arc<str>, Role)>> {
    let assessment = Assessment::of(state);
    let role = |party: &Arc<str>| {
        let client = state.writers().iter().map(|writer| &writer.client).find(|c| c.is_named(party));
        (party.clone(), client.map_or(Role::Operator, |client| client.role))
    };
    Some(assessment.worst(confidence)?.parties.iter().map(role).collect())
}

/// Returns those of these objects whose wars call for a pause, with the parties and their roles.
pub fn sustained<'k>(
    pipeline: &Pipeline,
    confidence: Confidence,
    keys: impl Iterator<Item = &'k ObjectKey>,
) -> BTreeMap<ObjectKey, Vec<(Arc<str>, Role)>> {
    let look = |state: &ObjectState| {
        let assessment = Assessment::of(state);
        assessment.worst(confidence).filter(|war| war.state == State::Sustained && war.is_ongoing())?;
        parties(state, confidence)
    };
    keys.filter_map(|key| Some((key.clone(), pipeline.table().with(key, look)??))).collect()
}

/// Returns whether the object's war calls for a pause, or would after our write to the fields at these JSON Pointers.
/// `None` stands for creating the object again.
pub fn would_pause(pipeline: &Pipeline, confidence: Confidence, key: &ObjectKey, pointers: Option<&[String]>) -> bool {
    let now = pipeline.latest_of(key.cluster()).unwrap_or(i64::MIN);
    let Some(limits) = pipeline.policy().limits(&key.object()) else { return false };
    let look = |state: &ObjectState| {
        let assessment = Assessment::of(state);
        let is_contested = match pointers {
            None => assessment.existence_retakes() > 0,
            Some(pointers) => assessment.contested_fields().iter().any(|(path, _)| {
                let path = bare(path.split(['.', '[', ']']));
                pointers.iter().any(|pointer| is_within(&path, &bare(pointer.split('/'))))
            }),
        };
        let war = assessment.worst(confidence)?;
        let own = limits.own.clone().unwrap_or_default();
        let next = if is_contested { war.state_after_retake(&own, now, limits) } else { war.state };
        Some(next == State::Sustained)
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
    Judging { own, confidence, .. }: &Judging<'_>,
) -> Verdict {
    let confidence = *confidence;
    let assessment = Assessment::of(state);
    let war = assessment.worst(confidence);
    let (mut removal, mut mode) = (None, None);
    // The switches of tools that editwar has set. People use them too.
    let mut own_switches: BTreeSet<&str> = BTreeSet::new();
    for record in history.records() {
        for change in &record.changes {
            let is_own = *record.client.actor == **own;
            let is_switch = annotations::stopping_value(&change.path).is_some();
            if is_switch && is_stopping(change) && is_own {
                own_switches.insert(&change.path);
            } else if is_switch && !is_stopping(change) {
                let was_own = own_switches.remove(&*change.path) || *change.path == *annotations::path(PAUSED);
                if was_own && !is_own {
                    removal = Some(removal_of(record));
                }
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
        means: war
            .is_some_and(|war| war.parties.iter().any(|party| classes.is_honouring(account(party))))
            .then_some(Means::Annotations),
    }
}

/// Returns whether a change sets the annotation of a pause.
fn is_stopping(change: &Change) -> bool {
    let text = change.new.as_ref().and_then(FieldValue::text);
    text.is_some_and(|text| {
        annotations::stopping_value(&change.path).is_some_and(|value| text == format!("\"{value}\""))
    })
}

/// A removal is deliberate if a person removed the annotation in a write that changed nothing but annotations for
/// reconcilers. Any other removal may be a side effect.
fn removal_of(record: &Record) -> PauseRemoval {
    let is_person = record.client.class == ActorClass::Person;
    let is_annotation = |path: &str| {
        path.starts_with("metadata.annotations['platform.kubevirt.io/") || annotations::stopping_value(path).is_some()
    };
    PauseRemoval {
        at: record.order.at,
        actor: record.client.actor.clone(),
        is_deliberate: is_person && record.changes.iter().all(|change| is_annotation(&change.path)),
    }
}
