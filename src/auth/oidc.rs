//! Identity tokens of OpenID Connect, as Google Pub/Sub sends them: signed by a key of their issuer, for one audience.
//! <https://openid.net/specs/openid-connect-core-1_0.html#IDTokenValidation>
//!
//! Only RS256 is accepted, which every issuer must support. Signatures are verified by `ring`, like those of TLS.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http_body_util::{BodyExt, Limited};
use hyper::{Request, Uri};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use serde::Deserialize;
use tokio::task::JoinHandle;

use crate::util::clock;
use crate::util::http_client::client_for;
use crate::util::lock::{lock, read, write};

/// How far the clocks of the issuer and of this machine may differ, in seconds.
const LEEWAY: i64 = 60;
/// Time after which keys are loaded again. An issuer publishes a key days before it signs with it.
const KEYS_FOR: Duration = Duration::from_secs(3600);
/// Maximum age of keys that cannot be loaded again. The issuer may have withdrawn them.
const KEYS_HOLD: Duration = Duration::from_secs(24 * 3600);
/// Minimum time between two attempts to load keys, so that forged tokens cause few of them.
const LOAD_EVERY: Duration = Duration::from_secs(10);
/// Time limit for loading keys.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum number of bytes of a set of keys, and of keys in it. Google has two or three.
const KEYS_BYTES_MAX: usize = 256 << 10;
const KEYS_MAX: usize = 64;

/// Verifies the tokens of one issuer.
pub(crate) struct Oidc {
    issuer: String,
    audience: String,
    source: KeySource,
    keys: RwLock<Arc<[Key]>>,
    times: Mutex<Times>,
}

/// When the keys were loaded.
#[derive(Clone, Copy, Debug, Default)]
struct Times {
    /// When they were last asked for.
    asked: Option<Instant>,
    /// When that succeeded.
    loaded: Option<Instant>,
}

/// Where the keys of the issuer are.
enum KeySource {
    File(PathBuf),
    Url(Uri),
}

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    id: String,
    modulus: Vec<u8>,
    exponent: Vec<u8>,
}

/// A set of keys: a JWK Set.
#[derive(Deserialize)]
struct KeySet {
    keys: Vec<JsonWebKey>,
}

#[derive(Deserialize)]
struct JsonWebKey {
    kty: String,
    #[serde(default)]
    kid: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    #[serde(default)]
    kid: String,
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    exp: i64,
    nbf: Option<i64>,
    sub: String,
    email: Option<String>,
    #[serde(default)]
    email_verified: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// A token whose signature has not been verified.
struct Token<'a> {
    header: Header,
    claims: Claims,
    signed: &'a str,
    signature: Vec<u8>,
}

// === impl Oidc ===

impl Oidc {
    /// Creates a verifier. `keys` is a file with a JWK Set, or its URL, which is not requested yet.
    ///
    /// # Errors
    /// The file is not a JWK Set, or the URL is not https.
    pub(crate) fn new(issuer: &str, audience: &str, keys: &str) -> Result<Oidc> {
        let (source, known) = match keys.split_once("://") {
            None => {
                let path = PathBuf::from(keys);
                let known = parse(&std::fs::read(&path).with_context(|| keys.to_owned())?);
                let known = known.with_context(|| keys.to_owned())?;
                if known.is_empty() {
                    bail!("{keys}: the JWK Set has no RSA key");
                }
                (KeySource::File(path), known)
            }
            Some((scheme, _)) => {
                let url: Uri = keys.parse().with_context(|| keys.to_owned())?;
                let is_local = matches!(url.host(), Some("127.0.0.1" | "[::1]" | "localhost"));
                if scheme != "https" && !(scheme == "http" && is_local) {
                    bail!("{keys}: expected an https URL, or a file");
                }
                (KeySource::Url(url), Vec::new())
            }
        };
        let loaded = Some(Instant::now()).filter(|_| !known.is_empty());
        Ok(Oidc {
            issuer: issuer.to_owned(),
            audience: audience.to_owned(),
            source,
            keys: RwLock::new(known.into()),
            times: Mutex::new(Times { asked: None, loaded }),
        })
    }

    /// Returns the account that a token identifies: its verified e-mail address, or else its subject. `None` if the token
    /// is of another issuer or invalid.
    pub(crate) async fn name(self: &Arc<Self>, token: &str) -> Option<String> {
        let token = Token::parse(token)?;
        if token.claims.iss != self.issuer {
            return None;
        }
        let is_known = read(&self.keys).iter().any(|key| key.id == token.header.kid);
        if self.must_load(is_known) {
            // It is completed even if this client disconnects.
            drop(self.refresh().await);
        }
        let is_held = lock(&self.times).loaded.is_some_and(|at| at.elapsed() < KEYS_HOLD);
        let keys = Some(read(&self.keys).clone()).filter(|_| is_held).unwrap_or_default();
        let result = token.verify(&keys, &self.audience, clock::now() / 1_000_000);
        result.inspect_err(|reason| tracing::debug!(reason, "an identity token is invalid")).ok()
    }

