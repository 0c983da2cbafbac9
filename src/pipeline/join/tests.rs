use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::held::SECOND;
use super::*;
use crate::audit::decode::{Decoded, decode};
use crate::audit::decoded_chunk::DecodedChunk;
use crate::audit::revision::tracker::{Seen, Tracker};
use crate::audit::revision::{Kind, Metadata, Resource};
use crate::detect::policy::Policy;
use crate::detect::verdict::Confidence;
use crate::detect::war::War;
use crate::detect::write::classify_write;
use crate::pipeline::{Bounds, Pipeline};

/// A line of a feed, and when it arrives.
type Timed = (Micros, Vec<u8>);

/// A recording in three forms.
struct Recording {
    /// The audit events as they are.
    whole: Vec<Timed>,
    /// The audit events as level `Metadata` shows them.
    audit: Vec<Timed>,
    /// What a watch shows of the same writes.
    watch: Vec<Timed>,
}

/// One revision, as a response shows it.
struct Stored {
    resource: Resource,
    metadata: Metadata,
    object: Box<RawValue>,
    at: Micros,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    verb: &'a str,
    #[serde(borrow)]
    object_ref: Option<Reference<'a>>,
    #[serde(borrow)]
    response_object: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Reference<'a> {
    resource: &'a str,
    api_group: &'a str,
    api_version: &'a str,
}

impl Recording {
    fn read(name: &str) -> Recording {
        let path = format!("{}/fixtures/recordings/{name}/audit.log.gz", env!("CARGO_MANIFEST_DIR"));
        let mut log = Vec::new();
        flate2::read::MultiGzDecoder::new(std::fs::File::open(path).unwrap()).read_to_end(&mut log).unwrap();
        let mut found = Recording { audit: Vec::new(), watch: Vec::new(), whole: Vec::new() };
        let mut stored: Vec<Stored> = Vec::new();
        let mut scales: Vec<Scale> = Vec::new();
        for line in log.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
            let Ok(Decoded::Event(event)) = decode(line) else { continue };
            let at = event.staged.unwrap();
            found.whole.push((at, [line, b"\n"].concat()));
            found.audit.push((at, without_bodies(line)));
            let parsed: Line<'_> = serde_json::from_slice(line).unwrap();
            let is_ok = event.status.as_ref().is_some_and(|status| (200..300).contains(&status.code));
            let (Some(reference), Some(object), true) = (parsed.object_ref, parsed.response_object, is_ok) else {
                continue;
            };
            let Ok(write) = classify_write(&event) else { continue };
            if write.subresource == "scale" {
                scales.push(Scale::of(&write, object, at));
                continue;
            }
            let Some(metadata) = Metadata::of(object) else { continue };
            if parsed.verb == "delete" || !write.stored.is_whole || metadata.revision() == 0 {
                continue;
            }
            let resource = Resource {
                group: reference.api_group.to_owned(),
                version: reference.api_version.to_owned(),
                name: write.object.resource.to_owned(),
            };
            stored.push(Stored { resource, metadata, object: object.to_owned(), at });
        }
        stored.sort_by_key(|stored| stored.metadata.revision());
        scales.sort_by_key(|scale| scale.revision);
        scales.into_iter().for_each(|scale| scale.insert(&mut stored));
        found.watch = watched(&stored);
        found
    }
}

/// A write to a Scale, whose response is not the object.
struct Scale {
    uid: String,
    revision: u64,
    replicas: Value,
    entry: Value,
    at: Micros,
}

