//! Queries of the journal: the same views as from memory, for a longer time.

use std::collections::VecDeque;

use super::reporter::Reporter;
use super::views::{Filter, Participants, TimelineEntry, TransitionView, Transitions};
use crate::audit::event::Micros;
use crate::detect::actor_class::ActorClassifier;
use crate::detect::remedy::Contexts;
use crate::journal;
use crate::journal::object_history::ObjectHistory;
use crate::journal::reader::Reader;
use crate::pipeline::Pipeline;
use crate::pipeline::key::ObjectKey;
use crate::util::{duration, time_input};

/// Maximum number of transitions in one answer.
const TRANSITIONS_MAX: usize = 10_000;

/// Answers queries from the journal together with the state in memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct History<'a> {
    /// The journal's files.
    pub reader: &'a Reader,
    /// The objects in memory, and the policy in force.
    pub pipeline: &'a Pipeline,
    /// Classifies the actors.
    pub classes: &'a ActorClassifier,
    /// The contexts in the user's kubeconfig.
    pub contexts: &'a Contexts,
    /// The time from which writes are read.
    pub since: Micros,
}

/// Parses the start time of a query: a time, or a duration before `now`.
pub(super) fn since(text: &str, now: Micros) -> Option<Micros> {
    time_input::parse(text).or_else(|| duration::parse(text).map(|back| now.saturating_sub(duration::micros(back))))
}

// === impl History ===

impl History<'_> {
    /// Returns the participants of an object, or `None` if the journal has no write to it or the configuration excludes
    /// it.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub(super) fn participants(&self, key: &ObjectKey) -> Result<Option<Participants>, journal::Error> {
        let past = ObjectHistory::read(self.reader, key, self.since)?;
        if past.is_empty() {
            return Ok(None);
        }
        let policy = self.pipeline.policy();
        let whole = past.whole(policy, key);
        // A quiet period may have ended after the last write.
        if let Some(now) = self.pipeline.latest_of(key.cluster()) {
            drop(whole.pass_time(key.cluster(), now));
        }
        let reporter = Reporter::new(&whole, self.classes).with_contexts(self.contexts);
        let Some(mut found) = reporter.participants(key) else {
            return Ok(None);
        };
        found.timeline.clear();
        for (from, page) in past.pages(policy, key) {
            let moments = page.table().with(key, |state| {
                let history = state.history().into_iter().flat_map(|c| c.records());
                history.filter(|record| record.order.at >= from).map(TimelineEntry::of).collect::<Vec<_>>()
            });
            found.timeline.extend(moments.unwrap_or_default());
        }
        found.complete_since = Some(past.complete_since);
        self.reader.transitions(past.since, |transition| {
            if transition.object == *key {
                found
                    .transitions
                    .push(TransitionView { object: found.object.clone(), ..TransitionView::of(&transition) });
            }
        })?;
        Ok(Some(found))
    }

    /// Returns the latest transitions of objects that match the filter, in order.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub(super) fn transitions(&self, filter: &Filter) -> Result<Transitions, journal::Error> {
        let mut transitions = VecDeque::new();
        let mut since = self.since;
        self.reader.transitions(self.since, |transition| {
            if !filter.is_name(&transition.object) {
                return;
            }
            if transitions.len() == TRANSITIONS_MAX
                && let Some(TransitionView { at, .. }) = transitions.pop_front()
            {
                since = at + 1;
            }
            transitions.push_back(TransitionView::of(&transition));
        })?;
        Ok(Transitions { transitions: transitions.into(), complete_since: since.max(self.reader.complete_since()) })
    }

    /// Returns the objects in the journal that match the filter.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub(super) fn named(&self, filter: &Filter) -> Result<Vec<ObjectKey>, journal::Error> {
        let mut keys = Vec::new();
        self.reader.objects(self.since, |text| {
            let key = ObjectKey::from(text);
            if filter.is_name(&key) {
                keys.push(key);
            }
        })?;
        Ok(keys)
    }
}
