//! Builds the views (wars, participants, hot loops, contention) from the states of the objects.
//!
//! [`Reporter`] selects the objects. Each module below builds one kind of view from the state of one object; only
//! `neighbours` looks at other objects.

mod actor_writes;
mod fields;
mod findings;
mod kinds;
mod matches;
mod neighbours;
mod overview;
mod party;
mod remedies;
mod war;

use super::views::{
    ActorWrites, Coverage, Filter, KindCoverage, Object, OverviewHead, OverviewRow, Participants, Party, ProblemKind,
    Report, StatsView, TimelineEntry, War,
};
use std::collections::BTreeMap;

use crate::detect::actor_class::ActorClassifier;
use crate::detect::assessment::{Assessment, Rank, WarAssessment};
use crate::detect::object::ObjectState;
use crate::detect::policy::Limits;
use crate::detect::remedy::Contexts;
use crate::pipeline::Pipeline;
use crate::pipeline::key::ObjectKey;

/// Builds views of the objects of a pipeline.
#[derive(Clone, Copy, Debug)]
pub struct Reporter<'a> {
    /// The pipeline.
    pub pipeline: &'a Pipeline,
    /// Classifies the actors.
    pub classes: &'a ActorClassifier,
    /// The contexts in the user's kubeconfig, for the commands of remedies.
    pub contexts: &'a Contexts,
}

static NO_CONTEXTS: Contexts = Contexts(BTreeMap::new());

// === impl Reporter ===

