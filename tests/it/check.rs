//! `editwar check` on the set-ups of the recorded wars, each of which must be found before its first retake, and of the
//! peaceful recordings, in which nothing must be found. `check_command` tests the command.

use std::collections::BTreeMap;

use editwar::audit::decoded_chunk::DecodedChunk;
use editwar::check::{Certainty, Finding, ObjectId, Snapshot, check, id_of};
use editwar::detect::policy::Policy;
use editwar::pipeline::{Bounds, Pipeline};
use editwar::query::views::War;
use serde_json::{Map, Value, json};

use crate::util;

/// A war whose set-up shows it: the objects, and a field of each.
struct Foreseen {
    recording: &'static str,
    objects: &'static [&'static str],
    /// A field that every finding names.
    field: &'static str,
    /// How certain the most certain finding is.
    certainty: Certainty,
}

const fn foreseen(
    recording: &'static str,
    objects: &'static [&'static str],
    field: &'static str,
    certainty: Certainty,
) -> Foreseen {
    Foreseen { recording, objects, field, certainty }
}

const FORESEEN: &[Foreseen] = &[
    foreseen("aggregated-clusterroles", &["ClusterRole flux-agg", "ClusterRole argo-agg"], "rules", Certainty::Bound),
    foreseen("argo-vs-hpa", &["Deployment shop/web"], "spec.replicas", Certainty::Bound),
    foreseen(
        "cainjector-vs-flux",
        &["ValidatingWebhookConfiguration shop-validator"],
        "webhooks[name=v.shop.example].clientConfig.caBundle",
        Certainty::Bound,
    ),
    foreseen(
        "certmanager-twins-rr",
        &["Secret shop/ca", "Secret shop/hook-tls", "Secret shop/web0-tls", "Secret shop/web1-tls"],
        "metadata.ownerReferences",
        Certainty::Possible,
    ),
    foreseen("flux-two-kustomizations", &["Deployment shop/web"], "(fields of both manifests)", Certainty::Bound),
    foreseen("flux-vs-job-ttl", &["Job shop/migrate"], "(object)", Certainty::Bound),
    foreseen("hpa-vs-applier", &["Deployment shop/web"], "spec.replicas", Certainty::Possible),
    foreseen("hpa-vs-applier-request", &["Deployment shop/web"], "spec.replicas", Certainty::Possible),
    foreseen("keda-vs-flux", &["Deployment shop/web"], "spec.replicas", Certainty::Bound),
    foreseen("kyverno-existing-request", &["Deployment shop/web"], "metadata.labels.cost-center", Certainty::Bound),
    foreseen("kyverno-webhook-vs-argo", &["Deployment shop/web"], "metadata.labels.cost-center", Certainty::Bound),
];

/// Wars that no set-up shows, and why.
const UNFORESEEABLE: &[(&str, &str)] = &[
    ("conflict-storm", "people and scripts write one key; none of them applies it"),
    ("flapping-webhook", "people fight; the policy decides by chance"),
    ("flux-vs-alice", "a person scales what Flux applies"),
    ("flux-vs-alice-request", "a person scales what Flux applies"),
    ("gitops-vs-kubectl", "two people write one key with kubectl patch"),
    ("gitops-vs-kubectl-request", "two people write one key with kubectl patch"),
    ("live-enforce", "people scale what Flux and Argo CD apply"),
    ("oddities", "people write the same fields"),
    ("oddities-request", "people write the same fields"),
    ("together-flux-peace", "people annotate what Flux applies, with a manager whose fields Flux takes back"),
    ("webhook-capture", "two people write one key"),
    ("webhook-faults", "two people write one key"),
];

const PEACEFUL: &[&str] = &[
    "argo-ci-sync",
    "argo-peace",
    "bootstrap",
    "certmanager-renewals",
    "keda-hpa-peace",
    "node-flap",
    "quota-peace",
    "setup",
    "together-peace",
];

/// Resources that no rule looks at, and that change often.
const IRRELEVANT: &[&str] = &["endpoints", "endpointslices", "events", "leases", "nodes", "pods", "replicasets"];

/// The objects of a cluster, rebuilt from the events of a recording.
#[derive(Default)]
struct World {
    snapshot: Snapshot,
    /// The objects by group, resource, namespace and name, with their resourceVersions.
    known: BTreeMap<(String, String, String, String), (ObjectId, u64)>,
}

