//! Sockets: accept, TLS, HTTP/1.1 and HTTP/2, limits, a graceful end. Knows no routes and no events.

mod answer;
pub mod budget;
mod connection;
mod connections;
mod tls;
pub mod web;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
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

use answer::Answer;
use budget::Budget;
use connection::{Closing, GIVES_WAY, Open, Socket};
use connections::{Connections, Place};
use tls::ClientCertificate;
pub use tls::{Secured, TlsFiles};

/// Connections of one listener at a time.
pub const CONNECTIONS_MAX: usize = 1024;
/// Time to finish a TLS handshake, to send a first request's head, and any head of HTTP/1.1.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes that a request takes beside its body and its answer: its head, decoded, and what answers it.
const REQUEST_BYTES: u32 = 16 << 10;
/// Bytes of one HTTP/2 request that are taken before they are read.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// HTTP/2's own default.
const NARROW_WINDOW_BYTES: u32 = (64 << 10) - 1;
/// What HTTP/2 connections may use, the most first: each has what there is memory for, and the last needs none.
const WIDTHS: [Width; 3] = [
    Width { streams: 128, stream_window: STREAM_WINDOW_BYTES, window: 2 * STREAM_WINDOW_BYTES },
    Width { streams: 32, stream_window: NARROW_WINDOW_BYTES, window: NARROW_WINDOW_BYTES },
    Width { streams: 4, stream_window: NARROW_WINDOW_BYTES, window: NARROW_WINDOW_BYTES },
];
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// Answers up to this size are always given.
const SMALL_ANSWER_BYTES: usize = 4 << 10;
/// How often connections are looked at for their time limits.
const SWEEP_EVERY: Duration = Duration::from_millis(500);
/// Time for open requests to end after the listener was told to.
pub const GRACE: Duration = Duration::from_secs(5);

/// What handlers return.
pub type Reply = Response<Full<Bytes>>;

/// Why a listener cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}{}", hint(source))]
    Bind {
        /// Which.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A certificate or key cannot be used.
    #[error("{path}: {message}")]
    Tls {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => ": another process listens there; stop it or choose another port",
        io::ErrorKind::PermissionDenied => ": ports below 1024 need a privilege; choose another",
        _ => "",
    }
}

/// What the connections of a server may hold together; shared by its listeners.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections of one listener.
    connections_max: usize,
    /// Bytes of answers that are not yet written.
    answers: Budget,
    /// Bytes of requests that HTTP/2 takes before they are read.
    windows: Budget,
    /// Answers that wait for others to be written.
    waiting: Arc<Semaphore>,
}

/// A socket that is bound, and speaks TLS if it has a certificate.
pub struct Listener {
    tcp: TcpListener,
    tls: Option<Arc<Secured>>,
    limits: Limits,
    refused: Option<IntCounter>,
}

/// The client that sent a request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// From where.
    pub address: SocketAddr,
    names: Arc<[String]>,
    not_after: Option<SystemTime>,
    place: Option<Arc<Place>>,
    unsent_max: usize,
}

// === impl Limits ===

impl Limits {
    /// At most `connections_max` connections of each listener; `answer_bytes_max` bytes of answers, of which one client has at
    /// most half; `window_bytes_max` bytes of requests that HTTP/2 takes before they are read.
    pub fn new(connections_max: usize, answer_bytes_max: usize, window_bytes_max: usize) -> Limits {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        Limits {
            connections_max,
            answers: Budget::new(answer_bytes_max, answer_bytes_max / 2),
            windows: Budget::new(window_bytes_max, window_bytes_max / 4),
            waiting: Arc::new(Semaphore::new(cores)),
        }
    }

    /// Bytes of the largest answer that may be given.
    pub fn answer_bytes_max(&self) -> usize {
        self.answers.client_max()
    }
}

// === impl Peer ===

impl Peer {
    /// A peer whose certificate has these names.
    pub fn new(address: SocketAddr, names: &[&str]) -> Peer {
        let names = names.iter().map(|name| (*name).to_owned()).collect();
        Peer { address, names, not_after: None, place: None, unsent_max: usize::MAX }
    }

