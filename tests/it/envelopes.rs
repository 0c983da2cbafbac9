//! Every format that audit events leave a cluster in: the verdicts are those of the plain log, as far as the format has its
//! facts.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;

use editwar::audit::decoded_chunk::DecodedChunk;
use editwar::detect::policy::Policy;
use editwar::ingest::files;
use editwar::pipeline::{Batch, Bounds, Pipeline};
use editwar::query::views::Report;

use crate::util;
use crate::wrappers::{Facts, WRAPPERS, Wrapped};

struct Consumer<'p>(Batch<'p>, Vec<String>);

impl files::Consumer for Consumer<'_> {
    fn ingest(&mut self, _: usize, chunk: &DecodedChunk<'_>, before: u64) {
        self.0.ingest(chunk, before);
    }

    fn broken(&mut self, error: files::Error) {
        self.1.push(error.to_string());
    }
}

/// Analyzes a file.
fn report_of(path: &Path) -> Report {
    let inputs = files::inputs(&[path.to_owned()]).unwrap();
    let pipeline = Pipeline::new(Policy::default(), Bounds::default()).recorded();
    let mut consumer = Consumer(pipeline.batch("", "log"), Vec::new());
    files::read(&inputs, NonZeroUsize::MIN, &Arc::default(), &mut consumer);
    assert_eq!(consumer.1, [""; 0], "{}", path.display());
    drop(consumer);
    drop(pipeline.end());
    util::report(&pipeline)
}

/// Returns what a report says about wars: each with its parties, fields and values.
fn verdicts(report: &Report) -> BTreeSet<String> {
    let war = |war: &editwar::query::views::War| {
        let parties: Vec<String> =
            war.parties.iter().map(|p| format!("{} {:?} {:?} {:?}", p.actor, p.class, p.writes, p.retakes)).collect();
        let fields: Vec<String> =
            war.fields.iter().map(|f| format!("{} {} {:?}", f.path, f.retakes, f.values)).collect();
        format!(
            "{} {:?} {:?} {:?} {} retakes from {} to {}: {parties:?} over {fields:?}",
            util::name(&war.object),
            war.confidence,
            war.state,
            war.cause,
            war.retakes,
            war.since,
            war.until
        )
    };
    report.wars.iter().map(war).collect()
}

fn logs() -> Vec<String> {
    let mut names = util::smaller_recordings();
    if std::env::var_os("EDITWAR_SEEDS").is_none() {
        names.retain(|name| util::log(name).len() <= 2 << 20);
    }
    names
}

/// Wars that Cloud Audit Logs do not show: of an impersonated user, and of two tools of one account that only their field
/// managers tell apart.
const LOST: [&str; 2] = ["configmaps war/imp", "configmaps war/twotools"];

/// Calls `check` with the plain report of each recording and with each wrapped log: in the gate with every sixth of the
/// smaller ones.
fn each(check: impl Fn(&str, &Report, &Wrapped, &Report)) {
    let is_whole = std::env::var_os("EDITWAR_SEEDS").is_some();
    let folder = tempfile::tempdir().unwrap();
    for (number, recording) in logs().iter().enumerate() {
        let log = util::log(recording);
        let log = std::str::from_utf8(&log).unwrap();
        let events: Vec<&str> = log.lines().filter(|line| !line.is_empty()).collect();
        let path = folder.path().join("plain.log");
        std::fs::write(&path, log).unwrap();
        let plain = report_of(&path);
        for (at, wrapper) in WRAPPERS.iter().enumerate() {
            if !is_whole && (at + number) % 6 != 0 {
                continue;
            }
            let wrapped = Wrapped::new(wrapper, &events);
            let path = folder.path().join("wrapped");
            std::fs::write(&path, &wrapped.bytes).unwrap();
            check(recording, &plain, &wrapped, &report_of(&path));
        }
    }
}

