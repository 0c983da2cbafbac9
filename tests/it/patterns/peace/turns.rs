//! Fields that several actors write by design: requests and their execution, elections, counters with two halves.

use serde_json::json;

use crate::patterns::actors::Actor;
use crate::patterns::kinds;
use crate::patterns::scenario::{Pattern, Scenario, gone, is, pace, pattern};
use crate::patterns::simulator::{How, Target, seconds};

/// Replicas of one or more programs alternate as the leader.
fn elections(s: &mut Scenario, target: &Target, path: &'static str, value: fn(&str, i64) -> serde_json::Value) {
    let replicas: Vec<Actor> =
        (0..3).map(|nth| Actor::controller("kube-system", &format!("manager-{nth}"), &mut s.rng)).collect();
    let target = target.clone();
    let period = s.rng.between(15.0, 50.0);
    s.every(pace(2.0, period, 30), move |server, turn| {
        let actor = &replicas[((turn / 2) % 3) as usize];
        let value = value(&actor.user, server.now);
        server.write(actor, How::Put, &target, &[is(path, value)]);
    });
}

fn record(holder: &str, now: i64) -> serde_json::Value {
    json!({"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": seconds(now)}).to_string().into()
}

const LEADER: &str = "metadata.annotations['control-plane.alpha.kubernetes.io/leader']";

