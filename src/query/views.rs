//! The stable JSON that `analyze -o json`, the API and the plugin speak, built from object states.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::audit::event::Micros;
use crate::detect::cause::Cause;
use crate::detect::class::{Class, Role};
use crate::detect::fields::{Change, FieldValue, Tier};
use crate::detect::kind;
use crate::detect::object::ObjectState;
use crate::detect::record::Record;
use crate::detect::verdict::{Confidence, State};
use crate::detect::write::{Effect, Part};
use crate::pipeline::Transition;
use crate::pipeline::coverage;
use crate::pipeline::key::ObjectKey;
use crate::pipeline::stats::{Stats, Tallies};

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Report {
    /// Objects that are fought over, the worst first.
    pub wars: Vec<War>,
    /// Objects that are left out because there are more than `limit`, or because the answer would be too large: the least
    /// urgent ones.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub omitted: usize,
    /// Actors that write one object far too often.
    pub hot_loops: Vec<HotLoop>,
    /// Objects whose writers race.
    pub contention: Vec<Contention>,
    /// Writers that admission accepts and refuses alternately.
    pub flapping: Vec<Flapping>,
    /// What actors do together by design, and too often.
    #[serde(default)]
    pub cooperation: Vec<Cooperation>,
    /// Which times and sources this is based on, and how much they tell.
    #[serde(default)]
    pub coverage: Coverage,
    /// Counts.
    pub stats: StatsView,
}

/// What two actors do to a field that both are made to write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cooperation {
    /// On which object.
    pub object: Object,
    /// The name of the row in the table of co-operations.
    pub name: String,
    /// What it is called because it happens too often: `leader flapping`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excess: Option<String>,
    /// Why it is no war.
    pub reason: String,
    /// Who.
    pub actors: Vec<String>,
    /// The fields; `(object)` where the whole object is deleted and created.
    pub fields: Vec<String>,
    /// How often one wrote after the other.
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

/// An object's name, in all its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Object {
    /// The cluster's name, empty where there is only one.
    pub cluster: String,
    /// API group, empty for the core group.
    pub group: String,
    /// Plural resource name.
    pub resource: String,
    /// Kind: from a body, else of the built-in resource, else the resource name.
    pub kind: String,
    /// Namespace, empty where cluster-scoped.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// One object that is fought over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct War {
    /// Which.
    pub object: Object,
    /// Where it stands at the end of the events.
    pub state: State,
    /// How sure that is.
    pub confidence: Confidence,
    /// Why it happens.
    pub cause: Cause,
    /// What speaks for that cause.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub evidence: Vec<String>,
    /// The first write that was taken back.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub since: Micros,
    /// The last retake.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub until: Micros,
    /// When the object was deleted, which ended the war.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "time_option")]
    #[schemars(with = "Option<jiff::Timestamp>")]
    pub deleted: Option<Micros>,
    /// Writes that took something back.
    pub retakes: u32,
    /// Those that brought a former value back.
    pub reversals: u32,
    /// Retakes that found a bucket empty.
    pub thrashing_events: u32,
    /// Retakes per minute, from the first to the last; absent where these are less than a minute apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retakes_per_minute: Option<f64>,
    /// Who fights, the most retakes first.
    pub parties: Vec<Party>,
    /// Over what.
    pub fields: Vec<Field>,
    /// Who else writes the object.
    pub other_writers: Vec<OtherWriter>,
    /// Objects that only follow this war.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependents: Vec<Dependent>,
    /// What to do, the best first.
    pub remedies: Vec<Remedy>,
    /// How to see that it is over.
    #[serde(default)]
    pub verify: String,
}

// === impl Report ===

impl Report {
    /// Adds what was found of other objects.
    pub(super) fn append(&mut self, other: Report) {
        self.wars.extend(other.wars);
        self.hot_loops.extend(other.hot_loops);
        self.contention.extend(other.contention);
        self.flapping.extend(other.flapping);
        self.cooperation.extend(other.cooperation);
    }

    /// Brings the worst wars to the front, and everything else into the order of objects.
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
    /// Whether it is worth an exit code and an alert: it thrashes, and its fields are known. What only may be a war is undecided.
    pub fn is_loud(&self) -> bool {
        self.thrashing_events > 0 && !self.is_undecided()
    }

