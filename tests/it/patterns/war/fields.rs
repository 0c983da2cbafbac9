//! Two or more actors that fight over one field, for every kind of field.

use serde_json::{Value, json};

use crate::patterns::actors::Actor;
use crate::patterns::kinds::{self, Kind};
use crate::patterns::scenario::{Pattern, Scenario, Shown, encoded, gives, gone, is, pace, party, pattern};
use crate::patterns::simulator::How;

const IMAGE: &str = "spec.template.spec.containers[name=web].image";

/// One actor writes periodically, and the other one reverts it shortly after.
fn answered(s: &mut Scenario, kind: Kind, path: &str, values: [Value; 2], how: [&[How]; 2], actors: [Actor; 2]) {
    let target = s.object(kind, &[]);
    let [writer, keeper] = &actors;
    let [theirs, kept] = values;
    let (writes, keeps) = (s.pick(how[0]), s.pick(how[1]));
    let (period, times, delay) = (s.rng.between(14.0, 32.0), s.rng.within(10, 15), s.rng.between(0.2, 4.0));
    let wanted = vec![(path.to_owned(), Some(kept.clone()))];
    s.server.write(keeper, keeps, &target, &wanted);
    s.asserts(writer, writes, &target, vec![(path.to_owned(), Some(theirs.clone()))], pace(9.0, period, times));
    s.keeps(keeper, keeps, &target, wanted, delay);
    s.war(&target, path, [gives(writer, theirs), gives(keeper, kept)]);
}

const PUT: &[How] = &[How::Put];
const ANY: &[How] = &[How::Put, How::Merge, How::Json, How::Strategic];
const SCALE: &[How] = &[How::ScalePut, How::ScalePatch];

