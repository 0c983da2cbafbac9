//! Who made a write: the effective user (split by controller where many controllers share one user), and its tool.

use std::sync::Arc;

use super::actor_class::{ActorClass, ActorClassifier, Classification, Role};
use super::meter::{Charge, Meter, TEXT_BYTES};
use super::pipeline_account::pipeline_account;
use crate::audit::event::Event;

/// Users that many controllers share. Their user agents end with the controller's name.
const SHARED_USERS: [&str; 2] = ["system:kube-controller-manager", "system:cloud-controller-manager"];

/// One account with one tool. The account identifies the actor. The tool is a hint that distinguishes two programs of
/// one account.
///
/// The source address is not part of a client's identity, but the pod and the instance are: replicas and applications
/// of one account may fight each other.
#[derive(Clone, Debug)]
pub struct Client {
    /// The actor: the effective user name, `user/controller` for shared users, or `webhook CONFIGURATION/NAME` for
    /// mutating webhooks.
    pub actor: Arc<str>,
    /// The field manager or, without one, the product in the user agent, which the API server then uses as the manager.
    pub tool: Arc<str>,
    /// The full user agent.
    pub user_agent: Arc<str>,
    /// The application that the client applies, taken from its writes: `Kustomization shop-prod`. Empty if not known.
    pub instance: Arc<str>,
    /// Whether the actor is a field manager, because only a watch shows its writes. Several accounts may be behind it.
    pub is_manager: bool,
    /// The kind of account.
    pub class: ActorClass,
    /// What the account does, for the choice of remedies.
    pub role: Role,
    /// Where it writes from. This is evidence only; of it, only the pod is part of the identity.
    pub origin: Origin,
    /// A hash of the actor, for fast comparison.
    pub actor_id: u64,
    /// A hash of the client, for fast comparison.
    pub id: u64,
    charge: Charge,
}

/// Where a client writes from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Origin {
    /// The source address.
    pub source_ip: Arc<str>,
    /// The pod to which its token belongs.
    pub pod: Arc<str>,
    /// The account that impersonates it.
    pub impersonator: Arc<str>,
}

/// The actor of an event and its user agent, borrowed from the event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity<'a> {
    /// The user, see [`Client::actor`], without the controller's name.
    pub user: &'a str,
    /// The account that impersonated the actor.
    pub impersonator: Option<&'a str>,
    /// The full user agent.
    pub agent: &'a str,
}

impl<'a> Identity<'a> {
    /// Returns the identity of an event. The user is empty if authentication failed.
    pub fn of(event: &'a Event<'_>) -> Identity<'a> {
        let user = event.impersonated.as_deref().unwrap_or(&event.username);
        let impersonator = event.impersonated.as_ref().map(|_| event.username.as_ref());
        Identity { user, impersonator, agent: &event.user_agent }
    }

    /// Returns the product name at the beginning of the user agent.
    pub fn product(&self) -> &'a str {
        &self.agent[..self.agent.find(['/', ' ']).unwrap_or(self.agent.len())]
    }

    /// Returns the controller's name, for shared users.
    pub fn controller(&self) -> Option<&'a str> {
        // `kube-controller-manager/v1.36.2 (linux/amd64) kubernetes/$Format/deployment-controller`
        let is_shared = SHARED_USERS.contains(&self.user);
        behind_commit(self.agent).filter(|name| is_shared && !name.is_empty())
    }

    /// Returns the actor's name. Accounts that a pipeline creates for each run count as one actor.
    pub fn actor(&self) -> std::borrow::Cow<'a, str> {
        match self.controller() {
            Some(controller) => format!("{}/{controller}", self.user).into(),
            None => pipeline_account(self.user).map_or(self.user.into(), Into::into),
        }
    }
}

/// Returns what follows the commit in a user agent of Kubernetes' own programs.
fn behind_commit(agent: &str) -> Option<&str> {
    let (_, commit) = agent.split_once(" kubernetes/")?;
    commit.split_once('/').map(|(_, rest)| rest)
}

impl Client {
    /// Returns the client that represents a mutating webhook.
    pub fn webhook(configuration: &str, webhook: &str) -> Client {
        Client::named(&format!("webhook {configuration}/{webhook}"))
    }

    /// Returns a client of which only the actor's name is known.
    pub fn named(actor: &str) -> Client {
        Client::new(actor, "", "", Origin::default())
    }

    /// Returns the client for an account, a tool and an origin, classified by the built-in rules.
    pub fn new(actor: &str, tool: &str, user_agent: &str, origin: Origin) -> Client {
        let actor_id = super::hash(actor);
        let Classification { class, role } = ActorClassifier::built_in().classify(actor, tool, user_agent);
        let (actor, tool, user_agent) = (actor.into(), tool.into(), user_agent.into());
        let mut client = Client {
            actor,
            tool,
            user_agent,
            instance: "".into(),
            is_manager: false,
            class,
            role,
            origin,
            actor_id,
            id: 0,
            charge: Charge::default(),
        };
        client.identify();
        client
    }

    /// Returns the client as a field manager that a watch showed, or as an account.
    pub fn of_watch(self, is_manager: bool) -> Client {
        Client { is_manager, ..self }
    }

    /// Returns the client, classified by these rules.
    pub fn classified(mut self, classes: &ActorClassifier) -> Client {
        Classification { class: self.class, role: self.role } =
            classes.classify(&self.actor, &self.tool, &self.user_agent);
        self
    }

