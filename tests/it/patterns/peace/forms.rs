//! Values that differ only in form, only grow, or only progress.

use serde_json::json;

use crate::patterns::actors::Actor;
use crate::patterns::kinds::{self, Kind};
use crate::patterns::scenario::{Pattern, Scenario, is, pace, pattern};
use crate::patterns::simulator::{How, PATCHES, Server, Target, seconds};

/// Two actors alternately set one field to its next value.
fn in_turns(s: &mut Scenario, kind: Kind, path: &'static str, next: fn(&Server, &Target, u32) -> serde_json::Value) {
    let target = s.object(kind, &[]);
    let actors = [Actor::operator(&mut s.rng, 0), Actor::operator(&mut s.rng, 1)];
    let how = s.pick(&[How::Put, How::Merge, How::Json]);
    let period = s.rng.between(12.0, 40.0);
    s.every(pace(4.0, period, 24), move |server, turn| {
        let value = next(server, &target, turn);
        server.write(&actors[(turn % 2) as usize], how, &target, &[is(path, value)]);
    });
}

/// One actor applies a quantity in its own form, another one PUTs the whole object. The stored form never changes.
fn one_quantity(s: &mut Scenario, resource: &str, forms: [&str; 2]) {
    let path = format!("spec.template.spec.containers[name=web].resources.limits.{resource}");
    let target = s.object(kinds::DEPLOYMENT, &[is(&path, forms[1])]);
    let (flux, operator) = (Actor::flux(&mut s.rng), Actor::operator(&mut s.rng, 0));
    let rev = "metadata.annotations['git.example.com/revision']";
    let of_flux = target.clone();
    let form = forms[0].to_owned();
    s.every(pace(4.0, 30.0, 14), move |server, turn| {
        server.write(&flux, How::Apply, &of_flux, &[is(&path, form.as_str()), is(rev, format!("r{turn}"))]);
    });
    s.every(pace(19.0, 30.0, 14), move |server, turn| {
        let changes = [is("metadata.annotations['example.com/checked']", format!("c{turn}"))];
        server.write(&operator, How::Put, &target, &changes);
    });
}

