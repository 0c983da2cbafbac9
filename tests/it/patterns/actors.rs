//! Actors: accounts, with the tool, pod and field manager that appear in their requests.

use serde_json::{Value, json};

use super::rng::Rng;

/// An identity, and its name as a party.
#[derive(Clone, Debug)]
pub(crate) struct Actor {
    pub(crate) user: String,
    pub(crate) agent: String,
    /// The `fieldManager=` of its requests. If absent, the product in the user agent.
    pub(crate) manager: Option<String>,
    pod: Option<String>,
    /// The account that impersonates it.
    impersonator: Option<String>,
    /// Its name in reports.
    pub(crate) party: String,
    ip: String,
}

const PEOPLE: [&str; 8] = ["alice", "bob", "carol@example.com", "dave", "erin", "oidc:frank", "grace", "heidi"];
const NAMES: [&str; 8] = ["atlas", "borealis", "cobalt", "delta", "ember", "fjord", "granite", "harbor"];

pub(crate) const KUBECTL: &str = "kubectl/v1.36.2 (linux/amd64) kubernetes/a1b2c3d";

impl Actor {
    pub(crate) fn new(user: &str, agent: &str) -> Actor {
        Actor {
            user: user.into(),
            agent: agent.into(),
            manager: None,
            pod: None,
            impersonator: None,
            party: user.into(),
            ip: "10.0.0.9".into(),
        }
    }

    /// Returns person number `nth`, different for each number within a seed.
    pub(crate) fn person(rng: &Rng, nth: usize) -> Actor {
        let first = (rng.seed >> 7) as usize % PEOPLE.len();
        Actor::new(PEOPLE[(first + nth) % PEOPLE.len()], KUBECTL)
            .manager("kubectl-edit")
            .address(&format!("10.9.0.{}", nth + 1))
    }

    /// A controller in a namespace, with a pod.
    pub(crate) fn controller(namespace: &str, name: &str, rng: &mut Rng) -> Actor {
        let user = format!("system:serviceaccount:{namespace}:{name}");
        let pod = format!("{name}-{}-{}", rng.hex(9), rng.hex(5));
        let agent = format!("{name}/v{}.{}.0 (linux/amd64) kubernetes/$Format", rng.within(1, 4), rng.within(0, 20));
        Actor::new(&user, &agent).pod(&pod).address(&format!("10.1.0.{}", rng.within(2, 250)))
    }

    /// Number `nth` of several operators with different names.
    pub(crate) fn operator(rng: &mut Rng, nth: usize) -> Actor {
        let name = format!("{}-operator", NAMES[((rng.seed >> 9) as usize + nth) % NAMES.len()]);
        let namespace = *rng.pick(&["operators", "platform", "infra", "team-a"]);
        Actor::controller(namespace, &name, rng)
    }

    /// A controller of kube-controller-manager with an account of its own.
    pub(crate) fn in_tree(name: &str) -> Actor {
        let user = format!("system:serviceaccount:kube-system:{name}");
        let agent = format!("kube-controller-manager/v1.36.2 (linux/amd64) kubernetes/a1b2c3d/{user}");
        Actor { user: user.clone(), agent, ..Actor::new(&user, "") }
    }

    /// A controller of kube-controller-manager if all share one account.
    pub(crate) fn shared_in_tree(name: &str) -> Actor {
        let agent = format!("kube-controller-manager/v1.36.2 (linux/amd64) kubernetes/a1b2c3d/{name}");
        let party = format!("system:kube-controller-manager/{name}");
        Actor { party, ..Actor::new("system:kube-controller-manager", &agent) }
    }

    pub(crate) fn flux(rng: &mut Rng) -> Actor {
        Actor::controller("flux-system", "kustomize-controller", rng).manager("kustomize-controller")
    }

    pub(crate) fn argo(rng: &mut Rng) -> Actor {
        Actor::controller("argocd", "argocd-application-controller", rng).manager("argocd-controller")
    }

    pub(crate) fn autoscaler() -> Actor {
        Actor::in_tree("horizontal-pod-autoscaler")
    }

    pub(crate) fn api_server() -> Actor {
        Actor::new("system:apiserver", "kube-apiserver/v1.36.2 (linux/amd64) kubernetes/a1b2c3d").address("127.0.0.1")
    }

    pub(crate) fn kubelet(node: &str) -> Actor {
        Actor::new(&format!("system:node:{node}"), "kubelet/v1.36.2 (linux/amd64) kubernetes/a1b2c3d")
    }

    /// The account of a pipeline.
    pub(crate) fn pipeline(name: &str) -> Actor {
        Actor::new(&format!("system:serviceaccount:ci:{name}"), KUBECTL)
            .manager("kubectl-client-side-apply")
            .address("10.7.0.4")
    }

    /// The actor that creates objects beforehand and takes no part otherwise.
    pub(crate) fn admin() -> Actor {
        Actor::new("installer", "installer/v1.0.0 (linux/amd64)").manager("installer")
    }

    pub(crate) fn manager(self, manager: &str) -> Actor {
        Actor { manager: Some(manager.into()), ..self }
    }

    pub(crate) fn agent(self, agent: &str) -> Actor {
        Actor { agent: agent.into(), ..self }
    }

    pub(crate) fn pod(self, pod: &str) -> Actor {
        Actor { pod: Some(pod.into()), ..self }
    }

    pub(crate) fn address(self, ip: &str) -> Actor {
        Actor { ip: ip.into(), ..self }
    }

    pub(crate) fn impersonated_by(self, who: &str) -> Actor {
        Actor { impersonator: Some(who.into()), ..self }
    }

    /// Names it `ACCOUNT via INSTANCE`, as an account that fights itself.
    pub(crate) fn via(self, instance: &str) -> Actor {
        Actor { party: format!("{} via {instance}", self.user), ..self }
    }

    /// Returns the field manager that the server records.
    pub(crate) fn field_manager(&self) -> String {
        let product = self.agent.split(['/', ' ']).next().unwrap_or_default();
        self.manager.clone().unwrap_or_else(|| product.into())
    }

    fn groups(&self) -> Value {
        match self.user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split(':').next()) {
            Some(namespace) => {
                json!(["system:serviceaccounts", format!("system:serviceaccounts:{namespace}"), "system:authenticated"])
            }
            None => json!(["developers", "system:authenticated"]),
        }
    }

    /// Returns the members `user`, `impersonatedUser`, `sourceIPs` and `userAgent` of an event, in this order.
    pub(crate) fn members(&self) -> Vec<(&'static str, Value)> {
        let mut own = json!({"username": self.user, "groups": self.groups()});
        if let Some(pod) = &self.pod {
            own["extra"] = json!({
                "authentication.kubernetes.io/credential-id": [format!("JTI={}", pod)],
                "authentication.kubernetes.io/node-name": ["node-2"],
                "authentication.kubernetes.io/pod-name": [pod],
                "authentication.kubernetes.io/pod-uid": [format!("uid-of-{pod}")],
            });
        }
        let mut members = match &self.impersonator {
            Some(who) => {
                let user = json!({"username": who, "groups": ["system:masters", "system:authenticated"]});
                vec![("user", user), ("impersonatedUser", own)]
            }
            None => vec![("user", own)],
        };
        members.push(("sourceIPs", json!([self.ip])));
        members.push(("userAgent", self.agent.as_str().into()));
        members
    }
}
