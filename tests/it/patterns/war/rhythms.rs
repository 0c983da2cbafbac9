//! Wars with different rhythms, and among other traffic.

use serde_json::json;

use crate::patterns::actors::Actor;
use crate::patterns::kinds;
use crate::patterns::scenario::{Pattern, Scenario, gives, is, pace, party, pattern};
use crate::patterns::simulator::{How, Target};
use crate::patterns::webhooks::Webhook;

/// Two actors write their values alternately, `period` seconds apart.
fn in_turns(s: &mut Scenario, period: f64, writes: u32) -> (Target, [Actor; 2]) {
    let kind = *s.rng.pick(&[kinds::GATEWAY, kinds::CONFIG_MAP, kinds::DATABASE]);
    let path = if kind == kinds::CONFIG_MAP { "data.mode" } else { "spec.mode" };
    let target = s.object(kind, &[]);
    let actors = [Actor::operator(&mut s.rng, 0), Actor::operator(&mut s.rng, 1)];
    let hows = [s.pick(&[How::Put, How::Merge]), s.pick(&[How::Put, How::Json, How::Apply])];
    s.war(&target, path, [gives(&actors[0], "fast"), gives(&actors[1], "safe")]);
    let (on, by) = (target.clone(), actors.clone());
    s.every(pace(5.0, period, writes), move |server, turn| {
        let nth = (turn % 2) as usize;
        server.write(&by[nth], hows[nth], &on, &[is(path, ["fast", "safe"][nth])]);
    });
    (target, actors)
}

