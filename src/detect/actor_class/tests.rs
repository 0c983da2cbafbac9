use super::*;

#[path = "tests/known_identities.rs"]
mod known_identities;

fn classify(actor: &str, tool: &str) -> Classification {
    ActorClassifier::built_in().classify(actor, tool, "")
}

#[test]
fn known_identities_have_the_expected_class_and_role() {
    for (actor, tool, class, role) in known_identities::KNOWN_IDENTITIES {
        assert_eq!(classify(actor, tool), Classification { class: *class, role: *role }, "{actor} {tool}");
    }
}

#[test]
fn a_user_agent_shows_the_program_behind_a_field_manager() {
    let of = |tool: &str, agent: &str| ActorClassifier::built_in().classify("alice", tool, agent).role;
    assert_eq!(of("kubectl", "HashiCorp/1.0 Terraform/1.9.5"), Role::Terraform);
    assert_eq!(of("kubectl-edit", "kubectl/v1.36.2 (linux/amd64) kubernetes/abc"), Role::Kubectl);
}

#[test]
fn configured_rules_precede_the_built_in_ones() {
    let rule = ActorRule { actor: "alice".into(), tool: String::new(), class: ActorClass::Automation, role: Role::Ci };
    let expected = Classification { class: ActorClass::Automation, role: Role::Ci };
    assert_eq!(ActorClassifier::with(vec![rule]).classify("alice", "kubectl", ""), expected);
}

const CLASSES: [ActorClass; 7] = [
    ActorClass::Controller,
    ActorClass::Gitops,
    ActorClass::Automation,
    ActorClass::Person,
    ActorClass::Node,
    ActorClass::Apiserver,
    ActorClass::Webhook,
];

#[test]
fn the_names_are_those_of_the_json() {
    for class in CLASSES {
        assert_eq!(serde_json::to_value(class).unwrap(), class.as_str());
    }
}

#[test]
fn roles_apply_several_applications_and_are_gitops_tools_as_listed() {
    for role in [Role::ArgoCd, Role::Flux, Role::Gitops] {
        assert!(role.is_gitops() && role.applies(), "{role:?}");
    }
    for role in [Role::Helm, Role::Terraform, Role::Ci] {
        assert!(!role.is_gitops() && role.applies(), "{role:?}");
    }
    for role in [Role::Kubectl, Role::Operator, Role::Hpa, Role::Webhook] {
        assert!(!role.is_gitops() && !role.applies(), "{role:?}");
    }
}

#[test]
fn every_role_has_a_name_of_its_own() {
    let mut words: Vec<&str> = RULES.iter().map(|rule| rule.role.as_str()).collect();
    words.sort_unstable();
    words.dedup();
    let mut roles: Vec<Role> = RULES.iter().map(|rule| rule.role).collect();
    roles.sort_unstable();
    roles.dedup();
    assert_eq!(words.len(), roles.len());
    assert_eq!(Role::Kubectl.as_str(), "person with kubectl");
}

#[test]
fn the_actors_that_honour_annotations_can_be_replaced() {
    let autopilot = "system:serviceaccount:openshift-cnv:virt-platform-autopilot";
    let built_in = ActorClassifier::built_in();
    assert!(built_in.is_honouring(autopilot) && !built_in.is_honouring("alice"));
    let own = ActorClassifier::default().with_honouring(vec!["*:mine".into()]);
    assert!(own.is_honouring("system:serviceaccount:a:mine") && !own.is_honouring(autopilot));
    assert_eq!(
        own.classify("kubelet", "", ""),
        ActorClassifier::default().classify("kubelet", "", ""),
        "the classes do not change"
    );
}
