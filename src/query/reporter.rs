//! Builds the views (wars, participants, hot loops, contention) from the states of the objects.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::Deserialize;

use super::views::{
    Contender, Contention, Cooperation, Coverage, Dependent, Field, Filter, Flapping, HotLoop, Object, OtherWriter,
    Participants, Party, Remedy, Report, StatsView, TimelineEntry, Value, War, is_cut, json_of,
};
use crate::audit::event::Micros;
use crate::detect::actor::Client;
use crate::detect::actor_class::{ActorClass, ActorClassifier, Role};
use crate::detect::analysis::{self, AdmissionOverride, Analysis};
use crate::detect::assessment::{Assessment, WarAssessment};
use crate::detect::cause::{self, Cause, Explanation, Symptoms};
use crate::detect::failures::ActorFailures;
use crate::detect::field_history::{FieldHistory, ValueSeen};
use crate::detect::fields::{FieldValue, Path};
use crate::detect::object::ObjectState;
use crate::detect::policy::Limits;
use crate::detect::remedy::{self, ContestedField, Facts};
use crate::detect::verdict::{Confidence, State};
use crate::detect::war::{PartyTally, Scope};
use crate::detect::write::{Effect, ObjectName, Part};
use crate::detect::write_history::WriteHistory;
use crate::detect::writer_stats::WriterStats;
use crate::pipeline::Pipeline;
use crate::pipeline::key::ObjectKey;

/// A writer of an owned object is listed as following a war only after this number of writes. Fewer may be coincidence.
const DEPENDENT_WRITES_MIN: u32 = 6;

/// Builds views of the objects of a pipeline.
#[derive(Clone, Copy, Debug)]
pub struct Reporter<'a> {
    /// The pipeline.
    pub pipeline: &'a Pipeline,
    /// Classifies the actors.
    pub classes: &'a ActorClassifier,
}

// === impl Reporter ===

impl<'a> Reporter<'a> {
    /// Returns the report on all objects that match the filter.
    pub fn report(&self, filter: &Filter) -> Report {
        let stats = self.pipeline.stats();
        let mut report =
            Report { stats: StatsView::from(&stats), coverage: Coverage::from(&stats), ..Report::default() };
        let mut bytes = 0;
        for key in self.most_urgent(filter, &mut report.omitted) {
            if filter.bytes_max.is_some_and(|max| bytes >= max) {
                report.omitted += 1;
                continue;
            }
            let Some(limits) = self.pipeline.policy().limits(&key.object()) else { continue };
            let mut found = Report::default();
            self.pipeline.table().with(&key, |state| {
                let object = Object::of(&key, state);
                if filter.is_object(&object) {
                    self.add(&mut found, &object, state, limits, filter);
                }
            });
            if filter.bytes_max.is_some() {
                bytes += json_bytes(&found);
            }
            report.append(found);
        }
        self.add_neighbours(report.wars.iter_mut());
        report.sort();
        report
    }

    /// Returns the objects that a report covers. If the report is limited, these are the most urgent ones, sorted by
    /// urgency.
    fn most_urgent(&self, filter: &Filter, omitted: &mut usize) -> Vec<ObjectKey> {
        let keys = self.pipeline.table().notable();
        if filter.limit.is_none() && filter.bytes_max.is_none() {
            return keys;
        }
        let mut ranked: Vec<_> =
            keys.into_iter().filter_map(|key| Some((std::cmp::Reverse(self.urgency(&key, filter)?), key))).collect();
        ranked.sort_unstable();
        let limit = filter.limit.unwrap_or(usize::MAX);
        *omitted = ranked.len().saturating_sub(limit);
        ranked.into_iter().take(limit).map(|(_, key)| key).collect()
    }