#[test]
fn wrapped_recordings_have_the_verdicts_of_the_plain_log() {
    each(|recording, plain, wrapped, found| {
        let name = format!("{recording} as {}", wrapped.name);
        let (mut expected, found_verdicts) = (verdicts(plain), verdicts(found));
        if wrapped.facts != Facts::WithoutQuery {
            if wrapped.facts == Facts::WithoutImpersonation {
                expected.retain(|verdict| !verdict.starts_with(LOST[0]));
            }
            assert_eq!(found_verdicts, expected, "{name}");
            assert_eq!(found.stats.counters.malformed, plain.stats.counters.malformed, "{name}");
            assert_eq!(found.stats.counters.writes, plain.stats.counters.writes, "{name}");
        } else {
            // Without the field manager, a war may be known with less confidence, but there is none that is not there.
            let objects = |report: &Report| report.wars.iter().map(|w| util::name(&w.object)).collect::<BTreeSet<_>>();
            let loud = |report: &Report| {
                report.wars.iter().filter(|w| w.is_loud()).map(|w| util::name(&w.object)).collect::<BTreeSet<_>>()
            };
            let (mut missed, false_wars) = (&loud(plain) - &objects(found), &loud(found) - &objects(plain));
            missed.retain(|object| !LOST.contains(&object.as_str()));
            assert!(missed.is_empty() && false_wars.is_empty(), "{name}: missed {missed:?}, false {false_wars:?}");
        }
    });
}

/// Analyzes a log that is in memory.
fn report_of_bytes(bytes: &[u8]) -> Report {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    std::fs::write(&path, bytes).unwrap();
    report_of(&path)
}

fn loud(report: &Report) -> BTreeSet<String> {
    report.wars.iter().filter(|war| war.is_loud()).map(|war| util::name(&war.object)).collect()
}

