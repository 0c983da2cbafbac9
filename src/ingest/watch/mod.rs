//! Watches the objects of a cluster: a source for clusters without an audit log.
//!
//! One watch a resource shows the metadata of every revision of its objects, without the objects. An object over which a
//! manager takes fields from another one is promoted: a second watch, of this object alone, shows its values as well, until
//! the object has been calm for a while.
//!
//! - [`resources`] discovers what can be watched, again whenever definitions of resources change.
//! - [`connection`] is one list or watch request; [`resource_watch`] keeps a resource watched across timeouts, errors and
//!   expired resourceVersions; [`promotion`] watches single objects.
//! - [`crate::audit::revision`] determines who made a revision, and expresses it as an audit event for the intake.
//! - `shared` is what all watches share. [`status`] is what a watch says about itself: coverage, gaps, and what it may not read.

mod connection;
mod delivery;
mod promotion;
mod resource_watch;
pub(crate) mod resources;
mod shared;
pub(crate) mod status;
mod target;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use self::delivery::Delivery;
use self::promotion::Promotions;
use self::resource_watch::ResourceWatch;
use self::resources::Watchable;
use self::shared::Shared;
use self::status::WatchStatus;
use self::target::Target;
use super::Source;
use crate::util::backoff::Backoff;
use crate::util::readiness::Readiness;

pub(crate) use self::delivery::Recording;

/// Maximum number of requests that are begun at the same time: a start must not look like an attack to the API server.
const CONCURRENT_STARTS: usize = 8;
/// Interval at which resources are discovered again. Changes of CustomResourceDefinitions and APIServices are noticed at
/// once.
const DISCOVER_EVERY: Duration = Duration::from_secs(600);
/// Maximum delay before a discovery that failed is repeated.
const DISCOVERY_RETRY_MAX: Duration = Duration::from_secs(60);
/// Number of discoveries in a row without a resource after which it is gone.
const ABSENCES_MAX: u32 = 2;
/// Delay before resources are discovered after a definition has changed: the API server needs a moment to serve it, and
/// definitions are installed many at a time.
const SETTLE: Duration = Duration::from_secs(1);
/// Interval of the events that show that the watch was alive.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// What to watch.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Name of the cluster that the events belong to.
    pub cluster: String,
    /// The namespaces; all of the cluster, and its cluster-scoped resources, if there are none.
    pub namespaces: Vec<String>,
    /// Resources or kinds, with a name if only that object is watched. All resources if there are none.
    pub only: Vec<Wanted>,
    /// Resources that are not watched, as `resource` or `resource.group`.
    pub excluded: Vec<String>,
    /// Maximum number of objects whose values are watched at the same time.
    pub objects_with_values_max: usize,
    /// Whether values must not be kept: then they are not read either.
    pub redacts: bool,
}

/// A resource that the user has chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// A kind, a resource or a short name, optionally with the group.
    pub kind: String,
    /// The name of the only object, if it is one.
    pub name: Option<String>,
}

/// The source that watches a cluster.
pub(crate) struct WatchSource {
    client: kube::Client,
    settings: Settings,
    shared: Shared,
}

// === impl WatchSource ===

impl WatchSource {
    /// Creates the source. With a `recording`, its events are also written to a file.
    pub(crate) fn new(
        client: kube::Client,
        settings: Settings,
        intake: super::intake::Intake,
        recording: Option<Recording>,
        status: WatchStatus,
    ) -> WatchSource {
        let shared = Shared {
            delivery: Delivery::new(settings.cluster.clone(), intake, recording),
            status,
            promotions: Promotions::new(settings.objects_with_values_max),
            contested: Arc::default(),
            redacts: settings.redacts,
            starts: Arc::new(Semaphore::new(CONCURRENT_STARTS)),
            definitions: Arc::default(),
        };
        WatchSource { client, settings, shared }
    }

