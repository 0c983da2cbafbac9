//! A reader that reads ahead on a separate thread. Several compressed files are decompressed in parallel, while their
//! contents are ingested one after another.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

/// Maximum number of bytes that the thread sends at a time.
pub(super) const PIECE_BYTES: usize = 256 << 10;
/// Maximum number of queued pieces: a megabyte per file that is read ahead.
const PIECES_MAX: usize = 4;

/// The receiving end of the thread, which yields its bytes in order.
#[derive(Debug)]
pub(super) struct ReadaheadReader {
    pieces: Receiver<io::Result<Vec<u8>>>,
    piece: Vec<u8>,
    taken: usize,
    is_over: bool,
}

// === impl ReadaheadReader ===

impl ReadaheadReader {
    /// Starts to read ahead from `reader`. `permit` is dropped when `reader` has ended or the result was dropped.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub(super) fn begin(reader: impl Read + Send + 'static, permit: Arc<()>) -> io::Result<ReadaheadReader> {
        ReadaheadReader::begin_with(reader, permit, PIECES_MAX)
    }

    /// Like [`ReadaheadReader::begin`], with this number of queued pieces.
    pub(super) fn begin_with(
        reader: impl Read + Send + 'static,
        permit: Arc<()>,
        pieces_max: usize,
    ) -> io::Result<ReadaheadReader> {
        let (sender, pieces) = mpsc::sync_channel(pieces_max);
        thread::Builder::new().name("unpack".to_owned()).spawn(move || {
            send_all(reader, &sender);
            drop(permit);
        })?;
        Ok(ReadaheadReader { pieces, piece: Vec::new(), taken: 0, is_over: false })
    }
}

/// Sends everything that can be read, followed by an empty piece at the end, or an error.
fn send_all(mut reader: impl Read, to: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        // Bytes that were read before an error are in the piece.
        let read = reader.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut piece);
        let is_over = piece.is_empty();
        if (!is_over || read.is_ok()) && to.send(Ok(piece)).is_err() {
            return;
        }
        match read {
            Ok(_) if !is_over => {}
            Ok(_) => return,
            // If the receiver is gone, the error is not needed.
            Err(error) => return drop(to.send(Err(error))),
        }
    }
}

impl Read for ReadaheadReader {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.piece.len() && !self.is_over {
            let stopped = |_| Err(io::Error::other("the decompression thread stopped"));
            let next = self.pieces.recv().unwrap_or_else(stopped);
            self.is_over = next.as_ref().map_or(true, Vec::is_empty);
            (self.piece, self.taken) = (next?, 0);
        }
        let n = (self.piece.len() - self.taken).min(buf.len());
        buf[..n].copy_from_slice(&self.piece[self.taken..self.taken + n]);
        self.taken += n;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Yields some bytes, and then an error.
    struct Torn(usize);

    impl Read for Torn {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            let n = self.0.min(buf.len());
            if n == 0 {
                return Err(io::Error::other("torn"));
            }
            buf[..n].fill(b'x');
            self.0 -= n;
            Ok(n)
        }
    }

    #[test]
    fn all_bytes_arrive_in_order() {
        let bytes: Vec<u8> = (0..3 * PIECE_BYTES + 7).map(|i| (i / 11) as u8).collect();
        let mut read = Vec::new();
        let permit = Arc::new(());
        let mut ahead = ReadaheadReader::begin(io::Cursor::new(bytes.clone()), permit.clone()).unwrap();
        ahead.read_to_end(&mut read).unwrap();
        assert!(read == bytes);
        assert_eq!(ahead.read(&mut [0; 8]).unwrap(), 0, "an end stays one");
    }

    #[test]
    fn an_error_arrives_after_all_bytes_before_it() {
        let mut read = Vec::new();
        let error =
            ReadaheadReader::begin(Torn(PIECE_BYTES + 5), Arc::default()).unwrap().read_to_end(&mut read).unwrap_err();
        assert_eq!((read.len(), error.to_string().as_str()), (PIECE_BYTES + 5, "torn"));
    }

    #[test]
    fn dropping_the_reader_ends_the_thread() {
        let permit = Arc::new(());
        drop(ReadaheadReader::begin(io::repeat(b'x'), permit.clone()).unwrap());
        // The thread drops its permit after at most a few pieces. Otherwise, this loop would not end.
        while Arc::strong_count(&permit) > 1 {
            thread::yield_now();
        }
    }
}
