//! Gzip by its magic bytes, capped: a stream that expands beyond all reason is refused.

use std::io::{self, BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::bufread::MultiGzDecoder;

/// Decompressed bytes per compressed byte beyond which a stream is a bomb: audit logs stay below 60, deflate cannot
/// exceed 1032.
const RATIO_MAX: u64 = 400;
/// Decompressed bytes up to which the ratio does not matter.
const FREE_BYTES: u64 = 64 << 20;
/// Less than is asked for at a time: what is not compressed goes past it.
const BUFFER_BYTES: usize = 64 << 10;

/// A stream, unpacked as it is read.
pub struct Opened {
    /// What is in it.
    pub reader: Box<dyn Read + Send>,
    /// Whether it is gzip, and reading it takes time.
    pub is_packed: bool,
}

/// Opens a stream that may be gzip. `read` counts the bytes taken from `inner`, for progress; others may count there too.
///
/// # Errors
/// Those of reading the first bytes.
pub fn open(inner: impl Read + Send + 'static, read: Arc<AtomicU64>) -> io::Result<Opened> {
    let taken = Arc::new(AtomicU64::new(0));
    let counted = Counted { inner, counters: [read, taken.clone()] };
    let mut buffered = BufReader::with_capacity(BUFFER_BYTES, counted);
    let is_packed = buffered.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    let reader: Box<dyn Read + Send> = match is_packed {
        true => Box::new(Capped { inner: MultiGzDecoder::new(buffered), taken, given: 0 }),
        false => Box::new(buffered),
    };
    Ok(Opened { reader, is_packed })
}

struct Counted<R> {
    inner: R,
    counters: [Arc<AtomicU64>; 2],
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        for counter in &self.counters {
            counter.fetch_add(n as u64, Ordering::Relaxed);
        }
        Ok(n)
    }
}

struct Capped<R> {
    inner: R,
    /// Bytes of this stream that went in, and came out.
    taken: Arc<AtomicU64>,
    given: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.given += n as u64;
        let taken = self.taken.load(Ordering::Relaxed).max(1);
        if self.given > FREE_BYTES && self.given / taken > RATIO_MAX {
            let text =
                format!("expands more than {RATIO_MAX} times: no audit log does; unpack it yourself if it is one");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(n)
    }
}
