//! Decides which account made which revision. Nothing is guessed: if more than one assignment is possible, none is made.

use super::held::{AccountWrite, ManagerWrite, SECOND, Status};
use crate::audit::event::Micros;

/// Writes of both kinds, of which any may belong to any other, directly or through others. Indices.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Component {
    pub(super) accounts: Vec<usize>,
    pub(super) revisions: Vec<usize>,
}

/// What is known of a component.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Decision {
    /// Audit events and revisions that are the same writes, at least as far as the client is concerned.
    pub(super) pairs: Vec<(usize, usize)>,
    /// Audit events that changed nothing, if everything that changed is known.
    pub(super) without_revision: Vec<usize>,
    /// Writes of which it is not known which of them are the same.
    pub(super) unclear: Component,
}

/// Returns the components.
pub(super) fn components(accounts: &[AccountWrite], revisions: &[ManagerWrite]) -> Vec<Component> {
    let mut is_known = (vec![false; accounts.len()], vec![false; revisions.len()]);
    let mut components = Vec::new();
    for first in 0..revisions.len() {
        if std::mem::replace(&mut is_known.1[first], true) {
            continue;
        }
        let mut found = Component { accounts: Vec::new(), revisions: vec![first] };
        // The revisions and accounts whose neighbours have been added.
        let (mut of_revisions, mut of_accounts) = (0, 0);
        loop {
            if let Some(at) = found.revisions.get(of_revisions).copied() {
                of_revisions += 1;
                let near = (0..accounts.len()).filter(|other| accounts[*other].may_be(&revisions[at]));
                found.accounts.extend(near.filter(|other| !std::mem::replace(&mut is_known.0[*other], true)));
            } else if let Some(at) = found.accounts.get(of_accounts).copied() {
                of_accounts += 1;
                let near = (0..revisions.len()).filter(|other| accounts[at].may_be(&revisions[*other]));
                found.revisions.extend(near.filter(|other| !std::mem::replace(&mut is_known.1[*other], true)));
            } else {
                break;
            }
        }
        found.accounts.sort_by_key(|at| (accounts[*at].event.at, *at));
        found.revisions.sort_by_key(|at| (revisions[*at].revision, *at));
        components.push(found);
    }
    let alone = (0..accounts.len()).filter(|at| !is_known.0[*at]);
    components.extend(alone.map(|at| Component { accounts: vec![at], revisions: Vec::new() }));
    components
}

/// Decides about a component.
///
/// Requests that do not overlap stored their revisions in their order, and each revision was stored by one of the requests. Of
/// all assignments of this kind, the earliest and the latest show which requests each revision may belong to. If they are
/// those of one client, it made the revision.
pub(super) fn decide(component: Component, accounts: &[AccountWrite], revisions: &[ManagerWrite]) -> Decision {
    let Component { accounts: candidates, revisions: made } = component;
    let mut decision = Decision::default();
    if let Some(pairs) = pairs(&candidates, &made, accounts, revisions) {
        decision.pairs = pairs;
    } else {
        // Some audit events are missing. What is certain in the other seconds remains certain.
        for made in made.chunk_by(|a, b| revisions[*a].second() == revisions[*b].second()) {
            let is_near = |at: &usize| made.iter().any(|made| accounts[*at].may_be(&revisions[*made]));
            let near: Vec<usize> = candidates.iter().copied().filter(is_near).collect();
            decision.pairs.extend(pairs(&near, made, accounts, revisions).unwrap_or_default());
        }
        // A request made one revision at most.
        let all = decision.pairs.clone();
        decision.pairs.retain(|(account, _)| all.iter().filter(|(other, _)| other == account).count() == 1);
    }
    let is_paired = |at: &usize| decision.pairs.iter().any(|(_, revision)| revision == at);
    let unclear: Vec<usize> = made.into_iter().filter(|at| !is_paired(at)).collect();
    let is_left = |at: &usize| !decision.pairs.iter().any(|(account, _)| account == at);
    let may_be_unclear = |at: &usize| unclear.iter().any(|made| accounts[*at].may_be(&revisions[*made]));
    let left = candidates.into_iter().filter(is_left);
    (decision.unclear.accounts, decision.without_revision) = left.partition(may_be_unclear);
    decision.unclear.revisions = unclear;
    decision
}

