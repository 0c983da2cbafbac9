//! Creates the certificates for the connection from kube-apiserver to editwar: a private CA, a server certificate and a
//! client certificate for kube-apiserver. When it runs again, it renews the certificates that expire soon and keeps the
//! others.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::cli::args::setup::{CertsArgs, SERVER_NAME};

/// Names in the server certificate: those of the Service, as pods and kube-apiserver use them, and of the local
/// machine.
pub(crate) const SERVER_NAMES: [&str; 6] =
    ["editwar", "editwar.editwar", SERVER_NAME, "editwar.editwar.svc.cluster.local", "localhost", "127.0.0.1"];
/// Common name in kube-apiserver's client certificate, to be used in `webhook.auth`.
pub(crate) const CLIENT_NAME: &str = "kube-apiserver";
const DAY: Duration = Duration::from_secs(24 * 3600);
const CA_DAYS: u32 = 3650;
/// Certificates are backdated a little, since clocks differ.
const BACKDATED: Duration = Duration::from_secs(300);

/// The relevant content of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    /// Common name.
    pub name: String,
    /// DNS names and addresses.
    pub names: Vec<String>,
    /// Start of its validity.
    pub from: SystemTime,
    /// End of its validity.
    pub until: SystemTime,
}

/// Creates the files that are missing or expire soon. Returns what was done, as text.
///
/// # Errors
/// A file cannot be read or written, or the CA expires too soon.
pub(crate) fn run(args: &CertsArgs, now: SystemTime) -> Result<String> {
    let dir = &args.dir;
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    let mut told = String::new();
    let issuer = authority(dir, now, args.days, &mut told)?;
    let mut names: Vec<String> = SERVER_NAMES.iter().map(|n| (*n).to_owned()).collect();
    for name in &args.name {
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    leaf(args, &issuer, "server", names, now, &mut told)?;
    leaf(args, &issuer, "client", Vec::new(), now, &mut told)?;
    told.push_str(&format!(
        "\neditwar:         webhook: {{tls: {{cert: {0}/server.crt, key: {0}/server.key}}, auth: {{client_ca: {0}/ca.crt}}}}\n\
         kube-apiserver:  editwar setup webhook --certs {0} --server https://ADDRESS:8443\n\
         Keep ca.key secret. Run this command again before the certificates expire.\n",
        dir.display()
    ));
    Ok(told)
}

fn authority(dir: &Path, now: SystemTime, days: u32, told: &mut String) -> Result<Issuer<'static, KeyPair>> {
    let (cert, key) = (dir.join("ca.crt"), dir.join("ca.key"));
    if !cert.exists() && !key.exists() {
        let mut params = params("editwar CA", Vec::new(), now, CA_DAYS)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pair = KeyPair::generate()?;
        write(&key, &pair.serialize_pem(), 0o600)?;
        write(&cert, &params.self_signed(&pair)?.pem(), 0o644)?;
    }
    let text = std::fs::read_to_string(&cert).with_context(|| cert.display().to_string())?;
    let facts = facts(text.as_bytes()).with_context(|| cert.display().to_string())?;
    // A certificate has whole seconds.
    if facts.until + Duration::from_secs(1) < now + DAY * days {
        bail!(
            "{} is only valid until {}: create a new CA in another directory, give its ca.crt together with this one to \
             kube-apiserver, and then the new certificates to the server",
            cert.display(),
            date(facts.until)
        );
    }
    told.push_str(&format!("ca.crt      valid until {}\n", date(facts.until)));
    let secret = std::fs::read_to_string(&key).with_context(|| key.display().to_string())?;
    let pair = KeyPair::from_pem(&secret).with_context(|| key.display().to_string())?;
    Issuer::from_ca_cert_pem(&text, pair).with_context(|| cert.display().to_string())
}

/// Creates one of the two certificates if it is missing, expires soon, or lacks a name.
fn leaf(
    args: &CertsArgs,
    issuer: &Issuer<'_, KeyPair>,
    role: &str,
    names: Vec<String>,
    now: SystemTime,
    told: &mut String,
) -> Result<()> {
    let (cert, key) = (args.dir.join(format!("{role}.crt")), args.dir.join(format!("{role}.key")));
    let old = std::fs::read(&cert).ok().and_then(|text| facts(&text).ok()).filter(|_| key.exists());
    let why = match &old {
        None => Some("created"),
        Some(_) if args.renew => Some("renewed on request"),
        Some(old) if names.iter().any(|name| !old.names.contains(name)) => Some("renewed for other names"),
        // Renewed in the last third of its validity, which leaves time to notice if this is not run regularly.
        Some(old) if old.until < now + DAY * args.days / 3 => Some("renewed"),
        Some(_) => None,
    };
    let Some(why) = why else {
        let until = old.map(|old| date(old.until)).unwrap_or_default();
        told.push_str(&format!("{role}.crt  valid until {until}\n"));
        return Ok(());
    };
    // Names from earlier runs are kept, so that a run without them does not remove them.
    let mut names = names;
    names.extend(old.into_iter().flat_map(|old| old.names).filter(|_| role == "server"));
    names.sort();
    names.dedup();
    let is_server = role == "server";
    let mut params = params(if is_server { SERVER_NAME } else { CLIENT_NAME }, names, now, args.days)?;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![if is_server { ExtendedKeyUsagePurpose::ServerAuth } else { ExtendedKeyUsagePurpose::ClientAuth }];
    params.use_authority_key_identifier_extension = true;
    let pair = KeyPair::generate()?;
    write(&key, &pair.serialize_pem(), 0o600)?;
    write(&cert, &params.signed_by(&pair, issuer)?.pem(), 0o644)?;
    told.push_str(&format!("{role}.crt  {why}, valid until {}\n", date(now + DAY * args.days)));
    Ok(())
}

