//! Small logs, each about one question: is this a war, and whose? Each was checked by hand, and must have the same
//! result in any order of arrival.

use std::collections::BTreeSet;

use editwar::audit::event::parse_timestamp;
use editwar::query::views::{Report, War};
use serde_json::Value;

use crate::util;

/// Logs without a war, and the reason why.
const PEACE: &[(&str, &str)] = &[
    ("annotation_leader", "a leader lock in an annotation: its holders take turns"),
    ("cert_issuing", "two controllers of cert-manager, one program: one asks, the other one answers"),
    ("counter_two", "a counter as text that two workers count up"),
    ("counter_two_number", "a counter that two workers count up"),
    ("image_mirror_webhook", "a webhook renames each new image: no value returns"),
    ("keda_hpa", "KEDA switches between zero and one, its autoscaler scales above"),
    ("label_after_recreate", "each new pod is labelled anew"),
    ("lease_turns", "the holders of a Lease take turns"),
    ("list_two", "a list that two append to, cut to its last items"),
    ("noop_rate", "one actor that changes nothing four times a minute"),
    ("own_finalizers", "three controllers, each with its own finalizer"),
    ("person_restarts_pod", "a person deletes a pod so that it is made anew"),
    ("quantity_forms", "2000m and 2 are one value, which the API server stores in one form"),
    ("quota_used", "admission counts up, the quota controller corrects"),
    ("same_precondition_late", "of two updates of one revision one changed nothing"),
    ("same_precondition_noop", "of two updates of one revision one changed nothing"),
    ("tf_lock", "Terraform's lock: taken and released"),
    ("ttl_job", "a finished Job is removed, and a pipeline runs the next one"),
    ("two_pipelines", "two pipelines roll out ever new versions, minutes apart"),
];

struct Expected {
    case: &'static str,
    object: &'static str,
    field: &'static str,
    parties: [&'static str; 2],
    retakes: u32,
    cause: &'static str,
    confidence: &'static str,
}

/// The contested fields, parties and numbers of retakes, counted by hand: the third of the writes of two alternating
/// actors is the first retake, and a creation is a write.
const WARS: &[Expected] = &[
    Expected {
        case: "cause_eks_addon",
        object: "configmaps demo/settings",
        field: "data.mode",
        parties: ["eks:addon-manager", "system:serviceaccount:ci:terraform"],
        retakes: 13,
        cause: "conflicting_automation",
        confidence: "confirmed",
    },
    Expected {
        case: "cause_terraform",
        object: "configmaps demo/settings",
        field: "data.mode",
        parties: ["system:serviceaccount:lb:lb-operator", "terraform"],
        retakes: 13,
        cause: "conflicting_automation",
        confidence: "confirmed",
    },
    Expected {
        case: "put_blamed_for_patch",
        object: "configmaps demo/m",
        field: "data.owner",
        parties: ["system:serviceaccount:x:alpha", "system:serviceaccount:y:beta"],
        retakes: 18,
        cause: "conflicting_automation",
        confidence: "probable",
    },
    Expected {
        case: "scale_path_field",
        object: "machines.cluster.x-k8s.io demo/pool",
        field: "spec.size",
        parties: [
            "system:serviceaccount:argocd:argocd-application-controller",
            "system:serviceaccount:keda:keda-operator",
        ],
        retakes: 17,
        cause: "conflicting_automation",
        confidence: "confirmed",
    },
    Expected {
        case: "scale_path_request",
        object: "machines.cluster.x-k8s.io demo/pool",
        field: "spec.size",
        parties: [
            "system:serviceaccount:argocd:argocd-application-controller",
            "system:serviceaccount:keda:keda-operator",
        ],
        retakes: 17,
        cause: "conflicting_automation",
        confidence: "probable",
    },
    Expected {
        case: "slow_14_in_6h",
        object: "configmaps demo/settings",
        field: "data.mode",
        parties: ["system:serviceaccount:flux-system:kustomize-controller", "system:serviceaccount:x:app-operator"],
        retakes: 19,
        cause: "conflicting_automation",
        confidence: "confirmed",
    },
    Expected {
        case: "webhook_against_put_party",
        object: "deployments.apps demo/web",
        field: "spec.replicas",
        parties: ["system:serviceaccount:app:app-operator", "webhook min-replicas/min.example.com"],
        retakes: 17,
        cause: "flapping_webhook",
        confidence: "confirmed",
    },
    Expected {
        case: "webhook_sets_unasked_field",
        object: "deployments.apps demo/web",
        field: "spec.replicas",
        parties: ["system:serviceaccount:app:app-operator", "webhook min-replicas/min.example.com"],
        retakes: 17,
        cause: "flapping_webhook",
        confidence: "confirmed",
    },
];

fn lines(case: &str) -> Vec<Vec<u8>> {
    let log = util::unpacked(&format!("fixtures/cases/{case}.log.gz"));
    util::lines(&log).into_iter().map(<[u8]>::to_vec).collect()
}

fn found(lines: &[Vec<u8>]) -> Report {
    util::report(&util::pipeline_of(lines.iter().map(Vec::as_slice)))
}

fn loud(report: &Report) -> Vec<&War> {
    report.wars.iter().filter(|war| war.is_loud()).collect()
}

/// Returns the orders in which a log may arrive, with their names.
fn arrivals(lines: &[Vec<u8>]) -> Vec<(&'static str, Vec<Vec<u8>>)> {
    let mut seed = 17;
    let mut shuffled: Vec<(i64, Vec<u8>)> =
        lines.iter().map(|line| (time(line, "stageTimestamp") + next(&mut seed) % 60_000_000, line.clone())).collect();
    shuffled.sort();
    let twice = lines.iter().flat_map(|line| [line.clone(), line.clone()]).collect();
    let late = lines.iter().chain(lines).cloned().collect();
    let mut by_time = lines.to_vec();
    by_time.sort_by_key(|line| time(line, "requestReceivedTimestamp"));
    vec![
        ("as it is", lines.to_vec()),
        ("by time", by_time),
        ("shuffled within a minute", shuffled.into_iter().map(|(_, line)| line).collect()),
        ("each line twice", twice),
        ("all of it again", late),
    ]
}

fn time(line: &[u8], key: &str) -> i64 {
    let event: Value = serde_json::from_slice(line).unwrap();
    parse_timestamp(event[key].as_str().unwrap()).unwrap()
}

fn next(seed: &mut u64) -> i64 {
    *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) as i64
}

