//! Compares verdicts with the truth: every recording has expected verdicts, reviewed by hand.

use std::collections::{BTreeMap, BTreeSet};

use editwar::query::views::Report;
use serde::Deserialize;
use serde_json::Value;

use crate::util;

#[derive(Deserialize)]
struct Expected {
    wars: Vec<War>,
    flapping: Vec<Flapping>,
    /// Objects with contention. Not compared if null.
    contention: Option<Vec<String>>,
    hot_loops: Vec<String>,
    /// Excessive co-operation, such as `nodes /node-2: flapping condition`.
    #[serde(default)]
    cooperation: Vec<String>,
    /// Retakes by object and field, computed from the stored objects without editwar. The numbers found may differ by
    /// one if the field was not set at creation.
    #[serde(default)]
    truth: BTreeMap<String, u32>,
}

#[derive(Deserialize)]
struct War {
    object: String,
    confidence: String,
    cause: String,
    state: String,
    retakes: u32,
    thrashing_events: u32,
    parties: BTreeMap<String, Party>,
    fields: BTreeMap<String, Field>,
    /// Number of writes of other writers. Not compared if null.
    other_writers: Option<BTreeMap<String, u32>>,
}

#[derive(Deserialize)]
struct Party {
    writes: Option<u32>,
    retakes: Option<u32>,
    class: String,
}

#[derive(Deserialize)]
struct Field {
    retakes: u32,
    values: Vec<(Value, String, u32)>,
}

#[derive(Deserialize, PartialEq, Debug)]
struct Flapping {
    object: String,
    actor: String,
    by: String,
    accepted: u32,
    rejected: u32,
    turns: u32,
}

#[test]
fn verdicts_match_the_reviewed_truth() {
    for recording in util::recordings() {
        let log = util::log(&recording);
        let report = util::report(&util::pipeline_of(util::lines(&log)));
        check(&recording, &format!("fixtures/recordings/{recording}/expected.yaml"), &report);
    }
}

/// Compares a report with the expected verdicts in a file.
pub(crate) fn check(recording: &str, expected: &str, report: &Report) {
    let text = std::fs::read_to_string(util::path(expected));
    let expected: Expected = serde_yaml_ng::from_str(&text.unwrap()).unwrap();

    let objects = |names: Vec<String>| names.into_iter().collect::<BTreeSet<String>>();
    // One object may have several wars over different fields.
    let found_over = |war: &editwar::query::views::War| {
        let paths: BTreeSet<&str> = war.fields.iter().map(|field| field.path.as_str()).collect();
        format!("{} over {paths:?}", util::name(&war.object))
    };
    let expected_over = |war: &War| {
        let paths: BTreeSet<&str> = war.fields.keys().map(String::as_str).collect();
        format!("{} over {paths:?}", war.object)
    };
    let found = objects(report.wars.iter().map(found_over).collect());
    assert_eq!(found, objects(expected.wars.iter().map(expected_over).collect()), "{recording}: wars");
    for war in &expected.wars {
        let found = report.wars.iter().find(|f| found_over(f) == expected_over(war)).expect("just compared");
        compare(recording, war, found);
    }
    let retakes: BTreeMap<String, u32> = report
        .wars
        .iter()
        .flat_map(|w| w.fields.iter().map(|f| (format!("{} {}", util::name(&w.object), f.path), f.retakes)))
        .collect();
    for (field, truth) in &expected.truth {
        let found = retakes.get(field).copied().unwrap_or_default();
        assert!(found.abs_diff(*truth) <= 1, "{recording}: {field}: {found} retakes, truly {truth}");
    }
    let flapping: Vec<Flapping> = report
        .flapping
        .iter()
        .map(|f| Flapping {
            object: util::name(&f.object),
            actor: f.actor.clone(),
            by: f.by.clone(),
            accepted: f.accepted,
            rejected: f.rejected,
            turns: f.alternations,
        })
        .collect();
    assert_eq!(flapping, expected.flapping, "{recording}: flapping");
    if let Some(contention) = expected.contention {
        let found = report.contention.iter().map(|c| util::name(&c.object)).collect();
        assert_eq!(objects(found), objects(contention), "{recording}: contention");
    }
    let hot: Vec<String> = report.hot_loops.iter().map(|h| util::name(&h.object)).collect();
    assert_eq!(hot, expected.hot_loops, "{recording}: hot loops");
    let excess = |c: &editwar::query::views::Cooperation| {
        format!("{}: {}", util::name(&c.object), c.excess.as_deref().unwrap_or_default())
    };
    let cooperation: Vec<String> = report.cooperation.iter().map(excess).collect();
    assert_eq!(cooperation, expected.cooperation, "{recording}: co-operation");
}

