//! The actors of one object, the timeline of its writes, and the transitions of its wars.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::coverage::Coverage;
use super::findings::{Contention, Cooperation, Flapping, HotLoop};
use super::object::Object;
use super::value::{is_redacted, json_of};
use super::war::{Party, War};
use super::{time, time_option};
use crate::audit::event::Micros;
use crate::detect::fields::{Change, EvidenceLevel};
use crate::detect::object::Labels;
use crate::detect::record::Record;
use crate::detect::verdict::State;
use crate::detect::write::{Effect, Part};
use crate::pipeline::Transition;

/// The actors of one object, its wars and its writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Participants {
    /// The object.
    pub object: Object,
    /// The state of its worst war.
    pub state: State,
    /// The wars over it, the worst first: one for each group of fields with the same parties.
    pub wars: Vec<War>,
    /// Actors that write it far too often.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub hot_loops: Vec<HotLoop>,
    /// Its clients whose requests fail with conflicts, if there are many of these.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contention: Option<Contention>,
    /// Writers whose requests admission alternately accepts and rejects.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flapping: Vec<Flapping>,
    /// Co-operations of its actors.
    #[serde(default)]
    pub cooperation: Vec<Cooperation>,
    /// All actors that wrote it, parties first.
    pub actors: Vec<Party>,
    /// The writes in order, as far as they are kept.
    pub timeline: Vec<TimelineEntry>,
    /// The time from which no write is missing. Only in answers from the journal.
    #[serde(default, with = "time_option", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<jiff::Timestamp>")]
    pub complete_since: Option<Micros>,
    /// The transitions of the object's wars. Only in answers from the journal.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transitions: Vec<TransitionView>,
    /// The times and sources that the answer is based on.
    #[serde(default)]
    pub coverage: Coverage,
}

/// A change of the state of an object's war.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TransitionView {
    /// When the state changed.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub at: Micros,
    /// The object.
    pub object: Object,
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// The labels of the object that say who owns it: those in `notify.owner_labels`.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
}

/// Transitions, from the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Transitions {
    /// The transitions in order.
    pub transitions: Vec<TransitionView>,
    /// The time from which no transition is missing.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub complete_since: Micros,
}

/// A write in an object's timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TimelineEntry {
    /// When it happened.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub at: Micros,
    /// The actor.
    pub actor: String,
    /// The tool: the field manager or, without one, the product in the user agent.
    pub tool: String,
    /// The verb of the request.
    pub verb: String,
    /// The part of the object: `main` or `status`.
    pub part: String,
    /// The effect: `create`, `modify` or `delete`.
    pub effect: String,
    /// Whether the written fields are known.
    pub fields_known: bool,
    /// The changed fields.
    pub changes: Vec<ChangeView>,
}

/// A field that a write changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeView {
    /// The path of the field.
    pub path: String,
    /// The value before; null if it was absent, is redacted or is not known.
    pub old: serde_json::Value,
    /// The value after; null if it was removed, is redacted or is not known.
    pub new: serde_json::Value,
    /// Whether the value before is hidden, as those of Secrets are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub old_redacted: bool,
    /// Whether the value after is hidden.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub new_redacted: bool,
    /// Whether the value after is not known, because the write names the field without its value.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub new_unknown: bool,
}

// === impl TransitionView ===

impl TransitionView {
    pub(in crate::query) fn of(transition: &Transition) -> TransitionView {
        TransitionView {
            at: transition.at,
            object: Object::named(&transition.object, None),
            from: transition.from,
            to: transition.to,
            labels: transition.labels.clone(),
        }
    }
}

// === impl TimelineEntry ===

impl TimelineEntry {
    pub(in crate::query) fn of(record: &Record) -> TimelineEntry {
        TimelineEntry {
            at: record.order.at,
            actor: record.client.actor.to_string(),
            tool: record.client.tool.to_string(),
            verb: record.verb.as_str().into(),
            part: match record.part {
                Part::Main => "main".into(),
                Part::Status => "status".into(),
            },
            effect: match record.effect {
                Effect::Create => "create".into(),
                Effect::Modify => "modify".into(),
                Effect::Delete => "delete".into(),
            },
            fields_known: record.level > EvidenceLevel::Object,
            changes: record.changes.iter().map(ChangeView::of).collect(),
        }
    }
}

// === impl ChangeView ===

impl ChangeView {
    fn of(change: &Change) -> ChangeView {
        ChangeView {
            path: change.path.to_string(),
            old: json_of(&change.old),
            new: json_of(&change.new),
            old_redacted: is_redacted(&change.old),
            new_redacted: is_redacted(&change.new),
            new_unknown: change.is_opaque && change.new.is_none(),
        }
    }
}
