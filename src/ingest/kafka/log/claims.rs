//! Who leads the replicas that share a log: whose claim the log has first.
//!
//! A replica claims the lead by a message in the log, and repeats the claim while it leads. All replicas read the claims in
//! the same order, and come to the same result. A leader leads until a time that is counted from when it *sent* its latest claim,
//! by its own clock. Another replica claims the lead when it has *seen* no claim of the leader for longer than that, by its own
//! clock, and its claim counts only if none of the leader's came in between. So two never lead at the same time, even if one of
//! them cannot reach the brokers: its claims do not arrive, its lead ends by itself, and only then do others see that.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// How long others wait for the next claim of a leader.
pub(super) const EXPIRES_AFTER: Duration = Duration::from_secs(12);
/// How long a claim lasts for the one that sent it. It is shorter, in case its clock is slow.
const LASTS: Duration = Duration::from_secs(11);
/// How late a replica may read its own claim to lead: later, too little time would be left to publish anything.
const READ_WITHIN: Duration = Duration::from_secs(3);
/// Interval of the claims of a leader.
const REPEATED_EVERY: Duration = Duration::from_secs(2);
/// Maximum number of claims that were sent and not read yet. Older ones have expired.
const SENT_MAX: usize = 16;

/// Maximum number of claims that are remembered until it is certain which of them count.
const CANDIDATES_MAX: usize = 64;

/// A claim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Claim {
    /// Which lead it is. The first claim of an epoch decides who leads in it.
    pub(super) epoch: u64,
    /// Who claims.
    pub(super) holder: String,
    /// Which of the claims of this replica it is.
    pub(super) number: u64,
    /// The claim that has expired, by holder and number. It must be the latest one for a new epoch to begin.
    pub(super) after: Option<(String, u64)>,
}

/// The latest valid claim.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Current {
    epoch: u64,
    holder: String,
    number: u64,
}

/// What one replica knows.
#[derive(Debug)]
pub(super) struct Claims {
    me: String,
    current: Option<Current>,
    /// Epochs and holders of the claims so far, as long as it is uncertain which of them count, because an earlier claim than the
    /// first one that was read may have decided. Only the leader repeats its claim.
    candidates: Option<VecDeque<(u64, String)>>,
    /// When the latest valid claim was read.
    seen: Instant,
    /// Own claims that were not read yet, with the times when they were sent.
    sent: VecDeque<(u64, Instant)>,
    next_number: u64,
    last_sent: Option<Instant>,
    /// Until when this replica leads.
    until: Option<Instant>,
}

// === impl Claims ===

impl Claims {
    /// `me` must not be the name of another replica, nor of an earlier process of this one.
    pub(super) fn new(me: String, now: Instant) -> Claims {
        Claims {
            me,
            current: None,
            candidates: Some(VecDeque::new()),
            seen: now,
            sent: VecDeque::new(),
            next_number: 0,
            last_sent: None,
            until: None,
        }
    }

    /// Processes the next claim in the log.
    pub(super) fn read(&mut self, claim: &Claim, now: Instant) {
        let sent = self.sent.iter().find(|(number, _)| claim.holder == self.me && *number == claim.number);
        let sent = sent.map(|(_, at)| *at);
        if let Some(candidates) = &mut self.candidates {
            let candidate = (claim.epoch, claim.holder.clone());
            // A claim to take over may be in vain. Only a claim that repeats another one has nothing that expired before it.
            if candidates.contains(&candidate) && claim.after.is_none() {
                self.candidates = None;
            } else {
                candidates.push_back(candidate);
                candidates.drain(..candidates.len().saturating_sub(CANDIDATES_MAX));
            }
        } else if !self.current.as_ref().is_some_and(|current| current.admits(claim)) {
            return;
        }
        self.current = Some(Current { epoch: claim.epoch, holder: claim.holder.clone(), number: claim.number });
        self.seen = now;
        let is_in_time = |at: &Instant| now <= *at + READ_WITHIN;
        self.until = sent.filter(is_in_time).map(|at| at + LASTS).filter(|_| self.candidates.is_none());
    }

    /// Returns the claim to send now, if any. `epoch_min` is the smallest number of a new epoch.
    pub(super) fn next(&mut self, now: Instant, epoch_min: u64) -> Option<Claim> {
        if self.last_sent.is_some_and(|at| now < at + REPEATED_EVERY) {
            return None;
        }
        let has_expired = now >= self.seen + EXPIRES_AFTER;
        let (epoch, after) = match &self.current {
            // A leader that could not read its claims in time leaves the lead to another one.
            Some(current) if current.holder == self.me && (self.candidates.is_some() || self.leads(now)) => {
                (current.epoch, None)
            }
            Some(current) if has_expired => {
                (epoch_min.max(current.epoch + 1), Some((current.holder.clone(), current.number)))
            }
            None if has_expired => (epoch_min, None),
            _ => return None,
        };
        let number = self.next_number;
        self.next_number += 1;
        self.last_sent = Some(now);
        self.sent.push_back((number, now));
        if self.sent.len() > SENT_MAX {
            self.sent.pop_front();
        }
        Some(Claim { epoch, holder: self.me.clone(), number, after })
    }

