//! Decompression of gzip and zstd streams, which are detected by their magic bytes. Both may consist of several frames, which gzip
//! calls members. A stream with an implausible compression ratio is rejected as a decompression
//! bomb.

use std::io::{self, BufRead, BufReader, Chain, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::GzDecoder;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

/// Maximum ratio of decompressed to compressed bytes. Audit logs stay below 60; the limit of deflate is 1032.
const RATIO_MAX: u64 = 400;
/// Number of decompressed bytes up to which the ratio does not matter.
const FREE_BYTES: u64 = 64 << 20;
/// Smaller than the size of typical reads, so that uncompressed data bypasses this buffer.
const BUFFER_BYTES: usize = 64 << 10;

/// An opened stream.
pub(super) struct DecompressedStream {
    /// Yields the decompressed content.
    pub reader: Box<dyn Read + Send>,
    /// Whether the stream is compressed, so that reading it costs CPU time.
    pub is_packed: bool,
}

/// A format of compressed streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Gzip,
    Zstd,
}

/// The first bytes of a gzip stream, and of a zstd stream.
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The first bytes of a frame that decoders skip, without the lower half of the first one; the length of its head, which ends with
/// its size.
const ZSTD_SKIPPED: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];
pub(super) const ZSTD_SKIPPED_HEAD: usize = 8;

/// Returns whether a stream that starts with these bytes is compressed.
pub(super) fn is_packed(head: &[u8]) -> bool {
    Format::of(head).is_some()
}

/// Returns the size of the frame that starts with these bytes, if it is one that decoders skip.
pub(super) fn skipped_bytes(head: &[u8]) -> Option<u64> {
    let [first, a, b, c, size @ ..] = *head.first_chunk::<ZSTD_SKIPPED_HEAD>()?;
    let is_skipped = [first & 0xf0, a, b, c] == ZSTD_SKIPPED;
    is_skipped.then_some(ZSTD_SKIPPED_HEAD as u64 + u64::from(u32::from_le_bytes(size)))
}

/// Opens a stream that may be gzip or zstd. `read` is incremented by the number of bytes read from `inner`, for progress
/// reports; it may be shared with other streams.
///
/// # Errors
/// Errors of reading the first bytes.
pub(super) fn open(inner: impl Read + Send + 'static, read: Arc<AtomicU64>) -> io::Result<DecompressedStream> {
    let taken = Arc::new(AtomicU64::new(0));
    let counting = CountingReader { inner, counters: [read, taken.clone()] };
    let mut buffered = BufReader::with_capacity(BUFFER_BYTES, counting);
    let format = Format::of(buffered.fill_buf()?);
    let reader: Box<dyn Read + Send> = match format {
        Some(format) => {
            Box::new(LimitedReader { inner: Frames::new(format, buffered, u64::MAX, Arc::default()), taken, given: 0 })
        }
        None => Box::new(buffered),
    };
    Ok(DecompressedStream { reader, is_packed: format.is_some() })
}

/// Decompresses the frames of `inner` that start before the position `end`, counted from its present one. When all have been
/// read, `ended` has the position at which the last one ends. `read` is incremented as in [`open`].
pub(super) fn open_frames(
    format: Format,
    inner: impl Read + Send + 'static,
    read: Arc<AtomicU64>,
    end: u64,
    ended: Arc<AtomicU64>,
) -> Box<dyn Read + Send> {
    let taken = Arc::new(AtomicU64::new(0));
    let counting = CountingReader { inner, counters: [read, taken.clone()] };
    let buffered = BufReader::with_capacity(BUFFER_BYTES, counting);
    Box::new(LimitedReader { inner: Frames::new(format, buffered, end, ended), taken, given: 0 })
}

// === impl Format ===

impl Format {
    /// Returns the format of a stream that starts with these bytes, if it is compressed.
    pub(super) fn of(head: &[u8]) -> Option<Format> {
        let is_zstd = head.starts_with(&ZSTD) || skipped_bytes(head).is_some();
        if head.starts_with(&GZIP) { Some(Format::Gzip) } else { is_zstd.then_some(Format::Zstd) }
    }
}

struct CountingReader<R> {
    inner: R,
    counters: [Arc<AtomicU64>; 2],
}

impl<R: Read> Read for CountingReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = loop {
            match self.inner.read(buf) {
                // A decoder that was interrupted could not go on.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        for counter in &self.counters {
            counter.fetch_add(n as u64, Ordering::Relaxed);
        }
        Ok(n)
    }
}

