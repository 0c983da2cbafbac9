//! Every format converts a stream to the same lines in pieces of any size as at once. Valid JSON contains as many events as
//! for the reader of webhook bodies. The first bytes of an input are the sizes of the pieces.
#![no_main]

use std::io::Read;

use editwar::audit::envelope::{self, FORMATS, Format};
use editwar::ingest::convert::ConvertingReader;

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

fn convert(format: &Format, head: &[u8], stream: impl Read) -> Vec<u8> {
    let mut lines = Vec::new();
    let mut reader = ConvertingReader::new(head.to_vec(), stream, (format.open)());
    reader.read_to_end(&mut lines).expect("the stream has no errors");
    lines
}

/// Returns whether a reader in one pass can know which objects are lists: their kind does not come after their items.
fn is_decidable(value: &serde_json::Value) -> bool {
    value.get("items").is_none() || value.get("kind").is_none_or(|kind| kind == "EventList")
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((sizes, text)) = input.split_at_checked(4) else { return };
    let head = text.len().min(usize::from(sizes[0]));
    for format in FORMATS {
        let pieces = Pieces { text: &text[head..], sizes: sizes[1..].iter().cycle() };
        assert_eq!(convert(format, b"", text), convert(format, &text[..head], pieces), "{}", format.name);
    }

    // A pretty-printed array is JSON and nothing else.
    let json = envelope::recognize(b"[\n").expect("there is a format for JSON");
    let values: Result<Vec<serde_json::Value>, _> = serde_json::Deserializer::from_slice(text).into_iter().collect();
    if values.is_ok_and(|values| values.iter().all(is_decidable)) {
        let (mut expected, mut found) = (0, 0);
        envelope::values(text, |event| expected += usize::from(event.is_ok()));
        for line in convert(json, b"", text).split(|b| *b == b'\n') {
            envelope::line(line, |event| found += usize::from(event.is_ok()));
        }
        assert_eq!(found, expected);
    }
});
