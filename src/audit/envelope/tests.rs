//! Tests of conversion and recognition: every layout of JSON, every format, and what is broken.

use super::*;

const READ: &str =
    r#"{"level":"Metadata","auditID":"a","stage":"ResponseComplete","requestURI":"/","verb":"get","user":{}}"#;

/// Converts a stream that arrives in pieces of `piece` bytes.
fn converted(text: &[u8], piece: usize) -> Vec<u8> {
    let (mut stream, mut input, mut lines) = (Converter::new(), Vec::new(), Vec::new());
    for piece in text.chunks(piece) {
        input.extend_from_slice(piece);
        let used = stream.convert(&input, false, &mut lines);
        input.drain(..used);
    }
    let used = stream.convert(&input, true, &mut lines);
    assert_eq!(used, input.len(), "everything is consumed at the end");
    lines
}

/// Returns what is found in a stream, in words.
fn found(text: &str) -> String {
    let all = words(&converted(text.as_bytes(), usize::MAX >> 1));
    for piece in [1, 7] {
        assert_eq!(all, words(&converted(text.as_bytes(), piece)), "in pieces of {piece}: {text}");
    }
    all
}

/// Returns what is in lines, in words: first what has a line of its own, then what is only counted.
fn words(lines: &[u8]) -> String {
    let (mut found, mut notes) = (Vec::new(), Notes::default());
    for text in lines.split(|b| *b == b'\n') {
        match Notes::of_line(text) {
            Some(more) => notes.add(&more),
            None => line(text, |event| found.push(event.map_or_else(|e| e.reason(), |_| "event"))),
        }
    }
    found.extend(std::iter::repeat_n("cut", notes.cut as usize));
    found.extend(std::iter::repeat_n("other", notes.other as usize));
    found.extend(std::iter::repeat_n("unknown", notes.unknown as usize));
    found.join(" ")
}

fn pretty(text: &str) -> String {
    serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(text).unwrap()).unwrap()
}

