//! The inputs: files, directories that are searched for logs, and standard input.

use std::io;
use std::path::{Path, PathBuf};

/// Maximum depth when directories are searched. A must-gather has its logs three levels down.
const DIRECTORY_DEPTH_MAX: usize = 6;

/// An input to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A file, plain or gzip.
    File(PathBuf),
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
    #[error("{0}: found no audit logs; expected files named *.log, *.json, *.jsonl or *audit*, plain or .gz")]
    NoLogs(String),
}

// === impl Input ===

impl Input {
    /// Returns the name for messages.
    pub fn name(&self) -> String {
        match self {
            Input::File(path) => path.display().to_string(),
            Input::Stdin => "standard input".to_owned(),
        }
    }
}

/// Returns the inputs for the given arguments. Directories are searched for logs.
///
/// # Errors
/// [`Error`] if a path does not exist or a directory has no logs.
pub fn inputs(arguments: &[PathBuf]) -> Result<Vec<Input>, Error> {
    let mut found = Vec::new();
    for path in arguments {
        if path.as_os_str() == "-" {
            found.push(Input::Stdin);
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
            found.push(Input::File(path.clone()));
        }
    }
    Ok(found)
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
        } else if is_log(&path) {
            found.push(Input::File(path));
        }
    }
    Ok(())
}

fn is_log(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase()).unwrap_or_default();
    let name = name.strip_suffix(".gz").unwrap_or(&name);
    let has_extension = |extensions: &[&str]| extensions.iter().any(|e| name.ends_with(e));
    has_extension(&[".log", ".json", ".jsonl", ".ndjson"])
        || (name.contains("audit") && !has_extension(&[".md", ".txt", ".yaml", ".yml", ".tar", ".zip"]))
}

pub(super) fn io_error(path: &Path, source: io::Error) -> Error {
    Error::Io { path: path.display().to_string(), source }
}

/// Returns the total size of the inputs on disk. Standard input counts as 0.
pub fn total_bytes(inputs: &[Input]) -> u64 {
    let size = |input: &Input| match input {
        Input::File(path) => std::fs::metadata(path).map_or(0, |m| m.len()),
        Input::Stdin => 0,
    };
    inputs.iter().map(size).sum()
}
