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

use super::means::Means;
use crate::audit::event::Micros;
use crate::detect::verdict::{Confidence, State};

/// How often a pause is set that a rival keeps removing. More would be a war of our own.
const SET_COUNT_MAX: u32 = 5;
/// Minimum time between two writes to one object.
const OBJECT_WRITE_INTERVAL: Micros = 10_000_000;
/// How long an object that must not be paused is left alone before it is considered again.
const INELIGIBLE_BACKOFF: Micros = 60_000_000;
/// How long an object is left alone after a rival has removed its pause too often.
pub const REMOVAL_BACKOFF: Micros = 3_600_000_000;
/// The annotation with the end of a pause is updated if the end becomes later by more than this.
const UNTIL_SLACK: Micros = 60_000_000;
const MINUTE: Micros = 60_000_000;
/// Interval of checks whether a paused object still has the same uid.
const CHECK_INTERVAL: Micros = 2_000_000;
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
    pub max_pauses_per_minute: usize,
    /// If the latest event is older than this, no new decisions are made.
    pub max_event_age: Micros,
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
    /// How a pause would keep a party from writing; `None` if no party honours one.
    pub means: Option<Means>,
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
        /// Whether the pause is new, is extended, or is restored because a rival removed it.
        kind: PauseKind,
    },
    /// Remove the annotations.
    Lift(ResumeReason),
    /// A person removed the pause: tell the engine, remove what is left of it, and report it.
    Resume(PauseRemoval),
    /// A rival keeps removing the annotation: leave the object alone, and report it.
    GiveUp(PauseRemoval),
    /// Check whether the object still has this uid. Without a uid, find out whether it is paused, and which uid it has.
    Check(Option<Arc<str>>),
}

/// Why a pause is set.
#[derive(Clone, Debug, PartialEq)]
pub enum PauseKind {
    /// A new pause.
    New,
    /// The pause ends later than its annotation says.
    Extension,
    /// This actor removed the pause.
    Restored(Arc<str>),
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
    /// All contested objects of the paused Application were deleted.
    Deleted,
}

/// The state of all pauses, and the actions in flight.
#[derive(Clone, Debug)]
pub struct Plan<K> {
    rules: Rules,
    records: BTreeMap<K, PauseRecord>,
    /// When pauses were set within the last minute.
    recent_pauses: VecDeque<Micros>,
    /// Actions in flight, and whether each sets a pause.
    in_flight: BTreeMap<K, bool>,
    /// Failed actions: number of consecutive failures, and when to retry.
    failures: BTreeMap<K, (u32, Micros)>,
}

#[derive(Clone, Debug)]
struct PauseRecord {
    status: Status,
    /// Wall clock of the last write. For an object that is left alone, the end of that time.
    last_write: Micros,
    /// Event time when the annotation was last set.
    since: Micros,
    until: Option<Micros>,
    set_count: u32,
    uid: Option<Arc<str>>,
    /// Wall clock when the object was last known to have the paused uid.
    last_check: Micros,
    /// Why the pause must end, whatever the verdict.
    end: Option<ResumeReason>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// The annotation is set.
    Paused,
    /// The object must not be paused, or a rival keeps removing the pause: it is left alone for now.
    Skipped,
    /// The paused object is gone. Kept for a while, so that an object that is recreated repeatedly is not paused each
    /// time.
    Gone,
}

// === impl Action ===

impl Action {
    /// Returns the name of the action.
    pub fn name(&self) -> &'static str {
        match self {
            Action::Pause { .. } => "pause",
            Action::Lift(_) => "lift",
            Action::Resume(_) => "resumed",
            Action::GiveUp(_) => "stripped",
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
            ResumeReason::Deleted => "the objects that were fought over are deleted",
        }
    }
}

// === impl Plan ===

impl<K: Ord + Clone> Plan<K> {
    /// Creates a plan without pauses.
    pub fn new(rules: Rules) -> Plan<K> {
        Plan {
            rules,
            records: BTreeMap::new(),
            recent_pauses: VecDeque::new(),
            in_flight: BTreeMap::new(),
            failures: BTreeMap::new(),
        }
    }

