//! `kubectl editwar`, the kubectl plugin: runs the `editwar` in the same directory under the name of the plugin, by which
//! `editwar` recognizes that it is the plugin. A second complete binary would double the size of a release and the time to
//! build one.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// The name of the plugin, and the name by which kubectl asks it for completions, through a link.
const NAMES: [&str; 2] = ["kubectl-editwar", "kubectl_complete-editwar"];

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let called_as = PathBuf::from(words.next().unwrap_or_default());
    let name = NAMES.iter().find(|name| called_as.ends_with(name)).unwrap_or(&NAMES[0]);
    // Not one from $PATH, which may be of another version.
    let beside =
        std::env::current_exe().and_then(|path| path.canonicalize()).map(|path| path.with_file_name("editwar"));
    let error = match &beside {
        Ok(editwar) => Command::new(editwar).arg0(name).args(words).exec(),
        Err(_) => std::io::Error::other("the path of this program is not known"),
    };
    let path = beside.map_or_else(|_| "editwar".to_owned(), |path| path.display().to_string());
    let text = format!(
        "kubectl-editwar: cannot run {path}: {error}; `editwar` must be in the same directory as this plugin\n"
    );
    std::io::Write::write_all(&mut std::io::stderr(), text.as_bytes()).ok();
    ExitCode::from(2)
}
