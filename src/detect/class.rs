//! Classifies actors: what kind of account it is, from its name and from hints that its tool gives.
//!
//! The rules are data. The first rule that matches decides, and rules from the configuration precede the built-in ones.

mod rules;

use std::sync::LazyLock;

use self::rules::RULES;
use crate::util::glob::is_match;

/// The kind of an account.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A controller: in-tree, an operator, an autoscaler.
    Controller,
    /// A tool that keeps the cluster in the state of a repository.
    Gitops,
    /// A pipeline, infrastructure as code, or a cloud's add-on manager: writes without a person, and does not watch.
    Automation,
    /// A person, with any tool.
    Person,
    /// A kubelet.
    Node,
    /// The API server itself.
    Apiserver,
    /// A mutating admission webhook.
    Webhook,
}

/// The role of an actor, which is more specific than its class. Remedies depend on it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Part of Kubernetes.
    InTree,
    /// A controller with a ServiceAccount.
    Operator,
    /// HorizontalPodAutoscaler.
    Hpa,
    /// VerticalPodAutoscaler.
    Vpa,
    /// Another autoscaler (KEDA, cluster autoscalers).
    Autoscaler,
    /// Argo CD.
    ArgoCd,
    /// Flux.
    Flux,
    /// Another GitOps tool.
    Gitops,
    /// A person with `kubectl`.
    Kubectl,
    /// A person or a pipeline with Helm.
    Helm,
    /// A person or a pipeline with Terraform.
    Terraform,
    /// A web console.
    Console,
    /// A build pipeline.
    Ci,
    /// Another tool of a person.
    Person,
    /// A kubelet.
    Node,
    /// The API server.
    Apiserver,
    /// A mutating webhook.
    Webhook,
    /// A policy engine, which changes and checks writes of others.
    Policy,
    /// An add-on manager, which installs and upgrades parts of a platform.
    AddonManager,
    /// cert-manager.
    CertManager,
}

/// A rule: patterns for an actor and its tool. `*` matches any number of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Pattern of the actor's name.
    pub actor: String,
    /// Pattern of the tool, which is a field manager or product. Empty matches all.
    pub tool: String,
    /// The class of matching actors.
    pub class: Class,
    /// The role of matching actors.
    pub role: Role,
}

/// The rules in order, and the actors that honour the annotations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes {
    rules: Vec<Rule>,
    honouring: Vec<String>,
}

/// Reconcilers that are known to honour the `platform.kubevirt.io/…` annotations.
pub const HONOURING: [&str; 2] = ["system:serviceaccount:*:virt-platform-autopilot", "system:serviceaccount:*:editwar"];

// === impl Class ===

impl Class {
    /// Returns the word for output and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Controller => "controller",
            Class::Gitops => "gitops",
            Class::Automation => "automation",
            Class::Person => "person",
            Class::Node => "node",
            Class::Apiserver => "apiserver",
            Class::Webhook => "webhook",
        }
    }
}

// === impl Role ===

impl Role {
    /// Whether it keeps the cluster at the state that a repository describes.
    pub fn is_gitops(self) -> bool {
        matches!(self, Role::ArgoCd | Role::Flux | Role::Gitops)
    }

    /// Whether it applies whole objects of several applications under one account, and marks them.
    pub fn applies(self) -> bool {
        matches!(self, Role::ArgoCd | Role::Flux | Role::Gitops | Role::Helm | Role::Terraform | Role::Ci)
    }

    /// Returns its name in a sentence.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::InTree => "in-tree controller",
            Role::Operator => "operator",
            Role::Hpa => "horizontal pod autoscaler",
            Role::Vpa => "vertical pod autoscaler",
            Role::Autoscaler => "autoscaler",
            Role::ArgoCd => "Argo CD",
            Role::Flux => "Flux",
            Role::Gitops => "GitOps tool",
            Role::Kubectl => "person with kubectl",
            Role::Helm => "Helm",
            Role::Terraform => "Terraform",
            Role::Console => "person at a web console",
            Role::Ci => "build pipeline",
            Role::Person => "person",
            Role::Node => "kubelet",
            Role::Apiserver => "API server",
            Role::Webhook => "mutating webhook",
            Role::Policy => "policy engine",
            Role::AddonManager => "add-on manager",
            Role::CertManager => "cert-manager",
        }
    }
}

// === impl Classes ===

impl Classes {
    /// Returns these rules followed by the built-in ones.
    pub fn with(first: Vec<Rule>) -> Classes {
        let built_in = RULES.iter().map(|(actor, tool, class, role)| Rule {
            actor: (*actor).into(),
            tool: (*tool).into(),
            class: *class,
            role: *role,
        });
        let honouring = HONOURING.iter().map(|pattern| (*pattern).to_owned()).collect();
        Classes { rules: first.into_iter().chain(built_in).collect(), honouring }
    }

    /// Replaces the patterns of actors that honour the annotations.
    pub fn with_honouring(self, honouring: Vec<String>) -> Classes {
        Classes { honouring, ..self }
    }

    /// Whether an actor honours the annotations.
    pub fn is_honouring(&self, actor: &str) -> bool {
        self.honouring.iter().any(|pattern| is_match(pattern, actor))
    }

    /// Returns the built-in rules.
    pub fn built_in() -> &'static Classes {
        static BUILT_IN: LazyLock<Classes> = LazyLock::new(Classes::default);
        &BUILT_IN
    }

    /// What an actor is, from its name, its tool, and what its user agent begins with: a field manager can hide the program.
    pub fn of(&self, actor: &str, tool: &str, user_agent: &str) -> (Class, Role) {
        let product = user_agent.split('/').next().unwrap_or_default();
        // Scripts and controllers call kubectl too: with a field manager of their own they say who they are.
        let product = if product.starts_with("kubectl") { tool } else { product };
        let is_tool = |pattern: &str| pattern.is_empty() || is_match(pattern, tool) || is_match(pattern, product);
        let is_it = |rule: &&Rule| is_match(&rule.actor, actor) && is_tool(&rule.tool);
        self.rules.iter().find(is_it).map_or((Class::Person, Role::Person), |rule| (rule.class, rule.role))
    }
}

impl Default for Classes {
    fn default() -> Classes {
        Classes::with(Vec::new())
    }
}

#[cfg(test)]
#[path = "class/tests.rs"]
mod tests;
