//! Objects that are deleted and created again, and what is bound or allocated as a result.

use serde_json::json;

use crate::patterns::actors::Actor;
use crate::patterns::kinds;
use crate::patterns::scenario::{Pattern, gone, is, pace, pattern};
use crate::patterns::simulator::{How, Target};

const JOB_IMAGE: &str = "spec.template.spec.containers[name=web].image";

pub(crate) const PATTERNS: &[Pattern] = &[
    pattern(
        "job_of_each_release",
        "a pipeline creates a Job for each release, and the TTL controller deletes the finished one",
        |s| {
            let target = s.target(kinds::JOB);
            let (pipeline, cleaner) = (Actor::pipeline("deploy"), Actor::in_tree("ttl-after-finished-controller"));
            let controller = Actor::in_tree("job-controller");
            let done = target.clone();
            s.every(pace(4.0, 60.0, 12), move |server, turn| {
                server.create(&pipeline, &target, &[is(JOB_IMAGE, format!("registry.example/migrate:{turn}"))]);
                server.write(&controller, How::StatusPut, &target, &[is("status.succeeded", 1)]);
            });
            s.every(pace(34.0, 60.0, 12), move |server, _| {
                server.delete(&cleaner, &done);
            });
        },
    ),
    pattern("pod_restarted_by_hand", "people delete a pod of a StatefulSet to restart it", |s| {
        let target = s.target(kinds::POD);
        let sets = Actor::in_tree("statefulset-controller");
        let (person, kubelet) = (Actor::person(&s.rng, 0), Actor::kubelet("node-1"));
        s.server.create(&sets, &target, &[]);
        s.every(pace(9.0, 45.0, 12), move |server, _| {
            server.delete(&person, &target);
            server.now += 2_000_000;
            server.delete(&kubelet, &target);
            server.now += 400_000;
            server.create(&sets, &target, &[]);
        });
    }),
    pattern("pod_drained", "a drain evicts a pod of a StatefulSet, which starts again on another node", |s| {
        let target = s.target(kinds::POD);
        let (sets, kubelet) = (Actor::in_tree("statefulset-controller"), Actor::kubelet("node-1"));
        let drainer = Actor::controller("kured", "kured", &mut s.rng);
        s.server.create(&sets, &target, &[]);
        s.every(pace(9.0, 70.0, 11), move |server, _| {
            server.evict(&drainer, &target);
            server.now += 3_000_000;
            server.delete(&kubelet, &target);
            server.now += 300_000;
            server.create(&sets, &target, &[]);
        });
    }),
    pattern(
        "labelled_after_each_creation",
        "an operator labels each new pod of the same name: a new uid is a new object",
        |s| {
            let target = s.target(kinds::POD);
            let (sets, kubelet) = (Actor::in_tree("statefulset-controller"), Actor::kubelet("node-1"));
            let operator = Actor::operator(&mut s.rng, 0);
            let how = s.pick(&[How::Merge, How::Put]);
            s.every(pace(5.0, 40.0, 14), move |server, _| {
                server.create(&sets, &target, &[is("metadata.labels.role", "unknown")]);
                server.now += 1_500_000;
                server.write(&operator, how, &target, &[is("metadata.labels.role", "replica")]);
                server.now += 20_000_000;
                server.delete(&sets, &target);
                server.now += 2_000_000;
                server.delete(&kubelet, &target);
            });
        },
    ),
    pattern(
        "pod_lost_with_its_node",
        "the garbage collector deletes the pod of a lost node, and its StatefulSet creates it again",
        |s| {
            let target = s.target(kinds::POD);
            let (sets, collector) = (Actor::in_tree("statefulset-controller"), Actor::in_tree("pod-garbage-collector"));
            let kubelet = Actor::kubelet("node-1");
            s.every(pace(5.0, 50.0, 12), move |server, _| {
                server.create(&sets, &target, &[]);
                server.now += 15_000_000;
                server.delete(&collector, &target);
                server.delete(&kubelet, &target);
            });
        },
    ),
    pattern(
        "children_collected",
        "the garbage collector deletes the children of a deleted owner, and the next owner has children with other names",
        |s| {
            let (owner, collector) = (Actor::operator(&mut s.rng, 0), Actor::in_tree("generic-garbage-collector"));
            let first = s.target(kinds::CONFIG_MAP);
            s.every(pace(5.0, 40.0, 12), move |server, turn| {
                let child = Target { name: format!("{}-{turn}", first.name), ..first.clone() };
                server.create(&owner, &child, &[is("data.run", turn.to_string())]);
                server.now += 20_000_000;
                server.delete(&collector, &child);
            });
        },
    ),
    pattern(
        "foreground_deletion",
        "one actor deletes with a finalizer, the garbage collector removes it, and the first creates the object again with new content",
        |s| {
            let target = s.target(kinds::DATABASE);
            let (owner, collector) = (Actor::operator(&mut s.rng, 0), Actor::in_tree("generic-garbage-collector"));
            s.every(pace(5.0, 50.0, 11), move |server, turn| {
                let held = is("metadata.finalizers", json!(["foregroundDeletion"]));
                server.create(&owner, &target, &[is("spec.size", turn), held]);
                server.now += 20_000_000;
                server.delete(&owner, &target);
                server.now += 2_000_000;
                server.write(&collector, How::Merge, &target, &[gone("metadata.finalizers")]);
            });
        },
    ),
    pattern("deleted_and_created_by_one", "one pipeline deletes and creates its ConfigMap in each run", |s| {
        let target = s.target(kinds::CONFIG_MAP);
        let pipeline = Actor::pipeline("deploy");
        s.every(pace(5.0, 25.0, 16), move |server, turn| {
            server.create(&pipeline, &target, &[is("data.run", (turn % 2).to_string())]);
            server.now += 9_000_000;
            server.delete(&pipeline, &target);
        });
    }),
    pattern(
        "namespace_of_each_review",
        "a pipeline creates a namespace per review, and the namespace controller finalizes it",
        |s| {
            let first = s.target(kinds::NAMESPACE);
            let (pipeline, controller) = (Actor::pipeline("review"), Actor::in_tree("namespace-controller"));
            s.every(pace(5.0, 90.0, 9), move |server, turn| {
                let space = Target { name: format!("review-{}-{}", first.name, turn % 3), ..first.clone() };
                server.create(&pipeline, &space, &[is("metadata.labels.run", turn.to_string())]);
                server.now += 40_000_000;
                server.write(&pipeline, How::StatusPut, &space, &[is("status.phase", "Terminating")]);
                server.write(&controller, How::Put, &space, &[gone("spec.finalizers")]);
                server.delete(&controller, &space);
            });
        },
    ),
    pattern(
        "claim_bound",
        "one actor creates claims and the volume controller binds them, under the same name each time",
        |s| {
            let target = s.target(kinds::CLAIM);
            let volume = Target::new(kinds::VOLUME, "", "pv-1");
            let (owner, binder) = (Actor::operator(&mut s.rng, 0), Actor::in_tree("persistent-volume-binder"));
            s.server.create(&Actor::admin(), &volume, &[]);
            s.every(pace(5.0, 60.0, 11), move |server, _| {
                server.create(&owner, &target, &[is("spec.storageClassName", "fast")]);
                server.now += 1_500_000;
                let bound = is("metadata.annotations['pv.kubernetes.io/bind-completed']", "yes");
                server.write(&binder, How::Put, &target, &[is("spec.volumeName", "pv-1"), bound]);
                server.write(&binder, How::StatusPut, &target, &[is("status.phase", "Bound")]);
                server.write(&binder, How::StatusPut, &volume, &[is("status.phase", "Bound")]);
                server.now += 30_000_000;
                server.delete(&owner, &target);
                server.write(&binder, How::StatusPut, &volume, &[is("status.phase", "Released")]);
            });
        },
    ),
    pattern(
        "addresses_allocated",
        "the server allocates the address of a Service, GitOps does not set it, and a cloud controller reports another one",
        |s| {
            let target = s.object(kinds::SERVICE, &[]);
            let (flux, cloud) = (
                Actor::flux(&mut s.rng),
                Actor::new(
                    "system:cloud-controller-manager",
                    "cloud-controller-manager/v1.36.0 (linux/amd64) kubernetes/a1b2c3d/service-controller",
                ),
            );
            let of_flux = target.clone();
            s.every(pace(4.0, 20.0, 14), move |server, turn| {
                let changes = [
                    is("spec.ports[port=80,protocol=TCP].targetPort", 8080),
                    is("metadata.labels.rev", format!("r{turn}")),
                ];
                server.write(&flux, How::Apply, &of_flux, &changes);
            });
            s.every(pace(11.0, 40.0, 8), move |server, turn| {
                let ingress = json!([{"ip": format!("203.0.113.{}", turn % 2)}]);
                server.write(&cloud, How::StatusMerge, &target, &[is("status.loadBalancer.ingress", ingress)]);
            });
        },
    ),
    pattern("secret_rotated", "one rotator renews a Secret, and a replicator copies it to other namespaces", |s| {
        let target = s.object(kinds::SECRET, &[]);
        let copy = Target::new(kinds::SECRET, "copies", &target.name);
        let (rotator, replicator) =
            (Actor::operator(&mut s.rng, 0), Actor::controller("infra", "reflector", &mut s.rng));
        s.server.create(&replicator, &copy, &[]);
        s.every(pace(5.0, 30.0, 14), move |server, turn| {
            let value = crate::patterns::scenario::encoded(&format!("secret-number-{turn}"));
            server.write(&rotator, How::Put, &target, &[is("data.token", value.clone())]);
            server.write(&replicator, How::Merge, &copy, &[is("data.token", value)]);
            server.write(&replicator, How::Merge, &target, &[is("metadata.annotations.reflected", turn.to_string())]);
        });
    }),
    pattern(
        "generated_names",
        "a pipeline creates Jobs with generated names, and a janitor occasionally deletes the whole collection",
        |s| {
            let first = s.target(kinds::JOB);
            let (pipeline, janitor) = (Actor::pipeline("deploy"), Actor::operator(&mut s.rng, 0));
            let controller = Actor::in_tree("job-controller");
            s.every(pace(5.0, 12.0, 24), move |server, turn| {
                let job = server.create_generated(&pipeline, &first, &[]);
                server.write(&controller, How::StatusPut, &job, &[is("status.succeeded", 1)]);
                if turn % 3 == 2 {
                    server.delete_all(&janitor, &first);
                }
            });
        },
    ),
    pattern(
        "set_up_and_torn_down",
        "one account repeatedly sets up a fixture for each test and tears it down with another tool",
        |s| {
            let target = s.target(kinds::CONFIG_MAP);
            let (up, down) = (Actor::pipeline("setup"), Actor::pipeline("setup"));
            s.every(pace(5.0, 30.0, 14), move |server, turn| {
                server.create(&up, &target, &[is("data.run", turn.to_string())]);
                server.now += 12_000_000;
                server.delete(&down.clone().agent("pytest/8.0"), &target);
            });
        },
    ),
];
