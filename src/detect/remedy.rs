//! How to end a war: commands that run as printed, the best first. Nothing destructive comes first.
//!
//! The options are the runbook's: A disable the rival, B leave the object to it, C leave it the field or take its value
//! over, D fix the webhook.

use serde_json::{Value, json};

use super::annotations::{UNPATCHED_KINDS, UNPATCHED_PATHS};
use super::cause::Cause;
use super::class::Role;
use crate::util::shell::quoted;

/// The prefix of the annotations that reconcilers of this kind honour.
pub const PREFIX: &str = "platform.kubevirt.io/";

/// A war, as far as its remedies depend on it.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    /// `deployments.apps`.
    pub resource: String,
    /// Kind.
    pub kind: &'a str,
    /// API group.
    pub group: &'a str,
    /// Namespace, empty where cluster-scoped.
    pub namespace: &'a str,
    /// Name.
    pub name: &'a str,
    /// Why it happens.
    pub cause: Cause,
    /// Who fights, with what they are.
    pub parties: Vec<(&'a str, Role)>,
    /// The party that honours the annotations, if any does.
    pub honouring: Option<&'a str>,
    /// Over what, with the values of each party: `None` where it removed the field.
    pub fields: Vec<Contested<'a>>,
    /// The HorizontalPodAutoscaler that targets the object, where the events show it.
    pub hpa: Option<String>,
    /// The Argo CD application that tracks it, where its annotations show it.
    pub application: Option<String>,
    /// The policy or webhook that accepts and refuses alternately.
    pub flapping: Option<&'a str>,
}

/// A contested field, and what each party wants of it.
#[derive(Clone, Debug)]
pub struct Contested<'a> {
    /// Its path, as editwar writes it.
    pub path: &'a str,
    /// Who, what, how often. Values that are hidden or cut are not among them.
    pub wants: Vec<(&'a str, Option<Value>, u32)>,
}

/// One way to end a war.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remedy {
    /// The runbook's option.
    pub option: &'static str,
    /// In a few words.
    pub title: String,
    /// A command that runs as printed.
    pub command: String,
    /// What it changes.
    pub changes: String,
    /// What is given up by it.
    pub tradeoff: String,
}

/// A JSON Pointer and a dotted path, as the annotations want them.
struct Location {
    pointer: Option<String>,
    dotted: Option<String>,
}

/// The ways to end a war, the best first.
pub fn remedies(facts: &Facts<'_>) -> Vec<Remedy> {
    let mut found = Vec::new();
    if let Some(owner) = facts.honouring {
        found.extend(facts.ignore(owner));
        found.extend(facts.customise(owner));
    }
    for (actor, role) in &facts.parties {
        found.extend(facts.of_gitops(actor, *role));
        found.extend(facts.of_webhook(actor, *role));
    }
    found.extend(facts.of_flapping());
    if let Some(owner) = facts.honouring {
        found.push(facts.unmanaged(owner));
    }
    found.extend(facts.of_person());
    found.extend(facts.of_autoscaler());
    if found.is_empty() {
        found.push(facts.look());
    }
    found
}

/// How to see that it is over.
pub fn verify(facts: &Facts<'_>) -> String {
    let object = quoted(&format!("{}/{}", facts.resource, facts.name));
    format!("editwar who {object}{} --server http://127.0.0.1:8080", facts.namespace_flag())
}

// === impl Facts ===

