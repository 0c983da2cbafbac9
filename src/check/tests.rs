//! Each rule on small set-ups: those that it must find, and similar ones that it must not.

use serde_json::{Value, json};

use super::{Certainty, Finding, Snapshot, check};

/// Returns what is found in a cluster with these objects.
fn found(objects: &[Value]) -> Vec<Finding> {
    let mut snapshot = Snapshot::default();
    for object in objects {
        assert!(snapshot.add_live(object.clone()), "{object}");
    }
    check(&snapshot)
}

/// Returns what is found if manifests are to be applied to a cluster with these objects.
fn found_in_manifests(objects: &[Value], manifests: &[Value]) -> Vec<Finding> {
    let mut snapshot = Snapshot::default();
    for object in objects {
        assert!(snapshot.add_live(object.clone()), "{object}");
    }
    for manifest in manifests {
        assert!(snapshot.add_manifest("web.yaml", manifest.clone()), "{manifest}");
    }
    check(&snapshot)
}

/// Returns the only finding.
fn only(found: Vec<Finding>) -> Finding {
    let [finding] = <[Finding; 1]>::try_from(found).expect("one finding");
    finding
}

/// Returns a copy of an object, merged with a patch (RFC 7386).
fn with(object: &Value, patch: Value) -> Value {
    let mut object = object.clone();
    json_patch::merge(&mut object, &patch);
    object
}

/// Returns an entry of `managedFields`.
fn entry(manager: &str, operation: &str, fields: Value) -> Value {
    json!({"manager": manager, "operation": operation, "fieldsV1": fields})
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "shop"},
           "spec": {"replicas": 3}})
}

/// The Deployment, with its replicas applied by Flux.
fn by_flux() -> Value {
    with(
        &deployment(),
        json!({"metadata": {
            "labels": {"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"},
            "managedFields": [entry("kustomize-controller", "Apply", json!({"f:spec": {"f:replicas": {}}}))]}}),
    )
}

fn kustomization() -> Value {
    json!({"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization",
           "metadata": {"name": "apps", "namespace": "flux-system"}, "spec": {"interval": "5m"}})
}

/// An object, applied by Argo CD on the client side from this manifest.
fn by_argo_cd(object: &Value, manifest: &Value) -> Value {
    let id = super::id_of(object).unwrap();
    let tracking = format!("apps:{}/{}:{}/{}", id.group, id.kind, id.namespace, id.name);
    let annotation = "kubectl.kubernetes.io/last-applied-configuration";
    let fields = json!({"f:metadata": {"f:annotations": {"f:kubectl.kubernetes.io/last-applied-configuration": {}},
                                       "f:labels": {"f:team": {}}}});
    with(
        object,
        json!({"metadata": {
            "annotations": {"argocd.argoproj.io/tracking-id": tracking, annotation: manifest.to_string()},
            "managedFields": [entry("argocd-controller", "Update", fields)]}}),
    )
}

fn application() -> Value {
    json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Application", "metadata": {"name": "apps", "namespace": "argocd"},
           "spec": {"syncPolicy": {"automated": {"selfHeal": true}}}})
}

fn autoscaler() -> Value {
    json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
           "metadata": {"name": "web", "namespace": "shop"},
           "spec": {"minReplicas": 2, "maxReplicas": 10,
                    "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}})
}

fn scaled_object() -> Value {
    json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "web", "namespace": "shop"},
           "spec": {"scaleTargetRef": {"name": "web"}}})
}

#[test]
fn an_autoscaler_and_flux_fight_over_replicas_at_each_interval() {
    let finding = only(found(&[by_flux(), kustomization(), autoscaler()]));
    assert_eq!((finding.rule, finding.certainty), ("autoscaler_and_manifest", Certainty::Bound));
    assert_eq!(finding.object.to_string(), "Deployment shop/web");
    assert_eq!((finding.fields.as_slice(), finding.when.as_str()), (&["spec.replicas".to_owned()][..], "every 5m"));
    let sides: Vec<String> = finding.contenders.iter().map(|c| format!("{} {}", c.name, c.does)).collect();
    let expected =
        ["Kustomization flux-system/apps sets it to 3", "HorizontalPodAutoscaler shop/web scales it between 2 and 10"];
    assert_eq!(sides, expected);
    let titles: Vec<&str> = finding.remedies.iter().map(|remedy| remedy.title.as_str()).collect();
    assert!(titles[0].starts_with("make Flux ignore spec.replicas of this object"), "{titles:?}");
    assert!(finding.remedies[0].command.contains("kustomizations.kustomize.toolkit.fluxcd.io apps -n flux-system"));
}