#[test]
fn peaceful_cases_have_no_war_in_any_order_of_arrival() {
    for (case, why) in PEACE {
        for (arrival, lines) in arrivals(&lines(case)) {
            let report = found(&lines);
            assert!(loud(&report).is_empty(), "{case}, {arrival}: {why}: {:#?}", loud(&report));
        }
    }
}

#[test]
fn wars_are_found_with_their_parties_fields_counts_and_causes() {
    for expected in WARS {
        for (arrival, lines) in arrivals(&lines(expected.case)) {
            let at = format!("{}, {arrival}", expected.case);
            let report = found(&lines);
            let [war] = loud(&report)[..] else { panic!("{at}: one war, not {:#?}", report.wars) };
            assert_eq!(util::name(&war.object), expected.object, "{at}");
            let paths: Vec<&str> = war.fields.iter().map(|field| field.path.as_str()).collect();
            assert_eq!(paths, [expected.field], "{at}");
            let parties: BTreeSet<&str> = war.parties.iter().map(|party| party.actor.as_str()).collect();
            assert_eq!(parties, expected.parties.into(), "{at}");
            assert_eq!((war.retakes, war.cause.as_str()), (expected.retakes, expected.cause), "{at}");
            assert_eq!(war.confidence.as_str(), expected.confidence, "{at}");
        }
    }
}

#[test]
fn every_case_has_an_expectation() {
    let files = std::fs::read_dir(util::path("fixtures/cases")).unwrap();
    let names = files.map(|file| file.unwrap().file_name().into_string().unwrap().replace(".log.gz", ""));
    let known: BTreeSet<String> =
        PEACE.iter().map(|(case, _)| *case).chain(WARS.iter().map(|war| war.case)).map(str::to_owned).collect();
    assert_eq!(names.collect::<BTreeSet<String>>(), known);
}

#[test]
fn four_no_ops_a_minute_are_not_a_hot_loop() {
    assert!(found(&lines("noop_rate")).hot_loops.is_empty());
}