    /// Returns the actions to execute now. The result of each action must be reported with [`Plan::record_pause`],
    /// [`Plan::record_lift`], [`Plan::record_skip`], [`Plan::record_refusal`], [`Plan::record_check`],
    /// [`Plan::record_gone`] or [`Plan::record_failure`]; otherwise it is proposed again. [`Plan::record_start`] marks an action as in flight, so
    /// that nothing is proposed for its object until the result is reported.
    pub fn step(&mut self, now: Now, verdicts: &BTreeMap<K, Verdict>) -> Vec<(K, Action)> {
        self.remove_expired(now);
        let mut actions = Vec::new();
        let mut checks = Vec::new();
        let mut remaining_pauses = self.remaining_pauses();
        for (key, record) in
            self.records.iter().filter(|(key, record)| record.status == Status::Paused && self.can_start(key, now))
        {
            match self.next_for_pause(record, verdicts.get(key), now) {
                // Too many pauses within the minute: proposed again later.
                Some(Action::Pause { .. }) if remaining_pauses == 0 => {}
                Some(action) => {
                    remaining_pauses -= usize::from(matches!(action, Action::Pause { .. }));
                    actions.push((key.clone(), action));
                }
                None if now.clock - record.last_check >= CHECK_INTERVAL => {
                    checks.push((record.last_check, key, &record.uid))
                }
                None => {}
            }
        }
        checks.sort_by_key(|(last_check, ..)| *last_check);
        let check = |(_, key, uid): (Micros, &K, &Option<Arc<str>>)| (key.clone(), Action::Check(uid.clone()));
        actions.extend(checks.into_iter().take(CHECKS_MAX).map(check));
        if !self.is_fresh(now) {
            return actions;
        }
        let is_new = |(key, verdict): &(&K, &Verdict)| self.needs_pause(verdict) && self.is_eligible(key, now);
        let new = verdicts.iter().filter(is_new).take(remaining_pauses);
        actions.extend(new.map(|(k, v)| (k.clone(), Action::Pause { verdict: v.clone(), kind: PauseKind::New })));
        actions
    }

    /// Returns whether events are recent enough for decisions.
    pub fn is_fresh(&self, now: Now) -> bool {
        now.latest.is_some_and(|latest| now.clock - latest <= self.rules.max_event_age)
    }

    /// Returns whether an object that is not paused may be paused now.
    pub fn may_pause(&mut self, key: &K, verdict: &Verdict, now: Now) -> bool {
        self.remove_expired(now);
        self.is_eligible(key, now) && self.remaining_pauses() > 0 && self.is_fresh(now) && self.needs_pause(verdict)
    }

    /// Returns whether an action can be started for this object: none is in flight, and none has just failed.
    pub fn can_start(&self, key: &K, now: Now) -> bool {
        !self.in_flight.contains_key(key) && self.failures.get(key).is_none_or(|(_, again)| *again <= now.clock)
    }

    /// Returns the paused objects.
    pub fn paused(&self) -> impl Iterator<Item = &K> {
        self.records.iter().filter(|(_, record)| record.status == Status::Paused).map(|(key, _)| key)
    }

    /// Returns whether the object is paused, or was left alone or recreated recently.
    pub fn is_known(&self, key: &K) -> bool {
        self.records.contains_key(key)
    }

    /// Records that an action was started.
    pub fn record_start(&mut self, key: &K, action: &Action) {
        self.in_flight.insert(key.clone(), matches!(action, Action::Pause { .. }));
    }

    /// Records that an action failed, or timed out and may have succeeded. It is retried with exponential backoff.
    pub fn record_failure(&mut self, key: &K, now: Now) {
        self.in_flight.remove(key);
        let (times, again) = self.failures.entry(key.clone()).or_default();
        let wait = 1_000_000 << (*times).min(5);
        (*times, *again) = (*times + 1, now.clock + wait.min(RETRY_MAX));
    }

    /// Records a pause that was set or found.
    pub fn record_pause(&mut self, key: K, until: Option<Micros>, now: Now) {
        self.clear_in_flight(&key);
        let since = now.latest.unwrap_or(i64::MIN);
        let set_count = self.records.get(&key).map_or(0, |record| record.set_count) + 1;
        let record = PauseRecord {
            status: Status::Paused,
            last_write: now.clock,
            since,
            until,
            set_count,
            uid: None,
            last_check: now.clock,
            end: None,
        };
        self.records.insert(key, record);
        self.recent_pauses.push_back(now.clock);
    }

    /// Records that the paused object has this uid.
    pub fn record_check(&mut self, key: &K, uid: Option<&str>, now: Now) {
        self.clear_in_flight(key);
        if let Some(record) = self.records.get_mut(key) {
            (record.uid, record.last_check) = (uid.map(Arc::from), now.clock);
        }
    }

    /// Records that a pause must end, whatever the verdict. It is removed as soon as no other action is in flight for it.
    pub fn record_end(&mut self, key: &K, reason: ResumeReason) {
        if let Some(record) = self.records.get_mut(key) {
            record.end = Some(reason);
        }
    }

    /// Records that the paused object is gone, and its pause with it. An object that replaces it may be paused.
    pub fn record_gone(&mut self, key: &K) {
        self.clear_in_flight(key);
        if let Some(record) = self.records.get_mut(key) {
            record.status = Status::Gone;
        }
    }

    /// Records that a pause was removed.
    pub fn record_lift(&mut self, key: &K) {
        self.clear_in_flight(key);
        self.records.remove(key);
    }

