//! A reconciler that asks editwar before it writes. It keeps data.color of each ConfigMap with the label example=desired at
//! "green". README.md in the parent directory explains the pattern.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::runtime::{Controller, controller::Action, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tracing::{info, warn};

/// The annotation that stops the reconcilers of an object. editwar's enforcer sets it, or a person.
const PAUSED: &str = "platform.kubevirt.io/reconcile-paused";

/// The part of editwar's answer that this reconciler needs.
#[derive(serde::Deserialize)]
struct Decision {
    allowed: bool,
    reason: String,
    retry_at: Option<Timestamp>,
}

struct Context {
    client: Client,
    editwar: reqwest::Client,
    /// The objects that are not written, and "editwar" while it does not answer, so that each is logged once.
    logged: Mutex<HashSet<String>>,
}

async fn reconcile(config_map: Arc<ConfigMap>, context: Arc<Context>) -> Result<Action, kube::Error> {
    let (namespace, name) = (config_map.namespace().unwrap_or_default(), config_map.name_any());
    // RESOURCE.GROUP/NAMESPACE/NAME, as in deployments.apps/shop/web. The core group has no name.
    let object = format!("configmaps/{namespace}/{name}");
    if config_map.data.as_ref().and_then(|data| data.get("color")).is_some_and(|color| color == "green") {
        context.logged.lock().unwrap().remove(&object);
        return Ok(Action::await_change());
    }
    if config_map.annotations().get(PAUSED).is_some_and(|value| value == "true") {
        context.log_once(&object, &format!("not writing {object}: it has the annotation {PAUSED}"));
        // When the annotation is removed, that event starts the next attempt.
        return Ok(Action::await_change());
    }
    if let Some((wait, reason)) = context.must_wait(&object).await {
        context.log_once(&object, &format!("not writing {object}: {reason}"));
        return Ok(Action::requeue(wait));
    }
    context.logged.lock().unwrap().remove(&object);
    info!("writing {object}");
    let patch = Patch::Merge(json!({"data": {"color": "green"}}));
    let config_maps: Api<ConfigMap> = Api::namespaced(context.client.clone(), &namespace);
    match config_maps.patch(&name, &PatchParams::default(), &patch).await {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(Action::await_change()),
        result => result.map(|_| Action::await_change()),
    }
}

impl Context {
    /// Asks editwar whether the object may be written. Returns how long to wait and why, or `None` to write now.
    async fn must_wait(&self, object: &str) -> Option<(Duration, String)> {
        let decision = match self.ask(object).await {
            Ok(decision) => decision,
            Err(error) => {
                // Fail open: go on as if there were no editwar.
                let message = format!("writing without asking, because editwar does not answer: {error:#}");
                self.log_once("editwar", &message);
                return None;
            }
        };
        self.logged.lock().unwrap().remove("editwar");
        if decision.allowed {
            return None;
        }
        // A refusal is over at retry_at. editwar itself takes it back a little later, because events arrive in batches.
        let wait = decision.retry_at?.duration_since(Timestamp::now());
        Some((wait.try_into().ok()?, decision.reason))
    }

    /// Returns the decision on an object.
    async fn ask(&self, object: &str) -> anyhow::Result<Decision> {
        let server = std::env::var("EDITWAR_URL").unwrap_or_else(|_| "http://127.0.0.1:8080".into());
        let mut request = self.editwar.get(format!("{server}/api/v1/objects/{object}/decision"));
        if let Ok(file) = std::env::var("EDITWAR_TOKEN_FILE") {
            // For each request, because Kubernetes renews the token.
            request = request.bearer_auth(tokio::fs::read_to_string(file).await?.trim());
        }
        Ok(request.send().await?.error_for_status()?.json().await?)
    }

    fn log_once(&self, about: &str, message: &str) {
        if self.logged.lock().unwrap().insert(about.to_owned()) {
            warn!("{message}");
        }
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    rustls::crypto::ring::default_provider().install_default().expect("no other provider is installed");
    let client = Client::try_default().await?;
    let editwar = reqwest::Client::builder().timeout(Duration::from_secs(1)).build()?;
    let context = Arc::new(Context { client: client.clone(), editwar, logged: Mutex::default() });
    let retry = |_: Arc<ConfigMap>, _: &kube::Error, _: Arc<Context>| Action::requeue(Duration::from_secs(5));
    Controller::new(Api::<ConfigMap>::all(client), watcher::Config::default().labels("example=desired"))
        .shutdown_on_signal()
        .run(reconcile, retry, context)
        .for_each(|result| async {
            if let Err(error) = result {
                warn!("{error}");
            }
        })
        .await;
    Ok(())
}
