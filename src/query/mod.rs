//! The way out, reading: what the objects' states look like to people and programs.

pub mod api;
pub mod client;
pub mod follow;
pub mod lens;
pub mod levels;
pub mod openapi;
pub mod page;
pub mod past;
pub mod views;
