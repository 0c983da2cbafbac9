//! Why a war happens: one of the runbook's causes, with the sentences that say why it is thought so.

use super::class::Class;
use super::verdict::Confidence;

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
    /// Admission changes the object back, or accepts and refuses the same write in turns.
    FlappingWebhook,
    /// Writers that race on one resourceVersion.
    LockContention,
    /// The object is deleted and created in turns.
    RecreateWar,
    /// Nothing above can be shown.
    Unknown,
}

/// What is known of a war, as far as its cause depends on it.
#[derive(Clone, Debug)]
pub struct Symptoms<'a> {
    /// How sure the war itself is.
    pub confidence: Confidence,
    /// The parties with their classes.
    pub parties: Vec<(&'a str, Class)>,
    /// Retakes of the whole object, by deletion and creation.
    pub existence_retakes: u32,
    /// All retakes.
    pub retakes: u32,
    /// 409s on stale resourceVersions by parties.
    pub stale: u32,
    /// Writes by parties.
    pub writes: u32,
    /// Who refuses and accepts in turns, if anybody: name and turns.
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
            Cause::LockContention => "lock_contention",
            Cause::RecreateWar => "recreate_war",
            Cause::Unknown => "unknown",
        }
    }
}

/// The cause of a war, and the evidence for it in sentences.
pub fn cause(symptoms: &Symptoms<'_>) -> (Cause, Vec<String>) {
    let names = |class: &dyn Fn(Class) -> bool| {
        let of_class = symptoms.parties.iter().filter(|(_, c)| class(*c)).map(|(name, _)| *name);
        of_class.collect::<Vec<_>>().join(", ")
    };
    let mut evidence = Vec::new();
    if let Some((by, turns)) = symptoms.flapping {
        evidence.push(format!("{by} accepted and refused the same writer's requests in turns, {turns} times"));
    }
    if symptoms.stale > 0 {
        evidence.push(format!(
            "{} requests of the parties failed on a stale resourceVersion, against {} that were stored",
            symptoms.stale, symptoms.writes
        ));
    }
    let webhooks = names(&|class| class == Class::Webhook);
    let people = names(&|class| class == Class::Person);
    let cause = if !webhooks.is_empty() {
        evidence.insert(0, format!("{webhooks} sets back in admission what others ask for"));
        Cause::FlappingWebhook
    } else if symptoms.existence_retakes * 2 > symptoms.retakes {
        evidence
            .insert(0, format!("the object was deleted and created in turns, {} times", symptoms.existence_retakes));
        Cause::RecreateWar
    } else if symptoms.confidence == Confidence::Possible && symptoms.stale * 2 > symptoms.writes {
        evidence.insert(0, "the audit level does not show fields, and the writers mostly fail on each other".into());
        Cause::LockContention
    } else if symptoms.parties.len() < 2 {
        Cause::Unknown
    } else if !people.is_empty() {
        let others = names(&|class| class != Class::Person);
        evidence.insert(
            0,
            match others.is_empty() {
                true => format!("all parties are people: {people}"),
                false => format!("{people} by hand against {others}"),
            },
        );
        Cause::ManualEdits
    } else {
        evidence.insert(0, format!("all parties are programs: {}", names(&|_| true)));
        Cause::ConflictingAutomation
    };
    (cause, evidence)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symptoms<'a>(parties: &[(&'a str, Class)]) -> Symptoms<'a> {
        Symptoms {
            confidence: Confidence::Confirmed,
            parties: parties.to_vec(),
            existence_retakes: 0,
            retakes: 20,
            stale: 0,
            writes: 22,
            flapping: None,
        }
    }

    #[test]
    fn the_parties_tell_the_cause() {
        let of = |parties: &[(&'static str, Class)]| cause(&symptoms(parties)).0;
        let (hpa, alice) = (("hpa", Class::Controller), ("alice", Class::Person));
        assert_eq!(of(&[hpa, ("autopilot", Class::Controller)]), Cause::ConflictingAutomation);
        assert_eq!(of(&[hpa, ("argocd", Class::Gitops)]), Cause::ConflictingAutomation);
        assert_eq!(of(&[hpa, alice]), Cause::ManualEdits);
        assert_eq!(of(&[alice, ("webhook tags/tags.example.com", Class::Webhook)]), Cause::FlappingWebhook);
        assert_eq!(of(&[alice]), Cause::Unknown);
    }

    #[test]
    fn deletions_and_races_tell_the_cause() {
        let pair = [("a", Class::Person), ("b", Class::Person)];
        assert_eq!(cause(&Symptoms { existence_retakes: 14, retakes: 14, ..symptoms(&pair) }).0, Cause::RecreateWar);
        let blind = Symptoms { confidence: Confidence::Possible, stale: 300, ..symptoms(&pair) };
        assert_eq!(cause(&blind).0, Cause::LockContention);
        assert_eq!(cause(&Symptoms { stale: 57, ..symptoms(&pair) }).0, Cause::ManualEdits);
    }
}
