//! The types of the stable JSON that `analyze -o json`, the API and the plugin use, built from the states of objects.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::audit::event::Micros;
use crate::detect::actor_class::{ActorClass, Role};
use crate::detect::cause::Cause;
use crate::detect::fields::{Change, EvidenceLevel, FieldValue};
use crate::detect::object::ObjectState;
use crate::detect::record::Record;
use crate::detect::resource_kind;
use crate::detect::verdict::{Confidence, State};
use crate::detect::write::{Effect, Part};
use crate::pipeline::Transition;
use crate::pipeline::coverage;
use crate::pipeline::key::ObjectKey;
use crate::pipeline::stats::{Counters, Stats};

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Objects that are fought over, the worst first.
    pub wars: Vec<War>,
    /// Number of objects, the least urgent ones, that are left out because of `limit` or because the answer would be
    /// too large.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: usize,
    /// Actors that write one object far too often.
    pub hot_loops: Vec<HotLoop>,
    /// Objects that several clients write at the same time, so that requests fail with conflicts.
    pub contention: Vec<Contention>,
    /// Writers whose requests admission alternately accepts and rejects.
    pub flapping: Vec<Flapping>,
    /// Co-operations that happen too often.
    #[serde(default)]
    pub cooperation: Vec<Cooperation>,
    /// The times and sources that the report is based on, and their audit levels.
    #[serde(default)]
    pub coverage: Coverage,
    /// Counts of events and requests.
    pub stats: StatsView,
}

/// Actors that write the same field, or delete and create the same object, by design.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cooperation {
    /// The object.
    pub object: Object,
    /// The name of the mechanism, or of the row in the table of co-operations.
    pub name: String,
    /// What it is called if it happens too often, such as `leader flapping`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excess: Option<String>,
    /// Why it is not a war.
    pub reason: String,
    /// The actors.
    pub actors: Vec<String>,
    /// The fields; `(object)` if the whole object is deleted and created.
    pub fields: Vec<String>,
    /// How often one actor wrote after the other.
    pub times: u32,
    /// The first time.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub since: Micros,
    /// The last time.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub until: Micros,
}

/// The full name of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Object {
    /// The cluster's name; empty if there is only one cluster.
    pub cluster: String,
    /// The API group; empty for the core group.
    pub group: String,
    /// The plural resource name.
    pub resource: String,
    /// The kind: from a body, or that of the built-in resource, or the resource name.
    pub kind: String,
    /// The namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// The name.
    pub name: String,
}

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
    /// The time of the first write that was taken back.
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

// === impl Report ===

impl Report {
    /// Adds the findings of another report, but not its counts.
    pub(super) fn append(&mut self, other: Report) {
        self.wars.extend(other.wars);
        self.hot_loops.extend(other.hot_loops);
        self.contention.extend(other.contention);
        self.flapping.extend(other.flapping);
        self.cooperation.extend(other.cooperation);
    }

    /// Sorts wars by severity, and everything else by object.
    pub(super) fn sort(&mut self) {
        self.wars.sort_by(|a, b| {
            let rank = |w: &War| (w.confidence, w.thrashing_events, w.retakes);
            rank(b).cmp(&rank(a)).then_with(|| a.object.cmp(&b.object))
        });
        self.hot_loops.sort_by(|a, b| a.object.cmp(&b.object));
        self.contention.sort_by(|a, b| a.object.cmp(&b.object));
        self.flapping.sort_by(|a, b| a.object.cmp(&b.object));
        self.cooperation.sort_by(|a, b| a.object.cmp(&b.object));
    }
}

// === impl War ===

impl War {
    /// Whether the war deserves an exit code and an alert: it thrashes and is not undecided.
    pub fn is_loud(&self) -> bool {
        self.thrashing_events > 0 && !self.is_undecided()
    }

    /// Whether it could be co-operation on different fields, because the log has no bodies.
    pub fn is_undecided(&self) -> bool {
        !self.confidence.is_decided()
    }

    /// Returns the rate of the retakes: `12.5/min`, or `14 in 1 s` if they are less than a minute apart.
    pub fn rate(&self) -> String {
        rate(self.retakes, self.since, self.until, self.retakes_per_minute)
    }
}

// === impl HotLoop ===

impl HotLoop {
    /// Returns the rate of the requests: `120/min`, or `90 in 4 s` if they are less than a minute apart.
    pub fn rate(&self) -> String {
        rate(self.writes + self.no_ops, self.since, self.until, self.per_minute)
    }
}

fn rate(count: u32, first: Micros, last: Micros, per_minute: Option<f64>) -> String {
    match per_minute {
        Some(rate) => format!("{rate}/min"),
        None => format!("{count} in {} s", (last - first).max(0) / 1_000_000 + 1),
    }
}

/// A party of a war, or another actor of an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Party {
    /// The effective user; `account via tool` if an account fights itself.
    pub actor: String,
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
    /// The option of the runbook: A disable, B unmanaged, C customise, D fix the webhook.
    pub option: String,
    /// A short title.
    pub title: String,
    /// A command that runs as printed.
    pub command: String,
    /// What the command changes.
    #[serde(default)]
    pub changes: String,
    /// What you give up.
    #[serde(default)]
    pub tradeoff: String,
}