    /// The names of its certificate, while that is valid: common name and DNS names. Empty where it has none.
    pub fn names(&self) -> &[String] {
        match self.not_after.is_some_and(|end| end <= SystemTime::now()) {
            true => &[],
            false => &self.names,
        }
    }

    /// Whether its connection reads its answers: nothing more is computed for it where too many bytes of them wait.
    pub fn is_reading(&self) -> bool {
        self.place.as_ref().is_none_or(|place| place.connection.unsent() <= self.unsent_max)
    }

    /// It has said who it is, by a certificate or a token: its connection, and later ones from its address, come before
    /// those of strangers.
    pub fn set_known(&self) {
        if let Some(place) = &self.place {
            place.set_known();
        }
    }
}

// === impl Listener ===

impl Listener {
    /// Binds `address`.
    ///
    /// # Errors
    /// [`Error::Bind`].
    pub async fn bind(address: SocketAddr, tls: Option<Arc<Secured>>, limits: Limits) -> Result<Listener, Error> {
        let tcp = TcpListener::bind(address).await.map_err(|source| Error::Bind { address, source })?;
        Ok(Listener { tcp, tls, limits, refused: None })
    }

    /// Counts answers that were not given for want of memory.
    pub fn counting(self, refused: IntCounter) -> Listener {
        Listener { refused: Some(refused), ..self }
    }

    /// The address it listens on, with the port that was chosen for port 0.
    ///
    /// # Errors
    /// Those of the operating system.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }

    /// `http` or `https`.
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Serves until `stop` turns true, then lets open requests end, for [`GRACE`] at most.
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
                    // Other certificates are accepted than when these connections began.
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
                    // Out of file descriptors, mostly: give others time to end.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            // An answer is a few bytes: held back for more to send with it, it would wait for the peer's delayed acknowledgement,
            // some 40 ms.
            if let Err(error) = stream.set_nodelay(true) {
                tracing::debug!(%error, "an answer may be late");
            }
            // One that has more than its share, where none of its connections gives way, is closed.
            let Some(place) = connections.enter(address.ip(), Instant::now()) else { continue };
            let served = Served {
                handler: handler.clone(),
                limits: self.limits.clone(),
                connections: connections.clone(),
                refused: self.refused.clone(),
            };
            let tls = tls.clone();
            tasks.spawn(async move {
                let mut closing = place.connection.closing();
                tokio::select! {
                    () = served.run(stream, address, place, tls) => {}
                    _ = closing.wait_for(|closing| *closing == Closing::Now) => {}
                }
            });
        }
        drop(self.tcp);
        connections.close(false);
        let all_end = async {
            loop {
                tokio::select! {
                    joined = tasks.join_next() => if joined.is_none() { return },
                    _ = sweep.tick() => connections.sweep(Instant::now(), SystemTime::now()),
                }
            }
        };
        if tokio::time::timeout(GRACE, all_end).await.is_err() {
            tracing::warn!("requests were still open at the end of the grace period");
        }
        tasks.shutdown().await;
    }
}

/// What every connection of a listener is served with.
struct Served<H> {
    handler: H,
    limits: Limits,
    connections: Arc<Connections>,
    refused: Option<IntCounter>,
}

// === impl Served ===

