//! Version, shell completions and man pages for packages. They are generated from the argument parser, so that they are
//! always up to date.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use clap::CommandFactory;

use super::Outcome;
use super::args::Args;

/// Returns the version with build information.
pub fn version_line() -> String {
    format!(
        "{} (commit {}, {} {})",
        env!("CARGO_PKG_VERSION"),
        crate::COMMIT,
        std::env::consts::OS,
        std::env::consts::ARCH
    )
}

/// Prints the version.
///
/// # Errors
/// Errors of standard output.
pub fn version() -> Result<Outcome> {
    let mut stdout = anstream::stdout().lock();
    writeln!(stdout, "editwar {}", version_line())?;
    stdout.flush()?;
    Ok(Outcome::Calm)
}

/// Prints the completion script of a shell.
///
/// # Errors
/// Errors of standard output.
pub fn completions(shell: clap_complete::Shell) -> Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Args::command(), "editwar", &mut script);
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(&script)?;
    stdout.flush()?;
    Ok(Outcome::Calm)
}

/// Writes a man page for every command.
///
/// # Errors
/// The directory cannot be written.
pub fn man(dir: &Path) -> Result<Outcome> {
    std::fs::create_dir_all(dir).with_context(|| dir.display().to_string())?;
    clap_mangen::generate_to(Args::command(), dir).with_context(|| dir.display().to_string())?;
    Ok(Outcome::Calm)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_completed_and_has_a_man_page() {
        let mut command = Args::command();
        command.clone().debug_assert();
        command.build();
        let dir = std::env::temp_dir().join(format!("editwar-man-{}", std::process::id()));
        man(&dir).unwrap();
        let mut script = Vec::new();
        clap_complete::generate(clap_complete::Shell::Bash, &mut command, "editwar", &mut script);
        let script = String::from_utf8(script).unwrap();
        for below in command.get_subcommands().map(clap::Command::get_name).filter(|name| *name != "help") {
            assert!(script.contains(&format!("editwar,{below})")), "{below} is not completed");
            let page = std::fs::read_to_string(dir.join(format!("editwar-{below}.1"))).unwrap();
            assert!(page.contains(".SH SYNOPSIS") && page.contains(".SH NAME"), "{below}");
        }
        std::fs::remove_dir_all(dir).unwrap();
    }
}
