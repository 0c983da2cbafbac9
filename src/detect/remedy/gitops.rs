//! Recipes for tools that keep objects at the state in a repository, or apply them from a chart or module.
//!
//! Sources: Argo CD (`docs/user-guide/diffing.md`, `sync-options.md`), Flux (`kustomize-controller`, `docs/spec/v1`;
//! `helm-controller`, `docs/spec/v2`), Terraform's provider for Kubernetes.

use serde_json::{Value, json};

use super::kubectl::Target;
use super::{ContestedField, Facts, Location, Party, Remedy, RemedyKind, Setting, locations, program};
use crate::detect::actor_class::Role;
use crate::detect::application::{Application, ApplicationKind};
use crate::detect::cause::Cause;
use crate::detect::instance::service_account;
use crate::util::shell::quoted;

/// What recipes need to know of a kind of application.
struct Tool {
    role: Role,
    /// The end of the name of its account, if other tools of the same role have other accounts.
    account: &'static str,
    /// The resource; empty if it is not an object of the cluster.
    resource: &'static str,
    /// A jsonpath expression that prints where the manifests come from.
    source: &'static str,
}

const ARGO_CD: Tool = Tool {
    role: Role::ArgoCd,
    account: "",
    resource: "applications.argoproj.io",
    source: r#"{.spec.source}{.spec.sources}{"\n"}"#,
};
const KUSTOMIZATION: Tool = Tool {
    role: Role::Flux,
    account: "kustomize-controller",
    resource: "kustomizations.kustomize.toolkit.fluxcd.io",
    source: r#"{.spec.sourceRef}{" path "}{.spec.path}{"\n"}"#,
};
const HELM_RELEASE: Tool = Tool {
    role: Role::Flux,
    account: "helm-controller",
    resource: "helmreleases.helm.toolkit.fluxcd.io",
    source: r#"{.spec.chart}{.spec.chartRef}{" values "}{.spec.values}{"\n"}"#,
};
const HELM: Tool = Tool { role: Role::Helm, account: "", resource: "", source: "" };

/// All kinds of applications, in the order of the remedies.
const KINDS: [ApplicationKind; 4] =
    [ApplicationKind::ArgoCd, ApplicationKind::Kustomization, ApplicationKind::HelmRelease, ApplicationKind::Helm];

/// Make Argo CD ignore the fields.
pub(super) fn argo_cd(facts: &Facts<'_>) -> Vec<Remedy> {
    facts.of_kind(ApplicationKind::ArgoCd).iter().filter_map(|found| ignore_in_argo_cd(facts, found)).collect()
}

fn ignore_in_argo_cd(facts: &Facts<'_>, (party, application): &(Party<'_>, Application)) -> Option<Remedy> {
    let fields = facts.fields_of(party.actor);
    let (pointers, expressions) = pointers_and_expressions(&locations(&fields)).filter(|_| facts.is_kind_known())?;
    let mut ignore = json!({"group": facts.group, "kind": facts.kind, "name": facts.name});
    if !facts.namespace.is_empty() {
        ignore["namespace"] = facts.namespace.into();
    }
    if !pointers.is_empty() {
        ignore["jsonPointers"] = pointers.into();
    }
    if !expressions.is_empty() {
        ignore["jqPathExpressions"] = expressions.into();
    }
    let names = facts.field_names(party.actor);
    let target = target(application);
    let kept = "(.spec.ignoreDifferences // []) - [$ignore]";
    let respect = "(.spec.syncPolicy.syncOptions // []) - [$respect] + [$respect]";
    Some(Remedy {
        kind: RemedyKind::Change,
        title: format!("make Argo CD ignore {names} of this object (needs jq)"),
        command: facts.edit(
            target,
            &[("ignore", &ignore), ("respect", &"RespectIgnoreDifferences=true".into())],
            &format!("{{spec: {{ignoreDifferences: ({kept} + [$ignore]), syncPolicy: {{syncOptions: ({respect})}}}}}}"),
        ),
        changes: format!(
            "the Application {} ignores them when it compares and syncs; its other settings are kept",
            application.name
        ),
        tradeoff: "their values in the repository have no effect, and RespectIgnoreDifferences also applies to entries \
                   that were there before; undoing it keeps that option. If the Application is itself in a repository, or \
                   made by an ApplicationSet, make the same change there"
            .into(),
        undo: Some(facts.edit(target, &[("ignore", &ignore)], &format!("{{spec: {{ignoreDifferences: ({kept})}}}}"))),
    })
}

