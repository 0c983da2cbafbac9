//! The state of one connection: its open requests, the progress of its responses, and its time limits.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::watch;

use crate::util::lock::lock;

/// Time limit for a TLS handshake, for the head of the first request, and for every HTTP/1.1 request head.
pub(super) const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Time without progress after which a response, or any other pending write, is aborted.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Time limit for reading one response of known length.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Time without an open request after which a connection is closed. HTTP/1.1 connections end earlier, after
/// [`HEAD_TIMEOUT`] in the parser.
const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// Time without progress after which a connection can be evicted when connections or memory are scarce.
pub(super) const MIN_IDLE_BEFORE_EVICTION: Duration = Duration::from_secs(1);
/// Time that open requests have to finish after a shutdown was requested.
pub const SHUTDOWN_GRACE_PERIOD: Duration = Duration::from_secs(5);

/// Whether and how a connection must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Closing {
    /// It stays open.
    No,
    /// Open requests are answered, and no new ones are accepted.
    Graceful,
    /// It ends immediately.
    Now,
}

/// One connection, shared by its task, its requests and the table of connections.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) client: IpAddr,
    state: Mutex<State>,
    closing: watch::Sender<Closing>,
}

#[derive(Debug)]
struct State {
    /// When the connection was accepted or its handshake ended.
    started: Instant,
    has_requested: bool,
    /// Whether this client, or an earlier one from the same address, has authenticated.
    is_authenticated: bool,
    /// Number of requests whose responses are not completely written.
    open: usize,
    /// Since when there has been no open request.
    idle_since: Instant,
    /// When a byte was last read or written.
    last_progress: Instant,
    /// Since when the socket has not accepted more bytes.
    blocked_since: Option<Instant>,
    answers: HashMap<u64, Progress>,
    next_answer: u64,
    /// Unwritten bytes of all responses.
    unsent: usize,
    /// When the client certificate expires.
    not_after: Option<SystemTime>,
    closing_since: Option<Instant>,
}

/// Progress of one response.
#[derive(Debug)]
struct Progress {
    bytes: usize,
    since: Instant,
    last_progress: Instant,
    /// The next part of the body does not exist yet: the client waits for the server, not the reverse.
    is_awaited: bool,
    /// Number of parts that were handed to hyper and are not written yet.
    parts: usize,
}

/// One open request. It ends on drop, when its response is completely written.
#[derive(Debug)]
pub(super) struct OpenRequest {
    connection: Arc<Connection>,
    answer: u64,
}

// === impl Connection ===

