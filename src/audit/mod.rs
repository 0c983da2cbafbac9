//! What comes in: the words of `audit.k8s.io`, and the way from bytes to them.
//!
//! [`mod@decode`] is the decoder in use; [`decode::plain`] is its slow twin, which defines what is right.
//! [`envelope`] takes apart what events travel in, [`times`] finds their times without decoding the rest. Nothing here knows of writes, wars or clocks.

pub mod decode;
pub mod envelope;
pub mod event;
pub mod run;
pub mod scan;
pub mod times;

pub use decode::{Decoded, Malformed, decode};
pub use event::{Event, Level, Micros, ObjectRef, ResponseStatus, Stage, Verb};