pub(crate) const PATTERNS: &[Pattern] = &[
    pattern(
        "argo_operation",
        "argocd-server requests a sync, and the application controller runs it and clears the request",
        |s| {
            let target = s.object(kinds::APPLICATION, &[]);
            let (server, argo) = (Actor::controller("argocd", "argocd-server", &mut s.rng), Actor::argo(&mut s.rng));
            let (asked, done) = (target.clone(), target);
            s.every(pace(5.0, 40.0, 14), move |world, turn| {
                world.write(&server, How::Put, &asked, &[is("operation.sync.revision", format!("rev{turn}"))]);
            });
            let pending = done.clone();
            s.whenever(
                move |world| world.field(&pending, "operation").is_some(),
                1.5,
                move |world, _| {
                    world.write(&argo, How::Merge, &done, &[gone("operation"), is("status.phase", "Succeeded")]);
                },
            );
        },
    ),
    pattern("argo_refresh", "the refresh annotation is a request that the application controller consumes", |s| {
        let target = s.object(kinds::APPLICATION, &[]);
        let (server, argo) = (Actor::controller("argocd", "argocd-server", &mut s.rng), Actor::argo(&mut s.rng));
        let path = "metadata.annotations['argocd.argoproj.io/refresh']";
        s.asserts(&server, How::Merge, &target, vec![is(path, "normal")], pace(5.0, 30.0, 16));
        let pending = target.clone();
        s.whenever(
            move |world| world.field(&pending, path).is_some(),
            1.0,
            move |world, _| {
                world.write(&argo, How::Merge, &target, &[gone(path)]);
            },
        );
    }),
    pattern(
        "strimzi_rolling_update",
        "people request a rolling update by annotation, and the operator runs it and clears the request",
        |s| {
            let target = s.object(kinds::KAFKA, &[]);
            let operator = Actor::controller("kafka", "strimzi-cluster-operator", &mut s.rng);
            let path = "metadata.annotations['strimzi.io/manual-rolling-update']";
            let person = Actor::person(&s.rng, 0).manager("kubectl-annotate");
            s.asserts(&person, How::Merge, &target, vec![is(path, "true")], pace(5.0, 110.0, 12));
            let pending = target.clone();
            s.whenever(
                move |world| world.field(&pending, path).is_some(),
                20.0,
                move |world, _| {
                    world.write(&operator, How::Put, &target, &[gone(path)]);
                },
            );
        },
    ),
    pattern("lease_election", "replicas take turns in holding a Lease, which is its purpose", |s| {
        let target = s.object(kinds::LEASE, &[]);
        elections(s, &target, "spec.holderIdentity", |holder, _| holder.into());
    }),
    pattern(
        "configmap_election",
        "an old-style leader election keeps its record in an annotation of a ConfigMap",
        |s| {
            let target = s.object(kinds::CONFIG_MAP, &[]);
            elections(s, &target, LEADER, record);
        },
    ),
    pattern(
        "endpoints_election",
        "an old-style leader election keeps its record in an annotation of an Endpoints object",
        |s| {
            let target = s.object(kinds::ENDPOINTS, &[]);
            elections(s, &target, LEADER, record);
        },
    ),
    pattern("terraform_lock", "Terraform runs take and release a lock, each under its own account", |s| {
        let lease = s.object(kinds::LEASE, &[]);
        let lease = Target { name: format!("lock-tfstate-default-{}", lease.name), ..lease };
        s.server.create(&Actor::admin(), &lease, &[]);
        let runs = [0, 1]
            .map(|nth| Actor::new(&format!("terraform-{nth}"), "HashiCorp/1.0 Terraform/1.9.0").manager("HashiCorp"));
        s.every(pace(5.0, 30.0, 28), move |server, turn| {
            let run = &runs[((turn / 2) % 2) as usize];
            let change = match turn % 2 {
                0 => is("spec.holderIdentity", format!("run-{turn}-{}", run.user)),
                _ => gone("spec.holderIdentity"),
            };
            server.write(run, How::Put, &lease, &[change]);
        });
    }),
    pattern(
        "quota_counters",
        "quota admission increases a counter and the quota controller decreases it, by design",
        |s| {
            let target = s.object(kinds::QUOTA, &[]);
            let (up, down) = (Actor::api_server(), Actor::in_tree("resourcequota-controller"));
            let count = |server: &super::super::simulator::Server, target: &Target| {
                server.field(target, "status.used.pods").and_then(|v| v.as_str()?.parse::<i64>().ok()).unwrap_or(0)
            };
            let of_down = target.clone();
            s.every(pace(2.0, 20.0, 20), move |server, _| {
                let next = count(server, &target) + 1;
                server.write(&up, How::StatusPut, &target, &[is("status.used.pods", next.to_string())]);
            });
            s.every(pace(12.0, 20.0, 20), move |server, _| {
                let next = count(server, &of_down) - 1;
                server.write(&down, How::StatusPut, &of_down, &[is("status.used.pods", next.to_string())]);
            });
        },
    ),
    pattern(
        "sick_node",
        "the kubelet of a node goes silent and returns, and the node controller marks the node meanwhile",
        |s| {
            let target = s.object(kinds::NODE, &[]);
            let (kubelet, controller) = (Actor::kubelet(&target.name), Actor::in_tree("node-controller"));
            let status = "status.conditions[type=Ready].status";
            let reason = "status.conditions[type=Ready].reason";
            let (silent, back) = (target.clone(), target);
            s.every(pace(40.0, 90.0, 9), move |server, _| {
                let changes = [is(status, "Unknown"), is(reason, "NodeStatusUnknown")];
                server.write(&controller, How::StatusPut, &silent, &changes);
            });
            s.every(pace(70.0, 90.0, 9), move |server, _| {
                server.write(&kubelet, How::StatusMerge, &back, &[is(status, "True"), is(reason, "KubeletReady")]);
            });
        },
    ),
    pattern(
        "certificate_renewals",
        "cert-manager's components pass the Issuing condition to each other within one program and pod",
        |s| {
            let target = s.object(kinds::CERTIFICATE, &[]);
            let base = Actor::controller("cert-manager", "cert-manager", &mut s.rng);
            let part = |name: &str| {
                base.clone()
                    .agent(&format!("cert-manager-{name}/v1.21.0 (linux/amd64)"))
                    .manager(&format!("cert-manager-{name}"))
            };
            let (trigger, issuing) = (part("certificates-trigger"), part("certificates-issuing"));
            let path = "status.conditions[type=Issuing]";
            let (asked, done) = (target.clone(), target);
            s.every(pace(5.0, 60.0, 12), move |server, _| {
                let condition = json!({"status": "True", "reason": "Renewing"});
                server.write(&trigger, How::StatusPut, &asked, &[is(path, condition)]);
            });
            s.every(pace(15.0, 60.0, 12), move |server, turn| {
                server.write(&issuing, How::StatusPut, &done, &[gone(path), is("status.revision", turn)]);
            });
        },
    ),
    pattern(
        "leader_moves_between_replicas",
        "two replicas of one controller write the same values one after the other, as the leader moves",
        |s| {
            let target = s.object(kinds::GATEWAY, &[]);
            let base = Actor::controller("mesh", "mesh-operator", &mut s.rng);
            let pods = [base.clone().pod("mesh-operator-7d9f-aaaaa"), base.pod("mesh-operator-7d9f-bbbbb")];
            s.every(pace(2.0, 30.0, 24), move |server, turn| {
                let pod = &pods[((turn / 4) % 2) as usize];
                server.write(pod, How::Merge, &target, &[is("spec.generation", turn)]);
            });
        },
    ),
    pattern(
        "controller_upgrade",
        "the new version of a controller writes a different default than the old one, once",
        |s| {
            let target = s.object(kinds::GATEWAY, &[]);
            let old = Actor::controller("mesh", "mesh-operator", &mut s.rng).agent("mesh-operator/v1.4.0");
            let new = Actor::controller("mesh", "mesh-operator", &mut s.rng).agent("mesh-operator/v1.5.0");
            s.asserts(&old, How::Merge, &target, vec![is("spec.timeout", "5s")], pace(2.0, 30.0, 10));
            s.asserts(&new, How::Merge, &target, vec![is("spec.timeout", "10s")], pace(340.0, 30.0, 10));
        },
    ),
    pattern("hash_follows_edits", "people edit data, and only one controller writes its hash", |s| {
        let target = s.object(kinds::CONFIG_MAP, &[]);
        let (person, controller) = (Actor::person(&s.rng, 0), Actor::operator(&mut s.rng, 0));
        let of_person = target.clone();
        s.every(pace(3.0, 25.0, 14), move |server, turn| {
            server.write(&person, How::Merge, &of_person, &[is("data.mode", format!("m{}", turn % 2))]);
        });
        s.every(pace(4.0, 25.0, 14), move |server, _| {
            let text = format!("{:?}", server.field(&target, "data.mode"));
            let hash = format!("{:x}", text.bytes().fold(7u64, |h, b| h.wrapping_mul(31) + u64::from(b)));
            server.write(&controller, How::Put, &target, &[is("metadata.annotations['example.com/hash']", hash)]);
        });
    }),
    pattern(
        "replica_set_follows",
        "a ReplicaSet follows a Deployment that one person scales: it has one writer",
        |s| {
            let target = s.object(kinds::DEPLOYMENT, &[]);
            let set = Target::new(kinds::REPLICA_SET, &target.namespace, &format!("{}-7d77", target.name));
            let (person, controller) = (Actor::person(&s.rng, 0), Actor::in_tree("deployment-controller"));
            s.server.create(&controller, &set, &[]);
            s.every(pace(3.0, 25.0, 16), move |server, turn| {
                server.write(&person, How::ScalePatch, &target, &[is("spec.replicas", 3 + 2 * (turn % 2))]);
                server.write(&controller, How::Put, &set, &[is("spec.replicas", 3 + 2 * (turn % 2))]);
            });
        },
    ),
];
