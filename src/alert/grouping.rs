//! Groups wars to alerts: all objects over which the same actors of a cluster fight have one cause, and make one alert.
//!
//! The labels of an alert are its identity in Alertmanager. The namespace and the labels that say who owns an object are
//! among them if all objects over which these actors have fought share them, so that the alert reaches the owner. Wars that
//! have ended count too: otherwise, the identity would change when one of several wars ends. It follows from the state of
//! the wars alone, so that all servers which receive the same events, and a server after a restart, have the same alerts.

use std::collections::{BTreeMap, BTreeSet};

use super::annotations;
use crate::audit::event::Micros;
use crate::detect::verdict::{Confidence, State};
use crate::escape;
use crate::query::views::{Finding, OverviewRow};

/// Maximum length of the label with the actors, in characters.
const PAIR_CHARS_MAX: usize = 400;
/// The annotation with the best remedy.
pub(crate) const REMEDY: &str = "remedy";

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

    /// Returns the alerts that have no remedy yet, to add it.
    pub(crate) fn without_remedy(&mut self) -> impl Iterator<Item = (&Pair, &mut Alert)> {
        self.firing.iter_mut().filter(|(_, alert)| !alert.annotations.contains_key(REMEDY))
    }

    /// Updates the alerts from the rows of all wars. A war makes an alert from its first thrashing event until it is calm, if
    /// its confidence is sufficient.
    pub(crate) fn update(&mut self, rows: Vec<OverviewRow>, at_least: Confidence) -> Update {
        let mut pairs: BTreeMap<Pair, Vec<OverviewRow>> = BTreeMap::new();
        for row in rows.into_iter().filter(|row| has_thrashed(row, at_least)) {
            pairs.entry(Pair::of(&row)).or_default().push(row);
        }
        let mut update = Update::default();
        let mut firing = BTreeMap::new();
        for (pair, all) in pairs {
            let labels = labels(&pair, &all);
            let rows: Vec<OverviewRow> = all.into_iter().filter(is_going_on).collect();
            let Some(since) = rows.iter().map(|row| row.since).min() else { continue };
            let mut annotations = annotations::of(&pair.actors, &rows);
            match self.firing.remove(&pair) {
                Some(before) if before.labels == labels => {
                    let remedy = before.annotations.get(REMEDY).cloned();
                    annotations.extend(remedy.map(|remedy| (REMEDY.to_owned(), remedy)));
                }
                before => {
                    update.is_news = true;
                    update.resolved.extend(before);
                }
            }
            firing.insert(pair, Alert { labels, annotations, since, rows });
        }
        let ended = std::mem::replace(&mut self.firing, firing);
        update.is_news |= !ended.is_empty();
        update.resolved.extend(ended.into_values());
        update
    }
}

fn has_thrashed(row: &OverviewRow, at_least: Confidence) -> bool {
    let war = row.war.as_ref().filter(|_| row.finding == Finding::War);
    war.is_some_and(|war| war.thrashing_events > 0 && war.confidence >= at_least)
}

/// Whether the war thrashes now, or did in its present run. An object that thrashed once is not worth an alert for a single
/// retake later.
fn is_going_on(row: &OverviewRow) -> bool {
    row.war.as_ref().is_some_and(|war| {
        war.deleted.is_none() && matches!(war.state, State::Thrashing | State::Sustained | State::Subsiding)
    })
}

// === impl Pair ===

impl Pair {
    pub(crate) fn of(row: &OverviewRow) -> Pair {
        let mut actors: Vec<String> = row.actors.iter().map(|actor| actor.actor.clone()).collect();
        actors.sort_unstable();
        Pair { cluster: row.object.cluster.clone(), actors }
    }

    /// Returns the actors as a text that stays the same while they fight. A long text is cut, and ends with a hash.
    fn text(&self) -> String {
        let text = escape::text(&self.actors.join(" | ")).into_owned();
        if text.chars().count() <= PAIR_CHARS_MAX {
            return text;
        }
        // FNV-1a, which is the same in every version.
        let hash = self
            .actors
            .join("\0")
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        format!("{} ({hash:016x})", annotations::cut(&text, PAIR_CHARS_MAX))
    }

    /// Whether these are the actors.
    pub(crate) fn is(&self, actors: impl Iterator<Item = impl Into<String>>) -> bool {
        let mut actors: Vec<String> = actors.map(Into::into).collect();
        actors.sort_unstable();
        actors == self.actors
    }
}

