//! The state machine of a war: calm, contested, thrashing, sustained, subsiding, and calm again.
//!
//! All times are event times. Retakes ([`WarState::retake`]) and time ([`WarState::advance`]) change the state; the same
//! retakes give the same states, live or in replay.
//!
//! The number of thrashing events that make a war sustained is `Limits::pause_after` (`policy.rs`).

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
    /// There is no retake.
    #[default]
    Calm,
    /// There was a retake.
    Contested,
    /// A retake found a bucket empty.
    Thrashing,
    /// There were several thrashing events within one window: reconcilers should stop.
    Sustained,
    /// There was no retake for the quiet period. The next one is a trial write: only an answer to it is a relapse.
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
pub struct WarState {
    buckets: SmallVec<[RetakeBucket; 2]>,
    /// The latest thrashing events: their times, and the longest window among the buckets that were empty.
    thrashing_events: VecDeque<(Micros, Micros)>,
    state: State,
    since: Micros,
    /// The present quiet period. It is at least two refills of the shortest bucket that was empty, so that it is longer
    /// than the time between two retakes of a slow war. It doubles after each relapse.
    quiet_period: Micros,
    milestones: Milestones,
    last_retake: Micros,
    /// While subsiding: the actor that made the trial write. That write is not a relapse; an answer to it is.
    trial_writer: Option<Arc<str>>,
    worst: State,
    sustained_count: u32,
    spared: u32,
    last_sustained: Option<Micros>,
}

/// When a war escalated for the first time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Milestones {
    /// The first retake.
    pub retake: Option<Micros>,
    /// The first thrashing event.
    pub thrashing: Option<Micros>,
    /// The first time that the war was sustained.
    pub sustained: Option<Micros>,
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
    /// Whether the fields of the war are known. An undecided war may be co-operation on different fields, and raises no
    /// counter and no alert.
    pub fn is_decided(self) -> bool {
        self > Confidence::Possible
    }

    /// Returns the word for output and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Confidence::Possible => "possible",
            Confidence::Probable => "probable",
            Confidence::Confirmed => "confirmed",
        }
    }
}

// === impl WarState ===

impl WarState {
    /// Returns the bytes of its heap memory.
    pub(super) fn bytes(&self) -> usize {
        let buckets: usize = self.buckets.iter().map(RetakeBucket::bytes).sum();
        buckets + self.thrashing_events.capacity() * size_of::<(Micros, Micros)>()
    }

    /// Counts one retake. Returns `true` if a bucket was empty, which makes it a thrashing event. If a pause cannot
    /// help, the state stays at thrashing.
    pub fn retake(&mut self, actor: &Arc<str>, at: Micros, limits: &Limits, is_pausable: bool) -> bool {
        // The clocks of API servers differ, but the times of a bucket must not decrease.
        let at = at.max(self.last_retake);
        self.advance(at, limits);
        self.buckets.resize_with(limits.buckets.len(), RetakeBucket::default);
        let mut empty_window = None;
        let mut quiet_period = None;
        for (bucket, limit) in self.buckets.iter_mut().zip(&limits.buckets) {
            if !bucket.take(limit, at) {
                empty_window = empty_window.max(Some(limit.window()));
                quiet_period = quiet_period.or(Some(limits.quiet_period.max(2 * limit.refill())));
            }
        }
        self.milestones.retake.get_or_insert(at);
        self.last_retake = at;
        self.spared += u32::from(self.state == State::Sustained);
        if let Some(window) = empty_window {
            self.milestones.thrashing.get_or_insert(at);
            self.thrashing_events.push_back((at, window));
            while self.thrashing_events.len() > limits.pause_after.get() as usize {
                self.thrashing_events.pop_front();
            }
        }
        match self.state {
            State::Calm => self.enter(State::Contested, at),
            State::Subsiding if self.trial_writer.is_none() => self.trial_writer = Some(actor.clone()),
            State::Subsiding if self.trial_writer.as_ref() != Some(actor) => {
                self.quiet_period = (self.quiet_period * 2).min(limits.quiet_period_max.max(self.quiet_period));
                self.enter(State::Sustained, at);
            }
            _ => {}
        }
        if empty_window.is_some() && matches!(self.state, State::Contested | State::Thrashing) {
            if self.state == State::Contested {
                self.enter(State::Thrashing, at);
            }
            let enough = is_pausable && self.thrashing_events.len() >= limits.pause_after.get() as usize;
            if enough && self.thrashing_events.iter().all(|(then, window)| at - then <= *window) {
                self.quiet_period = quiet_period.unwrap_or(limits.quiet_period);
                self.milestones.sustained.get_or_insert(at);
                self.enter(State::Sustained, at);
            }
        }
        empty_window.is_some()
    }

