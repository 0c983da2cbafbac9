//! Groups wars to alerts: all objects over which the same actors of a cluster fight have one cause, and make one alert.
//!
//! The labels of an alert are its identity in Alertmanager. The namespace and the labels that say who owns an object are
//! among them as long as all objects of the alert share them, so that the alert reaches the owner. When actors begin to
//! fight elsewhere too, the alert is resolved, and another one without the differing labels begins. It keeps these until it
//! ends, so that it does not change back and forth.

use std::collections::{BTreeMap, BTreeSet};

use crate::audit::event::Micros;
use crate::detect::assessment::Progress;
use crate::detect::verdict::{Confidence, State};
use crate::query::views::{Finding, OverviewRow, Value, WarSummary};

/// Number of objects that an alert lists.
const OBJECTS_SHOWN: usize = 20;
/// Number of actors that its label names.
const ACTORS_SHOWN: usize = 3;

/// The labels of an alert.
pub(crate) type Labels = BTreeMap<String, String>;

/// The wars between the same actors of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pair {
    /// The cluster.
    pub(crate) cluster: String,
    /// The actors, sorted.
    pub(crate) actors: Vec<String>,
}

/// An alert that fires.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Alert {
    /// Its identity.
    pub(crate) labels: Labels,
    /// What people read.
    pub(crate) annotations: Labels,
    /// When the first of the wars began.
    pub(crate) since: Micros,
    /// The objects, the most urgent first.
    pub(crate) rows: Vec<OverviewRow>,
}

/// The alerts that fire, and those that have just ended.
#[derive(Debug, Default)]
pub(crate) struct Alerts {
    firing: BTreeMap<Pair, Alert>,
}

/// What has changed.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Update {
    /// Whether an alert has begun or ended.
    pub(crate) is_news: bool,
    /// Alerts that have ended.
    pub(crate) resolved: Vec<Alert>,
}

// === impl Alerts ===

impl Alerts {
    /// Returns the alerts that fire.
    pub(crate) fn firing(&self) -> impl Iterator<Item = &Alert> {
        self.firing.values()
    }

    /// Returns the alerts that fire, to add annotations.
    pub(crate) fn firing_mut(&mut self) -> impl Iterator<Item = &mut Alert> {
        self.firing.values_mut()
    }

    /// Updates the alerts from all rows of the overview. Only wars that thrash, of a sufficient confidence, which have not
    /// ended yet, make alerts.
    pub(crate) fn update(&mut self, rows: Vec<OverviewRow>, at_least: Confidence) -> Update {
        let mut pairs: BTreeMap<Pair, Vec<OverviewRow>> = BTreeMap::new();
        for row in rows.into_iter().filter(|row| is_alarming(row, at_least)) {
            pairs.entry(Pair::of(&row)).or_default().push(row);
        }
        let mut update = Update::default();
        let mut firing = BTreeMap::new();
        for (pair, rows) in pairs {
            let before = self.firing.remove(&pair);
            let mut labels = labels(&pair, &rows);
            if let Some(before) = &before {
                // What differed once stays away.
                labels.retain(|name, value| before.labels.get(name) == Some(value));
            }
            let since = rows.iter().map(|row| row.since).min().unwrap_or_default();
            let annotations = annotations(&pair, &rows);
            let alert = Alert { labels, annotations, since, rows };
            match before {
                Some(before) if before.labels == alert.labels => {}
                before => {
                    update.is_news = true;
                    update.resolved.extend(before);
                }
            }
            firing.insert(pair, alert);
        }
        let ended = std::mem::replace(&mut self.firing, firing);
        update.is_news |= !ended.is_empty();
        update.resolved.extend(ended.into_values());
        update
    }
}

fn is_alarming(row: &OverviewRow, at_least: Confidence) -> bool {
    row.finding == Finding::War
        && row.war.as_ref().is_some_and(|war| {
            war.thrashing_events > 0 && war.confidence >= at_least && war.progress != Progress::Ended
        })
}

// === impl Pair ===

impl Pair {
    fn of(row: &OverviewRow) -> Pair {
        let mut actors: Vec<String> = row.actors.iter().map(|actor| actor.actor.clone()).collect();
        actors.sort_unstable();
        Pair { cluster: row.object.cluster.clone(), actors }
    }

    /// Returns the actors as a text that stays the same while they fight.
    fn text(&self) -> String {
        let mut text = self.actors.iter().take(ACTORS_SHOWN).map(String::as_str).collect::<Vec<_>>().join(" | ");
        if self.actors.len() > ACTORS_SHOWN {
            text.push_str(&format!(" | {} more", self.actors.len() - ACTORS_SHOWN));
        }
        text
    }
}

