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

use super::Endpoint;
use super::grouping::{Alert, Alerts, Labels};
use crate::audit::event::Micros;
use crate::detect::actor_class::ActorClassifier;
use crate::detect::verdict::Confidence;
use crate::notify::{Changes, Sink};
use crate::pipeline::Pipeline;
use crate::pipeline::key::ObjectKey;
use crate::query::reporter::Reporter;
use crate::query::views::{OverviewRow, time};
use crate::telemetry::metrics::Metrics;
use crate::util::clock;

/// Interval at which all alerts are posted again.
const RENEW: Duration = Duration::from_secs(30);
/// How long an alert lasts that is not renewed: longer than a restart takes.
const LASTS: Micros = 5 * 60 * 1_000_000;
/// Time after a transition within which others are awaited.
const GATHER: Duration = Duration::from_secs(1);
/// Times between attempts if a peer does not accept alerts: doubled from the first to the last.
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
    /// Keys of the labels of objects that say who owns them.
    pub(crate) owner_labels: Vec<String>,
    /// Labels that every alert has.
    pub(crate) labels: Labels,
    /// The address of the page, for links.
    pub(crate) page_url: Option<String>,
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
    /// Time before the next attempt after a failure, and when that is.
    retry: Option<(Duration, Instant)>,
    renewed: Option<Instant>,
}

// === impl Poster ===

impl Poster {
    /// Posts alerts until the server stops. Alerts that fire then end by themselves unless the server is started again.
    pub(crate) async fn run(self, wake: Alertmanager, mut stop: watch::Receiver<bool>) {
        let Poster { pipeline, classes, metrics, settings, peers } = self;
        let mut peers: Vec<Peer> = peers.into_iter().map(Peer::new).collect();
        let mut alerts = Alerts::default();
        loop {
            let (update, firing);
            (alerts, update, firing) = {
                let (pipeline, classes, settings) = (pipeline.clone(), classes.clone(), settings.clone());
                let evaluated = tokio::task::spawn_blocking(move || evaluate(alerts, &pipeline, &classes, &settings));
                evaluated.await.expect("alerts can be evaluated")
            };
            let resolved: Vec<Value> = update.resolved.iter().map(|alert| settings.json(alert, clock::now())).collect();
            for peer in &mut peers {
                peer.add_resolved(&resolved);
                if update.is_news {
                    peer.renewed = None;
                }
            }
            futures_util::future::join_all(peers.iter_mut().map(|peer| peer.post(&firing, &metrics))).await;
            let next = peers.iter().map(Peer::next).min().unwrap_or_else(|| Instant::now() + RENEW);
            let news = async {
                wake.0.notified().await;
                tokio::time::sleep(GATHER).await;
            };
            tokio::select! {
                () = news => {}
                () = tokio::time::sleep_until(next) => {}
                _ = stop.wait_for(|stops| *stops) => return,
            }
        }
    }
}

/// Finds the alerts that fire, and returns them as JSON.
fn evaluate(
    mut alerts: Alerts,
    pipeline: &Pipeline,
    classes: &ActorClassifier,
    settings: &Settings,
) -> (Alerts, super::grouping::Update, Vec<Value>) {
    let reporter = Reporter::new(pipeline, classes);
    let (rows, _) = reporter.overview(OBJECTS_MAX, &settings.owner_labels);
    let update = alerts.update(rows, settings.min_confidence);
    for alert in alerts.firing_mut() {
        let remedy = alert.rows.first().and_then(|row| remedy(&reporter, row));
        alert.annotations.extend(remedy.map(|remedy| ("remedy".to_owned(), remedy)));
    }
    let ends = clock::now() + LASTS;
    let firing = alerts.firing().map(|alert| settings.json(alert, ends)).collect();
    (alerts, update, firing)
}

/// Returns the best remedy for the war of a row, as a sentence and a command.
fn remedy(reporter: &Reporter<'_>, row: &OverviewRow) -> Option<String> {
    let remedy = reporter.wars(&ObjectKey::from(&row.object)).into_iter().next()?.remedies.into_iter().next()?;
    Some(format!("{}: {}", remedy.title, remedy.command))
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
        Peer { endpoint, resolved: Vec::new(), retry: None, renewed: None }
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
            (Some((_, at)), _) => at,
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
        let all: Vec<&Value> = self.resolved.iter().chain(firing).collect();
        for alerts in all.chunks(ALERTS_PER_REQUEST) {
            let body = Bytes::from(serde_json::to_vec(alerts).expect("alerts are JSON"));
            if let Err(failure) = self.endpoint.post("application/json", body).await {
                metrics.count_notifications(SINK, "failed", alerts.len());
                let wait = self.retry.map_or(RETRY[0], |(wait, _)| (wait * 2).min(RETRY[1]));
                if self.retry.is_none() {
                    let error = format!("{:#}", failure.error);
                    tracing::warn!(url = %self.endpoint.url(), error, "Alertmanager does not accept alerts; trying again");
                }
                self.retry = Some((wait, Instant::now() + wait));
                if !failure.is_temporary {
                    // They will not be accepted later either, and must not keep others from being posted.
                    self.resolved.clear();
                }
                return;
            }
            metrics.count_notifications(SINK, "sent", alerts.len());
        }
        if self.retry.take().is_some() {
            tracing::info!(url = %self.endpoint.url(), "Alertmanager accepts alerts again");
        }
        self.resolved.clear();
        self.renewed = Some(Instant::now());
    }
}