#[test]
fn events_that_lost_their_bodies_give_the_verdicts_of_metadata_and_the_answer_says_so() {
    let log = util::log("gitops-vs-kubectl");
    let log = std::str::from_utf8(&log).unwrap();
    let plain = report_of_bytes(log.as_bytes());
    assert!(!loud(&plain).is_empty());
    let is_body = |line: &&str| line.contains(r#","requestObject":{"#) && line.contains(r#","responseStatus""#);

    // Cut off inside of the first body, as AKS does, but shorter.
    let cut = |line: &str| {
        let len = line.find(r#","requestObject":{"#).unwrap() + r#","requestObject":{"ki"#.len();
        serde_json::json!({"category": "kube-audit", "time": &line[line.rfind(r#""stageTimestamp":""#).unwrap() + 18..][..27],
            "properties": {"log": &line[..len], "pod": "kube-apiserver-1", "stream": "stdout"}})
    };
    let lines: Vec<&str> = log.lines().filter(|line| !line.is_empty()).collect();
    let cut: String = lines.iter().filter(|line| is_body(line)).map(|line| format!("{}\n", cut(line))).collect();
    // Bodies that were replaced by a text.
    let omitted = |line: &str| {
        let mut event: serde_json::Value = serde_json::from_str(line).unwrap();
        for body in ["requestObject", "responseObject"] {
            if event.get(body).is_some() {
                event[body] = "skipped-too-big-size-object".into();
            }
        }
        format!("{event}\n")
    };
    let omitted: String = lines.iter().filter(|line| is_body(line)).map(|line| omitted(line)).collect();

    for (name, text, caveat) in [("cut", cut, "cut off"), ("omitted", omitted, "left out")] {
        let found = report_of_bytes(text.as_bytes());
        assert_eq!(found.stats.counters.malformed, 0, "{name}");
        assert!(found.stats.counters.writes > 100, "{name}: {:?}", found.stats.counters);
        assert!(loud(&found).is_subset(&loud(&plain)), "{name}: a false war");
        assert!(
            found.wars.iter().all(|war| war.fields.iter().all(|field| field.path == "(main)")),
            "{name}: no field is known"
        );
        let missed = &loud(&plain) - &found.wars.iter().map(|war| util::name(&war.object)).collect();
        assert_eq!(missed, BTreeSet::new(), "{name}: it is at least possible");
        let caveats: Vec<&String> = found.coverage.feeds.iter().flat_map(|feed| &feed.caveats).collect();
        assert!(caveats.iter().any(|text| text.contains(caveat)), "{name}: {caveats:?}");
    }
}

#[test]
fn an_archive_is_read_like_its_directory() {
    let folder = tempfile::tempdir().unwrap();
    let log = util::log("gitops-vs-kubectl");
    let lines = util::lines(&log);
    // Two API servers, each with every other event; one of the logs compressed.
    let half = |which: usize| -> Vec<u8> {
        lines.iter().skip(which).step_by(2).flat_map(|line| [line, &b"\n"[..]].concat()).collect()
    };
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut packed, &half(1)).unwrap();
    let members = [
        ("must-gather/audit_logs/kube-apiserver/a-audit.log", half(0)),
        ("must-gather/audit_logs/kube-apiserver/b-audit.log.gz", packed.finish().unwrap()),
        ("must-gather/version.txt", b"4.20".to_vec()),
    ];
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    for (name, content) in &members {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        archive.append_data(&mut header, name, &content[..]).unwrap();
    }
    let archive = archive.into_inner().unwrap().finish().unwrap();
    let path = folder.path().join("must-gather.tar.gz");
    std::fs::write(&path, &archive).unwrap();
    let plain = report_of_bytes(&log);
    assert_eq!(verdicts(&report_of(&path)), verdicts(&plain));
    assert_eq!(verdicts(&report_of(folder.path())), verdicts(&plain), "in a directory");

    let zstd = ruzstd::encoding::compress_to_vec(&log[..], ruzstd::encoding::CompressionLevel::Fastest);
    assert_eq!(verdicts(&report_of_bytes(&zstd)), verdicts(&plain));
    // From standard input.
    let (code, out, err) = crate::cli::run(&["analyze", "-", "-o", "name"], Some(&archive));
    assert_eq!((code, out.lines().count()), (1, plain.wars.len()), "{err}");
    // Damaged ones say so.
    let (code, _, err) = crate::cli::run(&["analyze", "-"], Some(&archive[..archive.len() / 2]));
    assert!(code == 2 && err.contains("cut off"), "{code} {err}");
}

#[test]
fn a_log_that_can_mostly_not_be_read_is_no_all_clear() {
    let event = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"a","stage":"ResponseComplete","requestURI":"/","verb":"get","user":{},"requestReceivedTimestamp":"2026-11-23T00:00:01.000000Z","stageTimestamp":"2026-11-23T00:00:01.000000Z"}"#;
    let log = |unreadable: usize| format!("{event}\n{}", "{\"colour\":1}\n".repeat(unreadable));
    let (code, out, _) = crate::cli::run(&["analyze", "-"], Some(log(2).as_bytes()));
    assert!(code == 2 && out.starts_with("Incomplete: 2 of 3 events cannot be read"), "{code} {out}");
    let (code, out, _) = crate::cli::run(&["analyze", "-"], Some(log(1).as_bytes()));
    assert!(code == 0 && out.starts_with("Incomplete: 1 of 2 events cannot be read"), "{code} {out}");
}

#[test]
fn an_input_is_explained() {
    let log = util::log("setup");
    let events: Vec<&str> = std::str::from_utf8(&log).unwrap().lines().collect();
    let (_, _, wrap) = WRAPPERS.iter().find(|(name, ..)| *name == "Firehose").unwrap();
    let mut text = wrap(&events);
    text.extend_from_slice(b"{\"colour\":\"green\",\"size\":1}\nsome text\n");
    let (code, out, err) = crate::cli::run(&["analyze", "--explain-input", "-"], Some(&text));
    assert_eq!(code, 0, "{err}");
    let line = text.iter().filter(|b| **b == b'\n').count() - 1;
    for expected in [
        format!("Format:   Firehose > CloudWatch ({} events)", events.len()),
        "Other:    1 log entries about something else".to_owned(),
        format!("Not read: 1 unknown_format, the first in line {line}, with the keys colour, size"),
    ] {
        assert!(out.contains(&expected), "{expected}:\n{out}");
    }
    let (code, out, _) = crate::cli::run(&["analyze", "--explain-input", "-", "-o", "json"], Some(b"hello\n"));
    assert!(code == 2 && out.contains("It has no audit events."), "{out}");
}

#[test]
fn a_log_that_changes_its_format_is_read_to_its_end() {
    let log = util::log("gitops-vs-kubectl");
    let lines: Vec<&str> = std::str::from_utf8(&log).unwrap().lines().filter(|line| !line.is_empty()).collect();
    let plain = verdicts(&report_of_bytes(&log));
    let wrapped = |lines: &[&str]| -> String {
        lines.iter().map(|line| format!("{}\n", serde_json::json!({"log": line, "stream": "stdout"}))).collect()
    };
    let native = |lines: &[&str]| -> String { lines.iter().map(|line| format!("{line}\n")).collect() };
    for at in [1, 60, lines.len() / 2, lines.len() - 1] {
        let (first, rest) = lines.split_at(at);
        for text in [native(first) + &wrapped(rest), wrapped(first) + &native(rest)] {
            let report = report_of_bytes(text.as_bytes());
            assert_eq!((verdicts(&report), report.stats.counters.malformed), (plain.clone(), 0), "from line {at}");
        }
    }
}

/// Returns the reviews that an admission webhook would have seen of the writes of a log, as kube-audit-rest logs them. What
/// was refused later is not among them.
fn reviews(log: &str) -> String {
    let mut before: std::collections::BTreeMap<String, serde_json::Value> = std::collections::BTreeMap::new();
    let mut reviews = String::new();
    for line in log.lines().filter(|line| line.contains(r#""stage":"ResponseComplete""#)) {
        let event: serde_json::Value = serde_json::from_str(line).unwrap();
        let (verb, reference) = (event["verb"].as_str().unwrap(), &event["objectRef"]);
        let code = event["responseStatus"]["code"].as_u64().unwrap_or(0);
        let operation = match verb {
            "create" => "CREATE",
            "update" | "patch" if code == 201 => "CREATE",
            "update" | "patch" => "UPDATE",
            "delete" => "DELETE",
            _ => continue,
        };
        let (resource, group) = (reference["resource"].as_str().unwrap(), reference["apiGroup"].as_str().unwrap_or(""));
        let is_left_out =
            group == "coordination.k8s.io" || matches!(resource, "events" | "secrets" | "endpoints" | "endpointslices");
        if !(200..300).contains(&code) || is_left_out {
            continue;
        }
        let object = &event["responseObject"];
        let name = reference["name"].as_str().or_else(|| object["metadata"]["name"].as_str()).unwrap_or_default();
        let key = format!("{group}/{resource}/{}/{name}", reference["namespace"].as_str().unwrap_or(""));
        let subresource = reference["subresource"].as_str().unwrap_or("");
        let is_whole =
            matches!(subresource, "" | "status") && object["metadata"].is_object() && object["kind"] != "Status";
        let old = before.get(&key).cloned().unwrap_or_default();
        let user = event["impersonatedUser"].as_object().map_or(&event["user"], |_| &event["impersonatedUser"]);
        let query: std::collections::HashMap<String, String> = event["requestURI"]
            .as_str()
            .and_then(|uri| uri.split_once('?'))
            .map(|(_, query)| form_urlencoded::parse(query.as_bytes()).into_owned().collect())
            .unwrap_or_default();
        let (object, old) = match (operation, subresource) {
            ("DELETE", _) => (serde_json::Value::Null, old),
            (_, "scale") => (object.clone(), serde_json::Value::Null),
            _ if is_whole => (object.clone(), old),
            _ => continue,
        };
        // Of an object that was there before the log, the first write is not a review that can be made.
        if operation == "UPDATE" && subresource != "scale" && old.is_null() {
            before.insert(key, object);
            continue;
        }
        let review = serde_json::json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": {
            "uid": event["auditID"], "operation": operation, "name": name, "namespace": reference["namespace"],
            "resource": {"group": group, "version": reference["apiVersion"], "resource": resource}, "subResource": subresource,
            "userInfo": user, "object": object, "oldObject": old, "dryRun": query.contains_key("dryRun"),
            "options": {"kind": if verb == "patch" { "PatchOptions" } else { "UpdateOptions" },
                        "fieldManager": query.get("fieldManager"), "force": query.get("force").map(|force| force == "true")}},
            "requestReceivedTimestamp": event["requestReceivedTimestamp"]});
        reviews += &format!("{review}\n");
        if query.contains_key("dryRun") {
            continue;
        }
        match operation {
            "DELETE" => drop(before.remove(&key)),
            _ if is_whole => drop(before.insert(key, object)),
            _ => {}
        }
    }
    reviews
}

