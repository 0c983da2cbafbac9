//! The table of open connections of one listener: it enforces the limits in total and per client, and decides which
//! connection to evict for a new one.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Instant, SystemTime};

use super::budget::client_of;
use super::connection::{Closing, Connection};
use crate::util::lock::lock;

/// Divisors of the maximum: one client can have at most a quarter of all connections, and an eighth is reserved for
/// authenticated clients and the local host.
const CLIENT_SHARE: usize = 4;
const RESERVED_SHARE: usize = 8;
/// Maximum number of addresses that are remembered as authenticated.
const AUTHENTICATED_MAX: usize = 4096;

/// The open connections of a listener.
#[derive(Debug)]
pub(super) struct Connections {
    max: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    open: BTreeMap<u64, Arc<Connection>>,
    by_client: HashMap<IpAddr, usize>,
    /// Addresses from which a client has authenticated, and when it last did.
    authenticated: HashMap<IpAddr, Instant>,
}

/// The slot of a connection in the table. It is released on drop.
#[derive(Debug)]
pub(super) struct ConnectionSlot {
    connections: Arc<Connections>,
    number: u64,
    address: IpAddr,
    pub(super) connection: Arc<Connection>,
}

// === impl Connections ===

impl Connections {
    pub(super) fn new(max: usize) -> Arc<Connections> {
        Arc::new(Connections { max, table: Mutex::default() })
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    /// Adds a connection from this address, evicting another one if necessary. Returns `None` if the limit is reached
    /// and no connection can be evicted.
    pub(super) fn add(self: &Arc<Connections>, address: IpAddr, now: Instant) -> Option<ConnectionSlot> {
        let (address, client) = (address.to_canonical(), client_of(address));
        let mut table = self.lock();
        let is_authenticated = table.authenticated.contains_key(&address);
        // Clients on this machine are health probes, or port forwards of users who have access to it.
        let may_use_reserve = is_authenticated || address == Ipv4Addr::LOCALHOST || address == Ipv6Addr::LOCALHOST;
        let max = if may_use_reserve { self.max } else { self.max - self.max / RESERVED_SHARE };
        let of_client = table.by_client.get(&client).copied().unwrap_or(0);
        if of_client >= self.max / CLIENT_SHARE {
            table.evict_one(Some(client), now)?;
        } else if table.open.len() >= max {
            table.evict_one(None, now)?;
        }
        let connection = Connection::new(client, is_authenticated, now);
        let number = table.next;
        table.next += 1;
        table.open.insert(number, connection.clone());
        *table.by_client.entry(client).or_default() += 1;
        Some(ConnectionSlot { connections: self.clone(), number, address, connection })
    }

    /// Closes connections that have exceeded a time limit.
    pub(super) fn sweep(&self, now: Instant, clock: SystemTime) {
        for connection in self.lock().open.values() {
            match connection.overdue(now, clock) {
                Closing::No => {}
                closing => connection.close(closing),
            }
        }
    }

    /// Closes connections whose responses are not being read, to release their memory.
    pub(super) fn close_stalled(&self, now: Instant) {
        let stalled = self.lock().open.values().filter(|c| c.stalled_bytes(now).is_some()).cloned().collect::<Vec<_>>();
        stalled.iter().for_each(|connection| connection.close(Closing::Now));
    }

    /// Closes all connections gracefully, or only those with a client certificate.
    pub(super) fn close(&self, only_with_certificate: bool) {
        let open: Vec<_> = self.lock().open.values().cloned().collect();
        let closed = open.iter().filter(|connection| !only_with_certificate || connection.has_certificate());
        closed.for_each(|connection| connection.close(Closing::Graceful));
    }
}

// === impl Table ===

impl Table {
    /// Evicts one connection, optionally only of one client. Unauthenticated connections go first, then those of the
    /// client with the most connections, then those without traffic for the longest time. Returns `None` if none can be
    /// evicted.
    fn evict_one(&mut self, of: Option<IpAddr>, now: Instant) -> Option<()> {
        let candidates = self.open.iter().filter(|(_, connection)| of.is_none_or(|client| connection.client == client));
        let ranked = candidates.filter_map(|(number, connection)| {
            let (is_stranger, still) = connection.eviction_rank(now)?;
            Some((is_stranger, self.by_client.get(&connection.client).copied(), still, *number))
        });
        let (.., number) = ranked.max()?;
        self.remove(number)?.close(Closing::Now);
        Some(())
    }

