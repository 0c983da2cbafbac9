//! The result of a check, as JSON and JUnit show it.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::Path;

use serde::Serialize;

use super::cluster::Reading;
use crate::check::{Certainty, Contender, Finding, ObjectId, RULES, Rule, Snapshot};
use crate::cli::Outcome;
use crate::cli::junit::xml;
use crate::query::views::Remedy;
use crate::util::shell::quoted;

/// The result of a check.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The findings, those that are bound to happen first.
    pub findings: Vec<View>,
    /// What the result is based on.
    pub coverage: Coverage,
    /// The rules with findings that are not shown.
    #[serde(skip)]
    hidden: BTreeSet<&'static str>,
}

/// What a check has read.
#[derive(Debug, Default, Serialize)]
pub(super) struct Coverage {
    /// Number of objects.
    pub objects: usize,
    /// The resources that were read.
    pub resources: Vec<String>,
    /// The namespace; empty for all.
    pub namespace: String,
    /// Why the answer may be incomplete.
    pub problems: Vec<String>,
}

/// A finding.
#[derive(Debug, Serialize)]
pub(super) struct View {
    /// The rule that found it.
    pub rule: &'static str,
    /// How certain it is.
    pub certainty: Certainty,
    /// The object.
    pub object: ObjectId,
    /// Other objects that will be fought over in the same way.
    pub more_objects: Vec<ObjectId>,
    /// The contested fields.
    pub fields: Vec<String>,
    /// The contenders.
    pub contenders: Vec<Contender>,
    /// What shows that each of them will write.
    pub evidence: Vec<String>,
    /// When the fight goes on.
    pub when: String,
    /// What to change, and where.
    pub advice: String,
    /// Commands that make the change, or show where to make it.
    pub remedies: Vec<Remedy>,
}

// === impl Report ===

impl Report {
    pub(super) fn new(
        findings: Vec<Finding>,
        hidden: BTreeSet<&'static str>,
        reading: Reading,
        snapshot: &Snapshot,
        namespace: Option<&str>,
    ) -> Report {
        let coverage = Coverage {
            objects: snapshot.len(),
            resources: reading.read,
            namespace: namespace.unwrap_or_default().to_owned(),
            problems: reading.problems,
        };
        Report { findings: findings.into_iter().map(View::from).collect(), hidden, coverage }
    }

    /// Makes the commands use the kubeconfig that was read, and not that of kubectl.
    pub(super) fn use_kubeconfig(&mut self, kubeconfig: &Path) {
        let kubeconfig = quoted(&kubeconfig.display().to_string());
        let with = |command: &str| format!("(export KUBECONFIG={kubeconfig}; {command})");
        for remedy in self.findings.iter_mut().flat_map(|finding| &mut finding.remedies) {
            remedy.command = with(&remedy.command);
            remedy.undo = remedy.undo.as_deref().map(with);
        }
    }

    pub(super) fn add_problem(&mut self, problem: String) {
        self.coverage.problems.push(problem);
    }

    /// Returns the outcome. If something was not read, neither result is certain.
    pub(super) fn outcome(&self) -> Outcome {
        if !self.coverage.problems.is_empty() {
            Outcome::Unusable
        } else if self.findings.is_empty() {
            Outcome::Calm
        } else {
            Outcome::War
        }
    }

    /// Returns the number of findings of this certainty.
    pub(super) fn count(&self, certainty: Certainty) -> usize {
        self.findings.iter().filter(|finding| finding.certainty == certainty).count()
    }

    /// Formats the result as JUnit: a test for each finding, one for each rule that found nothing, and one for each problem. A
    /// rule that found nothing is skipped if it did not see everything, or if what it found is not shown.
    pub(super) fn junit(&self) -> String {
        let passed = RULES.iter().filter(|rule| self.findings.iter().all(|finding| finding.rule != rule.name));
        let passed: Vec<&Rule> = passed.collect();
        let skipped = |rule: &Rule| {
            if !self.coverage.problems.is_empty() {
                Some("not everything was read")
            } else {
                self.hidden.contains(rule.name).then_some("possible fights are not shown")
            }
        };
        let skips = passed.iter().filter(|rule| skipped(rule).is_some()).count();
        let (failures, errors) = (self.findings.len(), self.coverage.problems.len());
        let tests = failures + errors + passed.len();
        let mut out = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
        let _ = writeln!(
            out,
            "<testsuite name=\"editwar check\" tests=\"{tests}\" failures=\"{failures}\" errors=\"{errors}\" skipped=\"{skips}\">"
        );
        for problem in &self.coverage.problems {
            let _ = writeln!(
                out,
                "  <testcase classname=\"editwar.check\" name=\"everything was read\">\n    <error message=\"{}\"/>\n  </testcase>",
                xml(problem)
            );
        }
        for finding in &self.findings {
            let name = format!("{}: {}, {}", finding.rule, finding.object, finding.fields.join(", "));
            let _ = writeln!(
                out,
                "  <testcase classname=\"editwar.check\" name=\"{}\">\n    <failure type=\"{}\" message=\"{}\">{}</failure>\n  </testcase>",
                xml(&name),
                finding.certainty.as_str(),
                xml(&finding.sentence()),
                finding.details().iter().map(|line| xml(line)).collect::<Vec<_>>().join("\n")
            );
        }
        for rule in passed {
            let _ = write!(out, "  <testcase classname=\"editwar.check\" name=\"{}\"", xml(rule.title));
            let _ = match skipped(rule) {
                Some(why) => writeln!(out, ">\n    <skipped message=\"{why}\"/>\n  </testcase>"),
                None => writeln!(out, "/>"),
            };
        }
        out.push_str("</testsuite>\n");
        out
    }
}

// === impl View ===

impl View {
    /// Returns what will happen as one sentence.
    pub(super) fn sentence(&self) -> String {
        let contenders: Vec<String> =
            self.contenders.iter().map(|Contender { name, does }| format!("{name} {does}")).collect();
        format!("{} of {}: {}", self.fields.join(", "), self.object, contenders.join("; "))
    }

    /// Returns the evidence, when it happens, and the advice.
    pub(super) fn details(&self) -> Vec<String> {
        let evidence = self.evidence.iter().map(|sentence| format!("evidence: {sentence}"));
        evidence.chain([format!("when: {}", self.when), format!("to do: {}", self.advice)]).collect()
    }
}

impl From<Finding> for View {
    fn from(finding: Finding) -> View {
        let Finding {
            rule,
            certainty,
            object,
            more_objects,
            fields,
            contenders,
            evidence,
            when,
            advice,
            remedies,
            involved: _,
        } = finding;
        let remedies = remedies.into_iter().map(Remedy::from).collect();
        View { rule, certainty, object, more_objects, fields, contenders, evidence, when, advice, remedies }
    }
}