    /// Makes the transitions that are due by `now`.
    pub fn advance(&mut self, now: Micros, limits: &Limits) {
        while let Some(due) = self.due(limits).filter(|due| *due <= now) {
            self.trial_writer = None;
            self.enter(if self.state == State::Sustained { State::Subsiding } else { State::Calm }, due);
        }
    }

    /// Returns when the state changes next if there is no further retake, or `None` if it is calm.
    pub fn due(&self, limits: &Limits) -> Option<Micros> {
        match self.state {
            State::Calm => None,
            State::Contested | State::Thrashing => {
                let refills = limits.buckets.iter().map(|limit| 2 * limit.refill());
                Some(self.last_retake + refills.fold(limits.quiet_period, i64::max))
            }
            State::Sustained | State::Subsiding => self.until(),
        }
    }

    /// Makes the war calm and refills the buckets, because a person lifted the pause.
    pub fn resume(&mut self, at: Micros) {
        self.buckets.clear();
        self.thrashing_events.clear();
        self.trial_writer = None;
        self.enter(State::Calm, at);
    }

    /// Ends the war because the object was deleted.
    pub fn end(&mut self, at: Micros) {
        if self.state != State::Calm {
            self.resume(at.max(self.last_retake));
        }
    }

    /// Returns the state as of the last retake or [`WarState::advance`].
    pub fn state(&self) -> State {
        self.state
    }

    /// Returns when the present state began.
    pub fn since(&self) -> Micros {
        self.since
    }

    /// Returns the worst state so far. Subsiding counts as sustained.
    pub fn worst(&self) -> State {
        self.worst
    }

    /// Returns the end of the quiet period of a sustained or subsiding war, if there is no further retake.
    pub fn until(&self) -> Option<Micros> {
        match self.state {
            State::Sustained => Some(self.last_retake + self.quiet_period),
            State::Subsiding => Some(self.since.max(self.last_retake) + self.quiet_period),
            _ => None,
        }
    }

    /// Returns when the war escalated for the first time.
    pub fn milestones(&self) -> Milestones {
        self.milestones
    }

    /// Returns how often the war became sustained.
    pub fn sustained_count(&self) -> u32 {
        self.sustained_count
    }

    /// Returns the number of retakes while the war was sustained. Reconcilers that honour pauses would have avoided theirs.
    pub fn spared(&self) -> u32 {
        self.spared
    }

    /// Returns when the war last became sustained.
    pub fn last_sustained(&self) -> Option<Micros> {
        self.last_sustained
    }

    /// Returns the time of the last retake, or 0 if there was none.
    pub fn last_retake(&self) -> Micros {
        self.last_retake
    }

    fn enter(&mut self, state: State, at: Micros) {
        self.state = state;
        self.since = at;
        if state == State::Sustained {
            self.sustained_count += 1;
            self.last_sustained = Some(at);
        }
        if state != State::Subsiding {
            self.worst = self.worst.max(state);
        }
    }
}

#[cfg(test)]
#[path = "verdict/tests.rs"]
mod tests;
