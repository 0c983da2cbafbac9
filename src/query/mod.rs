//! Shows what was detected: reports, the JSON API, decisions, and the web page.
//!
//! - [`reporter`]: builds the views from the states of the objects. [`history`] does the same from the journal.
//! - [`views`]: the types of the stable JSON.
//! - [`routes`]: the HTTP routes, each with its right, its handler and its description. `dispatch`: how a request
//!   reaches its handler. [`api`]: what the handlers use. The handlers: [`objects`], [`decision`], [`watch`] (watched
//!   decisions, woken by [`change_signal`]), [`enforcement`] (the kill switch), `health`, [`log_level`], `ui`, `openapi`.
//! - [`client`]: requests these routes from a running server.

pub mod api;
pub mod change_signal;
pub mod client;
pub mod decision;
mod dispatch;
pub mod enforcement;
mod health;
pub mod history;
pub mod log_level;
pub mod objects;
mod openapi;
pub mod reply;
pub mod reporter;
pub mod route;
pub mod routes;
mod ui;
pub mod views;
pub mod watch;