    fn leads(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// Returns until when this replica leads, if it does.
    pub(super) fn until(&self) -> Option<Instant> {
        self.until
    }
}

// === impl Current ===

impl Current {
    /// Returns whether a claim repeats this one, or follows after it has expired.
    fn admits(&self, claim: &Claim) -> bool {
        let is_after = |(holder, number): &(String, u64)| *holder == self.holder && *number == self.number;
        (claim.epoch == self.epoch && claim.holder == self.holder)
            || (claim.epoch > self.epoch && claim.after.as_ref().is_some_and(is_after))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_replica_leads_and_another_follows_when_it_ends() {
        let start = Instant::now();
        let mut all = ["a", "b"].map(|name| Claims::new(name.to_owned(), start));
        assert_eq!(all[0].next(start, 5), None, "another one may lead");
        let now = start + EXPIRES_AFTER;
        let claims: Vec<Claim> = all.iter_mut().map(|claims| claims.next(now, 5).unwrap()).collect();
        for claim in &claims {
            all.iter_mut().for_each(|claims| claims.read(claim, now + SECOND));
        }
        assert_eq!((all[0].until(), all[1].until()), (None, None), "an earlier claim may have been deleted");
        // Only one repeats its claim.
        let later = now + 3 * SECOND;
        let repeated = all[1].next(later, 6).unwrap();
        assert_eq!((repeated.epoch, all[0].next(later, 6)), (5, None));
        all.iter_mut().for_each(|claims| claims.read(&repeated, later + SECOND));
        assert_eq!((all[0].until(), all[1].until()), (None, Some(later + LASTS)), "from when it was sent");
        // It is gone.
        assert_eq!(all[0].next(later + EXPIRES_AFTER, 6), None);
        let end = later + EXPIRES_AFTER + SECOND;
        let next = all[0].next(end, 6).unwrap();
        all.iter_mut().for_each(|claims| claims.read(&next, end));
        assert_eq!((next.epoch, all[0].until(), all[1].until()), (6, Some(end + LASTS), None));
    }

    #[test]
    fn a_claim_does_not_count_if_the_leader_has_repeated_its_own_in_between() {
        let start = Instant::now();
        let mut all = ["a", "b"].map(|name| Claims::new(name.to_owned(), start));
        let read = |all: &mut [Claims; 2], claim: &Claim, at| all.iter_mut().for_each(|c| c.read(claim, at));
        for after in [12, 14] {
            let claim = all[0].next(start + after * SECOND, 5).unwrap();
            read(&mut all, &claim, start + after * SECOND);
        }
        // It is repeated in time, and arrives when the other one has waited long enough.
        let (sent, now) = (start + 24 * SECOND, start + 26 * SECOND);
        let (repeated, other) = (all[0].next(sent, 6).unwrap(), all[1].next(now, 6).unwrap());
        assert_eq!((repeated.epoch, other.epoch), (5, 6));
        read(&mut all, &repeated, now);
        read(&mut all, &other, now);
        assert_eq!((all[0].until(), all[1].until()), (Some(sent + LASTS), None));
    }

    #[test]
    fn a_claim_that_was_too_late_does_not_mislead_a_replica_that_starts_to_read_there() {
        let start = Instant::now();
        let mut new = Claims::new("new".into(), start);
        let claim = |holder: &str, number| Claim { epoch: 5, holder: holder.to_owned(), number, after: None };
        // That of the leader is before the first one that is read, and so is what another one saw expire in vain.
        new.read(&claim("late", 0), start);
        new.read(&Claim { epoch: 9, ..claim("vain", 0) }, start);
        new.read(&claim("leader", 1), start);
        new.read(&claim("leader", 1), start + SECOND);
        new.read(&Claim { epoch: 8, ..claim("vain", 1) }, start + 9 * SECOND);
        assert_eq!(new.current, Some(Current { epoch: 5, holder: "leader".to_owned(), number: 1 }));
        assert!(new.next(start + SECOND + EXPIRES_AFTER, 0).is_some_and(|claim| claim.epoch == 6));
    }

    /// What happens to one of the replicas.
    #[derive(Clone, Debug)]
    enum Action {
        /// Time passes.
        Pass(u64),
        /// It sends the claim that is due, which arrives in the log after others have been read.
        Send(usize),
        /// What it has sent arrives.
        Arrive(usize),
        /// It reads so many messages.
        Read(usize, usize),
        /// It restarts, and reads everything again.
        Restart(usize),
    }

    fn actions() -> impl Strategy<Value = Vec<Action>> {
        let replica = 0usize..3;
        let action = prop_oneof![
            3 => (1u64..4_000).prop_map(Action::Pass),
            4 => replica.clone().prop_map(Action::Send),
            4 => replica.clone().prop_map(Action::Arrive),
            4 => (replica.clone(), 1usize..5).prop_map(|(who, count)| Action::Read(who, count)),
            1 => replica.prop_map(Action::Restart),
        ];
        prop::collection::vec(action, 0..300)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        #[test]
        fn two_replicas_never_lead_at_the_same_time(actions in actions()) {
            let mut now = Instant::now();
            let mut log: Vec<Claim> = Vec::new();
            let mut names = 0;
            let mut new = |now| {
                names += 1;
                Claims::new(names.to_string(), now)
            };
            let mut replicas = [new(now), new(now), new(now)];
            let mut positions = [0; 3];
            let mut waiting: [VecDeque<Claim>; 3] = Default::default();
            for action in actions {
                match action {
                    Action::Pass(ms) => now += Duration::from_millis(ms),
                    Action::Send(who) => waiting[who].extend(replicas[who].next(now, 0)),
                    Action::Arrive(who) => log.extend(waiting[who].pop_front()),
                    Action::Read(who, count) => {
                        for claim in log.iter().skip(positions[who]).take(count) {
                            replicas[who].read(claim, now);
                            positions[who] += 1;
                        }
                    }
                    Action::Restart(who) => {
                        // What was sent may still arrive.
                        replicas[who] = new(now);
                        positions[who] = 0;
                    }
                }
                let leaders = replicas.iter().filter(|claims| claims.until().is_some_and(|until| now < until)).count();
                prop_assert!(leaders <= 1, "{leaders} lead");
            }
        }
    }
}
