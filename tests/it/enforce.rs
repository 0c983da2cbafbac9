//! The enforcer against a real API server whose audit webhook posts to editwar, with the shipped RBAC.

use std::time::Duration;

use editwar::enforce::pause_client::{Error, PauseClient};
use editwar::enforce::pauses::Target;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use crate::envtest::{ApiServer, free_port, pause, wait_until};
use crate::serve::Server;
use crate::util;

const AUTOPILOT: &str = "system:serviceaccount:openshift-cnv:virt-platform-autopilot";
const HPA: &str = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";
const EDITWAR: &str = "system:serviceaccount:editwar:editwar";
const PAUSED: &str = "platform.kubevirt.io/reconcile-paused";
/// Short periods: five retakes within ten seconds, and a quiet period of four seconds.
const SHORT: [&str; 4] = ["--set", "limits.buckets=[{burst: 5, window: 10s}]", "--set", "limits.quiet_period=4s"];

/// An API server with an audit webhook, the shipped RBAC and a contested object, and an editwar for it.
struct Cluster {
    server: ApiServer,
    editwar: Server,
    webhook: String,
}

// === impl Cluster ===

impl Cluster {
    fn start(arguments: &[&str]) -> Option<Cluster> {
        let webhook = format!("127.0.0.1:{}", free_port());
        let server = ApiServer::start(Some(&format!("http://{webhook}/audit")))?;
        server.kubectl("admin", &["create", "namespace", "editwar"]);
        server.apply("admin", &std::fs::read_to_string(util::path("deploy/rbac/pause.yaml")).unwrap());
        server.apply("admin", &golden().to_string());
        server.kubectl("admin", &["create", "configmap", "clock", "-n", "shop"]);
        let editwar = enforcing(&server, &webhook, arguments);
        Some(Cluster { server, editwar, webhook })
    }

    /// Both sides write alternately until the object is paused.
    fn fight(&self) {
        wait_until("it is paused", 90, || {
            scale(&self.server, HPA, 5);
            reconcile(&self.server);
            is_paused(&self.server)
        });
    }

    /// Waits while events of others advance event time.
    fn wait(&self, what: &str, seconds: u64, mut is_so: impl FnMut() -> bool) {
        let mut ticks = 0;
        wait_until(what, seconds, || {
            ticks += 1;
            let patch = json!({"data": {"tick": ticks.to_string()}}).to_string();
            self.server.kubectl("bob", &["patch", "configmap", "clock", "-n", "shop", "--type=merge", "-p", &patch]);
            pause(300);
            is_so()
        });
    }

    fn events(&self) -> String {
        self.server.kubectl(
            "admin",
            &["get", "events", "-n", "shop", "-o", "jsonpath={range .items[*]}{.reason}: {.message}{'\\n'}{end}"],
        )
    }

    /// Returns how often Events with a reason were reported. Repeated ones are counted in a series.
    #[cfg(feature = "kafka")]
    fn count_events(&self, reason: &str) -> u64 {
        let events = self.server.kubectl("admin", &["get", "events", "-n", "shop", "-o", "json"]);
        let events: Value = serde_json::from_str(&events).unwrap();
        let with_reason = events["items"].as_array().unwrap().iter().filter(|event| event["reason"] == reason);
        with_reason.map(|event| event["series"]["count"].as_u64().unwrap_or(1)).sum()
    }

    fn readiness(&self) -> String {
        self.editwar.get("/readyz?verbose").1
    }
}

fn enforcing(server: &ApiServer, webhook: &str, more: &[&str]) -> Server {
    let path = server.kubeconfig(EDITWAR).display().to_string();
    let base = ["--enforce", "pause", "--kubeconfig", &path, "--set", "enforce.resources=[deployments.apps]"];
    Server::start_at(webhook, &[&base[..], &SHORT, more].concat())
}

fn golden() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "shop", "annotations": {"platform.kubevirt.io/managed": "true"}},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": {
            "metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": "web:1"}]}}}})
}