#[test]
fn commands_name_the_context_that_was_checked() {
    let mut snapshot = Snapshot::default();
    [by_flux(), kustomization(), autoscaler()].into_iter().for_each(|object| assert!(snapshot.add_live(object)));
    snapshot.context = Some("prod".to_owned());
    let finding = only(check(&snapshot));
    let commands = finding.remedies.iter().filter(|remedy| remedy.command.contains("kubectl "));
    assert!(commands.count() > 1, "{:#?}", finding.remedies);
    for remedy in &finding.remedies {
        assert_eq!(
            remedy.command.matches("kubectl ").count(),
            remedy.command.matches("kubectl --context prod ").count()
        );
    }
}

#[test]
fn an_autoscaler_alone_or_a_manifest_without_replicas_is_peace() {
    let without = with(
        &by_flux(),
        json!({"metadata": {"managedFields": [
            entry("kustomize-controller", "Apply", json!({"f:spec": {"f:template": {}}})),
            {"manager": "kube-controller-manager", "operation": "Update", "subresource": "scale",
             "fieldsV1": {"f:spec": {"f:replicas": {}}}}]}}),
    );
    assert_eq!(found(&[without, kustomization(), autoscaler()]), []);
    assert_eq!(found(&[by_flux(), kustomization()]), []);
    assert_eq!(found(&[autoscaler()]), [], "its target does not exist");
    // Created with a default, or by somebody who does not apply it again.
    let created = with(
        &deployment(),
        json!({"metadata": {"managedFields": [entry("kubectl-create", "Update", json!({"f:spec": {"f:replicas": {}}}))]}}),
    );
    assert_eq!(found(&[created, autoscaler()]), []);
}

#[test]
fn what_flux_ignores_is_peace() {
    let ignored = |rule: Value| with(&kustomization(), json!({"spec": {"ignore": [rule]}}));
    let rule = json!({"paths": ["/spec/replicas"], "target": {"kind": "Deployment", "name": "web"}});
    assert_eq!(found(&[by_flux(), ignored(rule), autoscaler()]), []);
    let other = json!({"paths": ["/spec/replicas"], "target": {"kind": "Deployment", "name": "api"}});
    assert_eq!(found(&[by_flux(), ignored(other), autoscaler()]).len(), 1);
    let disabled = json!({"metadata": {"annotations": {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}}});
    assert_eq!(found(&[with(&by_flux(), disabled), kustomization(), autoscaler()]), []);
    let suspended = with(&kustomization(), json!({"spec": {"suspend": true}}));
    assert_eq!(only(found(&[by_flux(), suspended, autoscaler()])).certainty, Certainty::Possible);
}

#[test]
fn what_argo_cd_ignores_is_peace() {
    let web = by_argo_cd(&deployment(), &deployment());
    let finding = only(found(&[web.clone(), application(), autoscaler()]));
    assert_eq!((finding.certainty, finding.contenders[0].name.as_str()), (Certainty::Bound, "Application argocd/apps"));
    let manual = with(&application(), json!({"spec": {"syncPolicy": {"automated": null}}}));
    assert_eq!(only(found(&[web.clone(), manual, autoscaler()])).certainty, Certainty::Possible);
    let ignoring = |rule: Value, options: Value| {
        let spec = json!({"spec": {"ignoreDifferences": [rule], "syncPolicy": {"syncOptions": options}}});
        found(&[web.clone(), with(&application(), spec), autoscaler()])
    };
    let respected = json!(["RespectIgnoreDifferences=true"]);
    for rule in [
        json!({"group": "apps", "kind": "Deployment", "jsonPointers": ["/spec/replicas"]}),
        json!({"group": "*", "kind": "*", "jqPathExpressions": [".spec.replicas"]}),
        json!({"group": "apps", "kind": "Deployment", "managedFieldsManagers": ["kube-controller-manager"]}),
    ] {
        assert_eq!(ignoring(rule.clone(), respected.clone()), [], "{rule}");
        assert_eq!(only(ignoring(rule, json!([]))).certainty, Certainty::Possible);
    }
    let other = json!({"group": "apps", "kind": "Deployment", "name": "api", "jsonPointers": ["/spec/replicas"]});
    assert_eq!(only(ignoring(other, respected)).certainty, Certainty::Bound);
    // The settings of Argo CD for all Applications.
    let settings = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm", "namespace": "argocd"},
        "data": {"resource.customizations.ignoreDifferences.apps_Deployment": "jsonPointers:\n- /spec/replicas\n"}});
    let option = with(&application(), json!({"spec": {"syncPolicy": {"syncOptions": respected_options()}}}));
    assert_eq!(found(&[web, option, autoscaler(), settings]), []);
}

