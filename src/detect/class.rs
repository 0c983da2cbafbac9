//! What kind of actor an account is: from its identity first, then from hints that its tool gives.
//!
//! The list is data: the first rule that matches counts, and a configuration may put its own in front.

use super::actor::Client;

/// What stands behind an actor.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// A controller: in-tree, an operator, an autoscaler.
    Controller,
    /// A tool that holds the cluster at what a repository says.
    Gitops,
    /// A person, with whatever tool.
    Person,
    /// A kubelet.
    Node,
    /// The API server itself.
    Apiserver,
    /// A mutating admission webhook.
    Webhook,
}

/// What an actor does for a living: finer than its class, and what remedies depend on.
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
    /// A person at `kubectl`.
    Kubectl,
    /// A person or a pipeline with Helm.
    Helm,
    /// A person or a pipeline with Terraform.
    Terraform,
    /// A web console.
    Console,
    /// A build pipeline.
    Ci,
    /// Any other person's tool.
    Person,
    /// A kubelet.
    Node,
    /// The API server.
    Apiserver,
    /// A mutating webhook.
    Webhook,
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

/// Identities, then what a ServiceAccount's tool says, then what a person's tool says.
const RULES: &[(&str, &str, Class, Role)] = &[
    ("webhook *", "", Class::Webhook, Role::Webhook),
    ("system:apiserver", "", Class::Apiserver, Role::Apiserver),
    ("system:node:*", "", Class::Node, Role::Node),
    ("system:serviceaccount:kube-system:horizontal-pod-autoscaler", "", Class::Controller, Role::Hpa),
    ("system:kube-controller-manager/horizontal-pod-autoscaler", "", Class::Controller, Role::Hpa),
    ("system:kube-controller-manager/*:horizontal-pod-autoscaler", "", Class::Controller, Role::Hpa),
    ("system:serviceaccount:*:vpa-*", "", Class::Controller, Role::Vpa),
    ("system:serviceaccount:*:*vertical-pod-autoscaler*", "", Class::Controller, Role::Vpa),
    ("system:serviceaccount:*:keda*", "", Class::Controller, Role::Autoscaler),
    ("system:serviceaccount:*:*autoscaler*", "", Class::Controller, Role::Autoscaler),
    ("system:serviceaccount:*:karpenter*", "", Class::Controller, Role::Autoscaler),
    ("system:serviceaccount:*:argocd-*", "", Class::Gitops, Role::ArgoCd),
    ("system:serviceaccount:argocd:*", "", Class::Gitops, Role::ArgoCd),
    ("system:serviceaccount:openshift-gitops:*", "", Class::Gitops, Role::ArgoCd),
    ("system:serviceaccount:flux-system:*", "", Class::Gitops, Role::Flux),
    ("system:serviceaccount:*:kustomize-controller", "", Class::Gitops, Role::Flux),
    ("system:serviceaccount:*:helm-controller", "", Class::Gitops, Role::Flux),
    ("system:serviceaccount:config-management-*", "", Class::Gitops, Role::Gitops),
    ("system:serviceaccount:*:*root-reconciler*", "", Class::Gitops, Role::Gitops),
    ("system:serviceaccount:*:*ns-reconciler*", "", Class::Gitops, Role::Gitops),
    ("system:serviceaccount:*:fleet-*", "", Class::Gitops, Role::Gitops),
    ("system:serviceaccount:cattle-fleet-*", "", Class::Gitops, Role::Gitops),
    ("system:serviceaccount:*:kapp-controller*", "", Class::Gitops, Role::Gitops),
    ("system:serviceaccount:*", "argocd-*", Class::Gitops, Role::ArgoCd),
    ("system:serviceaccount:*", "kustomize-controller", Class::Gitops, Role::Flux),
    ("system:serviceaccount:*", "helm-controller", Class::Gitops, Role::Flux),
    ("system:serviceaccount:*", "configsync", Class::Gitops, Role::Gitops),
    ("system:serviceaccount:*", "fleetagent", Class::Gitops, Role::Gitops),
    ("system:serviceaccount:*:*gitlab*", "", Class::Person, Role::Ci),
    ("system:serviceaccount:*:*jenkins*", "", Class::Person, Role::Ci),
    ("system:serviceaccount:kube-system:*-controller", "kube-controller-manager", Class::Controller, Role::InTree),
    ("system:serviceaccount:kube-system:generic-garbage-collector", "", Class::Controller, Role::InTree),
    ("system:serviceaccount:*", "", Class::Controller, Role::Operator),
    ("system:kube-controller-manager*", "", Class::Controller, Role::InTree),
    ("system:cloud-controller-manager*", "", Class::Controller, Role::InTree),
    ("system:kube-scheduler", "", Class::Controller, Role::InTree),
    ("*", "helm", Class::Person, Role::Helm),
    ("*", "Helm", Class::Person, Role::Helm),
    ("*", "Terraform*", Class::Person, Role::Terraform),
    ("*", "HashiCorp*", Class::Person, Role::Terraform),
    ("*", "Mozilla", Class::Person, Role::Console),
    ("*", "kubectl*", Class::Person, Role::Kubectl),
    ("*", "oc", Class::Person, Role::Kubectl),
    ("*", "argocd-*", Class::Gitops, Role::ArgoCd),
    ("*", "kustomize-controller", Class::Gitops, Role::Flux),
    ("*", "", Class::Person, Role::Person),
];

