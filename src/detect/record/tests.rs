//! The changes of one write, and which of them webhooks made.

use super::*;
use crate::detect::fields::{Bodies, Intent, PatchIntent, RequestForm, Shape};
use crate::detect::policy::Limits;
use crate::detect::write::ObjectName;

const CONFIG_MAP: ObjectName<'_> = ObjectName { group: "", resource: "configmaps", namespace: "shop", name: "web" };

fn bodies<'a>(verb: Verb, request: Option<&'a str>, response: Option<&'a str>) -> Bodies<'a> {
    Bodies {
        group: "",
        resource: "configmaps",
        verb,
        effect: Effect::Modify,
        shape: Shape::Whole,
        form: RequestForm::Body,
        is_hidden: false,
        request: request.map(str::as_bytes),
        response: response.map(str::as_bytes),
    }
}

/// The evidence of an update with this body, without a response.
fn requested(json: &str) -> Evidence {
    bodies(Verb::Update, Some(json), None).evidence(None)
}

/// The evidence of a patch without a response.
fn patched(json: &str) -> Evidence {
    bodies(Verb::Patch, Some(json), None).evidence(None)
}

/// The evidence of a patch with the stored object.
fn stored(patch: &str, json: &str) -> Evidence {
    bodies(Verb::Patch, Some(patch), Some(json)).evidence(None)
}

fn fields(json: &str) -> Arc<Fields> {
    let Evidence::Whole { fields, .. } = requested(json) else { panic!("not a full body: {json}") };
    fields
}

fn level(evidence: &Evidence) -> EvidenceLevel {
    match evidence {
        Evidence::None => EvidenceLevel::Object,
        Evidence::Intents { level, .. } | Evidence::Whole { level, .. } => *level,
    }
}

fn write(verb: Verb, effect: Effect, evidence: Evidence) -> Record {
    let level = level(&evidence);
    Record::new(WriteOrder::default(), Arc::new(Client::named("alice")), verb, effect, Part::Main, level, evidence)
}

/// Returns the resolved record, and its changes as `PATH OLD>NEW`.
fn resolved(mut record: Record, before: Option<&Arc<Fields>>) -> (Record, Vec<String>) {
    let limits = Limits::default();
    record.resolve(before, &ObjectLimits::new(&limits, &CONFIG_MAP));
    let changes = shown(&record.changes);
    (record, changes)
}

fn shown<'c>(changes: impl IntoIterator<Item = &'c Change>) -> Vec<String> {
    let text = |v: &Option<FieldValue>| v.as_ref().and_then(|v| v.text().map(str::to_owned)).unwrap_or_default();
    changes.into_iter().map(|c| format!("{} {}>{}", c.path, text(&c.old), text(&c.new))).collect()
}

/// Returns the text of a field in the state after a write.
fn known(record: &Record, path: &str) -> Option<String> {
    record.state.as_ref()?.get(path)?.text().map(str::to_owned)
}

/// Returns the mutation of a webhook that sets `data.x` to `given`.
fn mutation(requested: Option<Intent>, given: &str) -> Mutation {
    let webhook = Arc::new(Client::webhook("policy", "policy.example.com"));
    Mutation { webhook, path: "data.x".into(), requested, given: Some(FieldValue::of_json(given)) }
}

fn intent(json: &str) -> Option<Intent> {
    Some(Intent::Set(FieldValue::of_json(json)))
}

#[test]
fn rivals_are_two_updates_of_the_same_revision() {
    let of = |revision: u64, verb: Verb| Record {
        order: WriteOrder { revision, ..WriteOrder::default() },
        ..write(verb, Effect::Modify, Evidence::None)
    };
    assert!(of(15, Verb::Update).is_rival_of(&of(15, Verb::Update)));
    assert!(!of(14, Verb::Update).is_rival_of(&of(14, Verb::Update)), "the stored revision is known");
    assert!(!of(15, Verb::Update).is_rival_of(&of(17, Verb::Update)), "they replaced different revisions");
    assert!(!of(15, Verb::Update).is_rival_of(&of(15, Verb::Patch)), "a patch replaces no revision");
    assert!(!of(15, Verb::Patch).is_rival_of(&of(15, Verb::Update)));
}

