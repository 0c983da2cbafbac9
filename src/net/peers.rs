//! Connections by peer: one address cannot have all of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Connections of one address at a time. An API server holds one or two, some hundred of a large company may come through
/// one proxy.
const PER_PEER_MAX: usize = 256;

/// Open connections by address.
#[derive(Clone, Debug, Default)]
pub(super) struct Peers(Arc<Mutex<HashMap<IpAddr, usize>>>);

/// One connection; counted until it is dropped.
#[derive(Debug)]
pub(super) struct Connection {
    peers: Peers,
    address: IpAddr,
}

// === impl Peers ===

impl Peers {
    /// Counts a connection; `None` where its address has as many as it may have.
    pub(super) fn enter(&self, address: IpAddr) -> Option<Connection> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(address).or_default();
        if *count == PER_PEER_MAX {
            return None;
        }
        *count += 1;
        Some(Connection { peers: self.clone(), address })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let mut open = self.peers.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_has_its_share_and_others_theirs() {
        let peers = Peers::default();
        let (greedy, modest) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        let open: Vec<Connection> = std::iter::repeat_with(|| peers.enter(greedy)).map_while(|c| c).collect();
        assert_eq!(open.len(), PER_PEER_MAX);
        assert!(peers.enter(modest).is_some());
        drop(open);
        assert!(peers.enter(greedy).is_some() && peers.0.lock().unwrap().is_empty());
    }
}
