//! One write to an object with several writers: what it changed, determined from the state before it.

use std::sync::Arc;

use super::actor::Client;
use super::admission::Mutation;
use super::fields::{Change, Evidence, EvidenceLevel, FieldIntent, FieldValue, Fields, Path, is_at_or_below, part_of};
use super::ownership::Ownership;
use super::policy::ObjectLimits;
use super::write::{Effect, Part};
use super::write_order::WriteOrder;
use crate::audit::event::Verb;

/// A write to a contested object.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its position among the object's writes.
    pub order: WriteOrder,
    /// The client that wrote.
    pub client: Arc<Client>,
    /// The verb of the request.
    pub verb: Verb,
    /// Its effect.
    pub effect: Effect,
    /// The part of the object that it wrote.
    pub part: Part,
    /// Its evidence level.
    pub level: EvidenceLevel,
    /// The fields that it changed, as far as it requested them. Empty at [`EvidenceLevel::Object`].
    pub changes: Vec<Change>,
    /// Whether it certainly stored its revision, and did not only find it.
    pub is_certain: bool,
    /// Whether it is a creation that belongs at an earlier position. It is treated as if it changed nothing.
    pub(super) is_misplaced: bool,
    /// Whether it is not known what it changed.
    pub(super) is_blind: bool,
    /// Whether a body has more fields than are compared.
    pub(super) is_truncated: bool,
    /// What a watch says about its field manager.
    pub(super) ownership: Ownership,
    /// Whether it succeeded and changed nothing. It is kept for what it requested.
    pub(super) is_no_op: bool,
    /// Whether it is a creation by the actor that deleted the object. The history of the object then continues.
    pub(super) is_replacement: bool,
    /// A hash of the `spec` that the object was created with.
    pub(super) content: Option<u64>,
    /// The changes that mutating webhooks made to it.
    pub(super) admission: Option<Box<Admission>>,
    /// What its bodies show. Kept as long as late writes can be inserted before it.
    evidence: Option<Box<Evidence>>,
    /// The object's fields after it, as far as they are known. Kept as long as `evidence`.
    pub(super) state: Option<Arc<Fields>>,
}

/// The changes that mutating webhooks made to a write.
#[derive(Clone, Debug, Default)]
pub struct Admission {
    mutations: Vec<Mutation>,
    /// The changes of the stored object that are due to webhooks.
    pub changes: Vec<(Arc<Client>, Change)>,
    /// The requested values that webhooks replaced with the stored ones.
    pub(super) overridden: Vec<Overridden>,
}

/// A requested value that a webhook replaced with the stored one.
#[derive(Clone, Debug)]
pub(super) struct Overridden {
    pub(super) path: Path,
    pub(super) webhook: Arc<Client>,
    pub(super) requested: Option<FieldValue>,
    pub(super) given: Option<FieldValue>,
}

// === impl Record ===

impl Record {
    /// Returns the record of a write, with what its bodies show.
    pub fn new(
        order: WriteOrder,
        client: Arc<Client>,
        verb: Verb,
        effect: Effect,
        part: Part,
        level: EvidenceLevel,
        evidence: Evidence,
    ) -> Record {
        let changes = Vec::new();
        let evidence = (!matches!(evidence, Evidence::None)).then(|| Box::new(evidence));
        let is_blind = evidence.is_none() && effect == Effect::Modify;
        let is_truncated = matches!(evidence.as_deref(), Some(Evidence::Whole { fields, .. }) if !fields.is_complete());
        Record {
            order,
            client,
            verb,
            effect,
            part,
            level,
            changes,
            is_certain: false,
            is_misplaced: false,
            is_blind,
            is_truncated,
            ownership: Ownership::default(),
            is_no_op: false,
            is_replacement: false,
            content: None,
            admission: None,
            evidence,
            state: None,
        }
    }

    /// Returns the record with the changes that webhooks made.
    pub fn with_mutations(mut self, mutations: Vec<Mutation>) -> Record {
        self.admission = (!mutations.is_empty()).then(|| Box::new(Admission { mutations, ..Admission::default() }));
        self
    }

    /// Whether the webhook of this name changed the request.
    pub fn is_admitted_by(&self, webhook: &str) -> bool {
        let mutations = self.admission.iter().flat_map(|admission| &admission.mutations);
        mutations.into_iter().any(|mutation| &*mutation.webhook.actor == webhook)
    }

    /// Whether both are updates of the same revision, and the revisions that they stored are not known.
    pub(super) fn is_rival_of(&self, other: &Record) -> bool {
        let revision = self.order.revision;
        !revision.is_multiple_of(2)
            && revision == other.order.revision
            && (self.verb, other.verb) == (Verb::Update, Verb::Update)
    }

    /// Whether the request was a whole body that does not differ from the state before it.
    pub(super) fn is_no_op_on(&self, before: &Fields) -> bool {
        let Some(Evidence::Whole { fields, level: EvidenceLevel::Field, .. }) = self.evidence.as_deref() else {
            return false;
        };
        let after = before.with_part_of(fields, self.part);
        !before.diff(&after).iter().any(|change| part_of(&change.path) == self.part)
    }