/// The times and sources that an answer is based on, and their audit levels.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Coverage {
    /// Files, or addresses of API servers.
    pub sources: Vec<SourceView>,
    /// The time of the first event of any source.
    #[serde(with = "time_option")]
    #[schemars(with = "Option<jiff::Timestamp>")]
    pub first: Option<Micros>,
    /// The time of the last event of any source.
    #[serde(with = "time_option")]
    #[schemars(with = "Option<jiff::Timestamp>")]
    pub last: Option<Micros>,
    /// Times in which no source has any event.
    pub gaps: Vec<Gap>,
    /// Requests for writes by audit level.
    pub levels: Levels,
    /// Requests whose bodies kube-apiserver truncated, although their level includes bodies.
    pub truncated: u64,
    /// Sources with writes whose times are implausible.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wrong_clocks: Vec<WrongClock>,
}

/// A source with writes whose times are implausible. Live, such a write counts with its time of arrival; in a log, with
/// the latest time before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WrongClock {
    /// A file, or the address of an API server.
    pub source: String,
    /// Writes dated further in the future than clocks may differ (`bounds.max_clock_skew`).
    pub future: u64,
    /// Writes older than what is kept (`journal.retention`), in a cluster with more recent events.
    pub long_ago: u64,
}

/// The events of one source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SourceView {
    /// A file, or the address of an API server, with the cluster's name before it.
    pub source: String,
    /// The time of its first event.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub first: Micros,
    /// The time of its last event.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub last: Micros,
    /// Times in which it has no event.
    pub gaps: Vec<Gap>,
}

/// A time without events. Reads count as events.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// The time of the last event before it.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub from: Micros,
    /// The time of the first event after it.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub to: Micros,
}

/// Requests for writes by audit level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Levels {
    /// Events without bodies: fields are not known.
    pub metadata: u64,
    /// Events with the body of the request: the requested fields are known.
    pub request: u64,
    /// Events with both bodies: the changes are known.
    pub request_response: u64,
}

/// An actor that writes one object far too often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HotLoop {
    /// The object.
    pub object: Object,
    /// The actor.
    pub actor: String,
    /// Its writes that changed the object.
    pub writes: u32,
    /// Its requests that changed nothing.
    pub no_ops: u32,
    /// Requests per minute; absent if the first and the last are less than a minute apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<f64>,
    /// The time of the first request.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub since: Micros,
    /// The time of the last request.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub until: Micros,
}

/// An object that several clients write at the same time, so that requests fail with conflicts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Contention {
    /// The object.
    pub object: Object,
    /// 409s because of a stale resourceVersion.
    pub stale: u32,
    /// 409s of server-side applies to fields that another manager owns.
    pub apply_conflicts: u32,
    /// The clients, with their conflicts and writes.
    pub parties: Vec<Contender>,
    /// The time of the first conflict.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub since: Micros,
    /// The time of the last conflict.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub until: Micros,
}

/// A client whose requests conflict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Contender {
    /// The actor.
    pub actor: String,
    /// Its 409s.
    pub conflicts: u32,
    /// Its writes.
    pub writes: u32,
}

/// A writer whose requests admission alternately accepts and rejects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Flapping {
    /// The object.
    pub object: Object,
    /// The actor whose requests these are.
    pub actor: String,
    /// The webhook or policy that rejects them.
    pub by: String,
    /// The latest message with which it rejected a request.
    pub message: String,
    /// Requests that were accepted since the first rejection.
    pub accepted: u32,
    /// Requests that were rejected.
    pub rejected: u32,
    /// How often an accepted request followed a rejected one, or the reverse.
    pub alternations: u32,
    /// The time of the first rejection.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub since: Micros,
    /// The time of the last rejection.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub until: Micros,
}

/// Counts, and the time that they cover.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatsView {
    /// Counts of events and requests.
    #[serde(flatten)]
    pub counters: Counters,
    /// The time of the first write.
    #[serde(with = "time_option")]
    #[schemars(with = "Option<jiff::Timestamp>")]
    pub first: Option<Micros>,
    /// The time of the last write.
    #[serde(with = "time_option")]
    #[schemars(with = "Option<jiff::Timestamp>")]
    pub last: Option<Micros>,
}

/// The actors of one object, its wars and its writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Participants {
    /// The object.
    pub object: Object,
    /// The state of its worst war.
    pub state: State,
    /// The wars over it, the worst first: one for each group of fields with the same parties.
    pub wars: Vec<War>,
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
    /// The value after; null if it was removed or is redacted.
    pub new: serde_json::Value,
}

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
    /// Include contested objects, not only those with thrashing events.
    pub all: bool,
    /// Maximum number of objects.
    pub limit: Option<usize>,
    /// Approximate number of bytes of JSON after which no more objects are added.
    pub bytes_max: Option<usize>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

// === impl Filter ===

impl Filter {
    /// Whether an object matches if only its name is known.
    pub(super) fn is_name(&self, key: &ObjectKey) -> bool {
        self.is_object(&Object::named(key, None))
    }