#[test]
fn no_ops_and_misplaced_creations_do_not_change_the_state() {
    let before = fields(r#"{"data":{"x":"1"}}"#);
    let body = || write(Verb::Update, Effect::Modify, requested(r#"{"data":{"x":"2"}}"#));
    assert_eq!(resolved(body(), Some(&before)).1, [r#"data.x "1">"2""#]);
    for record in [Record { is_no_op: true, ..body() }, Record { is_misplaced: true, ..body() }] {
        let (record, changes) = resolved(record, Some(&before));
        assert_eq!((changes, known(&record, "data.x")), (vec![], Some(r#""1""#.to_owned())));
    }
}

#[test]
fn a_creation_changes_nothing_and_a_replacement_changes_what_differs() {
    let before = fields(r#"{"data":{"x":"1"}}"#);
    let body = r#"{"data":{"x":"2"}}"#;
    for evidence in [requested(body), patched(body), stored(body, body)] {
        let created = || write(Verb::Create, Effect::Create, evidence.clone());
        assert_eq!(resolved(created(), None).1, [""; 0]);
        assert_eq!(resolved(created(), Some(&before)).1, [""; 0]);
        let replacement = || Record { is_replacement: true, ..created() };
        assert_eq!(resolved(replacement(), Some(&before)).1, [r#"data.x "1">"2""#]);
        assert_eq!(resolved(replacement(), None).1, [""; 0], "the replaced object is not known");
    }
}

#[test]
fn a_requested_body_shows_only_the_part_that_it_may_write() {
    let before = fields(r#"{"data":{"x":"1"},"status":{"y":1}}"#);
    let (record, changes) = resolved(
        write(Verb::Update, Effect::Modify, requested(r#"{"data":{"x":"2"},"status":{"y":2}}"#)),
        Some(&before),
    );
    assert_eq!(changes, [r#"data.x "1">"2""#]);
    assert_eq!((known(&record, "data.x"), known(&record, "status.y")), (Some(r#""2""#.into()), Some("1".into())));
}

#[test]
fn a_mutation_shows_the_stored_value_if_the_object_is_not_known() {
    let before = fields(r#"{"data":{"x":"1","y":"1"}}"#);
    let patch = r#"{"data":{"y":"2"}}"#;
    let through = |evidence: Evidence| {
        write(Verb::Patch, Effect::Modify, evidence).with_mutations(vec![mutation(None, r#""w""#)])
    };
    let (record, _) = resolved(through(patched(patch)), Some(&before));
    assert_eq!(known(&record, "data.x").as_deref(), Some(r#""w""#));
    let (record, _) = resolved(through(stored(patch, r#"{"data":{"x":"s","y":"2"}}"#)), Some(&before));
    assert_eq!(known(&record, "data.x").as_deref(), Some(r#""s""#), "the stored object has the final value");
    let (record, _) = resolved(Record { is_no_op: true, ..through(patched(patch)) }, Some(&before));
    assert_eq!(known(&record, "data.x").as_deref(), Some(r#""1""#), "nothing was stored");
}

/// Returns the changes of webhooks, and the number of requested values that they replaced with the stored ones.
fn admitted(record: Record, before: Option<&Arc<Fields>>) -> (Vec<String>, usize) {
    let (record, _) = resolved(record, before);
    let admission = record.admission.unwrap();
    (shown(admission.changes.iter().map(|(_, change)| change)), admission.overridden.len())
}

#[test]
fn a_mutation_is_a_change_or_an_override() {
    let before = fields(r#"{"data":{"x":"1"}}"#);
    let patch = |given: &str| {
        let evidence = patched(r#"{"data":{"x":"wish"}}"#);
        write(Verb::Patch, Effect::Modify, evidence).with_mutations(vec![mutation(intent(r#""wish""#), given)])
    };
    assert_eq!(admitted(patch(r#""w""#), Some(&before)), (vec![r#"data.x "1">"w""#.to_owned()], 0));
    assert_eq!(admitted(patch(r#""1""#), Some(&before)), (vec![], 1), "the requested value was not stored");
    assert_eq!(admitted(patch(r#""w""#), None), (vec![], 1), "it is not known whether the stored value changed");
    assert_eq!(admitted(patch(r#""wish""#), Some(&fields(r#"{"data":{"x":"wish"}}"#))), (vec![], 0));
}

#[test]
fn mutations_are_changes_of_a_replacement_but_not_of_a_new_object() {
    let before = fields(r#"{"data":{"x":"1"}}"#);
    let created = |is_replacement: bool| Record {
        is_replacement,
        ..write(Verb::Create, Effect::Create, requested(r#"{"data":{"x":"2"}}"#))
            .with_mutations(vec![mutation(intent(r#""2""#), r#""w""#)])
    };
    assert_eq!(admitted(created(false), Some(&before)), (vec![], 0));
    assert_eq!(admitted(created(true), Some(&before)), (vec![r#"data.x "1">"w""#.to_owned()], 0));
}

#[test]
fn a_whole_body_that_repeats_stored_values_requests_nothing() {
    let before = fields(r#"{"data":{"x":"1"}}"#);
    let overridden = |verb: Verb, wish: &str| {
        let evidence = requested(r#"{"data":{"x":"1"}}"#);
        let record = write(verb, Effect::Modify, evidence).with_mutations(vec![mutation(intent(wish), r#""w""#)]);
        admitted(Record { is_no_op: true, ..record }, Some(&before))
    };
    assert_eq!(overridden(Verb::Update, r#""1""#), (vec![], 0));
    assert_eq!(overridden(Verb::Update, r#""wish""#), (vec![], 1));
    assert_eq!(overridden(Verb::Patch, r#""1""#), (vec![], 1), "a patch requests every field that it names");
}

#[test]
fn a_record_is_truncated_if_its_body_has_too_many_fields() {
    let whole = |fields: Arc<Fields>| Evidence::Whole {
        fields,
        level: EvidenceLevel::Value,
        requested: PatchIntent::default(),
    };
    let is_truncated = |evidence: Evidence| write(Verb::Update, Effect::Modify, evidence).is_truncated;
    assert!(is_truncated(whole(Arc::default())), "these fields are incomplete");
    assert!(!is_truncated(whole(fields(r#"{"data":{"x":"1"}}"#))));
    assert!(!is_truncated(Evidence::None));
}

#[test]
fn the_bytes_of_a_record_are_those_of_its_contents() {
    let own = size_of::<Record>();
    assert_eq!(write(Verb::Patch, Effect::Modify, Evidence::None).bytes(), own);
    let before = fields(r#"{"data":{"x":"1"}}"#);
    // The state is shared with the evidence, and counts once.
    let evidence = stored(r#"{"data":{"x":"2"}}"#, r#"{"data":{"x":"2"}}"#);
    let of_evidence = evidence.bytes();
    assert!(of_evidence > 0);
    let (record, _) = resolved(write(Verb::Patch, Effect::Modify, evidence), Some(&before));
    let changes: usize = record.changes.iter().map(Change::bytes).sum();
    assert!(changes > 0);
    assert_eq!(record.bytes(), own + changes + of_evidence);
    // A state that is derived from the one before, and the changes of a webhook.
    let evidence = patched(r#"{"data":{"x":"2"}}"#);
    let of_evidence = evidence.bytes();
    let record = write(Verb::Patch, Effect::Modify, evidence)
        .with_mutations(vec![mutation(intent(r#""2""#), r#""1""#), mutation(None, r#""1""#)]);
    let (record, _) = resolved(record, Some(&before));
    let admission = record.admission.as_ref().unwrap();
    assert_eq!((admission.changes.len(), admission.overridden.len()), (0, 1));
    let state = record.state.as_ref().unwrap().bytes();
    // Two mutations and one override. Each counts twice.
    let of_admission = size_of::<Admission>() + 3 * 2 * size_of::<Mutation>();
    assert_eq!(record.bytes(), own + of_evidence + state + of_admission);
    let record = write(Verb::Patch, Effect::Modify, Evidence::None).with_mutations(vec![mutation(None, r#""w""#)]);
    let mut record = Record { evidence: Some(Box::new(patched(r#"{"data":{"y":"2"}}"#))), ..record };
    let limits = Limits::default();
    record.resolve(Some(&before), &ObjectLimits::new(&limits, &CONFIG_MAP));
    assert_eq!(record.admission.as_ref().unwrap().changes.len(), 1);
    record.state = None;
    let changes: usize = record.changes.iter().map(Change::bytes).sum();
    let of_admission = size_of::<Admission>() + 2 * 2 * size_of::<Mutation>();
    assert_eq!(record.bytes(), own + changes + record.evidence.as_ref().unwrap().bytes() + of_admission);
}
