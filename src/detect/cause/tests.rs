use super::*;

fn symptoms<'a>(parties: &[(&'a str, ActorClass)]) -> Symptoms<'a> {
    Symptoms {
        confidence: Confidence::Confirmed,
        scope: Scope::Fields,
        parties: parties.to_vec(),
        is_over_form: false,
        stale: 0,
        writes: 22,
        flapping: None,
    }
}

fn of(parties: &[(&'static str, ActorClass)]) -> Cause {
    explain(&symptoms(parties)).cause
}

#[test]
fn the_classes_of_the_parties_determine_the_cause() {
    let (hpa, alice) = (("hpa", ActorClass::Controller), ("alice", ActorClass::Person));
    assert_eq!(of(&[hpa, ("autopilot", ActorClass::Controller)]), Cause::ConflictingAutomation);
    assert_eq!(of(&[hpa, ("argocd", ActorClass::Gitops)]), Cause::ConflictingAutomation);
    assert_eq!(of(&[hpa, ("terraform", ActorClass::Automation)]), Cause::ConflictingAutomation);
    assert_eq!(of(&[hpa, alice]), Cause::ManualEdits);
    assert_eq!(of(&[alice, ("webhook tags/tags.example.com", ActorClass::Webhook)]), Cause::FlappingWebhook);
    assert_eq!(of(&[alice]), Cause::Unknown);
}

#[test]
fn the_instances_of_one_account_determine_the_cause() {
    let gitops = ActorClass::Gitops;
    assert_eq!(
        of(&[("flux via Kustomization a", gitops), ("flux via Kustomization b", gitops)]),
        Cause::ConflictingAutomation
    );
    assert_eq!(
        of(&[("cm via pod a", ActorClass::Controller), ("cm via pod b", ActorClass::Controller)]),
        Cause::VersionSkew
    );
    assert_eq!(
        of(&[("m via m v1", ActorClass::Controller), ("m via m v2", ActorClass::Controller)]),
        Cause::VersionSkew
    );
    assert_eq!(
        of(&[("alice via one", ActorClass::Person), ("alice via two", ActorClass::Person)]),
        Cause::SharedAccount
    );
    assert_eq!(of(&[("alice via one", ActorClass::Person), ("bob via two", ActorClass::Person)]), Cause::ManualEdits);
}

#[test]
fn the_scope_and_the_values_determine_the_cause() {
    let pair = [("a", ActorClass::Person), ("b", ActorClass::Person)];
    assert_eq!(explain(&Symptoms { scope: Scope::Object, ..symptoms(&pair) }).cause, Cause::RecreateWar);
    assert_eq!(explain(&Symptoms { is_over_form: true, ..symptoms(&pair) }).cause, Cause::Normalisation);
    let hidden = [("argocd", ActorClass::Gitops), ("webhook a/b", ActorClass::Webhook)];
    assert_eq!(explain(&Symptoms { scope: Scope::Override, ..symptoms(&hidden) }).cause, Cause::OverridingWebhook);
}

#[test]
fn conflicts_determine_the_cause_if_fields_are_not_known() {
    let pair = [("a", ActorClass::Person), ("b", ActorClass::Person)];
    let blind = Symptoms { confidence: Confidence::Possible, stale: 300, ..symptoms(&pair) };
    assert_eq!(explain(&blind).cause, Cause::LockContention);
    assert_eq!(explain(&Symptoms { stale: 57, ..symptoms(&pair) }).cause, Cause::ManualEdits);
    assert_eq!(
        explain(&Symptoms { stale: 11, ..blind.clone() }).cause,
        Cause::ManualEdits,
        "only half as many as writes"
    );
}

#[test]
fn the_names_are_those_of_the_json() {
    for cause in [
        Cause::ConflictingAutomation,
        Cause::ManualEdits,
        Cause::FlappingWebhook,
        Cause::OverridingWebhook,
        Cause::LockContention,
        Cause::RecreateWar,
        Cause::Normalisation,
        Cause::VersionSkew,
        Cause::SharedAccount,
        Cause::Unknown,
    ] {
        assert_eq!(serde_json::to_value(cause).unwrap(), cause.as_str());
    }
}

#[test]
fn the_evidence_names_all_parties() {
    let (alice, argo) = (("alice", ActorClass::Person), ("argocd", ActorClass::Gitops));
    let why = |of: &Symptoms<'_>| explain(of).evidence.remove(0);
    assert_eq!(why(&symptoms(&[alice, argo])), "alice edits by hand what argocd writes too");
    assert_eq!(why(&symptoms(&[alice, ("bob", ActorClass::Person)])), "all parties are people: alice, bob");
    assert_eq!(why(&symptoms(&[argo, ("hpa", ActorClass::Controller)])), "all parties are programs: argocd, hpa");
    let webhook = ("webhook a/b", ActorClass::Webhook);
    let hidden = Symptoms { scope: Scope::Override, ..symptoms(&[argo, webhook]) };
    let expected = "webhook a/b replaces the request of argocd with the stored value each time, so nothing changes";
    assert_eq!(why(&hidden), expected);
    let unknown = Explanation { cause: Cause::Unknown, evidence: Vec::new() };
    assert_eq!(explain(&symptoms(&[alice])), unknown, "there is only one party");
}

#[test]
fn conflicts_and_rejections_are_additional_evidence() {
    let pair = [("a", ActorClass::Person), ("b", ActorClass::Person)];
    assert_eq!(explain(&symptoms(&pair)).evidence.len(), 1);
    let stale = explain(&Symptoms { stale: 1, ..symptoms(&pair) }).evidence;
    assert_eq!(stale[1..], ["1 requests of the parties failed because of a stale resourceVersion, and 22 succeeded"]);
    let refused =
        explain(&Symptoms { flapping: Some(Flapping { by: "policy p", alternations: 7 }), ..symptoms(&pair) }).evidence;
    assert_eq!(refused[1..], ["policy p alternately accepted and rejected requests of the same writer, 7 times"]);
}

#[test]
fn more_failures_than_half_the_writes_are_lock_contention() {
    let pair = [("a", ActorClass::Person), ("b", ActorClass::Person)];
    let of =
        |stale, writes| explain(&Symptoms { confidence: Confidence::Possible, stale, writes, ..symptoms(&pair) }).cause;
    assert_eq!(of(12, 22), Cause::LockContention);
    assert_eq!(of(3, 5), Cause::LockContention);
    assert_eq!(of(1, 2), Cause::ManualEdits);
}

#[test]
fn one_instance_alone_is_not_an_account_against_itself() {
    assert_eq!(of(&[("flux via Kustomization a", ActorClass::Gitops)]), Cause::Unknown);
}
