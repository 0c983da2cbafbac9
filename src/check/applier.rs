//! Who applies an object, which of its fields, and when again.
//!
//! Three things show that somebody applies a field: an entry of `managedFields` with the operation `Apply`, the manifest
//! that client-side appliers keep in an annotation, and a manifest given on the command line. Ownership by an `Update` is
//! weaker, because it includes the fields that the API server has set to their defaults.

use serde_json::Value;

use super::field::Path;
use super::finding::{Certainty, ObjectId};
use super::gitops::{self, Repeats, Write};
use super::snapshot::{LAST_APPLIED, Object, Snapshot};
use crate::detect::actor_class::{ActorClassifier, Role};
use crate::detect::application::{Application, ApplicationKind, marked};

/// Where it is seen what an applier applies.
#[derive(Clone, Debug)]
enum Source<'s> {
    /// Owned fields. If they may be defaults, only a value other than the default shows that the manifest has it.
    Owned { fields: &'s Value, may_be_defaults: bool },
    /// The manifest.
    Manifest(Value),
}

/// Somebody who applies an object.
#[derive(Clone, Debug)]
pub(super) struct Applier<'s> {
    /// The name for a sentence: `Kustomization flux-system/shop`.
    pub name: String,
    /// The field manager with its operation.
    pub actor: String,
    /// Its role.
    pub role: Role,
    /// The application for which it applies the object.
    pub application: Option<Application>,
    /// How it is known.
    pub evidence: String,
    source: Source<'s>,
}

/// A field that somebody applies.
#[derive(Clone, Debug)]
pub(super) struct Claim<'s> {
    /// Who applies it.
    pub applier: Applier<'s>,
    /// The value, if it is known.
    pub value: Option<Value>,
    /// When it is applied again.
    pub repeats: Repeats,
}

// === impl Applier ===

impl Applier<'_> {
    /// Returns the value that is applied to a field, or `None` if it is not applied. The value may not be known.
    fn value(&self, object: &Object, path: &Path, default: Option<&Value>) -> Option<Option<Value>> {
        match &self.source {
            Source::Manifest(manifest) => path.value(manifest).map(|value| Some(value.clone())),
            Source::Owned { fields, may_be_defaults } => {
                let value = object.live.as_ref().and_then(|live| path.value(live));
                let is_default = *may_be_defaults && (value.is_none() || value == default);
                (path.is_owned(fields) && !is_default).then(|| value.cloned())
            }
        }
    }

    /// Whether it is a tool that applies what a repository or a chart contains.
    pub(super) fn is_tool(&self) -> bool {
        self.application.is_some() || self.role.is_gitops()
    }
}

// === impl Claim ===

impl Claim<'_> {
    /// Returns how certain it is that a fight with a program will happen.
    pub(super) fn certainty(&self) -> Certainty {
        match self.repeats {
            Repeats::ByItself(_) => Certainty::Bound,
            Repeats::When(_) => Certainty::Possible,
        }
    }

    /// Returns when the field is written again.
    pub(super) fn when(&self) -> String {
        match &self.repeats {
            Repeats::ByItself(when) | Repeats::When(when) => when.clone(),
        }
    }
}

/// Returns who applies a field and would write it again, the most certain first. `default` is the value that the API
/// server sets if nobody does, and `opponents` are the field managers of the other side.
pub(super) fn claims<'s>(
    snapshot: &'s Snapshot,
    object: &'s Object,
    path: &Path,
    default: Option<&Value>,
    opponents: &[&str],
) -> Vec<Claim<'s>> {
    let write = Write { object, path: Some(path), opponents };
    let claim = |applier: Applier<'s>| {
        let value = applier.value(object, path, default)?;
        Some(Claim { repeats: repeats(snapshot, &applier, write)?, value, applier })
    };
    // Some controllers apply too, such as the one that aggregates ClusterRoles.
    let is_opponent =
        |applier: &Applier<'s>| applier.actor.split_once(" (").is_some_and(|(manager, _)| opponents.contains(&manager));
    let appliers = appliers(snapshot, object).into_iter().filter(|applier| !is_opponent(applier));
    let mut found: Vec<Claim<'s>> = appliers.filter_map(claim).collect();
    found.sort_by_key(|claim| std::cmp::Reverse(claim.certainty()));
    found.dedup_by(|b, a| b.applier.name == a.applier.name);
    found
}