fn respected_options() -> Value {
    json!(["RespectIgnoreDifferences=true"])
}

#[test]
fn an_autoscaler_that_cannot_change_the_number_is_peace() {
    let fixed = with(&autoscaler(), json!({"spec": {"minReplicas": 3, "maxReplicas": 3}}));
    assert_eq!(found(&[by_flux(), kustomization(), fixed]), []);
    let off = with(&by_flux(), json!({"spec": {"replicas": 0}}));
    assert_eq!(found(&[off.clone(), kustomization(), autoscaler()]), [], "scaling is off without replicas");
    // KEDA scales up from 0.
    assert_eq!(found(&[off, kustomization(), scaled_object()]).len(), 1);
    let paused = with(&scaled_object(), json!({"metadata": {"annotations": {"autoscaling.keda.sh/paused": "true"}}}));
    assert_eq!(found(&[by_flux(), kustomization(), paused]), []);
}

#[test]
fn an_autoscaler_and_a_person_who_applies_is_possible() {
    let annotation = json!({"kubectl.kubernetes.io/last-applied-configuration": deployment().to_string()});
    let web = with(
        &deployment(),
        json!({"metadata": {"annotations": annotation, "managedFields": [
        entry("kubectl-client-side-apply", "Update", json!({"f:metadata": {"f:annotations":
            {"f:kubectl.kubernetes.io/last-applied-configuration": {}}}}))]}}),
    );
    let finding = only(found(&[web, autoscaler()]));
    assert_eq!((finding.certainty, finding.contenders[0].name.as_str()), (Certainty::Possible, "kubectl apply"));
    assert!(finding.remedies.is_empty(), "no command against a person");
    // The values of a Helm release are only known where they differ from the defaults.
    let of_helm = |replicas: u32| {
        let owner = entry("helm", "Update", json!({"f:spec": {"f:replicas": {}}}));
        let annotations = json!({"meta.helm.sh/release-name": "web", "meta.helm.sh/release-namespace": "shop"});
        let metadata = json!({"annotations": annotations, "managedFields": [owner]});
        with(&deployment(), json!({"metadata": metadata, "spec": {"replicas": replicas}}))
    };
    assert_eq!(only(found(&[of_helm(4), autoscaler()])).contenders[0].name, "Helm release shop/web");
    assert_eq!(found(&[of_helm(1), autoscaler()]), []);
}

#[test]
fn the_autoscaler_that_keda_makes_is_part_of_its_scaled_object() {
    let own = with(
        &autoscaler(),
        json!({"metadata": {"name": "keda-hpa-web", "ownerReferences": [
        {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "web", "controller": true}]}}),
    );
    assert_eq!(found(&[deployment(), scaled_object(), own]), []);
    let finding = only(found(&[deployment(), scaled_object(), autoscaler()]));
    assert_eq!((finding.rule, finding.certainty), ("two_autoscalers", Certainty::Bound));
    // KEDA takes over an autoscaler that its annotation names.
    let transfer = with(
        &scaled_object(),
        json!({
        "metadata": {"annotations": {"scaledobject.keda.sh/transfer-hpa-ownership": "true"}},
        "spec": {"advanced": {"horizontalPodAutoscalerConfig": {"name": "web"}}}}),
    );
    assert_eq!(found(&[deployment(), transfer, autoscaler()]), []);
    let second = with(&autoscaler(), json!({"metadata": {"name": "second"}}));
    assert_eq!(only(found(&[deployment(), autoscaler(), second])).rule, "two_autoscalers");
}

