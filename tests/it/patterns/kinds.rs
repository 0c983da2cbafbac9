//! Kinds of objects: their API resource, a plain object, and the server's defaulting.

use serde_json::{Value, json};

/// A kind of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kind {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) resource: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) is_namespaced: bool,
    /// Whether it is a custom resource, which is neither defaulted nor normalised.
    pub(crate) is_custom: bool,
    /// Whether the status can only be written through its subresource.
    pub(crate) has_status_apart: bool,
    /// The path that `scale` writes.
    pub(crate) replicas_path: &'static str,
}

const fn built_in(group: &'static str, version: &'static str, resource: &'static str, kind: &'static str) -> Kind {
    Kind {
        group,
        version,
        resource,
        kind,
        is_namespaced: true,
        is_custom: false,
        has_status_apart: true,
        replicas_path: "spec.replicas",
    }
}

const fn clusterwide(group: &'static str, version: &'static str, resource: &'static str, kind: &'static str) -> Kind {
    Kind { is_namespaced: false, ..built_in(group, version, resource, kind) }
}

pub(crate) const fn custom(
    group: &'static str,
    version: &'static str,
    resource: &'static str,
    kind: &'static str,
) -> Kind {
    Kind { is_custom: true, ..built_in(group, version, resource, kind) }
}

pub(crate) const DEPLOYMENT: Kind = built_in("apps", "v1", "deployments", "Deployment");
pub(crate) const STATEFUL_SET: Kind = built_in("apps", "v1", "statefulsets", "StatefulSet");
pub(crate) const DAEMON_SET: Kind = built_in("apps", "v1", "daemonsets", "DaemonSet");
pub(crate) const REPLICA_SET: Kind = built_in("apps", "v1", "replicasets", "ReplicaSet");
pub(crate) const CONFIG_MAP: Kind = built_in("", "v1", "configmaps", "ConfigMap");
pub(crate) const SECRET: Kind = built_in("", "v1", "secrets", "Secret");
pub(crate) const SERVICE: Kind = built_in("", "v1", "services", "Service");
pub(crate) const SERVICE_ACCOUNT: Kind = built_in("", "v1", "serviceaccounts", "ServiceAccount");
pub(crate) const POD: Kind = built_in("", "v1", "pods", "Pod");
pub(crate) const CLAIM: Kind = built_in("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim");
pub(crate) const VOLUME: Kind = clusterwide("", "v1", "persistentvolumes", "PersistentVolume");
pub(crate) const ENDPOINTS: Kind = built_in("", "v1", "endpoints", "Endpoints");
pub(crate) const SLICE: Kind = built_in("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice");
pub(crate) const LEASE: Kind = built_in("coordination.k8s.io", "v1", "leases", "Lease");
pub(crate) const QUOTA: Kind = built_in("", "v1", "resourcequotas", "ResourceQuota");
pub(crate) const JOB: Kind = built_in("batch", "v1", "jobs", "Job");
pub(crate) const CRON_JOB: Kind = built_in("batch", "v1", "cronjobs", "CronJob");
pub(crate) const HPA: Kind = built_in("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler");
pub(crate) const INGRESS: Kind = built_in("networking.k8s.io", "v1", "ingresses", "Ingress");
pub(crate) const NAMESPACE: Kind = clusterwide("", "v1", "namespaces", "Namespace");
pub(crate) const NODE: Kind = clusterwide("", "v1", "nodes", "Node");
pub(crate) const CLUSTER_ROLE: Kind = clusterwide("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole");
pub(crate) const WEBHOOKS: Kind = clusterwide(
    "admissionregistration.k8s.io",
    "v1",
    "validatingwebhookconfigurations",
    "ValidatingWebhookConfiguration",
);
pub(crate) const DEFINITION: Kind =
    clusterwide("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition");
pub(crate) const APPLICATION: Kind =
    Kind { has_status_apart: false, ..custom("argoproj.io", "v1alpha1", "applications", "Application") };
