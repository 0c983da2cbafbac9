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
use crate::query::views::time_option;
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
}

/// Shows the owners of the fields of an object in the cluster.
///
/// # Errors
/// The cluster cannot be reached, or has no such object.
pub(super) fn show(args: &WhoArgs, kind: &str, name: &str) -> Result<Outcome> {
    if !args.log.output.is_table() && !matches!(args.log.output, Format::Json | Format::Yaml) {
        return Err(args.log.output.refused("table, wide, json or yaml without a log or a server"));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let owners = runtime.block_on(read(args, kind, name))?;
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
    };
    let mut managers: Vec<Owner> = metadata.managed_fields.iter().map(owner).collect();
    managers.retain(|owner| !owner.fields.is_empty());
    managers.sort_by_key(|owner| std::cmp::Reverse(owner.since));
    Ok(Owners { kind: kind.clone(), namespace, name: name.to_owned(), managers })
}

fn text(owners: &Owners, style: Style) -> String {
    let Owners { kind, namespace, name, managers } = owners;
    let place = if namespace.is_empty() { name.clone() } else { format!("{namespace}/{name}") };
    let mut out = format!("{}\n", style.bold(&format!("{} {}: owners of its fields now", clean(kind), clean(&place))));
    if managers.is_empty() {
        out.push_str("\nThe object has no managed fields.\n");
    }
    for Owner { manager, since, fields } in managers {
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
