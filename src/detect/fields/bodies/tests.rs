//! The evidence in the bodies of each kind of request.

use super::*;
use crate::detect::tests::{Server, attributed};
use crate::detect::write::ObjectName;

const WIDGET: Bodies<'static> = Bodies {
    group: "example.com",
    resource: "widgets",
    verb: Verb::Patch,
    effect: Effect::Modify,
    shape: Shape::Object,
    form: RequestForm::Body,
    is_hidden: false,
    request: None,
    response: None,
};
const CONFIG: Bodies<'static> = Bodies { group: "", resource: "configmaps", ..WIDGET };

fn bodies<'a>(like: Bodies<'a>, request: &'a str) -> Bodies<'a> {
    Bodies { request: Some(request.as_bytes()), ..like }
}

/// Describes the evidence in one line: its kind, the requested fields and values, and the replaced lists.
fn told(bodies: Bodies<'_>) -> String {
    let text = |intent: &Intent| match intent {
        Intent::Set(value) => value.text().unwrap_or("(hidden)").to_owned(),
        Intent::Remove => "-".to_owned(),
        Intent::Modify => "?".to_owned(),
    };
    let show = |intents: &[FieldIntent]| {
        intents.iter().map(|n| format!("{}={}", n.path, text(&n.intent))).collect::<Vec<_>>().join(" ")
    };
    match bodies.evidence(None) {
        Evidence::None => "none".into(),
        Evidence::Intents { intents, level, is_apply, lists, unresolved, .. } => {
            let marks = [(is_apply, " apply"), (unresolved.is_some(), " unresolved")];
            let marks: String = marks.iter().filter(|(is, _)| *is).map(|(_, mark)| *mark).collect();
            format!("named {level:?}{marks}: {} lists {lists:?}", show(&intents))
        }
        Evidence::Whole { fields, level, requested } => {
            let paths: Vec<&str> = fields.leaves.keys().map(AsRef::as_ref).collect();
            format!("whole {level:?}: {} requested {}", paths.join(" "), show(requested.intents()))
        }
    }
}

