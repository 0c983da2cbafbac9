//! Each account with each of its tools once: objects hold a pointer.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use dashmap::DashMap;

use crate::detect::actor::Client;
use crate::detect::write::Write;

/// Clients that are remembered beyond those that objects hold. Far more than a cluster has accounts and tools; reached
/// only by someone who makes them up.
const CLIENTS_MAX: usize = 65_536;
/// Bytes of a user agent that are kept: the API server itself cuts at 1024.
const USER_AGENT_BYTES_MAX: usize = 256;

/// All clients in use.
#[derive(Debug, Default)]
pub struct Clients {
    by_hash: DashMap<u64, Arc<Client>>,
    hasher: RandomState,
}

// === impl Clients ===

impl Clients {
    /// The client that made a write.
    pub fn intern(&self, write: &Write<'_>) -> Arc<Client> {
        let actor = write.identity.actor();
        let tool = write.field_manager.as_deref().unwrap_or(write.identity.product);
        let user_agent = shortened(&write.event.user_agent);
        let hash = self.hasher.hash_one((actor.as_ref(), tool, user_agent));
        if let Some(found) = self.by_hash.get(&hash) {
            return found.clone();
        }
        if self.by_hash.len() >= CLIENTS_MAX {
            self.by_hash.retain(|_, client| Arc::strong_count(client) > 1);
        }
        let client = Client { actor: actor.as_ref().into(), tool: tool.into(), user_agent: user_agent.into() };
        self.by_hash.entry(hash).or_insert_with(|| Arc::new(client)).clone()
    }

    /// How many are in use.
    pub fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_hash.is_empty()
    }
}

fn shortened(text: &str) -> &str {
    let end = (0..=text.len().min(USER_AGENT_BYTES_MAX)).rev().find(|i| text.is_char_boundary(*i));
    &text[..end.unwrap_or(0)]
}