/// Make Flux ignore the fields or, if that is not possible, the object.
pub(super) fn flux(facts: &Facts<'_>) -> Vec<Remedy> {
    let releases = facts.of_kind(ApplicationKind::HelmRelease);
    let kustomizations = facts.of_kind(ApplicationKind::Kustomization);
    let mut found: Vec<Remedy> =
        kustomizations.iter().filter_map(|found| ignore_in_kustomization(facts, found)).collect();
    found.extend(releases.iter().filter_map(|found| ignore_in_helm_release(facts, found)));
    // An object that is deleted repeatedly would lose the annotation.
    let is_kustomize = |party: &Party<'_>| party.role == Role::Flux && party.program().ends_with(KUSTOMIZATION.account);
    let is_party = facts.parties.iter().any(is_kustomize);
    if !is_party || facts.cause == Cause::RecreateWar {
        return found;
    }
    let annotation = "kustomize.toolkit.fluxcd.io/reconcile";
    found.push(Remedy {
        kind: RemedyKind::Change,
        title: "make Flux ignore the whole object".into(),
        command: format!("{} {annotation}=disabled --overwrite", facts.kubectl("annotate")),
        changes: "Flux no longer applies this object, and still applies all others".into(),
        tradeoff:
            "the repository has no effect on this object until the annotation is removed. Flux forgets an object \
                   that is removed from the repository meanwhile, and does not delete it"
                .into(),
        undo: Some(format!("{} {annotation}-", facts.kubectl("annotate"))),
    });
    found
}

fn ignore_in_kustomization(facts: &Facts<'_>, (party, kustomization): &(Party<'_>, Application)) -> Option<Remedy> {
    let fields = facts.fields_of(party.actor);
    let is_item = |field: &&&ContestedField<'_>| Location::of(field.path).pointer().is_none();
    let order = match fields.iter().find(is_item) {
        Some(_) => " If the order of the list changes, the setting means another item.",
        None => "",
    };
    let pointer = |field: &&ContestedField<'_>| Location::of(field.path).pointer().or_else(|| field.pointer.clone());
    let paths: Option<Vec<String>> = fields.iter().map(pointer).collect();
    let mut paths = paths.filter(|paths| !paths.is_empty())?;
    let is_one_of_several = party.actor.contains(" via ");
    if is_one_of_several {
        // Kustomizations that apply one object also fight over the labels that say whose it is.
        let label = |name: &str| format!("/metadata/labels/kustomize.toolkit.fluxcd.io~1{name}");
        paths.extend(["name", "namespace"].map(label));
        paths.sort();
        paths.dedup();
    }
    let ignore = json!({"paths": paths, "target": target_of_flux(facts)?});
    let target = target(kustomization);
    let patch = |added: &str| format!("{{spec: {{ignore: ((.spec.ignore // []) - [$ignore]{added})}}}}");
    let names = facts.field_names(party.actor);
    let whose = if is_one_of_several { format!(" in the Kustomization {}", kustomization.name) } else { String::new() };
    Some(Remedy {
        kind: RemedyKind::Change,
        title: format!("make Flux ignore {names} of this object{whose} (Flux 2.9 or later, needs jq)"),
        command: facts.edit(target, &[("ignore", &ignore)], &patch(" + [$ignore]")),
        changes: format!(
            "the Kustomization {} keeps the values that it finds, and still applies everything else; its other \
             settings are kept",
            kustomization.name
        ),
        tradeoff: format!(
            "their values in the repository have no effect.{order} An older Flux drops the setting. If the Kustomization \
             is itself in a repository, make the same change there"
        ),
        undo: Some(facts.edit(target, &[("ignore", &ignore)], &patch(""))),
    })
}

/// Returns the object as a target of Flux, all parts of which are regular expressions. Returns `None` if its kind is not
/// known.
fn target_of_flux(facts: &Facts<'_>) -> Option<Value> {
    let mut target = json!({"group": escaped(facts.group), "kind": escaped(facts.kind), "name": escaped(facts.name)});
    if !facts.namespace.is_empty() {
        target["namespace"] = escaped(facts.namespace).into();
    }
    facts.is_kind_known().then_some(target)
}

