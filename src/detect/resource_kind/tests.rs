use super::*;

#[test]
fn the_notations_of_kubectl_match() {
    for typed in ["deploy", "deployment", "Deployment", "deployments", "deployments.apps", "deployment.v1.apps"] {
        assert!(matches_input(typed, "apps", "deployments", "Deployment"), "{typed}");
    }
    assert!(!matches_input("deployments.batch", "apps", "deployments", "Deployment"));
    assert!(matches_input("ingress", "networking.k8s.io", "ingresses", "Ingress"));
    assert!(matches_input("hco", "hco.kubevirt.io", "hcos", "HyperConverged"));
}

/// Compares the kinds with those of the Kubernetes API types.
macro_rules! assert_known {
    ($($kind:ty),* $(,)?) => {$({
        use k8s_openapi::Resource;
        let (group, resource) = (<$kind>::GROUP, <$kind>::URL_PATH_SEGMENT);
        assert_eq!(built_in(group, resource), Some(<$kind>::KIND), "{resource}.{group}");
    })*};
}

#[test]
fn the_kinds_are_those_of_kubernetes() {
    use k8s_openapi::api::core::v1 as core;
    use k8s_openapi::api::{
        admissionregistration::v1 as admission, apps::v1 as apps, autoscaling::v2 as autoscaling, batch::v1 as batch,
        certificates::v1 as certificates, coordination::v1 as coordination, discovery::v1 as discovery,
        events::v1 as events, flowcontrol::v1 as flowcontrol, networking::v1 as networking, node::v1 as node,
        policy::v1 as policy, rbac::v1 as rbac, resource::v1 as resource, scheduling::v1 as scheduling,
        storage::v1 as storage,
    };
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as extensions;
    use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 as registration;
    assert_known!(
        core::Binding,
        core::ComponentStatus,
        core::ConfigMap,
        core::Endpoints,
        core::Event,
        core::LimitRange,
        core::Namespace,
        core::Node,
        core::PersistentVolumeClaim,
        core::PersistentVolume,
        core::Pod,
        core::PodTemplate,
        core::ReplicationController,
        core::ResourceQuota,
        core::Secret,
        core::ServiceAccount,
        core::Service,
        apps::ControllerRevision,
        apps::DaemonSet,
        apps::Deployment,
        apps::ReplicaSet,
        apps::StatefulSet,
        batch::CronJob,
        batch::Job,
        autoscaling::HorizontalPodAutoscaler,
        policy::PodDisruptionBudget,
        events::Event,
        networking::Ingress,
        networking::IngressClass,
        networking::NetworkPolicy,
        networking::IPAddress,
        networking::ServiceCIDR,
        rbac::ClusterRole,
        rbac::ClusterRoleBinding,
        rbac::Role,
        rbac::RoleBinding,
        storage::CSIDriver,
        storage::CSINode,
        storage::CSIStorageCapacity,
        storage::StorageClass,
        storage::VolumeAttachment,
        storage::VolumeAttributesClass,
        admission::MutatingWebhookConfiguration,
        admission::ValidatingWebhookConfiguration,
        admission::ValidatingAdmissionPolicy,
        admission::ValidatingAdmissionPolicyBinding,
        admission::MutatingAdmissionPolicy,
        admission::MutatingAdmissionPolicyBinding,
        extensions::CustomResourceDefinition,
        registration::APIService,
        certificates::CertificateSigningRequest,
        coordination::Lease,
        discovery::EndpointSlice,
        flowcontrol::FlowSchema,
        flowcontrol::PriorityLevelConfiguration,
        node::RuntimeClass,
        resource::DeviceClass,
        resource::ResourceClaim,
        resource::ResourceClaimTemplate,
        resource::ResourceSlice,
        scheduling::PriorityClass,
    );
    assert_eq!(built_in("apps", "pods"), None, "not in this group");
    assert_eq!(built_in("argoproj.io", "applications"), None);
}

#[test]
fn a_group_can_be_abbreviated_up_to_a_dot() {
    let is = |typed: &str| matches_input(typed, "networking.k8s.io", "ingresses", "Ingress");
    assert!(is("ingresses.networking.k8s.io") && is("ing.networking") && is("ingress.v1.networking.k8s.io"));
    assert!(!is("ingresses.network") && !is("ingresses.networking.k8s.io.x") && !is("ingressclasses"));
}
