//! Which objects may be paused, as configured.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::means::APPLICATIONS;
use crate::detect::annotations::Tool;
use crate::pipeline::key::ObjectKey;
use crate::util::glob::is_match;

/// The cluster that the enforcer and the Golden State act on: the one whose API server posts to `/audit`. Clusters that
/// post to `/audit/CLUSTER` are only observed.
pub const CLUSTER: &str = "";

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
    /// Tools whose own switches may be used against parties that do not honour the annotations of a pause.
    pub tools: BTreeSet<Tool>,
}

// === impl Selection ===

impl Selection {
    /// Returns whether an object may be paused according to its resource and namespace. Labels and annotations are
    /// checked before a pause is written.
    pub fn allows(&self, key: &ObjectKey) -> bool {
        key.cluster() == CLUSTER && self.excluded_by_name(key).is_none()
    }

    /// Returns the resources whose objects may carry a pause, as `(resource, group)`: those of the objects that may be
    /// paused and, for Argo CD, its Applications.
    pub fn paused_resources(&self) -> Vec<(String, String)> {
        let (resource, group) = APPLICATIONS;
        let applications = self.tools.contains(&Tool::ArgoCd).then(|| (resource.to_owned(), group.to_owned()));
        let mut all = self.resources.clone();
        all.extend(applications.filter(|applications| !self.resources.contains(applications)));
        all
    }

    /// Returns whether an object may carry a pause: it may be paused, or is an Application of Argo CD that may be.
    pub fn may_carry(&self, key: &ObjectKey) -> bool {
        let object = key.object();
        let is_application = (object.resource, object.group) == APPLICATIONS && self.tools.contains(&Tool::ArgoCd);
        self.allows(key) || is_application && key.cluster() == CLUSTER
    }

    /// Returns why an object may not be paused according to its resource and namespace.
    pub fn excluded_by_name(&self, key: &ObjectKey) -> Option<Exclusion> {
        let object = key.object();
        let is_any = |patterns: &[String]| patterns.iter().any(|pattern| is_match(pattern, object.namespace));
        if !self.resources.iter().any(|(r, g)| r == object.resource && g == object.group) {
            Some(Exclusion::Resource(title(object.resource, object.group)))
        } else if self.is_excluded_namespace(object.namespace) {
            Some(Exclusion::ExcludedNamespace)
        } else if !self.namespaces.is_empty() && !is_any(&self.namespaces) {
            Some(Exclusion::OtherNamespace)
        } else {
            None
        }
    }

    /// Returns whether no object in a namespace may be paused.
    pub fn is_excluded_namespace(&self, namespace: &str) -> bool {
        self.except.iter().any(|pattern| is_match(pattern, namespace))
    }

    /// Returns why an object with these labels and annotations may not be paused.
    pub fn excluded_by_metadata(
        &self,
        labels: &BTreeMap<String, String>,
        annotations: &BTreeMap<String, String>,
    ) -> Option<Exclusion> {
        let missing = |wanted: &BTreeMap<String, String>, are: &BTreeMap<String, String>| {
            let is_missing =
                |(key, value): &(&String, &String)| are.get(*key).is_none_or(|is| !value.is_empty() && is != *value);
            wanted.iter().find(is_missing).map(|(key, value)| pair(key, value))
        };
        let label = missing(&self.labels, labels).map(Exclusion::Label);
        label.or_else(|| missing(&self.annotations, annotations).map(Exclusion::Annotation))
    }
}

/// Why an object may not be paused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exclusion {
    /// Its resource is not configured.
    Resource(String),
    /// Its namespace is excluded.
    ExcludedNamespace,
    /// Its namespace is not configured.
    OtherNamespace,
    /// It does not have this label.
    Label(String),
    /// It does not have this annotation.
    Annotation(String),
}

/// Formats as `without annotation platform.kubevirt.io/managed=true (enforce.annotations)`.
impl fmt::Display for Exclusion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Exclusion::Resource(name) => write!(f, "{name} is not one of the configured resources (enforce.resources)"),
            Exclusion::ExcludedNamespace => f.write_str("in an excluded namespace (enforce.excluded_namespaces)"),
            Exclusion::OtherNamespace => f.write_str("in a namespace that is not configured (enforce.namespaces)"),
            Exclusion::Label(label) => write!(f, "without label {label} (enforce.labels)"),
            Exclusion::Annotation(annotation) => write!(f, "without annotation {annotation} (enforce.annotations)"),
        }
    }
}

/// The objects of one resource, by whether they may be paused.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Those that may be paused.
    pub selected: usize,
    /// The others, by reason.
    pub excluded: BTreeMap<Exclusion, usize>,
}

// === impl Census ===

impl Census {
    /// Counts one object.
    pub fn add(&mut self, exclusion: Option<Exclusion>) {
        match exclusion {
            None => self.selected += 1,
            Some(exclusion) => *self.excluded.entry(exclusion).or_default() += 1,
        }
    }
}

/// Formats as `12 of 40 objects may be paused; not 28 without label a=b (enforce.labels)`.
impl fmt::Display for Census {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.selected + self.excluded.values().sum::<usize>();
        write!(f, "{} of {all} objects may be paused", self.selected)?;
        for (index, (exclusion, count)) in self.excluded.iter().enumerate() {
            write!(f, "{} {count} {exclusion}", if index == 0 { "; not" } else { "," })?;
        }
        Ok(())
    }
}

fn pair(key: &str, value: &str) -> String {
    format!("{key}={}", if value.is_empty() { "(any value)" } else { value })
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
                write!(f, ", with {what} {}", pair(key, value))?;
            }
        }
        if !self.tools.is_empty() {
            let tools: Vec<&str> = self.tools.iter().map(|tool| tool.name()).collect();
            write!(f, ", also by the own switch of {}", tools.join(" and "))?;
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
    use crate::detect::write::ObjectName;

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

    #[test]
    fn a_census_says_how_many_objects_may_be_paused_and_why_others_may_not() {
        let selection = Selection {
            resources: vec![("deployments".into(), "apps".into())],
            except: vec!["kube-*".into()],
            annotations: BTreeMap::from([("managed".to_owned(), "true".to_owned())]),
            labels: BTreeMap::from([("team".to_owned(), String::new())]),
            ..Selection::default()
        };
        let key = |namespace: &str| {
            let object = ObjectName { group: "apps", resource: "deployments", namespace, name: "web" };
            ObjectKey::new("", &object)
        };
        let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let mut census = Census::default();
        for (namespace, labels, annotations) in [
            ("shop", map(&[("team", "a")]), map(&[("managed", "true")])),
            ("shop", map(&[("team", "a")]), map(&[("managed", "false")])),
            ("shop", map(&[("team", "a")]), map(&[])),
            ("shop", map(&[]), map(&[("managed", "true")])),
            ("kube-system", map(&[("team", "a")]), map(&[("managed", "true")])),
        ] {
            let by_name = selection.excluded_by_name(&key(namespace));
            census.add(by_name.or_else(|| selection.excluded_by_metadata(&labels, &annotations)));
        }
        assert_eq!(
            census.to_string(),
            "1 of 5 objects may be paused; not 1 in an excluded namespace (enforce.excluded_namespaces), 1 without \
             label team=(any value) (enforce.labels), 2 without annotation managed=true (enforce.annotations)"
        );
    }
}
