//! Why a listener cannot start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// The reason why a listener cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}{}", hint(source))]
    Bind {
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A certificate or key cannot be used.
    #[error("{path}: {message}")]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
}

fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => ": another process uses this port; stop it or choose another port",
        io::ErrorKind::PermissionDenied => ": ports below 1024 need a privilege; choose another port",
        _ => "",
    }
}
