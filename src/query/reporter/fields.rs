//! Builds the views of the contested fields of a war.

use std::sync::Arc;

use crate::detect::actor::Client;
use crate::detect::analysis::{AdmissionOverride, Analysis};
use crate::detect::assessment::WarAssessment;
use crate::detect::field_history::{FieldHistory, ValueSeen};
use crate::detect::fields::{FieldValue, Path};
use crate::detect::war::Scope;
use crate::detect::write::{Effect, Part};
use crate::query::views::{Field, Value, is_cut, is_redacted, json_of};

/// Returns the contested fields of a war, with the values that the parties gave them.
pub(super) fn of(analysis: &Analysis, war: &WarAssessment<'_>) -> Vec<Field> {
    let retakes = war.tally.retakes;
    match war.scope {
        Scope::Fields => {
            let field = |(path, field): &(&Path, &FieldHistory)| Field {
                path: path.to_string(),
                retakes: field.retakes,
                values: values(field, war.parties),
            };
            war.fields.iter().map(field).collect()
        }
        Scope::Object => {
            let is_party = |client: &Client| war.parties.iter().any(|party| client.is_named(party));
            let by_parties = analysis.existence().iter().filter(|(client, ..)| is_party(client));
            let counted = by_parties.map(|(client, effect, count)| Value {
                value: if *effect == Effect::Delete { "deleted".into() } else { "created".into() },
                absent: false,
                redacted: false,
                cut: false,
                actor: client.actor.to_string(),
                count: *count,
            });
            vec![Field { path: "(object)".into(), retakes, values: counted.collect() }]
        }
        Scope::Override => overridden(analysis.overrides_of(war.id)),
        Scope::Part(Part::Main) => vec![Field { path: "(main)".into(), retakes, values: Vec::new() }],
        Scope::Part(Part::Status) => vec![Field { path: "(status)".into(), retakes, values: Vec::new() }],
    }
}

/// Returns the fields that a webhook overrides, with the requested values and those that the webhook sets instead.
fn overridden<'o>(overrides: impl Iterator<Item = &'o AdmissionOverride>) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::new();
    for o in overrides {
        let value = |value: &Option<FieldValue>, actor: &str| Value {
            value: json_of(value),
            absent: value.is_none(),
            redacted: is_redacted(value),
            cut: is_cut(value),
            actor: actor.to_owned(),
            count: o.count,
        };
        let values = [value(&o.requested, &o.requester.actor), value(&o.given, &o.webhook.actor)];
        match fields.iter_mut().find(|field| *field.path == *o.path) {
            Some(field) => {
                field.retakes += o.count.saturating_sub(1);
                field.values.extend(values);
            }
            None => fields.push(Field {
                path: o.path.to_string(),
                retakes: o.count.saturating_sub(1),
                values: values.into(),
            }),
        }
    }
    fields
}

/// Returns the values that the parties gave a field. Values of other writers are not part of the war.
fn values(field: &FieldHistory, parties: &[Arc<str>]) -> Vec<Value> {
    let mut values: Vec<Value> = Vec::new();
    for ValueSeen { value, client, count } in &field.values {
        if !parties.contains(&field.party_of(client)) {
            continue;
        }
        let (json, absent, redacted) = (json_of(value), value.is_none(), is_redacted(value));
        let actor = field.party_of(client);
        let is_same = |v: &&mut Value| v.value == json && v.absent == absent && *v.actor == *actor;
        match values.iter_mut().find(is_same) {
            Some(known) => known.count += count,
            None => {
                let (actor, cut) = (actor.to_string(), is_cut(value));
                values.push(Value { value: json, absent, redacted, cut, actor, count: *count });
            }
        }
    }
    values.sort_by_key(|v| (std::cmp::Reverse(v.count), v.actor.clone()));
    values
}
