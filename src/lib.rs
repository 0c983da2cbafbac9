//! editwar: who is fighting over a Kubernetes object, over which field, with which values, since when; and how to make
//! it stop.
//!
//! # The way of an event
//!
//! ```text
//! bytes ──► audit ────► detect ─────────────────────────────────────────────► query
//!           envelope    write: which object, by whom, with what outcome        views: wars, participants
//!           decode      object: who writes it; one writer is no news           api, client
//!           event       fields: what a write changed
//!                       contest: who takes back what, in the true order
//!                       bucket, verdict: when it is too much
//!   ▲                     ▲
//! ingest: files,        pipeline: one table of objects, each request once,
//! webhook               counted
//! ```
//!
//! [`ingest`] brings bytes: from files, from logs as they are written, from kube-apiserver's audit webhook. [`audit`]
//! finds the events in them. [`pipeline`] holds the objects and shows each request to one of them, once. [`detect`] is the
//! engine: pure, without clock, I/O or async. [`query`] shows what it concluded. [`enforce`], where it is asked for,
//! pauses the objects that are fought over; [`reconcile`] holds others at their Golden State, and stops before it fights
//! for it. [`journal`], where there is one, has every write of the webhook on disk before it is answered for, and shows it
//! again after a restart. [`auth`], [`telemetry`], [`net`] and [`config`] serve the edges; [`cli`] puts everything together.
//!
//! # Invariants
//!
//! - The same events give the same verdict, whenever and in whatever order they arrive: time comes with the event, and
//!   an object's writes are put in order by resourceVersion before anything is concluded from them.
//! - A request is counted once, however often it is delivered.
//! - An event that cannot be read costs that event and nothing else, and is counted by reason.
//! - Whatever is kept has a bound, and the bound a reason beside it.
//! - Values of Secrets are hashed when they are read and never kept.
//!
//! # What is deliberately absent
//!
//! There is no model of Kubernetes' types: a body is a tree of fields. There is no storage beyond memory but the journal,
//! and no index in that but by time and by object.
//! Nothing is written to a cluster but pauses, the Golden State, Events on both and a Lease, and these only
//! where `enforce.mode` says so.

pub mod audit;
pub mod auth;
pub mod cli;
pub mod config;
pub mod detect;
pub mod enforce;
pub mod escape;
pub mod ingest;
pub mod journal;
pub mod net;
pub mod pipeline;
pub mod query;
pub mod reconcile;
pub mod telemetry;

/// The commit this was built from, where the build knew it.
pub const COMMIT: &str = match option_env!("EDITWAR_COMMIT") {
    Some(commit) => commit,
    None => "unknown",
};
