//! Words of kubectl commands for a POSIX shell.

use crate::util::shell::quoted;

/// Returns an object in kubectl's notation. A name that begins like a flag must not be a word of its own.
pub(super) fn target(resource: &str, name: &str) -> String {
    if name.starts_with('-') {
        quoted(&format!("{resource}/{name}"))
    } else {
        format!("{} {}", quoted(resource), quoted(name))
    }
}
