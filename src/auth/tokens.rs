//! Bearer tokens from a file with one `TOKEN NAME` per line. The file is read again when it changes.

use std::path::Path;
use std::sync::RwLock;

use crate::util::lock::{read, write};
use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

/// Maximum number of tokens in a file.
const TOKENS_MAX: usize = 10_000;

/// Maps the hashes of tokens to the names of their owners. The tokens themselves are not kept in memory.
#[derive(Debug, Default)]
pub(crate) struct Tokens(RwLock<Vec<(Hash, String)>>);

/// The SHA-256 hash of a token.
pub(super) type Hash = [u8; 32];

/// The reason why a file is not a valid token file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The file cannot be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A line is not `TOKEN NAME`. The message does not quote the line, which may contain a secret.
    #[error("line {0}: expected `TOKEN NAME`")]
    Line(usize),
    /// The file has no tokens or too many.
    #[error("found {0} tokens: expected 1 to {TOKENS_MAX}")]
    Count(usize),
}

/// Returns the hash of a token.
pub(super) fn hash(token: &str) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}

// === impl Tokens ===

impl Tokens {
    /// Reads a token file.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) fn read(path: &Path) -> Result<Tokens, Error> {
        Tokens::parse(&std::fs::read_to_string(path)?)
    }

    /// Parses the text of a token file.
    ///
    /// # Errors
    /// [`Error`].
    pub(crate) fn parse(text: &str) -> Result<Tokens, Error> {
        let mut tokens = Vec::new();
        for (number, line) in text.lines().enumerate() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next(), words.next()) {
                (None, ..) => {}
                (Some(first), ..) if first.starts_with('#') => {}
                (Some(token), Some(name), None) => tokens.push((hash(token), name.to_owned())),
                _ => return Err(Error::Line(number + 1)),
            }
        }
        match tokens.len() {
            1..=TOKENS_MAX => Ok(Tokens(RwLock::new(tokens))),
            count => Err(Error::Count(count)),
        }
    }

    /// Replaces all tokens with those of `other`.
    pub(crate) fn replace(&self, other: &Tokens) {
        *write(&self.0) = std::mem::take(&mut *write(&other.0));
    }

    /// Returns whether there are no tokens.
    pub(crate) fn is_empty(&self) -> bool {
        read(&self.0).is_empty()
    }

    /// Returns the name of a token's owner. Compares with all tokens, each in constant time.
    pub(crate) fn name(&self, token: &str) -> Option<String> {
        let hash = hash(token);
        let tokens = read(&self.0);
        let mut found = None;
        for (known, name) in tokens.iter() {
            if bool::from(known.ct_eq(&hash)) {
                found = Some(name.clone());
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_files_have_one_token_and_name_per_line() {
        let tokens = Tokens::parse("# comment\n\n abc  alice \ndef bob\n").unwrap();
        assert_eq!(tokens.name("abc").as_deref(), Some("alice"));
        assert_eq!(tokens.name("def").as_deref(), Some("bob"));
        for unknown in ["", "ab", "abcd", "alice", "#"] {
            assert_eq!(tokens.name(unknown), None, "{unknown}");
        }
        tokens.replace(&Tokens::parse("new alice").unwrap());
        assert_eq!((tokens.name("abc"), tokens.name("new").as_deref()), (None, Some("alice")));
    }

    #[test]
    fn an_invalid_file_is_rejected_without_revealing_its_content() {
        let error = Tokens::parse("abc alice\nverysecret\n").unwrap_err().to_string();
        assert_eq!(error, "line 2: expected `TOKEN NAME`");
        assert!(Tokens::parse("# nothing\n").is_err());
        assert!(Tokens::parse("a b c\n").is_err());
    }
}
