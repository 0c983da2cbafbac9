//! Which of several replicas publishes a transition.

use std::time::Duration;

use futures_util::future::BoxFuture;

use crate::pipeline::Transition;

/// Replicas that share a log find the same transitions. One of them publishes each.
pub(crate) trait Turn: Send + Sync {
    /// Returns whether this replica publishes, and will still be the only one after `needed`.
    fn is_mine(&self, needed: Duration) -> bool;

    /// Tells all replicas that this one has published the transition with this id.
    fn tell_published(&self, id: String);
}

/// A topic for transitions, from which any program can read them.
pub(crate) trait Outlet: Send + Sync {
    /// Stores what is known of an object now, in place of what was stored before.
    ///
    /// # Errors
    /// [`Unstored`].
    fn put(&self, object: &str, event: &[u8]) -> BoxFuture<'_, Result<(), Unstored>>;

    /// Returns its name, for the log.
    fn name(&self) -> &str;
}

/// The reason why a topic has not stored an event.
pub(crate) struct Unstored {
    /// The reason.
    pub(crate) reason: String,
    /// Whether it may be stored later.
    pub(crate) is_temporary: bool,
}

/// Returns a text that is the same for a transition and a sink in all replicas, and different for all others.
pub(crate) fn id(sink: &str, transition: &Transition) -> String {
    let Transition { object, from, to, at, .. } = transition;
    format!("{sink} {} {} {at} {}", from.as_str(), to.as_str(), object.as_ref())
}

/// Transitions that wait to be published, or may have been published by another replica.
#[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "other builds have no log"))]
pub(crate) trait Unpublished: Send + Sync {
    /// Forgets a transition that a replica has published.
    fn forget(&self, id: &str);

    /// Forgets the transitions that are so old that they were published before this replica started.
    fn forget_old(&self, is_old: &dyn Fn(&Transition) -> bool);
}
