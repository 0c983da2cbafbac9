//! Tests of the decoder against the reference decoder.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{Decoded, Malformed, canonical, decode, decode_first, plain};
use crate::audit::json_scan::skip_value;

const WRITE: &str = include_str!("tests/write.json");

fn write() -> &'static [u8] {
    WRITE.trim_end().as_bytes()
}

#[test]
fn a_canonical_write_takes_the_short_path() {
    let short = canonical(write(), |decoded| decoded).expect("the fast path decodes what kube-apiserver writes");
    assert_eq!(Ok(&short), plain::decode(write()).as_ref());
    let Decoded::Event(event) = short else { panic!("a patch is an event") };
    assert_eq!(event.username, "alice");
    assert!(event.queries(b"f").any(|(key, value)| key == "fieldManager" && value == "kubectl-patch"));
    assert_eq!(event.queries(b"x").next(), None);
    assert_eq!(event.pod, "tool-0");
    assert_eq!(event.status.as_ref().map(|s| s.code), Some(200));
    assert_eq!(event.annotations.len(), 1);
}

#[test]
fn a_write_with_members_in_another_order_is_only_scanned() {
    // Sorted by key.
    let sorted = serde_json::from_str::<Value>(WRITE).unwrap().to_string();
    assert!(canonical(sorted.as_bytes(), |_| ()).is_none());
    let (scanned, end) = plain::scanned(sorted.as_bytes()).expect("a valid event");
    assert_eq!((Ok(&scanned), end), (plain::decode(sorted.as_bytes()).as_ref(), sorted.len()));
    let Decoded::Event(event) = scanned else { panic!("a patch is an event") };
    assert_eq!((&*event.username, &*event.pod, event.annotations.len()), ("alice", "tool-0", 1));
    assert!(plain::scanned(sorted.replacen(r#""verb""#, r#""v\u0065rb""#, 1).as_bytes()).is_none());
    assert!(decode(format!("{sorted} {{}}").as_bytes()).is_err());
}

#[test]
fn a_write_truncated_anywhere_is_malformed() {
    let whole = write();
    for len in 0..whole.len() {
        let cut = decode(&whole[..len]);
        assert!(matches!(cut, Err(Malformed::Truncated | Malformed::NotAnEvent(_))), "{len}: {cut:?}");
    }
}

#[test]
fn authorization_annotations_are_skipped_whatever_their_name() {
    let key = r#""authorization.k8s.io/mutation.webhook.admission.k8s.io/decision":"allow","#;
    let text = WRITE.trim_end().replacen(r#""annotations":{"#, &format!(r#""annotations":{{{key}"#), 1);
    assert_eq!(decode(text.as_bytes()), plain::decode(text.as_bytes()));
    let Ok(Decoded::Event(event)) = decode(text.as_bytes()) else { panic!("a patch is an event") };
    assert_eq!(event.annotations.len(), 1);
}

#[test]
fn both_timestamps_are_parsed_when_they_share_a_second() {
    let at = |received: &str, staged: &str| {
        let times = |text: &str, key: &str, time: &str| {
            let (head, rest) = text.split_once(&format!(r#""{key}":""#)).unwrap();
            let (_, rest) = rest.split_once('"').unwrap();
            format!(r#"{head}"{key}":"{time}"{rest}"#)
        };
        let text = times(WRITE.trim_end(), "requestReceivedTimestamp", received);
        let text = times(&text, "stageTimestamp", staged);
        assert_twins_agree(text.as_bytes()).unwrap();
        match decode(text.as_bytes()) {
            Ok(Decoded::Event(event)) => event.staged.zip(event.received).map(|(staged, received)| staged - received),
            _ => None,
        }
    };
    assert_eq!(at("2026-11-23T01:56:08.654761Z", "2026-11-23T01:56:08.654762Z"), Some(1));
    assert_eq!(at("2026-11-23T01:56:08.654761Z", "2026-11-23T01:56:09.000000Z"), Some(345_239));
    assert_eq!(at("1969-12-31T23:59:59.999999Z", "1969-12-31T23:59:59.000001Z"), Some(-999_998));
    // As long as a timestamp of kube-apiserver, but in a different format.
    assert_eq!(at("2026-11-23T01:56:08.6+01:00", "2026-11-23T01:56:08.600000Z"), Some(3_600_000_000));
    assert_eq!(at("2026-11-23T01:56:60.000000Z", "2026-11-23T01:56:60.000001Z"), Some(1));
    assert_eq!(at("2026-11-23T01:56:08.654761Z", "2026-11-23T01:56:08.65476xZ"), None);
}

#[test]
fn annotations_after_those_of_authorization_are_kept() {
    let reason = r#""authorization.k8s.io/reason":"\"}\" allowed""#;
    let text = |more: &str| {
        let (head, _) = WRITE.rsplit_once(r#""annotations":{"#).unwrap();
        format!(r#"{head}"annotations":{{"authorization.k8s.io/decision":"allow",{reason}{more}}}}}"#)
    };
    for (more, kept) in [("", 0), (r#","mutation.webhook.admission.k8s.io/round_0_index_0":"{}""#, 1)] {
        let text = text(more);
        assert_twins_agree(text.as_bytes()).unwrap();
        let Ok(Decoded::Event(event)) = decode(text.as_bytes()) else { panic!("a patch is an event") };
        assert_eq!(event.annotations.len(), kept, "{text}");
    }
}

#[test]
fn deeply_nested_bodies_are_decoded() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let text = WRITE.trim_end().replacen(r#"{"data":{"mode":"green"}}"#, &deep, 1);
    let (fast, slow) = (decode(text.as_bytes()), plain::decode(text.as_bytes()));
    assert_eq!(fast, slow);
    assert!(matches!(fast, Ok(Decoded::Event(event)) if event.request_object.map(<[u8]>::len) == Some(200_000)));
}

#[test]
fn a_kind_after_the_verb_is_ignored_for_reads_only() {
    let event = |verb: &str| {
        let head = r#"{"level":"Request","auditID":"","stage":"ResponseComplete","requestURI":"/""#;
        format!(r#"{head},"verb":"{verb}","kind":{{}}}}"#)
    };
    assert_twins_agree(event("p!tch").as_bytes()).unwrap();
    assert_eq!(decode(event("get").as_bytes()), Ok(Decoded::Read(crate::audit::event::Verb::Read)));
    assert!(decode(event("patch").as_bytes()).is_err(), "all members of a write are checked");
    assert!(plain::decode(br#"{"kind":"Pod","stage":"ResponseComplete","verb":"get"}"#).is_err());
}

#[test]
fn malformed_events_are_reported_with_a_reason() {
    let reason = |text: &[u8]| decode(text).expect_err("malformed").reason();
    assert_eq!(reason(b"\x00\x00"), "not_json");
    assert_eq!(reason(b"{}"), "not_an_event");
    assert_eq!(reason(br#"{"stage":"ResponseComplete","verb":7}"#), "not_an_event");
    assert_eq!(reason(b"{\"stage\":\"Response\xFFComplete\"}"), "invalid_utf8");
    let wrong_code = WRITE.replace(r#""code":200"#, r#""code":"200""#);
    assert_eq!(reason(wrong_code.trim_end().as_bytes()), "wrong_type");
}

/// Compares both decoders on one text. They must agree if it is valid JSON, and the fast one must not accept what the
/// reference decoder does not recognise as an event.
fn assert_twins_agree(text: &[u8]) -> Result<(), TestCaseError> {
    let (fast, slow) = (decode(text), plain::decode(text));
    match &slow {
        Err(Malformed::Json(_) | Malformed::Utf8 | Malformed::Truncated) if fast.is_ok() => {
            prop_assert!(serde_json::from_slice::<Value>(text).is_err(), "{}", String::from_utf8_lossy(text));
        }
        Err(slow) => prop_assert_eq!(fast.as_ref().map_err(Malformed::reason), Err(slow.reason())),
        Ok(_) => prop_assert_eq!(fast, slow),
    }
    Ok(())
}

/// Checks that `decode_first` on the first of several events equals `skip_value` followed by `decode`.
fn assert_first_is_as_alone(text: &[u8], tail: &[u8]) -> Result<(), TestCaseError> {
    let all = [text, tail].concat();
    let end = skip_value(&all, 0);
    let (mut first, mut short) = (None, None);
    prop_assert_eq!(decode_first(&all, usize::MAX, |event| first = Some(event)), end);
    prop_assert_eq!(first, end.map(|end| decode(&all[..end])));
    let Some(end) = end else { return Ok(()) };
    prop_assert_eq!(decode_first(&all, end - 1, |event| short = Some(event)), Some(end));
    prop_assert_eq!(short, Some(Err(Malformed::TooLong(end - 1))));
    Ok(())
}

/// Generates bytes that may follow an event, including hostile ones.
fn tail() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        Just(b"]}\n".to_vec()),
        Just([&b","[..], write(), b"]}"].concat()),
        Just(b"\"}},{\"level\":\"Metadata\"}]}".to_vec()),
        prop::collection::vec(prop::sample::select(b"\"\\{}[],: a".to_vec()), 0..40),
    ]
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        Just(json!(u64::MAX)),
        ".{0,12}".prop_map(Value::from),
        Just(json!("ResponseComplete\"},{\"verb\":\"delete\\")),
    ]
}

fn tree() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key(), inner), 0..4).prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    })
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "verb",
            "stage",
            "user",
            "username",
            "objectRef",
            "annotations",
            "name",
            "items",
            "responseStatus",
            "code",
            "requestReceivedTimestamp",
            "impersonatedUser",
            "kind",
        ])
        .prop_map(String::from),
        ".{0,6}",
    ]
}

/// Generates an event whose members are replaced, removed, duplicated and shuffled, with or without white space.
fn mangled() -> impl Strategy<Value = String> {
    let members = match serde_json::from_str(WRITE).expect("the sample is JSON") {
        Value::Object(map) => map.into_iter().collect::<Vec<(String, Value)>>(),
        _ => unreachable!("the sample is an object"),
    };
    let changes = prop::collection::vec((any::<prop::sample::Index>(), key(), tree(), 0u8..6), 0..4);
    (Just(members), changes, any::<bool>(), any::<u64>()).prop_map(|(mut members, changes, pretty, seed)| {
        for (index, key, value, how) in changes {
            let at = index.index(members.len());
            match how {
                0 => members[at].1 = value,
                1 => drop(members.remove(at)),
                2 => members.insert(at, (key, value)),
                3 => members.push((members[at].0.clone(), value)),
                4 => nest(&mut members[at].1, key, value),
                _ => {
                    let other = (seed as usize) % members.len();
                    members.swap(at, other);
                }
            }
        }
        let (colon, comma) = if pretty { (": ", ",\n ") } else { (":", ",") };
        let written: Vec<String> =
            members.iter().map(|(k, v)| format!("{}{colon}{v}", Value::from(k.as_str()))).collect();
        format!("{{{}}}", written.join(comma))
    })
}

/// Adds a member at the end of an object of the event, so that it is a duplicate if the key exists already.
fn nest(target: &mut Value, key: String, value: Value) {
    match target {
        Value::Object(map) => drop(map.insert(key, value)),
        other => *other = Value::Object(Map::from_iter([(key, value)])),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn twins_agree_on_mangled_events(text in mangled()) {
        assert_twins_agree(text.as_bytes())?;
    }

    #[test]
    fn twins_agree_on_flipped_bytes(at in any::<prop::sample::Index>(), byte in any::<u8>(), also in any::<prop::sample::Index>()) {
        let mut text = write().to_vec();
        let at = at.index(text.len());
        text[at] = byte;
        let also = also.index(text.len());
        text[also] = b'"';
        assert_twins_agree(&text)?;
    }

    #[test]
    fn twins_agree_on_spliced_events(from in any::<prop::sample::Index>(), len in 0usize..200, to in any::<prop::sample::Index>()) {
        let text = write();
        let from = from.index(text.len());
        let piece = &text[from..(from + len).min(text.len())];
        let to = to.index(text.len());
        assert_twins_agree(&[&text[..to], piece, &text[to..]].concat())?;
    }

    #[test]
    fn a_mangled_event_is_decoded_the_same_with_others_after_it(text in mangled(), tail in tail(), verb in 0usize..3) {
        let text = text.replacen(r#""patch""#, [r#""patch""#, r#""get""#, r#""create""#][verb], 1);
        assert_first_is_as_alone(text.as_bytes(), &tail)?;
    }

    #[test]
    fn a_broken_event_is_decoded_the_same_with_others_after_it(
        changes in prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(b"\"\\{}[],: a0\xff".to_vec())), 0..3),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
        is_read in any::<bool>(),
        tail in tail(),
    ) {
        let text = if is_read { WRITE.replacen(r#""patch""#, r#""watch""#, 1) } else { WRITE.into() };
        let mut text = text.trim_end().as_bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(text.len());
            text[at] = byte;
        }
        if is_cut {
            text.truncate(cut.index(text.len()));
        }
        assert_first_is_as_alone(&text, &tail)?;
    }
}
