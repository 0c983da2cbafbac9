//! Paths, keyed lists, and what patches of every kind name.

use super::bodies::{named, read};
use super::walk::{DEPTH_MAX, FIELDS_MAX};
use super::*;

const OPEN: Rules<'static> = Rules { resource: "", is_hidden: false, is_built_in: true };

fn fields(json: &str) -> Fields {
    read(Some(json.as_bytes()), |json| Fields::of_object(json, OPEN)).unwrap()
}

fn paths(fields: &Fields) -> Vec<&str> {
    fields.leaves.keys().map(AsRef::as_ref).collect()
}

fn patch(json: &str, resource: &str, known: Option<&Fields>) -> Vec<String> {
    let named =
        read(Some(json.as_bytes()), |json| named(json, Rules { resource, is_hidden: false, is_built_in: true }, known))
            .unwrap();
    let show = |want: &Want| match want {
        Want::Value(value) => value.text().unwrap_or("(hidden)").to_owned(),
        Want::Removed => "removed".to_owned(),
        Want::Touched => "touched".to_owned(),
    };
    named.iter().map(|n| format!("{} {}", n.path, show(&n.want))).collect()
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
fn differences_are_named_with_both_values() {
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
fn json_patch_indices_become_keys_where_the_object_is_known() {
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
fn a_secrets_values_are_never_kept_however_they_are_written() {
    let plain = patch(r#"{"stringData":{"p":"aaa"}}"#, "secrets", None);
    assert_eq!(plain, ["data.p (hidden)"]);
    assert_eq!(patch(r#"[{"op":"add","path":"/data/p","value":"YWFh"}]"#, "secrets", None), plain);
    let value = |json: &str| {
        read(Some(json.as_bytes()), |json| {
            named(json, Rules { resource: "secrets", is_hidden: false, is_built_in: true }, None)
        })
        .unwrap()
        .remove(0)
        .want
    };
    assert_eq!(value(r#"{"stringData":{"p":"aaa"}}"#), value(r#"{"data":{"p":"YWFh"}}"#));
    assert_ne!(value(r#"{"stringData":{"p":"aaa"}}"#), value(r#"{"data":{"p":"YmJi"}}"#));
}

#[test]
fn bodies_without_bounds_are_bounded() {
    let deep = format!("{}1{}", r#"{"a":"#.repeat(300), "}".repeat(300));
    assert!(paths(&fields(&deep))[0].len() < 2 * DEPTH_MAX + 4);
    assert!(read(Some("[".repeat(100_000).as_bytes()), |_| ()).is_none());
    let wide: Vec<String> = (0..140_000).map(|i| format!("\"k{i}\":{i}")).collect();
    let wide = fields(&format!("{{{}}}", wide.join(",")));
    assert_eq!((wide.len(), wide.is_complete()), (FIELDS_MAX, false), "and what is left out is no removal");
    let long = FieldValue::of_json(&format!("\"{}\"", "ä".repeat(1_000)));
    assert!(long.text().unwrap().len() <= VALUE_BYTES_MAX);
}

#[test]
fn what_only_grows_is_monotonic_update() {
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
    let rules = Rules { resource: "", is_hidden: true, is_built_in: true };
    let of = |json: &str| read(Some(json.as_bytes()), |json| Fields::of_object(json, rules)).unwrap();
    let (a, b) = (of(r#"{"spec":{"x":"secret","l":["s"]}}"#), of(r#"{"spec":{"x":"other","l":["s"]}}"#));
    let changes = a.diff(&b);
    assert_eq!((changes.len(), changes[0].new.as_ref().unwrap().text()), (1, None));
}
