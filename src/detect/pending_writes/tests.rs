//! Which writes of an object with one client are kept, and for how long.

use super::*;

const SECOND: Micros = 1_000_000;

fn raw(shape: Shape, request: Option<&str>, response: Option<&str>) -> RetainedBodies {
    let body = |text: Option<&str>| text.map(|text| text.as_bytes().into());
    RetainedBodies::Raw(Box::new(RawBodies {
        shape,
        form: RequestForm::Body,
        request: body(request),
        response: body(response),
    }))
}

/// Returns a write to the main part, with a request of this many bytes, or without bodies if `bytes` is 0.
fn recent(second: i64, bytes: usize) -> PendingWrite {
    PendingWrite {
        order: WriteOrder { at: second * SECOND, ..WriteOrder::default() },
        client: Arc::new(Client::named("alice")),
        part: Part::Main,
        verb: Verb::Patch,
        effect: Effect::Modify,
        level: EvidenceLevel::Field,
        is_certain: false,
        ownership: Ownership::default(),
        is_binding: false,
        bodies: if bytes == 0 { RetainedBodies::None } else { raw(Shape::Object, Some(&"x".repeat(bytes)), None) },
        mutations: None,
    }
}

fn of(writes: Vec<PendingWrite>) -> PendingWrites {
    let mut recents = PendingWrites::default();
    writes.into_iter().for_each(|write| recents.insert(write));
    recents
}

fn seconds(recents: &PendingWrites) -> Vec<i64> {
    recents.iter().map(|r| r.order.at / SECOND).collect()
}

#[test]
fn writes_are_sorted_and_equal_times_keep_the_order_of_arrival() {
    let mut recents = of(vec![recent(10, 1), recent(30, 2), recent(20, 4), recent(5, 8), recent(40, 16)]);
    assert_eq!((seconds(&recents), recents.body_bytes()), (vec![5, 10, 20, 30, 40], 31));
    recents.insert(recent(20, 32));
    let sizes: Vec<usize> = recents.iter().map(|r| r.bodies.bytes()).collect();
    assert_eq!(sizes, [8, 1, 4, 32, 2, 16]);
    assert_eq!(recents.clone().into_iter().count(), 6);
    recents.drop_bodies();
    assert_eq!(recents.body_bytes(), 0);
    assert!(recents.iter().all(|r| matches!(r.bodies, RetainedBodies::None)));
}

#[test]
fn the_write_that_stored_a_revision_replaces_the_one_believed_to_have_stored_it() {
    let stored = |second, revision, bytes| {
        let order = WriteOrder { revision, at: second * SECOND, ..WriteOrder::default() };
        PendingWrite { order, ..recent(second, bytes) }
    };
    let mut recents = of(vec![stored(10, 2, 1), stored(20, 4, 2)]);
    assert!(recents.correct(stored(21, 4, 8)).is_none());
    assert_eq!((seconds(&recents), recents.body_bytes()), (vec![10, 21], 9));
    assert!(
        recents.correct(stored(30, 6, 16)).is_some_and(|new| new.order.revision == 6),
        "no write has this revision"
    );
    assert_eq!(recents.body_bytes(), 9);
}

/// Returns the seconds of the writes that are removed because they are too old or too many, and of those that stay.
fn popped(writes: Vec<PendingWrite>) -> (Vec<i64>, Vec<i64>) {
    let mut recents = of(writes);
    let mut out = Vec::new();
    while let Some(oldest) = recents.pop_expired() {
        out.push(oldest.order.at / SECOND);
    }
    let kept: usize = recents.iter().map(|r| r.bodies.bytes()).sum();
    assert_eq!(recents.body_bytes(), kept);
    (out, seconds(&recents))
}

#[test]
fn writes_are_kept_as_long_as_late_writes_can_arrive_before_them() {
    let late = LATE_MAX / SECOND;
    assert_eq!(popped(vec![recent(0, 1), recent(late, 1)]), (vec![], vec![0, late]));
    assert_eq!(popped(vec![recent(0, 1), recent(late + 1, 1)]), (vec![0], vec![late + 1]));
    assert_eq!(popped(vec![recent(0, 0)]), (vec![], vec![0]), "the only write stays");
    assert_eq!(popped(vec![]), (vec![], vec![]));
    assert!(PendingWrites::default().is_expired(0));
    let recents = of(vec![recent(0, 1), recent(10, 1)]);
    assert!(!recents.is_expired((10 + late) * SECOND) && recents.is_expired((11 + late) * SECOND));
}

#[test]
fn the_last_body_of_the_main_part_stays_regardless_of_its_age() {
    let late = LATE_MAX / SECOND + 1;
    assert_eq!(popped(vec![recent(0, 1), recent(1, 0), recent(late + 1, 0)]), (vec![1], vec![0, late + 1]));
    let status = |second| PendingWrite { part: Part::Status, ..recent(second, 1) };
    assert_eq!(popped(vec![recent(0, 1), status(1), status(late + 1)]), (vec![1], vec![0, late + 1]));
    // The body of a status write does not show the main part.
    assert_eq!(popped(vec![status(0), recent(late, 0)]), (vec![0], vec![late]));
    assert_eq!(popped(vec![recent(0, 0), recent(late, 1)]), (vec![0], vec![late]));
}

