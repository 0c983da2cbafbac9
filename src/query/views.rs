//! The stable JSON that `analyze -o json`, the API and the plugin speak, built from object states.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::audit::event::Micros;
use crate::detect::actor::Client;
use crate::detect::cause::{Cause, Symptoms, cause};
use crate::detect::class::{Class, Classes, Role};
use crate::detect::contest::{FieldState, Findings, Record, ValueSeen};
use crate::detect::fields::{Change, FieldValue};
use crate::detect::kind;
use crate::detect::object::ObjectState;
use crate::detect::policy::Limits;
use crate::detect::seen::Seen;
use crate::detect::trouble::Trouble;
use crate::detect::verdict::{Confidence, State};
use crate::detect::write::{Effect, Part};
use crate::pipeline::Pipeline;
use crate::pipeline::stats::{Stats, Tallies};
use crate::pipeline::table::ObjectKey;

/// Everything that was found.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Objects that are fought over, the worst first.
    pub wars: Vec<War>,
    /// Actors that write one object far too often.
    pub hot_loops: Vec<HotLoop>,
    /// Objects whose writers race.
    pub contention: Vec<Contention>,
    /// Writers that admission accepts and refuses in turns.
    pub flapping: Vec<Flapping>,
    /// What this is based on.
    pub stats: StatsView,
}

/// An object's name, in all its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    pub since: Micros,
    /// The last retake.
    #[serde(with = "time")]
    pub until: Micros,
    /// Writes that took something back.
    pub retakes: u32,
    /// Those that brought a former value back.
    pub reversals: u32,
    /// Retakes that found a bucket empty.
    pub thrashing_events: u32,
    /// Retakes per minute, from the first to the last.
    pub retakes_per_minute: f64,
    /// Who fights, the most retakes first.
    pub parties: Vec<Party>,
    /// Over what.
    pub fields: Vec<Field>,
    /// Who else writes the object.
    pub bystanders: Vec<Bystander>,
    /// Objects that only follow this war.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub echoes: Vec<Echo>,
    /// What to do, the best first.
    pub remedies: Vec<Remedy>,
}

/// One side of a war, or any actor of an object.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    pub first: Micros,
    /// Its last write.
    #[serde(with = "time")]
    pub last: Micros,
}

/// A contested field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Field {
    /// Its path; `(object)` where the whole object is deleted and created in turns, `(main)` or `(status)` where the
    /// fields are not known.
    pub path: String,
    /// Writes that took it back.
    pub retakes: u32,
    /// The values it was given, the most frequent first.
    pub values: Vec<Value>,
}

/// A value that somebody gave to a field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Value {
    /// The value; cut where long, null where absent or hidden.
    pub value: serde_json::Value,
    /// The field was removed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub absent: bool,
    /// There is a value that is not shown: a Secret's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub hidden: bool,
    /// By whom.
    pub actor: String,
    /// How often.
    pub count: u32,
}

/// Somebody who writes the object without being a party.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bystander {
    /// Who.
    pub actor: String,
    /// What kind of actor.
    pub class: Class,
    /// Its writes.
    pub writes: u32,
}

/// An object that one actor writes because its owner is fought over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Echo {
    /// Which.
    pub object: Object,
    /// Who writes it.
    pub actor: String,
    /// How often.
    pub writes: u32,
}

/// One way to end a war.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Remedy {
    /// The runbook's option: A disable, B unmanaged, C customise, D fix the webhook.
    pub option: String,
    /// In a few words.
    pub title: String,
    /// A command that runs as printed.
    pub command: String,
}

/// One actor that writes one object far too often.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HotLoop {
    /// The object.
    pub object: Object,
    /// Who.
    pub actor: String,
    /// Its writes that changed something.
    pub writes: u32,
    /// Its writes that changed nothing.
    pub no_ops: u32,
    /// Writes of both kinds per minute.
    pub per_minute: f64,
    /// First of them.
    #[serde(with = "time")]
    pub since: Micros,
    /// Last of them.
    #[serde(with = "time")]
    pub until: Micros,
}

