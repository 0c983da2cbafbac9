//! A stream of JSON is read the same in pieces of any size as at once. If it is valid, it contains as many events as the whole text
//! does for the reader of webhook bodies. The first bytes of an input are the sizes of the pieces.
#![no_main]

use std::io::{self, Read};

use editwar::audit::envelope;
use editwar::ingest::document;

/// A stream that is read in pieces of these sizes, over and over again.
struct Pieces<'a> {
    text: &'a [u8],
    sizes: std::iter::Cycle<std::slice::Iter<'a, u8>>,
}

impl Read for Pieces<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let size = self.sizes.next().map_or(1, |size| usize::from(*size).max(1));
        let length = size.min(self.text.len()).min(buffer.len());
        buffer[..length].copy_from_slice(&self.text[..length]);
        self.text = &self.text[length..];
        Ok(length)
    }
}

/// An event or the reason why there is none, and the bytes that it was decoded from.
type Found = (Option<&'static str>, Vec<u8>);

fn read(head: &[u8], stream: impl Read) -> Vec<Found> {
    let mut found = Vec::new();
    let read = document::read(head.to_vec(), stream, |event, bytes| {
        found.push((event.err().map(|why| why.reason()), bytes.to_vec()));
    });
    read.expect("the stream has no errors");
    found
}

/// Returns whether a reader in one pass can know which objects are lists: their kind does not come after their items.
fn is_decidable(value: &serde_json::Value) -> bool {
    value.get("items").is_none() || value.get("kind").is_none_or(|kind| kind == "EventList")
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let Some((sizes, text)) = input.split_at_checked(4) else { return };
    let head = text.len().min(usize::from(sizes[0]));
    let at_once = read(b"", text);
    let in_pieces = read(&text[..head], Pieces { text: &text[head..], sizes: sizes[1..].iter().cycle() });
    assert_eq!(at_once, in_pieces);

    let values: Result<Vec<serde_json::Value>, _> = serde_json::Deserializer::from_slice(text).into_iter().collect();
    if values.is_ok_and(|values| values.iter().all(is_decidable)) {
        let mut expected = Vec::new();
        envelope::values(text, |event| expected.push(event.err().map(|why| why.reason())));
        let reasons: Vec<_> = at_once.iter().map(|(reason, _)| *reason).collect();
        assert_eq!(reasons, expected);
    }
});
