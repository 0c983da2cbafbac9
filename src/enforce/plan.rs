//! Decides what to do about each object: takes verdicts and the results of earlier actions, returns actions. Pure.
//!
//! ```text
//!            sustained, confident enough              quiet, a person, unmanaged, switched off
//!  (nothing) ────────────────────► Pause ► paused ──────────────────────────────────────────────► Lift ► (nothing)
//!                                           │ ▲
//!                     a rival removes it    └─┘ set again, up to a limit; then the object is left alone
//! ```
//!
//! A pause belongs to one uid. Every few seconds, each paused object is checked for still having the same uid. An
//! object that was deleted and created again is not paused, and is judged like any other.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::audit::event::Micros;
use crate::detect::verdict::{Confidence, State};

/// How often a pause is set that a rival keeps removing. More would be a war of our own.
const SETS_MAX: u32 = 5;
/// Minimum time between two writes to one object.
const OBJECT_EVERY: Micros = 10_000_000;
/// How long an object that must not be paused is left alone before it is considered again.
pub const REFUSED_FOR: Micros = 60_000_000;
/// How long an object is left alone after a rival has removed its pause too often.
pub const STRIPPED_FOR: Micros = 3_600_000_000;
/// The annotation with the end of a pause is updated if the end becomes later by more than this.
const UNTIL_SLACK: Micros = 60_000_000;
const MINUTE: Micros = 60_000_000;
/// Interval of checks whether a paused object still has the same uid.
const CHECK_EVERY: Micros = 2_000_000;
/// Maximum number of checks per step. They are reads, and there may be many pauses.
const CHECKS_MAX: usize = 10;
/// Maximum delay before a failed action is retried. The first delay is one second.
const RETRY_MAX: Micros = 30_000_000;

/// The rules for pauses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Minimum confidence of a verdict.
    pub confidence: Confidence,
    /// Maximum number of pauses per minute.
    pub per_minute: usize,
    /// If the latest event is older than this, no new decisions are made.
    pub fresh_for: Micros,
}

/// What the events say about one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The state of the most urgent war.
    pub state: State,
    /// The confidence of this state.
    pub confidence: Confidence,
    /// When the pause ends at the earliest, as known now.
    pub until: Option<Micros>,
    /// The parties of the war.
    pub parties: Vec<Arc<str>>,
    /// The fields and values that are fought over, as text.
    pub over: String,
    /// Number of retakes so far.
    pub retakes: u32,
    /// Time of the first retake.
    pub since: Option<Micros>,
    /// The last removal of the pause annotation by someone else.
    pub removal: Option<PauseRemoval>,
    /// Whether a person has set `mode=unmanaged`.
    pub is_unmanaged: bool,
}

/// A removal of the pause annotation.
#[derive(Clone, Debug, PartialEq)]
pub struct PauseRemoval {
    /// When it happened.
    pub at: Micros,
    /// Who removed it.
    pub actor: Arc<str>,
    /// Whether a person did so, in a write that changed nothing but annotations for reconcilers.
    pub is_deliberate: bool,
}

/// The time of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// The wall clock.
    pub clock: Micros,
    /// The time of the latest event of the cluster that is acted on.
    pub latest: Option<Micros>,
}

/// An action to execute.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Set the annotations.
    Pause {
        /// The verdict that leads to it.
        verdict: Verdict,
        /// Whether the pause is new, is extended, or was removed by a rival.
        again: Again,
    },
    /// Remove the annotations.
    Lift(ResumeReason),
    /// A person removed the pause: tell the engine, remove what is left of it, and report it.
    Resumed(PauseRemoval),
    /// A rival keeps removing the annotation: leave the object alone, and report it.
    Stripped(PauseRemoval),
    /// Check whether the object still has this uid. Without a uid, find out whether it is paused, and which uid it has.
    Check(Option<Arc<str>>),
}

/// Whether a pause is a new one.
#[derive(Clone, Debug, PartialEq)]
pub enum Again {
    /// A new pause.
    No,
    /// The pause ends later than its annotation says.
    Longer,
    /// This actor removed the pause.
    Stripped(Arc<str>),
}

/// The reason why a pause ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResumeReason {
    /// There was no retake for the quiet period.
    Quiet,
    /// Someone set `mode=unmanaged`.
    Unmanaged,
    /// Pauses are switched off for its namespace.
    SwitchedOff,
}

