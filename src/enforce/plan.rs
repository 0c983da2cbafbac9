//! What is to be done about each object: verdicts and what was done so far in, actions out. Pure.
//!
//! ```text
//!            paused, sure enough                     quiet, a person, unmanaged, switched off
//!  (nothing) ────────────────────► Pause ► held ────────────────────────────────────────────────► Lift ► (nothing)
//!                                           │ ▲
//!                          a rival strips it └─┘ set again, so many times; then it is left
//! ```
//!
//! A pause belongs to one life of an object. Whether the object still has the same uid is checked every few seconds; one that
//! was deleted and created again is not paused, and is judged as any other.

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
/// How often a paused object is checked for being the one that was paused.
const CHECK_EVERY: Micros = 2_000_000;
/// Checks that are begun in one step: they are reads, and there may be many pauses.
const CHECKS_MAX: usize = 10;
/// The longest time after which a failed action is tried again; the first time it is one second.
const RETRY_MAX: Micros = 30_000_000;

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
    /// The time of the latest event of the cluster that is acted on.
    pub latest: Option<Micros>,
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
    /// See whether the object is still the one with this uid; without one, which it is.
    Check(Option<Arc<str>>),
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
    /// Its namespace is switched off.
    SwitchedOff,
}

/// What was done so far.
#[derive(Clone, Debug)]
pub struct Plan<K> {
    rules: Rules,
    held: BTreeMap<K, Held>,
    /// When pauses were set within the last minute.
    set: VecDeque<Micros>,
    /// Actions under way: whether each sets a pause.
    begun: BTreeMap<K, bool>,
    /// Actions that failed: how often in a row, and when to try again.
    failed: BTreeMap<K, (u32, Micros)>,
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
    uid: Option<Arc<str>>,
    /// The wall clock when the object was last known to be the one that was paused.
    checked: Micros,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// The annotation is there.
    Paused,
    /// It may not be set, or a rival strips it: left alone for now.
    Left,
    /// The object that was paused is gone. Kept for a while, so that one that is recreated again and again is not paused
    /// each time.
    Ended,
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
            Action::Check(_) => "check",
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
            Lift::SwitchedOff => "the namespace is switched off",
        }
    }
}

// === impl Plan ===

impl<K: Ord + Clone> Plan<K> {
    /// Nothing done yet.
    pub fn new(rules: Rules) -> Plan<K> {
        Plan { rules, held: BTreeMap::new(), set: VecDeque::new(), begun: BTreeMap::new(), failed: BTreeMap::new() }
    }

    /// What is to be done now. Each action is to be reported back by [`Plan::has_paused`], [`Plan::has_lifted`],
    /// [`Plan::has_left`], [`Plan::has_checked`], [`Plan::has_ended`] or [`Plan::has_failed`], or is proposed again. One
    /// that takes a while is announced by [`Plan::has_begun`], and nothing is proposed for its object meanwhile.
    pub fn step(&mut self, now: Now, verdicts: &BTreeMap<K, Verdict>) -> Vec<(K, Action)> {
        self.forget_old(now);
        let mut actions = Vec::new();
        let mut checks = Vec::new();
        for (key, held) in
            self.held.iter().filter(|(key, held)| held.status == Status::Paused && self.may_try(key, now))
        {
            match self.of_held(held, verdicts.get(key), now) {
                Some(action) => actions.push((key.clone(), action)),
                None if now.clock - held.checked >= CHECK_EVERY => checks.push((held.checked, key, &held.uid)),
                None => {}
            }
        }
        checks.sort_by_key(|(checked, ..)| *checked);
        let check = |(_, key, uid): (Micros, &K, &Option<Arc<str>>)| (key.clone(), Action::Check(uid.clone()));
        actions.extend(checks.into_iter().take(CHECKS_MAX).map(check));
        if !self.is_fresh(now) {
            return actions;
        }
        let is_new = |(key, verdict): &(&K, &Verdict)| self.is_to_pause(verdict) && self.is_free(key, now);
        let new = verdicts.iter().filter(is_new).take(self.room());
        actions.extend(new.map(|(k, v)| (k.clone(), Action::Pause { verdict: v.clone(), again: Again::No })));
        actions
    }

    /// Whether events are recent enough to decide by.
    pub fn is_fresh(&self, now: Now) -> bool {
        now.latest.is_some_and(|latest| now.clock - latest <= self.rules.fresh_for)
    }

    /// Whether an object that is not paused may be now.
    pub fn may_pause(&mut self, key: &K, verdict: &Verdict, now: Now) -> bool {
        self.forget_old(now);
        self.is_free(key, now) && self.room() > 0 && self.is_fresh(now) && self.is_to_pause(verdict)
    }

