//! Archives: the logs in a tar file, plain or compressed, are extracted to temporary files, so that they can be merged by
//! time. A must-gather is such an archive.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use tempfile::TempPath;

use crate::ingest::decompress;

/// Size of a block of a tar file. The first is the header of the first member.
const BLOCK: usize = 512;
/// Where a header says that it is one.
const MAGIC_AT: usize = 257;
/// Maximum number of logs that are extracted.
const MEMBERS_MAX: usize = 10_000;
/// Maximum number of bytes that are extracted. Logs in archives are mostly compressed, and stay so.
const BYTES_MAX: u64 = 64 << 30;

/// A log that was extracted. The temporary file is deleted with the last copy.
#[derive(Clone, Debug)]
pub struct Member {
    /// The name of the archive, and of the log in it.
    pub(super) name: String,
    file: Arc<TempPath>,
}

// === impl Member ===

impl Member {
    pub(super) fn path(&self) -> &Path {
        &self.file
    }
}

impl PartialEq for Member {
    fn eq(&self, other: &Member) -> bool {
        self.path() == other.path()
    }
}

impl Eq for Member {}

/// Returns whether a stream that starts with `head`, possibly compressed, is a tar file. Its first kilobytes are enough.
pub(super) fn is_archive(head: &[u8]) -> bool {
    let Ok(mut stream) = decompress::open(io::Cursor::new(head.to_vec()), Arc::default()) else { return false };
    let mut block = [0; BLOCK];
    let mut filled = 0;
    while let Ok(n @ 1..) = stream.reader.read(&mut block[filled..]) {
        filled += n;
    }
    filled == BLOCK && block[MAGIC_AT..].starts_with(b"ustar")
}

/// Extracts those members of an archive that are logs by their names.
///
/// # Errors
/// The archive is damaged or too large, or a temporary file cannot be written.
pub(super) fn extract(
    archive: impl Read + Send + 'static,
    name: &str,
    is_log: impl Fn(&Path) -> bool,
) -> io::Result<Vec<Member>> {
    let stream = decompress::open(archive, Arc::default())?;
    let mut members = Vec::new();
    let mut left = BYTES_MAX;
    for entry in tar::Archive::new(stream.reader).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        if !entry.header().entry_type().is_file() || !is_log(&path) {
            continue;
        }
        let mut file = tempfile::Builder::new().prefix("editwar-").tempfile()?;
        left = left.saturating_sub(io::copy(&mut (&mut entry).take(left), &mut file)?);
        if left == 0 || members.len() >= MEMBERS_MAX {
            let text = "has more logs than can be extracted (10,000 files, 64 GiB); extract it and give the directory";
            return Err(io::Error::other(text));
        }
        let file = Arc::new(file.into_temp_path());
        members.push(Member { name: format!("{name}:{}", path.display()), file });
    }
    Ok(members)
}
