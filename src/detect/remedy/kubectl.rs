//! kubectl commands for a POSIX shell.

use serde_json::Value;

use super::Facts;
use crate::util::shell::quoted;

/// Returns an object in kubectl's notation. A name that begins with `-` is not passed as an argument of its own,
/// because kubectl would parse it as a flag.
pub(super) fn argument(resource: &str, name: &str) -> String {
    if name.starts_with('-') {
        quoted(&format!("{resource}/{name}"))
    } else {
        format!("{} {}", quoted(resource), quoted(name))
    }
}

/// An object that a command names.
#[derive(Clone, Copy)]
pub(super) struct Target<'t> {
    /// The resource with its group.
    pub(super) resource: &'t str,
    /// Empty if the object has no namespace.
    pub(super) namespace: &'t str,
    pub(super) name: &'t str,
}

// === impl Facts ===

impl Facts<'_> {
    /// Returns `kubectl`, with the context if it is known.
    pub(super) fn program(&self) -> String {
        let context = self.context.map(|context| format!(" --context {}", quoted(context)));
        format!("kubectl{}", context.unwrap_or_default())
    }

    /// Returns `kubectl VERB RESOURCE NAME -n NAMESPACE` for an object.
    pub(super) fn kubectl_on(&self, verb: &str, target: Target<'_>) -> String {
        let Target { resource, namespace, name } = target;
        let namespace = if namespace.is_empty() { String::new() } else { format!(" -n {}", quoted(namespace)) };
        format!("{} {verb} {}{namespace}", self.program(), argument(resource, name))
    }

    /// Returns `kubectl get RESOURCE -n NAMESPACE -o wide` for all objects of a resource in the object's namespace.
    pub(super) fn get_all(&self, resource: &str) -> String {
        let namespace =
            if self.namespace.is_empty() { String::new() } else { format!(" -n {}", quoted(self.namespace)) };
        format!("{} get {resource}{namespace} -o wide", self.program())
    }

    /// Returns `kubectl VERB RESOURCE NAME -n NAMESPACE` for the contested object.
    pub(super) fn kubectl(&self, verb: &str) -> String {
        self.kubectl_on(verb, Target { resource: &self.resource, namespace: self.namespace, name: self.name })
    }

    /// Returns the command that applies a manifest.
    pub(super) fn apply(&self, manifest: &Value) -> String {
        format!("printf '%s' {} | {} apply -f -", quoted(&manifest.to_string()), self.program())
    }

    /// Returns the command that reads an object, computes a merge patch from it with jq, and applies the patch. Unlike a
    /// patch alone, this can add to a list that may not exist yet. Unlike a replacement, it does not fail if the status
    /// of the object is written in between. Flux would revert what the field managers of kubectl write to an object that
    /// it applies itself.
    pub(super) fn edit(&self, target: Target<'_>, arguments: &[(&str, &Value)], patch: &str) -> String {
        let arguments: String =
            arguments.iter().map(|(name, value)| format!(" --argjson {name} {}", quoted(&value.to_string()))).collect();
        format!(
            "{} --type=merge --field-manager=editwar -p \"$({} -o json | jq -c{arguments} {})\"",
            self.kubectl_on("patch", target),
            self.kubectl_on("get", target),
            quoted(patch),
        )
    }
}
