//! Autoscalers: against the manifest of their target, and against each other.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::check::applier::{self, Claim};
use crate::check::field::Path;
use crate::check::finding::{Certainty, Contender, Finding, ObjectId};
use crate::check::remedies::{self, Opponent, owner};
use crate::check::snapshot::{Object, Snapshot, group_of};
use crate::detect::actor_class::Role;
use crate::detect::remedy::Autoscaler;

/// What scales an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tool {
    Hpa,
    Keda,
}

/// An autoscaler that sets the number of replicas of a target.
struct Scaler<'s> {
    object: &'s Object,
    tool: Tool,
    target: ObjectId,
    min: i64,
    max: i64,
}

// === impl Scaler ===

impl<'s> Scaler<'s> {
    fn of(object: &'s Object, tool: Tool) -> Option<Scaler<'s>> {
        let spec = &object.wanted()["spec"];
        let target = target(object, &spec["scaleTargetRef"])?;
        let number = |key: &str, default| spec[key].as_i64().unwrap_or(default);
        let (min, max) = match tool {
            Tool::Hpa => (number("minReplicas", 1), number("maxReplicas", i64::MAX)),
            Tool::Keda => (number("minReplicaCount", 0), number("maxReplicaCount", 100)),
        };
        Some(Scaler { object, tool, target, min, max })
    }

    /// Returns the field managers by which the replicas are written.
    fn managers(&self) -> &'static [&'static str] {
        match self.tool {
            Tool::Hpa => &["kube-controller-manager"],
            Tool::Keda => &["keda", "keda-operator", "kube-controller-manager"],
        }
    }

    fn opponent(&self) -> Opponent<'static> {
        let name = self.object.id.name.clone();
        let (actor, role, autoscaler) = match self.tool {
            Tool::Hpa => {
                let owner = self.object.controller().map(owner);
                ("kube-controller-manager (Update scale)", Role::Hpa, Autoscaler { name, owner })
            }
            Tool::Keda => {
                let reference = json!({"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "name": name});
                let autoscaler = Autoscaler { name: format!("keda-hpa-{name}"), owner: Some(owner(&reference)) };
                ("keda (Update scale)", Role::Autoscaler, autoscaler)
            }
        };
        Opponent { actor, role, autoscaler: Some(autoscaler) }
    }
}

/// Returns the target of an autoscaler, which is in its namespace.
fn target(scaler: &Object, reference: &Value) -> Option<ObjectId> {
    let text = |key: &str, default: &str| reference[key].as_str().unwrap_or(default).to_owned();
    let name = text("name", "");
    (!name.is_empty()).then(|| ObjectId {
        group: group_of(&text("apiVersion", "apps/v1")).to_owned(),
        kind: text("kind", "Deployment"),
        namespace: scaler.id.namespace.clone(),
        name,
    })
}

/// Returns the autoscalers. The HorizontalPodAutoscaler that KEDA makes is part of its ScaledObject, if that is known.
fn scalers(snapshot: &Snapshot) -> Vec<Scaler<'_>> {
    let scaled: Vec<Scaler<'_>> = snapshot
        .of_kind("keda.sh", "ScaledObject")
        .filter(|object| !is_paused(object))
        .filter_map(|object| Scaler::of(object, Tool::Keda))
        .collect();
    let is_known_to_keda = |object: &Object| {
        let owner = object.controller().filter(|owner| owner["kind"] == "ScaledObject");
        let by_owner = owner.and_then(|owner| owner["name"].as_str());
        let name = by_owner.or_else(|| object.label("scaledobject.keda.sh/name"));
        // A paused ScaledObject stands for its autoscaler too.
        name.is_some_and(|name| snapshot.find("keda.sh", "ScaledObject", &object.id.namespace, name).is_some())
    };
    let pods = snapshot
        .of_kind("autoscaling", "HorizontalPodAutoscaler")
        .filter(|object| !is_known_to_keda(object))
        .filter_map(|object| Scaler::of(object, Tool::Hpa));
    scaled.into_iter().chain(pods).collect()
}

fn is_paused(object: &Object) -> bool {
    object.annotation("autoscaling.keda.sh/paused").is_some_and(|value| value != "false")
        || object.annotation("autoscaling.keda.sh/paused-replicas").is_some()
}

/// An autoscaler sets the replicas that somebody applies.
pub(super) fn against_manifest(snapshot: &Snapshot) -> Vec<Finding> {
    let replicas = Path::keys(&["spec", "replicas"]);
    let of = |scaler: &Scaler<'_>| {
        let object = snapshot.get(&scaler.target)?;
        let default = json!(1);
        let claims = applier::claims(snapshot, object, &replicas, Some(&default), scaler.managers());
        let claim = claims.into_iter().find(|claim| is_contested(scaler, claim))?;
        Some(scaled(snapshot, scaler, object, &claim, &replicas))
    };
    scalers(snapshot).iter().filter_map(of).collect()
}