    /// Whether this request must load the keys again. Others use those that are known meanwhile.
    fn must_load(&self, is_known: bool) -> bool {
        let is_within = |at: Option<Instant>, time| at.is_some_and(|at| at.elapsed() < time);
        let mut times = lock(&self.times);
        let is_current = is_known && is_within(times.loaded, KEYS_FOR);
        if is_current || is_within(times.asked, LOAD_EVERY) {
            return false;
        }
        times.asked = Some(Instant::now());
        true
    }

    /// Loads the keys again in the background. If that fails, those that are known stay valid for a day.
    pub(crate) fn refresh(self: &Arc<Self>) -> JoinHandle<()> {
        let this = self.clone();
        tokio::spawn(async move {
            let error = match tokio::time::timeout(TIMEOUT, this.load()).await {
                Ok(Ok(keys)) => {
                    *write(&this.keys) = keys.into();
                    lock(&this.times).loaded = Some(Instant::now());
                    return;
                }
                Ok(Err(error)) => format!("{error:#}"),
                Err(_) => format!("no answer within {} s", TIMEOUT.as_secs()),
            };
            tracing::warn!(error, "cannot load the keys of auth.oidc.keys");
        })
    }

    async fn load(&self) -> Result<Vec<Key>> {
        match &self.source {
            KeySource::File(path) => parse(&std::fs::read(path).with_context(|| path.display().to_string())?),
            KeySource::Url(url) => {
                let client = client_for(url, None)?;
                let request = Request::get(url.path_and_query().map_or("/", |path| path.as_str()));
                let answer = client.send(request.body(kube::client::Body::empty())?).await?;
                if !answer.status().is_success() {
                    bail!("{url}: {}", answer.status());
                }
                let body = Limited::new(answer.into_body(), KEYS_BYTES_MAX).collect().await;
                parse(&body.map_err(|error| anyhow::anyhow!("{url}: {error}"))?.to_bytes())
            }
        }
    }
}

/// Returns the RSA keys of a JWK Set.
fn parse(text: &[u8]) -> Result<Vec<Key>> {
    let set: KeySet = serde_json::from_slice(text).context("expected a JWK Set")?;
    let key = |key: JsonWebKey| -> Option<Key> {
        let number = |text: &str| URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok().filter(|n| !n.is_empty());
        (key.kty == "RSA").then_some(())?;
        Some(Key { id: key.kid, modulus: number(&key.n)?, exponent: number(&key.e)? })
    };
    Ok(set.keys.into_iter().filter_map(key).take(KEYS_MAX).collect())
}

// === impl Token ===

impl<'a> Token<'a> {
    fn parse(token: &'a str) -> Option<Token<'a>> {
        let (signed, signature) = token.rsplit_once('.')?;
        let (header, claims) = signed.split_once('.')?;
        let decoded = |part: &str| URL_SAFE_NO_PAD.decode(part).ok();
        Some(Token {
            header: serde_json::from_slice(&decoded(header)?).ok()?,
            claims: serde_json::from_slice(&decoded(claims)?).ok()?,
            signed,
            signature: decoded(signature)?,
        })
    }

    /// Returns the account. `now` is in seconds since 1970.
    fn verify(self, keys: &[Key], audience: &str, now: i64) -> Result<String, &'static str> {
        let Token { header, claims, signed, signature } = self;
        if header.alg != "RS256" {
            return Err("it is not signed with RS256");
        }
        let mut candidates = keys.iter().filter(|key| header.kid.is_empty() || key.id == header.kid);
        let is_signed = candidates.any(|Key { modulus: n, exponent: e, .. }| {
            let key = RsaPublicKeyComponents { n, e };
            key.verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &signature).is_ok()
        });
        if !is_signed {
            return Err("its signature is not of a known key");
        }
        let is_for_us = match &claims.aud {
            Audience::One(one) => one == audience,
            Audience::Many(many) => many.iter().any(|one| one == audience),
        };
        if !is_for_us {
            return Err("it is for another audience");
        }
        if claims.exp.saturating_add(LEEWAY) <= now {
            return Err("it has expired");
        }
        if claims.nbf.is_some_and(|from| from.saturating_sub(LEEWAY) > now) {
            return Err("it is not valid yet");
        }
        Ok(claims.email.filter(|_| claims.email_verified).unwrap_or(claims.sub))
    }
}
