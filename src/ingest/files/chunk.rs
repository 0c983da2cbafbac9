//! A chunk: whole lines of one input, which one worker decodes.

use std::io;

use super::plain::FileRange;

/// Size of a chunk in bytes: small enough to stay in a core's cache while it is decoded.
pub(super) const CHUNK_BYTES: usize = 256 << 10;
/// Maximum size of a buffer that is reused, in bytes.
const BUFFER_BYTES_MAX: usize = 4 * CHUNK_BYTES;

/// Whole lines of one input, in a reusable buffer.
#[derive(Debug)]
pub(super) struct Chunk {
    /// Where its lines are, if they have not been read yet.
    pub(super) unread: Option<FileRange>,
    /// Index of the input.
    pub(super) input: usize,
    /// Whether the first line is the rest of a line that is longer than an event can be.
    pub(super) is_rest_of_too_long: bool,
    pub(super) buffer: Vec<u8>,
    /// Number of bytes of the buffer that are lines.
    pub(super) filled: usize,
}

// === impl Chunk ===

impl Chunk {
    /// Returns a chunk without lines.
    pub(super) fn new(input: usize) -> Chunk {
        Chunk { input, is_rest_of_too_long: false, unread: None, buffer: Vec::new(), filled: 0 }
    }

    /// Reads the lines, unless that has been done. `buffers` contains buffers for reuse. After an error, the chunk has the whole
    /// lines before it.
    pub(super) fn load(&mut self, buffers: &mut Vec<Vec<u8>>) -> Option<io::Error> {
        let range = self.unread.take()?;
        self.buffer = buffers.pop().unwrap_or_default();
        let (filled, error) = range.read(&mut self.buffer);
        let whole_lines = || memchr::memrchr(b'\n', &self.buffer[..filled]).map_or(0, |newline| newline + 1);
        self.filled = if error.is_some() { whole_lines() } else { filled };
        error
    }

    /// Returns the lines.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    /// Returns the buffer for reuse, or an empty one if a long line made it too large.
    pub(super) fn into_buffer(self) -> Vec<u8> {
        if self.buffer.len() > BUFFER_BYTES_MAX { Vec::new() } else { self.buffer }
    }
}
