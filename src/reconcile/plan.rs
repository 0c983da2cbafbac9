//! Decides what to do about one asset, from the Golden State and the live object. Pure.
//!
//! Precedence: paused, unmanaged, patch, ignore. A pause stays in effect until its annotation is removed.

use serde_json::{Value, json};

use super::overrides::{Invalid, Overrides};
use crate::audit::event::Micros;
use crate::detect::annotations::{MANAGED, MODE, PAUSED};
use crate::detect::verdict::State;

/// The label of managed objects. Only objects with this label can be deleted by a tombstone.
pub(crate) const MANAGED_BY: &str = "managed-by";

/// What to do about an asset.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Leave the object alone.
    Skip(SkipReason),
    /// Check with a dry-run what this would change, and apply it if there is a difference.
    Apply(DesiredObject),
    /// Delete the object, as its tombstone requires.
    Delete,
}

/// The reason why an object is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SkipReason {
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
pub(crate) struct DesiredObject {
    /// The object to apply.
    pub object: Value,
    /// Overrides that were rejected.
    pub invalid: Vec<Invalid>,
    /// The kinds of overrides that are set, as in the `type` label of `customization_info`.
    pub customizations: Vec<&'static str>,
}

/// Whether a correction may be written now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteGate {
    /// It may be written.
    Open,
    /// The object is fought over and must be paused instead.
    AtWar,
    /// The audit event of our last write has not arrived yet.
    AwaitingEvent,
    /// There are no recent events to base a decision on.
    Stale,
}

/// What the gate depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct GateInput {
    /// The state of the object's war, at the required confidence.
    pub state: State,
    /// Whether our next write would be the retake that leads to a pause.
    pub would_pause: bool,
    /// Time of the latest event in the cluster.
    pub latest: Option<Micros>,
    /// Wall clock of the last correction of this object.
    pub last_correction: Option<Micros>,
    /// The wall clock.
    pub now: Micros,
    /// If the latest event is older than this, nothing is decided.
    pub max_event_age: Micros,
}

/// Returns what to do about an asset with this live object.
pub(crate) fn action(desired: &Value, is_tombstone: bool, live: Option<&Value>, managed_by: &str) -> Action {
    let text =
        |pointer: &[&str]| -> Option<&str> { pointer.iter().try_fold(live?, |node, key| node.get(*key))?.as_str() };
    let annotation = |key: &str| text(&["metadata", "annotations", key]);
    if is_tombstone {
        return if text(&["metadata", "labels", MANAGED_BY]) == Some(managed_by) && annotation(PAUSED) != Some("true") {
            Action::Delete
        } else {
            Action::Skip(SkipReason::NotOurs)
        };
    }
    if text(&["metadata", "deletionTimestamp"]).is_some() {
        return Action::Skip(SkipReason::Deleting);
    }
    if annotation(PAUSED) == Some("true") {
        return Action::Skip(SkipReason::Paused);
    }
    if annotation(MODE) == Some("unmanaged") {
        return Action::Skip(SkipReason::Unmanaged);
    }
    let (mut object, mut invalid, mut customizations) = (desired.clone(), Vec::new(), Vec::new());
    if let Some(live) = live {
        let overrides = Overrides::of(live);
        invalid = overrides.apply(&mut object, live);
        customizations.extend(overrides.patch.map(|_| "patch"));
        customizations.extend(overrides.ignore.or(overrides.ignore_fields).map(|_| "ignore"));
    }
    mark(&mut object, managed_by);
    Action::Apply(DesiredObject { object, invalid, customizations })
}

