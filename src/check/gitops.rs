//! What GitOps tools do with the objects that they apply: how often, which fields they leave alone, and which objects they
//! list as theirs.
//!
//! Sources: Argo CD (`docs/user-guide/diffing.md`, `auto_sync.md`), Flux (`kustomize-controller`, `docs/spec/v1`;
//! `helm-controller`, `docs/spec/v2`).

use serde_json::Value;

use super::field::{Path, keys_of_jq};
use super::finding::ObjectId;
use super::snapshot::{Object, Snapshot};
use crate::detect::application::{Application, ApplicationKind};

/// When an applier writes again what it applies.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Repeats {
    /// When something happens: `each time the release is upgraded`.
    When(String),
    /// By itself: `every 30s`.
    ByItself(String),
}

/// What a tool may write: a field, unless it ignores it, and who else writes the field.
#[derive(Clone, Copy)]
pub(super) struct Write<'w> {
    /// The object.
    pub object: &'w Object,
    /// The field; `None` for the whole object.
    pub path: Option<&'w Path>,
    /// The field managers of the other side.
    pub opponents: &'w [&'w str],
}

/// The group and kind of the object that stands for an application.
fn kind_of(kind: ApplicationKind) -> Option<(&'static str, &'static str)> {
    match kind {
        ApplicationKind::ArgoCd => Some(("argoproj.io", "Application")),
        ApplicationKind::Kustomization => Some(("kustomize.toolkit.fluxcd.io", "Kustomization")),
        ApplicationKind::HelmRelease => Some(("helm.toolkit.fluxcd.io", "HelmRelease")),
        ApplicationKind::Helm => None,
    }
}

/// Returns the object of an application.
pub(super) fn object_of<'s>(snapshot: &'s Snapshot, application: &Application) -> Option<&'s Object> {
    let (group, kind) = kind_of(application.kind)?;
    snapshot.find(group, kind, &application.namespace, &application.name)
}

/// Returns when an application writes this again, or `None` if it leaves it alone.
pub(super) fn repeats(snapshot: &Snapshot, application: &Application, write: Write<'_>) -> Option<Repeats> {
    let found = object_of(snapshot, application).map(Object::wanted);
    match application.kind {
        ApplicationKind::Kustomization => of_kustomization(found, write),
        ApplicationKind::ArgoCd => of_argo_cd(snapshot, found, write),
        ApplicationKind::HelmRelease => of_helm_release(found, write),
        ApplicationKind::Helm => Some(Repeats::When("each time the release is upgraded".to_owned())),
    }
}

fn of_kustomization(found: Option<&Value>, write: Write<'_>) -> Option<Repeats> {
    let annotation = |name: &str| write.object.annotation(&format!("kustomize.toolkit.fluxcd.io/{name}"));
    if annotation("reconcile") == Some("disabled") {
        return None;
    }
    // On the live object alone, the annotation has no effect.
    let ssa = Path::keys(&["metadata", "annotations", "kustomize.toolkit.fluxcd.io/ssa"]);
    let is_in_repository = write.object.manifest.is_some()
        || write.object.managed().any(|entry| entry.manager == "kustomize-controller" && ssa.is_owned(entry.fields));
    if is_in_repository && matches!(annotation("ssa"), Some("IfNotPresent" | "Ignore")) && write.path.is_some() {
        return None;
    }
    let Some(kustomization) = found else {
        return Some(Repeats::When("at each interval of the Kustomization, which was not found".to_owned()));
    };
    let spec = &kustomization["spec"];
    if ignored_by_flux(&spec["ignore"], write) {
        return None;
    }
    Some(by_interval(spec, "the Kustomization"))
}

fn of_helm_release(found: Option<&Value>, write: Write<'_>) -> Option<Repeats> {
    let upgrade = || Repeats::When("each time the release is upgraded".to_owned());
    let Some(spec) = found.map(|release| &release["spec"]) else { return Some(upgrade()) };
    let detection = &spec["driftDetection"];
    if detection["mode"] != "enabled" || ignored_by_flux(&detection["ignore"], write) {
        return Some(upgrade());
    }
    Some(by_interval(spec, "the HelmRelease"))
}

fn by_interval(spec: &Value, noun: &str) -> Repeats {
    if spec["suspend"] == true {
        return Repeats::When(format!("as soon as {noun}, which is suspended now, is resumed"));
    }
    match spec["interval"].as_str() {
        Some(interval) => Repeats::ByItself(format!("every {interval}")),
        None => Repeats::ByItself(format!("at each interval of {noun}")),
    }
}

