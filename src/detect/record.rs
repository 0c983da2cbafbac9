//! One write to an object with several writers: what it changed, determined from the state before it.

use std::sync::Arc;

use super::actor::Client;
use super::admission::Mutation;
use super::fields::{Change, Evidence, FieldValue, Fields, Named, Path, Tier, is_at_or_below, part_of};
use super::order::Order;
use super::policy::ObjectLimits;
use super::write::{Effect, Part};
use crate::audit::event::Verb;

/// A write to a contested object.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its place among the object's writes.
    pub order: Order,
    /// Who wrote.
    pub client: Arc<Client>,
    /// With which verb.
    pub verb: Verb,
    /// To which effect.
    pub effect: Effect,
    /// Which part.
    pub part: Part,
    /// What is known of what it changed.
    pub tier: Tier,
    /// The fields it changed, as far as it asked for them; empty at [`Tier::Object`].
    pub changes: Vec<Change>,
    /// Whether it is certain that it stored its revision, and did not only find it.
    pub is_certain: bool,
    /// Whether it is a creation that belongs earlier, and is taken to have changed nothing.
    pub(super) is_misplaced: bool,
    /// Whether nothing is known of what it changed.
    pub(super) is_blind: bool,
    /// Whether it was answered with success and changed nothing: kept for what it asked for.
    pub(super) is_no_op: bool,
    /// Whether it is a creation by who deleted the object: a replacement, in which the object goes on.
    pub(super) is_replacement: bool,
    /// A hash of the `spec` that the object was created with.
    pub(super) content: Option<u64>,
    /// What mutating webhooks made of it.
    pub(super) admission: Option<Box<Admission>>,
    /// What its bodies told; kept while somebody may still come late before it.
    evidence: Option<Box<Evidence>>,
    /// The object's fields after it, as far as they are known; kept as long as `evidence`.
    pub(super) state: Option<Arc<Fields>>,
}

/// What mutating webhooks made of a write.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    mutations: Vec<Mutation>,
    /// What the webhooks changed of the stored object.
    pub changes: Vec<(Arc<Client>, Change)>,
    /// What was asked for, and replaced by what was stored before.
    pub(super) overridden: Vec<Overridden>,
}

/// A value that was asked for, and that a webhook replaced by the stored one.
#[derive(Clone, Debug)]
pub(super) struct Overridden {
    pub(super) path: Path,
    pub(super) webhook: Arc<Client>,
    pub(super) asked: Option<FieldValue>,
    pub(super) given: Option<FieldValue>,
}

// === impl Record ===

impl Record {
    /// A write, and what its bodies told.
    pub fn new(
        order: Order,
        client: Arc<Client>,
        verb: Verb,
        effect: Effect,
        part: Part,
        tier: Tier,
        evidence: Evidence,
    ) -> Record {
        let changes = Vec::new();
        let evidence = (!matches!(evidence, Evidence::None)).then(|| Box::new(evidence));
        let is_blind = evidence.is_none() && effect == Effect::Modify;
        Record {
            order,
            client,
            verb,
            effect,
            part,
            tier,
            changes,
            is_certain: false,
            is_misplaced: false,
            is_blind,
            is_no_op: false,
            is_replacement: false,
            content: None,
            admission: None,
            evidence,
            state: None,
        }
    }

    /// The same write with what webhooks made of it.
    pub fn with_mutations(mut self, mutations: Vec<Mutation>) -> Record {
        self.admission = (!mutations.is_empty()).then(|| Box::new(Admission { mutations, ..Admission::default() }));
        self
    }

    /// Whether the webhook of this name changed what it asked for.
    pub fn is_admitted_by(&self, webhook: &str) -> bool {
        let mutations = self.admission.iter().flat_map(|admission| &admission.mutations);
        mutations.into_iter().any(|mutation| &*mutation.webhook.actor == webhook)
    }

    /// Whether both are updates of one revision, of which it is not known what they stored.
    pub(super) fn is_rival_of(&self, other: &Record) -> bool {
        let revision = self.order.revision;
        !revision.is_multiple_of(2)
            && revision == other.order.revision
            && (self.verb, other.verb) == (Verb::Update, Verb::Update)
    }

    /// Whether its request was a full body that nothing in it could tell from one that changes nothing.
    pub(super) fn is_no_op_on(&self, before: &Fields) -> bool {
        let Some(Evidence::Whole { fields, tier: Tier::Field, .. }) = self.evidence.as_deref() else { return false };
        let after = before.with_part_of(fields, self.part);
        !before.diff(&after).iter().any(|change| part_of(&change.path) == self.part)
    }

