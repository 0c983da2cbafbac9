//! All file operations that change something. Durability depends on the order of writes, syncs and renames, so they are
//! all here, and tests can make any of them fail.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::ops::Bound;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

/// A file operation that a test can make fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Opens or creates a file.
    Open,
    /// Writes bytes.
    Write,
    /// Sets the length of a file.
    Resize,
    /// Syncs the data of a file.
    Sync,
    /// Renames a file.
    Rename,
    /// Removes a file.
    Remove,
    /// Syncs the entries of a directory.
    SyncDirectory,
    /// Creates a directory.
    MakeDirectory,
    /// Queries the free space of a file system. If the fault returns "storage full", the free space is 0.
    Space,
}

/// A hook that is called before each operation, with the path of the file. If it returns an error, the operation fails
/// with that error. A failing write still writes the first half of its data, as on a disk that fills up.
pub type Fault = dyn Fn(Operation, &Path) -> io::Result<()> + Send + Sync;

/// The file system, as used by the journal.
#[derive(Clone, Default)]
pub struct Disk {
    fault: Option<Arc<Fault>>,
}

/// Size of a file system in bytes. Some file systems report 0 for both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Space {
    /// Bytes that are available to this process.
    pub(super) free: u64,
    /// Total bytes.
    pub(super) all: u64,
}

/// A storage backend of redb on a [`Disk`].
#[derive(Debug)]
pub(super) struct Backend {
    disk: Disk,
    path: PathBuf,
    /// A second handle, so that a failing write can still write half of its data.
    file: File,
    inner: FileBackend,
}

// === impl Disk ===

impl Disk {
    /// Returns a disk whose operations fail as `fault` decides.
    pub fn with_fault(fault: impl Fn(Operation, &Path) -> io::Result<()> + Send + Sync + 'static) -> Disk {
        Disk { fault: Some(Arc::new(fault)) }
    }

    fn allow(&self, operation: Operation, path: &Path) -> io::Result<()> {
        self.fault.as_ref().map_or(Ok(()), |fault| fault(operation, path))
    }

    /// Opens a file for reading and writing. If `creates` is set, a missing file is created, accessible to its owner
    /// only.
    pub(super) fn open(&self, path: &Path, creates: bool) -> io::Result<File> {
        self.allow(Operation::Open, path)?;
        OpenOptions::new().read(true).write(true).create(creates).truncate(false).mode(0o600).open(path)
    }

    pub(super) fn write(&self, path: &Path, file: &File, offset: u64, data: &[u8]) -> io::Result<()> {
        if let Err(error) = self.allow(Operation::Write, path) {
            file.write_all_at(&data[..data.len() / 2], offset)?;
            return Err(error);
        }
        file.write_all_at(data, offset)
    }

    pub(super) fn sync(&self, path: &Path, file: &File) -> io::Result<()> {
        self.allow(Operation::Sync, path)?;
        file.sync_data()
    }

    /// Renames a file. The new name is durable once its directory is synced.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.allow(Operation::Rename, from)?;
        std::fs::rename(from, to)
    }

    /// Removes a file. A missing file is not an error.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        self.allow(Operation::Remove, path)?;
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Makes the names in a directory durable.
    pub(super) fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.allow(Operation::SyncDirectory, path)?;
        File::open(path)?.sync_all()
    }

    /// Creates a directory and its missing parents, accessible to the owner only. They are durable when this returns.
    pub(super) fn make_directory(&self, path: &Path) -> io::Result<()> {
        self.allow(Operation::MakeDirectory, path)?;
        let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let missing: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
        DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        for made in missing {
            let above = made.parent().filter(|above| !above.as_os_str().is_empty());
            self.sync_directory(above.unwrap_or(Path::new(".")))?;
        }
        Ok(())
    }

    /// Returns the free and total bytes of the file system that contains `folder`.
    pub(super) fn space(&self, folder: &Path) -> io::Result<Space> {
        match self.allow(Operation::Space, folder) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(Space { free: 0, all: u64::MAX }),
            allowed => allowed?,
        }
        let found = rustix::fs::statvfs(folder)?;
        let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
        Ok(Space { free: bytes(found.f_bavail), all: bytes(found.f_blocks) })
    }

    /// Writes and removes a file of this size, to find out whether there is enough space.
    pub(super) fn try_space(&self, path: &Path, bytes: usize) -> io::Result<()> {
        let write = || {
            let file = self.open(path, true)?;
            // Not zeros: some file systems store those as holes, without allocating space.
            let chunk: Vec<u8> = (0..=u8::MAX).cycle().take(1 << 16).collect();
            for offset in (0..bytes).step_by(chunk.len()) {
                self.write(path, &file, offset as u64, &chunk)?;
            }
            self.sync(path, &file)
        };
        let written = write();
        written.and(self.remove(path))
    }

    pub(super) fn backend(&self, path: &Path, file: File) -> Result<Backend, redb::DatabaseError> {
        let inner = FileBackend::new(file.try_clone()?)?;
        Ok(Backend { disk: self.clone(), path: path.into(), file, inner })
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").field("has_fault", &self.fault.is_some()).finish()
    }
}

// === impl Backend ===

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        self.inner.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.inner.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.allow(Operation::Resize, &self.path)?;
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.sync(&self.path, &self.file)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.write(&self.path, &self.file, offset, data)
    }

    fn close(&self) -> io::Result<()> {
        self.inner.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.inner.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.inner.query_lock_range(start, end)
    }
}
