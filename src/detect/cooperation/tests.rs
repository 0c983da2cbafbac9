use super::*;
use crate::detect::actor::Origin;

fn client(actor: &str) -> Client {
    Client::new(actor, "", "", Origin::default())
}

fn name(resource: &str, path: &str, a: &str, b: &str) -> Option<String> {
    find(&CooperationRules::default(), resource, path, a, b)
}

/// `resource` may have a group: `leases.coordination.k8s.io`.
fn find(known: &CooperationRules, resource: &str, path: &str, a: &str, b: &str) -> Option<String> {
    let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
    known.find(group, resource, path, &client(a), &client(b)).map(|rule| rule.name.clone())
}

#[test]
fn handshakes_match_in_either_order() {
    let (apiserver, quota) = ("system:apiserver", "system:serviceaccount:kube-system:resourcequota-controller");
    for (a, b) in [(apiserver, quota), (quota, apiserver)] {
        assert_eq!(name("resourcequotas", "status.used.pods", a, b).as_deref(), Some("quota-usage"));
    }
    assert_eq!(name("resourcequotas", "spec.hard.pods", apiserver, quota), None);
    assert_eq!(name("resourcequotas", "status.used.pods", apiserver, "alice"), None);
}

#[test]
fn locks_match_on_every_resource() {
    for (resource, path) in [
        ("leases.coordination.k8s.io", "spec.renewTime"),
        ("leases.coordination.k8s.io", "(object)"),
        ("endpoints", "metadata.annotations['control-plane.alpha.kubernetes.io/leader']"),
        ("configmaps", "data.holderIdentity"),
    ] {
        assert!(name(resource, path, "a", "b").is_some(), "{resource} {path}");
    }
    assert_eq!(name("configmaps", "data.mode", "a", "b"), None);
}

#[test]
fn requests_match_by_their_key() {
    let path = "metadata.annotations['reconcile.fluxcd.io/requestedAt']";
    assert_eq!(name("kustomizations.kustomize.toolkit.fluxcd.io", path, "a", "b").as_deref(), Some("requested-at"));
    let path = "metadata.annotations['example.com/lastRequestedAt']";
    assert!(name("widgets.example.com", path, "a", "b").is_some());
}

#[test]
fn rules_can_be_added_and_switched_off() {
    let own = CooperationRule {
        name: "ours".into(),
        resource: "widgets.example.com".into(),
        path: "spec.turn".into(),
        sides: ("*:left".into(), "*:right".into()),
        reason: "they take turns".into(),
        excess: None,
    };
    let known = CooperationRules::with(vec![own], &["lease".to_owned()]);
    assert_eq!(find(&known, "widgets.example.com", "spec.turn", "x:right", "x:left").as_deref(), Some("ours"));
    assert_eq!(find(&known, "leases.coordination.k8s.io", "spec.renewTime", "a", "b"), None);
    assert!(known.mechanism(RESTART).is_some());
    assert!(CooperationRules::with(Vec::new(), &[RESTART.to_owned()]).mechanism(RESTART).is_none());
}

#[test]
fn a_mark_belongs_to_the_program_that_its_domain_names() {
    let strimzi = client("system:serviceaccount:kafka:strimzi-cluster-operator");
    let flux = client("system:serviceaccount:flux-system:kustomize-controller");
    assert!(is_own_mark("metadata.annotations['strimzi.io/manual-rolling-update']", &strimzi));
    assert!(!is_own_mark("metadata.annotations['strimzi.io/manual-rolling-update']", &flux));
    assert!(!is_own_mark("metadata.annotations['bob.example/checked']", &flux));
    assert!(!is_own_mark("metadata.annotations.checked", &flux));
    assert!(!is_own_mark("data['strimzi.io/x']", &strimzi));
    assert!(!is_own_mark("metadata.annotations['kubernetes.io/x']", &client("kubernetes-operator")));
}

#[test]
fn only_rules_for_the_whole_part_apply_to_a_part() {
    let known = CooperationRules::default();
    let over = |resource: &str, part: Part, a: &str, b: &str| {
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        known.find_part(group, resource, part, &client(a), &client(b)).map(|rule| rule.name.as_str())
    };
    assert_eq!(over("leases.coordination.k8s.io", Part::Main, "a", "b"), Some("lease"));
    assert_eq!(over("configmaps", Part::Main, "a", "b"), None);
    let quota = ("system:apiserver", "system:serviceaccount:kube-system:resourcequota-controller");
    assert_eq!(over("resourcequotas", Part::Status, quota.0, quota.1), Some("quota-usage"));
    assert_eq!(over("resourcequotas", Part::Main, quota.0, quota.1), None, "usage is in the status");
    assert_eq!(over("resourcequotas", Part::Status, quota.0, "alice"), None);
    // The rule of a mechanism matches no object.
    assert_eq!(over("-", Part::Main, "a", "b"), None);
}

#[test]
fn each_name_that_can_be_switched_off_is_listed_once() {
    let names = CooperationRules::names();
    for name in ["lease", "quota-usage", CONSUMED_MARK, ACTIVATION, RESTART, FINISHED_JOB] {
        assert_eq!(names.iter().filter(|known| **known == name).count(), 1, "{name}");
    }
}

#[test]
fn a_rule_needs_both_sides() {
    let node = |a: &str, b: &str| name("nodes", "status.conditions[type=Ready].status", a, b);
    let (kubelet, controller) = ("system:node:n1", "system:serviceaccount:kube-system:node-lifecycle-controller");
    assert_eq!(node(kubelet, controller).as_deref(), Some("node-conditions"));
    assert_eq!(node(controller, kubelet).as_deref(), Some("node-conditions"));
    assert_eq!(node(kubelet, "system:node:n2"), None, "both match the same side");
    assert_eq!(node(controller, controller), None);
}

#[test]
fn resources_match_like_their_names() {
    let patterns =
        ["*", "pods", "widgets.example.com", "*.example.com", "wid*", "*s.example.com", "*.com", "-", "a*b", ""];
    for (resource, group) in
        [("pods", ""), ("widgets", "example.com"), ("widgets", "example.org"), ("pod", "s"), ("", "")]
    {
        let name = if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") };
        for pattern in patterns {
            assert_eq!(
                ResourcePattern::new(pattern).matches(group, resource),
                is_match(pattern, &name),
                "{pattern} {name}"
            );
        }
    }
}
