use super::*;

const SECOND: Micros = 1_000_000;

/// Answers, one every two seconds: `c` is a 409, `a` accepted, `r` rejected.
fn failures(answers: &str) -> Failures {
    let (client, mut failures) = (Client::named("alice"), Failures::default());
    for (i, answer) in answers.chars().enumerate() {
        let at = i as i64 * 2 * SECOND;
        match answer {
            'a' => failures.record_accepted(&client, at),
            'c' => failures.record(&client, &Outcome::Stale, at),
            _ => failures.record(&client, &Outcome::Rejected { by: "policy p".into(), message: "no" }, at),
        }
    }
    failures
}

#[test]
fn conflicts_followed_by_success_are_not_contention() {
    assert!(!failures(&"ca".repeat(60)).is_contended(&Limits::default()));
    assert!(!failures(&"cca".repeat(3)).is_contended(&Limits::default()));
}

#[test]
fn repeated_conflicts_beyond_the_limit_are_contention() {
    assert!(!failures("cccc").is_contended(&Limits::default()), "three repeated conflicts are allowed");
    assert!(failures("ccccc").is_contended(&Limits::default()));
    assert!(failures(&"cca".repeat(4)).is_contended(&Limits::default()));
}

#[test]
fn conflicts_are_not_alternations_of_admission() {
    let failures = failures("rcacrca");
    let (_, actor_failures) = failures.actors().next().unwrap();
    assert_eq!(
        (actor_failures.alternations(), actor_failures.rejected, actor_failures.accepted, actor_failures.stale),
        (3, 2, 2, 3)
    );
}

fn of<'t>(failures: &'t Failures, actor: &str) -> &'t ActorFailures {
    failures.actors().find(|(name, _)| ***name == *actor).map(|(_, actor_failures)| actor_failures).unwrap()
}

#[test]
fn failed_requests_are_counted_by_outcome() {
    let (alice, bob, mut failures) = (Client::named("alice"), Client::named("bob"), Failures::default());
    assert_eq!(failures.last_at(), i64::MIN, "nothing happened yet");
    for second in [30, 10] {
        failures.record(&alice, &Outcome::Stale, second * SECOND);
    }
    for second in [20, 40, 60] {
        failures.record(&alice, &Outcome::ApplyConflict, second * SECOND);
    }
    for _ in 0..4 {
        failures.record(&alice, &Outcome::Uncertain, 900 * SECOND);
    }
    failures.record(&bob, &Outcome::Rejected { by: "webhook w".into(), message: "no" }, 70 * SECOND);
    failures.record(&bob, &Outcome::Rejected { by: "webhook w".into(), message: "still no" }, 50 * SECOND);
    let actor_failures = of(&failures, "alice");
    let counts = (actor_failures.stale, actor_failures.apply_conflicts, actor_failures.rejected);
    assert_eq!(counts, (2, 3, 0), "uncertain requests are not counted");
    assert_eq!((actor_failures.conflicts_at, actor_failures.rejected_at), (Some((10 * SECOND, 60 * SECOND)), None));
    let actor_failures = of(&failures, "bob");
    assert_eq!((actor_failures.rejected, actor_failures.stale), (2, 0));
    assert_eq!((actor_failures.conflicts_at, actor_failures.rejected_at), (None, Some((50 * SECOND, 70 * SECOND))));
    assert_eq!(actor_failures.rejections["webhook w"], "still no", "the last message");
    assert_eq!(failures.last_at(), 70 * SECOND, "the last conflict or rejection");
}

#[test]
fn accepted_requests_count_from_the_first_rejection() {
    assert_eq!(of(&failures("caac"), "alice").accepted, 0);
    assert_eq!(of(&failures("caraac"), "alice").accepted, 2);
}

#[test]
fn answers_are_sorted_by_time_in_any_order_of_arrival() {
    let (client, mut late) = (Client::named("alice"), Failures::default());
    // Rejected at 0, accepted at 2, rejected at 4, accepted at 6; the answer at 2 arrives last.
    let rejected = Outcome::Rejected { by: "policy p".into(), message: "no" };
    late.record(&client, &rejected, 0);
    late.record(&client, &rejected, 4 * SECOND);
    late.record_accepted(&client, 6 * SECOND);
    assert_eq!(of(&late, "alice").alternations(), 1);
    late.record_accepted(&client, 2 * SECOND);
    assert_eq!(of(&late, "alice").alternations(), 3);
    // Answers with the same time keep the order of arrival.
    let mut same = Failures::default();
    same.record(&client, &rejected, 0);
    same.record_accepted(&client, 0);
    same.record(&client, &rejected, 2 * SECOND);
    assert_eq!(of(&same, "alice").alternations(), 2);
}

#[test]
fn only_the_latest_answers_count_as_alternations() {
    assert_eq!(of(&failures(&"ra".repeat(ANSWERS_MAX / 2)), "alice").alternations() as usize, ANSWERS_MAX - 1);
    assert_eq!(of(&failures(&"ra".repeat(ANSWERS_MAX)), "alice").alternations() as usize, ANSWERS_MAX - 1);
}

#[test]
fn actors_and_rejecting_webhooks_are_bounded() {
    let mut failures = Failures::default();
    for i in 0..ACTORS_MAX + 3 {
        failures.record(&Client::named(&format!("actor-{i}")), &Outcome::Stale, SECOND);
    }
    assert_eq!(failures.actors().count(), ACTORS_MAX);
    let (alice, mut failures) = (Client::named("alice"), Failures::default());
    for i in 0..ACTORS_MAX + 3 {
        failures.record(&alice, &Outcome::Rejected { by: format!("policy {i}").into(), message: "no" }, SECOND);
    }
    let rejections = &of(&failures, "alice").rejections;
    assert_eq!(rejections.len(), ACTORS_MAX);
    assert!(rejections.contains_key("policy 0"));
    failures.record(&alice, &Outcome::Rejected { by: "policy 0".into(), message: "again" }, SECOND);
    assert_eq!(of(&failures, "alice").rejections["policy 0"], "again", "known policies are still updated");
}

#[test]
fn a_long_message_is_truncated_between_characters() {
    let (alice, mut failures) = (Client::named("alice"), Failures::default());
    let message = format!("x{}", "ä".repeat(MESSAGE_BYTES_MAX));
    failures.record(&alice, &Outcome::Rejected { by: "policy p".into(), message: &message }, SECOND);
    assert_eq!(of(&failures, "alice").rejections["policy p"], message[..MESSAGE_BYTES_MAX - 1]);
}

#[test]
fn occasional_repeated_conflicts_are_not_contention() {
    let (client, mut rare) = (Client::named("alice"), Failures::default());
    (0..12).for_each(|turn| rare.record(&client, &Outcome::Stale, turn * 600 * SECOND));
    assert!(!rare.is_contended(&Limits::default()), "one every ten minutes");
}

#[test]
fn the_bytes_of_failures_are_those_of_answers_and_rejections() {
    assert_eq!(Failures::default().bytes(), 0);
    let failures = failures("rca");
    let answers = of(&failures, "alice").answers.capacity() * size_of::<AnsweredRequest>();
    assert!(answers >= 3 * size_of::<AnsweredRequest>());
    // `policy p`, `no`, and their entry in the map.
    let refusal = 8 + 2 + 64;
    assert_eq!(failures.bytes(), size_of::<(Arc<str>, ActorFailures)>() + answers + refusal);
}