fn params(name: &str, names: Vec<String>, now: SystemTime, days: u32) -> Result<CertificateParams> {
    let mut params = CertificateParams::new(names).context("--name")?;
    params.distinguished_name.remove(DnType::CommonName);
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = (now - BACKDATED).into();
    params.not_after = (now + DAY * days).into();
    Ok(params)
}

/// Replaces a file atomically. The file has its final permissions from the start.
fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    let new = path.with_extension("new");
    let write = || -> std::io::Result<()> {
        let mut file = File::options().write(true).create(true).truncate(true).mode(mode).open(&new)?;
        file.set_permissions(std::fs::Permissions::from_mode(mode))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    write().with_context(|| path.display().to_string())
}

/// Reads the first certificate of a PEM text.
///
/// # Errors
/// The text contains no certificate.
pub(crate) fn facts(pem: &[u8]) -> Result<Facts> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem).context("not a PEM certificate")?;
    let (_, cert) = X509Certificate::from_der(&pem.contents).context("not a valid certificate")?;
    let time = |at: i64| UNIX_EPOCH + Duration::from_secs(at.max(0).unsigned_abs());
    let name = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => <[u8; 4]>::try_from(*bytes).ok().map(|b| std::net::IpAddr::from(b).to_string()),
            _ => <[u8; 16]>::try_from(*bytes).ok().map(|b| std::net::IpAddr::from(b).to_string()),
        },
        _ => None,
    };
    let names = cert.subject_alternative_name().ok().flatten();
    Ok(Facts {
        name: cert.subject().iter_common_name().filter_map(|n| n.as_str().ok()).collect(),
        names: names.iter().flat_map(|n| n.value.general_names.iter().filter_map(name)).collect(),
        from: time(cert.validity().not_before.timestamp()),
        until: time(cert.validity().not_after.timestamp()),
    })
}

/// Formats a date.
pub(crate) fn date(at: SystemTime) -> String {
    jiff::Timestamp::try_from(at).map_or_else(|_| "?".to_owned(), |at| at.strftime("%Y-%m-%d").to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(dir: &Path, names: &[&str]) -> CertsArgs {
        CertsArgs { dir: dir.into(), name: names.iter().map(|n| (*n).to_owned()).collect(), days: 90, renew: false }
    }

    fn folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("editwar-certs-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        folder
    }

    #[test]
    fn a_second_run_renews_only_what_is_due() {
        let dir = folder("renew");
        let start = SystemTime::now();
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
        assert!(run(&args(&dir, &["10.96.0.50"]), start).unwrap().contains("server.crt  created"));
        let (ca, server, client) = (read("ca.crt"), read("server.crt"), read("client.crt"));
        let of_server = facts(server.as_bytes()).unwrap();
        assert!(
            of_server.names.contains(&"10.96.0.50".to_owned()) && of_server.names.contains(&"localhost".to_owned())
        );
        assert_eq!(facts(client.as_bytes()).unwrap().name, CLIENT_NAME);

        run(&args(&dir, &[]), start + DAY * 50).unwrap();
        assert_eq!((read("server.crt"), read("client.crt")), (server.clone(), client.clone()));

        let told = run(&args(&dir, &["other.example.com"]), start + DAY * 50).unwrap();
        assert!(told.contains("for other names"), "{told}");
        assert!(facts(read("server.crt").as_bytes()).unwrap().names.contains(&"10.96.0.50".to_owned()));
        assert_eq!(read("client.crt"), client);

        run(&args(&dir, &[]), start + DAY * 70).unwrap();
        assert_ne!(read("client.crt"), client);
        assert_eq!(read("ca.crt"), ca);
        let over = run(&args(&dir, &[]), start + DAY * (CA_DAYS - 20)).unwrap_err().to_string();
        assert!(over.contains("new CA"), "{over}");
        std::fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn keys_are_readable_by_their_owner_only() {
        let dir = folder("rights");
        run(&args(&dir, &[]), SystemTime::now()).unwrap();
        for name in ["ca.key", "server.key", "client.key"] {
            assert_eq!(std::fs::metadata(dir.join(name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}
