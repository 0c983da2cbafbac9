//! Words of kubectl commands for a POSIX shell.

use crate::util::shell::quoted;

/// Returns an object in kubectl's notation. A name that begins with `-` is not passed as an argument of its own,
/// because kubectl would parse it as a flag.
pub(super) fn target(resource: &str, name: &str) -> String {
    if name.starts_with('-') {
        quoted(&format!("{resource}/{name}"))
    } else {
        format!("{} {}", quoted(resource), quoted(name))
    }
}
