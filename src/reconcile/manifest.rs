//! Reads the Golden State from files: `assets/<category>/<resource>.yaml`. Objects in files below `tombstones` are to
//! be deleted.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

/// Maximum size of a file in bytes. An object in etcd has at most 1.5 MiB.
const FILE_BYTES_MAX: u64 = 3 << 20;
/// Maximum number of files.
const FILES_MAX: usize = 10_000;
/// Maximum depth of directories: category and resource, plus a reserve.
const DEPTH_MAX: usize = 4;
/// The directory of objects that are to be deleted.
const TOMBSTONES: &str = "tombstones";

/// One object of the Golden State.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Asset {
    /// The manifest.
    pub object: Value,
    /// Whether the object is to be deleted.
    pub is_tombstone: bool,
    /// The file it was read from.
    pub file: PathBuf,
}

/// The identity of an object: `apiVersion`, `kind`, namespace, name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id {
    /// Group and version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace; empty if the manifest has none.
    pub namespace: String,
    /// Name.
    pub name: String,
}

/// All assets, and the files that could not be read.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Assets {
    files: BTreeMap<PathBuf, Vec<Asset>>,
    /// Files that are invalid now, and why. Their last valid content stays in effect.
    pub broken: BTreeMap<PathBuf, String>,
}

// === impl Id ===

impl Id {
    /// Returns the identity of a manifest, or `None` if a part is missing.
    pub(crate) fn of(object: &Value) -> Option<Id> {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        Some(Id {
            api_version: text("/apiVersion").filter(|v| !v.is_empty())?,
            kind: text("/kind").filter(|k| !k.is_empty())?,
            namespace: text("/metadata/namespace").unwrap_or_default(),
            name: text("/metadata/name").filter(|n| !n.is_empty())?,
        })
    }

    /// Returns the API group; empty for the core group.
    pub(crate) fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }

    /// Returns the API version without the group.
    pub(crate) fn version(&self) -> &str {
        self.api_version.split_once('/').map_or(&self.api_version, |(_, version)| version)
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.namespace.as_str() {
            "" => write!(f, "{}/{}", self.kind, self.name),
            namespace => write!(f, "{}/{namespace}/{}", self.kind, self.name),
        }
    }
}

// === impl Assets ===

impl Assets {
    /// Reads the directory again. A file that is unreadable or invalid keeps its last valid content.
    ///
    /// # Errors
    /// The directory itself cannot be read. All assets are kept.
    pub(crate) fn read(&mut self, directory: &Path) -> std::io::Result<()> {
        let mut paths = Vec::new();
        search(directory, 0, &mut paths)?;
        self.files.retain(|path, _| paths.contains(path));
        self.broken.clear();
        let mut owners: BTreeMap<Id, PathBuf> = BTreeMap::new();
        for path in paths {
            let is_tombstone = path.strip_prefix(directory).is_ok_and(|below| below.starts_with(TOMBSTONES));
            let read = file(&path, is_tombstone).and_then(|assets| {
                let twice = assets.iter().filter_map(|a| Id::of(&a.object)).find(|id| owners.contains_key(id));
                twice.map_or(Ok(assets), |id| Err(format!("{id} is also defined in {}", owners[&id].display())))
            });
            match read {
                Ok(assets) => drop(self.files.insert(path.clone(), assets)),
                Err(why) => drop(self.broken.insert(path.clone(), why)),
            }
            let ids = self.files.get(&path).into_iter().flatten().filter_map(|a| Id::of(&a.object));
            owners.extend(ids.map(|id| (id, path.clone())));
        }
        Ok(())
    }

    /// Returns all assets by their identity.
    pub(crate) fn by_id(&self) -> BTreeMap<Id, Asset> {
        let all = self.files.values().flatten();
        all.filter_map(|asset| Some((Id::of(&asset.object)?, asset.clone()))).collect()
    }
}