fn live(server: &ApiServer) -> Value {
    serde_json::from_str(&server.kubectl("admin", &["get", "deployment", "web", "-n", "shop", "-o", "json"])).unwrap()
}

fn annotation(server: &ApiServer, key: &str) -> Option<String> {
    live(server)["metadata"]["annotations"][key].as_str().map(str::to_owned)
}

fn is_paused(server: &ApiServer) -> bool {
    annotation(server, PAUSED).as_deref() == Some("true")
}

/// One step of a reconciler that honours pauses. Returns whether it wrote.
fn reconcile(server: &ApiServer) -> bool {
    if is_paused(server) {
        return false;
    }
    scale(server, AUTOPILOT, 3);
    true
}

fn scale(server: &ApiServer, user: &str, replicas: u32) {
    let patch = json!({"spec": {"replicas": replicas}}).to_string();
    server.kubectl(user, &["patch", "deployment", "web", "-n", "shop", "--type=merge", "-p", &patch]);
}

#[test]
fn an_object_contested_by_an_autoscaler_is_paused_and_resumed() {
    let Some(cluster) = Cluster::start(&[]) else { return };
    let server = &cluster.server;
    cluster.fight();

    let found = live(server);
    let because = found["metadata"]["annotations"]["platform.kubevirt.io/reconcile-paused-because"].as_str().unwrap();
    assert!(because.contains(HPA) && because.contains(AUTOPILOT), "{because}");
    assert!(because.contains("spec.replicas (") && because.contains('3') && because.contains('5'), "{because}");
    assert!(annotation(server, "platform.kubevirt.io/reconcile-paused-until").is_some());
    let managed =
        server.kubectl("admin", &["get", "deployment", "web", "-n", "shop", "-o", "json", "--show-managed-fields"]);
    let managed: Value = serde_json::from_str(&managed).unwrap();
    let own =
        managed["metadata"]["managedFields"].as_array().unwrap().iter().find(|m| m["manager"] == "editwar").unwrap();
    assert_eq!(own["operation"], "Apply");
    wait_until("the Event is there", 10, || cluster.events().contains("ThrashingDetected: "));
    assert!(cluster.events().contains("spec.replicas"), "{}", cluster.events());
    let gauge = r#"virt_platform_paused_resources{kind="Deployment",name="web",namespace="shop"} 1"#;
    wait_until("the gauge follows", 10, || cluster.editwar.get("/metrics").1.contains(gauge));
    assert!(cluster.readiness().contains("enforcer: enforcing: 1 objects paused"), "{}", cluster.readiness());

    // The reconciler honours the pause: the autoscaler prevails, which is not a retake.
    scale(server, HPA, 5);
    assert!(!reconcile(server));
    assert_eq!(live(server)["spec"]["replicas"], 5);

    // The rival stops, and the pause ends after the quiet period.
    cluster.wait("the pause is lifted", 40, || !is_paused(server));
    assert_eq!(annotation(server, "platform.kubevirt.io/reconcile-paused-because"), None);
    wait_until("the Event is there", 10, || cluster.events().contains("ThrashingResolved: "));
    wait_until("the gauge follows", 10, || !cluster.editwar.get("/metrics").1.contains(gauge));
    assert!(reconcile(server));

    // Our own writes do not count: the parties are the two that fought.
    let war = cluster.editwar.json("/api/v1/objects/deployments.apps/shop/web")["wars"][0].clone();
    let mut parties: Vec<&str> =
        war["parties"].as_array().unwrap().iter().map(|p| p["actor"].as_str().unwrap()).collect();
    parties.sort_unstable();
    assert_eq!(parties, [HPA, AUTOPILOT]);
    let fields: Vec<&str> = war["fields"].as_array().unwrap().iter().map(|f| f["path"].as_str().unwrap()).collect();
    assert_eq!(fields, ["spec.replicas"]);
}

