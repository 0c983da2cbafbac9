//! Progress: versions, replicas and owners that change without any retake.

use serde_json::json;

use crate::patterns::actors::{Actor, KUBECTL};
use crate::patterns::kinds;
use crate::patterns::scenario::{Pattern, is, pace, pattern};
use crate::patterns::simulator::{How, PATCHES, Target, seconds};

const IMAGE: &str = "spec.template.spec.containers[name=web].image";
const RESTARTED: &str = "spec.template.metadata.annotations['kubectl.kubernetes.io/restartedAt']";

pub(crate) const PATTERNS: &[Pattern] = &[
    pattern("handover", "one team stops writing a field and another one continues: one owner after the other", |s| {
        let target = s.object(kinds::DEPLOYMENT, &[]);
        let (first, second) = (Actor::operator(&mut s.rng, 0), Actor::operator(&mut s.rng, 1));
        let how = s.pick(&[How::Put, How::Merge, How::ScalePut]);
        s.every(pace(2.0, 15.0, 26), move |server, turn| {
            let actor = if turn < 13 { &first } else { &second };
            server.write(actor, how, &target, &[is("spec.replicas", 2 + turn % 3)]);
        });
    }),
    pattern("blue_green", "one actor flips a Service's selector between blue and green", |s| {
        let target = s.object(kinds::SERVICE, &[]);
        let (switch, team) = (Actor::pipeline("switch"), Actor::person(&s.rng, 1));
        let how = s.pick(&PATCHES);
        let of_switch = target.clone();
        s.every(pace(5.0, 40.0, 14), move |server, turn| {
            let colour = if turn % 2 == 0 { "green" } else { "blue" };
            server.write(&switch, how, &of_switch, &[is("spec.selector.colour", colour)]);
        });
        s.asserts(&team, How::Merge, &target, vec![is("metadata.labels.team", "web")], pace(60.0, 200.0, 2));
    }),
    pattern("canary", "one rollout controller moves weights up and down, and other actors set the image", |s| {
        let target = s.object(kinds::GATEWAY, &[]);
        let (controller, team) =
            (Actor::controller("rollouts", "argo-rollouts", &mut s.rng), Actor::pipeline("deploy"));
        let of_controller = target.clone();
        s.every(pace(5.0, 12.0, 30), move |server, turn| {
            let weight = [0, 20, 50, 80, 100, 0][(turn % 6) as usize];
            let changes = [is("spec.canary.weight", weight), is("spec.stable.weight", 100 - weight)];
            server.write(&controller, How::Merge, &of_controller, &changes);
        });
        s.every(pace(9.0, 72.0, 5), move |server, turn| {
            server.write(&team, How::Merge, &target, &[is("spec.version", format!("v{turn}"))]);
        });
    }),
    pattern("two_pipelines", "two pipelines roll out new versions, minutes apart: no value returns", |s| {
        let target = s.object(kinds::DEPLOYMENT, &[]);
        let pipelines = [Actor::pipeline("builder"), Actor::pipeline("hotfix")];
        let how = s.pick(&[How::Strategic, How::Put, How::Json]);
        let period = s.rng.between(100.0, 240.0);
        s.every(pace(5.0, period, 22), move |server, turn| {
            let image = format!("registry.example/web:2026.{turn}");
            server.write(&pipelines[(turn % 2) as usize], how, &target, &[is(IMAGE, image)]);
        });
    }),
    pattern(
        "rollback_once",
        "a person rolls back one version of a pipeline, and the pipeline continues with the next version",
        |s| {
            let target = s.object(kinds::DEPLOYMENT, &[]);
            let (pipeline, person) = (Actor::pipeline("deploy"), Actor::person(&s.rng, 0));
            let how = s.pick(&[How::Strategic, How::Put]);
            let of_person = target.clone();
            s.every(pace(5.0, 180.0, 9), move |server, turn| {
                server.write(&pipeline, how, &target, &[is(IMAGE, format!("registry.example/web:{turn}"))]);
            });
            s.at(600.0, move |server| {
                server.write(&person, How::Strategic, &of_person, &[is(IMAGE, "registry.example/web:1")]);
            });
        },
    ),
    pattern("autoscaler_alone", "an autoscaler follows the load up and down, and GitOps does not set replicas", |s| {
        let target = s.object(kinds::DEPLOYMENT, &[]);
        let (autoscaler, flux) = (Actor::autoscaler(), Actor::flux(&mut s.rng));
        s.asserts(&flux, How::Apply, &target, vec![is(IMAGE, "registry.example/web:1")], pace(3.0, 60.0, 10));
        s.every(pace(5.0, 30.0, 24), move |server, turn| {
            let replicas = [3, 5, 8, 5][(turn % 4) as usize];
            server.write(&autoscaler, How::ScalePut, &target, &[is("spec.replicas", replicas)]);
        });
    }),
    pattern("scaled_once_by_hand", "a person scales twice by hand while an autoscaler keeps scaling", |s| {
        let target = s.object(kinds::STATEFUL_SET, &[]);
        let (autoscaler, person) = (Actor::autoscaler(), Actor::person(&s.rng, 0));
        let of_person = target.clone();
        s.every(pace(5.0, 60.0, 14), move |server, turn| {
            let replicas = [3, 5, 8, 5][(turn % 4) as usize];
            server.write(&autoscaler, How::ScalePut, &target, &[is("spec.replicas", replicas)]);
        });
        s.every(pace(250.0, 280.0, 2), move |server, _| {
            server.write(&person, How::ScalePatch, &of_person, &[is("spec.replicas", 10)]);
        });
    }),
    pattern(
        "sleeps_at_night",
        "a downscaler scales a workload to zero at night, and an autoscaler scales it by day: two retakes a day",
        |s| {
            let target = s.object(kinds::DEPLOYMENT, &[]);
            let (downscaler, autoscaler) =
                (Actor::controller("kube-downscaler", "kube-downscaler", &mut s.rng), Actor::autoscaler());
            let of_downscaler = target.clone();
            s.every(pace(60.0, 43_200.0, 8), move |server, turn| {
                let replicas = if turn % 2 == 0 { 3 } else { 0 };
                server.write(&downscaler, How::Merge, &of_downscaler, &[is("spec.replicas", replicas)]);
            });
            s.every(pace(900.0, 3_600.0, 84), move |server, turn| {
                if server.field(&target, "spec.replicas") != Some(&json!(0)) {
                    server.write(&autoscaler, How::ScalePut, &target, &[is("spec.replicas", 3 + turn % 4)]);
                }
            });
        },
    ),
    pattern(
        "keda_and_its_autoscaler",
        "KEDA scales between 0 and 1, and its own HPA from 1 to N: a designed co-operation",
        |s| {
            let target = s.object(kinds::DEPLOYMENT, &[is("spec.replicas", 0)]);
            let keda = Actor::controller("keda", "keda-operator", &mut s.rng).manager("keda");
            let scaled = Target::new(kinds::SCALED_OBJECT, &target.namespace, &target.name);
            let reference = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": target.name});
            s.server.create(&Actor::admin(), &scaled, &[is("spec.scaleTargetRef", json!({"name": target.name}))]);
            let uid = s.server.field(&scaled, "metadata.uid").unwrap().clone();
            let owner = json!([{"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
                "name": scaled.name, "uid": uid, "controller": true}]);
            let hpa = Target::new(kinds::HPA, &target.namespace, &format!("keda-hpa-{}", target.name));
            s.server.create(
                &keda,
                &hpa,
                &[is("metadata.ownerReferences", owner), is("spec.scaleTargetRef", reference)],
            );
            let autoscaler = Actor::autoscaler();
            let (awake, asleep) = (target.clone(), target.clone());
            let again = keda.clone();
            s.every(pace(10.0, 120.0, 14), move |server, _| {
                // Scales up objects that are at zero, and leaves running ones to their autoscaler.
                if server.field(&awake, "spec.replicas").is_some_and(|replicas| *replicas != 0) {
                    return;
                }
                server.write(&keda, How::ScalePut, &awake, &[is("spec.replicas", 1)]);
            });
            s.every(pace(40.0, 120.0, 14), move |server, turn| {
                // An autoscaler does not touch objects that are at zero.
                if server.field(&target, "spec.replicas").is_some_and(|replicas| *replicas != 0) {
                    server.write(&autoscaler, How::ScalePut, &target, &[is("spec.replicas", 3 + turn % 3)]);
                }
            });
            s.every(pace(90.0, 120.0, 14), move |server, _| {
                server.write(&again, How::ScalePut, &asleep, &[is("spec.replicas", 0)]);
            });
        },
    ),
    pattern(
        "restarted_by_two",
        "two people alternately restart a rollout: each restart is a new time, so no value returns",
        |s| {
            let target = s.object(kinds::DEPLOYMENT, &[]);
            let people = [0, 1].map(|nth| Actor::person(&s.rng, nth).manager("kubectl-rollout"));
            s.every(pace(5.0, 50.0, 16), move |server, turn| {
                let time = seconds(server.now);
                server.write(&people[(turn % 2) as usize], How::Strategic, &target, &[is(RESTARTED, time)]);
            });
        },
    ),
    pattern(
        "requested_at",
        "two people request reconciliations from Flux, with a new time in `requestedAt` each time",
        |s| {
            let target = s.object(kinds::GATEWAY, &[]);
            let people = [0, 1].map(|nth| Actor::person(&s.rng, nth).agent("flux/v2.6.0").manager("flux"));
            s.every(pace(5.0, 40.0, 16), move |server, turn| {
                let time = format!("{:.6}", jiff::Timestamp::from_microsecond(server.now).unwrap());
                let path = "metadata.annotations['reconcile.fluxcd.io/requestedAt']";
                server.write(&people[(turn % 2) as usize], How::Merge, &target, &[is(path, time)]);
            });
        },
    ),
    pattern("an_account_per_run", "each CI run has its own account and deploys the next version", |s| {
        let target = s.object(kinds::DEPLOYMENT, &[]);
        let first = s.rng.within(100, 900);
        s.every(pace(5.0, 70.0, 16), move |server, turn| {
            let run = Actor::pipeline(&format!("ci-run-{}", first + turn)).agent(KUBECTL);
            let changes =
                [is(IMAGE, format!("registry.example/web:{}", first + turn)), is(RESTARTED, seconds(server.now))];
            server.write(&run, How::Strategic, &target, &changes);
        });
    }),
    pattern(
        "fixed_twice_by_hand",
        "a person twice fixes a value that an operator sets back: too few retakes for a war",
        |s| {
            let kind = *s.rng.pick(&[kinds::CONFIG_MAP, kinds::GATEWAY]);
            let target = s.object(kind, &[]);
            let (person, operator) = (Actor::person(&s.rng, 0), Actor::operator(&mut s.rng, 0));
            let how = s.pick(&[How::Merge, How::Put, How::Json]);
            s.server.write(&operator, How::Put, &target, &[is("metadata.labels.tier", "gold")]);
            s.asserts(&person, how, &target, vec![is("metadata.labels.tier", "iron")], pace(30.0, 120.0, 2));
            s.keeps(&operator, How::Put, &target, vec![is("metadata.labels.tier", "gold")], 2.0);
        },
    ),
    pattern("four_retakes", "four retakes in ten minutes are within the limit of five", |s| {
        s.is_quiet = true;
        let target = s.object(kinds::CONFIG_MAP, &[]);
        let actors = [Actor::operator(&mut s.rng, 0), Actor::person(&s.rng, 1)];
        // Of six alternating writes, the first two are not retakes.
        let period = s.rng.between(8.0, 90.0);
        s.every(pace(5.0, period, 6), move |server, turn| {
            let nth = (turn % 2) as usize;
            server.write(&actors[nth], How::Merge, &target, &[is("data.mode", ["fast", "safe"][nth])]);
        });
    }),
    pattern("suspended_by_one", "a scheduler suspends and resumes a CronJob; a person changes its schedule", |s| {
        let target = s.object(kinds::CRON_JOB, &[]);
        let (scheduler, person) = (Actor::operator(&mut s.rng, 0), Actor::person(&s.rng, 0));
        let of_person = target.clone();
        s.every(pace(4.0, 25.0, 18), move |server, turn| {
            server.write(&scheduler, How::Merge, &target, &[is("spec.suspend", turn % 2 == 0)]);
        });
        s.every(pace(20.0, 90.0, 4), move |server, turn| {
            server.write(&person, How::Put, &of_person, &[is("spec.schedule", format!("{turn} * * * *"))]);
        });
    }),
    pattern(
        "scheduled_by_one_account",
        "jobs of one account scale up by day and down by night, and each pod writes only once",
        |s| {
            let target = s.object(kinds::DEPLOYMENT, &[]);
            let base = Actor::controller("schedules", "scaler", &mut s.rng).agent(KUBECTL);
            let period = s.rng.between(60.0, 900.0);
            s.every(pace(5.0, period, 22), move |server, turn| {
                let (name, replicas) = if turn % 2 == 0 { ("scale-up", 5) } else { ("scale-down", 0) };
                let pod = base.clone().pod(&format!("{name}-2938{turn:04}-x7k2p"));
                server.write(&pod, How::ScalePatch, &target, &[is("spec.replicas", replicas)]);
            });
        },
    ),
    pattern(
        "upgrade_overlap",
        "the old and the new version of a controller briefly run together and write alternately two or three times",
        |s| {
            let target = s.object(kinds::GATEWAY, &[]);
            let base = Actor::controller("mesh", "mesh-operator", &mut s.rng);
            let old = base.clone().pod("mesh-operator-old-1").agent("mesh-operator/v1.4.0");
            let new = base.pod("mesh-operator-new-1").agent("mesh-operator/v1.5.0");
            s.asserts(&old, How::Merge, &target, vec![is("spec.timeout", "5s")], pace(5.0, 20.0, 8));
            s.asserts(&new, How::Merge, &target, vec![is("spec.timeout", "10s")], pace(118.0, 20.0, 8));
        },
    ),
    pattern(
        "two_tools_of_one_account",
        "one account alternately deploys with Helm and kubectl, always the next version",
        |s| {
            let target = s.object(kinds::DEPLOYMENT, &[]);
            let helm = Actor::pipeline("deploy").agent("Helm/4.0.1").manager("helm");
            let tools = [helm, Actor::pipeline("deploy").manager("kubectl-set")];
            s.every(pace(5.0, 40.0, 20), move |server, turn| {
                let image = format!("registry.example/web:7.{turn}");
                server.write(&tools[(turn % 2) as usize], How::Strategic, &target, &[is(IMAGE, image)]);
            });
        },
    ),
    pattern("kustomizations_apart", "one Flux controller applies two Kustomizations, each with its own objects", |s| {
        let flux = Actor::flux(&mut s.rng);
        for nth in 0..2 {
            let (target, flux) = (s.object(kinds::DEPLOYMENT, &[]), flux.clone());
            s.every(pace(4.0 + nth as f64 * 9.0, 30.0, 14), move |server, turn| {
                let label = is("metadata.labels['kustomize.toolkit.fluxcd.io/name']", format!("app-{nth}"));
                let image = is(IMAGE, format!("registry.example/web:{}", turn % 2));
                server.write(&flux, How::Apply, &target, &[label, image]);
            });
        }
    }),
    pattern("moved_between_kustomizations", "an object moves from one Kustomization to another one, once", |s| {
        let target = s.object(kinds::DEPLOYMENT, &[]);
        let flux = Actor::flux(&mut s.rng);
        s.every(pace(4.0, 30.0, 24), move |server, turn| {
            let owner = if turn < 12 { "old-app" } else { "new-app" };
            let label = is("metadata.labels['kustomize.toolkit.fluxcd.io/name']", owner);
            let image = is(IMAGE, format!("registry.example/web:{owner}-{}", turn % 2));
            server.write(&flux, How::Apply, &target, &[label, image]);
        });
    }),
];
