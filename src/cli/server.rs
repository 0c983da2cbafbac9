//! The server: creates all parts, starts them, waits for a signal, and stops them in order.

use std::sync::{Arc, OnceLock};

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::admin::Admin;
use super::args::KubeAccess;
use super::enforcer_setup::ClusterAccess;
use super::journal_setup::{self, Restored};
use super::listener_auth::ListenerSecurity;
use super::notify_setup::Notifications;
use super::shared_log::SharedLog;
use super::{descriptors, memory_budget};
use crate::config::{Config, Forward, Mode};
use crate::detect::policy::Policy;
use crate::enforce::control::Control;
use crate::ingest::Source;
use crate::ingest::intake::Intake;
use crate::ingest::kafka;
use crate::ingest::kafka::log::{self as shared_log, Target};
use crate::ingest::tail::{self, Forwarder, LineSink, TailSource};
use crate::ingest::watch::WatchSource;
use crate::ingest::watch::status::WatchStatus;
use crate::ingest::webhook::{Webhook, WebhookSource};
use crate::journal::append::Append;
use crate::journal::committer::Journal;
use crate::net::Listener;
use crate::notify::log::Log;
use crate::notify::metrics::MetricsSink;
use crate::notify::turn::Unpublished;
use crate::notify::{Sink, Sinks};
use crate::pipeline::Pipeline;
use crate::query::api::{Api, LogLevel, PresentTime, SourceStatus};
use crate::query::change_signal::ChangeSignal;
use crate::telemetry::logs::LogLevels;
use crate::telemetry::metrics::Metrics;
use crate::util::endpoint::Credentials;
use crate::util::readiness::Readiness;

/// Divisor of the maximum response size for reports: while a report is built, it is in memory four times, as values and
/// as text.
const REPORT_SHARE: usize = 4;

/// All parts of a server.
struct Server {
    config: Config,
    signals: Signals,
    pipeline: Arc<Pipeline>,
    metrics: Metrics,
    journal: Option<Arc<Journal>>,
    /// Resolves when the journal was replayed.
    replayed: Option<oneshot::Receiver<()>>,
    /// The log that replicas share, if there is one.
    log: Option<SharedLog>,
    api: Api,
    admin: Option<(Listener, Admin)>,
    gates: [ListenerSecurity; 2],
    sources: Vec<Box<dyn Source>>,
    access: Option<ClusterAccess>,
    notifications: Notifications,
    control: Control,
    stop: watch::Sender<bool>,
    /// Counts requests to reload certificates, revocation lists and tokens.
    reload: watch::Sender<u64>,
    tasks: Tasks,
}

/// The signals that a server handles. Their handlers are installed first: a replay takes time, and an unhandled signal
/// would kill the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
    kill_switch: Signal,
}

/// The listeners, and who may use them.
struct Listeners {
    webhook: Listener,
    admin: Listener,
    webhook_gate: ListenerSecurity,
    admin_gate: ListenerSecurity,
    /// Maximum size of a report.
    report_bytes_max: usize,
}

/// Running tasks, in the order in which they are joined when the server stops.
#[derive(Default)]
struct Tasks {
    /// They deliver events, or answer queries.
    serving: Vec<JoinHandle<()>>,
    others: Vec<JoinHandle<()>>,
}

/// Runs a server until it is stopped by a signal.
///
/// # Errors
/// The configuration is not valid, an address cannot be bound, or a certificate cannot be used.
pub(super) async fn serve(config: Config, log_levels: LogLevels, present: PresentTime) -> Result<()> {
    let mut server = Server::build(config, log_levels, present).await?;
    if !server.start().await? {
        // Nothing was acknowledged yet, so there is nothing to finish.
        return Ok(());
    }
    let signal = server.wait().await;
    tracing::info!(signal, "stopping after open requests are answered");
    server.stop().await
}

// === impl Server ===