impl<'a> Reporter<'a> {
    /// Returns a reporter for the objects of a pipeline, without contexts.
    pub fn new(pipeline: &'a Pipeline, classes: &'a ActorClassifier) -> Reporter<'a> {
        Reporter { pipeline, classes, contexts: &NO_CONTEXTS }
    }

    /// Sets the contexts.
    pub fn with_contexts(self, contexts: &'a Contexts) -> Reporter<'a> {
        Reporter { contexts, ..self }
    }

    /// Returns the report on all objects that match the filter.
    pub fn report(&self, filter: &Filter) -> Report {
        let stats = self.pipeline.stats();
        let mut report = Report {
            matched: matches::count(self.pipeline, filter),
            stats: StatsView::from(&stats),
            coverage: Coverage::from(&stats).within(self.pipeline.range()),
            ..Report::default()
        };
        if report.matched.objects == 0 && !filter.is_any() && !report.coverage.is_incomplete() {
            report.coverage.add_problem(ProblemKind::NoMatch, matches::explain(self.pipeline, filter));
        }
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
                // Remedies are a large part of a report. What related objects add to them is not.
                let related = found.wars.iter().map(|_| neighbours::Related::default()).collect();
                remedies::add(self, &mut found.wars, related);
                bytes += json_bytes(&found);
            }
            report.append(found);
        }
        if report.wars.is_empty() && !filter.war.is_any() {
            report.matched.other_wars = matches::wars(self.pipeline, filter);
        }
        self.complete(&mut report.wars);
        report.sort();
        report
    }

    /// Returns the rows of the overview, and the number of objects that are left out.
    pub fn overview(&self, limit: usize) -> (Vec<OverviewRow>, usize) {
        overview::rows(self, limit)
    }

    /// Returns the rows of the wars that ever thrashed, and the number of objects that are left out.
    pub fn loud_wars(&self, limit: usize) -> (Vec<OverviewRow>, usize) {
        overview::loud_wars(self, limit)
    }

    /// Returns the rows of one object.
    pub fn overview_of(&self, key: &ObjectKey) -> Vec<OverviewRow> {
        overview::rows_of(self, key)
    }

    /// Returns the kinds of the objects in memory, and of how many of them fields are known.
    pub fn kinds(&self) -> Vec<KindCoverage> {
        kinds::of(self.pipeline)
    }

    /// Returns what an overview is based on, and the number of events.
    pub(in crate::query) fn overview_head(&self) -> (OverviewHead, u64) {
        let stats = self.pipeline.stats();
        let head = OverviewHead {
            as_of: self.pipeline.latest(),
            matched: matches::count(self.pipeline, &Filter::default()),
            coverage: Coverage::from(&stats),
            ..OverviewHead::default()
        };
        (head, stats.counters.events)
    }

    /// Returns the objects that a report covers. If the report is limited, these are the most urgent ones, sorted by
    /// urgency.
    fn most_urgent(&self, filter: &Filter, omitted: &mut usize) -> Vec<ObjectKey> {
        let keys = self.pipeline.table().notable();
        if filter.limit.is_none() && filter.bytes_max.is_none() {
            return keys;
        }
        let mut ranked: Vec<_> =
            keys.into_iter().filter_map(|key| Some((std::cmp::Reverse(self.rank(&key, filter)?), key))).collect();
        ranked.sort_unstable();
        let limit = filter.limit.unwrap_or(usize::MAX);
        *omitted = ranked.len().saturating_sub(limit);
        ranked.into_iter().take(limit).map(|(_, key)| key).collect()
    }

    /// Returns the rank of an object in a limited report: that of its most important war, or an inner `None` for other
    /// findings. Returns `None` if the filter excludes it or there is nothing to report.
    fn rank(&self, key: &ObjectKey, filter: &Filter) -> Option<Option<Rank>> {
        let limits = self.pipeline.policy().limits(&key.object())?;
        let look = |state: &ObjectState| {
            // Its names are only copied where they are needed: this is done for every object with findings.
            if !filter.is_key(key, state.kind().map(AsRef::as_ref)) {
                return None;
            }
            if !filter.war.is_any() {
                let wars = war::of(self.classes, &Object::of(key, state), state, limits);
                return wars.iter().filter(|war| filter.is_war(war)).map(War::rank).max().map(Some);
            }
            let assessment = Assessment::without_fields(state);
            let reported = assessment.wars().filter(|war| {
                (filter.all || war.is_thrashing()) && filter.is_actor(war.parties.iter().map(|party| &**party))
            });
            let has_other_findings = || {
                let mut found = Report::default();
                self.add_other_findings(&mut found, &Object::of(key, state), state, limits, filter);
                found.has_other_findings().then_some(None)
            };
            reported.map(WarAssessment::rank).max().map(Some).or_else(has_other_findings)
        };
        self.pipeline.table().with(key, look)?
    }

    fn add(&self, report: &mut Report, object: &Object, state: &ObjectState, limits: &Limits, filter: &Filter) {
        let wars = war::of(self.classes, object, state, limits).into_iter();
        report.wars.extend(wars.filter(|war| filter.is_war(war)));
        // Conditions on wars exclude everything else.
        if filter.war.is_any() {
            self.add_other_findings(report, object, state, limits, filter);
        }
    }

    fn add_other_findings(
        &self,
        report: &mut Report,
        object: &Object,
        state: &ObjectState,
        limits: &Limits,
        filter: &Filter,
    ) {
        let is_actor = |actor: &String| filter.is_actor(std::iter::once(actor.as_str()));
        let is_any = |mut actors: &mut dyn Iterator<Item = &String>| Iterator::any(&mut actors, is_actor);
        report.cooperation.extend(
            findings::cooperations(object, state, true).into_iter().filter(|found| is_any(&mut found.actors.iter())),
        );
        report.hot_loops.extend(findings::hot_loops(object, state, limits).into_iter().filter(|f| is_actor(&f.actor)));
        report.contention.extend(
            findings::contention(object, state, limits)
                .into_iter()
                .filter(|found| is_any(&mut found.parties.iter().map(|party| &party.actor))),
        );
        report.flapping.extend(findings::flapping(object, state, limits).into_iter().filter(|f| is_actor(&f.actor)));
    }

    /// Returns the wars over one object, contested or worse, the worst first.
    pub fn wars(&self, key: &ObjectKey) -> Vec<War> {
        self.wars_of(std::slice::from_ref(key))
    }

    /// Returns the wars over several objects, contested or worse.
    pub fn wars_of(&self, keys: &[ObjectKey]) -> Vec<War> {
        let of = |key: &ObjectKey| {
            let limits = self.pipeline.policy().limits(&key.object())?;
            let look = |state: &ObjectState| war::of(self.classes, &Object::of(key, state), state, limits);
            self.pipeline.table().with(key, look)
        };
        let mut wars: Vec<War> = keys.iter().filter_map(of).flatten().collect();
        self.complete(&mut wars);
        wars
    }

    /// Returns what the actors that match the filter have written.
    pub fn writes_of_actors(&self, filter: &Filter) -> ActorWrites {
        actor_writes::of(self.pipeline, self.classes, filter)
    }

    /// Returns the actors, wars and writes of one object.
    pub fn participants(&self, key: &ObjectKey) -> Option<Participants> {
        let limits = self.pipeline.policy().limits(&key.object())?;
        let mut found = self.pipeline.table().with(key, |state| {
            let object = Object::of(key, state);
            let wars = war::of(self.classes, &object, state, limits);
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
                    actors.push(party::of(self.classes, &seen.client.actor, state, None));
                }
            }
            // A write without a known writer is only kept for its values.
            let history = state.history().into_iter().flat_map(|c| c.records()).filter(|r| !r.client.is_unknown());
            Participants {
                state: Assessment::of(state).shown_state(),
                wars,
                hot_loops: findings::hot_loops(&object, state, limits),
                contention: findings::contention(&object, state, limits),
                flapping: findings::flapping(&object, state, limits),
                cooperation: findings::cooperations(&object, state, false),
                actors,
                timeline: history.map(TimelineEntry::of).collect(),
                complete_since: None,
                transitions: Vec::new(),
                object,
                coverage: Coverage::from(&self.pipeline.stats()).within(self.pipeline.range()),
            }
        })?;
        self.complete(&mut found.wars);
        Some(found)
    }

    /// Adds to wars what depends on other objects.
    fn complete(&self, wars: &mut [War]) {
        let sources = remedies::sources(self, wars);
        let related = neighbours::add(self.pipeline, wars, &sources);
        remedies::add(self, wars, related);
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
            [] => Err(matches::explain(self.pipeline, filter)),
            several => {
                let names: Vec<String> =
                    several.iter().take(10).map(|key| Object::named(key, None).arguments()).collect();
                Err(format!("several objects match, choose one: {}", names.join("; ")))
            }
        }
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