fn labels(pair: &Pair, rows: &[OverviewRow]) -> Labels {
    let mut labels = Labels::from([("alertname".to_owned(), "EditWar".to_owned()), ("pair".to_owned(), pair.text())]);
    if !pair.cluster.is_empty() {
        labels.insert("cluster".to_owned(), pair.cluster.clone());
    }
    let classes: BTreeSet<String> = rows
        .iter()
        .flat_map(|row| &row.actors)
        .filter_map(|actor| actor.class)
        .map(|class| class.as_str().to_owned())
        .collect();
    labels.insert("classes".to_owned(), classes.into_iter().collect::<Vec<_>>().join(","));
    let shared = |of: &dyn Fn(&OverviewRow) -> Option<String>| {
        let mut values = rows.iter().map(of);
        let first = values.next()??;
        values.all(|value| value.as_ref() == Some(&first)).then_some(first)
    };
    let namespace = shared(&|row| Some(row.object.namespace.clone()));
    labels.extend(namespace.filter(|namespace| !namespace.is_empty()).map(|value| ("namespace".to_owned(), value)));
    let names: BTreeSet<&String> =
        rows.iter().filter_map(|row| row.war.as_ref()).flat_map(|war| war.labels.keys()).collect();
    for name in names {
        let value = shared(&|row| row.war.as_ref()?.labels.get(name).cloned());
        labels.extend(value.map(|value| (label_name(name), value)));
    }
    labels
}

/// Returns the name of a label of Alertmanager for one of Kubernetes: `app.kubernetes.io/part-of` is
/// `app_kubernetes_io_part_of`. Names of our own labels get a prefix.
fn label_name(name: &str) -> String {
    let plain: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    let is_taken = ["alertname", "pair", "cluster", "classes", "namespace", "severity"].contains(&plain.as_str());
    if is_taken || plain.starts_with(|c: char| c.is_ascii_digit()) { format!("label_{plain}") } else { plain }
}

fn annotations(pair: &Pair, rows: &[OverviewRow]) -> Labels {
    let namespaces: BTreeSet<&str> = rows.iter().map(|row| row.object.namespace.as_str()).collect();
    let names: Vec<&str> = pair.actors.iter().map(|actor| short(actor)).collect();
    let fields: BTreeSet<&str> = rows
        .iter()
        .filter_map(|row| row.war.as_ref())
        .flat_map(|war| war.fields.iter().map(|field| field.path.as_str()))
        .collect();
    let what = match rows {
        [row] => object(row),
        rows if namespaces.len() == 1 => format!("{} objects", rows.len()),
        rows => format!("{} objects in {} namespaces", rows.len(), namespaces.len()),
    };
    let verb = if names.len() == 1 { "keeps overwriting itself" } else { "keep overwriting each other" };
    let mut over: Vec<&str> = fields.iter().take(3).copied().collect();
    if fields.len() > over.len() {
        over.push("more");
    }
    let summary = format!("{} {verb}: {} of {what}", names.join(" and "), over.join(", "));
    let mut lines: Vec<String> = rows.iter().take(OBJECTS_SHOWN).map(line).collect();
    if rows.len() > OBJECTS_SHOWN {
        lines.push(format!("and {} more", rows.len() - OBJECTS_SHOWN));
    }
    let is_sustained = rows.iter().any(|row| row.war.as_ref().is_some_and(|war| war.state == State::Sustained));
    Labels::from([
        ("summary".to_owned(), summary),
        ("description".to_owned(), lines.join("\n")),
        ("sustained".to_owned(), is_sustained.to_string()),
    ])
}

fn line(row: &OverviewRow) -> String {
    let Some(war) = &row.war else { return object(row) };
    let WarSummary { state, retakes, cause, .. } = war;
    let over = war.fields.first().map_or_else(
        || "fields not in the log".to_owned(),
        |field| {
            let mut values: Vec<String> = Vec::new();
            for value in field.values.iter().map(text) {
                if !values.contains(&value) {
                    values.push(value);
                }
            }
            format!("{} {}", field.path, values.join(" ⇄ "))
        },
    );
    let more = if war.field_count > 1 { format!(" and {} more", war.field_count - 1) } else { String::new() };
    let cause = cause.as_str().replace('_', " ");
    format!("{}: {over}{more}, {retakes} retakes, {}, {cause}", object(row), state.as_str())
}

fn object(row: &OverviewRow) -> String {
    let object = &row.object;
    let slash = if object.namespace.is_empty() { "" } else { "/" };
    format!("{} {}{slash}{}", object.kind, object.namespace, object.name)
}

