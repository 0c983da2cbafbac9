//! A war: its parties, its contested fields with their values, and its remedies. The list of actors of an object uses the
//! same [`Party`].

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::object::Object;
use super::{rate, time, time_option};
use crate::audit::event::Micros;
use crate::detect::actor_class::{ActorClass, Role};
use crate::detect::assessment::{Progress, Rank};
use crate::detect::cause::Cause;
use crate::detect::remedy::{self, RemedyKind};
use crate::detect::verdict::{Confidence, State};

/// A war over fields of an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct War {
    /// The object.
    pub object: Object,
    /// The state of the war at the time of the latest event.
    pub state: State,
    /// How sure the verdict is.
    pub confidence: Confidence,
    /// Why the war happens.
    pub cause: Cause,
    /// What indicates this cause, and what is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// When the present run of retakes began: when the party of the first retake had written before it.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub since: Micros,
    /// The time of the last retake.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub until: Micros,
    /// When the object was deleted, which ended the war.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time_option")]
    #[schemars(with = "Option<jiff::Timestamp>")]
    pub deleted: Option<Micros>,
    /// Number of retakes.
    pub retakes: u32,
    /// Number of retakes that brought an earlier value back.
    pub reversals: u32,
    /// Number of retakes that found a bucket empty.
    pub thrashing_events: u32,
    /// Retakes per minute, from the first to the last; absent if they are less than a minute apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retakes_per_minute: Option<f64>,
    /// The parties, those with the most retakes first.
    pub parties: Vec<Party>,
    /// The contested fields.
    pub fields: Vec<Field>,
    /// Actors that write the object but are not parties.
    pub other_writers: Vec<OtherWriter>,
    /// Objects that only follow this war.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependents: Vec<Dependent>,
    /// What to do, the best first.
    pub remedies: Vec<Remedy>,
    /// A command that shows whether the war is over.
    #[serde(default)]
    pub verify: String,
}

/// A party of a war, or another actor of an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Party {
    /// The effective user; `account via tool` if an account fights itself.
    pub actor: String,
    /// Whether it is a field manager with its operation, because only a watch shows its writes. Several accounts may be
    /// behind it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_field_manager: bool,
    /// The kind of account.
    pub class: ActorClass,
    /// What the account does, for the choice of remedies.
    pub role: Role,
    /// Its writes that changed the object.
    pub writes: u32,
    /// Its requests that changed nothing.
    #[serde(default)]
    pub no_ops: u32,
    /// Its retakes.
    pub retakes: u32,
    /// Its thrashing events.
    pub thrashing_events: u32,
    /// Its writes by verb.
    pub verbs: BTreeMap<String, u32>,
    /// Its field managers, as given in requests or derived as the API server derives them.
    pub field_managers: Vec<String>,
    /// Its user agents.
    pub user_agents: Vec<String>,
    /// Its source addresses.
    pub source_ips: Vec<String>,
    /// The pods whose tokens it used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<String>,
    /// The accounts that impersonated it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub impersonated_by: Vec<String>,
    /// The time of its first write.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub first: Micros,
    /// The time of its last write.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub last: Micros,
}

/// A contested field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Field {
    /// The path; `(object)` if the whole object is alternately deleted and created, `(main)` or `(status)` if the
    /// fields are not known.
    pub path: String,
    /// Number of retakes of this field.
    pub retakes: u32,
    /// The values that the field was given, the most frequent first.
    pub values: Vec<Value>,
}

/// A value that an actor gave a field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Value {
    /// The value; truncated if it is long, null if it is absent or redacted.
    pub value: serde_json::Value,
    /// Whether the field was removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
    /// Whether the value is hidden, as those of Secrets are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redacted: bool,
    /// Whether the value is truncated because it is long.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// The actor that wrote the value.
    pub actor: String,
    /// How often it did so.
    pub count: u32,
}

/// An actor that writes the object but is not a party.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OtherWriter {
    /// The actor.
    pub actor: String,
    /// The kind of account.
    pub class: ActorClass,
    /// Its writes that changed the object.
    pub writes: u32,
}

/// An object that an actor writes because the object's owner is fought over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Dependent {
    /// The object.
    pub object: Object,
    /// The actor that writes it most.
    pub actor: String,
    /// The number of its writes.
    pub writes: u32,
}

/// One way to end a war.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Remedy {
    /// What the command does.
    pub kind: RemedyKind,
    /// A short title.
    pub title: String,
    /// A command that runs as printed.
    pub command: String,
    /// What the command changes or, if it changes nothing, what to do with its output.
    #[serde(default)]
    pub changes: String,
    /// What you give up; empty if the command changes nothing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tradeoff: String,
    /// The command that undoes it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undo: Option<String>,
}

impl From<remedy::Remedy> for Remedy {
    fn from(remedy: remedy::Remedy) -> Remedy {
        let remedy::Remedy { kind, title, command, changes, tradeoff, undo } = remedy;
        Remedy { kind, title, command, changes, tradeoff, undo }
    }
}

// === impl War ===

impl War {
    /// Whether the war deserves an exit code and an alert: it thrashes and is not undecided.
    pub fn is_loud(&self) -> bool {
        self.thrashing_events > 0 && !self.is_undecided()
    }

    /// Returns whether it goes on, as far as the events show.
    pub fn progress(&self) -> Progress {
        Progress::of(self.state, self.deleted.is_some())
    }

    /// Whether it is ongoing, as far as the events show.
    pub fn is_ongoing(&self) -> bool {
        self.progress() == Progress::Ongoing
    }

    /// Returns its sort key.
    pub fn rank(&self) -> Rank {
        let War { confidence, thrashing_events, retakes, .. } = *self;
        Rank { is_ongoing: self.is_ongoing(), confidence, thrashing_events, retakes }
    }

    /// Whether it could be co-operation on different fields, because the log has no bodies.
    pub fn is_undecided(&self) -> bool {
        !self.confidence.is_decided()
    }

    /// Returns the rate of the retakes: `12.5/min`, or `14 in 1 s` if they are less than a minute apart.
    pub fn rate(&self) -> String {
        rate::text(self.retakes, self.since, self.until, self.retakes_per_minute)
    }
}
