//! Runs every remedy with a real kubectl, against a real API server that has the object.

use std::collections::BTreeSet;

use editwar::detect::remedy::RemedyKind;
use serde_json::{Value, json};

use crate::cluster::{ALICE, Cluster, HPA, Level, OPERATOR};
use crate::envtest::{ApiServer, wait_until};
use crate::serve::Server;
use crate::util;

const WEB: &str = "deployments.apps/shop/web";

fn deployment() -> Value {
    json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"name": "web", "namespace": "shop"}, "spec": {"replicas": 3,
        "selector": {"matchLabels": {"app": "web"}}, "template": {"metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "web:1"}]}}}})
}

/// Returns the remedies of the first war in a story.
fn remedies(story: impl Fn(&mut Cluster)) -> Vec<editwar::query::views::Remedy> {
    let mut cluster = Cluster::new(Level::RequestResponse);
    cluster.create(("admin", "kubectl-create"), WEB, deployment());
    story(&mut cluster);
    let report = util::report(&util::pipeline_of(cluster.lines()));
    assert!(!report.wars.is_empty());
    report.wars[0].remedies.clone()
}

#[test]
fn every_remedy_runs_as_printed() {
    let Some(server) = ApiServer::start(None) else { return };
    server.apply("admin", &deployment().to_string());
    server.kubectl("admin", &["autoscale", "deployment/web", "-n", "shop", "--min=5", "--max=9", "--name=web"]);
    server.apply(
        "admin",
        r#"{"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration", "metadata": {"name": "tags"},
            "webhooks": [{"name": "tags.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Ignore",
            "clientConfig": {"url": "https://127.0.0.1:1/"}, "rules": []}]}"#,
    );
    let replicas = |n: u32| json!({"spec": {"replicas": n}});
    let mut all = Vec::new();
    all.extend(remedies(|cluster| {
        cluster.create(("admin", "kubectl-autoscale"), "horizontalpodautoscalers.autoscaling/shop/web", json!({"kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v2", "metadata": {}, "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}}}));
        for _ in 0..10 {
            cluster.wait(5.0);
            cluster.scale(HPA, WEB, 5);
            cluster.patch(OPERATOR, WEB, "", replicas(3));
        }
    }));
    all.extend(remedies(|cluster| {
        for _ in 0..10 {
            cluster.wait(5.0);
            cluster.patch(
                ALICE,
                WEB,
                "",
                json!({"metadata": {"annotations": {"example.com/it's \"quoted\" $HOME": "a;b"}}}),
            );
            cluster.patch(
                OPERATOR,
                WEB,
                "",
                json!({"metadata": {"annotations": {"example.com/it's \"quoted\" $HOME": null}}}),
            );
        }
    }));
    all.extend(remedies(|cluster| {
        cluster.webhook = Some(replicas(7));
        for _ in 0..10 {
            cluster.wait(5.0);
            cluster.patch(ALICE, WEB, "", replicas(3));
        }
    }));
    all.extend(remedies(|cluster| {
        for _ in 0..10 {
            cluster.wait(5.0);
            cluster.scale(HPA, WEB, 5);
            cluster.patch(
                ("system:serviceaccount:flux-system:kustomize-controller", "kustomize-controller"),
                WEB,
                "",
                replicas(3),
            );
        }
    }));
    let kinds: BTreeSet<RemedyKind> = all.iter().map(|remedy| remedy.kind).collect();
    assert_eq!(kinds, [RemedyKind::Change, RemedyKind::Show, RemedyKind::Delete].into());
    for remedy in &all {
        let command = match remedy.kind {
            RemedyKind::Show => remedy.command.clone(),
            RemedyKind::Change | RemedyKind::Delete => format!("{} --dry-run=server", remedy.command),
        };
        run(&server, &command);
    }
}

#[test]
fn the_setting_is_named_if_the_log_shows_it() {
    let fight = |cluster: &mut Cluster, who: (&'static str, &'static str), metadata: Value| {
        for _ in 0..10 {
            cluster.wait(5.0);
            cluster.patch(who, WEB, "", json!({"metadata": metadata, "spec": {"replicas": 3}}));
            cluster.patch(ALICE, WEB, "", json!({"spec": {"replicas": 5}}));
        }
    };
    let titles = |found: &[editwar::query::views::Remedy]| -> Vec<String> {
        found.iter().map(|remedy| remedy.title.clone()).collect()
    };
    let found = remedies(|cluster| {
        let release = json!({"kind": "HelmRelease", "apiVersion": "helm.toolkit.fluxcd.io/v2",
            "metadata": {"name": "web", "namespace": "team"}, "spec": {"values": {"replicaCount": 3, "port": 3}}});
        cluster.create(("admin", "kubectl-create"), "helmreleases.helm.toolkit.fluxcd.io/team/web", release);
        let labels = json!({"helm.toolkit.fluxcd.io/name": "web", "helm.toolkit.fluxcd.io/namespace": "team"});
        let controller = ("system:serviceaccount:flux-system:helm-controller", "helm-controller");
        fight(cluster, controller, json!({"labels": labels}));
    });
    let wanted = "remove spec.values.replicaCount from the HelmRelease web, which sets spec.replicas";
    assert!(titles(&found).contains(&wanted.to_owned()), "{:?}", titles(&found));

    let found = remedies(|cluster| {
        let shop = json!({"kind": "Shop", "apiVersion": "example.com/v1",
            "metadata": {"name": "main", "namespace": "shop"}, "spec": {"front": {"replicas": 3}}});
        cluster.create(("admin", "kubectl-create"), "shops.example.com/shop/main", shop);
        let owner =
            json!({"apiVersion": "example.com/v1", "kind": "Shop", "name": "main", "uid": "u", "controller": true});
        let operator = ("system:serviceaccount:shop:shop-operator", "shop-operator");
        fight(cluster, operator, json!({"ownerReferences": [owner]}));
    });
    let is_it = |remedy: &&editwar::query::views::Remedy| {
        remedy.title.starts_with("remove spec.front.replicas from the Shop main")
    };
    let remedy = found.iter().find(is_it).unwrap_or_else(|| panic!("{:?}", titles(&found)));
    assert_eq!(remedy.command, "kubectl get Shop.v1.example.com main -n shop -o yaml");
}

/// Runs a command as an administrator would paste it.
fn run(server: &ApiServer, command: &str) -> String {
    let output = server.shell("admin", command);
    assert!(output.status.success(), "{command}\n{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Two people fight over the image and the replicas of a Deployment, one of them with `kubectl scale`.
#[test]
fn refusing_one_person_ends_a_war_of_two_and_nothing_else() {
    let editwar = Server::start(&[]);
    let Some(server) = ApiServer::start(Some(&editwar.webhook_url())) else { return };
    server.apply("admin", &deployment().to_string());
    let set = |user: &str, replicas: u32, image: &str| {
        let scaled = server.output(user, &["scale", "deployment/web", "-n", "shop", &format!("--replicas={replicas}")]);
        let image = server.output(user, &["set", "image", "deployment/web", "-n", "shop", &format!("web=web:{image}")]);
        (scaled, image)
    };
    let path = "/api/v1/objects/deployments.apps/shop/web";
    let retakes = || editwar.json(path)["wars"][0]["retakes"].as_u64().unwrap_or(0);
    for _ in 0..6 {
        set("alice", 5, "2");
        set("bob", 3, "1");
    }
    wait_until("the war is seen", 30, || editwar.get(path).0 == 200 && retakes() >= 8);
    let found = editwar.json(path);
    let remedies = found["wars"][0]["remedies"].as_array().unwrap();
    let refusal = |person: &str| {
        let is_of = |remedy: &&Value| {
            let title = remedy["title"].as_str().unwrap();
            title.starts_with("refuse changes of ") && title.ends_with(&format!(" by {person}"))
        };
        remedies.iter().find(is_of).unwrap_or_else(|| panic!("{remedies:#?}"))
    };
    assert_eq!(refusal("bob")["kind"], "change");
    let refusal = refusal("alice");
    run(&server, refusal["command"].as_str().unwrap());

    wait_until("the policy is in force", 30, || {
        set("bob", 3, "1");
        let (scaled, image) = set("alice", 5, "2");
        !scaled.status.success() && !image.status.success()
    });
    let (scaled, _) = set("alice", 5, "2");
    let why = String::from_utf8_lossy(&scaled.stderr).into_owned();
    assert!(why.contains("is left to bob (policy editwar-web-alice-"), "{why}");
    let (scaled, image) = set("bob", 3, "1");
    assert!(scaled.status.success() && image.status.success(), "bob is not refused");
    // Everything else that alice does still works, also on the same object, with the same verb.
    server.kubectl("alice", &["label", "deployment/web", "-n", "shop", "tier=front", "--overwrite"]);
    server.kubectl("alice", &["set", "env", "deployment/web", "-n", "shop", "A=b"]);
    server.apply(
        "alice",
        &deployment().to_string().replace(r#""name":"web","namespace""#, r#""name":"other","namespace""#),
    );
    server.kubectl("alice", &["scale", "deployment/other", "-n", "shop", "--replicas=7"]);
    let image = "jsonpath={.spec.replicas} {.spec.template.spec.containers[0].image}";
    assert_eq!(server.kubectl("admin", &["get", "deployment/web", "-n", "shop", "-o", image]), "3 web:1");

    run(&server, refusal["undo"].as_str().unwrap());
    wait_until("the policy is gone", 30, || set("alice", 5, "2").0.status.success());
}

/// Returns the definition of a custom resource that accepts everything.
fn definition(group: &str, version: &str, (plural, kind): (&str, &str)) -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{group}")}, "spec": {"group": group, "scope": "Namespaced",
        "names": {"plural": plural, "singular": kind.to_lowercase(), "kind": kind}, "versions": [{"name": version,
        "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
        "x-kubernetes-preserve-unknown-fields": true}}}]}})
}