/// Whether an autoscaler would change the applied value.
fn is_contested(scaler: &Scaler<'_>, claim: &Claim<'_>) -> bool {
    match claim.value.as_ref().map(Value::as_i64) {
        Some(Some(value)) => {
            // A HorizontalPodAutoscaler does not scale what has no replicas. Nobody applies a resting state of KEDA
            // again and again but a tool.
            let is_off = value == 0 && (scaler.tool == Tool::Hpa || claim.certainty() == Certainty::Possible);
            let is_fixed = scaler.min == scaler.max && value == scaler.min;
            !is_off && !is_fixed
        }
        Some(None) => false,
        None => true,
    }
}

fn scaled(snapshot: &Snapshot, scaler: &Scaler<'_>, object: &Object, claim: &Claim<'_>, path: &Path) -> Finding {
    let (name, scaler_id) = (&claim.applier.name, &scaler.object.id);
    let value = claim.value.as_ref().map(|value| format!(" to {value}")).unwrap_or_default();
    let range = format!("between {} and {}", scaler.min, scaler.max);
    Finding {
        rule: "autoscaler_and_manifest",
        certainty: claim.certainty(),
        object: object.id.clone(),
        more_objects: Vec::new(),
        fields: vec![path.to_string()],
        contenders: vec![
            Contender { name: name.clone(), does: format!("sets it{value}") },
            Contender { name: scaler_id.to_string(), does: format!("scales it {range}") },
        ],
        evidence: vec![claim.applier.evidence.clone(), format!("{scaler_id} targets {}", object.id)],
        when: claim.when(),
        advice: format!(
            "leave {path} out of {}, so that only {scaler_id} sets it",
            super::source_of(&claim.applier, object)
        ),
        remedies: remedies::against(snapshot, object, &claim.applier, scaler.opponent(), std::slice::from_ref(path)),
        involved: vec![object.id.clone(), scaler_id.clone()],
    }
}

/// Several autoscalers set the replicas of one target.
pub(super) fn two_on_one_target(snapshot: &Snapshot) -> Vec<Finding> {
    let mut by_target: BTreeMap<ObjectId, Vec<Scaler<'_>>> = BTreeMap::new();
    for scaler in scalers(snapshot) {
        by_target.entry(scaler.target.clone()).or_default().push(scaler);
    }
    let of = |(target, scalers): (ObjectId, Vec<Scaler<'_>>)| {
        let [first, .., last] = scalers.as_slice() else { return None };
        if scalers.iter().any(|scaler| takes_over(scaler, &scalers)) {
            return None;
        }
        let range = |scaler: &Scaler<'_>| Contender {
            name: scaler.object.id.to_string(),
            does: format!("scales it between {} and {}", scaler.min, scaler.max),
        };
        let names: Vec<String> = scalers.iter().map(|scaler| scaler.object.id.to_string()).collect();
        Some(Finding {
            rule: "two_autoscalers",
            certainty: Certainty::Bound,
            more_objects: Vec::new(),
            fields: vec!["spec.replicas".to_owned()],
            contenders: scalers.iter().map(range).collect(),
            evidence: vec![format!("{} target it", names.join(" and "))],
            when: "whenever the autoscalers compute different numbers".to_owned(),
            advice: format!("put the triggers of {} into {}, and delete the former", last.object.id, first.object.id),
            remedies: Vec::new(),
            involved: [target.clone()].into_iter().chain(scalers.iter().map(|s| s.object.id.clone())).collect(),
            object: target,
        })
    };
    by_target.into_iter().filter_map(of).collect()
}

/// Whether a ScaledObject takes over the HorizontalPodAutoscaler among the others.
fn takes_over(scaler: &Scaler<'_>, all: &[Scaler<'_>]) -> bool {
    let name = scaler.object.wanted().pointer("/spec/advanced/horizontalPodAutoscalerConfig/name");
    let is_transfer = scaler.object.annotation("scaledobject.keda.sh/transfer-hpa-ownership") == Some("true");
    is_transfer && all.iter().any(|other| other.tool == Tool::Hpa && name == Some(&json!(other.object.id.name)))
}

