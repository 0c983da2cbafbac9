//! Writes a generated audit log: `cargo bench --bench generate -- 1GiB metadata audit.log [objects]`.
//!
//! Without arguments (a smoke run), it generates a little and discards it.

mod generator;

use std::fs::File;
use std::io;

use generator::{Generator, Level, Mix};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    let [size, level, path, rest @ ..] = arguments.as_slice() else {
        Generator::new(Mix::default()).write(1 << 20, &mut io::sink())?;
        return Generator::new(Mix { level: Level::RequestResponse, ..Mix::default() }).write(1 << 20, &mut io::sink());
    };
    let digits = size.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match &size[digits.len()..] {
        "GiB" => 1 << 30,
        "MiB" => 1 << 20,
        _ => 1,
    };
    let bytes = digits.parse::<u64>().expect("a size such as 1GiB") * unit;
    let level = if level == "metadata" { Level::Metadata } else { Level::RequestResponse };
    let objects = rest.first().map_or(Mix::default().objects, |n| n.parse().expect("a number of objects"));
    Generator::new(Mix { level, objects, ..Mix::default() }).write(bytes, &mut File::create(path)?)
}
