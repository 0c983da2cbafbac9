//! `editwar render`: shows what would be applied to a live object, and why, without a cluster.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::Value;

use super::args::{Format, RenderArgs};
use super::{Outcome, output};
use crate::reconcile::drift;
use crate::reconcile::manifest::Id;
use crate::reconcile::plan::{self, Action, SkipReason};

/// Runs `editwar render`.
///
/// # Errors
/// A file cannot be read, or its content is not valid.
pub(super) fn run(args: &RenderArgs) -> Result<Outcome> {
    if !matches!(args.output, Format::Json | Format::Yaml) {
        return Err(args.output.refused("json or yaml"));
    }
    let live = args.live.as_deref().map(objects).transpose()?.unwrap_or_default();
    let live = match live.as_slice() {
        [] => None,
        [live] => Some(live),
        _ => bail!("expected one live object: --live contains {}", live.len()),
    };
    let assets = objects(&args.asset)?;
    let is_it = |asset: &&Value| live.is_none_or(|live| Id::of(live) == Id::of(asset));
    let asset = assets.iter().find(is_it).with_context(|| {
        let wanted = live.and_then(Id::of).map(|id| id.to_string()).unwrap_or_default();
        format!("{} does not contain {wanted}", args.asset.display())
    })?;
    let id = Id::of(asset).context("apiVersion, kind or metadata.name is missing")?;
    let say = |text: &str| anstream::eprintln!("{}: {}", output::clean(&id.to_string()), output::clean(text));
    let wanted = match plan::action(asset, false, live, &args.managed_by) {
        Action::Apply(wanted) => wanted,
        Action::Skip(why) => {
            say(match why {
                SkipReason::Paused => "editwar would apply nothing: the object is paused",
                SkipReason::Unmanaged => "editwar would apply nothing: the object is unmanaged",
                SkipReason::Deleting => "editwar would apply nothing: the object is being deleted",
                SkipReason::NotOurs => "editwar would do nothing: the object does not belong to it",
            });
            return Ok(Outcome::Calm);
        }
        Action::Delete => bail!("cannot render a tombstone"),
    };
    for name in &wanted.customizations {
        say(&format!("uses the {name} annotation of the object"));
    }
    wanted.invalid.iter().for_each(|invalid| say(&invalid.to_string()));
    match live {
        None => say("would create the object"),
        // Approximates the dry-run of an API server: only what the asset contains is compared, and other fields are
        // kept.
        Some(live) => match drift::between(live, &merged(live, &wanted.object)).as_slice() {
            [] => say("no differences"),
            paths => say(&format!("would correct: {}", drift::named(paths))),
        },
    }
    let mut stdout = anstream::stdout().lock();
    match args.output {
        Format::Json => write!(stdout, "{}", output::json(&wanted.object)?)?,
        _ => write!(stdout, "{}", output::yaml(&wanted.object)?)?,
    }
    stdout.flush()?;
    Ok(Outcome::Calm)
}

/// Reads the objects of a YAML or JSON file.
fn objects(path: &Path) -> Result<Vec<Value>> {
    let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
    let all = serde_yaml_ng::Deserializer::from_str(&text).map(Value::deserialize);
    let all: Vec<Value> = all.collect::<Result<_, _>>().with_context(|| path.display().to_string())?;
    let found: Vec<Value> = all.into_iter().filter(|object| !object.is_null()).collect();
    if found.is_empty() {
        bail!("{} contains no object", path.display());
    }
    Ok(found)
}

/// Merges `wanted` into the live object. Lists are replaced as a whole.
fn merged(live: &Value, wanted: &Value) -> Value {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            let mut out = live.clone();
            for (key, value) in wanted {
                let merged = merged(live.get(key).unwrap_or(&Value::Null), value);
                out.insert(key.clone(), merged);
            }
            Value::Object(out)
        }
        (_, wanted) => wanted.clone(),
    }
}
