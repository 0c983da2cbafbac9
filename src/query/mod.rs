//! Shows what was detected: reports, the JSON API, decisions, and the web page.
//!
//! - [`reporter`]: builds the views from the states of the objects. [`history`] does the same from the journal.
//! - [`views`]: the types of the stable JSON.
//! - [`routes`]: the HTTP routes, each with its right, its handler and its description. `dispatch`: how a request
//!   reaches its handler. [`api`]: what the handlers use. The handlers: [`objects`], [`decision`], [`watch`] (watched
//!   decisions, woken by [`change_signal`]), [`enforcement`] (the kill switch), `health`, [`log_level`], `ui`, `openapi`,
//!   [`overview`] (the rows of the page, as a stream), [`sources`].
//! - [`client`]: requests these routes from a running server.

pub mod api;
pub(crate) mod change_signal;
pub(crate) mod client;
mod decision;
mod dispatch;
mod enforcement;
mod first_rows;
mod health;
mod history;
mod json_lines;
mod log_level;
mod objects;
mod openapi;
mod overview;
mod overview_snapshot;
pub(crate) mod reply;
pub mod reporter;
mod route;
pub(crate) mod routes;
mod sources;
mod ui;
pub mod views;
mod watch;
