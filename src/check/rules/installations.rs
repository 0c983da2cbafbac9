//! Controllers that are installed twice and act on the same objects.

use serde_json::Value;

use super::certificate::secret_of;
use crate::check::finding::{Certainty, Contender, Finding, ObjectId};
use crate::check::snapshot::{Object, Snapshot};

/// A controller of which a cluster should have one installation.
struct Program {
    /// The last part of the name of its image.
    image: &'static str,
    name: &'static str,
    /// Arguments that restrict it to some of the objects.
    limits: &'static [&'static str],
    /// The argument whose value two installations share if only one of them is active at a time.
    election: &'static str,
    /// What two installations write.
    fields: &'static [&'static str],
    /// Returns the objects that it writes.
    objects: fn(&Snapshot) -> Vec<ObjectId>,
}

/// Sources: the flags of each program.
const PROGRAMS: &[Program] = &[
    Program {
        image: "cert-manager-controller",
        name: "cert-manager",
        limits: &["--namespace="],
        election: "--leader-election-namespace=",
        fields: &["data", "metadata.ownerReferences"],
        objects: |snapshot| snapshot.of_kind("cert-manager.io", "Certificate").filter_map(secret_of).collect(),
    },
    Program {
        image: "cert-manager-cainjector",
        name: "cert-manager's cainjector",
        limits: &["--namespace="],
        election: "--leader-election-namespace=",
        fields: &["caBundle"],
        objects: |snapshot| {
            let is_injected = |object: &&Object| {
                let annotations = object.wanted()["metadata"]["annotations"].as_object();
                annotations.is_some_and(|all| all.keys().any(|key| key.starts_with("cert-manager.io/inject-")))
            };
            snapshot.objects().filter(is_injected).map(|object| object.id.clone()).collect()
        },
    },
    Program {
        image: "kustomize-controller",
        name: "Flux's kustomize-controller",
        limits: &["--watch-all-namespaces=false", "--watch-label-selector="],
        election: "",
        fields: &["status"],
        objects: |snapshot| ids(snapshot, "kustomize.toolkit.fluxcd.io", "Kustomization"),
    },
    Program {
        image: "helm-controller",
        name: "Flux's helm-controller",
        limits: &["--watch-all-namespaces=false", "--watch-label-selector="],
        election: "",
        fields: &["status"],
        objects: |snapshot| ids(snapshot, "helm.toolkit.fluxcd.io", "HelmRelease"),
    },
];

fn ids(snapshot: &Snapshot, group: &str, kind: &str) -> Vec<ObjectId> {
    snapshot.of_kind(group, kind).map(|object| object.id.clone()).collect()
}

/// Returns the findings.
pub(super) fn find(snapshot: &Snapshot) -> Vec<Finding> {
    PROGRAMS.iter().filter_map(|program| of(snapshot, program)).collect()
}

fn of(snapshot: &Snapshot, program: &Program) -> Option<Finding> {
    let is_installation = |object: &&Object| {
        object.wanted()["spec"]["replicas"] != 0 && containers(object).any(|container| is_of(container, program))
    };
    let found: Vec<&Object> = snapshot.of_kind("apps", "Deployment").filter(is_installation).collect();
    let (first, second) = (found.first()?, found.get(1)?);
    let elections: Vec<Option<(&str, &str)>> = found.iter().map(|object| election(object, program)).collect();
    if elections.iter().all(|election| election.is_some() && *election == elections[0]) {
        return None;
    }
    let mut objects = (program.objects)(snapshot);
    objects.sort();
    objects.dedup();
    let mut objects = objects.into_iter();
    // Without objects, there is nothing to fight over.
    let object = objects.next()?;
    let names: Vec<String> = found.iter().map(|object| object.id.to_string()).collect();
    let contender = |name: &String| Contender { name: name.clone(), does: format!("runs {}", program.name) };
    Some(Finding {
        rule: "two_installations",
        certainty: Certainty::Possible,
        object,
        more_objects: objects.collect(),
        fields: program.fields.iter().map(|field| (*field).to_owned()).collect(),
        contenders: names.iter().map(contender).collect(),
        evidence: vec![format!("{} have an image {}", names.join(" and "), program.image)],
        when: "whenever they are configured differently, unless they elect one leader among them".to_owned(),
        advice: format!("remove one of {} and {}", first.id, second.id),
        remedies: Vec::new(),
        involved: found.iter().map(|object| object.id.clone()).collect(),
    })
}

/// Returns where a controller elects its leader: a namespace and, if that is a variable such as `$(POD_NAMESPACE)`, the
/// namespace in which it has its value.
fn election<'s>(object: &'s Object, program: &Program) -> Option<(&'s str, &'s str)> {
    let value = argument(object, program.election)?;
    Some((value, if value.contains("$(") { &object.id.namespace } else { "" }))
}

fn containers(object: &Object) -> impl Iterator<Item = &Value> {
    object.wanted()["spec"]["template"]["spec"]["containers"].as_array().into_iter().flatten()
}

/// Whether a container runs a program, without a restriction to some of the objects.
fn is_of(container: &Value, program: &Program) -> bool {
    let image = container["image"].as_str().unwrap_or_default();
    let name = image.rsplit('/').next().unwrap_or_default().split([':', '@']).next().unwrap_or_default();
    let is_limited =
        arguments(container).any(|argument| program.limits.iter().any(|limit| argument.starts_with(limit)));
    name == program.image && !is_limited
}

fn arguments(container: &Value) -> impl Iterator<Item = &str> {
    let lists = [&container["command"], &container["args"]];
    lists.into_iter().filter_map(Value::as_array).flatten().filter_map(Value::as_str)
}

fn argument<'s>(object: &'s Object, prefix: &str) -> Option<&'s str> {
    if prefix.is_empty() {
        return None;
    }
    containers(object).flat_map(arguments).find_map(|argument| argument.strip_prefix(prefix))
}
