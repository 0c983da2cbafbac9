//! What is kept of an object with one client, and for how long.

use super::*;

const SECOND: Micros = 1_000_000;

fn raw(shape: Shape, request: Option<&str>, response: Option<&str>) -> Kept {
    let body = |text: Option<&str>| text.map(|text| text.as_bytes().into());
    Kept::Raw(Box::new(RawBodies { shape, is_apply: false, request: body(request), response: body(response) }))
}

/// A write to the main part at a second, with a request of so many bytes; without bodies where there are none.
fn recent(second: i64, bytes: usize) -> Recent {
    Recent {
        order: Order { at: second * SECOND, ..Order::default() },
        client: Arc::new(Client::named("alice")),
        part: Part::Main,
        verb: Verb::Patch,
        effect: Effect::Modify,
        tier: Tier::Field,
        is_certain: false,
        is_binding: false,
        bodies: if bytes == 0 { Kept::None } else { raw(Shape::Object, Some(&"x".repeat(bytes)), None) },
        mutations: None,
    }
}

fn of(writes: Vec<Recent>) -> Recents {
    let mut recents = Recents::default();
    writes.into_iter().for_each(|write| recents.put(write));
    recents
}

fn seconds(recents: &Recents) -> Vec<i64> {
    recents.iter().map(|r| r.order.at / SECOND).collect()
}

#[test]
fn writes_are_in_order_however_they_arrive_and_of_one_time_as_they_arrived() {
    let mut recents = of(vec![recent(10, 1), recent(30, 2), recent(20, 4), recent(5, 8), recent(40, 16)]);
    assert_eq!((seconds(&recents), recents.body_bytes()), (vec![5, 10, 20, 30, 40], 31));
    recents.put(recent(20, 32));
    let sizes: Vec<usize> = recents.iter().map(|r| r.bodies.bytes()).collect();
    assert_eq!(sizes, [8, 1, 4, 32, 2, 16]);
    assert_eq!(recents.clone().into_iter().count(), 6);
    recents.drop_bodies();
    assert_eq!(recents.body_bytes(), 0);
    assert!(recents.iter().all(|r| matches!(r.bodies, Kept::None)));
}

#[test]
fn what_stored_the_revision_takes_the_place_of_what_was_taken_for_it() {
    let stored = |second, revision, bytes| {
        let order = Order { revision, at: second * SECOND, ..Order::default() };
        Recent { order, ..recent(second, bytes) }
    };
    let mut recents = of(vec![stored(10, 2, 1), stored(20, 4, 2)]);
    assert!(recents.correct(stored(21, 4, 8)).is_none());
    assert_eq!((seconds(&recents), recents.body_bytes()), (vec![10, 21], 9));
    assert!(recents.correct(stored(30, 6, 16)).is_some_and(|new| new.order.revision == 6), "there is none of that");
    assert_eq!(recents.body_bytes(), 9);
}

/// The seconds of what is taken out for being too old or one too many, and of what stays.
fn popped(writes: Vec<Recent>) -> (Vec<i64>, Vec<i64>) {
    let mut recents = of(writes);
    let mut out = Vec::new();
    while let Some(oldest) = recents.pop_over() {
        out.push(oldest.order.at / SECOND);
    }
    let kept: usize = recents.iter().map(|r| r.bodies.bytes()).sum();
    assert_eq!(recents.body_bytes(), kept);
    (out, seconds(&recents))
}

#[test]
fn writes_are_kept_for_as_long_as_somebody_may_come_late_before_them() {
    let late = LATE_MAX / SECOND;
    assert_eq!(popped(vec![recent(0, 1), recent(late, 1)]), (vec![], vec![0, late]));
    assert_eq!(popped(vec![recent(0, 1), recent(late + 1, 1)]), (vec![0], vec![late + 1]));
    assert_eq!(popped(vec![recent(0, 0)]), (vec![], vec![0]), "the only one");
    assert_eq!(popped(vec![]), (vec![], vec![]));
    assert!(Recents::default().is_over(0));
    let recents = of(vec![recent(0, 1), recent(10, 1)]);
    assert!(!recents.is_over((10 + late) * SECOND) && recents.is_over((11 + late) * SECOND));
}

#[test]
fn the_last_body_of_the_object_itself_stays_however_old_it_is() {
    let late = LATE_MAX / SECOND + 1;
    assert_eq!(popped(vec![recent(0, 1), recent(1, 0), recent(late + 1, 0)]), (vec![1], vec![0, late + 1]));
    let status = |second| Recent { part: Part::Status, ..recent(second, 1) };
    assert_eq!(popped(vec![recent(0, 1), status(1), status(late + 1)]), (vec![1], vec![0, late + 1]));
    // A status' body tells nothing of the object itself, and neither does what has none.
    assert_eq!(popped(vec![status(0), recent(late, 0)]), (vec![0], vec![late]));
    assert_eq!(popped(vec![recent(0, 0), recent(late, 1)]), (vec![0], vec![late]));
}