fn text(value: &Value) -> String {
    match &value.value {
        _ if value.redacted => "(redacted)".to_owned(),
        _ if value.absent => "∅".to_owned(),
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn short(actor: &str) -> &str {
    actor.strip_prefix("system:serviceaccount:").unwrap_or(actor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(namespace: &str, name: &str, team: Option<&str>) -> OverviewRow {
        let labels = team.map_or_else(|| json!({}), |team| json!({"team": team, "app.kubernetes.io/part-of": "shop"}));
        serde_json::from_value(json!({
            "id": format!("{namespace}/{name}"), "finding": "war",
            "object": {"cluster": "east", "group": "apps", "resource": "deployments", "kind": "Deployment", "namespace": namespace, "name": name},
            "actors": [
                {"actor": "system:serviceaccount:flux-system:kustomize-controller", "class": "gitops"},
                {"actor": "alice", "class": "person"},
            ],
            "since": "2026-11-29T10:00:00Z", "until": "2026-11-29T10:05:00Z",
            "war": {
                "progress": "ongoing", "state": "thrashing", "confidence": "confirmed", "cause": "manual_edits",
                "retakes": 12, "thrashing_events": 3, "field_count": 2, "labels": labels,
                "fields": [{"path": "spec.replicas", "values": [
                    {"value": 3, "actor": "alice", "count": 6},
                    {"value": null, "redacted": true, "actor": "bob", "count": 6},
                ]}],
            },
        }))
        .unwrap()
    }

    fn labels(alerts: &Alerts) -> Vec<String> {
        let text = |alert: &Alert| alert.labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(" ");
        alerts.firing().map(text).collect()
    }

    const COMMON: &str = "alertname=EditWar";
    const PAIR: &str = "pair=alice | system:serviceaccount:flux-system:kustomize-controller";

    #[test]
    fn wars_of_the_same_actors_are_one_alert_that_reaches_the_owner() {
        let mut alerts = Alerts::default();
        let rows = vec![row("shop", "web", Some("payments")), row("shop", "api", Some("payments"))];
        let update = alerts.update(rows, Confidence::Probable);
        assert!(update.is_news && update.resolved.is_empty());
        let owner = "app_kubernetes_io_part_of=shop classes=gitops,person cluster=east namespace=shop";
        assert_eq!(labels(&alerts), [format!("{COMMON} {owner} {PAIR} team=payments")]);
        let alert = alerts.firing().next().unwrap();
        assert_eq!(
            alert.annotations["summary"],
            "alice and flux-system:kustomize-controller keep overwriting each other: spec.replicas of 2 objects"
        );
        assert_eq!(
            alert.annotations["description"].lines().next(),
            Some("Deployment shop/web: spec.replicas 3 ⇄ (redacted) and 1 more, 12 retakes, thrashing, manual edits")
        );
    }

    #[test]
    fn labels_that_differ_are_left_out_and_do_not_come_back_while_the_alert_fires() {
        let mut alerts = Alerts::default();
        let first = row("shop", "web", Some("payments"));
        alerts.update(vec![first.clone()], Confidence::Probable);
        let before = labels(&alerts);
        // The same actors begin to fight elsewhere: the first alert is resolved, and one for both begins.
        let update = alerts.update(vec![first.clone(), row("other", "web", None)], Confidence::Probable);
        assert!(update.is_news);
        assert_eq!(update.resolved.len(), 1);
        assert_eq!(labels(&alerts), [format!("{COMMON} classes=gitops,person cluster=east {PAIR}")]);
        assert_ne!(labels(&alerts), before);
        // That ends: the alert keeps its identity.
        let update = alerts.update(vec![first.clone()], Confidence::Probable);
        assert_eq!(update, Update::default());
        assert_eq!(labels(&alerts), [format!("{COMMON} classes=gitops,person cluster=east {PAIR}")]);
        // All of it ends, and begins again with the labels of the owner.
        let update = alerts.update(Vec::new(), Confidence::Probable);
        assert!(update.is_news && update.resolved.len() == 1);
        alerts.update(vec![first], Confidence::Probable);
        assert_eq!(labels(&alerts), before);
    }

    #[test]
    fn undecided_and_ended_wars_and_those_that_never_thrashed_make_no_alert() {
        let mut alerts = Alerts::default();
        let with = |change: &dyn Fn(&mut WarSummary)| {
            let mut row = row("shop", "web", None);
            change(row.war.as_mut().unwrap());
            row
        };
        let rows = vec![
            with(&|war| war.confidence = Confidence::Possible),
            with(&|war| war.progress = Progress::Ended),
            with(&|war| war.thrashing_events = 0),
            OverviewRow { finding: Finding::HotLoop, war: None, ..row("shop", "web", None) },
        ];
        assert_eq!(alerts.update(rows.clone(), Confidence::Probable), Update::default());
        alerts.update(rows, Confidence::Possible);
        assert_eq!(alerts.firing().count(), 1);
        let subsiding = with(&|war| (war.progress, war.state) = (Progress::Subsiding, State::Subsiding));
        let update = alerts.update(vec![subsiding], Confidence::Probable);
        assert!(update.resolved.is_empty(), "a war that may resume keeps its alert");
    }

    #[test]
    fn keys_of_labels_are_names_for_alertmanager() {
        assert_eq!(label_name("app.kubernetes.io/part-of"), "app_kubernetes_io_part_of");
        assert_eq!(label_name("namespace"), "label_namespace");
        assert_eq!(label_name("7th"), "label_7th");
    }
}