#[test]
fn a_person_can_lift_a_pause_but_a_rival_cannot_strip_it() {
    let Some(cluster) = Cluster::start(&["--set", "limits.quiet_period=60s"]) else { return };
    let server = &cluster.server;
    cluster.fight();
    // The rival replaces the whole object, without the annotation.
    let strip = || {
        let mut object = golden();
        object["spec"]["replicas"] = json!(5);
        let replace = format!("printf '%s' '{object}' | kubectl replace -f -");
        assert!(server.shell(HPA, &replace).status.success());
    };
    strip();
    assert!(!is_paused(server), "it was stripped");
    cluster.wait("it is set again", 40, || is_paused(server));
    wait_until("the Event is there", 10, || cluster.events().contains("ThrashingDetected: "));

    // A person removes the pause on purpose.
    server.kubectl("alice", &["annotate", "deployment", "web", "-n", "shop", &format!("{PAUSED}-")]);
    cluster.wait("it is seen", 40, || cluster.events().contains("ThrashingResolved: alice lifted the pause"));
    for _ in 0..8 {
        cluster.wait("time passes", 5, || true);
        assert!(!is_paused(server), "a person's word holds");
    }
    let decision = cluster.editwar.json("/api/v1/objects/deployments.apps/shop/web/decision");
    assert_eq!(decision["allowed"], true, "{decision}");
    // A new war leads to a new pause.
    cluster.fight();
}

#[test]
fn a_persons_edit_is_corrected_without_a_pause() {
    let Some(cluster) = Cluster::start(&[]) else { return };
    let server = &cluster.server;
    for _ in 0..2 {
        scale(server, "alice", 7);
        pause(500);
        assert!(reconcile(server));
    }
    cluster.wait("time passes", 20, || cluster.readiness().contains("enforcing: 0 objects paused"));
    assert_eq!(live(server)["spec"]["replicas"], 3);
    assert!(!is_paused(server));
}

#[test]
fn the_kill_switch_unmanaged_mode_and_namespace_opt_out_end_pauses() {
    let Some(cluster) = Cluster::start(&["--set", "limits.quiet_period=120s"]) else { return };
    let server = &cluster.server;
    cluster.fight();
    cluster.editwar.signal("USR1");
    cluster.wait("the kill switch lifts it", 20, || !is_paused(server));
    assert!(cluster.readiness().contains("stopped"), "{}", cluster.readiness());
    cluster.editwar.signal("USR1");
    cluster.wait("it is set again", 20, || is_paused(server));

    server.kubectl("alice", &["annotate", "deployment", "web", "-n", "shop", "platform.kubevirt.io/mode=unmanaged"]);
    cluster.wait("an unmanaged object is let go", 20, || !is_paused(server));
    server.kubectl("alice", &["annotate", "deployment", "web", "-n", "shop", "platform.kubevirt.io/mode-"]);
    cluster.wait("a managed one is not", 20, || is_paused(server));

    server.kubectl("admin", &["annotate", "namespace", "shop", "editwar.dev/enforce=off"]);
    cluster.wait("a switched-off namespace is let go", 60, || !is_paused(server));
    cluster.wait("and stays so", 20, || !is_paused(server));
}

#[test]
fn pauses_survive_a_restart_of_editwar_or_of_the_api_server() {
    let Some(mut cluster) = Cluster::start(&[]) else { return };
    cluster.fight();
    let webhook = cluster.webhook.clone();
    // After a kill, the new process finds the pause and removes it when its time is over.
    cluster.editwar = {
        cluster.editwar.signal("KILL");
        pause(500);
        enforcing(&cluster.server, &webhook, &[])
    };
    assert!(is_paused(&cluster.server));
    wait_until("the new one leads", 30, || cluster.readiness().contains("enforcer: enforcing"));
    cluster.wait("it is lifted", 60, || !is_paused(&cluster.server));

    cluster.fight();
    cluster.server.halt();
    wait_until("the loss is told", 60, || cluster.readiness().contains("the Lease: API server"));
    cluster.server.launch();
    wait_until("it goes on", 90, || cluster.readiness().contains("enforcer: enforcing"));
    cluster.wait("it is lifted", 60, || !is_paused(&cluster.server));
}