/// A VerticalPodAutoscaler changes the requests by which a HorizontalPodAutoscaler computes the replicas.
pub(super) fn vertical_and_horizontal(snapshot: &Snapshot) -> Vec<Finding> {
    let mut found = Vec::new();
    let vertical: Vec<(&Object, ObjectId)> = snapshot
        .of_kind("autoscaling.k8s.io", "VerticalPodAutoscaler")
        .filter(|object| is_active(object))
        .filter_map(|object| Some((object, target(object, &object.wanted()["spec"]["targetRef"])?)))
        .collect();
    for (index, (object, target)) in vertical.iter().enumerate() {
        for scaler in scalers(snapshot).iter().filter(|scaler| scaler.target == *target) {
            let shared: Vec<&str> =
                ["cpu", "memory"].into_iter().filter(|name| uses(scaler, name) && controls(object, name)).collect();
            if !shared.is_empty() {
                found.push(scaled_twice(object, scaler, &shared));
            }
        }
        for (other, _) in vertical[index + 1..].iter().filter(|(_, of)| of == target) {
            found.push(two_vertical(object, other, target));
        }
    }
    found
}

/// Whether it changes running pods, and does not only recommend or act on new ones.
fn is_active(vertical: &Object) -> bool {
    let mode = vertical.wanted().pointer("/spec/updatePolicy/updateMode").and_then(Value::as_str);
    !matches!(mode, Some("Off" | "Initial"))
}

/// Whether an autoscaler scales by the utilization of a resource, which is relative to the requests.
fn uses(scaler: &Scaler<'_>, resource: &str) -> bool {
    let spec = &scaler.object.wanted()["spec"];
    let metrics = spec["metrics"].as_array().into_iter().flatten();
    let by_metric = metrics.into_iter().any(|metric| {
        let of = |key: &str| metric[key]["name"] == resource && metric[key]["target"]["type"] == "Utilization";
        of("resource") || of("containerResource")
    });
    let triggers = spec["triggers"].as_array().into_iter().flatten();
    let by_trigger = triggers.into_iter().any(|trigger| {
        trigger["type"] == resource && trigger["metricType"].as_str().is_none_or(|kind| kind == "Utilization")
    });
    let by_old_field = resource == "cpu" && spec["targetCPUUtilizationPercentage"].is_number();
    by_metric || by_trigger || by_old_field
}

/// Whether a VerticalPodAutoscaler sets the requests of a resource, for at least one container.
fn controls(vertical: &Object, resource: &str) -> bool {
    let policies = vertical.wanted().pointer("/spec/resourcePolicy/containerPolicies").and_then(Value::as_array);
    let Some(policies) = policies.filter(|policies| !policies.is_empty()) else { return true };
    let is_controlled = |policy: &Value| {
        let resources = policy["controlledResources"].as_array();
        policy["mode"] != "Off" && resources.is_none_or(|resources| resources.iter().any(|name| name == resource))
    };
    // Containers that no policy names are controlled.
    policies.iter().any(is_controlled) || !policies.iter().any(|policy| policy["containerName"] == "*")
}

fn scaled_twice(vertical: &Object, scaler: &Scaler<'_>, shared: &[&str]) -> Finding {
    let shared = shared.join(" and ");
    Finding {
        rule: "two_autoscalers",
        certainty: Certainty::Bound,
        object: scaler.target.clone(),
        more_objects: Vec::new(),
        fields: vec!["spec.replicas".to_owned()],
        contenders: vec![
            Contender { name: vertical.id.to_string(), does: format!("changes the {shared} requests of its pods") },
            Contender {
                name: scaler.object.id.to_string(),
                does: format!("scales it by the utilization of {shared}, which is relative to these requests"),
            },
        ],
        evidence: vec![format!("both target {}", scaler.target)],
        when: "whenever one of them acts, the other one has to react".to_owned(),
        advice: format!(
            "scale by another metric than {shared} in {}, or set updateMode: \"Off\" in {}",
            scaler.object.id, vertical.id
        ),
        remedies: Vec::new(),
        involved: vec![scaler.target.clone(), vertical.id.clone(), scaler.object.id.clone()],
    }
}

fn two_vertical(first: &Object, second: &Object, target: &ObjectId) -> Finding {
    let does =
        |object: &Object| Contender { name: object.id.to_string(), does: "sets the requests of its pods".to_owned() };
    Finding {
        rule: "two_autoscalers",
        certainty: Certainty::Bound,
        object: target.clone(),
        more_objects: Vec::new(),
        fields: vec!["resources of its pods".to_owned()],
        contenders: vec![does(first), does(second)],
        evidence: vec![format!("both target {target}")],
        when: "whenever they recommend different requests".to_owned(),
        advice: format!("delete one of {} and {}", first.id, second.id),
        remedies: Vec::new(),
        involved: vec![target.clone(), first.id.clone(), second.id.clone()],
    }
}
