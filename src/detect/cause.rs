//! Determines the cause of a war, with the evidence for it as sentences. The causes are an ordered table of rules; the
//! first rule that matches decides.
//!
//! To add a cause, add a variant of [`Cause`] and a row of `RULES`, and add it to the lists of causes in `docs/api.md` and
//! `docs/detection.md`.

use super::actor_class::ActorClass;
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
    /// Writers whose requests fail because other writers change the resourceVersion in between.
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
pub(crate) struct Symptoms<'a> {
    /// The confidence of the war.
    pub confidence: Confidence,
    /// What the war is over.
    pub scope: Scope,
    /// The parties, with their classes.
    pub parties: Vec<(&'a str, ActorClass)>,
    /// Whether all values of all contested fields are notations of one value.
    pub is_over_form: bool,
    /// Number of 409s of the parties because of a stale resourceVersion.
    pub stale: u32,
    /// Number of writes of the parties.
    pub writes: u32,
    /// The webhook or policy that alternately accepts and rejects, if there is one.
    pub flapping: Option<Flapping<'a>>,
}

/// A webhook or policy that alternately accepts and rejects the same requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flapping<'a> {
    /// Its name.
    pub by: &'a str,
    /// The number of alternations.
    pub alternations: u32,
}

/// The instances of one account that fights itself.
struct Instances<'a> {
    account: &'a str,
    names: Vec<&'a str>,
}

/// One row of the table: a cause, and the test by which it is recognised.
struct Rule {
    cause: Cause,
    /// The word for output and JSON.
    name: &'static str,
    /// Returns the sentence that explains the cause, or `None` if the war has another cause.
    explain: fn(&Symptoms<'_>) -> Option<String>,
}

/// The rules in order of precedence: the first that matches decides.
const RULES: &[Rule] = &[
    Rule { cause: Cause::OverridingWebhook, name: "overriding_webhook", explain: overriding_webhook },
    Rule { cause: Cause::FlappingWebhook, name: "flapping_webhook", explain: flapping_webhook },
    Rule { cause: Cause::RecreateWar, name: "recreate_war", explain: recreate_war },
    Rule { cause: Cause::Normalisation, name: "normalisation", explain: normalisation },
    Rule { cause: Cause::VersionSkew, name: "version_skew", explain: version_skew },
    Rule { cause: Cause::SharedAccount, name: "shared_account", explain: shared_account },
    Rule { cause: Cause::LockContention, name: "lock_contention", explain: lock_contention },
    Rule { cause: Cause::ManualEdits, name: "manual_edits", explain: manual_edits },
    Rule { cause: Cause::ConflictingAutomation, name: "conflicting_automation", explain: conflicting_automation },
];

/// The cause of a war, with the evidence for it as sentences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Explanation {
    /// The cause.
    pub cause: Cause,
    /// What indicates this cause.
    pub evidence: Vec<String>,
}

/// Returns the cause of a war, and the evidence for it.
pub(crate) fn explain(symptoms: &Symptoms<'_>) -> Explanation {
    let matching = RULES.iter().find_map(|rule| Some((rule.cause, (rule.explain)(symptoms)?)));
    let (cause, mut evidence) = match matching {
        Some((cause, sentence)) => (cause, vec![sentence]),
        None => (Cause::Unknown, Vec::new()),
    };
    if let Some(Flapping { by, alternations }) = symptoms.flapping {
        evidence
            .push(format!("{by} alternately accepted and rejected requests of the same writer, {alternations} times"));
    }
    if symptoms.stale > 0 {
        evidence.push(format!(
            "{} requests of the parties failed because of a stale resourceVersion, and {} succeeded",
            symptoms.stale, symptoms.writes
        ));
    }
    Explanation { cause, evidence }
}

fn overriding_webhook(symptoms: &Symptoms<'_>) -> Option<String> {
    let (webhooks, others) = (symptoms.of(ActorClass::Webhook), symptoms.but(ActorClass::Webhook));
    (symptoms.scope == Scope::Override).then(|| {
        format!("{webhooks} replaces the request of {others} with the stored value each time, so nothing changes")
    })
}

