//! Integration tests: one binary with a file per surface.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod answers;
mod architecture;
mod auth;
mod cases;
mod check;
mod check_command;
mod cli;
mod clock;
mod cluster;
mod configuration;
mod decision;
mod deploy;
mod doors;
mod enforce;
mod envtest;
mod evasion;
mod evidence;
mod fake_api;
mod follow;
mod golden;
mod hostile;
mod injection;
mod interleaving;
mod journal;
mod journal_faults;
mod journal_trouble;
mod live;
mod logs;
mod memory;
mod openapi;
mod order;
#[cfg(feature = "otlp")]
mod otlp;
mod outputs;
mod page;
mod patterns;
mod plugin;
mod questions;
mod recordings;
mod remedies;
mod require;
mod scenarios;
mod serve;
mod setup;
mod simulate;
mod soak;
mod tool_switches;
mod transitions;
mod truce;
mod twins;
mod unanswered;
mod util;
mod watch;
mod weaknesses;