// === impl World ===

impl World {
    /// Applies an event. Returns whether an object has changed.
    fn apply(&mut self, event: &Value) -> bool {
        let reference = &event["objectRef"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let uri = event["requestURI"].as_str().unwrap_or_default();
        let is_done = event["stage"] == "ResponseComplete"
            && event["responseStatus"]["code"].as_u64().is_some_and(|code| (200..300).contains(&code));
        let is_irrelevant = reference["resource"].as_str().is_none_or(|resource| IRRELEVANT.contains(&resource));
        if !is_done
            || is_irrelevant
            || uri.contains("dryRun")
            || !matches!(reference["subresource"].as_str(), None | Some("status"))
        {
            return false;
        }
        let stored = stored(event, uri);
        let (namespace, name) = match &stored {
            Some(object) => (text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"])),
            None => (text(&reference["namespace"]), text(&reference["name"])),
        };
        let key = (text(&reference["apiGroup"]), text(&reference["resource"]), namespace, name);
        if event["verb"] == "delete" {
            let has_finalizers =
                |object: &Value| object["metadata"]["finalizers"].as_array().is_some_and(|f| !f.is_empty());
            if !stored.as_ref().is_some_and(has_finalizers) {
                let gone = self.known.remove(&key);
                return gone.is_some_and(|(id, _)| {
                    self.snapshot.remove_live(&id);
                    true
                });
            }
            return false;
        }
        let is_write = matches!(event["verb"].as_str(), Some("create" | "update" | "patch"));
        let Some(object) = stored.filter(|_| is_write) else { return false };
        let Some(id) = id_of(&object) else { return false };
        let version = object["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0);
        let is_old = self.known.get(&key).is_some_and(|(_, known)| version != 0 && version <= *known);
        if is_old {
            return false;
        }
        self.known.insert(key, (id, version));
        self.snapshot.add_live(object)
    }
}

/// Returns the object that a request has stored. Without the response, it is what was created or applied, with the field
/// manager that the request names.
fn stored(event: &Value, uri: &str) -> Option<Value> {
    if event["responseObject"]["metadata"].is_object() {
        return Some(event["responseObject"].clone());
    }
    let mut object = event["requestObject"].clone();
    let is_whole = object["kind"].is_string() && object["metadata"]["name"].is_string();
    if event["level"] != "Request" || !is_whole {
        return None;
    }
    let is_apply = event["verb"] == "patch";
    let manager = uri.split("fieldManager=").nth(1).map(|rest| rest.split('&').next().unwrap_or_default());
    if let (true, Some(manager)) = (is_apply, manager) {
        let fields = owned(&object);
        object["metadata"]["managedFields"] =
            json!([{"manager": manager, "operation": "Apply", "fieldsType": "FieldsV1", "fieldsV1": fields}]);
    }
    Some(object)
}

/// Returns the set of fields that an apply of an object owns.
fn owned(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let named = members.iter().filter(|(key, _)| !matches!(key.as_str(), "apiVersion" | "kind"));
            Value::Object(named.map(|(key, below)| (format!("f:{key}"), owned(below))).collect::<Map<_, _>>())
        }
        Value::Array(items) => {
            let keyed = items
                .iter()
                .filter_map(|item| Some((format!("k:{}", json!({"name": item["name"].as_str()?})), owned(item))));
            Value::Object(keyed.collect::<Map<_, _>>())
        }
        _ => json!({}),
    }
}

fn events(log: &[u8]) -> Vec<Value> {
    util::lines(log).into_iter().filter_map(|line| serde_json::from_slice(line).ok()).collect()
}

/// Returns the number of lines of a log before the first retake in each war over one of these objects.
fn lines_before_first_retakes(log: &[u8], objects: &[&str]) -> BTreeMap<String, usize> {
    let lines = util::lines(log);
    let names: Vec<String> =
        objects.iter().map(|object| format!("\"name\":\"{}\"", object.rsplit([' ', '/']).next().unwrap())).collect();
    let pipeline = Pipeline::new(Policy::default(), Bounds::default());
    let mut found = BTreeMap::new();
    for (number, line) in lines.iter().enumerate() {
        let mut batch = pipeline.batch("", "test");
        batch.ingest(&DecodedChunk::of(line, false, Vec::new()), number as u64);
        drop(batch);
        let text = String::from_utf8_lossy(line);
        if !names.iter().any(|name| text.contains(name.as_str())) {
            continue;
        }
        // A retake may be seen after later lines. Its time is that of the war's last retake, as long as it is the only one.
        for war in util::report(&pipeline).wars.iter().filter(|war| war.retakes > 0) {
            let name = format!("{} {}", war.object.kind, place(war));
            found.entry(name).or_insert_with(|| {
                let at = jiff::Timestamp::from_microsecond(war.until).unwrap().to_string();
                let at = at.trim_end_matches('Z');
                let received = format!("\"requestReceivedTimestamp\":\"{at}");
                let is_it = |line: &&[u8]| String::from_utf8_lossy(line).contains(&received);
                lines.iter().position(is_it).unwrap_or(number).min(number)
            });
        }
        if objects.iter().all(|object| found.contains_key(*object)) {
            break;
        }
    }
    found
}

fn place(war: &War) -> String {
    let object = &war.object;
    if object.namespace.is_empty() { object.name.clone() } else { format!("{}/{}", object.namespace, object.name) }
}

fn names(finding: &Finding) -> impl Iterator<Item = String> {
    std::iter::once(&finding.object).chain(&finding.more_objects).map(ToString::to_string)
}

#[test]
fn every_recording_is_foreseen_unforeseeable_or_peaceful() {
    let mut listed: Vec<&str> = FORESEEN.iter().map(|war| war.recording).collect();
    listed.extend(UNFORESEEABLE.iter().map(|(recording, _)| *recording));
    listed.extend(PEACEFUL);
    listed.sort_unstable();
    // Recordings without bodies do not show what the cluster contains.
    let mut all = util::recordings();
    all.retain(|recording| !recording.contains("-metadata"));
    assert_eq!(listed, all);
}

#[test]
fn each_foreseeable_war_is_found_before_its_first_retake() {
    for Foreseen { recording, objects, field, certainty } in FORESEEN {
        let log = util::log(recording);
        let before = lines_before_first_retakes(&log, objects);
        let last = before.values().copied().max().unwrap_or(0);
        let lines = util::lines(&log);
        let (mut world, mut found_at) = (World::default(), BTreeMap::new());
        let mut most_certain = None;
        for (number, line) in lines[..last].iter().enumerate() {
            let Ok(event) = serde_json::from_slice::<Value>(line) else { continue };
            if !world.apply(&event) {
                continue;
            }
            for finding in check(&world.snapshot) {
                most_certain = most_certain.max(Some(finding.certainty));
                for name in names(&finding) {
                    assert!(objects.contains(&name.as_str()), "{recording}: a false alarm: {finding:#?}");
                    let is_named = finding.fields.iter().any(|found| found == field);
                    assert!(is_named, "{recording}: {finding:#?}");
                    found_at.entry(name).or_insert(number);
                }
            }
        }
        assert_eq!(most_certain, Some(*certainty), "{recording}");
        for object in *objects {
            let (found, retaken) = (found_at.get(*object), before.get(*object));
            let (Some(found), Some(retaken)) = (found, retaken) else {
                panic!(
                    "{recording}: {object} was found at {found:?}, its first retake is after {retaken:?}: {before:?}"
                )
            };
            assert!(found < retaken, "{recording}: {object} was found at {found}, retaken at {retaken}");
        }
    }
}

#[test]
fn nothing_is_found_in_peace_nor_in_wars_of_people() {
    let quiet = PEACEFUL.iter().copied().chain(UNFORESEEABLE.iter().map(|(recording, _)| *recording));
    for recording in quiet {
        let events = events(&util::log(recording));
        let mut world = World::default();
        // The moments are spread over the recording, and one is its end.
        let step = (events.len() / 60).max(1);
        for (number, event) in events.iter().enumerate() {
            world.apply(event);
            if number % step == 0 || number + 1 == events.len() {
                let found = check(&world.snapshot);
                assert!(found.is_empty(), "{recording}, event {number}: {found:#?}");
            }
        }
        let is_bare = ["oddities-request", "gitops-vs-kubectl-request"].contains(&recording);
        assert!(is_bare || !world.snapshot.is_empty(), "{recording} has no objects");
    }
}
