//! Wars over whether an object exists.

use serde_json::json;

use crate::patterns::actors::Actor;
use crate::patterns::kinds;
use crate::patterns::paths::Change;
use crate::patterns::scenario::{Pattern, Scenario, gives, gone, is, pace, party, pattern};
use crate::patterns::simulator::{How, Target};

const JOB_IMAGE: &str = "spec.template.spec.containers[name=web].image";

/// Adds an actor that creates the object again soon after it was deleted.
fn creates(s: &mut Scenario, actor: &Actor, target: &Target, fields: Vec<Change>, delay: f64) {
    let (actor, target) = (actor.clone(), target.clone());
    let watched = target.clone();
    s.server.create(&actor, &target, &fields);
    s.whenever(
        move |server| server.get(&watched).is_none(),
        delay,
        move |server, _| {
            server.create(&actor, &target, &fields);
        },
    );
}

/// Declares that the whole object is contested.
fn recreated(s: &mut Scenario, target: &Target, actors: [&Actor; 2]) {
    s.war(target, "(object)", actors.map(|actor| party(actor, vec![])));
    s.cause = Some("recreate_war");
}

pub(crate) const PATTERNS: &[Pattern] = &[
    pattern("deleted_by_hand", "a person deletes an object that an operator creates again within seconds", |s| {
        let kind = *s.rng.pick(&[kinds::CONFIG_MAP, kinds::SERVICE, kinds::GATEWAY]);
        let target = s.target(kind);
        let (operator, person) = (Actor::operator(&mut s.rng, 0), Actor::person(&s.rng, 0));
        creates(s, &operator, &target, vec![], 2.0);
        let (on, by) = (target.clone(), person.clone());
        s.every(pace(15.0, 25.0, 14), move |server, _| {
            server.delete(&by, &on);
        });
        recreated(s, &target, [&operator, &person]);
    }),
    pattern(
        "pruner_and_gitops",
        "a pruner deletes an object that it considers unused, and GitOps applies it again",
        |s| {
            let target = s.target(kinds::SECRET);
            let (flux, pruner) = (Actor::flux(&mut s.rng), Actor::controller("janitor", "k8s-cleaner", &mut s.rng));
            let (on, by) = (target.clone(), pruner.clone());
            s.asserts(&flux, How::Apply, &target, vec![is("metadata.labels.app", "web")], pace(3.0, 30.0, 15));
            s.every(pace(21.0, 30.0, 14), move |server, _| {
                server.delete(&by, &on);
            });
            recreated(s, &target, [&flux, &pruner]);
        },
    ),
    pattern(
        "finished_job_for_ever",
        "Flux creates the same unchanged Job again each time the TTL controller deletes it, so it runs repeatedly",
        |s| {
            let target = s.target(kinds::JOB);
            let (flux, cleaner) = (Actor::flux(&mut s.rng), Actor::in_tree("ttl-after-finished-controller"));
            let controller = Actor::in_tree("job-controller");
            let (on, by, done) = (target.clone(), cleaner.clone(), target.clone());
            s.asserts(&flux, How::Apply, &target, vec![is(JOB_IMAGE, "registry.example/job:1")], pace(3.0, 30.0, 16));
            s.every(pace(9.0, 30.0, 15), move |server, _| {
                server.write(&controller, How::StatusPut, &done, &[is("status.succeeded", 1)]);
            });
            s.every(pace(22.0, 30.0, 15), move |server, _| {
                server.delete(&by, &on);
            });
            recreated(s, &target, [&flux, &cleaner]);
        },
    ),
    pattern(
        "held_by_a_finalizer",
        "each deletion waits for the finalizer of a third controller before the object is created again",
        |s| {
            let target = s.target(kinds::DATABASE);
            let (operator, person) = (Actor::operator(&mut s.rng, 0), Actor::person(&s.rng, 0));
            let cleaner = Actor::operator(&mut s.rng, 1);
            let held = is("metadata.finalizers", json!(["backup.example.com/f"]));
            creates(s, &operator, &target, vec![held], 2.0);
            let (on, by, releases) = (target.clone(), person.clone(), target.clone());
            s.every(pace(15.0, 30.0, 14), move |server, _| {
                server.delete(&by, &on);
                server.now += 1_500_000;
                server.write(&cleaner, How::Merge, &releases, &[gone("metadata.finalizers")]);
            });
            recreated(s, &target, [&operator, &person]);
        },
    ),
    pattern(
        "deleted_slowly",
        "every twelve minutes, a person deletes an object that GitOps creates again: a slow recreate war",
        |s| {
            let target = s.target(kinds::CONFIG_MAP);
            let (argo, person) = (Actor::argo(&mut s.rng), Actor::person(&s.rng, 0));
            creates(s, &argo, &target, vec![is("data.mode", "on")], 40.0);
            let (on, by) = (target.clone(), person.clone());
            s.every(pace(60.0, 720.0, 24), move |server, _| {
                server.delete(&by, &on);
            });
            recreated(s, &target, [&argo, &person]);
        },
    ),
    pattern(
        "recreated_and_fought_over",
        "two operators fight over a field, and a release recreates the object once",
        |s| {
            let target = s.object(kinds::GATEWAY, &[]);
            let (first, second) = (Actor::operator(&mut s.rng, 0), Actor::operator(&mut s.rng, 1));
            let recreated = target.clone();
            s.asserts(&first, How::Merge, &target, vec![is("spec.mode", "fast")], pace(5.0, 20.0, 26));
            s.asserts(&second, How::Put, &target, vec![is("spec.mode", "safe")], pace(15.0, 20.0, 26));
            s.at(131.0, move |server| {
                server.delete(&Actor::admin(), &recreated);
                server.create(&Actor::admin(), &recreated, &[]);
            });
            s.war(&target, "spec.mode", [gives(&first, "fast"), gives(&second, "safe")]);
        },
    ),
];