pub(crate) const CERTIFICATE: Kind = custom("cert-manager.io", "v1", "certificates", "Certificate");
pub(crate) const KAFKA: Kind = custom("kafka.strimzi.io", "v1beta2", "kafkas", "Kafka");
pub(crate) const SCALED_OBJECT: Kind = custom("keda.sh", "v1alpha1", "scaledobjects", "ScaledObject");
pub(crate) const DATABASE: Kind = custom("db.example.com", "v1", "databases", "Database");
pub(crate) const GATEWAY: Kind = custom("mesh.example.io", "v1beta1", "gateways", "Gateway");
/// A kind with two versions in which one field has different names: `spec.hostName`, then `spec.host`.
pub(crate) const ROUTE_OLD: Kind = custom("routes.example.com", "v1beta1", "routes", "Route");
pub(crate) const ROUTE: Kind = custom("routes.example.com", "v1", "routes", "Route");
/// A kind whose `scale` writes `spec.size`.
pub(crate) const POOL: Kind =
    Kind { replicas_path: "spec.size", ..custom("pool.example.com", "v1alpha1", "workerpools", "WorkerPool") };
/// A kind whose `scale` writes a field three levels deep.
pub(crate) const SHARDED: Kind = Kind {
    replicas_path: "spec.workers.count",
    ..custom("search.example.com", "v1", "searchclusters", "SearchCluster")
};

// === impl Kind ===

