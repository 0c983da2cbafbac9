//! `editwar who` without a log or a server: who owns each field of an object now, according to its `managedFields`.

use std::fmt::Write as _;
use std::io::Write;

use anyhow::{Context, Result, bail};
use http::Request;
use serde::Serialize;
use serde_json::value::RawValue;

use super::args::{Format, WhoArgs};
use super::style::{self, Style, clean};
use super::{Outcome, output};
use crate::audit::event::Micros;
use crate::audit::revision::Metadata;
use crate::audit::revision::event::actor;
use crate::audit::revision::managed_fields::Entry;
use crate::detect::fields::owned_paths;
use crate::ingest::watch::resources::{self, Watchable};
use crate::query::views::{TimelineEntry, time, time_option};
use crate::util::clock;
use crate::util::duration;

/// Maximum number of fields of one manager in a table; `-o wide` shows all.
const FIELDS_SHOWN: usize = 12;

/// The owners of the fields of an object.
#[derive(Debug, Serialize)]
struct Owners {
    /// The kind.
    kind: String,
    /// The namespace; empty for cluster-scoped objects.
    namespace: String,
    /// The name.
    name: String,
    /// The managers, the last writer first.
    managers: Vec<Owner>,
}

/// A field manager, and what it owns.
#[derive(Debug, Serialize)]
struct Owner {
    /// The manager with its operation.
    manager: String,
    /// When it last wrote.
    #[serde(with = "time_option")]
    since: Option<Micros>,
    /// The fields that it owns.
    fields: Vec<String>,
    /// Who set them before, as far as it was seen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    before: Vec<Setter>,
}

/// Who set a field.
#[derive(Debug, PartialEq, Serialize)]
struct Setter {
    /// The field.
    field: String,
    /// The actor.
    actor: String,
    /// When it last set the field.
    #[serde(with = "time")]
    at: Micros,
}