    /// Whether something may be begun for this object now: nothing is under way, and it did not just fail.
    pub fn may_try(&self, key: &K, now: Now) -> bool {
        !self.begun.contains_key(key) && self.failed.get(key).is_none_or(|(_, again)| *again <= now.clock)
    }

    /// Pauses that are set.
    pub fn paused(&self) -> impl Iterator<Item = &K> {
        self.held.iter().filter(|(_, held)| held.status == Status::Paused).map(|(key, _)| key)
    }

    /// Whether the object is paused, or was left alone or recreated a short time ago.
    pub fn is_known(&self, key: &K) -> bool {
        self.held.contains_key(key)
    }

    /// An action was begun.
    pub fn has_begun(&mut self, key: &K, action: &Action) {
        self.begun.insert(key.clone(), matches!(action, Action::Pause { .. }));
    }

    /// An action failed, and may have been done. It is tried again, after waits that grow.
    pub fn has_failed(&mut self, key: &K, now: Now) {
        self.begun.remove(key);
        let (times, again) = self.failed.entry(key.clone()).or_default();
        let wait = 1_000_000 << (*times).min(5);
        (*times, *again) = (*times + 1, now.clock + wait.min(RETRY_MAX));
    }

    /// A pause was set, or found.
    pub fn has_paused(&mut self, key: K, until: Option<Micros>, now: Now) {
        self.is_done(&key);
        let since = now.latest.unwrap_or(i64::MIN);
        let sets = self.held.get(&key).map_or(0, |held| held.sets) + 1;
        let held =
            Held { status: Status::Paused, written: now.clock, since, until, sets, uid: None, checked: now.clock };
        self.held.insert(key, held);
        self.set.push_back(now.clock);
    }

    /// The paused object is the one with this uid.
    pub fn has_checked(&mut self, key: &K, uid: Option<&str>, now: Now) {
        self.is_done(key);
        if let Some(held) = self.held.get_mut(key) {
            (held.uid, held.checked) = (uid.map(Arc::from), now.clock);
        }
    }

    /// The object that was paused is gone, and its pause with it. One that is created in its place may be paused.
    pub fn has_ended(&mut self, key: &K) {
        self.is_done(key);
        if let Some(held) = self.held.get_mut(key) {
            held.status = Status::Ended;
        }
    }

    /// A pause is over.
    pub fn has_lifted(&mut self, key: &K) {
        self.is_done(key);
        self.held.remove(key);
    }

    /// An object is to be left alone for a while.
    pub fn has_left(&mut self, key: K, time: Micros, now: Now) {
        self.is_done(&key);
        let written = now.clock + time;
        let held = Held { status: Status::Left, written, since: 0, until: None, sets: 0, uid: None, checked: 0 };
        self.held.insert(key, held);
    }

    /// Nothing is under way any more, and what is paused is not known for certain: it is to be looked for.
    pub fn forget_pauses(&mut self) {
        self.begun.clear();
        self.held.retain(|_, held| held.status != Status::Paused);
    }

    fn is_done(&mut self, key: &K) {
        self.begun.remove(key);
        self.failed.remove(key);
    }

    fn forget_old(&mut self, now: Now) {
        self.set.retain(|at| now.clock - at < MINUTE);
        self.failed.retain(|_, (_, again)| now.clock - *again < MINUTE);
        self.held.retain(|_, held| match held.status {
            Status::Paused => true,
            Status::Left => now.clock < held.written,
            Status::Ended => now.clock - held.written < MINUTE,
        });
    }

    /// How many more pauses may be set now.
    fn room(&self) -> usize {
        let under_way = self.begun.values().filter(|is_pause| **is_pause).count();
        self.rules.per_minute.saturating_sub(self.set.len() + under_way)
    }

    /// Whether an object is not paused, nor left alone, nor recreated too often.
    fn is_free(&self, key: &K, now: Now) -> bool {
        let is_free = self.held.get(key).is_none_or(|held| {
            let is_rested = held.sets == 1 || now.clock - held.written >= OBJECT_EVERY;
            held.status == Status::Ended && held.sets < SETS_MAX && is_rested
        });
        is_free && self.may_try(key, now)
    }

    fn is_to_pause(&self, verdict: &Verdict) -> bool {
        verdict.state == State::Paused && verdict.confidence >= self.rules.confidence && !verdict.is_unmanaged
    }

    /// What becomes of a pause.
    fn of_held(&self, held: &Held, verdict: Option<&Verdict>, now: Now) -> Option<Action> {
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
