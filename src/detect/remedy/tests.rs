use super::location::quoted_end;
use super::*;

const HPA: &str = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";
const OWNER: &str = "system:serviceaccount:openshift-cnv:virt-platform-autopilot";

fn replicas<'a>() -> Facts<'a> {
    Facts {
        resource: "deployments.apps".into(),
        kind: "Deployment",
        group: "apps",
        namespace: "shop",
        name: "web",
        cause: Cause::ConflictingAutomation,
        parties: vec![(HPA, Role::Hpa), (OWNER, Role::Operator)],
        honouring: Some(OWNER),
        fields: vec![ContestedField {
            path: "spec.replicas",
            wanted: vec![Wanted { actor: HPA, value: Some(json!(5)) }, Wanted { actor: OWNER, value: Some(json!(3)) }],
        }],
        hpa: Some("web".into()),
        application: None,
        flapping: None,
    }
}

fn commands(facts: &Facts<'_>) -> Vec<String> {
    remedies(facts).into_iter().map(|r| format!("{} {}", r.option, r.command)).collect()
}

#[test]
fn giving_up_a_field_comes_before_deleting_the_autoscaler() {
    assert_eq!(
        commands(&replicas()),
        [
            "C kubectl annotate deployments.apps web -n shop platform.kubevirt.io/ignore=spec.replicas \
             platform.kubevirt.io/reconcile-paused- --overwrite",
            "C kubectl annotate deployments.apps web -n shop \
             'platform.kubevirt.io/patch=[{\"op\":\"add\",\"path\":\"/spec/replicas\",\"value\":5}]' \
             platform.kubevirt.io/reconcile-paused- --overwrite",
            "B kubectl annotate deployments.apps web -n shop platform.kubevirt.io/mode=unmanaged \
             platform.kubevirt.io/reconcile-paused- --overwrite",
            "A kubectl delete horizontalpodautoscalers.autoscaling web -n shop",
        ]
    );
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
fn keys_with_dots_become_pointers_and_items_become_their_list() {
    let of = |path: &str| {
        let location = Location::of(path);
        (location.pointer.unwrap_or_default(), location.dotted.unwrap_or_default())
    };
    assert_eq!(of("spec.replicas"), ("/spec/replicas".into(), "spec.replicas".into()));
    assert_eq!(of("metadata.annotations['a.b/c~d']"), ("/metadata/annotations/a.b~1c~0d".into(), String::new()));
    assert_eq!(of(r"data['it\'s'].x"), ("/data/it's/x".into(), "data.it's.x".into()));
    assert_eq!(
        of("spec.template.spec.containers[name=web].image"),
        (String::new(), "spec.template.spec.containers".into())
    );
    assert_eq!(of("(main)"), (String::new(), String::new()));
}

#[test]
fn words_are_quoted_for_a_shell() {
    assert_eq!(quoted("a-b.c/d:e=f"), "a-b.c/d:e=f");
    assert_eq!(quoted("it's $HOME;"), r"'it'\''s $HOME;'");
    assert_eq!(quoted(""), "''");
}

#[test]
fn exempting_from_a_webhook_comes_before_deletions() {
    let facts = Facts {
        parties: vec![("alice", Role::Kubectl), ("webhook tags/tags.example.com", Role::Webhook)],
        honouring: None,
        ..replicas()
    };
    let first = &remedies(&facts)[0];
    assert_eq!(first.option, "D");
    assert!(first.command.contains("mutatingwebhookconfigurations.admissionregistration.k8s.io tags --type=strategic"));
    assert!(!remedies(&facts).iter().any(|r| r.command.contains("delete")));
}

#[test]
fn changes_that_kyverno_would_revert_are_not_proposed() {
    let webhook = "webhook kyverno-resource-mutating-webhook-cfg/mutate.kyverno.svc-fail";
    let argo = ("system:serviceaccount:argocd:argocd-application-controller", Role::ArgoCd);
    let facts = Facts { parties: vec![argo, (webhook, Role::Policy)], honouring: None, ..replicas() };
    let commands = commands(&facts);
    assert!(commands.iter().any(|c| c.contains("clusterpolicies.kyverno.io")), "{commands:?}");
    assert!(!commands.iter().any(|c| c.contains("mutatingwebhookconfigurations")), "{commands:?}");
}

#[test]
fn an_annotation_is_not_proposed_for_a_recreate_war() {
    let flux = ("system:serviceaccount:flux-system:kustomize-controller", Role::Flux);
    let of = |cause| commands(&Facts { cause, parties: vec![flux], honouring: None, fields: Vec::new(), ..replicas() });
    assert!(of(Cause::ConflictingAutomation)[0].contains("reconcile=disabled"));
    assert!(!of(Cause::RecreateWar).iter().any(|c| c.contains("reconcile=disabled")));
}

#[test]
fn gitops_tools_have_their_own_remedies() {
    let argo = ("system:serviceaccount:argocd:argocd-application-controller", Role::ArgoCd);
    let facts = Facts {
        parties: vec![argo, (HPA, Role::Hpa)],
        honouring: None,
        application: Some("shop".into()),
        ..replicas()
    };
    assert!(commands(&facts)[0].contains("ignoreDifferences") && commands(&facts)[0].contains("/spec/replicas"));
    let flux = ("system:serviceaccount:flux-system:kustomize-controller", Role::Flux);
    let facts = Facts { parties: vec![flux, (HPA, Role::Hpa)], honouring: None, ..replicas() };
    assert!(commands(&facts)[0].contains("kustomize.toolkit.fluxcd.io/reconcile=disabled"));
}

fn titles(facts: &Facts<'_>) -> Vec<String> {
    remedies(facts).into_iter().map(|r| r.title).collect()
}

#[test]
fn each_remedy_names_the_actor_and_the_field() {
    let titles = titles(&replicas());
    assert_eq!(titles[0], format!("leave spec.replicas to {HPA}"));
    assert_eq!(titles[1], format!("adopt the value of {HPA}"));
    assert_eq!(titles[2], format!("leave the object to {HPA}"));
    let three =
        Facts { parties: vec![(HPA, Role::Hpa), (OWNER, Role::Operator), ("alice", Role::Kubectl)], ..replicas() };
    assert_eq!(remedies(&three)[0].title, format!("leave spec.replicas to {HPA} and alice"));
}

#[test]
fn without_fields_only_the_whole_object_can_be_left_to_the_rival() {
    let whole = Facts { fields: Vec::new(), ..replicas() };
    assert!(commands(&whole)[0].contains("mode=unmanaged"), "{:?}", commands(&whole));
}

#[test]
fn the_verification_names_the_object() {
    assert_eq!(verify(&replicas()), "editwar who deployments.apps/web -n shop --server http://127.0.0.1:8080");
    let cluster = Facts { resource: "nodes".into(), namespace: "", name: "n1", ..replicas() };
    assert_eq!(verify(&cluster), "editwar who nodes/n1 --server http://127.0.0.1:8080");
}

#[test]
fn all_other_parties_are_exempted_from_a_webhook() {
    let facts = Facts {
        parties: vec![
            ("alice", Role::Kubectl),
            ("webhook tags/tags.example.com", Role::Webhook),
            ("bob", Role::Kubectl),
        ],
        honouring: None,
        ..replicas()
    };
    let command = &remedies(&facts)[0].command;
    let exempt = r#"request.userInfo.username != \"alice\" && request.userInfo.username != \"bob\""#;
    assert!(command.contains(exempt), "{command}");
    assert!(!command.contains("webhook tags/"), "{command}");
    let own = Facts {
        parties: vec![("alice", Role::Kubectl), ("webhook my-policies/x.example.com", Role::Policy)],
        honouring: None,
        ..replicas()
    };
    assert!(commands(&own)[0].contains("mutatingwebhookconfigurations"), "only Kyverno writes its own configuration");
}

#[test]
fn a_flapping_policy_or_webhook_is_investigated() {
    let of = |flapping| commands(&Facts { flapping: Some(flapping), honouring: None, ..replicas() });
    let policy = "D kubectl get validatingadmissionpolicies.admissionregistration.k8s.io odd -o yaml".to_owned();
    assert!(of("policy odd").contains(&policy), "{:?}", of("policy odd"));
    let webhook = "D kubectl get validatingwebhookconfigurations.admissionregistration.k8s.io -o yaml".to_owned();
    assert!(of("webhook w.example.com").contains(&webhook), "{:?}", of("webhook w.example.com"));
    let facts = Facts { flapping: Some("policy odd"), honouring: None, ..replicas() };
    assert!(titles(&facts)[0].starts_with("find out why the policy odd"), "{:?}", titles(&facts));
}

#[test]
fn a_person_is_named_by_their_account() {
    let facts = Facts { parties: vec![("alice", Role::Kubectl), (HPA, Role::Operator)], honouring: None, ..replicas() };
    let person = remedies(&facts).into_iter().find(|r| r.title.starts_with("agree")).unwrap();
    assert_eq!(person.title, format!("agree on one owner of these fields: alice works against {HPA}"));
    assert_eq!(person.command, "kubectl auth can-i update deployments.apps/web -n shop --as=alice");
    let alone = Facts {
        parties: vec![("bob via one", Role::Kubectl), ("bob via two", Role::Kubectl)],
        honouring: None,
        ..replicas()
    };
    let person = remedies(&alone).into_iter().find(|r| r.title.starts_with("agree")).unwrap();
    assert_eq!(person.title, "agree on one owner of these fields: bob works against the tools of that account");
}

#[test]
fn a_quoted_key_ends_at_its_closing_quote() {
    assert_eq!(quoted_end("a']"), Some(1));
    assert_eq!(quoted_end(r"it\'s'].x"), Some(5));
    assert_eq!(quoted_end("a'b']"), None, "the quote is not followed by a bracket");
    assert_eq!(quoted_end("a"), None);
    assert_eq!(quoted_end("aé\\\\']"), Some(5));
}
