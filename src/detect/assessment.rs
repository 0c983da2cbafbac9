//! The assessment of one object: the conclusions about its wars, computed in one place. Reports, decisions, pauses and
//! simulations are derived from it.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::analysis::Analysis;
use super::field_history::FieldHistory;
use super::fields::Path;
use super::object::ObjectState;
use super::policy::Limits;
use super::verdict::{Confidence, State};
use super::war::{Scope, Tally, War, WarId};
use super::write::Part;
use crate::audit::event::Micros;

/// Maximum number of fields in a description of a war.
const FIELDS_SHOWN: usize = 3;
/// Maximum length of a value in such a description, in characters.
const VALUE_CHARS_MAX: usize = 40;

/// Whether a war goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Progress {
    /// The last retake is younger than the quiet period.
    Ongoing,
    /// There was no retake for the quiet period; the next answered one resumes the war.
    Subsiding,
    /// It is calm again, or the object was deleted.
    Ended,
}

/// The order in which wars are presented, as a sort key: the most important war has the greatest rank.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    /// Whether it is ongoing.
    pub is_ongoing: bool,
    /// How sure it is that this is a war.
    pub confidence: Confidence,
    /// Number of thrashing events.
    pub thrashing_events: u32,
    /// Number of retakes.
    pub retakes: u32,
}

/// What is concluded about one object, as of its latest write or [`ObjectState::advance`].
#[derive(Clone, Debug)]
pub(crate) struct Assessment<'a> {
    analysis: Option<&'a Analysis>,
    /// All wars over the object, in the order in which they began.
    wars: Vec<WarAssessment<'a>>,
}

/// What is concluded about one war: a group of contested fields with the same parties.
#[derive(Clone, Debug)]
pub(crate) struct WarAssessment<'a> {
    /// Its id among the object's wars.
    pub id: WarId,
    /// What it is over.
    pub scope: Scope,
    /// Its state.
    pub state: State,
    /// When this state began.
    pub state_since: Micros,
    /// How sure it is that this is a war.
    pub confidence: Confidence,
    /// The parties, sorted.
    pub parties: &'a [Arc<str>],
    /// The contested fields, those with the most retakes first. Empty unless the scope is [`Scope::Fields`].
    pub fields: Vec<(&'a Path, &'a FieldHistory)>,
    /// Its retakes, by party, and its state machine.
    pub tally: &'a Tally,
    /// When the present run of retakes began; see [`Tally::since`].
    pub since: Micros,
    /// The time of the last retake.
    pub last_retake: Micros,
    /// When the war ended: with the deletion of the object, or with the last retake before a quiet period. `None` if it
    /// is ongoing.
    pub ended_at: Option<Micros>,
    /// When the object was deleted, which ended the war.
    pub deleted_at: Option<Micros>,
}

// === impl Progress ===

impl Progress {
    /// Returns whether a war in this state goes on. `is_deleted` is whether the deletion of its object ended it.
    pub fn of(state: State, is_deleted: bool) -> Progress {
        match state {
            _ if is_deleted => Progress::Ended,
            State::Contested | State::Thrashing | State::Sustained => Progress::Ongoing,
            State::Subsiding => Progress::Subsiding,
            State::Calm => Progress::Ended,
        }
    }
}

// === impl Assessment ===

impl<'a> Assessment<'a> {
    /// Returns the assessment of an object.
    pub(crate) fn of(object: &'a ObjectState) -> Assessment<'a> {
        let mut assessment = Assessment::without_fields(object);
        for (path, field) in assessment.contested_fields() {
            if let Some(war) = assessment.wars.iter_mut().find(|war| field.war == Some(war.id)) {
                war.fields.push((path, field));
            }
        }
        assessment
    }

    /// Returns the assessment of an object without the contested fields of its wars, which are the most expensive part. It is enough to
    /// rank objects.
    pub(crate) fn without_fields(object: &'a ObjectState) -> Assessment<'a> {
        let Some(history) = object.history() else {
            return Assessment { analysis: None, wars: Vec::new() };
        };
        let analysis = history.analysis();
        let deleted_at = analysis.deleted_at();
        let wars = analysis.wars().map(|war| WarAssessment::new(war, deleted_at)).collect();
        Assessment { analysis: Some(analysis), wars }
    }

    /// Returns the wars to report, by [`Rank`]. If the fields of the most urgent war are known and it thrashes, wars
    /// without known fields add nothing.
    pub(crate) fn wars(&self) -> impl Iterator<Item = &WarAssessment<'a>> {
        let is_known = self.worst(Confidence::Probable).is_some_and(WarAssessment::is_thrashing);
        let mut wars: Vec<_> = self.wars.iter().filter(|war| war.confidence.is_decided() || !is_known).collect();
        wars.sort_by_key(|war| std::cmp::Reverse(war.rank()));
        wars.into_iter()
    }

    /// Returns the most urgent war with at least this confidence. [`Confidence::Probable`] is the highest that can be
    /// required.
    pub(crate) fn worst(&self, at_least: Confidence) -> Option<&WarAssessment<'a>> {
        let worst = self.analysis?.worst(at_least)?;
        self.wars.iter().find(|war| war.id == worst.id)
    }

