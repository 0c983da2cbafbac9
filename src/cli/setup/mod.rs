//! `editwar setup`: prints what a cluster needs for its audit events to arrive, what the other side of a source needs, and
//! which kinds of evidence there are. Nothing is sent to a cluster; only `certs` writes files, into the given directory.

mod admission;
mod apiserver;
pub(crate) mod certs;
mod evidence;
mod manifests;
mod policy;
mod source;
mod webhook;

use std::io::Write;

use anyhow::{Context, Result};

use super::Outcome;
use super::args::setup::Setup;

/// Runs `editwar setup`.
///
/// # Errors
/// A file cannot be read or written, or an argument is not valid.
pub(super) fn run(setup: &Setup) -> Result<Outcome> {
    let text = match setup {
        Setup::Policy(args) => policy::print(&args.resource, args.all_resources)?,
        Setup::Webhook(args) => match &args.server {
            Some(server) => webhook::print(args, server)?,
            None => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                webhook::print(args, &runtime.block_on(args.access.webhook())?)?
            }
        },
        Setup::Source(args) => source::print(args)?,
        Setup::Admission(args) => admission::print(args)?,
        Setup::Apiserver(args) => apiserver::print(args)?,
        Setup::Evidence => evidence::print(),
        Setup::Manifests(args) => manifests::print(&args.certs)?,
        Setup::Certs(args) => certs::run(args, std::time::SystemTime::now())?,
    };
    let mut stdout = anstream::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("standard output")?;
    Ok(Outcome::Calm)
}