fn compare(recording: &str, war: &War, found: &editwar::query::views::War) {
    let at = format!("{recording}: {}", war.object);
    assert_eq!(found.confidence.as_str(), war.confidence, "{at}");
    assert_eq!(found.cause.as_str(), war.cause, "{at}");
    assert_eq!(found.state.as_str(), war.state, "{at}");
    assert_eq!((found.retakes, found.thrashing_events), (war.retakes, war.thrashing_events), "{at}");

    let names: BTreeSet<&str> = found.parties.iter().map(|p| p.actor.as_str()).collect();
    assert_eq!(names, war.parties.keys().map(String::as_str).collect(), "{at}: parties");
    for party in &found.parties {
        let expected = &war.parties[&party.actor];
        assert_eq!(party.class.as_str(), expected.class, "{at}: {}", party.actor);
        if let Some(writes) = expected.writes {
            assert_eq!(party.writes, writes, "{at}: writes of {}", party.actor);
        }
        if let Some(retakes) = expected.retakes {
            assert_eq!(party.retakes, retakes, "{at}: retakes of {}", party.actor);
        }
    }
    assert_eq!(found.parties.iter().map(|p| p.retakes).sum::<u32>(), found.retakes, "{at}: each retake is somebody's");

    let paths: BTreeSet<&str> = found.fields.iter().map(|f| f.path.as_str()).collect();
    assert_eq!(paths, war.fields.keys().map(String::as_str).collect(), "{at}: fields");
    for field in &found.fields {
        let expected = &war.fields[&field.path];
        assert_eq!(field.retakes, expected.retakes, "{at}: {}", field.path);
        let value = |v: &editwar::query::views::Value| {
            if v.absent {
                "(absent)".into()
            } else if v.redacted {
                "(hidden)".into()
            } else {
                v.value.clone()
            }
        };
        let sorted = |values: Vec<(Value, String, u32)>| {
            let mut texts: Vec<String> = values.iter().map(|(v, actor, n)| format!("{v} by {actor} {n}")).collect();
            texts.sort();
            texts
        };
        let values = field.values.iter().map(|v| (value(v), v.actor.clone(), v.count)).collect();
        assert_eq!(sorted(values), sorted(expected.values.clone()), "{at}: {}", field.path);
    }
    if let Some(other_writers) = &war.other_writers {
        let found = found.other_writers.iter().map(|b| (b.actor.clone(), b.writes)).collect();
        assert_eq!(*other_writers, found, "{at}: other_writers");
    }
}

#[test]
fn values_of_secrets_are_never_shown() {
    for recording in ["oddities", "oddities-request"] {
        let log = util::log(recording);
        let pipeline = util::pipeline_of(util::lines(&log));
        let text = serde_json::to_string(&util::report(&pipeline)).unwrap();
        assert!(text.contains("data.p"), "the field is named");
        // base64 of aaa and bbb, as in truth.txt, and the content of stringData.
        for secret in ["YWFh", "YmJi", "\"aaa\"", "\"bbb\""] {
            assert!(!text.contains(secret), "{recording}: {secret} is shown");
        }
    }
}
