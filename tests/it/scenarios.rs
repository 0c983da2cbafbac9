//! Invented edge cases: what is a war and what is not, at every audit level.

use editwar::detect::verdict::{Confidence, State};
use editwar::pipeline::Pipeline;
use editwar::query::views::{Report, War};
use serde_json::{Value, json};

use crate::cluster::{ALICE, BOB, Cluster, DEPLOYER, HPA, LEVELS, Level, OPERATOR, Who};
use crate::util;

const WEB: &str = "deployments.apps/shop/web";
const CONFIG: &str = "configmaps/shop/config";
const ADMIN: Who = ("admin", "kubectl-create");

fn deployment() -> Value {
    json!({"kind": "Deployment", "apiVersion": "apps/v1", "metadata": {"labels": {"app": "web"}}, "spec": {"replicas": 3, "template": {"spec": {"containers": [{"name": "web", "image": "web:1"}]}}}})
}

fn config(data: Value) -> Value {
    json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {}, "data": data})
}

/// Plays a story at every level, and passes the results to `look`.
fn at_every_level(story: impl Fn(&mut Cluster), look: impl Fn(Level, &Pipeline, &Report)) {
    for level in LEVELS {
        let mut cluster = Cluster::new(level);
        story(&mut cluster);
        let pipeline = util::pipeline_of(cluster.lines());
        look(level, &pipeline, &util::report(&pipeline));
    }
}

/// Checks that there is no war if fields are known, and at Metadata at most a possible one that is not paused.
fn assert_no_war(story: impl Fn(&mut Cluster)) {
    at_every_level(story, |level, pipeline, report| {
        let is_sure = |war: &War| war.confidence > Confidence::Possible;
        assert!(!report.wars.iter().any(is_sure), "{level:?}: {:#?}", report.wars);
        assert!(level == Level::Metadata || report.wars.is_empty(), "{level:?}: {:#?}", report.wars);
        for key in pipeline.table().notable() {
            let state = pipeline.table().with(&key, |o| o.state()).unwrap();
            assert!(state < State::Thrashing, "{level:?}: {key:?} is {state:?}");
        }
    });
}

#[test]
fn writers_of_different_fields_are_not_at_war() {
    assert_no_war(|cluster| {
        cluster.create(ADMIN, CONFIG, config(json!({"a": "0", "b": "0", "c": "0"})));
        for turn in 0..40 {
            cluster.wait(3.0);
            cluster.patch(ALICE, CONFIG, "", json!({"data": {"a": format!("{turn}")}}));
            cluster.patch(BOB, CONFIG, "", json!({"data": {"b": format!("{turn}")}}));
            cluster.update(OPERATOR, CONFIG, "", json!({"data": {"c": format!("{turn}")}}));
        }
    });
}

#[test]
fn status_and_spec_writers_are_not_even_a_possible_war() {
    at_every_level(
        |cluster| {
            cluster.create(ALICE, WEB, deployment());
            for turn in 1..40 {
                cluster.wait(3.0);
                cluster.patch(ALICE, WEB, "", json!({"spec": {"replicas": turn % 3}}));
                cluster.update(
                    DEPLOYER,
                    WEB,
                    "status",
                    json!({"status": {"replicas": turn % 3, "observedGeneration": turn}}),
                );
            }
        },
        |level, _, report| assert!(report.wars.is_empty(), "{level:?}: {:#?}", report.wars),
    );
}

#[test]
fn rollouts_are_not_a_war() {
    assert_no_war(|cluster| {
        cluster.create(ALICE, WEB, deployment());
        for build in 2..14 {
            cluster.wait(45.0);
            cluster.patch(
                ALICE,
                WEB,
                "",
                json!({"spec": {"template": {"metadata": {"annotations": {"build": format!("{build}")}}}}}),
            );
            cluster.update(
                DEPLOYER,
                WEB,
                "",
                json!({"metadata": {"annotations": {"deployment.kubernetes.io/revision": format!("{build}")}}}),
            );
            cluster.update(DEPLOYER, WEB, "status", json!({"status": {"observedGeneration": build}}));
        }
    });
}

