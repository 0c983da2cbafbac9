//! The way in: files, and what they are wrapped in. Everything here is bounded in memory, whatever comes.

pub mod ahead;
pub mod buffers;
pub mod decompress;
pub mod document;
pub mod files;
pub mod follow;
pub mod keep;
pub mod news;
pub mod tail;
pub mod webhook;