#[test]
fn a_standby_takes_over_when_the_leader_is_killed() {
    let Some(mut cluster) = Cluster::start(&[]) else { return };
    wait_until("one leads", 30, || cluster.readiness().contains("enforcer: enforcing"));
    let webhook = format!("127.0.0.1:{}", free_port());
    let second = enforcing(&cluster.server, &webhook, &[]);
    let status = || second.get("/readyz?verbose").1;
    wait_until("the other stands by", 30, || status().contains("standing by"));
    cluster.fight();
    cluster.editwar.signal("KILL");
    wait_until("the other takes over", 60, || {
        let status = status();
        status.contains("enforcer: ") && !status.contains("standing by")
    });
    assert!(is_paused(&cluster.server), "the pause outlives the one that set it");
    // From now on it receives the API server's events, since the Service in the manifests selects the ready pod.
    drop(second);
    cluster.editwar = enforcing(&cluster.server, &cluster.webhook.clone(), &[]);
    cluster.wait("it is lifted", 60, || !is_paused(&cluster.server));
}

/// A standby without the log knows only what was posted to it. With it, the new leader knows the war that it has never received.
#[cfg(feature = "kafka")]
#[test]
fn a_replica_of_one_log_lifts_the_pause_of_a_war_that_was_posted_to_another_one() {
    let Some(broker) = crate::broker::Broker::start() else { return };
    let brokers = format!("kafka.brokers=[\"{}\"]", broker.address());
    // A busy machine writes slowly, and the broker keeps it busy.
    let slow = ["--set", "limits.buckets=[{burst: 3, window: 60s}]", "--set", "limits.quiet_period=8s"];
    let log = [&["--set", &brokers, "--set", "journal.kafka={}"][..], &slow].concat();
    let Some(mut cluster) = Cluster::start(&log) else { return };
    wait_until("one leads", 60, || cluster.readiness().contains("enforcer: enforcing"));
    let second = enforcing(&cluster.server, &format!("127.0.0.1:{}", free_port()), &log);
    let status = || second.get("/readyz?verbose").1;
    wait_until("the other stands by", 60, || status().contains("standing by"));
    cluster.fight();
    let war = || second.json("/api/v1/objects/deployments.apps/shop/web")["wars"][0].clone();
    wait_until("both know the war", 20, || war()["parties"].as_array().is_some_and(|parties| parties.len() >= 2));
    // A person lifts the pause. The one that holds the Lease notices it, and the other one learns it from the log.
    cluster.server.kubectl("alice", &["annotate", "deployment", "web", "-n", "shop", &format!("{PAUSED}-")]);
    cluster.wait("both know that it was lifted", 60, || war()["state"] == "calm");
    cluster.fight();
    wait_until("both pauses are reported", 20, || cluster.count_events("ThrashingDetected") == 2);
    cluster.editwar.kill();
    wait_until("the other takes over", 60, || {
        let status = status();
        status.contains("enforcer: ") && !status.contains("standing by")
    });
    assert!(is_paused(&cluster.server), "the pause outlives the one that set it");
    // Events are posted to the first one again, which stands by now.
    cluster.editwar = enforcing(&cluster.server, &cluster.webhook.clone(), &log);
    cluster.wait("it is lifted", 90, || !is_paused(&cluster.server));
    assert!(cluster.readiness().contains("standing by"), "{}", cluster.readiness());
    wait_until("both ends are reported", 20, || cluster.count_events("ThrashingResolved") == 2);
    assert_eq!(cluster.count_events("ThrashingDetected"), 2, "one for each pause: {}", cluster.events());
}

