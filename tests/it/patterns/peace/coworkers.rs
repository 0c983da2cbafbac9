//! Several actors that each write their own fields.

use serde_json::json;

use crate::patterns::actors::Actor;
use crate::patterns::kinds;
use crate::patterns::scenario::{Pattern, Scenario, gone, is, pace, pattern};
use crate::patterns::simulator::{How, PATCHES, Target};

/// Each actor alternates its own field between two values, at its own rhythm.
fn each_its_own(s: &mut Scenario, target: &Target, how: &[How], paths: &[&str]) {
    for (nth, path) in paths.iter().enumerate() {
        let actor = Actor::operator(&mut s.rng, nth);
        let (how, target, path) = (s.pick(how), target.clone(), (*path).to_owned());
        let (period, times) = (s.rng.between(5.0, 25.0), s.rng.within(9, 16));
        s.every(pace(1.0 + nth as f64 * 2.3, period, times), move |server, turn| {
            server.write(&actor, how, &target, &[is(&path, format!("v{}", turn % 2))]);
        });
    }
}

pub(crate) const PATTERNS: &[Pattern] = &[
    pattern("keys_by_put", "each actor PUTs the whole object and changes only its own key", |s| {
        let target = s.object(kinds::CONFIG_MAP, &[]);
        each_its_own(s, &target, &[How::Put], &["data.first", "data.second", "data.third"]);
    }),
    pattern("keys_by_patch", "each actor patches only its own field of a custom resource", |s| {
        let target = s.object(kinds::DATABASE, &[]);
        each_its_own(s, &target, &[How::Merge, How::Json], &["spec.backup.mode", "spec.tuning.profile"]);
    }),
    pattern("keys_by_apply", "each actor applies its own field under its own field manager", |s| {
        let target = s.object(kinds::CONFIG_MAP, &[]);
        each_its_own(s, &target, &[How::Apply], &["data.first", "data.second", "data.third"]);
    }),
    pattern("keys_by_all_means", "actors use PUT, patches and applies, each for its own label", |s| {
        let target = s.object(kinds::SERVICE_ACCOUNT, &[]);
        let paths = ["metadata.labels.a", "metadata.labels.b", "metadata.labels.c", "metadata.labels.d"];
        each_its_own(s, &target, &[How::Put, How::Merge, How::Json, How::Apply, How::Strategic], &paths);
    }),
    pattern("containers_apart", "two teams set the images of their own containers of one pod template", |s| {
        let target = s.object(kinds::DEPLOYMENT, &[]);
        let path = |name| format!("spec.template.spec.containers[name={name}].image");
        each_its_own(s, &target, &[How::Strategic, How::Json, How::Put, How::Apply], &[&path("web"), &path("log")]);
    }),
    pattern("env_apart", "two operators set different variables of one container", |s| {
        let target = s.object(kinds::STATEFUL_SET, &[]);
        let path = |name| format!("spec.template.spec.containers[name=web].env[name={name}].value");
        each_its_own(
            s,
            &target,
            &[How::Strategic, How::Put, How::Apply],
            &[&path("LEVEL"), &path("REGION"), &path("ZONE")],
        );
    }),
    pattern(
        "finalizers_apart",
        "three controllers add and remove their own finalizers, which are a set and not one value",
        |s| {
            let kind = *s.rng.pick(&[kinds::DATABASE, kinds::CONFIG_MAP, kinds::CLAIM]);
            let target = s.object(kind, &[]);
            for (nth, name) in ["a.example.com/f", "b.example.com/f", "c.example.com/f"].into_iter().enumerate() {
                let (actor, target) = (Actor::operator(&mut s.rng, nth), target.clone());
                let how = s.pick(&[How::Put, How::Merge]);
                let path = format!("metadata.finalizers[{name}]");
                let period = s.rng.between(7.0, 19.0);
                s.every(pace(1.0 + nth as f64, period, 14), move |server, turn| {
                    let change = if turn % 2 == 0 { is(&path, name) } else { gone(&path) };
                    server.write(&actor, how, &target, &[change]);
                });
            }
        },
    ),
    pattern("owner_references_apart", "two controllers add and remove their own owner references", |s| {
        let target = s.object(kinds::SECRET, &[]);
        for nth in 0..2 {
            let (actor, target, uid) = (Actor::operator(&mut s.rng, nth), target.clone(), s.rng.uid());
            let path = format!("metadata.ownerReferences[uid={uid}]");
            let how = s.pick(&[How::Put, How::Strategic]);
            s.every(pace(2.0 + nth as f64 * 5.0, 13.0, 12), move |server, turn| {
                let reference = json!({"apiVersion": "db.example.com/v1", "kind": "Database",
                    "name": format!("d{nth}"), "uid": uid});
                let change = if turn % 2 == 0 { is(&path, reference) } else { gone(&path) };
                server.write(&actor, how, &target, &[change]);
            });
        }
    }),
    pattern("conditions_apart", "controllers report conditions of different types in one list", |s| {
        let target = s.object(kinds::DATABASE, &[]);
        for (nth, kind) in ["Ready", "BackedUp", "Synced"].into_iter().enumerate() {
            let (actor, target) = (Actor::operator(&mut s.rng, nth), target.clone());
            let how = s.pick(&[How::StatusPut, How::StatusMerge]);
            let period = s.rng.between(6.0, 20.0);
            s.every(pace(1.0 + nth as f64, period, 12), move |server, turn| {
                let status = if turn % 2 == 0 { "True" } else { "False" };
                let path = |field: &str| format!("status.conditions[type={kind}].{field}");
                let time = crate::patterns::simulator::seconds(server.now);
                let changes = [
                    is(&path("status"), status),
                    is(&path("reason"), "Checked"),
                    is(&path("lastTransitionTime"), time),
                ];
                server.write(&actor, how, &target, &changes);
            });
        }
    }),
    pattern("ports_apart", "two teams open and change their own ports of one Service", |s| {
        let target = s.object(kinds::SERVICE, &[]);
        let path = |port: u32| format!("spec.ports[port={port},protocol=TCP].name");
        each_its_own(s, &target, &[How::Put, How::Merge], &[&path(8080), &path(9090)]);
    }),
    pattern("taints_apart", "node controllers set and remove taints with their own keys", |s| {
        let target = s.object(kinds::NODE, &[]);
        for (nth, key) in ["example.com/gpu-check", "example.com/disk-check"].into_iter().enumerate() {
            let (actor, target) = (Actor::operator(&mut s.rng, nth), target.clone());
            let path = format!("spec.taints[key={key},effect=NoSchedule]");
            let how = s.pick(&[How::Put, How::Merge]);
            s.every(pace(2.0 + nth as f64 * 3.0, 11.0, 14), move |server, turn| {
                let change = if turn % 2 == 0 { is(&path, json!({})) } else { gone(&path) };
                server.write(&actor, how, &target, &[change]);
            });
        }
    }),
    pattern("node_annotations_apart", "kubelet, network plugin and cluster autoscaler annotate one node", |s| {
        let target = s.object(kinds::NODE, &[]);
        let paths = [
            "metadata.annotations['volumes.kubernetes.io/managed']",
            "metadata.annotations['cni.example.io/state']",
            "metadata.annotations['cluster-autoscaler.kubernetes.io/scale-down-disabled']",
        ];
        each_its_own(s, &target, &[How::Merge, How::Strategic], &paths);
    }),
    pattern("bundles_apart", "two controllers set the CA bundles of their own webhooks in one configuration", |s| {
        let target = s.object(kinds::WEBHOOKS, &[]);
        let path = |name| format!("webhooks[name={name}].clientConfig.caBundle");
        each_its_own(s, &target, &[How::Put, How::Strategic], &[&path("a.example.com"), &path("b.example.com")]);
    }),
    pattern("a_key_per_worker", "twelve workers report their state in one ConfigMap, each under its own key", |s| {
        let target = s.object(kinds::CONFIG_MAP, &[]);
        for nth in 0..12 {
            let (actor, target) = (Actor::controller("batch", &format!("worker-{nth}"), &mut s.rng), target.clone());
            let path = format!("data.worker-{nth}");
            s.every(pace(f64::from(nth), 17.0, 4), move |server, turn| {
                let state = if turn % 2 == 0 { "busy" } else { "idle" };
                server.write(&actor, How::Put, &target, &[is(&path, state)]);
            });
        }
    }),
    pattern(
        "spec_and_status",
        "a person scales up and down, and the controller reports the replicas in the status",
        |s| {
            let target = s.object(kinds::DEPLOYMENT, &[]);
            let (person, controller) = (Actor::person(&s.rng, 0), Actor::in_tree("deployment-controller"));
            let how = s.pick(&[How::ScalePatch, How::ScalePut, How::Strategic]);
            let (of_person, of_controller) = (target.clone(), target);
            s.every(pace(5.0, 30.0, 16), move |server, turn| {
                server.write(&person, how, &of_person, &[is("spec.replicas", 3 + turn % 2)]);
            });
            s.every(pace(7.0, 30.0, 16), move |server, _| {
                let replicas = server.field(&of_controller, "spec.replicas").cloned();
                server.write(&controller, How::StatusPut, &of_controller, &[("status.replicas".into(), replicas)]);
            });
        },
    ),
    pattern(
        "retried_conflicts",
        "clients that read, modify and write get conflicts and retry, each for its own key",
        |s| {
            s.is_quiet = true;
            let target = s.object(kinds::CONFIG_MAP, &[]);
            let (first, second) = (Actor::operator(&mut s.rng, 0), Actor::operator(&mut s.rng, 1));
            s.every(pace(2.0, 9.0, 14), move |server, turn| {
                let mut stale = server.get(&target).unwrap().clone();
                server.write(&first, How::Put, &target, &[is("data.first", format!("v{}", turn % 2))]);
                stale["data"]["second"] = format!("v{}", turn % 2).into();
                assert_eq!(server.put_body(&second, &target, stale), 409);
                server.write(&second, How::Put, &target, &[is("data.second", format!("v{}", turn % 2))]);
            });
        },
    ),
    pattern(
        "sent_back_as_read",
        "two actors PUT back everything they read and change only their own annotation",
        |s| {
            let target = s.object(kinds::DEPLOYMENT, &[]);
            let owner = Actor::person(&s.rng, 0);
            let how = s.pick(&PATCHES);
            let image = "spec.template.spec.containers[name=web].image";
            let of_owner = target.clone();
            s.every(pace(3.0, 31.0, 9), move |server, turn| {
                server.write(&owner, how, &of_owner, &[is(image, format!("registry.example/web:{}", turn % 2))]);
            });
            let paths =
                ["metadata.annotations['books.example.com/seen']", "metadata.annotations['audit.example.com/seen']"];
            each_its_own(s, &target, &[How::Put], &paths);
        },
    ),
    pattern(
        "roles_and_labels",
        "the aggregation controller sets the rules of a ClusterRole, and GitOps sets its labels",
        |s| {
            let target = s.object(kinds::CLUSTER_ROLE, &[]);
            let (controller, flux) = (Actor::in_tree("clusterrole-aggregation-controller"), Actor::flux(&mut s.rng));
            let of_controller = target.clone();
            s.every(pace(2.0, 23.0, 12), move |server, turn| {
                let rules = json!([{"apiGroups": [""], "resources": [format!("r{}", turn % 2)], "verbs": ["get"]}]);
                server.write(&controller, How::Apply, &of_controller, &[is("rules", rules)]);
            });
            s.every(pace(9.0, 23.0, 12), move |server, turn| {
                server.write(&flux, How::Apply, &target, &[is("metadata.labels.rev", format!("r{}", turn % 2))]);
            });
        },
    ),
    pattern(
        "exported_with_its_status",
        "a pipeline sends an exported manifest with its status, which the server ignores",
        |s| {
            let target = s.object(kinds::DEPLOYMENT, &[]);
            let (pipeline, controller) = (Actor::pipeline("deploy"), Actor::in_tree("deployment-controller"));
            let how = s.pick(&[How::Merge, How::Strategic, How::Apply, How::Put]);
            let on = target.clone();
            s.every(pace(4.0, 24.0, 14), move |server, turn| {
                let changes = [is("metadata.labels.rev", format!("r{turn}")), is("status.replicas", 1)];
                server.write(&pipeline, how, &on, &changes);
            });
            s.every(pace(13.0, 24.0, 14), move |server, turn| {
                server.write(&controller, How::StatusPut, &target, &[is("status.replicas", 2 + turn % 2)]);
            });
        },
    ),
];
