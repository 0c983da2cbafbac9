//! Which writes certainly have no field in common.

use super::*;
use crate::audit::decode::{Decoded, decode};
use crate::audit::event::WATCHED;

/// Returns the ownership of a write by `helm (Update)` with these annotations.
fn of(annotations: &[(&str, &str)]) -> Ownership {
    let annotations: serde_json::Map<_, _> =
        annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
    let event = serde_json::json!({
        "level": "Metadata", "auditID": "a", "stage": "ResponseComplete", "requestURI": "/", "verb": "patch",
        "user": {"username": "helm (Update)"}, "annotations": annotations,
    });
    match decode(event.to_string().as_bytes()) {
        Ok(Decoded::Event(event)) => Ownership::of(&event),
        other => panic!("{other:?}"),
    }
}

#[test]
fn only_a_write_that_kept_to_its_fields_excludes_those_of_other_managers() {
    let helm = of(&[(WATCHED, "Update")]);
    let alice = of(&[(WATCHED, "Update"), (JOINED, "kubectl-edit (Update)")]);
    let kept = of(&[(WATCHED, "Update"), (JOINED, "kubectl-edit (Update)"), (OWN, "true")]);
    assert!(kept.excludes(helm) && !kept.excludes(alice) && !kept.excludes(kept));
    assert!(!alice.excludes(helm), "it may have taken fields from helm");
    assert!(!kept.excludes(Ownership::default()), "the manager of the other one is not known");
    assert_eq!(of(&[(OWN, "true")]), Ownership::default(), "no watch");
}