/// Returns the loud wars of a report: objects, parties and fields.
fn shown(report: &Report) -> BTreeSet<String> {
    let war = |war: &editwar::query::views::War| {
        let parties: BTreeSet<&str> = war.parties.iter().map(|party| party.actor.as_str()).collect();
        let fields: BTreeSet<&str> = war.fields.iter().map(|field| field.path.as_str()).collect();
        format!("{} {parties:?} {fields:?}", util::name(&war.object))
    };
    report.wars.iter().filter(|war| war.is_loud()).map(war).collect()
}

const REVIEWED: [&str; 6] =
    ["gitops-vs-kubectl", "hpa-vs-applier", "flux-vs-alice", "node-flap", "quota-peace", "together-flux-peace"];

#[test]
fn reviews_of_an_admission_webhook_show_the_same_wars_and_no_others() {
    for recording in REVIEWED {
        let log = util::log(recording);
        let found = report_of_bytes(reviews(std::str::from_utf8(&log).unwrap()).as_bytes());
        assert_eq!(found.stats.counters.malformed, 0, "{recording}");
        assert_eq!(shown(&found), shown(&report_of_bytes(&log)), "{recording}");
    }
}

/// Returns the writes and failures of a log with their reviews in front of them, and with the annotations that editwar's
/// answers add, in the order of a list of (time, line). `level` is that of the audit events.
fn beside_reviews(log: &str, level: &str) -> Vec<(String, String)> {
    let reviews = reviews(log);
    let id = |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["request"]["uid"].to_string();
    let reviews: std::collections::HashMap<String, &str> = reviews.lines().map(|line| (id(line), line)).collect();
    let mut lines = Vec::new();
    for line in log.lines().filter(|line| !line.is_empty()) {
        let mut event: serde_json::Value = serde_json::from_str(line).unwrap();
        let time = |event: &serde_json::Value, key: &str| event[key].as_str().unwrap_or_default().to_owned();
        if let Some(review) = reviews.get(&event["auditID"].to_string())
            && event["stage"] == "ResponseComplete"
        {
            lines.push((time(&event, "requestReceivedTimestamp"), (*review).to_owned()));
            let key = format!("observe.editwar.dev/review.{}", event["auditID"].as_str().unwrap());
            event["annotations"][key] = "".into();
        }
        if level == "Metadata" {
            event["level"] = "Metadata".into();
            for body in ["requestObject", "responseObject"] {
                event.as_object_mut().unwrap().remove(body);
            }
        }
        lines.push((time(&event, "stageTimestamp"), event.to_string()));
    }
    lines
}

