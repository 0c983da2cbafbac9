//! Sockets: accept, TLS, HTTP/1.1 and HTTP/2, limits, a graceful end. Knows no routes and no events.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

/// Connections of one listener at a time. An API server holds one or two; the rest wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 1024;
/// Time to finish a TLS handshake, or a request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests of one HTTP/2 connection at a time.
const STREAMS_MAX: u32 = 128;
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
    tls: Option<TlsAcceptor>,
}

// === impl Listener ===

impl Listener {
    /// Binds `address`.
    ///
    /// # Errors
    /// [`Error::Bind`].
    pub async fn bind(address: SocketAddr, tls: Option<ServerConfig>) -> Result<Listener, Error> {
        let tcp = TcpListener::bind(address).await.map_err(|source| Error::Bind { address, source })?;
        Ok(Listener { tcp, tls: tls.map(|config| TlsAcceptor::from(Arc::new(config))) })
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
    pub async fn serve<H, F>(self, handler: H, mut stop: watch::Receiver<bool>)
    where
        H: Fn(Request<Incoming>, SocketAddr) -> F + Clone + Send + 'static,
        F: Future<Output = Reply> + Send + 'static,
    {
        let graceful = GracefulShutdown::new();
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let permit = tokio::select! {
                permit = room.clone().acquire_owned() => permit.expect("the semaphore is never closed"),
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let accepted = tokio::select! {
                accepted = self.tcp.accept() => accepted,
                _ = stop.wait_for(|stop| *stop) => break,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, mostly: give others time to end.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let watcher = graceful.watcher();
            let (tls, handler) = (self.tls.clone(), handler.clone());
            tokio::spawn(async move {
                let service = service_fn(move |request| {
                    let reply = handler(request, peer);
                    async move { Ok::<_, Infallible>(reply.await) }
                });
                let builder = http_builder();
                // The peer's faults end its connection and concern nobody else.
                match tls {
                    None => {
                        let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
                        drop(watcher.watch(connection).await);
                    }
                    Some(tls) => {
                        if let Some(stream) = handshake(&tls, stream, peer).await {
                            let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
                            drop(watcher.watch(connection).await);
                        }
                    }
                }
                drop(permit);
            });
        }
        drop(self.tcp);
        if tokio::time::timeout(GRACE, graceful.shutdown()).await.is_err() {
            tracing::warn!("requests were still open at the end of the grace period");
        }
    }
}

fn http_builder() -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_BYTES_MAX);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(HEAD_BYTES_MAX as u32)
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

/// The TLS side of a listener: this certificate, TLS 1.2 and later, HTTP/2 and HTTP/1.1.
///
/// # Errors
/// [`Error::Tls`] where a file cannot be read or does not hold what it should.
pub fn tls(cert: &Path, key: &Path) -> Result<ServerConfig, Error> {
    let wrong = |path: &Path, message: String| Error::Tls { path: path.into(), message };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect)
        .map_err(|e| wrong(cert, format!("no PEM certificate can be read: {e}")))?;
    if chain.is_empty() {
        return Err(wrong(cert, "holds no PEM certificate".into()));
    }
    let secret =
        PrivateKeyDer::from_pem_file(key).map_err(|e| wrong(key, format!("no PEM private key can be read: {e}")))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the default versions")
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(|e| wrong(key, format!("does not belong to {}: {e}", cert.display())))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}
