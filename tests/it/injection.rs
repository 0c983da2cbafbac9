//! Text from logs must stay text wherever it is shown: in terminals, Markdown, metrics and shells.

use std::path::PathBuf;
use std::process::Command;

use editwar::cli::{markdown, output};
use editwar::detect::actor_class::ActorClassifier;
use editwar::pipeline::Pipeline;
use editwar::query::reporter::Reporter;
use editwar::query::views::{Filter, Report};
use editwar::telemetry::metrics::{Metrics, SeriesLimits};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::cluster::{ALICE, BOB, Cluster, Level, OPERATOR};
use crate::{envtest, util};

/// Characters that have a special meaning somewhere.
const NASTY: &[&str] = &[
    "\"",
    "'",
    "\\",
    "`",
    "|",
    "\n",
    "\r",
    "\t",
    "\0",
    "\u{1b}[2J",
    "\u{9b}",
    "\u{7}",
    "\u{202e}",
    "\u{2066}",
    "\u{200b}",
    "\u{feff}",
    "\u{85}",
    "\u{61c}",
    "\u{2028}",
    "\u{2029}",
    "\u{e0001}",
    "\u{e0041}\u{e007f}",
    "<",
    ">",
    "&",
    "<img src=x onerror=alert(1)>",
    "${IFS}",
    "$(touch pwned)",
    "`touch pwned`",
    ";touch pwned;",
    "' ; touch pwned ; '",
    "\n touch pwned",
    "&& touch pwned",
    "-n",
    "--",
    "=",
    "{",
    "}",
    ",",
    "%0a",
    "*",
    "~",
    "!",
    "#",
    "/",
    " ",
    "é",
    "x",
];

fn nasty() -> impl Strategy<Value = String> {
    let part = prop_oneof![4 => proptest::sample::select(NASTY).prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)];
    proptest::collection::vec(part, 1..8).prop_map(|parts| parts.concat())
}

#[derive(Clone, Debug)]
struct Names {
    parties: [String; 2],
    tool: String,
    resource: String,
    namespace: String,
    name: String,
    key: String,
    values: [String; 2],
}

fn names() -> impl Strategy<Value = Names> {
    let two = || [nasty(), nasty()];
    (two(), nasty(), nasty(), nasty(), nasty(), nasty(), two()).prop_map(
        |(parties, tool, resource, namespace, name, key, values)| Names {
            parties,
            tool,
            resource,
            namespace,
            name,
            key,
            values,
        },
    )
}

/// A war in which all text that clients can choose is malicious.
fn war(names: &Names) -> Pipeline {
    let mut cluster = Cluster::new(Level::RequestResponse);
    let path = "configmaps/shop/config";
    cluster.create(OPERATOR, path, json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {"v": "0"}}));
    for turn in 0..24 {
        cluster.wait(2.0);
        let (who, value) = if turn % 2 == 0 { (ALICE, 0) } else { (BOB, 1) };
        cluster.patch(who, path, "", json!({"data": {names.key.as_str(): names.values[value]}}));
    }
    let renamed = |line: &[u8]| {
        let mut event: Value = serde_json::from_slice(line).unwrap();
        for (place, who) in [ALICE, BOB].iter().enumerate() {
            if event["user"]["username"] == who.0 {
                event["user"]["username"] = names.parties[place].as_str().into();
                event["userAgent"] = names.tool.as_str().into();
            }
        }
        let reference = &mut event["objectRef"];
        reference["resource"] = names.resource.as_str().into();
        reference["namespace"] = names.namespace.as_str().into();
        reference["name"] = names.name.as_str().into();
        event.to_string().into_bytes()
    };
    let lines: Vec<Vec<u8>> = cluster.lines().map(renamed).collect();
    util::pipeline_of(lines.iter().map(Vec::as_slice))
}

fn report(pipeline: &Pipeline) -> Report {
    Reporter::new(pipeline, &ActorClassifier::default()).report(&Filter { all: true, ..Filter::default() })
}

/// Returns whether a text contains nothing that moves the cursor, rings the bell or changes the text direction.
fn is_plain(text: &str) -> bool {
    let is_harmful = |c: char| {
        (c.is_control() && c != '\n')
            || matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
            || matches!(c, '\u{e0000}'..='\u{e007f}')
    };
    !text.contains(is_harmful)
}

