//! `editwar doctor`: checks each step of an audit event from the API server to the verdict, and suggests a fix for each
//! problem. It also names the kind of evidence that is available, and the next better kind.

mod apiserver;
mod evidence;
mod findings;
mod listener;
pub(crate) mod policy;
mod server;

use std::io::Write;

use anyhow::Result;

use self::findings::{Findings, State};
use super::args::doctor::{DoctorArgs, DoctorChecks};
use super::args::{Access, Format};
use super::connection::ServerTarget;
use super::evidence::Standing;
use super::{Outcome, output};

/// Runs `editwar doctor`. The exit code is 0 if nothing is broken, and 1 otherwise.
///
/// # Errors
/// Errors of standard output. All others are reported as findings.
pub(super) fn run(args: &DoctorArgs) -> Result<Outcome> {
    let target = if args.remote.server.is_some() {
        ServerTarget::At(args.remote.clone())
    } else {
        ServerTarget::In(args.access.clone())
    };
    look(&args.look, args.namespace.as_deref(), &args.access, &target)
}

/// Runs the checks and prints the results. `namespace` is the one in which permissions to read are checked.
///
/// # Errors
/// As for [`run`].
pub(super) fn look(
    args: &DoctorChecks,
    namespace: Option<&str>,
    access: &Access,
    target: &ServerTarget,
) -> Result<Outcome> {
    if !args.output.is_table() && !matches!(args.output, Format::Json | Format::Yaml) {
        return Err(args.output.refused("table, json or yaml"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let findings = runtime.block_on(examine(args, namespace, access, target));
    let mut stdout = anstream::stdout().lock();
    match args.output {
        Format::Json => write!(stdout, "{}", output::json(&findings)?)?,
        Format::Yaml => write!(stdout, "{}", output::yaml(&findings)?)?,
        Format::Table | Format::Wide => write!(stdout, "{}", picture(&findings))?,
        _ => unreachable!("refused above"),
    }
    stdout.flush()?;
    Ok(if findings.is_broken() { Outcome::War } else { Outcome::Calm })
}

/// Runs the checks.
pub(super) async fn examine(
    args: &DoctorChecks,
    namespace: Option<&str>,
    access: &Access,
    target: &ServerTarget,
) -> Findings {
    let mut findings = Findings::default();
    if let Some(path) = &args.policy {
        check_policy(path, &mut findings);
    }
    let mut home = String::new();
    let cluster = match access.connect().await {
        Ok((cluster, default_namespace)) => {
            home = default_namespace;
            apiserver::check(cluster, &mut findings).await
        }
        Err(error) => {
            findings.unknown("API server", format!("{error:#}"), "set --kubeconfig to check the API server too");
            None
        }
    };
    match &args.webhook {
        Some(path) => listener::check(path, &mut findings).await,
        None => findings.unknown(
            "webhook kubeconfig",
            "not given".into(),
            "use --webhook FILE with kube-apiserver's --audit-webhook-config-file, on a machine that can read it",
        ),
    }
    let server = match target.open().await {
        Ok(server) => Some(server),
        Err(error) => {
            findings.bad("server", format!("{error:#}"), "start `editwar serve`, or set --server URL");
            None
        }
    };
    let received = match &server {
        Some(server) => server::check(server, args, cluster.as_ref().map(|c| c.date), &mut findings).await,
        None => None,
    };
    match (&received, &cluster) {
        (Some(received), _) if received.is_only_watching() => findings.excuse(
            "audit",
            "not needed for the watch of this server; an audit log adds accounts: `editwar setup evidence`",
        ),
        (Some(_), _) => {}
        (None, Some(cluster)) => {
            let flags = access.cluster.flags();
            evidence::check_cluster(&cluster.client, namespace.unwrap_or(&home), &flags, &mut findings).await;
        }
        (None, None) => findings.evidence(Standing::of_nothing()),
    }
    if let (Some(cluster), Some(server), Some(probed), Some(_)) = (&cluster, &server, &args.probe, &received) {
        apiserver::probe(cluster, server, probed, &mut findings).await;
    }
    findings
}

/// Kinds that a policy should log with bodies for useful results.
const KINDS: &[(&str, &str)] =
    &[("deployments.apps", ""), ("deployments.apps", "scale"), ("configmaps", ""), ("services", "")];

fn check_policy(path: &std::path::Path, findings: &mut Findings) {
    let hint = "print a policy with `editwar setup policy`";
    let read = std::fs::read_to_string(path).map_err(anyhow::Error::from).and_then(|text| policy::Policy::parse(&text));
    let policy = match read {
        Ok(policy) => policy,
        Err(error) => return findings.bad("policy", format!("{}: {error:#}", path.display()), hint),
    };
    let kinds_at = |level: policy::Level| {
        let name =
            |(kind, sub): &(&str, &str)| if sub.is_empty() { (*kind).to_owned() } else { format!("{kind}/{sub}") };
        let found = KINDS.iter().filter(|(kind, sub)| policy.level(kind, sub) == level).map(name);
        found.collect::<Vec<_>>().join(", ")
    };
    let (none, metadata) = (kinds_at(policy::Level::None), kinds_at(policy::Level::Metadata));
    if policy.level("secrets", "") > policy::Level::Metadata {
        findings.bad(
            "policy",
            "logs the bodies of Secrets in plain text".into(),
            "add a rule before all others that logs secrets at level Metadata",
        );
    } else if !none.is_empty() {
        findings.bad("policy", format!("does not log writes of {none}"), hint);
    } else if !metadata.is_empty() {
        findings.weak(
            "policy",
            format!("logs {metadata} without bodies, so editwar cannot see fields and values"),
            hint,
        );
    } else if !policy.omit_managed_fields {
        let text = "logs managed fields, which are about half of every body and not needed".into();
        findings.weak("policy", text, "set omitManagedFields: true");
    } else if !policy.omit_stages.iter().any(|stage| stage == "RequestReceived") {
        let text = "logs every request twice".into();
        findings.weak("policy", text, "set omitStages: [RequestReceived, ResponseStarted]");
    } else {
        findings.good("policy", "logs contested kinds with bodies, and Secrets without".into());
    }
}

/// Formats the results for people: a line for each check, followed by its suggestion.
fn picture(findings: &Findings) -> String {
    let width = findings.findings.iter().map(|f| f.link.len()).max().unwrap_or(0);
    let mut text = String::new();
    for finding in &findings.findings {
        let mark = match finding.state {
            State::Ok => "ok",
            State::Weak => "weak",
            State::Broken => "BROKEN",
            State::Unknown => "?",
        };
        let line = output::clean(&finding.text);
        text.push_str(&format!("{mark:<7} {:<width$}  {line}\n", finding.link));
        if let Some(hint) = &finding.hint {
            text.push_str(&format!("        {:<width$}  → {hint}\n", ""));
        }
    }
    text
}
