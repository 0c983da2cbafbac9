//! A finding: a fight that will happen, or may happen, with its evidence and its remedies.

use serde::Serialize;

use crate::detect::remedy::Remedy;

/// An object, as it is named in findings.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ObjectId {
    /// The API group; empty for the core group.
    pub group: String,
    /// The kind.
    pub kind: String,
    /// The namespace; empty for cluster-scoped objects.
    pub namespace: String,
    /// The name.
    pub name: String,
}

/// How certain it is that a fight will happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// It happens only if somebody does something, such as applying a manifest again, or if what cannot be read here has
    /// a certain value.
    Possible,
    /// All parties write by themselves, again and again.
    Bound,
}

/// Who sets the same as another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Contender {
    /// Who it is: `Kustomization flux-system/shop`, `HorizontalPodAutoscaler shop/web`.
    pub name: String,
    /// What it does to the fields, as the rest of a sentence that begins with the name: `sets them to 3`.
    pub does: String,
}

/// A fight that will happen, or may happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The rule that found it.
    pub rule: &'static str,
    /// How certain it is.
    pub certainty: Certainty,
    /// The object that will be fought over.
    pub object: ObjectId,
    /// Other objects that will be fought over in the same way.
    pub more_objects: Vec<ObjectId>,
    /// The contested fields; `(object)` if it is the existence of the object.
    pub fields: Vec<String>,
    /// The contenders.
    pub contenders: Vec<Contender>,
    /// What shows that each of them will do so.
    pub evidence: Vec<String>,
    /// When the fight goes on: `every 30s`, `each time the chart is upgraded`.
    pub when: String,
    /// What to change, and where.
    pub advice: String,
    /// Commands that make the change, or show where to make it.
    pub remedies: Vec<Remedy>,
    /// All objects on which the finding is based.
    pub involved: Vec<ObjectId>,
}

// === impl ObjectId ===

impl std::fmt::Display for ObjectId {
    /// Formats the object for a sentence: `Deployment shop/web`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.namespace.as_str() {
            "" => write!(f, "{} {}", self.kind, self.name),
            namespace => write!(f, "{} {namespace}/{}", self.kind, self.name),
        }
    }
}

impl ObjectId {
    /// Returns the resource with its group: `deployments.apps`. Names are formed by the rules of English
    /// plurals, as those of nearly all resources are.
    pub fn resource(&self) -> String {
        let kind = self.kind.to_lowercase();
        let plural = match kind.strip_suffix('y') {
            Some(stem) if !stem.ends_with(['a', 'e', 'i', 'o', 'u']) => format!("{stem}ies"),
            _ if kind.ends_with('s') => format!("{kind}es"),
            _ => format!("{kind}s"),
        };
        if self.group.is_empty() { plural } else { format!("{plural}.{}", self.group) }
    }
}

// === impl Certainty ===

impl Certainty {
    /// Returns the word for output and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Certainty::Possible => "possible",
            Certainty::Bound => "bound to happen",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_plurals_of_kinds() {
        let resource = |group: &str, kind: &str| {
            ObjectId { group: group.into(), kind: kind.into(), ..ObjectId::default() }.resource()
        };
        assert_eq!(resource("apps", "Deployment"), "deployments.apps");
        assert_eq!(resource("kyverno.io", "ClusterPolicy"), "clusterpolicies.kyverno.io");
        assert_eq!(resource("", "Service"), "services");
        assert_eq!(resource("gateway.networking.k8s.io", "Gateway"), "gateways.gateway.networking.k8s.io");
        assert_eq!(resource("example.com", "Class"), "classes.example.com");
    }
}
