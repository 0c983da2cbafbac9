//! How a pause keeps a party from writing: the annotations of the runbook or, if the configuration allows it, the switch
//! of the party's own tool.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::detect::actor_class::Role;
use crate::detect::annotations::Tool;
use crate::detect::application::{Application, ApplicationKind};
use crate::detect::instance::{account, service_account};
use crate::detect::write::ObjectName;
use crate::pipeline::key::ObjectKey;

/// How a pause keeps a party from writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Means {
    /// A party honours the annotations of the runbook.
    Annotations,
    /// Flux does not apply an object with its annotation.
    Flux,
    /// Argo CD does not apply the objects of an Application with its annotation. The pause is on the Application; these
    /// are its objects that are fought over.
    ArgoCd(Vec<ObjectKey>),
}

/// The switch of a tool that would pause an object.
pub(super) struct ToolSwitch {
    pub(super) means: Means,
    /// The object that carries the switch.
    pub(super) object: ObjectKey,
}

/// The resource and group of the Applications of Argo CD.
pub const APPLICATIONS: (&str, &str) = ("applications", "argoproj.io");

// === impl Means ===

impl Means {
    /// Returns the switch that stops one of the parties. `applications` are those that the contested object is marked
    /// with.
    pub(super) fn by_tools(
        tools: &BTreeSet<Tool>,
        key: &ObjectKey,
        parties: &[(Arc<str>, Role)],
        applications: &[Application],
    ) -> Option<ToolSwitch> {
        let application = |kind| applications.iter().find(|application| application.kind == kind);
        let party = |role| parties.iter().find(|(_, found)| *found == role).map(|(party, _)| party);
        let is_kustomization = party(Role::Flux).is_some() && application(ApplicationKind::Kustomization).is_some();
        if tools.contains(&Tool::Flux) && is_kustomization {
            return Some(ToolSwitch { means: Means::Flux, object: key.clone() });
        }
        if !tools.contains(&Tool::ArgoCd) {
            return None;
        }
        let (argo_cd, application) = (party(Role::ArgoCd)?, application(ApplicationKind::ArgoCd)?);
        // If two Applications own one object, its marks change with each write.
        if account(argo_cd) != &**argo_cd {
            return None;
        }
        let (resource, group) = APPLICATIONS;
        let namespace = match application.namespace.as_str() {
            "" => service_account(argo_cd)?.0,
            namespace => namespace,
        };
        let target = ObjectName { group, resource, namespace, name: &application.name };
        let object = ObjectKey::new(key.cluster(), &target);
        Some(ToolSwitch { means: Means::ArgoCd(vec![key.clone()]), object })
    }

    /// Returns the annotation of the tool, with its value.
    pub(super) fn annotation(&self) -> Option<(&'static str, &'static str)> {
        match self {
            Means::Annotations => None,
            Means::Flux => Some(Tool::Flux.switch()),
            Means::ArgoCd(_) => Some(Tool::ArgoCd.switch()),
        }
    }
}