    /// Whether it cannot be told from co-workers on different fields, for want of bodies in the log.
    pub fn is_undecided(&self) -> bool {
        self.confidence == Confidence::Possible
    }

    /// How often something was taken back: `12.5/min`, or `14 in 1 s` within a minute.
    pub fn rate(&self) -> String {
        rate(self.retakes, self.since, self.until, self.retakes_per_minute)
    }
}

// === impl HotLoop ===

impl HotLoop {
    /// How often it writes: `120/min`, or `90 in 4 s` within a minute.
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

/// One side of a war, or any actor of an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Party {
    /// Who: the effective user; `account via tool` where one account fights itself.
    pub actor: String,
    /// What kind of actor that is.
    pub class: Class,
    /// What it does for a living.
    pub role: Role,
    /// Its writes that changed the object.
    pub writes: u32,
    /// Its writes that changed nothing.
    #[serde(default)]
    pub no_ops: u32,
    /// Its retakes.
    pub retakes: u32,
    /// Its thrashing events.
    pub thrashing_events: u32,
    /// Writes by verb.
    pub verbs: BTreeMap<String, u32>,
    /// Field managers, given or derived as the API server does.
    pub field_managers: Vec<String>,
    /// User agents.
    pub user_agents: Vec<String>,
    /// Addresses.
    pub source_ips: Vec<String>,
    /// Pods whose tokens it used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pods: Vec<String>,
    /// Accounts that impersonated it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub impersonated_by: Vec<String>,
    /// Its first write.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub first: Micros,
    /// Its last write.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub last: Micros,
}

/// A contested field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Field {
    /// Its path; `(object)` where the whole object is deleted and created alternately, `(main)` or `(status)` where the
    /// fields are not known.
    pub path: String,
    /// Writes that took it back.
    pub retakes: u32,
    /// The values it was given, the most frequent first.
    pub values: Vec<Value>,
}

/// A value that somebody gave to a field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Value {
    /// The value; cut where long, null where absent or redacted.
    pub value: serde_json::Value,
    /// The field was removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
    /// There is a value that is not shown: a Secret's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub redacted: bool,
    /// Only the beginning is shown: the value is long.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cut: bool,
    /// By whom.
    pub actor: String,
    /// How often.
    pub count: u32,
}

/// Somebody who writes the object without being a party.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OtherWriter {
    /// Who.
    pub actor: String,
    /// What kind of actor.
    pub class: Class,
    /// Its writes.
    pub writes: u32,
}

/// An object that one actor writes because its owner is fought over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Dependent {
    /// Which.
    pub object: Object,
    /// Who writes it.
    pub actor: String,
    /// How often.
    pub writes: u32,
}

/// One way to end a war.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Remedy {
    /// The runbook's option: A disable, B unmanaged, C customise, D fix the webhook.
    pub option: String,
    /// In a few words.
    pub title: String,
    /// A command that runs as printed.
    pub command: String,
    /// What it changes.
    #[serde(default)]
    pub changes: String,
    /// What is given up by it.
    #[serde(default)]
    pub tradeoff: String,
}

/// Which times and sources something is based on, and how much these tell.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Coverage {
    /// Files, or addresses of API servers.
    pub sources: Vec<SourceView>,
    /// The first event of any.
    #[serde(with = "time_option")]
    #[schemars(with = "Option<jiff::Timestamp>")]
    pub first: Option<Micros>,
    /// The last event of any.
    #[serde(with = "time_option")]
    #[schemars(with = "Option<jiff::Timestamp>")]
    pub last: Option<Micros>,
    /// Times in which no source has any event.
    pub gaps: Vec<Gap>,
    /// Requests for writes by audit level.
    pub levels: Levels,
    /// Requests whose bodies kube-apiserver cut off, though their level has bodies.
    pub truncated: u64,
    /// Sources with writes whose time cannot be right.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wrong_clocks: Vec<WrongClock>,
}

/// A source with writes whose time cannot be right. They count as of when they came; of a log, as of the latest time before
/// them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WrongClock {
    /// A file, or the address of an API server.
    pub source: String,
    /// Writes dated further in the future than clocks may differ (`bounds.clock_skew`).
    pub future: u64,
    /// Writes dated before what is kept (`journal.retention`), among events of today.
    pub long_ago: u64,
}

