//! Webhooks and policies that complete, change or reject requests, without a client that insists.

use serde_json::json;

use crate::patterns::actors::Actor;
use crate::patterns::kinds;
use crate::patterns::paths::get;
use crate::patterns::scenario::{Pattern, is, pace, pattern};
use crate::patterns::simulator::{How, Target, seconds};
use crate::patterns::webhooks::Webhook;

const IMAGE: &str = "spec.template.spec.containers[name=web].image";

pub(crate) const PATTERNS: &[Pattern] = &[
    pattern(
        "image_mirror",
        "a webhook points images to a mirror while a pipeline rolls out new versions: neither side restores a value",
        |s| {
            s.server.webhooks.push(Webhook::mutating(
                kinds::DEPLOYMENT,
                "mirror",
                "images.mirror.example.com",
                |body, _| {
                    let image = get(body, IMAGE).and_then(|image| image.as_str()).unwrap_or_default();
                    let tag = image.rsplit(':').next().unwrap_or_default();
                    vec![is(IMAGE, format!("mirror.internal/web:{tag}"))]
                },
            ));
            let target = s.object(kinds::DEPLOYMENT, &[]);
            let pipeline = Actor::pipeline("deploy");
            let how = s.pick(&[How::Strategic, How::Merge, How::Json]);
            s.every(pace(5.0, 45.0, 16), move |server, turn| {
                server.write(&pipeline, how, &target, &[is(IMAGE, format!("registry.example/web:2.{turn}"))]);
            });
        },
    ),
    pattern("sidecar_injection", "a webhook adds a sidecar to every pod that a controller creates", |s| {
        s.server.webhooks.push(Webhook::mutating(kinds::POD, "mesh", "inject.mesh.example.io", |_, _| {
            vec![is("spec.containers[name=proxy].image", "mesh/proxy:1")]
        }));
        let controller = Actor::in_tree("replicaset-controller");
        let first = s.target(kinds::POD);
        s.every(pace(5.0, 20.0, 14), move |server, turn| {
            let pod = Target { name: format!("{}-{turn}", first.name), ..first.clone() };
            server.create(&controller, &pod, &[]);
        });
    }),
    pattern(
        "default_label",
        "a webhook adds a missing label that no actor sets, and two actors write other fields",
        |s| {
            let label = "metadata.labels['cost.example.com/center']";
            s.server.webhooks.push(Webhook::mutating(
                kinds::CONFIG_MAP,
                "defaults",
                "labels.example.com",
                move |body, _| {
                    if get(body, label).is_some() { Vec::new() } else { vec![is(label, "none")] }
                },
            ));
            let target = s.object(kinds::CONFIG_MAP, &[]);
            for nth in 0..2 {
                let (actor, target) = (Actor::operator(&mut s.rng, nth), target.clone());
                let how = s.pick(&[How::Put, How::Merge, How::Apply]);
                s.every(pace(3.0 + nth as f64 * 4.0, 15.0, 14), move |server, turn| {
                    server.write(&actor, how, &target, &[is(&format!("data.k{nth}"), format!("v{}", turn % 2))]);
                });
            }
        },
    ),
    pattern("stamping_webhook", "a webhook stamps the time of every write, while two actors write other fields", |s| {
        let stamp = "metadata.annotations['audit.example.com/touched']";
        let clock = std::cell::Cell::new(0);
        s.server.webhooks.push(Webhook::mutating(kinds::GATEWAY, "stamps", "touch.example.com", move |_, _| {
            clock.set(clock.get() + 7);
            vec![is(stamp, seconds((1_795_600_000 + clock.get()) * 1_000_000))]
        }));
        let target = s.object(kinds::GATEWAY, &[]);
        for nth in 0..2 {
            let (actor, target) = (Actor::operator(&mut s.rng, nth), target.clone());
            let how = s.pick(&[How::Put, How::Merge, How::Json]);
            s.every(pace(3.0 + nth as f64 * 4.0, 15.0, 14), move |server, turn| {
                server.write(&actor, how, &target, &[is(&format!("spec.k{nth}"), format!("v{}", turn % 2))]);
            });
        }
    }),
    pattern(
        "refused_now_and_then",
        "a policy rejects every other write of one actor: flapping admission, but not a war",
        |s| {
            s.server.webhooks.push(Webhook::validating(kinds::CONFIG_MAP, "guard.example.com", |body, _| {
                (get(body, "data.level") == Some(&json!("high"))).then(|| "level high is not allowed".to_owned())
            }));
            let target = s.object(kinds::CONFIG_MAP, &[]);
            let person = Actor::person(&s.rng, 0);
            s.every(pace(3.0, 14.0, 24), move |server, turn| {
                let level = if turn % 2 == 0 { "low".to_owned() } else { "high".to_owned() };
                server.write(
                    &person,
                    How::Merge,
                    &target,
                    &[is("data.level", level), is("data.turn", turn.to_string())],
                );
            });
        },
    ),
    pattern(
        "vpa_at_creation",
        "a webhook sets the resource requests of new pods, and the updater evicts the old pods",
        |s| {
            let path = "spec.containers[name=web].resources.requests.cpu";
            s.server.webhooks.push(Webhook::mutating(
                kinds::POD,
                "vpa-webhook-config",
                "vpa.k8s.io",
                move |body, _| {
                    if body["status"]["phase"] == "Pending" { vec![is(path, "250m")] } else { Vec::new() }
                },
            ));
            let (sets, updater) =
                (Actor::in_tree("replicaset-controller"), Actor::controller("kube-system", "vpa-updater", &mut s.rng));
            let kubelet = Actor::kubelet("node-2");
            let first = s.target(kinds::POD);
            s.every(pace(5.0, 60.0, 10), move |server, turn| {
                let pod = Target { name: format!("{}-{turn}", first.name), ..first.clone() };
                let old = Target { name: format!("{}-{}", first.name, turn.wrapping_sub(1)), ..first.clone() };
                if turn > 0 {
                    server.evict(&updater, &old);
                    server.delete(&kubelet, &old);
                }
                server.create(&sets, &pod, &[is(path, "100m")]);
            });
        },
    ),
    pattern(
        "two_ask_for_what_is_rewritten",
        "two pipelines alternately deploy new versions, and a webhook rewrites each to a digest: no value returns",
        |s| {
            s.server.webhooks.push(Webhook::mutating(
                kinds::STATEFUL_SET,
                "digests",
                "resolve.digests.example.com",
                |body, _| {
                    let image = get(body, IMAGE).and_then(|image| image.as_str()).unwrap_or_default();
                    let hash =
                        image.bytes().fold(17u64, |hash, byte| hash.wrapping_mul(1_099_511_628_211) ^ u64::from(byte));
                    if image.contains('@') {
                        Vec::new()
                    } else {
                        vec![is(IMAGE, format!("registry.example/web@sha256:{hash:064x}"))]
                    }
                },
            ));
            let target = s.object(kinds::STATEFUL_SET, &[]);
            let pipelines = [Actor::pipeline("builder"), Actor::pipeline("hotfix")];
            s.every(pace(5.0, 150.0, 16), move |server, turn| {
                let wanted = [is(IMAGE, format!("registry.example/web:3.{turn}"))];
                server.write(&pipelines[(turn % 2) as usize], How::Strategic, &target, &wanted);
            });
        },
    ),
];
