//! Mutating webhooks as parties.

use crate::patterns::actors::Actor;
use crate::patterns::kinds;
use crate::patterns::paths::get;
use crate::patterns::scenario::{Pattern, Scenario, gives, is, pace, pattern};
use crate::patterns::simulator::How;
use crate::patterns::webhooks::Webhook;

fn hook(s: &mut Scenario, hook: Webhook) -> Actor {
    let actor = hook.actor();
    s.server.webhooks.push(hook);
    actor
}

pub(crate) const PATTERNS: &[Pattern] = &[
    pattern(
        "sets_what_nobody_asked_for",
        "a webhook raises replicas on every write of other fields, and an operator lowers them through scale",
        |s| {
            s.is_quiet = true;
            let webhook = hook(
                s,
                Webhook::mutating(kinds::DEPLOYMENT, "minimum", "min.replicas.example.com", |body, _| {
                    let replicas = get(body, "spec.replicas").and_then(|v| v.as_i64()).unwrap_or(1);
                    if replicas < 5 { vec![is("spec.replicas", 5)] } else { Vec::new() }
                }),
            );
            let target = s.object(kinds::DEPLOYMENT, &[is("spec.replicas", 5)]);
            let (operator, person) = (Actor::operator(&mut s.rng, 0), Actor::person(&s.rng, 0));
            let on = target.clone();
            let how = s.pick(&[How::Merge, How::Put, How::Json]);
            s.every(pace(9.0, 26.0, 14), move |server, turn| {
                server.write(&person, how, &on, &[is("metadata.annotations.note", format!("n{turn}"))]);
            });
            s.keeps(&operator, How::ScalePatch, &target, vec![is("spec.replicas", 2)], 3.0);
            s.war(&target, "spec.replicas", [gives(&webhook, 5), gives(&operator, 2)]);
        },
    ),
    pattern(
        "overridden_for_ever",
        "a controller keeps applying its label and a webhook replaces it: the stored value never changes",
        |s| {
            let label = "metadata.labels['cost.example.com/center']";
            let webhook = hook(
                s,
                Webhook::mutating(kinds::DEPLOYMENT, "labels", "cost.labels.example.com", move |_, _| {
                    vec![is(label, "42")]
                }),
            );
            let target = s.object(kinds::DEPLOYMENT, &[]);
            let argo = Actor::argo(&mut s.rng);
            let how = s.pick(&[How::Apply, How::Merge, How::Strategic]);
            s.asserts(&argo, how, &target, vec![is(label, "unknown")], pace(5.0, 20.0, 18));
            s.overridden(&target, label, [gives(&argo, "unknown"), gives(&webhook, "42")]);
        },
    ),
    pattern(
        "overridden_by_put",
        "an operator PUTs the whole object with its value each time, and a webhook replaces that value",
        |s| {
            let webhook = hook(
                s,
                Webhook::mutating(kinds::GATEWAY, "policy", "tls.policy.example.com", |_, _| {
                    vec![is("spec.tls", "strict")]
                }),
            );
            let target = s.object(kinds::GATEWAY, &[]);
            let operator = Actor::operator(&mut s.rng, 0);
            s.asserts(&operator, How::Put, &target, vec![is("spec.tls", "off")], pace(5.0, 25.0, 16));
            s.overridden(&target, "spec.tls", [gives(&operator, "off"), gives(&webhook, "strict")]);
        },
    ),
    pattern(
        "webhook_helps_neither",
        "two operators fight over a field, and a webhook that stamps another field is not a party",
        |s| {
            hook(
                s,
                Webhook::mutating(kinds::GATEWAY, "stamps", "touch.example.com", |body, _| {
                    let count = body["metadata"]["generation"].as_i64().unwrap_or(0);
                    vec![is("metadata.annotations.touched", format!("g{count}"))]
                }),
            );
            let target = s.object(kinds::GATEWAY, &[]);
            let (first, second) = (Actor::operator(&mut s.rng, 0), Actor::operator(&mut s.rng, 1));
            s.asserts(&first, How::Merge, &target, vec![is("spec.mode", "fast")], pace(5.0, 24.0, 13));
            s.asserts(&second, How::Put, &target, vec![is("spec.mode", "safe")], pace(17.0, 24.0, 13));
            s.war(&target, "spec.mode", [gives(&first, "fast"), gives(&second, "safe")]);
        },
    ),
    pattern(
        "reset_for_all_but_one",
        "a webhook resets a field on every update by others, and an exempt operator sets it by JSON patch",
        |s| {
            s.is_quiet = true;
            let operator = Actor::operator(&mut s.rng, 0);
            let exempt = operator.user.clone();
            let webhook = hook(
                s,
                Webhook::mutating(kinds::SERVICE, "defaults", "svc.defaults.example.com", move |_, actor| {
                    if actor.user == exempt { Vec::new() } else { vec![is("spec.sessionAffinity", "None")] }
                }),
            );
            let target = s.object(kinds::SERVICE, &[]);
            let person = Actor::person(&s.rng, 0);
            let on = target.clone();
            s.every(pace(9.0, 26.0, 14), move |server, turn| {
                server.write(&person, How::Strategic, &on, &[is("metadata.annotations.note", format!("n{turn}"))]);
            });
            s.keeps(&operator, How::Json, &target, vec![is("spec.sessionAffinity", "ClientIP")], 3.0);
            s.war(&target, "spec.sessionAffinity", [gives(&webhook, "None"), gives(&operator, "ClientIP")]);
        },
    ),
];