    /// Records that an object must be left alone for `time`.
    pub fn record_skip(&mut self, key: K, time: Micros, now: Now) {
        self.clear_in_flight(&key);
        let last_write = now.clock + time;
        let record = PauseRecord {
            status: Status::Skipped,
            last_write,
            since: 0,
            until: None,
            set_count: 0,
            uid: None,
            last_check: 0,
            end: None,
        };
        self.records.insert(key, record);
    }

    /// Records that the object may not be paused now. A new pause is not tried for a while. An existing pause stays
    /// known, so that it is lifted in the end.
    pub fn record_refusal(&mut self, key: K, now: Now) {
        if self.records.get(&key).is_some_and(|record| record.status == Status::Paused) {
            self.record_failure(&key, now);
        } else {
            self.record_skip(key, INELIGIBLE_BACKOFF, now);
        }
    }

    /// Discards all pauses and actions in flight, since it is no longer known which pauses exist. They must be looked
    /// up again.
    pub fn forget_pauses(&mut self) {
        self.in_flight.clear();
        self.records.retain(|_, record| record.status != Status::Paused);
    }

    fn clear_in_flight(&mut self, key: &K) {
        self.in_flight.remove(key);
        self.failures.remove(key);
    }

    fn remove_expired(&mut self, now: Now) {
        self.recent_pauses.retain(|at| now.clock - at < MINUTE);
        self.failures.retain(|_, (_, again)| now.clock - *again < MINUTE);
        self.records.retain(|_, record| match record.status {
            Status::Paused => true,
            Status::Skipped => now.clock < record.last_write,
            Status::Gone => now.clock - record.last_write < MINUTE,
        });
    }

    /// Returns how many more pauses may be set now.
    fn remaining_pauses(&self) -> usize {
        let in_flight = self.in_flight.values().filter(|is_pause| **is_pause).count();
        self.rules.max_pauses_per_minute.saturating_sub(self.recent_pauses.len() + in_flight)
    }

    /// Returns whether an object is neither paused nor left alone, and was not recreated too often.
    fn is_eligible(&self, key: &K, now: Now) -> bool {
        let is_idle = self.records.get(key).is_none_or(|record| {
            let is_late_enough = record.set_count == 1 || now.clock - record.last_write >= OBJECT_WRITE_INTERVAL;
            record.status == Status::Gone && record.set_count < SET_COUNT_MAX && is_late_enough
        });
        is_idle && self.can_start(key, now)
    }

    fn needs_pause(&self, verdict: &Verdict) -> bool {
        verdict.state == State::Sustained
            && verdict.confidence >= self.rules.confidence
            && !verdict.is_unmanaged
            && verdict.means.is_some()
    }

    /// Returns what to do about an existing pause.
    fn next_for_pause(&self, record: &PauseRecord, verdict: Option<&Verdict>, now: Now) -> Option<Action> {
        if let Some(reason) = record.end {
            return Some(Action::Lift(reason));
        }
        let Some(verdict) = verdict else {
            // No longer contested, or found at startup and without events since: the pause ends when its time is over.
            let is_over = record.until.zip(now.latest).is_some_and(|(until, latest)| until <= latest);
            return is_over.then_some(Action::Lift(ResumeReason::Quiet));
        };
        if verdict.is_unmanaged {
            return Some(Action::Lift(ResumeReason::Unmanaged));
        }
        if let Some(removal) = verdict.removal.as_ref().filter(|removal| removal.at > record.since) {
            return if removal.is_deliberate {
                Some(Action::Resume(removal.clone()))
            } else if !self.needs_pause(verdict) {
                Some(Action::Lift(ResumeReason::Quiet))
            } else if record.set_count >= SET_COUNT_MAX {
                Some(Action::GiveUp(removal.clone()))
            } else {
                self.pause_again(record, verdict, PauseKind::Restored(removal.actor.clone()), now)
            };
        }
        if !self.needs_pause(verdict) {
            // A pause that was found at startup must outlast an engine that has not seen the events before it.
            let is_over = record.until.is_none_or(|until| now.latest.is_some_and(|latest| until <= latest));
            return is_over.then_some(Action::Lift(ResumeReason::Quiet));
        }
        let is_longer = verdict.until.zip(record.until).is_some_and(|(is, was)| is > was + UNTIL_SLACK);
        is_longer.then(|| self.pause_again(record, verdict, PauseKind::Extension, now)).flatten()
    }

    fn pause_again(&self, record: &PauseRecord, verdict: &Verdict, kind: PauseKind, now: Now) -> Option<Action> {
        let may = self.is_fresh(now) && now.clock - record.last_write >= OBJECT_WRITE_INTERVAL;
        may.then(|| Action::Pause { verdict: verdict.clone(), kind })
    }
}

#[cfg(test)]
mod tests;
