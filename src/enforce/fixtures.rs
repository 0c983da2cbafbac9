//! What the tests of enforcement act on: Deployments in the namespace `shop`, which is fought over, and a Lease.

use std::time::Duration;

use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use super::fake_api::Reply;
use super::means::Means;
use super::pauses::Target;
use super::plan::Verdict;
use super::selection::CLUSTER;
use crate::detect::verdict::{Confidence, State};
use crate::detect::write::ObjectName;
use crate::pipeline::key::ObjectKey;
use crate::telemetry::metrics::{Metrics, SeriesLimits};

pub(super) const LIST: &str = "GET /apis/apps/v1/deployments";
pub(super) const GET_WEB: &str = "GET /apis/apps/v1/namespaces/shop/deployments/web";
pub(super) const PATCH_WEB: &str = "PATCH /apis/apps/v1/namespaces/shop/deployments/web";
pub(super) const GET_SHOP: &str = "GET /api/v1/namespaces/shop";
pub(super) const GET_LEASE: &str = "GET /apis/coordination.k8s.io/v1/namespaces/editwar/leases/editwar";
pub(super) const PUT_LEASE: &str = "PUT /apis/coordination.k8s.io/v1/namespaces/editwar/leases/editwar";
pub(super) const POST_LEASE: &str = "POST /apis/coordination.k8s.io/v1/namespaces/editwar/leases";

/// Returns the key of the Deployment `web`.
pub(super) fn key() -> ObjectKey {
    key_in("shop")
}

/// Returns the key of a Deployment `web` in another namespace.
pub(super) fn key_in(namespace: &str) -> ObjectKey {
    ObjectKey::new(CLUSTER, &ObjectName { group: "apps", resource: "deployments", namespace, name: "web" })
}

/// Returns the Deployment `web` with this uid, as it was read earlier.
pub(super) fn target(uid: &str) -> Target {
    let kind = GroupVersionKind::gvk("apps", "v1", "Deployment");
    Target {
        resource: ApiResource::from_gvk_with_plural(&kind, "deployments"),
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        uid: Some(uid.to_owned()),
    }
}

/// Returns the metadata of the Deployment `web` with this uid, paused or not.
pub(super) fn web(uid: &str, is_paused: bool) -> Value {
    let annotations = if is_paused {
        json!({"platform.kubevirt.io/reconcile-paused": "true",
            "platform.kubevirt.io/reconcile-paused-because": "alice and bob fight over spec.replicas"})
    } else {
        json!({})
    };
    json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata",
        "metadata": {"name": "web", "namespace": "shop", "uid": uid, "annotations": annotations}})
}

/// Returns the response with the Deployment `web`.
pub(super) fn found(uid: &str, is_paused: bool) -> Reply {
    Reply::Json(200, web(uid, is_paused))
}

/// Returns the response with a page of a list.
pub(super) fn page(items: &[Value], next: &str) -> Reply {
    let metadata = json!({"resourceVersion": "5", "continue": next});
    Reply::Json(
        200,
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
            "metadata": metadata, "items": items}),
    )
}

/// Returns the response with a namespace, where pauses are switched off or not.
pub(super) fn namespace(is_switched_off: bool) -> Reply {
    let annotations = if is_switched_off { json!({"editwar.dev/enforce": "off"}) } else { json!({}) };
    let metadata = json!({"name": "a", "annotations": annotations});
    Reply::Json(200, json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata}))
}

/// Returns the metrics of a server.
pub(super) fn metrics() -> Metrics {
    Metrics::new(SeriesLimits { max_objects: 2, max_actors_per_object: 2, ttl: Duration::from_secs(60) })
}

/// Returns the response with the Lease. An empty holder stands for none.
pub(super) fn lease(holder: &str, revision: &str) -> Reply {
    Reply::Json(
        200,
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "editwar", "namespace": "editwar", "resourceVersion": revision},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": 10, "leaseTransitions": 3,
                "acquireTime": "2026-11-23T02:00:00.000000Z", "renewTime": "2026-11-23T02:00:00.000000Z"}}),
    )
}

/// Returns the verdict on an object that is fought over.
pub(super) fn verdict() -> Verdict {
    Verdict {
        state: State::Sustained,
        confidence: Confidence::Confirmed,
        until: Some(1_795_400_000_000_000),
        parties: vec!["alice".into(), "bob".into()],
        over: "spec.replicas (3 ⇄ 5)".to_owned(),
        retakes: 12,
        since: None,
        removal: None,
        is_unmanaged: false,
        means: Some(Means::Annotations),
    }
}