/// What was seen of one source.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SourceView {
    /// A file, or the address of an API server, behind its cluster's name.
    pub source: String,
    /// Its first event.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub first: Micros,
    /// Its last event.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub last: Micros,
    /// Times in which it has no event.
    pub gaps: Vec<Gap>,
}

/// A time without events, of reads neither.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Gap {
    /// The last event before it.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub from: Micros,
    /// The first event after it.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub to: Micros,
}

/// Requests for writes by audit level.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Levels {
    /// Without bodies: fields are not known.
    pub metadata: u64,
    /// With the request's body: what was asked for is known.
    pub request: u64,
    /// With both bodies: what changed is known.
    pub request_response: u64,
}

/// One actor that writes one object far too often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HotLoop {
    /// The object.
    pub object: Object,
    /// Who.
    pub actor: String,
    /// Its writes that changed something.
    pub writes: u32,
    /// Its writes that changed nothing.
    pub no_ops: u32,
    /// Requests per minute; absent where the first and the last are less than a minute apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<f64>,
    /// First of them.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub since: Micros,
    /// Last of them.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub until: Micros,
}

/// An object whose writers race.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Contention {
    /// The object.
    pub object: Object,
    /// 409s on stale resourceVersions.
    pub stale: u32,
    /// 409s of applies that may not take a field over.
    pub apply_conflicts: u32,
    /// Who fails how often, and writes how often.
    pub parties: Vec<Contender>,
    /// First conflict.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub since: Micros,
    /// Last conflict.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub until: Micros,
}

/// One racing writer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Contender {
    /// Who.
    pub actor: String,
    /// Its 409s.
    pub conflicts: u32,
    /// Its writes.
    pub writes: u32,
}

/// A writer whose requests admission accepts and refuses alternately.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Flapping {
    /// The object.
    pub object: Object,
    /// Whose requests.
    pub actor: String,
    /// Which webhook or policy refuses.
    pub by: String,
    /// Its last words.
    pub message: String,
    /// Accepted requests since the first refusal.
    pub accepted: u32,
    /// Refused requests.
    pub rejected: u32,
    /// How often one followed the other.
    pub alternations: u32,
    /// First refusal.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub since: Micros,
    /// Last refusal.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub until: Micros,
}

/// Counts, and the time they cover.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StatsView {
    /// Counts.
    #[serde(flatten)]
    pub tallies: Tallies,
    /// First write seen.
    #[serde(with = "time_option")]
    #[schemars(with = "Option<jiff::Timestamp>")]
    pub first: Option<Micros>,
    /// Last write seen.
    #[serde(with = "time_option")]
    #[schemars(with = "Option<jiff::Timestamp>")]
    pub last: Option<Micros>,
}

/// Who takes part in one object, and what they did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Participants {
    /// Which object.
    pub object: Object,
    /// Where it stands.
    pub state: State,
    /// The wars over it, the worst first: one for each group of fields that the same parties fight over.
    pub wars: Vec<War>,
    /// What its actors do together by design.
    #[serde(default)]
    pub cooperation: Vec<Cooperation>,
    /// Everyone who wrote it, parties first.
    pub actors: Vec<Party>,
    /// The writes, in order, as far as they are kept.
    pub timeline: Vec<Moment>,
    /// From when on every write is here, where the journal was asked.
    #[serde(default, with = "time_option", skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<jiff::Timestamp>")]
    pub complete_since: Option<Micros>,
    /// How the verdict changed, where the journal was asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub transitions: Vec<TransitionView>,
    /// Which times and sources this is based on.
    #[serde(default)]
    pub coverage: Coverage,
}

/// One change of a verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TransitionView {
    /// When.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub at: Micros,
    /// On which object.
    pub object: Object,
    /// From which state.
    pub from: State,
    /// To which state.
    pub to: State,
}

/// How verdicts changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Transitions {
    /// Each change, in order.
    pub transitions: Vec<TransitionView>,
    /// From when on every change is here.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub complete_since: Micros,
}

