//! `editwar serve`: creates all parts of the server, starts them, and stops them in order.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, Result};
use http_body_util::BodyExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{oneshot, watch};

use super::args::ServeArgs;
use super::computing::Computing;
use super::gates::{self, Guarded};
use super::{Outcome, descriptors, enforcer, memory};
use crate::audit::event::Micros;
use crate::auth::Right;
use crate::auth::tokens::Tokens;
use crate::config::{Config, Mode, Tls};
use crate::ingest::follow::{self, Follower, Intake};
use crate::ingest::webhook::Webhook;
use crate::journal::committer::Journal;
use crate::journal::reader::Reader;
use crate::journal::replay;
use crate::net::{Listener, Secured, TlsFiles};
use crate::pipeline::Pipeline;
use crate::query::api::Api;
use crate::query::{follow as follow_decision, levels};
use crate::telemetry::control::Control;
use crate::telemetry::logs::{self, Levels};
use crate::telemetry::metrics::{Metrics, SeriesLimits};

/// Divisor of the maximum response size for reports: while a report is built, it is in memory four times, as values and
/// as text.
const REPORT_SHARE: usize = 4;

/// Runs `editwar serve` until it is stopped by a signal.
///
/// # Errors
/// The configuration is not valid, an address cannot be bound, or a certificate cannot be used.
pub fn run(args: &ServeArgs) -> Result<Outcome> {
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
    let served = runtime.block_on(serve(config, log_levels.clone()));
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
            drop(Secured::new(TlsFiles { cert, key, client_ca, client_crl })?);
        }
        if let Some(path) = &auth.token_file {
            drop(Tokens::read(path).with_context(|| path.display().to_string())?);
        }
    }
    Ok(())
}

/// Starts to tail the configured logs.
fn follow(
    config: &Config,
    pipeline: &Arc<Pipeline>,
    metrics: &Metrics,
    journal: Option<Arc<Journal>>,
) -> Result<Option<Follower>> {
    if config.tail.files.is_empty() {
        return Ok(None);
    }
    let settings = follow::Settings { files: config.tail.files.clone(), checkpoint: config.tail.checkpoint.clone() };
    let cluster = config.tail.cluster.clone();
    let intake = Intake::new(pipeline.clone(), metrics.clone(), cluster, journal);
    Ok(Some(Follower::start(settings, intake, metrics.clone())?))
}

