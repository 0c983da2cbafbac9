//! Reconciler of the Golden State (the desired state of objects, in manifests), which corrects drift without fighting
//! other writers. It is compatible with virt-platform-autopilot, the operator whose annotations, metrics and runbook it
//! uses.
//!
//! - [`manifest`] reads the manifests.
//! - [`overrides`] applies annotations with which people deviate from the Golden State on an object.
//! - [`drift`] computes differences, and [`plan`] decides the next action. Both are pure.
//! - [`controller`] is the task that executes the actions; [`watchers`] wakes it when files or objects change.

pub(crate) mod controller;
pub(crate) mod drift;
pub(crate) mod manifest;
pub mod overrides;
pub(crate) mod plan;
mod watchers;
