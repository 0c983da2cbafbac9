//! `kubectl editwar`, the kubectl plugin: runs `editwar` under the plugin's name, by which it knows that it is the plugin.
//! A second binary with everything in it would double the size of a release and the time to build one.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// The name of the plugin, and the name by which kubectl asks it for completions, through a link.
const NAMES: [&str; 2] = ["kubectl-editwar", "kubectl_complete-editwar"];

fn main() -> ExitCode {
    let mut words = std::env::args_os();
    let called_as = PathBuf::from(words.next().unwrap_or_default());
    let name = NAMES.iter().find(|name| called_as.ends_with(name)).unwrap_or(&NAMES[0]);
    let program = editwar();
    let error = Command::new(&program).arg0(name).args(words).exec();
    // The two are always installed together.
    let text = format!(
        "kubectl-editwar: cannot run {}: {error}; `editwar` must be in the same directory as this plugin, or in $PATH",
        program.display()
    );
    std::io::Write::write_all(&mut std::io::stderr(), format!("{text}\n").as_bytes()).ok();
    ExitCode::from(2)
}

/// Returns the `editwar` in the directory of this binary, or else its bare name, which is searched for in `$PATH`.
fn editwar() -> OsString {
    let beside = || Some(std::env::current_exe().ok()?.canonicalize().ok()?.with_file_name("editwar"));
    beside().filter(|path| path.is_file()).map_or_else(|| "editwar".into(), PathBuf::into_os_string)
}
