//! The location of a field, in the notations that the annotations use.

/// A JSON Pointer and a dotted path, as far as the field can be written as such.
pub(super) struct Location {
    pub(super) pointer: Option<String>,
    pub(super) dotted: Option<String>,
}

// === impl Location ===

impl Location {
    /// Returns the location of a path. The annotations cannot refer to items of keyed lists: an item has the dotted
    /// path of its list, and no pointer.
    pub(super) fn of(path: &str) -> Location {
        if path.starts_with('(') {
            return Location { pointer: None, dotted: None };
        }
        let mut keys: Vec<String> = Vec::new();
        let mut rest = path;
        let mut is_list = false;
        while !rest.is_empty() {
            if let Some(quoted) = rest.strip_prefix("['") {
                let Some(end) = quoted_end(quoted) else { break };
                keys.push(quoted[..end].replace("\\'", "'").replace("\\\\", "\\"));
                rest = &quoted[end + 2..];
            } else if rest.starts_with('[') {
                is_list = true;
                break;
            } else {
                let plain = rest.strip_prefix('.').unwrap_or(rest);
                let end = plain.find(['.', '[']).unwrap_or(plain.len());
                keys.push(plain[..end].to_owned());
                rest = &plain[end..];
            }
        }
        let pointer = || keys.iter().map(|k| format!("/{}", k.replace('~', "~0").replace('/', "~1"))).collect();
        let is_dotted = keys.iter().all(|k| !k.contains(['.', ',', '=', ' ', '/']) && !k.is_empty());
        let has_comma = keys.iter().any(|k| k.contains(','));
        Location {
            pointer: (!is_list && !keys.is_empty() && !has_comma).then(pointer),
            dotted: (is_dotted && !keys.is_empty()).then(|| keys.join(".")),
        }
    }
}

/// Returns the end of a key that is quoted as `['…']`.
pub(super) fn quoted_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'\'' => return (bytes.get(at + 1) == Some(&b']')).then_some(at),
            _ => at += 1,
        }
    }
    None
}