    /// Returns how urgent it is to report an object, or `None` if the filter excludes it or there is nothing to report.
    fn urgency(&self, key: &ObjectKey, filter: &Filter) -> Option<(u8, Confidence, u32, u32)> {
        let limits = self.pipeline.policy().limits(&key.object())?;
        let look = |state: &ObjectState| {
            if !filter.is_object(&Object::of(key, state)) {
                return None;
            }
            let assessment = Assessment::of(state);
            let reported = assessment.wars().filter(|war| {
                (filter.all || war.is_thrashing()) && filter.is_actor(war.parties.iter().map(|party| &**party))
            });
            let rank = |war: &WarAssessment<'_>| {
                (war.state.urgency(), war.confidence, war.tally.thrashing_events, war.tally.retakes)
            };
            let has_other_findings = || {
                state.failures().is_some()
                    || state.history().is_some_and(|history| !history.analysis().cooperations().is_empty())
                    || state.writers().iter().any(|writer| writer.is_hot(limits))
            };
            let lowest = || has_other_findings().then_some((0, Confidence::Possible, 0, 0));
            reported.map(rank).max().or_else(lowest)
        };
        self.pipeline.table().with(key, look)?
    }

    /// Returns the wars over one object, contested or worse, the worst first.
    pub fn wars(&self, key: &ObjectKey) -> Vec<War> {
        let Some(limits) = self.pipeline.policy().limits(&key.object()) else { return Vec::new() };
        let look = |state: &ObjectState| self.wars_of(&Object::of(key, state), state, limits);
        let mut wars = self.pipeline.table().with(key, look).unwrap_or_default();
        self.add_neighbours(wars.iter_mut());
        wars
    }

    /// Returns the actors, wars and writes of one object.
    pub fn participants(&self, key: &ObjectKey) -> Option<Participants> {
        let limits = self.pipeline.policy().limits(&key.object())?;
        let mut found = self.pipeline.table().with(key, |state| {
            let object = Object::of(key, state);
            let wars = self.wars_of(&object, state, limits);
            let mut actors: Vec<Party> = Vec::new();
            for party in wars.iter().flat_map(|war| &war.parties) {
                match actors.iter_mut().find(|known| known.actor == party.actor) {
                    // A party of two wars: add its retakes, but not its writes, which are the same.
                    Some(known) => {
                        known.retakes += party.retakes;
                        known.thrashing_events += party.thrashing_events;
                    }
                    None => actors.push(party.clone()),
                }
            }
            for seen in state.writers() {
                let is_listed = |p: &Party| seen.client.is_named(&p.actor);
                if !actors.iter().any(is_listed) {
                    actors.push(self.party(&seen.client.actor, state, None));
                }
            }
            let history = state.history().into_iter().flat_map(|c| c.records());
            Participants {
                state: wars.first().map_or(State::Calm, |w| w.state),
                object,
                wars,
                cooperation: cooperations(&Object::of(key, state), state, false),
                actors,
                timeline: history.map(TimelineEntry::of).collect(),
                complete_since: None,
                transitions: Vec::new(),
                coverage: Coverage::from(&self.pipeline.stats()),
            }
        })?;
        self.add_neighbours(found.wars.iter_mut());
        Some(found)
    }

    /// Returns the participants of the one object that matches the filter.
    ///
    /// # Errors
    /// A message for the user: no object matches, or several do.
    pub fn find(&self, filter: &Filter) -> Result<Participants, String> {
        let key = self.resolve_object(filter, Vec::new())?;
        self.participants(&key).ok_or_else(|| "the configuration excludes this object".to_owned())
    }

    /// Returns the one object that matches the filter, among those in memory and `others`.
    ///
    /// # Errors
    /// A message for the user: no object matches, or several do.
    pub fn resolve_object(&self, filter: &Filter, others: Vec<ObjectKey>) -> Result<ObjectKey, String> {
        let is_meant = |key: &ObjectKey, state: &ObjectState| filter.is_object(&Object::of(key, state));
        let mut keys = self.pipeline.table().keys(is_meant);
        keys.extend(others);
        keys.sort_unstable();
        keys.dedup();
        match keys.as_slice() {
            [key] => Ok(key.clone()),
            [] => {
                let events = self.pipeline.stats().counters.events;
                let place = filter.namespace.as_ref().map(|n| format!(" in namespace {n}")).unwrap_or_default();
                Err(format!("none of the {events} events is about this object{place}"))
            }
            several => {
                let names: Vec<String> = several.iter().take(10).map(typed).collect();
                Err(format!("several objects match, choose one: {}", names.join("; ")))
            }
        }
    }

    fn add(&self, report: &mut Report, object: &Object, state: &ObjectState, limits: &Limits, filter: &Filter) {
        report.cooperation.extend(cooperations(object, state, true));
        for war in self.wars_of(object, state, limits) {
            let thrashed = war.thrashing_events > 0;
            if (thrashed || filter.all) && filter.is_actor(war.parties.iter().map(|p| p.actor.as_str())) {
                report.wars.push(war);
            }
        }
        for seen in state.writers().iter().filter(|s| s.is_hot(limits)) {
            let (first, last) = seen.activity(state.base());
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
        let Some(failures) = state.failures() else { return };
        let writes = |actor: &Arc<str>| -> u32 {
            state.writers().iter().filter(|s| s.client.actor == *actor).map(WriterStats::writes).sum()
        };
        if failures.is_contended(limits) {
            let racing = || failures.actors().filter_map(|(actor, t)| Some((actor, t, t.conflicts_at?)));
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
        for (actor, actor_failures) in failures.actors() {
            if let Some(flapping) = flapping(object, actor, actor_failures, limits) {
                report.flapping.push(flapping);
            }
        }
    }

    /// Returns the wars over an object, the worst first.
    fn wars_of(&self, object: &Object, state: &ObjectState, limits: &Limits) -> Vec<War> {
        let Some(analysis) = state.history().map(WriteHistory::analysis) else { return Vec::new() };
        let assessment = Assessment::of(state);
        let mut wars: Vec<War> =
            assessment.wars().map(|war| self.war_of(object, state, analysis, war, limits)).collect();
        wars.sort_by_key(|war| std::cmp::Reverse((war.confidence, war.thrashing_events, war.retakes)));
        wars
    }

    fn war_of(
        &self,
        object: &Object,
        state: &ObjectState,
        analysis: &Analysis,
        war: &WarAssessment<'_>,
        limits: &Limits,
    ) -> War {
        let tally = war.tally;
        let share = |label: &Arc<str>| tally.parties.get(label).copied().unwrap_or_default();
        let mut parties: Vec<Party> =
            war.parties.iter().map(|label| self.party(label, state, Some(share(label)))).collect();
        parties.sort_by_key(|p| (std::cmp::Reverse((p.retakes, p.writes)), p.actor.clone()));
        let is_party = |seen: &&WriterStats| parties.iter().any(|p| seen.client.is_named(&p.actor));
        let mut other_writers: BTreeMap<&str, (ActorClass, u32)> = BTreeMap::new();
        for seen in state.writers().iter().filter(|s| !is_party(s)) {
            other_writers.entry(&seen.client.actor).or_insert((seen.client.class, 0)).1 += seen.writes();
        }
        let until = war.last_retake;
        let first_retake = tally.machine.milestones().retake.unwrap_or(until);
        let fields = fields(analysis, war);
        let Explanation { cause, mut evidence } = explain(state, war, &parties, limits);
        evidence.extend(not_compared(analysis));
        let (remedies, verify) = self.remedies(object, state, cause, &parties, &fields, limits, None);
        War {
            object: object.clone(),
            state: war.state,
            confidence: war.confidence,
            cause,
            evidence,
            since: war.since,
            until,
            deleted: war.deleted_at,
            retakes: tally.retakes,
            reversals: tally.reversals,
            thrashing_events: tally.thrashing_events,
            retakes_per_minute: per_minute(tally.retakes, first_retake, until),
            parties,
            fields,
            other_writers: other_writers
                .into_iter()
                .filter(|(_, (_, writes))| *writes > 0)
                .map(|(actor, (class, writes))| OtherWriter { actor: actor.into(), class, writes })
                .collect(),
            dependents: Vec::new(),
            remedies,
            verify,
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a war has this many sides")]
    fn remedies<'f>(
        &self,
        object: &Object,
        state: &ObjectState,
        cause: Cause,
        parties: &[Party],
        fields: &'f [Field],
        limits: &Limits,
        hpa: Option<String>,
    ) -> (Vec<Remedy>, String) {
        let wanted = |value: &'f Value| remedy::Wanted {
            actor: &value.actor,
            value: (!value.absent).then(|| value.value.clone()),
        };
        // A remedy leaves a field alone that was contested in an earlier object of this name, and is not in this one.
        let is_outdated = |field: &Field| state.history().is_some_and(|h| h.analysis().is_outdated(&field.path));
        let is_all_outdated = fields.iter().all(is_outdated);
        let is_meant = |field: &&Field| !field.path.starts_with('(') && (is_all_outdated || !is_outdated(field));
        let contested = fields.iter().filter(is_meant).map(|field| ContestedField {
            path: &field.path,
            wanted: field.values.iter().filter(|value| !value.redacted && !value.cut).map(wanted).collect(),
        });
        let failures = state.failures().into_iter().flat_map(|t| t.actors());
        let flapping = failures.filter(|(_, t)| t.alternations() >= limits.flapping_turns.get());
        let group = if object.group.is_empty() { String::new() } else { format!(".{}", object.group) };
        let facts = Facts {
            resource: format!("{}{group}", object.resource),
            kind: &object.kind,
            group: &object.group,
            namespace: &object.namespace,
            name: &object.name,
            cause,
            parties: parties.iter().map(|p| (p.actor.as_str(), p.role)).collect(),
            honouring: parties.iter().map(|p| p.actor.as_str()).find(|actor| self.classes.is_honouring(actor)),
            fields: contested.collect(),
            hpa,
            application: application(state),
            flapping: flapping.flat_map(|(_, t)| t.rejections.keys()).next().map(String::as_str),
        };
        let found = remedy::remedies(&facts).into_iter().map(|r| Remedy {
            option: r.option.to_owned(),
            title: r.title,
            command: r.command,
            changes: r.changes,
            tradeoff: r.tradeoff,
        });
        (found.collect(), remedy::verify(&facts))
    }

    fn party(&self, label: &str, state: &ObjectState, share: Option<PartyTally>) -> Party {
        let share = share.unwrap_or_default();
        let mut party = Party {
            actor: label.to_owned(),
            class: ActorClass::Person,
            role: Role::Person,
            writes: 0,
            no_ops: 0,
            retakes: share.retakes,
            thrashing_events: share.thrashing_events,
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
        for seen in state.writers().iter().filter(|s| s.client.is_named(label)) {
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
        let client_or = client.map_or(&unseen, |c| c);
        (party.class, party.role) = self.classes.classify(&client_or.actor, &client_or.tool, &client_or.user_agent);
        if client.is_none() {
            // A webhook never sends requests. Its writes are the requests of others that it changed.
            let history = state.history().into_iter().flat_map(|c| c.records());
            let times: Vec<Micros> = history.filter(|r| r.is_admitted_by(label)).map(|r| r.order.at).collect();
            party.writes = times.len() as u32;
            party.first = times.iter().min().copied().unwrap_or(0);
            party.last = times.iter().max().copied().unwrap_or(0);
        }
        party
    }

    /// Adds to the wars what related objects show: dependents, and an autoscaler that is a party.
    fn add_neighbours<'w>(&self, wars: impl Iterator<Item = &'w mut War>) {
        let mut wars: Vec<&mut War> = wars.collect();
        if wars.is_empty() {
            return;
        }
        let is_busy = |state: &ObjectState| {
            state.writers().iter().any(|s| s.part == Part::Main && s.writes() >= DEPENDENT_WRITES_MIN)
        };
        let mut near: HashMap<(&str, &str), Vec<usize>> = HashMap::new();
        for (index, war) in wars.iter().enumerate() {
            near.entry((&war.object.cluster, &war.object.namespace)).or_default().push(index);
        }
        let found = self.pipeline.table().select(|key, state| {
            let name = key.object();
            let is_autoscaler = name.resource == "horizontalpodautoscalers";
            if !is_autoscaler && !is_busy(state) {
                return None;
            }
            let near = near.get(&(key.cluster(), name.namespace))?;
            let of = |owner: &Owner| near.iter().copied().find(|index| owner.is(&wars[*index].object));
            if is_autoscaler {
                // If the autoscaler has an owner, such as a ScaledObject, it would be recreated within seconds:
                // deleting it would not help.
                let is_owned = state.body().and_then(owners).is_some_and(|owners| !owners.is_empty());
                let index = of(&target(state)?)?;
                return (!is_owned).then(|| (index, Neighbour::Autoscaler(name.name.to_owned())));
            }
            let index = owners(state.body()?)?.iter().filter_map(of).min()?;
            let writers = state.writers().iter().filter(|s| s.part == Part::Main);
            let busiest = writers.max_by_key(|s| s.writes())?;
            let actor = busiest.client.actor.to_string();
            let dependent = Dependent { object: Object::of(key, state), actor, writes: busiest.writes() };
            Some((index, Neighbour::Dependent(dependent)))
        });
        let mut autoscalers: BTreeMap<usize, String> = BTreeMap::new();
        for (index, neighbour) in found {
            match neighbour {
                Neighbour::Dependent(dependent) => wars[index].dependents.push(dependent),
                // If there are two, always choose the same one.
                Neighbour::Autoscaler(name) => {
                    let known = autoscalers.entry(index).or_insert_with(|| name.clone());
                    if name < *known {
                        *known = name;
                    }
                }
            }
        }
        for (index, name) in autoscalers {
            self.name_autoscaler(wars[index], name);
        }
        for war in wars {
            war.dependents.sort_by(|a, b| a.object.cmp(&b.object));
        }
    }

    /// Recreates a war's remedies with the name of the autoscaler.
    fn name_autoscaler(&self, war: &mut War, name: String) {
        let o = &war.object;
        let object = ObjectName { group: &o.group, resource: &o.resource, namespace: &o.namespace, name: &o.name };
        let Some(limits) = self.pipeline.policy().limits(&object) else { return };
        let key = ObjectKey::new(&o.cluster, &object);
        let (cause, parties, fields) = (war.cause, &war.parties, &war.fields);
        let remedies = self
            .pipeline
            .table()
            .with(&key, |state| self.remedies(o, state, cause, parties, fields, limits, Some(name)).0);
        if let Some(remedies) = remedies {
            war.remedies = remedies;
        }
    }
}

/// What a related object adds to a war.
enum Neighbour {
    Dependent(Dependent),
    Autoscaler(String),
}

/// Returns the object that an autoscaler scales.
fn target(state: &ObjectState) -> Option<Owner> {
    use crate::audit::json_scan::member;
    if let Some(body) = state.body() {
        return serde_json::from_slice(member(member(body, "spec")?, "scaleTargetRef")?).ok();
    }
    let known = state.history()?.current_fields()?;
    let text = |path: &str| serde_json::from_str(known.get(path)?.text()?).ok();
    Some(Owner { kind: text("spec.scaleTargetRef.kind")?, name: text("spec.scaleTargetRef.name")? })
}

/// Returns the owners of an object, from its body.
fn owners(body: &[u8]) -> Option<Vec<Owner>> {
    use crate::audit::json_scan::member;
    serde_json::from_slice(member(member(body, "metadata")?, "ownerReferences")?).ok()
}

/// Returns an object in the notation of the command line: `deployments.apps/web -n shop`.
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

/// Returns the number of bytes of a report's JSON.
fn json_bytes(report: &Report) -> usize {
    struct Count(usize);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Neither the serialisation of a report nor this writer can fail.
    serde_json::to_writer(&mut count, report).map_or(0, |()| count.0)
}

/// Returns the rate per minute, rounded to a tenth, or `None` for less than a minute, where it would be misleading.
fn per_minute(count: u32, first: Micros, last: Micros) -> Option<f64> {
    let minutes = (last - first) as f64 / 60e6;
    (minutes >= 1.0).then(|| (f64::from(count) / minutes * 10.0).round() / 10.0)
}

/// Returns the cause of a war, with the evidence for it.
fn explain(state: &ObjectState, war: &WarAssessment<'_>, parties: &[Party], limits: &Limits) -> Explanation {
    let of_parties = || {
        let failures = state.failures().into_iter().flat_map(|failures| failures.actors());
        failures.filter(|(actor, _)| parties.iter().any(|party| *party.actor == ***actor)).map(|(_, failures)| failures)
    };
    let mut flapping = of_parties().filter(|failures| failures.alternations() >= limits.flapping_turns.get());
    cause::explain(&Symptoms {
        confidence: war.confidence,
        scope: war.scope,
        parties: parties.iter().map(|p| (p.actor.as_str(), p.class)).collect(),
        is_over_form: war.is_over_form(),
        stale: of_parties().map(|failures| failures.stale).sum(),
        writes: parties.iter().map(|p| p.writes).sum(),
        flapping: flapping.find_map(|failures| {
            let by = failures.rejections.keys().next()?;
            Some(cause::Flapping { by, alternations: failures.alternations() })
        }),
    })
}

fn flapping(object: &Object, actor: &str, actor_failures: &ActorFailures, limits: &Limits) -> Option<Flapping> {
    let alternations = actor_failures.alternations();
    if alternations < limits.flapping_turns.get() {
        return None;
    }
    let (by, message) = actor_failures.rejections.iter().next()?;
    let (since, until) = actor_failures.rejected_at?;
    Some(Flapping {
        object: object.clone(),
        actor: actor.to_owned(),
        by: by.clone(),
        message: message.clone(),
        accepted: actor_failures.accepted,
        rejected: actor_failures.rejected,
        alternations,
        since,
        until,
    })
}

/// Returns the co-operations on an object. With `is_excess`, only those that happen too often.
fn cooperations(object: &Object, state: &ObjectState, is_excess: bool) -> Vec<Cooperation> {
    let known = state.history().map_or(&[][..], |history| history.analysis().cooperations());
    let is_shown = |c: &&analysis::Cooperation| !is_excess || (c.excess.is_some() && c.tally.thrashing_events > 0);
    let view = |c: &analysis::Cooperation| Cooperation {
        object: object.clone(),
        name: c.name.to_string(),
        excess: c.excess.as_ref().filter(|_| c.tally.thrashing_events > 0).map(|excess| excess.to_string()),
        reason: c.reason.to_string(),
        actors: c.actors.iter().map(|actor| actor.to_string()).collect(),
        fields: c.paths.iter().map(|path| path.to_string()).collect(),
        times: c.tally.retakes,
        since: c.tally.since.unwrap_or(0),
        until: c.tally.machine.last_retake(),
    };
    known.iter().filter(is_shown).map(view).collect()
}

fn fields(analysis: &Analysis, war: &WarAssessment<'_>) -> Vec<Field> {
    let retakes = war.tally.retakes;
    match war.scope {
        Scope::Fields => {
            let field = |(path, field): &(&Path, &FieldHistory)| Field {
                path: path.to_string(),
                retakes: field.retakes,
                values: values(field, war.parties),
            };
            war.fields.iter().map(field).collect()
        }
        Scope::Object => {
            let is_party = |client: &Client| war.parties.iter().any(|party| client.is_named(party));
            let by_parties = analysis.existence().iter().filter(|(client, ..)| is_party(client));
            let counted = by_parties.map(|(client, effect, count)| Value {
                value: if *effect == Effect::Delete { "deleted".into() } else { "created".into() },
                absent: false,
                redacted: false,
                cut: false,
                actor: client.actor.to_string(),
                count: *count,
            });
            vec![Field { path: "(object)".into(), retakes, values: counted.collect() }]
        }
        Scope::Override => overridden(analysis.overrides_of(war.id)),
        Scope::Part(Part::Main) => vec![Field { path: "(main)".into(), retakes, values: Vec::new() }],
        Scope::Part(Part::Status) => vec![Field { path: "(status)".into(), retakes, values: Vec::new() }],
    }
}

/// Returns the fields that a webhook overrides, with the requested values and those that the webhook sets instead.
fn overridden<'o>(overrides: impl Iterator<Item = &'o AdmissionOverride>) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    for o in overrides {
        let value = |value: &Option<FieldValue>, actor: &str| Value {
            value: json_of(value),
            absent: value.is_none(),
            redacted: value.as_ref().is_some_and(|v| v.text().is_none()),
            cut: is_cut(value),
            actor: actor.to_owned(),
            count: o.count,
        };
        let values = [value(&o.requested, &o.requester.actor), value(&o.given, &o.webhook.actor)];
        match fields.iter_mut().find(|field| *field.path == *o.path) {
            Some(field) => {
                field.retakes += o.count.saturating_sub(1);
                field.values.extend(values);
            }
            None => fields.push(Field {
                path: o.path.to_string(),
                retakes: o.count.saturating_sub(1),
                values: values.into(),
            }),
        }
    }
    fields
}