async fn serve(config: Config, log_levels: Levels) -> Result<()> {
    // Signal handlers are installed first: a replay takes time, and an unhandled signal would kill the process.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hangup = signal(SignalKind::hangup())?;
    let (webhook_gate, admin_gate) = Guarded::of(&config).await?;
    let memory = config.bounds.max_memory.map(|memory| memory.0).or_else(memory::limit);
    let limits = memory::of_connections(memory, descriptors::raise());
    let webhook_listener = Listener::bind(config.webhook.listen, webhook_gate.tls.clone(), limits.clone()).await?;
    let report_bytes_max = limits.answer_bytes_max() / REPORT_SHARE;
    let admin_listener = Listener::bind(config.admin.listen, admin_gate.tls.clone(), limits).await?;

    // The signal of the kill switch is also handled from the start.
    let mut switch = signal(SignalKind::user_defined1())?;
    let access = match config.enforce.mode {
        Mode::Observe => None,
        Mode::Pause | Mode::Reconcile => Some(enforcer::Access::of(&config.enforce).await?),
    };
    let mut policy = config.policy();
    policy.limits.own = access.as_ref().map(|access| access.place.account.as_str().into());
    for over in &mut policy.overrides {
        over.limits.own = policy.limits.own.clone();
    }
    tracing::info!(
        webhook = format!("{}://{}/audit", webhook_listener.scheme(), webhook_listener.address()?),
        api = format!("{}://{}", admin_listener.scheme(), admin_listener.address()?),
        version = env!("CARGO_PKG_VERSION"),
        "listening"
    );
    let (bounds, in_flight_bytes_max) = memory::within(memory, config.bounds());
    tracing::debug!(memory, in_flight = in_flight_bytes_max, ?bounds, "bounds");
    let pipeline = Arc::new(Pipeline::new(policy, bounds));
    let metrics = Metrics::new(SeriesLimits {
        max_objects: config.metrics.max_objects,
        max_actors_per_object: config.metrics.max_actors_per_object,
        ttl: config.metrics.series_ttl.0,
    });
    let (journal, is_opened) = journal(&config, &pipeline, &metrics)?.unzip();
    let journal = journal.map(Arc::new);
    let webhook = Webhook::new(pipeline.clone(), metrics.clone(), config.webhook.max_body_bytes.0, in_flight_bytes_max)
        .with_clusters(config.webhook.auth.allow.iter().flat_map(|allow| allow.clusters.clone()))
        .with_journal(journal.clone());
    let classes = Arc::new(config.classes());
    let control = Control::default();
    control.stop(config.enforce.kill_switch);
    let api = Api::new(pipeline.clone(), classes, metrics.clone())
        .with_journal(journal.clone())
        .with_report_bytes_max(report_bytes_max);
    let api = if access.is_some() { api.with_enforcer(control.clone()) } else { api };

    let (stop, stopped) = watch::channel(false);
    let kill_switch =
        access.as_ref().map(|access| access.start_kill_switch(&config.enforce, &metrics, &control, &stop));
    let answer = api.clone();
    let webhook_gate = webhook_gate.counting(&metrics);
    let admin_gate = admin_gate.counting(&metrics);
    let has_gate = config.admin.auth.is_on();
    let (reload, reloads) = watch::channel(0);
    let refreshers = [&webhook_gate, &admin_gate].map(|gate| gate.keep_fresh(stopped.clone(), reloads.clone()));
    let computing = Computing::default();
    let busy = metrics.rejected.with_label_values(&["busy"]);
    let admin_listener = admin_listener.counting(metrics.rejected.with_label_values(&["unread"]));
    let admin_task = tokio::spawn(admin_listener.serve(
        move |request, peer| {
            let (gate, api, levels) = (admin_gate.clone(), answer.clone(), log_levels.clone());
            let (computing, busy) = (computing.clone(), busy.clone());
            async move {
                let client = peer.address.ip();
                let Some(right) = gates::right(&request) else { return api.answer(&request, client) };
                if let Err(refusal) = gate.admit(&request, &peer, right, "").await {
                    return refusal.map(BodyExt::boxed_unsync);
                }
                if request.uri().path() == levels::PATH {
                    // With authentication, the required right was checked. Without, only local clients may change the
                    // level.
                    let may_change = has_gate || client.to_canonical().is_loopback();
                    return levels::handle(&levels, &request, may_change).map(BodyExt::boxed_unsync);
                }
                if follow_decision::is_followed(&request) {
                    let reply = api.answer(&request, client);
                    return gate.while_admitted(request.headers().clone(), peer, right, reply);
                }
                match computing.begin(client).await {
                    Some(_turn) if peer.is_reading() => tokio::task::block_in_place(|| api.answer(&request, client)),
                    _ => {
                        busy.inc();
                        Computing::refused().map(BodyExt::boxed_unsync)
                    }
                }
            }
        },
        stopped.clone(),
    ));
    // Health checks are answered during the replay. Batches wait in the kernel's accept queue until it is complete, and
    // the enforcer starts only then.
    if let Some(is_opened) = is_opened {
        tokio::select! {
            opened = is_opened => opened.context("the journal's thread ended unexpectedly")?,
            // Nothing was acknowledged yet, so there is nothing to finish.
            _ = terminate.recv() => return Ok(()),
            _ = interrupt.recv() => return Ok(()),
        }
    }
    // The webhook's socket is bound already, so requests are accepted as soon as readiness is reported.
    api.set_ready(true);
    let webhook_task = tokio::spawn(webhook_listener.serve(
        move |request, peer| {
            let (gate, webhook) = (webhook_gate.clone(), webhook.clone());
            async move {
                match gate.admit(&request, &peer, Right::Ingest, gates::cluster(&request)).await {
                    Ok(()) => webhook.handle(request, peer.address).await,
                    Err(refusal) => refusal,
                }
            }
        },
        stopped,
    ));
    let follower = follow(&config, &pipeline, &metrics, journal.clone())?;
    let parts = (pipeline, metrics);
    let enforcing = access.map(|access| access.start(parts, &config.enforce, &control, &stop)).unwrap_or_default();
    let toggle = async {
        while switch.recv().await.is_some() {
            control.stop(!control.is_stopped());
            tracing::warn!(is_stopped = control.is_stopped(), "SIGUSR1: kill switch toggled");
        }
    };
    let reloading = async {
        while hangup.recv().await.is_some() {
            tracing::info!("SIGHUP: reloading certificates, revocation lists and tokens");
            reload.send_modify(|times| *times += 1);
        }
    };
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        () = toggle => unreachable!("signals never end"),
        () = reloading => unreachable!("signals never end"),
    };
    tracing::info!(signal = name, "stopping after open requests are answered");
    api.set_ready(false);
    stop.send(true).context("no task is left to stop")?;
    webhook_task.await?;
    admin_task.await?;
    if let Some(follower) = follower {
        tokio::task::block_in_place(|| follower.stop());
    }
    for task in enforcing.into_iter().chain(kill_switch).chain(refreshers) {
        task.await?;
    }
    if let Some(journal) = journal {
        tokio::task::block_in_place(|| journal.close());
    }
    tracing::info!("stopped");
    Ok(())
}

/// Opens the journal, if one is configured, and replays its recent past into the pipeline.
fn journal(
    config: &Config,
    pipeline: &Arc<Pipeline>,
    metrics: &Metrics,
) -> Result<Option<(Journal, oneshot::Receiver<()>)>> {
    let Some(settings) = config.journal() else { return Ok(None) };
    let (pipeline, counted) = (pipeline.clone(), metrics.clone());
    let window = settings.retention.window;
    let replay = Box::new(move |reader: &Reader, newest: Option<Micros>| {
        let Some(newest) = newest else { return Ok(Vec::new()) };
        let since = newest.saturating_sub(window);
        let mut recent = Vec::new();
        let count = replay::replay(reader, since, &pipeline, |thrashes, transitions| {
            counted.contested(&pipeline, transitions.iter());
            counted.thrashes(&pipeline, thrashes);
            recent.extend(
                transitions.iter().filter(|transition| transition.at > newest.saturating_sub(replay::MARGIN)).cloned(),
            );
        })?;
        tracing::info!(writes = count, "replayed recent writes from the journal");
        Ok(recent)
    });
    Ok(Some(Journal::start(settings, metrics, replay)?))
}
