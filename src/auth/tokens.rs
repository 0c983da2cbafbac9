//! Bearer tokens from a file: one to a line, `TOKEN NAME`; read again when it changes.

use std::path::Path;
use std::sync::{PoisonError, RwLock};

use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

/// The most tokens of a file.
const TOKENS_MAX: usize = 10_000;

/// Hashes of tokens, and whose they are. The tokens themselves are not kept.
#[derive(Debug, Default)]
pub struct Tokens(RwLock<Vec<(Hash, String)>>);

/// A token's hash.
pub(super) type Hash = [u8; 32];

/// Why a file is no file of tokens.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// A line is not `TOKEN NAME`. The line is not shown: it may hold a secret.
    #[error("line {0} is not `TOKEN NAME`")]
    Line(usize),
    /// There are too many, or none.
    #[error("{0} tokens: at least one and at most {TOKENS_MAX}")]
    Count(usize),
}

/// The hash of a token.
pub(super) fn hash(token: &str) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    hash
}

// === impl Tokens ===

impl Tokens {
    /// Reads a file.
    ///
    /// # Errors
    /// [`Error`].
    pub fn read(path: &Path) -> Result<Tokens, Error> {
        Tokens::parse(&std::fs::read_to_string(path)?)
    }

    /// Reads the text of a file.
    ///
    /// # Errors
    /// [`Error`].
    pub fn parse(text: &str) -> Result<Tokens, Error> {
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

    /// Takes over what another one read.
    pub fn replace(&self, other: Tokens) {
        let other = other.0.into_inner().unwrap_or_else(PoisonError::into_inner);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = other;
    }

    /// Whether no token is known.
    pub fn is_empty(&self) -> bool {
        self.0.read().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Whose token this is. All are compared, each in constant time.
    pub fn name(&self, token: &str) -> Option<String> {
        let hash = hash(token);
        let tokens = self.0.read().unwrap_or_else(PoisonError::into_inner);
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
    fn a_file_is_a_token_and_a_name_to_a_line() {
        let tokens = Tokens::parse("# comment\n\n abc  alice \ndef bob\n").unwrap();
        assert_eq!(tokens.name("abc").as_deref(), Some("alice"));
        assert_eq!(tokens.name("def").as_deref(), Some("bob"));
        for unknown in ["", "ab", "abcd", "alice", "#"] {
            assert_eq!(tokens.name(unknown), None, "{unknown}");
        }
        tokens.replace(Tokens::parse("new alice").unwrap());
        assert_eq!((tokens.name("abc"), tokens.name("new").as_deref()), (None, Some("alice")));
    }

    #[test]
    fn a_wrong_file_is_refused_without_showing_it() {
        let error = Tokens::parse("abc alice\nverysecret\n").unwrap_err().to_string();
        assert_eq!(error, "line 2 is not `TOKEN NAME`");
        assert!(Tokens::parse("# nothing\n").is_err());
        assert!(Tokens::parse("a b c\n").is_err());
    }
}
