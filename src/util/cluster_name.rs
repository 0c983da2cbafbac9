//! Names of clusters, as they are in the paths of the webhook.

/// Maximum length of a name.
const LEN_MAX: usize = 63;

/// Returns whether a text may be the name of a cluster: letters, digits, `-`, `_` and `.`. The empty name stands for the
/// only cluster.
pub(crate) fn is_valid(name: &str) -> bool {
    name.len() <= LEN_MAX && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}
