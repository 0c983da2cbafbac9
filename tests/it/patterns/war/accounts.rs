//! An account that fights itself, impersonated accounts, and accounts that many controllers share.

use crate::patterns::actors::{Actor, KUBECTL};
use crate::patterns::kinds;
use crate::patterns::scenario::{Pattern, Scenario, gives, is, pace, pattern};
use crate::patterns::simulator::{How, Target};

const IMAGE: &str = "spec.template.spec.containers[name=web].image";

/// Two instances of one account write their values alternately. Further fields are written with them and are contested
/// too.
fn instances(
    s: &mut Scenario,
    target: &Target,
    path: &str,
    how: How,
    sides: [(Actor, &str); 2],
    mark: Option<[(&str, &str); 2]>,
) {
    let period = s.rng.between(12.0, 40.0);
    let war = |s: &mut Scenario, path: &str, values: [&str; 2]| {
        let parties = [gives(&sides[0].0, values[0]), gives(&sides[1].0, values[1])];
        s.war(target, path, parties);
    };
    war(s, path, [sides[0].1, sides[1].1]);
    if let Some([(mark, first), (_, second)]) = mark {
        war(s, mark, [first, second]);
    }
    for (nth, (actor, value)) in sides.iter().enumerate() {
        let mut fields = vec![is(path, *value)];
        fields.extend(mark.map(|mark| is(mark[nth].0, mark[nth].1)));
        s.asserts(actor, how, target, fields, pace(4.0 + nth as f64 * period / 2.0, period, 13));
    }
}

