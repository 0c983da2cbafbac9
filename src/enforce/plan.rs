//! What is to be done about each object: verdicts and what was done so far in, actions out. Pure.
//!
//! ```text
//!            paused, sure enough                     quiet, a person, unmanaged, the kill switch
//!  (nothing) ────────────────────► Pause ► held ────────────────────────────────────────────────► Lift ► (nothing)
//!                                           │ ▲
//!                          a rival strips it └─┘ set again, so many times; then it is left
//! ```

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::audit::event::Micros;
use crate::detect::verdict::{Confidence, State};

/// How often a pause that a rival strips is set again: more would be a war of our own.
const SETS_MAX: u32 = 5;
/// Time between two writes to one object.
const OBJECT_EVERY: Micros = 10_000_000;
/// What an object that may not be paused is left alone for, before it is looked at again.
pub const REFUSED_FOR: Micros = 60_000_000;
/// What an object is left alone for whose pause a rival strips again and again.
pub const STRIPPED_FOR: Micros = 3_600_000_000;
/// How much later than was written a pause has to end for its annotation to be brought up to date.
const UNTIL_SLACK: Micros = 60_000_000;
const MINUTE: Micros = 60_000_000;

/// By which rules pauses are set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// How sure a verdict must be.
    pub confidence: Confidence,
    /// Pauses that are set within one minute.
    pub per_minute: usize,
    /// Age of the latest event beyond which nothing new is decided.
    pub fresh_for: Micros,
}

/// What the events say of one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// Where it stands.
    pub state: State,
    /// How sure that is.
    pub confidence: Confidence,
    /// When its pause ends at the earliest, as of now.
    pub until: Option<Micros>,
    /// Who fights.
    pub parties: Vec<Arc<str>>,
    /// Over what, with which values.
    pub over: String,
    /// Retakes so far.
    pub retakes: u32,
    /// When the first thing was taken back.
    pub since: Option<Micros>,
    /// The last time that somebody took the pause's annotation away.
    pub removal: Option<Removal>,
    /// A person gave the object up: `mode=unmanaged`.
    pub is_unmanaged: bool,
}

/// Somebody took the annotation away.
#[derive(Clone, Debug, PartialEq)]
pub struct Removal {
    /// When.
    pub at: Micros,
    /// Who.
    pub actor: Arc<str>,
    /// A person, in a write that did nothing but set reconcilers' annotations.
    pub is_deliberate: bool,
}

/// The circumstances of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The wall clock.
    pub clock: Micros,
    /// The time of the latest event.
    pub latest: Option<Micros>,
    /// All pauses are to be undone.
    pub is_killed: bool,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Set the annotations.
    Pause {
        /// The verdict that it follows from.
        verdict: Verdict,
        /// It was set before, and is brought up to date or was stripped by this actor.
        again: Again,
    },
    /// Take the annotations away.
    Lift(Lift),
    /// A person did so: tell the engine, and everybody.
    Resumed(Removal),
    /// A rival strips the annotation again and again: it is left, and told.
    Stripped(Removal),
}

/// Whether a pause is a new one.
#[derive(Clone, Debug, PartialEq)]
pub enum Again {
    /// It is.
    No,
    /// It ends later than was written.
    Longer,
    /// This actor stripped it.
    Stripped(Arc<str>),
}

/// Why a pause ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lift {
    /// Nobody took anything back for the quiet period.
    Quiet,
    /// Somebody set `mode=unmanaged`.
    Unmanaged,
    /// The kill switch.
    Killed,
}

/// What was done so far.
#[derive(Clone, Debug)]
pub struct Plan<K> {
    rules: Rules,
    held: BTreeMap<K, Held>,
    /// When pauses were set within the last minute.
    set: VecDeque<Micros>,
}

#[derive(Clone, Debug)]
struct Held {
    status: Status,
    /// The wall clock at the last write; where it is left alone, until when.
    written: Micros,
    /// The time of events when the annotation was last set.
    since: Micros,
    until: Option<Micros>,
    sets: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// The annotation is there.
    Paused,
    /// It may not be set, or a rival strips it: left alone for now.
    Left,
}

// === impl Action ===

impl Action {
    /// In a word.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Pause { .. } => "pause",
            Action::Lift(_) => "lift",
            Action::Resumed(_) => "resumed",
            Action::Stripped(_) => "stripped",
        }
    }
}

// === impl Lift ===

impl Lift {
    /// In words.
    pub fn reason(self) -> &'static str {
        match self {
            Lift::Quiet => "nobody took anything back for the quiet period",
            Lift::Unmanaged => "the object is unmanaged now",
            Lift::Killed => "pauses are switched off",
        }
    }
}

// === impl Plan ===

impl<K: Ord + Clone> Plan<K> {
    /// Nothing done yet.
    pub fn new(rules: Rules) -> Plan<K> {
        Plan { rules, held: BTreeMap::new(), set: VecDeque::new() }
    }

