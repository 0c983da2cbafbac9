//! The classes of actors.

/// The kind of an account.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum ActorClass {
    /// A controller: in-tree, an operator, an autoscaler.
    Controller,
    /// A tool that keeps the cluster in the state of a repository.
    Gitops,
    /// A pipeline, infrastructure as code, or a cloud's add-on manager: writes unattended, but does not watch objects.
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

// === impl ActorClass ===

impl ActorClass {
    /// Returns the word for output and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            ActorClass::Controller => "controller",
            ActorClass::Gitops => "gitops",
            ActorClass::Automation => "automation",
            ActorClass::Person => "person",
            ActorClass::Node => "node",
            ActorClass::Apiserver => "apiserver",
            ActorClass::Webhook => "webhook",
        }
    }
}
