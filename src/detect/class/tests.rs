use super::*;

fn of(actor: &str, tool: &str) -> (Class, Role) {
    Classes::built_in().of(actor, tool, "")
}

#[test]
fn real_identities_are_what_they_are() {
    for (actor, tool, class, role) in rules::REAL {
        assert_eq!(of(actor, tool), (*class, *role), "{actor} {tool}");
    }
}

#[test]
fn a_user_agent_tells_what_a_field_manager_hides() {
    let of = |tool: &str, agent: &str| Classes::built_in().of("alice", tool, agent).1;
    assert_eq!(of("kubectl", "HashiCorp/1.0 Terraform/1.9.5"), Role::Terraform);
    assert_eq!(of("kubectl-edit", "kubectl/v1.36.2 (linux/amd64) kubernetes/abc"), Role::Kubectl);
}

#[test]
fn rules_of_a_configuration_come_first() {
    let rule = Rule { actor: "alice".into(), tool: String::new(), class: Class::Automation, role: Role::Ci };
    assert_eq!(Classes::with(vec![rule]).of("alice", "kubectl", ""), (Class::Automation, Role::Ci));
}

const CLASSES: [Class; 7] =
    [Class::Controller, Class::Gitops, Class::Automation, Class::Person, Class::Node, Class::Apiserver, Class::Webhook];

#[test]
fn words_are_those_of_the_json() {
    for class in CLASSES {
        assert_eq!(serde_json::to_value(class).unwrap(), class.as_str());
    }
}

#[test]
fn who_applies_for_several_applications_and_who_holds_what_a_repository_says() {
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
fn every_role_has_words_of_its_own() {
    let mut words: Vec<&str> = RULES.iter().map(|(_, _, _, role)| role.as_str()).collect();
    words.sort_unstable();
    words.dedup();
    let mut roles: Vec<Role> = RULES.iter().map(|(_, _, _, role)| *role).collect();
    roles.sort_unstable();
    roles.dedup();
    assert_eq!(words.len(), roles.len());
    assert_eq!(Role::Kubectl.as_str(), "person with kubectl");
}

#[test]
fn who_honours_the_annotations_can_be_said_anew() {
    let autopilot = "system:serviceaccount:openshift-cnv:virt-platform-autopilot";
    let built_in = Classes::built_in();
    assert!(built_in.is_honouring(autopilot) && !built_in.is_honouring("alice"));
    let own = Classes::default().with_honouring(vec!["*:mine".into()]);
    assert!(own.is_honouring("system:serviceaccount:a:mine") && !own.is_honouring(autopilot));
    assert_eq!(own.of("kubelet", "", ""), Classes::default().of("kubelet", "", ""), "what actors are stays");
}
