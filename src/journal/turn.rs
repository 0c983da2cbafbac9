//! The stored form of a transition, so that the list of past wars can be read without replaying all writes.

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::record::{KEY_BYTES, Key};
use crate::detect::verdict::State;
use crate::pipeline::Turn;
use crate::pipeline::key::ObjectKey;

/// The value of a stored transition, as JSON.
#[derive(Serialize, Deserialize)]
struct Text {
    /// The key text of the object.
    object: String,
    from: State,
    to: State,
}

/// Returns the key of a transition: ordered by time, and equal if the same transition is found again.
pub fn key(turn: &Turn) -> Key {
    let mut context = Context::new(&SHA256);
    context.update(turn.to.as_str().as_bytes());
    context.update(turn.object.as_ref().as_bytes());
    let mut key = Key::from(turn.at);
    key.0[8..].copy_from_slice(&context.finish().as_ref()[..KEY_BYTES - 8]);
    key
}

/// Returns the value of a transition.
pub fn text(turn: &Turn) -> Vec<u8> {
    let text = Text { object: turn.object.as_ref().to_owned(), from: turn.from, to: turn.to };
    serde_json::to_vec(&text).expect("names and states are written to memory")
}

/// Decodes a transition. Returns `None` if the value is not valid.
pub fn read(key: Key, text: &[u8]) -> Option<Turn> {
    let text: Text = serde_json::from_slice(text).ok()?;
    Some(Turn { object: ObjectKey::from(text.object.as_str()), from: text.from, to: text.to, at: key.at() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_is_the_same_after_it_was_kept_and_has_one_key() {
        let turn = Turn {
            object: ObjectKey::from("\0apps\0deployments\0shop\0web"),
            from: State::Contested,
            to: State::Thrashing,
            at: 1_700_000_000_000_000,
        };
        assert_eq!(read(key(&turn), &text(&turn)), Some(turn.clone()));
        assert_eq!(key(&turn), key(&turn.clone()));
        assert_ne!(key(&turn), key(&Turn { to: State::Paused, ..turn.clone() }));
        assert!(key(&turn) < key(&Turn { at: turn.at + 1, ..turn.clone() }));
        assert_eq!(read(key(&turn), b"[]"), None);
    }
}
