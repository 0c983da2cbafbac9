//! The sections `webhook` and `admin`: addresses, TLS, limits of requests, and the rights of clients.

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Bytes;
use crate::auth::Right;

/// The audit webhook's listener.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Webhook {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// Certificate and key. Without them, the listener uses plain HTTP and must listen on loopback.
    pub tls: Option<Tls>,
    /// Maximum number of bytes that editwar reads of one batch.
    pub max_body_bytes: Bytes,
    /// Authentication of clients that post events. Without it, any client that reaches the listener may post.
    pub auth: Auth,
    /// Allow a listener beyond loopback without TLS or authentication.
    pub allow_insecure: bool,
}

/// The listener for queries.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Admin {
    /// Address and port to listen on.
    pub listen: SocketAddr,
    /// Certificate and key. Without them, the listener uses plain HTTP and must listen on loopback.
    pub tls: Option<Tls>,
    /// Authentication of clients that scrape metrics, read and administer. Without it, any client that reaches the
    /// listener may do so.
    pub auth: Auth,
    /// Allow a listener beyond loopback without TLS or authentication.
    pub allow_insecure: bool,
}

/// Authentication and authorization of clients.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// CA certificates to verify client certificates, in PEM.
    pub client_ca: Option<PathBuf>,
    /// Certificate revocation lists of these CAs, in PEM. Certificates of a CA without a list are then rejected.
    pub client_crl: Option<PathBuf>,
    /// File with bearer tokens, one `TOKEN NAME` per line. Reloaded on changes; without a valid line, rejects all tokens.
    pub token_file: Option<PathBuf>,
    /// Authenticate other tokens by TokenReview, and authorize them by SubjectAccessReview on URLs: `/audit` (post) for
    /// `ingest`, `/metrics` (get) for `metrics`, `/editwar` (get) for `read`, `/editwar` (post) for `admin`.
    pub token_review: bool,
    /// Accept identity tokens of an OpenID Connect issuer, such as those of Google Pub/Sub.
    pub oidc: Option<OidcConfig>,
    /// Rights of authenticated clients. Empty: all rights except `admin`.
    pub allow: Vec<AllowConfig>,
}

/// An OpenID Connect issuer, and the tokens of it that are accepted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OidcConfig {
    /// The issuer, as in the `iss` claim.
    pub issuer: String,
    /// The audience, as in the `aud` claim.
    pub audience: String,
    /// The issuer's public keys: the URL of a JWK Set, or a file. Only RS256 is accepted.
    pub keys: String,
}

/// The rights of a client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AllowConfig {
    /// Pattern of the common name or DNS name of a certificate, or of the name of a token. For an identity token, exactly the
    /// e-mail address in it, or else its subject.
    pub name: String,
    /// Rights: `ingest` (post events), `metrics` (scrape), `read` (query), `admin` (kill switch, log level).
    pub rights: Vec<Right>,
    /// Clusters that the client may post for. Empty: any cluster.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<String>,
}

/// A certificate and its private key, as PEM files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Certificate chain.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

// === impl Auth ===

impl Auth {
    /// Returns whether clients must authenticate.
    pub fn is_on(&self) -> bool {
        self.client_ca.is_some() || self.token_file.is_some() || self.token_review || self.oidc.is_some()
    }
}

// === impl Webhook, Admin ===

impl Default for Webhook {
    /// Plain HTTP on loopback: works immediately, and is not reachable by others.
    fn default() -> Webhook {
        Webhook {
            listen: SocketAddr::from(([127, 0, 0, 1], 8443)),
            tls: None,
            // kube-apiserver truncates events to 100 KiB and sends 400 per batch; this leaves some room for batches
            // without truncation.
            max_body_bytes: Bytes(64 << 20),
            auth: Auth::default(),
            allow_insecure: false,
        }
    }
}

impl Default for Admin {
    fn default() -> Admin {
        Admin {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            tls: None,
            auth: Auth::default(),
            allow_insecure: false,
        }
    }
}
