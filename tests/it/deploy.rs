//! Checks the shipped alerts and manifests against the code and a real API server.

use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::envtest::ApiServer;
use crate::{require, util};

const OVERLAYS: [&str; 4] = ["webhook", "pause", "reconcile", "tail-daemonset"];

fn yaml(path: &str) -> Value {
    serde_yaml_ng::from_str(&std::fs::read_to_string(util::path(path)).unwrap()).unwrap()
}

fn rules() -> Vec<Value> {
    let groups = yaml("deploy/alerts/editwar.rules.yaml")["groups"].as_array().unwrap().clone();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

/// Returns the sources that define metrics.
fn metric_sources() -> String {
    let mut folders = vec![util::path("src")];
    let mut sources = String::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                sources += &std::fs::read_to_string(path).unwrap();
            }
        }
    }
    sources
}

#[test]
fn both_alert_files_have_the_same_rules() {
    let plain = &yaml("deploy/alerts/editwar.rules.yaml")["groups"];
    assert_eq!(&yaml("deploy/alerts/prometheusrule.yaml")["spec"]["groups"], plain);
}

#[test]
fn every_alert_has_a_description_and_a_runbook() {
    let rules = rules();
    assert!(rules.len() >= 10);
    for rule in &rules {
        let name = rule["alert"].as_str().unwrap();
        let text = |key: &str| rule["annotations"][key].as_str().unwrap_or_else(|| panic!("{name} has no {key}"));
        assert!(!text("summary").is_empty() && !text("description").is_empty());
        assert!(text("runbook_url").ends_with(&format!("/docs/runbooks/{name}.md")), "{name}");
        let page = std::fs::read_to_string(util::path(&format!("docs/runbooks/{name}.md"))).unwrap();
        assert!(page.starts_with(&format!("# {name}\n")) && page.contains("## Find the cause"), "{name}");
    }
    let thrashing = rules.iter().find(|rule| rule["alert"] == "VirtPlatformThrashingDetected").unwrap();
    assert_eq!(thrashing["expr"], "increase(virt_platform_thrashing_total[10m]) > 5", "the runbook's words");
}

#[test]
fn every_metric_in_the_alerts_is_exported() {
    let sources = metric_sources();
    for rule in rules() {
        let expr = rule["expr"].as_str().unwrap().to_owned();
        let words = expr.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let metrics: Vec<&str> =
            words.filter(|w| w.starts_with("editwar_") || w.starts_with("virt_platform_")).collect();
        assert!(!metrics.is_empty(), "{expr}");
        for metric in metrics {
            assert!(sources.contains(&format!("\"{metric}\"")), "{metric} of {expr} is not exported");
        }
    }
}

#[test]
fn alerts_fire_only_when_they_should() {
    let Some(promtool) = require::program("promtool", &["promtool"]) else { return };
    for arguments in [["check", "rules", "editwar.rules.yaml"], ["test", "rules", "editwar.test.yaml"]] {
        let run = Command::new(&promtool).args(arguments).current_dir(util::path("deploy/alerts")).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        assert!(run.status.success(), "{arguments:?}: {out}{err}");
    }
}

#[test]
fn shipped_manifests_have_the_rbac_and_assets_of_the_tests() {
    for (shipped, tested) in [
        ("base/auth.yaml", "auth.yaml"),
        ("overlays/pause/rbac.yaml", "pause.yaml"),
        ("overlays/reconcile/rbac.yaml", "reconcile.yaml"),
    ] {
        let read = |path: String| std::fs::read_to_string(util::path(&path)).unwrap();
        assert_eq!(read(format!("deploy/kustomize/{shipped}")), read(format!("deploy/rbac/{tested}")), "{shipped}");
    }
    let tombstone = "tombstones/features-v1";
    for (shipped, example) in [("web", "apps/web"), ("features", "config/features"), (tombstone, tombstone)] {
        let shipped = yaml(&format!("deploy/kustomize/overlays/reconcile/assets/{shipped}.yaml"));
        assert_eq!(shipped, yaml(&format!("assets/{example}.yaml")));
    }
}

#[test]
fn a_real_api_server_accepts_every_overlay() {
    let Some(server) = ApiServer::start(None) else { return };
    server.kubectl("admin", &["create", "namespace", "editwar"]);
    for overlay in OVERLAYS {
        let folder = util::path(&format!("deploy/kustomize/overlays/{overlay}"));
        let folder = folder.to_str().unwrap();
        let arguments = ["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-k", folder];
        let out = server.kubectl("admin", &arguments);
        // The name ends in a hash of the content, so that a changed configuration replaces the pods.
        assert!(out.contains("configmap/editwar-"), "{overlay}: {out}");
        let pods = ["deployment.apps/editwar", "daemonset.apps/editwar"];
        assert!(pods.iter().any(|pod| out.contains(pod)), "{overlay}: {out}");
    }
}

