//! Which objects and wars a query includes.

use std::fmt;
use std::str::FromStr;

use serde::de::IntoDeserializer;
use serde::de::value::{Error, StrDeserializer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::object::Object;
use super::war::{Party, War};
use crate::audit::event::Micros;
use crate::detect::actor_class::{ActorClass, Role};
use crate::detect::assessment::Progress;
use crate::detect::cause::Cause;
use crate::detect::resource_kind;
use crate::detect::verdict::{Confidence, State};
use crate::pipeline::key::ObjectKey;

/// Which objects and wars a report includes.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this namespace.
    pub namespace: Option<String>,
    /// Only this kind, in any notation that kubectl accepts.
    pub kind: Option<String>,
    /// Only this name.
    pub name: Option<String>,
    /// Only this cluster.
    pub cluster: Option<String>,
    /// Only wars with a party whose name contains this.
    pub actor: Option<String>,
    /// Whether `actor` must be the whole name.
    pub is_exact: bool,
    /// Include contested objects, not only those with thrashing events.
    pub all: bool,
    /// Only wars with these properties.
    pub war: WarFilter,
    /// Maximum number of objects.
    pub limit: Option<usize>,
    /// Approximate number of bytes of JSON after which no more objects are added.
    pub bytes_max: Option<usize>,
}

/// The properties of the wars that a report includes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WarFilter {
    /// Only wars with a party of this class or role.
    pub class: Option<PartyClass>,
    /// Only wars in this state.
    pub state: Option<WarStatus>,
    /// Only wars of at least this confidence.
    pub confidence: Option<Confidence>,
    /// Only wars with this cause.
    pub cause: Option<Cause>,
    /// Only wars with a retake at or after this time.
    pub since: Option<Micros>,
}

/// The class or the role of a party.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PartyClass {
    /// A class.
    Class(ActorClass),
    /// A role.
    Role(Role),
}

/// The state of a war, or a group of states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WarStatus {
    /// Exactly this state. A war over a deleted object has none.
    State(State),
    /// The war has not ended.
    Ongoing,
    /// The war has ended.
    Ended,
    /// Whether it is a war is undecided.
    Undecided,
}

// === impl Filter ===

impl Filter {
    /// Whether every object of every actor matches.
    pub(in crate::query) fn is_any(&self) -> bool {
        [&self.namespace, &self.kind, &self.name, &self.cluster, &self.actor].into_iter().all(Option::is_none)
    }

    /// Whether an object matches if only its name is known.
    pub(in crate::query) fn is_name(&self, key: &ObjectKey) -> bool {
        self.is_key(key, None)
    }

    /// Whether an object with this kind, if it is known, matches. Like [`Filter::is_object`], but cheap enough to call
    /// for each of a million objects.
    pub(in crate::query) fn is_key(&self, key: &ObjectKey, kind: Option<&str>) -> bool {
        let object = key.object();
        let is = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
        is(&self.namespace, object.namespace)
            && is(&self.name, object.name)
            && is(&self.cluster, key.cluster())
            && self.kind.as_deref().is_none_or(|typed| {
                let kind = kind.or(resource_kind::built_in(object.group, object.resource)).unwrap_or(object.resource);
                resource_kind::matches_input(typed, object.group, object.resource, kind)
            })
    }

    pub(in crate::query) fn is_object(&self, object: &Object) -> bool {
        let is = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
        is(&self.namespace, &object.namespace)
            && is(&self.name, &object.name)
            && is(&self.cluster, &object.cluster)
            && self
                .kind
                .as_deref()
                .is_none_or(|typed| resource_kind::matches_input(typed, &object.group, &object.resource, &object.kind))
    }

    pub(in crate::query) fn is_actor<'a>(&self, mut actors: impl Iterator<Item = &'a str>) -> bool {
        let is = |wanted: &str, actor: &str| if self.is_exact { actor == wanted } else { actor.contains(wanted) };
        self.actor.as_deref().is_none_or(|wanted| actors.any(|actor| is(wanted, actor)))
    }

    /// Whether a war over a matching object matches.
    pub(in crate::query) fn is_war(&self, war: &War) -> bool {
        let is_contested_wanted = self.all || self.war.state == Some(WarStatus::State(State::Contested));
        (is_contested_wanted || war.thrashing_events > 0)
            && self.is_actor(war.parties.iter().map(|party| party.actor.as_str()))
            && self.war.is_met(war)
    }
}

// === impl WarFilter ===

impl WarFilter {
    /// Whether every war matches.
    pub(in crate::query) fn is_any(&self) -> bool {
        *self == WarFilter::default()
    }

    fn is_met(&self, war: &War) -> bool {
        self.class.is_none_or(|class| war.parties.iter().any(|party| class.is_of(party)))
            && self.state.is_none_or(|status| status.is_of(war))
            && self.confidence.is_none_or(|least| war.confidence >= least)
            && self.cause.is_none_or(|cause| war.cause == cause)
            && self.since.is_none_or(|since| war.until >= since)
    }
}

// === impl PartyClass ===

impl PartyClass {
    fn is_of(self, party: &Party) -> bool {
        match self {
            PartyClass::Class(class) => party.class == class,
            PartyClass::Role(role) => party.role == role,
        }
    }
}

impl fmt::Display for PartyClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PartyClass::Class(class) => f.write_str(&word(class)),
            PartyClass::Role(role) => f.write_str(&word(role)),
        }
    }
}

impl FromStr for PartyClass {
    type Err = String;

    fn from_str(text: &str) -> Result<PartyClass, String> {
        let class = variant(text).map(PartyClass::Class);
        class.or_else(|classes| {
            let names =
                |error: String| error.split_once("one of ").map_or(String::new(), |(_, names)| names.to_owned());
            variant(text).map(PartyClass::Role).map_err(|roles| format!("{classes}; or a role: {}", names(roles)))
        })
    }
}

// === impl WarStatus ===

impl WarStatus {
    fn is_of(self, war: &War) -> bool {
        match self {
            WarStatus::State(state) => war.deleted.is_none() && !war.is_undecided() && war.state == state,
            WarStatus::Ongoing => war.is_ongoing(),
            WarStatus::Ended => war.progress() == Progress::Ended,
            WarStatus::Undecided => war.is_undecided(),
        }
    }
}

impl fmt::Display for WarStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            WarStatus::State(state) => state.as_str(),
            WarStatus::Ongoing => "ongoing",
            WarStatus::Ended => "ended",
            WarStatus::Undecided => "undecided",
        })
    }
}

impl FromStr for WarStatus {
    type Err = String;

    fn from_str(text: &str) -> Result<WarStatus, String> {
        match text {
            "ongoing" => Ok(WarStatus::Ongoing),
            "ended" => Ok(WarStatus::Ended),
            "undecided" => Ok(WarStatus::Undecided),
            state => variant(state)
                .map(WarStatus::State)
                .map_err(|states| format!("{states}, `ongoing`, `ended`, `undecided`")),
        }
    }
}

/// Returns the word of the JSON output for a variant.
fn word(variant: &impl Serialize) -> String {
    match serde_json::to_value(variant) {
        Ok(Value::String(word)) => word,
        other => unreachable!("a variant without data is a word, not {other:?}"),
    }
}

/// Parses a word of the JSON output. The error names all words.
///
/// # Errors
/// The word is unknown.
pub fn variant<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, String> {
    let deserializer: StrDeserializer<'de, Error> = text.into_deserializer();
    T::deserialize(deserializer).map_err(|error| error.to_string().replacen("variant", "value", 1))
}
