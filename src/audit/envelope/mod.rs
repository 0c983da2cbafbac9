//! Envelopes: the formats that audit events arrive in.
//!
//! Events in kube-apiserver's own formats are read in place, without a copy: [`native`] finds them in log lines,
//! `EventList`s and arrays. Every other format is an [`Envelope`], which converts a stream into lines with one event
//! each. Everything after it only has to know lines. Files are converted; the webhook and `--tail` read kube-apiserver's
//! own formats.
//!
//! To add a format, add one file with an [`Envelope`], and one row to [`FORMATS`].

mod json_stream;
pub(crate) mod native;

pub use native::{EVENT_BYTES_MAX, line, values};

/// All formats except kube-apiserver's own, in the order in which they are tried.
pub const FORMATS: &[Format] = &[json_stream::FORMAT];

/// Number of bytes from the start of a stream that are enough to recognize its format.
pub const HEAD_BYTES: usize = 256 << 10;

/// A format of audit events, as an entry of [`FORMATS`].
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// The name for messages.
    pub name: &'static str,
    /// Returns whether a stream that starts with these bytes has this format. Gets [`HEAD_BYTES`], or the complete
    /// stream if it is shorter.
    pub recognizes: fn(head: &[u8]) -> bool,
    /// Returns a converter for one stream.
    pub open: fn() -> Box<dyn Envelope>,
}

/// Converts a stream of one format into lines of audit events. Lines are passed to [`line()`], so that a part of the
/// stream that is not an event results in a line that is counted as malformed.
pub trait Envelope: Send {
    /// Consumes bytes from the start of `input`, and appends events to `lines`, each followed by a newline. Returns the
    /// number of bytes consumed. The remaining bytes are passed again, followed by more.
    ///
    /// An event must be consumed even if it is longer than [`EVENT_BYTES_MAX`]: it results in a line that is too long.
    /// At the end of the stream, everything is consumed.
    fn convert(&mut self, input: &[u8], is_end: bool, lines: &mut Vec<u8>) -> usize;
}

/// Returns the format of a stream that starts with these bytes. `None` stands for kube-apiserver's own formats.
pub fn recognize(head: &[u8]) -> Option<&'static Format> {
    FORMATS.iter().find(|format| (format.recognizes)(head))
}