/// Whether rules of Flux, which have JSON Pointers and a target whose parts are regular expressions, cover a field.
fn ignored_by_flux(rules: &Value, write: Write<'_>) -> bool {
    let Some(path) = write.path else { return false };
    let id = &write.object.id;
    let matches = |pattern: &Value, text: &str| match pattern.as_str() {
        None | Some("") => true,
        Some(pattern) => {
            let plain = pattern.trim_start_matches('^').trim_end_matches('$').replace('\\', "");
            // An expression that is not a plain name may match: a rule that exists is trusted.
            plain == text || plain.contains(['*', '+', '?', '[', '(', '|'])
        }
    };
    let is_it = |rule: &Value| {
        let target = &rule["target"];
        let is_target = [("group", &id.group), ("kind", &id.kind), ("namespace", &id.namespace), ("name", &id.name)]
            .into_iter()
            .all(|(key, text)| matches(&target[key], text));
        is_target && pointers(&rule["paths"]).any(|keys| path.is_covered_by(&keys))
    };
    rules.as_array().is_some_and(|rules| rules.iter().any(is_it))
}

/// Returns the keys of JSON Pointers, without the indices of list items.
fn pointers(list: &Value) -> impl Iterator<Item = Vec<String>> {
    let texts = list.as_array().into_iter().flatten().filter_map(Value::as_str);
    texts.filter_map(|pointer| {
        let tokens = pointer.strip_prefix('/')?.split('/');
        let is_key = |token: &&str| *token != "-" && token.parse::<usize>().is_err();
        Some(tokens.filter(is_key).map(|token| token.replace("~1", "/").replace("~0", "~")).collect())
    })
}

fn of_argo_cd(snapshot: &Snapshot, found: Option<&Value>, write: Write<'_>) -> Option<Repeats> {
    let Some(application) = found else {
        return Some(Repeats::When("each time the Application syncs".to_owned()));
    };
    if application["metadata"]["annotations"]["argocd.argoproj.io/skip-reconcile"] == "true" {
        return None;
    }
    let spec = &application["spec"];
    let policy = &spec["syncPolicy"];
    if ignored_by_argo_cd(&spec["ignoreDifferences"], write) || ignored_by_settings(snapshot, write) {
        let options = policy["syncOptions"].as_array().into_iter().flatten();
        let is_respected = options.into_iter().any(|option| option == "RespectIgnoreDifferences=true");
        let when = "each time Argo CD syncs a new commit, because RespectIgnoreDifferences is not set";
        return (!is_respected).then(|| Repeats::When(when.to_owned()));
    }
    let automated = &policy["automated"];
    let is_automated = automated.is_object() && automated["enabled"] != false;
    Some(match (is_automated, automated["selfHeal"] == true) {
        (true, true) => Repeats::ByItself("whenever Argo CD sees the difference (selfHeal)".to_owned()),
        (true, false) => Repeats::When("each time Argo CD syncs a new commit".to_owned()),
        (false, _) => Repeats::When("each time somebody syncs the Application".to_owned()),
    })
}

/// Whether `ignoreDifferences` covers a field.
fn ignored_by_argo_cd(rules: &Value, write: Write<'_>) -> bool {
    let id = &write.object.id;
    let is_object = |rule: &Value| {
        let is = |key: &str, text: &str| matches!(rule[key].as_str(), Some(found) if found == text || found == "*");
        let is_or_any = |key: &str, text: &str| rule[key].as_str().is_none_or(str::is_empty) || is(key, text);
        let is_group = is("group", &id.group) || (rule["group"].is_null() && id.group.is_empty());
        is_group && is("kind", &id.kind) && is_or_any("namespace", &id.namespace) && is_or_any("name", &id.name)
    };
    let rules = rules.as_array().into_iter().flatten();
    rules.into_iter().any(|rule| is_object(rule) && covers(rule, write))
}

/// Whether the fields of a rule of Argo CD cover a field: by JSON Pointers, jq expressions, or who owns them.
fn covers(rule: &Value, write: Write<'_>) -> bool {
    let Some(path) = write.path else { return false };
    let texts = |key: &str| rule[key].as_array().into_iter().flatten().filter_map(Value::as_str);
    let by_manager = texts("managedFieldsManagers").any(|manager| write.opponents.contains(&manager));
    let by_jq = texts("jqPathExpressions")
        .any(|expression| keys_of_jq(expression).is_some_and(|keys| !keys.is_empty() && path.is_covered_by(&keys)));
    by_manager || by_jq || pointers(&rule["jsonPointers"]).any(|keys| path.is_covered_by(&keys))
}