#[test]
fn manual_scaling_and_an_autoscaler_are_not_a_war() {
    assert_no_war(|cluster| {
        cluster.create(ALICE, WEB, deployment());
        cluster.scale(BOB, WEB, 10);
        cluster.update(DEPLOYER, WEB, "status", json!({"status": {"replicas": 10}}));
        // An autoscaler scales up and down all day. It only overwrites its own values.
        for replicas in [12, 15, 20, 15, 12, 10, 8, 10, 12, 15, 12, 8, 5, 3] {
            cluster.wait(120.0);
            cluster.scale(HPA, WEB, replicas);
            cluster.update(DEPLOYER, WEB, "status", json!({"status": {"replicas": replicas}}));
            // The operator always applies the same, which does not contain replicas.
            cluster.patch(OPERATOR, WEB, "", json!({"metadata": {"labels": {"app": "web"}}}));
        }
    });
}

#[test]
fn a_certificate_rotation_is_not_a_war() {
    const CONFIGURATION: &str = "validatingwebhookconfigurations.admissionregistration.k8s.io//guard";
    const ISSUER: Who = ("system:serviceaccount:cert-manager:cert-manager", "cert-manager");
    const INJECTOR: Who = ("system:serviceaccount:cert-manager:cert-manager-cainjector", "cainjector");
    assert_no_war(|cluster| {
        cluster.create(
            OPERATOR,
            CONFIGURATION,
            json!({"kind": "ValidatingWebhookConfiguration", "apiVersion": "admissionregistration.k8s.io/v1", "metadata": {}, "webhooks": [{"name": "guard.example.com", "clientConfig": {"caBundle": ""}}]}),
        );
        cluster.create(
            ISSUER,
            "secrets/shop/tls",
            json!({"kind": "Secret", "apiVersion": "v1", "metadata": {}, "data": {}}),
        );
        for serial in 0..15 {
            cluster.wait(40.0);
            let bundle = format!("LS0tLS1CRUdJTi{serial}");
            cluster.update(ISSUER, "secrets/shop/tls", "", json!({"data": {"tls.crt": bundle}}));
            let webhooks = json!({"webhooks": [{"name": "guard.example.com", "clientConfig": {"caBundle": bundle}}]});
            // Two injectors that alternately overwrite each other, until one of them stops.
            let (first, second) = if serial < 8 { (INJECTOR, OPERATOR) } else { (OPERATOR, INJECTOR) };
            cluster.update(first, CONFIGURATION, "", webhooks.clone());
            cluster.update(second, CONFIGURATION, "", webhooks);
        }
    });
}

#[test]
fn a_dependent_that_follows_its_owner_is_not_a_war() {
    const SET: &str = "replicasets.apps/shop/web-7d77";
    assert_no_war(|cluster| {
        cluster.create(ALICE, WEB, deployment());
        cluster.create(
            DEPLOYER,
            SET,
            json!({"kind": "ReplicaSet", "apiVersion": "apps/v1", "metadata": {}, "spec": {"replicas": 3}}),
        );
        for turn in 0..20 {
            cluster.wait(30.0);
            let replicas = [5, 3][turn % 2];
            cluster.patch(ALICE, WEB, "", json!({"spec": {"replicas": replicas}}));
            cluster.update(DEPLOYER, SET, "", json!({"spec": {"replicas": replicas}}));
            cluster.update(
                ("system:serviceaccount:kube-system:replicaset-controller", "kube-controller-manager"),
                SET,
                "status",
                json!({"status": {"replicas": replicas}}),
            );
        }
    });
}

#[test]
fn a_handover_is_not_a_war() {
    at_every_level(
        |cluster| {
            cluster.create(ALICE, WEB, deployment());
            for (who, from) in [(ALICE, 1), (OPERATOR, 20)] {
                for replicas in from..from + 15 {
                    cluster.wait(5.0);
                    cluster.patch(who, WEB, "", json!({"spec": {"replicas": replicas}}));
                }
            }
        },
        |level, _, report| assert!(report.wars.is_empty(), "{level:?}: {:#?}", report.wars),
    );
}

#[test]
fn two_edits_against_a_reconciler_are_not_a_war() {
    at_every_level(
        |cluster| {
            cluster.create(OPERATOR, WEB, deployment());
            for _ in 0..2 {
                cluster.wait(20.0);
                cluster.patch(ALICE, WEB, "", json!({"spec": {"replicas": 5}}));
                cluster.wait(1.0);
                cluster.patch(OPERATOR, WEB, "", json!({"spec": {"replicas": 3}}));
            }
        },
        |level, _, report| assert!(report.wars.is_empty(), "{level:?}: {:#?}", report.wars),
    );
}