fn joined_lines(lines: &[(String, String)]) -> String {
    lines.iter().map(|(_, line)| format!("{line}\n")).collect()
}

#[test]
fn reviews_beside_an_audit_log_count_each_write_once() {
    for recording in REVIEWED {
        let log = util::log(recording);
        let plain = report_of_bytes(&log);
        let log = std::str::from_utf8(&log).unwrap();
        for level in ["Metadata", "RequestResponse"] {
            let lines = beside_reviews(log, level);
            let report = report_of_bytes(joined_lines(&lines).as_bytes());
            assert_eq!(shown(&report), shown(&plain), "{recording} at {level}");
            let retakes = |report: &Report| -> Vec<(String, u32)> {
                report
                    .wars
                    .iter()
                    .filter(|war| war.is_loud())
                    .map(|war| (util::name(&war.object), war.retakes))
                    .collect()
            };
            assert_eq!(retakes(&report), retakes(&plain), "{recording} at {level}");
            // Without a body, an audit event does not show a name that was generated.
            let is_unnamed = |line: &&str| line.contains(r#""verb":"create""#) && !line.contains(r#""name":"#);
            let unnamed = lines.iter().map(|(_, line)| line.as_str()).filter(is_unnamed);
            let reviewed = unnamed.clone().filter(|line| line.contains("review.")).count() as u64;
            assert_eq!(report.coverage.levels.reviewed, reviewed, "{recording} at {level}");
            let counted = |report: &Report| report.stats.counters.writes + report.stats.counters.no_ops;
            let is_write = |line: &&str| line.contains(r#""code":201"#) && !line.contains("/token");
            let unseen = unnamed.filter(is_write).count() as u64 - reviewed;
            let expected = counted(&plain) - unseen.min(counted(&plain))..=counted(&plain);
            assert!(
                expected.contains(&counted(&report)),
                "{recording} at {level}: {} of {expected:?}",
                counted(&report)
            );
        }
    }
}

#[test]
fn a_review_counts_only_as_what_its_audit_event_says() {
    let log = util::log("gitops-vs-kubectl");
    let log = std::str::from_utf8(&log).unwrap();
    let plain = report_of_bytes(log.as_bytes());
    let lines = beside_reviews(log, "Metadata");
    let is_review = |line: &str| line.contains("AdmissionReview");
    let verdict = |lines: &[(String, String)]| {
        let report = report_of_bytes(joined_lines(lines).as_bytes());
        (shown(&report), report.stats.counters.writes, report.coverage.levels.reviewed)
    };
    let paired = verdict(&lines);
    assert_eq!((&paired.0, paired.2), (&shown(&plain), 0));

    // Audit events that are posted again, and reviews that are asked again.
    let twice: Vec<_> = lines.iter().flat_map(|line| [line.clone(), line.clone()]).collect();
    assert_eq!(verdict(&twice), paired, "twice");

    // A journal is replayed in the order of the requests, and a request arrives before it is reviewed.
    let mut replayed = lines.clone();
    replayed.sort_by_key(|(_, line)| {
        let value: serde_json::Value = serde_json::from_str(line).unwrap();
        (value["requestReceivedTimestamp"].as_str().unwrap_or_default().to_owned(), is_review(line))
    });
    assert_eq!(verdict(&replayed), paired, "audit events before their reviews");

    // Audit events that are very late, without and with bodies.
    for level in ["Metadata", "RequestResponse"] {
        let (reviews, audit): (Vec<_>, Vec<_>) =
            beside_reviews(log, level).into_iter().partition(|(_, line)| is_review(line));
        let late: Vec<_> = reviews.into_iter().chain(audit).collect();
        assert_eq!(verdict(&late), paired, "audit events at {level} after all reviews");
    }
    let reviews: Vec<_> = lines.iter().filter(|(_, line)| is_review(line)).collect();

    // The review of a write is lost: the audit event is observed without fields, and the verdict is that of the others.
    let some = lines.iter().enumerate().filter(|(at, (_, line))| !is_review(line) || at % 7 > 0);
    let (found, writes, _) = verdict(&some.map(|(_, line)| line.clone()).collect::<Vec<_>>());
    assert!(found.is_subset(&paired.0) && writes == paired.1, "{found:?}, {writes} writes");

    // Every request was refused after its review: a quota or another webhook denied it.
    let refused = |code: &str, reason: &str| -> Vec<(String, String)> {
        let refuse = |(time, line): &(String, String)| {
            let mut event: serde_json::Value = serde_json::from_str(line).unwrap();
            if event["kind"] == "Event" && event["verb"] != "get" && event["verb"] != "watch" && event["verb"] != "list"
            {
                event["responseStatus"] = serde_json::json!({"code": code.parse::<u16>().unwrap(), "reason": reason, "status": "Failure", "message": "exceeded"});
            }
            (time.clone(), event.to_string())
        };
        lines.iter().map(refuse).collect()
    };
    for (code, reason) in [("403", "Forbidden"), ("409", "Conflict"), ("422", "Invalid")] {
        assert_eq!(verdict(&refused(code, reason)), (BTreeSet::new(), 0, 0), "{code}");
    }

    // A request that was tried again because of a conflict: the first review was not stored.
    let other = |id: &str| format!("{}{}", if id.starts_with('f') { '0' } else { 'f' }, &id[1..]);
    let update = |(_, line): &(String, String)| -> Option<String> {
        let review: serde_json::Value = serde_json::from_str(line).unwrap();
        (review["request"]["operation"] == "UPDATE").then(|| review["request"]["uid"].as_str().unwrap().to_owned())
    };
    let updates: BTreeSet<String> = reviews.into_iter().filter_map(update).collect();
    let retried = lines.iter().flat_map(|(time, line)| {
        let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
        if is_review(line) && value["request"]["operation"] == "UPDATE" {
            let id = value["request"]["uid"].as_str().unwrap().to_owned();
            value["request"]["uid"] = other(&id).into();
            value["request"]["object"]["metadata"]["labels"] = serde_json::json!({"never": "stored"});
            let at: jiff::Timestamp = value["requestReceivedTimestamp"].as_str().unwrap().parse().unwrap();
            value["requestReceivedTimestamp"] = (at - jiff::SignedDuration::from_millis(1)).to_string().into();
            vec![(time.clone(), value.to_string()), (time.clone(), line.clone())]
        } else {
            let id = value["auditID"].as_str().unwrap_or_default().to_owned();
            if line.contains("observe.editwar.dev") && updates.contains(&id) {
                value["annotations"][format!("observe.editwar.dev/review.{}", other(&id))] = "".into();
            }
            vec![(time.clone(), value.to_string())]
        }
    });
    let (found, writes, only_reviewed) = verdict(&retried.collect::<Vec<_>>());
    assert_eq!((found, writes, only_reviewed), paired, "tried again");
}
