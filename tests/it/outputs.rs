//! Compares the output of every command on every recording with a reviewed file, at 80 and at 160 columns.
//!
//! After a change, `UPDATE_OUTPUTS=1 cargo test --test it outputs` writes the files again. Review each difference against
//! the recording's README before committing it.

use std::fmt::Write;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::cli::fixture;
use crate::util;

/// Objects of one recording whose details are compared.
const OBJECTS: usize = 2;
/// Above this size of the log, the details of only one object are compared, because each takes long.
const SEVERAL_BELOW_BYTES: usize = 32 << 20;

/// Runs a command as a user does in the repository. Returns the command, its output and its exit code.
fn session(columns: u32, arguments: &[&str]) -> (String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_editwar"))
        .args(arguments)
        .env_clear()
        .env("COLUMNS", columns.to_string())
        .current_dir(util::path(""))
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    let code = output.status.code().unwrap();
    let shown = arguments.join(" ");
    (format!("$ COLUMNS={columns} editwar {shown}\n{out}{err}(exit code {code})\n\n"), out)
}

/// Returns the output of all commands on a recording.
fn outputs(recording: &str) -> String {
    let log = fixture(recording);
    let mut all = String::new();
    let (_, names) = session(80, &["analyze", "-o", "name", &log]);
    for columns in [80, 160] {
        all += &session(columns, &["analyze", &log]).0;
        let objects = if util::log(recording).len() > SEVERAL_BELOW_BYTES { 1 } else { OBJECTS };
        for name in names.lines().take(objects) {
            let arguments: Vec<&str> = ["who"].into_iter().chain(name.split(' ')).chain([log.as_str()]).collect();
            all += &session(columns, &[&arguments[..], &["--timeline-limit", "8"]].concat()).0;
        }
        all += &session(columns, &["simulate", &log]).0;
    }
    let _ = write!(all, "{}", session(160, &["analyze", "-o", "csv", &log]).0);
    all.trim_end().to_owned() + "\n"
}

#[test]
fn outputs_are_as_reviewed() {
    let recordings = util::recordings();
    let next = AtomicUsize::new(0);
    let is_update = std::env::var_os("UPDATE_OUTPUTS").is_some();
    let compare = || {
        let mut different = Vec::new();
        while let Some(recording) = recordings.get(next.fetch_add(1, Ordering::Relaxed)) {
            let path = util::path(&format!("fixtures/recordings/{recording}/output.txt"));
            let found = outputs(recording);
            if is_update {
                std::fs::write(&path, &found).unwrap();
            }
            let reviewed = std::fs::read_to_string(&path).unwrap_or_default();
            if let Some((line, (now, then))) =
                found.lines().zip(reviewed.lines().chain(std::iter::repeat(""))).enumerate().find(|(_, (a, b))| a != b)
            {
                different.push(format!("{}:{}: {then:?} is now {now:?}", path.display(), line + 1));
            } else if found != reviewed {
                different.push(format!("{}: the end is missing", path.display()));
            }
        }
        different
    };
    let different: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..2).map(|_| scope.spawn(compare)).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(different.is_empty(), "UPDATE_OUTPUTS=1 writes the files again:\n{}", different.join("\n"));
}

#[test]
fn a_pipe_and_a_file_give_the_same_answer() {
    let (_, from_file) = session(80, &["analyze", &fixture("flux-vs-alice"), "-o", "jsonl"]);
    let log = util::log("flux-vs-alice");
    let (_, from_pipe, _) = crate::cli::run(&["analyze", "-", "-o", "jsonl"], Some(&log));
    // The command to check names the file, or standard input.
    let same = |out: &str| out.split(r#","verify":"#).next().unwrap().to_owned();
    assert_eq!(same(&from_file), same(&from_pipe));
}
