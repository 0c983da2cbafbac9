//! Patterns in which `*` stands for any characters.

/// Returns whether `text` matches `pattern`. `*` matches any run of characters, including none; every other character
/// matches itself.
pub(crate) fn is_match(pattern: &str, text: &str) -> bool {
    let Some(first) = memchr::memchr(b'*', pattern.as_bytes()) else { return pattern == text };
    let last = memchr::memrchr(b'*', pattern.as_bytes()).unwrap_or(first);
    let (prefix, suffix) = (&pattern[..first], &pattern[last + 1..]);
    let Some(mut rest) = text.strip_prefix(prefix).and_then(|rest| rest.strip_suffix(suffix)) else { return false };
    // Between the first `*` and the last one.
    for part in pattern[first..last].split('*').filter(|part| !part.is_empty()) {
        match rest.find(part) {
            Some(at) => rest = &rest[at + str::len(part)..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, text, is) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("*", "", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXcYb", false),
            ("a*a", "a", false),
            ("a**b", "ab", true),
            ("**", "a", true),
            ("", "", true),
            ("", "a", false),
            ("*a*", "bab", true),
            ("*ab*ba*", "aba", false),
        ] {
            assert_eq!(is_match(pattern, text), is, "{pattern} {text}");
        }
    }
}
