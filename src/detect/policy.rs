//! The limits a verdict is measured by, with overrides by kind and namespace.

use std::borrow::Cow;
use std::num::NonZeroU32;
use std::sync::Arc;

use smallvec::SmallVec;

use super::bucket::Limit;
use super::class::Classes;
use super::cooperation::Cooperations;
use super::kind;
use super::write::ObjectName;
use crate::audit::event::Micros;

const SECOND: Micros = 1_000_000;

/// What counts as a war for one object.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Buckets that every retake takes a token from; an empty one is a thrashing event.
    pub buckets: SmallVec<[Limit; 2]>,
    /// Thrashing events within one bucket's window that pause the object.
    pub pause_after: NonZeroU32,
    /// Time without a retake after which a pause is tried to be lifted.
    pub quiet: Micros,
    /// The longest that repeated relapses stretch the quiet period to.
    pub quiet_max: Micros,
    /// How far back an earlier write makes a later one a retake; by default the longest bucket's window.
    pub contest_window: Option<Micros>,
    /// Writes of one actor to one object per minute beyond which it runs in a hot loop.
    pub hot_loop_per_minute: NonZeroU32,
    /// No-ops of one actor in a row that are a hot loop.
    pub hot_loop_no_ops: NonZeroU32,
    /// Tries of one actor on one object that failed with 409 right after another 409, beyond which there is contention.
    pub contention: Limit,
    /// Turns from accepted to rejected and back, on one object by one actor, that are flapping.
    pub flapping_turns: NonZeroU32,
    /// Keep no values, as if all objects were Secrets.
    pub redacts: bool,
    /// The account that pauses are set with: its writes are no retakes of a part whose fields are not known.
    pub own: Option<Arc<str>>,
    /// Who is made to write the same field.
    pub cooperations: Arc<Cooperations>,
}

/// The limits for one object, and what it is.
#[derive(Clone, Copy, Debug)]
pub struct ObjectLimits<'l> {
    /// The limits.
    pub limits: &'l Limits,
    /// API group of the object.
    pub group: &'l str,
    /// Resource name of the object.
    pub resource: &'l str,
}

/// The limits for all objects: defaults, and overrides of which the first match counts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// For objects that no override matches.
    pub limits: Limits,
    /// In order; the first match counts.
    pub overrides: Vec<Override>,
    /// An object whose every write is kept, even while it has one writer.
    pub follow: Option<Target>,
    /// What actors are.
    pub classes: Arc<Classes>,
}

/// An object that is followed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its kind or resource, as people type it.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace; any where absent.
    pub namespace: Option<String>,
}

/// Limits for the objects it matches.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// `resource.group`, such as `deployments.apps`; any where absent.
    pub resource: Option<String>,
    /// Namespace; any where absent.
    pub namespace: Option<String>,
    /// Name; any where absent.
    pub name: Option<String>,
    /// The limits for these.
    pub limits: Limits,
    /// Objects that are not looked at.
    pub is_ignored: bool,
}

// === impl Limits ===

impl Limits {
    /// How far back an earlier write makes a later one a retake.
    pub fn window(&self) -> Micros {
        self.contest_window.unwrap_or_else(|| self.buckets.iter().map(Limit::window).max().unwrap_or(600 * SECOND))
    }
}

impl Default for Limits {
    /// The runbook's own window (5 in 10 minutes), and 12 in 6 hours for slow wars.
    fn default() -> Limits {
        let limit = |burst, window_s| Limit { burst: at_least_one(burst), window_s: at_least_one(window_s) };
        Limits {
            buckets: [limit(5, 600), limit(12, 6 * 3600)].into_iter().collect(),
            pause_after: at_least_one(3),
            quiet: 600 * SECOND,
            quiet_max: 4 * 3600 * SECOND,
            contest_window: None,
            hot_loop_per_minute: at_least_one(60),
            hot_loop_no_ops: at_least_one(30),
            contention: limit(3, 600),
            flapping_turns: at_least_one(6),
            redacts: false,
            own: None,
            cooperations: Arc::default(),
        }
    }
}

fn at_least_one(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n.max(1)).expect("at least one")
}

// === impl ObjectLimits ===

impl<'l> ObjectLimits<'l> {
    /// The limits for this object.
    pub fn new(limits: &'l Limits, object: &ObjectName<'l>) -> ObjectLimits<'l> {
        ObjectLimits { limits, group: object.group, resource: object.resource }
    }

    /// `deployments.apps`; the resource alone in the core group.
    pub fn name(&self) -> Cow<'l, str> {
        if self.group.is_empty() { self.resource.into() } else { format!("{}.{}", self.resource, self.group).into() }
    }

    /// Whether the API server knows the object's types.
    pub fn is_built_in(&self) -> bool {
        kind::built_in(self.group, self.resource).is_some()
    }

    /// Whether this is an object of this group and resource.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.group == group && self.resource == resource
    }
}

// === impl Policy ===

impl Policy {
    /// The limits for one object; `None` where it is not looked at.
    pub fn limits(&self, object: &ObjectName<'_>) -> Option<&Limits> {
        match self.overrides.iter().find(|o| o.matches(object)) {
            Some(found) if found.is_ignored => None,
            Some(found) => Some(&found.limits),
            None => Some(&self.limits),
        }
    }

    /// Whether every write of this object is to be kept.
    pub fn is_followed(&self, object: &ObjectName<'_>) -> bool {
        let Some(target) = &self.follow else { return false };
        let is_kind = || match kind::built_in(object.group, object.resource) {
            Some(kind) => kind::is_meant(&target.kind, object.group, object.resource, kind),
            // The kinds of extensions are not known here: any may be meant.
            None => true,
        };
        target.name == object.name && target.namespace.as_deref().is_none_or(|n| n == object.namespace) && is_kind()
    }
}

// === impl Override ===

impl Override {
    fn matches(&self, object: &ObjectName<'_>) -> bool {
        let is_resource = self.resource.as_deref().is_none_or(|wanted| {
            let (resource, group) = wanted.split_once('.').unwrap_or((wanted, ""));
            (resource == "*" || resource == object.resource) && (group == "*" || group == object.group)
        });
        is_resource
            && self.namespace.as_deref().is_none_or(|n| n == object.namespace)
            && self.name.as_deref().is_none_or(|n| n == object.name)
    }
}

#[cfg(test)]
#[path = "policy/tests.rs"]
mod tests;