pub(crate) const PATTERNS: &[Pattern] = &[
    pattern("milli_and_whole", "GitOps keeps applying `1000m`, which the server stores as `1`", |s| {
        one_quantity(s, "cpu", ["1000m", "1"]);
    }),
    pattern("fraction_and_milli", "GitOps keeps applying `0.5`, which the server stores as `500m`", |s| {
        one_quantity(s, "cpu", ["0.5", "500m"]);
    }),
    pattern("mebi_and_gibi", "GitOps keeps applying `1024Mi`, which the server stores as `1Gi`", |s| {
        one_quantity(s, "memory", ["1024Mi", "1Gi"]);
    }),
    pattern(
        "defaulted_and_not",
        "one actor PUTs bodies with defaults, another one applies without defaults, each for its own field",
        |s| {
            let target = s.object(
                kinds::DEPLOYMENT,
                &[is("spec.template.spec.containers[name=web].ports", json!([{"containerPort": 80}]))],
            );
            let (flux, operator) = (Actor::flux(&mut s.rng), Actor::operator(&mut s.rng, 0));
            let of_flux = target.clone();
            s.every(pace(4.0, 25.0, 14), move |server, turn| {
                let image = format!("registry.example/web:{}", turn % 2);
                let changes = [
                    is("spec.template.spec.containers[name=web].image", image),
                    is("spec.template.spec.containers[name=web].ports[containerPort=80,protocol=TCP].name", "http"),
                ];
                server.write(&flux, How::Apply, &of_flux, &changes);
            });
            s.every(pace(13.0, 25.0, 14), move |server, turn| {
                server.write(&operator, How::Put, &target, &[is("metadata.annotations.sum", format!("s{}", turn % 2))]);
            });
        },
    ),
    pattern(
        "empty_and_absent",
        "one actor applies empty maps that the PUT of another one omits: the server treats them the same",
        |s| {
            let target = s.object(kinds::DEPLOYMENT, &[]);
            let (flux, operator) = (Actor::flux(&mut s.rng), Actor::operator(&mut s.rng, 0));
            let of_flux = target.clone();
            s.every(pace(4.0, 25.0, 14), move |server, turn| {
                let security = ("spec.template.spec.securityContext".to_owned(), Some(json!({})));
                server.write(&flux, How::Apply, &of_flux, &[security, is("metadata.labels.rev", format!("r{turn}"))]);
            });
            s.every(pace(13.0, 25.0, 14), move |server, turn| {
                server.write(&operator, How::Put, &target, &[is("metadata.annotations.sum", format!("s{}", turn % 2))]);
            });
        },
    ),
    pattern("counter_as_number", "two actors alternately increase one number", |s| {
        in_turns(s, kinds::DATABASE, "spec.generation", |_, _, turn| (turn + 10).into());
    }),
    pattern("counter_as_string", "two actors alternately increase one number that is stored as a string", |s| {
        in_turns(s, kinds::CONFIG_MAP, "data.count", |_, _, turn| (turn + 95).to_string().into());
    }),
    pattern("time_as_text", "two actors alternately write the time into one annotation", |s| {
        in_turns(s, kinds::SERVICE, "metadata.annotations.stamped", |server, _, _| seconds(server.now).into());
    }),
    pattern("time_as_number", "two actors alternately write the time as seconds since 1970", |s| {
        in_turns(s, kinds::CONFIG_MAP, "data.stamped", |server, _, _| (server.now / 1_000_000).to_string().into());
    }),
    pattern("list_that_grows", "two actors alternately append to one list", |s| {
        in_turns(s, kinds::DATABASE, "spec.history", |server, target, turn| {
            let mut list = server.field(target, "spec.history").cloned().unwrap_or(json!([]));
            list.as_array_mut().unwrap().push(format!("event {turn}").into());
            list
        });
    }),
    pattern("list_of_the_last_five", "two actors append to one list that keeps its last five items", |s| {
        in_turns(s, kinds::DATABASE, "spec.history", |server, target, turn| {
            let list = server.field(target, "spec.history").cloned().unwrap_or(json!([]));
            let mut list = list.as_array().unwrap().clone();
            list.push(format!("event {turn}").into());
            list[list.len().saturating_sub(5)..].into()
        });
    }),
    pattern("heartbeats_of_two", "two agents alternately renew one heartbeat", |s| {
        in_turns(s, kinds::GATEWAY, "spec.heartbeat", |server, _, _| {
            format!("{:.6}", jiff::Timestamp::from_microsecond(server.now).unwrap()).into()
        });
    }),
    pattern(
        "dry_run_reconciler",
        "a reconciler checks for drift by dry-run every half minute, and only a person writes",
        |s| {
            let target = s.object(kinds::DEPLOYMENT, &[]);
            let (flux, person) = (Actor::flux(&mut s.rng), Actor::person(&s.rng, 0));
            let of_flux = target.clone();
            s.every(pace(4.0, 15.0, 30), move |server, _| {
                server.dry_run(|server| {
                    server.write(&flux, How::Apply, &of_flux, &[is("spec.replicas", 2)]);
                });
            });
            s.every(pace(9.0, 30.0, 14), move |server, turn| {
                server.write(&person, How::ScalePatch, &target, &[is("spec.replicas", 4 + turn % 2)]);
            });
        },
    ),
    pattern("appliers_of_the_same", "two GitOps tools keep applying the same value: no-ops", |s| {
        let target = s.object(kinds::DEPLOYMENT, &[]);
        let (flux, argo) = (Actor::flux(&mut s.rng), Actor::argo(&mut s.rng));
        s.asserts(&flux, How::Apply, &target, vec![is("spec.replicas", 4)], pace(4.0, 20.0, 16));
        s.asserts(&argo, How::Apply, &target, vec![is("spec.replicas", 4)], pace(12.0, 20.0, 16));
    }),
    pattern(
        "two_versions_of_one_kind",
        "one actor writes a field by its old name, another one writes other fields in the new version",
        |s| {
            let target = s.object(kinds::ROUTE, &[is("spec.host", "a.example.com")]);
            let (old, new) = (Actor::operator(&mut s.rng, 0), Actor::operator(&mut s.rng, 1));
            let of_old = target.in_version(kinds::ROUTE_OLD);
            let how = s.pick(&[How::Put, How::Merge]);
            s.every(pace(4.0, 22.0, 14), move |server, turn| {
                server.write(&old, how, &of_old, &[is("spec.timeout", format!("{}s", turn % 2))]);
            });
            s.every(pace(15.0, 22.0, 14), move |server, turn| {
                server.write(&new, how, &target, &[is("spec.weight", turn % 2)]);
            });
        },
    ),
    pattern(
        "endpoints_in_any_order",
        "one controller reorders the addresses of an EndpointSlice, and a mirror writes its label",
        |s| {
            let target = s.object(kinds::SLICE, &[]);
            let (controller, mirror) = (Actor::in_tree("endpointslice-controller"), Actor::operator(&mut s.rng, 0));
            let of_controller = target.clone();
            s.every(pace(4.0, 15.0, 20), move |server, turn| {
                let mut endpoints = vec![json!({"addresses": ["10.0.0.1"]}), json!({"addresses": ["10.0.0.2"]})];
                endpoints.rotate_left((turn % 2) as usize);
                server.write(&controller, How::Put, &of_controller, &[is("endpoints", endpoints)]);
            });
            let how = s.pick(&PATCHES);
            s.every(pace(9.0, 40.0, 6), move |server, turn| {
                server.write(&mirror, how, &target, &[is("metadata.labels.mirror", format!("m{turn}"))]);
            });
        },
    ),
];