#[test]
fn a_leader_election_is_not_a_war() {
    const LEASE: &str = "leases.coordination.k8s.io/kube-system/lock";
    at_every_level(
        |cluster| {
            cluster.create(ALICE, LEASE, json!({"kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": {}, "spec": {"holderIdentity": "a"}}));
            for (who, holder) in [(ALICE, "a"), (BOB, "b"), (ALICE, "a")] {
                for _ in 0..30 {
                    cluster.wait(2.0);
                    let time = format!(
                        "2026-11-23T02:{:02}:{:02}.000000Z",
                        (cluster_seconds(cluster) / 60) % 60,
                        cluster_seconds(cluster) % 60
                    );
                    cluster.update(who, LEASE, "", json!({"spec": {"holderIdentity": holder, "renewTime": time}}));
                }
            }
        },
        |level, _, report| assert!(report.wars.is_empty(), "{level:?}: {:#?}", report.wars),
    );
}

/// Returns an increasing number of seconds: the number of events so far.
fn cluster_seconds(cluster: &Cluster) -> usize {
    cluster.lines().count()
}

#[test]
fn heartbeats_of_two_controllers_in_one_status_are_not_a_war() {
    const NODE: &str = "nodes/-/n1";
    assert_no_war(|cluster| {
        cluster.create(ADMIN, NODE, json!({"kind": "Node", "apiVersion": "v1", "metadata": {}, "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Network", "status": "True"}]}}));
        for turn in 0..40 {
            cluster.wait(5.0);
            let time = |offset: usize| format!("2026-11-23T02:{:02}:{:02}Z", turn, offset);
            let conditions = |ready: usize, network: usize| json!({"status": {"conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": time(ready)}, {"type": "Network", "status": "True", "lastHeartbeatTime": time(network)}]}});
            cluster.update(("system:node:n1", "kubelet"), NODE, "status", conditions(20, 1));
            cluster.update(("system:serviceaccount:net:agent", "agent"), NODE, "status", conditions(20, 40));
        }
    });
}

#[test]
fn shared_counters_and_growing_lists_are_not_a_war() {
    let mut cluster = Cluster::new(Level::RequestResponse);
    cluster.create(ADMIN, WEB, deployment());
    let mut items: Vec<String> = Vec::new();
    for turn in 0..40 {
        cluster.wait(5.0);
        items.push(format!("item-{turn}"));
        let who = if turn % 2 == 0 { ALICE } else { BOB };
        cluster.update(who, WEB, "", json!({"spec": {"count": turn, "items": items}}));
    }
    let report = util::report(&util::pipeline_of(cluster.lines()));
    assert!(report.wars.is_empty(), "{:#?}", report.wars);
}

#[test]
fn one_account_with_one_tool_is_not_at_war_with_itself() {
    at_every_level(
        |cluster| {
            cluster.create(ALICE, WEB, deployment());
            for turn in 0..40 {
                cluster.wait(5.0);
                cluster.patch(ALICE, WEB, "", json!({"spec": {"replicas": turn % 2}}));
            }
        },
        |level, _, report| assert!(report.wars.is_empty(), "{level:?}: {:#?}", report.wars),
    );
}

/// Returns the seconds from the first retake to the first thrashing event and to the first pause.
fn pace(pipeline: &Pipeline, confidence: Confidence) -> (i64, i64) {
    let keys = pipeline.table().notable();
    let key = keys.iter().find(|k| k.object().name == "web").unwrap();
    let look = |object: &editwar::detect::object::ObjectState| {
        let first = object.history().unwrap().analysis().worst(confidence).unwrap().tally.machine.milestones();
        let seconds = |at: Option<i64>| (at.unwrap() - first.retake.unwrap()) / 1_000_000;
        (seconds(first.thrashing), seconds(first.sustained))
    };
    pipeline.table().with(key, look).unwrap()
}