impl Scale {
    fn of(write: &Write<'_>, body: &RawValue, at: Micros) -> Scale {
        let body: Value = serde_json::from_str(body.get()).unwrap();
        let manager =
            write.field_manager.as_deref().unwrap_or_else(|| write.event.user_agent.split('/').next().unwrap());
        Scale {
            uid: body["metadata"]["uid"].as_str().unwrap().to_owned(),
            revision: write.stored.resource_version,
            replicas: body["spec"]["replicas"].clone(),
            entry: json!({
                "manager": manager, "operation": "Update", "apiVersion": "apps/v1", "subresource": "scale",
                "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:replicas": {}}},
            }),
            at,
        }
    }

    /// Inserts the revision that the API server stored: the one before it, with the number of replicas, which the scale
    /// subresource has taken over from all other managers.
    fn insert(self, stored: &mut Vec<Stored>) {
        let at = stored.partition_point(|stored| stored.metadata.revision() < self.revision);
        let is_it = |stored: &&Stored| *stored.metadata.uid == *self.uid;
        let Some(before) = stored[..at].iter().rev().find(is_it) else { return };
        let mut object: Value = serde_json::from_str(before.object.get()).unwrap();
        if object["spec"]["replicas"] == self.replicas {
            return;
        }
        object["spec"]["replicas"] = self.replicas;
        object["metadata"]["resourceVersion"] = self.revision.to_string().into();
        let Some(entries) = object["metadata"]["managedFields"].as_array_mut() else { return };
        entries.retain(|entry| entry["subresource"] != "scale");
        for entry in entries.iter_mut() {
            let spec = entry["fieldsV1"].get_mut("f:spec").and_then(Value::as_object_mut);
            spec.map(|spec| spec.remove("f:replicas"));
        }
        entries.push(self.entry);
        let object = RawValue::from_string(object.to_string()).unwrap();
        let metadata = Metadata::of(&object).unwrap();
        let new = Stored { resource: before.resource.clone(), metadata, object, at: self.at };
        stored.insert(at, new);
    }
}

/// Returns the event as level `Metadata` shows it.
fn without_bodies(line: &[u8]) -> Vec<u8> {
    let mut event: Value = serde_json::from_slice(line).unwrap();
    let members = event.as_object_mut().unwrap();
    members.insert("level".to_owned(), "Metadata".into());
    members.remove("requestObject");
    members.remove("responseObject");
    if let Some(annotations) = members.get_mut("annotations").and_then(Value::as_object_mut) {
        annotations.retain(|key, _| !key.contains("mutation.webhook"));
    }
    let mut text = serde_json::to_vec(&event).unwrap();
    text.push(b'\n');
    text
}

/// Returns what a watch shows of revisions: metadata, and values once a manager has taken over fields.
fn watched(stored: &[Stored]) -> Vec<Timed> {
    let mut trackers: BTreeMap<Resource, Tracker> = BTreeMap::new();
    let mut objects: BTreeMap<Box<str>, (&RawValue, bool)> = BTreeMap::new();
    let mut shown = Vec::new();
    for Stored { resource, metadata, object, at } in stored {
        let tracker = trackers.entry(resource.clone()).or_insert_with(|| Tracker::new(resource.clone(), 64 << 20));
        let known = objects.get(&metadata.uid).copied();
        let kind = if known.is_some() { Kind::Modified } else { Kind::Added };
        let mut lines = Vec::new();
        let is_promoted = known.is_some_and(|(_, is_promoted)| is_promoted);
        let seen = Seen { kind, metadata, object: None, at: *at };
        let observation = tracker.observe(&seen, is_promoted, &mut lines);
        let is_contested = is_promoted || (observation.is_takeover && resource.name != "secrets");
        if is_contested {
            if let Some((before, false)) = known {
                tracker.base(before, &mut lines);
            }
            tracker.observe(&Seen { object: Some(object), ..seen }, true, &mut lines);
        }
        objects.insert(metadata.uid.clone(), (&**object, is_contested));
        shown.extend(lines.split_inclusive(|b| *b == b'\n').map(|line| (*at + 20_000, line.to_vec())));
    }
    shown
}

/// Feeds both in the order of their arrival.
fn pipeline_of(feeds: &[(&str, &[Timed])]) -> Pipeline {
    let pipeline = Pipeline::new(Policy::default(), Bounds::default()).recorded();
    let mut all: Vec<(Micros, &str, &[u8])> = feeds
        .iter()
        .flat_map(|(source, lines)| lines.iter().map(move |(at, line)| (*at, *source, line.as_slice())))
        .collect();
    all.sort_by_key(|(at, ..)| *at);
    for run in all.chunk_by(|a, b| a.1 == b.1) {
        let mut batch = pipeline.batch("", run[0].1);
        let lines: Vec<u8> = run.iter().flat_map(|(_, _, line)| line.iter().copied()).collect();
        batch.ingest(&DecodedChunk::of(&lines, false, Vec::new()), 0);
    }
    drop(pipeline.end());
    pipeline
}

