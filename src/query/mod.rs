//! Shows what was detected: reports, the JSON API, decisions, and the web page.
//!
//! - [`reporter`]: builds the views from the states of the objects. [`history`] does the same from the journal.
//! - [`views`]: the types of the stable JSON.
//! - [`routes`]: the HTTP routes, each with its right, its handler and its description. [`api`]: how a request reaches
//!   its handler. The handlers: [`objects`], [`decision`], [`watch`] (watched decisions), [`enforcement`] (the kill
//!   switch), `health`, [`log_level`], `ui`, `openapi`.
//! - [`client`]: requests these routes from a running server.

pub mod api;
pub mod client;
pub mod decision;
pub mod enforcement;
mod health;
pub mod history;
pub mod log_level;
pub mod objects;
mod openapi;
mod reply;
pub mod reporter;
pub mod route;
pub mod routes;
mod ui;
pub mod views;
pub mod watch;
