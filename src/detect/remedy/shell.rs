//! Words of commands for a POSIX shell.

/// Returns an object in kubectl's notation. A name that begins like a flag must not be a word of its own.
pub(super) fn target(resource: &str, name: &str) -> String {
    if name.starts_with('-') {
        quoted(&format!("{resource}/{name}"))
    } else {
        format!("{} {}", quoted(resource), quoted(name))
    }
}

/// Returns a word for a POSIX shell, in single quotes if it contains special characters.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}
