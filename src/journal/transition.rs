//! The stored form of a transition, so that the list of past wars can be read without replaying all writes.

use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::record::{KEY_BYTES, Key};
use crate::detect::object::Labels;
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
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    labels: Labels,
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
    let Transition { object, from, to, labels, .. } = transition;
    let text = Text { object: object.as_ref().to_owned(), from: *from, to: *to, labels: labels.clone() };
    serde_json::to_vec(&text).expect("names and states are written to memory")
}

/// Decodes a transition. Returns `None` if the value is not valid.
pub(super) fn read(key: Key, text: &[u8]) -> Option<Transition> {
    let Text { object, from, to, labels } = serde_json::from_slice(text).ok()?;
    Some(Transition { object: ObjectKey::from(object.as_str()), from, to, at: key.at(), labels })
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
            labels: Labels::from([("team".to_owned(), "shop".to_owned())]),
        };
        assert_eq!(read(key(&transition), &text(&transition)), Some(transition.clone()));
        assert_eq!(key(&transition), key(&transition.clone()));
        assert_ne!(key(&transition), key(&Transition { to: State::Sustained, ..transition.clone() }));
        assert!(key(&transition) < key(&Transition { at: transition.at + 1, ..transition.clone() }));
        assert_eq!(read(key(&transition), b"[]"), None);
        // Before labels were stored.
        let old = br#"{"object":"\u0000apps\u0000deployments\u0000shop\u0000web","from":"contested","to":"thrashing"}"#;
        assert_eq!(read(key(&transition), old), Some(Transition { labels: Labels::new(), ..transition }));
    }
}
