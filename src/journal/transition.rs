//! The stored form of a transition, so that the list of past wars can be read without replaying all writes.

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::record::{KEY_BYTES, Key};
use crate::detect::verdict::State;
use crate::pipeline::Transition;
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
pub(super) fn key(transition: &Transition) -> Key {
    let mut context = Context::new(&SHA256);
    context.update(transition.to.as_str().as_bytes());
    context.update(transition.object.as_ref().as_bytes());
    let mut key = Key::from(transition.at);
    key.0[8..].copy_from_slice(&context.finish().as_ref()[..KEY_BYTES - 8]);
    key
}

/// Returns the value of a transition.
pub(super) fn text(transition: &Transition) -> Vec<u8> {
    let text = Text { object: transition.object.as_ref().to_owned(), from: transition.from, to: transition.to };
    serde_json::to_vec(&text).expect("names and states are written to memory")
}

/// Decodes a transition. Returns `None` if the value is not valid.
pub(super) fn read(key: Key, text: &[u8]) -> Option<Transition> {
    let text: Text = serde_json::from_slice(text).ok()?;
    Some(Transition { object: ObjectKey::from(text.object.as_str()), from: text.from, to: text.to, at: key.at() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transitions_round_trip_and_have_one_key() {
        let transition = Transition {
            object: ObjectKey::from("\0apps\0deployments\0shop\0web"),
            from: State::Contested,
            to: State::Thrashing,
            at: 1_700_000_000_000_000,
        };
        assert_eq!(read(key(&transition), &text(&transition)), Some(transition.clone()));
        assert_eq!(key(&transition), key(&transition.clone()));
        assert_ne!(key(&transition), key(&Transition { to: State::Sustained, ..transition.clone() }));
        assert!(key(&transition) < key(&Transition { at: transition.at + 1, ..transition.clone() }));
        assert_eq!(read(key(&transition), b"[]"), None);
    }
}
