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

/// Opens a stream that may be gzip. `read` counts the bytes taken from `inner`, for progress.
///
/// # Errors
/// Those of reading the first bytes.
pub fn open(inner: impl Read + Send + 'static, read: Arc<AtomicU64>) -> io::Result<Box<dyn Read + Send>> {
    let counted = Counted { inner, read: read.clone() };
    let mut buffered = BufReader::with_capacity(BUFFER_BYTES, counted);
    let is_gzip = buffered.fill_buf()?.starts_with(&[0x1f, 0x8b]);
    Ok(match is_gzip {
        true => {
            let before = read.load(Ordering::Relaxed).saturating_sub(buffered.buffer().len() as u64);
            Box::new(Capped { inner: MultiGzDecoder::new(buffered), read, before, given: 0 })
        }
        false => Box::new(buffered),
    })
}

struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

struct Capped<R> {
    inner: R,
    read: Arc<AtomicU64>,
    before: u64,
    given: u64,
}

impl<R: Read> Read for Capped<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let n = self.inner.read(buf)?;
        self.given += n as u64;
        let taken = self.read.load(Ordering::Relaxed).saturating_sub(self.before).max(1);
        if self.given > FREE_BYTES && self.given / taken > RATIO_MAX {
            let text =
                format!("expands more than {RATIO_MAX} times: no audit log does; unpack it yourself if it is one");
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        Ok(n)
    }
}
