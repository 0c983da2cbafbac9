//! The Applications of Argo CD that carry or need a pause, each with its contested objects.

use std::collections::{BTreeMap, BTreeSet};

use super::means::Means;
use super::plan::Verdict;
use crate::pipeline::key::ObjectKey;

/// The Applications, and the contested objects of each. Of other paused objects it knows none.
#[derive(Debug, Default)]
pub(super) struct Applications(BTreeMap<ObjectKey, Vec<ObjectKey>>);

// === impl Applications ===

impl Applications {
    /// Takes the contested objects from verdicts. Those of an Application whose wars are over stay known as long as it
    /// is `kept`.
    pub(super) fn update(&mut self, verdicts: &BTreeMap<ObjectKey, Verdict>, is_kept: impl Fn(&ObjectKey) -> bool) {
        self.0.retain(|key, _| is_kept(key));
        for (key, verdict) in verdicts {
            if let Some(Means::ArgoCd(contested)) = &verdict.means {
                self.0.insert(key.clone(), contested.clone());
            }
        }
    }

    /// Returns the contested objects of an Application; none for another object.
    pub(super) fn contested(&self, key: &ObjectKey) -> &[ObjectKey] {
        self.0.get(key).map_or(&[], Vec::as_slice)
    }

    /// Returns the Applications all of whose contested objects are deleted.
    pub(super) fn without_objects(&self, is_deleted: impl Fn(&ObjectKey) -> bool) -> Vec<ObjectKey> {
        let is_over = |(_, contested): &(&ObjectKey, &Vec<ObjectKey>)| contested.iter().all(&is_deleted);
        self.0.iter().filter(is_over).map(|(key, _)| key.clone()).collect()
    }

    /// Returns the namespaces in which a pause of this object can be switched off.
    pub(super) fn namespaces(&self, key: &ObjectKey) -> BTreeSet<String> {
        let objects = self.contested(key).iter().chain([key]);
        objects.map(|object| object.object().namespace.to_owned()).collect()
    }

    /// Returns whether a pause of this object is switched off: in its own namespace, or in those of all its contested
    /// objects.
    pub(super) fn is_off(&self, key: &ObjectKey, off: &BTreeSet<String>) -> bool {
        let is_off = |object: &ObjectKey| off.contains(object.object().namespace);
        let contested = self.contested(key);
        is_off(key) || (!contested.is_empty() && contested.iter().all(is_off))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::write::ObjectName;
    use crate::enforce::fixtures::{key_in, verdict};
    use crate::enforce::means::APPLICATIONS;
    use crate::enforce::selection::CLUSTER;

    #[test]
    fn a_pause_of_an_application_ends_with_all_of_its_objects_and_is_off_where_any_may_decide() {
        let (resource, group) = APPLICATIONS;
        let application = ObjectKey::new(CLUSTER, &ObjectName { group, resource, namespace: "argocd", name: "web" });
        let contested = vec![key_in("a"), key_in("b")];
        let paused = Verdict { means: Some(Means::ArgoCd(contested.clone())), ..verdict() };
        let mut known = Applications::default();
        known.update(&BTreeMap::from([(application.clone(), paused), (key_in("c"), verdict())]), |_| true);
        assert_eq!((known.contested(&application), known.contested(&key_in("c"))), (&contested[..], &[][..]));
        assert_eq!(known.namespaces(&application), ["a", "argocd", "b"].map(str::to_owned).into());
        let is_off = |off: &[&str]| known.is_off(&application, &off.iter().map(|n| (*n).to_owned()).collect());
        assert!(is_off(&["argocd"]) && is_off(&["a", "b"]) && !is_off(&["a"]) && !is_off(&[]));
        assert_eq!(known.without_objects(|key| *key == contested[0]), []);
        assert_eq!(known.without_objects(|_| true), std::slice::from_ref(&application));
        known.update(&BTreeMap::new(), |_| true);
        assert_eq!(known.contested(&application).len(), 2, "the pause may outlast the war");
        known.update(&BTreeMap::new(), |_| false);
        assert!(known.contested(&application).is_empty());
    }
}