    /// What is to be done now. Each action is to be reported back by [`Plan::has_paused`],
    /// [`Plan::has_lifted`] or [`Plan::has_left`], or is proposed again.
    pub fn step(&mut self, now: Now, verdicts: &BTreeMap<K, Verdict>) -> Vec<(K, Action)> {
        self.set.retain(|at| now.clock - at < MINUTE);
        self.held.retain(|_, held| held.status == Status::Paused || now.clock < held.written);
        let mut actions = Vec::new();
        for (key, held) in self.held.iter().filter(|(_, held)| held.status == Status::Paused) {
            let action = self.of_held(held, verdicts.get(key), now);
            actions.extend(action.map(|action| (key.clone(), action)));
        }
        if now.is_killed || !self.is_fresh(now) {
            return actions;
        }
        let room = self.rules.per_minute.saturating_sub(self.set.len());
        let is_new = |(key, verdict): &(&K, &Verdict)| self.is_to_pause(verdict) && !self.held.contains_key(key);
        let new = verdicts.iter().filter(is_new).take(room);
        actions.extend(new.map(|(k, v)| (k.clone(), Action::Pause { verdict: v.clone(), again: Again::No })));
        actions
    }

    /// Whether events are recent enough to decide by.
    pub fn is_fresh(&self, now: Now) -> bool {
        now.latest.is_some_and(|latest| now.clock - latest <= self.rules.fresh_for)
    }

    /// Whether an object that is not paused may be now.
    pub fn may_pause(&mut self, key: &K, verdict: &Verdict, now: Now) -> bool {
        self.set.retain(|at| now.clock - at < MINUTE);
        let is_free = !self.held.contains_key(key) && self.set.len() < self.rules.per_minute;
        is_free && !now.is_killed && self.is_fresh(now) && self.is_to_pause(verdict)
    }

    /// Pauses that are set.
    pub fn paused(&self) -> impl Iterator<Item = &K> {
        self.held.iter().filter(|(_, held)| held.status == Status::Paused).map(|(key, _)| key)
    }

    /// A pause was set, or found.
    pub fn has_paused(&mut self, key: K, until: Option<Micros>, now: Now) {
        let since = now.latest.unwrap_or(i64::MIN);
        let held = self.held.entry(key).or_insert(Held { status: Status::Paused, written: 0, since, until, sets: 0 });
        *held = Held { status: Status::Paused, written: now.clock, since, until, sets: held.sets + 1 };
        self.set.push_back(now.clock);
    }

    /// A pause is over.
    pub fn has_lifted(&mut self, key: &K) {
        self.held.remove(key);
    }

    /// An object is to be left alone for a while.
    pub fn has_left(&mut self, key: K, time: Micros, now: Now) {
        let written = now.clock + time;
        self.held.insert(key, Held { status: Status::Left, written, since: 0, until: None, sets: 0 });
    }

    fn is_to_pause(&self, verdict: &Verdict) -> bool {
        verdict.state == State::Paused && verdict.confidence >= self.rules.confidence && !verdict.is_unmanaged
    }

    /// What becomes of a pause.
    fn of_held(&self, held: &Held, verdict: Option<&Verdict>, now: Now) -> Option<Action> {
        if now.is_killed {
            return Some(Action::Lift(Lift::Killed));
        }
        let Some(verdict) = verdict else {
            // No longer fought over, or found at the start and not yet heard of: its time has to be over.
            let is_over = held.until.zip(now.latest).is_some_and(|(until, latest)| until <= latest);
            return is_over.then_some(Action::Lift(Lift::Quiet));
        };
        if verdict.is_unmanaged {
            return Some(Action::Lift(Lift::Unmanaged));
        }
        if let Some(removal) = verdict.removal.as_ref().filter(|removal| removal.at > held.since) {
            return match removal.is_deliberate {
                true => Some(Action::Resumed(removal.clone())),
                false if !self.is_to_pause(verdict) => Some(Action::Lift(Lift::Quiet)),
                false if held.sets >= SETS_MAX => Some(Action::Stripped(removal.clone())),
                false => self.again(held, verdict, Again::Stripped(removal.actor.clone()), now),
            };
        }
        if !self.is_to_pause(verdict) {
            // A pause that was found at the start outlasts a memory that begins with it.
            let is_over = held.until.is_none_or(|until| now.latest.is_some_and(|latest| until <= latest));
            return is_over.then_some(Action::Lift(Lift::Quiet));
        }
        let is_longer = verdict.until.zip(held.until).is_some_and(|(is, was)| is > was + UNTIL_SLACK);
        is_longer.then(|| self.again(held, verdict, Again::Longer, now)).flatten()
    }

    fn again(&self, held: &Held, verdict: &Verdict, again: Again, now: Now) -> Option<Action> {
        let may =
            self.is_fresh(now) && now.clock - held.written >= OBJECT_EVERY && self.set.len() < self.rules.per_minute;
        may.then(|| Action::Pause { verdict: verdict.clone(), again })
    }
}

#[cfg(test)]
mod tests;