impl Server {
    /// Creates all parts, and binds the listeners.
    async fn build(config: Config, log_levels: LogLevels, present: PresentTime) -> Result<Server> {
        let signals = Signals::install()?;
        let memory = config.bounds.max_memory.map(|memory| memory.0).or_else(memory_budget::limit);
        let listeners = Listeners::bind(&config, memory).await?;
        let access = match config.enforce.mode {
            Mode::Observe => None,
            Mode::Pause | Mode::Reconcile => Some(ClusterAccess::of(&config.enforce).await?),
        };
        let (bounds, in_flight_bytes_max) = memory_budget::within(memory, config.bounds());
        tracing::debug!(memory, in_flight = in_flight_bytes_max, ?bounds, "bounds");
        let pipeline = Arc::new(Pipeline::new(policy(&config, access.as_ref()), bounds));
        let metrics = Metrics::new(config.series_limits());
        let Listeners { webhook, admin, webhook_gate, admin_gate, report_bytes_max } = listeners.counting(&metrics);

        let change_signal = ChangeSignal::default();
        let metrics_sink = MetricsSink::new(pipeline.clone(), metrics.clone());
        let state: Vec<Arc<dyn Sink>> = vec![Arc::new(metrics_sink), Arc::new(change_signal.clone())];
        let newest = Arc::new(OnceLock::new());
        let restored = match config.journal.kafka {
            Some(_) => Restored::Newest(newest.clone()),
            None => Restored::State(Sinks::new(state.clone())),
        };
        let (journal, replayed) = journal_setup::open(&config, &pipeline, &metrics, restored)?.unzip();
        let journal = journal.map(Arc::new);
        let log = config.log_settings().map(|settings| shared_log::Log::open(settings, &metrics)).transpose()?;
        let notifications = Notifications::of(&config, &pipeline, &metrics, log.as_ref())?;
        let unpublished = notifications.unpublished();
        let rebuilding = state
            .iter()
            .cloned()
            .chain(journal.clone().map(|journal| journal as Arc<dyn Sink>))
            .chain(unpublished.iter().map(|sink| Arc::new(sink.clone()) as Arc<dyn Sink>));
        let rebuilding = Sinks::new(rebuilding.collect());
        let sinks = sinks(state, &pipeline, journal.clone(), access.as_ref(), &notifications);

        let intake = Intake::new(pipeline.clone(), metrics.clone(), sinks.clone());
        let target = Target {
            pipeline: pipeline.clone(),
            journal: journal.clone(),
            rebuilding,
            sinks,
            metrics: metrics.clone(),
            readiness: Readiness::default(),
            unpublished: unpublished.into_iter().map(|sink| Arc::new(sink) as Arc<dyn Unpublished>).collect(),
        };
        let log = log.map(|log| SharedLog::new(log, target, newest));
        let intake = match &log {
            Some(log) => intake.with_log(log.appender(), log.turn()),
            None => intake.with_journal(journal.clone().map(|journal| journal as Arc<dyn Append>)),
        };
        let receiver =
            Webhook::new(intake.clone(), metrics.clone(), config.webhook.max_body_bytes.0, in_flight_bytes_max)
                .with_clusters(config.webhook.auth.allow.iter().flat_map(|allow| allow.clusters.clone()));
        let webhook = WebhookSource::new(webhook, webhook_gate.clone(), receiver);
        let sources = sources(&config, webhook, intake, &metrics).await?;

        let control = Control::default();
        control.set_stopped(config.enforce.kill_switch);
        let api = Api::new(pipeline.clone(), Arc::new(config.classes()), metrics.clone())
            .with_present(present)
            .with_journal(journal.clone())
            .with_contexts(config.contexts())
            .with_forward(config.tail.forward.as_ref().map(|forward| forward.url.clone()))
            .with_report_bytes_max(report_bytes_max)
            .with_change_signal(change_signal)
            .with_sources(
                sources.iter().map(|source| status(&**source)).chain(log.iter().map(SharedLog::status)).collect(),
            )
            .with_log_level(LogLevel { levels: log_levels, is_authenticated: config.admin.auth.is_on() })
            .with_enforcer(access.as_ref().map(|_| control.clone()));
        let handler = Admin::new(admin_gate.clone(), api.clone(), &metrics);
        Ok(Server {
            config,
            signals,
            pipeline,
            metrics,
            journal,
            replayed,
            log,
            api,
            admin: Some((admin, handler)),
            gates: [webhook_gate, admin_gate],
            sources,
            access,
            notifications,
            control,
            stop: watch::channel(false).0,
            reload: watch::channel(0).0,
            tasks: Tasks::default(),
        })
    }

