//! The HTTP server shared by all listeners: accepting connections, TLS, HTTP/1.1 and HTTP/2, resource limits and
//! graceful shutdown.
//!
//! This module knows nothing about routes or audit events; callers pass a handler to [`Listener::serve`]. Connection
//! limits are in `connections`, timeouts of one connection in `connection`, response bodies in `answer`, shared memory
//! budgets in [`budget`], certificates in `tls` and browser checks in [`web`].

mod answer;
pub(crate) mod budget;
mod connection;
mod connections;
mod error;
mod http2;
mod tls;
pub(crate) mod web;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use prometheus::IntCounter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::Interval;

use answer::Answer;
use budget::Budget;
pub use connection::SHUTDOWN_GRACE_PERIOD;
use connection::{Closing, HEAD_TIMEOUT, MIN_IDLE_BEFORE_EVICTION, OpenRequest, TrackedSocket};
use connections::{ConnectionSlot, Connections};
pub use error::Error;
use http2::Http2Settings;
use tls::ClientCertificate;
pub use tls::{TlsConfig, TlsFiles};

/// Maximum number of simultaneous connections per listener.
pub const CONNECTIONS_MAX: usize = 1024;
/// Maximum size of a request head in bytes.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// Responses up to this size are always sent, without reserving memory.
const SMALL_ANSWER_BYTES: usize = 4 << 10;
/// Interval at which connections are checked against their time limits.
const SWEEP_EVERY: Duration = Duration::from_millis(500);

/// The response type of handlers.
pub type Reply = Response<Full<Bytes>>;

/// Resource limits shared by all listeners of a server.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Maximum number of connections of one listener.
    connections_max: usize,
    /// Bytes of responses that have not been written to their sockets yet.
    answers: Budget,
    /// Bytes of HTTP/2 windows: request bytes that are received before a handler reads them.
    windows: Budget,
    /// Permits for responses that wait for memory.
    waiting: Arc<Semaphore>,
}

/// A bound socket, with TLS if it has a certificate.
pub struct Listener {
    tcp: TcpListener,
    tls: Option<Arc<TlsConfig>>,
    limits: Limits,
    rejections: Option<IntCounter>,
}

/// The client that sent a request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// The remote address.
    pub address: SocketAddr,
    names: Arc<[String]>,
    not_after: Option<SystemTime>,
    slot: Option<Arc<ConnectionSlot>>,
    unsent_max: usize,
}

// === impl Limits ===

impl Limits {
    /// Allows `connections_max` connections per listener, `answer_bytes_max` bytes of unwritten responses (at most half
    /// of them for one client) and `window_bytes_max` bytes of HTTP/2 windows (at most a quarter for one client).
    pub fn new(connections_max: usize, answer_bytes_max: usize, window_bytes_max: usize) -> Limits {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Limits {
            connections_max,
            answers: Budget::new(answer_bytes_max, answer_bytes_max / 2),
            windows: Budget::new(window_bytes_max, window_bytes_max / 4),
            waiting: Arc::new(Semaphore::new(cores)),
        }
    }

    /// Returns the maximum size of one response in bytes.
    pub fn answer_bytes_max(&self) -> usize {
        self.answers.client_max()
    }
}

// === impl Peer ===

impl Peer {
    /// Returns a peer whose certificate has these names.
    pub fn new(address: SocketAddr, names: &[&str]) -> Peer {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Peer { address, names, not_after: None, slot: None, unsent_max: usize::MAX }
    }

    /// Returns the common name and the DNS names of the client certificate. Empty if there is no certificate or it has
    /// expired.
    pub fn names(&self) -> &[String] {
        if self.not_after.is_some_and(|end| end <= SystemTime::now()) { &[] } else { &self.names }
    }

    /// Returns whether the client reads its responses. While too many unread bytes are pending on a connection, the
    /// server computes no further responses for it.
    pub fn is_reading(&self) -> bool {
        self.slot.as_ref().is_none_or(|slot| slot.connection.unsent() <= self.unsent_max)
    }

    /// Marks the client as authenticated, by a certificate or a token. This connection, and later ones from the same
    /// address, take precedence over unauthenticated ones when connections are scarce.
    pub fn set_authenticated(&self) {
        if let Some(slot) = &self.slot {
            slot.set_authenticated();
        }
    }
}