/// Creates a custom resource, or replaces it, as soon as its definition is in force.
fn create(server: &ApiServer, object: &Value) {
    let replace = format!("printf '%s' '{object}' | kubectl replace --force -f -");
    wait_until("the resource is served", 30, || server.shell("admin", &replace).status.success());
}

/// Returns the remedies of a war over the image and the replicas between a person and an account that applies the object
/// with this mark.
fn remedies_against(account: &'static str, manager: &'static str, mark: &Value) -> Vec<editwar::query::views::Remedy> {
    remedies(|cluster| {
        let metadata = |image: &str, replicas: u32| {
            json!({"metadata": mark, "spec": {"replicas": replicas, "template": {"spec": {
                "containers": [{"name": "web", "image": image}]}}}})
        };
        for _ in 0..10 {
            cluster.wait(5.0);
            cluster.patch((account, manager), WEB, "", metadata("web:1", 3));
            let change = json!({"spec": {"replicas": 5, "template": {"spec": {
                "containers": [{"name": "web", "image": "web:2"}]}}}});
            cluster.patch(ALICE, WEB, "", change);
        }
    })
}

#[test]
fn changes_of_applications_keep_their_other_settings_and_can_be_repeated_and_undone() {
    let Some(server) = ApiServer::start(None) else { return };
    let definitions = [
        definition("argoproj.io", "v1alpha1", ("applications", "Application")),
        definition("helm.toolkit.fluxcd.io", "v2", ("helmreleases", "HelmRelease")),
    ];
    definitions.iter().for_each(|definition| server.apply("admin", &definition.to_string()));
    for namespace in ["argocd", "team"] {
        server.kubectl("admin", &["create", "namespace", namespace]);
    }
    let get = |resource: &str, namespace: &str, name: &str| -> Value {
        serde_json::from_str(&server.kubectl("admin", &["get", resource, name, "-n", namespace, "-o", "json"])).unwrap()
    };
    let argo = "system:serviceaccount:argocd:argocd-application-controller";
    for (namespace, id) in [("argocd", "web"), ("team", "team_web")] {
        for spec in [
            json!({"project": "default"}),
            json!({"project": "default", "ignoreDifferences": [{"kind": "Secret", "jsonPointers": ["/data"]}],
                "syncPolicy": {"automated": {"selfHeal": true}, "syncOptions": ["CreateNamespace=true"]}}),
        ] {
            let application = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
                "metadata": {"name": "web", "namespace": namespace}, "spec": spec});
            create(&server, &application);
            let mark =
                json!({"annotations": {"argocd.argoproj.io/tracking-id": format!("{id}:apps/Deployment:shop/web")}});
            let found = remedies_against(argo, "argocd-controller", &mark);
            let ignore = found.iter().find(|remedy| remedy.title.starts_with("make Argo CD ignore")).unwrap();
            for _ in 0..2 {
                run(&server, &ignore.command);
            }
            let now = get("applications.argoproj.io", namespace, "web")["spec"].clone();
            let mut wanted = spec["ignoreDifferences"].as_array().cloned().unwrap_or_default();
            let before = wanted.clone();
            wanted.push(json!({"group": "apps", "kind": "Deployment", "name": "web", "namespace": "shop",
                "jsonPointers": ["/spec/replicas"], "jqPathExpressions":
                [".spec.template.spec.containers[] | select((.name | tostring) == \"web\") | .image"]}));
            assert_eq!(now["ignoreDifferences"], json!(wanted), "{id}: {spec}");
            let mut options = spec["syncPolicy"]["syncOptions"].as_array().cloned().unwrap_or_default();
            options.push("RespectIgnoreDifferences=true".into());
            assert_eq!(now["syncPolicy"]["syncOptions"], json!(options), "{id}: {spec}");
            assert_eq!(now["syncPolicy"]["automated"], spec["syncPolicy"]["automated"]);
            run(&server, ignore.undo.as_ref().unwrap());
            let undone = get("applications.argoproj.io", namespace, "web")["spec"].clone();
            assert_eq!(undone["ignoreDifferences"], json!(before));
        }
    }
    let release = json!({"apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease",
        "metadata": {"name": "web", "namespace": "team"}, "spec": {"values": {"replicaCount": 3},
        "driftDetection": {"mode": "enabled", "ignore": [{"paths": ["/data"]}]}}});
    create(&server, &release);
    let mark = json!({"labels": {"helm.toolkit.fluxcd.io/name": "web", "helm.toolkit.fluxcd.io/namespace": "team"}});
    let only_replicas = remedies(|cluster| {
        for _ in 0..10 {
            cluster.wait(5.0);
            let controller = ("system:serviceaccount:flux-system:helm-controller", "helm-controller");
            cluster.patch(controller, WEB, "", json!({"metadata": mark, "spec": {"replicas": 3}}));
            cluster.patch(ALICE, WEB, "", json!({"spec": {"replicas": 5}}));
        }
    });
    let ignore = only_replicas.iter().find(|remedy| remedy.title.starts_with("make Flux ignore")).unwrap();
    for _ in 0..2 {
        run(&server, &ignore.command);
    }
    let now = get("helmreleases.helm.toolkit.fluxcd.io", "team", "web")["spec"].clone();
    let target = json!({"group": "apps", "kind": "Deployment", "name": "web", "namespace": "shop"});
    let wanted =
        json!({"mode": "enabled", "ignore": [{"paths": ["/data"]}, {"paths": ["/spec/replicas"], "target": target}]});
    assert_eq!(now["driftDetection"], wanted);
    run(&server, ignore.undo.as_ref().unwrap());
    let undone = get("helmreleases.helm.toolkit.fluxcd.io", "team", "web")["spec"].clone();
    assert_eq!(undone, release["spec"]);
}