    /// Determines the changes and the state after the write from the state before it.
    pub(super) fn resolve(&mut self, before: Option<&Arc<Fields>>, on: &ObjectLimits<'_>) {
        let is_built_in = on.is_built_in();
        // A custom resource may have no status subresource, so that its status is written with the rest. The stored object
        // shows whether it was.
        let has_one_part =
            |level: EvidenceLevel| level == EvidenceLevel::Value && !is_built_in && self.part == Part::Main;
        let own = |changes: Vec<Change>, level: EvidenceLevel| {
            let is_own = |c: &Change| part_of(&c.path) == self.part || has_one_part(level);
            let is_kept = |c: &Change| is_own(c) && self.effect != Effect::Delete;
            changes.into_iter().filter(is_kept).collect::<Vec<_>>()
        };
        match self.evidence.as_deref().unwrap_or(&Evidence::None) {
            _ if self.is_misplaced || self.is_no_op => (self.changes, self.state) = (Vec::new(), before.cloned()),
            Evidence::None => self.state = before.cloned(),
            Evidence::Intents { intents, is_takeover, is_apply, lists, level, unresolved } => {
                let mut state = before.map(|fields| fields.derived()).unwrap_or_default();
                let resolved = unresolved.as_ref().map(|of| of.intents(before.map(|fields| &**fields), on));
                // Requested fields of the other part are not stored.
                let is_stored = |n: &FieldIntent| part_of(&n.path) == self.part || has_one_part(*level);
                let mut intents = resolved.unwrap_or_else(|| intents.clone());
                intents.retain(is_stored);
                let mut changes = state.changes_by(&intents, *is_apply);
                changes.extend(state.replace_lists(lists, &intents, is_built_in));
                state.apply(&changes);
                state.set_all(&intents);
                if *is_takeover {
                    state.make_incomplete();
                }
                self.state = Some(Arc::new(state));
                // The fields of a new object are not changes. For a replacement, the differences from the old object are.
                let is_new = self.effect == Effect::Create && (before.is_none() || !self.is_replacement);
                self.changes = if is_new { Vec::new() } else { changes };
            }
            Evidence::Whole { fields, level, requested } => {
                let after = match (before, level) {
                    // Only the part that the request may write is stored.
                    (Some(before), EvidenceLevel::Field) => Arc::new(before.with_part_of(fields, self.part)),
                    _ => fields.clone(),
                };
                self.changes = match before.filter(|before| before.is_comparable(&after)) {
                    Some(_) if self.effect == Effect::Create && !self.is_replacement => Vec::new(),
                    // The object may have changed in between: only what the write took over is known.
                    Some(before)
                        if requested
                            .takeover()
                            .is_some_and(|takeover| !takeover.continues || !before.is_complete()) =>
                    {
                        own(requested.assume_changed(&after, self.part), *level)
                    }
                    Some(before) => requested.requested_of(own(before.diff(&after), *level)),
                    // There is no state to compare with. Assume that a patch changed the fields that it names.
                    None if self.effect == Effect::Modify => requested.assume_changed(&after, self.part),
                    None => Vec::new(),
                };
                self.state = Some(after);
            }
        }
        if self.client.is_unknown() {
            // The state moves on, but nobody is said to have changed it.
            self.changes.clear();
        }
        if self.effect == Effect::Create {
            self.content = self.state.as_ref().map(|state| state.spec_hash());
        }
        self.admit(before);
    }

    /// Separates the changes of webhooks from those of the requester.
    fn admit(&mut self, before: Option<&Arc<Fields>>) {
        let Some(admission) = self.admission.as_deref_mut() else { return };
        let level = match self.evidence.as_deref() {
            Some(Evidence::Intents { level, .. } | Evidence::Whole { level, .. }) => *level,
            Some(Evidence::None) | None => return,
        };
        admission.changes.clear();
        admission.overridden.clear();
        let is_new = self.effect == Effect::Create && !self.is_replacement;
        for mutation in &admission.mutations {
            let old = before.and_then(|before| before.get(&mutation.path));
            self.changes.retain(|change| !is_at_or_below(&change.path, &mutation.path));
            if level == EvidenceLevel::Field
                && !self.is_no_op
                && let Some(state) = &mut self.state
            {
                Arc::make_mut(state).set(&mutation.path, mutation.given.as_ref());
            }
            if is_new {
                continue;
            }
            // Without the state before, only the replaced requests are known, not the changes.
            if before.is_some() && !self.is_no_op && old != mutation.given.as_ref() {
                let change = Change::new(&mutation.path, old, mutation.given.as_ref());
                admission.changes.push((mutation.webhook.clone(), change));
            } else if let Some(requested) = mutation.overridden()
                // A whole body that repeats a stored value requests nothing.
                && (self.verb == Verb::Patch || requested != old)
            {
                admission.overridden.push(Overridden {
                    path: mutation.path.clone(),
                    webhook: mutation.webhook.clone(),
                    requested: requested.cloned(),
                    given: mutation.given.clone(),
                });
            }
        }
    }

    /// Whether it still has the evidence from its bodies.
    #[cfg(test)]
    pub(super) fn has_evidence(&self) -> bool {
        self.evidence.is_some()
    }

    /// Returns the approximate bytes of the record.
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

    /// Drops what is needed only while late writes can be inserted before it. Returns the state after it.
    pub(super) fn finalize(&mut self) -> Option<Arc<Fields>> {
        self.evidence = None;
        self.state.take()
    }
}

// === impl Admission ===

impl Admission {
    /// Returns the changes by webhook.
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