// === impl Class ===

impl Class {
    /// The word used in output and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Controller => "controller",
            Class::Gitops => "gitops",
            Class::Person => "person",
            Class::Node => "node",
            Class::Apiserver => "apiserver",
            Class::Webhook => "webhook",
        }
    }

    /// Whether nobody types what it writes.
    pub fn is_automation(self) -> bool {
        self != Class::Person
    }
}

// === impl Role ===

impl Role {
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

    /// What a client is.
    pub fn of(&self, client: &Client) -> (Class, Role) {
        let is_it = |rule: &&Rule| {
            is_match(&rule.actor, &client.actor) && (rule.tool.is_empty() || is_match(&rule.tool, &client.tool))
        };
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
mod tests {
    use super::*;
    use crate::detect::actor::Origin;

    fn of(actor: &str, tool: &str) -> (Class, Role) {
        Classes::default().of(&Client::new(actor, tool, "", Origin::default()))
    }

    #[test]
    fn patterns_match_as_in_a_shell() {
        for (pattern, text, is) in [
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("*", "", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXcYb", false),
            ("a*a", "a", false),
        ] {
            assert_eq!(is_match(pattern, text), is, "{pattern} {text}");
        }
    }

    #[test]
    fn actors_are_what_they_are() {
        use Class::*;
        for (actor, tool, class, role) in [
            (
                "system:serviceaccount:kube-system:horizontal-pod-autoscaler",
                "kube-controller-manager",
                Controller,
                Role::Hpa,
            ),
            (
                "system:kube-controller-manager/horizontal-pod-autoscaler",
                "kube-controller-manager",
                Controller,
                Role::Hpa,
            ),
            (
                "system:serviceaccount:kube-system:deployment-controller",
                "kube-controller-manager",
                Controller,
                Role::InTree,
            ),
            (
                "system:serviceaccount:openshift-cnv:virt-platform-autopilot",
                "virt-platform-autopilot",
                Controller,
                Role::Operator,
            ),
            ("system:serviceaccount:argocd:argocd-application-controller", "argocd-controller", Gitops, Role::ArgoCd),
            ("system:serviceaccount:deploy:robot", "kustomize-controller", Gitops, Role::Flux),
            ("system:node:node-1", "kubelet", Node, Role::Node),
            ("system:apiserver", "kube-apiserver", Apiserver, Role::Apiserver),
            ("alice", "kubectl-edit", Person, Role::Kubectl),
            ("alice", "helm", Person, Role::Helm),
            ("alice", "Mozilla", Person, Role::Console),
            ("bob", "stormclient", Person, Role::Person),
            ("webhook tags/tags.example.com", "", Webhook, Role::Webhook),
        ] {
            assert_eq!(of(actor, tool), (class, role), "{actor}");
        }
    }
}