#[test]
fn vertical_and_horizontal_autoscalers_fight_over_the_same_metric_only() {
    let metric = |name: &str| {
        let metric = json!({"type": "Resource", "resource": {"name": name, "target": {"type": "Utilization"}}});
        with(&autoscaler(), json!({"spec": {"metrics": [metric]}}))
    };
    let vertical = json!({"apiVersion": "autoscaling.k8s.io/v1", "kind": "VerticalPodAutoscaler",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}});
    let finding = only(found(&[deployment(), metric("cpu"), vertical.clone()]));
    assert_eq!(finding.rule, "two_autoscalers");
    let off = with(&vertical, json!({"spec": {"updatePolicy": {"updateMode": "Off"}}}));
    assert_eq!(found(&[deployment(), metric("cpu"), off]), []);
    let memory = json!({"containerPolicies": [{"containerName": "*", "controlledResources": ["memory"]}]});
    let memory = with(&vertical, json!({"spec": {"resourcePolicy": memory}}));
    assert_eq!(found(&[deployment(), metric("cpu"), memory]), []);
    assert_eq!(found(&[deployment(), autoscaler(), vertical]), [], "it scales by another metric");
}

#[test]
fn an_injected_ca_bundle_is_contested_only_if_the_manifest_has_one() {
    let fields = |config: Value| json!({"f:webhooks": {"k:{\"name\":\"v\"}": {"f:clientConfig": config}}});
    let hook = |config: Value| {
        json!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": "hook", "annotations": {"cert-manager.io/inject-ca-from": "shop/hook"},
                "labels": {"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"},
                "managedFields": [entry("kustomize-controller", "Apply", fields(config))]},
            "webhooks": [{"name": "v", "clientConfig": {"caBundle": "Cg=="}}]})
    };
    let finding = only(found(&[hook(json!({"f:caBundle": {}})), kustomization()]));
    assert_eq!((finding.rule, finding.certainty), ("injected_ca_bundle", Certainty::Bound));
    assert_eq!(finding.fields, ["webhooks[name=v].clientConfig.caBundle"]);
    assert_eq!(found(&[hook(json!({"f:service": {}})), kustomization()]), []);
    let plain = with(&hook(json!({"f:caBundle": {}})), json!({"metadata": {"annotations": null}}));
    assert_eq!(found(&[plain, kustomization()]), [], "nobody injects");
}

#[test]
fn two_kustomizations_with_one_object_fight() {
    let listing = |name: &str| {
        with(
            &kustomization(),
            json!({"metadata": {"name": name}, "status": {"inventory": {"entries": [
            {"id": "shop_web_apps_Deployment", "v": "v1"}, {"id": "shop_api_apps_Deployment", "v": "v1"}]}}}),
        )
    };
    let finding = only(found(&[listing("a"), listing("b"), deployment()]));
    assert_eq!((finding.rule, finding.certainty), ("two_owners", Certainty::Bound));
    assert_eq!((finding.object.name.as_str(), finding.more_objects[0].name.as_str()), ("api", "web"));
    assert!(finding.remedies.iter().any(|remedy| remedy.title.contains("Kustomization a")), "{:#?}", finding.remedies);
    assert_eq!(found(&[listing("a")]), []);
    let suspended = with(&listing("b"), json!({"spec": {"suspend": true}}));
    assert_eq!(found(&[listing("a"), suspended]), []);
    let elsewhere = with(&listing("b"), json!({"spec": {"kubeConfig": {"secretRef": {"name": "other"}}}}));
    assert_eq!(found(&[listing("a"), elsewhere]), [], "in another cluster");
}

