//! The annotations by which people and editwar ask reconcilers not to write an object.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The prefix of the annotations of virt-platform-autopilot, which compatible reconcilers honour. The names below repeat
/// it.
pub const PREFIX: &str = "platform.kubevirt.io/";
/// Set to `true`: reconcilers that honour it do not write the object.
pub const PAUSED: &str = "platform.kubevirt.io/reconcile-paused";
/// The reason for the pause, with the opponents.
pub const PAUSED_BECAUSE: &str = "platform.kubevirt.io/reconcile-paused-because";
/// The earliest end of the pause.
pub const PAUSED_UNTIL: &str = "platform.kubevirt.io/reconcile-paused-until";
/// Set to `unmanaged`: reconcilers no longer write the object.
pub const MODE: &str = "platform.kubevirt.io/mode";
/// Set to `true`: a reconciler keeps the object at its Golden State.
pub const MANAGED: &str = "platform.kubevirt.io/managed";

/// Kinds that control permissions, nodes and admission. Patch annotations are rejected for them.
pub const UNPATCHED_KINDS: &[&str] = &[
    "MachineConfig",
    "KubeletConfig",
    "Role",
    "ClusterRole",
    "RoleBinding",
    "ClusterRoleBinding",
    "ServiceAccount",
    "SecurityContextConstraints",
    "ValidatingWebhookConfiguration",
    "MutatingWebhookConfiguration",
];
/// Paths of an object's identity, and of fields that other components maintain. A patch annotation may change neither
/// these nor their parents.
pub const UNPATCHED_PATHS: &[&str] =
    &["/metadata/name", "/metadata/namespace", "/metadata/managedFields", "/apiVersion", "/kind", "/status"];

/// A tool whose own switch may be used as a pause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tool {
    /// Flux: the annotation `kustomize.toolkit.fluxcd.io/reconcile: disabled` on the object.
    Flux,
    /// Argo CD: the annotation `argocd.argoproj.io/skip-reconcile: true` on the Application, which then applies none of
    /// its objects.
    ArgoCd,
}

// === impl Tool ===

impl Tool {
    /// All tools.
    pub const ALL: [Tool; 2] = [Tool::Flux, Tool::ArgoCd];

    /// Returns the name of the tool.
    pub fn name(self) -> &'static str {
        match self {
            Tool::Flux => "Flux",
            Tool::ArgoCd => "Argo CD",
        }
    }

    /// Returns the annotation, with the value that stops the tool. Sources: Flux, `kustomize-controller`,
    /// `docs/spec/v1/kustomizations.md`; Argo CD, `docs/user-guide/skip_reconcile.md`.
    pub fn switch(self) -> (&'static str, &'static str) {
        match self {
            Tool::Flux => ("kustomize.toolkit.fluxcd.io/reconcile", "disabled"),
            Tool::ArgoCd => ("argocd.argoproj.io/skip-reconcile", "true"),
        }
    }
}

/// Returns the path of an annotation in the notation of changes.
pub fn path(key: &str) -> String {
    format!("metadata.annotations['{key}']")
}

/// Returns the value of the annotation at this path that stops a reconciler, if it is one that editwar sets.
pub fn stopping_value(path: &str) -> Option<&'static str> {
    let key = path.strip_prefix("metadata.annotations['").and_then(|rest| rest.strip_suffix("']"))?;
    let switches = Tool::ALL.into_iter().map(Tool::switch);
    std::iter::once((PAUSED, "true")).chain(switches).find(|(name, _)| *name == key).map(|(_, value)| value)
}

/// Whether a change of this path only sets or lifts a pause. Such a change is not a retake.
pub fn is_pause(path: &str) -> bool {
    let key = path.strip_prefix("metadata.annotations['").and_then(|rest| rest.strip_suffix("']"));
    matches!(key, Some(PAUSED_BECAUSE | PAUSED_UNTIL)) || stopping_value(path).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_pause_annotations_are_pauses() {
        assert!(is_pause(&path(PAUSED)) && is_pause(&path(PAUSED_UNTIL)) && is_pause(&path(PAUSED_BECAUSE)));
        assert!(Tool::ALL.into_iter().all(|tool| is_pause(&path(tool.switch().0))));
        assert!(!is_pause(&path(MODE)) && !is_pause("metadata.annotations.team") && !is_pause("spec.replicas"));
    }
}
