//! Audit logs as files: plain or compressed files, archives, rotated sets, directories and standard input, merged by time.

mod archive;
mod chunk;
mod delivery_queue;
mod input;
mod log;
mod merge;
mod parallel_reader;
mod parts;
mod plain;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

pub use self::input::{Error, Input, inputs, total_bytes};
use self::log::Stream;
pub use self::parallel_reader::{Consumer, read};
use crate::audit::envelope::EVENT_BYTES_MAX;
use crate::audit::event::Micros;
use crate::audit::times;

/// Returns the time at which an input ends, from its last events. An input that is compressed or must be converted is
/// read completely. A single event that is more than `apart` later than all others is ignored.
pub fn end_time(input: &Input, apart: Micros) -> Option<Micros> {
    let path = input.path()?;
    let mut stream = Stream::of_file(File::open(path).ok()?, Arc::default(), None).ok()?;
    let mut tail = Vec::new();
    if stream.is_sequential {
        loop {
            let keep = tail.len().saturating_sub(EVENT_BYTES_MAX);
            tail.drain(..keep);
            tail.extend_from_slice(stream.bytes());
            if !stream.go_on() {
                break;
            }
        }
    } else {
        let mut file = File::open(path).ok()?;
        let length = file.metadata().ok()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(EVENT_BYTES_MAX as u64))).ok()?;
        file.read_to_end(&mut tail).ok()?;
    }
    times::end(&tail, apart)
}