/// Returns when an applier writes again, or `None` if it leaves the field or the object alone.
pub(super) fn repeats(snapshot: &Snapshot, applier: &Applier<'_>, write: Write<'_>) -> Option<Repeats> {
    match &applier.application {
        Some(application) => gitops::repeats(snapshot, application, write),
        None if applier.role.is_gitops() => Some(Repeats::ByItself(format!("whenever {} reconciles", applier.actor))),
        None => Some(Repeats::When(format!("each time {} is applied", applied_thing(applier, write.object)))),
    }
}

/// Returns what is applied again, for a sentence.
fn applied_thing(applier: &Applier<'_>, object: &Object) -> String {
    match &object.manifest {
        Some(manifest) => manifest.source.clone(),
        None => format!("the manifest of {}", applier.name),
    }
}

/// Returns who applies an object. With a manifest for it, that is who applies the manifest.
pub(super) fn appliers<'s>(snapshot: &'s Snapshot, object: &'s Object) -> Vec<Applier<'s>> {
    match &object.manifest {
        Some(manifest) => vec![of_manifest(snapshot, object, &manifest.source, manifest.body.clone())],
        None => of_last_applied(snapshot, object).into_iter().chain(of_managed(snapshot, object)).collect(),
    }
}

/// The object may already be applied by a tool, which then applies the manifest.
fn of_manifest<'s>(snapshot: &Snapshot, object: &Object, source: &str, body: Value) -> Applier<'s> {
    let application = applications(snapshot, object).into_iter().next();
    let (name, actor, role) = match &application {
        Some(application) => (title(application), tool_actor(application.kind).to_owned(), role_of(application.kind)),
        None => (format!("the manifest {source}"), source.to_owned(), Role::Ci),
    };
    let evidence = format!("{source} contains it");
    Applier { name, actor, role, application, evidence, source: Source::Manifest(body) }
}

fn of_last_applied<'s>(snapshot: &Snapshot, object: &Object) -> Option<Applier<'s>> {
    let manifest = object.last_applied()?;
    let annotation = Path::keys(&["metadata", "annotations", LAST_APPLIED]);
    let manager = object.managed().find(|entry| annotation.is_owned(entry.fields)).map_or("kubectl", |e| e.manager);
    // A copy of the annotation of another object, as KEDA makes one, says nothing about this one.
    let is_own = manifest["kind"] == *object.id.kind && manifest["metadata"]["name"] == *object.id.name;
    let evidence = format!("the manifest that {manager} stored in the object contains it");
    is_own.then(|| of_manager(snapshot, object, manager, "Update", evidence, Source::Manifest(manifest))).flatten()
}

fn of_managed<'s>(snapshot: &Snapshot, object: &'s Object) -> Vec<Applier<'s>> {
    let of = |entry: super::snapshot::Managed<'s>| {
        let is_applier = match entry.operation {
            "Apply" => true,
            // Argo CD replaces some objects, and creates RBAC objects, without storing the manifest.
            _ => matches!(entry.manager, "helm" | "Helm" | "helm-controller") || entry.manager.starts_with("argocd-"),
        };
        if !is_applier || !entry.subresource.is_empty() {
            return None;
        }
        let evidence = format!("field manager {} ({}) owns it", entry.manager, entry.operation);
        let source = Source::Owned { fields: entry.fields, may_be_defaults: entry.operation != "Apply" };
        of_manager(snapshot, object, entry.manager, entry.operation, evidence, source)
    };
    object.managed().filter_map(of).collect()
}