/// Returns the wars that are certain enough to be reported: object, fields and parties, with the number of retakes.
fn wars(pipeline: &Pipeline) -> BTreeMap<String, u32> {
    wars_of(pipeline, Confidence::Probable)
}

fn wars_of(pipeline: &Pipeline, confidence: Confidence) -> BTreeMap<String, u32> {
    let found = pipeline.table().select(|key, state| {
        let analysis = state.history()?.analysis();
        let told = |war: &War| {
            let fields: BTreeSet<String> =
                analysis.contested_fields().into_iter().map(|(path, _)| path.to_string()).collect();
            (format!("{key:?} {:?} {fields:?} {:?}", war.scope, war.parties), war.tally.retakes)
        };
        let is_certain = |war: &&War| war.confidence >= confidence && war.tally.thrashing_events > 0;
        Some(analysis.wars().filter(is_certain).map(told).collect::<Vec<_>>())
    });
    found.into_iter().flatten().collect()
}

fn later(lines: &[Timed], by: Micros) -> Vec<Timed> {
    lines.iter().map(|(at, line)| (at + by, line.clone())).collect()
}

/// The verdicts on complete audit events, and those on a watch and the same audit events at level `Metadata`.
struct Comparison {
    truth: BTreeMap<String, u32>,
    joined: BTreeMap<String, u32>,
}

/// Compares the verdicts. The audit events arrive this much later.
fn compare(name: &str, late: Micros) -> Comparison {
    let Recording { audit, watch, whole } = Recording::read(name);
    let joined = pipeline_of(&[("audit", &later(&audit, late)), ("watch", &watch)]);
    let (writes, watched) = (joined.stats().joined, watch.len() as u64);
    assert!(writes * 2 > watched, "{name}: of {watched} events of revisions, only {writes} were joined");
    Comparison { truth: wars(&pipeline_of(&[("audit", &whole)])), joined: wars(&joined) }
}

#[test]
fn with_a_watch_and_without_bodies_the_same_wars_are_found() {
    for name in [
        "aggregated-clusterroles",
        "argo-vs-hpa",
        "cainjector-vs-flux",
        "flapping-webhook",
        "flux-vs-alice",
        "flux-vs-job-ttl",
        "gitops-vs-kubectl",
        "hpa-vs-applier",
        "keda-vs-flux",
        "together-flux-peace",
    ] {
        let Comparison { truth, joined } = compare(name, 10 * SECOND);
        assert!(!truth.is_empty() && joined.keys().eq(truth.keys()), "{name}: {joined:#?} instead of {truth:#?}");
        for (war, retakes) in &truth {
            assert!(joined[war].abs_diff(*retakes) <= 2, "{name}: {war}: {} retakes, not {retakes}", joined[war]);
        }
    }
}

#[test]
fn with_a_watch_and_without_bodies_peace_is_peace() {
    for name in ["argo-peace", "certmanager-renewals", "keda-hpa-peace", "node-flap", "together-peace"] {
        let Recording { audit, watch, .. } = Recording::read(name);
        assert_eq!(wars(&pipeline_of(&[("watch", &watch)])), BTreeMap::new(), "{name}, without the audit log");
        let joined = pipeline_of(&[("watch", &watch), ("audit", &audit)]);
        assert_eq!(wars(&joined), BTreeMap::new(), "{name}");
        // What is left over are accounts that share a field manager, and an application that removes what others set.
        if !["argo-peace", "together-peace"].contains(&name) {
            assert_eq!(wars_of(&joined, Confidence::Possible), BTreeMap::new(), "{name}, undecided");
        }
    }
}