#[test]
fn a_missing_permission_is_reported_with_the_rbac_rule() {
    let Some(cluster) = Cluster::start(&[]) else { return };
    let rule = r#"[{"op":"replace","path":"/rules/0/verbs","value":["get","list"]}]"#;
    cluster.server.kubectl("admin", &["patch", "clusterrole", "editwar-pause", "--type=json", "-p", rule]);
    let mut turns = 0;
    wait_until("it is told", 60, || {
        scale(&cluster.server, HPA, 5);
        reconcile(&cluster.server);
        turns += 1;
        cluster.readiness().contains("cannot patch resource")
    });
    let told = cluster.readiness();
    assert!(
        told.contains(r#"add this RBAC rule: {apiGroups: ["apps"], resources: [deployments], verbs: [patch]}"#),
        "{told}"
    );
    assert!(!is_paused(&cluster.server));
}

const FLUX: &str = "system:serviceaccount:flux-system:kustomize-controller";
const ARGO_CD: &str = "system:serviceaccount:argocd:argocd-application-controller";

/// Returns the annotation of an object.
fn annotation_of(server: &ApiServer, object: &[&str], key: &str) -> Option<String> {
    let object: Value =
        serde_json::from_str(&server.kubectl("admin", &[&["get"], object, &["-o", "json"]].concat())).unwrap();
    object["metadata"]["annotations"][key].as_str().map(str::to_owned)
}

/// One step of Flux and of Argo CD, as their sources have it: neither writes an object that its switch excludes.
/// Returns whether it wrote.
fn correct(server: &ApiServer, tool: &str) -> bool {
    let is_off = match tool {
        FLUX => annotation(server, "kustomize.toolkit.fluxcd.io/reconcile").as_deref() == Some("disabled"),
        _ => {
            let application = ["applications.argoproj.io", "shop", "-n", "argocd"];
            annotation_of(server, &application, "argocd.argoproj.io/skip-reconcile").as_deref() == Some("true")
        }
    };
    if !is_off {
        let mark = match tool {
            FLUX => {
                json!({"labels": {"kustomize.toolkit.fluxcd.io/name": "shop", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}})
            }
            _ => json!({"annotations": {"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:shop/web"}}),
        };
        let patch = json!({"metadata": mark, "spec": {"replicas": 3}}).to_string();
        server.kubectl(tool, &["patch", "deployment", "web", "-n", "shop", "--type=merge", "-p", &patch]);
    }
    !is_off
}

#[test]
fn flux_and_argo_cd_are_paused_by_their_own_switches_if_that_is_allowed() {
    for (tool, name) in [(FLUX, "flux"), (ARGO_CD, "argo_cd")] {
        let tools = format!("enforce.tools=[{name}]");
        let Some(cluster) = Cluster::start(&["--set", &tools, "--set", "enforce.annotations={}"]) else { return };
        let server = &cluster.server;
        let application = || {
            let object = ["applications.argoproj.io", "shop", "-n", "argocd"];
            annotation_of(server, &object, "argocd.argoproj.io/skip-reconcile")
        };
        if tool == ARGO_CD {
            let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
                "metadata": {"name": "applications.argoproj.io"}, "spec": {"group": "argoproj.io", "scope": "Namespaced",
                "names": {"plural": "applications", "singular": "application", "kind": "Application"},
                "versions": [{"name": "v1alpha1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
                {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}});
            server.apply("admin", &definition.to_string());
            server.kubectl("admin", &["create", "namespace", "argocd"]);
            let rbac = std::fs::read_to_string(util::path("deploy/rbac/pause-argo-cd.yaml")).unwrap();
            server.apply("admin", &rbac);
            wait_until("the resource is served", 30, || {
                let application = json!({"apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
                    "metadata": {"name": "shop", "namespace": "argocd"}, "spec": {"project": "default"},
                    "status": {"resources": [{"group": "apps", "kind": "Deployment", "namespace": "shop", "name": "web"}]}});
                server.shell("admin", &format!("printf '%s' '{application}' | kubectl apply -f -")).status.success()
            });
        }
        let is_off = || match tool {
            FLUX => annotation(server, "kustomize.toolkit.fluxcd.io/reconcile").is_some(),
            _ => application().is_some(),
        };
        wait_until("its switch is set", 120, || {
            scale(server, HPA, 5);
            correct(server, tool);
            is_off()
        });
        scale(server, HPA, 5);
        assert!(!correct(server, tool));
        assert_eq!(live(server)["spec"]["replicas"], 5, "the autoscaler prevails");
        assert_eq!(is_paused(server), tool == FLUX, "the pause of Argo CD is on its Application");
        if tool == ARGO_CD {
            let object = ["applications.argoproj.io", "shop", "-n", "argocd"];
            let because = annotation_of(server, &object, "platform.kubevirt.io/reconcile-paused-because").unwrap();
            assert!(because.contains("deployments.apps/web: spec.replicas"), "{because}");
        }

        // The kill switch removes the switch of the tool too.
        cluster.editwar.signal("USR1");
        cluster.wait("the kill switch removes it", 60, || !is_off());
        cluster.editwar.signal("USR1");
        wait_until("it is set again", 120, || {
            scale(server, HPA, 5);
            correct(server, tool);
            is_off()
        });
        if tool == ARGO_CD {
            // A person lifts the pause by removing the switch of the tool alone.
            server.kubectl(
                "alice",
                &["annotate", "applications.argoproj.io", "shop", "-n", "argocd", "argocd.argoproj.io/skip-reconcile-"],
            );
            wait_until("the rest is removed", 30, || {
                let object = ["applications.argoproj.io", "shop", "-n", "argocd"];
                annotation_of(server, &object, "platform.kubevirt.io/reconcile-paused").is_none()
            });
            for _ in 0..8 {
                cluster.wait("time passes", 5, || true);
                assert!(!is_off(), "a person's word holds");
            }
        }
        cluster.wait("its switch is removed", 90, || !is_off());
        assert!(!is_paused(server));
        assert!(correct(server, tool), "{name} corrects the object again");
        assert_eq!(live(server)["spec"]["replicas"], 3);
    }
}

/// A client for an object that was read before it was replaced, as the kill switch has it.
#[test]
fn a_pause_of_an_object_that_was_replaced_or_deleted_is_gone() {
    let Some(server) = ApiServer::start(None) else { return };
    server.apply("admin", &golden().to_string());
    let read = Kubeconfig::read_from(server.kubeconfig("admin")).unwrap();
    let target = Target {
        resource: ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("apps", "v1", "Deployment"), "deployments"),
        namespace: "shop".to_owned(),
        name: "web".to_owned(),
        uid: live(&server)["metadata"]["uid"].as_str().map(str::to_owned),
    };
    let lift = || {
        let (read, target) = (read.clone(), target.clone());
        tokio::runtime::Runtime::new().unwrap().block_on(async move {
            let config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.unwrap();
            let client = kube::Client::try_from(config).unwrap();
            PauseClient::new(client, Duration::from_secs(15)).lift(&target).await
        })
    };
    assert!(lift().is_ok(), "it still exists");
    server.kubectl("admin", &["delete", "deployment", "web", "-n", "shop"]);
    let deleted = lift();
    assert!(matches!(deleted, Err(Error::Gone)), "{deleted:?}");
    server.apply("admin", &golden().to_string());
    let replaced = lift();
    assert!(matches!(replaced, Err(Error::Gone)), "{replaced:?}");
}

#[test]
fn a_war_that_calls_for_a_pause_which_is_not_set_is_reported_once_with_what_to_do_instead() {
    let Some(cluster) = Cluster::start(&[]) else { return };
    let server = &cluster.server;
    let said = |text: &str| cluster.editwar.said().matches(text).count();
    wait_until("the census is logged", 20, || said("1 of 1 objects may be paused") == 1);
    // Two people: neither looks at the annotation.
    wait_until("it is reported", 90, || {
        scale(server, "alice", 5);
        scale(server, "bob", 3);
        said("none of alice, bob honours a pause (platform.pause_aware_actors)") > 0
    });
    assert!(said("ask alice to stop; or ask bob to stop") > 0, "{}", cluster.editwar.said());
    for _ in 0..3 {
        scale(server, "alice", 5);
        scale(server, "bob", 3);
    }
    // Reports are made every 10 s: two more of them.
    wait_until("the status has it", 10, || cluster.readiness().contains("pauses not set: 1, see the log"));
    assert!(!is_paused(server));
    assert_eq!(said("honours a pause"), 1, "{}", cluster.editwar.said());
}
