//! Small helpers that belong to no other module. Every module may use them; they use no other module.

pub(crate) mod backoff;
pub(crate) mod clock;
pub(crate) mod cluster_name;
pub(crate) mod duration;
pub(crate) mod endpoint;
pub(crate) mod glob;
pub(crate) mod http_client;
pub(crate) mod lock;
pub(crate) mod readiness;
pub(crate) mod shell;
pub(crate) mod time_input;