/// Shows the owners of the fields of an object in the cluster, and who set the fields before, as far as the writes in
/// `timeline` show it.
///
/// # Errors
/// The cluster cannot be reached, or has no such object.
pub(super) fn show(args: &WhoArgs, kind: &str, name: &str, timeline: &[TimelineEntry]) -> Result<Outcome> {
    if !args.log.output.is_table() && !matches!(args.log.output, Format::Json | Format::Yaml) {
        return Err(args.log.output.refused("table, wide, json or yaml without a log or a server"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut owners = runtime.block_on(read(args, kind, name))?;
    for owner in &mut owners.managers {
        owner.before = owner.fields.iter().filter_map(|path| setter_before(path, timeline)).collect();
    }
    let mut stdout = anstream::stdout().lock();
    match args.log.output {
        Format::Json => write!(stdout, "{}", output::json(&owners)?)?,
        Format::Yaml => write!(stdout, "{}", output::yaml(&owners)?)?,
        _ => {
            let style = Style::of_stdout(args.log.output == Format::Wide);
            let style = style.relative_to((!args.log.utc).then(clock::now));
            write!(stdout, "{}", text(&owners, style))?;
        }
    }
    stdout.flush()?;
    Ok(Outcome::Calm)
}

async fn read(args: &WhoArgs, kind: &str, name: &str) -> Result<Owners> {
    let missing = "no input: give audit logs to read, a running server with --server URL, or a cluster";
    let (client, default_namespace) = args.access.connect().await.context(missing)?;
    let found = resources::discover(&client).await.context("cannot discover the resources of the cluster")?;
    let resource = found.iter().find(|resource| resource.is_named(kind));
    let Some(Watchable { resource, kind, is_namespaced }) = resource else {
        bail!("the cluster has no kind \"{kind}\"");
    };
    let namespace = args.namespace.clone().unwrap_or(default_namespace);
    let namespace = if *is_namespaced { namespace } else { String::new() };
    let path = resource.path(Some(namespace.as_str()).filter(|namespace| !namespace.is_empty()));
    // The values of its fields are not needed.
    let request = Request::get(format!("{path}/{name}"))
        .header(http::header::ACCEPT, "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1")
        .body(Vec::new())
        .context("the name of the object")?;
    let body = match client.request_text(request).await {
        // The message of the API server names the object.
        Err(kube::Error::Api(status)) => bail!("{}", status.message),
        body => body.context("the API server")?,
    };
    let object: &RawValue = serde_json::from_str(&body).context("the object")?;
    let metadata = Metadata::of(object).context("the object has no metadata")?;
    let owner = |entry: &Entry| Owner {
        manager: actor(&entry.manager()),
        since: entry.at(),
        fields: owned_paths(entry.text().as_bytes()).iter().map(|path| path.to_string()).collect(),
        before: Vec::new(),
    };
    let mut managers: Vec<Owner> = metadata.managed_fields.iter().map(owner).collect();
    managers.retain(|owner| !owner.fields.is_empty());
    managers.sort_by_key(|owner| std::cmp::Reverse(owner.since));
    Ok(Owners { kind: kind.clone(), namespace, name: name.to_owned(), managers })
}

/// Returns who set a field before the actor that set it last.
fn setter_before(path: &str, timeline: &[TimelineEntry]) -> Option<Setter> {
    let mut writes: Vec<&TimelineEntry> =
        timeline.iter().filter(|write| write.changes.iter().any(|change| change.path == path)).collect();
    writes.sort_by_key(|write| write.at);
    let last = writes.pop()?;
    let before = writes.into_iter().rev().find(|write| write.actor != last.actor)?;
    Some(Setter { field: path.to_owned(), actor: before.actor.clone(), at: before.at })
}

fn text(owners: &Owners, style: Style) -> String {
    let Owners { kind, namespace, name, managers } = owners;
    let place = if namespace.is_empty() { name.clone() } else { format!("{namespace}/{name}") };
    let mut out = format!("{}\n", style.bold(&format!("{} {}: owners of its fields now", clean(kind), clean(&place))));
    if managers.is_empty() {
        out.push_str("\nThe object has no managed fields.\n");
    }
    for Owner { manager, since, fields, before } in managers {
        let when = since.map(|at| match style.now {
            Some(now) => format!(", last wrote {} ago", duration::age(now.saturating_sub(at))),
            None => format!(", last wrote {}", style::clock(at)),
        });
        let shown = if style.is_wide { fields.len() } else { FIELDS_SHOWN };
        let more = fields.len().saturating_sub(shown);
        let mut names: Vec<String> = fields.iter().take(shown).map(|path| clean(path)).collect();
        if more > 0 {
            names.push(format!("and {more} more (-o wide)"));
        }
        let _ = writeln!(out, "\n{}{}", style.bold(&clean(manager)), when.unwrap_or_default());
        out.push_str(&style.wrapped(&names.join(", "), 2));
        for Setter { field, actor, at } in before {
            let when = match style.now {
                Some(now) => format!("{} ago", duration::age(now.saturating_sub(*at))),
                None => style::clock(*at),
            };
            out.push_str(&style.wrapped(&format!("before: {} set {}, {when}", clean(actor), clean(field)), 2));
        }
    }
    let namespace = if namespace.is_empty() { String::new() } else { format!(" -n {namespace}") };
    let _ = writeln!(
        out,
        "\nThis is one moment, and does not show whether anyone fights. To see who takes fields from whom, run:\n  \
         editwar watch {}/{}{}",
        kind.to_lowercase(),
        clean(name),
        clean(&namespace)
    );
    out
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn who_set_a_field_before_its_owner_is_the_last_other_actor() {
        let write = |at: &str, actor: &str, path: &str| -> TimelineEntry {
            let change = json!({"path": path, "old": Value::Null, "new": "1"});
            serde_json::from_value(json!({
                "at": at, "actor": actor, "tool": "kubectl", "verb": "patch", "part": "main", "effect": "modify",
                "fields_known": true, "changes": [change],
            }))
            .unwrap()
        };
        let timeline = [
            write("2026-11-23T20:37:01Z", "alice", "data.v"),
            write("2026-11-23T20:37:02Z", "bob", "data.v"),
            write("2026-11-23T20:37:03Z", "carol", "data.w"),
            write("2026-11-23T20:37:04Z", "bob", "data.v"),
        ];
        let before = setter_before("data.v", &timeline).unwrap();
        assert_eq!((&*before.actor, before.at), ("alice", 1_795_466_221_000_000));
        assert_eq!(setter_before("data.w", &timeline), None, "only carol has set it");
    }
}
