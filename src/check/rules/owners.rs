//! Objects that are applied for two applications, and releases of Helm that two HelmReleases manage.

use std::collections::BTreeMap;

use crate::check::applier::{role_of, title, tool_actor};
use crate::check::finding::{Certainty, Contender, Finding, ObjectId};
use crate::check::gitops::{self, Repeats, Write};
use crate::check::remedies;
use crate::check::snapshot::{Object, Snapshot};
use crate::detect::actor_class::Role;
use crate::detect::application::{Application, ApplicationKind};

/// The kinds of applications that list what they apply.
const KINDS: &[(&str, &str, ApplicationKind)] = &[
    ("argoproj.io", "Application", ApplicationKind::ArgoCd),
    ("helm.toolkit.fluxcd.io", "HelmRelease", ApplicationKind::HelmRelease),
    ("kustomize.toolkit.fluxcd.io", "Kustomization", ApplicationKind::Kustomization),
];

/// Returns the findings.
pub(super) fn find(snapshot: &Snapshot) -> Vec<Finding> {
    let mut found = objects(snapshot);
    found.extend(releases(snapshot));
    found
}

/// An application, and the object that stands for it.
#[derive(Clone)]
struct Listing<'s> {
    application: Application,
    object: &'s Object,
}

/// Two applications list the same objects. Only if both write by themselves, they fight; otherwise the one takes the
/// object over at most once for each commit.
fn objects(snapshot: &Snapshot) -> Vec<Finding> {
    let mut by_object: BTreeMap<ObjectId, Vec<Listing<'_>>> = BTreeMap::new();
    for (group, kind, application) in KINDS {
        // Another cluster's objects have the same names.
        let is_here = |object: &&Object| object.wanted()["spec"]["kubeConfig"].is_null();
        for object in snapshot.of_kind(group, kind).filter(is_here) {
            let id = &object.id;
            let application =
                Application { kind: *application, namespace: id.namespace.clone(), name: id.name.clone() };
            let mut ids = gitops::inventory(object);
            ids.sort();
            ids.dedup();
            for id in ids {
                by_object.entry(id).or_default().push(Listing { application: application.clone(), object });
            }
        }
    }
    // One finding for all objects that the same applications share.
    let mut by_applications: BTreeMap<Vec<ObjectId>, (Vec<Listing<'_>>, Vec<ObjectId>)> = BTreeMap::new();
    for (id, mut listings) in by_object {
        let object = snapshot.get(&id).cloned().unwrap_or(Object { id: id.clone(), live: None, manifest: None });
        let write = Write { object: &object, path: None, opponents: &[] };
        listings.retain(|listing| {
            matches!(gitops::repeats(snapshot, &listing.application, write), Some(Repeats::ByItself(_)))
        });
        if listings.len() > 1 {
            let key = listings.iter().map(|listing| listing.object.id.clone()).collect();
            by_applications.entry(key).or_insert_with(|| (listings, Vec::new())).1.push(id);
        }
    }
    by_applications.into_values().filter_map(|(listings, ids)| shared(snapshot, &listings, ids)).collect()
}

fn shared(snapshot: &Snapshot, listings: &[Listing<'_>], ids: Vec<ObjectId>) -> Option<Finding> {
    let mut ids = ids.into_iter();
    let id = ids.next()?;
    let object = snapshot.get(&id).cloned().unwrap_or(Object { id: id.clone(), live: None, manifest: None });
    let actors: Vec<(String, Role)> = listings
        .iter()
        .map(|Listing { application, .. }| {
            let tool = tool_actor(application.kind).split(' ').next().unwrap_or_default();
            let separator = if application.kind == ApplicationKind::ArgoCd { '_' } else { '/' };
            let Application { kind, namespace, name } = application;
            (format!("{tool} via {} {namespace}{separator}{name}", kind.noun()), role_of(*kind))
        })
        .collect();
    let applications: Vec<Application> = listings.iter().map(|listing| listing.application.clone()).collect();
    let names: Vec<String> = applications.iter().map(title).collect();
    Some(Finding {
        rule: "two_owners",
        certainty: Certainty::Bound,
        object: id,
        more_objects: ids.collect(),
        fields: vec![super::ALL_FIELDS.to_owned()],
        contenders: names.iter().map(|name| Contender { name: name.clone(), does: "applies it".to_owned() }).collect(),
        evidence: names.iter().map(|name| format!("the status of {name} lists it")).collect(),
        when: "each time one of them reconciles, for all fields that differ, and for the marks of the tool".to_owned(),
        advice: format!("remove it from the manifests of all but one of {}", names.join(" and ")),
        remedies: remedies::between(snapshot, &object, &actors, applications),
        involved: listings.iter().map(|listing| listing.object.id.clone()).chain([object.id.clone()]).collect(),
    })
}

/// Two HelmReleases manage one release.
fn releases(snapshot: &Snapshot) -> Vec<Finding> {
    let mut by_release: BTreeMap<(String, String), Vec<&Object>> = BTreeMap::new();
    for object in snapshot.of_kind("helm.toolkit.fluxcd.io", "HelmRelease") {
        if object.wanted()["spec"]["kubeConfig"].is_null() {
            by_release.entry(release_of(object)).or_default().push(object);
        }
    }
    let of = |((namespace, name), objects): ((String, String), Vec<&Object>)| {
        let first = *objects.first().filter(|_| objects.len() > 1)?;
        let names: Vec<String> = objects.iter().map(|object| object.id.to_string()).collect();
        let is_suspended = |object: &&Object| object.wanted()["spec"]["suspend"] == true;
        let is_bound = objects.iter().filter(|object| !is_suspended(object)).count() > 1;
        Some(Finding {
            rule: "two_owners",
            certainty: if is_bound { Certainty::Bound } else { Certainty::Possible },
            object: first.id.clone(),
            more_objects: objects[1..].iter().map(|object| object.id.clone()).collect(),
            fields: vec!["(release)".to_owned()],
            contenders: names
                .iter()
                .map(|name| Contender {
                    name: name.clone(),
                    does: "upgrades it to its own chart and values".to_owned(),
                })
                .collect(),
            evidence: vec![format!("{} manage the Helm release {namespace}/{name}", names.join(" and "))],
            when: "each time one of them reconciles".to_owned(),
            advice: format!("set another spec.releaseName in all but one of {}", names.join(" and ")),
            remedies: Vec::new(),
            involved: objects.iter().map(|object| object.id.clone()).collect(),
        })
    };
    by_release.into_iter().filter_map(of).collect()
}

/// Returns the namespace and the name of the Helm release that a HelmRelease manages.
fn release_of(object: &Object) -> (String, String) {
    let spec = &object.wanted()["spec"];
    let text = |key: &str| spec[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let namespace = text("storageNamespace").unwrap_or_else(|| object.id.namespace.clone());
    let prefix = spec["targetNamespace"].as_str().map(|target| format!("{target}-")).unwrap_or_default();
    let name = text("releaseName").unwrap_or_else(|| format!("{prefix}{}", object.id.name));
    (namespace, name)
}
