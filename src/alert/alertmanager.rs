//! Keeps the alerts of Alertmanagers up to date, by version 2 of their API.
//!
//! The alerts follow from the present state of the wars, not from single transitions: each round posts all alerts that fire,
//! with a new `endsAt`, to every peer. So a lost request, a restart of an Alertmanager or a restart of this server needs no
//! special treatment, and several servers that receive the same events post the same alerts, which Alertmanager
//! de-duplicates by their labels. Alerts of a server that is gone end by themselves.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::grouping::{Alert, Alerts, Labels, REMEDY, Update};
use crate::audit::event::Micros;
use crate::detect::actor_class::ActorClassifier;
use crate::detect::remedy::Contexts;
use crate::detect::verdict::Confidence;
use crate::escape;
use crate::notify::{Changes, Sink};
use crate::pipeline::Pipeline;
use crate::pipeline::key::ObjectKey;
use crate::query::reporter::Reporter;
use crate::query::views::{GONE_AFTER, OverviewRow, War, time};
use crate::telemetry::metrics::Metrics;
use crate::util::backoff::Backoff;
use crate::util::clock;
use crate::util::endpoint::Endpoint;

/// How long an Alertmanager may take to answer.
const POSTED_WITHIN: Duration = Duration::from_secs(15);
/// Interval at which all alerts are posted again.
const RENEW: Duration = Duration::from_secs(30);
/// How long an alert lasts that is not renewed: longer than a restart takes.
const LASTS: Micros = 5 * 60 * 1_000_000;
/// Time after a transition within which others are awaited.
const GATHER: Duration = Duration::from_secs(1);
/// Minimum time between two evaluations, as a multiple of the time that one takes.
const GATHER_TIMES: u32 = 10;
/// Maximum time between two evaluations, so that the alerts of a cluster end even if it sends no more events.
const EVALUATE: Duration = Duration::from_secs(600);
/// Times between the first attempts, and between the last ones, if a peer does not accept alerts.
const RETRY: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(60)];
/// Maximum number of objects whose wars are looked at, the most urgent first.
const OBJECTS_MAX: usize = 5_000;
/// Maximum number of alerts of one request.
const ALERTS_PER_REQUEST: usize = 100;
/// Maximum number of alerts that have ended and that a peer does not know yet. Alerts also end without being told.
const RESOLVED_MAX: usize = 1_000;
/// The name of this sink in metrics.
const SINK: &str = "alertmanager";

/// Settings of the sink.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Minimum confidence of a war.
    pub(crate) min_confidence: Confidence,
    /// Labels that every alert has.
    pub(crate) labels: Labels,
    /// The address of the page, for links.
    pub(crate) page_url: Option<String>,
    /// The contexts in the users' kubeconfig, for the commands of remedies.
    pub(crate) contexts: Contexts,
}

/// The sink: wakes up the task that posts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Alertmanager(Arc<Notify>);

impl Sink for Alertmanager {
    fn publish(&self, changes: &Changes<'_>) {
        if !changes.transitions.is_empty() {
            self.0.notify_one();
        }
    }
}

/// Posts alerts to one Alertmanager and its peers.
pub(crate) struct Poster {
    /// What the alerts are about.
    pub(crate) pipeline: Arc<Pipeline>,
    /// Classifies the actors.
    pub(crate) classes: Arc<ActorClassifier>,
    /// Counts what was posted.
    pub(crate) metrics: Metrics,
    /// Settings.
    pub(crate) settings: Settings,
    /// All peers. Each must know all alerts.
    pub(crate) peers: Vec<Endpoint>,
}

/// A peer, and what it does not know yet.
struct Peer {
    endpoint: Endpoint,
    resolved: Vec<Value>,
    backoff: Backoff,
    /// When the next attempt after a failure is due.
    retry: Option<Instant>,
    renewed: Option<Instant>,
}

/// The alerts, and on which events they are based.
#[derive(Default)]
struct Evaluation {
    alerts: Alerts,
    update: Update,
    /// When they were evaluated, and the number of events at that time.
    based_on: Option<(Instant, u64)>,
    took: Duration,
    /// Whether it was logged that there are too many objects.
    is_cut: bool,
}

// === impl Poster ===