#[test]
fn events_are_found_in_every_layout() {
    let list = format!(r#"{{"kind":"EventList","metadata":{{}},"items":[{READ},{READ}]}}"#);
    assert_eq!(found(&pretty(&list)), "event event");
    assert_eq!(found(&format!("{}\n{}", pretty(READ), pretty(READ))), "event event");
    assert_eq!(found(&pretty(&format!("[{READ}]"))), "event");
    assert_eq!(found(&format!("{}\n{}", pretty(&list), pretty(&list))), "event event event event");
    assert_eq!(found(&format!("[{READ}]{READ}[{READ}]")), "event event event");
    assert_eq!(found(""), "");
}

#[test]
fn line_breaks_between_tokens_become_spaces() {
    let text = "{ \"auditID\" : \"b \\\" {\\n} c\",\r\n\t\"stage\": [ 1 , 2 ] }";
    let lines = converted(text.as_bytes(), 3);
    let event = lines.split(|b| *b == b'\n').find(|line| line.starts_with(b"{")).unwrap();
    assert_eq!(event, b"{ \"auditID\" : \"b \\\" {\\n} c\",\r \"stage\": [ 1 , 2 ] }");
}

#[test]
fn malformed_parts_do_not_affect_the_others() {
    assert_eq!(found(&format!(r#"{{"items": [ 7, {READ}, "x" ] }}"#)), "not_an_event event not_an_event");
    assert_eq!(found(&format!("[{READ},\n{{\"level\":")), "event truncated");
    assert_eq!(found(&format!("[{READ},")), "event truncated");
    assert_eq!(found("hello"), "other");
    assert_eq!(found("{\n"), "truncated");
}

#[test]
fn an_entry_that_is_neither_an_object_nor_a_list_counts_as_one_malformed_event() {
    for item in [r#""a,b]{""#, "null", "7"] {
        assert_eq!(found(&format!("[{item},{READ}, {item} ]")), "not_an_event event not_an_event", "{item}");
    }
    assert_eq!(found(&format!("[[],[{READ},1],{READ}]")), "event not_an_event event");
}

#[test]
fn an_object_of_another_kind_is_not_a_list_even_with_items() {
    assert_eq!(found(&format!(r#"{{"kind":"PodList","items":[{READ}]}}"#)), "unknown");
    assert_eq!(found(&READ.replace("{}}", r#"{},"items":[{}]}"#)), "event");
    assert_eq!(found(&format!(r#"{{"metadata":{{}},"items":[{READ}]}}"#)), "event");
}

#[test]
fn an_oversized_event_becomes_an_oversized_line() {
    let huge = READ.replace(r#""user":{}"#, &format!(r#""user":{{}},"x":"{}""#, "x".repeat(EVENT_BYTES_MAX + 1)));
    let lines = converted(format!("[{READ},\n{huge},{READ}]").as_bytes(), 1 << 20);
    let events = lines.split(|b| *b == b'\n').filter(|line| line.starts_with(b"{"));
    let lengths: Vec<bool> = events.map(|line| line.len() > EVENT_BYTES_MAX).collect();
    assert_eq!(lengths, [false, true, false]);
}

#[test]
fn a_value_that_is_longer_than_any_wrapper_is_skipped() {
    let huge = format!(r#"{{"message":"{}"}}"#, "x".repeat(3 * EVENT_BYTES_MAX));
    let lines = converted(format!("[{READ},\n{huge},{READ}]").as_bytes(), 4 << 20);
    let found: Vec<&[u8]> = lines.split(|b| *b == b'\n').collect();
    assert_eq!(found.iter().filter(|line| **line == READ.as_bytes()).count(), 2);
    assert_eq!(found.iter().filter(|line| line.len() > EVENT_BYTES_MAX).count(), 1);
}

#[test]
fn a_list_that_is_longer_than_a_buffer_is_entered() {
    let entries = |event: &str| vec![format!(r#"{{"message":{}}}"#, serde_json::json!(event)); 20_000].join(",");
    for text in [
        format!(r#"{{"events":[{}],"searchedLogStreams":[]}}"#, entries(READ)),
        format!(r#"{{"took":1,"hits":{{"total":{{"value":1}},"hits":[{}]}}}}"#, entries(READ)),
        format!(r#"{{"resourceLogs":[{{"resource":{{}},"scopeLogs":[{{"logRecords":[{}]}}]}}]}}"#, entries(READ)),
    ] {
        assert!(text.len() > 2 << 20);
        let lines = converted(text.as_bytes(), 64 << 10);
        let events = lines.split(|b| *b == b'\n').filter(|line| *line == READ.as_bytes()).count();
        assert_eq!(events, 20_000, "{}", &text[..80]);
    }
}

#[test]
fn a_line_that_was_cut_off_does_not_swallow_the_next_one() {
    const WRITE: &str = include_str!("../decode/tests/write.json");
    let body = WRITE.find(r#""responseObject""#).unwrap();
    let in_string = WRITE.find("my").unwrap_or(body + 700);
    for cut in [body + 40, body + 301, in_string, WRITE.len() - 200] {
        let text = format!("{}\n{READ}\n", &WRITE[..cut]);
        assert_eq!(found(&text), "event event cut", "cut at {cut}");
    }
    assert_eq!(found(&format!("{}\n{READ}\n", &READ[..20])), "truncated event");
}

#[test]
fn the_parts_of_a_line_are_put_together() {
    let (first, rest) = READ.split_at(50);
    let (second, third) = rest.split_at(20);
    let cri = |stream: &str, tag: &str, text: &str| format!("2026-11-23T00:00:01.000000000Z {stream} {tag} {text}\n");
    let split =
        [cri("stdout", "P", first), cri("stderr", "F", "hello"), cri("stdout", "P", second), cri("stdout", "F", third)];
    assert_eq!(found(&split.concat()), "event other");
    let docker = |text: &str| {
        format!("{{\"log\":{},\"stream\":\"stdout\",\"time\":\"2026-11-23T00:00:01Z\"}}\n", serde_json::json!(text))
    };
    assert_eq!(found(&[docker(first), docker(second), docker(&format!("{third}\n"))].concat()), "event");
    // The rest of the first line is lost.
    assert_eq!(found(&[docker(first), docker(&format!("{READ}\n"))].concat()), "truncated event");
    assert_eq!(found(&docker(first)), "truncated");
}

#[test]
fn a_part_that_starts_with_a_bracket_by_chance_is_no_other_event() {
    let docker = |text: &str| {
        format!("{{\"log\":{},\"stream\":\"stdout\",\"time\":\"2026-11-23T00:00:01Z\"}}\n", serde_json::json!(text))
    };
    let event = READ.replace(r#""user":{}"#, r#""user":{"extra":{"a":["b"]},"username":"alice"}"#);
    for (at, _) in event.match_indices('{').skip(1) {
        let (first, rest) = event.split_at(at);
        assert_eq!(found(&[docker(first), docker(&format!("{rest}\n"))].concat()), "event", "{rest}");
        // An entry that is complete, or that starts like the one before, is another one.
        for other in ["{}", &event] {
            let text = [docker(first), docker(&format!("{other}\n"))].concat();
            assert_eq!(found(&text), if other == "{}" { "truncated unknown" } else { "truncated event" }, "{first}");
        }
    }
}

#[test]
fn only_what_is_not_read_in_place_is_converted() {
    let list = |count: usize| format!(r#"{{"kind":"EventList","items":[{}]}}"#, vec![READ; count].join(","));
    let pretty_list = pretty(&list(2));
    let viaq = READ.replace(r#""level":"Metadata""#, r#""level":"default","k8s_audit_level":"Metadata""#);
    for text in [
        "{\n",
        "[\n",
        &pretty(READ),
        &pretty_list,
        &list(10_000),
        &viaq,
        &format!("{READ}\n{viaq}\n"),
        &format!(r#"{{"message":{}}}"#, serde_json::json!(READ)),
        &format!("[{viaq}]"),
        &format!("2026-11-23T00:00:01Z stdout F {READ}\n"),
        "@timestamp,@message\n",
        &format!(r#"{{"events":[{}]}}"#, vec![READ; 4000].join(",")),
    ] {
        assert!(is_wrapped(&text.as_bytes()[..text.len().min(HEAD_BYTES)]), "{}", &text[..text.len().min(80)]);
    }
    for text in [
        "",
        "\n",
        "hello\n",
        READ,
        &list(2),
        &format!("{READ}\n{READ}\n"),
        &format!("{READ}{READ}"),
        "{}",
        "[]",
        &format!("node-1 {READ}\n"),
        &format!("[{READ}]\n"),
        r#"{"a":1}"#,
    ] {
        assert!(!is_wrapped(text.as_bytes()), "{text}");
    }
}

#[test]
fn unknown_json_is_counted_with_its_line_and_keys() {
    let text = format!("{{\"message\":{}}}\n\n{{\"colour\":1,\"size\":{{}}}}\n{{\"b\":1}}\n", serde_json::json!(READ));
    let lines = converted(text.as_bytes(), usize::MAX >> 1);
    let notes: Vec<Notes> = lines.split(|b| *b == b'\n').filter_map(Notes::of_line).collect();
    let [notes] = &notes[..] else { panic!("{notes:?}") };
    assert_eq!((notes.unknown, notes.sample.clone()), (2, Some(Sample { line: 3, keys: "colour, size".into() })));
    assert_eq!(notes.formats.get("log shipper"), Some(&1));
}

#[test]
fn hostile_input_costs_no_more_than_its_size() {
    // Each of these took quadratic time, or memory without limit.
    for text in [
        format!("[{}", "}".repeat(1 << 20)),
        format!("[{}", "1".repeat(1 << 20)),
        r#"{"data":"#.repeat(200_000),
        r#"[{"data":"#.repeat(100_000),
        format!("[{}", "{},".repeat(300_000)),
        "{}".repeat(300_000),
        format!("a {{\"kind\":\"Event\",\n{}", "x\n".repeat(300_000)),
    ] {
        let lines = converted(text.as_bytes(), 256 << 10);
        assert!(lines.len() < 8 * text.len(), "{}", &text[..20]);
    }
}

/// Texts that are nested more deeply than any stack is.
fn nested() -> Vec<String> {
    let times = 3_000;
    let around = |open: &str, inner: &str, close: &str| format!("{}{inner}{}", open.repeat(times), close.repeat(times));
    vec![
        around("[", "", "]"),
        "[".repeat(times),
        around(r#"{"a":"#, "1", "}"),
        around(r#"{"items":["#, "", "]}"),
        around(r#"{"kind":"EventList","items":["#, "", "]}"),
        around(r#"{"message":"#, "1", "}"),
        around(r#"{"Records":["#, "", "]}"),
        around(r#"{"resourceLogs":["#, "", "]}"),
        around(r#"{"result":"#, "1", "}"),
        format!(r#"{{"body":{}}}"#, around(r#"{"arrayValue":{"values":["#, "", "]}}")),
        format!(r#"{{"body":{}}}"#, around(r#"{"kvlistValue":{"values":[{"key":"a","value":"#, "{}", "}]}}")),
        format!(r#"{{"kind":"AdmissionReview","request":{}}}"#, around(r#"{"object":"#, "1", "}")),
        around("<0>1 - - [", "", "]"),
    ]
}

#[test]
fn deep_nesting_needs_no_deep_stack() {
    // Half of what a thread of the server has.
    let small = std::thread::Builder::new().stack_size(1 << 20);
    let task = || {
        for text in nested() {
            is_wrapped(&text.as_bytes()[..text.len().min(HEAD_BYTES)]);
            for piece in [16 << 10, usize::MAX] {
                drop(converted(text.as_bytes(), piece));
            }
        }
    };
    small.spawn(task).unwrap().join().unwrap();
}

#[test]
fn a_line_break_in_a_body_makes_no_event_of_its_own() {
    let entry = r#"{"insertId":"i","logName":"activity","timestamp":"2026-11-23T00:00:00Z","protoPayload":{"serviceName":"k8s.io",
        "methodName":"io.k8s.core.v1.configmaps.update","resourceName":"core/v1/namespaces/a/configmaps/b",
        "request":{"a":"BREAK","b":{ "c" : 1 }}}}"#;
    assert_eq!(found(&entry.replace("BREAK", &format!("\n{}\n", READ.replace('"', "'")))), "event");
    assert_eq!(found(&entry.replace("BREAK", "\n\u{1e}{}\n")), "event");
}

#[test]
fn columns_of_text_stay_text() {
    let row = |agent: &str| {
        serde_json::json!({"AuditId": "a", "Level": "Metadata", "Stage": "ResponseComplete", "Verb": "update", "UserAgent": agent,
            "User": "{\"username\":\"alice\"}", "ObjectRef": "{\"resource\":\"configmaps\",\"name\":\"b\"}"})
        .to_string()
    };
    for agent in ["[curl", "{\"x\":1}", "[],\"objectRef\":{}"] {
        assert_eq!(found(&row(agent)), "event", "{agent}");
    }
}

#[test]
fn a_native_log_is_not_taken_for_a_table_and_a_changed_event_is_restored() {
    let line = READ.replace(r#""requestURI":"/""#, r#""requestURI":"/x?y=,message,log,z""#);
    assert!(!is_wrapped(format!("master-0 {line}\nmaster-0 {line}\n").as_bytes()));
    let event = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"default","auditID":"a","stage":"ResponseComplete","requestURI":"/","verb":"update","user":{},"k8s_audit_level":"Metadata"}"#;
    assert_eq!(found(event), "event");
    // Cut off behind a colon.
    assert_eq!(found(&format!("{}\n{READ}\n{READ}\n", &READ[..READ.find("\"/\"").unwrap()])), "truncated event event");
}
