//! What decoding one event results in: the event, or why the bytes are not an audit event.

use crate::audit::event::{Event, Verb};

/// The result of decoding one event.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a box for each event costs more than moving it")]
pub enum Decoded<'a> {
    /// An event of a stage that does not end the request. It is not counted.
    Unfinished,
    /// The end of a request whose verb does not write.
    Read(Verb),
    /// The end of a request whose verb writes.
    Event(Event<'a>),
}

/// The reason why bytes are not an audit event. [`Malformed::reason`] is the `reason` label of counters and summaries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Invalid JSON, or more text after the value.
    #[error("not valid JSON: {0}")]
    Json(String),
    /// The value is cut off before its end.
    #[error("the event is truncated")]
    Truncated,
    /// A string is not valid UTF-8.
    #[error("not valid UTF-8")]
    Utf8,
    /// Valid JSON that lacks a field that every audit event has.
    #[error("not an audit event: `{0}` is missing or unknown")]
    NotAnEvent(&'static str),
    /// A field has a different type than in the audit API.
    #[error("`{0}` has the wrong type")]
    Type(&'static str),
    /// Longer than the maximum size of an event.
    #[error("longer than {0} bytes")]
    TooLong(usize),
    /// The `legacy` log format, which does not name objects.
    #[error("the `legacy` log format does not name objects: run kube-apiserver with --audit-log-format=json")]
    Legacy,
}

impl Malformed {
    /// All values of [`Malformed::reason`], and `unknown_format`, of JSON that a converter does not know.
    pub const REASONS: [&str; 8] = [
        "not_json",
        "truncated",
        "invalid_utf8",
        "not_an_event",
        "wrong_type",
        "too_long",
        "legacy_format",
        "unknown_format",
    ];

    /// Returns the reason as a metric label and as a key of summaries.
    pub fn reason(&self) -> &'static str {
        match self {
            Malformed::Json(_) => "not_json",
            Malformed::Truncated => "truncated",
            Malformed::Utf8 => "invalid_utf8",
            Malformed::NotAnEvent(_) => "not_an_event",
            Malformed::Type(_) => "wrong_type",
            Malformed::TooLong(_) => "too_long",
            Malformed::Legacy => "legacy_format",
        }
    }

    pub(super) fn from_json(error: serde_json::Error) -> Malformed {
        use serde_json::error::Category;
        let text = error.to_string();
        match error.classify() {
            Category::Eof => Malformed::Truncated,
            _ if text.contains("unicode") || text.contains("UTF-8") => Malformed::Utf8,
            Category::Data => Malformed::NotAnEvent("object"),
            _ => Malformed::Json(text),
        }
    }
}