#[test]
fn the_shipped_configuration_is_valid_and_its_pods_are_restricted() {
    let config = yaml("deploy/kustomize/base/configmap.yaml")["data"]["editwar.yaml"].as_str().unwrap().to_owned();
    editwar::config::Config::parse(&config, "configmap.yaml").unwrap();
    let generated = std::fs::read_to_string(util::path("deploy/kustomize/base/editwar.yaml")).unwrap();
    assert_eq!(generated, config, "what the overlays have is what `editwar setup manifests` prints");
    let forwarding =
        std::fs::read_to_string(util::path("deploy/kustomize/overlays/tail-daemonset/editwar.yaml")).unwrap();
    editwar::config::Config::parse(&forwarding, "tail-daemonset/editwar.yaml").unwrap();
    for overlay in ["webhook/deployment.yaml", "tail-daemonset/daemonset.yaml"] {
        let pod = &yaml(&format!("deploy/kustomize/overlays/{overlay}"))["spec"]["template"]["spec"];
        let container = &pod["containers"][0];
        assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true, "{overlay}");
        assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false, "{overlay}");
        assert_eq!(container["securityContext"]["capabilities"]["drop"][0], "ALL", "{overlay}");
        let arguments: Vec<&str> = container["args"].as_array().unwrap().iter().map(|a| a.as_str().unwrap()).collect();
        assert_eq!(&arguments[..3], ["serve", "--config", "/etc/editwar/editwar.yaml"]);
    }
}

/// Renders the Helm chart with these values, without custom resources.
fn chart(helm: &PathBuf, values: &[&str]) -> String {
    let folder = util::path("deploy/helm/editwar");
    let base = ["template", "editwar", folder.to_str().unwrap(), "--namespace", "editwar", "--kube-version", "1.36.0"];
    let run = Command::new(helm).args(base).args(values).output().unwrap();
    assert!(run.status.success(), "{values:?}: {}", String::from_utf8_lossy(&run.stderr));
    String::from_utf8(run.stdout).unwrap()
}

#[test]
fn the_chart_renders_with_defaults_and_with_every_toggle() {
    let Some(helm) = require::program("helm", &["helm"]) else { return };
    let rules = std::fs::read_to_string(util::path("deploy/helm/editwar/files/editwar.rules.yaml")).unwrap();
    assert_eq!(rules, std::fs::read_to_string(util::path("deploy/alerts/editwar.rules.yaml")).unwrap());
    let server = ApiServer::start(None);
    if let Some(server) = &server {
        server.kubectl("admin", &["create", "namespace", "editwar"]);
    }
    let asset = format!("assets.web\\.yaml={}", util::path("assets/apps/web.yaml").display());
    let tombstone = util::path("assets/tombstones/features-v1.yaml");
    let tombstone = format!("tombstones.files.features-v1\\.yaml={}", tombstone.display());
    for (values, kinds) in [
        (vec![], vec!["StatefulSet", "Service", "NetworkPolicy"]),
        (vec!["--set", "watch.enabled=false,webhook.enabled=true,tls.existingSecret=editwar-tls"], vec!["StatefulSet"]),
        (vec!["--set", "tail.enabled=true,tls.existingSecret=editwar-tls"], vec!["StatefulSet", "DaemonSet"]),
        (vec!["--set", "enforce.mode=pause"], vec!["Role", "ClusterRole"]),
        (
            vec![
                "--set",
                "enforce.mode=reconcile",
                "--set-file",
                &asset,
                "--set",
                "enforce.resources={deployments.apps,configmaps}",
            ],
            vec!["Role"],
        ),
        (
            vec![
                "--set",
                "enforce.mode=reconcile,enforce.resources={configmaps}",
                "--set",
                "tombstones.delete[0].resource=configmaps,tombstones.delete[0].namespace=editwar",
                "--set",
                "tombstones.delete[0].names={features-v1}",
                "--set-file",
                &tombstone,
            ],
            vec!["Role", "RoleBinding"],
        ),
        (
            vec!["--set", "journal.enabled=false,networkPolicy.enabled=false,service.clusterIP=10.0.0.50"],
            vec!["StatefulSet"],
        ),
        (vec!["--set", "podDisruptionBudget.enabled=true"], vec!["PodDisruptionBudget"]),
        (
            vec!["--set", "replicas=3,kafka.brokers={kafka-0.example.com:9092},podDisruptionBudget.enabled=true"],
            vec!["StatefulSet", "PodDisruptionBudget"],
        ),
        (vec!["--set", "tls.certManager.enabled=true,tls.certManager.issuerRef.name=ca"], vec!["Certificate"]),
        (
            vec!["--set", "serviceMonitor.enabled=true,prometheusRule.enabled=true"],
            vec!["ServiceMonitor", "PrometheusRule"],
        ),
    ] {
        let text = chart(&helm, &values);
        let objects = objects(&text);
        for kind in kinds {
            assert!(objects.iter().any(|object| object["kind"] == kind), "{values:?} has no {kind}");
        }
        let configs: Vec<&str> = objects.iter().filter_map(|object| object["data"]["editwar.yaml"].as_str()).collect();
        assert!(!configs.is_empty());
        for config in configs {
            editwar::config::Config::parse(config, "the chart's ConfigMap").unwrap();
        }
        let Some(server) = &server else { continue };
        let own = |object: &&Value| {
            let group = object["apiVersion"].as_str().unwrap();
            !group.starts_with("monitoring.coreos.com") && !group.starts_with("cert-manager.io")
        };
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects.iter().filter(own).collect::<Vec<_>>()});
        let command = format!("kubectl apply --server-side --dry-run=server -n editwar -f - <<'EOF'\n{list}\nEOF");
        let run = server.shell("admin", &command);
        assert!(run.status.success(), "{values:?}: {}", String::from_utf8_lossy(&run.stderr));
    }
    let folder = util::path("deploy/helm/editwar");
    for (wrong, said) in [
        ("enforce.mode=fight", "'observe', 'pause', 'reconcile'"),
        ("webhook.enabled=true", "set tls.existingSecret or tls.certManager.enabled"),
        ("watch.enabled=false", "nothing to read"),
        ("replicas=2", "needs kafka.brokers"),
    ] {
        let wrong = ["template", "x", folder.to_str().unwrap(), "--kube-version", "1.36.0", "--set", wrong];
        let run = Command::new(&helm).args(wrong).output().unwrap();
        let found = String::from_utf8_lossy(&run.stderr).into_owned();
        assert!(!run.status.success() && found.contains(said), "{found}");
    }
}

