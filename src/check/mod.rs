//! Finds fights before they start: from what a cluster contains at one moment, and from manifests that are to be applied to
//! it.
//!
//! A [`Snapshot`] has the objects. [`rules`] are a table: each looks for one constellation of contenders that is known to
//! end in a fight, such as an autoscaler whose target's manifest has `replicas`. [`applier`] determines who applies a field,
//! and [`gitops`] whether the tool leaves it alone. Everything here is pure; the command reads the cluster and prints the
//! [`Finding`]s.
//!
//! A rule reports nothing if it cannot show both contenders. It knows no more than one moment: a server-side applier loses
//! its fields to the manager that overwrites them. After the first overwrite, only its manifest shows that it applies them.

mod applier;
mod field;
mod finding;
mod gitops;
mod remedies;
mod rules;
mod snapshot;

pub use self::finding::{Certainty, Contender, Finding, ObjectId};
pub use self::rules::{RULES, Rule};
pub use self::snapshot::{Snapshot, id_of};

/// Returns the fights that will or may happen, in a fixed order: those that are bound to happen first, then by object.
pub fn check(snapshot: &Snapshot) -> Vec<Finding> {
    let mut found: Vec<Finding> = RULES.iter().flat_map(|rule| rule.findings(snapshot)).collect();
    found.sort_by(|a, b| {
        let key = |finding: &Finding| (std::cmp::Reverse(finding.certainty), finding.object.clone(), finding.rule);
        key(a).cmp(&key(b)).then_with(|| a.fields.cmp(&b.fields))
    });
    found.dedup();
    found
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
