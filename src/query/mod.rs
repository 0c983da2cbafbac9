//! Shows what was detected: reports, the JSON API, decisions, and the web page.
//!
//! - [`lens`]: builds the views from the states of the objects. [`past`] does the same from the journal.
//! - [`views`]: the types of the stable JSON.
//! - [`routes`]: the HTTP routes, each with its right, its handler and its description. [`api`]: how a request reaches
//!   its handler. The handlers: [`objects`], [`decision`], [`watch`] (watched decisions), [`enforcement`] (the kill
//!   switch), `health`, [`log_level`], `page`, `openapi`.
//! - [`client`]: requests these routes from a running server.

pub mod api;
pub mod client;
pub mod decision;
pub mod enforcement;
mod health;
pub mod lens;
pub mod log_level;
pub mod objects;
mod openapi;
mod page;
pub mod past;
mod reply;
pub mod route;
pub mod routes;
pub mod views;
pub mod watch;
