//! The converter finds the same in pieces of any size as at once. In valid JSON of kube-apiserver's own formats, it finds as
//! many events as the reader of webhook bodies; in a mixture of formats, as many as were put into it. The first bytes of an
//! input are the sizes of the pieces, and choose the formats.
#![no_main]

use std::io::Read;

use editwar::audit::envelope::{self, Notes};
use editwar::ingest::convert::ConvertingReader;

const EVENT: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"a","stage":"ResponseComplete","requestURI":"/","verb":"get","user":{}}"#;

/// Formats, each with one event in it: how what is before it and after it looks.
const FORMATS: [fn(&str) -> String; 10] = [
    |event| event.to_owned(),
    |event| format!("[{event}]"),
    |event| format!(r#"{{"kind":"EventList","items":[{event}]}}"#),
    |event| format!(r#"{{"message":{}}}"#, serde_json::json!(event)),
    |event| format!(r#"{{"log":{},"stream":"stdout","time":"2026-11-23T00:00:00Z"}}"#, serde_json::json!(format!("{event}\n"))),
    |event| format!("2026-11-23T00:00:00.000000000Z stdout F {event}"),
    |event| format!("node-1 {event}"),
    |event| event.replace(r#""level":"Metadata""#, r#""level":"default","k8s_audit_level":"Metadata""#),
    |event| format!(r#"{{"resourceLogs":[{{"scopeLogs":[{{"logRecords":[{{"body":{{"stringValue":{}}}}}]}}]}}]}}"#, serde_json::json!(event)),
    |event| format!("{{\n \"events\" : [\n{{\"timestamp\":1,\"id\":\"1\",\"message\":{}}}\n]\n}}", serde_json::json!(event)),
];

/// A stream that is read in pieces of these sizes, over and over again.
struct Pieces<'a> {
    text: &'a [u8],
    sizes: std::iter::Cycle<std::slice::Iter<'a, u8>>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let size = self.sizes.next().map_or(1, |size| usize::from(*size).max(1));
        let length = size.min(self.text.len()).min(buffer.len());
        buffer[..length].copy_from_slice(&self.text[..length]);
        self.text = &self.text[length..];
        Ok(length)
    }
}

/// Returns the lines with events, and the sum of the notes.
fn convert(head: &[u8], stream: impl Read) -> (Vec<Vec<u8>>, Notes) {
    let mut text = Vec::new();
    ConvertingReader::new(head.to_vec(), stream).read_to_end(&mut text).expect("the stream has no errors");
    let (mut lines, mut sum) = (Vec::new(), Notes::default());
    for line in text.split(|b| *b == b'\n') {
        match Notes::of_line(line) {
            Some(notes) => sum.add(&notes),
            None => lines.push(line.to_vec()),
        }
    }
    (lines, sum)
}

fn events(lines: &[Vec<u8>]) -> usize {
    let mut found = 0;
    lines.iter().for_each(|line| envelope::line(line, |event| found += usize::from(event.is_ok())));
    found
}

/// Returns whether a value is an event, an array of events or an `EventList`, and nothing that could be another format.
fn is_native(value: &serde_json::Value) -> bool {
    let is_event = |value: &serde_json::Value| {
        value.get("auditID").is_some() && value.get("stage").is_some() && !value.to_string().contains("_audit_level")
    };
    let items = value.as_array().or_else(|| value.get("items")?.as_array().filter(|_| value["kind"] == "EventList"));
    items.map_or_else(|| is_event(value), |items| items.iter().all(is_event))
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((sizes, text)) = input.split_at_checked(4) else { return };
    // Whatever it says, it ends.
    envelope::is_wrapped(text);
    let head = text.len().min(usize::from(sizes[0]));
    let pieces = Pieces { text: &text[head..], sizes: sizes[1..].iter().cycle() };
    let (lines, notes) = convert(b"", text);
    let (same_lines, same_notes) = convert(&text[..head], pieces);
    assert_eq!(lines, same_lines);
    assert_eq!(notes, same_notes);

    let values: Result<Vec<serde_json::Value>, _> = serde_json::Deserializer::from_slice(text).into_iter().collect();
    if values.is_ok_and(|values| values.iter().all(is_native)) {
        let mut expected = 0;
        envelope::values(text, |event| expected += usize::from(event.is_ok()));
        assert_eq!(events(&lines), expected);
    }

    let mixture: Vec<String> = text.iter().take(12).map(|byte| FORMATS[usize::from(*byte) % FORMATS.len()](EVENT)).collect();
    let (lines, notes) = convert(b"", mixture.join("\n").as_bytes());
    assert_eq!(events(&lines), mixture.len(), "{mixture:#?}");
    assert_eq!((notes.other, notes.unknown, notes.cut), (0, 0, 0), "{mixture:#?}");
});