fn flapping_webhook(symptoms: &Symptoms<'_>) -> Option<String> {
    let webhooks = symptoms.of(ActorClass::Webhook);
    (!webhooks.is_empty()).then(|| format!("{webhooks} changes values of others during admission"))
}

fn recreate_war(symptoms: &Symptoms<'_>) -> Option<String> {
    (symptoms.scope == Scope::Object).then(|| "the object was alternately deleted and created".to_owned())
}

fn normalisation(symptoms: &Symptoms<'_>) -> Option<String> {
    let sentence = "all values are notations of the same value: the parties only write it differently";
    symptoms.is_over_form.then(|| sentence.to_owned())
}

fn version_skew(symptoms: &Symptoms<'_>) -> Option<String> {
    let Instances { account, names } = symptoms.instances()?;
    let is_replica = |name: &&str| name.starts_with("pod ") || name.contains(" v");
    names
        .iter()
        .all(is_replica)
        .then(|| format!("several instances of {account} write different values: {}", names.join(" against ")))
}

fn shared_account(symptoms: &Symptoms<'_>) -> Option<String> {
    let Instances { account, names } = symptoms.instances()?;
    // Names of applications consist of a noun and a name; names of tools are one word.
    let is_tool = |name: &&str| !name.contains(' ');
    names.iter().all(is_tool).then(|| format!("several tools use {account}: {}", names.join(" against ")))
}

fn lock_contention(symptoms: &Symptoms<'_>) -> Option<String> {
    let is_race = !symptoms.confidence.is_decided() && symptoms.stale * 2 > symptoms.writes;
    let sentence = "the audit level does not show fields, and many requests fail because of conflicts";
    is_race.then(|| sentence.to_owned())
}

fn manual_edits(symptoms: &Symptoms<'_>) -> Option<String> {
    let (people, others) = (symptoms.of(ActorClass::Person), symptoms.but(ActorClass::Person));
    let sentence = if others.is_empty() {
        format!("all parties are people: {people}")
    } else {
        format!("{people} edits by hand what {others} writes too")
    };
    (symptoms.parties.len() > 1 && !people.is_empty()).then_some(sentence)
}

fn conflicting_automation(symptoms: &Symptoms<'_>) -> Option<String> {
    if let Some(Instances { account, names }) = symptoms.instances() {
        return Some(format!("{account} applies the object twice: {}", names.join(" against ")));
    }
    (symptoms.parties.len() > 1).then(|| format!("all parties are programs: {}", symptoms.but(ActorClass::Person)))
}

// === impl Cause ===

impl Cause {
    /// Returns the word for output and JSON.
    pub fn as_str(self) -> &'static str {
        RULES.iter().find(|rule| rule.cause == self).map_or("unknown", |rule| rule.name)
    }
}

// === impl Symptoms ===

impl<'a> Symptoms<'a> {
    fn of(&self, class: ActorClass) -> String {
        self.names(|of| of == class)
    }

    fn but(&self, class: ActorClass) -> String {
        self.names(|of| of != class)
    }

    fn names(&self, is_it: impl Fn(ActorClass) -> bool) -> String {
        let of_class = self.parties.iter().filter(|(_, class)| is_it(*class)).map(|(name, _)| *name);
        of_class.collect::<Vec<_>>().join(", ")
    }

    /// Returns the account that fights itself, and its instances, if all parties are of one account.
    fn instances(&self) -> Option<Instances<'a>> {
        let split: Option<Vec<_>> = self.parties.iter().map(|(name, _)| name.split_once(" via ")).collect();
        let split = split?;
        let account = split.first()?.0;
        (split.len() > 1 && split.iter().all(|(of, _)| *of == account))
            .then(|| Instances { account, names: split.iter().map(|(_, instance)| *instance).collect() })
    }
}

#[cfg(test)]
#[path = "cause/tests.rs"]
mod tests;