/// Escapes a name for a regular expression.
fn escaped(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        if c.is_ascii_punctuation() && !"-_:/".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

fn ignore_in_helm_release(facts: &Facts<'_>, (party, release): &(Party<'_>, Application)) -> Option<Remedy> {
    let locations = locations(&facts.fields_of(party.actor));
    let paths: Option<Vec<String>> = locations.iter().map(Location::pointer).collect();
    let paths = paths.filter(|paths| !paths.is_empty())?;
    let ignore = json!({"paths": paths, "target": target_of_flux(facts)?});
    let target = target(release);
    let patch = |added: &str| {
        format!("{{spec: {{driftDetection: {{ignore: ((.spec.driftDetection.ignore // []) - [$ignore]{added})}}}}}}")
    };
    Some(Remedy {
        kind: RemedyKind::Change,
        title: format!("make Flux ignore drift of {} (needs jq)", facts.field_names(party.actor)),
        command: facts.edit(target, &[("ignore", &ignore)], &patch(" + [$ignore]")),
        changes: format!("the HelmRelease {} no longer corrects them; its other settings are kept", release.name),
        tradeoff: "an upgrade of the release still writes the values of the chart. If the HelmRelease is itself in a \
                   repository, make the same change there"
            .into(),
        undo: Some(facts.edit(target, &[("ignore", &ignore)], &patch(""))),
    })
}

/// Suspend an application of Flux, which applies nothing else either.
pub(super) fn suspend(facts: &Facts<'_>) -> Vec<Remedy> {
    let suspended = |kind| {
        facts.of_kind(kind).into_iter().map(|(_, application)| {
            let patch = |suspend: bool| {
                let target = target(&application);
                let patch = json!({"spec": {"suspend": suspend}}).to_string();
                format!(
                    "{} --type=merge --field-manager=editwar -p {}",
                    facts.kubectl_on("patch", target),
                    quoted(&patch)
                )
            };
            let title = format!("{} {}", application.kind.noun(), application.name);
            Remedy {
                kind: RemedyKind::Change,
                title: format!("suspend the whole {title}"),
                command: patch(true),
                changes: format!("Flux applies nothing of the {title}, neither this object nor others"),
                tradeoff: "the repository has no effect on any of its objects".into(),
                undo: Some(patch(false)),
            }
        })
    };
    suspended(ApplicationKind::Kustomization).chain(suspended(ApplicationKind::HelmRelease)).collect()
}

