//! Attempts to hide a war: among many other fields, behind fields that change with each write, and in objects of any
//! size.

use editwar::query::views::Report;
use serde_json::{Map, Value, json};

use crate::util;

const SECOND: i64 = 1_000_000;
const BEGIN: i64 = 1_795_400_000 * SECOND;
/// Number of writes of each side.
const ROUNDS: u32 = 12;

fn text(at: i64) -> String {
    format!("{:.6}", jiff::Timestamp::from_microsecond(at).unwrap())
}

/// How the war over `data.x` is logged.
#[derive(Clone, Copy, Debug)]
enum How {
    /// Merge patches, without responses.
    Patches,
    /// Full updates, with the stored object as response.
    Updates,
}

fn event(n: u32, user: &str, how: How, data: &Map<String, Value>) -> Vec<u8> {
    let at = text(BEGIN + i64::from(n) * 10 * SECOND);
    let object = |version: u32| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "data": data,
            "metadata": {"name": "big", "namespace": "shop", "uid": "u", "resourceVersion": version.to_string()},
        })
    };
    let (level, verb, request, response) = match how {
        How::Patches => ("Request", "patch", json!({"data": data}), Value::Null),
        How::Updates => ("RequestResponse", "update", object(100 + n), object(101 + n)),
    };
    let event = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": level, "auditID": n.to_string(),
        "stage": "ResponseComplete", "requestURI": "/api/v1/namespaces/shop/configmaps/big", "verb": verb,
        "user": {"username": user}, "sourceIPs": ["10.0.0.1"], "userAgent": format!("{user}/1"),
        "objectRef": {"resource": "configmaps", "namespace": "shop", "name": "big", "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": 200}, "requestObject": request, "responseObject": response,
        "requestReceivedTimestamp": at, "stageTimestamp": at,
    });
    serde_json::to_vec(&event).unwrap()
}

/// Alice and Mallory set `data.x` to different values. With each write, Mallory also sets the fields that `dummies`
/// returns for the round.
fn fight(how: How, common: u32, dummies: impl Fn(u32) -> Vec<(String, Value)>) -> Report {
    let mut data: Map<String, Value> = (0..common).map(|n| (format!("k{n}"), json!("1"))).collect();
    let mut lines = Vec::new();
    for round in 0..ROUNDS {
        for (n, user, value) in [(2 * round, "alice", "a"), (2 * round + 1, "mallory", "m")] {
            let mut set: Map<String, Value> = [("x".to_owned(), json!(value))].into_iter().collect();
            if user == "mallory" {
                set.extend(dummies(round));
            }
            data.extend(set.clone());
            data.retain(|_, value| !value.is_null());
            let body = if let How::Patches = how { &set } else { &data };
            lines.push(event(n, user, how, body));
        }
    }
    util::report(&util::pipeline_of(lines.iter().map(Vec::as_slice)))
}

/// Checks that the war over this field between these two is found. At most `missed` retakes at its start may be
/// missing.
fn is_found(report: &Report, missed: u32) {
    let [war] = report.wars.as_slice() else { panic!("one war: {report:?}") };
    let mut parties: Vec<&str> = war.parties.iter().map(|party| party.actor.as_str()).collect();
    parties.sort_unstable();
    assert_eq!(parties, ["alice", "mallory"]);
    assert_eq!(war.fields.iter().map(|field| field.path.as_str()).collect::<Vec<_>>(), ["data.x"]);
    assert!(war.retakes >= 2 * ROUNDS - 2 - missed, "{} retakes", war.retakes);
}

#[test]
fn one_contested_field_is_found_among_any_number_of_others() {
    for others in [10, 300, 5_000, 50_000] {
        // The changes of the first update are unknown.
        is_found(&fight(How::Updates, others, |_| Vec::new()), 1);
    }
}

#[test]
fn a_war_hidden_behind_changing_fields_is_found() {
    for dummies in [10, 300, 3_000] {
        // First the same fields with different values each time, then different fields each time that are removed
        // again.
        let same = |round: u32| (0..dummies).map(|n| (format!("d{n}"), json!(round.to_string()))).collect();
        let rotating = |round: u32| {
            let gone = |n: u32| (format!("d{}-{n}", round.saturating_sub(1)), Value::Null);
            let new = |n: u32| (format!("d{round}-{n}"), json!("1"));
            (0..dummies).map(gone).chain((0..dummies).map(new)).collect()
        };
        for how in [How::Patches, How::Updates] {
            is_found(&fight(how, 0, same), 4);
            is_found(&fight(how, 0, rotating), 8);
        }
    }
}

#[test]
fn fields_beyond_the_tracking_limit_are_counted_in_the_evidence() {
    let mut lines = Vec::new();
    for n in 0..2 * ROUNDS {
        let (user, value) = if n.is_multiple_of(2) { ("alice", "a") } else { ("bob", "b") };
        let data: Map<String, Value> = (0..300).map(|field| (format!("f{field}"), json!(value))).collect();
        lines.push(event(n, user, How::Patches, &data));
    }
    let report = util::report(&util::pipeline_of(lines.iter().map(Vec::as_slice)));
    let [war] = report.wars.as_slice() else { panic!("one war: {report:?}") };
    assert_eq!((war.retakes, war.fields.len()), (2 * ROUNDS - 2, 256));
    assert!(war.fields.iter().all(|field| field.retakes == 2 * ROUNDS - 2), "none of them was given up on the way");
    assert!(war.evidence.iter().any(|text| text.starts_with("44 more fields")), "{:?}", war.evidence);
}

#[test]
fn untracked_fields_are_reported_in_the_evidence() {
    let report = fight(How::Patches, 0, |round| (0..300).map(|n| (format!("d{round}-{n}"), json!("1"))).collect());
    let evidence = report.wars[0].evidence.join("\n");
    assert!(evidence.contains("more fields change"), "{evidence}");
}
