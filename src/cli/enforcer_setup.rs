//! Creates the enforcer and its dependencies from the configuration: clients, identity, and the selection of objects.

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::{Context, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::shared_log::SharedLog;
use crate::config::{Enforce, Mode};
use crate::enforce::calls::{CALL, CONNECT, SILENCE};
use crate::enforce::control::Control;
use crate::enforce::controller::{self, Enforcer, Parts, ReplicaIdentity};
use crate::enforce::events::Events;
use crate::enforce::inbox::Inbox;
use crate::enforce::kill_switch::KillSwitch;
use crate::enforce::leader_election::LeaderElector;
use crate::enforce::lease::Lease;
use crate::enforce::pause_client::Kind;
use crate::enforce::pauses::Pauses;
use crate::enforce::plan::Rules;
use crate::enforce::selection::Selection;
use crate::notify::LiftedPauses;
use crate::pipeline::Pipeline;
use crate::reconcile::controller::{Reconciler, Settings};
use crate::reconcile::manifest::Assets;
use crate::telemetry::metrics::Metrics;
use crate::util::readiness::Readiness;

/// The account that is assumed if the API server cannot be queried: the one in the manifests.
const ACCOUNT: &str = "system:serviceaccount:editwar:editwar";
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Clients and identity for a cluster.
pub(super) struct ClusterAccess {
    client: kube::Client,
    /// A client for the kill switch alone, so that it shares no connection or queue with calls that may be slow.
    killing: kube::Client,
    events: Events,
    pauses: Pauses,
    /// The sink of the enforcer.
    pub(super) inbox: Inbox,
    pub(super) replica: ReplicaIdentity,
}

// === impl ClusterAccess ===

impl ClusterAccess {
    /// Creates the clients as configured. The API server does not have to be reachable yet.
    pub(super) async fn of(enforce: &Enforce) -> Result<ClusterAccess> {
        let client = client(enforce).await?;
        let account = match controller::account(&client).await {
            Ok(account) => account,
            Err(error) => {
                tracing::warn!(%error, account = ACCOUNT, "cannot query the account of this client; assuming the default");
                ACCOUNT.to_owned()
            }
        };
        let own = || std::fs::read_to_string(NAMESPACE_FILE).ok().map(|text| text.trim().to_owned());
        let namespace = enforce.lease_namespace.clone().or_else(own).unwrap_or_else(|| "editwar".to_owned());
        let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "editwar".to_owned());
        let identity = format!("{host}-{}", std::process::id());
        Ok(ClusterAccess {
            killing: self::client(enforce).await?,
            events: Events::new(client.clone(), &identity),
            client,
            pauses: Pauses::default(),
            inbox: Inbox::default(),
            replica: ReplicaIdentity { account, namespace, identity },
        })
    }

    /// Starts the kill switch. From then on it works independently of the other tasks.
    pub(super) fn start_kill_switch(
        &self,
        enforce: &Enforce,
        metrics: &Metrics,
        control: &Control,
        stop: &watch::Sender<bool>,
    ) -> JoinHandle<()> {
        let resources = selection(enforce).paused_resources();
        let mut kinds: BTreeSet<Kind> =
            resources.into_iter().map(|(name, group)| Kind::Resource(name, group)).collect();
        if enforce.mode == Mode::Reconcile {
            // Objects of the Golden State may be paused too. If they cannot be read, the reconciler reports that.
            let mut assets = Assets::default();
            drop(assets.read(&enforce.assets));
            kinds.extend(assets.by_id().into_keys().map(|id| Kind::Manifest(id.api_version, id.kind)));
        }
        let (client, events, kinds) = (self.killing.clone(), self.events.clone(), kinds.into_iter().collect());
        let switch = KillSwitch::new(client, events, self.pauses.clone(), kinds, control.clone(), metrics);
        tokio::spawn(switch.run(stop.subscribe()))
    }

    /// Starts the configured tasks.
    pub(super) fn start(
        self,
        pipeline: Arc<Pipeline>,
        metrics: Metrics,
        enforce: &Enforce,
        control: &Control,
        log: Option<&SharedLog>,
        stop: &watch::Sender<bool>,
    ) -> Vec<JoinHandle<()>> {
        let readiness = log.map_or_else(Readiness::always, SharedLog::readiness);
        let lifted_pauses = log.map_or_else(|| pipeline.clone() as Arc<dyn LiftedPauses>, SharedLog::lifted_pauses);
        let confidence = enforce.min_confidence;
        let max_event_age = enforce.max_event_age.micros();
        let rules =
            Rules { confidence, max_pauses_per_minute: enforce.max_pauses_per_minute.get() as usize, max_event_age };
        let ReplicaIdentity { account, namespace, identity } = self.replica;
        let selection = selection(enforce);
        announce(&selection, enforce.mode);
        let inbox = self.inbox;
        let (elector, leadership) =
            LeaderElector::new(Lease::new(self.client.clone(), &namespace, "editwar", &identity), readiness);
        let enforcer = Enforcer::new(Parts {
            client: self.client.clone(),
            pipeline: pipeline.clone(),
            lifted_pauses,
            metrics: metrics.clone(),
            selection,
            account,
            rules,
            control: control.clone(),
            inbox: inbox.clone(),
            pauses: self.pauses,
            leadership: leadership.clone(),
            events: self.events.clone(),
        });
        let mut tasks = vec![tokio::spawn(enforcer.run(stop.subscribe()))];
        if enforce.mode == Mode::Reconcile {
            let settings = Settings {
                directory: enforce.assets.clone(),
                field_manager: enforce.field_manager.clone(),
                managed_by: enforce.managed_by.clone(),
                confidence,
                max_event_age,
            };
            let golden = metrics.golden_state.clone();
            let reconciler =
                Reconciler::new(self.client, pipeline, golden, settings, self.events, inbox, control.clone());
            tasks.push(tokio::spawn(reconciler.run(leadership, stop.subscribe())));
        } else {
            drop(leadership);
        }
        // Ends when no task holds a `Leadership` any more.
        tasks.push(tokio::spawn(elector.run()));
        tasks
    }
}