#[test]
fn the_runbooks_example_is_found_at_every_level_in_time() {
    at_every_level(
        |cluster| {
            cluster.create(ADMIN, WEB, deployment());
            for _ in 0..15 {
                cluster.wait(5.0);
                cluster.patch(OPERATOR, WEB, "", json!({"spec": {"replicas": 3}}));
                cluster.wait(5.0);
                cluster.patch(HPA, WEB, "", json!({"spec": {"replicas": 5}}));
            }
        },
        |level, pipeline, report| {
            let war = &report.wars[0];
            let confidence = match level {
                Level::Metadata => Confidence::Possible,
                Level::Request => Confidence::Probable,
                Level::RequestResponse => Confidence::Confirmed,
            };
            assert_eq!((war.confidence, war.state), (confidence, State::Sustained), "{level:?}");
            assert_eq!(war.cause.as_str(), "conflicting_automation");
            let (thrash, pause) = pace(pipeline, confidence);
            assert!(thrash < 60 && pause < 90, "{level:?}: thrashing after {thrash} s, paused after {pause} s");
        },
    );
}

#[test]
fn a_war_with_an_autoscaler_is_sustained_within_90_seconds() {
    at_every_level(
        |cluster| {
            cluster.create(ADMIN, WEB, deployment());
            for _ in 0..12 {
                cluster.wait(15.0);
                cluster.scale(HPA, WEB, 5);
                cluster.wait(0.2);
                cluster.patch(OPERATOR, WEB, "", json!({"spec": {"replicas": 3}}));
            }
        },
        |level, pipeline, _| {
            let confidence = if level == Level::Metadata { Confidence::Possible } else { Confidence::Probable };
            let (thrash, pause) = pace(pipeline, confidence);
            assert!(thrash < 60 && pause < 90, "{level:?}: thrashing after {thrash} s, paused after {pause} s");
        },
    );
}

#[test]
fn a_war_over_a_list_item_names_the_item_by_its_key() {
    const HOOK: &str = "mutatingwebhookconfigurations.admissionregistration.k8s.io/-/injector";
    let webhooks = |bundle: &str| json!({"webhooks": [{"name": "a.example.com", "clientConfig": {"caBundle": "YQ=="}}, {"name": "b.example.com", "clientConfig": {"caBundle": bundle}}]});
    at_every_level(
        |cluster| {
            let mut body = webhooks("");
            body["kind"] = "MutatingWebhookConfiguration".into();
            body["apiVersion"] = "admissionregistration.k8s.io/v1".into();
            cluster.create(ADMIN, HOOK, body);
            for _ in 0..10 {
                cluster.wait(10.0);
                cluster.update(OPERATOR, HOOK, "", webhooks("b3BlcmF0b3I="));
                cluster.update(
                    ("system:serviceaccount:argocd:argocd-application-controller", "argocd-controller"),
                    HOOK,
                    "",
                    webhooks("Z2l0"),
                );
            }
        },
        |level, _, report| {
            let war = &report.wars[0];
            let path =
                if level == Level::Metadata { "(main)" } else { "webhooks[name=b.example.com].clientConfig.caBundle" };
            assert_eq!(war.fields[0].path, path, "{level:?}");
            assert_eq!(war.cause.as_str(), "conflicting_automation");
        },
    );
}

#[test]
fn a_webhook_that_resets_a_field_is_a_named_party() {
    at_every_level(
        |cluster| {
            cluster.create(ADMIN, CONFIG, config(json!({"v": "webhook", "other": "0"})));
            cluster.webhook = Some(json!({"data": {"v": "webhook"}}));
            for turn in 0..10 {
                cluster.wait(20.0);
                cluster.patch(
                    OPERATOR,
                    CONFIG,
                    "",
                    json!({"data": {"v": "operator", "other": format!("{}", turn / 3)}}),
                );
            }
        },
        |level, _, report| {
            if level == Level::Metadata {
                return assert!(report.wars.is_empty(), "one writer is no war: {:#?}", report.wars);
            }
            let war = &report.wars[0];
            let parties: Vec<&str> = war.parties.iter().map(|p| p.actor.as_str()).collect();
            assert!(parties.contains(&"webhook tags/tags.example.com") && parties.contains(&OPERATOR.0), "{parties:?}");
            assert_eq!((war.fields.len(), war.fields[0].path.as_str()), (1, "data.v"), "{level:?}");
            // The stored value never changes, so no value returns.
            assert_eq!((war.cause.as_str(), war.confidence), ("overriding_webhook", Confidence::Probable));
            assert_eq!(war.parties.iter().find(|p| p.actor.starts_with("webhook")).unwrap().class.as_str(), "webhook");
        },
    );
}