    async fn supervise(self, stop: watch::Receiver<bool>) {
        let mut running: BTreeMap<Target, JoinHandle<()>> = BTreeMap::new();
        let heart = tokio::spawn(beat(self.shared.clone()));
        let mut absent = BTreeMap::new();
        let mut backoff = Backoff::between(SETTLE, DISCOVERY_RETRY_MAX);
        loop {
            let stopped = || async { drop(stop.clone().wait_for(|stop| *stop).await) };
            let discovered = tokio::select! {
                () = stopped() => break,
                discovered = resources::discover(&self.client) => discovered,
            };
            let wait = match discovered {
                Ok(found) => {
                    self.start(&found, &mut running, &mut absent);
                    backoff.reset();
                    DISCOVER_EVERY
                }
                Err(error) => {
                    let error = connection::chain(&error);
                    self.shared.status.set_error(Some(format!("cannot discover resources: {error}")));
                    tracing::warn!(error, "cannot discover the resources of the cluster; retrying");
                    backoff.next()
                }
            };
            tokio::select! {
                () = stopped() => break,
                () = tokio::time::sleep(wait) => {}
                () = self.shared.definitions.notified() => tokio::time::sleep(SETTLE).await,
            }
        }
        heart.abort();
        running.values().for_each(JoinHandle::abort);
        for (_, task) in running {
            // It was cancelled, between two deliveries.
            drop(task.await);
        }
        let lines = self.shared.promotions.stop().await;
        self.shared.delivery.deliver(&lines).await;
        self.shared.delivery.finish();
    }

    /// Starts a watch for each new target, and stops those of resources that are gone: twice in a row, since a discovery
    /// leaves out the resources of an extension that does not answer at the moment.
    fn start(
        &self,
        found: &[Watchable],
        running: &mut BTreeMap<Target, JoinHandle<()>>,
        absent: &mut BTreeMap<Target, u32>,
    ) {
        let targets = self.targets(found);
        absent.retain(|target, _| !targets.contains(target));
        running.retain(|target, task| {
            let absences = if targets.contains(target) { 0 } else { *absent.entry(target.clone()).or_default() + 1 };
            absent.entry(target.clone()).and_modify(|times| *times = absences);
            let is_kept = absences < ABSENCES_MAX && !task.is_finished();
            if !is_kept {
                task.abort();
                absent.remove(target);
                self.shared.status.remove(target);
            }
            is_kept
        });
        let is_unknown = |wanted: &&Wanted| !found.iter().any(|watchable| watchable.is_named(&wanted.kind));
        let unknown = self.settings.only.iter().filter(is_unknown).map(|wanted| wanted.kind.clone());
        self.shared.status.set_unknown_kinds(unknown.collect());
        self.shared.status.expect(targets.iter());
        for target in targets {
            running.entry(target.clone()).or_insert_with(|| {
                let watch = ResourceWatch::new(self.client.clone(), target, self.shared.clone());
                tokio::spawn(watch.run())
            });
        }
        self.shared.status.set_error(None);
    }

    fn targets(&self, found: &[Watchable]) -> Vec<Target> {
        let Settings { namespaces, only, excluded, .. } = &self.settings;
        let mut targets = Vec::new();
        for watchable in found {
            let wanted = only.iter().find(|wanted| watchable.is_named(&wanted.kind));
            let is_excluded = excluded.iter().any(|name| watchable.is_named(name));
            if (wanted.is_none() && !only.is_empty()) || (wanted.is_none() && is_excluded) {
                continue;
            }
            // Several objects of one resource are watched by one watch of all.
            let of_resource: Vec<&Wanted> = only.iter().filter(|wanted| watchable.is_named(&wanted.kind)).collect();
            let name = match of_resource.as_slice() {
                [one] => one.name.clone(),
                _ => None,
            };
            let target = |namespace| Target { resource: watchable.resource.clone(), namespace, name: name.clone() };
            if namespaces.is_empty() {
                targets.push(target(None));
            } else if watchable.is_namespaced {
                targets.extend(namespaces.iter().map(|namespace| target(Some(namespace.clone()))));
            }
        }
        targets
    }
}

impl Source for WatchSource {
    fn name(&self) -> &'static str {
        "watch"
    }

    /// Ready once every resource that may be read is watched.
    fn readiness(&self) -> Readiness {
        self.shared.status.readiness()
    }

    fn run(self: Box<Self>, stop: watch::Receiver<bool>) -> BoxFuture<'static, ()> {
        Box::pin(self.supervise(stop))
    }
}

/// Shows that time passes although nobody writes, as long as every watch is connected. Also notices which objects are contested.
async fn beat(shared: Shared) {
    let mut interval = tokio::time::interval(HEARTBEAT);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let due = interval.tick().await;
        // After a pause of the whole process, the watches must first find out what is waiting.
        if due.elapsed() > HEARTBEAT {
            continue;
        }
        shared.update_contested();
        if shared.status.is_complete() {
            shared.delivery.sign_of_life(shared.status.known_until()).await;
        }
    }
}
