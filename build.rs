//! Tells a release which commit it is built from. Other builds do not ask, or every commit would build everything anew.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=EDITWAR_COMMIT");
    println!("cargo::rerun-if-changed=build.rs");
    let is_release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    // Where there is no repository, in a container, it is told from outside.
    if !is_release || std::env::var_os("EDITWAR_COMMIT").is_some() {
        return;
    }
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).output().ok().filter(|output| output.status.success())?;
        Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
    };
    if let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) {
        println!("cargo::rustc-env=EDITWAR_COMMIT={commit}");
        // HEAD itself changes when a branch is switched, its log with every commit.
        for file in ["HEAD", "logs/HEAD"] {
            if let Some(path) = git(&["rev-parse", "--git-path", file]) {
                println!("cargo::rerun-if-changed={path}");
            }
        }
    }
}