/// Counts the bytes that were used.
struct Positioned<R> {
    inner: R,
    at: u64,
}

impl<R: BufRead> Read for Positioned<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.at += n as u64;
        Ok(n)
    }
}

impl<R: BufRead> BufRead for Positioned<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, n: usize) {
        self.at += n as u64;
        self.inner.consume(n);
    }
}

/// Decompresses frames, one after the other.
struct Frames<R: BufRead> {
    format: Format,
    /// Empty only after an error.
    inner: Option<Frame<R>>,
    /// No frame that starts here or later is read.
    end: u64,
    /// Where the last frame has ended.
    ended: Arc<AtomicU64>,
}

/// A reader whose first bytes were read to find out what they are.
type Peeked<R> = Chain<Cursor<Vec<u8>>, Positioned<R>>;

enum Frame<R: BufRead> {
    Between(Positioned<R>),
    Gzip(Box<GzDecoder<Positioned<R>>>),
    Zstd(Box<StreamingDecoder<Peeked<R>, FrameDecoder>>),
}

// === impl Frames ===

impl<R: BufRead> Frames<R> {
    fn new(format: Format, inner: R, end: u64, ended: Arc<AtomicU64>) -> Frames<R> {
        Frames { format, inner: Some(Frame::Between(Positioned { inner, at: 0 })), end, ended }
    }

    /// Begins the next frame. Returns `None` if there is none.
    fn begin(&self, mut reader: Positioned<R>) -> io::Result<Option<Frame<R>>> {
        if reader.at >= self.end || reader.fill_buf()?.is_empty() {
            self.ended.store(reader.at, Ordering::Relaxed);
            return Ok(None);
        }
        if self.format == Format::Gzip {
            return Ok(Some(Frame::Gzip(Box::new(GzDecoder::new(reader)))));
        }
        let mut head = Vec::new();
        reader.by_ref().take(ZSTD_SKIPPED_HEAD as u64).read_to_end(&mut head)?;
        if let Some(size) = skipped_bytes(&head) {
            let rest = size - head.len() as u64;
            let skipped = io::copy(&mut reader.by_ref().take(rest), &mut io::sink())?;
            return if skipped == rest {
                Ok(Some(Frame::Between(reader)))
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            };
        }
        let frame = StreamingDecoder::new(Cursor::new(head).chain(reader)).map_err(io::Error::other)?;
        Ok(Some(Frame::Zstd(Box::new(frame))))
    }
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        // A decoder says that its frame is over by returning 0.
        if buf.is_empty() {
            return Ok(0);
        }
        loop {
            let (n, next) = match self.inner.take() {
                None => return Ok(0),
                Some(Frame::Between(reader)) => {
                    self.inner = self.begin(reader)?;
                    continue;
                }
                Some(Frame::Gzip(mut frame)) => match frame.read(buf)? {
                    0 => (0, Frame::Between(frame.into_inner())),
                    n => (n, Frame::Gzip(frame)),
                },
                Some(Frame::Zstd(mut frame)) => match frame.read(buf)? {
                    0 => (0, Frame::Between(frame.into_inner().into_inner().1)),
                    n => (n, Frame::Zstd(frame)),
                },
            };
            self.inner = Some(next);
            if n > 0 {
                return Ok(n);
            }
        }
    }
}

struct LimitedReader<R> {
    inner: R,
    /// Compressed bytes read and decompressed bytes returned, of this stream.
    taken: Arc<AtomicU64>,
    given: u64,
}

/// Says in plain words what is wrong with a compressed stream.
fn explained(error: io::Error) -> io::Error {
    let text = match error.kind() {
        io::ErrorKind::UnexpectedEof => {
            "the compressed data ends too early: the file was cut off, or it is still being written".to_owned()
        }
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
            format!("the compressed data is damaged ({error})")
        }
        _ => return error,
    };
    io::Error::new(error.kind(), text)
}

impl<R: Read> Read for LimitedReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf).map_err(explained)?;
        self.given += n as u64;
        let taken = self.taken.load(Ordering::Relaxed).max(1);
        if self.given > FREE_BYTES && self.given / taken > RATIO_MAX {
            let text = format!(
                "expands more than {RATIO_MAX} times, unlike any audit log; decompress it first to read it anyway"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(n)
    }
}
