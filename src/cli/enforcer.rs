//! What an enforcer needs to be put together: a client, who it is, which objects it may pause.

use std::sync::Arc;

use anyhow::{Context, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{Enforce, Mode, Sure};
use crate::detect::verdict::Confidence;
use crate::enforce::plan::Rules;
use crate::enforce::run::{self, Enforcer, Link, Place, Selection};
use crate::pipeline::Pipeline;
use crate::reconcile::apply::{Reconciler, Settings};
use crate::telemetry::control::Control;
use crate::telemetry::metrics::Metrics;

/// The account that is taken for ours while the API server does not say: that of the manifests.
const ACCOUNT: &str = "system:serviceaccount:editwar:editwar";
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// Access to a cluster.
pub(super) struct Access {
    client: kube::Client,
    pub(super) place: Place,
}

// === impl Access ===

impl Access {
    /// Access as the configuration says; the API server need not be there yet.
    pub(super) async fn of(enforce: &Enforce) -> Result<Access> {
        let client = client(enforce).await?;
        let account = match run::account(&client).await {
            Ok(account) => account,
            Err(error) => {
                tracing::warn!(%error, account = ACCOUNT, "cannot ask who we are; taken for granted");
                ACCOUNT.to_owned()
            }
        };
        let own = || std::fs::read_to_string(NAMESPACE_FILE).ok().map(|text| text.trim().to_owned());
        let namespace = enforce.lease_namespace.clone().or_else(own).unwrap_or_else(|| "editwar".to_owned());
        let host = std::env::var("HOSTNAME").unwrap_or_else(|_| "editwar".to_owned());
        let identity = format!("{host}-{}", std::process::id());
        Ok(Access { client, place: Place { account, namespace, identity } })
    }

    /// Starts what the configuration asks for.
    pub(super) fn start(
        self,
        (pipeline, metrics): (Arc<Pipeline>, Metrics),
        enforce: &Enforce,
        control: &Control,
        stop: &watch::Sender<bool>,
    ) -> Vec<JoinHandle<()>> {
        let confidence = match enforce.confidence {
            Sure::Possible => Confidence::Possible,
            Sure::Probable => Confidence::Probable,
        };
        let fresh_for = enforce.fresh_for.micros();
        let rules = Rules { confidence, per_minute: enforce.per_minute.get() as usize, fresh_for };
        let (link, identity) = (Link::default(), self.place.identity.clone());
        let enforcer = Enforcer::new(
            self.client.clone(),
            (pipeline.clone(), metrics.clone()),
            selection(enforce),
            self.place,
            rules,
            control.clone(),
            link.clone(),
        );
        let leading = enforcer.leading();
        let mut tasks = vec![tokio::spawn(enforcer.run(stop.subscribe()))];
        if enforce.mode == Mode::Reconcile {
            let settings = Settings {
                directory: enforce.assets.clone(),
                field_manager: enforce.field_manager.clone(),
                managed_by: enforce.managed_by.clone(),
                confidence,
                fresh_for,
            };
            let golden = metrics.golden.clone();
            let reconciler =
                Reconciler::new(self.client, (pipeline, golden), settings, &identity, link, control.clone());
            tasks.push(tokio::spawn(reconciler.run(leading, stop.subscribe())));
        }
        tasks
    }
}

/// A client of the API server that the configuration names.
///
/// # Errors
/// Where there is none.
pub(super) async fn client(enforce: &Enforce) -> Result<kube::Client> {
    drop(rustls::crypto::ring::default_provider().install_default());
    let options = KubeConfigOptions::default();
    let config = match &enforce.kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).with_context(|| path.display().to_string())?;
            kube::Config::from_custom_kubeconfig(file, &options).await.context("enforce.kubeconfig")?
        }
        None => kube::Config::infer().await.context("no API server is known: name one with --kubeconfig")?,
    };
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
        except: enforce.except_namespaces.clone(),
        labels: enforce.labels.clone(),
        annotations: enforce.annotations.clone(),
    }
}
