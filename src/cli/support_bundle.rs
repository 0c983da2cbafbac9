//! `editwar support-bundle`: writes what a bug report needs to an archive, without names and values of the cluster.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use flate2::Compression;
use flate2::write::GzEncoder;
use ring::hmac;
use ring::rand::SystemRandom;

use super::args::Access;
use super::args::doctor::{Archive, DoctorChecks, SupportBundleArgs};
use super::connection::ServerTarget;
use super::{Outcome, completions, doctor, output};
use crate::config::{Config, Overlay};
use crate::util::clock;

/// Labels of metrics whose values are editwar's own words, or those of Kubernetes.
const PLAIN: [&str; 18] = [
    "author", "commit", "endpoint", "kind", "le", "outcome", "reason", "resource", "result", "sink", "state", "time",
    "to", "type", "verb", "version", "what", "quantile",
];
/// Keys of the configuration whose texts are words of editwar.
const WORDS: [&str; 7] = ["class", "count_undecided", "level", "mechanism", "min_confidence", "mode", "on_failure"];
/// Shortest name that is replaced in texts. Shorter ones are parts of ordinary words.
const NAME_BYTES_MIN: usize = 4;
/// What stands for what was left out.
const REMOVED: &str = "(removed)";

const README: &str = "\
What this archive has, for a bug report about editwar:

  version.txt   version, commit and platform
  doctor.yaml   what `editwar doctor` finds
  metrics.txt   the metrics of the server, or why there are none
  readyz.txt    whether the parts of the server are ready
  config.yaml   the configuration file with its defaults, if --config was given

Names of objects, namespaces, actors, clusters, files and addresses in the metrics are replaced by hashes with a key that was made for this
archive and is not kept: one name has one hash, and nobody can find the name. In the other texts, these names are replaced, too, and
whatever looks like an address, a path or a name with a dot is removed. The configuration has numbers, times and sizes; other texts are
removed. Values of fields are left out, and so are events. Kinds of objects stay. Look through the texts before you send them.
";

/// Replaces names by hashes.
struct Pseudonyms {
    key: hmac::Key,
    names: BTreeSet<String>,
}

/// Runs `editwar support-bundle`.
///
/// # Errors
/// As for [`pack`].
pub(super) fn run(args: &SupportBundleArgs) -> Result<Outcome> {
    let target = match &args.remote.server {
        Some(_) => ServerTarget::At(args.remote.clone()),
        None => ServerTarget::In(args.access.clone()),
    };
    pack(&args.archive, &args.access, &target)
}

