//! Manifests to check before they are applied: files, directories and standard input.

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
            let mut text = String::new();
            std::io::stdin().take(FILE_BYTES_MAX).read_to_string(&mut text).context("standard input")?;
            parse("standard input", &text, &mut all.found)?;
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
    if metadata.len() > FILE_BYTES_MAX {
        bail!("{name} is larger than {} MiB", FILE_BYTES_MAX >> 20);
    }
    let text = std::fs::read_to_string(path).with_context(|| name.clone())?;
    parse(&name, &text, &mut all.found)
}

fn is_visible(path: &Path) -> bool {
    path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.'))
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}

/// Parses the documents of a file. Documents that are not Kubernetes objects, such as the values of a chart, are left out.
fn parse(source: &str, text: &str, found: &mut Vec<Found>) -> Result<()> {
    for document in serde_yaml_ng::Deserializer::from_str(text) {
        let document = Value::deserialize(document).with_context(|| {
            let hint = if text.contains("{{") { "; render the template first, such as with helm template" } else { "" };
            format!("{source} is not valid YAML or JSON{hint}")
        })?;
        add(source, document, found);
    }
    Ok(())
}

fn add(source: &str, document: Value, found: &mut Vec<Found>) {
    let is_list = document["kind"].as_str().is_some_and(|kind| kind.ends_with("List"));
    match document {
        Value::Object(mut list) if is_list && list.get("items").is_some_and(Value::is_array) => {
            if let Some(Value::Array(items)) = list.remove("items") {
                items.into_iter().for_each(|item| add(source, item, found));
            }
        }
        object if crate::check::id_of(&object).is_some() => found.push(Found { source: source.to_owned(), object }),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_and_lists_are_read_and_other_documents_left_out() {
        let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\n---\n# nothing\n---\nreplicaCount: 1\n---\n\
                    {apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}]}\n";
        let mut found = Vec::new();
        parse("x.yaml", text, &mut found).unwrap();
        let kinds: Vec<&str> = found.iter().map(|found| found.object["kind"].as_str().unwrap()).collect();
        assert_eq!(kinds, ["Service", "ConfigMap"]);
    }

    #[test]
    fn a_template_is_an_error_that_says_what_to_do() {
        let error = parse("t.yaml", "a: {{ .Values.a }\n", &mut Vec::new()).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.starts_with("t.yaml is not valid YAML or JSON; render the template first"), "{text}");
    }
}