/// An object whose writers race.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    pub since: Micros,
    /// Last conflict.
    #[serde(with = "time")]
    pub until: Micros,
}

/// One racing writer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contender {
    /// Who.
    pub actor: String,
    /// Its 409s.
    pub conflicts: u32,
    /// Its writes.
    pub writes: u32,
}

/// A writer whose requests admission accepts and refuses in turns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    pub turns: u32,
    /// First refusal.
    #[serde(with = "time")]
    pub since: Micros,
    /// Last refusal.
    #[serde(with = "time")]
    pub until: Micros,
}

/// Counts, and the time they cover.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StatsView {
    /// Counts.
    #[serde(flatten)]
    pub tallies: Tallies,
    /// First write seen.
    #[serde(with = "time_option")]
    pub first: Option<Micros>,
    /// Last write seen.
    #[serde(with = "time_option")]
    pub last: Option<Micros>,
}

/// Who takes part in one object, and what they did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Participants {
    /// Which object.
    pub object: Object,
    /// Where it stands.
    pub state: State,
    /// The war, if there is one.
    pub war: Option<War>,
    /// Everyone who wrote it, parties first.
    pub actors: Vec<Party>,
    /// The writes, in order, as far as they are kept.
    pub timeline: Vec<Moment>,
}

/// One write of an object's timeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Moment {
    /// When.
    #[serde(with = "time")]
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChangeView {
    /// Which field.
    pub path: String,
    /// Before; null where it was absent, is hidden or is not known.
    pub old: serde_json::Value,
    /// After; null where removed or hidden.
    pub new: serde_json::Value,
}

/// Writes from which on an owned object's writer follows a war, and does not only happen to write.
const ECHO_WRITES_MIN: u32 = 6;

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
}

/// What everything is looked at with.
#[derive(Clone, Copy, Debug)]
pub struct Lens<'a> {
    /// The pipeline whose objects are looked at.
    pub pipeline: &'a Pipeline,
    /// What actors are.
    pub classes: &'a Classes,
    /// The time up to which verdicts have moved on.
    pub now: Micros,
}

// === impl Filter ===

impl Filter {
    fn is_object(&self, object: &Object) -> bool {
        let is = |wanted: &Option<String>, is: &str| wanted.as_deref().is_none_or(|w| w == is);
        is(&self.namespace, &object.namespace)
            && is(&self.name, &object.name)
            && is(&self.cluster, &object.cluster)
            && self
                .kind
                .as_deref()
                .is_none_or(|typed| kind::is_meant(typed, &object.group, &object.resource, &object.kind))
    }

    fn is_actor<'a>(&self, mut actors: impl Iterator<Item = &'a str>) -> bool {
        self.actor.as_deref().is_none_or(|wanted| actors.any(|actor| actor.contains(wanted)))
    }
}

// === impl Lens ===

