//! Sockets: accept, TLS, HTTP/1.1 and HTTP/2, limits, a graceful end. Knows no routes and no events.

mod peers;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use peers::Peers;

/// Connections of one listener at a time. An API server holds one or two; the rest wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 1024;
/// Time to finish a TLS handshake, or a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests of one HTTP/2 connection at a time.
const STREAMS_MAX: u32 = 128;
/// Bytes of one HTTP/2 request that are taken before they are read.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;
/// Bytes of a request's head.
const HEAD_BYTES_MAX: usize = 32 << 10;
/// Time for open requests to end after the listener was told to.
pub const GRACE: Duration = Duration::from_secs(20);

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

/// A socket that is bound, and speaks TLS if it has a certificate.
pub struct Listener {
    tcp: TcpListener,
    tls: Option<Arc<Secured>>,
}

/// What TLS is spoken with; it may change while connections last.
pub struct Secured {
    files: TlsFiles,
    config: RwLock<(Vec<Vec<u8>>, Arc<ServerConfig>)>,
}

/// The files of a listener's TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificate chain, PEM.
    pub cert: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
    /// CAs of clients, PEM.
    pub client_ca: Option<PathBuf>,
    /// Whether a client must have a certificate.
    pub is_client_required: bool,
}

/// Whoever sent a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// From where.
    pub address: SocketAddr,
    /// The names of its certificate: common name and DNS names. Empty where it has none.
    pub names: Arc<[String]>,
}

// === impl Listener ===

impl Listener {
    /// Binds `address`.
    ///
    /// # Errors
    /// [`Error::Bind`].
    pub async fn bind(address: SocketAddr, tls: Option<Arc<Secured>>) -> Result<Listener, Error> {
        let tcp = TcpListener::bind(address).await.map_err(|source| Error::Bind { address, source })?;
        Ok(Listener { tcp, tls })
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

    /// Serves until `stop` turns true, then lets open requests end.
    pub async fn serve<H, F, B>(self, handler: H, mut stop: watch::Receiver<bool>)
    where
        H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
    {
        let graceful = GracefulShutdown::new();
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let peers = Peers::default();
        loop {
            let permit = tokio::select! {
                permit = room.clone().acquire_owned() => permit.expect("the semaphore is never closed"),
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let accepted = tokio::select! {
                accepted = self.tcp.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
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
            // One that has more than its share is shown the door.
            let Some(connection) = peers.enter(address.ip()) else { continue };
            let watcher = graceful.watcher();
            let (tls, handler) = (self.tls.as_ref().map(|secured| secured.acceptor()), handler.clone());
            tokio::spawn(async move {
                let service = |names: Vec<String>| {
                    let peer = Peer { address, names: names.into() };
                    service_fn(move |request| {
                        let reply = handler(request, peer.clone());
                        async move { Ok::<_, Infallible>(reply.await) }
                    })
                };
                let builder = http_builder();
                // The peer's faults end its connection and concern nobody else.
                match tls {
                    None => {
                        let connection =
                            builder.serve_connection(TokioIo::new(stream), service(Vec::new())).into_owned();
                        drop(watcher.watch(connection).await);
                    }
                    Some(tls) => {
                        if let Some(stream) = handshake(&tls, stream, address).await {
                            let service = service(names(stream.get_ref().1.peer_certificates()));
                            let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
                            drop(watcher.watch(connection).await);
                        }
                    }
                }
                drop((permit, connection));
            });
        }
        drop(self.tcp);
        if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests were still open at the end of the grace period");
        }
    }
}

/// How HTTP is spoken on every listener: with an end to what a peer may send, hold open and keep waiting for.
pub fn http_builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
        // What a peer may send before anybody reads it: most of a batch, since each stop for more costs a round trip.
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(2 * STREAM_WINDOW_BYTES)
        // Each frame costs, and by default they are small.
        .max_frame_size(STREAM_WINDOW_BYTES / 4)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(HEAD_TIMEOUT);
    builder
}

async fn handshake(
    tls: &TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    match tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%peer, %error, "TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}

/// Common name and DNS names of the certificate that a client showed, and the verifier accepted.
fn names(certificates: Option<&[CertificateDer<'_>]>) -> Vec<String> {
    let Some(Ok((_, certificate))) = certificates.and_then(|c| c.first()).map(|c| parse_x509_certificate(c)) else {
        return Vec::new();
    };
    let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok()).map(str::to_owned);
    let mut names: Vec<String> = common.collect();
    if let Ok(Some(alternatives)) = certificate.subject_alternative_name() {
        names.extend(alternatives.value.general_names.iter().filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        }));
    }
    names
}

// === impl Secured ===

impl Secured {
    /// Reads the files: this certificate, TLS 1.2 and later, HTTP/2 and HTTP/1.1, clients of these CAs.
    ///
    /// # Errors
    /// [`Error::Tls`] where a file cannot be read or does not hold what it should.
    pub fn new(files: TlsFiles) -> Result<Arc<Secured>, Error> {
        let (contents, config) = files.read()?;
        Ok(Arc::new(Secured { files, config: RwLock::new((contents, Arc::new(config))) }))
    }

    /// Reads the files again if they changed; connections that stand are not touched. Whether they changed.
    ///
    /// # Errors
    /// [`Error::Tls`]: what was read before holds.
    pub fn reload(&self) -> Result<bool, Error> {
        let (contents, config) = self.files.read()?;
        let mut held = self.config.write().unwrap_or_else(PoisonError::into_inner);
        if held.0 == contents {
            return Ok(false);
        }
        *held = (contents, Arc::new(config));
        Ok(true)
    }

    fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(self.config.read().unwrap_or_else(PoisonError::into_inner).1.clone())
    }
}

// === impl TlsFiles ===

impl TlsFiles {
    /// What the files hold, and the TLS that it makes.
    fn read(&self) -> Result<(Vec<Vec<u8>>, ServerConfig), Error> {
        let (cert, key) = (self.cert.as_path(), self.key.as_path());
        let wrong = |path: &Path, message: String| Error::Tls { path: path.into(), message };
        let bytes = |path: &Path, what: &str| {
            std::fs::read(path).map_err(|e| wrong(path, format!("no PEM {what} can be read: {e}")))
        };
        let (cert_pem, key_pem) = (bytes(cert, "certificate")?, bytes(key, "private key")?);
        let chain = certificates(&cert_pem).map_err(|message| wrong(cert, message))?;
        let secret = PrivateKeyDer::from_pem_slice(&key_pem)
            .map_err(|e| wrong(key, format!("no PEM private key can be read: {e}")))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions");
        let mut contents = vec![cert_pem, key_pem];
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let pem = bytes(path, "certificate")?;
                let mut roots = RootCertStore::empty();
                for root in certificates(&pem).map_err(|message| wrong(path, message))? {
                    roots.add(root).map_err(|e| wrong(path, format!("is no CA: {e}")))?;
                }
                contents.push(pem);
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                let verifier = if self.is_client_required { verifier } else { verifier.allow_unauthenticated() };
                builder.with_client_cert_verifier(verifier.build().map_err(|e| wrong(path, e.to_string()))?)
            }
        };
        let mut config = builder
            .with_single_cert(chain, secret)
            .map_err(|e| wrong(key, format!("does not belong to {}: {e}", cert.display())))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok((contents, config))
    }
}

/// The certificates of a PEM file; at least one.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found.map_err(|e| format!("no PEM certificate can be read: {e}"))? {
        found if found.is_empty() => Err("holds no PEM certificate".into()),
        found => Ok(found),
    }
}
