//! Authentication and authorization of clients: who may post events, scrape metrics, read and administer. Clients
//! identify themselves with a client certificate, a bearer token from a file, an identity token of OpenID Connect, or a
//! Kubernetes token that is checked with TokenReview.
//!
//! The response to a rejected token never reveals whether the token is unknown, or known but without the right.

pub(crate) mod oidc;
mod refusal;
pub(crate) mod review;
mod right;
pub(crate) mod tokens;

use std::sync::Arc;

use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;

use crate::net::Peer;
use crate::util::glob::is_match;
use oidc::Oidc;
pub(crate) use refusal::Refusal;
use review::Reviews;
pub(crate) use right::Right;
use tokens::Tokens;

/// The rights of the clients whose name matches a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Allow {
    /// Pattern for the common name or a DNS name of a certificate, or for the name of a token. An account of an OpenID Connect
    /// issuer must have exactly this name.
    pub name: String,
    /// The rights of these clients.
    pub rights: Vec<Right>,
    /// The clusters for which they may post events. Empty means any cluster.
    pub clusters: Vec<String>,
}

/// The access control of one listener.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    is_closed: bool,
    tokens: Option<Arc<Tokens>>,
    oidc: Option<Arc<Oidc>>,
    reviews: Option<Arc<Reviews>>,
    allow: Arc<[Allow]>,
}

// === impl Gate ===

impl Gate {
    /// Returns a gate that admits everyone: for a listener that only accepts local connections, or that the user
    /// opened.
    pub(crate) fn open() -> Gate {
        Gate::default()
    }

    /// Returns a gate that requires a certificate of the listener's CA, a token, or a Kubernetes account, each with the
    /// rights in `allow`. If `allow` is empty, authenticated clients have all rights except [`Right::Admin`].
    pub(crate) fn new(tokens: Option<Arc<Tokens>>, reviews: Option<Arc<Reviews>>, allow: Vec<Allow>) -> Gate {
        Gate { is_closed: true, tokens, oidc: None, reviews, allow: allow.into() }
    }

    /// Also admits the accounts of an OpenID Connect issuer.
    pub(crate) fn with_oidc(self, oidc: Option<Arc<Oidc>>) -> Gate {
        Gate { oidc, ..self }
    }

    /// Returns whether every client is admitted.
    pub(crate) fn is_open(&self) -> bool {
        !self.is_closed
    }

    /// Checks whether a client has a right. Marks its connection as authenticated if so.
    ///
    /// # Errors
    /// [`Refusal`].
    pub(crate) async fn admit(
        &self,
        peer: &Peer,
        headers: &HeaderMap,
        right: Right,
        cluster: &str,
    ) -> Result<(), Refusal> {
        if !self.is_closed {
            return Ok(());
        }
        let admitted = self.authorize(peer, headers, right, cluster).await;
        if admitted.is_ok() {
            peer.set_authenticated();
        }
        admitted
    }

    async fn authorize(&self, peer: &Peer, headers: &HeaderMap, right: Right, cluster: &str) -> Result<(), Refusal> {
        let names = peer.names();
        if names.iter().any(|name| self.allows(name, right, cluster)) {
            return Ok(());
        }
        let Some(token) = bearer(headers) else {
            return Err(if names.is_empty() { Refusal::Unknown } else { Refusal::Forbidden });
        };
        if let Some(name) = self.tokens.as_ref().and_then(|tokens| tokens.name(token)) {
            return if self.allows(&name, right, cluster) { Ok(()) } else { Err(Refusal::TokenForbidden) };
        }
        if let Some(oidc) = &self.oidc
            && let Some(name) = oidc.name(token).await
        {
            // Anybody can get an account with a name that matches a pattern.
            let is_allowed = self.allow.iter().any(|allow| allow.name == name && allow.includes(right, cluster));
            return if is_allowed { Ok(()) } else { Err(Refusal::TokenForbidden) };
        }
        match &self.reviews {
            Some(reviews) => reviews.may(token, right, peer.address.ip()).await,
            None => Err(Refusal::Unknown),
        }
    }

