//! Why a war happens: determines its cause, with sentences that give the evidence. The causes are an ordered table of
//! rules, of which the first that matches decides.

use super::class::Class;
use super::verdict::Confidence;
use super::war::Scope;

/// The cause of a war.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// Programs that want different values.
    ConflictingAutomation,
    /// A person is one of the parties.
    ManualEdits,
    /// Admission changes the object back, or alternately accepts and rejects the same write.
    FlappingWebhook,
    /// Admission replaces the requested value each time, and the stored value never changes.
    OverridingWebhook,
    /// Writers that fail on each other's resourceVersion.
    LockContention,
    /// Different actors alternately delete and create the object.
    RecreateWar,
    /// All values are notations of one value.
    Normalisation,
    /// One account, with two replicas or versions of its program.
    VersionSkew,
    /// One account, used by two programs.
    SharedAccount,
    /// No other cause can be shown.
    Unknown,
}

/// The properties of a war that determine its cause.
#[derive(Clone, Debug)]
pub struct Symptoms<'a> {
    /// The confidence of the war.
    pub confidence: Confidence,
    /// What the war is over.
    pub scope: Scope,
    /// The parties, with their classes.
    pub parties: Vec<(&'a str, Class)>,
    /// Whether all values of all contested fields are notations of one value.
    pub is_over_form: bool,
    /// Number of 409s of the parties because of a stale resourceVersion.
    pub stale: u32,
    /// Number of writes of the parties.
    pub writes: u32,
    /// The webhook or policy that alternately accepts and rejects, if there is one, with the number of alternations.
    pub flapping: Option<(&'a str, u32)>,
}

// === impl Cause ===

impl Cause {
    /// Returns the word for output and JSON.
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

/// Returns a cause and the sentence that explains it, or `None` if the rule does not match.
type Rule = fn(&Symptoms<'_>) -> Option<(Cause, String)>;

/// The rules in order of precedence.
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

/// Returns the cause of a war, and the evidence as sentences.
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
    // Names of applications consist of a noun and a name; names of tools are one word.
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

    /// Returns the account that fights itself, and its instances, if all parties are of one account.
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
