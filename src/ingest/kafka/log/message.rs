//! The messages of the log: records of writes, and what replicas tell each other.

use rdkafka::message::{BorrowedMessage, Message as _};
use serde::{Deserialize, Serialize};

use super::claims::Claim;
use crate::audit::event::Micros;
use crate::journal::record::{KEY_BYTES, Key, Record};

/// A message of the log.
pub(super) enum Message {
    Record(Record),
    Notice(Notice),
}

/// A message that does not contain a write.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Notice {
    /// A replica claims the lead.
    Claim(Claim),
    /// The leader has published the transition with this id.
    Published(String),
    /// A person has lifted the pause of an object.
    Resumed {
        /// The text of its key.
        object: String,
        /// When.
        at: Micros,
    },
}

// === impl Message ===

impl Message {
    /// Returns its approximate size in memory when it is unpacked, in bytes.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Message::Record(record) => record.bytes() + record.unpacked_bytes(),
            Message::Notice(_) => size_of::<Message>(),
        }
    }

    /// Reads a message. Returns `None` if it is not valid.
    pub(super) fn of(message: &BorrowedMessage<'_>) -> Option<Message> {
        let payload = message.payload()?;
        let Some(key) = message.key().filter(|key| !key.is_empty()) else {
            return serde_json::from_slice(payload).ok().map(Message::Notice);
        };
        let (key, object) = key.split_first_chunk::<KEY_BYTES>()?;
        let object = std::str::from_utf8(object).ok()?.into();
        Some(Message::Record(Record { key: Key(*key), object, packed: payload.to_vec() }))
    }
}
