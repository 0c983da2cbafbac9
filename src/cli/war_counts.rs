//! Counts past wars by namespace, kind, cluster or the team that owns an object.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use comfy_table::{Attribute, Cell};
use serde::Serialize;

use super::style::{Style, clean, clock};
use crate::audit::event::Micros;
use crate::detect::verdict::State;
use crate::query::views::{Object, TransitionView, Transitions, time};

/// What stands for the owner of an object without the label.
const NONE: &str = "(none)";

/// Numbers of past wars, by a key.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct WarCounts {
    by: String,
    /// The groups, those with the most wars first.
    pub(super) groups: Vec<Group>,
    /// The time from which no war is missing.
    #[serde(with = "time")]
    complete_since: Micros,
}

/// The wars over objects that have the same value of the key.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Group {
    /// The value of the key. Empty if objects do not have it.
    value: String,
    /// Number of wars. If one was over and began again, there are two.
    wars: usize,
    /// Number of objects.
    objects: usize,
    /// Number of wars that are not over.
    not_over: usize,
    /// When the latest war began, or when the list begins if that war is older.
    #[serde(with = "time")]
    last: Micros,
}

/// What is counted of one group.
#[derive(Default)]
struct Counted {
    wars: usize,
    objects: BTreeSet<String>,
    not_over: usize,
    last: Micros,
}

// === impl WarCounts ===

impl WarCounts {
    /// `key` is `cluster`, `namespace`, `kind` or a label.
    pub(super) fn of(found: &Transitions, key: &str) -> WarCounts {
        let mut groups: BTreeMap<&str, Counted> = BTreeMap::new();
        // The groups of the wars that are not over, by object: labels may change in the meantime.
        let mut open = BTreeMap::new();
        for transition in &found.transitions {
            let (was_war, is_war) = (is_war(transition.from), is_war(transition.to));
            if !was_war && !is_war {
                continue;
            }
            let object = identity(&transition.object);
            if !was_war || !open.contains_key(&object) {
                let value = value(transition, key);
                let group = groups.entry(value).or_default();
                group.wars += 1;
                group.objects.insert(object.clone());
                // The first transition of a war that began before the list is a later one.
                group.last = group.last.max(if was_war { found.complete_since } else { transition.at });
                open.insert(object.clone(), value);
            }
            if !is_war {
                open.remove(&object);
            }
        }
        for value in open.values() {
            groups.entry(value).or_default().not_over += 1;
        }
        let group = |(value, counted): (&str, Counted)| Group {
            value: value.to_owned(),
            wars: counted.wars,
            objects: counted.objects.len(),
            not_over: counted.not_over,
            last: counted.last,
        };
        let mut groups: Vec<Group> = groups.into_iter().map(group).collect();
        groups.sort_by(|a, b| b.wars.cmp(&a.wars).then_with(|| a.value.cmp(&b.value)));
        WarCounts { by: key.to_owned(), groups, complete_since: found.complete_since }
    }

    /// Formats the groups, one per line.
    pub(super) fn table(&self, style: Style) -> String {
        let since = clock(self.complete_since);
        if self.groups.is_empty() {
            return format!("no war since {since}\n");
        }
        let mut table = style.table();
        let by = clean(&self.by).to_uppercase();
        table.set_header(
            [by.as_str(), "WARS", "OBJECTS", "NOT OVER", "LATEST BEGAN"]
                .map(|text| Cell::new(text).add_attribute(Attribute::Bold)),
        );
        for Group { value, wars, objects, not_over, last } in &self.groups {
            let value = if value.is_empty() { NONE.to_owned() } else { clean(value) };
            table.add_row([value, wars.to_string(), objects.to_string(), not_over.to_string(), clock(*last)]);
        }
        let mut text = format!("{table}\n");
        let _ = writeln!(text, "complete since {since}");
        text
    }

