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

/// The marks of applications: the kind, and the paths of the name and of the namespace. For the sources, see
/// [`super::instance`].
const MARKS: &[(ApplicationKind, &str, &str)] = &[
    (
        ApplicationKind::Kustomization,
        "metadata.labels['kustomize.toolkit.fluxcd.io/name']",
        "metadata.labels['kustomize.toolkit.fluxcd.io/namespace']",
    ),
    (
        ApplicationKind::HelmRelease,
        "metadata.labels['helm.toolkit.fluxcd.io/name']",
        "metadata.labels['helm.toolkit.fluxcd.io/namespace']",
    ),
    (ApplicationKind::ArgoCd, "metadata.annotations['argocd.argoproj.io/tracking-id']", ""),
    (ApplicationKind::ArgoCd, "metadata.labels['argocd.argoproj.io/instance']", ""),
    (
        ApplicationKind::Helm,
        "metadata.annotations['meta.helm.sh/release-name']",
        "metadata.annotations['meta.helm.sh/release-namespace']",
    ),
];

/// Returns the applications that an object with these fields is marked with.
pub fn applications(fields: &Fields) -> Vec<Application> {
    let text = |path: &str| serde_json::from_str::<String>(fields.get(path)?.text()?).ok();
    let of = |(kind, name, namespace): &(ApplicationKind, &str, &str)| {
        let name = text(name).filter(|name| !name.is_empty())?;
        // Argo CD's tracking id also contains the object: `web:apps/Deployment:shop/web`. An application in another
        // namespace than Argo CD's own is `team_web`.
        let name = name.split_once(':').map_or(name.as_str(), |(application, _)| application);
        let (namespace, name) = match name.split_once('_').filter(|_| *kind == ApplicationKind::ArgoCd) {
            Some((namespace, name)) => (namespace.to_owned(), name),
            None => (text(namespace).unwrap_or_default(), name),
        };
        Some(Application { kind: *kind, namespace, name: name.to_owned() })
    };
    MARKS.iter().filter_map(of).collect()
}
