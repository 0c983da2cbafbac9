//! What kind of actor an account is: from its identity first, then from hints that its tool gives.
//!
//! The list is data: the first rule that matches counts, and a configuration may put its own in front.

mod rules;

use std::sync::LazyLock;

use self::rules::RULES;

/// What stands behind an actor.
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
    /// A ServiceAccount's controller.
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

/// One rule: what an actor and its tool must look like. `*` stands for any run of characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Pattern of the actor's name.
    pub actor: String,
    /// Pattern of the tool: field manager or product. Empty matches any.
    pub tool: String,
    /// What it then is.
    pub class: Class,
    /// And does.
    pub role: Role,
}

/// Rules, in order; and who honours the annotations that end a war.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Classes {
    rules: Vec<Rule>,
    honouring: Vec<String>,
}

/// Reconcilers that are known to honour the annotations `platform.kubevirt.io/…`.
pub const HONOURING: [&str; 2] = ["system:serviceaccount:*:virt-platform-autopilot", "system:serviceaccount:*:editwar"];

// === impl Class ===

impl Class {
    /// The word used in output and JSON.
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
    /// Whether it holds the cluster at what a repository says.
    pub fn is_gitops(self) -> bool {
        matches!(self, Role::ArgoCd | Role::Flux | Role::Gitops)
    }

    /// Whether it applies whole objects for several applications under one account, and marks them.
    pub fn applies(self) -> bool {
        matches!(self, Role::ArgoCd | Role::Flux | Role::Gitops | Role::Helm | Role::Terraform | Role::Ci)
    }

    /// What to call it in a sentence.
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
    /// These rules first, then the built-in ones.
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

    /// Actors that match these patterns honour the annotations, and no others.
    pub fn with_honouring(self, honouring: Vec<String>) -> Classes {
        Classes { honouring, ..self }
    }

    /// Whether an actor honours the annotations.
    pub fn is_honouring(&self, actor: &str) -> bool {
        self.honouring.iter().any(|pattern| is_match(pattern, actor))
    }

    /// The built-in rules.
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

/// Whether `text` is what `pattern` describes; `*` stands for any run of characters, none included.
pub fn is_match(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let mut is_open = false;
    let mut last = None;
    for part in parts {
        is_open = true;
        if let Some(middle) = last.replace(part) {
            match rest.find(middle) {
                Some(at) => rest = &rest[at + str::len(middle)..],
                None => return false,
            }
        }
    }
    match last {
        Some(last) => rest.ends_with(last),
        None => !is_open && rest.is_empty(),
    }
}

#[cfg(test)]
#[path = "class/tests.rs"]
mod tests;