    fn remove(&mut self, number: u64) -> Option<Arc<Connection>> {
        let connection = self.open.remove(&number)?;
        if let Some(count) = self.by_client.get_mut(&connection.client) {
            *count -= 1;
            if *count == 0 {
                self.by_client.remove(&connection.client);
            }
        }
        Some(connection)
    }
}

// === impl ConnectionSlot ===

impl ConnectionSlot {
    /// Marks the client as authenticated. Its address can use the reserved connections from now on.
    pub(super) fn set_authenticated(&self) {
        self.connection.set_authenticated();
        let (now, mut table) = (Instant::now(), self.connections.lock());
        if table.authenticated.len() >= AUTHENTICATED_MAX && !table.authenticated.contains_key(&self.address) {
            let oldest = table.authenticated.iter().min_by_key(|(_, at)| **at).map(|(address, _)| *address);
            oldest.map(|address| table.authenticated.remove(&address));
        }
        table.authenticated.insert(self.address, now);
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        drop(self.connections.lock().remove(self.number));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn address(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    /// `count` connections that wait for an answer.
    fn busy(
        connections: &Arc<Connections>,
        n: u8,
        count: usize,
        now: Instant,
    ) -> Vec<(ConnectionSlot, super::super::connection::OpenRequest)> {
        let slots = std::iter::repeat_with(|| connections.add(address(n), now));
        slots
            .map_while(|slot| slot.map(|slot| (slot.connection.open(), slot)))
            .take(count)
            .map(|(o, p)| (p, o))
            .collect()
    }

    #[test]
    fn one_client_has_its_share_and_known_ones_have_places_kept_for_them() {
        let (connections, now) = (Connections::new(64), Instant::now());
        let known = connections.add(address(9), now).unwrap();
        known.set_authenticated();
        drop(known);
        let held: Vec<_> = (1..=8).map(|n| busy(&connections, n, 100, now)).collect();
        let counts: Vec<usize> = held.iter().map(Vec::len).collect();
        assert_eq!(counts, [16, 16, 16, 8, 0, 0, 0, 0], "an eighth is kept");
        assert!(connections.add(address(7), now).is_none());
        assert_eq!(busy(&connections, 9, 100, now).len(), 8);
        drop(held);
        assert!(connections.lock().open.is_empty() && connections.lock().by_client.is_empty());
    }

    #[test]
    fn the_silent_give_way_and_of_them_those_of_whom_there_are_most() {
        let (connections, now) = (Connections::new(64), Instant::now());
        let later = now + Duration::from_millis(1);
        let greedy: Vec<ConnectionSlot> = (0..16).filter_map(|_| connections.add(address(1), now)).collect();
        let modest = connections.add(address(2), now).unwrap();
        let others: Vec<_> = (3..=4).flat_map(|n| busy(&connections, n, 16, now)).collect();
        let more: Vec<_> = busy(&connections, 5, 7, now);
        assert_eq!(connections.lock().open.len(), 56);
        let newcomers: Vec<ConnectionSlot> = (10..20).map(|n| connections.add(address(n), later).unwrap()).collect();
        let is_ended = |slot: &ConnectionSlot| *slot.connection.closing().borrow() == Closing::Now;
        assert_eq!(greedy.iter().filter(|slot| is_ended(slot)).count(), 10);
        assert!(!is_ended(&modest) && !newcomers.iter().any(is_ended));
        drop((others, more));
    }

    #[test]
    fn what_waits_for_an_answer_gives_way_only_where_nothing_moves() {
        let (connections, now) = (Connections::new(64), Instant::now());
        let held: Vec<_> = (1..=4).flat_map(|n| busy(&connections, n, 16, now)).collect();
        assert!(connections.add(address(9), now).is_none());
        assert!(connections.add(address(9), now + Duration::from_secs(2)).is_some());
        drop(held);
    }

    #[test]
    fn time_limits_end_what_is_silent_idle_unread_or_expired() {
        let now = Instant::now();
        let (clock, after) = (SystemTime::now(), |seconds| now + Duration::from_secs(seconds));
        let silent = Connection::new(address(1), false, now);
        assert_eq!(silent.overdue(after(9), clock), Closing::No);
        assert_eq!(silent.overdue(after(11), clock), Closing::Now);
        let asked = Connection::new(address(1), false, now);
        let open = asked.open();
        assert_eq!(asked.overdue(after(600), clock), Closing::No, "the handler has its own limits");
        open.answer(100);
        assert_eq!(asked.overdue(after(9), clock), Closing::No);
        assert_eq!(asked.overdue(after(11), clock), Closing::Now, "nothing of it was read");
        open.record_part_queued();
        open.record_part_awaited();
        assert_eq!(asked.overdue(after(11), clock), Closing::Now, "a part of it was not written");
        open.record_part_written();
        assert_eq!(asked.overdue(after(50), clock), Closing::No, "the next part is not there yet");
        assert_eq!(asked.overdue(after(61), clock), Closing::Now, "no answer of known length takes as long");
        drop(open);
        assert_eq!(asked.unsent(), 0);
        assert_eq!(asked.overdue(after(119), clock), Closing::No);
        assert_eq!(asked.overdue(after(121), clock), Closing::Graceful, "idle");
        let followed = Connection::new(address(1), false, now);
        let open = followed.open();
        open.answer(0);
        open.record_part_awaited();
        assert_eq!(followed.overdue(after(6000), clock), Closing::No, "a stream goes on");
        let expired = Connection::new(address(1), false, now);
        drop(expired.open());
        expired.record_handshake(Some(clock));
        assert_eq!(expired.overdue(now, clock - Duration::from_secs(1)), Closing::No);
        assert_eq!(expired.overdue(now, clock), Closing::Graceful);
        expired.close(Closing::Graceful);
        assert_eq!(expired.overdue(after(2), clock), Closing::Now);
    }
}