fn search(directory: &Path, depth: usize, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        paths.push(entry?.path());
    }
    paths.sort();
    for path in paths {
        // The files of a mounted ConfigMap are symbolic links to a directory whose name starts with two dots.
        let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        let is_yaml = path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        if is_hidden || found.len() >= FILES_MAX {
            continue;
        }
        if path.is_dir() && depth < DEPTH_MAX {
            search(&path, depth + 1, found)?;
        } else if path.is_file() && is_yaml {
            found.push(path);
        }
    }
    Ok(())
}

/// Reads the objects of one file.
fn file(path: &Path, is_tombstone: bool) -> Result<Vec<Asset>, String> {
    let size = std::fs::metadata(path).map_err(|e| e.to_string())?.len();
    if size > FILE_BYTES_MAX {
        return Err(format!("{size} bytes exceed the maximum of {FILE_BYTES_MAX} bytes"));
    }
    let text = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let mut assets = Vec::new();
    for document in serde_yaml_ng::Deserializer::from_str(&text) {
        let object = Value::deserialize(document).map_err(|e| e.to_string())?;
        if object.is_null() {
            continue;
        }
        Id::of(&object).ok_or("apiVersion, kind or metadata.name is missing")?;
        if object.pointer("/metadata/managedFields").is_some() || object.get("status").is_some() {
            return Err("remove status and managedFields: the Golden State must not contain them".into());
        }
        assets.push(Asset { object, is_tombstone, file: path.to_owned() });
    }
    Ok(assets)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("editwar-assets-{name}-{}", std::process::id()));
        drop(std::fs::remove_dir_all(&folder));
        std::fs::create_dir_all(folder.join("apps")).unwrap();
        folder
    }

    fn config(name: &str) -> String {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, namespace: shop}}\n")
    }

    fn names(assets: &Assets) -> Vec<String> {
        assets.by_id().keys().map(Id::to_string).collect()
    }

    #[test]
    fn a_broken_file_keeps_its_last_good_state_and_is_reported() {
        let folder = folder("broken");
        let file = folder.join("apps/one.yaml");
        std::fs::write(&file, format!("{}---\n{}", config("one"), config("two"))).unwrap();
        let mut assets = Assets::default();
        assets.read(&folder).unwrap();
        assert_eq!(names(&assets), ["ConfigMap/shop/one", "ConfigMap/shop/two"]);
        for broken in ["a: [", "kind: ConfigMap", "apiVersion: v1\nkind: X\nmetadata: {name: x}\nstatus: {}"] {
            std::fs::write(&file, broken).unwrap();
            assets.read(&folder).unwrap();
            assert_eq!(names(&assets), ["ConfigMap/shop/one", "ConfigMap/shop/two"], "{broken}");
            assert!(assets.broken.contains_key(&file), "{broken}");
        }
        std::fs::write(&file, config("two")).unwrap();
        assets.read(&folder).unwrap();
        assert_eq!((names(&assets), assets.broken.len()), (vec!["ConfigMap/shop/two".to_owned()], 0));
        std::fs::remove_file(&file).unwrap();
        assets.read(&folder).unwrap();
        assert!(names(&assets).is_empty());
        assert!(assets.read(&folder.join("none")).is_err());
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn tombstones_are_recognized_by_folder_and_duplicates_are_errors() {
        let folder = folder("twice");
        std::fs::create_dir_all(folder.join("tombstones/old")).unwrap();
        std::fs::write(folder.join("apps/one.yaml"), config("one")).unwrap();
        std::fs::write(folder.join("apps/two.yaml"), config("one")).unwrap();
        std::fs::write(folder.join("tombstones/old/gone.yaml"), config("gone")).unwrap();
        let mut assets = Assets::default();
        assets.read(&folder).unwrap();
        let all = assets.by_id();
        assert_eq!(all.values().map(|a| a.is_tombstone).collect::<Vec<_>>(), [true, false]);
        assert!(assets.broken[&folder.join("apps/two.yaml")].contains("one.yaml"), "{:?}", assets.broken);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