    /// Returns the client, with its bytes counted by this meter as long as it lives.
    pub fn metered(mut self, meter: &Meter) -> Client {
        let Origin { source_ip, pod, impersonator } = &self.origin;
        let texts = [&self.actor, &self.tool, &self.user_agent, &self.instance, source_ip, pod, impersonator];
        let text_bytes: usize = texts.into_iter().map(|text| text.len() + TEXT_BYTES).sum();
        self.charge = meter.charge(size_of::<Client>() + text_bytes);
        self
    }

    /// Returns the bytes that the meter counts.
    pub fn bytes(&self) -> usize {
        self.charge.bytes()
    }

    /// Returns the client as one instance of its program.
    pub fn of_instance(&self, instance: &str) -> Client {
        let mut client = Client { instance: instance.into(), ..self.clone() };
        client.identify();
        client
    }

    /// Whether `label` is a name of this client's party: the actor's name, or one that distinguishes it from an
    /// opponent of the same account.
    pub fn is_named(&self, label: &str) -> bool {
        let Some(rest) = label.strip_prefix(&*self.actor) else { return false };
        let Some(what) = rest.strip_prefix(" via ") else { return rest.is_empty() };
        let version = |rest: &str| rest.strip_prefix(' ').is_some_and(|version| self.user_agent.contains(version));
        what == &*self.instance
            || what == &*self.tool
            || what.strip_prefix("pod ").is_some_and(|pod| pod == &*self.origin.pod)
            || what.strip_prefix(&*self.tool).is_some_and(version)
    }

    fn identify(&mut self) {
        self.id = super::hash_of(&(self.actor_id, &self.tool, &self.user_agent, &self.instance, &self.origin.pod));
    }

    /// Whether it is not known who wrote. Only writes that a watch shows have such a client. It is no actor: several
    /// may be behind it.
    pub fn is_unknown(&self) -> bool {
        self.actor.is_empty()
    }

    /// Whether both clients are the same actor, with any tool.
    pub fn is_same_actor(&self, other: &Client) -> bool {
        self.actor_id == other.actor_id
    }
}

impl PartialEq for Client {
    fn eq(&self, other: &Client) -> bool {
        self.id == other.id
    }
}

impl Eq for Client {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::event::{Level, Stage, Verb};

    fn event(username: &'static str, impersonated: Option<&'static str>, user_agent: &'static str) -> Event<'static> {
        Event {
            level: Level::Metadata,
            audit_id: "".into(),
            stage: Stage::ResponseComplete,
            request_uri: "".into(),
            verb: Verb::Patch,
            username: username.into(),
            impersonated: impersonated.map(Into::into),
            pod: "".into(),
            source_ip: "".into(),
            user_agent: user_agent.into(),
            object_ref: None,
            status: None,
            request_object: None,
            response_object: None,
            received: None,
            staged: None,
            annotations: Vec::new(),
        }
    }

    #[test]
    fn a_shared_user_is_split_by_its_controller() {
        let name = |user, agent| Identity::of(&event(user, None, agent)).actor().into_owned();
        let agent = "kube-controller-manager/v1.36.2 (linux/amd64) kubernetes/$Format/deployment-controller";
        assert_eq!(
            name("system:kube-controller-manager", agent),
            "system:kube-controller-manager/deployment-controller"
        );
        assert_eq!(name("system:kube-controller-manager", "curl/8"), "system:kube-controller-manager");
        assert_eq!(name("system:kube-controller-manager", ""), "system:kube-controller-manager");
        assert_eq!(name("alice", agent), "alice");
    }

    #[test]
    fn the_actor_is_the_impersonated_user() {
        let event = event("admin", Some("alice"), "kubectl/v1.36.2 (linux/amd64) kubernetes/$Format");
        let identity = Identity::of(&event);
        assert_eq!(identity.actor(), "alice");
        assert_eq!(identity.impersonator, Some("admin"));
        assert_eq!(identity.product(), "kubectl");
    }

    #[test]
    fn an_instance_is_a_separate_client_of_the_same_actor() {
        let flux = Client::new("flux", "kustomize-controller", "kustomize-controller/v1.4", Origin::default());
        let shop = flux.of_instance("Kustomization shop");
        assert_eq!(&*shop.instance, "Kustomization shop");
        assert!(shop != flux && shop.is_same_actor(&flux) && shop == flux.of_instance("Kustomization shop"));
        assert!(shop != flux.of_instance("Kustomization web"));
    }

    #[test]
    fn a_party_is_named_by_what_distinguishes_it() {
        let origin = Origin { pod: "web-1".into(), ..Origin::default() };
        let client = Client::new("a", "manager", "manager/v1 (linux/amd64)", origin).of_instance("Application web");
        for name in ["a", "a via Application web", "a via manager", "a via pod web-1", "a via manager v1"] {
            assert!(client.is_named(name), "{name}");
        }
        for name in ["b", "ab", "a via", "a via pod web-2", "a via Application x", "a via other", "a via manager v2"] {
            assert!(!client.is_named(name), "{name}");
        }
    }

    #[test]
    fn the_bytes_of_a_client_count_as_long_as_it_lives() {
        let origin = Origin { source_ip: "10.0.0.1".into(), pod: "web-1".into(), impersonator: "admin".into() };
        let client = Client::new("alice", "kubectl", "kubectl/v1", origin).of_instance("Application web");
        assert_eq!(client.bytes(), 0, "no meter counts it");
        let meter = Meter::default();
        let client = client.metered(&meter);
        // alice, kubectl, kubectl/v1, Application web, 10.0.0.1, web-1 and admin.
        let texts = 5 + 7 + 10 + 15 + 8 + 5 + 5;
        assert_eq!(client.bytes(), size_of::<Client>() + texts + 7 * TEXT_BYTES);
        assert_eq!(meter.bytes(), client.bytes());
        drop(client);
        assert_eq!(meter.bytes(), 0);
    }
}