    pub(super) fn is_object(&self, object: &Object) -> bool {
        let is = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
        is(&self.namespace, &object.namespace)
            && is(&self.name, &object.name)
            && is(&self.cluster, &object.cluster)
            && self
                .kind
                .as_deref()
                .is_none_or(|typed| resource_kind::matches_input(typed, &object.group, &object.resource, &object.kind))
    }

    pub(super) fn is_actor<'a>(&self, mut actors: impl Iterator<Item = &'a str>) -> bool {
        self.actor.as_deref().is_none_or(|wanted| actors.any(|actor| actor.contains(wanted)))
    }
}

// === impl Object ===

impl Object {
    /// Returns the name of an object, with the best known kind.
    pub fn of(key: &ObjectKey, state: &ObjectState) -> Object {
        Object::named(key, state.kind().map(AsRef::as_ref))
    }

    fn named(key: &ObjectKey, kind: Option<&str>) -> Object {
        let name = key.object();
        let kind = kind.or(resource_kind::built_in(name.group, name.resource));
        Object {
            cluster: key.cluster().into(),
            group: name.group.into(),
            resource: name.resource.into(),
            kind: kind.unwrap_or(name.resource).into(),
            namespace: name.namespace.into(),
            name: name.name.into(),
        }
    }
}

// === impl TransitionView ===

impl TransitionView {
    pub(super) fn of(transition: &Transition) -> TransitionView {
        TransitionView {
            at: transition.at,
            object: Object::named(&transition.object, None),
            from: transition.from,
            to: transition.to,
        }
    }
}

// === impl TimelineEntry ===

impl TimelineEntry {
    pub(super) fn of(record: &Record) -> TimelineEntry {
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
        ChangeView { path: change.path.to_string(), old: json_of(&change.old), new: json_of(&change.new) }
    }
}

// === impl StatsView ===

impl From<&Stats> for StatsView {
    fn from(stats: &Stats) -> StatsView {
        StatsView { counters: stats.counters, first: stats.span.map(|s| s.0), last: stats.span.map(|s| s.1) }
    }
}

// === impl Coverage ===

impl From<&Stats> for Coverage {
    fn from(stats: &Stats) -> Coverage {
        let gaps = |spans: &coverage::Spans| spans.gaps().map(|(from, to)| Gap { from, to }).collect();
        let source = |(name, spans): (&str, &coverage::Spans)| {
            let (first, last) = spans.ends()?;
            Some(SourceView { source: name.to_owned(), first, last, gaps: gaps(spans) })
        };
        let wrong_clock = |(source, doubts): (&str, coverage::Doubts)| WrongClock {
            source: source.to_owned(),
            future: doubts.future,
            long_ago: doubts.long_ago,
        };
        let all = stats.coverage.all();
        let [metadata, request, request_response] = stats.levels;
        Coverage {
            sources: stats.coverage.sources().filter_map(source).collect(),
            first: all.ends().map(|(first, _)| first),
            last: all.ends().map(|(_, last)| last),
            gaps: gaps(&all),
            levels: Levels { metadata, request, request_response },
            truncated: stats.truncated,
            wrong_clocks: stats.coverage.doubts().map(wrong_clock).collect(),
        }
    }
}

/// Returns a value as JSON. A truncated value that is not a string becomes a string.
pub(super) fn json_of(value: &Option<FieldValue>) -> serde_json::Value {
    let Some(text) = value.as_ref().and_then(FieldValue::text) else { return serde_json::Value::Null };
    let cut = || {
        // For a truncated string: add the closing quote.
        let whole = text.strip_prefix('"').map(|_| format!("{text}\""));
        whole.and_then(|whole| serde_json::from_str(&whole).ok()).unwrap_or_else(|| text.into())
    };
    serde_json::from_str(text).unwrap_or_else(|_| cut())
}

/// Whether a value is truncated.
pub(super) fn is_cut(value: &Option<FieldValue>) -> bool {
    let text = value.as_ref().and_then(FieldValue::text);
    text.is_some_and(|text| text.ends_with('…') && serde_json::from_str::<serde_json::Value>(text).is_err())
}

/// Serialises times as RFC 3339.
pub mod time {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::audit::event::{Micros, parse_timestamp};

    /// Formats a time, with only as many decimals as necessary.
    pub fn text(at: Micros) -> String {
        jiff::Timestamp::from_microsecond(at).map_or_else(|_| at.to_string(), |t| t.to_string())
    }

    /// Serialises a time.
    pub fn serialize<S: Serializer>(at: &Micros, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(*at))
    }

    /// Deserialises a time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Micros, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_timestamp(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("expected an RFC 3339 time, got \"{text}\"")))
    }
}

/// Serialises times as RFC 3339, or null.
pub mod time_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::audit::event::{Micros, parse_timestamp};

    /// Serialises a time, or null.
    pub fn serialize<S: Serializer>(at: &Option<Micros>, serializer: S) -> Result<S::Ok, S::Error> {
        at.map(super::time::text).serialize(serializer)
    }

    /// Deserialises a time, or null.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Micros>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.and_then(|text| parse_timestamp(&text)))
    }
}