impl Facts<'_> {
    fn namespace_flag(&self) -> String {
        if self.namespace.is_empty() { String::new() } else { format!(" -n {}", quoted(self.namespace)) }
    }

    /// `kubectl VERB RESOURCE NAME -n NAMESPACE`
    fn kubectl(&self, verb: &str) -> String {
        format!("kubectl {verb} {}{}", target(&self.resource, self.name), self.namespace_flag())
    }

    fn annotate(&self, annotations: &[String]) -> String {
        // Alone, none of the annotations ends a pause.
        let mut all: Vec<String> = annotations.iter().map(|a| quoted(&format!("{PREFIX}{a}"))).collect();
        all.push(format!("{PREFIX}reconcile-paused-"));
        format!("{} {} --overwrite", self.kubectl("annotate"), all.join(" "))
    }

    /// C: leave the contested fields to the rival.
    fn ignore(&self, owner: &str) -> Option<Remedy> {
        let locations: Vec<Location> = self.fields.iter().map(|f| Location::of(f.path)).collect();
        let dotted: Option<Vec<&str>> = locations.iter().map(|l| l.dotted.as_deref()).collect();
        let pointers: Option<Vec<&str>> = locations.iter().map(|l| l.pointer.as_deref()).collect();
        let annotation = match (dotted, pointers) {
            _ if locations.is_empty() => return None,
            (Some(paths), _) => format!("ignore={}", paths.join(",")),
            (None, Some(paths)) => format!("ignore-fields={}", paths.join(",")),
            (None, None) => return None,
        };
        let fields: Vec<&str> = self.fields.iter().map(|f| f.path).collect();
        Some(Remedy {
            option: "C",
            title: format!("leave {} to {}", fields.join(" and "), self.rivals(owner)),
            command: self.annotate(&[annotation]),
            changes: format!(
                "{owner} no longer writes {}, but still manages the rest of the object",
                fields.join(", ")
            ),
            tradeoff: format!("drift of {} is no longer corrected", fields.join(", ")),
        })
    }

    /// C: make the rival's value the desired one.
    fn customise(&self, owner: &str) -> Option<Remedy> {
        if UNPATCHED_KINDS.contains(&self.kind) || self.fields.is_empty() {
            return None;
        }
        let mut operations = Vec::new();
        for field in &self.fields {
            let pointer = Location::of(field.path).pointer?;
            let is_refused = |p: &&str| pointer == **p || pointer.starts_with(&format!("{p}/"));
            if UNPATCHED_PATHS.iter().any(is_refused) {
                return None;
            }
            let wants: Vec<_> = field.wants.iter().filter(|(actor, ..)| *actor != owner).collect();
            // A rival that wants something else each time wants no value.
            let [(_, want, _)] = wants.as_slice() else { return None };
            operations.push(match want {
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
    fn unmanaged(&self, owner: &str) -> Remedy {
        Remedy {
            option: "B",
            title: format!("leave the object to {}", self.rivals(owner)),
            command: self.annotate(&["mode=unmanaged".to_owned()]),
            changes: format!("{owner} no longer writes this object, and its pause is lifted"),
            tradeoff: "the desired state of this object is no longer enforced".into(),
        }
    }

    fn rivals(&self, owner: &str) -> String {
        let rivals = self.parties.iter().map(|(actor, _)| *actor).filter(|actor| *actor != owner);
        rivals.collect::<Vec<_>>().join(" and ")
    }

    /// C: the GitOps tool's own way to leave a field alone.
    fn of_gitops(&self, actor: &str, role: Role) -> Option<Remedy> {
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
            // On an object that is deleted again and again, the annotation is lost with it.
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

    /// D: exempt whoever fights a mutating webhook from it.
    fn of_webhook(&self, actor: &str, role: Role) -> Option<Remedy> {
        let (configuration, webhook) = actor.strip_prefix("webhook ")?.split_once('/')?;
        if role == Role::Policy && configuration.starts_with("kyverno-") {
            return Some(self.of_kyverno());
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

    /// D: Kyverno writes its webhook configuration itself, and takes back within a second what others change in it: what may be
    /// exempted is said in the policy.
    fn of_kyverno(&self) -> Remedy {
        Remedy {
            option: "D",
            title: format!("exclude {}/{} in the Kyverno policy that changes it", self.kind, self.name),
            command: "kubectl get clusterpolicies.kyverno.io,policies.kyverno.io -A -o wide".into(),
            changes: "nothing; add the object to the rule's `exclude` block".into(),
            tradeoff: "the policy has no effect on this object".into(),
        }
    }

    /// D: look at what refuses alternately.
    fn of_flapping(&self) -> Option<Remedy> {
        let (kind, name) = self.flapping?.split_once(' ')?;
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

    /// A: the last resort for an autoscaler. Giving up one field comes before.
    fn of_autoscaler(&self) -> Option<Remedy> {
        let is_party = self.parties.iter().any(|(_, role)| *role == Role::Hpa);
        if !is_party {
            return None;
        }
        Some(match &self.hpa {
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
        })
    }

    /// A: people are asked, not disabled; what they may do can be seen.
    fn of_person(&self) -> Option<Remedy> {
        let is_person = |role: Role| {
            matches!(role, Role::Kubectl | Role::Helm | Role::Terraform | Role::Console | Role::Ci | Role::Person)
        };
        let (person, _) = self.parties.iter().find(|(_, role)| is_person(*role))?;
        let person = person.split(" via ").next().unwrap_or(person);
        let others: Vec<&str> = self.parties.iter().map(|(a, _)| *a).filter(|a| !a.starts_with(person)).collect();
        let with = if others.is_empty() { "the tools of that account".to_owned() } else { others.join(" and ") };
        Some(Remedy {
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
        })
    }

    /// Where nothing better is known.
    fn look(&self) -> Remedy {
        Remedy {
            option: "A",
            title: "check which actor owns which field, and remove it from one of them".into(),
            command: format!("{} -o yaml --show-managed-fields", self.kubectl("get")),
            changes: "nothing".into(),
            tradeoff: "none".into(),
        }
    }
}

// === impl Location ===

impl Location {
    /// Where a path of ours points. Items of keyed lists have no place that both annotations can name: the list is meant.
    fn of(path: &str) -> Location {
        if path.starts_with('(') {
            return Location { pointer: None, dotted: None };
        }
        let mut keys: Vec<String> = Vec::new();
        let mut rest = path;
        let mut is_list = false;
        while !rest.is_empty() {
            if let Some(quoted) = rest.strip_prefix("['") {
                let Some(end) = quoted_end(quoted) else { break };
                keys.push(quoted[..end].replace("\\'", "'").replace("\\\\", "\\"));
                rest = &quoted[end + 2..];
            } else if rest.starts_with('[') {
                is_list = true;
                break;
            } else {
                let plain = rest.strip_prefix('.').unwrap_or(rest);
                let end = plain.find(['.', '[']).unwrap_or(plain.len());
                keys.push(plain[..end].to_owned());
                rest = &plain[end..];
            }
        }
        let pointer = || keys.iter().map(|k| format!("/{}", k.replace('~', "~0").replace('/', "~1"))).collect();
        let is_dotted = keys.iter().all(|k| !k.contains(['.', ',', '=', ' ', '/']) && !k.is_empty());
        let has_comma = keys.iter().any(|k| k.contains(','));
        Location {
            pointer: (!is_list && !keys.is_empty() && !has_comma).then(pointer),
            dotted: (is_dotted && !keys.is_empty()).then(|| keys.join(".")),
        }
    }
}

/// Where the key ends that stands in `['…']`.
fn quoted_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'\'' => return (bytes.get(at + 1) == Some(&b']')).then_some(at),
            _ => at += 1,
        }
    }
    None
}

/// An object for kubectl: a name that begins as a flag does is no word of its own.
fn target(resource: &str, name: &str) -> String {
    match name.starts_with('-') {
        true => quoted(&format!("{resource}/{name}")),
        false => format!("{} {}", quoted(resource), quoted(name)),
    }
}

#[cfg(test)]
#[path = "remedy/tests.rs"]
mod tests;