// === impl Listener ===

impl Listener {
    /// Binds `address`.
    ///
    /// # Errors
    /// [`Error::Bind`].
    pub async fn bind(address: SocketAddr, tls: Option<Arc<TlsConfig>>, limits: Limits) -> Result<Listener, Error> {
        let tcp = TcpListener::bind(address).await.map_err(|source| Error::Bind { address, source })?;
        Ok(Listener { tcp, tls, limits, rejections: None })
    }

    /// Sets the counter of responses that were rejected for lack of memory.
    pub fn counting(self, rejections: IntCounter) -> Listener {
        Listener { rejections: Some(rejections), ..self }
    }

    /// Returns the local address. For port 0, it contains the port that the system chose.
    ///
    /// # Errors
    /// Errors of the operating system.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// Returns `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Serves requests until `stop` turns true, then waits up to [`SHUTDOWN_GRACE_PERIOD`] for open requests to finish.
    pub async fn serve<H, F, B>(self, handler: H, mut stop: watch::Receiver<bool>)
    where
        H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes, Error = Infallible> + Unpin + Send + 'static,
    {
        let connections = Connections::new(self.limits.connections_max);
        let mut tasks = JoinSet::new();
        let mut sweep = tokio::time::interval(SWEEP_EVERY);
        let mut clients = self.tls.as_ref().map(|tls| tls.clients());
        let tls = self.tls.clone();
        loop {
            let accepted = tokio::select! {
                accepted = self.tcp.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
                _ = sweep.tick() => {
                    connections.sweep(Instant::now(), SystemTime::now());
                    // The accepted CAs or revocation lists have changed since these connections were verified.
                    if clients.as_mut().is_some_and(|clients| clients.has_changed().unwrap_or(false)) {
                        clients.as_mut().map(|clients| *clients.borrow_and_update());
                        connections.close(true);
                    }
                    while tasks.try_join_next().is_some() {}
                    continue;
                }
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Usually the process is out of file descriptors: wait for other connections to end.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // Responses are small. With Nagle's algorithm, they would wait for the peer's delayed acknowledgement,
            // about 40 ms.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "cannot set a socket option; responses may be delayed");
            }
            // Drops the connection if the client is over its share and none of its connections can be evicted.
            let Some(slot) = connections.add(address.ip(), Instant::now()) else { continue };
            let context = ConnectionContext {
                handler: handler.clone(),
                limits: self.limits.clone(),
                connections: connections.clone(),
                rejections: self.rejections.clone(),
            };
            let tls = tls.clone();
            tasks.spawn(async move {
                let mut closing = slot.connection.closing();
                tokio::select! {
                    () = context.run(stream, address, slot, tls) => {}
                    _ = closing.wait_for(|closing| *closing == Closing::Now) => {}
                }
            });
        }
        drop(self.tcp);
        drain(&connections, tasks, sweep).await;
    }
}

/// Ends all connections. Open requests have a grace period to finish.
async fn drain(connections: &Connections, mut tasks: JoinSet<()>, mut sweep: Interval) {
    connections.close(false);
    let all_end = async {
        loop {
            tokio::select! {
                joined = tasks.join_next() => if joined.is_none() { return },
                _ = sweep.tick() => connections.sweep(Instant::now(), SystemTime::now()),
            }
        }
    };
    if tokio::time::timeout(SHUTDOWN_GRACE_PERIOD, all_end).await.is_err() {
        tracing::warn!("requests were still open at the end of the grace period");
    }
    tasks.shutdown().await;
}

/// What the connections of a listener share.
struct ConnectionContext<H> {
    handler: H,
    limits: Limits,
    connections: Arc<Connections>,
    rejections: Option<IntCounter>,
}

// === impl ConnectionContext ===