    fn allows(&self, name: &str, right: Right, cluster: &str) -> bool {
        if self.allow.is_empty() {
            return right != Right::Admin;
        }
        self.allow.iter().any(|allow| is_match(&allow.name, name) && allow.includes(right, cluster))
    }
}

// === impl Allow ===

impl Allow {
    fn includes(&self, right: Right, cluster: &str) -> bool {
        self.rights.contains(&right) && (self.clusters.is_empty() || self.clusters.iter().any(|c| c == cluster))
    }
}

/// Returns the bearer token of a request, if its length is reasonable.
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && token.len() <= 8192).then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(names: &[&str]) -> Peer {
        Peer::new(([127, 0, 0, 1], 1).into(), names)
    }

    fn with(token: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, token.parse().unwrap());
        headers
    }

    fn allow(name: &str, rights: &[Right], clusters: &[&str]) -> Allow {
        Allow { name: name.into(), rights: rights.to_vec(), clusters: clusters.iter().map(|c| (*c).into()).collect() }
    }

    async fn ask(gate: &Gate, names: &[&str], header: &str, right: Right, cluster: &str) -> Result<(), Refusal> {
        let headers = if header.is_empty() { HeaderMap::new() } else { with(header) };
        gate.admit(&peer(names), &headers, right, cluster).await
    }

    #[tokio::test]
    async fn unknown_clients_are_rejected_and_known_ones_get_only_their_rights() {
        let tokens = Arc::new(Tokens::parse("s3cret scraper\n# nobody\nother reader\n").unwrap());
        let rules = vec![
            allow("scraper", &[Right::Metrics], &[]),
            allow("read*", &[Right::Metrics, Right::Read], &[]),
            allow("kube-apiserver-a", &[Right::Ingest], &["a"]),
        ];
        let gate = Gate::new(Some(tokens), None, rules);
        assert_eq!(ask(&gate, &[], "", Right::Metrics, "").await, Err(Refusal::Unknown));
        assert_eq!(ask(&gate, &[], "Bearer wrong", Right::Metrics, "").await, Err(Refusal::Unknown));
        assert_eq!(ask(&gate, &[], "Basic s3cret", Right::Metrics, "").await, Err(Refusal::Unknown));
        assert_eq!(ask(&gate, &[], "Bearer s3cret", Right::Metrics, "").await, Ok(()));
        assert_eq!(ask(&gate, &[], "bearer s3cret", Right::Read, "").await, Err(Refusal::TokenForbidden));
        assert_eq!(ask(&gate, &[], "Bearer other", Right::Read, "").await, Ok(()));
        assert_eq!(ask(&gate, &[], "Bearer other", Right::Admin, "").await, Err(Refusal::TokenForbidden));
        assert_eq!(ask(&gate, &["kube-apiserver-a"], "", Right::Ingest, "a").await, Ok(()));
        assert_eq!(ask(&gate, &["kube-apiserver-a"], "", Right::Ingest, "b").await, Err(Refusal::Forbidden));
        assert_eq!(ask(&gate, &["kube-apiserver-a"], "", Right::Read, "a").await, Err(Refusal::Forbidden));
        assert_eq!(ask(&gate, &["somebody"], "", Right::Ingest, "a").await, Err(Refusal::Forbidden));
        // A certificate without the right, and a token that has it.
        assert_eq!(ask(&gate, &["somebody"], "Bearer other", Right::Read, "").await, Ok(()));
    }

    #[tokio::test]
    async fn without_rules_known_clients_have_every_right_but_admin() {
        let gate = Gate::new(Some(Arc::new(Tokens::parse("s3cret me\n").unwrap())), None, Vec::new());
        for right in [Right::Ingest, Right::Metrics, Right::Read] {
            assert_eq!(ask(&gate, &[], "Bearer s3cret", right, "x").await, Ok(()));
        }
        assert_eq!(ask(&gate, &[], "Bearer s3cret", Right::Admin, "").await, Err(Refusal::TokenForbidden));
        assert_eq!(ask(&Gate::open(), &[], "", Right::Admin, "").await, Ok(()));
    }
}
