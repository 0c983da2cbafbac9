//! One part of an object whose fields are not known: who wrote it alternately with others. Co-workers on different fields do so
//! too: what is found here is possible, never sure.

use smallvec::SmallVec;

use super::field_history::{Author, Retake};
use super::fields::Tier;
use super::policy::ObjectLimits;
use super::write::Part;
use crate::audit::event::Micros;

/// Writers of one part that are followed.
const WRITERS_MAX: usize = 16;

/// Who wrote to a part of the object, at any tier.
#[derive(Clone, Debug, Default)]
pub(super) struct PartHistory {
    writers: SmallVec<[PartWriter; 2]>,
}

#[derive(Clone, Debug)]
struct PartWriter {
    author: Author,
    tier: Tier,
    /// Its writes in a row, with nobody between.
    in_a_row: u32,
    /// The last of its writes whose fields are not known.
    blind_seq: Option<u32>,
    /// Whether it writes nothing here but its own books.
    is_bookkeeper: bool,
}

// === impl PartHistory ===

impl PartHistory {
    /// A new object of the same name.
    pub(super) fn begin_epoch(&mut self) {
        self.writers.clear();
    }

    /// A write to this part. It is a retake by sight of the part alone only where some fields are not known: of this
    /// write, of the one it may take up again, or of one in between.
    pub(super) fn step(&mut self, part: Part, tier: Tier, author: &Author, on: &ObjectLimits<'_>) -> Option<Retake> {
        let oldest = author.at.saturating_sub(on.limits.window());
        self.writers.retain(|w| w.author.at >= oldest);
        let own = self.writers.iter().position(|w| w.author.client.is_same_actor(&author.client));
        let retake = own.and_then(|own| self.retake(part, tier, &self.writers[own], author, on));
        let blind_seq = (tier == Tier::Object).then_some(author.seq);
        match own {
            Some(own) => {
                let seq = self.writers[own].author.seq;
                let is_last = self.writers.iter().all(|w| w.author.seq <= seq || w.keeps_books());
                let own = &mut self.writers[own];
                own.in_a_row = if is_last { own.in_a_row + 1 } else { 1 };
                (own.author, own.tier) = (author.clone(), tier);
                own.blind_seq = blind_seq.or(own.blind_seq);
            }
            None => {
                if self.writers.len() >= WRITERS_MAX
                    && let Some(oldest) = (0..self.writers.len()).min_by_key(|i| self.writers[*i].author.seq)
                {
                    self.writers.remove(oldest);
                }
                let is_bookkeeper = is_bookkeeper(on, &author.client.actor);
                self.writers.push(PartWriter { author: author.clone(), tier, in_a_row: 1, blind_seq, is_bookkeeper });
            }
        }
        retake
    }

    fn retake(
        &self,
        part: Part,
        tier: Tier,
        own: &PartWriter,
        author: &Author,
        on: &ObjectLimits<'_>,
    ) -> Option<Retake> {
        let between = || self.writers.iter().filter(|w| w.author.seq > own.author.seq && !w.keeps_books());
        let retake = |from: &PartWriter, since: Micros| Retake {
            tier: Tier::Object,
            is_reversal: false,
            party: author.client.actor.clone(),
            from: from.author.client.actor.clone(),
            since,
        };
        let Some(last) = between().max_by_key(|w| w.author.seq) else {
            // A GitOps tool writes an object when it differs from what is in git. One that finds it different again and again,
            // with nobody between, may be two of its applications, which look alike at this level.
            let is_repeated = tier == Tier::Object && own.in_a_row >= 2;
            return (is_repeated && may_be_two(part, author, on)).then(|| retake(own, own.author.at));
        };
        if tier == Tier::Object && own.is_bookkeeper {
            return None;
        }
        let known = &on.limits.cooperations;
        if known.find_part(&on.name(), part, &author.client, &last.author.client).is_some() {
            return None;
        }
        let is_blind = tier == Tier::Object
            || own.tier == Tier::Object
            || between().any(|w| w.blind_seq.is_some_and(|seq| seq > own.author.seq));
        is_blind.then(|| retake(last, own.author.at))
    }
}

// === impl PartWriter ===

impl PartWriter {
    /// Whether its last write was to its own books, as far as can be seen.
    fn keeps_books(&self) -> bool {
        self.tier == Tier::Object && self.is_bookkeeper
    }
}

/// Whether an actor may be two applications of a GitOps tool that write one object: not its own books, its locks and its Events.
fn may_be_two(part: Part, author: &Author, on: &ObjectLimits<'_>) -> bool {
    let is_own = OWN_GROUPS.iter().any(|group| on.group.ends_with(group)) || on.resource == "events";
    let is_lock = on.limits.cooperations.find_part(&on.name(), part, &author.client, &author.client).is_some();
    part == Part::Main && author.client.role.is_gitops() && !is_own && !is_lock
}

/// API groups of what GitOps tools keep about themselves.
const OWN_GROUPS: [&str; 5] = ["fluxcd.io", "argoproj.io", "cattle.io", "configsync.gke.io", "coordination.k8s.io"];

/// Controllers that write no more of an object's main part than their own books, by Kubernetes' sources: the deployment
/// controller a Deployment's revision, the scheduler a Pod's node, the namespace controller a Namespace's finalizer.
const BOOKKEEPERS: &[(&str, &str, &str)] = &[
    ("apps", "deployments", "deployment-controller"),
    ("apps", "replicasets", "replicaset-controller"),
    ("", "pods", "kube-scheduler"),
    ("", "namespaces", "namespace-controller"),
    ("", "persistentvolumeclaims", "persistent-volume-binder"),
    ("", "persistentvolumeclaims", "pvc-protection-controller"),
    ("", "persistentvolumes", "pv-protection-controller"),
    ("", "services", "service-controller"),
    ("", "nodes", "attachdetach-controller"),
    ("batch", "jobs", "job-controller"),
];

fn is_bookkeeper(on: &ObjectLimits<'_>, actor: &str) -> bool {
    let is_it = |name: &str| actor.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with([':', '/']));
    BOOKKEEPERS.iter().any(|(group, resource, name)| on.is(group, resource) && is_it(name))
}

#[cfg(test)]
#[path = "part_history/tests.rs"]
mod tests;
