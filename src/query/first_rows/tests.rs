use serde_json::{Value as Json, json};

use super::*;

const AT: Micros = 1_772_000_000_000_000;

/// Returns a row of the overview, with some members replaced.
fn row(id: &str, namespace: &str, changed: Json) -> OverviewRow {
    let mut row = json!({
        "id": id,
        "finding": "war",
        "object": {"cluster": "", "group": "", "resource": "configmaps", "kind": "ConfigMap", "namespace": namespace, "name": id},
        "actors": [{"actor": "alice", "writes": 3}],
        "since": time::text(AT),
        "until": time::text(AT),
        "war": {
            "progress": "ongoing", "state": "sustained", "confidence": "confirmed", "cause": "unknown", "retakes": 1234,
            "thrashing_events": 5, "fields": [], "field_count": 0,
        },
    });
    merge(&mut row, changed);
    serde_json::from_value(row).unwrap()
}

fn merge(into: &mut Json, changed: Json) {
    match (into, changed) {
        (Json::Object(into), Json::Object(changed)) => {
            changed.into_iter().for_each(|(key, value)| merge(into.entry(key).or_insert(Json::Null), value));
        }
        (into, changed) => *into = changed,
    }
}

/// Returns the ids of the rows that are shown, in their order.
fn order(rows: &[OverviewRow]) -> Vec<String> {
    let html = table(rows, 0, Some(AT));
    let links = html.split("#/object/configmaps/").skip(1);
    links.map(|rest| rest.split(['/', '"']).nth(1).unwrap().to_owned()).collect()
}

#[test]
fn rows_are_in_the_order_of_the_page() {
    let war = |id: &str, progress: &str, confidence: &str, thrashing: u32| {
        let war = json!({"progress": progress, "confidence": confidence, "thrashing_events": thrashing});
        row(id, "shop", json!({"war": war}))
    };
    let other = |id: &str| {
        let mut row = row(id, "shop", json!({"finding": "hot_loop", "summary": "writes too often"}));
        row.war = None;
        row
    };
    let rows = [
        other("h"),
        war("never-thrashed", "ongoing", "confirmed", 0),
        war("f", "ended", "confirmed", 90),
        war("e", "subsiding", "possible", 70),
        war("d", "subsiding", "probable", 5),
        other("g"),
        war("c", "ongoing", "possible", 99),
        war("b", "ongoing", "confirmed", 5),
        war("a", "ongoing", "confirmed", 5),
    ];
    assert_eq!(order(&rows), ["a", "b", "c", "d", "e", "f", "g", "h"]);
    let many: Vec<_> = (0..40).map(|n| war(&format!("war-{n}"), "ongoing", "confirmed", n + 1)).collect();
    assert_eq!(order(&many).len(), ROWS_SHOWN);
    assert!(table(&many, 1, None).contains("<h2>40 edit wars</h2>"));
}

#[test]
fn rows_are_grouped_by_namespace_in_the_order_of_their_first_rows() {
    let rows = [
        row("a", "shop", json!({})),
        row("b", "bank", json!({})),
        row("c", "shop", json!({})),
        row("d", "", json!({})),
    ];
    assert_eq!(order(&rows), ["a", "c", "b", "d"]);
    let html = table(&rows, 0, None);
    assert!(html.contains(r##"<a href="#/wars?namespace=-"><bdi>cluster-scoped</bdi></a>"##), "{html}");
    let east = row("e", "shop", json!({"object": {"cluster": "east & west"}}));
    let html = table(&[east], 0, None);
    assert!(html.contains(r##"<a href="#/wars?cluster=east+%26+west&amp;namespace=shop">"##), "{html}");
}

#[test]
fn a_row_says_what_is_known() {
    let text = |changed: Json| {
        let html = table(&[row("a", "shop", changed)], 0, Some(AT));
        let mut is_text = true;
        let visible = html.chars().filter(|c| {
            let was_text = is_text;
            is_text = (is_text && *c != '<') || *c == '>';
            was_text && is_text
        });
        visible.collect::<String>()
    };
    let values = json!([
        {"value": "a\nb", "actor": "alice", "count": 1},
        {"value": null, "redacted": true, "actor": "bob", "count": 1},
        {"value": null, "absent": true, "actor": "bob", "count": 1},
        {"value": 7, "actor": "bob", "count": 1},
    ]);
    let fields = json!({"war": {"fields": [{"path": "data.<mode>", "values": values}], "field_count": 3}});
    let shown = text(fields);
    assert!(shown.contains("data.&lt;mode&gt; and 2 morea\\nb ⇄ (redacted) ⇄ ∅alice 3"), "{shown}");
    assert!(shown.contains("1 edit war") && shown.contains("sustained") && shown.contains("1,234"), "{shown}");
    assert!(text(json!({})).contains("fields are not in the log"));
    assert!(text(json!({"war": {"is_paused": true}})).contains("sustained paused"));
    assert!(text(json!({"war": {"deleted": time::text(AT)}})).contains("endedobject deletedconfirmed"));
    assert!(text(json!({"war": {"confidence": "possible", "deleted": time::text(AT)}})).contains("undecidedpossible"));
    let html = table(&[row("a", "shop", json!({}))], 2, None);
    assert!(html.contains("2 less urgent objects are not listed."), "{html}");
}

#[test]
fn nothing_is_shown_if_there_are_no_rows() {
    assert_eq!(table(&[], 0, Some(AT)), "");
    let contested = row("a", "shop", json!({"war": {"thrashing_events": 0, "state": "contested"}}));
    assert_eq!(table(&[contested], 0, Some(AT)), "");
}
