//! Wakes the reconciler when files or objects change.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, RwLock};

use futures_util::StreamExt;
use kube::api::{Api, DynamicObject};
use kube::core::{ApiResource, PartialObjectMeta};
use kube::runtime::watcher::{Config, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Client, ResourceExt};
use notify::{RecursiveMode, Watcher as _};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::manifest::Id;
use crate::enforce::calls::WATCH;
use crate::util::lock::{read, write};

/// Maximum number of queued changes. When the queue is full, changes can be dropped without loss, since every asset is
/// compared again periodically.
pub(super) const QUEUE_MAX: usize = 4096;

/// One watch for each kind in the Golden State.
pub(super) struct Watches {
    client: Client,
    changed: mpsc::Sender<Id>,
    wanted: Arc<RwLock<BTreeSet<Id>>>,
    tasks: BTreeMap<(String, String), AbortHandle>,
}

// === impl Watches ===

impl Watches {
    /// Creates an empty set of watches. Changed objects are sent to `changed`.
    pub(super) fn new(client: Client, changed: mpsc::Sender<Id>) -> Watches {
        Watches { client, changed, wanted: Arc::default(), tasks: BTreeMap::new() }
    }

    /// Sets the objects of interest. Watches of kinds that are no longer needed end.
    pub(super) fn set_objects(&mut self, ids: BTreeSet<Id>) {
        let kinds: BTreeSet<_> = ids.iter().map(|id| (id.api_version.clone(), id.kind.clone())).collect();
        self.tasks.retain(|kind, task| {
            let stays = kinds.contains(kind);
            if !stays {
                task.abort();
            }
            stays
        });
        *write(&self.wanted) = ids;
    }

    /// Starts to watch a kind, if it is not watched yet. The API server ends each watch after [`WATCH`]; a watch that
    /// does not end and has no events for 5 s longer is restarted.
    pub(super) fn watch(&mut self, id: &Id, resource: &ApiResource) {
        let kind = (id.api_version.clone(), id.kind.clone());
        if self.tasks.get(&kind).is_some_and(|task| !task.is_finished()) {
            return;
        }
        let api: Api<PartialObjectMeta<DynamicObject>> = Api::all_with(self.client.clone(), resource);
        let (changed, wanted) = (self.changed.clone(), self.wanted.clone());
        let (api_version, name) = kind.clone();
        let task = tokio::spawn(async move {
            let config = Config::default().timeout(WATCH.as_secs() as u32);
            let mut events = std::pin::pin!(watch(api, config).default_backoff());
            while let Some(event) = events.next().await {
                let meta = match event {
                    Ok(Event::Apply(meta) | Event::InitApply(meta) | Event::Delete(meta)) => meta,
                    Ok(Event::Init | Event::InitDone) => continue,
                    Err(error) => {
                        tracing::warn!(%error, kind = name, "a watch was interrupted; restarting it");
                        continue;
                    }
                };
                let id = Id {
                    api_version: api_version.clone(),
                    kind: name.clone(),
                    namespace: meta.namespace().unwrap_or_default(),
                    name: meta.name_any(),
                };
                // The manifest may omit the namespace `default`.
                let plain = Id { namespace: String::new(), ..id.clone() };
                let is_default = id.namespace == "default";
                let (is_wanted, is_plain_wanted) = {
                    let wanted = read(&wanted);
                    (wanted.contains(&id), is_default && wanted.contains(&plain))
                };
                if is_wanted {
                    drop(changed.try_send(id));
                } else if is_plain_wanted {
                    drop(changed.try_send(plain));
                }
            }
        });
        self.tasks.insert(kind, task.abort_handle());
    }
}

impl Drop for Watches {
    fn drop(&mut self) {
        self.tasks.values().for_each(AbortHandle::abort);
    }
}

/// Sends a message when anything below a directory changes, for as long as the returned watcher lives.
///
/// # Errors
/// The directory cannot be watched.
pub(super) fn directory(path: &Path) -> notify::Result<(notify::RecommendedWatcher, mpsc::Receiver<()>)> {
    let (changed, receiver) = mpsc::channel(1);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        if event.is_ok_and(|event| !event.kind.is_access()) {
            // One queued message is enough for any number of changes.
            changed.try_send(()).ok();
        }
    })?;
    watcher.watch(path, RecursiveMode::Recursive)?;
    Ok((watcher, receiver))
}

#[cfg(test)]
mod tests;