#[test]
fn alternating_deletes_and_creates_are_a_recreate_war() {
    at_every_level(
        |cluster| {
            for _ in 0..8 {
                cluster.wait(10.0);
                cluster.create(OPERATOR, CONFIG, config(json!({"v": "1"})));
                cluster.wait(10.0);
                cluster.delete(ALICE, CONFIG);
            }
        },
        |level, _, report| {
            let war = &report.wars[0];
            assert_eq!((war.retakes, war.cause.as_str()), (14, "recreate_war"), "{level:?}");
            assert_eq!(war.fields[0].path, "(object)");
        },
    );
}

#[test]
fn a_rolling_restart_of_a_stateful_set_is_not_a_recreate_war() {
    const POD: &str = "pods/shop/db-0";
    let sts: Who = ("system:serviceaccount:kube-system:statefulset-controller", "kube-controller-manager");
    at_every_level(
        |cluster| {
            for _ in 0..10 {
                cluster.wait(20.0);
                cluster.create(
                    sts,
                    POD,
                    json!({"kind": "Pod", "apiVersion": "v1", "metadata": {}, "spec": {"x": "1"}}),
                );
                // The controller requests the deletion, and the kubelet completes it.
                cluster.patch(sts, POD, "", json!({"metadata": {"deletionTimestamp": "2026-11-23T02:00:00Z"}}));
                cluster.delete(("system:node:n1", "kubelet"), POD);
            }
        },
        |level, _, report| {
            let is_war = report.wars.iter().any(|w| w.confidence > Confidence::Possible);
            assert!(!is_war, "{level:?}: {:#?}", report.wars);
        },
    );
}

#[test]
fn conflicts_that_store_nothing_are_contention_and_not_a_war() {
    at_every_level(
        |cluster| {
            cluster.create(ADMIN, CONFIG, config(json!({"a": "0", "b": "0"})));
            for turn in 0..20 {
                cluster.wait(1.0);
                cluster.update(ALICE, CONFIG, "", json!({"data": {"a": format!("{turn}")}}));
                cluster.conflict(BOB, CONFIG);
            }
        },
        |level, _, report| {
            assert!(report.wars.is_empty(), "{level:?}: {:#?}", report.wars);
            let contention = &report.contention[0];
            assert_eq!((contention.stale, contention.parties[0].actor.as_str()), (20, "bob"), "{level:?}");
        },
    );
}

#[test]
fn hot_loops_are_reported_separately_from_wars() {
    at_every_level(
        |cluster| {
            cluster.create(OPERATOR, WEB, deployment());
            for turn in 0..150 {
                cluster.wait(0.5);
                cluster.patch(OPERATOR, WEB, "status", json!({"status": {"turn": turn}}));
            }
            cluster.create(ALICE, CONFIG, config(json!({"v": "1"})));
            for _ in 0..40 {
                cluster.wait(3.0);
                cluster.update(ALICE, CONFIG, "", json!({"data": {"v": "1"}}));
            }
        },
        |level, _, report| {
            assert!(report.wars.is_empty(), "{level:?}: {:#?}", report.wars);
            let hot: Vec<&str> = report.hot_loops.iter().map(|h| h.object.name.as_str()).collect();
            // Only responses show that nothing changed.
            let expected: &[&str] = if level == Level::RequestResponse { &["config", "web"] } else { &["web"] };
            assert_eq!(hot, expected, "{level:?}");
        },
    );
}

#[test]
fn a_war_subsides_in_event_time_without_further_writes() {
    let story = |minutes: f64| {
        let mut cluster = Cluster::new(Level::RequestResponse);
        cluster.create(ADMIN, WEB, deployment());
        for turn in 0..20 {
            cluster.wait(5.0);
            cluster.patch(
                if turn % 2 == 0 { OPERATOR } else { ALICE },
                WEB,
                "",
                json!({"spec": {"replicas": turn % 2}}),
            );
        }
        cluster.wait(minutes * 60.0);
        cluster.get(BOB, WEB);
        util::report(&util::pipeline_of(cluster.lines())).wars[0].state
    };
    assert_eq!([story(9.0), story(11.0), story(21.0)], [State::Sustained, State::Subsiding, State::Calm]);
}