/// Returns the pairs that are the same in all possible assignments of revisions to requests, as far as the client is
/// concerned. Returns `None` if there is no such assignment. Both are sorted.
fn pairs(
    candidates: &[usize],
    made: &[usize],
    accounts: &[AccountWrite],
    revisions: &[ManagerWrite],
) -> Option<Vec<(usize, usize)>> {
    let runs = runs(candidates, accounts);
    // In which order requests of one run were stored is not known.
    let is_possible = |at: usize, revision: usize| {
        let run = candidates.iter().zip(&runs).filter(|(_, run)| **run == runs[at]);
        run.into_iter().any(|(account, _)| accounts[*account].may_be(&revisions[revision]))
    };
    let mut next = 0;
    let mut earliest = Vec::with_capacity(made.len());
    for revision in made {
        let at = (next..candidates.len()).find(|at| is_possible(*at, *revision))?;
        earliest.push(runs[at]);
        next = at + 1;
    }
    let mut left = candidates.len();
    let mut latest = Vec::with_capacity(made.len());
    for revision in made.iter().rev() {
        left = (0..left).rev().find(|at| is_possible(*at, *revision))?;
        latest.push(runs[left]);
    }
    latest.reverse();
    let mut used = vec![false; candidates.len()];
    let mut pairs = Vec::new();
    for (index, revision) in made.iter().enumerate() {
        let range = earliest[index]..=latest[index];
        let is_it = |at: &usize| range.contains(&runs[*at]) && accounts[candidates[*at]].may_be(&revisions[*revision]);
        let possible: Vec<usize> = (0..candidates.len()).filter(is_it).collect();
        let event = |at: &usize| &accounts[candidates[*at]].event;
        if let Some(first) = possible.first()
            && possible.iter().all(|at| event(at).is_same_client(event(first)))
        {
            // Each request made one revision at most.
            let at = possible.iter().copied().find(|at| !used[*at]);
            pairs.extend(at.map(|at| (candidates[at], *revision)));
            at.into_iter().for_each(|at| used[at] = true);
        }
    }
    Some(pairs)
}

/// Returns the number of the run of each request: requests of different runs do not overlap. The clocks of two API servers
/// may differ by up to a second.
fn runs(candidates: &[usize], accounts: &[AccountWrite]) -> Vec<usize> {
    let mut run = 0;
    let mut last: Option<(Micros, &str)> = None;
    let mut runs = Vec::with_capacity(candidates.len());
    for at in candidates {
        let AccountWrite { event, until, source, .. } = &accounts[*at];
        if let Some((end, before)) = last {
            let slack = if before == &**source { 0 } else { SECOND };
            run += usize::from(end.saturating_add(slack) < event.at);
        }
        last = Some((last.map_or(*until, |(end, _)| end.max(*until)), source));
        runs.push(run);
    }
    runs
}

// === impl Component ===

impl Component {
    /// Whether nothing is left to decide.
    pub(super) fn is_decided(&self, accounts: &[AccountWrite], revisions: &[ManagerWrite]) -> bool {
        self.waiting(accounts, revisions).next().is_none()
    }

    /// Returns when everything that may belong to it has been seen.
    pub(super) fn due(&self, accounts: &[AccountWrite], revisions: &[ManagerWrite]) -> Option<Micros> {
        self.waiting(accounts, revisions).max()
    }

    /// Returns when to decide about each of its writes that wait.
    fn waiting(&self, accounts: &[AccountWrite], revisions: &[ManagerWrite]) -> impl Iterator<Item = Micros> {
        let accounts = self.accounts.iter().map(|at| &accounts[*at]);
        let accounts = accounts.filter(|account| account.status == Status::Waiting).map(AccountWrite::due);
        let revisions = self.revisions.iter().map(|at| &revisions[*at]);
        accounts.chain(revisions.filter(|made| made.status == Status::Waiting).map(ManagerWrite::due))
    }
}
