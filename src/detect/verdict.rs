//! The state machine of a war: calm, contested, thrashing, sustained, subsiding, and calm again.
//!
//! All times are event times. Retakes ([`Machine::retake`]) and time ([`Machine::advance`]) change the state; the same
//! retakes give the same states, live or in replay.

use std::collections::VecDeque;
use std::sync::Arc;

use smallvec::SmallVec;

use super::bucket::RetakeBucket;
use super::policy::Limits;
use crate::audit::event::Micros;

/// The state of a war.
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nobody takes anything back.
    #[default]
    Calm,
    /// There was a retake.
    Contested,
    /// A retake found a bucket empty.
    Thrashing,
    /// There were several thrashing events within one window: reconcilers should stop.
    Sustained,
    /// There was no retake for the quiet period: one trial write is free.
    Subsiding,
}

/// How sure a verdict is.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// The same part of the object was written alternately, but perhaps different fields of it.
    Possible,
    /// Both sides wrote the same fields.
    Probable,
    /// Values returned.
    Confirmed,
}

/// A change of an object's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// The state before.
    pub from: State,
    /// The state after.
    pub to: State,
    /// The event time of the change.
    pub at: Micros,
}

/// The state machine of one war.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    buckets: SmallVec<[RetakeBucket; 2]>,
    /// The latest thrashing events: their times, and the longest window among the buckets that were empty.
    thrashes: VecDeque<(Micros, Micros)>,
    state: State,
    since: Micros,
    /// The present quiet period: at least two refills of the shortest bucket that was empty, so that it outlasts the
    /// rhythm of a slow war. It doubles after each relapse.
    quiet: Micros,
    first_retake: Option<Micros>,
    last_retake: Micros,
    /// While subsiding: the actor that made the trial write. That write is not a relapse; an answer to it is.
    probe: Option<Arc<str>>,
    worst: State,
    pauses: u32,
    spared: u32,
    last_pause: Option<Micros>,
    first_thrash: Option<Micros>,
    first_pause: Option<Micros>,
}

// === impl State ===

impl State {
    /// All states.
    pub const ALL: [State; 5] = [State::Calm, State::Contested, State::Thrashing, State::Sustained, State::Subsiding];

    /// Returns the urgency. Subsiding is between contested and thrashing.
    pub fn urgency(self) -> u8 {
        match self {
            State::Calm => 0,
            State::Contested => 1,
            State::Subsiding => 2,
            State::Thrashing => 3,
            State::Sustained => 4,
        }
    }

    /// Returns the word for output and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            State::Calm => "calm",
            State::Contested => "contested",
            State::Thrashing => "thrashing",
            State::Sustained => "sustained",
            State::Subsiding => "subsiding",
        }
    }
}

// === impl Confidence ===

impl Confidence {
    /// Returns the word for output and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Confidence::Possible => "possible",
            Confidence::Probable => "probable",
            Confidence::Confirmed => "confirmed",
        }
    }
}

// === impl Machine ===

impl Machine {
    /// Returns the bytes of its heap memory.
    pub(super) fn bytes(&self) -> usize {
        let buckets: usize = self.buckets.iter().map(RetakeBucket::bytes).sum();
        buckets + self.thrashes.capacity() * size_of::<(Micros, Micros)>()
    }