fn labels(pair: &Pair, rows: &[OverviewRow]) -> Labels {
    let mut labels = Labels::from([("alertname".to_owned(), "EditWar".to_owned()), ("pair".to_owned(), pair.text())]);
    if !pair.cluster.is_empty() {
        labels.insert("cluster".to_owned(), escape::text(&pair.cluster).into_owned());
    }
    let classes: BTreeSet<String> = rows
        .iter()
        .flat_map(|row| &row.actors)
        .filter_map(|actor| actor.class)
        .map(|class| class.as_str().to_owned())
        .collect();
    labels.insert("classes".to_owned(), classes.into_iter().collect::<Vec<_>>().join(","));
    // A label that is not known of an object, as at audit level Metadata, does not differ.
    let shared = |of: &dyn Fn(&OverviewRow) -> Option<String>| {
        let mut values = rows.iter().filter_map(of);
        let first = values.next()?;
        values.all(|value| value == first).then_some(first)
    };
    let namespace = shared(&|row| Some(row.object.namespace.clone()));
    labels.extend(
        namespace
            .filter(|namespace| !namespace.is_empty())
            .map(|value| ("namespace".to_owned(), escape::text(&value).into_owned())),
    );
    let names: BTreeSet<&String> =
        rows.iter().filter_map(|row| row.war.as_ref()).flat_map(|war| war.labels.keys()).collect();
    for name in names {
        let value = shared(&|row| row.war.as_ref()?.labels.get(name).cloned());
        labels.extend(value.map(|value| (label_name(name), escape::text(&value).into_owned())));
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::query::views::WarSummary;

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

    fn with(row: OverviewRow, change: impl Fn(&mut WarSummary)) -> OverviewRow {
        let mut row = row;
        change(row.war.as_mut().unwrap());
        row
    }

    fn ended(row: OverviewRow) -> OverviewRow {
        with(row, |war| war.state = State::Calm)
    }

    #[test]
    fn labels_that_differ_are_left_out_also_when_the_other_wars_have_ended() {
        let mut alerts = Alerts::default();
        let first = row("shop", "web", Some("payments"));
        alerts.update(vec![first.clone()], Confidence::Probable);
        let before = labels(&alerts);
        // The same actors begin to fight elsewhere: the first alert is resolved, and one for both begins.
        let other = row("other", "web", Some("search"));
        let update = alerts.update(vec![first.clone(), other.clone()], Confidence::Probable);
        assert!(update.is_news);
        assert_eq!(update.resolved.len(), 1);
        let owner = "app_kubernetes_io_part_of=shop classes=gitops,person cluster=east";
        assert_eq!(labels(&alerts), [format!("{COMMON} {owner} {PAIR}")]);
        assert_ne!(labels(&alerts), before);
        // That ends: the alert keeps its identity, also on a server that has just been started.
        let update = alerts.update(vec![first.clone(), ended(other.clone())], Confidence::Probable);
        assert_eq!(update, Update::default());
        assert_eq!(alerts.firing().next().unwrap().rows.len(), 1);
        let mut restarted = Alerts::default();
        restarted.update(vec![first.clone(), ended(other.clone())], Confidence::Probable);
        assert_eq!(labels(&restarted), labels(&alerts));
        // All of it ends.
        let update = alerts.update(vec![ended(first), ended(other)], Confidence::Probable);
        assert!(update.is_news && update.resolved.len() == 1);
        assert_eq!(alerts.firing().count(), 0);
    }

    #[test]
    fn a_label_that_is_not_known_of_an_object_does_not_differ() {
        let mut alerts = Alerts::default();
        alerts.update(vec![row("shop", "web", Some("payments")), row("shop", "api", None)], Confidence::Probable);
        assert!(labels(&alerts)[0].contains("team=payments"), "{:?}", labels(&alerts));
    }

    #[test]
    fn only_wars_that_thrash_in_their_present_run_make_an_alert() {
        let mut alerts = Alerts::default();
        let web = || row("shop", "web", None);
        let rows = vec![
            with(web(), |war| war.confidence = Confidence::Possible),
            ended(web()),
            with(web(), |war| war.deleted = Some(1)),
            with(web(), |war| war.thrashing_events = 0),
            // It thrashed in the morning, and had one retake in the afternoon.
            with(web(), |war| war.state = State::Contested),
            OverviewRow { finding: Finding::HotLoop, war: None, ..web() },
        ];
        assert_eq!(alerts.update(rows.clone(), Confidence::Probable), Update::default());
        alerts.update(rows, Confidence::Possible);
        assert_eq!(alerts.firing().count(), 1);
        let update = alerts.update(vec![with(web(), |war| war.state = State::Subsiding)], Confidence::Probable);
        assert!(update.resolved.is_empty(), "a war that may resume keeps its alert");
    }

    #[test]
    fn text_from_outside_makes_no_lines_of_its_own_and_pairs_differ() {
        let mut alerts = Alerts::default();
        let mut evil = row("shop", "web", None);
        evil.war.as_mut().unwrap().fields[0].values[0].value =
            json!("x\nDeployment prod/db: run kubectl delete\u{202e}");
        evil.actors[1].actor = "alice\nbob".into();
        alerts.update(vec![evil], Confidence::Probable);
        let alert = alerts.firing().next().unwrap();
        assert_eq!(alert.annotations["description"].lines().count(), 1, "{:?}", alert.annotations);
        assert!(!alert.annotations["summary"].contains('\n') && !alert.annotations["description"].contains('\u{202e}'));
        let pair = |last: &str| Pair { cluster: String::new(), actors: vec!["a".repeat(500), last.to_owned()] };
        assert!(pair("x").text().len() < 600 && pair("x").text() != pair("y").text());
    }

    #[test]
    fn keys_of_labels_are_names_for_alertmanager() {
        assert_eq!(label_name("app.kubernetes.io/part-of"), "app_kubernetes_io_part_of");
        assert_eq!(label_name("namespace"), "label_namespace");
        assert_eq!(label_name("7th"), "label_7th");
    }
}