impl<'a> Lens<'a> {
    /// Looks at a pipeline as of the latest event.
    pub fn at_latest(pipeline: &'a Pipeline, classes: &'a Classes) -> Lens<'a> {
        Lens { pipeline, classes, now: pipeline.latest().unwrap_or(0) }
    }

    /// Everything that was found about the objects that the filter lets through.
    pub fn report(&self, filter: &Filter) -> Report {
        let mut report = Report { stats: StatsView::from(&self.pipeline.stats()), ..Report::default() };
        for key in self.pipeline.table().notable() {
            let Some(limits) = self.pipeline.policy().limits(&key.object()) else { continue };
            self.pipeline.table().with_at(&key, self.now, limits, |state| {
                let object = Object::of(&key, state);
                if filter.is_object(&object) {
                    self.add(&mut report, &object, state, limits, filter);
                }
            });
        }
        self.add_echoes(report.wars.iter_mut());
        report.wars.sort_by(|a, b| {
            let rank = |w: &War| (w.confidence, w.thrashing_events, w.retakes);
            rank(b).cmp(&rank(a)).then_with(|| a.object.cmp(&b.object))
        });
        report
    }

    /// The war over one object, contested or worse.
    pub fn war(&self, key: &ObjectKey) -> Option<War> {
        let limits = self.pipeline.policy().limits(&key.object())?;
        let look = |state: &ObjectState| self.war_of(&Object::of(key, state), state, limits);
        let mut war = self.pipeline.table().with_at(key, self.now, limits, look)??;
        self.add_echoes(std::iter::once(&mut war));
        Some(war)
    }

    /// Who takes part in one object.
    pub fn participants(&self, key: &ObjectKey) -> Option<Participants> {
        let limits = self.pipeline.policy().limits(&key.object())?;
        let mut found = self.pipeline.table().with_at(key, self.now, limits, |state| {
            let object = Object::of(key, state);
            let war = self.war_of(&object, state, limits);
            let mut actors = war.as_ref().map_or_else(Vec::new, |w| w.parties.clone());
            for seen in state.seen() {
                let is_listed = |p: &Party| is_party(&p.actor, seen);
                if !actors.iter().any(is_listed) {
                    actors.push(self.party(&seen.client.actor, state, None));
                }
            }
            let history = state.contest().into_iter().flat_map(|c| c.history());
            Participants {
                state: war.as_ref().map_or(State::Calm, |w| w.state),
                object,
                war,
                actors,
                timeline: history.map(Moment::of).collect(),
            }
        })?;
        self.add_echoes(found.war.iter_mut());
        Some(found)
    }

    /// The participants of the one object that the filter means.
    ///
    /// # Errors
    /// Why it means none, or which several, in words.
    pub fn find(&self, filter: &Filter) -> Result<Participants, String> {
        let is_meant = |key: &ObjectKey, state: &ObjectState| filter.is_object(&Object::of(key, state));
        let keys = self.pipeline.table().keys(is_meant);
        match keys.as_slice() {
            [key] => self.participants(key).ok_or_else(|| "it is left out by the configuration".to_owned()),
            [] => {
                let events = self.pipeline.stats().tallies.events;
                let place = filter.namespace.as_ref().map(|n| format!(" in namespace {n}")).unwrap_or_default();
                Err(format!("none of {events} events is about such an object{place}"))
            }
            several => {
                let names: Vec<String> = several.iter().take(10).map(typed).collect();
                Err(format!("several objects are meant, name one: {}", names.join("; ")))
            }
        }
    }

    fn add(&self, report: &mut Report, object: &Object, state: &ObjectState, limits: &Limits, filter: &Filter) {
        if let Some(war) = self.war_of(object, state, limits) {
            let thrashed = war.thrashing_events > 0;
            if (thrashed || filter.all) && filter.is_actor(war.parties.iter().map(|p| p.actor.as_str())) {
                report.wars.push(war);
            }
        }
        for seen in state.seen().iter().filter(|s| s.is_hot(limits)) {
            let (first, last) = (seen.span(state.base()).0, state.last_at());
            let count = seen.writes() + seen.no_ops;
            report.hot_loops.push(HotLoop {
                object: object.clone(),
                actor: seen.client.actor.to_string(),
                writes: seen.writes(),
                no_ops: seen.no_ops,
                per_minute: per_minute(count, first, last),
                since: first,
                until: last,
            });
        }
        let Some(troubles) = state.troubles() else { return };
        let writes = |actor: &Arc<str>| -> u32 {
            state.seen().iter().filter(|s| s.client.actor == *actor).map(Seen::writes).sum()
        };
        if troubles.is_contended {
            let racing = || troubles.actors().filter_map(|(actor, t)| Some((actor, t, t.conflicts_at?)));
            report.contention.push(Contention {
                object: object.clone(),
                stale: racing().map(|(_, t, _)| t.stale).sum(),
                apply_conflicts: racing().map(|(_, t, _)| t.apply_conflicts).sum(),
                parties: racing()
                    .map(|(actor, t, _)| Contender {
                        actor: actor.to_string(),
                        conflicts: t.stale + t.apply_conflicts,
                        writes: writes(actor),
                    })
                    .collect(),
                since: racing().map(|(.., (first, _))| first).min().unwrap_or(0),
                until: racing().map(|(.., (_, last))| last).max().unwrap_or(0),
            });
        }
        for (actor, trouble) in troubles.actors() {
            if let Some(flapping) = flapping(object, actor, trouble, limits) {
                report.flapping.push(flapping);
            }
        }
    }

    fn war_of(&self, object: &Object, state: &ObjectState, limits: &Limits) -> Option<War> {
        let findings = state.contest()?.findings();
        let (tally, confidence) = findings.verdict();
        if tally.retakes == 0 {
            return None;
        }
        let mut parties: Vec<Party> =
            tally.parties.iter().map(|(label, share)| self.party(label, state, Some(*share))).collect();
        parties.sort_by_key(|p| (std::cmp::Reverse((p.retakes, p.writes)), p.actor.clone()));
        let is_party = |seen: &&Seen| parties.iter().any(|p| is_party(&p.actor, seen));
        let mut bystanders: BTreeMap<&str, (Class, u32)> = BTreeMap::new();
        for seen in state.seen().iter().filter(|s| !is_party(s)) {
            let class = self.classes.of(&seen.client).0;
            bystanders.entry(&seen.client.actor).or_insert((class, 0)).1 += seen.writes();
        }
        let (first_retake, ..) = tally.machine.firsts();
        let until = tally.machine.last_retake();
        let since = tally.since.or(first_retake).unwrap_or(until);
        let (cause, evidence) = self.cause(state, findings, confidence, &parties, limits);
        Some(War {
            object: object.clone(),
            state: tally.machine.state(),
            confidence,
            cause,
            evidence,
            since,
            until,
            retakes: tally.retakes,
            reversals: tally.reversals,
            thrashing_events: tally.thrashes,
            retakes_per_minute: per_minute(tally.retakes, first_retake.unwrap_or(until), until),
            parties,
            fields: fields(findings, confidence),
            bystanders: bystanders
                .into_iter()
                .filter(|(_, (_, writes))| *writes > 0)
                .map(|(actor, (class, writes))| Bystander { actor: actor.into(), class, writes })
                .collect(),
            echoes: Vec::new(),
            remedies: Vec::new(),
        })
    }

    fn cause(
        &self,
        state: &ObjectState,
        findings: &Findings,
        confidence: Confidence,
        parties: &[Party],
        limits: &Limits,
    ) -> (Cause, Vec<String>) {
        let troubles = || state.troubles().into_iter().flat_map(|t| t.actors());
        let is_party = |actor: &str| parties.iter().any(|p| p.actor == actor);
        let stale = troubles().filter(|(actor, _)| is_party(actor)).map(|(_, t)| t.stale).sum();
        let flapping = troubles()
            .filter(|(actor, t)| is_party(actor) && t.turns() >= limits.flapping_turns.get())
            .find_map(|(_, t)| Some((t.refusals.keys().next()?.as_str(), t.turns())));
        cause(&Symptoms {
            confidence,
            parties: parties.iter().map(|p| (p.actor.as_str(), p.class)).collect(),
            existence_retakes: findings.existence_retakes(),
            retakes: findings.tally(confidence).retakes,
            stale,
            writes: parties.iter().map(|p| p.writes).sum(),
            flapping,
        })
    }

    fn party(&self, label: &str, state: &ObjectState, share: Option<crate::detect::contest::PartyTally>) -> Party {
        let share = share.unwrap_or_default();
        let mut party = Party {
            actor: label.to_owned(),
            class: Class::Person,
            role: Role::Person,
            writes: 0,
            no_ops: 0,
            retakes: share.retakes,
            thrashing_events: share.thrashes,
            verbs: BTreeMap::new(),
            field_managers: Vec::new(),
            user_agents: Vec::new(),
            source_ips: Vec::new(),
            pods: Vec::new(),
            impersonated_by: Vec::new(),
            first: i64::MAX,
            last: i64::MIN,
        };
        let note = |list: &mut Vec<String>, word: &str| {
            if !word.is_empty() && !list.iter().any(|w| w == word) {
                list.push(word.to_owned());
            }
        };
        let mut client = None;
        for seen in state.seen().iter().filter(|s| is_party(label, s)) {
            client = client.or(Some(&seen.client));
            party.writes += seen.writes();
            party.no_ops += seen.no_ops;
            let (first, last) = seen.span(state.base());
            party.first = party.first.min(first);
            party.last = party.last.max(last);
            for (verb, count) in seen.verbs() {
                if count > 0 {
                    *party.verbs.entry(verb.into()).or_default() += count;
                }
            }
            note(&mut party.field_managers, &seen.client.tool);
            note(&mut party.user_agents, &seen.client.user_agent);
            for origin in state.origins(&seen.client) {
                note(&mut party.source_ips, &origin.source_ip);
                note(&mut party.pods, &origin.pod);
                note(&mut party.impersonated_by, &origin.impersonator);
            }
        }
        let unseen = Client::named(label);
        (party.class, party.role) = self.classes.of(client.map_or(&unseen, |c| c));
        if client.is_none() {
            // A webhook never sends a request of its own; its writes are those that others' requests became.
            let tally = state.contest().map(|c| c.history().filter(|r| *r.client.actor == *label));
            let times: Vec<Micros> = tally.into_iter().flatten().map(|r| r.order.at).collect();
            party.writes = times.len() as u32;
            party.first = times.iter().min().copied().unwrap_or(0);
            party.last = times.iter().max().copied().unwrap_or(0);
        }
        party
    }

    /// Adds to wars the objects owned by theirs that one actor writes along.
    fn add_echoes<'w>(&self, wars: impl Iterator<Item = &'w mut War>) {
        let mut wars: Vec<&mut War> = wars.collect();
        if wars.is_empty() {
            return;
        }
        let is_busy =
            |state: &ObjectState| state.seen().iter().any(|s| s.part == Part::Main && s.writes() >= ECHO_WRITES_MIN);
        let found = self.pipeline.table().select(|key, state| {
            let name = is_busy(state).then(|| key.object())?;
            let is_near = |w: &&mut War| w.object.namespace == name.namespace && w.object.cluster == key.cluster();
            let owners = wars.iter().any(is_near).then(|| owners(state.body()?))??;
            let is_owner = |w: &&mut War| is_near(w) && owners.iter().any(|o| o.is(&w.object));
            let index = wars.iter().position(is_owner)?;
            let writers = state.seen().iter().filter(|s| s.part == Part::Main);
            let busiest = writers.max_by_key(|s| s.writes())?;
            let actor = busiest.client.actor.to_string();
            Some((index, Echo { object: Object::of(key, state), actor, writes: busiest.writes() }))
        });
        for (index, echo) in found {
            wars[index].echoes.push(echo);
        }
        for war in wars {
            war.echoes.sort_by(|a, b| a.object.cmp(&b.object));
        }
    }
}

