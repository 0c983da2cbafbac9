//! Classifies actors: what kind of account it is, from its name and from hints that its tool gives.
//!
//! The rules are data. The first rule that matches decides, and rules from the configuration precede the built-in ones.

mod class;
mod role;
mod rules;

use std::sync::LazyLock;

pub use self::class::ActorClass;
pub use self::role::Role;
use self::rules::RULES;
use crate::util::glob::is_match;

/// A rule: patterns for an actor and its tool. `*` matches any number of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActorRule {
    /// Pattern of the actor's name.
    pub actor: String,
    /// Pattern of the tool, which is a field manager or product. Empty matches all.
    pub tool: String,
    /// The class of matching actors.
    pub class: ActorClass,
    /// The role of matching actors.
    pub role: Role,
}

/// The rules in order, and the patterns of actors that honour the annotations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActorClassifier {
    rules: Vec<ActorRule>,
    honouring: Vec<String>,
}

/// What an actor is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Classification {
    /// The kind of account.
    pub class: ActorClass,
    /// What it does.
    pub role: Role,
}

/// Reconcilers that are known to honour the `platform.kubevirt.io/…` annotations.
pub const HONOURING: [&str; 2] = ["system:serviceaccount:*:virt-platform-autopilot", "system:serviceaccount:*:editwar"];

// === impl ActorClassifier ===

impl ActorClassifier {
    /// Returns these rules followed by the built-in ones.
    pub fn with(first: Vec<ActorRule>) -> ActorClassifier {
        let built_in = RULES.iter().map(|rule| ActorRule {
            actor: rule.actor.into(),
            tool: rule.tool.into(),
            class: rule.class,
            role: rule.role,
        });
        let honouring = HONOURING.iter().map(|pattern| (*pattern).to_owned()).collect();
        ActorClassifier { rules: first.into_iter().chain(built_in).collect(), honouring }
    }

    /// Replaces the patterns of actors that honour the annotations.
    pub fn with_honouring(self, honouring: Vec<String>) -> ActorClassifier {
        ActorClassifier { honouring, ..self }
    }

    /// Whether an actor honours the annotations.
    pub fn is_honouring(&self, actor: &str) -> bool {
        self.honouring.iter().any(|pattern| is_match(pattern, actor))
    }

    /// Returns the built-in rules.
    pub fn built_in() -> &'static ActorClassifier {
        static BUILT_IN: LazyLock<ActorClassifier> = LazyLock::new(ActorClassifier::default);
        &BUILT_IN
    }

    /// Classifies an actor. The product in the user agent is matched as well as the tool, because a field manager can hide the program.
    pub fn classify(&self, actor: &str, tool: &str, user_agent: &str) -> Classification {
        let product = user_agent.split('/').next().unwrap_or_default();
        // Scripts and controllers also run kubectl. Then only the field manager identifies them.
        let product = if product.starts_with("kubectl") { tool } else { product };
        let is_tool = |pattern: &str| pattern.is_empty() || is_match(pattern, tool) || is_match(pattern, product);
        let is_it = |rule: &&ActorRule| is_match(&rule.actor, actor) && is_tool(&rule.tool);
        let person = Classification { class: ActorClass::Person, role: Role::Person };
        self.rules.iter().find(is_it).map_or(person, |rule| Classification { class: rule.class, role: rule.role })
    }
}

impl Default for ActorClassifier {
    fn default() -> ActorClassifier {
        ActorClassifier::with(Vec::new())
    }
}

#[cfg(test)]
#[path = "actor_class/tests.rs"]
mod tests;