impl Poster {
    /// Posts alerts until the server stops. Alerts that fire then end by themselves unless the server is started again.
    pub(crate) async fn run(self, wake: Alertmanager, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = self.post(&wake) => {}
            _ = stop.wait_for(|stops| *stops) => {}
        }
    }

    async fn post(self, wake: &Alertmanager) {
        let Poster { pipeline, classes, metrics, settings, peers } = self;
        let mut peers: Vec<Peer> = peers.into_iter().map(Peer::new).collect();
        let mut evaluation = Evaluation::default();
        loop {
            let (pipeline, classes, shared) = (pipeline.clone(), classes.clone(), settings.clone());
            let next =
                move || evaluation.next(&Reporter::new(&pipeline, &classes).with_contexts(&shared.contexts), &shared);
            evaluation = match tokio::task::spawn_blocking(next).await {
                Ok(next) => next,
                Err(error) => {
                    tracing::error!(%error, "alerts cannot be evaluated");
                    Evaluation::default()
                }
            };
            let now = clock::now();
            let resolved: Vec<Value> =
                evaluation.update.resolved.iter().map(|alert| settings.json(alert, now)).collect();
            let firing: Vec<Value> =
                evaluation.alerts.firing().map(|alert| settings.json(alert, now + LASTS)).collect();
            for peer in &mut peers {
                peer.add_resolved(&resolved);
                if evaluation.update.is_news {
                    peer.renewed = None;
                }
            }
            futures_util::future::join_all(peers.iter_mut().map(|peer| peer.post(&firing, &metrics))).await;
            let next = peers.iter().map(Peer::next).min().unwrap_or_else(|| Instant::now() + RENEW);
            let news = async {
                wake.0.notified().await;
                tokio::time::sleep(GATHER.max(evaluation.took * GATHER_TIMES)).await;
            };
            tokio::select! {
                () = news => {}
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }
}

// === impl Evaluation ===

impl Evaluation {
    /// Finds out which alerts fire now.
    fn next(mut self, reporter: &Reporter<'_>, settings: &Settings) -> Evaluation {
        let started = Instant::now();
        let events = reporter.pipeline.stats().counters.events;
        self.update = Update::default();
        // Only events change a verdict.
        let is_current = self.based_on.is_some_and(|(at, number)| number == events && at.elapsed() < EVALUATE);
        if !is_current {
            let (rows, omitted) = reporter.loud_wars(OBJECTS_MAX);
            if omitted > 0 && !self.is_cut {
                tracing::warn!(omitted, "too many objects are fought over: the least urgent ones make no alerts");
            }
            self.is_cut = omitted > 0;
            let is_known = |row: &OverviewRow| is_fed(reporter, row);
            self.update = self.alerts.update(rows.into_iter().filter(is_known).collect(), settings.min_confidence);
            self.add_remedies(reporter);
            self.based_on = Some((started, events));
            self.took = started.elapsed();
        }
        self
    }

    /// Adds the best remedy for the first object of each new alert. All are found at once, since this looks at all objects.
    fn add_remedies(&mut self, reporter: &Reporter<'_>) {
        let without: Vec<_> = self.alerts.without_remedy().collect();
        let keys: Vec<ObjectKey> =
            without.iter().filter_map(|(_, alert)| Some((&alert.rows.first()?.object).into())).collect();
        let mut found = if keys.is_empty() { Vec::new() } else { reporter.wars_of(&keys) };
        for (pair, alert) in without {
            let Some(object) = alert.rows.first().map(|row| row.object.clone()) else { continue };
            let is_its =
                |war: &War| war.object == object && pair.is(war.parties.iter().map(|party| party.actor.as_str()));
            let war = found.iter_mut().find(|war| is_its(war));
            let remedy = war.and_then(|war| war.remedies.drain(..).next());
            // Without a remedy, it is not looked for again.
            let text = remedy.map(|remedy| format!("{}: {}", escape::text(&remedy.title), remedy.command));
            alert.annotations.insert(REMEDY.to_owned(), text.unwrap_or_default());
        }
    }
}

/// Whether the cluster of a war has sent an event in the last day. Until then, a war counts as going on, because nothing is
/// known; a cluster that is gone for good must not alert forever.
fn is_fed(reporter: &Reporter<'_>, row: &OverviewRow) -> bool {
    let latest = reporter.pipeline.latest_of(&row.object.cluster);
    latest.is_some_and(|latest| clock::now().saturating_sub(latest) < GONE_AFTER)
}

// === impl Settings ===

impl Settings {
    /// Returns an alert as the API of Alertmanager takes it.
    /// <https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml>
    fn json(&self, alert: &Alert, ends: Micros) -> Value {
        let mut labels = self.labels.clone();
        labels.extend(alert.labels.clone());
        let mut json = json!({
            "labels": labels,
            "annotations": alert.annotations,
            // A clock may be behind the events.
            "startsAt": time::text(alert.since.min(ends)),
            "endsAt": time::text(ends),
        });
        if let Some(page) = &self.page_url {
            json["generatorURL"] = link(page, alert).into();
        }
        json
    }
}

/// Returns the link to the object, or to the wars of these actors.
fn link(page: &str, alert: &Alert) -> String {
    let page = page.trim_end_matches('/');
    match &*alert.rows {
        [row] => format!("{page}/#/object/{}", row.object.path()),
        rows => {
            let mut query = form_urlencoded::Serializer::new(String::new());
            let actors: Vec<&str> = rows.iter().take(1).flat_map(|row| &row.actors).map(|a| a.actor.as_str()).collect();
            query.append_pair("q", &actors.join(" "));
            if let Some(cluster) = alert.labels.get("cluster") {
                query.append_pair("cluster", cluster);
            }
            format!("{page}/#/wars?{}", query.finish())
        }
    }
}

// === impl Peer ===

impl Peer {
    fn new(endpoint: Endpoint) -> Peer {
        Peer {
            endpoint,
            resolved: Vec::new(),
            backoff: Backoff::between(RETRY[0], RETRY[1]),
            retry: None,
            renewed: None,
        }
    }

    /// Adds alerts that have ended. If the peer is gone for so long that there are too many, it does not learn of the oldest
    /// ones: they end by themselves.
    fn add_resolved(&mut self, resolved: &[Value]) {
        self.resolved.extend_from_slice(resolved);
        let excess = self.resolved.len().saturating_sub(RESOLVED_MAX);
        self.resolved.drain(..excess);
    }

    /// Returns when something must be posted.
    fn next(&self) -> Instant {
        match (self.retry, self.renewed) {
            (Some(at), _) => at,
            (None, Some(renewed)) => renewed + RENEW,
            (None, None) => Instant::now(),
        }
    }

    /// Posts everything that is due. Alerts that have ended come first: an alert that begins again with the same labels must
    /// not be ended by an older message.
    async fn post(&mut self, firing: &[Value], metrics: &Metrics) {
        if self.next() > Instant::now() {
            return;
        }
        let all: Vec<Value> = self.resolved.iter().chain(firing).cloned().collect();
        for (number, alerts) in all.chunks(ALERTS_PER_REQUEST).enumerate() {
            let body = Bytes::from(serde_json::to_vec(alerts).expect("alerts are JSON"));
            let Err(failure) = self.endpoint.post("application/json", body, POSTED_WITHIN).await else {
                metrics.count_notifications(SINK, "sent", alerts.len());
                continue;
            };
            let error = format!("{:#}", failure.error);
            if !failure.is_temporary {
                // They will not be accepted later either, and must not keep others from being posted.
                metrics.count_notifications(SINK, "dropped", alerts.len());
                tracing::warn!(host = self.endpoint.host(), error, "Alertmanager rejects alerts");
                continue;
            }
            metrics.count_notifications(SINK, "failed", alerts.len());
            if self.retry.is_none() {
                tracing::warn!(host = self.endpoint.host(), error, "Alertmanager does not accept alerts; trying again");
            }
            self.retry = Some(Instant::now() + self.backoff.next());
            self.resolved.drain(..(number * ALERTS_PER_REQUEST).min(self.resolved.len()));
            return;
        }
        self.backoff.reset();
        if self.retry.take().is_some() {
            tracing::info!(host = self.endpoint.host(), "Alertmanager accepts alerts again");
        }
        self.resolved.clear();
        self.renewed = Some(Instant::now());
    }
}