/// The state of all pauses, and the actions in flight.
#[derive(Clone, Debug)]
pub struct Plan<K> {
    rules: Rules,
    held: BTreeMap<K, PauseRecord>,
    /// When pauses were set within the last minute.
    set: VecDeque<Micros>,
    /// Actions in flight, and whether each sets a pause.
    begun: BTreeMap<K, bool>,
    /// Failed actions: number of consecutive failures, and when to retry.
    failed: BTreeMap<K, (u32, Micros)>,
}

#[derive(Clone, Debug)]
struct PauseRecord {
    status: Status,
    /// Wall clock of the last write. For an object that is left alone, the end of that time.
    written: Micros,
    /// Event time when the annotation was last set.
    since: Micros,
    until: Option<Micros>,
    sets: u32,
    uid: Option<Arc<str>>,
    /// Wall clock when the object was last known to have the paused uid.
    checked: Micros,
    /// Whether pauses are switched off for its namespace.
    is_switched_off: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// The annotation is set.
    Paused,
    /// The object must not be paused, or a rival keeps removing the pause: it is left alone for now.
    Left,
    /// The paused object is gone. Kept for a while, so that an object that is recreated repeatedly is not paused each
    /// time.
    Ended,
}

// === impl Action ===

impl Action {
    /// Returns the name of the action.
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

// === impl ResumeReason ===

impl ResumeReason {
    /// Returns the reason as text.
    pub fn reason(self) -> &'static str {
        match self {
            ResumeReason::Quiet => "no party retook a field during the quiet period",
            ResumeReason::Unmanaged => "the object is now unmanaged",
            ResumeReason::SwitchedOff => "pauses are turned off for the namespace",
        }
    }
}

// === impl Plan ===

impl<K: Ord + Clone> Plan<K> {
    /// Creates a plan without pauses.
    pub fn new(rules: Rules) -> Plan<K> {
        Plan { rules, held: BTreeMap::new(), set: VecDeque::new(), begun: BTreeMap::new(), failed: BTreeMap::new() }
    }

    /// Returns the actions to execute now. The result of each action must be reported with [`Plan::has_paused`],
    /// [`Plan::has_lifted`], [`Plan::has_left`], [`Plan::has_checked`], [`Plan::has_ended`] or [`Plan::has_failed`];
    /// otherwise it is proposed again. [`Plan::has_begun`] marks an action as in flight, so that nothing is proposed
    /// for its object until the result is reported.
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

    /// Returns whether events are recent enough for decisions.
    pub fn is_fresh(&self, now: Now) -> bool {
        now.latest.is_some_and(|latest| now.clock - latest <= self.rules.fresh_for)
    }

    /// Returns whether an object that is not paused may be paused now.
    pub fn may_pause(&mut self, key: &K, verdict: &Verdict, now: Now) -> bool {
        self.forget_old(now);
        self.is_free(key, now) && self.room() > 0 && self.is_fresh(now) && self.is_to_pause(verdict)
    }

    /// Returns whether an action can be started for this object: none is in flight, and none has just failed.
    pub fn may_try(&self, key: &K, now: Now) -> bool {
        !self.begun.contains_key(key) && self.failed.get(key).is_none_or(|(_, again)| *again <= now.clock)
    }

    /// Returns the paused objects.
    pub fn paused(&self) -> impl Iterator<Item = &K> {
        self.held.iter().filter(|(_, held)| held.status == Status::Paused).map(|(key, _)| key)
    }

    /// Returns whether the object is paused, or was left alone or recreated recently.
    pub fn is_known(&self, key: &K) -> bool {
        self.held.contains_key(key)
    }

    /// Records that an action was started.
    pub fn has_begun(&mut self, key: &K, action: &Action) {
        self.begun.insert(key.clone(), matches!(action, Action::Pause { .. }));
    }

    /// Records that an action failed, or timed out and may have succeeded. It is retried with exponential backoff.
    pub fn has_failed(&mut self, key: &K, now: Now) {
        self.begun.remove(key);
        let (times, again) = self.failed.entry(key.clone()).or_default();
        let wait = 1_000_000 << (*times).min(5);
        (*times, *again) = (*times + 1, now.clock + wait.min(RETRY_MAX));
    }

    /// Records a pause that was set or found.
    pub fn has_paused(&mut self, key: K, until: Option<Micros>, now: Now) {
        self.is_done(&key);
        let since = now.latest.unwrap_or(i64::MIN);
        let sets = self.held.get(&key).map_or(0, |held| held.sets) + 1;
        let held = PauseRecord {
            status: Status::Paused,
            written: now.clock,
            since,
            until,
            sets,
            uid: None,
            checked: now.clock,
            is_switched_off: false,
        };
        self.held.insert(key, held);
        self.set.push_back(now.clock);
    }

