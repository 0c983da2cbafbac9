//! Wars that call for a pause that the enforcer does not set. Each is logged once, with the reason and what to do instead.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::selection::{Exclusion, title};
use crate::detect::actor_class::Role;
use crate::detect::annotations::Tool;
use crate::pipeline::key::ObjectKey;

/// The objects that were logged, and why they are not paused.
#[derive(Debug, Default)]
pub(super) struct Unpaused {
    reported: BTreeMap<ObjectKey, Reason>,
    /// Tools whose own switches may be used.
    tools: BTreeSet<Tool>,
}

/// Why an object is not paused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    /// The configuration excludes it.
    Excluded(Exclusion),
    /// It is marked as an object of an Application of Argo CD that does not exist here, or does not apply it.
    NoApplication(String),
    /// None of the parties honours a pause.
    NotHonoured(Vec<(Arc<str>, Role)>),
}

// === impl Unpaused ===

impl Unpaused {
    pub(super) fn new(tools: BTreeSet<Tool>) -> Unpaused {
        Unpaused { reported: BTreeMap::new(), tools }
    }

    /// Logs an object, unless it was logged with this reason already.
    pub(super) fn report(&mut self, key: &ObjectKey, reason: Reason) {
        if self.reported.get(key) == Some(&reason) {
            return;
        }
        let object = key.object();
        let name = format!("{}/{}", title(object.resource, object.group), object.name);
        let instead = reason.instead(&self.tools);
        tracing::warn!(object = name, namespace = object.namespace, %reason, instead, "an edit war calls for a pause that is not set");
        self.reported.insert(key.clone(), reason);
    }

    /// Forgets all objects except these, so that they are logged again in their next war.
    pub(super) fn keep(&mut self, is_kept: impl Fn(&ObjectKey) -> bool) {
        self.reported.retain(|key, _| is_kept(key));
    }

    pub(super) fn len(&self) -> usize {
        self.reported.len()
    }
}

// === impl Reason ===

impl Reason {
    /// Returns what ends the war without a pause.
    fn instead(&self, tools: &BTreeSet<Tool>) -> String {
        let Reason::NotHonoured(parties) = self else {
            return "select the object, or run `editwar who` to end the war by hand".to_owned();
        };
        let mut ways: Vec<String> = parties.iter().filter_map(|(party, role)| instead(party, *role, tools)).collect();
        ways.dedup();
        ways.join("; or ")
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Excluded(exclusion) => exclusion.fmt(f),
            Reason::NoApplication(name) => {
                write!(
                    f,
                    "the Application {name} of Argo CD, whose mark it carries, does not exist in this cluster or does not apply it"
                )
            }
            Reason::NotHonoured(parties) => {
                let names: Vec<&str> = parties.iter().map(|(party, _)| &**party).collect();
                write!(f, "none of {} honours a pause (platform.pause_aware_actors)", names.join(", "))
            }
        }
    }
}

/// Returns how a party of this role is kept from writing a field.
fn instead(party: &str, role: Role, tools: &BTreeSet<Tool>) -> Option<String> {
    Some(match role {
        Role::Flux if tools.contains(&Tool::Flux) => {
            "editwar cannot use the switch of Flux, since the object has no label of a Kustomization or is deleted and created alternately"
                .to_owned()
        }
        Role::ArgoCd if tools.contains(&Tool::ArgoCd) => {
            "editwar cannot pause the Argo CD application, since the object has no mark of exactly one or is deleted and created alternately"
                .to_owned()
        }
        Role::Flux => {
            "annotate the object with kustomize.toolkit.fluxcd.io/reconcile: disabled to stop Flux, or allow editwar to \
             do so with enforce.tools=[flux]"
                .to_owned()
        }
        Role::ArgoCd => "make the Argo CD application ignore the field, or allow editwar to pause it with \
                         enforce.tools=[argo_cd]"
            .to_owned(),
        Role::Gitops => format!("suspend {party} for this object"),
        Role::Helm => format!("leave the field out of the chart that {party} installs"),
        Role::Terraform => format!("add the field to ignore_changes where {party} runs Terraform"),
        Role::Operator | Role::CertManager | Role::AddonManager | Role::Policy | Role::Webhook => {
            format!("use the setting of {party} that excludes this object")
        }
        Role::Hpa | Role::Vpa | Role::Autoscaler => "remove the autoscaler of this object".to_owned(),
        Role::Kubectl | Role::Console | Role::Ci | Role::Person => format!("ask {party} to stop"),
        Role::InTree | Role::Node | Role::Apiserver => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_instead_depends_on_the_tools_of_the_parties() {
        let reason =
            Reason::NotHonoured(vec![("kustomize-controller".into(), Role::Flux), ("alice".into(), Role::Kubectl)]);
        assert_eq!(
            reason.to_string(),
            "none of kustomize-controller, alice honours a pause (platform.pause_aware_actors)"
        );
        assert_eq!(
            reason.instead(&BTreeSet::new()),
            "annotate the object with kustomize.toolkit.fluxcd.io/reconcile: disabled to stop Flux, or allow editwar to do \
             so with enforce.tools=[flux]; or ask alice to stop"
        );
        let allowed = reason.instead(&BTreeSet::from([Tool::Flux]));
        assert!(allowed.contains("no label of a Kustomization"), "{allowed}");
    }

    #[test]
    fn an_object_is_logged_again_only_after_its_war() {
        let (mut unpaused, key) = (Unpaused::default(), ObjectKey::from("\0apps\0deployments\0shop\0web"));
        let reason = || Reason::Excluded(Exclusion::ExcludedNamespace);
        unpaused.report(&key, reason());
        unpaused.report(&key, reason());
        assert_eq!(unpaused.len(), 1);
        unpaused.keep(|_| true);
        assert_eq!(unpaused.len(), 1);
        unpaused.keep(|_| false);
        assert_eq!(unpaused.len(), 0);
    }
}
