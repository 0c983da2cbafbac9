//! Checks the import rules between modules by scanning the sources.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::util;

/// A directory or file below `src`, and the other modules of the crate that it may use.
const RULES: &[(&str, &[&str])] = &[
    ("audit", &[]),
    ("detect", &["audit::event", "audit::json_scan"]),
    ("check", &["detect"]),
    ("pipeline", &["audit", "detect"]),
    ("ingest", &["pipeline", "detect", "audit", "telemetry", "net", "journal", "notify"]),
    ("notify", &["pipeline", "detect", "audit", "telemetry"]),
    ("alert", &["pipeline", "detect", "audit", "telemetry", "notify", "query", "escape"]),
    ("enforce", &["pipeline", "detect", "audit", "telemetry", "notify"]),
    ("enforce/plan.rs", &["detect", "audit::event"]),
    ("reconcile", &["pipeline", "detect", "audit", "telemetry", "enforce"]),
    ("reconcile/plan.rs", &["detect", "audit::event", "reconcile"]),
    ("journal", &["pipeline", "detect", "audit", "telemetry", "notify"]),
    (
        "query",
        &[
            "pipeline",
            "detect",
            "audit",
            "telemetry",
            "net",
            "journal",
            "notify",
            "auth::Right",
            "enforce::control",
            "escape",
        ],
    ),
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
const IMPURE: &[&str] = &[
    "tokio",
    "kube::",
    "hyper",
    "tracing",
    "Instant::now",
    "SystemTime",
    "util::clock",
    "std::fs",
    "std::net",
    "async ",
];

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
fn modules_use_only_what_the_rules_allow() {
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
fn nothing_but_the_binaries_uses_cli() {
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
fn check_is_pure() {
    for (file, source) in of("check") {
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
fn every_source_starts_with_a_module_comment() {
    for (file, source) in of("") {
        assert!(source.starts_with("//!"), "{file} has no opening line");
    }
}

/// The module of a source file, such as `["detect", "fields", "walk"]`.
type Module = Vec<String>;

/// Returns the sources by module.
fn modules() -> BTreeMap<Module, String> {
    let module = |file: &str| {
        let below = Path::new(file).strip_prefix(util::path("src")).unwrap().with_extension("");
        let mut names: Module = below.iter().map(|name| name.to_str().unwrap().to_owned()).collect();
        if names.last().is_some_and(|name| name == "mod" || name == "lib") {
            names.pop();
        }
        names
    };
    of("").into_iter().map(|(file, source)| (module(&file), source)).collect()
}

/// Returns a source without its unit tests and comments.
fn code(source: &str) -> String {
    let code = source.split("\n#[cfg(test)]\nmod tests {").next().unwrap();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Returns the paths of a `use` tree: `a::{b, c::d}` has `a::b` and `a::c::d`.
fn paths_of(tree: &str) -> Vec<String> {
    let Some((prefix, rest)) = tree.split_once('{') else {
        return vec![tree.split(" as ").next().unwrap().trim().to_owned()];
    };
    let inner = rest.rsplit_once('}').expect("braces are balanced").0;
    let (mut depth, mut parts) = (0, vec![String::new()]);
    for c in inner.chars() {
        match c {
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        parts.last_mut().unwrap().push(c);
    }
    let parts = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
    parts.flat_map(|part| paths_of(&format!("{}{part}", prefix.trim()))).collect()
}

/// Returns the paths that a source imports or mentions. A re-export (`pub use`) is not an import: the module that uses the
/// item depends on the one that defines it.
fn imports(source: &str) -> Vec<String> {
    let (mut paths, mut rest) = (Vec::new(), String::new());
    for statement in code(source).split_inclusive(';') {
        // A `use` can follow an item without a semicolon, but begins a new line.
        let used = statement.match_indices("use ").find_map(|(at, word)| {
            let before = statement[..at].rsplit('\n').next()?.trim();
            (before.is_empty() || before.starts_with("pub")).then(|| (at, before, &statement[at + word.len()..]))
        });
        match used {
            Some((at, visibility, tree)) => {
                rest.push_str(&statement[..at]);
                if visibility.is_empty() {
                    paths.extend(paths_of(tree.trim_end_matches(';')));
                }
            }
            None => rest.push_str(statement),
        }
    }
    let is_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for root in ["crate::", "super::"] {
        for (at, _) in rest.match_indices(root) {
            if !rest[..at].ends_with(is_path) {
                paths.push(rest[at..].chars().take_while(|c| is_path(*c)).collect());
            }
        }
    }
    paths
}

/// Returns the module that a path of a module refers to, as deep as there is a file for it.
fn resolve(path: &str, from: &Module, modules: &BTreeMap<Module, String>) -> Option<Module> {
    let mut names: Vec<&str> = path.split("::").collect();
    let mut found = from.clone();
    match names[0] {
        "crate" => found.clear(),
        "super" | "self" => {}
        first => {
            let child: Module = from.iter().map(String::as_str).chain([first]).map(str::to_owned).collect();
            modules.contains_key(&child).then_some(())?;
            names.insert(0, "self");
        }
    }
    while names.first() == Some(&"super") {
        found.pop();
        names.remove(0);
    }
    if matches!(names.first(), Some(&"crate" | &"self")) {
        names.remove(0);
    }
    for name in names {
        found.push(name.to_owned());
        if !modules.contains_key(&found) {
            found.pop();
            break;
        }
    }
    (found != *from).then_some(found)
}

#[test]
fn files_have_no_import_cycles() {
    let modules = modules();
    let mut edges: BTreeMap<&Module, BTreeSet<Module>> = BTreeMap::new();
    for (module, source) in &modules {
        let targets = imports(source).into_iter().filter_map(|path| resolve(&path, module, &modules));
        edges.insert(module, targets.collect());
    }
    // Whether a module imports itself through others.
    let is_cyclic = |module: &Module| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![module]);
        while let Some(from) = open.pop() {
            for target in &edges[from] {
                if target == module {
                    return true;
                }
                if seen.insert(target) {
                    open.push(target);
                }
            }
        }
        false
    };
    let cyclic = modules.keys().filter(|module| is_cyclic(module));
    let cyclic: Vec<String> = cyclic.map(|module| module.join("/")).collect();
    assert!(cyclic.is_empty(), "these files import each other in a circle: {cyclic:?}");
}

#[test]
fn imports_are_read_from_use_trees_and_paths() {
    let source = "//! use crate::a;\nmod b;\nuse self::b::C;\npub use self::b::D;\nuse crate::{e, f::{G, h::I as J}};\n\
                  fn k() { crate::l::m(super::n()) }\n#[cfg(test)]\nmod tests {\n use super::o; }";
    let expected = ["self::b::C", "crate::e", "crate::f::G", "crate::f::h::I", "crate::l::m", "super::n"];
    assert_eq!(imports(source), expected);
}
