//! How the events of a source arrived: in which formats, and what they lost on their way.

use crate::audit::envelope::{ACTIVITY_LOG, DATA_ACCESS_LOG, Notes, OPENSHIFT_NAME, VIAQ_NAME};
use crate::audit::event::{CUT, Event, OMITTED, UNKNOWN_QUERY};

/// How the events of one source arrived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Feed {
    /// What its converter found.
    pub notes: Notes,
    /// Writes that were cut off inside of a body.
    pub cut: u64,
    /// Writes whose body the platform left out because of its size.
    pub omitted: u64,
    /// Writes whose format has no field manager.
    pub without_query: u64,
    /// Writes that were observed as an admission webhook reviewed them, without their audit events.
    pub reviewed: u64,
    /// Those of them whose audit events arrived later.
    pub confirmed: u64,
}

// === impl Feed ===

impl Feed {
    /// Whether there is something to record of an event.
    pub(crate) fn concerns(event: &Event<'_>) -> bool {
        [CUT, OMITTED, UNKNOWN_QUERY].iter().any(|key| event.annotation(key).is_some())
    }

    /// Records what a write has lost.
    pub(crate) fn record(&mut self, event: &Event<'_>) {
        let has = |key| u64::from(event.annotation(key).is_some());
        self.cut += has(CUT);
        self.omitted += has(OMITTED);
        self.without_query += has(UNKNOWN_QUERY);
    }

    /// Adds what its converter found.
    pub(crate) fn notes(&mut self, notes: &Notes) {
        self.notes.add(notes);
    }

    /// Adds what was found elsewhere of the same source.
    pub(super) fn add(&mut self, other: &Feed) {
        self.notes.add(&other.notes);
        self.cut += other.cut;
        self.omitted += other.omitted;
        self.without_query += other.without_query;
        self.reviewed += other.reviewed;
        self.confirmed += other.confirmed;
    }

    /// Returns the number of writes that only an admission webhook has shown.
    pub fn unconfirmed(&self) -> u64 {
        self.reviewed.saturating_sub(self.confirmed)
    }

    /// Returns what to know about answers from this source, as sentences.
    pub fn caveats(&self) -> Vec<String> {
        let has = |format: &str| self.notes.formats.keys().any(|name| name.split(" > ").any(|name| name == format));
        let mut caveats = Vec::new();
        if self.cut > 0 {
            caveats.push(format!(
                "{} writes were cut off on their way: who wrote which object is known, but not which fields.",
                self.cut
            ));
        }
        if self.omitted > 0 {
            caveats.push(format!(
                "{} bodies were left out because of their size: their fields are unknown.",
                self.omitted
            ));
        }
        if has(ACTIVITY_LOG) && !has(DATA_ACCESS_LOG) {
            caveats.push(
                "It has no entries of the Data Access log of Google Cloud, so that reads and writes of status are missing."
                    .to_owned(),
            );
        }
        if self.without_query > 0 {
            caveats.push(format!(
                "{} writes have no field manager and no groups: Google Cloud does not log them.",
                self.without_query
            ));
        }
        if has(VIAQ_NAME) || has(OPENSHIFT_NAME) {
            caveats.push(
                "It came through a ClusterLogForwarder. If that has a filter of the type kubeAPIAudit, writes and bodies \
                 may be missing."
                    .to_owned(),
            );
        }
        let unconfirmed = self.unconfirmed();
        if unconfirmed > 0 {
            caveats.push(format!(
                "{unconfirmed} writes are known only from an admission webhook, which does not tell whether they were stored."
            ));
        }
        caveats
    }
}
