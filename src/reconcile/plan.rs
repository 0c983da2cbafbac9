//! Decides the next step for one asset, from the Golden State and the live object. Pure.
//!
//! Precedence: paused, unmanaged, patch, ignore. A pause stays in effect until its annotation is removed.

use serde_json::{Value, json};

use super::overrides::{Invalid, Overrides};
use crate::audit::event::Micros;
use crate::detect::annotations::{MANAGED, MODE, PAUSED};
use crate::detect::verdict::State;

/// The label of managed objects. Only objects with this label can be deleted by a tombstone.
pub const MANAGED_BY: &str = "managed-by";

/// The next step for an asset.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Leave the object alone.
    Leave(Left),
    /// Check with a dry-run what this would change, and apply it if there is a difference.
    Apply(Wanted),
    /// Delete the object, as its tombstone requires.
    Delete,
}

/// The reason why an object is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// It is paused.
    Paused,
    /// A person has set `mode=unmanaged`.
    Unmanaged,
    /// The object of a tombstone does not exist, or is not managed by us.
    NotOurs,
    /// It is being deleted.
    Deleting,
}

/// The desired state of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// The object to apply.
    pub object: Value,
    /// Overrides that were rejected.
    pub invalid: Vec<Invalid>,
    /// The kinds of overrides that are set, as in the `type` label of `customization_info`.
    pub customizations: Vec<&'static str>,
}

/// Whether a correction may be written now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// It may be written.
    Open,
    /// The object is fought over and must be paused instead.
    Fought,
    /// The audit event of our last write has not arrived yet.
    Waiting,
    /// There are no recent events to base a decision on.
    Stale,
}

/// The input of the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The state of the object's war, at the required confidence.
    pub state: State,
    /// Whether our next write would be the retake that leads to a pause.
    pub would_pause: bool,
    /// Time of the latest event in the cluster.
    pub latest: Option<Micros>,
    /// Wall clock of the last correction of this object.
    pub corrected: Option<Micros>,
    /// The wall clock.
    pub now: Micros,
    /// If the latest event is older than this, nothing is decided.
    pub fresh_for: Micros,
}

/// Returns the next step for an asset with this live object.
pub fn next(golden: &Value, is_tombstone: bool, live: Option<&Value>, managed_by: &str) -> Next {
    let text =
        |pointer: &[&str]| -> Option<&str> { pointer.iter().try_fold(live?, |node, key| node.get(*key))?.as_str() };
    let annotation = |key: &str| text(&["metadata", "annotations", key]);
    if is_tombstone {
        return if text(&["metadata", "labels", MANAGED_BY]) == Some(managed_by) && annotation(PAUSED) != Some("true") {
            Next::Delete
        } else {
            Next::Leave(Left::NotOurs)
        };
    }
    if text(&["metadata", "deletionTimestamp"]).is_some() {
        return Next::Leave(Left::Deleting);
    }
    if annotation(PAUSED) == Some("true") {
        return Next::Leave(Left::Paused);
    }
    if annotation(MODE) == Some("unmanaged") {
        return Next::Leave(Left::Unmanaged);
    }
    let (mut object, mut invalid, mut customizations) = (golden.clone(), Vec::new(), Vec::new());
    if let Some(live) = live {
        let overrides = Overrides::of(live);
        invalid = overrides.apply(&mut object, live);
        customizations.extend(overrides.patch.map(|_| "patch"));
        customizations.extend(overrides.ignore.or(overrides.ignore_fields).map(|_| "ignore"));
    }
    mark(&mut object, managed_by);
    Next::Apply(Wanted { object, invalid, customizations })
}

/// Returns whether drift may be corrected now, or a deleted object created again.
pub fn gate(evidence: &Evidence) -> Gate {
    let is_fresh = evidence.latest.is_some_and(|latest| evidence.now - latest <= evidence.fresh_for);
    if evidence.state == State::Sustained || evidence.would_pause {
        return Gate::Fought;
    }
    if !is_fresh {
        return Gate::Stale;
    }
    match (evidence.corrected, evidence.latest) {
        (Some(corrected), Some(latest)) if latest < corrected => Gate::Waiting,
        _ => Gate::Open,
    }
}

