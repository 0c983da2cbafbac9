//! The stored form of a write: an audit event, reduced to what the engine reads.
//!
//! The format is JSON in the order in which kube-apiserver writes it. The event decoder reads it at full speed, and the
//! files are self-describing. The key is derived from what identifies a request, so that a batch that is posted again,
//! minutes later or after a restart, results in the same records.

use ring::digest::{Context, SHA256};

use crate::audit::encode::encode;
use crate::audit::envelope::EVENT_BYTES_MAX;
use crate::audit::event::{Event, Level, Micros, ObjectRef, is_of_review};
use crate::detect::write::Write;
use crate::pipeline::dedupe::RequestIdentity;
use crate::pipeline::key::ObjectKey;

/// Length of a record's key in bytes.
pub const KEY_BYTES: usize = 24;
/// Maximum unpacked size of a record in bytes: an event, and the names before it.
const TEXT_BYTES_MAX: usize = EVENT_BYTES_MAX + (1 << 20);
/// Separates cluster, source, time of arrival and event.
const SEPARATOR: u8 = 0;

/// The key of a record: ordered by time, and equal for equal requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(pub [u8; KEY_BYTES]);

/// A write to be stored in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its key.
    pub key: Key,
    /// Its object.
    pub object: ObjectKey,
    /// Cluster, source, time of arrival and event, compressed.
    pub packed: Vec<u8>,
}

/// How a write arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival<'a> {
    /// The cluster it belongs to.
    pub cluster: &'a str,
    /// The source that delivered it.
    pub source: &'a str,
    /// Time of arrival, by the server's clock.
    pub at: Micros,
}

/// A decoded record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The cluster it belongs to.
    pub cluster: &'a str,
    /// The source that delivered it.
    pub source: &'a str,
    /// Time of arrival, by the server's clock. Missing in records of editwar 0.1.
    pub arrived: Option<Micros>,
    /// The event as JSON, or a list of times.
    pub event: &'a [u8],
}

// === impl Key ===

impl Key {
    /// Returns the key of a write: its time, and a SHA-256 of everything that identifies it. Clients can choose their
    /// audit IDs, so the ID alone is not enough: the hash includes account, object, outcome and number of bodies too,
    /// as in [`crate::pipeline::dedupe::RequestIdentity`].
    pub fn new(cluster: &str, write: &Write<'_>, is_bare: bool) -> Key {
        let mut context = Context::new(&SHA256);
        let identity = RequestIdentity::of(cluster, write, is_bare);
        for part in identity.texts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        context.update(&identity.received.to_be_bytes());
        context.update(&identity.code.to_be_bytes());
        let mut key = Key::from(write.at);
        let digest = context.finish();
        key.0[8..].copy_from_slice(&digest.as_ref()[..KEY_BYTES - 8]);
        key
    }

    /// Returns the time of the request.
    pub fn at(&self) -> Micros {
        let time: [u8; 8] = self.0[..8].try_into().expect("a key has 24 bytes");
        (u64::from_be_bytes(time) ^ (1 << 63)).cast_signed()
    }
}

impl From<Micros> for Key {
    /// Returns the smallest key of a time.
    fn from(at: Micros) -> Key {
        let mut key = [0; KEY_BYTES];
        // Flips the sign bit, since the bytes are compared as unsigned.
        key[..8].copy_from_slice(&(at.cast_unsigned() ^ (1 << 63)).to_be_bytes());
        Key(key)
    }
}

// === impl Record ===

impl Record {
    /// Returns the record of a write, or `None` if its object has no valid key. A `bare` record has no bodies and
    /// nothing that may quote them, as if the audit level were `Metadata`.
    pub fn new(arrival: Arrival<'_>, write: &Write<'_>, is_bare: bool) -> Option<Record> {
        let Arrival { cluster, source, at } = arrival;
        let object = ObjectKey::of(cluster, &write.object)?;
        let mut text = Vec::with_capacity(1024 + body_bytes(write.event, is_bare));
        text.extend_from_slice(cluster.as_bytes());
        text.push(SEPARATOR);
        text.extend_from_slice(source.as_bytes());
        text.push(SEPARATOR);
        text.extend_from_slice(at.to_string().as_bytes());
        text.push(SEPARATOR);
        event_text(&mut text, write, is_bare);
        let key = Key::new(cluster, write, is_bare);
        Some(Record { key, object, packed: lz4_flex::compress_prepend_size(&text) })
    }