pub(crate) const PATTERNS: &[Pattern] = &[
    pattern("two_kustomizations", "two Kustomizations of one controller set different images of one Deployment", |s| {
        let target = s.object(kinds::DEPLOYMENT, &[]);
        let flux = Actor::flux(&mut s.rng);
        let label = "metadata.labels['kustomize.toolkit.fluxcd.io/name']";
        let sides =
            [(flux.clone().via("Kustomization shop-staging"), "web:1"), (flux.via("Kustomization shop-prod"), "web:2")];
        let space = is("metadata.labels['kustomize.toolkit.fluxcd.io/namespace']", "flux-system");
        s.server.write(&Actor::admin(), How::Merge, &target, &[space]);
        instances(s, &target, IMAGE, How::Apply, sides, Some([(label, "shop-staging"), (label, "shop-prod")]));
    }),
    pattern("two_applications", "two Argo CD Applications set different replicas of one object", |s| {
        let target = s.object(kinds::DEPLOYMENT, &[]);
        let argo = Actor::argo(&mut s.rng);
        let mark = "metadata.annotations['argocd.argoproj.io/tracking-id']";
        let id = |app: &str| format!("{app}:apps/Deployment:{}/{}", target.namespace, target.name);
        let (blue, green) = (id("shop-blue"), id("shop-green"));
        let sides =
            [(argo.clone().via("Application shop-blue"), "blue:1"), (argo.via("Application shop-green"), "green:1")];
        instances(s, &target, IMAGE, How::Apply, sides, Some([(mark, &blue), (mark, &green)]));
    }),
    pattern("two_releases", "two Helm releases of one CI account set the same label of one Service", |s| {
        let target = s.object(kinds::SERVICE, &[]);
        let helm = Actor::pipeline("deployer").agent("Helm/4.0.1").manager("helm");
        let mark = "metadata.annotations['meta.helm.sh/release-name']";
        let sides = [(helm.clone().via("Helm release web"), "web"), (helm.via("Helm release web-canary"), "canary")];
        let how = s.pick(&[How::Strategic, How::Apply]);
        instances(s, &target, "spec.selector.track", how, sides, Some([(mark, "web"), (mark, "web-canary")]));
    }),
    pattern(
        "version_skew",
        "an old and a new version of one controller run together and write different defaults",
        |s| {
            let target = s.object(kinds::GATEWAY, &[]);
            let base = Actor::controller("mesh", "mesh-operator", &mut s.rng);
            let side = |pod: &str, version: &str| {
                let agent = format!("mesh-operator/{version} (linux/amd64) kubernetes/$Format");
                base.clone().pod(pod).agent(&agent).via(&format!("pod {pod}"))
            };
            let sides = [
                (side("mesh-operator-6b7f-old01", "v1.4.0"), "5s"),
                (side("mesh-operator-7c8d-new01", "v1.5.0"), "10s"),
            ];
            let how = s.pick(&[How::Put, How::Merge]);
            instances(s, &target, "spec.timeout", how, sides, None);
            s.cause = Some("version_skew");
        },
    ),
    pattern(
        "two_leaders",
        "two replicas with different settings both act as the leader: one account, one version, two pods",
        |s| {
            let target = s.object(kinds::DATABASE, &[]);
            let base = Actor::controller("db", "db-operator", &mut s.rng);
            let side = |pod: &str| base.clone().pod(pod).via(&format!("pod {pod}"));
            let sides = [(side("db-operator-0"), "primary"), (side("db-operator-1"), "replica")];
            instances(s, &target, "status.role", How::StatusPut, sides, None);
        },
    ),
    pattern("two_tools_by_manager", "kubectl and Helm use one shared account", |s| {
        let target = s.object(kinds::CONFIG_MAP, &[]);
        let kubectl = Actor::new("cluster-admin", KUBECTL).manager("kubectl-edit").via("kubectl-edit");
        let helm = Actor::new("cluster-admin", "Helm/4.0.1").manager("helm").via("helm");
        instances(s, &target, "data.mode", How::Strategic, [(kubectl, "hand"), (helm, "chart")], None);
    }),
    pattern("two_tools_by_agent", "two programs without field managers share one token", |s| {
        let target = s.object(kinds::GATEWAY, &[]);
        let tool = |name: &str| Actor::new("system:serviceaccount:infra:shared", &format!("{name}/1.0.0")).via(name);
        let sides = [(tool("dns-sync"), "internal"), (tool("edge-sync"), "public")];
        instances(s, &target, "spec.scope", How::Put, sides, None);
    }),
    pattern(
        "shared_controller_account",
        "two controllers of kube-controller-manager share one account but are two actors; one fights an operator",
        |s| {
            let target = s.object(kinds::STATEFUL_SET, &[]);
            let autoscaler = Actor::shared_in_tree("horizontal-pod-autoscaler");
            let (reporter, operator) =
                (Actor::shared_in_tree("statefulset-controller"), Actor::operator(&mut s.rng, 0));
            s.asserts(&autoscaler, How::ScalePut, &target, vec![is("spec.replicas", 6)], pace(5.0, 24.0, 14));
            s.keeps(&operator, How::Put, &target, vec![is("spec.replicas", 2)], 2.0);
            let (on, by) = (target.clone(), reporter);
            s.every(pace(8.0, 24.0, 14), move |server, turn| {
                server.write(&by, How::StatusPut, &on, &[is("status.replicas", 2 + turn % 4)]);
            });
            s.war(&target, "spec.replicas", [gives(&autoscaler, 6), gives(&operator, 2)]);
        },
    ),
    pattern("impersonated", "one administrator impersonates two people, who fight as the effective users", |s| {
        let target = s.object(kinds::CONFIG_MAP, &[]);
        let people = [0, 1].map(|nth| Actor::person(&s.rng, nth).impersonated_by("portal"));
        s.asserts(&people[0], How::Merge, &target, vec![is("data.mode", "fast")], pace(5.0, 24.0, 13));
        s.asserts(&people[1], How::Merge, &target, vec![is("data.mode", "safe")], pace(17.0, 24.0, 13));
        s.war(&target, "data.mode", [gives(&people[0], "fast"), gives(&people[1], "safe")]);
    }),
    pattern(
        "a_person_against_three",
        "a person resets three fields that three reconcilers restore: three wars with one common party",
        |s| {
            let target = s.object(kinds::DATABASE, &[]);
            let person = Actor::person(&s.rng, 0);
            let paths = ["spec.first", "spec.second", "spec.third"];
            let fields = paths.iter().map(|path| is(path, "mine")).collect();
            s.asserts(&person, How::Merge, &target, fields, pace(9.0, 26.0, 13));
            for (nth, path) in paths.into_iter().enumerate() {
                let keeper = Actor::operator(&mut s.rng, nth);
                let value = format!("of-{nth}");
                let how = s.pick(&[How::Put, How::Merge, How::Apply]);
                s.server.write(&keeper, how, &target, &[is(path, value.as_str())]);
                s.keeps(&keeper, how, &target, vec![is(path, value.as_str())], 2.0 + 2.0 * nth as f64);
                s.war(&target, path, [gives(&person, "mine"), gives(&keeper, value)]);
            }
        },
    ),
    pattern(
        "two_gitops_tools",
        "Flux and Argo CD both apply the object, from different revisions of the repository",
        |s| {
            let target = s.object(kinds::DEPLOYMENT, &[]);
            let (flux, argo) = (Actor::flux(&mut s.rng), Actor::argo(&mut s.rng));
            s.asserts(&flux, How::Apply, &target, vec![is(IMAGE, "web:main")], pace(5.0, 30.0, 14));
            s.asserts(&argo, How::Apply, &target, vec![is(IMAGE, "web:release")], pace(19.0, 30.0, 14));
            s.war(&target, IMAGE, [gives(&flux, "web:main"), gives(&argo, "web:release")]);
        },
    ),
];
