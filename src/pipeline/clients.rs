//! Each account with each of its tools and places once: objects hold a pointer.

use std::hash::BuildHasher;
use std::sync::Arc;

use dashmap::DashMap;
use foldhash::quality::RandomState;

use crate::detect::actor::{Client, Origin};
use crate::detect::class::Classes;
use crate::detect::instance::instance;
use crate::detect::write::{Effect, Outcome, Write};

/// Clients that are remembered beyond those that objects hold. Far more than a cluster has accounts and tools; reached
/// only by someone who makes them up.
const CLIENTS_MAX: usize = 65_536;
/// Bytes of a user agent that are kept: the API server itself cuts at 1024.
const USER_AGENT_BYTES_MAX: usize = 256;
/// Clients that a batch finds again without asking: a batch has few.
const NEAR: usize = 64;

/// All clients in use.
#[derive(Debug, Default)]
pub struct Clients {
    by_hash: DashMap<u64, Arc<Client>, RandomState>,
    hasher: RandomState,
}

/// The clients of one batch.
#[derive(Debug)]
pub struct Near([Option<(u64, Arc<Client>)>; NEAR]);

// === impl Clients ===

impl Clients {
    /// The client that made a write. Of tools that apply for several applications under one account, each application is a
    /// client of its own.
    pub fn intern<'n>(&self, near: &'n mut Near, write: &Write<'_>, classes: &Classes) -> &'n Arc<Client> {
        let (event, identity) = (write.event, &write.identity);
        let manager = write.field_manager.as_deref();
        let impersonator = identity.impersonator.unwrap_or_default();
        let from = (event.source_ip.as_ref(), event.pod.as_ref(), impersonator);
        let hash = self.hasher.hash_one((identity.user, identity.agent, manager, from));
        let account = hash as usize % NEAR;
        let slot = &mut near.0[account];
        drop(slot.take_if(|(known, _)| *known != hash));
        let make = || {
            let origin = Origin {
                source_ip: event.source_ip.as_ref().into(),
                pod: event.pod.as_ref().into(),
                impersonator: impersonator.into(),
            };
            let tool = manager.unwrap_or(identity.product());
            Client::new(&identity.actor(), tool, shortened(identity.agent), origin).classified(classes)
        };
        let (_, client) = slot.get_or_insert_with(|| (hash, self.find(hash, make)));
        if !client.role.applies()
            || write.outcome != Outcome::Committed
            || write.effect == Effect::Delete
            || !write.subresource.is_empty()
        {
            return &near.0[account].as_ref().expect("it was just put there").1;
        }
        let client = client.clone();
        let instance = event.request_object.and_then(|body| instance(body, &client.actor));
        let Some(instance) = instance else {
            return &near.0[account].as_ref().expect("it was just put there").1;
        };
        let hash = self.hasher.hash_one((hash, &instance));
        let slot = &mut near.0[hash as usize % NEAR];
        drop(slot.take_if(|(known, _)| *known != hash));
        let (_, client) = slot.get_or_insert_with(|| (hash, self.find(hash, || client.of_instance(&instance))));
        client
    }

    /// How many are in use.
    pub fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }

    fn find(&self, hash: u64, make: impl FnOnce() -> Client) -> Arc<Client> {
        if let Some(found) = self.by_hash.get(&hash) {
            return found.clone();
        }
        if self.by_hash.len() >= CLIENTS_MAX {
            self.by_hash.retain(|_, client| Arc::strong_count(client) > 1);
        }
        self.by_hash.entry(hash).or_insert_with(|| Arc::new(make())).clone()
    }
}

impl Default for Near {
    fn default() -> Near {
        Near([const { None }; NEAR])
    }
}

fn shortened(text: &str) -> &str {
    if text.len() <= USER_AGENT_BYTES_MAX {
        return text;
    }
    let end = (0..=USER_AGENT_BYTES_MAX).rev().find(|i| text.is_char_boundary(*i));
    &text[..end.unwrap_or(0)]
}
