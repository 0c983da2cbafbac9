//! The content of messages as lines of audit events.

use std::io::Read as _;
use std::sync::Arc;

use crate::audit::envelope::{EVENT_BYTES_MAX, HEAD_BYTES, is_wrapped};
use crate::ingest::convert::ConvertingReader;
use crate::ingest::decompress;

/// Maximum number of bytes that one message may expand to: those of the longest event. Brokers accept messages of 1 MB by
/// default.
const EXPANDED_MAX: u64 = EVENT_BYTES_MAX as u64;
/// A line that counts as a malformed event.
const MALFORMED: &[u8] = b"?\n";

/// Appends the events of a message as lines.
pub(super) fn append(message: &[u8], lines: &mut Vec<u8>) {
    if !decompress::is_packed(message) && !is_wrapped(&message[..message.len().min(HEAD_BYTES)]) {
        lines.extend_from_slice(message);
        if !message.ends_with(b"\n") {
            lines.push(b'\n');
        }
        return;
    }
    let start = lines.len();
    let stream = decompress::open(std::io::Cursor::new(message.to_vec()), Arc::default());
    let read = stream.and_then(|stream| {
        let limited = stream.reader.take(EXPANDED_MAX);
        ConvertingReader::new(Vec::new(), limited).read_to_end(lines)
    });
    if let Err(error) = read {
        tracing::debug!(%error, "a message cannot be decompressed");
        lines.truncate(start + memchr::memrchr(b'\n', &lines[start..]).map_or(0, |newline| newline + 1));
        lines.extend_from_slice(MALFORMED);
    }
    if !lines[start..].is_empty() && !lines.ends_with(b"\n") {
        lines.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    const EVENT: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"a","stage":"ResponseComplete","requestURI":"/","verb":"get","user":{}}"#;

    /// Returns the events among the lines of a message, and the number of other lines that are not notes.
    fn events(message: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        append(message, &mut lines);
        assert!(lines.is_empty() || lines.ends_with(b"\n"));
        String::from_utf8(lines).unwrap().lines().filter(|line| line.starts_with('{')).map(str::to_owned).collect()
    }

    fn packed(text: &str) -> Vec<u8> {
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(text.as_bytes()).unwrap();
        gzip.finish().unwrap()
    }

    #[test]
    fn a_message_has_events_in_any_format() {
        assert_eq!(events(EVENT.as_bytes()), [EVENT]);
        assert_eq!(events(format!("{EVENT}\n{EVENT}\n").as_bytes()), [EVENT, EVENT]);
        let wrapped = serde_json::json!({"message": EVENT, "host": "node-1"}).to_string();
        assert_eq!(events(wrapped.as_bytes()), [EVENT]);
        assert_eq!(events(&packed(EVENT)), [EVENT]);
        assert_eq!(events(&packed(&wrapped)), [EVENT]);
    }

    #[test]
    fn a_damaged_message_is_one_malformed_line() {
        let mut lines = Vec::new();
        let message = packed(&EVENT.repeat(50));
        append(&message[..message.len() - 9], &mut lines);
        assert!(lines.ends_with(MALFORMED));
        assert!(events(b"").is_empty());
    }
}