    /// Finds what it changed, and the state after it, from the state before it.
    pub(super) fn resolve(&mut self, before: Option<&Arc<Fields>>, on: &ObjectLimits<'_>) {
        let is_built_in = on.is_built_in();
        // An extension without a status subresource has its status written with the rest: what is stored tells.
        let has_one_part = |tier: Tier| tier == Tier::Value && !is_built_in && self.part == Part::Main;
        let own = |changes: Vec<Change>, tier: Tier| {
            let is_own = |c: &Change| part_of(&c.path) == self.part || has_one_part(tier);
            let is_kept = |c: &Change| is_own(c) && self.effect != Effect::Delete;
            changes.into_iter().filter(is_kept).collect::<Vec<_>>()
        };
        match self.evidence.as_deref().unwrap_or(&Evidence::None) {
            _ if self.is_misplaced || self.is_no_op => (self.changes, self.state) = (Vec::new(), before.cloned()),
            Evidence::None => self.state = before.cloned(),
            Evidence::Named { named, is_apply, lists, tier, unresolved } => {
                let mut state = before.map(|fields| fields.derived()).unwrap_or_default();
                let resolved = unresolved.as_ref().map(|of| of.named(before.map(|fields| &**fields), on));
                // What a request names of the other part is not stored.
                let is_stored = |n: &Named| part_of(&n.path) == self.part || has_one_part(*tier);
                let mut named = resolved.unwrap_or_else(|| named.clone());
                named.retain(is_stored);
                let mut changes = state.changes_by(&named, *is_apply);
                changes.extend(state.give_lists(lists, &named, is_built_in));
                state.apply(&changes);
                state.assert(&named);
                self.state = Some(Arc::new(state));
                // What a new object has is no change; what a replacement has otherwise than what it replaces is.
                let is_new = self.effect == Effect::Create && (before.is_none() || !self.is_replacement);
                self.changes = if is_new { Vec::new() } else { changes };
            }
            Evidence::Whole { fields, tier, asked } => {
                let after = match (before, tier) {
                    // Of a request's body only the part that it may write is what the object becomes.
                    (Some(before), Tier::Field) => Arc::new(before.with_part_of(fields, self.part)),
                    _ => fields.clone(),
                };
                self.changes = match before.filter(|before| before.is_comparable(&after)) {
                    Some(_) if self.effect == Effect::Create && !self.is_replacement => Vec::new(),
                    Some(before) => asked.of(own(before.diff(&after), *tier)),
                    // Nothing to compare with: what a patch names is taken to be changed, what a new object has is not.
                    None if self.effect == Effect::Modify => asked.taken_from(&after, self.part),
                    None => Vec::new(),
                };
                self.state = Some(after);
            }
        }
        if self.effect == Effect::Create {
            self.content = self.state.as_ref().map(|state| state.spec_hash());
        }
        self.admit(before);
    }

    /// Tells what the webhooks changed from what the requester did.
    fn admit(&mut self, before: Option<&Arc<Fields>>) {
        let Some(admission) = self.admission.as_deref_mut() else { return };
        let tier = match self.evidence.as_deref() {
            Some(Evidence::Named { tier, .. } | Evidence::Whole { tier, .. }) => *tier,
            Some(Evidence::None) | None => return,
        };
        admission.changes.clear();
        admission.overridden.clear();
        let is_new = self.effect == Effect::Create && !self.is_replacement;
        for mutation in &admission.mutations {
            let old = before.and_then(|before| before.get(&mutation.path));
            self.changes.retain(|change| !is_at_or_below(&change.path, &mutation.path));
            if tier == Tier::Field
                && !self.is_no_op
                && let Some(state) = &mut self.state
            {
                Arc::make_mut(state).set(&mutation.path, mutation.given.as_ref());
            }
            if is_new {
                continue;
            }
            // Without a state before, what moved is not known; what was asked for and replaced is.
            if before.is_some() && !self.is_no_op && old != mutation.given.as_ref() {
                let change = Change::new(&mutation.path, old, mutation.given.as_ref());
                admission.changes.push((mutation.webhook.clone(), change));
            } else if let Some(asked) = mutation.overridden()
                // A full body that only sends back what was stored asks for nothing.
                && (self.verb == Verb::Patch || asked != old)
            {
                admission.overridden.push(Overridden {
                    path: mutation.path.clone(),
                    webhook: mutation.webhook.clone(),
                    asked: asked.cloned(),
                    given: mutation.given.clone(),
                });
            }
        }
    }

    /// Whether it still has what its bodies told.
    #[cfg(test)]
    pub(super) fn has_evidence(&self) -> bool {
        self.evidence.is_some()
    }

    /// Whether its body had more fields than are looked at.
    pub(super) fn is_cut(&self) -> bool {
        matches!(self.evidence.as_deref(), Some(Evidence::Whole { fields, .. }) if !fields.is_complete())
    }

    /// Bytes that it takes, roughly.
    pub(super) fn bytes(&self) -> usize {
        let evidence = self.evidence.as_deref();
        let is_evidence = |state: &Arc<Fields>| matches!(evidence, Some(Evidence::Whole { fields, .. }) if Arc::ptr_eq(fields, state));
        let state = self.state.as_ref().filter(|state| !is_evidence(state)).map_or(0, |state| state.bytes());
        let admission = self.admission.as_ref().map_or(0, |admission| {
            let items = admission.mutations.len() + admission.changes.len() + admission.overridden.len();
            size_of::<Admission>() + items * 2 * size_of::<Mutation>()
        });
        let changes: usize = self.changes.iter().map(Change::bytes).sum();
        size_of::<Record>() + changes + evidence.map_or(0, Evidence::bytes) + state + admission
    }

    /// Forgets what is only needed while somebody may come late.
    pub(super) fn settle(&mut self) -> Option<Arc<Fields>> {
        self.evidence = None;
        self.state.take()
    }
}

// === impl Admission ===

impl Admission {
    /// The changes of each webhook.
    pub(super) fn by_webhook(&self) -> Vec<(&Arc<Client>, Vec<&Change>)> {
        let mut found: Vec<(&Arc<Client>, Vec<&Change>)> = Vec::new();
        for (webhook, change) in &self.changes {
            match found.iter_mut().find(|(known, _)| known.is_same_actor(webhook)) {
                Some((_, changes)) => changes.push(change),
                None => found.push((webhook, vec![change])),
            }
        }
        found
    }
}

#[cfg(test)]
#[path = "record/tests.rs"]
mod tests;