    /// Records that the paused object has this uid.
    pub fn has_checked(&mut self, key: &K, uid: Option<&str>, now: Now) {
        self.is_done(key);
        if let Some(held) = self.held.get_mut(key) {
            (held.uid, held.checked) = (uid.map(Arc::from), now.clock);
        }
    }

    /// Records that pauses are switched off for the namespace of an object. Its pause is removed as soon as no other
    /// action is in flight for it.
    pub fn has_switched_off(&mut self, key: &K) {
        if let Some(held) = self.held.get_mut(key) {
            held.is_switched_off = true;
        }
    }

    /// Records that the paused object is gone, and its pause with it. An object that replaces it may be paused.
    pub fn has_ended(&mut self, key: &K) {
        self.is_done(key);
        if let Some(held) = self.held.get_mut(key) {
            held.status = Status::Ended;
        }
    }

    /// Records that a pause was removed.
    pub fn has_lifted(&mut self, key: &K) {
        self.is_done(key);
        self.held.remove(key);
    }

    /// Records that an object must be left alone for `time`.
    pub fn has_left(&mut self, key: K, time: Micros, now: Now) {
        self.is_done(&key);
        let written = now.clock + time;
        let held = PauseRecord {
            status: Status::Left,
            written,
            since: 0,
            until: None,
            sets: 0,
            uid: None,
            checked: 0,
            is_switched_off: false,
        };
        self.held.insert(key, held);
    }

    /// Discards all pauses and actions in flight, since it is no longer known which pauses exist. They must be looked
    /// up again.
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

    /// Returns how many more pauses may be set now.
    fn room(&self) -> usize {
        let under_way = self.begun.values().filter(|is_pause| **is_pause).count();
        self.rules.per_minute.saturating_sub(self.set.len() + under_way)
    }

    /// Returns whether an object is neither paused nor left alone, and was not recreated too often.
    fn is_free(&self, key: &K, now: Now) -> bool {
        let is_free = self.held.get(key).is_none_or(|held| {
            let is_rested = held.sets == 1 || now.clock - held.written >= OBJECT_EVERY;
            held.status == Status::Ended && held.sets < SETS_MAX && is_rested
        });
        is_free && self.may_try(key, now)
    }

    fn is_to_pause(&self, verdict: &Verdict) -> bool {
        verdict.state == State::Sustained && verdict.confidence >= self.rules.confidence && !verdict.is_unmanaged
    }

    /// Returns what to do about an existing pause.
    fn of_held(&self, held: &PauseRecord, verdict: Option<&Verdict>, now: Now) -> Option<Action> {
        if held.is_switched_off {
            return Some(Action::Lift(ResumeReason::SwitchedOff));
        }
        let Some(verdict) = verdict else {
            // No longer contested, or found at startup and without events since: the pause ends when its time is over.
            let is_over = held.until.zip(now.latest).is_some_and(|(until, latest)| until <= latest);
            return is_over.then_some(Action::Lift(ResumeReason::Quiet));
        };
        if verdict.is_unmanaged {
            return Some(Action::Lift(ResumeReason::Unmanaged));
        }
        if let Some(removal) = verdict.removal.as_ref().filter(|removal| removal.at > held.since) {
            return if removal.is_deliberate {
                Some(Action::Resumed(removal.clone()))
            } else if !self.is_to_pause(verdict) {
                Some(Action::Lift(ResumeReason::Quiet))
            } else if held.sets >= SETS_MAX {
                Some(Action::Stripped(removal.clone()))
            } else {
                self.again(held, verdict, Again::Stripped(removal.actor.clone()), now)
            };
        }
        if !self.is_to_pause(verdict) {
            // A pause that was found at startup must outlast an engine that has not seen the events before it.
            let is_over = held.until.is_none_or(|until| now.latest.is_some_and(|latest| until <= latest));
            return is_over.then_some(Action::Lift(ResumeReason::Quiet));
        }
        let is_longer = verdict.until.zip(held.until).is_some_and(|(is, was)| is > was + UNTIL_SLACK);
        is_longer.then(|| self.again(held, verdict, Again::Longer, now)).flatten()
    }

    fn again(&self, held: &PauseRecord, verdict: &Verdict, again: Again, now: Now) -> Option<Action> {
        let may =
            self.is_fresh(now) && now.clock - held.written >= OBJECT_EVERY && self.set.len() < self.rules.per_minute;
        may.then(|| Action::Pause { verdict: verdict.clone(), again })
    }
}

#[cfg(test)]
mod tests;
