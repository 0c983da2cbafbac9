//! Attack tests: everything that is promised about hostile input, tried from outside against a running editwar. See
//! README.md in this directory.

#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for developers that attacks at chosen times and prints a table"
)]

mod apiserver;
mod connections;
mod credentials;
mod disk;
mod doors;
mod enforcer;
mod evasion;
mod events;
mod http2;
mod journal;
mod memory;
mod outcome;
mod outputs;
#[path = "../it/require.rs"]
mod require;
mod server;
mod time;
mod tls;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::time::Instant;

use outcome::{Attack, Context, Failure, Kind, Report, Row};

/// Number of attacks that mostly wait and run concurrently.
const BESIDE: usize = 40;

/// Number of attacks that load the machine and run concurrently.
const HEAVY: usize = 2;

/// Command-line arguments.
#[derive(Default)]
struct Arguments {
    is_full: bool,
    lists: bool,
    binary: Option<PathBuf>,
    names: Vec<String>,
}

fn main() -> ExitCode {
    let arguments = match arguments(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(wrong) => {
            eprintln!("{wrong}\nattack [--full] [--list] [--binary PATH] [NAME…]: names are parts of `area/attack`");
            return ExitCode::from(2);
        }
    };
    let areas = [
        time::ATTACKS,
        evasion::ATTACKS,
        memory::ATTACKS,
        connections::ATTACKS,
        enforcer::ATTACKS,
        journal::ATTACKS,
        disk::ATTACKS,
        doors::ATTACKS,
        credentials::ATTACKS,
        outputs::ATTACKS,
    ];
    let is_wanted = |attack: &&Attack| {
        let is_named = |name: &String| attack.name.contains(name.as_str());
        // Long attacks only run with `--full`, or when selected by their full name.
        let is_asked = |name: &String| attack.name == name;
        let is_chosen = arguments.names.is_empty() || arguments.names.iter().any(is_named);
        is_chosen && (attack.kind != Kind::Long || arguments.is_full || arguments.names.iter().any(is_asked))
    };
    let attacks: Vec<&Attack> = areas.into_iter().flatten().filter(is_wanted).collect();
    if arguments.lists {
        attacks.iter().for_each(|attack| println!("{:<34} {}", attack.name, attack.promise));
        return ExitCode::SUCCESS;
    }
    let binary = arguments.binary.unwrap_or_else(|| env!("CARGO_BIN_EXE_editwar").into());
    let scratch = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("attack-{}", std::process::id()));
    let context = Context { binary, is_full: arguments.is_full, scratch };
    let started = Instant::now();
    let rows = run(&attacks, &context);
    drop(std::fs::remove_dir_all(&context.scratch));
    println!("{}{:.0} s", outcome::table(&rows), started.elapsed().as_secs_f64());
    if rows.iter().any(Row::is_broken) { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn arguments(mut words: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut found = Arguments::default();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--full" => found.is_full = true,
            "--list" => found.lists = true,
            // Some attacks run it in another directory.
            "--binary" => {
                let path = words.next().ok_or("--binary needs a path")?;
                found.binary = Some(std::path::absolute(path).map_err(|error| error.to_string())?);
            }
            option if option.starts_with('-') => return Err(format!("no such option: {option}")),
            _ => found.names.push(word),
        }
    }
    Ok(found)
}

/// Runs attacks that wait concurrently with those that load the machine, then the others one by one. Results are in the
/// order of the list.
fn run(attacks: &[&Attack], context: &Context) -> Vec<Row> {
    let of = |kinds: &[Kind]| -> Vec<usize> {
        (0..attacks.len()).filter(|place| kinds.contains(&attacks[*place].kind)).collect()
    };
    let rows: Mutex<Vec<Option<Row>>> = Mutex::new(attacks.iter().map(|_| None).collect());
    let work = |queue: &Mutex<std::vec::IntoIter<usize>>| {
        loop {
            let next = queue.lock().unwrap().next();
            let Some(place) = next else { break };
            let row = one(attacks[place], context);
            rows.lock().unwrap()[place] = Some(row);
        }
    };
    let queue = |kinds: &[Kind]| Mutex::new(of(kinds).into_iter());
    let (beside, heavy, alone) = (queue(&[Kind::Beside]), queue(&[Kind::Heavy]), queue(&[Kind::Alone, Kind::Long]));
    std::thread::scope(|scope| {
        (0..BESIDE).for_each(|_| drop(scope.spawn(|| work(&beside))));
        (0..HEAVY).for_each(|_| drop(scope.spawn(|| work(&heavy))));
    });
    work(&alone);
    rows.into_inner().unwrap().into_iter().flatten().collect()
}

/// Runs one attack. A panic of the test itself does not count as a success.
fn one(attack: &Attack, context: &Context) -> Row {
    eprintln!("{} …", attack.name);
    let started = Instant::now();
    let mut report = Report::default();
    let outcome = catch_unwind(AssertUnwindSafe(|| (attack.run)(context, &mut report)))
        .unwrap_or_else(|_| Err(Failure::Control("the attack panicked".into())));
    let row = report.row(attack, outcome, started.elapsed());
    eprintln!("{}: {}", attack.name, row.result.word());
    row
}
