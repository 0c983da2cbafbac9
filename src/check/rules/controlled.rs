//! An object that a controller maintains, and a tool that applies it too.

use crate::check::applier::{self, Applier};
use crate::check::finding::{Certainty, Contender, Finding, ObjectId};
use crate::check::gitops::{Repeats, Write};
use crate::check::remedies;
use crate::check::snapshot::{Object, Snapshot, group_of};

/// Groups whose controllers only make the objects of tools. Their objects are not operators.
const TOOLS: &[&str] = &["argoproj.io", "kustomize.toolkit.fluxcd.io", "helm.toolkit.fluxcd.io"];

/// Returns the findings.
pub(super) fn find(snapshot: &Snapshot) -> Vec<Finding> {
    snapshot.objects().filter_map(|object| of(snapshot, object)).collect()
}

fn of(snapshot: &Snapshot, object: &Object) -> Option<Finding> {
    let reference = object.controller()?;
    let owner = remedies::owner(reference);
    let group = group_of(&owner.api_version);
    if TOOLS.contains(&group) || owner.kind.is_empty() {
        return None;
    }
    let is_tool = |applier: &Applier<'_>| applier.is_tool();
    let applier = applier::appliers(snapshot, object).into_iter().find(is_tool)?;
    let repeats = applier::repeats(snapshot, &applier, Write { object, path: None, opponents: &[] })?;
    let (Repeats::ByItself(when) | Repeats::When(when)) = repeats;
    let owner_id = ObjectId {
        group: group.to_owned(),
        kind: owner.kind,
        namespace: object.id.namespace.clone(),
        name: owner.name,
    };
    let source = super::source_of(&applier, object);
    Some(Finding {
        rule: "controlled_object",
        certainty: Certainty::Possible,
        object: object.id.clone(),
        more_objects: Vec::new(),
        fields: vec![super::ALL_FIELDS.to_owned()],
        contenders: vec![
            Contender { name: applier.name.clone(), does: "applies it".to_owned() },
            Contender { name: format!("the controller of {owner_id}"), does: "makes and maintains it".to_owned() },
        ],
        evidence: vec![applier.evidence.clone(), format!("{owner_id} is its controller in ownerReferences")],
        when: format!("{when}, if the manifest differs from what the controller wants"),
        advice: format!("remove the object from {source}, and set what you need in {owner_id}"),
        remedies: Vec::new(),
        involved: vec![object.id.clone(), owner_id],
    })
}