pub(crate) const PATTERNS: &[Pattern] = &[
    pattern("every_ten_minutes", "a retake every ten minutes for five hours exceeds both buckets", |s| {
        in_turns(s, 600.0, 34);
    }),
    pattern("fourteen_in_six_hours", "14 retakes in 5.5 hours exceed the limit of 12 in 6 hours", |s| {
        s.is_quiet = true;
        in_turns(s, 1_380.0, 16);
    }),
    pattern("once_a_minute", "a retake every minute for twenty minutes", |s| {
        in_turns(s, 60.0, 24);
    }),
    pattern("every_five_seconds", "the example of the runbook: a write every five seconds", |s| {
        in_turns(s, 5.0, 30);
    }),
    pattern("many_times_a_second", "two controllers overwrite each other within a quarter of a second", |s| {
        in_turns(s, 0.25, 60);
    }),
    pattern("bursts", "eight retakes within two seconds, every quarter of an hour", |s| {
        let target = s.object(kinds::GATEWAY, &[]);
        let actors = [Actor::operator(&mut s.rng, 0), Actor::person(&s.rng, 1)];
        s.war(&target, "spec.mode", [gives(&actors[0], "fast"), gives(&actors[1], "safe")]);
        s.every(pace(5.0, 900.0, 5), move |server, _| {
            for turn in 0..10 {
                server.now += 210_000;
                let nth = turn % 2;
                server.write(&actors[nth], How::Merge, &target, &[is("spec.mode", ["fast", "safe"][nth])]);
            }
        });
    }),
    pattern("after_an_hour_of_peace", "after an hour with one writer, a second one sets another value", |s| {
        let target = s.object(kinds::DATABASE, &[]);
        let (first, second) = (Actor::operator(&mut s.rng, 0), Actor::argo(&mut s.rng));
        let of_first = target.clone();
        let by_first = first.clone();
        s.every(pace(5.0, 120.0, 30), move |server, turn| {
            server.write(&by_first, How::Merge, &of_first, &[is("spec.turn", turn)]);
        });
        s.asserts(&first, How::Merge, &target, vec![is("spec.mode", "fast")], pace(3_700.0, 30.0, 12));
        s.asserts(&second, How::Apply, &target, vec![is("spec.mode", "safe")], pace(3_714.0, 30.0, 12));
        s.war(&target, "spec.mode", [gives(&first, "fast"), gives(&second, "safe")]);
    }),
    pattern("among_hundreds_of_objects", "the writes of the war are one in twenty of all writes", |s| {
        in_turns(s, 20.0, 22);
        let writers: Vec<Actor> = (2..6).map(|nth| Actor::operator(&mut s.rng, nth)).collect();
        let busy: Vec<Target> =
            (0..180).map(|nth| Target::new(kinds::CONFIG_MAP, "busy", &format!("object-{nth}"))).collect();
        s.every(pace(1.0, 1.2, 300), move |server, turn| {
            let (target, writer) = (&busy[(turn * 7 % 180) as usize], &writers[(turn % 4) as usize]);
            let change = [is(&format!("data.k{}", turn % 4), turn.to_string())];
            if server.get(target).is_none() {
                server.create(writer, target, &change);
            } else {
                server.write(writer, How::Merge, target, &change);
            }
        });
    }),
    pattern(
        "with_what_was_read",
        "two other writers PUT back the whole object as they read it, right after each party: they are never parties",
        |s| {
            let (target, _) = in_turns(s, 21.0, 22);
            for nth in 2..4 {
                let (bystander, target) = (Actor::operator(&mut s.rng, nth), target.clone());
                s.every(pace(9.0 + nth as f64 * 3.0, 21.0, 20), move |server, turn| {
                    let note = is(&format!("metadata.annotations.seen-{nth}"), format!("n{}", turn % 2));
                    server.write(&bystander, How::Put, &target, &[note]);
                });
            }
        },
    ),
    pattern("with_lost_races", "one side often gets a conflict and retries", |s| {
        s.is_quiet = true;
        let target = s.object(kinds::CONFIG_MAP, &[]);
        let actors = [Actor::operator(&mut s.rng, 0), Actor::operator(&mut s.rng, 1)];
        s.war(&target, "data.mode", [gives(&actors[0], "fast"), gives(&actors[1], "safe")]);
        s.every(pace(5.0, 24.0, 11), move |server, _| {
            let mut stale = server.get(&target).unwrap().clone();
            server.write(&actors[0], How::Put, &target, &[is("data.mode", "fast")]);
            stale["data"]["mode"] = "safe".into();
            server.now += 300_000;
            assert_eq!(server.put_body(&actors[1], &target, stale), 409);
            server.now += 200_000;
            server.write(&actors[1], How::Put, &target, &[is("data.mode", "safe")]);
        });
    }),
    pattern(
        "with_no_ops",
        "one side applies every few seconds, mostly without changes, and the other one writes every half minute",
        |s| {
            let target = s.object(kinds::DEPLOYMENT, &[]);
            let (argo, person) = (Actor::argo(&mut s.rng), Actor::person(&s.rng, 0));
            s.asserts(&argo, How::Apply, &target, vec![is("spec.replicas", 2)], pace(3.0, 6.0, 70));
            s.asserts(&person, How::ScalePatch, &target, vec![is("spec.replicas", 6)], pace(10.0, 31.0, 12));
            s.war(&target, "spec.replicas", [gives(&argo, 2), gives(&person, 6)]);
        },
    ),
    pattern("with_dry_runs", "each apply follows a dry-run of the same content", |s| {
        let target = s.object(kinds::DEPLOYMENT, &[]);
        let (flux, person) = (Actor::flux(&mut s.rng), Actor::person(&s.rng, 0));
        s.asserts(&person, How::ScalePatch, &target, vec![is("spec.replicas", 6)], pace(10.0, 31.0, 12));
        s.war(&target, "spec.replicas", [gives(&flux, 2), gives(&person, 6)]);
        s.every(pace(3.0, 16.0, 24), move |server, _| {
            let wanted = [is("spec.replicas", 2)];
            server.dry_run(|server| {
                server.write(&flux, How::Apply, &target, &wanted);
            });
            if server.field(&target, "spec.replicas") != Some(&json!(2)) {
                server.now += 150_000;
                server.write(&flux, How::Apply, &target, &wanted);
            }
        });
    }),
    pattern("with_refusals", "a policy rejects every third write of one side and accepts the others", |s| {
        let target = s.object(kinds::GATEWAY, &[]);
        let (first, second) = (Actor::operator(&mut s.rng, 0), Actor::person(&s.rng, 0));
        let refused = first.user.clone();
        let count = std::cell::Cell::new(0);
        s.server.webhooks.push(Webhook::validating(kinds::GATEWAY, "guard.example.com", move |_, actor| {
            count.set(count.get() + u32::from(actor.user == refused));
            (actor.user == refused && count.get().is_multiple_of(3)).then(|| "not now".to_owned())
        }));
        s.asserts(&first, How::Merge, &target, vec![is("spec.mode", "fast")], pace(5.0, 15.0, 26));
        s.keeps(&second, How::Put, &target, vec![is("spec.mode", "safe")], 4.0);
        s.war(&target, "spec.mode", [gives(&first, "fast"), gives(&second, "safe")]);
    }),
    pattern(
        "with_progress_beside",
        "with every write, each side also increases its own counter: only the shared field is contested",
        |s| {
            let target = s.object(kinds::CONFIG_MAP, &[]);
            let actors = [Actor::operator(&mut s.rng, 0), Actor::operator(&mut s.rng, 1)];
            s.war(&target, "data.mode", [gives(&actors[0], "fast"), gives(&actors[1], "safe")]);
            let how = s.pick(&[How::Put, How::Merge, How::Json]);
            s.every(pace(5.0, 18.0, 24), move |server, turn| {
                let nth = (turn % 2) as usize;
                let changes =
                    [is("data.mode", ["fast", "safe"][nth]), is(&format!("data.runs-{nth}"), turn.to_string())];
                server.write(&actors[nth], how, &target, &changes);
            });
        },
    ),
    pattern(
        "moving_values_against_a_fixed_one",
        "an autoscaler keeps setting new numbers, and GitOps always sets the same one",
        |s| {
            let target = s.object(kinds::STATEFUL_SET, &[]);
            let (autoscaler, argo) = (Actor::autoscaler(), Actor::argo(&mut s.rng));
            let (on, by) = (target.clone(), autoscaler.clone());
            s.every(pace(9.0, 26.0, 14), move |server, turn| {
                server.write(&by, How::ScalePut, &on, &[is("spec.replicas", 5 + turn)]);
            });
            s.keeps(&argo, How::Apply, &target, vec![is("spec.replicas", 2)], 1.5);
            s.war(&target, "spec.replicas", [party(&autoscaler, vec![]), gives(&argo, 2)]);
        },
    ),
    pattern("relapse", "a fight of two minutes, an hour without retakes, and the same fight again", |s| {
        let target = s.object(kinds::GATEWAY, &[]);
        let actors = [Actor::operator(&mut s.rng, 0), Actor::argo(&mut s.rng)];
        let hows = [s.pick(&[How::Put, How::Merge]), How::Apply];
        s.war(&target, "spec.mode", [gives(&actors[0], "fast"), gives(&actors[1], "safe")]);
        for from in [5.0, 3_700.0] {
            for (nth, value) in ["fast", "safe"].into_iter().enumerate() {
                let start = from + nth as f64 * 6.0;
                s.asserts(&actors[nth], hows[nth], &target, vec![is("spec.mode", value)], pace(start, 12.0, 10));
            }
        }
    }),
    pattern(
        "twenty_values_against_one",
        "one side sets a new version each time, and the other one always restores the same value",
        |s| {
            let target = s.object(kinds::DEPLOYMENT, &[]);
            let (pipeline, operator) = (Actor::pipeline("deploy"), Actor::operator(&mut s.rng, 0));
            let image = "spec.template.spec.containers[name=web].image";
            s.server.write(&operator, How::Put, &target, &[is(image, "web:stable")]);
            let (on, by) = (target.clone(), pipeline.clone());
            s.every(pace(9.0, 40.0, 16), move |server, turn| {
                server.write(&by, How::Strategic, &on, &[is(image, format!("web:4.{turn}"))]);
            });
            s.keeps(&operator, How::Put, &target, vec![is(image, "web:stable")], 12.0);
            s.war(&target, image, [party(&pipeline, vec![]), gives(&operator, "web:stable")]);
        },
    ),
];
