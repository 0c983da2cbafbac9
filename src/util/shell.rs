//! Words for a POSIX shell.

/// Quotes a word for a shell: unchanged if no character of it is special, else in single quotes.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_special_words_are_quoted() {
        assert_eq!(quoted("a-b.c/d:e=f"), "a-b.c/d:e=f");
        assert_eq!(quoted("it's $HOME;"), r"'it'\''s $HOME;'");
        assert_eq!(quoted(""), "''");
    }
}
