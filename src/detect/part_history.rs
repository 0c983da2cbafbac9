//! The history of one part of an object whose fields are not known: which actors write it alternately. Actors that work on
//! different fields do so too, so the confidence of what is found here is only *possible*.

use smallvec::SmallVec;

use super::field_history::{Author, Retake};
use super::fields::EvidenceLevel;
use super::ownership::Ownership;
use super::policy::ObjectLimits;
use super::record::Record;
use super::write::Part;
use crate::audit::event::Micros;

/// Maximum number of writers of one part that are tracked.
const WRITERS_MAX: usize = 16;

/// The writers of a part of the object, at any evidence level.
#[derive(Clone, Debug, Default)]
pub(super) struct PartHistory {
    writers: SmallVec<[PartWriter; 2]>,
}

#[derive(Clone, Debug)]
struct PartWriter {
    author: Author,
    level: EvidenceLevel,
    ownership: Ownership,
    /// Number of its latest writes without another writer's write between them.
    in_a_row: u32,
    /// The number of its last write whose fields are not known.
    blind_seq: Option<u32>,
    /// Whether it writes only its own bookkeeping fields here.
    is_bookkeeper: bool,
}

// === impl PartHistory ===

impl PartHistory {
    /// Begins again with a new object of the same name.
    pub(super) fn begin_epoch(&mut self) {
        self.writers.clear();
    }

    /// Processes the next write to this part. It can be a retake of the part only if some fields are not known: those of
    /// this write, of the actor's previous write, or of a write between them.
    pub(super) fn step(&mut self, record: &Record, author: &Author, on: &ObjectLimits<'_>) -> Option<Retake> {
        let Record { level, ownership, .. } = *record;
        let oldest = author.at.saturating_sub(on.limits.window());
        self.writers.retain(|w| w.author.at >= oldest);
        let own = self.writers.iter().position(|w| w.author.client.is_same_actor(&author.client));
        let retake = own.and_then(|own| self.retake(record, &self.writers[own], author, on));
        let blind_seq = is_blind(level, ownership).then_some(author.seq);
        match own {
            Some(own) => {
                let seq = self.writers[own].author.seq;
                let is_last = self.writers.iter().all(|w| w.author.seq <= seq || w.keeps_books());
                let own = &mut self.writers[own];
                own.in_a_row = if is_last { own.in_a_row + 1 } else { 1 };
                (own.author, own.level, own.ownership) = (author.clone(), level, ownership);
                own.blind_seq = blind_seq.or(own.blind_seq);
            }
            None => {
                if self.writers.len() >= WRITERS_MAX
                    && let Some(oldest) = (0..self.writers.len()).min_by_key(|i| self.writers[*i].author.seq)
                {
                    self.writers.remove(oldest);
                }
                let is_bookkeeper = is_bookkeeper(on, &author.client.actor);
                let author = author.clone();
                self.writers.push(PartWriter { author, level, ownership, in_a_row: 1, blind_seq, is_bookkeeper });
            }
        }
        retake
    }

    fn retake(&self, record: &Record, own: &PartWriter, author: &Author, on: &ObjectLimits<'_>) -> Option<Retake> {
        let Record { part, level, ownership, .. } = *record;
        let others = || self.writers.iter().filter(|w| w.author.seq > own.author.seq && !w.keeps_books());
        let between = || others().filter(|w| !ownership.excludes(w.ownership));
        let retake = |from: &PartWriter, since: Micros| Retake {
            level: EvidenceLevel::Object,
            is_reversal: false,
            party: author.client.actor.clone(),
            from: from.author.client.actor.clone(),
            since,
        };
        let Some(last) = between().max_by_key(|w| w.author.seq) else {
            // A GitOps tool writes an object if it differs from the repository. If it does so repeatedly, with no other
            // writer between, it may be two of its applications, which cannot be distinguished at this level.
            let is_repeated = level == EvidenceLevel::Object && own.in_a_row >= 2 && others().next().is_none();
            return (is_repeated && may_be_two_applications(part, author, on)).then(|| retake(own, own.author.at));
        };
        if level == EvidenceLevel::Object && own.is_bookkeeper {
            return None;
        }
        let known = &on.limits.cooperations;
        if known.find_part(on.group, on.resource, part, &author.client, &last.author.client).is_some() {
            return None;
        }
        let is_blind = level == EvidenceLevel::Object
            || is_blind(own.level, own.ownership)
            || between().any(|w| w.blind_seq.is_some_and(|seq| seq > own.author.seq));
        is_blind.then(|| retake(last, own.author.at))
    }
}

// === impl PartWriter ===

impl PartWriter {
    /// Whether its last write was, as far as is known, only bookkeeping.
    fn keeps_books(&self) -> bool {
        self.level == EvidenceLevel::Object && self.is_bookkeeper
    }
}

/// Whether a write may have changed any field of its part.
fn is_blind(level: EvidenceLevel, ownership: Ownership) -> bool {
    level == EvidenceLevel::Object && !ownership.is_kept()
}

/// Whether an actor may be two applications of a GitOps tool that write one object. This excludes the tool's own objects,
/// locks and Events.
fn may_be_two_applications(part: Part, author: &Author, on: &ObjectLimits<'_>) -> bool {
    let is_own = OWN_GROUPS.iter().any(|group| on.group.ends_with(group)) || on.resource == "events";
    let is_lock =
        on.limits.cooperations.find_part(on.group, on.resource, part, &author.client, &author.client).is_some();
    part == Part::Main && author.client.role.is_gitops() && !is_own && !is_lock
}

/// API groups of the own objects of GitOps tools.
const OWN_GROUPS: [&str; 5] = ["fluxcd.io", "argoproj.io", "cattle.io", "configsync.gke.io", "coordination.k8s.io"];

/// Controllers that write only their own fields of an object's main part, according to Kubernetes' sources: the deployment
/// controller writes a Deployment's revision, the scheduler a Pod's node, the namespace controller a Namespace's finalizer.
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