#[test]
fn applications_with_one_object_fight_if_both_heal_themselves() {
    let listing = |name: &str, policy: Value| {
        with(
            &application(),
            json!({"metadata": {"name": name}, "spec": {"syncPolicy": policy}, "status": {"resources": [
            {"group": "apps", "kind": "Deployment", "namespace": "shop", "name": "web"}]}}),
        )
    };
    let heals = json!({"automated": {"selfHeal": true}});
    assert_eq!(only(found(&[listing("a", heals.clone()), listing("b", heals.clone())])).rule, "two_owners");
    let syncs = json!({"automated": {"selfHeal": false}});
    assert_eq!(found(&[listing("a", heals), listing("b", syncs)]), []);
}

#[test]
fn two_helm_releases_of_one_name_fight() {
    let release = |name: &str, spec: Value| {
        json!({"apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease",
            "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
    };
    let named = json!({"releaseName": "web"});
    assert_eq!(only(found(&[release("a", named.clone()), release("b", named)])).fields, ["(release)"]);
    assert_eq!(found(&[release("a", json!({})), release("b", json!({}))]), []);
}

#[test]
fn an_aggregated_cluster_role_with_rules_in_git_is_contested() {
    let role = |fields: Value| {
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "all",
            "labels": {"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"},
            "managedFields": [entry("kustomize-controller", "Apply", fields)]}})
    };
    let finding = only(found(&[role(json!({"f:aggregationRule": {}, "f:rules": {}})), kustomization()]));
    assert_eq!((finding.rule, finding.fields.as_slice()), ("aggregated_rules", &["rules".to_owned()][..]));
    assert_eq!(found(&[role(json!({"f:aggregationRule": {}})), kustomization()]), []);
    assert_eq!(found(&[role(json!({"f:rules": {}})), kustomization()]), [], "it is not aggregated");
}

#[test]
fn argo_cd_and_an_aggregated_cluster_role() {
    let aggregated = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
        "metadata": {"name": "all"}, "aggregationRule": {}, "rules": []});
    let role = by_argo_cd(&aggregated, &aggregated);
    assert_eq!(only(found(&[role.clone(), application()])).rule, "aggregated_rules");
    let settings = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "argocd-cm", "namespace": "argocd"},
        "data": {"resource.compareoptions": "ignoreAggregatedRoles: true\n"}});
    assert_eq!(found(&[role, application(), settings]), []);
    // Argo CD creates it without storing the manifest. Then the Application tells whether it has rules.
    let created = with(
        &aggregated,
        json!({"metadata": {
        "annotations": {"argocd.argoproj.io/tracking-id": "apps:rbac.authorization.k8s.io/ClusterRole:shop/all"},
        "managedFields": [entry("argocd-application-controller", "Update", json!({"f:aggregationRule": {}}))]}}),
    );
    let state = |status: &str| {
        let resource =
            json!({"group": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "all", "status": status});
        with(&application(), json!({"status": {"resources": [resource]}}))
    };
    assert_eq!(only(found(&[created.clone(), state("OutOfSync")])).certainty, Certainty::Possible);
    assert_eq!(found(&[created, state("Synced")]), []);
}

#[test]
fn a_job_that_expires_is_created_again_by_tools_only() {
    let job = |spec: Value, fields: Value| {
        json!({"apiVersion": "batch/v1", "kind": "Job", "spec": spec, "metadata": {"name": "once", "namespace": "shop",
            "labels": {"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"},
            "managedFields": [entry("kustomize-controller", "Apply", json!({"f:spec": fields}))]}})
    };
    let (ttl, field) = (json!({"ttlSecondsAfterFinished": 10}), json!({"f:ttlSecondsAfterFinished": {}}));
    let finding = only(found(&[job(ttl.clone(), field.clone()), kustomization()]));
    assert_eq!((finding.rule, finding.fields.as_slice()), ("expiring_job", &["(object)".to_owned()][..]));
    assert_eq!(found(&[job(json!({}), json!({"f:template": {}})), kustomization()]), []);
    let manifest = json!({"apiVersion": "batch/v1", "kind": "Job", "spec": ttl,
        "metadata": {"name": "once", "namespace": "shop"}});
    assert_eq!(found_in_manifests(&[], std::slice::from_ref(&manifest)), [], "a pipeline wants it to run again");
    let hook = with(&manifest, json!({"metadata": {"annotations": {"argocd.argoproj.io/hook": "PreSync"}}}));
    assert_eq!(found_in_manifests(&[application()], &[hook]), []);
    let finding = only(found_in_manifests(&[application()], &[manifest]));
    assert_eq!(finding.certainty, Certainty::Possible);
}