/// Whether the settings of Argo CD for all Applications (`argocd-cm`) cover a field.
fn ignored_by_settings(snapshot: &Snapshot, write: Write<'_>) -> bool {
    let id = &write.object.id;
    let settings = snapshot.of_kind("", "ConfigMap").filter(|map| map.id.name == "argocd-cm");
    settings.into_iter().any(|map| {
        let data = &map.wanted()["data"];
        let kind = if id.group.is_empty() { id.kind.clone() } else { format!("{}_{}", id.group, id.kind) };
        let of = |scope: &str| data[format!("resource.customizations.ignoreDifferences.{scope}")].as_str();
        [of("all"), of(&kind)]
            .into_iter()
            .flatten()
            .any(|text| serde_yaml_ng::from_str::<Value>(text).is_ok_and(|rule| covers(&rule, write)))
    })
}

/// Whether Argo CD is set to leave alone the rules of aggregated ClusterRoles.
pub(super) fn ignores_aggregated_roles(snapshot: &Snapshot) -> bool {
    let settings = snapshot.of_kind("", "ConfigMap").filter(|map| map.id.name == "argocd-cm");
    settings.into_iter().any(|map| {
        let options = map.wanted()["data"]["resource.compareoptions"].as_str().unwrap_or_default();
        serde_yaml_ng::from_str::<Value>(options).is_ok_and(|options| options["ignoreAggregatedRoles"] == true)
    })
}

/// Returns whether an Application of Argo CD says that an object is as in its repository. `None` if it does not say.
pub(super) fn is_synced(application: &Object, id: &ObjectId) -> Option<bool> {
    let resources = application.status()["resources"].as_array()?;
    let is_it = |resource: &&Value| listed(resource).as_ref() == Some(id);
    let status = resources.iter().find(is_it)?["status"].as_str()?;
    Some(status == "Synced")
}

/// Returns the objects that an application lists as its own.
pub(super) fn inventory(application: &Object) -> Vec<ObjectId> {
    let status = application.status();
    let entries = status["inventory"]["entries"].as_array().into_iter().flatten();
    let of_flux = entries.filter_map(|entry| of_inventory(entry["id"].as_str()?));
    // Argo CD also lists the objects of other clusters.
    let destination = &application.wanted()["spec"]["destination"];
    let is_here =
        destination["server"].as_str().is_none_or(|server| matches!(server, "" | "https://kubernetes.default.svc"))
            && destination["name"].as_str().is_none_or(|name| matches!(name, "" | "in-cluster"));
    let resources = status["resources"].as_array().filter(|_| is_here).into_iter().flatten();
    of_flux.chain(resources.filter_map(listed)).collect()
}

/// Parses an entry of an inventory of Flux: `NAMESPACE_NAME_GROUP_KIND`, in which `__` stands for `:`.
fn of_inventory(id: &str) -> Option<ObjectId> {
    let (namespace, rest) = id.split_once('_')?;
    let (rest, kind) = rest.rsplit_once('_')?;
    let (name, group) = rest.rsplit_once('_')?;
    let text = |part: &str| part.to_owned();
    Some(ObjectId { group: text(group), kind: text(kind), namespace: text(namespace), name: name.replace("__", ":") })
}

/// Returns an entry of `status.resources` of an Application.
fn listed(resource: &Value) -> Option<ObjectId> {
    let text = |key: &str| resource[key].as_str().unwrap_or_default().to_owned();
    let id = ObjectId { group: text("group"), kind: text("kind"), namespace: text("namespace"), name: text("name") };
    (!id.kind.is_empty() && resource["hook"] != true).then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_of_inventories_are_objects() {
        let id = of_inventory("shop_web_apps_Deployment").unwrap();
        assert_eq!((id.to_string().as_str(), id.group.as_str()), ("Deployment shop/web", "apps"));
        let id = of_inventory("_system__node_rbac.authorization.k8s.io_ClusterRole").unwrap();
        assert_eq!(id.to_string(), "ClusterRole system:node");
        assert_eq!(of_inventory("shop_web__Service").unwrap().to_string(), "Service shop/web");
        assert_eq!(of_inventory("nothing"), None);
    }
}
