//! The limits for verdicts: their default values ([`Limits::default`]), and overrides by resource, namespace and name.

use std::num::NonZeroU32;
use std::sync::Arc;

use smallvec::SmallVec;

use super::actor_class::ActorClassifier;
use super::bucket::Limit;
use super::cooperation::CooperationRules;
use super::instance::account;
use super::resource_kind;
use super::write::ObjectName;
use crate::audit::event::Micros;
use crate::util::glob::is_match;

const SECOND: Micros = 1_000_000;

/// The limits for one object: what counts as a war.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// The token buckets. A retake takes a token from each; it is a thrashing event if one of them is empty.
    pub buckets: SmallVec<[Limit; 2]>,
    /// Number of thrashing events within one bucket's window after which a war is sustained.
    pub pause_after: NonZeroU32,
    /// The quiet period: time without a retake after which a sustained war is subsiding.
    pub quiet_period: Micros,
    /// Maximum quiet period. Each relapse doubles the quiet period up to this.
    pub quiet_period_max: Micros,
    /// Maximum time between two writes of an actor for the second one to be a retake. By default, this is the window of the
    /// longest bucket.
    pub contest_window: Option<Micros>,
    /// Maximum number of writes of one actor to one object per minute. More are a hot loop.
    pub hot_loop_per_minute: NonZeroU32,
    /// Number of consecutive no-ops of one actor that are a hot loop.
    pub hot_loop_no_ops: NonZeroU32,
    /// Maximum number of requests of one client that fail with 409 right after another 409. More are contention.
    pub contention: Limit,
    /// Number of alternations between accepted and rejected, for one actor and object, that are flapping.
    pub flapping_turns: NonZeroU32,
    /// Whether values are not kept, as if all objects were Secrets.
    pub redacts: bool,
    /// The account that sets pauses. Its writes are not retakes of a part whose fields are not known.
    pub own: Option<Arc<str>>,
    /// Actors that write the same field by design.
    pub cooperations: Arc<CooperationRules>,
    /// Which undecided wars raise the thrashing counters.
    pub counted_undecided: CountedUndecided,
}

/// Which undecided wars raise the thrashing counters: those whose parties write the same part of an object alternately,
/// but perhaps different fields of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CountedUndecided {
    /// None.
    Never,
    /// Those with a party whose name matches one of these patterns.
    Of(Arc<[String]>),
    /// All.
    Always,
}

/// The limits for one object, with its resource.
#[derive(Clone, Copy, Debug)]
pub struct ObjectLimits<'l> {
    /// The limits.
    pub limits: &'l Limits,
    /// API group of the object.
    pub group: &'l str,
    /// Resource name of the object.
    pub resource: &'l str,
}

/// The limits for all objects: defaults and overrides.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// The limits for objects that no override matches.
    pub limits: Limits,
    /// The overrides. The first that matches applies.
    pub overrides: Vec<Override>,
    /// Objects of which all writes are kept, even if they have only one writer.
    pub history_of: Option<HistoryScope>,
    /// Classifies the actors.
    pub classes: Arc<ActorClassifier>,
    /// Keys of the labels that say who owns an object.
    pub owner_labels: Vec<String>,
}

/// The objects of which all writes are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HistoryScope {
    /// One object.
    Object(Target),
    /// All objects, as far as memory allows.
    All,
}

/// An object of which all writes are kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its kind or resource, in any notation that kubectl accepts.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace; `None` matches any.
    pub namespace: Option<String>,
}

/// Limits for the objects that it matches.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// `resource.group`, such as `deployments.apps`; `None` matches any.
    pub resource: Option<String>,
    /// The namespace; `None` matches any.
    pub namespace: Option<String>,
    /// The name; `None` matches any.
    pub name: Option<String>,
    /// The limits of these objects.
    pub limits: Limits,
    /// Whether these objects are ignored.
    pub is_ignored: bool,
}

// === impl Limits ===

impl Limits {
    /// Returns the maximum time between two writes of an actor for the second one to be a retake.
    pub fn window(&self) -> Micros {
        self.contest_window.unwrap_or_else(|| self.buckets.iter().map(Limit::window).max().unwrap_or(600 * SECOND))
    }
}

impl Default for Limits {
    /// Returns the runbook's limit (5 in 10 minutes), and 12 in 6 hours for slow wars.
    fn default() -> Limits {
        let limit = |burst, window_s| Limit { burst: at_least_one(burst), window_s: at_least_one(window_s) };
        Limits {
            buckets: [limit(5, 600), limit(12, 6 * 3600)].into_iter().collect(),
            pause_after: at_least_one(3),
            quiet_period: 600 * SECOND,
            quiet_period_max: 4 * 3600 * SECOND,
            contest_window: None,
            hot_loop_per_minute: at_least_one(60),
            hot_loop_no_ops: at_least_one(30),
            contention: limit(3, 600),
            flapping_turns: at_least_one(6),
            redacts: false,
            own: None,
            cooperations: Arc::default(),
            counted_undecided: CountedUndecided::Never,
        }
    }
}

fn at_least_one(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n.max(1)).expect("at least one")
}

// === impl ObjectLimits ===

impl<'l> ObjectLimits<'l> {
    /// Returns these limits for an object.
    pub fn new(limits: &'l Limits, object: &ObjectName<'l>) -> ObjectLimits<'l> {
        ObjectLimits { limits, group: object.group, resource: object.resource }
    }

    /// Whether the resource is built in, so that the API server knows its types.
    pub fn is_built_in(&self) -> bool {
        resource_kind::built_in(self.group, self.resource).is_some()
    }

    /// Whether the object is of this group and resource.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.group == group && self.resource == resource
    }
}

// === impl CountedUndecided ===

impl CountedUndecided {
    /// Whether an undecided war between these parties is counted.
    pub(super) fn includes(&self, parties: &[Arc<str>]) -> bool {
        match self {
            CountedUndecided::Never => false,
            CountedUndecided::Of(patterns) => {
                parties.iter().any(|party| patterns.iter().any(|pattern| is_match(pattern, account(party))))
            }
            CountedUndecided::Always => true,
        }
    }
}

// === impl Policy ===

impl Policy {
    /// Returns the limits for an object, or `None` if it is ignored.
    pub fn limits(&self, object: &ObjectName<'_>) -> Option<&Limits> {
        match self.overrides.iter().find(|o| o.matches(object)) {
            Some(found) if found.is_ignored => None,
            Some(found) => Some(&found.limits),
            None => Some(&self.limits),
        }
    }

    /// Whether all writes of an object are kept.
    pub fn keeps_history(&self, object: &ObjectName<'_>) -> bool {
        let target = match &self.history_of {
            None => return false,
            Some(HistoryScope::All) => return true,
            Some(HistoryScope::Object(target)) => target,
        };
        let is_kind = || match resource_kind::built_in(object.group, object.resource) {
            Some(kind) => resource_kind::matches_input(&target.kind, object.group, object.resource, kind),
            // The kinds of custom resources are not known here, so any kind matches.
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