/// One write of an object's timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Moment {
    /// When.
    #[serde(with = "time")]
    #[schemars(with = "jiff::Timestamp")]
    pub at: Micros,
    /// Who.
    pub actor: String,
    /// With what.
    pub tool: String,
    /// How.
    pub verb: String,
    /// `main` or `status`.
    pub part: String,
    /// `create`, `modify` or `delete`.
    pub effect: String,
    /// Whether its fields are known.
    pub fields_known: bool,
    /// What it changed.
    pub changes: Vec<ChangeView>,
}

/// One field of one write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ChangeView {
    /// Which field.
    pub path: String,
    /// Before; null where it was absent, is redacted or is not known.
    pub old: serde_json::Value,
    /// After; null where removed or redacted.
    pub new: serde_json::Value,
}

/// Which objects a report is about.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only this namespace.
    pub namespace: Option<String>,
    /// Only this kind, as people type it.
    pub kind: Option<String>,
    /// Only this name.
    pub name: Option<String>,
    /// Only this cluster.
    pub cluster: Option<String>,
    /// Only wars with a party whose name contains this.
    pub actor: Option<String>,
    /// Contested objects too, not only those that thrashed.
    pub all: bool,
    /// The most objects to tell of; all, where there is no limit.
    pub limit: Option<usize>,
    /// Bytes of JSON, roughly, after which no further object is told of; any number, where there is no limit.
    pub bytes_max: Option<usize>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}

// === impl Filter ===

impl Filter {
    /// Whether the filter means an object of which nothing but its name is known.
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
                .is_none_or(|typed| kind::is_meant(typed, &object.group, &object.resource, &object.kind))
    }

    pub(super) fn is_actor<'a>(&self, mut actors: impl Iterator<Item = &'a str>) -> bool {
        self.actor.as_deref().is_none_or(|wanted| actors.any(|actor| actor.contains(wanted)))
    }
}

// === impl Object ===

impl Object {
    /// The name of an object, with its kind as well as it is known.
    pub fn of(key: &ObjectKey, state: &ObjectState) -> Object {
        Object::named(key, state.kind().map(AsRef::as_ref))
    }

    fn named(key: &ObjectKey, kind: Option<&str>) -> Object {
        let name = key.object();
        let kind = kind.or(kind::built_in(name.group, name.resource));
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

// === impl Moment ===

impl Moment {
    pub(super) fn of(record: &Record) -> Moment {
        Moment {
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
            fields_known: record.tier > Tier::Object,
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
        StatsView { tallies: stats.tallies, first: stats.span.map(|s| s.0), last: stats.span.map(|s| s.1) }
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

/// A value as JSON; a cut one as text.
pub(super) fn json_of(value: &Option<FieldValue>) -> serde_json::Value {
    let Some(text) = value.as_ref().and_then(FieldValue::text) else { return serde_json::Value::Null };
    let cut = || {
        // The beginning of a string: its closing quote was cut off.
        let whole = text.strip_prefix('"').map(|_| format!("{text}\""));
        whole.and_then(|whole| serde_json::from_str(&whole).ok()).unwrap_or_else(|| text.into())
    };
    serde_json::from_str(text).unwrap_or_else(|_| cut())
}

/// Whether only the beginning of a value is shown.
pub(super) fn is_cut(value: &Option<FieldValue>) -> bool {
    let text = value.as_ref().and_then(FieldValue::text);
    text.is_some_and(|text| text.ends_with('…') && serde_json::from_str::<serde_json::Value>(text).is_err())
}

/// Times as RFC 3339.
pub mod time {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::audit::event::{Micros, parse_timestamp};

    /// The text of a time, with as many digits as it needs.
    pub fn text(at: Micros) -> String {
        jiff::Timestamp::from_microsecond(at).map_or_else(|_| at.to_string(), |t| t.to_string())
    }

    /// Writes a time.
    pub fn serialize<S: Serializer>(at: &Micros, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&text(*at))
    }

    /// Reads a time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Micros, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse_timestamp(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("expected an RFC 3339 time, got \"{text}\"")))
    }
}

/// Times as RFC 3339, or null.
pub mod time_option {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::audit::event::{Micros, parse_timestamp};

    /// Writes a time.
    pub fn serialize<S: Serializer>(at: &Option<Micros>, serializer: S) -> Result<S::Ok, S::Error> {
        at.map(super::time::text).serialize(serializer)
    }

    /// Reads a time.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Micros>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.and_then(|text| parse_timestamp(&text)))
    }
}
