//! `editwar serve`: loads and checks the configuration, and runs the server.

use std::io::Write;

use anyhow::{Context, Result};

use super::args::{Enforce, ServeArgs};
use super::{Outcome, server};
use crate::auth::tokens::Tokens;
use crate::config::{Config, Tls};
use crate::net::{Secured, TlsFiles};
use crate::telemetry::logs;

/// Runs `editwar serve` until it is stopped by a signal.
///
/// # Errors
/// The configuration is not valid, an address cannot be bound, or a certificate cannot be used.
pub fn run(args: &ServeArgs) -> Result<Outcome> {
    let config = load(args)?;
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
    let log_levels = logs::start(&args.log).context("--log")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("editwar").build()?;
    let served = runtime.block_on(server::serve(config, log_levels.clone()));
    log_levels.stop();
    served?;
    Ok(Outcome::Calm)
}

fn load(args: &ServeArgs) -> Result<Config> {
    let mut settings = Vec::new();
    settings.extend(args.listen.iter().map(|address| format!("admin.listen={address}")));
    settings.extend(args.webhook_listen.iter().map(|address| format!("webhook.listen={address}")));
    settings.extend(args.enforce.iter().map(|mode| match mode {
        Enforce::Observe => "enforce.mode=observe".to_owned(),
        Enforce::Pause => "enforce.mode=pause".to_owned(),
        Enforce::Reconcile => "enforce.mode=reconcile".to_owned(),
    }));
    settings.extend(args.assets.iter().map(|path| format!("enforce.assets={}", path.display())));
    settings.extend(args.kubeconfig.iter().map(|path| format!("enforce.kubeconfig={}", path.display())));
    settings.extend(args.memory_limit.iter().map(|size| format!("bounds.memory={size}")));
    settings.extend(args.journal.iter().map(|folder| match folder.to_str() {
        Some("off") => "journal.path=null".to_owned(),
        // Formatted as JSON, which is valid YAML, so that no directory name is interpreted as another type.
        _ => format!("journal.path={}", serde_json::Value::from(folder.to_string_lossy())),
    }));
    settings.extend(args.set.iter().cloned());
    let mut config = Config::load(args.config.as_deref(), std::env::vars(), &settings)?;
    if !args.follow.is_empty() {
        config.follow.files.clone_from(&args.follow);
    }
    Ok(config)
}

/// Checks everything that `serve` checks before it listens.
fn check(config: &Config) -> Result<()> {
    let listeners = [(&config.webhook.tls, &config.webhook.auth), (&config.admin.tls, &config.admin.auth)];
    for (tls, auth) in listeners {
        if let Some(Tls { cert, key }) = tls.clone() {
            let (client_ca, client_crl) = (auth.client_ca.clone(), auth.client_crl.clone());
            drop(Secured::new(TlsFiles { cert, key, client_ca, client_crl })?);
        }
        if let Some(path) = &auth.tokens {
            drop(Tokens::read(path).with_context(|| path.display().to_string())?);
        }
    }
    Ok(())
}
