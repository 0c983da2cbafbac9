//! The inputs: files, directories that are searched for logs, and standard input.

use std::fs::File;
use std::io::{self, BufRead, Read};
use std::path::{Path, PathBuf};

use super::archive::{self, Member};

/// Number of bytes by which an archive is recognized.
const HEAD_BYTES: u64 = 8 << 10;
/// Maximum depth when directories are searched. A must-gather has its logs three levels down.
const DIRECTORY_DEPTH_MAX: usize = 6;

/// An input to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A file, plain or compressed.
    File(PathBuf),
    /// A log from an archive.
    Member(Member),
    /// Standard input.
    Stdin,
}

/// The reason why inputs cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The input cannot be opened or read.
    #[error("{path}: {source}")]
    Io {
        /// The name of the input.
        path: String,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A directory without logs.
    #[error(
        "{0}: found no audit logs; expected files named *.log, *.json, *.jsonl, *.csv or *audit*, plain, .gz, .zst or in a .tar.gz"
    )]
    NoLogs(String),
}

// === impl Input ===

impl Input {
    /// Returns the name for messages.
    pub fn name(&self) -> String {
        match self {
            Input::File(path) => path.display().to_string(),
            Input::Member(member) => member.name.clone(),
            Input::Stdin => "standard input".to_owned(),
        }
    }

    /// Returns the path of its file, or `None` for standard input.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Input::File(path) => Some(path),
            Input::Member(member) => Some(member.path()),
            Input::Stdin => None,
        }
    }
}

/// Returns the inputs for the given arguments. Directories are searched for logs, and archives are extracted.
///
/// # Errors
/// [`Error`] if a path does not exist, an archive is damaged, or a directory or an archive has no logs.
pub fn inputs(arguments: &[PathBuf]) -> Result<Vec<Input>, Error> {
    let mut found = Vec::new();
    for path in arguments {
        if path.as_os_str() == "-" {
            stdin(&mut found)?;
            continue;
        }
        let metadata = std::fs::metadata(path).map_err(|source| io_error(path, source))?;
        if metadata.is_dir() {
            let before = found.len();
            search(path, 0, &mut found)?;
            if found.len() == before {
                return Err(Error::NoLogs(path.display().to_string()));
            }
        } else {
            file(path, &mut found)?;
        }
    }
    Ok(found)
}

/// Adds a file, or the logs of an archive.
fn file(path: &Path, found: &mut Vec<Input>) -> Result<(), Error> {
    let name = path.display().to_string();
    let is_archive = || {
        let mut head = Vec::new();
        File::open(path)?.take(HEAD_BYTES).read_to_end(&mut head)?;
        Ok::<_, io::Error>(archive::is_archive(&head))
    };
    // Errors are reported when the file is read. A pipe can only be read once.
    if !path.is_file() || !is_archive().unwrap_or(false) {
        found.push(Input::File(path.to_owned()));
        return Ok(());
    }
    let archive = File::open(path).map_err(|source| io_error(path, source))?;
    members(archive, name, found)
}

/// Adds standard input, or the logs of an archive that it is.
fn stdin(found: &mut Vec<Input>) -> Result<(), Error> {
    // Looking at the buffer consumes nothing.
    let is_archive = io::stdin().lock().fill_buf().is_ok_and(archive::is_archive);
    if is_archive {
        return members(io::stdin(), Input::Stdin.name(), found);
    }
    found.push(Input::Stdin);
    Ok(())
}

fn members(archive: impl Read + Send + 'static, name: String, found: &mut Vec<Input>) -> Result<(), Error> {
    let before = found.len();
    let members =
        archive::extract(archive, &name, is_log).map_err(|source| Error::Io { path: name.clone(), source })?;
    found.extend(members.into_iter().map(Input::Member));
    if found.len() == before { Err(Error::NoLogs(name)) } else { Ok(()) }
}

fn search(directory: &Path, depth: usize, found: &mut Vec<Input>) -> Result<(), Error> {
    let entries = std::fs::read_dir(directory).map_err(|source| io_error(directory, source))?;
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| entry.ok().map(|e| e.path())).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            if depth < DIRECTORY_DEPTH_MAX {
                search(&path, depth + 1, found)?;
            }
        } else if is_log(&path) || is_archive_name(&path) {
            // An archive of other things has no logs.
            match file(&path, found) {
                Ok(()) | Err(Error::NoLogs(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn is_archive_name(path: &Path) -> bool {
    let name = path.to_string_lossy().to_ascii_lowercase();
    [".tar", ".tar.gz", ".tgz", ".tar.zst"].iter().any(|extension| name.ends_with(extension))
}

/// Returns whether a file in a directory or an archive is a log, by its name.
fn is_log(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    let has_extension = |extensions: &[&str]| extensions.iter().any(|e| name.ends_with(e));
    has_extension(&[".log", ".json", ".jsonl", ".ndjson", ".csv"])
        || (name.contains("audit") && !has_extension(&[".md", ".txt", ".yaml", ".yml", ".tar", ".tgz", ".zip"]))
}

pub(super) fn io_error(path: &Path, source: io::Error) -> Error {
    Error::Io { path: path.display().to_string(), source }
}

/// Returns the total size of the inputs on disk. Standard input counts as 0.
pub fn total_bytes(inputs: &[Input]) -> u64 {
    let size = |input: &Input| input.path().and_then(|path| std::fs::metadata(path).ok()).map_or(0, |m| m.len());
    inputs.iter().map(size).sum()
}