#[test]
fn certificates_with_one_secret_and_controllers_installed_twice() {
    let certificate = |name: &str, secret: &str| {
        json!({"apiVersion": "cert-manager.io/v1", "kind": "Certificate", "metadata": {"name": name, "namespace": "shop"},
            "spec": {"secretName": secret}})
    };
    let finding = only(found(&[certificate("a", "tls"), certificate("b", "tls")]));
    assert_eq!((finding.rule, finding.object.to_string().as_str()), ("shared_secret", "Secret shop/tls"));
    assert_eq!(found(&[certificate("a", "tls"), certificate("b", "other")]), []);
    let controller = |namespace: &str, argument: &str| {
        let container = json!({"image": "quay.io/jetstack/cert-manager-controller:v1.20.0", "args": [argument]});
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "cert-manager", "namespace": namespace},
            "spec": {"template": {"spec": {"containers": [container]}}}})
    };
    let twice = |a: &str, b: &str| found(&[certificate("a", "tls"), controller("x", a), controller("y", b)]);
    let finding = only(twice("--v=2", "--v=2"));
    assert_eq!((finding.rule, finding.certainty), ("two_installations", Certainty::Possible));
    assert_eq!(twice("--namespace=x", "--v=2"), [], "it is restricted to one namespace");
    let lease = "--leader-election-namespace=kube-system";
    assert_eq!(twice(lease, lease), [], "they elect one leader");
    let own = "--leader-election-namespace=$(POD_NAMESPACE)";
    assert_eq!(only(twice(own, own)).rule, "two_installations", "each elects one in its own namespace");
}

/// A policy of Kyverno with one rule.
fn policy(mutate: Value) -> Value {
    json!({"apiVersion": "kyverno.io/v1", "kind": "ClusterPolicy", "metadata": {"name": "team"}, "spec": {"rules": [
        {"name": "label", "match": {"any": [{"resources": {"kinds": ["Deployment"], "namespaces": ["sh*"]}}]},
         "mutate": mutate}]}})
}

#[test]
fn a_policy_for_requests_fights_with_argo_cd_over_other_values() {
    let patch = |labels: Value| policy(json!({"patchStrategicMerge": {"metadata": {"labels": labels}}}));
    let manifest = with(&deployment(), json!({"metadata": {"labels": {"team": "web"}}}));
    let live = by_argo_cd(&with(&manifest, json!({"metadata": {"labels": {"team": "shop"}}})), &manifest);
    let finding = only(found(&[live.clone(), application(), patch(json!({"team": "shop"}))]));
    assert_eq!(
        (finding.rule, finding.fields.as_slice()),
        ("policy_and_manifest", &["metadata.labels.team".to_owned()][..])
    );
    let same = by_argo_cd(&manifest, &manifest);
    assert_eq!(found(&[same.clone(), application(), patch(json!({"team": "web"}))]), []);
    assert_eq!(found(&[same.clone(), application(), patch(json!({"+(team)": "shop"}))]), [], "only if it is missing");
    assert_eq!(found(&[same, application(), patch(json!({"other": "shop"}))]), []);
    // Flux compares by a dry-run, which passes through the policy.
    let owned = entry("kustomize-controller", "Apply", json!({"f:metadata": {"f:labels": {"f:team": {}}}}));
    let of_flux = with(&by_flux(), json!({"metadata": {"labels": {"team": "web"}, "managedFields": [owned]}}));
    assert_eq!(found(&[of_flux, kustomization(), patch(json!({"team": "shop"}))]), []);
    // A policy of one namespace does not see the objects of another.
    let elsewhere = with(&live, json!({"metadata": {"namespace": "other"}}));
    assert!(
        found(&[elsewhere, application(), patch(json!({"team": "shop"}))])
            .iter()
            .all(|f| f.rule != "policy_and_manifest")
    );
}

