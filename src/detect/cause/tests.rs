use super::*;

fn symptoms<'a>(parties: &[(&'a str, Class)]) -> Symptoms<'a> {
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

fn of(parties: &[(&'static str, Class)]) -> Cause {
    cause(&symptoms(parties)).0
}

#[test]
fn the_parties_tell_the_cause() {
    let (hpa, alice) = (("hpa", Class::Controller), ("alice", Class::Person));
    assert_eq!(of(&[hpa, ("autopilot", Class::Controller)]), Cause::ConflictingAutomation);
    assert_eq!(of(&[hpa, ("argocd", Class::Gitops)]), Cause::ConflictingAutomation);
    assert_eq!(of(&[hpa, ("terraform", Class::Automation)]), Cause::ConflictingAutomation);
    assert_eq!(of(&[hpa, alice]), Cause::ManualEdits);
    assert_eq!(of(&[alice, ("webhook tags/tags.example.com", Class::Webhook)]), Cause::FlappingWebhook);
    assert_eq!(of(&[alice]), Cause::Unknown);
}

#[test]
fn one_account_against_itself_tells_what_differs() {
    let gitops = Class::Gitops;
    assert_eq!(
        of(&[("flux via Kustomization a", gitops), ("flux via Kustomization b", gitops)]),
        Cause::ConflictingAutomation
    );
    assert_eq!(of(&[("cm via pod a", Class::Controller), ("cm via pod b", Class::Controller)]), Cause::VersionSkew);
    assert_eq!(of(&[("m via m v1", Class::Controller), ("m via m v2", Class::Controller)]), Cause::VersionSkew);
    assert_eq!(of(&[("alice via one", Class::Person), ("alice via two", Class::Person)]), Cause::SharedAccount);
    assert_eq!(of(&[("alice via one", Class::Person), ("bob via two", Class::Person)]), Cause::ManualEdits);
}

#[test]
fn what_it_is_over_tells_the_cause() {
    let pair = [("a", Class::Person), ("b", Class::Person)];
    assert_eq!(cause(&Symptoms { scope: Scope::Object, ..symptoms(&pair) }).0, Cause::RecreateWar);
    assert_eq!(cause(&Symptoms { is_over_form: true, ..symptoms(&pair) }).0, Cause::Normalisation);
    let hidden = [("argocd", Class::Gitops), ("webhook a/b", Class::Webhook)];
    assert_eq!(cause(&Symptoms { scope: Scope::Override, ..symptoms(&hidden) }).0, Cause::OverridingWebhook);
}

#[test]
fn races_tell_the_cause_where_fields_are_not_known() {
    let pair = [("a", Class::Person), ("b", Class::Person)];
    let blind = Symptoms { confidence: Confidence::Possible, stale: 300, ..symptoms(&pair) };
    assert_eq!(cause(&blind).0, Cause::LockContention);
    assert_eq!(cause(&Symptoms { stale: 57, ..symptoms(&pair) }).0, Cause::ManualEdits);
    assert_eq!(cause(&Symptoms { stale: 11, ..blind.clone() }).0, Cause::ManualEdits, "half of them, not more");
}

#[test]
fn words_are_those_of_the_json() {
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
fn the_evidence_names_both_sides() {
    let (alice, argo) = (("alice", Class::Person), ("argocd", Class::Gitops));
    let why = |of: &Symptoms<'_>| cause(of).1.remove(0);
    assert_eq!(why(&symptoms(&[alice, argo])), "alice by hand against argocd");
    assert_eq!(why(&symptoms(&[alice, ("bob", Class::Person)])), "all parties are people: alice, bob");
    assert_eq!(why(&symptoms(&[argo, ("hpa", Class::Controller)])), "all parties are programs: argocd, hpa");
    let webhook = ("webhook a/b", Class::Webhook);
    let hidden = Symptoms { scope: Scope::Override, ..symptoms(&[argo, webhook]) };
    let expected = "webhook a/b replaces the request of argocd with the stored value each time, so nothing changes";
    assert_eq!(why(&hidden), expected);
    assert_eq!(cause(&symptoms(&[alice])), (Cause::Unknown, vec![]), "one party alone has no cause");
}

#[test]
fn conflicts_and_refusals_are_evidence_beside_the_cause() {
    let pair = [("a", Class::Person), ("b", Class::Person)];
    assert_eq!(cause(&symptoms(&pair)).1.len(), 1);
    let stale = cause(&Symptoms { stale: 1, ..symptoms(&pair) }).1;
    assert_eq!(stale[1..], ["1 requests of the parties failed because of a stale resourceVersion, and 22 succeeded"]);
    let refused = cause(&Symptoms { flapping: Some(("policy p", 7)), ..symptoms(&pair) }).1;
    assert_eq!(refused[1..], ["policy p alternately accepted and rejected requests of the same writer, 7 times"]);
}

#[test]
fn more_failures_than_half_the_writes_are_lock_contention() {
    let pair = [("a", Class::Person), ("b", Class::Person)];
    let of = |stale, writes| cause(&Symptoms { confidence: Confidence::Possible, stale, writes, ..symptoms(&pair) }).0;
    assert_eq!(of(12, 22), Cause::LockContention);
    assert_eq!(of(3, 5), Cause::LockContention);
    assert_eq!(of(1, 2), Cause::ManualEdits);
}

#[test]
fn one_instance_alone_is_no_account_against_itself() {
    assert_eq!(of(&[("flux via Kustomization a", Class::Gitops)]), Cause::Unknown);
}
