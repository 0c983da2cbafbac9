use serde_json::json;

use super::location::quoted_end;
use super::*;
use crate::detect::application::ApplicationKind;

const HPA: &str = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";
const OWNER: &str = "system:serviceaccount:openshift-cnv:virt-platform-autopilot";
const ARGO: &str = "system:serviceaccount:argocd:argocd-application-controller";
const FLUX: &str = "system:serviceaccount:flux-system:kustomize-controller";
const HELM_CONTROLLER: &str = "system:serviceaccount:flux-system:helm-controller";
const OPERATOR: &str = "system:serviceaccount:shop:shop-operator";
const IMAGE: &str = "spec.template.spec.containers[name=web].image";

fn party(actor: &str, role: Role) -> Party<'_> {
    Party { actor, role, pods: &[], is_field_manager: false }
}

fn field<'a>(path: &'a str, values: &[(&'a str, Value)]) -> ContestedField<'a> {
    let wanted = |(actor, value): &(&'a str, Value)| Wanted { actor, value: Some(value.clone()) };
    ContestedField {
        path,
        actors: values.iter().map(|(actor, _)| *actor).collect(),
        wanted: values.iter().map(wanted).collect(),
        has_hidden_values: false,
        pointer: None,
    }
}

fn application(kind: ApplicationKind, namespace: &str, name: &str) -> Application {
    Application { kind, namespace: namespace.into(), name: name.into() }
}

/// The replicas of a Deployment, between two parties.
fn between<'a>(first: (&'a str, Role), second: (&'a str, Role)) -> Facts<'a> {
    Facts {
        resource: "deployments.apps".into(),
        kind: "Deployment",
        group: "apps",
        namespace: "shop",
        name: "web",
        context: None,
        cause: Cause::ConflictingAutomation,
        parties: vec![party(first.0, first.1), party(second.0, second.1)],
        honouring: None,
        fields: vec![field("spec.replicas", &[(first.0, json!(5)), (second.0, json!(3))])],
        applications: Vec::new(),
        owner: None,
        autoscaler: None,
        annotations: BTreeMap::new(),
        settings: Vec::new(),
        flapping: None,
    }
}

/// The war of the runbook.
fn replicas<'a>() -> Facts<'a> {
    let autoscaler = Some(Autoscaler { name: "web".into(), owner: None });
    Facts { honouring: Some(OWNER), autoscaler, ..between((HPA, Role::Hpa), (OWNER, Role::Operator)) }
}

fn commands(facts: &Facts<'_>) -> Vec<String> {
    remedies(facts).into_iter().map(|remedy| remedy.command).collect()
}

fn titles(facts: &Facts<'_>) -> Vec<String> {
    remedies(facts).into_iter().map(|remedy| remedy.title).collect()
}

fn kinds(facts: &Facts<'_>) -> Vec<RemedyKind> {
    remedies(facts).into_iter().map(|remedy| remedy.kind).collect()
}

#[test]
fn giving_up_a_field_comes_first_and_deleting_the_autoscaler_last() {
    let found = commands(&replicas());
    assert_eq!(
        found,
        [
            "kubectl annotate deployments.apps web -n shop platform.kubevirt.io/ignore=spec.replicas \
             platform.kubevirt.io/reconcile-paused- --overwrite",
            "kubectl annotate deployments.apps web -n shop \
             'platform.kubevirt.io/patch=[{\"op\":\"add\",\"path\":\"/spec/replicas\",\"value\":5}]' \
             platform.kubevirt.io/reconcile-paused- --overwrite",
            "kubectl annotate deployments.apps web -n shop platform.kubevirt.io/mode=unmanaged \
             platform.kubevirt.io/reconcile-paused- --overwrite",
            "kubectl delete horizontalpodautoscalers.autoscaling web -n shop",
        ]
    );
    let undo: Vec<Option<String>> = remedies(&replicas()).into_iter().map(|remedy| remedy.undo).collect();
    assert_eq!(undo[0].as_deref(), Some("kubectl annotate deployments.apps web -n shop platform.kubevirt.io/ignore-"));
    assert_eq!(undo[3], None, "a deletion cannot be undone");
}

#[test]
fn a_deletion_is_never_alone_or_first() {
    let autoscaler = Some(Autoscaler { name: "web".into(), owner: None });
    for role in [Role::Operator, Role::InTree, Role::Kubectl, Role::Helm, Role::Ci, Role::Gitops, Role::AddonManager] {
        let facts = Facts { autoscaler: autoscaler.clone(), ..between((HPA, Role::Hpa), (OPERATOR, role)) };
        let kinds = kinds(&facts);
        assert!(kinds.len() > 1 && kinds[0] != RemedyKind::Delete, "{role:?}: {kinds:?}");
        assert!(kinds.is_sorted(), "what changes, what shows, what deletes: {kinds:?}");
    }
}

#[test]
fn rejected_annotations_are_not_proposed() {
    let forbidden = Facts { kind: "ClusterRole", ..replicas() };
    assert!(!commands(&forbidden).iter().any(|c| c.contains("patch=")));
    let mut status = replicas();
    status.fields[0].path = "status.replicas";
    assert!(!commands(&status).iter().any(|c| c.contains("patch=")));
    let mut changing = replicas();
    changing.fields[0].wanted.push(Wanted { actor: HPA, value: Some(json!(6)) });
    assert!(!commands(&changing).iter().any(|c| c.contains("patch=")));
}

#[test]
fn a_remedy_has_only_the_fields_that_its_party_fights_over() {
    let mut facts = replicas();
    facts.parties.push(party("alice", Role::Kubectl));
    facts.fields.push(field("metadata.labels.tier", &[(HPA, json!("a")), ("alice", json!("b"))]));
    let found = remedies(&facts);
    assert!(found[0].command.contains("ignore=spec.replicas "), "{}", found[0].command);
    assert!(!found[1].command.contains("tier"), "{}", found[1].command);
    let refused = found.iter().find(|remedy| remedy.title.starts_with("refuse")).unwrap();
    assert!(refused.title.contains("metadata.labels.tier") && !refused.command.contains("replicas"), "{refused:?}");
}

#[test]
fn a_wider_reach_is_said() {
    let mut facts = replicas();
    facts.fields = vec![field(IMAGE, &[(HPA, json!("web:2")), (OWNER, json!("web:1"))])];
    let first = &remedies(&facts)[0];
    assert!(first.command.contains("ignore=spec.template.spec.containers "), "{}", first.command);
    for text in [&first.title, &first.changes, &first.tradeoff] {
        assert!(text.contains("all of spec.template.spec.containers"), "{text}");
    }
}

#[test]
fn a_location_has_the_notation_of_each_tool() {
    let of = |path: &str| {
        let location = Location::of(path);
        (location.pointer().unwrap_or_default(), location.dotted().unwrap_or_default())
    };
    assert_eq!(of("spec.replicas"), ("/spec/replicas".into(), "spec.replicas".into()));
    assert_eq!(of("metadata.annotations['a.b/c~d']"), ("/metadata/annotations/a.b~1c~0d".into(), String::new()));
    assert_eq!(of(r"data['it\'s'].x"), ("/data/it's/x".into(), "data.it's.x".into()));
    assert_eq!(of(IMAGE), (String::new(), "spec.template.spec.containers".into()));
    assert_eq!(of("(main)"), (String::new(), String::new()));
}

#[test]
fn items_of_lists_are_selected_by_their_keys() {
    let jq = |path: &str| Location::of(path).jq();
    assert_eq!(jq("spec.replicas").as_deref(), Some(".spec.replicas"));
    assert_eq!(jq("metadata.labels['a.b/c']").as_deref(), Some(r#".metadata.labels["a.b/c"]"#));
    assert_eq!(jq("(main)"), None);
    assert_eq!(
        jq(IMAGE).as_deref(),
        Some(r#".spec.template.spec.containers[] | select((.name | tostring) == "web") | .image"#)
    );
    assert_eq!(
        jq("spec.ports[port=80,protocol='a b']").as_deref(),
        Some(r#".spec.ports[] | select((.port | tostring) == "80" and (.protocol // "TCP" | tostring) == "a b")"#)
    );
    assert_eq!(
        jq("metadata.finalizers[example.com/x]").as_deref(),
        Some(r#".metadata.finalizers[] | select(. == "example.com/x")"#)
    );
    let cel = |path: &str| Location::of(path).cel("object").unwrap();
    assert_eq!(cel("spec.replicas"), "object.?spec.?replicas");
    assert_eq!(cel("metadata.labels['a.b/c']"), r#"object.?metadata.?labels[?"a.b/c"]"#);
    assert_eq!(
        cel("spec.containers[name=web].env[name=A].value"),
        "object.?spec.?containers.orValue([]).filter(i0, string(i0[?\"name\"].orValue(\"\")) == \"web\")\
         .map(i0, i0.?env.orValue([]).filter(i1, string(i1[?\"name\"].orValue(\"\")) == \"A\").map(i1, i1.?value))"
    );
    assert_eq!(cel("metadata.finalizers['a b']"), r#""a b" in object.?metadata.?finalizers.orValue([])"#);
}

#[test]
fn terraform_has_blocks_and_maps() {
    let of = |path: &str| Location::of(path).terraform();
    assert_eq!(of("spec.replicas").as_deref(), Some("spec[0].replicas"));
    assert_eq!(of("data.key").as_deref(), Some(r#"data["key"]"#));
    assert_eq!(of("metadata.annotations['a.b/c']").as_deref(), Some(r#"metadata[0].annotations["a.b/c"]"#));
    assert_eq!(of("spec.minReadySeconds").as_deref(), Some("spec[0].min_ready_seconds"));
    assert_eq!(of("data").as_deref(), Some("data"));
    assert_eq!(of(IMAGE), None, "the index of the container is not known");
    let facts = between((HPA, Role::Hpa), ("ci", Role::Terraform));
    assert!(titles(&facts).iter().any(|title| title.contains("ignore_changes = [spec[0].replicas]")));
}

#[test]
fn exempting_from_a_webhook_comes_before_deletions() {
    let webhook = "webhook tags/tags.example.com";
    let facts = between(("ci", Role::Ci), (webhook, Role::Webhook));
    let first = &remedies(&facts)[0];
    assert!(first.command.contains("mutatingwebhookconfigurations.admissionregistration.k8s.io tags --type=strategic"));
    assert!(first.undo.as_ref().is_some_and(|undo| undo.contains(r#""$patch":"delete""#)));
    assert!(!kinds(&facts).contains(&RemedyKind::Delete));
}

#[test]
fn changes_that_kyverno_would_revert_are_not_proposed() {
    let webhook = "webhook kyverno-resource-mutating-webhook-cfg/mutate.kyverno.svc-fail";
    let commands = commands(&between((ARGO, Role::ArgoCd), (webhook, Role::Policy)));
    assert!(commands.iter().any(|c| c.contains("clusterpolicies.kyverno.io")), "{commands:?}");
    assert!(!commands.iter().any(|c| c.contains("mutatingwebhookconfigurations")), "{commands:?}");
}

#[test]
fn an_annotation_is_not_proposed_for_a_recreate_war() {
    let ttl = "system:serviceaccount:kube-system:ttl-after-finished-controller";
    let of = |cause| Facts { cause, fields: Vec::new(), ..between((FLUX, Role::Flux), (ttl, Role::InTree)) };
    assert!(commands(&of(Cause::ConflictingAutomation))[0].contains("reconcile=disabled"));
    let facts = of(Cause::RecreateWar);
    assert!(!commands(&facts).iter().any(|c| c.contains("reconcile=disabled")));
    assert!(titles(&facts).iter().any(|title| title.contains("remove Deployment shop/web from")), "{facts:?}");
}

#[test]
fn argo_cd_ignores_the_fields_and_keeps_its_other_settings() {
    let mut facts = between((HPA, Role::Hpa), (ARGO, Role::ArgoCd));
    facts.applications = vec![application(ApplicationKind::ArgoCd, "", "web")];
    facts.fields.push(field(IMAGE, &[(HPA, json!("web:2")), (ARGO, json!("web:1"))]));
    let first = &remedies(&facts)[0];
    let patch =
        "kubectl patch applications.argoproj.io web -n argocd --type=merge --field-manager=editwar -p \"$(kubectl get ";
    assert!(first.command.starts_with(patch), "{}", first.command);
    assert!(first.command.contains(r#""jsonPointers":["/spec/replicas"]"#), "{}", first.command);
    assert!(first.command.contains("jqPathExpressions") && first.command.contains("RespectIgnoreDifferences=true"));
    let elsewhere = Facts {
        applications: vec![application(ApplicationKind::ArgoCd, "team", "web")],
        ..between((HPA, Role::Hpa), ("system:serviceaccount:gitops:argocd-application-controller", Role::ArgoCd))
    };
    assert!(commands(&elsewhere)[0].contains("applications.argoproj.io web -n team "));
    let unnamed = Facts { applications: vec![application(ApplicationKind::ArgoCd, "", "web")], ..elsewhere };
    assert!(commands(&unnamed)[0].contains("applications.argoproj.io web -n gitops "));
}

#[test]
fn flux_ignores_the_object_and_is_suspended_last() {
    let mut facts = between((HPA, Role::Hpa), (FLUX, Role::Flux));
    facts.applications = vec![application(ApplicationKind::Kustomization, "flux-system", "shop")];
    let found = remedies(&facts);
    assert!(found[0].command.contains("{spec: {ignore: ((.spec.ignore // []) - [$ignore] + [$ignore])}}"));
    assert!(found[1].command.contains("kustomize.toolkit.fluxcd.io/reconcile=disabled"));
    let dotted = Facts { name: "web.v1", ..facts.clone() };
    assert!(commands(&dotted)[0].contains(r#""name":"web\\.v1""#), "a dot of a regular expression matches anything");
    let last = found.iter().rfind(|remedy| remedy.kind == RemedyKind::Change).unwrap();
    assert_eq!(
        last.command,
        "kubectl patch kustomizations.kustomize.toolkit.fluxcd.io shop -n flux-system --type=merge \
         --field-manager=editwar -p '{\"spec\":{\"suspend\":true}}'"
    );
    assert!(
        found.iter().any(|remedy| remedy.title.starts_with("leave spec.replicas out of the manifests of the Kust"))
    );
}

#[test]
fn flux_ignores_an_item_of_a_list_by_its_index_if_that_is_known() {
    let mut facts = between((HPA, Role::Hpa), (FLUX, Role::Flux));
    facts.applications = vec![application(ApplicationKind::Kustomization, "flux-system", "shop")];
    facts.fields = vec![field(IMAGE, &[(HPA, json!("web:2")), (FLUX, json!("web:1"))])];
    assert!(!commands(&facts)[0].contains(".spec.ignore"), "the index is not known");
    facts.fields[0].pointer = Some("/spec/template/spec/containers/1/image".into());
    let first = &remedies(&facts)[0];
    assert!(first.command.contains(r#""paths":["/spec/template/spec/containers/1/image"]"#), "{}", first.command);
    assert!(first.tradeoff.contains("If the order of the list changes"), "{}", first.tradeoff);
}

#[test]
fn a_helm_release_of_flux_ignores_drift_of_the_field() {
    let mut facts = between((HPA, Role::Hpa), (HELM_CONTROLLER, Role::Flux));
    facts.applications = vec![application(ApplicationKind::HelmRelease, "shop", "web")];
    let first = &commands(&facts)[0];
    assert!(first.contains("helmreleases.helm.toolkit.fluxcd.io web -n shop -o json"), "{first}");
    assert!(first.contains(".spec.driftDetection.ignore") && first.contains("/spec/replicas"), "{first}");
    assert!(!commands(&facts).iter().any(|c| c.contains("reconcile=disabled")), "that is for Kustomizations");
}

#[test]
fn two_applications_of_one_tool_are_told_apart() {
    let (prod, staging) = (format!("{FLUX} via Kustomization prod"), format!("{FLUX} via Kustomization team/staging"));
    let facts = between((&prod, Role::Flux), (&staging, Role::Flux));
    let found = commands(&facts);
    let labels = "/metadata/labels/kustomize.toolkit.fluxcd.io~1name";
    assert!(found[0].contains("fluxcd.io prod ") && found[0].contains(labels) && found[0].contains("/spec/replicas"));
    for object in ["prod -n flux-system", "staging -n team"] {
        assert!(found.iter().any(|c| c.contains(&format!("fluxcd.io {object} --type=merge"))), "{found:?}");
    }
}

#[test]
fn keda_is_paused_and_its_autoscaler_is_not_deleted() {
    let owner = Owner { api_version: "keda.sh/v1alpha1".into(), kind: "ScaledObject".into(), name: "web".into() };
    let autoscaler = Some(Autoscaler { name: "keda-hpa-web".into(), owner: Some(owner) });
    let facts = Facts { autoscaler, ..between((HPA, Role::Hpa), (OPERATOR, Role::Operator)) };
    let found = commands(&facts);
    assert_eq!(
        found[0],
        "kubectl annotate scaledobjects.keda.sh web -n shop --field-manager=editwar autoscaling.keda.sh/paused=true --overwrite"
    );
    assert!(!found.iter().any(|command| command.contains("delete")), "{found:?}");
}

#[test]
fn the_object_from_which_an_operator_derives_the_field_is_shown() {
    let owner = Some(Owner { api_version: "shop.example.com/v1".into(), kind: "Shop".into(), name: "main".into() });
    let facts = Facts { owner, ..between((HPA, Role::Hpa), (OPERATOR, Role::Operator)) };
    let found = commands(&facts);
    assert!(found.contains(&"kubectl get Shop.v1.shop.example.com main -n shop -o yaml".to_owned()), "{found:?}");
}

#[test]
fn two_installations_of_one_program_are_shown() {
    let (old, new) =
        ("system:serviceaccount:cert-manager-old:cert-manager", "system:serviceaccount:cert-manager:cert-manager");
    let accounts = commands(&between((old, Role::CertManager), (new, Role::CertManager)));
    assert_eq!(accounts, ["kubectl get pods -n cert-manager -o wide; kubectl get pods -n cert-manager-old -o wide"]);
    let (a, b) = (format!("{new} via pod a"), format!("{new} via pod b"));
    let pods = ["a".to_owned(), "b".to_owned()];
    let mut replicas = between((&a, Role::CertManager), (&b, Role::CertManager));
    (replicas.parties[0].pods, replicas.parties[1].pods) = (&pods[..1], &pods[1..]);
    assert_eq!(commands(&replicas), ["kubectl get pods -n cert-manager a b -o wide"]);
    let kustomizations = (format!("{FLUX} via Kustomization a"), format!("{FLUX} via Kustomization b"));
    let mut one_pod = between((&kustomizations.0, Role::Flux), (&kustomizations.1, Role::Flux));
    (one_pod.parties[0].pods, one_pod.parties[1].pods) = (&pods[..1], &pods[..1]);
    assert!(!titles(&one_pod).iter().any(|title| title.contains("installed twice")));
}

#[test]
fn the_setting_that_has_the_wanted_value_is_named() {
    let setting =
        |path: &str, value: Value| Setting { kind: "HelmRelease".into(), name: "web".into(), path: path.into(), value };
    let mut facts = between((HPA, Role::Hpa), (HELM_CONTROLLER, Role::Flux));
    facts.applications = vec![application(ApplicationKind::HelmRelease, "shop", "web")];
    facts.settings = vec![setting("spec.values.replicaCount", json!(3)), setting("spec.values.max.replicas", json!(9))];
    let wanted = "remove spec.values.replicaCount from the HelmRelease web, which sets spec.replicas";
    assert!(titles(&facts).contains(&wanted.to_owned()), "{:?}", titles(&facts));
    facts.settings.push(setting("spec.values.worker.replicas", json!(3)));
    assert!(!titles(&facts).iter().any(|title| title.contains("remove spec.values")), "either could be the one");
    facts.fields = vec![field(IMAGE, &[(HPA, json!("web:2")), (HELM_CONTROLLER, json!("web:1"))])];
    facts.settings = vec![setting("spec.values.image.tag", json!("1"))];
    assert!(titles(&facts).iter().any(|title| title.starts_with("remove spec.values.image.tag")), "{facts:?}");
}

#[test]
fn changes_by_a_person_are_refused_by_a_policy() {
    let facts = between(("alice", Role::Kubectl), ("bob@example.com", Role::Kubectl));
    let found = remedies(&facts);
    let policies: Vec<&Remedy> = found.iter().filter(|remedy| remedy.title.starts_with("refuse")).collect();
    assert_eq!(policies.len(), 2, "either of them");
    let manifest = policies[1].command.strip_prefix("printf '%s' '").unwrap();
    let manifest = manifest.strip_suffix("' | kubectl apply -f -").unwrap().replace(r"'\''", "'");
    let manifest: Value = serde_json::from_str(&manifest).unwrap();
    let spec = &manifest["items"][0]["spec"];
    assert_eq!(spec["matchConditions"][0]["expression"], r#"request.userInfo.username == "bob@example.com""#);
    assert_eq!(spec["matchConstraints"]["resourceRules"][0]["resources"], json!(["deployments", "deployments/scale"]));
    assert_eq!(spec["validations"][0]["expression"], "object.?spec.?replicas == oldObject.?spec.?replicas");
    let name = manifest["items"][0]["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("editwar-web-bob-example-com-"), "{name}");
    assert!(policies[1].undo.as_ref().unwrap().ends_with(name));
    let own = between(("bob via one", Role::Kubectl), ("bob via two", Role::Kubectl));
    assert!(!titles(&own).iter().any(|title| title.starts_with("refuse")), "a policy cannot tell them apart");
}

#[test]
fn each_remedy_names_the_actor_and_the_field() {
    let titles = titles(&replicas());
    assert_eq!(titles[0], format!("leave spec.replicas to {HPA}"));
    assert_eq!(titles[1], format!("adopt the value of {HPA}"));
    assert_eq!(titles[2], format!("leave the object to {HPA}"));
    let mut three = replicas();
    three.parties.push(party("alice", Role::Kubectl));
    assert_eq!(remedies(&three)[0].title, format!("leave spec.replicas to {HPA} and alice"));
}

#[test]
fn without_fields_only_the_whole_object_can_be_left_to_the_rival() {
    let whole = Facts { fields: Vec::new(), ..replicas() };
    assert!(commands(&whole)[0].contains("mode=unmanaged"), "{:?}", commands(&whole));
}

#[test]
fn every_command_has_the_context() {
    let webhook = "webhook tags/tags.example.com";
    let mut all = vec![Facts { flapping: Some("policy odd"), ..replicas() }];
    all.push(between(("alice", Role::Kubectl), (webhook, Role::Webhook)));
    all.push(Facts {
        applications: vec![
            application(ApplicationKind::ArgoCd, "", "web"),
            application(ApplicationKind::Kustomization, "flux-system", "shop"),
        ],
        ..between((ARGO, Role::ArgoCd), (FLUX, Role::Flux))
    });
    for facts in all {
        let facts = Facts { context: Some("prod eu"), ..facts };
        for remedy in remedies(&facts) {
            for command in std::iter::once(&remedy.command).chain(&remedy.undo) {
                let (all, in_context) = (command.matches("kubectl ").count(), "kubectl --context 'prod eu' ");
                assert_eq!(command.matches(in_context).count(), all, "{command}");
            }
        }
    }
}

#[test]
fn all_other_parties_are_exempted_from_a_webhook() {
    let mut facts = between(("alice", Role::Kubectl), ("webhook tags/tags.example.com", Role::Webhook));
    facts.parties.push(party("bob", Role::Kubectl));
    let command = &remedies(&facts)[0].command;
    let exempt = r#"request.userInfo.username != \"alice\" && request.userInfo.username != \"bob\""#;
    assert!(command.contains(exempt), "{command}");
    assert!(!command.contains("webhook tags/"), "{command}");
    let own = between(("alice", Role::Kubectl), ("webhook my-policies/x.example.com", Role::Policy));
    assert!(commands(&own)[0].contains("mutatingwebhookconfigurations"), "only Kyverno writes its own configuration");
}

#[test]
fn a_flapping_policy_or_webhook_is_investigated() {
    let of = |flapping| commands(&Facts { flapping: Some(flapping), honouring: None, ..replicas() });
    let policy = "kubectl get validatingadmissionpolicies.admissionregistration.k8s.io odd -o yaml".to_owned();
    assert!(of("policy odd").contains(&policy), "{:?}", of("policy odd"));
    let webhook = "kubectl get validatingwebhookconfigurations.admissionregistration.k8s.io -o yaml".to_owned();
    assert!(of("webhook w.example.com").contains(&webhook), "{:?}", of("webhook w.example.com"));
}

#[test]
fn a_person_is_named_by_their_account() {
    let titles_of = |first, second| titles(&between((first, Role::Kubectl), second));
    let talk = |titles: Vec<String>| titles.into_iter().find(|title| title.starts_with("talk to")).unwrap();
    assert_eq!(
        talk(titles_of("alice", (OPERATOR, Role::Operator))),
        format!("talk to alice: agree with {OPERATOR} on one owner of these fields")
    );
    assert_eq!(
        talk(titles_of("bob", ("bobby", Role::Kubectl))),
        "talk to bob: agree with bobby on one owner of these fields"
    );
    let alone = titles_of("bob via one", ("bob via two", Role::Kubectl));
    assert!(alone.contains(&"bob edits this with several tools: choose one of them".to_owned()), "{alone:?}");
}

#[test]
fn a_quoted_key_ends_at_its_closing_quote() {
    assert_eq!(quoted_end("a']"), Some(1));
    assert_eq!(quoted_end(r"it\'s'].x"), Some(5));
    assert_eq!(quoted_end("a'b']"), None, "the quote is not followed by a bracket");
    assert_eq!(quoted_end("a"), None);
    assert_eq!(quoted_end("aé\\\\']"), Some(5));
}

/// Forged events may hold names that kubectl would parse as flags, such as `--server`, which gets the user's token.
#[test]
fn no_name_from_an_event_becomes_a_flag() {
    let flag = "--server=https://example.com";
    let kinds =
        [ApplicationKind::ArgoCd, ApplicationKind::Kustomization, ApplicationKind::HelmRelease, ApplicationKind::Helm];
    let pods = [flag.to_owned(), "--token".to_owned()];
    for first in [ARGO, FLUX, HELM_CONTROLLER, "ci", OPERATOR] {
        let role = match first {
            ARGO => Role::ArgoCd,
            FLUX | HELM_CONTROLLER => Role::Flux,
            OPERATOR => Role::Operator,
            _ => Role::Helm,
        };
        let mut facts = Facts {
            namespace: flag,
            name: flag,
            applications: kinds.map(|kind| application(kind, flag, flag)).into(),
            owner: Some(Owner { api_version: "v1".into(), kind: flag.into(), name: "pods".into() }),
            autoscaler: Some(Autoscaler { name: flag.into(), owner: None }),
            flapping: Some("policy --server=https://example.com"),
            ..between((HPA, Role::Hpa), (first, role))
        };
        facts.parties.iter_mut().for_each(|party| party.pods = &pods);
        for remedy in remedies(&facts) {
            for command in std::iter::once(&remedy.command).chain(&remedy.undo) {
                // After `-n`, it is the value of that flag.
                let words = command.replace(&format!("-n {flag}"), "");
                assert!(!words.split([' ', '"']).any(|word| word.starts_with("--server")), "{command}");
            }
        }
    }
    let resource = Facts { resource: flag.into(), ..between((HPA, Role::Hpa), (OPERATOR, Role::Operator)) };
    assert!(remedies(&resource).is_empty());
}

#[test]
fn an_annotation_for_another_war_is_kept() {
    let mut facts = replicas();
    facts.annotations = BTreeMap::from([("ignore", "spec.paused".to_owned()), ("patch", "[]".to_owned())]);
    let first = &remedies(&facts)[0];
    assert!(first.command.contains("ignore=spec.paused,spec.replicas "), "{}", first.command);
    assert!(first.undo.as_ref().unwrap().contains("ignore=spec.paused "), "{first:?}");
    assert!(!commands(&facts).iter().any(|command| command.contains("/patch=")), "it would replace the other one");
}

#[test]
fn the_tools_of_flux_are_told_apart() {
    let mut facts = between((FLUX, Role::Flux), (HELM_CONTROLLER, Role::Flux));
    facts.applications = vec![
        application(ApplicationKind::Kustomization, "flux-system", "shop"),
        application(ApplicationKind::HelmRelease, "shop", "web"),
    ];
    let titles = titles(&facts);
    let about = |text: &str| titles.iter().filter(|title| title.contains(text)).count();
    assert_eq!(
        (about("suspend the whole Kustomization"), about("suspend the whole HelmRelease")),
        (1, 1),
        "{titles:?}"
    );
    let helm = between((HPA, Role::Hpa), (HELM_CONTROLLER, Role::Flux));
    assert!(!commands(&helm).iter().any(|command| command.contains("reconcile=disabled")), "it does not read that");
}

#[test]
fn an_application_whose_namespace_is_not_known_is_not_changed() {
    let mut facts = between((HPA, Role::Hpa), ("system:serviceaccount:kube-system:argocd-manager", Role::ArgoCd));
    facts.applications = vec![application(ApplicationKind::ArgoCd, "", "web")];
    assert!(!commands(&facts).iter().any(|command| command.contains("argoproj.io")), "it may be in another cluster");
    let via = format!("{ARGO} via Application team_web");
    let own = between((&via, Role::ArgoCd), (HPA, Role::Hpa));
    assert!(commands(&own)[0].contains("applications.argoproj.io web -n team "), "{:?}", commands(&own)[0]);
}

#[test]
fn what_is_not_known_is_not_put_into_a_setting() {
    let mut facts = between((HPA, Role::Hpa), (ARGO, Role::ArgoCd));
    facts.applications = vec![application(ApplicationKind::ArgoCd, "", "web")];
    let unknown = Facts { kind: "shops", ..facts };
    assert!(!commands(&unknown).iter().any(|command| command.contains("ignoreDifferences")));
    let mut hidden = replicas();
    hidden.fields[0].has_hidden_values = true;
    assert!(!commands(&hidden).iter().any(|command| command.contains("/patch=")), "there is more than one value");
    let location = Location::of("spec.containers[1].image");
    assert_eq!(location.jq().as_deref(), Some(".spec.containers[1].image"));
    assert_eq!(location.cel("object").as_deref(), Some("object.?spec.?containers[?1].?image"));
    assert_eq!(location.pointer(), None, "the index may change");
    assert_eq!(Location::of("spec.in").cel("object").as_deref(), Some(r#"object.?spec[?"in"]"#));
}

#[test]
fn only_accounts_are_exempted_from_a_webhook_each_set_by_its_own_condition() {
    let webhook = ("webhook tags/tags.example.com", Role::Webhook);
    let two = between(("webhook other/other.example.com", Role::Webhook), webhook);
    assert!(!titles(&two).iter().any(|title| title.starts_with("exempt")), "{:?}", titles(&two));
    let name = |actor: &'static str| {
        let command = remedies(&between((actor, Role::Kubectl), webhook))[0].command.clone();
        command.split("editwar-exempt-").nth(1).unwrap()[..8].to_owned()
    };
    assert_ne!(name("alice"), name("bob"));
    assert!(remedies(&between(("bob via tool", Role::Ci), webhook))[0].command.contains(r#"!= \"bob\""#));
}

#[test]
fn field_managers_get_the_remedies_of_their_program_but_no_policy_against_an_account() {
    let (flux, kubectl) = ("kustomize-controller (Apply)", "kubectl-edit (Update)");
    let mut facts = between((flux, Role::Flux), (kubectl, Role::Kubectl));
    facts.cause = Cause::ManualEdits;
    facts.applications = vec![application(ApplicationKind::Kustomization, "flux-system", "shop")];
    let of_accounts = titles(&facts);
    assert!(of_accounts.iter().any(|title| title.starts_with("refuse changes")), "{of_accounts:?}");
    facts.parties.iter_mut().for_each(|party| party.is_field_manager = true);
    let found = titles(&facts);
    assert!(found[0].starts_with("make Flux ignore spec.replicas"), "{found:?}");
    assert!(!found.iter().any(|title| title.starts_with("refuse changes")), "{found:?}");
    assert!(
        found.iter().any(|title| title.starts_with("find out who edits this as kubectl-edit (Update)")),
        "{found:?}"
    );
}