    /// Returns what to do if no object has the label.
    pub(super) fn hint(&self) -> Option<String> {
        let is_unknown = !self.groups.is_empty() && self.groups.iter().all(|group| group.value.is_empty());
        let is_label = !matches!(&*self.by, "cluster" | "namespace" | "kind");
        (is_unknown && is_label).then(|| {
            format!(
                "no object has the label {}, or the server does not keep it: add it to notify.owner_labels",
                clean(&self.by)
            )
        })
    }
}

fn is_war(state: State) -> bool {
    matches!(state, State::Thrashing | State::Sustained | State::Subsiding)
}

fn value<'t>(transition: &'t TransitionView, key: &str) -> &'t str {
    let TransitionView { object, labels, .. } = transition;
    match key {
        "cluster" => &object.cluster,
        "namespace" => &object.namespace,
        "kind" => &object.kind,
        label => labels.get(label).map_or("", String::as_str),
    }
}

fn identity(Object { cluster, group, resource, namespace, name, .. }: &Object) -> String {
    [cluster, group, resource, namespace, name].map(String::as_str).join("\0")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::object::Labels;
    use crate::pipeline::key::ObjectKey;

    fn transition(name: &str, team: &str, from: State, to: State, at: Micros) -> TransitionView {
        let object = Object::from(&ObjectKey::from(format!("\0apps\0deployments\0{name}-space\0{name}").as_str()));
        let labels = if team.is_empty() { Labels::new() } else { Labels::from([("team".to_owned(), team.to_owned())]) };
        TransitionView { at, object, from, to, labels }
    }

    /// The groups as tuples: value, wars, objects, those that are not over, and when the latest one began.
    fn groups(transitions: Vec<TransitionView>, key: &str) -> Vec<(String, usize, usize, usize, Micros)> {
        let found = Transitions { transitions, complete_since: 5 };
        let tuple = |g: Group| (g.value, g.wars, g.objects, g.not_over, g.last);
        WarCounts::of(&found, key).groups.into_iter().map(tuple).collect()
    }

    #[test]
    fn a_war_counts_once_although_its_state_changes_and_again_when_it_begins_again() {
        use State::*;
        let web = |from, to, at| transition("web", "shop", from, to, at);
        let mut all = vec![
            web(Calm, Contested, 10),
            web(Contested, Thrashing, 20),
            web(Thrashing, Sustained, 30),
            web(Sustained, Subsiding, 40),
            web(Subsiding, Calm, 50),
        ];
        assert_eq!(groups(all.clone(), "team"), [("shop".to_owned(), 1, 1, 0, 20)]);
        all.push(web(Calm, Contested, 60));
        assert_eq!(groups(all.clone(), "team"), [("shop".to_owned(), 1, 1, 0, 20)], "a contested object is no war yet");
        all.push(web(Contested, Thrashing, 70));
        assert_eq!(groups(all, "team"), [("shop".to_owned(), 2, 1, 1, 70)]);
    }

    #[test]
    fn a_war_that_began_before_the_list_counts_in_the_team_that_owned_the_object_then() {
        use State::*;
        let all = vec![
            transition("old", "a", Sustained, Subsiding, 10),
            transition("old", "b", Subsiding, Sustained, 20),
            transition("other", "", Contested, Thrashing, 30),
        ];
        assert_eq!(groups(all.clone(), "team"), [(String::new(), 1, 1, 1, 30), ("a".to_owned(), 1, 1, 1, 5)]);
        let by_namespace = groups(all, "namespace");
        let names: Vec<&str> = by_namespace.iter().map(|group| group.0.as_str()).collect();
        assert_eq!(names, ["old-space", "other-space"]);
    }

    #[test]
    fn a_label_that_no_object_has_is_said() {
        let found = |team| Transitions {
            transitions: vec![transition("web", team, State::Contested, State::Thrashing, 10)],
            complete_since: 5,
        };
        assert!(WarCounts::of(&found("shop"), "team").hint().is_none());
        assert!(WarCounts::of(&found(""), "kind").hint().is_none());
        let hint = WarCounts::of(&found("shop"), "owner").hint().unwrap();
        assert!(hint.contains("add it to notify.owner_labels"), "{hint}");
    }
}
