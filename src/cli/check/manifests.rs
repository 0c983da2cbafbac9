//! Manifests to check before they are applied: files, directories and standard input.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

/// Maximum bytes of a file. Manifests of whole platforms stay below 10 MiB.
const FILE_BYTES_MAX: u64 = 64 << 20;
/// Maximum depth of directories.
const DEPTH_MAX: usize = 32;

/// An object of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Found {
    /// The file.
    pub source: String,
    /// The object.
    pub object: Value,
}

/// The objects of manifests, and what to know about them.
#[derive(Clone, Debug, Default)]
pub(super) struct Manifests {
    /// The objects.
    pub found: Vec<Found>,
    /// What was not evaluated.
    pub notes: Vec<String>,
    /// What could not be checked.
    pub problems: Vec<String>,
}

/// Reads manifests.
///
/// # Errors
/// A file cannot be read, is no YAML or JSON, or contains no object.
pub(super) fn read(paths: &[PathBuf]) -> Result<Manifests> {
    let mut all = Manifests::default();
    for path in paths {
        let before = all.found.len();
        if path.as_os_str() == "-" {
            let text = read_text("standard input", std::io::stdin())?;
            parse("standard input", &text, &mut all)?;
        } else {
            read_path(path, 0, &mut all)?;
        }
        if all.found.len() == before {
            bail!(
                "{} contains no Kubernetes object: expected YAML or JSON with apiVersion, kind and metadata.name",
                path.display()
            );
        }
    }
    Ok(all)
}

fn read_path(path: &Path, depth: usize, all: &mut Manifests) -> Result<()> {
    let name = path.display().to_string();
    let metadata = std::fs::metadata(path).with_context(|| name.clone())?;
    if metadata.is_dir() {
        if depth >= DEPTH_MAX {
            bail!("{name}: directories are nested too deeply");
        }
        let entries = std::fs::read_dir(path).with_context(|| name.clone())?;
        let mut entries: Vec<PathBuf> =
            entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>().with_context(|| name.clone())?;
        entries.sort();
        if entries.iter().any(|entry| entry.file_stem().is_some_and(|stem| stem == "kustomization")) {
            all.notes.push(format!(
                "{name} has a kustomization file, which is not evaluated; to check its result, run: kustomize build DIR | editwar check -f -"
            ));
        }
        for entry in entries.iter().filter(|entry| is_visible(entry) && (entry.is_dir() || is_manifest(entry))) {
            read_path(entry, depth + 1, all)?;
        }
        return Ok(());
    }
    if !metadata.is_file() {
        bail!("{name} is not a file");
    }
    let text = read_text(&name, File::open(path).with_context(|| name.clone())?)?;
    parse(&name, &text, all)
}

fn read_text(name: &str, input: impl Read) -> Result<String> {
    let mut text = String::new();
    input.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).with_context(|| name.to_owned())?;
    if text.len() as u64 > FILE_BYTES_MAX {
        bail!("{name} is larger than {} MiB", FILE_BYTES_MAX >> 20);
    }
    Ok(text)
}

fn is_visible(path: &Path) -> bool {
    path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.'))
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}

/// Parses the documents of a file. Documents that are not Kubernetes objects, such as the values of a chart, are left out.
fn parse(source: &str, text: &str, all: &mut Manifests) -> Result<()> {
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        let document = Value::deserialize(document).with_context(|| {
            let hint = if text.contains("{{") { "; render the template first, such as with helm template" } else { "" };
            format!("{source} is not valid YAML or JSON{hint}")
        })?;
        add(source, document, all);
    }
    Ok(())
}

fn add(source: &str, document: Value, all: &mut Manifests) {
    let is_list = document["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    match document {
        Value::Object(mut list) if is_list && list.get("items").is_some_and(Value::is_array) => {
            if let Some(Value::Array(items)) = list.remove("items") {
                items.into_iter().for_each(|item| add(source, item, all));
            }
        }
        object if crate::check::id_of(&object).is_some() => {
            all.found.push(Found { source: source.to_owned(), object });
        }
        object => {
            let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
            // The files of kustomize are not objects.
            let is_object =
                !text("apiVersion").is_empty() && !text("apiVersion").starts_with("kustomize.config.k8s.io/");
            if is_object && !text("kind").is_empty() {
                all.problems.push(format!("{source}: a {} without metadata.name is not checked", text("kind")));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_and_lists_are_read_and_other_documents_left_out() {
        let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\n# nothing\n---\nreplicaCount: 1\n---\n\
                    {apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}]}\n";
        let mut all = Manifests::default();
        parse("x.yaml", text, &mut all).unwrap();
        let kinds: Vec<&str> = all.found.iter().map(|found| found.object["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["Service", "ConfigMap"]);
        assert_eq!(all.problems, [""; 0]);
        parse("y.yaml", "{apiVersion: batch/v1, kind: Job, metadata: {generateName: a-}}", &mut all).unwrap();
        parse("z.yaml", "{apiVersion: kustomize.config.k8s.io/v1, kind: Kustomization}", &mut all).unwrap();
        assert_eq!(all.problems, ["y.yaml: a Job without metadata.name is not checked"]);
    }

    #[test]
    fn a_template_is_an_error_that_says_what_to_do() {
        let error = parse("t.yaml", "a: {{ .Values.a }\n", &mut Manifests::default()).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.starts_with("t.yaml is not valid YAML or JSON; render the template first"), "{text}");
    }
}