#[test]
fn no_more_than_a_few_writes_are_kept() {
    let (out, kept) = popped((0..RECENT_MAX as i64).map(|second| recent(second, 1)).collect());
    assert_eq!((out.len(), kept.len()), (0, RECENT_MAX));
    let (out, kept) = popped((0..RECENT_MAX as i64 + 2).map(|second| recent(second, 1)).collect());
    assert_eq!((out, kept.len()), (vec![0, 1], RECENT_MAX));
}

#[test]
fn the_body_of_the_object_is_what_was_stored_or_else_asked_for_whole() {
    let of = |verb, effect, bodies| {
        let recent = Recent { verb, effect, bodies, ..recent(0, 0) };
        recent.object().map(|body| String::from_utf8_lossy(body).into_owned())
    };
    let (update, patch, modify) = (Verb::Update, Verb::Patch, Effect::Modify);
    let both = |shape| raw(shape, Some("asked"), Some("stored"));
    assert_eq!(of(patch, modify, both(Shape::Whole)).as_deref(), Some("stored"));
    assert_eq!(of(update, modify, raw(Shape::Object, Some("asked"), None)).as_deref(), Some("asked"));
    assert_eq!(of(patch, modify, raw(Shape::Object, Some("asked"), None)), None, "a patch is no object");
    assert_eq!(of(update, modify, both(Shape::Scale)), None);
    assert_eq!(of(update, Effect::Delete, both(Shape::Whole)), None, "it is gone");
    assert_eq!(of(update, modify, Kept::None), None);
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
        is_apply: false,
        is_hidden: false,
        request: request.map(str::as_bytes),
        response: response.map(str::as_bytes),
    }
}

#[test]
fn only_the_bodies_that_tell_something_are_kept() {
    let kept = |verb, shape| match Kept::of(&bodies(verb, shape, "configmaps", Some("asked"), Some("stored"))) {
        Kept::Raw(raw) => (raw.request.is_some(), raw.response.is_some()),
        other => panic!("{other:?}"),
    };
    assert_eq!(kept(Verb::Update, Shape::Whole), (false, true), "what is stored tells what was asked");
    assert_eq!(kept(Verb::Patch, Shape::Whole), (true, true));
    assert_eq!(kept(Verb::Update, Shape::Object), (true, false), "the response is not the object");
    assert_eq!(kept(Verb::Update, Shape::Scale), (true, true));
    let none = bodies(Verb::Patch, Shape::Object, "configmaps", None, Some("not the object"));
    assert!(matches!(Kept::of(&none), Kept::None) && Kept::of(&none).bytes() == 0);
    let both = bodies(Verb::Patch, Shape::Whole, "configmaps", Some("12345"), Some("123"));
    assert_eq!(Kept::of(&both).bytes(), 8);
}

#[test]
fn a_secrets_bodies_are_read_at_once() {
    let stored = r#"{"apiVersion":"v1","kind":"Secret","data":{"a":"eA==","b":"eQ=="}}"#;
    let kept = Kept::of(&bodies(Verb::Update, Shape::Whole, "secrets", None, Some(stored)));
    assert!(matches!(kept, Kept::Read(_)));
    assert!(kept.bytes() > 2 * 60, "{}", kept.bytes());
    let patch = Kept::of(&bodies(Verb::Patch, Shape::Object, "secrets", Some(r#"{"data":{"a":"eA=="}}"#), None));
    assert!((60..kept.bytes()).contains(&patch.bytes()), "{}", patch.bytes());
    let unreadable = Kept::of(&bodies(Verb::Patch, Shape::Object, "secrets", Some("x"), None));
    assert_eq!(unreadable.bytes(), 0);
}

#[test]
fn a_write_is_read_when_a_second_client_comes() {
    let text = r#"{"data":{"mode":"a"}}"#;
    let like = bodies(Verb::Patch, Shape::Object, "configmaps", None, None);
    let write = Recent { is_certain: true, bodies: raw(Shape::Object, Some(text), None), ..recent(7, 0) };
    let record = write.record(&like, None);
    assert!(record.is_certain);
    assert_eq!((record.order.at, record.verb, record.effect), (7 * SECOND, Verb::Patch, Effect::Modify));
}

#[test]
fn recent_writes_take_the_bytes_of_their_bodies_and_their_places() {
    let one = of(vec![recent(10, 7)]);
    assert_eq!(one.bytes(), size_of::<Recents>() + size_of::<Recent>() + 7);
    let three = of(vec![recent(10, 7), recent(20, 5), recent(30, 0)]);
    assert_eq!(three.bytes(), size_of::<Recents>() + 3 * size_of::<Recent>() + 12);
}

#[test]
fn places_for_recent_writes_are_doubled() {
    let places = |writes: i64| of((0..writes).map(|second| recent(second, 0)).collect()).writes.capacity();
    assert_eq!([1, 2, 3, 4, 5, 8, 9].map(places), [1, 2, 4, 4, 8, 8, 16]);
}