/// Returns the values that the parties gave a field. Values of other writers are not part of the war.
fn values(field: &FieldHistory, parties: &[Arc<str>]) -> Vec<Value> {
    let mut values: Vec<Value> = Vec::new();
    for ValueSeen { value, client, count } in &field.values {
        if !parties.contains(&field.party_of(client)) {
            continue;
        }
        let (json, absent, redacted) =
            (json_of(value), value.is_none(), value.as_ref().is_some_and(|v| v.text().is_none()));
        let actor = field.party_of(client);
        let is_same = |v: &&mut Value| v.value == json && v.absent == absent && *v.actor == *actor;
        match values.iter_mut().find(is_same) {
            Some(known) => known.count += count,
            None => {
                let (actor, cut) = (actor.to_string(), is_cut(value));
                values.push(Value { value: json, absent, redacted, cut, actor, count: *count });
            }
        }
    }
    values.sort_by_key(|v| (std::cmp::Reverse(v.count), v.actor.clone()));
    values
}

/// Returns the Argo CD application that tracks an object, from its annotation.
fn application(state: &ObjectState) -> Option<String> {
    let known = state.history()?.current_fields()?;
    let tracking = known.get("metadata.annotations['argocd.argoproj.io/tracking-id']")?.text()?;
    let text: String = serde_json::from_str(tracking).ok()?;
    text.split_once(':').map(|(application, _)| application.to_owned())
}

/// Returns sentences that say which fields of an object are not tracked because it has too many.
fn not_compared(analysis: &Analysis) -> Vec<String> {
    let untracked = analysis.untracked_fields();
    let mut found = Vec::new();
    if untracked > 0 {
        found.push(format!(
            "{untracked} more fields change; editwar only detects when an actor restores an earlier value in them"
        ));
    }
    if analysis.is_truncated() {
        found.push(
            "the object has too many fields to compare all; editwar does not compare those at the end of its body"
                .to_owned(),
        );
    }
    found
}