/// Parses the labels of a metrics line as Prometheus does. Returns `None` if it is invalid.
fn sample(line: &str) -> Option<Vec<(String, String)>> {
    let is_name =
        |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        while !rest.starts_with('}') {
            let (label, after) = rest.split_once("=\"")?;
            let mut value = String::new();
            let mut chars = after.char_indices();
            let end = loop {
                match chars.next()? {
                    (at, '"') => break at,
                    (_, '\n') => return None,
                    (_, '\\') => value.push(match chars.next()?.1 {
                        'n' => '\n',
                        c @ ('\\' | '"') => c,
                        _ => return None,
                    }),
                    (_, c) => value.push(c),
                }
            };
            if !is_name(label) {
                return None;
            }
            labels.push((label.to_owned(), value));
            rest = after[end + 1..].trim_start_matches(',');
        }
        rest = &rest[1..];
    }
    (is_name(name) && rest.trim().parse::<f64>().is_ok()).then_some(labels)
}

/// Returns a directory in which an injected command would leave a file.
fn scratch() -> PathBuf {
    envtest::scratch("injection")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn event_text_stays_plain_text_in_terminals_and_markdown(names in names()) {
        let pipeline = war(&names);
        let report = report(&pipeline);
        let classes = ActorClassifier::default();
        let reporter = Reporter::new(&pipeline, &classes);
        let found: Vec<_> = pipeline.table().notable().iter().filter_map(|key| reporter.participants(key)).collect();
        for is_wide in [false, true] {
            let style = output::Style { width: 120, is_coloured: false, is_wide, now: None };
            prop_assert!(is_plain(&output::report(&report, &output::WhoCommand::default(), style)));
            for found in &found {
                prop_assert!(is_plain(&output::participants(found, Some(0), style)));
            }
        }
        for text in std::iter::once(markdown::report(&report)).chain(found.iter().map(markdown::participants)) {
            prop_assert!(is_plain(&text));
            // Outside of code there are no tags, and every table row has as many cells as the header.
            let mut cells = 0;
            for line in text.lines() {
                let bare = line.replace("\\|", "");
                let bars = bare.matches('|').count();
                if !line.starts_with('|') {
                    cells = 0;
                    continue;
                }
                prop_assert!(cells == 0 || bars == cells, "{text}");
                cells = bars;
            }
        }
    }

    #[test]
    fn names_in_metrics_are_only_label_values(names in names()) {
        // Two programs with one account are distinguished by their tools, so the party's name is not only text from the
        // event.
        prop_assume!(names.parties[0] != names.parties[1]);
        let pipeline = war(&names);
        let bounds = SeriesLimits { max_objects: 10, max_actors_per_object: 10, ttl: std::time::Duration::from_secs(60) };
        let metrics = Metrics::new(bounds);
        for key in pipeline.table().notable() {
            for party in &names.parties {
                metrics.count_thrashing(&key, None, &party.as_str().into(), 1);
            }
        }
        metrics.set_last_batch(&names.namespace, &names.name, 1.0);
        let text = metrics.text(&pipeline, 2.0);
        let mut actors = std::collections::BTreeSet::new();
        for line in text.split('\n').filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let labels = sample(line);
            prop_assert!(labels.is_some(), "{line:?}");
            actors.extend(labels.unwrap().into_iter().filter(|(label, _)| label == "actor").map(|(_, value)| value));
        }
        for war in report(&pipeline).wars {
            for party in war.parties {
                // The output may be shown in a terminal, so harmful characters are escaped.
                let shown: String = party.actor.chars().fold(String::new(), |mut shown, c| {
                    if editwar::escape::is_harmful(c) && c != '\n' {
                        shown.extend(c.escape_unicode());
                    } else {
                        shown.push(c);
                    }
                    shown
                });
                prop_assert!(actors.contains(&shown), "{shown:?} is not in {actors:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn pasted_remedies_run_only_the_intended_tools(names in names()) {
        let folder = scratch();
        let report = report(&war(&names));
        let style = output::Style { width: 120, is_coloured: false, is_wide: false, now: None };
        let shown = output::report(&report, &output::WhoCommand::default(), style);
        let pasted = shown.lines().filter_map(|line| line.find("editwar who ").map(|at| &line[at..]));
        let pasted: Vec<String> = pasted.map(str::to_owned).collect();
        prop_assert_eq!(pasted.is_empty(), report.wars.is_empty());
        for war in &report.wars {
            for command in war.remedies.iter().map(|remedy| &remedy.command).chain([&war.verify]).chain(&pasted) {
                // Executed as shown, in a shell that has the tools of the remedies and otherwise only `touch`.
                let script = format!(
                    "for tool in kubectl editwar helm argocd flux jq; do eval \"$tool() {{ :; }}\"; done\n{}",
                    output::clean(command)
                );
                let run = Command::new("bash").arg("-c").arg(&script).current_dir(&folder).output().unwrap();
                let said = String::from_utf8_lossy(&run.stderr);
                prop_assert!(!said.contains("command not found") && !said.contains("syntax error"), "{command}\n{said}");
            }
        }
        let left: Vec<_> = std::fs::read_dir(&folder).unwrap().collect();
        prop_assert!(left.is_empty(), "{left:?}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
