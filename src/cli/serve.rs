//! `editwar serve`: loads and checks the configuration, and runs the server.

use std::io::Write;

use anyhow::{Context, Result};

use super::args::ServeArgs;
use super::{Outcome, server};
use crate::auth::oidc::Oidc;
use crate::auth::tokens::Tokens;
use crate::config::{Config, OidcConfig, Tls};
use crate::ingest::kafka;
use crate::net::{TlsConfig, TlsFiles};
use crate::query::api::PresentTime;
use crate::telemetry::logs;
use crate::util::endpoint::Credentials;

/// Runs `editwar serve` until it is stopped by a signal.
///
/// # Errors
/// The configuration is not valid, an address cannot be bound, or a certificate cannot be used.
pub(super) fn run(args: &ServeArgs) -> Result<Outcome> {
    let config = args.config()?;
    if args.print_config {
        let mut stdout = anstream::stdout().lock();
        write!(stdout, "{}", serde_yaml_ng::to_string(&config)?).and_then(|()| stdout.flush())?;
    }
    if args.check_config {
        check(&config)?;
        anstream::eprintln!("editwar: the configuration is valid");
        return Ok(Outcome::Calm);
    }
    if args.print_config {
        return Ok(Outcome::Calm);
    }
    let log_levels = logs::start(&args.log_level).context("--log-level")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("editwar").build()?;
    let served = runtime.block_on(server::serve(config, log_levels.clone(), PresentTime::Clock));
    log_levels.stop();
    served?;
    Ok(Outcome::Calm)
}

/// Checks everything that `serve` checks before it listens.
fn check(config: &Config) -> Result<()> {
    let listeners = [(&config.webhook.tls, &config.webhook.auth), (&config.admin.tls, &config.admin.auth)];
    for (tls, auth) in listeners {
        if let Some(Tls { cert, key }) = tls.clone() {
            let (client_ca, client_crl) = (auth.client_ca.clone(), auth.client_crl.clone());
            drop(TlsConfig::new(TlsFiles { cert, key, client_ca, client_crl })?);
        }
        if let Some(path) = &auth.token_file {
            drop(Tokens::read(path).with_context(|| path.display().to_string())?);
        }
        if let Some(OidcConfig { issuer, audience, keys }) = &auth.oidc {
            drop(Oidc::new(issuer, audience, keys)?);
        }
    }
    if let Some(settings) = config.kafka_settings() {
        kafka::check(&settings)?;
    }
    let alertmanager = config.notify.alertmanager.ca_file.as_ref().map(|path| ("notify.alertmanager", path));
    let cloud_events = config.notify.cloud_events.ca_file.as_ref().map(|path| ("notify.cloud_events", path));
    for (section, path) in alertmanager.into_iter().chain(cloud_events) {
        let credentials = Credentials { ca_file: Some(path.clone()), ..Credentials::default() };
        credentials.ca().context(section)?;
    }
    Ok(())
}
