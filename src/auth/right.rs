//! What a client may do.

/// A right.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Right {
    /// Post audit events.
    Ingest,
    /// Scrape metrics, which contain names of objects and actors, and the values of fields that they fight over.
    Metrics,
    /// Query wars, with values.
    Read,
    /// Use the kill switch, and change the log level.
    Admin,
}