#[test]
fn a_policy_for_existing_objects_fights_with_every_tool() {
    let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "namespace": "shop", "name": "{{ request.object.metadata.name }}"});
    let existing = policy(
        json!({"targets": [target], "patchesJson6902": "- {op: replace, path: /metadata/labels/team, value: shop}"}),
    );
    let owned = entry("kustomize-controller", "Apply", json!({"f:metadata": {"f:labels": {"f:team": {}}}}));
    let web = with(&by_flux(), json!({"metadata": {"labels": {"team": "web"}, "managedFields": [owned]}}));
    let finding = only(found(&[web.clone(), kustomization(), existing.clone()]));
    assert_eq!((finding.rule, finding.certainty), ("policy_and_manifest", Certainty::Bound));
    let same = with(&web, json!({"metadata": {"labels": {"team": "shop"}}}));
    assert_eq!(found(&[same, kustomization(), existing]), []);
}

#[test]
fn a_webhook_that_replaces_what_argo_cd_applies_is_seen_by_the_value() {
    let manifest = with(&deployment(), json!({"metadata": {"labels": {"team": "web"}}}));
    let live = by_argo_cd(&with(&manifest, json!({"metadata": {"labels": {"team": "shop"}}})), &manifest);
    let finding = only(found(&[live.clone(), application()]));
    assert_eq!((finding.rule, finding.certainty), ("admission_and_manifest", Certainty::Bound));
    assert_eq!(found(&[by_argo_cd(&manifest, &manifest), application()]), []);
    // Somebody else wrote it.
    let mut edited = live;
    edited["metadata"]["managedFields"][0]["fieldsV1"]["f:metadata"]["f:labels"] = json!({"f:other": {}});
    assert_eq!(found(&[edited, application()]), []);
}

#[test]
fn an_object_that_a_controller_maintains_is_not_for_a_repository() {
    let owned = |kind: &str, group: &str| {
        let owner = json!({"apiVersion": format!("{group}/v1"), "kind": kind, "name": "db", "controller": true});
        with(&by_flux(), json!({"metadata": {"ownerReferences": [owner]}}))
    };
    let finding = only(found(&[owned("Database", "example.com"), kustomization()]));
    assert_eq!((finding.rule, finding.certainty), ("controlled_object", Certainty::Possible));
    assert_eq!(found(&[owned("Application", "argoproj.io"), kustomization()]), []);
    // Labels that a controller has copied to its objects.
    let mut copied = owned("Database", "example.com");
    copied["metadata"]["managedFields"] = json!([entry("operator", "Update", json!({"f:spec": {}}))]);
    assert_eq!(found(&[copied, kustomization()]), []);
}

#[test]
fn manifests_are_checked_as_what_their_tool_will_apply() {
    // Nobody applies it yet.
    let finding = only(found_in_manifests(&[autoscaler()], &[deployment()]));
    assert_eq!(
        (finding.certainty, finding.contenders[0].name.as_str()),
        (Certainty::Possible, "the manifest web.yaml")
    );
    assert!(finding.advice.starts_with("leave spec.replicas out of web.yaml"), "{}", finding.advice);
    // Flux applies it: with its next commit, the fight begins.
    let mut quiet = by_flux();
    quiet["metadata"]["managedFields"] =
        json!([entry("kustomize-controller", "Apply", json!({"f:spec": {"f:template": {}}}))]);
    let finding = only(found_in_manifests(&[quiet, kustomization(), autoscaler()], &[deployment()]));
    assert_eq!(
        (finding.certainty, finding.contenders[0].name.as_str()),
        (Certainty::Bound, "Kustomization flux-system/apps")
    );
    // The manifest removes the field.
    let without = with(&deployment(), json!({"spec": {"replicas": null}}));
    assert_eq!(found_in_manifests(&[by_flux(), kustomization(), autoscaler()], &[without]), []);
    // Both are new.
    assert_eq!(found_in_manifests(&[], &[deployment(), autoscaler()]).len(), 1);
}