#[test]
fn audit_events_that_come_too_late_to_wait_for_name_the_accounts_afterwards() {
    for name in ["cainjector-vs-flux", "gitops-vs-kubectl", "hpa-vs-applier"] {
        let Comparison { truth, joined } = compare(name, 300 * SECOND);
        assert!(joined.keys().eq(truth.keys()), "{name}: {joined:#?} instead of {truth:#?}");
    }
}

#[test]
fn no_write_is_attributed_to_somebody_else() {
    // Fast wars of two accounts with one field manager, several writes a second, lost audit events, and objects that the
    // watch shows only in part.
    for (name, late) in [("oddities", 10), ("oddities", 300), ("webhook-faults", 10)] {
        let Comparison { truth, joined } = compare(name, late * SECOND);
        assert!(!joined.is_empty(), "{name}");
        for war in joined.keys() {
            let (object, parties) = (war.split(']').next().unwrap(), war.rsplit('[').next().unwrap());
            let is_known = |known: &&String| known.starts_with(object) && known.ends_with(parties);
            assert!(truth.keys().any(|known| is_known(&known)), "{name}: {war} is not one of {truth:#?}");
        }
    }
}

/// An event of a feed of a story, in milliseconds after 2026-11-23T20:37:00Z.
fn event(level: &str, user: &str, manager: &str, from: u32, until: u32, more: &str) -> Vec<u8> {
    let time = |ms: u32| format!("2026-11-23T20:37:{:02}.{:06}Z", ms / 1000, ms % 1000 * 1000);
    format!(
        r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"{level}","auditID":"{user}-{from}","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/shop/configmaps/web?fieldManager={manager}","verb":"patch","user":{{"username":"{user}"}},"userAgent":"{manager}","objectRef":{{"resource":"configmaps","namespace":"shop","name":"web","apiVersion":"v1"}},"responseStatus":{{"code":200}},"requestReceivedTimestamp":"{}","stageTimestamp":"{}"{more}}}
"#,
        time(from),
        time(until)
    )
    .into_bytes()
}

/// A revision in which a manager took over `data.v`.
fn revision(manager: &str, at: u32, revision: u32, value: &str) -> Vec<u8> {
    let more = format!(
        r#","requestObject":{{"f:data":{{"f:v":{{}}}}}},"responseObject":{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"web","namespace":"shop","uid":"u","resourceVersion":"{revision}"}},"data":{{"v":"{value}"}}}},"annotations":{{"watch.editwar.dev/operation":"Update","watch.editwar.dev/continues":"true"}}"#
    );
    event("RequestResponse", &format!("{manager} (Update)"), manager, at, at, &more)
}

/// Returns the parties of the only war, after a fight between helm and the requests that `edit` returns for a time.
fn parties_against_helm(edit: impl Fn(u32) -> Vec<Vec<u8>>) -> BTreeSet<String> {
    let (mut audit, mut watch): (Vec<Timed>, Vec<Timed>) = (Vec::new(), Vec::new());
    for turn in 0..10 {
        let at = turn * 4000 + 100;
        let arrives = |ms: u32| Micros::from(ms) * 1000;
        watch.push((arrives(at), revision("helm", at, 10 + 2 * turn, "1")));
        audit.push((arrives(at), event("Metadata", "ci", "helm", at, at + 5, "")));
        watch.push((arrives(at + 2200), revision("kubectl-edit", at + 2200, 11 + 2 * turn, "2")));
        audit.extend(edit(at + 2200).into_iter().map(|line| (arrives(at + 2200), line)));
    }
    let pipeline = pipeline_of(&[("audit", &audit), ("watch", &watch)]);
    let mut wars = pipeline.table().select(|_, state| {
        // What came before the first revision was not joined.
        let is_certain = |war: &&War| war.confidence >= Confidence::Probable;
        let wars: Vec<&War> = state.history()?.analysis().wars().filter(is_certain).collect();
        assert_eq!(wars.len(), 1, "{wars:?}");
        Some(wars[0].parties.iter().map(|party| party.to_string()).collect())
    });
    wars.pop().expect("a war")
}