pub(crate) const PATTERNS: &[Pattern] = &[
    pattern("replicas_autoscaler_and_gitops", "an autoscaler and GitOps both set the number of replicas", |s| {
        let actors = [Actor::autoscaler(), Actor::flux(&mut s.rng)];
        answered(s, kinds::DEPLOYMENT, "spec.replicas", [json!(7), json!(2)], [SCALE, &[How::Apply]], actors);
    }),
    pattern(
        "replicas_person_and_operator",
        "a person scales by hand, and an operator restores its number of replicas",
        |s| {
            let actors = [Actor::person(&s.rng, 0), Actor::operator(&mut s.rng, 0)];
            answered(s, kinds::STATEFUL_SET, "spec.replicas", [json!(9), json!(3)], [SCALE, ANY], actors);
        },
    ),
    pattern("image_pipeline_and_operator", "a pipeline pins an image that an operator sets back", |s| {
        let actors = [Actor::pipeline("deploy"), Actor::operator(&mut s.rng, 0)];
        let values = [json!("registry.example/web:9"), json!("registry.example/web:1.2")];
        answered(s, kinds::DEPLOYMENT, IMAGE, values, [ANY, &[How::Put, How::Strategic, How::Apply]], actors);
    }),
    pattern("env_of_two_operators", "two operators set the same variable of a container", |s| {
        let actors = [Actor::operator(&mut s.rng, 0), Actor::operator(&mut s.rng, 1)];
        let path = "spec.template.spec.containers[name=log].env[name=LEVEL].value";
        answered(s, kinds::DAEMON_SET, path, [json!("debug"), json!("info")], [&[How::Strategic], PUT], actors);
    }),
    pattern("resources_vpa_like", "a tuner raises a memory limit, and GitOps applies a lower one", |s| {
        let actors = [Actor::controller("tuning", "rightsizer", &mut s.rng), Actor::argo(&mut s.rng)];
        let path = "spec.template.spec.containers[name=web].resources.limits.memory";
        answered(s, kinds::DEPLOYMENT, path, [json!("900Mi"), json!("300Mi")], [ANY, &[How::Apply]], actors);
    }),
    pattern("annotation_of_two", "an ingress controller and a person want different timeouts in one annotation", |s| {
        let actors = [Actor::person(&s.rng, 0), Actor::operator(&mut s.rng, 0)];
        let path = "metadata.annotations['proxy.example.com/timeout']";
        answered(s, kinds::INGRESS, path, [json!("30"), json!("60")], [ANY, ANY], actors);
    }),
    pattern("flapping_label", "a person sets a label that an operator removes: one of the values is absence", |s| {
        let target = s.object(kinds::NODE, &[]);
        let (person, operator) = (Actor::person(&s.rng, 0).manager("kubectl-label"), Actor::operator(&mut s.rng, 0));
        let path = "metadata.labels['example.com/pool']";
        let how = s.pick(&[How::Merge, How::Put]);
        s.asserts(&person, How::Merge, &target, vec![is(path, "gpu")], pace(5.0, 25.0, 13));
        s.keeps(&operator, how, &target, vec![gone(path)], 2.0);
        s.war(&target, path, [gives(&person, "gpu"), party(&operator, vec![Shown::Absent])]);
    }),
    pattern("finalizer", "one controller adds a finalizer that another removes each time", |s| {
        let target = s.object(kinds::DATABASE, &[is("metadata.finalizers[keep.example.com/f]", "keep.example.com/f")]);
        let (adds, removes) = (Actor::operator(&mut s.rng, 0), Actor::operator(&mut s.rng, 1));
        let path = "metadata.finalizers[x.example.com/f]";
        let how = s.pick(&[How::Put, How::Merge]);
        s.asserts(&adds, how, &target, vec![is(path, "x.example.com/f")], pace(5.0, 25.0, 13));
        s.keeps(&removes, How::Put, &target, vec![gone(path)], 2.0);
        s.war(&target, path, [party(&adds, vec![]), party(&removes, vec![Shown::Absent])]);
    }),
    pattern("owner_reference", "one controller adopts an object that another one orphans", |s| {
        let target = s.object(kinds::SECRET, &[]);
        let (adopts, orphans, uid) = (Actor::operator(&mut s.rng, 0), Actor::operator(&mut s.rng, 1), s.rng.uid());
        let path = format!("metadata.ownerReferences[uid={uid}]");
        let reference = json!({"apiVersion": "db.example.com/v1", "kind": "Database", "name": "d", "uid": uid});
        s.asserts(&adopts, How::Put, &target, vec![is(&path, reference)], pace(5.0, 25.0, 13));
        s.keeps(&orphans, How::Put, &target, vec![gone(&path)], 2.0);
        s.war(&target, &path, [party(&adopts, vec![]), party(&orphans, vec![Shown::Absent])]);
    }),
    pattern("taint_effect", "two node controllers set the value of one taint", |s| {
        let actors = [Actor::operator(&mut s.rng, 0), Actor::operator(&mut s.rng, 1)];
        let path = "spec.taints[key=example.com/pool,effect=NoSchedule].value";
        answered(s, kinds::NODE, path, [json!("gpu"), json!("cpu")], [&[How::Put, How::Merge], PUT], actors);
    }),
    pattern("data_key", "two controllers write one key of a ConfigMap", |s| {
        let actors = [Actor::operator(&mut s.rng, 0), Actor::operator(&mut s.rng, 1)];
        answered(s, kinds::CONFIG_MAP, "data.mode", [json!("fast"), json!("safe")], [ANY, ANY], actors);
    }),
    pattern(
        "secret_key",
        "two operators write one key of a Secret: editwar shows the field, but never its values",
        |s| {
            let actors = [Actor::operator(&mut s.rng, 0), Actor::person(&s.rng, 1)];
            let values = [encoded("mine-entirely"), encoded("yours-entirely")];
            let names = actors.clone();
            answered(s, kinds::SECRET, "data.password", values, [&[How::Put, How::Merge], PUT], actors);
            let hidden = names.map(|actor| party(&actor, vec![Shown::Hidden]));
            s.expect.last_mut().unwrap().parties = hidden.into();
        },
    ),
    pattern("service_selector", "a rollout tool and GitOps point one Service to different pods", |s| {
        let actors = [Actor::controller("rollouts", "argo-rollouts", &mut s.rng), Actor::argo(&mut s.rng)];
        let values = [json!("7f9c"), json!("stable")];
        answered(
            s,
            kinds::SERVICE,
            "spec.selector.track",
            values,
            [&[How::Merge, How::Strategic], &[How::Apply]],
            actors,
        );
    }),
    pattern("ca_bundle", "GitOps applies a placeholder for a CA bundle that an injector fills", |s| {
        let actors =
            [Actor::flux(&mut s.rng), Actor::controller("cert-manager", "cert-manager-cainjector", &mut s.rng)];
        let path = "webhooks[name=guard.example.com].clientConfig.caBundle";
        let values = [json!("Cg=="), json!("LS0tLS1CRUdJTg==")];
        answered(s, kinds::WEBHOOKS, path, values, [&[How::Apply], &[How::Put, How::Apply]], actors);
    }),
    pattern(
        "aggregated_rules",
        "the repository has empty rules for a ClusterRole that the aggregation controller fills",
        |s| {
            let target = s.object(kinds::CLUSTER_ROLE, &[]);
            let (flux, controller) = (Actor::flux(&mut s.rng), Actor::in_tree("clusterrole-aggregation-controller"));
            let rule = |verb: &str| json!([{"apiGroups": [""], "resources": ["pods"], "verbs": [verb]}]);
            s.asserts(&flux, How::Apply, &target, vec![is("rules", rule("list"))], pace(5.0, 25.0, 13));
            s.keeps(&controller, How::Apply, &target, vec![is("rules", rule("get"))], 0.5);
            s.war(&target, "rules", [gives(&flux, rule("list")), gives(&controller, rule("get"))]);
        },
    ),
    pattern("status_condition", "two controllers disagree on whether an object is ready", |s| {
        let target = s.object(kinds::DATABASE, &[]);
        let (first, second) = (Actor::operator(&mut s.rng, 0), Actor::operator(&mut s.rng, 1));
        let path = "status.conditions[type=Ready].status";
        let how = s.pick(&[How::StatusPut, How::StatusMerge]);
        s.asserts(&first, how, &target, vec![is(path, "True")], pace(5.0, 25.0, 13));
        s.keeps(&second, How::StatusPut, &target, vec![is(path, "False")], 3.0);
        s.war(&target, path, [gives(&first, "True"), gives(&second, "False")]);
    }),
    pattern("three_parties", "three actors each set a different value of one field", |s| {
        let target = s.object(kinds::GATEWAY, &[]);
        let actors = [Actor::operator(&mut s.rng, 0), Actor::person(&s.rng, 1), Actor::argo(&mut s.rng)];
        let values = ["a", "b", "c"];
        for (nth, actor) in actors.iter().enumerate() {
            let how = s.pick(&[How::Put, How::Merge, How::Json]);
            s.asserts(actor, how, &target, vec![is("spec.mode", values[nth])], pace(4.0 + 9.0 * nth as f64, 27.0, 9));
        }
        let parties: Vec<_> = actors.iter().zip(values).map(|(actor, value)| gives(actor, value)).collect();
        s.war(&target, "spec.mode", parties);
    }),
    pattern(
        "two_wars_on_one_object",
        "three actors fight over the image, and two of them and a fourth over replicas: parties belong to fields",
        |s| {
            let target = s.object(kinds::DEPLOYMENT, &[]);
            let (a, b) = (Actor::person(&s.rng, 0), Actor::person(&s.rng, 1));
            let (c, d) = (Actor::operator(&mut s.rng, 0), Actor::autoscaler());
            let image = |tag: &str| format!("registry.example/web:{tag}");
            for (nth, actor) in [&a, &b, &c].into_iter().enumerate() {
                let how = s.pick(&[How::Strategic, How::Json, How::Put]);
                let wanted = vec![is(IMAGE, image(["a", "b", "c"][nth]))];
                s.asserts(actor, how, &target, wanted, pace(4.0 + 11.0 * nth as f64, 33.0, 9));
            }
            s.asserts(&a, How::ScalePatch, &target, vec![is("spec.replicas", 2)], pace(8.0, 31.0, 11));
            s.asserts(&d, How::ScalePut, &target, vec![is("spec.replicas", 6)], pace(21.0, 31.0, 11));
            s.war(&target, IMAGE, [gives(&a, image("a")), gives(&b, image("b")), gives(&c, image("c"))]);
            s.war(&target, "spec.replicas", [gives(&a, 2), gives(&d, 6)]);
        },
    ),
    pattern("key_with_dots_and_slashes", "the key of a ConfigMap is a file name, so the path quotes it", |s| {
        let actors = [Actor::operator(&mut s.rng, 0), Actor::person(&s.rng, 1)];
        let path = "data['application.yaml']";
        answered(s, kinds::CONFIG_MAP, path, [json!("mode: fast"), json!("mode: safe")], [ANY, ANY], actors);
    }),
    pattern("mount_by_its_path", "two operators set one mount path of a container to read-only and to writable", |s| {
        let actors = [Actor::operator(&mut s.rng, 0), Actor::operator(&mut s.rng, 1)];
        let path = "spec.template.spec.containers[name=web].volumeMounts[mountPath=/data].subPath";
        let how: [&[How]; 2] = [&[How::Strategic, How::Put, How::Json], PUT];
        answered(s, kinds::STATEFUL_SET, path, [json!("a"), json!("b")], how, actors);
    }),
];
