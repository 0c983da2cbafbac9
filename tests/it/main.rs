//! Integration tests: one binary with a file per surface.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod admission;
mod answers;
mod architecture;
mod auth;
#[cfg(feature = "kafka")]
mod broker;
mod cases;
mod check;
mod check_command;
mod cli;
mod clock;
mod cluster;
mod configuration;
mod decision;
mod demo;
mod deploy;
mod doors;
mod enforce;
mod envelopes;
mod envtest;
mod evasion;
mod evidence;
mod fake_api;
mod follow;
mod forward;
mod golden;
mod hostile;
mod injection;
mod interleaving;
mod journal;
mod journal_faults;
mod journal_trouble;
#[cfg(feature = "kafka")]
mod kafka;
mod live;
mod logs;
mod memory;
mod notify;
mod oidc;
mod openapi;
mod order;
#[cfg(feature = "otlp")]
mod otlp;
mod outputs;
mod overview;
mod page;
mod patterns;
mod plugin;
#[cfg(feature = "kafka")]
mod proxy;
mod push;
mod questions;
mod recordings;
mod remedies;
#[cfg(feature = "kafka")]
mod replicas;
mod require;
mod scenarios;
mod serve;
mod setup;
mod simulate;
mod soak;
mod support_bundle;
mod tool_switches;
mod transitions;
mod truce;
mod twins;
mod unanswered;
mod util;
mod watch;
mod watch_and_audit;
mod weaknesses;
mod wrappers;
