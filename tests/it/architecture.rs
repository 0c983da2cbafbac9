//! Checks the import rules between modules by scanning the sources.

use std::path::Path;

use crate::util;

/// A directory or file below `src`, and the other modules of the crate that it may use.
const RULES: &[(&str, &[&str])] = &[
    ("audit", &[]),
    ("detect", &["audit::event", "audit::scan"]),
    ("pipeline", &["audit", "detect"]),
    ("ingest", &["pipeline", "detect", "audit", "telemetry", "net", "journal"]),
    ("enforce", &["pipeline", "detect", "audit", "telemetry"]),
    ("enforce/plan.rs", &["detect", "audit::event"]),
    ("reconcile", &["pipeline", "detect", "audit", "telemetry", "enforce"]),
    ("reconcile/plan.rs", &["detect", "audit::event", "reconcile"]),
    ("journal", &["pipeline", "detect", "audit", "telemetry"]),
    ("query", &["pipeline", "detect", "audit", "telemetry", "net", "journal", "escape"]),
    ("telemetry", &["pipeline", "detect", "audit", "escape", "COMMIT"]),
    ("auth", &["detect", "net"]),
    ("config.rs", &["detect", "audit", "auth", "pipeline", "journal"]),
    ("config", &["detect", "audit", "auth", "pipeline", "journal"]),
    ("net.rs", &[]),
    ("net", &[]),
    ("escape.rs", &[]),
    ("util", &[]),
];

/// Modules that every other module may use.
const EVERYWHERE: &[&str] = &["util"];

/// Words that must not occur in `detect`, which has no clock, I/O or async code.
const IMPURE: &[&str] =
    &["tokio", "kube::", "hyper", "tracing", "Instant::now", "SystemTime", "std::fs", "std::net", "async "];

fn sources(below: &Path, found: &mut Vec<(String, String)>) {
    // Unit tests may use more modules than the code that they test.
    if below.ends_with("tests.rs") && !below.starts_with(util::path("tests")) {
        return;
    }
    if below.is_file() {
        found.push((below.display().to_string(), std::fs::read_to_string(below).unwrap()));
        return;
    }
    let mut entries: Vec<_> = std::fs::read_dir(below).unwrap().map(|e| e.unwrap().path()).collect();
    entries.sort();
    for entry in entries.iter().filter(|e| e.is_dir() || e.extension().is_some_and(|x| x == "rs")) {
        sources(entry, found);
    }
}

fn of(below: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    sources(&util::path("src").join(below), &mut found);
    assert!(!found.is_empty(), "{below} has no sources");
    found
}

/// Returns every `crate::…` path in a source file.
fn uses(source: &str) -> Vec<String> {
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    source
        .match_indices("crate::")
        .filter(|(at, _)| !source[..*at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
        .map(|(at, text)| source[at + text.len()..].chars().take_while(|c| is_path(*c)).collect())
        .collect()
}

#[test]
fn nobody_uses_what_the_house_forbids() {
    for (who, allowed) in RULES {
        let own = who.trim_end_matches(".rs");
        for (file, source) in of(who) {
            for used in uses(&source) {
                let is_allowed = std::iter::once(&own)
                    .chain(allowed.iter().chain(EVERYWHERE))
                    .any(|a| used == *a || used.strip_prefix(a).is_some_and(|rest| rest.starts_with("::")));
                assert!(is_allowed, "{file} uses crate::{used}; {who} may use {allowed:?}");
            }
        }
    }
}

#[test]
fn nobody_uses_the_command_line() {
    for (file, source) in of("") {
        let is_own = file.contains("/cli/") || file.ends_with("/main.rs") || file.contains("/bin/");
        assert!(is_own || !uses(&source).iter().any(|used| used.starts_with("cli")), "{file} uses cli");
    }
}

#[test]
fn detect_is_pure() {
    for (file, source) in of("detect") {
        for word in IMPURE {
            assert!(!source.contains(word), "{file} knows of {word}");
        }
    }
}

#[test]
fn plans_are_pure() {
    for (file, source) in ["enforce/plan.rs", "reconcile/plan.rs", "reconcile/overrides.rs", "reconcile/drift.rs"]
        .into_iter()
        .flat_map(of)
    {
        for word in IMPURE {
            assert!(!source.contains(word), "{file} knows of {word}");
        }
    }
}

#[test]
fn every_source_says_why_it_exists() {
    for (file, source) in of("") {
        assert!(source.starts_with("//!"), "{file} has no opening line");
    }
}
