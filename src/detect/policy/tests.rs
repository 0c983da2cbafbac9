use super::*;

fn object<'a>(group: &'a str, resource: &'a str, namespace: &'a str, name: &'a str) -> ObjectName<'a> {
    ObjectName { group, resource, namespace, name }
}

const WEB: ObjectName<'static> = ObjectName { group: "apps", resource: "deployments", namespace: "shop", name: "web" };

/// Returns limits with a quiet period that distinguishes them from the default ones.
fn quiet(seconds: i64) -> Limits {
    Limits { quiet_period: seconds * SECOND, ..Limits::default() }
}

fn any() -> Override {
    Override { resource: None, namespace: None, name: None, limits: quiet(1), is_ignored: false }
}

#[test]
fn the_default_window_is_that_of_the_longest_bucket() {
    assert_eq!(Limits::default().window(), 6 * 3600 * SECOND);
    let own = Limits { contest_window: Some(60 * SECOND), ..Limits::default() };
    assert_eq!(own.window(), 60 * SECOND);
    let none = Limits { buckets: SmallVec::new(), ..Limits::default() };
    assert_eq!(none.window(), 600 * SECOND, "ten minutes without buckets");
}

#[test]
fn a_resource_is_that_of_its_group_and_may_be_built_in() {
    let limits = Limits::default();
    let of = |group, resource| ObjectLimits::new(&limits, &object(group, resource, "shop", "web"));
    assert!(of("apps", "deployments").is("apps", "deployments"));
    assert!(!of("apps", "deployments").is("", "deployments") && !of("apps", "deployments").is("apps", "replicasets"));
    assert!(of("apps", "deployments").is_built_in() && !of("argoproj.io", "applications").is_built_in());
}

#[test]
fn the_first_override_that_matches_gives_the_limits() {
    let in_shop = Override { namespace: Some("shop".into()), limits: quiet(2), ..any() };
    let ignored = Override { name: Some("noise".into()), is_ignored: true, ..any() };
    let policy = Policy { overrides: vec![ignored, in_shop, any()], ..Policy::default() };
    assert_eq!(policy.limits(&object("", "pods", "shop", "noise")), None, "ignored");
    assert_eq!(policy.limits(&WEB).map(|l| l.quiet_period), Some(2 * SECOND));
    assert_eq!(policy.limits(&object("", "pods", "other", "web")).map(|l| l.quiet_period), Some(SECOND));
    assert_eq!(Policy::default().limits(&WEB), Some(&Limits::default()));
}

#[test]
fn an_override_matches_by_all_that_it_names() {
    let by = |resource: &str| Override { resource: Some(resource.into()), ..any() };
    for (resource, is) in [
        ("deployments.apps", true),
        ("*.apps", true),
        ("deployments.*", true),
        ("*.*", true),
        ("deployments", false),
        ("replicasets.apps", false),
        ("deployments.batch", false),
        ("*.batch", false),
        ("replicasets.*", false),
        ("*", false),
    ] {
        assert_eq!(by(resource).matches(&WEB), is, "{resource}");
    }
    assert!(by("pods").matches(&object("", "pods", "a", "b")) && by("*").matches(&object("", "pods", "a", "b")));
    let exact = Override { namespace: Some("shop".into()), name: Some("web".into()), ..by("deployments.apps") };
    assert!(exact.matches(&WEB) && any().matches(&WEB));
    assert!(!exact.matches(&ObjectName { namespace: "other", ..WEB }));
    assert!(!exact.matches(&ObjectName { name: "other", ..WEB }));
    assert!(!exact.matches(&ObjectName { resource: "replicasets", ..WEB }));
}

#[test]
fn the_history_is_kept_of_the_object_in_any_notation() {
    let follow = |kind: &str, name: &str, namespace: Option<&str>| {
        let target = Target { kind: kind.into(), name: name.into(), namespace: namespace.map(Into::into) };
        Policy { history_of: Some(HistoryScope::Object(target)), ..Policy::default() }
    };
    assert!(!Policy::default().keeps_history(&WEB));
    assert!(Policy { history_of: Some(HistoryScope::All), ..Policy::default() }.keeps_history(&WEB));
    assert!(follow("deploy", "web", Some("shop")).keeps_history(&WEB));
    assert!(follow("Deployment", "web", None).keeps_history(&WEB), "any namespace");
    assert!(!follow("deploy", "web", Some("other")).keeps_history(&WEB));
    assert!(!follow("deploy", "api", Some("shop")).keeps_history(&WEB));
    assert!(!follow("pod", "web", Some("shop")).keeps_history(&WEB));
    let widget = object("example.com", "widgets", "shop", "web");
    assert!(follow("anything", "web", None).keeps_history(&widget), "kinds of custom resources are not known here");
}

#[test]
fn undecided_wars_are_counted_by_the_account_of_a_party() {
    let parties = |names: [&str; 2]| names.map(Arc::from);
    let ours = CountedUndecided::Of(["system:serviceaccount:*:virt-platform-autopilot".to_owned()].into());
    let autopilot = "system:serviceaccount:openshift-cnv:virt-platform-autopilot";
    assert!(ours.includes(&parties(["alice", autopilot])));
    assert!(ours.includes(&parties(["alice", &format!("{autopilot} via kubectl")])));
    assert!(!ours.includes(&parties(["alice", "bob"])));
    assert!(CountedUndecided::Always.includes(&parties(["alice", "bob"])));
    assert!(!CountedUndecided::Never.includes(&parties(["alice", autopilot])));
}
