//! Bodies in an encoding that must be decoded as a whole: they are decompressed within the budget.

use std::io::{Cursor, Read as _};
use std::sync::Arc;

use crate::ingest::decompress;

/// Maximum size of a protobuf body, unpacked: it is decoded as a whole, and takes several times its size. A batch of the
/// Collector should have a few MiB.
const BYTES_MAX: usize = 16 << 20;
/// Number of bytes that are reserved at a time.
const STEP_BYTES: usize = 64 << 10;

/// Why a compressed body cannot be read.
pub(in crate::ingest) enum Unreadable {
    Damaged,
    TooLarge,
    /// Not enough memory is free at the moment.
    Full,
}

/// Decompresses a body, and reserves memory for it.
pub(in crate::ingest) fn unpacked(
    body: Vec<u8>,
    mut reserve: impl FnMut(usize) -> bool,
) -> Result<Vec<u8>, Unreadable> {
    if !decompress::is_packed(&body) {
        return if body.len() <= BYTES_MAX { Ok(body) } else { Err(Unreadable::TooLarge) };
    }
    let stream = decompress::open(Cursor::new(body), Arc::default()).map_err(|_| Unreadable::Damaged)?;
    let mut reader = stream.reader;
    let mut unpacked = Vec::new();
    loop {
        if unpacked.len() > BYTES_MAX {
            return Err(Unreadable::TooLarge);
        }
        if !reserve(STEP_BYTES) {
            return Err(Unreadable::Full);
        }
        let read = reader.by_ref().take(STEP_BYTES as u64).read_to_end(&mut unpacked);
        if read.map_err(|_| Unreadable::Damaged)? == 0 {
            return Ok(unpacked);
        }
    }
}
