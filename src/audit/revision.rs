//! Revisions of objects, as watches deliver them, and the audit events that are made of them.
//!
//! A watch delivers every revision of an object, in order. Its `metadata.managedFields` say which field manager owns which
//! fields, and when each manager wrote last. [`managed_fields`] compares them with those of the revision before, and so
//! finds who made the revision and which fields it took over. [`event`] expresses this as an event of the `audit.k8s.io/v1`
//! API, so that everything after it (the journal, the pipeline, reports) handles one kind of event.

pub(crate) mod event;
pub(crate) mod managed_fields;
pub(crate) mod tracker;

use serde::Deserialize;
use serde_json::value::RawValue;

use self::managed_fields::Entry;

/// A resource whose objects are watched.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Resource {
    /// The API group; empty for the core group.
    pub group: String,
    /// The preferred version.
    pub version: String,
    /// The plural name.
    pub name: String,
}

/// What happened to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Kind {
    /// It was created.
    Added,
    /// It was changed.
    Modified,
    /// It was deleted.
    Deleted,
    /// Nothing: the watch has passed this resourceVersion.
    Bookmark,
    /// The watch failed. The object is a `Status`.
    Error,
}

/// One event of a watch, borrowed from its line.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct WatchEvent<'a> {
    /// What happened.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// The object, or its metadata, after it happened.
    #[serde(borrow)]
    pub object: &'a RawValue,
}

/// The metadata of a revision.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Metadata {
    /// The name.
    pub name: Box<str>,
    /// The namespace; empty for cluster-scoped objects.
    pub namespace: Box<str>,
    /// The uid.
    pub uid: Box<str>,
    /// The revision.
    pub resource_version: Box<str>,
    /// When the object was marked for deletion.
    pub deletion_timestamp: Option<Box<str>>,
    /// Who owns which fields.
    pub managed_fields: Vec<Entry>,
}

// === impl Resource ===

impl Resource {
    /// Returns the path of the collection, in all namespaces or in one.
    pub(crate) fn path(&self, namespace: Option<&str>) -> String {
        let Resource { group, version, name } = self;
        let root = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
        match namespace {
            Some(namespace) => format!("{root}/namespaces/{namespace}/{name}"),
            None => format!("{root}/{name}"),
        }
    }
}

// === impl Metadata ===

impl Metadata {
    /// Reads the metadata of an object. Returns `None` if it has none.
    pub(crate) fn of(object: &RawValue) -> Option<Metadata> {
        #[derive(Deserialize)]
        struct Object {
            metadata: Metadata,
        }
        serde_json::from_str::<Object>(object.get()).ok().map(|object| object.metadata)
    }

    /// Returns the revision as a number, or 0 if it is none.
    pub(crate) fn revision(&self) -> u64 {
        self.resource_version.parse().unwrap_or(0)
    }

    /// Returns the approximate bytes of the metadata.
    pub(crate) fn bytes(&self) -> usize {
        let texts = self.name.len() + self.namespace.len() + self.uid.len() + self.resource_version.len();
        size_of::<Metadata>() + texts + self.managed_fields.iter().map(Entry::bytes).sum::<usize>()
    }
}