/// Sets the label and annotation of managed objects.
fn mark(object: &mut Value, managed_by: &str) {
    let metadata = &mut object["metadata"];
    for (kind, key, value) in [("labels", MANAGED_BY, managed_by), ("annotations", MANAGED, "true")] {
        if !metadata[kind].is_object() {
            metadata[kind] = json!({});
        }
        metadata[kind][key] = json!(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BY: &str = "virt-platform-autopilot";

    fn golden() -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}, "data": {"x": "1"}})
    }

    fn live(annotations: Value) -> Value {
        let mut live = golden();
        live["metadata"]["annotations"] = annotations;
        live["metadata"]["labels"] = json!({"managed-by": BY});
        live
    }

    fn with(annotations: Value) -> Next {
        next(&golden(), false, Some(&live(annotations)), BY)
    }

    #[test]
    fn paused_takes_precedence_over_unmanaged_and_both_over_patches() {
        let paused = json!({PAUSED: "true", MODE: "unmanaged", "platform.kubevirt.io/patch": "{}"});
        assert_eq!(with(paused), Next::Leave(Left::Paused));
        assert_eq!(with(json!({MODE: "unmanaged", "platform.kubevirt.io/patch": "{}"})), Next::Leave(Left::Unmanaged));
        for other in
            [json!({PAUSED: "True"}), json!({PAUSED: ""}), json!({MODE: "managed"}), json!({MODE: "Unmanaged"})]
        {
            assert!(matches!(with(other.clone()), Next::Apply(_)), "only the exact value counts: {other}");
        }
    }

    #[test]
    fn desired_objects_carry_markers_and_list_customizations() {
        let Next::Apply(wanted) = next(&golden(), false, None, BY) else { panic!("it is applied") };
        assert_eq!(wanted.object["metadata"]["labels"][MANAGED_BY], BY);
        assert_eq!(wanted.object["metadata"]["annotations"][MANAGED], "true");
        let Next::Apply(wanted) =
            with(json!({"platform.kubevirt.io/patch": "[]", "platform.kubevirt.io/ignore-fields": "/data/x"}))
        else {
            panic!("it is applied")
        };
        assert_eq!(wanted.customizations, ["patch", "ignore"]);
        // A patch cannot remove the marker.
        let Next::Apply(wanted) = with(json!({"platform.kubevirt.io/patch": r#"{"metadata":{"labels":null}}"#})) else {
            panic!("it is applied")
        };
        assert_eq!(wanted.object["metadata"]["labels"][MANAGED_BY], BY);
    }

    #[test]
    fn tombstones_delete_only_managed_objects() {
        assert_eq!(next(&golden(), true, Some(&live(json!({}))), BY), Next::Delete);
        assert_eq!(next(&golden(), true, Some(&live(json!({PAUSED: "true"}))), BY), Next::Leave(Left::NotOurs));
        assert_eq!(next(&golden(), true, Some(&golden()), BY), Next::Leave(Left::NotOurs));
        assert_eq!(next(&golden(), true, None, BY), Next::Leave(Left::NotOurs));
    }

    #[test]
    fn contested_or_stale_objects_are_not_corrected() {
        let calm = Evidence {
            state: State::Calm,
            would_pause: false,
            latest: Some(100),
            corrected: None,
            now: 105,
            fresh_for: 10,
        };
        assert_eq!(gate(&calm), Gate::Open);
        assert_eq!(gate(&Evidence { state: State::Thrashing, ..calm }), Gate::Open);
        assert_eq!(gate(&Evidence { state: State::Sustained, ..calm }), Gate::Fought);
        assert_eq!(gate(&Evidence { state: State::Subsiding, ..calm }), Gate::Open);
        assert_eq!(gate(&Evidence { latest: Some(94), ..calm }), Gate::Stale);
        assert_eq!(gate(&Evidence { latest: None, ..calm }), Gate::Stale);
        assert_eq!(gate(&Evidence { corrected: Some(101), ..calm }), Gate::Waiting);
        assert_eq!(gate(&Evidence { corrected: Some(100), ..calm }), Gate::Open);
        assert_eq!(gate(&Evidence { latest: None, state: State::Sustained, ..calm }), Gate::Fought);
    }
    #[test]
    fn a_write_that_would_pause_the_object_is_withheld() {
        let thrashing = Evidence {
            state: State::Thrashing,
            would_pause: true,
            latest: Some(100),
            corrected: None,
            now: 105,
            fresh_for: 10,
        };
        assert_eq!(gate(&thrashing), Gate::Fought);
    }
}
