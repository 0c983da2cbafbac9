//! Decompression of gzip and zstd streams, which are detected by their magic bytes. A stream with an implausible compression
//! ratio is rejected as a decompression bomb.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;
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

/// The first bytes of a gzip stream, and of a zstd stream.
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Returns whether a stream that starts with these bytes is compressed.
pub(super) fn is_packed(head: &[u8]) -> bool {
    head.starts_with(&GZIP) || head.starts_with(&ZSTD)
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
    let head = buffered.fill_buf()?;
    let (is_gzip, is_zstd) = (head.starts_with(&GZIP), head.starts_with(&ZSTD));
    let reader: Box<dyn Read + Send> = if is_gzip {
        Box::new(LimitedReader { inner: MultiGzDecoder::new(buffered), taken, given: 0 })
    } else if is_zstd {
        Box::new(LimitedReader { inner: Frames { inner: Some(Frame::Between(buffered)) }, taken, given: 0 })
    } else {
        Box::new(buffered)
    };
    Ok(DecompressedStream { reader, is_packed: is_gzip || is_zstd })
}

struct CountingReader<R> {
    inner: R,
    counters: [Arc<AtomicU64>; 2],
}

impl<R: Read> Read for CountingReader<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        for counter in &self.counters {
            counter.fetch_add(n as u64, Ordering::Relaxed);
        }
        Ok(n)
    }
}

/// Decompresses the frames of a zstd stream, one after the other.
struct Frames<R: BufRead> {
    /// Empty only after an error.
    inner: Option<Frame<R>>,
}

enum Frame<R: BufRead> {
    Between(R),
    Within(Box<StreamingDecoder<R, FrameDecoder>>),
}

impl<R: BufRead> Read for Frames<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.inner.take() {
                None => return Ok(0),
                Some(Frame::Between(mut reader)) => {
                    if reader.fill_buf()?.is_empty() {
                        return Ok(0);
                    }
                    let frame = StreamingDecoder::new(reader).map_err(io::Error::other)?;
                    self.inner = Some(Frame::Within(Box::new(frame)));
                }
                Some(Frame::Within(mut frame)) => {
                    let n = frame.read(buf)?;
                    self.inner = Some(if n > 0 { Frame::Within(frame) } else { Frame::Between(frame.into_inner()) });
                    if n > 0 {
                        return Ok(n);
                    }
                }
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
