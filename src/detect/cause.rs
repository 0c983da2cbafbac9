//! Why a war happens: one of the runbook's causes or of ours, with the sentences that say why it is thought so. The causes are
//! an ordered table of rules: the first one that holds is the cause.

use super::class::Class;
use super::verdict::Confidence;
use super::war::Scope;

/// Why.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Programs that want different things.
    ConflictingAutomation,
    /// A person is one of the parties.
    ManualEdits,
    /// Admission changes the object back, or accepts and refuses the same write alternately.
    FlappingWebhook,
    /// Admission replaces what is asked for each time, and nothing stored moves.
    OverridingWebhook,
    /// Writers that race on one resourceVersion.
    LockContention,
    /// The object is deleted and created alternately.
    RecreateWar,
    /// All values are forms of one value.
    Normalisation,
    /// One account, two replicas or versions of its program.
    VersionSkew,
    /// One account, two programs.
    SharedAccount,
    /// Nothing above can be shown.
    Unknown,
}

/// What is known of a war, as far as its cause depends on it.
#[derive(Clone, Debug)]
pub struct Symptoms<'a> {
    /// How sure the war itself is.
    pub confidence: Confidence,
    /// What it is over.
    pub scope: Scope,
    /// The parties with their classes.
    pub parties: Vec<(&'a str, Class)>,
    /// Whether all values of all its fields are forms of one value.
    pub is_over_form: bool,
    /// 409s on stale resourceVersions by parties.
    pub stale: u32,
    /// Writes by parties.
    pub writes: u32,
    /// Who refuses and accepts alternately, if anybody: name and turns.
    pub flapping: Option<(&'a str, u32)>,
}

// === impl Cause ===

impl Cause {
    /// The word used in output and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Cause::ConflictingAutomation => "conflicting_automation",
            Cause::ManualEdits => "manual_edits",
            Cause::FlappingWebhook => "flapping_webhook",
            Cause::OverridingWebhook => "overriding_webhook",
            Cause::LockContention => "lock_contention",
            Cause::RecreateWar => "recreate_war",
            Cause::Normalisation => "normalisation",
            Cause::VersionSkew => "version_skew",
            Cause::SharedAccount => "shared_account",
            Cause::Unknown => "unknown",
        }
    }
}