impl Kind {
    pub(crate) fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.into() } else { format!("{}/{}", self.group, self.version) }
    }

    /// Returns a name like `deployments.apps`.
    pub(crate) fn full_resource(&self) -> String {
        if self.group.is_empty() { self.resource.into() } else { format!("{}.{}", self.resource, self.group) }
    }

    /// Returns whether objects of this kind have a generation.
    pub(crate) fn has_generation(&self) -> bool {
        self.is_custom || matches!(self.group, "apps" | "batch" | "networking.k8s.io" | "admissionregistration.k8s.io")
    }

    /// Adds the server's defaults to a body, and normalises its values.
    pub(crate) fn complete(&self, body: &mut Value) {
        if self.is_custom {
            return;
        }
        let default = |body: &mut Value, key: &str, value: Value| {
            if body.get(key).is_none() {
                body[key] = value;
            }
        };
        match self.kind {
            "Deployment" => {
                default(&mut body["spec"], "replicas", json!(1));
                default(&mut body["spec"], "revisionHistoryLimit", json!(10));
                default(&mut body["spec"], "progressDeadlineSeconds", json!(600));
                let strategy =
                    json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}});
                default(&mut body["spec"], "strategy", strategy);
            }
            "StatefulSet" => {
                default(&mut body["spec"], "replicas", json!(1));
                default(&mut body["spec"], "podManagementPolicy", json!("OrderedReady"));
            }
            "Service" => {
                default(&mut body["spec"], "type", json!("ClusterIP"));
                default(&mut body["spec"], "sessionAffinity", json!("None"));
                for port in body["spec"]["ports"].as_array_mut().into_iter().flatten() {
                    default(port, "protocol", json!("TCP"));
                }
            }
            "Secret" => default(body, "type", json!("Opaque")),
            _ => {}
        }
        let pod = match self.kind {
            "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" => {
                body.pointer_mut("/spec/template/spec")
            }
            "Pod" => body.get_mut("spec"),
            _ => None,
        };
        if let Some(pod) = pod {
            default(pod, "restartPolicy", json!("Always"));
            default(pod, "dnsPolicy", json!("ClusterFirst"));
            default(pod, "schedulerName", json!("default-scheduler"));
            default(pod, "terminationGracePeriodSeconds", json!(30));
            default(pod, "securityContext", json!({}));
            for container in pod["containers"].as_array_mut().into_iter().flatten() {
                default(container, "imagePullPolicy", json!("IfNotPresent"));
                default(container, "terminationMessagePath", json!("/dev/termination-log"));
                default(container, "resources", json!({}));
                for port in container["ports"].as_array_mut().into_iter().flatten() {
                    default(port, "protocol", json!("TCP"));
                }
                if container["ports"].is_null() {
                    container.as_object_mut().expect("a container").remove("ports");
                }
            }
        }
        canonical("", body);
    }

    /// Returns a plain body without a name.
    pub(crate) fn body(&self) -> Value {
        let pod = json!({"containers": [
            {"name": "web", "image": "registry.example/web:1"},
            {"name": "log", "image": "registry.example/log:1"}
        ]});
        let workload = json!({"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": pod}});
        let mut body = match self.kind {
            "Deployment" | "StatefulSet" | "ReplicaSet" => json!({"spec": workload, "status": {"replicas": 0}}),
            "DaemonSet" => json!({"spec": {"selector": workload["selector"], "template": workload["template"]}}),
            "Job" => {
                json!({"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": pod["containers"]}}}})
            }
            "Pod" => json!({"spec": pod, "status": {"phase": "Pending"}}),
            "ConfigMap" => json!({"data": {"base": "1"}}),
            "Secret" => json!({"data": {"base": "MQ=="}, "type": "Opaque"}),
            "Service" => {
                json!({"spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]}})
            }
            "Node" => {
                json!({"spec": {"podCIDR": "10.1.0.0/24"}, 
                    "status": {"conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}]}})
            }
            "Namespace" => json!({"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}),
            "ClusterRole" => json!({"rules": []}),
            "Lease" => json!({"spec": {"leaseDurationSeconds": 15}}),
            "Endpoints" => json!({"subsets": []}),
            "EndpointSlice" => json!({"addressType": "IPv4", "endpoints": [], "ports": []}),
            "ServiceAccount" => json!({}),
            "ValidatingWebhookConfiguration" => {
                json!({"webhooks": [{"name": "guard.example.com", "sideEffects": "None",
                    "clientConfig": {"service": {"name": "guard", "namespace": "guard"}}}]})
            }
            "ResourceQuota" => json!({"spec": {"hard": {"pods": "100"}}, "status": {"used": {"pods": "0"}}}),
            "HorizontalPodAutoscaler" => {
                json!({"spec": {"minReplicas": 1, "maxReplicas": 10,
                    "scaleTargetRef": {"kind": "Deployment", "name": "web"}}})
            }
            _ => json!({"spec": {"mode": "plain"}}),
        };
        body["kind"] = self.kind.into();
        body["apiVersion"] = self.api_version().into();
        body
    }
}

/// Normalises quantities to the form that built-in kinds store.
fn canonical(name: &str, body: &mut Value) {
    match body {
        Value::Object(fields) => {
            let is_quantities = matches!(name, "limits" | "requests" | "hard" | "used" | "capacity" | "allocatable");
            for (key, value) in fields.iter_mut() {
                match value {
                    Value::String(text) if is_quantities => *text = quantity(text),
                    Value::Number(number) if is_quantities => *value = quantity(&number.to_string()).into(),
                    _ => canonical(key, value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| canonical("", item)),
        _ => {}
    }
}

const BINARY: [&str; 5] = ["", "Ki", "Mi", "Gi", "Ti"];

fn quantity(text: &str) -> String {
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let Ok(number) = number.parse::<f64>() else { return text.into() };
    match BINARY[1..].iter().position(|s| *s == suffix) {
        Some(at) => {
            let (mut number, mut power) = (number, at + 1);
            while number.fract() != 0.0 && power > 0 {
                (number, power) = (number * 1024.0, power - 1);
            }
            while number % 1024.0 == 0.0 && power + 1 < BINARY.len() {
                (number, power) = (number / 1024.0, power + 1);
            }
            format!("{number}{}", BINARY[power])
        }
        None if suffix.is_empty() || suffix == "m" => {
            let milli = if suffix == "m" { number } else { number * 1000.0 };
            if milli % 1000.0 == 0.0 { format!("{}", milli / 1000.0) } else { format!("{milli}m") }
        }
        None => text.into(),
    }
}
