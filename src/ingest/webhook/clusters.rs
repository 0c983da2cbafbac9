//! The names of clusters that are accepted: configured ones, and those that clients have sent events of.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::net::budget::client_of;

/// Maximum number of clusters that are learned from the paths of batches with events, in total and per client.
const CLUSTERS_MAX: usize = 64;
const CLIENT_CLUSTERS_MAX: usize = 32;
/// The clusters that events came from.
#[derive(Debug, Default)]
pub(super) struct Clusters {
    pub(super) names: BTreeSet<String>,
    /// Number of clusters that each client was the first to name.
    by_client: BTreeMap<IpAddr, usize>,
}

// === impl Clusters ===

impl Clusters {
    /// Returns whether events of a cluster are accepted from this client: the cluster is known, or the limits allow
    /// another one.
    pub(super) fn has_room_for(&self, name: &str, address: IpAddr) -> bool {
        let of_client = self.by_client.get(&client_of(address)).copied().unwrap_or(0);
        name.is_empty()
            || self.names.contains(name)
            || (self.by_client.values().sum::<usize>() < CLUSTERS_MAX && of_client < CLIENT_CLUSTERS_MAX)
    }

    /// Adds a cluster that events came from.
    pub(super) fn learn(&mut self, name: &str, address: IpAddr) {
        if !name.is_empty() && self.has_room_for(name, address) && self.names.insert(name.to_owned()) {
            *self.by_client.entry(client_of(address)).or_default() += 1;
        }
    }
}