/// The owners that an object's body names.
fn owners(body: &[u8]) -> Option<Vec<Owner>> {
    use crate::audit::scan::member;
    serde_json::from_slice(member(member(body, "metadata")?, "ownerReferences")?).ok()
}

/// An object as it is typed: `deployments.apps/web -n shop`.
fn typed(key: &ObjectKey) -> String {
    let name = key.object();
    let group = if name.group.is_empty() { String::new() } else { format!(".{}", name.group) };
    let cluster = if key.cluster().is_empty() { String::new() } else { format!(" --cluster {}", key.cluster()) };
    let namespace = if name.namespace.is_empty() { String::new() } else { format!(" -n {}", name.namespace) };
    format!("{}{group}/{}{namespace}{cluster}", name.resource, name.name)
}

#[derive(Deserialize)]
struct Owner {
    kind: String,
    name: String,
}

// === impl Owner ===

impl Owner {
    fn is(&self, object: &Object) -> bool {
        self.kind == object.kind && self.name == object.name
    }
}

// === impl Object ===

impl Object {
    /// The name of an object, with its kind as well as it is known.
    pub fn of(key: &ObjectKey, state: &ObjectState) -> Object {
        let name = key.object();
        let kind = state.kind().map(AsRef::as_ref).or(kind::built_in(name.group, name.resource));
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

// === impl Moment ===

impl Moment {
    fn of(record: &Record) -> Moment {
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
            fields_known: record.tier > crate::detect::fields::Tier::Object,
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

/// Whether what a client did belongs to the party of this name.
fn is_party(label: &str, seen: &Seen) -> bool {
    label == &*seen.client.actor
        || label.strip_prefix(&*seen.client.actor).and_then(|rest| rest.strip_prefix(" via "))
            == Some(&*seen.client.tool)
}

fn per_minute(count: u32, first: Micros, last: Micros) -> f64 {
    let minutes = (last - first) as f64 / 60e6;
    let rate = if minutes > 0.0 { f64::from(count) / minutes } else { f64::from(count) };
    (rate * 10.0).round() / 10.0
}

fn flapping(object: &Object, actor: &str, trouble: &Trouble, limits: &Limits) -> Option<Flapping> {
    let turns = trouble.turns();
    if turns < limits.flapping_turns.get() {
        return None;
    }
    let (by, message) = trouble.refusals.iter().next()?;
    let (since, until) = trouble.rejected_at?;
    Some(Flapping {
        object: object.clone(),
        actor: actor.to_owned(),
        by: by.clone(),
        message: message.clone(),
        accepted: trouble.accepted,
        rejected: trouble.rejected,
        turns,
        since,
        until,
    })
}

fn fields(findings: &Findings, confidence: Confidence) -> Vec<Field> {
    let mut fields = Vec::new();
    if findings.existence_retakes() > 0 {
        let counted = findings.existence().iter().map(|(client, effect, count)| Value {
            value: if *effect == Effect::Delete { "deleted".into() } else { "created".into() },
            absent: false,
            hidden: false,
            actor: client.actor.to_string(),
            count: *count,
        });
        fields.push(Field {
            path: "(object)".into(),
            retakes: findings.existence_retakes(),
            values: counted.collect(),
        });
    }
    fields.extend(findings.contested_fields().into_iter().map(|(path, field)| Field {
        path: path.to_string(),
        retakes: field.retakes,
        values: values(field),
    }));
    if fields.is_empty() && confidence == Confidence::Possible {
        let retakes = findings.tally(confidence).retakes;
        fields.push(Field { path: "(main)".into(), retakes, values: Vec::new() });
    }
    fields
}

fn values(field: &FieldState) -> Vec<Value> {
    let mut values: Vec<Value> = Vec::new();
    for ValueSeen { value, client, count } in &field.values {
        let (json, absent, hidden) =
            (json_of(value), value.is_none(), value.as_ref().is_some_and(|v| v.text().is_none()));
        let is_same = |v: &&mut Value| v.value == json && v.absent == absent && v.actor == *client.actor;
        match values.iter_mut().find(is_same) {
            Some(known) => known.count += count,
            None => values.push(Value { value: json, absent, hidden, actor: client.actor.to_string(), count: *count }),
        }
    }
    values.sort_by_key(|v| (std::cmp::Reverse(v.count), v.actor.clone()));
    values
}

/// A value as JSON; a cut one as text.
fn json_of(value: &Option<FieldValue>) -> serde_json::Value {
    let Some(text) = value.as_ref().and_then(FieldValue::text) else { return serde_json::Value::Null };
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
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
        parse_timestamp(&text).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no RFC 3339 time")))
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