/// Returns whether drift may be corrected now, or a deleted object created again.
pub(crate) fn write_gate(input: &GateInput) -> WriteGate {
    let is_fresh = input.latest.is_some_and(|latest| input.now - latest <= input.max_event_age);
    if input.state == State::Sustained || input.would_pause {
        return WriteGate::AtWar;
    }
    if !is_fresh {
        return WriteGate::Stale;
    }
    match (input.last_correction, input.latest) {
        (Some(correction), Some(latest)) if latest < correction => WriteGate::AwaitingEvent,
        _ => WriteGate::Open,
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

    fn desired() -> Value {
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "b"}, "data": {"x": "1"}})
    }

    fn live(annotations: Value) -> Value {
        let mut live = desired();
        live["metadata"]["annotations"] = annotations;
        live["metadata"]["labels"] = json!({"managed-by": BY});
        live
    }

    fn with(annotations: Value) -> Action {
        action(&desired(), false, Some(&live(annotations)), BY)
    }

    #[test]
    fn paused_takes_precedence_over_unmanaged_and_both_over_patches() {
        let paused = json!({PAUSED: "true", MODE: "unmanaged", "platform.kubevirt.io/patch": "{}"});
        assert_eq!(with(paused), Action::Skip(SkipReason::Paused));
        assert_eq!(
            with(json!({MODE: "unmanaged", "platform.kubevirt.io/patch": "{}"})),
            Action::Skip(SkipReason::Unmanaged)
        );
        for other in
            [json!({PAUSED: "True"}), json!({PAUSED: ""}), json!({MODE: "managed"}), json!({MODE: "Unmanaged"})]
        {
            assert!(matches!(with(other.clone()), Action::Apply(_)), "only the exact value counts: {other}");
        }
    }

    #[test]
    fn desired_objects_carry_markers_and_list_customizations() {
        let Action::Apply(wanted) = action(&desired(), false, None, BY) else { panic!("it is applied") };
        assert_eq!(wanted.object["metadata"]["labels"][MANAGED_BY], BY);
        assert_eq!(wanted.object["metadata"]["annotations"][MANAGED], "true");
        let Action::Apply(wanted) =
            with(json!({"platform.kubevirt.io/patch": "[]", "platform.kubevirt.io/ignore-fields": "/data/x"}))
        else {
            panic!("it is applied")
        };
        assert_eq!(wanted.customizations, ["patch", "ignore"]);
        // Not even a patch takes the marker away.
        let Action::Apply(wanted) = with(json!({"platform.kubevirt.io/patch": r#"{"metadata":{"labels":null}}"#}))
        else {
            panic!("it is applied")
        };
        assert_eq!(wanted.object["metadata"]["labels"][MANAGED_BY], BY);
    }

    #[test]
    fn tombstones_delete_only_managed_objects() {
        assert_eq!(action(&desired(), true, Some(&live(json!({}))), BY), Action::Delete);
        assert_eq!(
            action(&desired(), true, Some(&live(json!({PAUSED: "true"}))), BY),
            Action::Skip(SkipReason::NotOurs)
        );
        assert_eq!(action(&desired(), true, Some(&desired()), BY), Action::Skip(SkipReason::NotOurs));
        assert_eq!(action(&desired(), true, None, BY), Action::Skip(SkipReason::NotOurs));
    }

    #[test]
    fn contested_or_stale_objects_are_not_corrected() {
        let calm = GateInput {
            state: State::Calm,
            would_pause: false,
            latest: Some(100),
            last_correction: None,
            now: 105,
            max_event_age: 10,
        };
        assert_eq!(write_gate(&calm), WriteGate::Open);
        assert_eq!(write_gate(&GateInput { state: State::Thrashing, ..calm }), WriteGate::Open);
        assert_eq!(write_gate(&GateInput { state: State::Sustained, ..calm }), WriteGate::AtWar);
        assert_eq!(write_gate(&GateInput { state: State::Subsiding, ..calm }), WriteGate::Open);
        assert_eq!(write_gate(&GateInput { latest: Some(94), ..calm }), WriteGate::Stale);
        assert_eq!(write_gate(&GateInput { latest: None, ..calm }), WriteGate::Stale);
        assert_eq!(write_gate(&GateInput { last_correction: Some(101), ..calm }), WriteGate::AwaitingEvent);
        assert_eq!(write_gate(&GateInput { last_correction: Some(100), ..calm }), WriteGate::Open);
        assert_eq!(write_gate(&GateInput { latest: None, state: State::Sustained, ..calm }), WriteGate::AtWar);
    }
    #[test]
    fn a_write_that_would_pause_the_object_is_withheld() {
        let thrashing = GateInput {
            state: State::Thrashing,
            would_pause: true,
            latest: Some(100),
            last_correction: None,
            now: 105,
            max_event_age: 10,
        };
        assert_eq!(write_gate(&thrashing), WriteGate::AtWar);
    }
}
