//! The recent writes of one object, and what is to be done with them.

use super::feeds::Progress;
use super::held::{AccountWrite, HeldEvent, ManagerWrite, Status};
use super::matching::{Component, Decision, components, decide};
use crate::audit::event::{Level, Micros};

/// Maximum number of events of one object that are kept, of each kind. More than four writes a second that wait for a
/// minute are too many to be decided together.
const EVENTS_MAX: usize = 256;

/// What is to be done with a write.
#[derive(Debug)]
pub(in crate::pipeline) enum Release {
    /// To observe it as it is.
    Plain(HeldEvent),
    /// To observe the revision as a write of the account.
    Joined(HeldEvent),
    /// To replace the field manager of a revision, which was observed before, by the account.
    Identified(HeldEvent),
    /// To observe it as a request that changed nothing.
    NoOp(HeldEvent),
    /// To observe the reviewed write, which its audit event says was stored.
    Reviewed {
        /// The write.
        event: HeldEvent,
        /// Whether the audit event has no bodies.
        is_needed: bool,
    },
    /// A review from this source is observed without its audit event.
    Unconfirmed(Box<str>),
    /// The audit event of a review from this source that was observed before is known now.
    Confirmed(Box<str>),
}

/// The recent writes of one object.
#[derive(Debug, Default)]
pub(super) struct ObjectWrites {
    accounts: Vec<AccountWrite>,
    revisions: Vec<ManagerWrite>,
    /// Times of revisions whose manager is not known.
    unknown: Vec<Micros>,
}

// === impl ObjectWrites ===

impl ObjectWrites {
    /// Adds the write of an account.
    pub(super) fn add_account(&mut self, new: AccountWrite) {
        let has_revision = new.has_revision();
        self.accounts.push(new);
        if has_revision {
            // The answer has the revision: the watch adds nothing.
            let revisions = std::mem::take(&mut self.revisions);
            let is_left = |known: &ManagerWrite| known.status == Status::Decided || !self.is_stored_by_account(known);
            self.revisions = revisions.into_iter().filter(is_left).collect();
        }
    }

    /// Adds a revision, or the values of one that is known. Returns whether it waits, or need not be observed at all.
    pub(super) fn add_revision(&mut self, new: ManagerWrite) -> bool {
        if self.is_stored_by_account(&new) {
            return true;
        }
        if let Some(known) = self.revisions.iter_mut().find(|known| known.is_same_revision(&new)) {
            return known.replace(new);
        }
        let is_held = new.status == Status::Waiting;
        self.revisions.push(new);
        is_held
    }

    /// Adds a revision whose manager is not known.
    pub(super) fn add_unknown(&mut self, at: Micros) {
        self.unknown.push(at);
    }

    /// Whether as many events wait as can be decided together.
    pub(super) fn is_full(&self) -> bool {
        self.accounts.len().max(self.revisions.len()) > 2 * EVENTS_MAX
    }

    /// Whether an account certainly stored a revision: its answer has it, and nobody else may have stored it. A request that
    /// changed nothing is also answered with the revision that it found.
    pub(super) fn is_stored_by_account(&self, revision: &ManagerWrite) -> bool {
        let mut candidates = self.accounts.iter().filter(|account| account.may_be(revision));
        let (only, more) = (candidates.next(), candidates.next());
        only.is_some_and(|account| account.stored(revision.revision)) && more.is_none()
    }

    /// Decides about the writes that wait, as far as `may_decide` allows it for their times. Returns when to decide about the
    /// others.
    pub(super) fn decide(
        &mut self,
        may_decide: impl Fn(Micros) -> bool,
        progress: Progress,
        released: &mut Vec<Release>,
    ) -> Option<Micros> {
        let mut next = None;
        for revision in &mut self.revisions {
            if std::mem::take(&mut revision.is_renewed) {
                released.extend(revision.joined().map(Release::Joined));
            }
        }
        let unclear = self.waiting();
        if unclear.accounts.len().max(unclear.revisions.len()) > EVENTS_MAX {
            self.settle(Decision { unclear, ..Decision::default() }, progress, released);
            return None;
        }
        for component in components(&self.accounts, &self.revisions) {
            if component.is_decided(&self.accounts, &self.revisions) {
                continue;
            }
            if let Some(due) = component.due(&self.accounts, &self.revisions).filter(|due| !may_decide(*due)) {
                next = Some(next.map_or(due, |next: Micros| next.min(due)));
                continue;
            }
            let decision = decide(component, &self.accounts, &self.revisions);
            self.settle(decision, progress, released);
        }
        next
    }

