//! What the journal tells of one object: the same views as of memory, from further back.

use std::collections::VecDeque;

use super::lens::Lens;
use super::views::{Filter, Moment, Participants, TurnView, Turns};
use crate::audit::event::{Micros, parse_duration, parse_timestamp};
use crate::detect::class::Classes;
use crate::journal;
use crate::journal::past::Past;
use crate::journal::reader::Reader;
use crate::pipeline::Pipeline;
use crate::pipeline::key::ObjectKey;

/// Turns that one answer tells.
const TURNS_MAX: usize = 10_000;

/// The journal beside the memory.
#[derive(Clone, Copy, Debug)]
pub struct History<'a> {
    /// The journal's files.
    pub reader: &'a Reader,
    /// What is in memory, and the limits in force.
    pub pipeline: &'a Pipeline,
    /// What actors are.
    pub classes: &'a Classes,
    /// From when on.
    pub since: Micros,
}

/// The time that a question goes back to: itself, or that long before `now`.
pub fn since(text: &str, now: Micros) -> Option<Micros> {
    parse_timestamp(text).or_else(|| parse_duration(text).map(|back| now.saturating_sub(back)))
}

// === impl History ===

impl History<'_> {
    /// Who wrote to an object; `None` where nothing is kept of it, or it is left out by the configuration.
    ///
    /// # Errors
    /// That the journal cannot be read.
    pub fn participants(&self, key: &ObjectKey) -> Result<Option<Participants>, journal::Error> {
        let past = Past::read(self.reader, key, self.since)?;
        if past.is_empty() {
            return Ok(None);
        }
        let policy = self.pipeline.policy();
        let whole = past.whole(policy, key);
        // A pause may have ended since its last write.
        if let Some(now) = self.pipeline.latest_of(key.cluster()) {
            drop(whole.pass_time(key.cluster(), now));
        }
        let Some(mut found) = (Lens { pipeline: &whole, classes: self.classes }).participants(key) else {
            return Ok(None);
        };
        found.timeline.clear();
        for (from, page) in past.pages(policy, key) {
            let moments = page.table().with(key, |state| {
                let history = state.contest().into_iter().flat_map(|c| c.history());
                history.filter(|record| record.order.at >= from).map(Moment::of).collect::<Vec<_>>()
            });
            found.timeline.extend(moments.unwrap_or_default());
        }
        found.complete_since = Some(past.complete_since);
        self.reader.turns(past.since, |turn| {
            if turn.object == *key {
                found.turns.push(TurnView { object: found.object.clone(), ..TurnView::of(&turn) });
            }
        })?;
        Ok(Some(found))
    }

    /// How verdicts changed, on objects that a filter means: the latest, in order.
    ///
    /// # Errors
    /// That the journal cannot be read.
    pub fn turns(&self, filter: &Filter) -> Result<Turns, journal::Error> {
        let mut turns = VecDeque::new();
        let mut since = self.since;
        self.reader.turns(self.since, |turn| {
            if !filter.is_name(&turn.object) {
                return;
            }
            if turns.len() == TURNS_MAX
                && let Some(TurnView { at, .. }) = turns.pop_front()
            {
                since = at + 1;
            }
            turns.push_back(TurnView::of(&turn));
        })?;
        Ok(Turns { turns: turns.into(), complete_since: since.max(self.reader.complete_since()) })
    }

    /// The kept objects that a filter may mean.
    ///
    /// # Errors
    /// That the journal cannot be read.
    pub fn named(&self, filter: &Filter) -> Result<Vec<ObjectKey>, journal::Error> {
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