impl Connection {
    pub(super) fn new(client: IpAddr, is_authenticated: bool, now: Instant) -> Arc<Connection> {
        let state = State {
            started: now,
            has_requested: false,
            is_authenticated,
            open: 0,
            idle_since: now,
            last_progress: now,
            blocked_since: None,
            answers: HashMap::new(),
            next_answer: 0,
            unsent: 0,
            not_after: None,
            closing_since: None,
        };
        Arc::new(Connection { client, state: Mutex::new(state), closing: watch::Sender::new(Closing::No) })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    /// Records the end of the handshake and the expiry time of the client certificate, if there is one.
    pub(super) fn record_handshake(&self, not_after: Option<SystemTime>) {
        let mut state = self.lock();
        state.started = Instant::now();
        state.not_after = not_after;
    }

    /// Returns whether the client presented a certificate.
    pub(super) fn has_certificate(&self) -> bool {
        self.lock().not_after.is_some()
    }

    /// Marks the client as authenticated.
    pub(super) fn set_authenticated(&self) {
        self.lock().is_authenticated = true;
    }

    /// Records the start of a request.
    pub(super) fn open(self: &Arc<Connection>) -> OpenRequest {
        let mut state = self.lock();
        state.has_requested = true;
        state.open += 1;
        let answer = state.next_answer;
        state.next_answer += 1;
        OpenRequest { connection: self.clone(), answer }
    }

    /// Returns the number of response bytes that are not written yet.
    pub(super) fn unsent(&self) -> usize {
        self.lock().unsent
    }

    /// Requests that the connection ends. A stronger request replaces a weaker one, never the reverse.
    pub(super) fn close(&self, closing: Closing) {
        self.lock().closing_since.get_or_insert_with(Instant::now);
        self.closing.send_if_modified(|now| {
            let is_more = closing > *now;
            *now = closing.max(*now);
            is_more
        });
    }

    /// Returns a receiver of the requested way to end.
    pub(super) fn closing(&self) -> watch::Receiver<Closing> {
        self.closing.subscribe()
    }

    /// Returns whether the connection must end because of a time limit.
    pub(super) fn overdue(&self, now: Instant, clock: SystemTime) -> Closing {
        let state = self.lock();
        let is_over = |since: Instant, limit: Duration| now.saturating_duration_since(since) >= limit;
        // Time limits are shorter for a connection that is closing.
        let (stall, end) = match state.closing_since {
            Some(since) => (
                MIN_IDLE_BEFORE_EVICTION,
                Some(since + if state.open == 0 { MIN_IDLE_BEFORE_EVICTION } else { SHUTDOWN_GRACE_PERIOD }),
            ),
            None => (STALL_TIMEOUT, None),
        };
        if state.is_stalled(now, stall)
            || end.is_some_and(|end| end <= now)
            || state.answers.values().any(|answer| answer.bytes > 0 && is_over(answer.since, ANSWER_TIMEOUT))
            || (!state.has_requested && is_over(state.started, HEAD_TIMEOUT))
        {
            return Closing::Now;
        }
        let is_idle = state.open == 0 && is_over(state.idle_since, IDLE_TIMEOUT);
        if is_idle || state.not_after.is_some_and(|end| end <= clock) { Closing::Graceful } else { Closing::No }
    }

    /// Returns whether the connection can be evicted in favour of another, that is, unless it has an open request and
    /// is either authenticated or making progress. The connection with the greatest value is evicted first.
    pub(super) fn eviction_rank(&self, now: Instant) -> Option<(bool, Duration)> {
        let state = self.lock();
        let still = now.saturating_duration_since(state.last_progress);
        let is_stranger = !state.is_authenticated;
        let is_stuck = still >= MIN_IDLE_BEFORE_EVICTION || state.is_stalled(now, MIN_IDLE_BEFORE_EVICTION);
        (state.open == 0 || (is_stranger && is_stuck)).then_some((is_stranger, still))
    }

    /// Returns the number of unwritten response bytes if the client has stopped reading them.
    pub(super) fn stalled_bytes(&self, now: Instant) -> Option<usize> {
        let state = self.lock();
        (state.unsent > 0 && state.is_stalled(now, MIN_IDLE_BEFORE_EVICTION)).then_some(state.unsent)
    }
}

// === impl State ===

impl State {
    fn is_stalled(&self, now: Instant, limit: Duration) -> bool {
        let is_over = |since: Instant| now.saturating_duration_since(since) >= limit;
        self.blocked_since.is_some_and(is_over)
            || self.answers.values().any(|a| (!a.is_awaited || a.parts > 0) && is_over(a.last_progress))
    }
}

// === impl OpenRequest ===

impl OpenRequest {
    /// Records the start of a response of `bytes` bytes; 0 if the length is not known.
    pub(super) fn answer(&self, bytes: usize) {
        let (now, mut state) = (Instant::now(), self.connection.lock());
        state.unsent += bytes;
        state
            .answers
            .insert(self.answer, Progress { bytes, since: now, last_progress: now, is_awaited: false, parts: 0 });
    }

    fn with(&self, change: impl FnOnce(&mut Progress)) {
        if let Some(answer) = self.connection.lock().answers.get_mut(&self.answer) {
            change(answer);
        }
    }

    /// Records that a part was handed to hyper.
    pub(super) fn record_part_queued(&self) {
        self.with(|answer| {
            answer.parts += 1;
            answer.last_progress = Instant::now();
            answer.is_awaited = false;
        });
    }

    /// Records that a part was written.
    pub(super) fn record_part_written(&self) {
        self.with(|answer| {
            answer.parts -= 1;
            answer.last_progress = Instant::now();
        });
    }

    /// Records that the next part of the body is not available yet.
    pub(super) fn record_part_awaited(&self) {
        self.with(|answer| answer.is_awaited = true);
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let mut state = self.connection.lock();
        let bytes = state.answers.remove(&self.answer).map_or(0, |answer| answer.bytes);
        state.unsent -= bytes;
        state.open -= 1;
        if state.open == 0 {
            state.idle_since = Instant::now();
        }
    }
}

/// The socket of a connection. It records when bytes move and when writes block.
pub(super) struct TrackedSocket<S> {
    pub(super) inner: S,
    pub(super) connection: Arc<Connection>,
}

// === impl TrackedSocket ===

impl<S> TrackedSocket<S> {
    fn wrote<T>(&self, poll: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let mut state = self.connection.lock();
        match &poll {
            Poll::Pending => drop(state.blocked_since.get_or_insert_with(Instant::now)),
            Poll::Ready(_) => {
                state.blocked_since = None;
                state.last_progress = Instant::now();
            }
        }
        poll
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for TrackedSocket<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let poll = Pin::new(&mut self.inner).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.connection.lock().last_progress = Instant::now();
        }
        poll
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for TrackedSocket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.wrote(poll)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let poll = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.wrote(poll)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
