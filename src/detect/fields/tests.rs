//! Paths, keyed lists, and the fields that patches of every kind name.

use super::bodies::intents;
use super::parse::read;
use super::path::{is_item_of, item_of, selector_end};
use super::walk::{DEPTH_MAX, FIELDS_MAX, PATH_BYTES_MAX, WalkOptions};
use super::*;
use crate::detect::meter::{TEXT_BYTES, map_bytes};
use crate::detect::write::Part;

const OPEN: WalkOptions<'static> = WalkOptions { resource: "", is_hidden: false, is_built_in: true };

fn fields(json: &str) -> Fields {
    read(Some(json.as_bytes()), |json| Fields::of_object(json, OPEN)).unwrap()
}

fn paths(fields: &Fields) -> Vec<&str> {
    fields.leaves.keys().map(AsRef::as_ref).collect()
}

fn patch(json: &str, resource: &str, known: Option<&Fields>) -> Vec<String> {
    let intents = read(Some(json.as_bytes()), |json| {
        intents(json, WalkOptions { resource, is_hidden: false, is_built_in: true }, known)
    })
    .unwrap();
    let show = |intent: &Intent| match intent {
        Intent::Set(value) => value.text().unwrap_or("(hidden)").to_owned(),
        Intent::Remove => "removed".to_owned(),
        Intent::Modify => "touched".to_owned(),
    };
    intents.iter().map(|n| format!("{} {}", n.path, show(&n.intent))).collect()
}

#[test]
fn items_are_keyed_as_kubernetes_keys_them() {
    let object = fields(
        r#"{"spec":{"containers":[{"name":"web","image":"a","ports":[{"containerPort":80}],"env":[{"name":"A","value":"1"}],
            "volumeMounts":[{"mountPath":"/x y","name":"v"}],"args":["a","b"]}],"tolerations":[{"key":"k"}]},
            "status":{"conditions":[{"type":"Ready","status":"True","lastTransitionTime":"t"}]}}"#,
    );
    assert_eq!(
        paths(&object),
        [
            "spec.containers[name=web].args",
            "spec.containers[name=web].env[name=A].name",
            "spec.containers[name=web].env[name=A].value",
            "spec.containers[name=web].image",
            "spec.containers[name=web].name",
            "spec.containers[name=web].ports[containerPort=80,protocol=TCP].containerPort",
            "spec.containers[name=web].volumeMounts[mountPath='/x y'].mountPath",
            "spec.containers[name=web].volumeMounts[mountPath='/x y'].name",
            "spec.tolerations",
            "status.conditions[type=Ready].status",
            "status.conditions[type=Ready].type",
        ]
    );
}

#[test]
fn lists_without_keys_or_with_repeated_ones_are_one_value() {
    let object =
        fields(r#"{"spec":{"rules":[{"name":"a"}],"env":[{"name":"a"},{"name":"a"}],"mixed":[{"name":"a"},1]}}"#);
    assert_eq!(paths(&object), ["spec.env", "spec.mixed", "spec.rules"]);
}

#[test]
fn the_servers_fields_and_bookkeeping_are_left_out() {
    let object = fields(
        r#"{"apiVersion":"v1","kind":"X","metadata":{"name":"n","namespace":"s","uid":"u","resourceVersion":"1","generation":2,
            "creationTimestamp":"t","managedFields":[{}],"annotations":{"kubectl.kubernetes.io/last-applied-configuration":"{}",
            "deployment.kubernetes.io/revision":"3","example.com/it's":"kept"},"labels":{},"finalizers":["f"]}}"#,
    );
    assert_eq!(paths(&object), [r"metadata.annotations['example.com/it\'s']", "metadata.finalizers[f]"]);
}

