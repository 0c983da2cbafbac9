//! The formats of wrappers: JSON objects and lines of text with audit events in them.
//!
//! To add a format, add one file with a [`Format`], and one row to [`FORMATS`].

mod admission;
mod azure;
mod cloudwatch;
mod containers;
mod elastic;
mod event;
mod firehose;
mod gke;
mod lines;
mod loki;
mod otlp;
mod pubsub;
mod shipper;
mod splunk;
mod tables;

use std::borrow::Cow;

pub(super) use self::containers::LISTS;
pub(crate) use self::event::VIAQ_NAME;
pub(super) use self::event::{has_other_level, salvage};
pub(crate) use self::gke::{ACTIVITY_LOG, DATA_ACCESS_LOG};
pub(super) use self::lines::text;
pub(crate) use self::otlp::OPENSHIFT_NAME;
pub(super) use self::tables::{HEADER_MAX, LINE, Row, Table};
use super::object::Object;
use crate::audit::event::Micros;

/// A format of JSON objects.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// The name for messages. Empty if only what it contains has a name.
    pub name: &'static str,
    /// Returns what an object of this format contains, or `None` if the object has another format.
    open: for<'a> fn(&Object<'a>) -> Option<Content<'a>>,
}

/// All formats of JSON objects. An object that several could be has the first of them: a format that is recognized by
/// what it alone has comes before one that is recognized by a member that others have too.
pub const FORMATS: &[Format] = &[
    event::VIAQ,
    event::FORMAT,
    gke::ACTIVITY,
    gke::DATA_ACCESS,
    admission::FORMAT,
    azure::TABLE,
    azure::RECORD,
    cloudwatch::CONTROL,
    cloudwatch::INSIGHTS,
    cloudwatch::ENTRY,
    firehose::FORMAT,
    pubsub::FORMAT,
    otlp::BATCH,
    otlp::OPENSHIFT,
    otlp::RECORD,
    elastic::FORMAT,
    loki::ENTRY,
    loki::STREAM,
    splunk::FORMAT,
    containers::FORMAT,
    shipper::FORMAT,
];

/// What an object contains.
pub(super) enum Content<'a> {
    /// It is an audit event.
    Event,
    /// It is an audit event whose wrapper changed it: the event as it was.
    Changed(Vec<u8>),
    /// The events that it stands for, as lines.
    Lines { lines: Vec<u8>, count: u64 },
    /// Values that may be events, or contain them.
    Inside(Inside<'a>),
    /// The same of several wrappers in it.
    Entries(Vec<Entry<'a>>),
    /// Nothing about requests.
    Other,
}

/// A wrapper in another.
pub(super) struct Entry<'a> {
    /// The names of the formats.
    pub(super) names: &'static [&'static str],
    pub(super) inside: Inside<'a>,
}

/// Values in a wrapper.
#[derive(Default)]
pub(super) struct Inside<'a> {
    /// The values, in order.
    pub(super) values: Vec<Value<'a>>,
    /// The time that the wrapper gives, for events that were cut off before their own.
    pub(super) at: Option<Micros>,
    /// What distinguishes the stream of lines that the values are from others: a long line may be split into several
    /// entries of one stream.
    pub(super) stream: String,
}

/// A value in a wrapper.
pub(super) enum Value<'a> {
    /// JSON.
    Json(&'a [u8]),
    /// Text, which may be JSON.
    Text(Vec<u8>),
    /// Bytes that may be compressed, with text.
    Packed(Vec<u8>),
    /// JSON that was made of another notation.
    Made(Cow<'a, [u8]>),
}

// === impl Format ===

impl Format {
    /// Returns what an object of this format contains, or `None` if the object has another format.
    pub(super) fn open<'a>(&self, object: &Object<'a>) -> Option<Content<'a>> {
        (self.open)(object)
    }
}

// === impl Content ===

impl<'a> Content<'a> {
    /// Returns the content that consists of one value.
    fn one(value: Value<'a>, at: Option<Micros>, stream: String) -> Content<'a> {
        Content::Inside(Inside { values: vec![value], at, stream })
    }
}

// === impl Value ===

impl<'a> Value<'a> {
    /// Returns the value of a member: a string is text.
    fn of(raw: &'a [u8]) -> Option<Value<'a>> {
        match raw.first()? {
            b'"' => super::object::unescaped(raw).map(Value::Text),
            b'{' | b'[' => Some(Value::Json(raw)),
            _ => None,
        }
    }

    /// Decodes base64.
    fn of_base64(raw: &[u8]) -> Option<Value<'static>> {
        use base64::Engine as _;
        let text = super::object::borrowed(raw)?;
        base64::engine::general_purpose::STANDARD.decode(text.as_bytes()).ok().map(Value::Packed)
    }
}
