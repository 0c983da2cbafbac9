//! The findings of `doctor`.

use serde::Serialize;

use crate::cli::evidence::Standing;

/// The state of a checked step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum State {
    /// It works.
    Ok,
    /// It works, but can be improved.
    Weak,
    /// It does not work.
    Broken,
    /// It could not be checked.
    Unknown,
}

/// The result of one check.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Finding {
    /// The step that was checked.
    pub link: &'static str,
    /// Its state.
    pub state: State,
    /// What was observed.
    pub text: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// All results, in the order of an event's path.
#[derive(Clone, Debug, Default, Serialize)]
pub(in crate::cli) struct Findings {
    pub(super) findings: Vec<Finding>,
}

// === impl Findings ===

impl Findings {
    pub(super) fn add(&mut self, link: &'static str, state: State, text: String, hint: Option<&str>) {
        self.findings.push(Finding { link, state, text, hint: hint.map(str::to_owned) });
    }

    pub(super) fn good(&mut self, link: &'static str, text: String) {
        self.add(link, State::Ok, text, None);
    }

    pub(super) fn weak(&mut self, link: &'static str, text: String, hint: &str) {
        self.add(link, State::Weak, text, Some(hint));
    }

    pub(super) fn bad(&mut self, link: &'static str, text: String, hint: &str) {
        self.add(link, State::Broken, text, Some(hint));
    }

    pub(super) fn unknown(&mut self, link: &'static str, text: String, hint: &str) {
        self.add(link, State::Unknown, text, Some(hint));
    }

    /// Adds the evidence that is available, and the next better kind.
    pub(super) fn evidence(&mut self, standing: Standing) {
        let state = match (&standing.has, &standing.next) {
            (None, _) => State::Unknown,
            (Some(_), Some(_)) => State::Weak,
            (Some(_), None) => State::Ok,
        };
        let next = standing.next.map(|next| format!("next: {next}"));
        self.add("evidence", state, standing.text, next.as_deref());
    }

    /// Marks a broken step as one that the server works without.
    pub(super) fn excuse(&mut self, link: &str, hint: &str) {
        for finding in self.findings.iter_mut().filter(|f| f.link == link && f.state == State::Broken) {
            finding.state = State::Weak;
            finding.hint = Some(hint.to_owned());
        }
    }

    pub(super) fn is_broken(&self) -> bool {
        self.findings.iter().any(|f| f.state == State::Broken)
    }
}
