//! Envelopes: the formats that audit events arrive in.
//!
//! Events in kube-apiserver's own formats are read in place, without a copy: [`native`] finds them in log lines,
//! `EventList`s and arrays. A stream of any other format is converted into lines with one event each ([`Converter`]):
//! [`stream`] splits it into values, [`unwrap`] replaces each value by what it contains, and [`formats`] know what that is.
//! Everything after it only has to know lines.
//!
//! To add a format, add one file to `formats`, and one row to its list.

mod formats;
pub(crate) mod native;
mod notes;
mod object;
mod reader;
mod recognize;
mod stream;
mod unwrap;

#[cfg(test)]
mod tests;

pub(crate) use formats::{ACTIVITY_LOG, DATA_ACCESS_LOG, OPENSHIFT_NAME, VIAQ_NAME};
pub use formats::{FORMATS, Format};
pub use native::{EVENT_BYTES_MAX, line, values};
pub use notes::{Notes, Sample};
pub use recognize::{HEAD_BYTES, is_wrapped};
pub use stream::Converter;