impl<H, F, B> Served<H>
where
    H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Response<B>> + Send + 'static,
    B: Body<Data = Bytes, Error = Infallible> + Unpin + Send + 'static,
{
    /// Serves one connection. The peer's faults end it, and concern nobody else.
    async fn run(self, stream: TcpStream, address: SocketAddr, place: Place, tls: Option<Arc<Secured>>) {
        let socket = Socket { inner: stream, connection: place.connection.clone() };
        let place = Arc::new(place);
        let peer = |client: ClientCertificate| {
            let peer = Peer {
                address,
                names: client.names.into(),
                not_after: client.not_after,
                place: Some(place.clone()),
                unsent_max: self.limits.answer_bytes_max() / 2,
            };
            place.connection.shook_hands(client.not_after);
            if !peer.names.is_empty() {
                peer.set_known();
            }
            peer
        };
        let Some(tls) = tls else {
            let peer = peer(ClientCertificate::default());
            return self.speak_http(socket, peer, &place).await;
        };
        match tokio::time::timeout(HEAD_TIMEOUT, tls.acceptor().accept(socket)).await {
            Ok(Ok(stream)) => {
                let peer = peer(ClientCertificate::of(stream.get_ref().1.peer_certificates()));
                self.speak_http(stream, peer, &place).await;
            }
            Ok(Err(error)) => tracing::debug!(peer = %address, %error, "TLS handshake failed"),
            Err(_) => {}
        }
    }

    async fn speak_http<S>(self, stream: S, peer: Peer, place: &Place)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = place.connection.clone();
        let mut closing = connection.closing();
        let mut builder = http_builder();
        let reserve = |width: &Width| Some((*width, self.limits.windows.reserve(peer.address.ip(), width.bytes())?));
        let (width, _reserved) = WIDTHS.iter().find_map(reserve).unzip();
        width.unwrap_or(WIDTHS[WIDTHS.len() - 1]).apply(&mut builder);
        let served = Arc::new(self);
        let service = service_fn(move |request| {
            let (open, peer, served) = (connection.open(), peer.clone(), served.clone());
            async move { Ok::<_, Infallible>(served.answer(request, peer, open).await) }
        });
        let mut http = pin!(builder.serve_connection(TokioIo::new(stream), service));
        tokio::select! {
            _ = http.as_mut() => return,
            _ = closing.wait_for(|closing| *closing != Closing::No) => {}
        }
        http.as_mut().graceful_shutdown();
        drop(http.await);
    }

    /// Answers one request, if its answer finds room.
    async fn answer(&self, request: Request<Incoming>, peer: Peer, open: Open) -> Response<Answer<B>> {
        let client = peer.address.ip();
        // Before anything is computed: one that reads none of its answers costs next to nothing.
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
        // A few wait until answers that nobody reads are given up.
        if let Ok(_permit) = self.limits.waiting.try_acquire() {
            let give_up = Instant::now() + 2 * GIVES_WAY;
            while Instant::now() < give_up {
                self.connections.end_stalled(Instant::now());
                tokio::time::sleep(Duration::from_millis(50)).await;
                if let Some(reservation) = self.limits.answers.reserve(client, bytes) {
                    return Answer::reply(reply, open, Some(reservation));
                }
            }
        }
        self.refuse(open, UNREAD)
    }

    fn refuse(&self, open: Open, text: &'static str) -> Response<Answer<B>> {
        if let Some(refused) = &self.refused {
            refused.inc();
        }
        Answer::refused(open, text)
    }
}

const UNREAD: &str = r#"{"error":"too many bytes of answers are not read yet: read them, or ask again"}"#;
const TOO_LARGE: &str =
    r#"{"error":"the answer does not fit in its share of memory: ask for less, such as one namespace"}"#;

/// How HTTP is spoken on every listener: with an end to what a peer may send, hold open and keep waiting for.
pub fn http_builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(HEAD_TIMEOUT);
    WIDTHS[0].apply(&mut builder);
    builder
}

/// What one HTTP/2 connection may use of what costs memory.
#[derive(Clone, Copy)]
struct Width {
    /// Requests at a time.
    streams: u32,
    /// Bytes of one request that are taken before they are read: most of a batch, since each stop for more costs a round trip.
    stream_window: u32,
    /// The same of all its requests.
    window: u32,
}

// === impl Width ===

impl Width {
    /// Bytes that it may come to use.
    fn bytes(&self) -> usize {
        (self.window + self.streams * REQUEST_BYTES) as usize
    }

    fn apply(self, builder: &mut auto::Builder<TokioExecutor>) {
        builder
            .http2()
            .max_concurrent_streams(self.streams)
            .initial_stream_window_size(self.stream_window)
            .initial_connection_window_size(self.window)
            // Each frame costs, and by default they are small.
            .max_frame_size((self.stream_window / 4).max(16 << 10));
    }
}
