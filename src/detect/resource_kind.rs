//! The kinds of the built-in resources, for events without bodies.

/// Returns the kind of a built-in resource, or `None` for other resources.
pub(crate) fn built_in(group: &str, resource: &str) -> Option<&'static str> {
    Some(match (group, resource) {
        ("", "bindings") => "Binding",
        ("", "componentstatuses") => "ComponentStatus",
        ("", "configmaps") => "ConfigMap",
        ("", "endpoints") => "Endpoints",
        ("" | "events.k8s.io", "events") => "Event",
        ("", "limitranges") => "LimitRange",
        ("", "namespaces") => "Namespace",
        ("", "nodes") => "Node",
        ("", "persistentvolumeclaims") => "PersistentVolumeClaim",
        ("", "persistentvolumes") => "PersistentVolume",
        ("", "pods") => "Pod",
        ("", "podtemplates") => "PodTemplate",
        ("", "replicationcontrollers") => "ReplicationController",
        ("", "resourcequotas") => "ResourceQuota",
        ("", "secrets") => "Secret",
        ("", "serviceaccounts") => "ServiceAccount",
        ("", "services") => "Service",
        ("apps", "controllerrevisions") => "ControllerRevision",
        ("apps", "daemonsets") => "DaemonSet",
        ("apps", "deployments") => "Deployment",
        ("apps", "replicasets") => "ReplicaSet",
        ("apps", "statefulsets") => "StatefulSet",
        ("batch", "cronjobs") => "CronJob",
        ("batch", "jobs") => "Job",
        ("autoscaling", "horizontalpodautoscalers") => "HorizontalPodAutoscaler",
        ("policy", "poddisruptionbudgets") => "PodDisruptionBudget",
        ("networking.k8s.io", "ingresses") => "Ingress",
        ("networking.k8s.io", "ingressclasses") => "IngressClass",
        ("networking.k8s.io", "networkpolicies") => "NetworkPolicy",
        ("networking.k8s.io", "ipaddresses") => "IPAddress",
        ("networking.k8s.io", "servicecidrs") => "ServiceCIDR",
        ("rbac.authorization.k8s.io", "clusterroles") => "ClusterRole",
        ("rbac.authorization.k8s.io", "clusterrolebindings") => "ClusterRoleBinding",
        ("rbac.authorization.k8s.io", "roles") => "Role",
        ("rbac.authorization.k8s.io", "rolebindings") => "RoleBinding",
        ("storage.k8s.io", "csidrivers") => "CSIDriver",
        ("storage.k8s.io", "csinodes") => "CSINode",
        ("storage.k8s.io", "csistoragecapacities") => "CSIStorageCapacity",
        ("storage.k8s.io", "storageclasses") => "StorageClass",
        ("storage.k8s.io", "volumeattachments") => "VolumeAttachment",
        ("storage.k8s.io", "volumeattributesclasses") => "VolumeAttributesClass",
        ("admissionregistration.k8s.io", "mutatingwebhookconfigurations") => "MutatingWebhookConfiguration",
        ("admissionregistration.k8s.io", "validatingwebhookconfigurations") => "ValidatingWebhookConfiguration",
        ("admissionregistration.k8s.io", "validatingadmissionpolicies") => "ValidatingAdmissionPolicy",
        ("admissionregistration.k8s.io", "validatingadmissionpolicybindings") => "ValidatingAdmissionPolicyBinding",
        ("admissionregistration.k8s.io", "mutatingadmissionpolicies") => "MutatingAdmissionPolicy",
        ("admissionregistration.k8s.io", "mutatingadmissionpolicybindings") => "MutatingAdmissionPolicyBinding",
        ("apiextensions.k8s.io", "customresourcedefinitions") => "CustomResourceDefinition",
        ("apiregistration.k8s.io", "apiservices") => "APIService",
        ("certificates.k8s.io", "certificatesigningrequests") => "CertificateSigningRequest",
        ("coordination.k8s.io", "leases") => "Lease",
        ("discovery.k8s.io", "endpointslices") => "EndpointSlice",
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => "FlowSchema",
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => "PriorityLevelConfiguration",
        ("node.k8s.io", "runtimeclasses") => "RuntimeClass",
        ("resource.k8s.io", "deviceclasses") => "DeviceClass",
        ("resource.k8s.io", "resourceclaims") => "ResourceClaim",
        ("resource.k8s.io", "resourceclaimtemplates") => "ResourceClaimTemplate",
        ("resource.k8s.io", "resourceslices") => "ResourceSlice",
        ("scheduling.k8s.io", "priorityclasses") => "PriorityClass",
        _ => return None,
    })
}

/// kubectl's short names and their resources.
const SHORT_NAMES: &[(&str, &str)] = &[
    ("cm", "configmaps"),
    ("cj", "cronjobs"),
    ("crd", "customresourcedefinitions"),
    ("csr", "certificatesigningrequests"),
    ("deploy", "deployments"),
    ("ds", "daemonsets"),
    ("ep", "endpoints"),
    ("ev", "events"),
    ("hpa", "horizontalpodautoscalers"),
    ("ing", "ingresses"),
    ("netpol", "networkpolicies"),
    ("no", "nodes"),
    ("ns", "namespaces"),
    ("pc", "priorityclasses"),
    ("pdb", "poddisruptionbudgets"),
    ("po", "pods"),
    ("pv", "persistentvolumes"),
    ("pvc", "persistentvolumeclaims"),
    ("quota", "resourcequotas"),
    ("rc", "replicationcontrollers"),
    ("rs", "replicasets"),
    ("sa", "serviceaccounts"),
    ("sc", "storageclasses"),
    ("sts", "statefulsets"),
    ("svc", "services"),
];

/// Returns the resource with this short name, or the input itself.
pub(crate) fn without_short_name(typed: &str) -> &str {
    SHORT_NAMES.iter().find(|(short, _)| *short == typed).map_or(typed, |(_, full)| full)
}

/// Whether a user's input (`deploy`, `Deployment`, `deployments.apps`, …) refers to this resource or kind.
pub(crate) fn matches_input(typed: &str, group: &str, resource: &str, kind: &str) -> bool {
    let typed = typed.to_ascii_lowercase();
    let (name, wanted_group) = match typed.split_once('.') {
        Some((name, group)) => (name, Some(group)),
        None => (typed.as_str(), None),
    };
    let is_group = wanted_group.is_none_or(|wanted| {
        let wanted = wanted.strip_prefix("v1.").unwrap_or(wanted);
        wanted == group || (group.starts_with(wanted) && group[wanted.len()..].starts_with('.'))
    });
    let name = without_short_name(name);
    is_group && (name == resource || name.eq_ignore_ascii_case(kind) || format!("{name}s") == resource)
}

#[cfg(test)]
#[path = "resource_kind/tests.rs"]
mod tests;
