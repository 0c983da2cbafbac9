//! A budget that clients share: bytes of batches or of answers, or followed decisions. One client has a part of it at most.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Units that may be in use at once, by all clients and by each.
#[derive(Clone, Debug)]
pub struct Budget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    max: usize,
    client_max: usize,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    all: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// A part of a budget; given back when it is dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    client: IpAddr,
    amount: usize,
}

/// What is counted as one client: an IPv4 address, or the /64 that an IPv6 address is in, since whoever has one address of it
/// can have any.
pub fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        v4 => v4,
    }
}

// === impl Budget ===

impl Budget {
    /// A budget of `max`, of which one client has at most `client_max`.
    pub fn new(max: usize, client_max: usize) -> Budget {
        Budget { inner: Arc::new(Inner { max, client_max: client_max.min(max), used: Mutex::default() }) }
    }

    /// What one client may have.
    pub fn client_max(&self) -> usize {
        self.inner.client_max
    }

    /// Reserves `amount` for the client at `address`; `None` where all of the budget, or the client's part, is used up.
    pub fn reserve(&self, address: IpAddr, amount: usize) -> Option<Reservation> {
        let mut reservation = Reservation { budget: self.clone(), client: client_of(address), amount: 0 };
        reservation.grow(amount).then_some(reservation)
    }
}

// === impl Reservation ===

impl Reservation {
    /// Reserves more; `false`, and nothing changes, where there is not as much.
    pub fn grow(&mut self, amount: usize) -> bool {
        let Inner { max, client_max, used } = &*self.budget.inner;
        let mut used = used.lock().unwrap_or_else(PoisonError::into_inner);
        let of_client = used.by_client.get(&self.client).copied().unwrap_or(0);
        if used.all.saturating_add(amount) > *max || of_client.saturating_add(amount) > *client_max {
            return false;
        }
        used.all += amount;
        used.by_client.insert(self.client, of_client + amount);
        self.amount += amount;
        true
    }

    /// How much it is.
    pub fn amount(&self) -> usize {
        self.amount
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let mut used = self.budget.inner.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.all -= self.amount;
        let left = used.by_client.get(&self.client).map_or(0, |amount| amount - self.amount);
        // Only clients that have something reserved are remembered.
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
    fn one_client_leaves_a_part_for_others_and_gives_back_what_it_had() {
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
    fn all_clients_together_keep_to_the_budget() {
        let budget = Budget::new(1000, 400);
        let clients = (1..=9).map(|n| IpAddr::from([10, 0, 0, n]));
        let reservations: Vec<Reservation> = clients.filter_map(|client| budget.reserve(client, 400)).collect();
        assert_eq!(reservations.len(), 2);
    }

    #[test]
    fn a_network_of_ipv6_is_one_client() {
        let of = |text: &str| client_of(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:10.0.0.1"), A);
    }
}
