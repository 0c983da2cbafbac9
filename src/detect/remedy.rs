//! How to end a war: commands that run as printed.
//!
//! Remedies that change something come first, then those that only show something. Remedies that delete something come
//! last, and are never the only ones. The modules below have the recipes for the tools of the parties;
//! `docs/remedies.md` says how each recipe was tested.

mod admission;
mod autoscaler;
mod gitops;
mod kubectl;
mod location;
mod people;
mod program;
mod runbook;

use std::collections::BTreeMap;

use ring::digest::{SHA256, digest};
use serde_json::Value;

use self::location::Location;
use super::actor_class::Role;
use super::application::Application;
use super::cause::Cause;
use super::fields::Fields;
use crate::detect::instance::account;

/// The properties of a war that determine its remedies.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// `deployments.apps`.
    pub resource: String,
    /// The kind.
    pub kind: &'a str,
    /// The API group.
    pub group: &'a str,
    /// The namespace; empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// The name.
    pub name: &'a str,
    /// The context in the user's kubeconfig, if it is known.
    pub context: Option<&'a str>,
    /// The cause of the war.
    pub cause: Cause,
    /// The parties.
    pub parties: Vec<Party<'a>>,
    /// The party that honours the annotations, if there is one.
    pub honouring: Option<&'a str>,
    /// The contested fields, with the values that the parties want.
    pub fields: Vec<ContestedField<'a>>,
    /// The applications of GitOps tools and Helm that the object is marked with.
    pub applications: Vec<Application>,
    /// The controller in the object's ownerReferences.
    pub owner: Option<Owner>,
    /// The HorizontalPodAutoscaler that targets the object, if the events show it.
    pub autoscaler: Option<Autoscaler>,
    /// The annotations of the runbook that the object has, by their names without the prefix.
    pub annotations: BTreeMap<&'static str, String>,
    /// Settings of other objects from which the contested fields may be derived.
    pub settings: Vec<Setting>,
    /// The policy or webhook that alternately accepts and rejects.
    pub flapping: Option<&'a str>,
}

/// A setting of another object, such as a value of a HelmRelease.
#[derive(Clone, Debug, PartialEq)]
pub struct Setting {
    /// The kind of the object.
    pub kind: String,
    /// The name of the object.
    pub name: String,
    /// The path of the setting: `spec.values.replicaCount`.
    pub path: String,
    /// Its value.
    pub value: Value,
}

/// A party of the war.
#[derive(Clone, Copy, Debug)]
pub struct Party<'a> {
    /// The actor; `account via application` if an account fights itself.
    pub actor: &'a str,
    /// Its role.
    pub role: Role,
    /// The pods whose tokens it used.
    pub pods: &'a [String],
    /// Whether it is a field manager, behind which there may be several accounts.
    pub is_field_manager: bool,
}

/// A contested field, and the values that the parties want.
#[derive(Clone, Debug)]
pub struct ContestedField<'a> {
    /// Its path, in editwar's notation.
    pub path: &'a str,
    /// The parties that wrote it. Empty if that is not known.
    pub actors: Vec<&'a str>,
    /// The values, without redacted and truncated ones.
    pub wanted: Vec<Wanted<'a>>,
    /// Whether there are redacted or truncated values.
    pub has_hidden_values: bool,
    /// Its JSON Pointer in the latest known state of the object, with the indices of items of lists.
    pub pointer: Option<String>,
}

/// A value that a party wants a field to have.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted<'a> {
    /// The party.
    pub actor: &'a str,
    /// The value; `None` if the party removes the field.
    pub value: Option<Value>,
}

/// The controller of an object, from its ownerReferences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// The API version, such as `example.com/v1`.
    pub api_version: String,
    /// The kind.
    pub kind: String,
    /// The name.
    pub name: String,
}

/// A HorizontalPodAutoscaler.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Autoscaler {
    /// Its name.
    pub name: String,
    /// The object that controls it, such as a ScaledObject of KEDA, which would create it again.
    pub owner: Option<Owner>,
}

/// The contexts in the user's kubeconfig by the name of the cluster, which is empty for a cluster without a name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Contexts(pub BTreeMap<String, String>);

/// What a command does.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum RemedyKind {
    /// It ends the war, and can be undone.
    Change,
    /// It changes nothing. It shows what to change elsewhere, such as in a repository.
    Show,
    /// It ends the war, and deletes something.
    Delete,
}

/// One way to end a war.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remedy {
    /// What the command does.
    pub kind: RemedyKind,
    /// A short title.
    pub title: String,
    /// A command that runs as printed.
    pub command: String,
    /// What the command changes or, if it changes nothing, what to do with its output.
    pub changes: String,
    /// What you give up; empty if the command changes nothing.
    pub tradeoff: String,
    /// The command that undoes it, if there is one.
    pub undo: Option<String>,
}