    /// Releases the writes of a component, according to what is known of it.
    fn settle(&mut self, decision: Decision, progress: Progress, released: &mut Vec<Release>) {
        let Decision { pairs, without_revision, unclear } = decision;
        for (account, revision) in pairs {
            let (account, known) = (&mut self.accounts[account], &mut self.revisions[revision]);
            account.status = Status::Decided;
            let was_waiting = std::mem::replace(&mut known.status, Status::Decided) == Status::Waiting;
            if known.account.is_none() && !account.has_fields {
                known.account = Some(account.event.clone());
                released.extend(known.joined().map(if was_waiting { Release::Joined } else { Release::Identified }));
            }
        }
        for account in without_revision {
            let account = &mut self.accounts[account];
            let may_be_unknown = self.unknown.iter().any(|at| account.may_be_at(*at));
            let is_watched = !self.revisions.is_empty() && progress.has_watched(account);
            let is_no_op = is_watched && !may_be_unknown && account.event.level() == Level::Metadata;
            released.extend(account.settle().map(if is_no_op { Release::NoOp } else { Release::Plain }));
        }
        // A revision that shows no fields says less than the audit events. Otherwise, it says more, but not who wrote.
        let is_blind = |revision: &usize| self.revisions[*revision].is_blind;
        let shows_accounts = !unclear.accounts.is_empty() && unclear.revisions.iter().any(is_blind);
        for revision in unclear.revisions {
            let revision = &mut self.revisions[revision];
            let is_shown = !(shows_accounts && revision.is_blind);
            released.extend(revision.settle().filter(|_| is_shown).map(Release::Plain));
        }
        for account in unclear.accounts {
            released.extend(self.accounts[account].settle().filter(|_| shows_accounts).map(Release::Plain));
        }
    }

    /// Drops writes that are older than `kept`, and the oldest ones if there are too many. Those that wait are kept in any
    /// case.
    pub(super) fn shrink(&mut self, now: Micros, kept: Micros) {
        let is_old =
            |status: Status, event: &HeldEvent| status == Status::Decided && now.saturating_sub(event.at) > kept;
        self.accounts.retain(|account| !is_old(account.status, &account.event));
        self.revisions.retain(|revision| !is_old(revision.status, &revision.event));
        let excess = self.accounts.len().saturating_sub(EVENTS_MAX);
        let mut excess = (excess, self.revisions.len().saturating_sub(EVENTS_MAX));
        self.accounts.retain(|account| account.status != Status::Decided || !take_one(&mut excess.0));
        self.revisions.retain(|revision| revision.status != Status::Decided || !take_one(&mut excess.1));
        let unknown = self.unknown.len().saturating_sub(EVENTS_MAX);
        self.unknown.drain(..unknown);
    }

    pub(super) fn latest(&self) -> Option<Micros> {
        let accounts = self.accounts.iter().map(|account| account.event.at);
        let revisions = self.revisions.iter().map(|revision| revision.event.at);
        accounts.chain(revisions).chain(self.unknown.iter().copied()).max()
    }

    /// Returns the indices of the events that still wait.
    fn waiting(&self) -> Component {
        let accounts = self.accounts.iter().map(|account| account.status);
        let revisions = self.revisions.iter().map(|revision| revision.status);
        let of = |status: Vec<Status>| (0..status.len()).filter(|at| status[*at] == Status::Waiting).collect();
        Component { accounts: of(accounts.collect()), revisions: of(revisions.collect()) }
    }

    /// Returns the events that still wait.
    pub(super) fn into_waiting(self) -> impl Iterator<Item = HeldEvent> {
        let accounts = self.accounts.into_iter().filter(|account| account.status == Status::Waiting);
        let revisions = self.revisions.into_iter().filter(|revision| revision.status == Status::Waiting);
        accounts.map(|account| account.event).chain(revisions.map(|revision| revision.event))
    }

    pub(super) fn bytes(&self) -> usize {
        let accounts: usize = self.accounts.iter().map(|account| account.event.bytes()).sum();
        let revisions: usize = self.revisions.iter().map(|revision| revision.event.bytes()).sum();
        size_of::<ObjectWrites>() + accounts + revisions + self.unknown.len() * size_of::<Micros>()
    }
}

/// Whether there is one more. Takes it.
fn take_one(count: &mut usize) -> bool {
    let is_there = *count > 0;
    *count -= usize::from(is_there);
    is_there
}
