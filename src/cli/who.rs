//! `editwar who`: one object, who writes it, and what.

use std::io::Write;

use anyhow::{Result, bail};

use super::args::{Format, WhoArgs};
use super::{Outcome, analyze, output};
use crate::detect::class::Classes;
use crate::detect::kind;
use crate::detect::policy::{Policy, Target};
use crate::pipeline::table::ObjectKey;
use crate::query::views::{Lens, Object, Participants};

/// Runs `editwar who`.
///
/// # Errors
/// Bad arguments, no such object, or no input that can be read.
pub fn run(args: &WhoArgs) -> Result<Outcome> {
    let (kind, name) = analyze::kind_and_name(&args.object)?;
    let (found, is_whole) = from_files(args, &kind, &name)?;
    let mut stdout = anstream::stdout().lock();
    match args.log.output {
        Format::Json => writeln!(stdout, "{}", serde_json::to_string_pretty(&found)?)?,
        Format::Yaml => write!(stdout, "{}", serde_yaml_ng::to_string(&found)?)?,
        Format::Table | Format::Wide => {
            let style = output::Style::of_stdout(args.log.output == Format::Wide);
            write!(stdout, "{}", output::participants(&found, args.writes, style))?;
        }
    }
    stdout.flush()?;
    Ok(match (is_whole, found.war.is_some_and(|war| war.thrashing_events > 0)) {
        (false, _) => Outcome::Unusable,
        (true, true) => Outcome::War,
        (true, false) => Outcome::Calm,
    })
}

fn from_files(args: &WhoArgs, kind: &str, name: &str) -> Result<(Participants, bool)> {
    if args.inputs.is_empty() {
        bail!("name audit logs to read, or a running server with --server URL");
    }
    let target = Target { name: name.to_owned(), namespace: args.namespace.clone() };
    let policy = Policy { follow: Some(target), ..Policy::default() };
    let (pipeline, is_whole) = analyze::read(&args.inputs, &args.log, policy)?;
    let is_it = |key: &ObjectKey, state: &crate::detect::object::ObjectState| {
        let object = Object::of(key, state);
        object.name == name
            && args.namespace.as_ref().is_none_or(|n| *n == object.namespace)
            && kind::is_meant(kind, &object.group, &object.resource, &object.kind)
    };
    let keys = pipeline.table().keys(is_it);
    let place = args.namespace.as_ref().map(|n| format!(" in namespace {n}")).unwrap_or_default();
    let key = match keys.as_slice() {
        [key] => key,
        [] => bail!("no request about {}{place} in these {} events", args.object, pipeline.stats().tallies.events),
        several => {
            let names: Vec<String> = several
                .iter()
                .map(|k| format!("{}.{} -n {}", k.object().resource, k.object().group, k.object().namespace))
                .collect();
            bail!("{} means several objects, name one: {}", args.object, names.join("; "))
        }
    };
    let classes = Classes::default();
    match Lens::at_latest(&pipeline, &classes).participants(key) {
        Some(found) => Ok((found, is_whole)),
        None => bail!("{} is left out by the configuration", args.object),
    }
}
