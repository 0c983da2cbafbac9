//! Distinguishes the instances of programs that share one account: which instance wrote, and whether two are rivals.
//!
//! GitOps tools mark each object with the application that it belongs to. If two applications own one object, these marks
//! differ in the writes that undo each other, while the account, the pod and the tool are the same.

use std::sync::Arc;

use super::actor::Client;
use super::application::{MARKS, Mark, name_in};
use crate::audit::json_scan::{member, members, plain_string};

/// Maximum number of bytes of a mark's value that are kept.
const NAME_BYTES_MAX: usize = 128;

/// Returns the instance that a request's body is marked with, such as `Kustomization shop-prod`. Includes the namespace if
/// it is not the account's own. Returns `None` if the body has no mark, as patches of single fields do.
pub(crate) fn instance(body: &[u8], account: &str) -> Option<String> {
    if !body.starts_with(b"{") {
        return None;
    }
    let metadata = member(body, "metadata")?;
    let (mut labels, mut annotations) = (None, None);
    for (key, value) in members(metadata) {
        match key {
            b"labels" => labels = Some(value),
            b"annotations" => annotations = Some(value),
            _ => {}
        }
    }
    let of = |mark: &Mark, key: &str| {
        let map = if mark.at == "labels" { labels } else { annotations };
        map.and_then(|map| member(map, key)).and_then(plain_string).filter(|text| !text.is_empty())
    };
    MARKS.iter().find_map(|mark| {
        let name = of(mark, mark.name)?;
        let name = name_in(name);
        let end = (0..=name.len().min(NAME_BYTES_MAX)).rev().find(|i| name.is_char_boundary(*i))?;
        let own = account.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split(':').next());
        let namespace = of(mark, mark.namespace).filter(|_| !mark.namespace.is_empty()).filter(|n| Some(*n) != own);
        let prefix = namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
        Some(format!("{} {prefix}{}", mark.noun, &name[..end]))
    })
}

/// Returns the account of a party, whose name may be `account via instance`.
pub(crate) fn account(party: &str) -> &str {
    party.split_once(" via ").map_or(party, |(account, _)| account)
}

/// Returns the namespace and the name of the ServiceAccount of a party.
pub(crate) fn service_account(party: &str) -> Option<(&str, &str)> {
    account(party).strip_prefix("system:serviceaccount:")?.split_once(':')
}

/// Returns the name of a client as a party against another one: its actor, or `actor via instance` if one account fights
/// itself. Returns `None` if the two are not rivals.
pub(crate) fn party(client: &Client, other: &Client) -> Option<Arc<str>> {
    if !client.is_same_actor(other) {
        return Some(client.actor.clone());
    }
    distinction(client, other).map(|what| format!("{} via {what}", client.actor).into())
}

/// Returns what distinguishes `client` from its rival `other` of the same account: the application, the pod, the tool or its
/// version. Returns `None` if both are the same program in the same place, whose parts hand work to each other.
pub(crate) fn distinction(client: &Client, other: &Client) -> Option<String> {
    let (origin, others) = (&client.origin, &other.origin);
    if !client.instance.is_empty() && !other.instance.is_empty() {
        return (client.instance != other.instance).then(|| client.instance.to_string());
    }
    if !origin.pod.is_empty() && !others.pod.is_empty() {
        return (origin.pod != others.pod).then(|| format!("pod {}", origin.pod));
    }
    if client.tool != other.tool {
        return (!is_one_program(client, other)).then(|| client.tool.to_string());
    }
    let (version, others) = (version(&client.user_agent), version(&other.user_agent));
    (!version.is_empty() && !others.is_empty() && version != others).then(|| format!("{} {version}", client.tool))
}

/// Whether both are parts of one program: subcommands of kubectl, or controllers whose user agents contain the same build
/// of the same program, as those of cert-manager do.
fn is_one_program(a: &Client, b: &Client) -> bool {
    let is_kubectl = |client: &Client| {
        client.tool.starts_with("kubectl") && product(&client.user_agent).is_none_or(|name| name.starts_with("kubectl"))
    };
    let builds = (build(&a.user_agent), build(&b.user_agent));
    (is_kubectl(a) && is_kubectl(b)) || matches!(builds, (Some(a), Some(b)) if a == b)
}

fn product(agent: &str) -> Option<&str> {
    agent.split(['/', ' ']).next().filter(|name| !name.is_empty())
}

/// Returns `v1.15.3` for `cert-manager-certificates-trigger/v1.15.3 (linux/amd64) cert-manager/5a2b3c4`.
fn version(agent: &str) -> &str {
    agent.split(' ').next().and_then(|product| product.split_once('/')).map_or("", |(_, version)| version)
}

/// Returns `cert-manager/5a2b3c4` for the same. `kubernetes/…` only identifies the client library.
fn build(agent: &str) -> Option<&str> {
    let (_, build) = agent.split_once(") ")?;
    Some(build).filter(|build| build.contains('/') && !build.starts_with("kubernetes/"))
}

#[cfg(test)]
#[path = "instance/tests.rs"]
mod tests;