#[test]
fn differences_have_both_values() {
    let before = fields(r#"{"spec":{"a":1,"b":{"c":"x"},"gone":true}}"#);
    let after = fields(r#"{"spec":{"a":2,"b":{"c":"x"},"new":[1]}}"#);
    let mut shown: Vec<String> = before
        .diff(&after)
        .iter()
        .map(|c| {
            let text =
                |v: &Option<FieldValue>| v.as_ref().and_then(|v| v.text().map(str::to_owned)).unwrap_or_default();
            format!("{} {}>{}", c.path, text(&c.old), text(&c.new))
        })
        .collect();
    shown.sort();
    assert_eq!(shown, ["spec.a 1>2", "spec.gone true>", "spec.new >[1]"]);
    assert!(before.diff(&before).is_empty());
}

#[test]
fn merge_and_strategic_patches_name_their_leaves() {
    assert_eq!(
        patch(r#"{"metadata":{"labels":{"a":"b","c":null}},"spec":{"list":[],"deep":{}}}"#, "", None),
        ["metadata.labels.a \"b\"", "metadata.labels.c removed", "spec.list removed"]
    );
    assert_eq!(
        patch(
            r#"{"spec":{"$setElementOrder/containers":[{"name":"c"}],"containers":[{"name":"c","image":"i"},{"name":"d","$patch":"delete"}],
                "$deleteFromPrimitiveList/finalizers":["x"]}}"#,
            "",
            None
        ),
        [
            "spec.finalizers[x] removed",
            "spec.containers[name=c].image \"i\"",
            "spec.containers[name=c].name \"c\"",
            "spec.containers[name=d] removed",
        ]
    );
}

#[test]
fn json_patch_indices_become_keys_if_the_object_is_known() {
    let known = fields(r#"{"spec":{"containers":[{"name":"a","args":["x"]},{"name":"b"}],"map":{"1":"x"}}}"#);
    let operations = r#"[
        {"op":"test","path":"/spec/containers/1/name","value":"b"},
        {"op":"replace","path":"/spec/containers/1/image","value":"i"},
        {"op":"add","path":"/spec/containers/0/args/-","value":"y"},
        {"op":"remove","path":"/spec/map/1"},
        {"op":"add","path":"/metadata/labels/a~1b","value":"v"},
        {"op":"move","from":"/spec/x","path":"/spec/y"}]"#;
    assert_eq!(
        patch(operations, "", Some(&known)),
        [
            "spec.containers[name=b].image \"i\"",
            "spec.containers[name=a].args touched",
            "spec.map['1'] removed",
            "metadata.labels['a/b'] \"v\"",
            "spec.x removed",
            "spec.y touched",
        ]
        .map(|s| s.replace("['1']", ".1"))
    );
    assert_eq!(
        patch(r#"[{"op":"replace","path":"/spec/containers/1/image","value":"i"}]"#, "", None),
        ["spec.containers[1].image \"i\""]
    );
}

#[test]
fn values_of_secrets_are_never_kept() {
    let plain = patch(r#"{"stringData":{"p":"aaa"}}"#, "secrets", None);
    assert_eq!(plain, ["data.p (hidden)"]);
    assert_eq!(patch(r#"[{"op":"add","path":"/data/p","value":"YWFh"}]"#, "secrets", None), plain);
    let value = |json: &str| {
        read(Some(json.as_bytes()), |json| {
            intents(json, WalkOptions { resource: "secrets", is_hidden: false, is_built_in: true }, None)
        })
        .unwrap()
        .remove(0)
        .intent
    };
    assert_eq!(value(r#"{"stringData":{"p":"aaa"}}"#), value(r#"{"data":{"p":"YWFh"}}"#));
    assert_ne!(value(r#"{"stringData":{"p":"aaa"}}"#), value(r#"{"data":{"p":"YmJi"}}"#));
}

#[test]
fn the_bytes_of_a_state_follow_its_changes() {
    let node = map_bytes::<Path, FieldValue>(1);
    let own = fields(r#"{"a":"x","b":"yyyy","c":{"d":1}}"#);
    assert!(own.bytes() > node && own.bytes() < node + 500, "{}", own.bytes());
    let mut derived = own.derived();
    let few = derived.bytes();
    assert!(few < own.bytes(), "the contents are shared");
    for n in 0..40 {
        derived.set(&format!("e{n}").into(), Some(&FieldValue::of_json("1")));
        derived.set(&format!("e{n}").into(), Some(&FieldValue::of_json("2")));
    }
    assert!(derived.bytes() >= few + 5 * node, "{}", derived.bytes());
    (0..40).for_each(|n| derived.set(&format!("e{n}").into(), None));
    assert_eq!(derived.bytes(), few);
}

#[test]
fn unbounded_bodies_are_bounded() {
    let deep = format!("{}1{}", r#"{"a":"#.repeat(300), "}".repeat(300));
    assert!(paths(&fields(&deep))[0].len() < 2 * DEPTH_MAX + 4);
    assert!(read(Some("[".repeat(100_000).as_bytes()), |_| ()).is_none());
    let wide: Vec<String> = (0..140_000).map(|i| format!("\"k{i}\":{i}")).collect();
    let wide = fields(&format!("{{{}}}", wide.join(",")));
    assert_eq!((wide.len(), wide.is_complete()), (FIELDS_MAX, false), "omitted fields are not removals");
    let long = FieldValue::of_json(&format!("\"{}\"", "ä".repeat(1_000)));
    assert!(long.text().unwrap().len() <= VALUE_BYTES_MAX);
}

#[test]
fn growth_is_a_monotonic_update() {
    let value = |json: &str| fields(&format!(r#"{{"v":{json}}}"#)).get("v").unwrap().clone();
    for (old, new, is) in [
        ("1", "2", true),
        ("2", "1", false),
        (r#""2026-11-23T02:00:00Z""#, r#""2026-11-23T02:00:01Z""#, true),
        (r#""a""#, r#""b""#, false),
        ("[1]", "[2,1]", true),
        ("[1,2]", "[1,3]", false),
    ] {
        assert_eq!(value(new).is_monotonic_update(&value(old)), is, "{old} {new}");
    }
}

#[test]
fn redacted_values_are_compared_but_not_kept() {
    let options = WalkOptions { resource: "", is_hidden: true, is_built_in: true };
    let of = |json: &str| read(Some(json.as_bytes()), |json| Fields::of_object(json, options)).unwrap();
    let (a, b) = (of(r#"{"spec":{"x":"secret","l":["s"]}}"#), of(r#"{"spec":{"x":"other","l":["s"]}}"#));
    let changes = a.diff(&b);
    assert_eq!((changes.len(), changes[0].new.as_ref().unwrap().text()), (1, None));
}

/// Quoted keys and brackets are parts of selectors.
#[test]
fn list_items_are_identified_by_their_selectors() {
    assert_eq!(selector_end("[name=web].image"), Some(10));
    assert_eq!(selector_end("['a]b'].x"), Some(7));
    assert_eq!(selector_end(r"['it\'s]'].x"), Some(10));
    assert_eq!(selector_end(r"[a\]b"), Some(4), "outside of quotes, a backslash escapes nothing");
    assert_eq!(selector_end("[name=web"), None);
    assert!(is_item_of("spec.list[a].x", "spec.list") && !is_item_of("spec.lists[a].x", "spec.list"));
    assert!(!is_item_of("spec.list.x", "spec.list") && !is_item_of("other[a]", "spec.list"));
    assert_eq!(
        (item_of("l[a].x", "l"), item_of("l[a]", "l"), item_of("l[ab].x", "l")),
        (Some("[a]"), Some("[a]"), Some("[ab]"))
    );
    assert_eq!((item_of("k[a].x", "l"), item_of("l.x", "l"), item_of("l", "l")), (None, None, None));
}

#[test]
fn only_status_and_its_fields_are_the_status_part() {
    for path in ["status", "status.x", "status['x/y']"] {
        assert_eq!(part_of(path), Part::Status, "{path}");
    }
    for path in ["statuses.x", "spec.status", "metadata.name"] {
        assert_eq!(part_of(path), Part::Main, "{path}");
    }
    assert!(is_at_or_below("spec.a", "spec") && is_at_or_below("spec", "spec") && is_at_or_below("spec[a]", "spec"));
    assert!(!is_at_or_below("specs.a", "spec") && !is_at_or_below("other", "spec"));
}

#[test]
fn quantities_of_built_in_resources_are_compared_by_amount() {
    let at = |path: &str, json: &str, options| FieldValue::at(path, json, options, false);
    let path = "spec.containers[name=a].resources.requests.cpu";
    let (milli, whole) = (r#""2000m""#, "2");
    assert_eq!(at(path, milli, true), at(path, whole, true));
    assert_ne!(at(path, milli, true), at(path, "3", true));
    let (a, b) = (at(path, milli, false), at(path, whole, false));
    assert!(a != b && a.is_same_form(&b), "different notations of one value");
    assert!(!a.is_same_form(&at(path, "3", false)));
    assert_ne!(at("spec.version", r#""1""#, true), at("spec.version", "1", true), "not a quantity");
    assert_ne!(at(path, r#""E""#, true), at(path, r#""0""#, true), "a word is not a number");
    for sign in [(r#""+2""#, "2"), (r#""-2""#, "-2"), (r#"".5""#, "0.5")] {
        assert_eq!(at(path, sign.0, true), at(path, sign.1, true), "{sign:?}");
    }
}

#[test]
fn only_increasing_values_are_monotonic_updates() {
    let value = |json: &str| fields(&format!(r#"{{"v":{json}}}"#)).get("v").unwrap().clone();
    for (old, new, is) in [
        ("1", "1", false),
        (r#""5""#, r#""6""#, true),
        (r#""2026-11-23T02:00:00Z""#, r#""2026-11-23T02:00:00Z""#, false),
        ("[1,2]", "[1,2]", false),
        ("[1,2]", "[1,2,3]", true),
        ("[1,2]", "[1,4,3]", false),
        // A list may drop its first items if it appends at least as many.
        ("[1,2,3]", "[2,3,4]", true),
        ("[1,2,3]", "[3,4,5]", true),
        ("[1,2,3]", "[3,4]", true),
        ("[1,2,3]", "[2,3]", false),
        ("[1,2,3]", "[3]", false),
        ("[1,2,3]", "[4,5,6]", false),
        ("[1,2,3]", "[1,3,4]", false),
    ] {
        assert_eq!(value(new).is_monotonic_update(&value(old)), is, "{old} {new}");
    }
}

#[test]
fn long_values_are_truncated() {
    let text = |len: usize| FieldValue::of_json(&"x".repeat(len)).text().unwrap().to_owned();
    assert_eq!(text(VALUE_BYTES_MAX), "x".repeat(VALUE_BYTES_MAX));
    assert_eq!(text(VALUE_BYTES_MAX + 1), format!("{}…", "x".repeat(VALUE_BYTES_MAX - 3)));
}

#[test]
fn only_states_of_one_version_are_comparable() {
    let of = |version: &str| fields(&format!(r#"{{"apiVersion":"{version}","spec":{{"a":1}}}}"#));
    assert!(of("v1").is_comparable(&of("v1")) && !of("v1").is_comparable(&of("v2")));
    assert!(
        of("v1").is_comparable(&Fields::default()) && Fields::default().is_comparable(&of("v1")),
        "an unknown version"
    );
    assert!(Fields::default().is_empty() && !of("v1").is_empty());
}

/// Returns the changes as `PATH OLD>NEW`; `?` is a value that is not known.
fn shown(changes: &[Change]) -> Vec<String> {
    let text = |v: &Option<FieldValue>| v.as_ref().and_then(|v| v.text().map(str::to_owned)).unwrap_or_default();
    let new = |c: &Change| if c.is_opaque { "?".to_owned() } else { text(&c.new) };
    let mut shown: Vec<String> = changes.iter().map(|c| format!("{} {}>{}", c.path, text(&c.old), new(c))).collect();
    shown.sort();
    shown
}

#[test]
fn the_named_fields_of_a_request_become_changes() {
    let state = fields(r#"{"spec":{"a":1,"b":{"c":2,"d":3},"e":5}}"#);
    let value =
        |path: &str, json: &str| FieldIntent { path: path.into(), intent: Intent::Set(FieldValue::of_json(json)) };
    let intent = |path: &str, intent: Intent| FieldIntent { path: path.into(), intent };
    let intents = [
        value("spec.a", "1"),
        value("spec.e", "6"),
        value("spec.new", "7"),
        intent("spec.b", Intent::Remove),
        intent("spec.absent", Intent::Remove),
        intent("spec.x", Intent::Modify),
    ];
    let changes = state.changes_by(&intents, false);
    assert_eq!(shown(&changes), ["spec.b.c 2>", "spec.b.d 3>", "spec.e 5>6", "spec.new >7", "spec.x >?"]);
    let mut after = state.clone();
    after.apply(&changes);
    assert_eq!(paths(&after), ["spec.a", "spec.e", "spec.new"]);
    // If the object is not completely known, a removed field may have existed, and an apply may repeat an unchanged
    // field.
    let mut part = Fields::default();
    assert_eq!(shown(&part.changes_by(&intents, true)), ["spec.absent >", "spec.b >", "spec.x >?"]);
    assert_eq!(part.changes_by(&intents, false).len(), 6);
    part.set_all(&intents);
    assert_eq!(paths(&part), ["spec.a", "spec.e", "spec.new"], "the named field is known from then on");
    assert_eq!(shown(&part.changes_by(&[value("spec.a", "2")], true)), ["spec.a 1>2"]);
    assert_eq!(shown(&state.changes_by(&[value("spec.n", "2")], true)), ["spec.n >2"], "this state is complete");
}

#[test]
fn a_field_missing_from_an_incomplete_state_is_no_difference() {
    let mut part = Fields::default();
    part.set_all(&[FieldIntent { path: "spec.a".into(), intent: Intent::Set(FieldValue::of_json("1")) }]);
    let whole = fields(r#"{"spec":{"a":2,"b":1}}"#);
    assert_eq!(shown(&part.diff(&whole)), ["spec.a 1>2"]);
    assert_eq!(shown(&whole.diff(&part)), ["spec.a 2>1"], "nothing is known to be gone");
}

#[test]
fn a_replaced_list_loses_the_items_that_are_not_named() {
    let object = r#"{"metadata":{"finalizers":["a","b"]},"spec":{"env":[{"name":"a","value":"1"},{"name":"b","value":"2"}],"taints":[{"key":"k","effect":"e"}]}}"#;
    let given = |is_built_in: bool, lists: &[&str], intents: &[&str]| {
        let mut state = fields(object);
        let intents: Vec<FieldIntent> =
            intents.iter().map(|path| FieldIntent { path: (*path).into(), intent: Intent::Modify }).collect();
        let lists: Vec<Path> = lists.iter().map(|list| (*list).into()).collect();
        let changes = state.replace_lists(&lists, &intents, is_built_in);
        (shown(&changes), state.len())
    };
    let finalizers = (vec![r#"metadata.finalizers[b] "b">"#.to_owned()], 8);
    assert_eq!(given(true, &["metadata.finalizers"], &["metadata.finalizers[a]"]), finalizers, "a set");
    let env = vec![r#"spec.env[name=b].name "b">"#.to_owned(), r#"spec.env[name=b].value "2">"#.to_owned()];
    assert_eq!(
        given(false, &["spec.env"], &["spec.env[name=a].value"]),
        (env, 8),
        "lists of custom resources are replaced"
    );
    assert_eq!(given(true, &["spec.env"], &["spec.env[name=a].value"]), (vec![], 8), "it may be a strategic patch");
    assert_eq!(given(true, &["spec.taints"], &[]), (vec![], 6), "the items of a shared list become unknown");
    assert_eq!(given(true, &[], &[]), (vec![], 8));
}

#[test]
fn the_spec_hash_leaves_out_the_labels_of_a_job() {
    let hash = |json: &str| fields(json).spec_hash();
    let spec = hash(r#"{"spec":{"a":1}}"#);
    assert_eq!(hash(r#"{"metadata":{"labels":{"x":"y"}},"spec":{"a":1},"status":{"b":2}}"#), spec);
    assert_eq!(
        hash(r#"{"spec":{"a":1,"selector":{"matchLabels":{"batch.kubernetes.io/controller-uid":"u1"}}}}"#),
        spec
    );
    assert_ne!(hash(r#"{"spec":{"a":2}}"#), spec);
    assert_ne!(hash(r#"{"spec":{"a":1,"b":1}}"#), spec);
}

#[test]
fn a_body_replaces_only_the_part_that_its_request_may_write() {
    let before = fields(r#"{"spec":{"a":1},"status":{"x":1}}"#);
    let body = fields(r#"{"spec":{"a":2},"status":{"x":2}}"#);
    assert_eq!(shown(&before.diff(&before.with_part_of(&body, Part::Main))), ["spec.a 1>2"]);
    assert_eq!(shown(&before.diff(&before.with_part_of(&body, Part::Status))), ["status.x 1>2"]);
    let part = Fields::default();
    assert!(part.with_part_of(&body, Part::Main).is_complete(), "the main part is complete");
    assert!(!part.with_part_of(&body, Part::Status).is_complete());
    assert!(before.with_part_of(&body, Part::Status).is_complete());
    assert!(!part.with_part_of(&part, Part::Main).is_complete());
}

#[test]
fn lists_have_kubernetes_merge_keys() {
    let object = fields(
        r#"{"spec":{"volumeDevices":[{"devicePath":"/d"}],"ports":[{"port":80}],"hostAliases":[{"ip":"1.2.3.4"}],
            "topologySpreadConstraints":[{"topologyKey":"z","whenUnsatisfiable":"w"}],"taints":[{"key":"k","effect":"e"}],
            "containers":[{"name":"c","ports":[{"containerPort":80,"port":1}]}]},
            "metadata":{"ownerReferences":[{"uid":"u","name":"n"}]}}"#,
    );
    assert_eq!(
        paths(&object),
        [
            "metadata.ownerReferences[uid=u]",
            "spec.containers[name=c].name",
            "spec.containers[name=c].ports[containerPort=80,protocol=TCP].containerPort",
            "spec.containers[name=c].ports[containerPort=80,protocol=TCP].port",
            "spec.hostAliases[ip='1.2.3.4']".replace('\'', "").as_str(),
            "spec.ports[port=80,protocol=TCP].port",
            "spec.taints[key=k,effect=e].effect",
            "spec.taints[key=k,effect=e].key",
            "spec.topologySpreadConstraints[topologyKey=z,whenUnsatisfiable=w].topologyKey",
            "spec.topologySpreadConstraints[topologyKey=z,whenUnsatisfiable=w].whenUnsatisfiable",
            "spec.volumeDevices[devicePath=/d].devicePath",
        ]
        .map(|path| if path == "spec.hostAliases[ip=1.2.3.4]" {
            "spec.hostAliases[ip=1.2.3.4].ip"
        } else {
            path
        })
    );
}

#[test]
fn empty_values_are_absent_in_an_object_and_removals_in_a_patch() {
    assert_eq!(
        paths(&fields(r#"{"spec":{"map":{},"list":[],"null":null,"zero":0,"empty":""}}"#)),
        ["spec.empty", "spec.zero"]
    );
    assert_eq!(
        patch(r#"{"spec":{"map":{},"list":[],"null":null}}"#, "", None),
        ["spec.list removed", "spec.null removed"]
    );
}

#[test]
fn only_the_data_of_secrets_is_hidden() {
    let text = r#"{"data":{"p":"YQ=="},"stringData":{"q":"x"},"metadata":{"labels":{"data":"shown"}},"other":{"stringData":{"r":"z"}}}"#;
    assert_eq!(
        patch(text, "secrets", None),
        ["data.p (hidden)", r#"metadata.labels.data (hidden)"#, r#"other.stringData.r "z""#, "data.q (hidden)"]
            .map(|line| line.to_owned())
    );
    assert_eq!(
        patch(r#"{"data":{"p":"a"},"stringData":{"q":"b"}}"#, "", None),
        [r#"data.p "a""#, r#"stringData.q "b""#]
    );
    assert_eq!(
        patch(
            r#"[{"op":"add","path":"/stringData/q","value":"b"},{"op":"add","path":"/spec/a","value":"b"}]"#,
            "secrets",
            None
        ),
        ["stringData.q (hidden)", r#"spec.a "b""#]
    );
}

#[test]
fn a_json_patch_names_the_fields_and_values_that_it_sets() {
    let known = fields(r#"{"metadata":{"finalizers":["a"]},"spec":{"args":["x"],"list":[{"name":"n"}]}}"#);
    let operations = r#"[
        {"op":"add","path":"/metadata/finalizers/-","value":"b"},
        {"op":"copy","from":"/spec/a","path":"/spec/b"},
        {"op":"add","path":"/spec/unknown/-","value":"y"},
        {"op":"replace","path":"/spec/args/0","value":"y"}]"#;
    assert_eq!(
        patch(operations, "", Some(&known)),
        [r#"metadata.finalizers[b] "b""#, "spec.b touched", "spec.unknown touched", "spec.args touched"]
    );
    let set = fields(r#"{"metadata":{"labels":{"a":"b"}}}"#);
    assert_eq!(
        patch(r#"[{"op":"add","path":"/metadata/finalizers/-","value":"b"}]"#, "", Some(&set)),
        [r#"metadata.finalizers[b] "b""#]
    );
}

#[test]
fn a_json_patch_that_sets_an_empty_value_names_nothing() {
    let operations = r#"[{"op":"add","path":"/spec/a","value":null},{"op":"add","path":"/spec/b","value":{}},
        {"op":"replace","path":"/spec/c","value":[]},{"op":"add","path":"/spec/d","value":0}]"#;
    assert_eq!(patch(operations, "", None), ["spec.d 0"]);
}

#[test]
fn the_bytes_of_fields_and_values_are_those_of_their_texts() {
    let number = FieldValue::of_json("17");
    assert_eq!(number.bytes(), TEXT_BYTES + 2);
    assert_eq!(FieldValue::new("17", true).bytes(), 0, "only its hash is kept");
    let object = fields(r#"{"l":[1,2,3],"x":17}"#);
    let list = object.get("l").unwrap();
    // The text `[1,2,3]`, and a hash of each item.
    assert_eq!(list.bytes(), TEXT_BYTES + 7 + TEXT_BYTES + 3 * 8);
    let change = Change::new(&"spec.x".into(), Some(&number), Some(list));
    assert_eq!(change.bytes(), size_of::<Change>() + TEXT_BYTES + 6 + number.bytes() + list.bytes());
    let intents = |intent: Intent| FieldIntent { path: "spec.x".into(), intent }.bytes();
    assert_eq!(intents(Intent::Remove), size_of::<FieldIntent>() + TEXT_BYTES + 6);
    assert_eq!(intents(Intent::Set(number.clone())), size_of::<FieldIntent>() + TEXT_BYTES + 6 + number.bytes());
    let texts = 2 * (TEXT_BYTES + 1) + list.bytes() + number.bytes();
    assert_eq!(object.bytes(), size_of::<Fields>() + map_bytes::<Path, FieldValue>(2) + texts);
    let keyed = fields(r#"{"l":[{"name":"n"}]}"#);
    let lists = map_bytes::<Path, Vec<Box<str>>>(1);
    let leaf = TEXT_BYTES + "l[name=n].name".len() + TEXT_BYTES + r#""n""#.len();
    assert_eq!(keyed.bytes(), size_of::<Fields>() + map_bytes::<Path, FieldValue>(1) + lists + leaf);
}

#[test]
fn a_derived_state_has_the_same_fields() {
    let object = fields(r#"{"spec":{"a":1,"l":[{"name":"n"}]}}"#);
    let derived = object.derived();
    assert_eq!(paths(&derived), paths(&object));
    assert!(object.is_complete() && derived.is_complete());
    assert_eq!(derived.resolve("/spec/l/0/x"), Some(("spec.l[name=n].x".to_owned(), false)));
}

#[test]
fn plain_keys_are_not_quoted_in_paths() {
    let object = fields(r#"{"data":{"a-b":1,"a_b":2,"a.b":3,"":4}}"#);
    assert_eq!(paths(&object), ["data.a-b", "data.a_b", "data['']", "data['a.b']"]);
}

#[test]
fn values_nested_too_deeply_are_one_value() {
    let maps = format!("{}1{}", r#"{"a":"#.repeat(DEPTH_MAX + 6), "}".repeat(DEPTH_MAX + 6));
    assert_eq!(paths(&fields(&maps)), [vec!["a"; DEPTH_MAX].join(".")]);
    let lists = (0..DEPTH_MAX).fold("1".to_owned(), |inner, _| format!(r#"{{"name":"x","l":[{inner}]}}"#));
    // The innermost list is not a list of maps, so it is one value. Each item is two levels below its parent.
    let object = fields(&lists);
    let deepest = paths(&object).into_iter().max_by_key(|path| path.len()).unwrap();
    assert_eq!(deepest, vec!["l[name=x]"; DEPTH_MAX / 2].join("."));
}

#[test]
fn values_with_too_long_paths_are_one_value() {
    let key = |len: usize| "k".repeat(len);
    let of = |len: usize, value: &str| format!(r#"{{"{}":{value}}}"#, key(len));
    let (longest, longer) = (PATH_BYTES_MAX, PATH_BYTES_MAX + 1);
    let shown = |text: &str| paths(&fields(text)).iter().map(|path| (*path).to_owned()).collect::<Vec<_>>();
    assert_eq!(shown(&of(longest, r#"{"b":1}"#)), [format!("{}.b", key(longest))]);
    assert_eq!(shown(&of(longer, r#"{"b":1}"#)), [key(longer)]);
    // The list is walked. The path of its item includes the selector and is too long, so the item is one value.
    assert_eq!(shown(&of(longest, r#"[{"name":"n"}]"#)), [format!("{}[name=n]", key(longest))]);
    assert_eq!(shown(&of(longer, r#"[{"name":"n"}]"#)), [key(longer)]);
    assert_eq!(shown(&of(longer, "{}")), [""; 0], "an empty map is absent");
    assert_eq!(shown(&of(longer, "[]")), [""; 0]);
    // A patch sets it to a value, or removes it.
    assert_eq!(patch(&of(longer, "[1]"), "", None), [format!("{} [1]", key(longer))]);
    assert_eq!(patch(&of(longer, "[]"), "", None), [format!("{} removed", key(longer))]);
}