/// Writes the archive.
///
/// # Errors
/// The file exists or cannot be written, or the configuration cannot be read.
pub(super) fn pack(archive: &Archive, access: &Access, target: &ServerTarget) -> Result<Outcome> {
    let config = match &archive.config {
        Some(path) => {
            let mut config = serde_json::to_value(Config::load(Some(path), [], &[], &Overlay::default())?)?;
            remove_texts("", &mut config);
            Some(output::yaml(&config)?)
        }
        None => None,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let findings = runtime.block_on(doctor::examine(&DoctorChecks::default(), None, access, target));
    let (metrics, readyz) = runtime.block_on(async {
        let server = match target.open().await {
            Ok(server) => server,
            Err(error) => return (Err(format!("{error:#}")), String::new()),
        };
        let text = async |path| server.text(path).await.map(|(text, _)| text).map_err(|error| error.to_string());
        let readyz = text("/readyz?verbose").await.unwrap_or_else(|why| format!("{why}\n"));
        (text("/metrics").await, readyz)
    });

    let mut pseudonyms = Pseudonyms::new()?;
    let metrics = match metrics {
        Ok(text) => pseudonyms.of_metrics(&text),
        Err(why) => pseudonyms.of_text(&format!("no metrics: {why}\n")),
    };
    let mut texts = vec![
        ("README.txt", README.to_owned()),
        ("version.txt", format!("editwar {}\n", completions::version_line())),
        ("doctor.yaml", pseudonyms.of_text(&output::yaml(&findings)?)),
        ("metrics.txt", metrics),
        ("readyz.txt", pseudonyms.of_text(&readyz)),
    ];
    texts.extend(config.map(|text| ("config.yaml", text)));
    write(&archive.file, &texts)?;
    let names: Vec<&str> = texts.iter().map(|(name, _)| *name).collect();
    writeln!(
        anstream::stderr(),
        "wrote {}: {}; look through it before you send it",
        archive.file.display(),
        names.join(", ")
    )?;
    Ok(Outcome::Calm)
}

/// Writes a `.tar.gz` archive that only this user may read. An existing file is not replaced.
fn write(path: &Path, texts: &[(&str, String)]) -> Result<()> {
    let file = create(path).with_context(|| path.display().to_string())?;
    let mut archive = tar::Builder::new(GzEncoder::new(file, Compression::default()));
    let now = u64::try_from(clock::now() / 1_000_000).unwrap_or_default();
    for (name, text) in texts {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(now);
        archive.append_data(&mut header, format!("editwar-support/{name}"), text.as_bytes())?;
    }
    archive.into_inner()?.finish()?.sync_all()?;
    Ok(())
}

fn create(path: &Path) -> std::io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

// === impl Pseudonyms ===

impl Pseudonyms {
    /// # Errors
    /// The system has no random numbers.
    fn new() -> Result<Pseudonyms> {
        let key =
            hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new()).map_err(|_| anyhow!("no random numbers"))?;
        Ok(Pseudonyms { key, names: BTreeSet::new() })
    }

    fn of(&self, name: &str) -> String {
        let tag = hmac::sign(&self.key, name.as_bytes());
        let hex: String = tag.as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect();
        format!("name-{hex}")
    }

    /// Replaces names in metrics, and leaves out contested fields with their values.
    fn of_metrics(&mut self, text: &str) -> String {
        text.lines().map(|line| self.of_sample(line) + "\n").collect()
    }

    fn of_sample(&mut self, line: &str) -> String {
        let Some((metric, mut rest)) = line.split_once('{').filter(|_| !line.starts_with('#')) else {
            return line.to_owned();
        };
        let mut out = format!("{metric}{{");
        while let Some((label, after)) = rest.split_once("=\"") {
            let Some(end) = end_of_value(after) else { break };
            let value = &after[..end];
            let label_name = label.trim_start_matches(',');
            let shown = match label_name {
                _ if value.is_empty() || PLAIN.contains(&label_name) => value.to_owned(),
                "over" => REMOVED.to_owned(),
                // Groups of Kubernetes itself.
                "group" if !value.contains('.') || value.ends_with(".k8s.io") => value.to_owned(),
                _ => {
                    let name = unescaped(value);
                    let hash = self.of(&name);
                    self.names.insert(name);
                    hash
                }
            };
            out += &format!("{label}=\"{shown}\"");
            rest = &after[end + 1..];
        }
        out + rest
    }

    /// Replaces the names that metrics had, the longest ones first, and removes what looks like an address, a path or another name.
    fn of_text(&self, text: &str) -> String {
        let mut names: Vec<&String> = self.names.iter().filter(|name| name.len() >= NAME_BYTES_MIN).collect();
        names.sort_by_key(|name| std::cmp::Reverse(name.len()));
        let text = names.into_iter().fold(text.to_owned(), |text, name| text.replace(name.as_str(), &self.of(name)));
        text.split_inclusive(char::is_whitespace).map(without_name).collect()
    }
}

/// Returns a word, or its white space with a mark in its place.
fn without_name(word: &str) -> String {
    let bare = word.trim_end();
    let inside = bare.trim_matches(|c: char| !c.is_alphanumeric());
    let is_number = inside.chars().all(|c| c.is_ascii_digit() || matches!(c, '.' | '%' | '-' | ':' | 'T' | 'Z'));
    let is_name =
        inside.contains(['/', '@', '\\', '.', ':']) && !is_number || inside.parse::<std::net::IpAddr>().is_ok();
    if is_name { format!("{REMOVED}{}", &word[bare.len()..]) } else { word.to_owned() }
}