#[test]
fn if_it_is_not_clear_who_wrote_the_party_is_the_field_manager() {
    let by = |user: &'static str, from, until| event("Metadata", user, "kubectl-edit", from, until, "");
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    let alone = parties_against_helm(|at| vec![by("alice", at, at + 5)]);
    assert_eq!(alone, names(&["alice", "ci"]));
    // Of two requests of one account, it does not matter which one changed the object.
    let twice = parties_against_helm(|at| vec![by("alice", at - 60, at - 50), by("alice", at, at + 5)]);
    assert_eq!(twice, names(&["alice", "ci"]));
    let two = parties_against_helm(|at| vec![by("bob", at - 60, at - 50), by("alice", at, at + 5)]);
    assert_eq!(two, names(&["ci", "kubectl-edit (Update)"]), "one of both changed nothing");
    let other = parties_against_helm(|at| vec![by("alice", at - 1300, at - 1250)]);
    assert_eq!(other, names(&["ci", "kubectl-edit (Update)"]), "a request in another second");
    let nobody = parties_against_helm(|_| Vec::new());
    assert_eq!(nobody, names(&["ci", "kubectl-edit (Update)"]), "the audit policy leaves this account out");
}

/// Returns how many requests changed something, and how many did not, after these audit events and revisions.
fn counts(audit: &[Vec<u8>], watch: &[Vec<u8>]) -> (u64, u64) {
    let feed = |lines: &[Vec<u8>]| -> Vec<Timed> {
        let at = |line: &[u8]| crate::audit::times::last(line).unwrap();
        lines.iter().map(|line| (at(line), line.clone())).collect()
    };
    let counters = pipeline_of(&[("watch", &feed(watch)), ("audit", &feed(audit))]).stats().counters;
    (counters.writes, counters.no_ops)
}

#[test]
fn a_request_without_a_revision_changed_nothing_only_if_its_object_was_watched() {
    let audit = [
        event("Metadata", "ci", "helm", 1_000, 1_005, ""),
        event("Metadata", "alice", "kubectl-edit", 20_100, 20_105, ""),
        event("Metadata", "ci", "helm", 40_000, 40_005, ""),
    ];
    let helm = |at: u32| revision("helm", at, at, "1");
    assert_eq!(
        counts(&audit, &[helm(1_000), helm(18_000), helm(40_000)]),
        (3, 1),
        "helm has three writes, alice a no-op"
    );
    assert_eq!(counts(&audit, &[helm(1_000), helm(40_000)]).1, 0, "the watch may have been interrupted");
    let by = |more: &str| event("Request", "", "", 20_102, 20_102, more);
    let unknown = by(r#","requestObject":{},"annotations":{"watch.editwar.dev/operation":""}"#);
    assert_eq!(counts(&audit, &[helm(1_000), helm(18_000), unknown, helm(40_000)]), (4, 0), "alice may have written");
    let text = |line: Vec<u8>| String::from_utf8(line).unwrap().replace("\"web\"", "\"other\"").into_bytes();
    let other = [text(helm(1_000)), text(helm(18_000)), text(helm(40_000))];
    assert_eq!(counts(&audit, &other).1, 0, "another object was watched");
}

#[test]
fn what_is_kept_for_late_events_is_dropped_after_a_while() {
    let pipeline = Pipeline::new(Policy::default(), Bounds::default()).recorded();
    let mut batch = pipeline.batch("", "watch");
    let text = |line: Vec<u8>, minute: u32| String::from_utf8(line).unwrap().replace(":37:", &format!(":{minute:02}:"));
    for minute in 0..60 {
        let line = text(revision("helm", 1_000, 100 + minute, "1"), minute);
        let line = line.replace("\"web\"", &format!("\"web-{minute}\""));
        batch.ingest(&DecodedChunk::of(line.as_bytes(), false, Vec::new()), 0);
    }
    drop(batch);
    let clusters = lock(&pipeline.join.clusters);
    let known = clusters.values().next().unwrap();
    assert_eq!(known.objects.len(), 16, "those of the last 15 minutes");
    assert_eq!(known.bytes, known.objects.values().map(ObjectWrites::bytes).sum::<usize>());
    assert_eq!(known.kept.len(), known.objects.len());
}
