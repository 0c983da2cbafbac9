//! How to end a war: commands that run as printed, the best first. Destructive ones never come first.
//!
//! The options are those of the runbook: A disables the rival, B leaves the object to it, C leaves the field to it or adopts
//! its value, D fixes the webhook.

mod location;
mod shell;

use serde_json::{Value, json};

use self::location::Location;
use self::shell::target;
use super::actor_class::Role;
use super::annotations::{PAUSED, PREFIX, UNPATCHED_KINDS, UNPATCHED_PATHS};
use super::cause::Cause;
use super::instance::account;
use crate::util::shell::quoted;

/// The properties of a war that determine its remedies.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// `deployments.apps`.
    pub resource: String,
    /// The kind.
    pub kind: &'a str,
    /// The API group.
    pub group: &'a str,
    /// The namespace; empty for cluster-scoped objects.
    pub namespace: &'a str,
    /// The name.
    pub name: &'a str,
    /// The cause of the war.
    pub cause: Cause,
    /// The parties, with their roles.
    pub parties: Vec<(&'a str, Role)>,
    /// The party that honours the annotations, if there is one.
    pub honouring: Option<&'a str>,
    /// The contested fields, with the values that the parties want.
    pub fields: Vec<ContestedField<'a>>,
    /// The HorizontalPodAutoscaler that targets the object, if the events show it.
    pub hpa: Option<String>,
    /// The Argo CD application that tracks the object, if its annotations show it.
    pub application: Option<String>,
    /// The policy or webhook that alternately accepts and rejects.
    pub flapping: Option<&'a str>,
}

/// A contested field, and the values that the parties want.
#[derive(Clone, Debug)]
pub struct ContestedField<'a> {
    /// Its path, in editwar's notation.
    pub path: &'a str,
    /// The values, without redacted and truncated ones.
    pub wanted: Vec<Wanted<'a>>,
}

/// A value that a party wants a field to have.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted<'a> {
    /// The party.
    pub actor: &'a str,
    /// The value; `None` if the party removes the field.
    pub value: Option<Value>,
}

/// One way to end a war.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remedy {
    /// The option of the runbook.
    pub option: &'static str,
    /// A short title.
    pub title: String,
    /// A command that runs as printed.
    pub command: String,
    /// What the command changes.
    pub changes: String,
    /// What you give up.
    pub tradeoff: String,
}