#[test]
fn a_patch_names_its_fields_and_a_whole_body_names_all() {
    let patch = r#"{"data":{"a":"1","b":null}}"#;
    assert_eq!(told(bodies(CONFIG, patch)), r#"named Field: data.a="1" data.b=- lists []"#);
    assert_eq!(
        told(bodies(Bodies { verb: Verb::Update, ..CONFIG }, r#"{"data":{"a":"1"}}"#)),
        "whole Field: data.a requested "
    );
    let stored: &[u8] = br#"{"data":{"a":"1","c":"3"}}"#;
    let both = Bodies { shape: Shape::Whole, response: Some(stored), ..bodies(CONFIG, patch) };
    assert_eq!(told(both), r#"whole Value: data.a data.c requested data.a="1" data.b=-"#);
    assert_eq!(told(Bodies { verb: Verb::Update, ..both }), "whole Value: data.a data.c requested ");
    let no_object = Bodies { shape: Shape::Object, ..both };
    assert_eq!(told(no_object), r#"named Field: data.a="1" data.b=- lists []"#, "the response is not the object");
    assert_eq!(told(CONFIG), "none");
    let options =
        Bodies { verb: Verb::Delete, effect: Effect::Delete, ..bodies(CONFIG, r#"{"kind":"DeleteOptions"}"#) };
    assert_eq!(told(options), "none", "the options of a deletion are not an object");
}

#[test]
fn applies_and_strategic_patches_state_removals_and_merge_patches_replace_lists() {
    let list = r#"{"spec":{"env":[{"name":"a"}]}}"#;
    assert_eq!(told(bodies(WIDGET, list)), r#"named Field: spec.env[name=a].name="a" lists ["spec.env"]"#);
    let apply = r#"{"apiVersion":"v1","kind":"Widget","spec":{"env":[{"name":"a"}]}}"#;
    assert_eq!(told(bodies(WIDGET, apply)), r#"named Field apply: spec.env[name=a].name="a" lists []"#);
    assert_eq!(
        told(Bodies { form: RequestForm::Apply, ..bodies(WIDGET, list) }),
        r#"named Field apply: spec.env[name=a].name="a" lists []"#
    );
    let only_kind = r#"{"kind":"Widget","spec":{"env":[{"name":"a"}]}}"#;
    assert_eq!(told(bodies(WIDGET, only_kind)), r#"named Field: spec.env[name=a].name="a" lists ["spec.env"]"#);
    for directive in [
        r#"{"spec":{"$setElementOrder/env":[{"name":"a"}],"env":[{"name":"a"}]}}"#,
        r#"{"spec":{"env":[{"name":"a","x":{"$retainKeys":["y"]}}]}}"#,
    ] {
        assert_eq!(told(bodies(WIDGET, directive)), r#"named Field: spec.env[name=a].name="a" lists []"#);
    }
}

#[test]
fn a_json_patch_is_kept_until_the_object_is_known() {
    let patch = r#"[{"op":"replace","path":"/data/a","value":"1"}]"#;
    assert_eq!(told(bodies(CONFIG, patch)), r#"named Field unresolved: data.a="1" lists []"#);
    let secret = Bodies { resource: "secrets", ..bodies(CONFIG, patch) };
    assert_eq!(told(secret), "named Field: data.a=(hidden) lists []", "a Secret's values are not kept");
    assert_eq!(told(Bodies { is_hidden: true, ..bodies(CONFIG, patch) }), "named Field: data.a=(hidden) lists []");
}

#[test]
fn core_secrets_and_redacted_objects_are_secret() {
    assert!(Bodies { resource: "secrets", ..CONFIG }.is_secret());
    assert!(!CONFIG.is_secret() && !Bodies { resource: "secrets", ..WIDGET }.is_secret());
    assert!(Bodies { is_hidden: true, ..CONFIG }.is_secret());
}

#[test]
fn a_scale_represents_the_replicas_field_or_that_of_a_custom_resource() {
    let scale = r#"{"kind":"Scale","spec":{"replicas":3}}"#;
    let of = |like: Bodies<'static>| Bodies { shape: Shape::Scale, verb: Verb::Update, ..bodies(like, scale) };
    let deployment = Bodies { group: "apps", resource: "deployments", ..WIDGET };
    assert_eq!(told(of(deployment)), "named Field: spec.replicas=3 lists []");
    assert_eq!(told(of(WIDGET)), "named Field unresolved:  lists []");
    let stored: &[u8] = br#"{"kind":"Scale","spec":{"replicas":4}}"#;
    let answered = Bodies { response: Some(stored), ..of(deployment) };
    assert_eq!(told(answered), "named Value: spec.replicas=4 lists []", "the stored value");
    let binding = r#"{"target":{"kind":"Node","name":"n1"}}"#;
    let pod = Bodies { resource: "pods", shape: Shape::Binding, verb: Verb::Create, ..bodies(CONFIG, binding) };
    assert_eq!(told(pod), r#"named Field: spec.nodeName="n1" lists []"#);
}

#[test]
fn the_scale_field_of_a_custom_resource_is_the_usual_or_only_number() {
    let of = |spec: &str| {
        let json = format!(r#"{{"spec":{spec}}}"#);
        let known = read(Some(json.as_bytes()), |json| Fields::of_object(json, WIDGET.options())).unwrap();
        scale_path(Some(&known)).to_string()
    };
    assert_eq!(&*scale_path(None), "spec.replicas");
    assert_eq!(of(r#"{"replicas":1,"size":2}"#), "spec.replicas");
    assert_eq!(of(r#"{"other":7,"size":2}"#), "spec.size");
    assert_eq!(of(r#"{"other":7,"pool":{"nodeCount":2}}"#), "spec.pool.nodeCount");
    assert_eq!(of(r#"{"workers":2}"#), "spec.workers", "the only number");
    assert_eq!(of(r#"{"a":2,"b":3}"#), "spec.replicas", "two numbers are ambiguous");
    assert_eq!(of(r#"{"a":"text"}"#), "spec.replicas");
}

fn change(path: &str, new: Option<&str>) -> Change {
    Change::new(&path.into(), Some(&FieldValue::of_json("0")), new.map(FieldValue::of_json).as_ref())
}

#[test]
fn only_requested_changes_belong_to_the_requester() {
    let intent_for = |path: &str| FieldIntent { path: path.into(), intent: Intent::Modify };
    let requested = PatchIntent {
        intents: vec![intent_for("spec.a"), intent_for("spec.b.c")],
        lists: vec!["spec.list".into()],
        ..PatchIntent::default()
    };
    let of = |requested: &PatchIntent, changes: &[Change]| {
        requested.requested_of(changes.to_vec()).iter().map(|c| c.path.to_string()).collect::<Vec<_>>()
    };
    let changes = ["spec.a.deep", "spec.b", "spec.list[x]", "spec.other"].map(|path| change(path, Some("1")));
    assert_eq!(of(&requested, &changes), ["spec.a.deep", "spec.b", "spec.list[x]"]);
    assert_eq!(of(&requested, &changes[3..]), ["spec.other"], "if none of them was requested, all are returned");
    assert_eq!(of(&PatchIntent::default(), &changes).len(), 4, "a full body requests all fields");
    let gone = [change("spec.a", Some("1")), change("spec.gone", None)];
    assert_eq!(of(&requested, &gone), ["spec.a"]);
    let apply = PatchIntent { removes_unnamed: true, ..requested.clone() };
    assert_eq!(of(&apply, &gone), ["spec.a", "spec.gone"], "an apply removes what it no longer names");
    assert_eq!(of(&apply, &changes), ["spec.a.deep", "spec.b", "spec.list[x]"]);
}

#[test]
fn without_a_state_before_the_named_fields_are_assumed_changed() {
    let intent_for = |path: &str| FieldIntent { path: path.into(), intent: Intent::Modify };
    let requested =
        PatchIntent { intents: vec![intent_for("spec.a"), intent_for("status.b")], ..PatchIntent::default() };
    let json: &[u8] = br#"{"spec":{"a":1},"status":{"b":2}}"#;
    let stored = read(Some(json), |json| Fields::of_object(json, WIDGET.options())).unwrap();
    let of = |requested: &PatchIntent, part| {
        let changes = requested.assume_changed(&stored, part);
        changes.iter().map(|c| format!("{}={}", c.path, c.new.as_ref().unwrap().text().unwrap())).collect::<Vec<_>>()
    };
    assert_eq!(of(&requested, Part::Main), ["spec.a=1"]);
    assert_eq!(of(&requested, Part::Status), ["status.b=2"]);
    let apply = PatchIntent { is_apply: true, ..requested };
    assert_eq!(of(&apply, Part::Main), [""; 0], "an apply also repeats unchanged fields");
}

#[test]
fn all_intents_of_requests_and_webhook_patches_are_read() {
    let whole = bodies(Bodies { verb: Verb::Update, ..CONFIG }, r#"{"data":{"a":"1","b":"2"}}"#);
    let paths = |intents: Vec<FieldIntent>| intents.into_iter().map(|n| n.path.to_string()).collect::<Vec<_>>();
    assert_eq!(paths(whole.whole_request_intents()), ["data.a", "data.b"]);
    let patch: &[u8] = br#"[{"op":"add","path":"/data/c","value":"3"}]"#;
    assert_eq!(paths(whole.webhook_intents(patch, None)), ["data.c"]);
}

#[test]
fn the_bytes_of_evidence_are_those_of_its_intents() {
    let of_named = |intents: &[FieldIntent]| intents.iter().map(FieldIntent::bytes).sum::<usize>();
    let patch = r#"[{"op":"replace","path":"/data/a","value":"1"}]"#;
    let evidence = bodies(CONFIG, patch).evidence(None);
    let Evidence::Intents { intents, unresolved: Some(Unresolved::JsonPatch(_)), .. } = &evidence else {
        panic!("not a patch")
    };
    assert_eq!(evidence.bytes(), of_named(intents) + patch.len(), "the patch is kept");
    let stored: &[u8] = br#"{"data":{"a":"1","c":"3"}}"#;
    let both = Bodies { shape: Shape::Whole, response: Some(stored), ..bodies(CONFIG, r#"{"data":{"a":"1"}}"#) };
    let evidence = both.evidence(None);
    let Evidence::Whole { fields, requested, .. } = &evidence else { panic!("not a full body") };
    assert_eq!(evidence.bytes(), fields.bytes() + of_named(requested.intents()));
    assert!(of_named(requested.intents()) > 0);
}

#[test]
fn unresolved_fields_are_named_once_the_object_is_known() {
    let limits = Limits::default();
    let name = ObjectName { group: "example.com", resource: "widgets", namespace: "shop", name: "web" };
    let on = ObjectLimits::new(&limits, &name);
    let of = |unresolved: &Unresolved, before: Option<&Fields>| {
        unresolved.intents(before, &on).iter().map(|n| n.path.to_string()).collect::<Vec<_>>()
    };
    let json: &[u8] = br#"{"spec":{"size":2,"other":1,"parts":[{"name":"a"},{"name":"b"}]}}"#;
    let before = read(Some(json), |json| Fields::of_object(json, WIDGET.options())).unwrap();
    let scale = Unresolved::Scale(FieldValue::of_json("3"));
    assert_eq!(
        scale.intents(None, &on),
        [FieldIntent { path: "spec.replicas".into(), intent: Intent::Set(FieldValue::of_json("3")) }]
    );
    assert_eq!(of(&scale, Some(&before)), ["spec.size"]);
    let patch: &[u8] = br#"[{"op":"replace","path":"/spec/parts/1/x","value":"1"}]"#;
    let patch = Unresolved::JsonPatch(patch.into());
    assert_eq!(of(&patch, Some(&before)), ["spec.parts[name=b].x"]);
    assert_eq!(of(&patch, None), ["spec.parts[1].x"]);
}

#[test]
fn the_subresource_determines_the_shape_of_the_bodies() {
    let shape = |level: &'static str, subresource: &str| {
        let mut server = Server::new(level);
        server.create(0, "carol", serde_json::json!({}));
        let mut event = server.patch(10, "alice", serde_json::json!({"spec": {"replicas": 1}}));
        event["objectRef"]["subresource"] = subresource.into();
        attributed(&event, |write, _| Bodies::of(write, &Limits::default()).shape)
    };
    assert_eq!(shape("Request", "scale"), Shape::Scale);
    assert_eq!(shape("Request", "binding"), Shape::Binding);
    assert_eq!(shape("Request", ""), Shape::Object);
    assert_eq!(shape("RequestResponse", ""), Shape::Whole);
    assert_eq!(shape("RequestResponse", "status"), Shape::Whole, "the response is the whole object");
}

#[test]
fn directives_are_found_up_to_the_walked_depth() {
    let is_found = |text: String| read(Some(text.as_bytes()), |json| has_directive(json, 0)).unwrap();
    let in_maps = |depth: usize| format!(r#"{}{{"$patch":"x"}}{}"#, r#"{"a":"#.repeat(depth), "}".repeat(depth));
    assert!(is_found(in_maps(DEPTH_MAX - 1)));
    assert!(!is_found(in_maps(DEPTH_MAX)));
    let in_lists =
        |depth: usize| format!(r#"{{"a":{}{{"$patch":"x"}}{}}}"#, "[".repeat(depth - 1), "]".repeat(depth - 1));
    assert!(is_found(in_lists(DEPTH_MAX - 1)));
    assert!(!is_found(in_lists(DEPTH_MAX)));
}

#[test]
fn a_json_patch_is_read_up_to_the_first_path_that_is_too_long() {
    let named_of = |len: usize| {
        let operation = |key: &str| format!(r#"{{"op":"replace","path":"/{key}","value":1}}"#);
        let text = format!("[{},{}]", operation(&"a".repeat(len)), operation("b"));
        read(Some(text.as_bytes()), |json| intents(json, WIDGET.options(), None)).unwrap().len()
    };
    assert_eq!((named_of(PATH_BYTES_MAX), named_of(PATH_BYTES_MAX + 1)), (2, 0));
}
