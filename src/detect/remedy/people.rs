//! Recipes for people.

use serde_json::{Value, json};

use super::{Facts, Location, Party, Remedy, RemedyKind, is_person, locations, program, short_hash};
use crate::detect::instance::account;

/// Maximum number of bytes of a word in the name of a policy.
const WORD_BYTES_MAX: usize = 40;

/// Refuse the changes of one person to the contested fields of this object.
pub(super) fn refuse(facts: &Facts<'_>) -> Vec<Remedy> {
    // An account that fights itself cannot be told apart by its name.
    let is_alone = |party: &&Party<'_>| {
        facts.parties.iter().filter(|other| account(other.actor) == account(party.actor)).count() == 1
    };
    // Admission does not decide by the name of a field manager, which every client can choose.
    let is_account = |party: &&Party<'_>| is_person(party.role) && !party.is_field_manager;
    let people = facts.parties.iter().filter(is_account).filter(is_alone);
    people.filter_map(|person| refuse_changes(facts, person.actor)).collect()
}

fn refuse_changes(facts: &Facts<'_>, actor: &str) -> Option<Remedy> {
    let fields = locations(&facts.fields_of(actor));
    if fields.is_empty() || fields.iter().any(Location::is_status) {
        return None;
    }
    let unchanged = |field: &Location| Some(format!("{} == {}", field.cel("object")?, field.cel("oldObject")?));
    let unchanged: Vec<String> = fields.iter().map(unchanged).collect::<Option<_>>()?;
    let (names, rivals, person) = (facts.field_names(actor), facts.rivals(actor), account(actor));
    let policy = policy_name(facts, person);
    let resource = facts.resource.split('.').next()?;
    let mut resources = vec![resource.to_owned()];
    if fields.iter().any(Location::is_replicas) {
        resources.push(format!("{resource}/scale"));
    }
    let mut matching = json!({"resourceRules": [{
        "apiGroups": [facts.group], "apiVersions": ["*"], "operations": ["UPDATE"], "resources": resources,
        "resourceNames": [facts.name]}]});
    if !facts.namespace.is_empty() {
        matching["namespaceSelector"] = json!({"matchLabels": {"kubernetes.io/metadata.name": facts.namespace}});
    }
    let is_person = format!("request.userInfo.username == {}", Value::from(person));
    let message = format!("{names} of {} is left to {rivals} (policy {policy})", facts.title());
    let manifest = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy",
         "metadata": {"name": policy},
         "spec": {"failurePolicy": "Ignore", "matchConstraints": matching,
                  "matchConditions": [{"name": "person", "expression": is_person}],
                  "validations": [{"expression": unchanged.join(" && "), "message": message}]}},
        {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
         "metadata": {"name": policy}, "spec": {"policyName": policy, "validationActions": ["Deny"]}}]});
    Some(Remedy {
        kind: RemedyKind::Change,
        title: format!("refuse changes of {names} by {person}"),
        command: facts.apply(&manifest),
        changes: format!(
            "a ValidatingAdmissionPolicy refuses updates by {person} that change {names} of this object, and says why; \
             all other changes are allowed"
        ),
        tradeoff: format!("{person} cannot set {names}, also in an emergency, until the policy is deleted"),
        undo: Some(format!(
            "{} delete validatingadmissionpolicybindings,validatingadmissionpolicies {policy}",
            facts.program()
        )),
    })
}

/// Returns a name that is unique to the person and the object.
fn policy_name(facts: &Facts<'_>, person: &str) -> String {
    let identity = [facts.resource.as_str(), facts.namespace, facts.name, person].join("/");
    let word = |text: &str| {
        let end = (0..=text.len().min(WORD_BYTES_MAX)).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
        text[..end].chars().map(plain).collect::<String>().trim_matches('-').to_owned()
    };
    format!("editwar-{}-{}-{}", word(facts.name), word(person), short_hash(&identity))
}

/// Agree with a person on one owner.
pub(super) fn agree(facts: &Facts<'_>) -> Vec<Remedy> {
    let Some(party) = facts.party(is_person) else { return Vec::new() };
    let person = account(party.actor);
    let others: Vec<&str> =
        facts.parties.iter().map(|party| party.actor).filter(|other| account(other) != person).collect();
    let title = match others.as_slice() {
        [] => format!("{person} edits this with several tools: choose one of them"),
        others if party.is_field_manager => {
            format!("find out who edits this as {person}, and agree with {} on one owner", others.join(" and "))
        }
        others => format!("talk to {person}: agree with {} on one owner of these fields", others.join(" and ")),
    };
    vec![Remedy { title, ..program::owners_of_fields(facts) }]
}