/// Returns remedies of one kind.
type Rule = fn(&Facts<'_>) -> Vec<Remedy>;

/// The kinds of remedies, the best first.
const RULES: &[Rule] = &[
    |facts| facts.give_up_fields(),
    |facts| facts.adopt_values(),
    |facts| facts.by_gitops_tools(),
    |facts| facts.fix_flapping(),
    |facts| facts.leave_object(),
    |facts| facts.agree_with_person(),
    |facts| facts.disable_autoscaler(),
];

/// Returns the remedies for a war, the best first.
pub fn remedies(facts: &Facts<'_>) -> Vec<Remedy> {
    let mut found: Vec<Remedy> = RULES.iter().flat_map(|rule| rule(facts)).collect();
    if found.is_empty() {
        found.push(facts.investigate());
    }
    found
}

/// Returns the command that shows whether the war is over.
pub fn verify(facts: &Facts<'_>) -> String {
    let object = quoted(&format!("{}/{}", facts.resource, facts.name));
    format!("editwar who {object}{} --server http://127.0.0.1:8080", facts.namespace_flag())
}

// === impl Facts ===

impl Facts<'_> {
    fn namespace_flag(&self) -> String {
        if self.namespace.is_empty() { String::new() } else { format!(" -n {}", quoted(self.namespace)) }
    }

    /// Returns `kubectl VERB RESOURCE NAME -n NAMESPACE`.
    fn kubectl(&self, verb: &str) -> String {
        format!("kubectl {verb} {}{}", target(&self.resource, self.name), self.namespace_flag())
    }

    /// Returns the command that sets annotations and lifts the pause, which no annotation does by itself.
    fn annotate(&self, annotations: &[String]) -> String {
        let mut all: Vec<String> = annotations.iter().map(|a| quoted(&format!("{PREFIX}{a}"))).collect();
        all.push(format!("{PAUSED}-"));
        format!("{} {} --overwrite", self.kubectl("annotate"), all.join(" "))
    }

    /// C: leave the contested fields to the rival.
    fn give_up_fields(&self) -> Vec<Remedy> {
        let Some(owner) = self.honouring else { return Vec::new() };
        let locations: Vec<Location> = self.fields.iter().map(|f| Location::of(f.path)).collect();
        let dotted: Option<Vec<&str>> = locations.iter().map(|l| l.dotted.as_deref()).collect();
        let pointers: Option<Vec<&str>> = locations.iter().map(|l| l.pointer.as_deref()).collect();
        let annotation = match (dotted, pointers) {
            _ if locations.is_empty() => return Vec::new(),
            (Some(paths), _) => format!("ignore={}", paths.join(",")),
            (None, Some(paths)) => format!("ignore-fields={}", paths.join(",")),
            (None, None) => return Vec::new(),
        };
        let fields: Vec<&str> = self.fields.iter().map(|f| f.path).collect();
        vec![Remedy {
            option: "C",
            title: format!("leave {} to {}", fields.join(" and "), self.rivals(owner)),
            command: self.annotate(&[annotation]),
            changes: format!(
                "{owner} no longer writes {}, but still manages the rest of the object",
                fields.join(", ")
            ),
            tradeoff: format!("drift of {} is no longer corrected", fields.join(", ")),
        }]
    }

    /// C: make the rival's value the desired one.
    fn adopt_values(&self) -> Vec<Remedy> {
        self.honouring.and_then(|owner| self.adopt_values_of_rival(owner)).into_iter().collect()
    }

    fn adopt_values_of_rival(&self, owner: &str) -> Option<Remedy> {
        if UNPATCHED_KINDS.contains(&self.kind) || self.fields.is_empty() {
            return None;
        }
        let mut operations = Vec::new();
        for field in &self.fields {
            let pointer = Location::of(field.path).pointer?;
            let is_rejected = |p: &&str| pointer == **p || pointer.starts_with(&format!("{p}/"));
            if UNPATCHED_PATHS.iter().any(is_rejected) {
                return None;
            }
            let wanted: Vec<_> = field.wanted.iter().filter(|wanted| wanted.actor != owner).collect();
            // There is no single value to adopt if the rivals want several ones.
            let [wanted] = wanted.as_slice() else { return None };
            operations.push(match &wanted.value {
                Some(value) => json!({"op": "add", "path": pointer, "value": value}),
                None => json!({"op": "remove", "path": pointer}),
            });
        }
        let fields: Vec<&str> = self.fields.iter().map(|f| f.path).collect();
        Some(Remedy {
            option: "C",
            title: format!("adopt the value of {}", self.rivals(owner)),
            command: self.annotate(&[format!("patch={}", Value::from(operations))]),
            changes: format!("{owner} writes the value of {} from the annotation", fields.join(", ")),
            tradeoff: "the value stays the same, even if the rival wants another one later".into(),
        })
    }

    /// B: leave the whole object to the rival.
    fn leave_object(&self) -> Vec<Remedy> {
        let Some(owner) = self.honouring else { return Vec::new() };
        vec![Remedy {
            option: "B",
            title: format!("leave the object to {}", self.rivals(owner)),
            command: self.annotate(&["mode=unmanaged".to_owned()]),
            changes: format!("{owner} no longer writes this object, and its pause is lifted"),
            tradeoff: "the desired state of this object is no longer enforced".into(),
        }]
    }

    fn rivals(&self, owner: &str) -> String {
        let rivals = self.parties.iter().map(|(actor, _)| *actor).filter(|actor| *actor != owner);
        rivals.collect::<Vec<_>>().join(" and ")
    }

    /// C and D: what the tools of the parties offer themselves.
    fn by_gitops_tools(&self) -> Vec<Remedy> {
        let of = |(actor, role): &(&str, Role)| {
            [self.ignore_in_gitops(actor, *role), self.exempt_from_webhook(actor, *role)]
        };
        self.parties.iter().flat_map(of).flatten().collect()
    }

    /// C: the GitOps tool's own setting to ignore fields.
    fn ignore_in_gitops(&self, actor: &str, role: Role) -> Option<Remedy> {
        let pointers: Option<Vec<String>> = self.fields.iter().map(|f| Location::of(f.path).pointer).collect();
        match (role, pointers.filter(|p| !p.is_empty()), &self.application) {
            (Role::ArgoCd, Some(pointers), Some(application)) => {
                let ignore = json!({"spec": {"ignoreDifferences": [{
                    "group": self.group, "kind": self.kind, "name": self.name, "namespace": self.namespace,
                    "jsonPointers": pointers}], "syncPolicy": {"syncOptions": ["RespectIgnoreDifferences=true"]}}});
                let patch = quoted(&ignore.to_string());
                Some(Remedy {
                    option: "C",
                    title: format!("make Argo CD ignore {}", pointers.join(" and ")),
                    command: format!(
                        "kubectl patch {} -n argocd --type=merge -p {patch}",
                        target("applications.argoproj.io", application)
                    ),
                    changes: format!("the application {application} ignores these fields when it compares and syncs"),
                    tradeoff: "the values in the repository have no effect; the patch replaces other ignoreDifferences of the application".into(),
                })
            }
            // An object that is deleted repeatedly would lose the annotation.
            (Role::Flux, _, _) if self.cause != Cause::RecreateWar => Some(Remedy {
                option: "C",
                title: "make Flux ignore the object".into(),
                command: format!(
                    "{} kustomize.toolkit.fluxcd.io/reconcile=disabled --overwrite",
                    self.kubectl("annotate")
                ),
                changes: format!("{actor} no longer applies this object"),
                tradeoff: "the repository has no effect on this object until the annotation is removed".into(),
            }),
            _ => None,
        }
    }

    /// D: exempt the other parties from a mutating webhook.
    fn exempt_from_webhook(&self, actor: &str, role: Role) -> Option<Remedy> {
        let (configuration, webhook) = actor.strip_prefix("webhook ")?.split_once('/')?;
        if role == Role::Policy && configuration.starts_with("kyverno-") {
            return Some(self.exclude_in_kyverno());
        }
        let others = self.parties.iter().map(|(other, _)| *other).filter(|other| *other != actor);
        let exempt: Vec<String> =
            others.map(|other| format!("request.userInfo.username != {}", Value::from(other))).collect();
        let patch = json!({"webhooks": [{"name": webhook, "matchConditions": [
            {"name": "editwar-exempt", "expression": exempt.join(" && ")}]}]});
        Some(Remedy {
            option: "D",
            title: format!("exempt {} from the webhook {webhook}", self.rivals(actor)),
            command: format!(
                "kubectl patch {} --type=strategic -p {}",
                target("mutatingwebhookconfigurations.admissionregistration.k8s.io", configuration),
                quoted(&patch.to_string())
            ),
            changes: "the webhook no longer sees these requests; its other conditions stay".into(),
            tradeoff: format!("{webhook} has no effect on their requests, for all objects"),
        })
    }

    /// D: exclude the object in the Kyverno policy. Kyverno maintains its webhook configuration itself and reverts changes
    /// within a second.
    fn exclude_in_kyverno(&self) -> Remedy {
        Remedy {
            option: "D",
            title: format!("exclude {}/{} in the Kyverno policy that changes it", self.kind, self.name),
            command: "kubectl get clusterpolicies.kyverno.io,policies.kyverno.io -A -o wide".into(),
            changes: "nothing; add the object to the rule's `exclude` block".into(),
            tradeoff: "the policy has no effect on this object".into(),
        }
    }

    /// D: investigate a policy or webhook that alternately accepts and rejects.
    fn fix_flapping(&self) -> Vec<Remedy> {
        self.flapping.and_then(|flapping| self.investigate_flapping(flapping)).into_iter().collect()
    }

    fn investigate_flapping(&self, flapping: &str) -> Option<Remedy> {
        let (kind, name) = flapping.split_once(' ')?;
        let (resource, title) = match kind {
            "policy" => ("validatingadmissionpolicies.admissionregistration.k8s.io", "the policy"),
            _ => ("validatingwebhookconfigurations.admissionregistration.k8s.io", "the configuration of the webhook"),
        };
        let command = match kind {
            "policy" => format!("kubectl get {} -o yaml", target(resource, name)),
            _ => format!("kubectl get {resource} -o yaml"),
        };
        Some(Remedy {
            option: "D",
            title: format!("find out why {title} {name} decides differently about the same request"),
            command,
            changes: "nothing; make its decisions independent of time, chance and order".into(),
            tradeoff: "none".into(),
        })
    }

    /// A: delete an autoscaler. This is the last resort; giving up the field is better.
    fn disable_autoscaler(&self) -> Vec<Remedy> {
        let is_party = self.parties.iter().any(|(_, role)| *role == Role::Hpa);
        if !is_party {
            return Vec::new();
        }
        let remedy = match &self.hpa {
            Some(hpa) => Remedy {
                option: "A",
                title: format!("delete the HorizontalPodAutoscaler {hpa}"),
                command: format!(
                    "kubectl delete {}{}",
                    target("horizontalpodautoscalers.autoscaling", hpa),
                    self.namespace_flag()
                ),
                changes: format!("{} no longer scales with the load", self.name),
                tradeoff: "no autoscaling of this object; the settings of the autoscaler are lost".into(),
            },
            None => Remedy {
                option: "A",
                title: "find the HorizontalPodAutoscaler that targets it".into(),
                command: format!("kubectl get horizontalpodautoscalers.autoscaling{} -o wide", self.namespace_flag()),
                changes: "nothing; the autoscaler that targets the object is the rival".into(),
                tradeoff: "none".into(),
            },
        };
        vec![remedy]
    }

    /// A: agree with a person on one owner. People are not disabled; the command only shows their rights.
    fn agree_with_person(&self) -> Vec<Remedy> {
        let is_person = |role: Role| {
            matches!(role, Role::Kubectl | Role::Helm | Role::Terraform | Role::Console | Role::Ci | Role::Person)
        };
        let Some((person, _)) = self.parties.iter().find(|(_, role)| is_person(*role)) else { return Vec::new() };
        let person = account(person);
        let others: Vec<&str> = self.parties.iter().map(|(a, _)| *a).filter(|a| account(a) != person).collect();
        let with = if others.is_empty() { "the tools of that account".to_owned() } else { others.join(" and ") };
        vec![Remedy {
            option: "A",
            title: format!("agree on one owner of these fields: {person} works against {with}"),
            command: format!(
                "kubectl auth can-i update {}{} --as={}",
                quoted(&format!("{}/{}", self.resource, self.name)),
                self.namespace_flag(),
                quoted(person)
            ),
            changes: "nothing; the command shows whether that account may write the object".into(),
            tradeoff: "none".into(),
        }]
    }

    /// A: what to do if nothing better is known.
    fn investigate(&self) -> Remedy {
        Remedy {
            option: "A",
            title: "check which actor owns which field, and remove it from one of them".into(),
            command: format!("{} -o yaml --show-managed-fields", self.kubectl("get")),
            changes: "nothing".into(),
            tradeoff: "none".into(),
        }
    }
}

#[cfg(test)]
#[path = "remedy/tests.rs"]
mod tests;