#[test]
fn the_status_of_a_manifest_does_not_count_and_that_of_the_cluster_does() {
    let entry = |id: &str| json!({"id": id, "v": "v1"});
    let of = |name: &str| {
        with(
            &kustomization(),
            json!({"metadata": {"name": name}, "status": {"inventory": {"entries": [entry("shop_web_apps_Deployment")]}}}),
        )
    };
    let live = [of("apps"), of("web"), deployment()];
    let expected = only(found(&live)).rule;
    let manifest = with(&of("apps"), json!({"status": null}));
    assert_eq!(only(found_in_manifests(&live, &[manifest])).rule, expected);
    let claimed = with(&kustomization(), json!({"metadata": {"name": "apps"}, "status": of("web")["status"]}));
    assert_eq!(found_in_manifests(&[of("web"), deployment()], &[claimed]), [], "it is not applied yet");
}

#[test]
fn a_kustomization_that_is_gone_may_come_back() {
    let finding = only(found(&[by_flux(), autoscaler()]));
    assert_eq!(finding.certainty, Certainty::Possible, "{finding:#?}");
}

#[test]
fn conditions_of_a_policy_are_not_evaluated() {
    let live = with(&deployment(), json!({"metadata": {"labels": {"team": "web"}}}));
    let manifest = live.clone();
    let found_with = |patch: Value| {
        let patched = policy(json!({"patchStrategicMerge": patch}));
        found(&[by_argo_cd(&live, &manifest), application(), patched])
    };
    let plain = only(found_with(json!({"metadata": {"labels": {"team": "shop"}}})));
    assert_eq!(plain.certainty, Certainty::Bound);
    let anchored = only(found_with(json!({"spec": {"(paused)": true}, "metadata": {"labels": {"team": "shop"}}})));
    assert_eq!(anchored.certainty, Certainty::Possible);
}

#[test]
fn findings_are_in_a_fixed_order_and_hostile_names_are_only_text() {
    let hostile = "web'; $(reboot) #\u{1b}[2J";
    let web = with(&by_flux(), json!({"metadata": {"name": hostile}}));
    let scaler = with(&autoscaler(), json!({"spec": {"scaleTargetRef": {"name": hostile}}}));
    let finding = only(found(&[web, kustomization(), scaler]));
    let commands: Vec<&str> = finding.remedies.iter().map(|remedy| remedy.command.as_str()).collect();
    assert!(commands.iter().any(|command| command.contains("reboot")), "{commands:#?}");
    // Every program of a command is replaced by a function that prints nothing. A name that was run would print.
    let shell =
        "kubectl() { :; }; helm() { :; }; flux() { :; }; argocd() { :; }; jq() { :; }; reboot() { echo ran >&2; }\n";
    for command in commands {
        let run = std::process::Command::new("bash").args(["-c", &format!("{shell}{command}")]).output().unwrap();
        assert!(run.stderr.is_empty(), "{command}: {}", String::from_utf8_lossy(&run.stderr));
    }
    let twice = [by_flux(), kustomization(), autoscaler(), scaled_object()];
    assert_eq!(found(&twice), found(&twice.iter().rev().cloned().collect::<Vec<_>>()));
    // Objects of a shape that nobody expects.
    for shape in [json!(1), json!("x"), json!([]), json!({"a": [{}]}), Value::Null] {
        let odd = |kind: &str, group: &str| {
            json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {"name": "x", "namespace": "y",
                "labels": shape, "annotations": shape, "managedFields": shape, "ownerReferences": shape},
                "spec": shape, "status": shape, "webhooks": shape, "rules": shape})
        };
        let kinds = [
            ("HorizontalPodAutoscaler", "autoscaling"),
            ("Application", "argoproj.io"),
            ("ClusterPolicy", "kyverno.io"),
            ("Kustomization", "kustomize.toolkit.fluxcd.io"),
            ("HelmRelease", "helm.toolkit.fluxcd.io"),
            ("Job", "batch"),
            ("Deployment", "apps"),
            ("Certificate", "cert-manager.io"),
            ("ScaledObject", "keda.sh"),
            ("ClusterRole", "rbac.authorization.k8s.io"),
            ("MutatingWebhookConfiguration", "admissionregistration.k8s.io"),
        ];
        let objects: Vec<Value> = kinds.iter().map(|(kind, group)| odd(kind, group)).collect();
        let found = found(&objects);
        assert!(found.is_empty(), "{found:#?}");
    }
}
