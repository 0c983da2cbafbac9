use super::*;
use crate::detect::actor::Origin;

const FLUX: &str = "system:serviceaccount:flux-system:kustomize-controller";

fn client(tool: &str, agent: &str, pod: &str) -> Client {
    Client::new("system:serviceaccount:x:y", tool, agent, Origin { pod: pod.into(), ..Origin::default() })
}

#[test]
fn the_marks_of_a_body_identify_the_application() {
    for (body, account, expected) in [
        (
            r#"{"metadata":{"labels":{"a":"b","kustomize.toolkit.fluxcd.io/name":"shop-prod","kustomize.toolkit.fluxcd.io/namespace":"flux-system"}}}"#,
            FLUX,
            Some("Kustomization shop-prod"),
        ),
        (
            r#"{"metadata":{"labels":{"kustomize.toolkit.fluxcd.io/name":"shop","kustomize.toolkit.fluxcd.io/namespace":"team-a"}}}"#,
            FLUX,
            Some("Kustomization team-a/shop"),
        ),
        (
            r#"{"metadata":{"annotations":{"argocd.argoproj.io/tracking-id":"web:apps/Deployment:shop/web"}},"spec":{}}"#,
            "system:serviceaccount:argocd:argocd-application-controller",
            Some("Application web"),
        ),
        (
            r#"{"metadata":{"annotations":{"meta.helm.sh/release-name":"r1","meta.helm.sh/release-namespace":"shop"}}}"#,
            "ci",
            Some("Helm release shop/r1"),
        ),
        (r#"{"metadata":{"labels":{"kustomize.toolkit.fluxcd.io/name":""}}}"#, FLUX, None),
        (r#"{"spec":{"replicas":1}}"#, FLUX, None),
        (r#"[{"op":"replace"}]"#, FLUX, None),
        ("", FLUX, None),
    ] {
        assert_eq!(instance(body.as_bytes(), account).as_deref(), expected, "{body}");
    }
}

#[test]
fn long_names_are_truncated_between_characters() {
    let name = "ä".repeat(100);
    let body = format!(r#"{{"metadata":{{"labels":{{"kapp.k14s.io/app":"{name}"}}}}}}"#);
    assert_eq!(instance(body.as_bytes(), "x").unwrap(), format!("kapp app {}", "ä".repeat(64)));
}

#[test]
fn parts_of_one_program_are_not_rivals() {
    let part = |name: &str, pod: &str| client(name, &format!("{name}/v1.15.3 (linux/amd64) cert-manager/5a2b3c4"), pod);
    assert_eq!(distinction(&part("cm-trigger", ""), &part("cm-issuing", "")), None);
    assert_eq!(distinction(&part("cm-trigger", "a"), &part("cm-issuing", "a")), None);
    assert_eq!(distinction(&part("cm-trigger", "a"), &part("cm-issuing", "b")).as_deref(), Some("pod a"));
    let kubectl = |tool: &str| client(tool, "kubectl/v1.36.2 (linux/amd64) kubernetes/$Format", "");
    assert_eq!(distinction(&kubectl("kubectl-edit"), &kubectl("kubectl-patch")), None);
}

#[test]
fn tools_and_versions_of_one_account_are_rivals() {
    let agent = |version: &str| format!("manager/{version} (linux/amd64) kubernetes/$Format");
    assert_eq!(distinction(&client("one", &agent("v1"), ""), &client("two", &agent("v1"), "")).as_deref(), Some("one"));
    assert_eq!(distinction(&client("m", &agent("v1"), ""), &client("m", &agent("v2"), "")).as_deref(), Some("m v1"));
    assert_eq!(distinction(&client("m", &agent("v1"), ""), &client("m", &agent("v1"), "")), None);
    assert_eq!(distinction(&client("m", "", ""), &client("m", &agent("v1"), "")), None);
}

#[test]
fn applications_and_pods_take_precedence_over_tools() {
    let agent = "helm/v3.15 (linux/amd64) helm/abc";
    let plain = client("helm", agent, "");
    let (a, b) = (plain.of_instance("Helm release a"), plain.of_instance("Helm release b"));
    assert_eq!(distinction(&a, &b).as_deref(), Some("Helm release a"));
    assert_eq!(distinction(&a, &a.clone()), None, "one application");
    // If the application of one side is not known, the applications are not compared.
    assert_eq!(distinction(&a, &plain), None);
    assert_eq!(distinction(&plain, &a), None);
    let other = client("kubectl-edit", "kubectl/v1.36.2", "");
    assert_eq!(distinction(&a, &other).as_deref(), Some("helm"));
    // If the pod of one side is not known, the tools are compared.
    assert_eq!(distinction(&client("one", "", "p"), &client("two", "", "")).as_deref(), Some("one"));
    assert_eq!(distinction(&client("one", "", ""), &client("two", "", "p")).as_deref(), Some("one"));
    assert_eq!(distinction(&client("one", "", "p"), &client("two", "", "p")), None, "one pod");
}

#[test]
fn kubectl_is_one_program_only_if_both_are_kubectl() {
    let kubectl = client("kubectl-edit", "kubectl/v1.36.2 (linux/amd64) kubernetes/$Format", "");
    let script = client("kubectl-patch", "curl/8.5", "");
    let helm = client("helm", "Helm/3.15", "");
    let bare = client("kubectl-patch", "", "");
    assert_eq!(distinction(&kubectl, &helm).as_deref(), Some("kubectl-edit"));
    assert_eq!(distinction(&helm, &kubectl).as_deref(), Some("helm"));
    assert_eq!(
        distinction(&kubectl, &script).as_deref(),
        Some("kubectl-edit"),
        "another program with a similar tool name"
    );
    assert_eq!(distinction(&kubectl, &bare), None, "without a user agent, the tool's name decides");
}
