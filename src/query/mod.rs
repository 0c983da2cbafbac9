//! Shows what was detected: reports, the JSON API, decisions, and the web page.
//!
//! - [`lens`]: builds the views from the states of the objects. [`past`] does the same from the journal.
//! - [`views`] and [`answers`]: the types of the stable JSON.
//! - [`api`], [`openapi`], [`page`], [`levels`]: the HTTP routes and their description. [`follow`]: watched decisions.
//! - [`client`]: requests these routes from a running server.

pub mod answers;
pub mod api;
pub mod client;
pub mod follow;
pub mod lens;
pub mod levels;
pub mod openapi;
pub mod page;
pub mod past;
pub mod views;
