//! Interns clients: each combination of account, tool and origin is stored once, and objects hold a pointer to it.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::sync::{Arc, Mutex};

use foldhash::quality::RandomState;

use crate::audit::event::Event;
use crate::detect::actor::{Client, Identity, Origin};
use crate::detect::actor_class::ActorClassifier;
use crate::detect::instance::instance;
use crate::detect::meter::Meter;
use crate::detect::write::{Effect, Outcome, Write};
use crate::util::lock::lock;

/// Maximum number of clients in one generation. It is far more than a cluster has accounts and tools; only made-up
/// names can reach it.
const GENERATION_MAX: usize = 32_768;
/// Maximum number of bytes of a user agent that are kept. The API server itself truncates at 1024.
const USER_AGENT_BYTES_MAX: usize = 256;
/// Slots of the cache of one batch. A batch has few clients.
const CACHE_SLOTS: usize = 64;

/// All clients in use: those of the last one to two generations, and older ones that objects still hold.
#[derive(Debug)]
pub(super) struct Clients {
    generations: Mutex<Generations>,
    hasher: RandomState,
    meter: Meter,
    /// Maximum bytes of one generation.
    generation_bytes_max: usize,
}

/// Clients by their hash. When the young generation is full, it becomes the old one, and the clients of the old one
/// that were not used since are dropped. A client that an object holds stays alive there.
#[derive(Debug, Default)]
struct Generations {
    young: HashMap<u64, Arc<Client>, RandomState>,
    old: HashMap<u64, Arc<Client>, RandomState>,
    young_bytes: usize,
}

/// A cache of the clients of one batch, which are found without taking the lock.
#[derive(Debug)]
pub(super) struct BatchClientCache([Option<(u64, Arc<Client>)>; CACHE_SLOTS]);

// === impl Clients ===

impl Clients {
    /// Returns an empty set of clients. `bytes_max` is the memory limit of the whole pipeline, of which one generation
    /// gets a sixteenth.
    pub(super) fn new(bytes_max: usize) -> Clients {
        Clients {
            generations: Mutex::default(),
            hasher: RandomState::default(),
            meter: Meter::default(),
            generation_bytes_max: bytes_max / 16,
        }
    }