fn objects(text: &str) -> Vec<Value> {
    let documents = serde_yaml_ng::Deserializer::from_str(text);
    let all = documents.map(|document| serde::Deserialize::deserialize(document).unwrap());
    all.filter(|object: &Value| !object.is_null()).collect()
}

#[test]
fn the_chart_and_the_overlays_have_the_same_defaults() {
    let Some(helm) = require::program("helm", &["helm"]) else { return };
    let values =
        ["--set", "watch.enabled=false,webhook.enabled=true,tls.existingSecret=editwar-tls,journal.enabled=false"];
    let chart = objects(&chart(&helm, &values));
    let workload = chart.iter().find(|object| object["kind"] == "StatefulSet").unwrap();
    let (chart_pod, overlay) =
        (&workload["spec"]["template"]["spec"], yaml("deploy/kustomize/overlays/webhook/deployment.yaml"));
    let overlay_pod = &overlay["spec"]["template"]["spec"];
    let (ours, theirs) = (&chart_pod["containers"][0], &overlay_pod["containers"][0]);
    for field in ["image", "args", "ports", "securityContext", "resources", "livenessProbe", "readinessProbe"] {
        assert_eq!(ours[field], theirs[field], "{field}");
    }
    for field in ["runAsUser", "runAsGroup", "runAsNonRoot", "seccompProfile"] {
        assert_eq!(chart_pod["securityContext"][field], overlay_pod["securityContext"][field], "{field}");
    }
    let config = chart.iter().find_map(|object| object["data"]["editwar.yaml"].as_str()).unwrap();
    let config = editwar::config::Config::parse(config, "the chart's ConfigMap").unwrap();
    let base = std::fs::read_to_string(util::path("deploy/kustomize/base/editwar.yaml")).unwrap();
    let mut base = editwar::config::Config::parse(&base, "the overlay's ConfigMap").unwrap();
    // The chart's permissions are for these.
    base.enforce.resources = vec!["deployments.apps".to_owned()];
    assert_eq!(config, base);
}

#[test]
fn every_metric_on_the_dashboard_is_exported() {
    let board: Value =
        serde_json::from_str(&std::fs::read_to_string(util::path("deploy/grafana/dashboard.json")).unwrap()).unwrap();
    let sources = metric_sources();
    let panels = board["panels"].as_array().unwrap();
    assert!(panels.len() >= 15);
    for target in panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap()) {
        let expr = target["expr"].as_str().unwrap();
        let words = expr.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for metric in words.filter(|w| w.starts_with("editwar_") || w.starts_with("virt_platform_")) {
            let metric = metric.strip_suffix("_bucket").unwrap_or(metric);
            assert!(sources.contains(&format!("\"{metric}\"")), "{metric} of {expr} is not exported");
        }
    }
}