    /// Returns a record of the times of events, reads included: time passes for verdicts even if nobody writes. Such
    /// records are only in a log that replicas share.
    pub(crate) fn of_times(arrival: Arrival<'_>, times: &[Micros]) -> Record {
        let Arrival { cluster, source, at } = arrival;
        let text = format!("{cluster}\0{source}\0{at}\0{times:?}");
        let object = ObjectKey::from("");
        Record { key: Key::from(at), object, packed: lz4_flex::compress_prepend_size(text.as_bytes()) }
    }

    /// Returns its unpacked size in bytes, as the record says.
    #[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "other builds have no log"))]
    pub(crate) fn unpacked_bytes(&self) -> usize {
        unpacked_bytes(&self.packed)
    }

    /// Returns whether it has a write.
    #[cfg_attr(not(feature = "kafka"), expect(dead_code, reason = "other builds have no log"))]
    pub(crate) fn is_write(&self) -> bool {
        !self.object.as_ref().is_empty()
    }

    /// Returns its approximate size in memory, in bytes.
    pub fn bytes(&self) -> usize {
        self.packed.len() + self.object.as_ref().len() + 128
    }
}

/// Returns the unpacked size of a record in bytes, as it says itself.
pub(crate) fn unpacked_bytes(packed: &[u8]) -> usize {
    packed.first_chunk().map_or(0, |size| u32::from_le_bytes(*size) as usize)
}

/// Decompresses a record. Returns `None` if the data is not valid.
pub fn unpack(packed: &[u8]) -> Option<Vec<u8>> {
    let size: [u8; 4] = packed.get(..4)?.try_into().ok()?;
    if u32::from_le_bytes(size) as usize > TEXT_BYTES_MAX {
        return None;
    }
    lz4_flex::decompress_size_prepended(packed).ok()
}

/// Splits a decompressed record into its parts. Returns `None` if the text is not valid.
pub fn entry(text: &[u8]) -> Option<Entry<'_>> {
    let mut parts = text.splitn(3, |b| *b == SEPARATOR);
    let mut name = || std::str::from_utf8(parts.next()?).ok();
    let (cluster, source) = (name()?, name()?);
    let rest = parts.next()?;
    let arrival = rest.iter().position(|b| *b == SEPARATOR).filter(|_| !rest.starts_with(b"{"));
    let (arrived, event) = match arrival {
        Some(end) => (std::str::from_utf8(&rest[..end]).ok()?.parse().ok(), &rest[end + 1..]),
        None => (None, rest),
    };
    Some(Entry { cluster, source, arrived, event })
}

// === impl Entry ===

impl Entry<'_> {
    /// Returns the times of a record that has no event.
    pub(crate) fn times(&self) -> Option<Vec<Micros>> {
        self.event.starts_with(b"[").then(|| serde_json::from_slice(self.event).ok())?
    }
}

fn body_bytes(event: &Event<'_>, is_bare: bool) -> usize {
    if is_bare { 0 } else { event.request_object.map_or(0, <[u8]>::len) + event.response_object.map_or(0, <[u8]>::len) }
}

