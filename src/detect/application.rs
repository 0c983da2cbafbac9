//! The applications of GitOps tools and Helm that an object belongs to, from its labels and annotations.

use super::fields::Fields;

/// An application of a GitOps tool, or a release of Helm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// What it is.
    pub kind: ApplicationKind,
    /// Its namespace; empty if it is that of the tool, which the object does not show.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// What an application is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ApplicationKind {
    /// An Application of Argo CD.
    ArgoCd,
    /// A Kustomization of Flux.
    Kustomization,
    /// A HelmRelease of Flux.
    HelmRelease,
    /// A release of Helm.
    Helm,
}

/// A label or annotation by which a tool marks the application of an object, and one with the application's namespace.
pub(super) struct Mark {
    /// What it marks, if remedies and pauses know it.
    kind: Option<ApplicationKind>,
    /// `labels` or `annotations`.
    pub(super) at: &'static str,
    pub(super) name: &'static str,
    pub(super) namespace: &'static str,
    /// The tool's word for its applications.
    pub(super) noun: &'static str,
}

/// Sources: Flux (`fluxcd/pkg/ssa`), Argo CD (`common/common.go`), Helm (`pkg/action/validate.go`), Rancher's wrangler
/// (`pkg/apply`), Config Sync (`pkg/metadata`), kapp (`pkg/kapp`). `app.kubernetes.io/instance`, which Argo CD used until
/// version 3, is left out, because Helm charts set it too.
pub(super) const MARKS: &[Mark] = &[
    Mark {
        kind: Some(ApplicationKind::Kustomization),
        at: "labels",
        name: "kustomize.toolkit.fluxcd.io/name",
        namespace: "kustomize.toolkit.fluxcd.io/namespace",
        noun: "Kustomization",
    },
    Mark {
        kind: Some(ApplicationKind::HelmRelease),
        at: "labels",
        name: "helm.toolkit.fluxcd.io/name",
        namespace: "helm.toolkit.fluxcd.io/namespace",
        noun: "HelmRelease",
    },
    Mark {
        kind: Some(ApplicationKind::ArgoCd),
        at: "annotations",
        name: "argocd.argoproj.io/tracking-id",
        namespace: "",
        noun: "Application",
    },
    Mark {
        kind: Some(ApplicationKind::ArgoCd),
        at: "labels",
        name: "argocd.argoproj.io/instance",
        namespace: "",
        noun: "Application",
    },
    Mark {
        kind: Some(ApplicationKind::Helm),
        at: "annotations",
        name: "meta.helm.sh/release-name",
        namespace: "meta.helm.sh/release-namespace",
        noun: "Helm release",
    },
    Mark { kind: None, at: "annotations", name: "objectset.rio.cattle.io/id", namespace: "", noun: "object set" },
    Mark { kind: None, at: "annotations", name: "configsync.gke.io/manager", namespace: "", noun: "sync" },
    Mark { kind: None, at: "labels", name: "kapp.k14s.io/app", namespace: "", noun: "kapp app" },
];

/// Returns the name of an application from the value of its mark. Argo CD's tracking id also contains the object:
/// `web:apps/Deployment:shop/web`.
pub(super) fn name_in(value: &str) -> &str {
    value.split_once(':').map_or(value, |(application, _)| application)
}

/// Returns the applications that an object with these fields is marked with.
pub(crate) fn applications(fields: &Fields) -> Vec<Application> {
    marked(|at, key| {
        let path = format!("metadata.{at}['{key}']");
        serde_json::from_str(fields.get(&path)?.text()?).ok()
    })
}

/// Returns the applications that an object is marked with. `text` returns a label or an annotation: `labels` or
/// `annotations`, and the key.
pub(crate) fn marked(text: impl Fn(&str, &str) -> Option<String>) -> Vec<Application> {
    let of = |mark: &Mark| {
        // No name begins with a dash; a command would take it for a flag.
        let name = text(mark.at, mark.name).filter(|name| !name.is_empty() && !name.starts_with('-'))?;
        let namespace = text(mark.at, mark.namespace).unwrap_or_default();
        Some(Application::named(mark.kind?, name_in(&name), &namespace))
    };
    MARKS.iter().filter_map(of).collect()
}

// === impl Application ===

impl Application {
    /// Returns the application that a tool calls by this name. Argo CD calls one in another namespace than its own
    /// `team_web`, where no name contains `_`; in this case, `namespace` is not used.
    pub fn named(kind: ApplicationKind, name: &str, namespace: &str) -> Application {
        let separator = match kind {
            ApplicationKind::ArgoCd => '_',
            ApplicationKind::Kustomization | ApplicationKind::HelmRelease | ApplicationKind::Helm => '/',
        };
        let (namespace, name) = name.split_once(separator).unwrap_or((namespace, name));
        Application { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

// === impl ApplicationKind ===

impl ApplicationKind {
    /// Returns the tool's word for it.
    pub fn noun(self) -> &'static str {
        MARKS.iter().find(|mark| mark.kind == Some(self)).map_or("application", |mark| mark.noun)
    }
}