/// Logs at startup which objects may be paused, and which labels and annotations they need for that.
fn announce(selection: &Selection, mode: Mode) {
    tracing::info!(selection = %selection, "only these objects can be paused");
    if selection.resources.is_empty() && mode == Mode::Pause {
        tracing::warn!("enforce.resources is empty, so no object can be paused");
    }
    if !selection.annotations.is_empty() || !selection.labels.is_empty() {
        tracing::info!(
            annotations = ?selection.annotations,
            labels = ?selection.labels,
            "only objects that carry all of these can be paused; --set 'enforce.annotations={{}}' removes this requirement"
        );
    }
}

/// Creates a client of the configured API server.
///
/// # Errors
/// No API server is configured, or its configuration is not valid.
pub(super) async fn client(enforce: &Enforce) -> Result<kube::Client> {
    drop(rustls::crypto::ring::default_provider().install_default());
    let options = KubeConfigOptions::default();
    let mut config = match &enforce.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).with_context(|| path.display().to_string())?;
            kube::Config::from_custom_kubeconfig(file, &options).await.context("enforce.kubeconfig")?
        }
        None => kube::Config::infer().await.context("no API server is configured: set --kubeconfig")?,
    };
    config.connect_timeout = Some(CONNECT);
    config.write_timeout = Some(CALL);
    // Also for watches, which have no timeout of their own before their first response.
    config.read_timeout = Some(SILENCE);
    config.reset_reader_on_write = true;
    // Each task retries its calls itself, less often, and says why they fail. kube would repeat a call that is answered
    // with 429, 503 or 504 until its timeout, and hide the reason.
    config.default_retry = false;
    kube::Client::try_from(config).context("enforce.kubeconfig")
}

fn selection(enforce: &Enforce) -> Selection {
    let split = |resource: &String| {
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        (resource.to_owned(), group.to_owned())
    };
    Selection {
        resources: enforce.resources.iter().map(split).collect(),
        namespaces: enforce.namespaces.clone(),
        except: enforce.excluded_namespaces.clone(),
        labels: enforce.labels.clone(),
        annotations: enforce.annotations.clone(),
        tools: enforce.tools.clone(),
    }
}
