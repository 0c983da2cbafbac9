//! Decoding of audit events: the types of `audit.k8s.io`, and everything between raw bytes and these types.
//!
//! [`mod@decode`] is the decoder; [`decode::plain`] is the slow reference decoder that defines the correct results.
//! [`envelope`] finds the events in the formats that they arrive in. [`decoded_chunk`] decodes a part of the input as a
//! whole. [`revision`] makes events of the revisions that watches deliver, and [`mod@encode`] writes events. [`json_scan`]
//! finds the ends of JSON values without parsing them, and [`times`] finds event times. This module
//! knows nothing about writes, wars or clocks.

pub mod decode;
pub mod decoded_chunk;
pub(crate) mod encode;
pub mod envelope;
pub mod event;
pub mod json_scan;
pub(crate) mod revision;
pub mod times;

pub use decode::{Decoded, Malformed, decode};
pub use event::{Event, Level, Micros, ObjectRef, ResponseStatus, Stage, Verb};