#[test]
fn pending_writes_are_bounded() {
    let (out, kept) = popped((0..PENDING_MAX as i64).map(|second| recent(second, 1)).collect());
    assert_eq!((out.len(), kept.len()), (0, PENDING_MAX));
    let (out, kept) = popped((0..PENDING_MAX as i64 + 2).map(|second| recent(second, 1)).collect());
    assert_eq!((out, kept.len()), (vec![0, 1], PENDING_MAX));
}

#[test]
fn the_body_is_the_stored_object_or_the_requested_one() {
    let of = |verb, effect, bodies| {
        let recent = PendingWrite { verb, effect, bodies, ..recent(0, 0) };
        recent.body().map(|body| String::from_utf8_lossy(body).into_owned())
    };
    let (update, patch, modify) = (Verb::Update, Verb::Patch, Effect::Modify);
    let both = |shape| raw(shape, Some("requested"), Some("stored"));
    assert_eq!(of(patch, modify, both(Shape::Whole)).as_deref(), Some("stored"));
    assert_eq!(of(update, modify, raw(Shape::Object, Some("requested"), None)).as_deref(), Some("requested"));
    assert_eq!(of(patch, modify, raw(Shape::Object, Some("requested"), None)), None, "a patch is not an object");
    assert_eq!(of(update, modify, both(Shape::Scale)), None);
    assert_eq!(of(update, Effect::Delete, both(Shape::Whole)), None, "the object is gone");
    assert_eq!(of(update, modify, RetainedBodies::None), None);
}

fn bodies<'a>(
    verb: Verb,
    shape: Shape,
    resource: &'a str,
    request: Option<&'a str>,
    response: Option<&'a str>,
) -> Bodies<'a> {
    Bodies {
        group: "",
        resource,
        verb,
        effect: Effect::Modify,
        shape,
        form: RequestForm::Body,
        is_hidden: false,
        request: request.map(str::as_bytes),
        response: response.map(str::as_bytes),
    }
}

#[test]
fn only_needed_bodies_are_kept() {
    let kept =
        |verb, shape| match RetainedBodies::of(&bodies(verb, shape, "configmaps", Some("requested"), Some("stored"))) {
            RetainedBodies::Raw(raw) => (raw.request.is_some(), raw.response.is_some()),
            other => panic!("{other:?}"),
        };
    assert_eq!(kept(Verb::Update, Shape::Whole), (false, true), "the stored object shows what was requested");
    assert_eq!(kept(Verb::Patch, Shape::Whole), (true, true));
    assert_eq!(kept(Verb::Update, Shape::Object), (true, false), "the response is not the object");
    assert_eq!(kept(Verb::Update, Shape::Scale), (true, true));
    let none = bodies(Verb::Patch, Shape::Object, "configmaps", None, Some("not the object"));
    assert!(matches!(RetainedBodies::of(&none), RetainedBodies::None) && RetainedBodies::of(&none).bytes() == 0);
    let both = bodies(Verb::Patch, Shape::Whole, "configmaps", Some("12345"), Some("123"));
    assert_eq!(RetainedBodies::of(&both).bytes(), 8);
}

#[test]
fn the_bodies_of_secrets_are_parsed_immediately() {
    let stored = r#"{"apiVersion":"v1","kind":"Secret","data":{"a":"eA==","b":"eQ=="}}"#;
    let kept = RetainedBodies::of(&bodies(Verb::Update, Shape::Whole, "secrets", None, Some(stored)));
    assert!(matches!(kept, RetainedBodies::Parsed(_)));
    assert!(kept.bytes() > 2 * 60, "{}", kept.bytes());
    let patch =
        RetainedBodies::of(&bodies(Verb::Patch, Shape::Object, "secrets", Some(r#"{"data":{"a":"eA=="}}"#), None));
    assert!((60..kept.bytes()).contains(&patch.bytes()), "{}", patch.bytes());
    let unreadable = RetainedBodies::of(&bodies(Verb::Patch, Shape::Object, "secrets", Some("x"), None));
    assert_eq!(unreadable.bytes(), 0);
}

#[test]
fn a_write_is_parsed_when_a_second_client_writes() {
    let text = r#"{"data":{"mode":"a"}}"#;
    let like = bodies(Verb::Patch, Shape::Object, "configmaps", None, None);
    let write = PendingWrite { is_certain: true, bodies: raw(Shape::Object, Some(text), None), ..recent(7, 0) };
    let record = write.into_record(&like, None);
    assert!(record.is_certain);
    assert_eq!((record.order.at, record.verb, record.effect), (7 * SECOND, Verb::Patch, Effect::Modify));
}

#[test]
fn the_bytes_of_pending_writes_include_their_bodies() {
    let one = of(vec![recent(10, 7)]);
    assert_eq!(one.bytes(), size_of::<PendingWrites>() + size_of::<PendingWrite>() + 7);
    let three = of(vec![recent(10, 7), recent(20, 5), recent(30, 0)]);
    assert_eq!(three.bytes(), size_of::<PendingWrites>() + 3 * size_of::<PendingWrite>() + 12);
}

#[test]
fn the_capacity_for_pending_writes_doubles() {
    let places = |writes: i64| of((0..writes).map(|second| recent(second, 0)).collect()).writes.capacity();
    assert_eq!([1, 2, 3, 4, 5, 8, 9].map(places), [1, 2, 4, 4, 8, 8, 16]);
}
