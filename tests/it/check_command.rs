//! `editwar check` as a command: on a real API server, on manifests alone, and when something is wrong.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::cli::run;
use crate::envtest::{ApiServer, scratch};
use crate::{require, util};

const DEPLOYMENT: &str = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: shop}, spec: {replicas: 3, \
                          selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: \
                          [{name: web, image: nginx, env: [{name: TOKEN, value: not-for-eyes}]}]}}}}";
const AUTOSCALER: &str = "{apiVersion: autoscaling/v2, kind: HorizontalPodAutoscaler, metadata: {name: web, namespace: shop}, spec: \
                          {minReplicas: 2, maxReplicas: 10, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}}}";

/// Writes a file into a new directory, and returns its path.
fn file(name: &str, text: &str) -> String {
    let path = scratch("check").join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

/// Runs a command in a cluster as a user.
fn editwar(server: &ApiServer, user: &str, arguments: &[&str]) -> (i32, String, String) {
    let output: Output = Command::new(env!("CARGO_BIN_EXE_editwar"))
        .arg("check")
        .args(arguments)
        .arg("--kubeconfig")
        .arg(server.kubeconfig(user))
        .env_clear()
        .env("COLUMNS", "80")
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// Checks with a real parser that a report is well-formed, and returns `tests failures errors`.
fn counts_in_junit(path: &Path) -> Option<String> {
    let python = require::program("python", &["python3"])?;
    let script = "import sys, xml.etree.ElementTree as e\nr = e.parse(sys.argv[1]).getroot()\n\
                  assert int(r.get('tests')) == len(r.findall('testcase'))\n\
                  print(r.get('tests'), len(r.findall('testcase/failure')), len(r.findall('testcase/error')))";
    let output = Command::new(python).args(["-c", script]).arg(path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

fn apply_as(server: &ApiServer, manager: &str, manifest: &str) {
    let path = file("manifest.yaml", manifest);
    let manager = format!("--field-manager={manager}");
    server.kubectl("admin", &["apply", "--server-side", &manager, "-f", &path]);
}

#[test]
fn a_fight_is_named_before_it_starts_in_a_real_cluster() {
    let Some(server) = ApiServer::start(None) else { return };
    apply_as(&server, "kubectl", "{apiVersion: v1, kind: Namespace, metadata: {name: calm}}");
    let (code, out, err) = editwar(&server, "admin", &["-A"]);
    assert!(code == 0 && out.starts_with("No fight found."), "{code} {out}{err}");

    apply_as(&server, "kustomize-controller", DEPLOYMENT);
    let (code, ..) = editwar(&server, "admin", &["-n", "shop"]);
    assert_eq!(code, 0, "there is no autoscaler");
    // Before it is applied.
    let autoscaler = file("autoscaler.yaml", AUTOSCALER);
    let (code, out, err) = editwar(&server, "admin", &["-f", &autoscaler]);
    assert!(code == 1 && out.contains("Deployment shop/web  spec.replicas"), "{code} {out}{err}");
    apply_as(&server, "admin-tool", AUTOSCALER);

    let report = scratch("check").join("editwar.xml");
    let (code, out, err) =
        editwar(&server, "admin", &["-n", "shop", "-o", "json", "--junit", report.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (1, ""));
    let found: Value = serde_json::from_str(&out).unwrap();
    let finding = &found["findings"][0];
    assert_eq!(found["findings"].as_array().unwrap().len(), 1, "{out}");
    assert_eq!((&finding["object"]["name"], &finding["fields"][0]), (&"web".into(), &"spec.replicas".into()));
    assert_eq!(finding["evidence"][0], "field manager kustomize-controller (Apply) owns it");
    assert!(!out.contains("not-for-eyes"));
    if let Some(counts) = counts_in_junit(&report) {
        assert_eq!(counts, format!("{} 1 0", editwar::check::RULES.len()));
    }

    // The table is at most as wide as the terminal, and says what to do.
    let (_, out, _) = editwar(&server, "admin", &[]);
    assert!(out.lines().all(|line| line.chars().count() <= 80), "{out}");
    for part in ["1 fight: 1 bound to happen", "scales it between 2 and 10", "To do: leave spec.replicas out of"] {
        assert!(out.contains(part), "{part} is missing:\n{out}");
    }
    let (code, ..) = editwar(&server, "admin", &["-n", "calm", "-f", &autoscaler]);
    assert_eq!(code, 2, "nothing is in that namespace");
    // Manifests without namespaces are checked in any case.
    let role = "{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: all}, aggregationRule: \
                {clusterRoleSelectors: [{matchLabels: {a: b}}]}, rules: [{apiGroups: [''], resources: [pods], verbs: [get]}]}";
    let role = file("role.yaml", role);
    let (code, out, err) = editwar(&server, "admin", &["-n", "shop", "-f", &role]);
    assert!(code == 1 && out.contains("ClusterRole all"), "{code} {out}{err}");
    let (code, _, err) = editwar(&server, "admin", &["-n", "shpo", "-f", &autoscaler]);
    assert!(code == 2 && err.contains("nothing was found in namespace shpo"), "{code} {err}");
    let (_, yaml, _) = editwar(&server, "admin", &["-o", "yaml"]);
    assert_eq!(serde_yaml_ng::from_str::<Value>(&yaml).unwrap()["findings"][0]["object"]["name"], "web");
    let (_, markdown, _) = editwar(&server, "admin", &["-o", "markdown"]);
    assert!(markdown.contains("## Deployment shop/web: bound to happen"), "{markdown}");
    let plugin = Command::new(env!("CARGO_BIN_EXE_kubectl-editwar"))
        .args(["check", "-n", "shop", "-q", "--kubeconfig"])
        .arg(server.kubeconfig("admin"))
        .env_clear()
        .output()
        .unwrap();
    assert_eq!(plugin.status.code(), Some(1), "{plugin:?}");
}

#[test]
fn the_role_in_deploy_is_enough_and_less_is_told_once() {
    let Some(server) = ApiServer::start(None) else { return };
    apply_as(&server, "kustomize-controller", DEPLOYMENT);
    apply_as(&server, "admin-tool", AUTOSCALER);
    let account = "system:serviceaccount:editwar:editwar";
    let (code, out, err) = editwar(&server, account, &["-n", "shop"]);
    assert_eq!(code, 2, "{out}");
    let refused = "deployments.apps were not read: this account may not list them in namespace shop";
    assert_eq!(err.matches(refused).count(), 1, "{err}");
    let (_, out, err) = editwar(&server, account, &["-n", "shop", "-q", "-o", "json"]);
    let found: Value = serde_json::from_str(&out).unwrap();
    let problems = found["coverage"]["problems"].as_array().unwrap();
    assert!(err.is_empty() && problems.iter().any(|problem| problem == refused), "{problems:?}");

    server.kubectl("admin", &["apply", "-f", util::path("deploy/rbac/check.yaml").to_str().unwrap()]);
    let binding = ["create", "clusterrolebinding", "check", "--clusterrole=editwar-check", "--group=editwar"];
    server.kubectl("admin", &binding);
    let (code, out, err) = editwar(&server, account, &[]);
    assert!(code == 1 && err.is_empty(), "{code} {out}{err}");
    let secrets = server.output(account, &["get", "secrets", "-n", "shop"]);
    assert!(!secrets.status.success(), "the role grants no Secrets");
}

#[test]
fn manifests_alone_are_checked_without_a_cluster() {
    let both = file("both.yaml", &format!("{DEPLOYMENT}\n---\n{AUTOSCALER}\n"));
    let (code, out, err) = run(&["check", "--offline", "-f", &both], None);
    assert!(code == 1 && err.is_empty() && out.contains("spec.replicas"), "{code} {out}{err}");
    // The manifest of a person or a pipeline is applied only now and then.
    let (code, out, _) = run(&["check", "--offline", "-f", &both, "--certainty", "bound"], None);
    assert!(code == 0 && out.starts_with("No fight found."), "{out}");
    let (code, ..) = run(&["check", "--offline", "-f", "-"], Some(DEPLOYMENT.as_bytes()));
    assert_eq!(code, 0);
    // A directory, with files that are no manifests.
    let folder = scratch("check");
    std::fs::create_dir(folder.join("apps")).unwrap();
    std::fs::write(folder.join("apps/web.yaml"), DEPLOYMENT).unwrap();
    std::fs::write(
        folder.join("hpa.json"),
        serde_json::to_string(&serde_yaml_ng::from_str::<Value>(AUTOSCALER).unwrap()).unwrap(),
    )
    .unwrap();
    std::fs::write(folder.join("kustomization.yaml"), "resources: [apps/web.yaml]\n").unwrap();
    std::fs::write(folder.join("notes.txt"), "{{ not a manifest").unwrap();
    let (code, out, err) = run(&["check", "--offline", "-f", folder.to_str().unwrap()], None);
    assert!(code == 1 && out.contains("apps/web.yaml") && err.contains("kustomize build"), "{code} {out}{err}");
}

#[test]
fn what_is_wrong_with_the_arguments_or_files_is_said() {
    let broken = file("broken.yaml", "a: [");
    let template = file("template.yaml", "kind: {{ .Values.kind }\n");
    let empty = file("empty.yaml", "replicaCount: 1\n");
    for (arguments, parts) in [
        (vec!["-f", "missing.yaml", "--offline"], vec!["missing.yaml", "No such file"]),
        (vec!["-f", &broken, "--offline"], vec!["broken.yaml", "is not valid YAML or JSON"]),
        (vec!["-f", &template, "--offline"], vec!["template.yaml", "helm template"]),
        (vec!["-f", &empty, "--offline"], vec!["empty.yaml", "contains no Kubernetes object", "metadata.name"]),
        (vec!["--offline"], vec!["--filename"]),
        (vec!["-o", "csv"], vec!["does not support -o csv", "table, wide, json, yaml or markdown"]),
        (vec!["-n", "shop", "-A"], vec!["cannot be used with"]),
        (vec!["--certainty", "sure"], vec!["possible", "bound"]),
        (vec!["-f", &empty.replace("empty", "none"), "--offline"], vec!["none.yaml"]),
        (vec!["--kubeconfig", "missing"], vec!["no cluster to check", "missing"]),
    ] {
        let (code, _, err) = run(&[&["check"], arguments.as_slice()].concat(), None);
        assert_eq!(code, 2, "{arguments:?}: {err}");
        for part in parts {
            assert!(err.contains(part), "{arguments:?}: {part} is missing in {err}");
        }
    }
}

#[test]
fn nothing_of_the_manifests_is_left_out_silently() {
    let offline = |files: &[&str], input: Option<&[u8]>| {
        let files: Vec<&str> = files.iter().flat_map(|file| ["-f", file]).collect();
        run(&[&["check", "--offline"], files.as_slice()].concat(), input)
    };
    let (web, scaler) = (file("web.yaml", DEPLOYMENT), file("scaler.yaml", AUTOSCALER));
    let patch = file("patch.yaml", "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: shop}}");
    let (code, _, err) = offline(&[&web, &scaler, &patch], None);
    assert!(code == 2 && err.contains("Deployment shop/web is in several manifests"), "{code} {err}");
    let unnamed = file("job.yaml", "{apiVersion: batch/v1, kind: Job, metadata: {generateName: migrate-}}");
    let (code, _, err) = offline(&[&web, &unnamed], None);
    assert!(code == 2, "{err}");
    let both = file("two.yaml", &format!("{DEPLOYMENT}\n---\n{{apiVersion: batch/v1, kind: Job}}\n"));
    let (code, _, err) = offline(&[&both], None);
    assert!(code == 2 && err.contains("a Job without metadata.name is not checked"), "{code} {err}");
    let (code, _, err) = offline(&["/dev/zero"], None);
    assert!(code == 2 && err.contains("/dev/zero is not a file"), "{code} {err}");
    let long = format!("{DEPLOYMENT}\n# {}\n", "x".repeat(64 << 20));
    let (code, _, err) = offline(&["-"], Some(long.as_bytes()));
    assert!(code == 2 && err.contains("standard input is larger than 64 MiB"), "{code} {err}");
    let (code, _, err) = run(&["check", "-n", "shop/secrets/x?", "--offline", "-f", &web], None);
    assert!(code == 2 && err.contains("is not the name of a namespace"), "{code} {err}");
}

/// The Deployment with the marks of Flux, so that there are commands that end the fight.
fn marked() -> String {
    let mut object: Value = serde_yaml_ng::from_str(DEPLOYMENT).unwrap();
    object["metadata"]["labels"] = serde_json::json!({
        "kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system",
    });
    object.to_string()
}

#[test]
fn commands_use_the_kubeconfig_that_was_read_and_say_what_else_they_change() {
    let both = file("both.yaml", &format!("{}\n---\n{AUTOSCALER}\n", marked()));
    let arguments = ["check", "--offline", "-f", &both, "--kubeconfig", "my file"];
    let (_, out, err) = run(&[&arguments[..], &["-o", "json"]].concat(), None);
    let found: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    let remedies = found["findings"][0]["remedies"].as_array().unwrap();
    assert!(!remedies.is_empty(), "{out}");
    for remedy in remedies {
        let commands = [&remedy["command"], &remedy["undo"]].map(|command| command.as_str().unwrap_or_default());
        for command in commands.into_iter().filter(|command| !command.is_empty()) {
            assert!(command.starts_with("(export KUBECONFIG='my file'; ") && command.ends_with(')'), "{command}");
        }
    }
    let (_, wide, _) = run(&[&arguments[..], &["-o", "wide"]].concat(), None);
    let (_, markdown, _) = run(&[&arguments[..], &["-o", "markdown"]].concat(), None);
    for text in [wide, markdown] {
        assert!(text.contains("Tradeoff: ") && text.contains("To undo it:"), "{text}");
    }
}

#[test]
fn a_report_of_an_incomplete_check_has_no_passed_rules() {
    let report = scratch("check").join("editwar.xml");
    let both = file("both.yaml", &format!("{DEPLOYMENT}\n---\n{DEPLOYMENT}\n---\n{AUTOSCALER}\n"));
    let (code, ..) = run(&["check", "--offline", "-f", &both, "--junit", report.to_str().unwrap()], None);
    assert_eq!(code, 2);
    let text = std::fs::read_to_string(&report).unwrap();
    let rules = editwar::check::RULES.len();
    assert_eq!(text.matches("<skipped message=\"not everything was read\"/>").count(), rules - 1, "{text}");
    assert!(counts_in_junit(&report).is_none_or(|counts| counts.ends_with(" 1 1")), "{text}");
    let all = file("all.yaml", &format!("{DEPLOYMENT}\n---\n{AUTOSCALER}\n"));
    let arguments = ["check", "--offline", "-f", &all, "--certainty", "bound", "--junit", report.to_str().unwrap()];
    assert_eq!(run(&arguments, None).0, 0);
    let text = std::fs::read_to_string(&report).unwrap();
    assert_eq!(text.matches("possible fights are not shown").count(), 1, "{text}");
}

#[test]
fn hostile_names_are_harmless_in_every_output() {
    let name = "w<b>&\"'\u{1b}[2J]]>";
    let hostile = |text: &str| {
        let mut object: Value = serde_yaml_ng::from_str(text).unwrap();
        let is_scaler = object["kind"] == "HorizontalPodAutoscaler";
        let place =
            if is_scaler { &mut object["spec"]["scaleTargetRef"]["name"] } else { &mut object["metadata"]["name"] };
        *place = name.into();
        object.to_string()
    };
    let both = file("both.yaml", &format!("{}\n---\n{}\n", hostile(&marked()), hostile(AUTOSCALER)));
    let report = scratch("check").join("editwar.xml");
    for format in ["table", "wide", "json", "yaml", "markdown"] {
        let arguments = ["check", "--offline", "-f", &both, "-o", format, "--junit", report.to_str().unwrap()];
        let (code, out, _) = run(&arguments, None);
        assert!(code == 1 && !out.contains('\u{1b}'), "{format}: {code} {out}");
        let has_commands = out.contains("kubectl") || format == "table";
        assert!(has_commands, "{format}: {out}");
    }
    if let Some(counts) = counts_in_junit(&report) {
        assert!(counts.ends_with(" 1 0"), "{counts}");
    }
}