/// Returns remedies of one kind.
type Recipe = fn(&Facts<'_>) -> Vec<Remedy>;

/// The recipes, the best first. All of them are tried.
const RECIPES: &[Recipe] = &[
    runbook::give_up_fields,
    runbook::adopt_values,
    gitops::argo_cd,
    gitops::flux,
    admission::exempt,
    runbook::leave_object,
    people::refuse,
    autoscaler::pause,
    gitops::suspend,
    gitops::source,
    admission::injected,
    admission::flapping,
    program::source,
    program::installations,
    people::agree,
    autoscaler::find,
    autoscaler::delete,
];

/// Returns the JSON Pointer of a field in this state of its object, with the indices of items of lists.
pub fn pointer(path: &str, fields: &Fields) -> Option<String> {
    Location::of(path).pointer_in(fields)
}

/// Returns the remedies for a war, the best first: those that change something, those that show what to change
/// elsewhere, and those that delete something.
pub fn remedies(facts: &Facts<'_>) -> Vec<Remedy> {
    // Events can be forged, and kubectl would parse such a resource as a flag.
    if !is_word(&facts.resource) {
        return Vec::new();
    }
    let mut found: Vec<Remedy> = RECIPES.iter().flat_map(|recipe| recipe(facts)).collect();
    if found.iter().all(|remedy| remedy.kind == RemedyKind::Delete) {
        found.push(program::owners_of_fields(facts));
    }
    found.sort_by_key(|remedy| remedy.kind);
    found
}

// === impl Contexts ===

impl Contexts {
    /// Returns the context of a cluster, if it is known.
    pub fn of(&self, cluster: &str) -> Option<&str> {
        self.0.get(cluster).map(String::as_str)
    }
}

// === impl Remedy ===

impl Remedy {
    /// Returns a remedy that changes nothing.
    fn show(title: String, command: String, what_to_do: String) -> Remedy {
        Remedy { kind: RemedyKind::Show, title, command, changes: what_to_do, tradeoff: String::new(), undo: None }
    }
}

// === impl Party ===

impl Party<'_> {
    /// Returns the name of the account, or of the field manager without its operation.
    fn program(&self) -> &str {
        let name = account(self.actor);
        if self.is_field_manager { name.split_once(" (").map_or(name, |(manager, _)| manager) } else { name }
    }
}

// === impl Facts ===

impl<'a> Facts<'a> {
    /// Returns the first party with one of these roles.
    fn party(&self, is_role: impl Fn(Role) -> bool) -> Option<Party<'a>> {
        self.parties.iter().copied().find(|party| is_role(party.role))
    }

    /// Returns the fields that a party fights over.
    fn fields_of(&self, actor: &str) -> Vec<&ContestedField<'a>> {
        let is_of = |field: &&ContestedField<'_>| field.actors.is_empty() || field.actors.contains(&actor);
        self.fields.iter().filter(is_of).collect()
    }

    /// Returns the only setting of an object whose value is that of a contested field as this party wants it.
    fn setting(&self, actor: &str, kind: &str, name: &str) -> Option<&Setting> {
        let fields = self.fields_of(actor);
        let wanted = fields.iter().flat_map(|field| &field.wanted).filter(|wanted| wanted.actor == actor);
        let wanted: Vec<&Value> = wanted.filter_map(|wanted| wanted.value.as_ref()).collect();
        let is_it = |setting: &&Setting| {
            let is_tag = |wanted: &Value| match (wanted.as_str(), setting.value.as_str()) {
                (Some(image), Some(tag)) => setting.path.ends_with(".tag") && image.ends_with(&format!(":{tag}")),
                _ => false,
            };
            wanted.iter().any(|wanted| **wanted == setting.value || is_tag(wanted))
        };
        let settings = self.settings.iter().filter(|setting| setting.kind == kind && setting.name == name);
        let mut found = settings.filter(is_it);
        found.next().filter(|_| found.next().is_none())
    }

    /// Returns the other parties, joined by `and`.
    fn rivals(&self, actor: &str) -> String {
        let rivals = self.parties.iter().map(|party| party.actor).filter(|other| *other != actor);
        rivals.collect::<Vec<_>>().join(" and ")
    }

    /// Returns the fields of a party as a list for a sentence.
    fn field_names(&self, actor: &str) -> String {
        listed(self.fields_of(actor).iter().map(|field| field.path))
    }

    /// Whether the kind is known. Otherwise it is the name of the resource, which no setting of a tool matches.
    fn is_kind_known(&self) -> bool {
        self.kind.starts_with(|c: char| c.is_ascii_uppercase())
    }

    /// Returns the name of the object for a sentence: `Deployment shop/web`.
    fn title(&self) -> String {
        match self.namespace {
            "" => format!("{} {}", self.kind, self.name),
            namespace => format!("{} {namespace}/{}", self.kind, self.name),
        }
    }
}

/// Number of fields that a sentence names.
const LISTED_MAX: usize = 4;

/// Joins names for a sentence.
fn listed<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<&str> = names.collect();
    match names.len().checked_sub(LISTED_MAX) {
        None | Some(0) => names.join(" and "),
        Some(more) => format!("{} and {more} more fields", names[..LISTED_MAX].join(", ")),
    }
}

/// Returns eight hexadecimal digits that distinguish texts in names of objects.
fn short_hash(text: &str) -> String {
    digest(&SHA256, text.as_bytes()).as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether a text from an event is a word that kubectl cannot parse as a flag: letters, digits, `.` and `-`.
fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-".contains(&b))
}

/// Whether a role is that of a person, or of a tool that a person runs.
fn is_person(role: Role) -> bool {
    matches!(role, Role::Kubectl | Role::Console | Role::Person)
}

/// Returns the locations of fields.
fn locations(fields: &[&ContestedField<'_>]) -> Vec<Location> {
    fields.iter().map(|field| Location::of(field.path)).collect()
}

#[cfg(test)]
#[path = "remedy/tests.rs"]
mod tests;
