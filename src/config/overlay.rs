//! The part of the configuration that is set by the flags of a command.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{Bytes, Config, Mode};

/// A partial configuration: the keys that have a flag. Absent keys keep the value of the other sources.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overlay {
    /// `admin.listen`
    pub admin_listen: Option<SocketAddr>,
    /// `webhook.listen`
    pub webhook_listen: Option<SocketAddr>,
    /// `enforce.mode`
    pub mode: Option<Mode>,
    /// `enforce.assets`
    pub assets: Option<PathBuf>,
    /// `enforce.kubeconfig`
    pub kubeconfig: Option<PathBuf>,
    /// `tail.files`
    pub tail_files: Option<Vec<PathBuf>>,
    /// `bounds.max_memory`
    pub max_memory: Option<Bytes>,
    /// `journal.path`; `Some(None)` turns the journal off.
    pub journal: Option<Option<PathBuf>>,
    /// `redact_values`
    pub redact_values: Option<bool>,
    /// `watch.enabled`
    pub watch: Option<bool>,
}

// === impl Overlay ===

impl Overlay {
    /// Sets the keys that are present.
    pub(super) fn apply(&self, config: &mut Config) {
        fn set<T: Clone>(key: &mut T, value: Option<&T>) {
            if let Some(value) = value {
                key.clone_from(value);
            }
        }
        set(&mut config.admin.listen, self.admin_listen.as_ref());
        set(&mut config.webhook.listen, self.webhook_listen.as_ref());
        set(&mut config.enforce.mode, self.mode.as_ref());
        set(&mut config.enforce.assets, self.assets.as_ref());
        set(&mut config.tail.files, self.tail_files.as_ref());
        set(&mut config.journal.path, self.journal.as_ref());
        set(&mut config.redact_values, self.redact_values.as_ref());
        set(&mut config.watch.enabled, self.watch.as_ref());
        if self.kubeconfig.is_some() {
            config.enforce.kubeconfig.clone_from(&self.kubeconfig);
            config.watch.kubeconfig.clone_from(&self.kubeconfig);
        }
        config.bounds.max_memory = self.max_memory.or(config.bounds.max_memory);
    }
}
