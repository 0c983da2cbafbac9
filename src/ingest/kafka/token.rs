//! Tokens for OAUTHBEARER, from a file that something else renews, such as the kubelet.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Deserialize;

/// After which a token without a time of expiry is read again.
const LIFETIME: Duration = Duration::from_secs(300);

/// A token, and what the client must know of it.
// Only tests may print it.
#[cfg_attr(test, derive(Debug, PartialEq, Eq))]
pub(super) struct Token {
    pub(super) text: String,
    /// Who it was issued to.
    pub(super) principal: String,
    /// When it expires, in milliseconds since 1970.
    pub(super) expires_ms: i64,
}

/// What is read of the claims. The brokers verify the token.
#[derive(Deserialize)]
struct Claims {
    #[serde(default)]
    sub: String,
    exp: Option<f64>,
}

// === impl Token ===

impl Token {
    /// Reads a token.
    ///
    /// # Errors
    /// The file cannot be read, or has no JSON web token. The message does not quote it.
    pub(super) fn read(path: &Path, now: SystemTime) -> Result<Token, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Token::parse(text.trim(), now).ok_or_else(|| format!("{}: not a JSON web token", path.display()))
    }

    fn parse(text: &str, now: SystemTime) -> Option<Token> {
        let claims = text.split('.').nth(1)?.trim_end_matches('=');
        let claims: Claims = serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(claims).ok()?).ok()?;
        let ms = |at: SystemTime| at.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
        let expires_ms = claims.exp.map_or(ms(now + LIFETIME), |seconds| (seconds * 1000.0) as i64);
        Some(Token { text: text.to_owned(), principal: claims.sub, expires_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        format!("e30.{}.c2ln", BASE64_URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn a_token_says_whose_it_is_and_when_it_expires() {
        let now = UNIX_EPOCH + Duration::from_secs(1_000);
        let text = token(r#"{"sub":"system:serviceaccount:editwar:editwar","exp":1700000000}"#);
        let found = Token::parse(&text, now).unwrap();
        assert_eq!(
            found,
            Token { text, principal: "system:serviceaccount:editwar:editwar".into(), expires_ms: 1_700_000_000_000 }
        );
        assert_eq!(Token::parse(&token("{}"), now).unwrap().expires_ms, 1_300_000);
        for text in ["", "secret", "a.b", &token("[]"), &token("{\"exp\":\"soon\"}")] {
            assert_eq!(Token::parse(text, now), None, "{text}");
        }
    }
}
