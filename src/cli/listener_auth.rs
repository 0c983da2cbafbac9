//! TLS and access control of the listeners, as configured, and the task that reloads their files.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{HOST, HeaderMap};
use hyper::{Request, Response, StatusCode};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Interval;

use super::enforcer_setup;
use crate::auth::oidc::Oidc;
use crate::auth::review::Reviews;
use crate::auth::tokens::Tokens;
use crate::auth::{Allow, Gate, Refusal, Right};
use crate::config::{Auth, Config, OidcConfig, Tls};
use crate::ingest::webhook::Admission;
use crate::net::{Peer, Reply, TlsConfig, TlsFiles, web};
use crate::query::reply::Answer;
use crate::telemetry::metrics::Metrics;

/// Interval at which certificates, keys, CAs, revocation lists and tokens are reloaded, and the rights of clients that
/// watch a decision are checked again.
const RELOAD_EVERY: Duration = Duration::from_secs(5);
/// How long the last valid tokens stay in effect while their file is empty, invalid or missing. Long enough for the
/// file to be rewritten.
const TOKENS_HOLD: Duration = Duration::from_secs(15);
/// Maximum number of consecutive checks of a watching client that may fail because Kubernetes is unavailable, before
/// the watch ends.
const UNKNOWN_LOOKS_MAX: u32 = 60;

/// TLS and access control of one listener.
#[derive(Clone)]
pub(super) struct ListenerSecurity {
    pub(super) tls: Option<Arc<TlsConfig>>,
    gate: Gate,
    tokens: Option<(PathBuf, Arc<Tokens>)>,
    metrics: Option<Metrics>,
    /// Whether there is no authentication because the listener is on loopback. Pages in a local browser can reach it
    /// too, and must be rejected.
    is_local: bool,
}

// === impl ListenerSecurity ===

impl ListenerSecurity {
    /// Creates the access control of the webhook's and the admin listener, without contacting an API server.
    pub(super) async fn of(config: &Config) -> Result<(ListenerSecurity, ListenerSecurity)> {
        let reviews = if config.webhook.auth.token_review || config.admin.auth.token_review {
            Some(Arc::new(Reviews::new(enforcer_setup::client(&config.enforce).await?)))
        } else {
            None
        };
        let one = |name: &str,
                   listen: SocketAddr,
                   tls: &Option<Tls>,
                   auth: &Auth,
                   is_insecure: bool|
         -> Result<ListenerSecurity> {
            if is_insecure {
                tracing::warn!(
                    listener = name,
                    "allow_insecure is set: any client that reaches this listener has access without authentication"
                );
            }
            if auth.client_ca.is_some() && auth.allow.is_empty() {
                tracing::warn!(
                    listener = name,
                    "client_ca is set without allow: every certificate of that CA has all rights except `admin`; \
                     list the permitted names in auth.allow"
                );
            }
            let tokens = match &auth.token_file {
                Some(path) => {
                    let tokens =
                        Tokens::read(path).with_context(|| format!("{name}.auth.token_file: {}", path.display()))?;
                    Some((path.clone(), Arc::new(tokens)))
                }
                None => None,
            };
            let allow = auth.allow.iter().map(|a| Allow {
                name: a.name.clone(),
                rights: a.rights.clone(),
                clusters: a.clusters.clone(),
            });
            let known = tokens.as_ref().map(|(_, tokens)| tokens.clone());
            let oidc = auth.oidc.as_ref().map(|OidcConfig { issuer, audience, keys }| {
                Oidc::new(issuer, audience, keys).with_context(|| format!("{name}.auth.oidc.keys"))
            });
            let oidc = oidc.transpose()?.map(Arc::new);
            if let Some(oidc) = &oidc {
                drop(oidc.refresh());
            }
            let gate = if auth.is_on() {
                Gate::new(known, reviews.clone().filter(|_| auth.token_review), allow.collect()).with_oidc(oidc)
            } else {
                Gate::open()
            };
            let files = tls.as_ref().map(|tls| TlsFiles {
                cert: tls.cert.clone(),
                key: tls.key.clone(),
                client_ca: auth.client_ca.clone(),
                client_crl: auth.client_crl.clone(),
            });
            let tls = files.map(TlsConfig::new).transpose()?;
            let is_local = !auth.is_on() && listen.ip().is_loopback();
            Ok(ListenerSecurity { tls, gate, tokens, metrics: None, is_local })
        };
        let (webhook, admin) = (&config.webhook, &config.admin);
        Ok((
            one("webhook", webhook.listen, &webhook.tls, &webhook.auth, webhook.allow_insecure)?,
            one("admin", admin.listen, &admin.tls, &admin.auth, admin.allow_insecure)?,
        ))
    }

    /// Counts rejected requests in these metrics.
    pub(super) fn counting(self, metrics: &Metrics) -> ListenerSecurity {
        ListenerSecurity { metrics: Some(metrics.clone()), ..self }
    }

    /// Returns whether the listener admits clients without authentication.
    pub(super) fn is_open(&self) -> bool {
        self.gate.is_open()
    }