fn event_text(text: &mut Vec<u8>, write: &Write<'_>, is_bare: bool) {
    if !is_bare {
        return encode(text, write.event);
    }
    // A generated name is only in the body, which a bare record omits.
    let object_ref = write.event.object_ref.clone();
    let annotations = write.event.annotations.iter();
    let bare = Event {
        level: Level::Metadata,
        object_ref: object_ref.map(|reference| ObjectRef { name: write.object.name.into(), ..reference }),
        request_object: None,
        response_object: None,
        // The others may quote values.
        annotations: annotations.filter(|(key, _)| is_of_review(key)).cloned().collect(),
        ..write.event.clone()
    };
    encode(text, &bare);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::decode::{Decoded, decode};
    use crate::detect::write::classify_write;

    const LINE: &str = r#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"RequestResponse","auditID":"a-1","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/shop/secrets?fieldManager=x%22y","verb":"create","user":{"username":"al\"ice","extra":{"authentication.kubernetes.io/pod-name":["web-0"]}},"impersonatedUser":{"username":"bob"},"sourceIPs":["10.0.0.1","10.0.0.2"],"userAgent":"kubectl/v1","objectRef":{"resource":"secrets","namespace":"shop","apiVersion":"v1"},"responseStatus":{"metadata":{},"code":201},"requestObject":{"kind":"Secret","data":{"k":"aHVudGVyMg=="}},"responseObject":{"kind":"Secret","apiVersion":"v1","metadata":{"name":"gen-x7","uid":"u","resourceVersion":"7"},"data":{"k":"aHVudGVyMg=="}},"requestReceivedTimestamp":"2026-11-23T01:56:08.654761Z","stageTimestamp":"2026-11-23T01:56:08.754761Z","annotations":{"mutation.webhook.admission.k8s.io/round_0_index_0":"{\"hunter2\":1}"}}"#;

    const ARRIVAL: Arrival<'static> = Arrival { cluster: "east", source: "10.1.1.1", at: 1_795_400_000_000_000 };

    fn event(line: &[u8]) -> Event<'_> {
        match decode(line) {
            Ok(Decoded::Event(event)) => event,
            other => panic!("{other:?}"),
        }
    }

    fn text_of(event: &Event<'_>, is_bare: bool) -> Vec<u8> {
        let record = Record::new(ARRIVAL, &classify_write(event).unwrap(), is_bare).unwrap();
        unpack(&record.packed).unwrap()
    }

    #[test]
    fn records_round_trip() {
        let first = event(LINE.as_bytes());
        let text = text_of(&first, false);
        let entry = entry(&text).unwrap();
        assert_eq!((entry.cluster, entry.source, entry.arrived), ("east", "10.1.1.1", Some(ARRIVAL.at)));
        let before = [b"east\0\0".as_slice(), entry.event].concat();
        assert_eq!(self::entry(&before).map(|e| (e.arrived, e.event)), Some((None, entry.event)), "as of 0.1");
        assert_eq!(event(entry.event), first);
    }

    #[test]
    fn bare_records_keep_the_name_and_nothing_of_the_body() {
        let first = event(LINE.as_bytes());
        let text = text_of(&first, true);
        let kept = event(entry(&text).unwrap().event);
        assert_eq!((kept.level, kept.request_object, kept.response_object), (Level::Metadata, None, None));
        assert_eq!(classify_write(&kept).unwrap().object.name, "gen-x7");
        let text = String::from_utf8(text.clone()).unwrap();
        assert!(!text.contains("aHVudGVyMg") && !text.contains("hunter2"), "{text}");
    }

    #[test]
    fn keys_are_ordered_by_time_and_equal_only_for_equal_requests() {
        let one = event(LINE.as_bytes());
        let at = one.at().unwrap();
        let key_of = |cluster: &str, event: &Event<'_>| Key::new(cluster, &classify_write(event).unwrap(), false);
        let key = key_of("", &one);
        assert_eq!((key.at(), key), (at, key_of("", &one)));
        assert_ne!(key, key_of("east", &one));
        let text = |from: &str, to: &str| LINE.replacen(from, to, 1);
        for other in [
            text("/secrets?field", "/secrets?other"),
            text("gen-x7", "gen-x8"),
            text("aHVudGVyMg==", "b3RoZXI="),
            text("\"username\":\"bob\"", "\"username\":\"eve\""),
            text("\"namespace\":\"shop\"", "\"namespace\":\"shed\""),
            text("\"code\":201", "\"code\":200"),
        ] {
            assert_ne!(key, key_of("", &event(other.as_bytes())), "{other}");
        }
        assert!(Key::from(-1) < Key::from(0) && Key::from(at) <= key && key < Key::from(at + 1));
    }

    #[test]
    fn invalid_records_are_not_decoded() {
        assert_eq!(unpack(b""), None);
        assert_eq!(unpack(&[0xff; 64]), None);
        assert_eq!(unpack(&[9, 0, 0, 0, 0xff]), None);
        assert_eq!(entry(b"no separators"), None);
    }
}