#[test]
fn a_war_of_three_has_three_parties() {
    at_every_level(
        |cluster| {
            cluster.create(ADMIN, WEB, deployment());
            for _ in 0..6 {
                for (who, replicas) in [(ALICE, 1), (BOB, 2), (OPERATOR, 3)] {
                    cluster.wait(10.0);
                    cluster.patch(who, WEB, "", json!({"spec": {"replicas": replicas}}));
                }
            }
        },
        |level, _, report| {
            assert_eq!(report.wars[0].parties.len(), 3, "{level:?}");
            assert_eq!(report.wars[0].retakes, 15, "{level:?}");
        },
    );
}

#[test]
fn a_metadata_only_response_keeps_the_known_values_of_other_fields() {
    let mut cluster = Cluster::new(Level::RequestResponse);
    cluster.create(ADMIN, WEB, deployment());
    cluster.wait(3.0);
    cluster.patch(ALICE, WEB, "", json!({"spec": {"replicas": 5}}));
    cluster.wait(3.0);
    cluster.patch(BOB, WEB, "", json!({"metadata": {"annotations": {"example.com/pause": "true"}}}));
    cluster.wait(3.0);
    cluster.update(OPERATOR, WEB, "", json!({"metadata": {"annotations": null}, "spec": {"replicas": 3}}));
    // As requested by a metadata-only client, and logged by the API server.
    let excerpt = |line: &[u8]| {
        let mut event: Value = serde_json::from_slice(line).unwrap();
        if event["user"]["username"] == BOB.0 {
            let metadata = event["responseObject"]["metadata"].clone();
            event["responseObject"] =
                json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata});
        }
        event.to_string().into_bytes()
    };
    let lines: Vec<Vec<u8>> = cluster.lines().map(excerpt).collect();
    let pipeline = util::pipeline_of(lines.iter().map(Vec::as_slice));
    let key = pipeline.table().notable().into_iter().next().unwrap();
    let changes = pipeline.table().with(&key, |object| {
        let of = |record: &editwar::detect::record::Record| {
            let change = |c: &editwar::detect::fields::Change| {
                let text = |v: &Option<editwar::detect::fields::FieldValue>| {
                    v.as_ref().and_then(|v| v.text()).unwrap_or("-").to_owned()
                };
                format!("{}: {} to {}", c.path, text(&c.old), text(&c.new))
            };
            record.changes.iter().map(change).collect::<Vec<_>>()
        };
        object.history().unwrap().records().map(of).collect::<Vec<_>>()
    });
    let pause = "metadata.annotations['example.com/pause']";
    assert_eq!(
        changes.unwrap()[2..],
        [
            vec![format!("{pause}: - to \"true\"")],
            vec!["spec.replicas: 5 to 3".to_owned(), format!("{pause}: \"true\" to -")]
        ]
    );
}

#[test]
fn remedies_omit_fields_contested_only_before_a_recreation() {
    let mut cluster = Cluster::new(Level::RequestResponse);
    let strict = json!({"mode": "strict", "other": "held"});
    let fight = |cluster: &mut Cluster, field: &str, values: [&str; 2], times: usize| {
        for _ in 0..times {
            for (who, value) in [(ALICE, values[0]), (OPERATOR, values[1])] {
                cluster.wait(1.0);
                cluster.patch(who, CONFIG, "", json!({"data": {field: value}}));
            }
        }
    };
    cluster.create(OPERATOR, CONFIG, config(strict.clone()));
    fight(&mut cluster, "mode", ["relaxed", "strict"], 8);
    fight(&mut cluster, "other", ["tampered", "held"], 2);
    cluster.wait(1.0);
    cluster.delete(ADMIN, CONFIG);
    cluster.wait(1.0);
    cluster.create(OPERATOR, CONFIG, config(strict));
    fight(&mut cluster, "mode", ["relaxed", "strict"], 8);
    let report = util::report(&util::pipeline_of(cluster.lines()));
    let war = &report.wars[0];
    assert!(war.fields.iter().any(|field| field.path == "data.other"), "it was contested: {war:#?}");
    let commands: Vec<&str> = war.remedies.iter().map(|remedy| remedy.command.as_str()).collect();
    assert!(commands.iter().any(|command| command.contains("/data/mode")), "{commands:#?}");
    assert!(!commands.iter().any(|command| command.contains("other")), "{commands:#?}");
}