    /// Starts all parts. Health checks and the kill switch work first; sources and the enforcer start when the journal
    /// was replayed. Until then, batches wait in the kernel's accept queue. Returns `false` if a signal stops the
    /// server before that.
    async fn start(&mut self) -> Result<bool> {
        if let Some(access) = &self.access {
            let task = access.start_kill_switch(&self.config.enforce, &self.metrics, &self.control, &self.stop);
            self.tasks.others.push(task);
        }
        for gate in &self.gates {
            self.tasks.others.push(gate.keep_fresh(self.stop.subscribe(), self.reload.subscribe()));
        }
        let admin = self.admin.take().map(|(listener, admin)| {
            let handler = move |request, peer| admin.clone().handle(request, peer);
            tokio::spawn(listener.serve(handler, self.stop.subscribe()))
        });
        if let Some(replayed) = self.replayed.take() {
            tokio::select! {
                replayed = replayed => replayed.context("the journal's thread ended unexpectedly")?,
                _ = self.signals.terminate.recv() => return Ok(false),
                _ = self.signals.interrupt.recv() => return Ok(false),
            }
        }
        if let Some(log) = &mut self.log {
            tokio::select! {
                caught_up = log.start() => caught_up?,
                _ = self.signals.terminate.recv() => return Ok(false),
                _ = self.signals.interrupt.recv() => return Ok(false),
            }
        }
        // The webhook's socket is bound already, so requests are accepted as soon as readiness is reported.
        self.api.set_ready(true);
        for source in self.sources.drain(..) {
            tracing::debug!(source = source.name(), "starting a source");
            self.tasks.serving.push(tokio::spawn(source.run(self.stop.subscribe())));
        }
        self.tasks.serving.extend(admin);
        self.tasks.others.extend(std::mem::take(&mut self.notifications).start(&self.stop));
        if let Some(access) = self.access.take() {
            let (pipeline, metrics) = (self.pipeline.clone(), self.metrics.clone());
            let Server { config, control, log, stop, .. } = self;
            self.tasks.others.extend(access.start(pipeline, metrics, &config.enforce, control, log.as_ref(), stop));
        }
        Ok(true)
    }

    /// Waits for a signal to stop, and returns its name. In the meantime, handles the other signals.
    async fn wait(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.signals.terminate.recv() => return "SIGTERM",
                _ = self.signals.interrupt.recv() => return "SIGINT",
                _ = self.signals.kill_switch.recv() => {
                    self.control.set_stopped(!self.control.is_stopped());
                    tracing::warn!(is_stopped = self.control.is_stopped(), "SIGUSR1: kill switch toggled");
                }
                _ = self.signals.reload.recv() => {
                    tracing::info!("SIGHUP: reloading certificates, revocation lists and tokens");
                    self.reload.send_modify(|times| *times += 1);
                }
            }
        }
    }

    /// Stops all parts: first the sources and the listeners, so that everything that was received is ingested, and the
    /// journal last. Open requests have [`crate::net::SHUTDOWN_GRACE_PERIOD`] to finish.
    async fn stop(self) -> Result<()> {
        self.api.set_ready(false);
        self.stop.send_replace(true);
        for task in self.tasks.serving.into_iter().chain(self.tasks.others) {
            task.await?;
        }
        if let Some(log) = self.log {
            log.stop().await;
        }
        if let Some(journal) = self.journal {
            tokio::task::block_in_place(|| journal.close());
        }
        tracing::info!("stopped");
        Ok(())
    }
}

// === impl Listeners ===

