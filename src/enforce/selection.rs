//! Which objects may be paused, as configured.

use std::collections::BTreeMap;
use std::fmt;

use super::verdicts::CLUSTER;
use crate::pipeline::key::ObjectKey;
use crate::util::glob::is_match;

/// Criteria for the objects that may be paused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Resources, as `(resource, group)`.
    pub resources: Vec<(String, String)>,
    /// Patterns of namespaces. Empty means all.
    pub namespaces: Vec<String>,
    /// Patterns of excluded namespaces.
    pub except: Vec<String>,
    /// Labels that an object must have.
    pub labels: BTreeMap<String, String>,
    /// Annotations that an object must have.
    pub annotations: BTreeMap<String, String>,
}

// === impl Selection ===

impl Selection {
    /// Returns whether an object may be paused according to its resource and namespace. Labels and annotations are
    /// checked before a pause is written.
    pub fn allows(&self, key: &ObjectKey) -> bool {
        let object = key.object();
        let is_any = |patterns: &[String]| patterns.iter().any(|pattern| is_match(pattern, object.namespace));
        key.cluster() == CLUSTER
            && self.resources.iter().any(|(r, g)| r == object.resource && g == object.group)
            && (self.namespaces.is_empty() || is_any(&self.namespaces))
            && !is_any(&self.except)
    }
}

/// Formats as `deployments.apps in all namespaces except kube-system, with annotation
/// platform.kubevirt.io/managed=true`.
impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.resources.iter().map(|(resource, group)| title(resource, group)).collect();
        f.write_str(if names.is_empty() { "no resource" } else { "" })?;
        write!(f, "{} in ", names.join(", "))?;
        if self.namespaces.is_empty() {
            f.write_str("all namespaces")?
        } else {
            write!(f, "namespaces {}", self.namespaces.join(", "))?
        }
        if !self.except.is_empty() {
            write!(f, " except {}", self.except.join(", "))?;
        }
        for (what, wanted) in [("label", &self.labels), ("annotation", &self.annotations)] {
            for (key, value) in wanted {
                let value = if value.is_empty() { "(any value)" } else { value };
                write!(f, ", with {what} {key}={value}")?;
            }
        }
        Ok(())
    }
}

/// Formats a resource as `deployments.apps`.
pub(super) fn title(resource: &str, group: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selections_are_described_in_words() {
        let selection = Selection {
            resources: vec![("deployments".into(), "apps".into()), ("configmaps".into(), String::new())],
            except: vec!["kube-system".into()],
            annotations: BTreeMap::from([("platform.kubevirt.io/managed".to_owned(), "true".to_owned())]),
            labels: BTreeMap::from([("team".to_owned(), String::new())]),
            ..Selection::default()
        };
        assert_eq!(
            selection.to_string(),
            "deployments.apps, configmaps in all namespaces except kube-system, with label team=(any value), \
             with annotation platform.kubevirt.io/managed=true"
        );
        let narrow = Selection { namespaces: vec!["shop".into()], ..Selection::default() };
        assert_eq!(narrow.to_string(), "no resource in namespaces shop");
    }
}