    /// Returns the client that made a write. If a tool applies several applications under one account, each application
    /// is a client of its own.
    pub(super) fn intern<'n>(
        &self,
        client_cache: &'n mut BatchClientCache,
        write: &Write<'_>,
        classes: &ActorClassifier,
    ) -> &'n Arc<Client> {
        let (event, identity) = (write.event, &write.identity);
        let manager = write.field_manager.as_deref();
        let impersonator = identity.impersonator.unwrap_or_default();
        let hash = self.hash(identity, manager.unwrap_or_default(), event);
        let account = hash as usize % CACHE_SLOTS;
        let slot = &mut client_cache.0[account];
        drop(slot.take_if(|(known, _)| *known != hash));
        let make = || {
            let origin = Origin {
                source_ip: event.source_ip.as_ref().into(),
                pod: event.pod.as_ref().into(),
                impersonator: impersonator.into(),
            };
            let tool = manager.unwrap_or(identity.product());
            let client = Client::new(&identity.actor(), tool, shortened(identity.agent), origin);
            client.of_watch(event.is_by_manager()).classified(classes)
        };
        let (_, client) = slot.get_or_insert_with(|| (hash, self.find(hash, make)));
        if !client.role.applies()
            || write.outcome != Outcome::Committed
            || write.effect == Effect::Delete
            || !write.subresource.is_empty()
        {
            return &client_cache.0[account].as_ref().expect("it was just put there").1;
        }
        let client = client.clone();
        let instance = event.request_object.and_then(|body| instance(body, &client.actor));
        let Some(instance) = instance else {
            return &client_cache.0[account].as_ref().expect("it was just put there").1;
        };
        let hash = self.hasher.hash_one((hash, &instance));
        let slot = &mut client_cache.0[hash as usize % CACHE_SLOTS];
        drop(slot.take_if(|(known, _)| *known != hash));
        let (_, client) = slot.get_or_insert_with(|| (hash, self.find(hash, || client.of_instance(&instance))));
        client
    }

    /// Returns the meter that counts the bytes of all live clients.
    pub(super) fn meter(&self) -> &Meter {
        &self.meter
    }

    fn hash(&self, identity: &Identity<'_>, manager: &str, event: &Event<'_>) -> u64 {
        let (user, agent, manager) = (identity.user.as_bytes(), identity.agent.as_bytes(), manager.as_bytes());
        let (ip, pod) = (event.source_ip.as_bytes(), event.pod.as_bytes());
        let impersonator = identity.impersonator.unwrap_or_default().as_bytes();
        let mut hasher = self.hasher.build_hasher();
        // Hash the lengths too: otherwise, texts that are split at other places would have the same hash. No text is
        // longer than 4 GiB.
        hasher.write_u64((user.len() as u64) << 32 | agent.len() as u64);
        hasher.write_u64((ip.len() as u64) << 32 | manager.len() as u64);
        hasher.write_u64((pod.len() as u64) << 32 | impersonator.len() as u64);
        if event.is_by_manager() {
            hasher.write_u8(1);
        }
        // One by one, as in `dedupe::identity`: a loop over the texts takes twice as many instructions.
        hasher.write(user);
        hasher.write(agent);
        hasher.write(ip);
        if !manager.is_empty() {
            hasher.write(manager);
        }
        if !pod.is_empty() {
            hasher.write(pod);
        }
        if !impersonator.is_empty() {
            hasher.write(impersonator);
        }
        hasher.finish()
    }

    fn find(&self, hash: u64, make: impl FnOnce() -> Client) -> Arc<Client> {
        let mut generations = lock(&self.generations);
        if let Some(found) = generations.young.get(&hash) {
            return found.clone();
        }
        let client = generations.old.remove(&hash).unwrap_or_else(|| Arc::new(make().metered(&self.meter)));
        let over = generations.add(hash, client.clone(), self.generation_bytes_max);
        drop(generations);
        drop(over);
        client
    }
}

// === impl Generations ===

impl Generations {
    /// Adds a client to the young generation. If that was full, returns the old generation, so that the caller can drop
    /// it after it has released the lock.
    fn add(&mut self, hash: u64, client: Arc<Client>, bytes_max: usize) -> HashMap<u64, Arc<Client>, RandomState> {
        let mut over = HashMap::default();
        if self.young.len() >= GENERATION_MAX || self.young_bytes >= bytes_max {
            over = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
            self.young_bytes = 0;
        }
        self.young_bytes += client.bytes();
        self.young.insert(hash, client);
        over
    }
}

impl Default for BatchClientCache {
    fn default() -> BatchClientCache {
        BatchClientCache([const { None }; CACHE_SLOTS])
    }
}

fn shortened(text: &str) -> &str {
    if text.len() <= USER_AGENT_BYTES_MAX {
        return text;
    }
    let end = (0..=USER_AGENT_BYTES_MAX).rev().find(|i| text.is_char_boundary(*i));
    &text[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_bounded_and_those_in_use_stay() {
        let clients = Clients::new(1 << 30);
        let of = |n: u64| clients.find(n, || Client::named(&n.to_string()));
        let held = of(0);
        let (mut made, mut longest) = (0, 0);
        for n in 1..10 * GENERATION_MAX as u64 {
            // A client that is requested repeatedly is created once.
            let again = clients.find(u64::MAX, || {
                made += 1;
                Client::named("kubectl")
            });
            assert_eq!(&*again.actor, "kubectl");
            drop(of(n));
            let generations = lock(&clients.generations);
            longest = longest.max(generations.young.len() + generations.old.len());
        }
        assert_eq!((made, longest <= 2 * GENERATION_MAX + 1), (1, true), "{longest}");
        assert!(clients.meter().bytes() < (2 * GENERATION_MAX + 2) * 1024, "{}", clients.meter().bytes());
        assert_eq!(*held, *of(0), "an evicted client is created again as it was");
    }
}
