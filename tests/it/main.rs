//! it
mod probe;