impl Listeners {
    /// Binds both listeners. They share the memory for responses.
    async fn bind(config: &Config, memory: Option<usize>) -> Result<Listeners> {
        let (webhook_gate, admin_gate) = ListenerSecurity::of(config).await?;
        let limits = memory_budget::of_connections(memory, descriptors::raise());
        let report_bytes_max = limits.answer_bytes_max() / REPORT_SHARE;
        let webhook = Listener::bind(config.webhook.listen, webhook_gate.tls.clone(), limits.clone()).await?;
        let admin = Listener::bind(config.admin.listen, admin_gate.tls.clone(), limits).await?;
        tracing::info!(
            webhook = format!("{}://{}/audit", webhook.scheme(), webhook.address()?),
            api = format!("{}://{}", admin.scheme(), admin.address()?),
            version = env!("CARGO_PKG_VERSION"),
            "listening"
        );
        Ok(Listeners { webhook, admin, webhook_gate, admin_gate, report_bytes_max })
    }

    /// Counts rejected requests and unread responses.
    fn counting(self, metrics: &Metrics) -> Listeners {
        Listeners {
            admin: self.admin.counting(metrics.rejected.with_label_values(&["unread"])),
            webhook_gate: self.webhook_gate.counting(metrics),
            admin_gate: self.admin_gate.counting(metrics),
            ..self
        }
    }
}

// === impl Signals ===

impl Signals {
    fn install() -> Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
            kill_switch: signal(SignalKind::user_defined1())?,
        })
    }
}

/// Returns the sinks of new events: those that rebuild state, which the replay of the journal uses too, and the others.
fn sinks(
    state: Vec<Arc<dyn Sink>>,
    pipeline: &Arc<Pipeline>,
    journal: Option<Arc<Journal>>,
    access: Option<&ClusterAccess>,
    notifications: &Notifications,
) -> Sinks {
    let mut sinks = state;
    sinks.push(Arc::new(Log::new(pipeline.clone())));
    sinks.extend(journal.map(|journal| journal as Arc<dyn Sink>));
    sinks.extend(access.map(|access| Arc::new(access.inbox.clone()) as Arc<dyn Sink>));
    sinks.extend(notifications.sinks());
    Sinks::new(sinks)
}

/// Returns the sources: the webhook, and those that are configured.
async fn sources(
    config: &Config,
    webhook: WebhookSource<ListenerSecurity>,
    intake: Intake,
    metrics: &Metrics,
) -> Result<Vec<Box<dyn Source>>> {
    let mut sources: Vec<Box<dyn Source>> = vec![Box::new(webhook)];
    if !config.tail.files.is_empty() {
        let settings = tail::Settings {
            files: config.tail.files.clone(),
            cluster: config.tail.cluster.clone(),
            checkpoint: config.tail.checkpoint.clone(),
        };
        let sink = match &config.tail.forward {
            None => LineSink::Intake(intake.clone()),
            Some(Forward { url, token_file, ca_file }) => {
                let credentials = Credentials { token_file: token_file.clone(), ca_file: ca_file.clone() };
                LineSink::Forwarder(Forwarder::new(url.clone(), credentials).context("tail.forward")?)
            }
        };
        sources.push(Box::new(TailSource::new(settings, sink, metrics.clone())?));
    }
    if let Some(settings) = config.kafka_settings().filter(|settings| !settings.topics.is_empty()) {
        sources.push(kafka::source(settings, intake.clone(), metrics.clone())?);
    }
    if config.watch.enabled {
        let access = KubeAccess { kubeconfig: config.watch.kubeconfig.clone(), context: None };
        let (client, _) = access.connect().await.context("watch")?;
        let status = WatchStatus::new(metrics);
        sources.push(Box::new(WatchSource::new(client, config.watch_settings(), intake, None, status)));
    }
    Ok(sources)
}

fn status(source: &dyn Source) -> SourceStatus {
    SourceStatus { name: source.name(), readiness: source.readiness() }
}

/// Returns the configured policy. It knows the account of this server, whose writes are not those of a party.
fn policy(config: &Config, access: Option<&ClusterAccess>) -> Policy {
    let mut policy = config.policy();
    policy.limits.own = access.map(|access| access.replica.account.as_str().into());
    for over in &mut policy.overrides {
        over.limits.own = policy.limits.own.clone();
    }
    policy
}
