//! `editwar check`: names fights that will happen, before they start, from one read of a cluster and from manifests.

mod cluster;
mod manifests;
mod markdown;
mod report;
mod text;

use std::collections::BTreeSet;
use std::io::Write;

use anyhow::{Context, Result, bail};

use self::cluster::{Cluster, Reading};
use self::manifests::Manifests;
use self::report::Report;
use super::args::{CheckArgs, CheckOptions, Format, KubeAccess};
use super::style::Style;
use super::{Outcome, output};
use crate::check::{Finding, ObjectId, Snapshot, check, id_of};

/// Kinds without namespaces, for manifests that are checked without a cluster. Others are taken to be in namespaces.
const CLUSTER_SCOPED: &[&str] = &[
    "APIService",
    "ClusterIssuer",
    "ClusterPolicy",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "IngressClass",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionPolicyBinding",
    "MutatingWebhookConfiguration",
    "Namespace",
    "Node",
    "PersistentVolume",
    "PriorityClass",
    "RuntimeClass",
    "StorageClass",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
    "ValidatingWebhookConfiguration",
];

/// Runs `editwar check`.
///
/// # Errors
/// A manifest cannot be read, the cluster cannot be reached, the command does not have the format, or the JUnit report
/// cannot be written.
pub(super) fn run(args: &CheckArgs) -> Result<Outcome> {
    check_cluster(&args.options, args.namespace.as_deref(), &args.access)
}

/// Checks a cluster and manifests, and prints what was found.
///
/// # Errors
/// As for [`run`].
pub(super) fn check_cluster(options: &CheckOptions, namespace: Option<&str>, access: &KubeAccess) -> Result<Outcome> {
    let format = options.output;
    if !format.is_table() && !matches!(format, Format::Json | Format::Yaml | Format::Markdown) {
        return Err(format.refused("table, wide, json, yaml or markdown"));
    }
    if let Some(namespace) = namespace.filter(|namespace| !cluster::is_label(namespace)) {
        bail!("\"{namespace}\" is not the name of a namespace");
    }
    let mut manifests = manifests::read(&options.files)?;
    let mut snapshot = Snapshot::default();
    snapshot.context.clone_from(&access.context);
    let reading = if options.offline {
        add_manifests(&mut snapshot, &mut manifests, namespace.unwrap_or("default"), |_, kind| {
            !CLUSTER_SCOPED.contains(&kind)
        });
        Reading::default()
    } else {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(read(&mut snapshot, &mut manifests, namespace, access))?
    };
    let Found { findings, hidden } = found(&snapshot, options, namespace);
    let mut report = Report::new(findings, hidden, reading, &snapshot, namespace);
    if let Some(kubeconfig) = &access.kubeconfig {
        report.use_kubeconfig(kubeconfig);
    }
    manifests.problems.drain(..).for_each(|problem| report.add_problem(problem));
    if let Some(namespace) = namespace.filter(|namespace| !options.offline && !snapshot.has_namespace(namespace)) {
        report.add_problem(format!("nothing was found in namespace {namespace}"));
    }
    if !options.quiet {
        let problems = report.coverage.problems.iter().map(|problem| format!("the answer is incomplete: {problem}"));
        for line in manifests.notes.into_iter().chain(problems) {
            anstream::eprintln!("editwar: {}", output::clean(&line));
        }
    }
    if let Some(path) = &options.junit {
        std::fs::write(path, report.junit()).with_context(|| path.display().to_string())?;
    }
    print(&report, format)?;
    Ok(report.outcome())
}

async fn read(
    snapshot: &mut Snapshot,
    manifests: &mut Manifests,
    namespace: Option<&str>,
    access: &KubeAccess,
) -> Result<Reading> {
    let missing = if manifests.found.is_empty() {
        "no cluster to check"
    } else {
        "no cluster to check the manifests against; --offline checks them alone"
    };
    let (client, default_namespace) = access.connect().await.context(missing)?;
    let cluster = Cluster::connect(client, namespace.map(str::to_owned)).await?;
    let default_namespace = namespace.unwrap_or(&default_namespace);
    // A custom resource may be defined by the manifests themselves.
    let is_namespaced =
        |group: &str, kind: &str| cluster.is_namespaced(group, kind).unwrap_or(!CLUSTER_SCOPED.contains(&kind));
    let ids = add_manifests(snapshot, manifests, default_namespace, is_namespaced);
    Ok(cluster.read(snapshot, &ids).await)
}

/// Adds the manifests to a snapshot. Those without a namespace are applied to the default one. Returns their objects.
fn add_manifests(
    snapshot: &mut Snapshot,
    manifests: &mut Manifests,
    default_namespace: &str,
    is_namespaced: impl Fn(&str, &str) -> bool,
) -> Vec<ObjectId> {
    let mut ids = Vec::new();
    for manifests::Found { source, object } in &manifests.found {
        let Some(id) = id_of(object) else { continue };
        let mut object = object.clone();
        if is_namespaced(&id.group, &id.kind) {
            if id.namespace.is_empty() {
                object["metadata"]["namespace"] = default_namespace.into();
            }
        } else if let Some(metadata) = object["metadata"].as_object_mut() {
            metadata.remove("namespace");
        }
        let Some(id) = id_of(&object) else { continue };
        if snapshot.is_in_manifest(&id) {
            manifests.problems.push(format!("{id} is in several manifests; only the last one, {source}, is checked"));
        }
        snapshot.add_manifest(source, object);
        ids.push(id);
    }
    ids
}

/// What was found, and what is not shown.
struct Found {
    findings: Vec<Finding>,
    /// The rules with findings that are less certain than what the user wants to see.
    hidden: BTreeSet<&'static str>,
}

/// Returns the findings about the namespace and the manifests that were asked for.
fn found(snapshot: &Snapshot, options: &CheckOptions, namespace: Option<&str>) -> Found {
    let mut findings = check(snapshot);
    findings.retain(|finding| {
        let mut objects = std::iter::once(&finding.object).chain(&finding.more_objects);
        let is_here = |object: &ObjectId| {
            namespace.is_none_or(|namespace| object.namespace == namespace) || snapshot.is_in_manifest(object)
        };
        let is_asked = options.files.is_empty() || finding.involved.iter().any(|id| snapshot.is_in_manifest(id));
        objects.any(is_here) && is_asked
    });
    let is_shown = |finding: &Finding| finding.certainty >= options.certainty.into();
    let hidden = findings.iter().filter(|finding| !is_shown(finding)).map(|finding| finding.rule).collect();
    findings.retain(is_shown);
    Found { findings, hidden }
}

fn print(report: &Report, format: Format) -> Result<()> {
    let mut stdout = anstream::stdout().lock();
    match format {
        Format::Json => write!(stdout, "{}", output::json(report)?)?,
        Format::Yaml => write!(stdout, "{}", output::yaml(report)?)?,
        Format::Markdown => write!(stdout, "{}", markdown::report(report))?,
        _ => write!(stdout, "{}", text::report(report, Style::of_stdout(format == Format::Wide)))?,
    }
    Ok(stdout.flush()?)
}
