use serde_json::json;

use super::*;

fn entry(manager: &str, operation: &str, time: u32, fields: Value) -> Entry {
    let time = format!("2026-11-23T20:37:{time:02}Z");
    let entry = json!({
        "manager": manager, "operation": operation, "apiVersion": "v1", "time": time, "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    });
    serde_json::from_value(entry).unwrap()
}

fn data(keys: &[&str]) -> Value {
    let keys: Map<String, Value> = keys.iter().map(|key| (format!("f:{key}"), json!({}))).collect();
    json!({"f:data": keys})
}

/// Returns who made a revision, what it took over, and from whom.
fn told(before: &[Entry], after: &[Entry]) -> String {
    let Some(found) = authorship(before, after) else { return "unknown".to_owned() };
    let lost: Vec<String> = found.lost.iter().map(|loss| format!(" from {}", loss.manager.name)).collect();
    format!("{} {} took {}{}", found.manager.name, found.manager.operation, found.taken, lost.concat())
}

// The revisions of the table in the reference on managedFields, recorded on kube-apiserver 1.36.
#[test]
fn ownership_moves_with_each_retake() {
    let creator = entry("kubectl-create", "Update", 30, data(&["w"]));
    let a = |time, fields| entry("tool-a", "Update", time, fields);
    let b = |time| entry("tool-b", "Update", time, data(&["v"]));
    let steps = [
        vec![entry("kubectl-create", "Update", 30, data(&["v", "w"]))],
        vec![creator.clone(), a(39, data(&["v"]))],
        vec![creator.clone(), b(42)],
        vec![creator.clone(), a(44, data(&["v"]))],
        vec![creator.clone(), a(46, data(&["v"]))],
    ];
    let found: Vec<String> = steps.windows(2).map(|pair| told(&pair[0], &pair[1])).collect();
    let took = r#"took {"f:data":{"f:v":{}}}"#;
    assert_eq!(
        found,
        [
            format!("tool-a Update {took} from kubectl-create"),
            format!("tool-b Update {took} from tool-a"),
            format!("tool-a Update {took} from tool-b"),
            "tool-a Update took {}".to_owned(),
        ]
    );
}

#[test]
fn the_creator_of_an_object_took_all_its_fields() {
    assert_eq!(told(&[], &[entry("x", "Apply", 1, data(&["v"]))]), r#"x Apply took {"f:data":{"f:v":{}}}"#);
}

#[test]
fn an_entry_that_only_lost_fields_is_not_that_of_the_writer() {
    let before = [entry("x", "Apply", 1, data(&["v", "w"]))];
    assert_eq!(told(&before, &[entry("x", "Apply", 1, data(&["v"]))]), "unknown");
    // An apply that removes a field moves the time of its entry.
    assert_eq!(told(&before, &[entry("x", "Apply", 2, data(&["v"]))]), "x Apply took {}");
}

#[test]
fn a_write_keeps_to_its_own_fields_unless_an_entry_of_another_manager_changed() {
    let is_own = |before: &[Entry], after: &[Entry]| authorship(before, after).unwrap().is_own;
    let (x, y) = (|time| entry("x", "Update", time, data(&["v"])), entry("y", "Apply", 1, data(&["w", "z"])));
    assert!(is_own(&[x(1), y.clone()], &[x(2), y.clone()]));
    assert!(is_own(
        &[entry("x", "Apply", 1, data(&["v", "u"])), y.clone()],
        &[entry("x", "Apply", 2, data(&["v"])), y.clone()]
    ));
    let more = entry("x", "Update", 2, data(&["v", "u"]));
    assert!(!is_own(&[x(1), y.clone()], &[more, y.clone()]), "it took over a field that nobody had");
    // It removed a field of the other one, or changed it and does not own it since.
    assert!(!is_own(&[x(1), y.clone()], &[x(2), entry("y", "Apply", 1, data(&["w"]))]));
    assert!(!is_own(&[x(1), y], &[x(2)]));
    let invented = entry("before-first-apply", "Update", 1, data(&["w"]));
    assert!(!is_own(&[x(1), invented], &[x(2)]), "an entry that the server invented");
    assert!(repeated_author(&[x(1)], &[x(1)], x(1).at().unwrap()).unwrap().is_own);
}

#[test]
fn two_entries_that_moved_are_not_guessed_between() {
    let before = [entry("x", "Apply", 1, data(&["v"])), entry("y", "Apply", 1, data(&["w"]))];
    let after = [entry("x", "Apply", 2, data(&["v"])), entry("y", "Apply", 3, data(&["w"]))];
    assert_eq!(told(&before, &after), "unknown");
}

#[test]
fn fields_that_another_manager_owns_with_the_same_value_are_not_taken_over() {
    let before = [entry("x", "Apply", 1, data(&["v", "w"]))];
    let after = [entry("x", "Apply", 1, data(&["v"])), entry("y", "Apply", 2, data(&["v", "w"]))];
    assert_eq!(told(&before, &after), r#"y Apply took {"f:data":{"f:w":{}}} from x"#);
}

#[test]
fn a_field_that_two_managers_own_is_taken_by_the_one_that_changes_it() {
    let before = [entry("x", "Apply", 1, data(&["v"])), entry("y", "Apply", 2, data(&["v", "w"]))];
    let after = [entry("x", "Apply", 5, data(&["v"])), entry("y", "Apply", 2, data(&["w"]))];
    assert_eq!(told(&before, &after), r#"x Apply took {"f:data":{"f:v":{}}} from y"#);
}

#[test]
fn a_write_within_the_same_second_is_recognised_by_the_fields_that_moved() {
    let before = [entry("x", "Apply", 1, data(&["v"])), entry("y", "Update", 1, data(&["w"]))];
    let after = [entry("x", "Apply", 1, data(&["v", "w"]))];
    assert_eq!(told(&before, &after), r#"x Apply took {"f:data":{"f:w":{}}} from y"#);
}

#[test]
fn managers_that_the_server_invents_do_not_write() {
    let before = [entry("helm", "Update", 1, data(&["v", "w"])), entry("ancient-changes", "Update", 1, data(&["w"]))];
    let after = [entry("before-first-apply", "Update", 2, data(&["v"])), entry("x", "Apply", 2, data(&["w"]))];
    assert_eq!(told(&before, &after), r#"x Apply took {"f:data":{"f:w":{}}} from helm"#);
}

#[test]
fn a_manager_with_another_version_of_the_api_takes_nothing_from_itself() {
    let mut after = entry("x", "Update", 2, data(&["v", "w"]));
    after.api_version = "v2".into();
    let before = [entry("x", "Update", 1, data(&["v"]))];
    assert_eq!(told(&before, &[after]), r#"x Update took {"f:data":{"f:w":{}}}"#);
}

#[test]
fn a_set_that_is_nested_too_deep_is_not_followed() {
    let mut deep = json!({});
    for _ in 0..200 {
        deep = json!({"f:a": deep});
    }
    assert!(!is_empty(&intersection(&deep, &deep)));
    assert!(is_empty(&difference(&deep, &deep)));
    // serde_json refuses deeper ones.
    assert!(serde_json::from_str::<Value>(&"{\"f:a\":".repeat(200)).is_err());
}

#[test]
fn a_second_write_within_the_same_second_is_that_of_the_last_writer() {
    let entries = [entry("x", "Apply", 1, data(&["v"])), entry("y", "Update", 2, data(&["w"]))];
    let second = entries[1].at().unwrap();
    let author = |after: &[Entry], seen| repeated_author(&entries, after, seen).map(|author| author.manager.name);
    assert_eq!(author(&entries, second + 400_000).as_deref(), Some("y"));
    assert_eq!(author(&entries, second + 10_000_000), None, "a later write would have moved a time");
    assert_eq!(author(&entries[..1], second), None, "an entry has changed");
    let both = [entry("x", "Apply", 2, data(&["v"])), entry("y", "Update", 2, data(&["w"]))];
    assert_eq!(repeated_author(&both, &both, second), None, "both wrote in this second");
    let mut scale = entry("z", "Update", 0, data(&["z"]));
    scale.time = None;
    let scaled = [entries[0].clone(), scale];
    let writer = |seen| repeated_author(&scaled, &scaled, seen).map(|author| (author.manager.name, author.at));
    assert_eq!(writer(second + 10_000_000), Some(("z".into(), None)), "only an entry without a time does not move");
    assert_eq!(writer(second), None);
}