/// A cause, and the sentence that says why it is one; `None` where it is not.
type Rule = fn(&Symptoms<'_>) -> Option<(Cause, String)>;

/// In order: the first that holds.
const RULES: &[Rule] = &[
    overriding_webhook,
    flapping_webhook,
    recreate_war,
    normalisation,
    version_skew,
    shared_account,
    lock_contention,
    manual_edits,
    conflicting_automation,
];

/// The cause of a war, and the evidence for it in sentences.
pub fn cause(symptoms: &Symptoms<'_>) -> (Cause, Vec<String>) {
    let found = RULES.iter().find_map(|rule| rule(symptoms));
    let (cause, why) = found.map_or((Cause::Unknown, None), |(cause, why)| (cause, Some(why)));
    let mut evidence: Vec<String> = why.into_iter().collect();
    if let Some((by, turns)) = symptoms.flapping {
        evidence.push(format!("{by} alternately accepted and rejected requests of the same writer, {turns} times"));
    }
    if symptoms.stale > 0 {
        evidence.push(format!(
            "{} requests of the parties failed because of a stale resourceVersion, and {} succeeded",
            symptoms.stale, symptoms.writes
        ));
    }
    (cause, evidence)
}

fn overriding_webhook(symptoms: &Symptoms<'_>) -> Option<(Cause, String)> {
    let (webhooks, others) = (symptoms.of(Class::Webhook), symptoms.but(Class::Webhook));
    (symptoms.scope == Scope::Override).then(|| {
        let why =
            format!("{webhooks} replaces the request of {others} with the stored value each time, so nothing changes");
        (Cause::OverridingWebhook, why)
    })
}

fn flapping_webhook(symptoms: &Symptoms<'_>) -> Option<(Cause, String)> {
    let webhooks = symptoms.of(Class::Webhook);
    let why = format!("{webhooks} changes values of others during admission");
    (!webhooks.is_empty()).then_some((Cause::FlappingWebhook, why))
}

fn recreate_war(symptoms: &Symptoms<'_>) -> Option<(Cause, String)> {
    (symptoms.scope == Scope::Object)
        .then(|| (Cause::RecreateWar, "the object was alternately deleted and created".to_owned()))
}

fn normalisation(symptoms: &Symptoms<'_>) -> Option<(Cause, String)> {
    let why = "all values are notations of the same value: the parties only write it differently";
    symptoms.is_over_form.then(|| (Cause::Normalisation, why.to_owned()))
}

fn version_skew(symptoms: &Symptoms<'_>) -> Option<(Cause, String)> {
    let (account, instances) = symptoms.instances()?;
    let is_replica = |name: &&str| name.starts_with("pod ") || name.contains(" v");
    instances.iter().all(is_replica).then(|| {
        let why = format!("several instances of {account} write different values: {}", instances.join(" against "));
        (Cause::VersionSkew, why)
    })
}

fn shared_account(symptoms: &Symptoms<'_>) -> Option<(Cause, String)> {
    let (account, instances) = symptoms.instances()?;
    // Applications have a noun before their name; tools are one word.
    instances
        .iter()
        .all(|name| !name.contains(' '))
        .then(|| (Cause::SharedAccount, format!("several tools use {account}: {}", instances.join(" against "))))
}

fn lock_contention(symptoms: &Symptoms<'_>) -> Option<(Cause, String)> {
    let is_race = symptoms.confidence == Confidence::Possible && symptoms.stale * 2 > symptoms.writes;
    let why = "the audit level does not show fields, and most requests fail because of conflicts";
    is_race.then(|| (Cause::LockContention, why.to_owned()))
}

fn manual_edits(symptoms: &Symptoms<'_>) -> Option<(Cause, String)> {
    let (people, others) = (symptoms.of(Class::Person), symptoms.but(Class::Person));
    let why = match others.is_empty() {
        true => format!("all parties are people: {people}"),
        false => format!("{people} by hand against {others}"),
    };
    (symptoms.parties.len() > 1 && !people.is_empty()).then_some((Cause::ManualEdits, why))
}

fn conflicting_automation(symptoms: &Symptoms<'_>) -> Option<(Cause, String)> {
    if let Some((account, instances)) = symptoms.instances() {
        let why = format!("{account} applies the object twice: {}", instances.join(" against "));
        return Some((Cause::ConflictingAutomation, why));
    }
    let why = || format!("all parties are programs: {}", symptoms.but(Class::Person));
    (symptoms.parties.len() > 1).then(|| (Cause::ConflictingAutomation, why()))
}

// === impl Symptoms ===

impl<'a> Symptoms<'a> {
    fn of(&self, class: Class) -> String {
        self.names(|of| of == class)
    }

    fn but(&self, class: Class) -> String {
        self.names(|of| of != class)
    }

    fn names(&self, is_it: impl Fn(Class) -> bool) -> String {
        let of_class = self.parties.iter().filter(|(_, class)| is_it(*class)).map(|(name, _)| *name);
        of_class.collect::<Vec<_>>().join(", ")
    }

    /// The account that fights itself, and its instances.
    fn instances(&self) -> Option<(&'a str, Vec<&'a str>)> {
        let split: Option<Vec<_>> = self.parties.iter().map(|(name, _)| name.split_once(" via ")).collect();
        let split = split?;
        let account = split.first()?.0;
        (split.len() > 1 && split.iter().all(|(of, _)| *of == account))
            .then(|| (account, split.iter().map(|(_, instance)| *instance).collect()))
    }
}

#[cfg(test)]
#[path = "cause/tests.rs"]
mod tests;
