//! The roles of actors.

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