    /// Returns the contested fields of all wars, and of none, those with the most retakes first.
    pub(crate) fn contested_fields(&self) -> Vec<(&'a Path, &'a FieldHistory)> {
        self.analysis.map(Analysis::contested_fields).unwrap_or_default()
    }

    /// Returns when the object was deleted, if it is gone.
    pub(crate) fn deleted_at(&self) -> Option<Micros> {
        self.analysis.and_then(Analysis::deleted_at)
    }

    /// Returns how often the object was alternately deleted and created.
    pub(crate) fn existence_retakes(&self) -> u32 {
        self.analysis.map_or(0, Analysis::existence_retakes)
    }

    /// Returns the state of the object for display: of the most urgent war whose fields are known or, if there is none,
    /// of the most urgent war.
    pub(crate) fn shown_state(&self) -> State {
        let decided = self.worst(Confidence::Probable);
        decided.or_else(|| self.worst(Confidence::Possible)).map_or(State::Calm, |war| war.state)
    }

    /// Returns the state of the most urgent war with at least this confidence.
    pub(crate) fn state(&self, at_least: Confidence) -> State {
        self.worst(at_least).map_or(State::Calm, |war| war.state)
    }
}

// === impl WarAssessment ===

impl<'a> WarAssessment<'a> {
    fn new(war: &'a War, object_deleted_at: Option<Micros>) -> WarAssessment<'a> {
        let tally = &war.tally;
        let machine = &tally.machine;
        let last_retake = machine.last_retake();
        // A deletion is a part of a war over the object's existence, and does not end it.
        let deleted_at = object_deleted_at.filter(|_| war.scope != Scope::Object);
        let progress = Progress::of(machine.state(), deleted_at.is_some());
        WarAssessment {
            id: war.id,
            scope: war.scope,
            state: machine.state(),
            state_since: machine.since(),
            confidence: war.confidence,
            parties: &war.parties,
            fields: Vec::new(),
            tally,
            since: tally.since.or(machine.milestones().retake).unwrap_or(last_retake),
            last_retake,
            ended_at: (progress != Progress::Ongoing).then(|| deleted_at.unwrap_or(last_retake)),
            deleted_at,
        }
    }

    /// Whether it has not ended: no quiet period has passed since the last retake, and the object was not deleted.
    pub(crate) fn is_ongoing(&self) -> bool {
        self.ended_at.is_none()
    }

    /// Returns its sort key.
    pub(crate) fn rank(&self) -> Rank {
        let Tally { thrashing_events, retakes, .. } = *self.tally;
        Rank { is_ongoing: self.is_ongoing(), confidence: self.confidence, thrashing_events, retakes }
    }

    /// Returns the state that the war would have after a retake by this party.
    pub(crate) fn state_after_retake(&self, by: &Arc<str>, at: Micros, limits: &Limits) -> State {
        let mut machine = self.tally.machine.clone();
        machine.retake(by, at, limits, true);
        machine.state()
    }

    /// Whether it has thrashing events.
    pub(crate) fn is_thrashing(&self) -> bool {
        self.tally.thrashing_events > 0
    }

    /// Describes the fields that are fought over, with their values: `spec.replicas (3 ⇄ 5)`.
    pub(crate) fn over(&self) -> String {
        let fields: Vec<String> =
            self.fields.iter().take(FIELDS_SHOWN).map(|(path, field)| field_and_values(path, field)).collect();
        match self.scope {
            Scope::Part(Part::Main) => "fields that are not in the log".to_owned(),
            Scope::Part(Part::Status) => "status fields that are not in the log".to_owned(),
            _ if fields.is_empty() => "the whole object".to_owned(),
            _ => fields.join(", "),
        }
    }

    /// Returns the end of the quiet period of a sustained or subsiding war, if there is no further retake.
    pub(crate) fn quiet_until(&self) -> Option<Micros> {
        self.tally.machine.until()
    }

    /// Whether all values of all contested fields are notations of one value.
    pub(crate) fn is_over_form(&self) -> bool {
        !self.fields.is_empty() && self.fields.iter().all(|(_, field)| field.is_over_form())
    }
}

/// Formats a field and its values as `spec.replicas (3 ⇄ 5)`.
fn field_and_values(path: &str, field: &FieldHistory) -> String {
    let mut values: Vec<String> = Vec::new();
    for seen in &field.values {
        let text = match &seen.value {
            None => "absent".to_owned(),
            Some(value) => match value.text() {
                Some(text) => text.chars().take(VALUE_CHARS_MAX).collect(),
                None => return path.to_owned(),
            },
        };
        if !values.contains(&text) && values.len() < 2 {
            values.push(text);
        }
    }
    format!("{path} ({})", values.join(" ⇄ "))
}

#[cfg(test)]
#[path = "assessment/tests.rs"]
mod tests;
