//! The annotations by which people and editwar tell reconcilers what to leave alone.

/// Set to `true`: reconcilers that honour it leave the object alone.
pub const PAUSED: &str = "platform.kubevirt.io/reconcile-paused";
/// Why, and against whom.
pub const PAUSED_BECAUSE: &str = "platform.kubevirt.io/reconcile-paused-because";
/// Until when at least.
pub const PAUSED_UNTIL: &str = "platform.kubevirt.io/reconcile-paused-until";
/// Set to `unmanaged`: reconcilers no longer write the object.
pub const MODE: &str = "platform.kubevirt.io/mode";
/// Set to `true`: a reconciler holds the object at its Golden State.
pub const MANAGED: &str = "platform.kubevirt.io/managed";

/// Kinds by which rights, nodes and admission are decided: a patch annotation is refused for them.
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
/// What an object is, and what others set of it: a patch annotation may not touch these, nor what holds them.
pub const UNPATCHED_PATHS: &[&str] =
    &["/metadata/name", "/metadata/namespace", "/metadata/managedFields", "/apiVersion", "/kind", "/status"];

/// The path of an annotation, as changes name it.
pub fn path(key: &str) -> String {
    format!("metadata.annotations['{key}']")
}

/// Whether a change of this path only sets or lifts a pause: that is nobody's retake.
pub fn is_pause(path: &str) -> bool {
    let key = path.strip_prefix("metadata.annotations['").and_then(|rest| rest.strip_suffix("']"));
    matches!(key, Some(PAUSED | PAUSED_BECAUSE | PAUSED_UNTIL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_told_from_other_annotations() {
        assert!(is_pause(&path(PAUSED)) && is_pause(&path(PAUSED_UNTIL)));
        assert!(!is_pause(&path(MODE)) && !is_pause("metadata.annotations.team") && !is_pause("spec.replicas"));
    }
}