    /// Admits a request, or returns the response to reject it with.
    pub(super) async fn admit(
        &self,
        request: &Request<Incoming>,
        peer: &Peer,
        right: Right,
        cluster: &str,
    ) -> Result<(), Reply> {
        if self.is_local && !is_this_machine(request) {
            let text = "this listener only serves this machine: connect to 127.0.0.1, [::1] or localhost\n";
            return Err(self.refuse("host", StatusCode::MISDIRECTED_REQUEST, text));
        }
        if web::is_cross_site(request) {
            return Err(self.refuse("origin", StatusCode::FORBIDDEN, "cross-origin requests are not allowed\n"));
        }
        let admitted = self.gate.admit(peer, request.headers(), right, cluster).await;
        admitted.map_err(|refusal| {
            if let Some(metrics) = &self.metrics {
                metrics.rejected.with_label_values(&[refusal.reason()]).inc();
            }
            refusal.reply()
        })
    }

    /// Returns the response for a request from another origin: either its host name was resolved to this machine (DNS
    /// rebinding), or its browser reports a cross-site request.
    fn refuse(&self, reason: &str, status: StatusCode, text: &'static str) -> Reply {
        if let Some(metrics) = &self.metrics {
            metrics.rejected.with_label_values(&[reason]).inc();
        }
        let mut reply = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
        *reply.status_mut() = status;
        reply
    }

    /// Wraps a response so that it ends when the client loses its right.
    pub(super) fn while_admitted(
        &self,
        headers: HeaderMap,
        peer: Peer,
        right: Right,
        reply: Response<Answer>,
    ) -> Response<Answer> {
        let gate = self.gate.clone();
        reply.map(|body| {
            let looks = tokio::time::interval(RELOAD_EVERY);
            let admitted = Admitted { gate, headers, peer, right, body, looks, unknown: 0 };
            let frames = stream::unfold(admitted, async |mut admitted| Some((admitted.frame().await?, admitted)));
            StreamBody::new(frames).boxed_unsync()
        })
    }

    /// Starts the task that reloads certificates, revocation lists and tokens, periodically and whenever `reload`
    /// changes.
    pub(super) fn keep_fresh(
        &self,
        mut stop: watch::Receiver<bool>,
        mut reload: watch::Receiver<u64>,
    ) -> JoinHandle<()> {
        let (tls, tokens) = (self.tls.clone(), self.tokens.clone());
        tokio::spawn(async move {
            let mut spoilt_since = None;
            loop {
                tokio::select! {
                    _ = stop.wait_for(|stop| *stop) => return,
                    () = tokio::time::sleep(RELOAD_EVERY) => {}
                    Ok(()) = reload.changed() => {}
                }
                match tls.as_ref().map(|tls| tls.reload()) {
                    Some(Ok(true)) => tracing::info!("reloaded changed certificates for new connections"),
                    Some(Err(error)) => {
                        tracing::warn!(%error, "cannot use a changed certificate; keeping the previous one")
                    }
                    _ => {}
                }
                if let Some((path, tokens)) = &tokens {
                    read_tokens(path, tokens, &mut spoilt_since);
                }
            }
        })
    }
}

impl Admission for ListenerSecurity {
    async fn admit(&self, request: &Request<Incoming>, peer: &Peer, cluster: &str) -> Result<(), Reply> {
        ListenerSecurity::admit(self, request, peer, Right::Ingest, cluster).await
    }
}

/// Reloads the token file. If that fails, the last tokens stay in effect for [`TOKENS_HOLD`]; after that, none are
/// accepted.
fn read_tokens(path: &Path, tokens: &Tokens, spoilt_since: &mut Option<Instant>) {
    let file = path.display();
    match (Tokens::read(path), *spoilt_since) {
        (Ok(read), since) => {
            tokens.replace(&read);
            if since.is_some() {
                tracing::info!(%file, "tokens can be read again");
            }
            *spoilt_since = None;
        }
        (Err(error), None) => {
            let seconds = TOKENS_HOLD.as_secs();
            tracing::warn!(%error, %file, seconds, "cannot read tokens; the previous ones expire soon");
            *spoilt_since = Some(Instant::now());
        }
        (Err(error), Some(since)) if since.elapsed() >= TOKENS_HOLD && !tokens.is_empty() => {
            tracing::error!(%error, %file, "still cannot read tokens; rejecting all tokens until the file is valid");
            tokens.replace(&Tokens::default());
        }
        (Err(_), Some(_)) => {}
    }
}

/// A response body that ends when the client loses its right.
struct Admitted {
    gate: Gate,
    headers: HeaderMap,
    peer: Peer,
    right: Right,
    body: Answer,
    looks: Interval,
    unknown: u32,
}

// === impl Admitted ===

impl Admitted {
    /// Returns the next frame, or `None` at the end.
    async fn frame(&mut self) -> Option<Result<Frame<Bytes>, Infallible>> {
        loop {
            tokio::select! {
                frame = self.body.frame() => return frame,
                _ = self.looks.tick() => {}
            }
            match self.gate.admit(&self.peer, &self.headers, self.right, "").await {
                Ok(()) => self.unknown = 0,
                Err(Refusal::Unavailable) if self.unknown < UNKNOWN_LOOKS_MAX => self.unknown += 1,
                Err(_) => return None,
            }
        }
    }
}

/// Returns whether the request names its host as an IP address or as `localhost`, or names no host. Browsers always
/// name the host.
fn is_this_machine(request: &Request<Incoming>) -> bool {
    let header = || request.headers().get(HOST).map(|host| host.to_str().unwrap_or("?"));
    let Some(authority) = request.uri().authority().map(|a| a.as_str()).or_else(header) else { return true };
    let host = match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
        _ => authority,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok()
}
