//! Certificates, and TLS clients that present them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};

use crate::server::connect;

/// A CA, the files of a server certificate, and what clients need.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    folder: PathBuf,
}

/// A client certificate and its key.
pub(crate) type Identity = (Vec<CertificateDer<'static>>, Vec<u8>);

// === impl Authority ===

impl Authority {
    /// Creates `ca.pem`, `tls.crt` and `tls.key` in a directory.
    pub(crate) fn new(folder: &Path) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "attack CA");
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        let authority = Authority { pem, issuer: Issuer::new(params, key), folder: folder.to_owned() };
        std::fs::write(folder.join("ca.pem"), &authority.pem).unwrap();
        let (certificate, key) = authority.sign("editwar", 3600);
        std::fs::write(folder.join("tls.crt"), certificate.pem()).unwrap();
        std::fs::write(folder.join("tls.key"), key.serialize_pem()).unwrap();
        authority
    }

    /// Issues a certificate that is valid for `seconds` seconds.
    fn sign(&self, name: &str, seconds: i64) -> (rcgen::Certificate, KeyPair) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let until = std::time::SystemTime::now() + std::time::Duration::from_secs(seconds as u64);
        params.not_after = until.into();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap(), key)
    }

    /// Issues a client certificate.
    pub(crate) fn identity(&self, name: &str, seconds: i64) -> Identity {
        let (certificate, key) = self.sign(name, seconds);
        (vec![certificate.der().clone()], key.serialize_der())
    }

    /// Returns `--set` arguments for a listener with TLS that asks for client certificates.
    pub(crate) fn settings(&self, listener: &str) -> Vec<String> {
        let file = |name: &str| self.folder.join(name).display().to_string();
        [
            format!("{listener}.tls.cert={}", file("tls.crt")),
            format!("{listener}.tls.key={}", file("tls.key")),
            format!("{listener}.auth.client_ca={}", file("ca.pem")),
        ]
        .into_iter()
        .flat_map(|setting| ["--set".to_owned(), setting])
        .collect()
    }

    /// Opens a TLS connection.
    pub(crate) fn connect(
        &self,
        from: Ipv4Addr,
        to: SocketAddr,
        identity: Option<&Identity>,
    ) -> io::Result<rustls::StreamOwned<rustls::ClientConnection, TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = match identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => {
                let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.clone()));
                builder.with_client_auth_cert(chain.clone(), key).unwrap()
            }
        };
        let name = ServerName::try_from("localhost").unwrap();
        let connection = rustls::ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        Ok(rustls::StreamOwned::new(connection, connect(from, to)?))
    }
}
