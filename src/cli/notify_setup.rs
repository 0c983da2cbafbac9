//! Creates the sinks that send wars to other systems, as configured.

use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::alert::alertmanager::{self, Alertmanager};
use crate::alert::cloud_events::{self, CloudEvents, Receiver};
use crate::config::{AlertmanagerConfig, CloudEventsConfig, Config};
use crate::ingest::kafka::log::Log;
use crate::notify::Sink;
use crate::pipeline::Pipeline;
use crate::telemetry::metrics::Metrics;
use crate::util::endpoint::{Credentials, Endpoint};

/// The sinks, and the tasks that post what they receive.
#[derive(Default)]
pub(super) struct Notifications {
    alertmanager: Option<(Alertmanager, alertmanager::Poster)>,
    cloud_events: Vec<(CloudEvents, cloud_events::Poster)>,
}

// === impl Notifications ===

impl Notifications {
    /// Creates what is configured.
    ///
    /// # Errors
    /// A URL or a file with certificates is not valid.
    pub(super) fn of(
        config: &Config,
        pipeline: &Arc<Pipeline>,
        metrics: &Metrics,
        log: Option<&Log>,
    ) -> Result<Notifications> {
        let classes = Arc::new(config.classes());
        let page_url = config.notify.page_url.clone();
        let mut notifications = Notifications::default();
        let AlertmanagerConfig { urls, min_confidence, labels, token_file, ca_file } = &config.notify.alertmanager;
        if !urls.is_empty() {
            let credentials = Credentials { token_file: token_file.clone(), ca_file: ca_file.clone() };
            let peer =
                |url: &String| Endpoint::new(&format!("{}/api/v2/alerts", url.trim_end_matches('/')), &credentials);
            let peers = urls.iter().map(peer).collect::<Result<_>>().context("notify.alertmanager")?;
            let settings = alertmanager::Settings {
                min_confidence: *min_confidence,
                labels: labels.clone(),
                page_url: page_url.clone(),
                contexts: config.contexts(),
            };
            let (pipeline, classes, metrics) = (pipeline.clone(), classes.clone(), metrics.clone());
            let poster = alertmanager::Poster { pipeline, classes, metrics, settings, peers };
            notifications.alertmanager = Some((Alertmanager::default(), poster));
        }
        let CloudEventsConfig { url, source, token_file, ca_file } = &config.notify.cloud_events;
        let mut receivers = Vec::new();
        if let Some(url) = url {
            let credentials = Credentials { token_file: token_file.clone(), ca_file: ca_file.clone() };
            receivers.push(Receiver::Http(Endpoint::new(url, &credentials).context("notify.cloud_events")?));
        }
        receivers.extend(log.and_then(|log| log.transitions.clone()).map(Receiver::Topic));
        let source = source.clone().or(page_url).unwrap_or_else(|| "/editwar".to_owned());
        for receiver in receivers {
            let sink = CloudEvents::new(metrics.clone(), &receiver, log.map(|log| log.turn.clone()));
            let poster = cloud_events::Poster {
                pipeline: pipeline.clone(),
                classes: classes.clone(),
                metrics: metrics.clone(),
                receiver,
                source: source.clone(),
            };
            notifications.cloud_events.push((sink, poster));
        }
        Ok(notifications)
    }

    /// Returns the sinks. They must not receive what a replay of the journal changes.
    pub(super) fn sinks(&self) -> Vec<Arc<dyn Sink>> {
        let alertmanager = self.alertmanager.iter().map(|(sink, _)| Arc::new(sink.clone()) as Arc<dyn Sink>);
        let cloud_events = self.cloud_events.iter().map(|(sink, _)| Arc::new(sink.clone()) as Arc<dyn Sink>);
        alertmanager.chain(cloud_events).collect()
    }

    /// Returns the sinks that keep transitions until one of several replicas has published them. They receive what was in the
    /// log that the replicas share, too.
    pub(super) fn unpublished(&self) -> Vec<CloudEvents> {
        self.cloud_events.iter().map(|(sink, _)| sink.clone()).collect()
    }

    /// Starts to post. The journal must have been replayed.
    pub(super) fn start(self, stop: &watch::Sender<bool>) -> Vec<JoinHandle<()>> {
        let alertmanager = self.alertmanager.map(|(sink, poster)| tokio::spawn(poster.run(sink, stop.subscribe())));
        let cloud_events =
            self.cloud_events.into_iter().map(|(sink, poster)| tokio::spawn(poster.run(sink, stop.subscribe())));
        alertmanager.into_iter().chain(cloud_events).collect()
    }
}