    /// Counts one retake. Returns `true` if a bucket was empty, which makes it a thrashing event. If a pause cannot
    /// help, the state stays at thrashing.
    pub fn retake(&mut self, actor: &Arc<str>, at: Micros, limits: &Limits, is_pausable: bool) -> bool {
        // The clocks of API servers differ, but the times of a bucket must not decrease.
        let at = at.max(self.last_retake);
        self.advance(at, limits);
        self.buckets.resize_with(limits.buckets.len(), RetakeBucket::default);
        let mut empty_window = None;
        let mut quiet = None;
        for (bucket, limit) in self.buckets.iter_mut().zip(&limits.buckets) {
            if !bucket.take(limit, at) {
                empty_window = empty_window.max(Some(limit.window()));
                quiet = quiet.or(Some(limits.quiet.max(2 * limit.refill())));
            }
        }
        self.first_retake.get_or_insert(at);
        self.last_retake = at;
        self.spared += u32::from(self.state == State::Sustained);
        if let Some(window) = empty_window {
            self.first_thrash.get_or_insert(at);
            self.thrashes.push_back((at, window));
            while self.thrashes.len() > limits.pause_after.get() as usize {
                self.thrashes.pop_front();
            }
        }
        match self.state {
            State::Calm => self.enter(State::Contested, at),
            State::Subsiding if self.probe.is_none() => self.probe = Some(actor.clone()),
            State::Subsiding if self.probe.as_ref() != Some(actor) => {
                self.quiet = (self.quiet * 2).min(limits.quiet_max.max(self.quiet));
                self.enter(State::Sustained, at);
            }
            _ => {}
        }
        if empty_window.is_some() && matches!(self.state, State::Contested | State::Thrashing) {
            if self.state == State::Contested {
                self.enter(State::Thrashing, at);
            }
            let enough = is_pausable && self.thrashes.len() >= limits.pause_after.get() as usize;
            if enough && self.thrashes.iter().all(|(then, window)| at - then <= *window) {
                self.quiet = quiet.unwrap_or(limits.quiet);
                self.first_pause.get_or_insert(at);
                self.enter(State::Sustained, at);
            }
        }
        empty_window.is_some()
    }

    /// Makes the transitions that are due by `now`.
    pub fn advance(&mut self, now: Micros, limits: &Limits) {
        while let Some(due) = self.due(limits).filter(|due| *due <= now) {
            self.probe = None;
            self.enter(if self.state == State::Sustained { State::Subsiding } else { State::Calm }, due);
        }
    }

    /// Returns when the state changes next if there is no further retake, or `None` if it is calm.
    pub fn due(&self, limits: &Limits) -> Option<Micros> {
        match self.state {
            State::Calm => None,
            State::Contested | State::Thrashing => {
                let refills = limits.buckets.iter().map(|limit| 2 * limit.refill());
                Some(self.last_retake + refills.fold(limits.quiet, i64::max))
            }
            State::Sustained | State::Subsiding => self.until(),
        }
    }

    /// Makes the war calm and refills the buckets, because a person lifted the pause.
    pub fn resume(&mut self, at: Micros) {
        self.buckets.clear();
        self.thrashes.clear();
        self.probe = None;
        self.enter(State::Calm, at);
    }

    /// Ends the war because the object was deleted.
    pub fn end(&mut self, at: Micros) {
        if self.state != State::Calm {
            self.resume(at.max(self.last_retake));
        }
    }

    /// Returns the state as of the last retake or [`Machine::advance`].
    pub fn state(&self) -> State {
        self.state
    }

    /// Returns when the present state began.
    pub fn since(&self) -> Micros {
        self.since
    }

    /// The furthest state ever reached; subsiding counts as paused.
    pub fn worst(&self) -> State {
        self.worst
    }

    /// Returns the end of the quiet period of a sustained or subsiding war, if there is no further retake.
    pub fn until(&self) -> Option<Micros> {
        match self.state {
            State::Sustained => Some(self.last_retake + self.quiet),
            State::Subsiding => Some(self.since.max(self.last_retake) + self.quiet),
            _ => None,
        }
    }

    /// When the first retake, the first thrashing event and the first pause were.
    pub fn firsts(&self) -> (Option<Micros>, Option<Micros>, Option<Micros>) {
        (self.first_retake, self.first_thrash, self.first_pause)
    }

    /// How often it paused, and how many retakes came while it was: those that a reconciler would have been spared.
    pub fn pauses(&self) -> (u32, u32) {
        (self.pauses, self.spared)
    }

    /// When the latest pause began.
    pub fn last_pause(&self) -> Option<Micros> {
        self.last_pause
    }

    /// Returns the time of the last retake, or 0 if there was none.
    pub fn last_retake(&self) -> Micros {
        self.last_retake
    }

    fn enter(&mut self, state: State, at: Micros) {
        self.state = state;
        self.since = at;
        if state == State::Sustained {
            self.pauses += 1;
            self.last_pause = Some(at);
        }
        if state != State::Subsiding {
            self.worst = self.worst.max(state);
        }
    }
}

#[cfg(test)]
#[path = "verdict/tests.rs"]
mod tests;