/// Returns the applier behind a field manager, unless it is a controller that belongs to Kubernetes or is a contender.
fn of_manager<'s>(
    snapshot: &Snapshot,
    object: &Object,
    manager: &str,
    operation: &str,
    evidence: String,
    source: Source<'s>,
) -> Option<Applier<'s>> {
    let actor = format!("{manager} ({operation})");
    let role = ActorClassifier::built_in().classify(&actor, manager, "").role;
    let is_contender = matches!(
        role,
        Role::InTree
            | Role::Hpa
            | Role::Vpa
            | Role::Autoscaler
            | Role::Node
            | Role::Apiserver
            | Role::Policy
            | Role::CertManager
    );
    if is_contender || manager.contains("cainjector") {
        return None;
    }
    let kind = tool_of(manager);
    let application = applications(snapshot, object).into_iter().find(|application| Some(application.kind) == kind);
    let name = match &application {
        Some(application) => title(application),
        None if manager.starts_with("kubectl") => "kubectl apply".to_owned(),
        None => format!("field manager {manager}"),
    };
    Some(Applier { name, actor, role, application, evidence, source })
}

/// Returns the kind of application for which a field manager applies.
fn tool_of(manager: &str) -> Option<ApplicationKind> {
    match manager {
        "kustomize-controller" => Some(ApplicationKind::Kustomization),
        "helm-controller" => Some(ApplicationKind::HelmRelease),
        "helm" | "Helm" => Some(ApplicationKind::Helm),
        manager if manager.starts_with("argocd-") => Some(ApplicationKind::ArgoCd),
        _ => None,
    }
}

/// Returns the field manager of a tool.
pub(super) fn tool_actor(kind: ApplicationKind) -> &'static str {
    match kind {
        ApplicationKind::Kustomization => "kustomize-controller (Apply)",
        ApplicationKind::HelmRelease => "helm-controller (Update)",
        ApplicationKind::Helm => "helm (Update)",
        ApplicationKind::ArgoCd => "argocd-controller (Update)",
    }
}

/// Returns the role of a tool.
pub(super) fn role_of(kind: ApplicationKind) -> Role {
    match kind {
        ApplicationKind::Kustomization | ApplicationKind::HelmRelease => Role::Flux,
        ApplicationKind::Helm => Role::Helm,
        ApplicationKind::ArgoCd => Role::ArgoCd,
    }
}

/// Returns the applications that an object is marked with, with their namespaces as far as they are known.
pub(super) fn applications(snapshot: &Snapshot, object: &Object) -> Vec<Application> {
    let text = |at: &str, key: &str| {
        let value = if at == "labels" { object.label(key) } else { object.annotation(key) }?;
        // Controllers copy annotations to the objects that they create. The tracking id names the object.
        let is_own = key != "argocd.argoproj.io/tracking-id" || is_tracking_id_of(value, &object.id);
        is_own.then(|| value.to_owned())
    };
    let found = marked(text).into_iter().map(|application| {
        let known = gitops::object_of(snapshot, &application);
        let namespace = known.map_or(application.namespace, |known| known.id.namespace.clone());
        Application { namespace, ..application }
    });
    found.collect()
}

/// Whether a tracking id (`web:apps/Deployment:shop/web`) is that of an object.
fn is_tracking_id_of(id: &str, object: &ObjectId) -> bool {
    let mut parts = id.splitn(3, ':');
    let (Some(_), Some(kind), Some(name)) = (parts.next(), parts.next(), parts.next()) else { return true };
    kind.rsplit('/').next() == Some(&object.kind) && name.split_once('/').is_none_or(|(_, name)| name == object.name)
}

/// Returns an application for a sentence: `Kustomization flux-system/shop`.
pub(super) fn title(application: &Application) -> String {
    let noun = application.kind.noun();
    match application.namespace.as_str() {
        "" => format!("{noun} {}", application.name),
        namespace => format!("{noun} {namespace}/{}", application.name),
    }
}
