//! TLS of a listener: loading and reloading of certificate files, and extraction of names from client certificates.

use std::path::{Path, PathBuf};
use std::sync::{Arc, RwLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

use super::error::Error;
use crate::util::lock::{read, write};

/// The TLS configuration of a listener. It can be reloaded while connections are open.
pub struct TlsConfig {
    files: TlsFiles,
    loaded: RwLock<LoadedConfig>,
    /// Counts changes of the accepted client certificates.
    clients: watch::Sender<u64>,
}

struct LoadedConfig {
    contents: Contents,
    config: Arc<ServerConfig>,
}

/// The contents of the files: the server's certificate and key, and the files about clients.
#[derive(PartialEq, Eq)]
struct Contents {
    own: [Vec<u8>; 2],
    clients: Vec<Vec<u8>>,
}

/// The paths of a listener's TLS files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// The certificate chain, as PEM.
    pub cert: PathBuf,
    /// The private key, as PEM.
    pub key: PathBuf,
    /// The CAs that sign client certificates, as PEM.
    pub client_ca: Option<PathBuf>,
    /// The revocation lists of these CAs, as PEM.
    pub client_crl: Option<PathBuf>,
}

/// The content of a client certificate that the verifier has accepted.
#[derive(Debug, Default)]
pub(super) struct ClientCertificate {
    /// The common name and the DNS names.
    pub(super) names: Vec<String>,
    /// The earliest expiry time of all certificates in the presented chain.
    pub(super) not_after: Option<SystemTime>,
}

// === impl TlsConfig ===

impl TlsConfig {
    /// Loads the files. The listener offers TLS 1.2 and later, HTTP/2 and HTTP/1.1, and accepts client certificates of
    /// the given CAs.
    ///
    /// # Errors
    /// [`Error::Tls`] if a file cannot be read or its content is not valid.
    pub fn new(files: TlsFiles) -> Result<Arc<TlsConfig>, Error> {
        let (contents, config) = files.read()?;
        let loaded = RwLock::new(LoadedConfig { contents, config: Arc::new(config) });
        Ok(Arc::new(TlsConfig { files, loaded, clients: watch::Sender::new(0) }))
    }

    /// Loads the files again if they have changed, and returns whether they had.
    ///
    /// Open connections continue, with one exception: if the CAs or revocation lists of clients changed, connections
    /// with a client certificate are closed, so that the certificates are verified again on reconnect.
    ///
    /// # Errors
    /// [`Error::Tls`]. The previous configuration stays in use.
    pub fn reload(&self) -> Result<bool, Error> {
        let (contents, config) = self.files.read()?;
        let mut loaded = write(&self.loaded);
        if loaded.contents == contents {
            return Ok(false);
        }
        let is_about_clients = loaded.contents.clients != contents.clients;
        *loaded = LoadedConfig { contents, config: Arc::new(config) };
        drop(loaded);
        if is_about_clients {
            self.clients.send_modify(|changes| *changes += 1);
        }
        Ok(true)
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(read(&self.loaded).config.clone())
    }

    /// Returns a receiver that changes whenever the set of accepted client certificates does.
    pub(super) fn clients(&self) -> watch::Receiver<u64> {
        self.clients.subscribe()
    }
}

// === impl TlsFiles ===

impl TlsFiles {
    /// Reads the files and builds a TLS configuration from them.
    fn read(&self) -> Result<(Contents, ServerConfig), Error> {
        let (cert, key) = (self.cert.as_path(), self.key.as_path());
        let wrong = |path: &Path, message: String| Error::Tls { path: path.into(), message };
        let bytes = |path: &Path, what: &str| {
            std::fs::read(path).map_err(|e| wrong(path, format!("cannot read a PEM {what}: {e}")))
        };
        let own = [bytes(cert, "certificate")?, bytes(key, "private key")?];
        let chain = certificates(&own[0]).map_err(|message| wrong(cert, message))?;
        let secret = PrivateKeyDer::from_pem_slice(&own[1])
            .map_err(|e| wrong(key, format!("cannot read a PEM private key: {e}")))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions");
        let mut clients = Vec::new();
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let pem = bytes(path, "certificate")?;
                let mut roots = RootCertStore::empty();
                for root in certificates(&pem).map_err(|message| wrong(path, message))? {
                    roots.add(root).map_err(|e| wrong(path, format!("not a CA certificate: {e}")))?;
                }
                clients.push(pem);
                // Certificates are optional: clients with a token and probes of /livez have none.
                let mut verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).allow_unauthenticated();
                if let Some(path) = &self.client_crl {
                    let pem = bytes(path, "revocation list")?;
                    let lists = revocation_lists(&pem).map_err(|message| wrong(path, message))?;
                    clients.push(pem);
                    // With revocation lists, a certificate of a CA without a list is rejected, since its revocation
                    // status is not known.
                    verifier = verifier.with_crls(lists).only_check_end_entity_revocation();
                }
                builder.with_client_cert_verifier(verifier.build().map_err(|e| wrong(path, e.to_string()))?)
            }
        };
        let mut config = builder
            .with_single_cert(chain, secret)
            .map_err(|e| wrong(key, format!("the key does not belong to the certificate {}: {e}", cert.display())))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok((Contents { own, clients }, config))
    }
}

/// Parses the certificates of a PEM file. There must be at least one.
fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found.map_err(|e| format!("cannot read a PEM certificate: {e}"))? {
        found if found.is_empty() => Err("contains no PEM certificate".into()),
        found => Ok(found),
    }
}

/// Parses the revocation lists of a PEM file. There must be at least one.
fn revocation_lists(pem: &[u8]) -> Result<Vec<CertificateRevocationListDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
    match found.map_err(|e| format!("cannot read a PEM revocation list: {e}"))? {
        found if found.is_empty() => Err("contains no PEM revocation list (X509 CRL)".into()),
        found => Ok(found),
    }
}

// === impl ClientCertificate ===

impl ClientCertificate {
    /// Extracts names and expiry time from the chain that a client presented.
    pub(super) fn of(chain: Option<&[CertificateDer<'_>]>) -> ClientCertificate {
        let chain = chain.unwrap_or_default();
        let parsed: Vec<_> = chain.iter().filter_map(|c| parse_x509_certificate(c).ok()).map(|(_, c)| c).collect();
        let Some(certificate) = parsed.first() else { return ClientCertificate::default() };
        let common = certificate.subject().iter_common_name().filter_map(|name| name.as_str().ok()).map(str::to_owned);
        let mut names: Vec<String> = common.collect();
        if let Ok(Some(alternatives)) = certificate.subject_alternative_name() {
            names.extend(alternatives.value.general_names.iter().filter_map(|name| match name {
                GeneralName::DNSName(name) => Some((*name).to_owned()),
                _ => None,
            }));
        }
        let ends = parsed.iter().map(|c| c.validity().not_after.timestamp());
        let not_after = ends.min().map(|end| UNIX_EPOCH + Duration::from_secs(u64::try_from(end).unwrap_or(0)));
        ClientCertificate { names, not_after }
    }
}