/// Removes all texts of a configuration but words of editwar, times and sizes.
fn remove_texts(key: &str, value: &mut serde_json::Value) {
    use serde_json::Value;
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| remove_texts(key, item)),
        Value::Object(fields) => {
            let is_map_of_names = matches!(key, "contexts" | "topics" | "labels" | "annotations");
            if is_map_of_names && !fields.is_empty() {
                *value = Value::String(format!("{} entries {REMOVED}", fields.len()));
                return;
            }
            fields.iter_mut().for_each(|(key, value)| remove_texts(key, value));
        }
        Value::String(text) => {
            let is_measure = text.starts_with(|c: char| c.is_ascii_digit()) && text.chars().all(char::is_alphanumeric);
            if !is_measure && !WORDS.contains(&key) {
                *text = REMOVED.to_owned();
            }
        }
        _ => {}
    }
}

/// Returns the value of a label without the escapes of the text format.
fn unescaped(value: &str) -> String {
    let mut chars = value.chars();
    let mut next = || match chars.next()? {
        '\\' => chars.next().map(|escaped| if escaped == 'n' { '\n' } else { escaped }),
        plain => Some(plain),
    };
    std::iter::from_fn(&mut next).collect()
}

/// Returns the length of a value of a label, up to its closing quote.
fn end_of_value(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let ends = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        ends
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_hashed_and_values_removed_but_words_of_editwar_stay() {
        let mut pseudonyms = Pseudonyms::new().unwrap();
        let line =
            r#"editwar_war_info{kind="Deployment",name="we\"b,}",namespace="shopping",over="spec.replicas (3 ⇄ 5)"} 1"#;
        let found =
            pseudonyms.of_metrics(&format!("# HELP x {{name=\"a\"}}\n{line}\nplain 5\nother{{reason=\"full\"}} 2\n"));
        let lines: Vec<&str> = found.lines().collect();
        let (web, shop) = (pseudonyms.of("we\"b,}"), pseudonyms.of("shopping"));
        assert_eq!(lines[0], "# HELP x {name=\"a\"}");
        assert_eq!(
            lines[1],
            format!(r#"editwar_war_info{{kind="Deployment",name="{web}",namespace="{shop}",over="(removed)"}} 1"#)
        );
        assert_eq!((lines[2], lines[3]), ("plain 5", "other{reason=\"full\"} 2"));
        assert_eq!(pseudonyms.of_text("no batch of shopping yet"), format!("no batch of {shop} yet"));
        let text = "cannot reach https://u:p@prod.corp.example:8443/x: /home/alice/.kube/config is bad (10.0.0.1), 12.5 % at 10:30";
        let kept = "cannot reach (removed) (removed) is bad (removed) 12.5 % at 10:30";
        assert_eq!(pseudonyms.of_text(text), kept);
        assert_ne!(Pseudonyms::new().unwrap().of("shopping"), shop, "each archive has its own key");
    }

    #[test]
    fn a_configuration_keeps_numbers_times_and_words_of_editwar_only() {
        let text = "notify: {cloud_events: {url: 'https://receiver.example/api?code=SECRET'}}\njournal: {path: /srv/x, retention: 3d}\n\
                    enforce: {mode: pause, resources: [widgets.corp.example]}\ncontexts: {prod-east: admin@corp}\n";
        let mut config = serde_json::to_value(Config::parse(text, "x").unwrap()).unwrap();
        remove_texts("", &mut config);
        let found = config.to_string();
        for secret in ["receiver", "SECRET", "srv", "widgets", "prod-east", "admin@corp"] {
            assert!(!found.contains(secret), "{secret}: {found}");
        }
        assert_eq!((&config["journal"]["retention"], &config["enforce"]["mode"]), (&"3d".into(), &"pause".into()));
    }
}