/// KEDA and helm-controller as their sources have it: KEDA does not scale what a paused ScaledObject targets;
/// helm-controller does not correct the paths that `driftDetection.ignore` has for a target.
#[test]
fn pausing_keda_and_ignoring_drift_end_wars_between_scripts() {
    let Some(server) = ApiServer::start(None) else { return };
    let definitions = [
        definition("keda.sh", "v1alpha1", ("scaledobjects", "ScaledObject")),
        definition("helm.toolkit.fluxcd.io", "v2", ("helmreleases", "HelmRelease")),
    ];
    definitions.iter().for_each(|definition| server.apply("admin", &definition.to_string()));
    server.apply("admin", &deployment().to_string());
    let objects = [
        json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"scaleTargetRef": {"name": "web"}}}),
        json!({"apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease",
            "metadata": {"name": "web", "namespace": "shop"}, "spec": {"driftDetection": {"mode": "enabled"}}}),
    ];
    objects.iter().for_each(|object| create(&server, object));
    let get = |object: &[&str]| -> Value {
        let found = server.kubectl("admin", &[&["get"], object, &["-n", "shop", "-o", "json"]].concat());
        serde_json::from_str(&found).unwrap()
    };
    let state = || {
        let web = get(&["deployment", "web"]);
        let image = web["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned();
        (web["spec"]["replicas"].as_u64().unwrap(), image)
    };
    let scale = |user: &str, replicas: u32| {
        server.kubectl(user, &["scale", "deployment/web", "-n", "shop", &format!("--replicas={replicas}")]);
    };
    let keda = || {
        if get(&["scaledobjects.keda.sh", "web"])["metadata"]["annotations"]["autoscaling.keda.sh/paused"] != "true" {
            scale("admin", 5);
        }
    };
    let helm = || {
        let release = get(&["helmreleases.helm.toolkit.fluxcd.io", "web"]);
        let ignored = release["spec"]["driftDetection"]["ignore"].as_array().cloned().unwrap_or_default();
        let is_ignored = |rule: &Value| {
            rule["target"]["name"] == "web" && rule["paths"].as_array().unwrap().contains(&"/spec/replicas".into())
        };
        if !ignored.iter().any(is_ignored) {
            scale("admin", 3);
        }
        server.kubectl("admin", &["set", "image", "deployment/web", "-n", "shop", "web=web:1"]);
    };

    let owner = json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": "web", "uid": "u"});
    let found = remedies(|cluster| {
        let autoscaler = json!({"kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v2",
            "metadata": {"ownerReferences": [owner]}, "spec": {"scaleTargetRef": {"kind": "Deployment", "name": "web"}}});
        let path = "horizontalpodautoscalers.autoscaling/shop/keda-hpa-web";
        cluster.create(("admin", "keda-operator"), path, autoscaler);
        for _ in 0..10 {
            cluster.wait(5.0);
            cluster.scale(HPA, WEB, 5);
            cluster.patch(ALICE, WEB, "", json!({"spec": {"replicas": 3}}));
        }
    });
    let pause = found.iter().find(|remedy| remedy.title.starts_with("pause the ScaledObject")).unwrap();
    for (command, wanted) in [(None, 5), (Some(&pause.command), 3), (pause.undo.as_ref(), 5)] {
        command.map(|command| run(&server, command));
        for _ in 0..3 {
            scale("alice", 3);
            keda();
            assert_eq!(state().0, wanted, "{command:?}");
        }
    }

    let labels = json!({"helm.toolkit.fluxcd.io/name": "web", "helm.toolkit.fluxcd.io/namespace": "shop"});
    let found = remedies(|cluster| {
        for _ in 0..10 {
            cluster.wait(5.0);
            let controller = ("system:serviceaccount:flux-system:helm-controller", "helm-controller");
            cluster.patch(controller, WEB, "", json!({"metadata": {"labels": labels}, "spec": {"replicas": 3}}));
            cluster.patch(ALICE, WEB, "", json!({"spec": {"replicas": 5}}));
        }
    });
    let ignore = found.iter().find(|remedy| remedy.title.starts_with("make Flux ignore")).unwrap();
    for (command, wanted) in [(None, 3), (Some(&ignore.command), 5), (ignore.undo.as_ref(), 3)] {
        command.map(|command| run(&server, command));
        for _ in 0..3 {
            scale("alice", 5);
            server.kubectl("alice", &["set", "image", "deployment/web", "-n", "shop", "web=web:2"]);
            helm();
            assert_eq!(state(), (wanted, "web:1".to_owned()), "the image is corrected in any case: {command:?}");
        }
    }
}
