//! A budget that clients share, with a limit per client. Used for bytes of batches, bytes of responses and watched
//! decisions.

use crate::util::lock::lock;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex};

/// A limit on the units in use at once, in total and per client.
#[derive(Clone, Debug)]
pub(crate) struct Budget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    max: usize,
    client_max: usize,
    used: Mutex<Usage>,
}

#[derive(Debug, Default)]
struct Usage {
    all: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// A reserved part of a budget. It is released on drop.
#[derive(Debug)]
pub(crate) struct Reservation {
    budget: Budget,
    client: IpAddr,
    amount: usize,
}

/// Returns the address that identifies a client: an IPv4 address, or the /64 prefix of an IPv6 address, since a host
/// can usually use any address of its prefix.
pub(crate) fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

// === impl Budget ===

impl Budget {
    /// Returns a budget of `max` units, of which one client can have at most `client_max`.
    pub(crate) fn new(max: usize, client_max: usize) -> Budget {
        Budget { inner: Arc::new(Inner { max, client_max: client_max.min(max), used: Mutex::default() }) }
    }

    /// Returns the maximum number of units of one client.
    pub(crate) fn client_max(&self) -> usize {
        self.inner.client_max
    }

    /// Reserves `amount` for the client at `address`. Returns `None` if the budget or the client's share is exhausted.
    pub(crate) fn reserve(&self, address: IpAddr, amount: usize) -> Option<Reservation> {
        let mut reservation = Reservation { budget: self.clone(), client: client_of(address), amount: 0 };
        reservation.grow(amount).then_some(reservation)
    }
}

// === impl Reservation ===

impl Reservation {
    /// Reserves `amount` more units. Returns `false`, and changes nothing, if they are not available.
    pub(crate) fn grow(&mut self, amount: usize) -> bool {
        let Inner { max, client_max, used } = &*self.budget.inner;
        let mut used = lock(used);
        let of_client = used.by_client.get(&self.client).copied().unwrap_or(0);
        if used.all.saturating_add(amount) > *max || of_client.saturating_add(amount) > *client_max {
            return false;
        }
        used.all += amount;
        used.by_client.insert(self.client, of_client + amount);
        self.amount += amount;
        true
    }

    /// Returns the number of reserved units.
    pub(crate) fn amount(&self) -> usize {
        self.amount
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut used = lock(&self.budget.inner.used);
        used.all -= self.amount;
        let left = used.by_client.get(&self.client).map_or(0, |amount| amount - self.amount);
        // Clients without reservations are removed, so that the map stays small.
        match left {
            0 => drop(used.by_client.remove(&self.client)),
            left => drop(used.by_client.insert(self.client, left)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));
    const B: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 2));

    #[test]
    fn one_client_gets_a_limited_share_and_returns_it_on_drop() {
        let budget = Budget::new(1000, 250);
        let reservations: Vec<Reservation> = (0..10).map_while(|_| budget.reserve(A, 50)).collect();
        assert_eq!(reservations.len(), 5);
        let mut other = budget.reserve(B, 200).unwrap();
        assert!(other.grow(50) && !other.grow(1));
        assert_eq!(other.amount(), 250);
        drop(reservations);
        assert!(budget.reserve(A, 250).is_some());
        drop(other);
        let used = budget.inner.used.lock().unwrap();
        assert_eq!((used.all, used.by_client.len()), (0, 0));
    }

    #[test]
    fn all_clients_together_stay_within_the_budget() {
        let budget = Budget::new(1000, 400);
        let clients = (1..=9).map(|n| IpAddr::from([10, 0, 0, n]));
        let reservations: Vec<Reservation> = clients.filter_map(|client| budget.reserve(client, 400)).collect();
        assert_eq!(reservations.len(), 2);
    }

    #[test]
    fn an_ipv6_network_counts_as_one_client() {
        let of = |text: &str| client_of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), A);
    }
}
