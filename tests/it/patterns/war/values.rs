//! Wars that are only visible in stored objects: removals, forms, values that never return, unusual paths and bodies.

use serde_json::json;

use crate::patterns::actors::Actor;
use crate::patterns::kinds;
use crate::patterns::scenario::{Pattern, Shown, gives, gone, is, pace, party, pattern};
use crate::patterns::simulator::{How, Target};

const IMAGE: &str = "spec.template.spec.containers[name=web].image";

pub(crate) const PATTERNS: &[Pattern] = &[
    pattern(
        "pruned_by_apply",
        "Flux takes ownership of a label that a person set with kubectl, and prunes it with its next apply",
        |s| {
            let target = s.object(kinds::DEPLOYMENT, &[]);
            let (flux, person) = (Actor::flux(&mut s.rng), Actor::person(&s.rng, 0).manager("kubectl-label"));
            s.needs_values = Some("what an apply prunes stands in no request");
            s.asserts(&person, How::Merge, &target, vec![is("metadata.labels.debug", "on")], pace(9.0, 26.0, 14));
            s.war(&target, "metadata.labels.debug", [gives(&person, "on"), party(&flux, vec![Shown::Pruned])]);
            s.every(pace(20.0, 26.0, 14), move |server, turn| {
                server.adopt(&target, "kubectl-label", "kustomize-controller");
                server.write(&flux, How::Apply, &target, &[is("metadata.labels.app", format!("web-{turn}"))]);
            });
        },
    ),
    pattern(
        "alternating_applies",
        "two accounts apply different configurations under one manager name, and each prunes what the other one added",
        |s| {
            let target = s.object(kinds::CONFIG_MAP, &[]);
            let (first, second) =
                (Actor::operator(&mut s.rng, 0).manager("config"), Actor::operator(&mut s.rng, 1).manager("config"));
            s.needs_values = Some("what an apply prunes stands in no request");
            s.asserts(&first, How::Apply, &target, vec![is("data.a", "1")], pace(5.0, 24.0, 13));
            s.asserts(&second, How::Apply, &target, vec![is("data.b", "2")], pace(17.0, 24.0, 13));
            s.war(&target, "data.a", [gives(&first, "1"), party(&second, vec![Shown::Pruned])]);
            s.war(&target, "data.b", [party(&first, vec![Shown::Pruned]), gives(&second, "2")]);
        },
    ),
    pattern("removed_by_put", "an operator PUTs the object without the key that another operator patches in", |s| {
        let target = s.object(kinds::CONFIG_MAP, &[]);
        let (adds, replaces) = (Actor::operator(&mut s.rng, 0), Actor::operator(&mut s.rng, 1));
        let how = s.pick(&[How::Merge, How::Json]);
        s.asserts(&adds, how, &target, vec![is("data.extra", "1")], pace(9.0, 26.0, 14));
        s.keeps(&replaces, How::Put, &target, vec![gone("data.extra")], 3.0);
        s.war(&target, "data.extra", [gives(&adds, "1"), party(&replaces, vec![Shown::Absent])]);
    }),
    pattern("removed_by_json_patch", "one side adds an annotation, and the other one removes it by JSON patch", |s| {
        let target = s.object(kinds::INGRESS, &[is("metadata.annotations.keep", "1")]);
        let (adds, removes) = (Actor::operator(&mut s.rng, 0), Actor::person(&s.rng, 0));
        let path = "metadata.annotations['ingress.example.com/rewrite']";
        s.asserts(&adds, How::Merge, &target, vec![is(path, "/")], pace(9.0, 26.0, 14));
        s.keeps(&removes, How::Json, &target, vec![gone(path)], 3.0);
        s.war(&target, path, [gives(&adds, "/"), party(&removes, vec![Shown::Absent])]);
    }),
    pattern("list_indices", "both sides use JSON patches, which address containers by index", |s| {
        let target = s.object(kinds::DEPLOYMENT, &[]);
        let (first, second) = (Actor::operator(&mut s.rng, 0), Actor::person(&s.rng, 0));
        let path = "spec.template.spec.containers[name=log].image";
        s.asserts(&first, How::Json, &target, vec![is(path, "log:1")], pace(5.0, 24.0, 13));
        s.asserts(&second, How::Json, &target, vec![is(path, "log:2")], pace(17.0, 24.0, 13));
        s.war(&target, path, [gives(&first, "log:1"), gives(&second, "log:2")]);
    }),
    pattern(
        "strategic_against_apply",
        "the strategic patch of kubectl edit against a server-side apply of the same container",
        |s| {
            let target = s.object(kinds::DEPLOYMENT, &[]);
            let (person, flux) = (Actor::person(&s.rng, 0), Actor::flux(&mut s.rng));
            s.asserts(&person, How::Strategic, &target, vec![is(IMAGE, "web:debug")], pace(5.0, 24.0, 13));
            let applied = vec![is(IMAGE, "web:1"), is("spec.template.spec.containers[name=log].image", "log:1")];
            s.server.write(&flux, How::Apply, &target, &applied);
            s.keeps(&flux, How::Apply, &target, applied, 5.0);
            s.war(&target, IMAGE, [gives(&person, "web:debug"), gives(&flux, "web:1")]);
        },
    ),
    pattern("atomic_list", "two operators set different tolerations: a list without keys is one value", |s| {
        let target = s.object(kinds::DAEMON_SET, &[]);
        let (first, second) = (Actor::operator(&mut s.rng, 0), Actor::operator(&mut s.rng, 1));
        let path = "spec.template.spec.tolerations";
        let list = |key: &str| json!([{"key": key, "operator": "Exists"}]);
        s.asserts(&first, How::Put, &target, vec![is(path, list("gpu"))], pace(5.0, 24.0, 13));
        s.asserts(&second, How::Merge, &target, vec![is(path, list("spot"))], pace(17.0, 24.0, 13));
        s.war(&target, path, [gives(&first, list("gpu")), gives(&second, list("spot"))]);
    }),
    pattern(
        "container_comes_and_goes",
        "one side adds a debug container and the other one removes it, with all fields of the item",
        |s| {
            let target = s.object(kinds::DEPLOYMENT, &[]);
            let (person, operator) = (Actor::person(&s.rng, 0), Actor::operator(&mut s.rng, 0));
            let path = "spec.template.spec.containers[name=debug].image";
            let item = "spec.template.spec.containers[name=debug]";
            s.asserts(&person, How::Json, &target, vec![is("spec.paused", true)], pace(5.0, 24.0, 14));
            s.keeps(&operator, How::Json, &target, vec![is("spec.paused", false)], 4.0);
            s.war(&target, "spec.paused", [gives(&person, true), gives(&operator, false)]);
            // Only once during the war: an item that is added and removed is not a war of its own.
            let on = target.clone();
            s.at(100.0, move |server| {
                server.write(&Actor::admin(), How::Strategic, &on, &[is(path, "debug:1")]);
                server.write(&Actor::admin(), How::Strategic, &on, &[gone(item)]);
            });
        },
    ),
    pattern(
        "forms_of_a_custom_resource",
        "a custom resource stores values as sent: GitOps writes `1000m`, and the operator `1`",
        |s| {
            let target = s.object(kinds::DATABASE, &[]);
            let (flux, operator) = (Actor::flux(&mut s.rng), Actor::operator(&mut s.rng, 0));
            s.asserts(&flux, How::Apply, &target, vec![is("spec.resources.limits.cpu", "1000m")], pace(5.0, 24.0, 13));
            s.keeps(&operator, How::Put, &target, vec![is("spec.resources.limits.cpu", "1")], 2.0);
            s.war(&target, "spec.resources.limits.cpu", [gives(&flux, "1000m"), gives(&operator, "1")]);
            s.cause = Some("normalisation");
        },
    ),
    pattern(
        "text_and_number",
        "one side writes the number 5, the other the text \"5\" in a custom resource without a schema",
        |s| {
            let target = s.object(kinds::POOL, &[]);
            let (first, second) = (Actor::operator(&mut s.rng, 0), Actor::argo(&mut s.rng));
            s.asserts(&first, How::Merge, &target, vec![is("spec.weight", 5)], pace(5.0, 24.0, 13));
            s.keeps(&second, How::Apply, &target, vec![is("spec.weight", "5")], 2.0);
            s.war(&target, "spec.weight", [gives(&first, 5), gives(&second, "5")]);
        },
    ),
    pattern("counter_reset", "one side increases a counter, and the other one resets it to zero each time", |s| {
        let target = s.object(kinds::DATABASE, &[is("spec.failures", 0)]);
        let (counts, resets) = (Actor::operator(&mut s.rng, 0), Actor::operator(&mut s.rng, 1));
        let (on, by) = (target.clone(), counts.clone());
        s.every(pace(5.0, 20.0, 18), move |server, _| {
            let next = server.field(&on, "spec.failures").and_then(|v| v.as_i64()).unwrap_or(0) + 1;
            server.write(&by, How::Merge, &on, &[is("spec.failures", next)]);
        });
        s.keeps(&resets, How::Merge, &target, vec![is("spec.failures", 0)], 6.0);
        s.war(&target, "spec.failures", [gives(&counts, 1), gives(&resets, 0)]);
    }),
    pattern(
        "certificates_made_anew",
        "two controllers overwrite each other within a second with a new certificate: no value ever returns",
        |s| {
            s.is_quiet = true;
            let target = s.object(kinds::WEBHOOKS, &[]);
            let actors = [Actor::operator(&mut s.rng, 0), Actor::operator(&mut s.rng, 1)];
            let path = "webhooks[name=guard.example.com].clientConfig.caBundle";
            s.war(&target, path, actors.iter().map(|actor| party(actor, vec![])).collect::<Vec<_>>());
            let mut made = s.rng.clone();
            s.every(pace(5.0, 0.6, 60), move |server, turn| {
                let bundle =
                    crate::patterns::scenario::encoded(&format!("-----BEGIN CERTIFICATE----- {}", made.hex(40)));
                server.write(&actors[(turn % 2) as usize], How::Put, &target, &[is(path, bundle)]);
            });
        },
    ),
    pattern(
        "hashes_made_anew",
        "every half minute, two controllers overwrite each other's salted hash within a second",
        |s| {
            s.is_quiet = true;
            let target = s.object(kinds::SERVICE, &[]);
            let actors = [Actor::operator(&mut s.rng, 0), Actor::operator(&mut s.rng, 1)];
            let path = "metadata.annotations['config.example.com/hash']";
            s.war(&target, path, actors.iter().map(|actor| party(actor, vec![])).collect::<Vec<_>>());
            let mut made = s.rng.clone();
            s.every(pace(5.0, 30.0, 9), move |server, _| {
                for turn in 0..4 {
                    server.now += 350_000;
                    server.write(&actors[turn % 2], How::Merge, &target, &[is(path, made.hex(32))]);
                }
            });
        },
    ),
    pattern(
        "scale_of_another_path",
        "an autoscaler scales a kind whose replicas are in `spec.size`, and GitOps applies that field; the log contains the CRD",
        |s| {
            let crd = Target::new(kinds::DEFINITION, "", "workerpools.pool.example.com");
            let versions = json!([{"name": "v1alpha1", "served": true, "storage": true,
            "subresources": {"scale": {"specReplicasPath": ".spec.size"}, "status": {}}}]);
            let names = json!({"kind": "WorkerPool", "plural": "workerpools"});
            s.server.create(
                &Actor::admin(),
                &crd,
                &[is("spec.group", "pool.example.com"), is("spec.names", names), is("spec.versions", versions)],
            );
            let target = s.object(kinds::POOL, &[is("spec.size", 3)]);
            let (autoscaler, flux) = (Actor::autoscaler(), Actor::flux(&mut s.rng));
            s.asserts(&autoscaler, How::ScalePut, &target, vec![is("spec.size", 7)], pace(5.0, 24.0, 14));
            s.keeps(&flux, How::Apply, &target, vec![is("spec.size", 2)], 3.0);
            s.war(&target, "spec.size", [gives(&autoscaler, 7), gives(&flux, 2)]);
        },
    ),
    pattern(
        "scale_of_a_hidden_path",
        "as before, but three levels down and without the CRD in the log: the changed number shows the path",
        |s| {
            let target = s.object(kinds::SHARDED, &[is("spec.workers.count", 3)]);
            let (autoscaler, operator) = (Actor::autoscaler(), Actor::operator(&mut s.rng, 0));
            s.needs_values = Some("which field `scale` writes shows only in what is stored");
            s.asserts(&autoscaler, How::ScalePut, &target, vec![is("spec.workers.count", 7)], pace(5.0, 24.0, 14));
            s.keeps(&operator, How::Put, &target, vec![is("spec.workers.count", 2)], 3.0);
            s.war(&target, "spec.workers.count", [gives(&autoscaler, 7), gives(&operator, 2)]);
        },
    ),
    pattern("keda_to_zero_against_gitops", "KEDA scales to zero, and the repository says three", |s| {
        let target = s.object(kinds::DEPLOYMENT, &[]);
        let keda = Actor::controller("keda", "keda-operator", &mut s.rng).manager("keda");
        let flux = Actor::flux(&mut s.rng);
        s.asserts(&flux, How::Apply, &target, vec![is("spec.replicas", 3)], pace(5.0, 30.0, 14));
        s.keeps(&keda, How::ScalePut, &target, vec![is("spec.replicas", 0)], 10.0);
        s.war(&target, "spec.replicas", [gives(&flux, 3), gives(&keda, 0)]);
    }),
    pattern(
        "cordon_and_uncordon",
        "a drainer cordons a node that a person uncordons: false is stored as absence",
        |s| {
            let target = s.object(kinds::NODE, &[]);
            let (drainer, person) = (Actor::controller("kured", "kured", &mut s.rng), Actor::person(&s.rng, 0));
            let how = s.pick(&[How::Merge, How::Strategic]);
            s.asserts(&drainer, how, &target, vec![is("spec.unschedulable", true)], pace(5.0, 26.0, 14));
            s.keeps(&person, how, &target, vec![gone("spec.unschedulable")], 5.0);
            s.war(&target, "spec.unschedulable", [gives(&drainer, true), party(&person, vec![Shown::Absent])]);
        },
    ),
    pattern(
        "two_versions_of_one_kind_at_war",
        "two operators set one field of a kind, one of them through its old version, where it has another name",
        |s| {
            let target = s.object(kinds::ROUTE, &[]);
            let (old, new) = (Actor::operator(&mut s.rng, 0), Actor::operator(&mut s.rng, 1));
            let of_old = target.in_version(kinds::ROUTE_OLD);
            s.asserts(&old, How::Merge, &of_old, vec![is("spec.timeout", "1s")], pace(5.0, 24.0, 13));
            s.asserts(&new, How::Merge, &target, vec![is("spec.timeout", "9s")], pace(17.0, 24.0, 13));
            s.war(&target, "spec.timeout", [gives(&old, "1s"), gives(&new, "9s")]);
        },
    ),
    pattern(
        "owned_set_whole",
        "two operators replace all keys of a ConfigMap with their own set: every key is contested",
        |s| {
            let target = s.object(kinds::CONFIG_MAP, &[gone("data.base"), is("data.a", "0")]);
            let (first, second) = (Actor::operator(&mut s.rng, 0), Actor::operator(&mut s.rng, 1));
            s.asserts(&first, How::Put, &target, vec![is("data.a", "1"), gone("data.b")], pace(5.0, 24.0, 13));
            s.asserts(&second, How::Put, &target, vec![gone("data.a"), is("data.b", "2")], pace(17.0, 24.0, 13));
            s.war(&target, "data.a", [gives(&first, "1"), party(&second, vec![Shown::Absent])]);
            s.war(&target, "data.b", [party(&first, vec![Shown::Absent]), gives(&second, "2")]);
        },
    ),
    pattern(
        "through_scale_and_put",
        "one side scales through the subresource, and the other one PUTs the whole object",
        |s| {
            let target = s.object(kinds::REPLICA_SET, &[]);
            let (person, operator) = (Actor::person(&s.rng, 0), Actor::operator(&mut s.rng, 0));
            let how = s.pick(&[How::ScalePut, How::ScalePatch]);
            s.asserts(&person, how, &target, vec![is("spec.replicas", 9)], pace(5.0, 24.0, 14));
            s.keeps(&operator, How::Put, &target, vec![is("spec.replicas", 1)], 4.0);
            s.war(&target, "spec.replicas", [gives(&person, 9), gives(&operator, 1)]);
        },
    ),
];