/// Change the repository, chart or module.
pub(super) fn source(facts: &Facts<'_>) -> Vec<Remedy> {
    let applications: Vec<(Party<'_>, Application)> = KINDS.into_iter().flat_map(|kind| facts.of_kind(kind)).collect();
    let of_application = |(party, application): &(Party<'_>, Application)| {
        let is_one_of_several = applications.len() > 1 && party.actor.contains(" via ");
        Remedy::show(
            removal(facts, party, application, is_one_of_several),
            show_source(facts, application),
            how_to_remove(facts, application.kind, is_one_of_several).to_owned(),
        )
    };
    let is_known = |party: &&Party<'_>| applications.iter().any(|(known, _)| known.actor == party.actor);
    let others = facts.parties.iter().filter(|party| party.role.applies() && !is_known(party));
    let of_other =
        |party| Remedy { title: removal_without_application(facts, party), ..program::owners_of_fields(facts) };
    applications.iter().map(of_application).chain(others.map(of_other)).collect()
}

/// Returns what to remove from which source.
fn removal(facts: &Facts<'_>, party: &Party<'_>, application: &Application, is_one_of_several: bool) -> String {
    let noun = application.kind.noun();
    if is_one_of_several {
        return format!("remove {} from the {} {}, or from its rival", facts.title(), noun, application.name);
    }
    match facts.setting(party.actor, noun, &application.name) {
        Some(Setting { kind, name, path, .. }) => {
            format!("remove {path} from the {kind} {name}, which sets {}", facts.field_names(party.actor))
        }
        None => leave_out(facts, party, &format!("the manifests of the {} {}", noun, application.name)),
    }
}

/// Returns the command that prints where the manifests of an application are, or the values of a release of Helm.
fn show_source(facts: &Facts<'_>, application: &Application) -> String {
    if application.kind == ApplicationKind::Helm {
        let context = facts.context.map(|context| format!(" --kube-context {}", quoted(context)));
        return format!(
            "helm{} get values {} -n {} --all",
            context.unwrap_or_default(),
            quoted(&application.name),
            quoted(&application.namespace)
        );
    }
    let source = tool(application.kind).source;
    format!("{} -o jsonpath={}", facts.kubectl_on("get", target(application)), quoted(source))
}

/// Returns what to do with the output of [`show_source`].
fn how_to_remove(facts: &Facts<'_>, kind: ApplicationKind, is_one_of_several: bool) -> &'static str {
    match kind {
        ApplicationKind::Helm | ApplicationKind::HelmRelease => "find the value that sets it, and remove it",
        ApplicationKind::Kustomization if is_one_of_several => {
            "the output says where the manifests are. Suspend this Kustomization, wait until the other one has put \
             its labels on the object, remove the object from the manifests, and resume it. Otherwise Flux may \
             delete the object"
        }
        ApplicationKind::Kustomization if facts.cause != Cause::RecreateWar => {
            "the output says where the manifests are. If Flux wrote a field last and then leaves it out, the API \
             server sets its default, such as 1 replica, until the other party writes it again"
        }
        _ => "the output says where the manifests are",
    }
}

/// Returns what to remove from a source that no application names.
fn removal_without_application(facts: &Facts<'_>, party: &Party<'_>) -> String {
    if party.role == Role::Terraform {
        let fields = locations(&facts.fields_of(party.actor));
        let names: Vec<String> = fields.iter().filter_map(Location::terraform).collect();
        if !names.is_empty() {
            return format!("add `ignore_changes = [{}]` to its lifecycle block in Terraform", names.join(", "));
        }
    }
    leave_out(facts, party, &format!("what {} applies", party.actor))
}

/// Returns what to leave out of manifests.
fn leave_out(facts: &Facts<'_>, party: &Party<'_>, manifests: &str) -> String {
    let rivals = facts.rivals(party.actor);
    match (facts.cause, facts.fields_of(party.actor).as_slice()) {
        (Cause::RecreateWar, _) | (_, []) => {
            format!("if {rivals} is right, remove {} from {manifests}, or its expiry", facts.title())
        }
        (Cause::Normalisation, _) => {
            format!("leave {} out of {manifests}, or write it as it is stored", facts.field_names(party.actor))
        }
        _ => format!("leave {} out of {manifests}, so that only {rivals} sets it", facts.field_names(party.actor)),
    }
}

/// Returns the JSON Pointers of fields and, for items of lists, the jq expressions. Returns `None` if there are no
/// fields, or if one is not a field.
fn pointers_and_expressions(locations: &[Location]) -> Option<(Vec<String>, Vec<String>)> {
    let (mut pointers, mut expressions) = (Vec::new(), Vec::new());
    for location in locations {
        match location.pointer() {
            Some(pointer) => pointers.push(pointer),
            None => expressions.push(location.jq()?),
        }
    }
    (!locations.is_empty()).then_some((pointers, expressions))
}

/// Returns the object of an application.
fn target(application: &Application) -> Target<'_> {
    let Application { kind, namespace, name, .. } = application;
    Target { resource: tool(*kind).resource, namespace, name }
}

fn tool(kind: ApplicationKind) -> &'static Tool {
    match kind {
        ApplicationKind::ArgoCd => &ARGO_CD,
        ApplicationKind::Kustomization => &KUSTOMIZATION,
        ApplicationKind::HelmRelease => &HELM_RELEASE,
        ApplicationKind::Helm => &HELM,
    }
}

// === impl Facts ===

impl<'a> Facts<'a> {
    /// Returns the parties that apply for an application of this kind, each with its application.
    fn of_kind(&self, kind: ApplicationKind) -> Vec<(Party<'a>, Application)> {
        let tool = tool(kind);
        let is_tool = |party: &&Party<'_>| party.role == tool.role && party.program().ends_with(tool.account);
        let found = self.parties.iter().filter(is_tool).filter_map(|party| {
            // Only the controller itself runs where its applications are by default.
            let controller = service_account(party.actor).filter(|(_, name)| name.ends_with("-controller"));
            let own = controller.map_or("", |(namespace, _)| namespace);
            let application = match party.actor.split_once(" via ") {
                Some((_, instance)) => Application::named(kind, instance.strip_prefix(kind.noun())?.trim_start(), own),
                None => self.applications.iter().find(|application| application.kind == kind)?.clone(),
            };
            let namespace = if application.namespace.is_empty() { own.to_owned() } else { application.namespace };
            if namespace.is_empty() || application.name.starts_with('-') {
                return None;
            }
            Some((*party, Application { namespace, ..application }))
        });
        found.collect()
    }
}