impl<H, F, B> ConnectionContext<H>
where
    H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Unpin + Send + 'static,
{
    /// Serves one connection. Errors of the peer end this connection only.
    async fn run(self, stream: TcpStream, address: SocketAddr, slot: ConnectionSlot, tls: Option<Arc<TlsConfig>>) {
        let socket = TrackedSocket { inner: stream, connection: slot.connection.clone() };
        let slot = Arc::new(slot);
        let peer = |client: ClientCertificate| {
            let peer = Peer {
                address,
                names: client.names.into(),
                not_after: client.not_after,
                slot: Some(slot.clone()),
                unsent_max: self.limits.answer_bytes_max() / 2,
            };
            slot.connection.record_handshake(client.not_after);
            if !peer.names.is_empty() {
                peer.set_authenticated();
            }
            peer
        };
        let Some(tls) = tls else {
            let peer = peer(ClientCertificate::default());
            return self.speak_http(socket, peer, &slot).await;
        };
        match tokio::time::timeout(HEAD_TIMEOUT, tls.acceptor().accept(socket)).await {
            Ok(Ok(stream)) => {
                let peer = peer(ClientCertificate::of(stream.get_ref().1.peer_certificates()));
                self.speak_http(stream, peer, &slot).await;
            }
            Ok(Err(error)) => tracing::debug!(peer = %address, %error, "TLS handshake failed"),
            Err(_) => {}
        }
    }

    async fn speak_http<S>(self, stream: S, peer: Peer, slot: &ConnectionSlot)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = slot.connection.clone();
        let mut closing = connection.closing();
        let mut builder = http_builder();
        let (settings, _reserved) = Http2Settings::reserve(&self.limits.windows, peer.address.ip());
        settings.apply(&mut builder);
        let context = Arc::new(self);
        let service = service_fn(move |request| {
            let (open, peer, context) = (connection.open(), peer.clone(), context.clone());
            async move { Ok::<_, Infallible>(context.answer(request, peer, open).await) }
        });
        let mut http = pin!(builder.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            _ = http.as_mut() => return,
            _ = closing.wait_for(|closing| *closing != Closing::No) => {}
        }
        http.as_mut().graceful_shutdown();
        drop(http.await);
    }

    /// Handles one request and sends its response if memory for it can be reserved.
    async fn answer(&self, request: Request<Incoming>, peer: Peer, open: OpenRequest) -> Response<Answer<B>> {
        let client = peer.address.ip();
        // Checked before anything is computed, so that a client that never reads its responses costs almost nothing.
        if !peer.is_reading() {
            return self.refuse(open, UNREAD);
        }
        let reply = (self.handler)(request, peer).await;
        let bytes = usize::try_from(reply.body().size_hint().lower()).unwrap_or(usize::MAX);
        if bytes <= SMALL_ANSWER_BYTES {
            return Answer::reply(reply, open, None);
        }
        if bytes > self.limits.answer_bytes_max() {
            return self.refuse(open, TOO_LARGE);
        }
        if let Some(reservation) = self.limits.answers.reserve(client, bytes) {
            return Answer::reply(reply, open, Some(reservation));
        }
        // A limited number of responses wait until stalled connections are closed and their memory is released.
        if let Ok(_permit) = self.limits.waiting.try_acquire() {
            let give_up = Instant::now() + 2 * MIN_IDLE_BEFORE_EVICTION;
            while Instant::now() < give_up {
                self.connections.close_stalled(Instant::now());
                tokio::time::sleep(Duration::from_millis(50)).await;
                if let Some(reservation) = self.limits.answers.reserve(client, bytes) {
                    return Answer::reply(reply, open, Some(reservation));
                }
            }
        }
        self.refuse(open, UNREAD)
    }

    fn refuse(&self, open: OpenRequest, text: &'static str) -> Response<Answer<B>> {
        if let Some(rejections) = &self.rejections {
            rejections.inc();
        }
        Answer::refused(open, text)
    }
}

const UNREAD: &str = r#"{"error":"too many bytes of answers are not read yet: read them, or ask again"}"#;
const TOO_LARGE: &str =
    r#"{"error":"the answer does not fit in its share of memory: ask for less, such as one namespace"}"#;

/// Returns the HTTP settings of every listener: limits on header size, concurrent requests, unread bytes and idle time.
pub fn http_builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(HEAD_TIMEOUT);
    Http2Settings::LARGEST.apply(&mut builder);
    builder
}
