//! editwar finds out who is fighting over a Kubernetes object (which field, which values, since when), and helps to
//! stop it.
//!
//! # The path of an event
//!
//! ```text
//! SOURCES            INTAKE                ENGINE                               SINKS
//! ingest/webhook ──► ingest/intake ──────► pipeline ─────────────────────────► notify: log, metrics
//! ingest/tail          audit/decoded_chunk   the object table, deduplication     journal
//!                      journal: append       detect                              query/change_signal
//!                      observe, publish        write: which object, by whom
//! ingest/files ──────► audit/envelope          fields: what a write changed     query: reports, API, page
//!   (analyze)            other formats         history: who retakes what        enforce, reconcile: pauses and
//!                        become lines          bucket, verdict: the limits        the Golden State
//! ```
//!
//! - [`ingest`] receives bytes: from kube-apiserver's audit webhook, from logs while they are written, and from files.
//!   Live sources pass them to one intake, which decodes them once, makes the writes durable, observes them, and
//!   publishes what they changed.
//! - [`audit`] finds and decodes the events in these bytes. Each format is an envelope.
//! - [`pipeline`] owns the table of objects. It drops duplicates and passes each request to its object.
//! - [`detect`] is the engine. It is pure: no clock, no I/O, no async code.
//! - [`check`] finds fights before they start, from the objects of a cluster at one moment. It is pure, too.
//! - [`notify`] passes transitions and thrashing events to the sinks.
//! - [`alert`] sends wars to Alertmanager and to receivers of CloudEvents.
//! - [`query`] shows the verdicts: reports, the JSON API, and the web page.
//! - [`enforce`] pauses objects that are fought over, if that is configured. [`reconcile`] keeps other objects at their
//!   Golden State (the desired state), and stops before it takes part in a war.
//! - [`journal`], if it is configured, stores every write on disk before its batch is acknowledged, and replays it
//!   after a restart.
//! - [`auth`], [`telemetry`], [`net`], [`config`] and [`util`] serve the modules above. [`cli`] puts everything together.
//!
//! # Layers
//!
//! Every module may use `util`. Apart from it, `audit`, `net` and `escape` use no other module. `detect` uses only
//! `audit::event` and `audit::json_scan`. `check` uses only `detect`. `pipeline` uses `audit` and `detect`. Most other modules build on `pipeline`.
//! Some also use others: for example, `ingest` uses `journal` and `notify`, and `reconcile` uses `enforce`. Nothing
//! imports `cli`. `RULES` in `tests/it/architecture.rs` lists what each module may use, and the test checks it.
//!
//! # Invariants
//!
//! - The same events give the same verdict, no matter when and in which order they arrive: times are event times, and
//!   an object's writes are sorted by resourceVersion before anything is concluded from them.
//! - Transitions depend only on the events, not on queries or on how the events are divided into batches.
//! - A request is counted once, however often it is delivered.
//! - An event that cannot be decoded affects nothing else, and is counted by reason.
//! - All state is bounded, and each limit documents its reason.
//! - Values of Secrets are hashed when they are read, and never kept.
//!
//! # What is deliberately absent
//!
//! There is no model of Kubernetes' types: a body is a tree of fields. There is no storage besides memory and the
//! journal, and the journal has no indexes other than by time and by object. editwar writes nothing to a cluster except
//! pauses, the Golden State, Events about both, and a Lease, and these only if `enforce.mode` allows them.

mod alert;
pub mod audit;
mod auth;
pub mod check;
pub mod cli;
pub mod config;
pub mod detect;
pub mod enforce;
pub mod escape;
pub mod ingest;
pub mod journal;
pub mod net;
pub mod notify;
pub mod pipeline;
pub mod query;
pub mod reconcile;
pub mod telemetry;
mod util;

/// The commit that this was built from, or `unknown` if the build did not know it.
pub const COMMIT: &str = match option_env!("EDITWAR_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};
