use super::*;

const SECOND: Micros = 1_000_000;

/// `c` a 409, `a` accepted, `r` rejected; one every two seconds.
fn troubles(answers: &str) -> Troubles {
    let (client, mut troubles) = (Client::named("alice"), Troubles::default());
    for (i, answer) in answers.chars().enumerate() {
        let at = i as i64 * 2 * SECOND;
        match answer {
            'a' => troubles.accepted(&client, at),
            'c' => troubles.note(&client, &Outcome::Stale, at),
            _ => troubles.note(&client, &Outcome::Rejected { by: "policy p".into(), message: "no" }, at),
        }
    }
    troubles
}

#[test]
fn conflicts_that_the_next_try_wins_are_no_contention() {
    assert!(!troubles(&"ca".repeat(60)).is_contended(&Limits::default()));
    assert!(!troubles(&"cca".repeat(3)).is_contended(&Limits::default()));
}

#[test]
fn who_loses_again_more_often_than_the_limit_is_contended() {
    assert!(!troubles("cccc").is_contended(&Limits::default()), "three lost again: that many are allowed");
    assert!(troubles("ccccc").is_contended(&Limits::default()));
    assert!(troubles(&"cca".repeat(4)).is_contended(&Limits::default()));
}

#[test]
fn conflicts_are_not_turns_of_admission() {
    let troubles = troubles("rcacrca");
    let (_, trouble) = troubles.actors().next().unwrap();
    assert_eq!((trouble.turns(), trouble.rejected, trouble.accepted, trouble.stale), (3, 2, 2, 3));
}

fn of<'t>(troubles: &'t Troubles, actor: &str) -> &'t Trouble {
    troubles.actors().find(|(name, _)| ***name == *actor).map(|(_, trouble)| trouble).unwrap()
}

#[test]
fn what_was_not_stored_is_counted_by_what_it_was() {
    let (alice, bob, mut troubles) = (Client::named("alice"), Client::named("bob"), Troubles::default());
    assert_eq!(troubles.last_at(), i64::MIN, "nothing happened yet");
    for second in [30, 10] {
        troubles.note(&alice, &Outcome::Stale, second * SECOND);
    }
    for second in [20, 40, 60] {
        troubles.note(&alice, &Outcome::ApplyConflict, second * SECOND);
    }
    for _ in 0..4 {
        troubles.note(&alice, &Outcome::Uncertain, 900 * SECOND);
    }
    troubles.note(&bob, &Outcome::Rejected { by: "webhook w".into(), message: "no" }, 70 * SECOND);
    troubles.note(&bob, &Outcome::Rejected { by: "webhook w".into(), message: "still no" }, 50 * SECOND);
    let trouble = of(&troubles, "alice");
    assert_eq!((trouble.stale, trouble.apply_conflicts, trouble.uncertain, trouble.rejected), (2, 3, 4, 0));
    assert_eq!((trouble.conflicts_at, trouble.rejected_at), (Some((10 * SECOND, 60 * SECOND)), None));
    let trouble = of(&troubles, "bob");
    assert_eq!((trouble.rejected, trouble.stale), (2, 0));
    assert_eq!((trouble.conflicts_at, trouble.rejected_at), (None, Some((50 * SECOND, 70 * SECOND))));
    assert_eq!(trouble.refusals["webhook w"], "still no", "the last thing it said");
    assert_eq!(troubles.last_at(), 70 * SECOND, "the last conflict or refusal");
}

#[test]
fn accepted_counts_from_the_first_refusal_on() {
    assert_eq!(of(&troubles("caac"), "alice").accepted, 0);
    assert_eq!(of(&troubles("caraac"), "alice").accepted, 2);
}

#[test]
fn answers_are_in_order_of_their_times_however_they_arrive() {
    let (client, mut late) = (Client::named("alice"), Troubles::default());
    // Rejected at 0, accepted at 2, rejected at 4, accepted at 6; the last two come in before the second one.
    let rejected = Outcome::Rejected { by: "policy p".into(), message: "no" };
    late.note(&client, &rejected, 0);
    late.note(&client, &rejected, 4 * SECOND);
    late.accepted(&client, 6 * SECOND);
    assert_eq!(of(&late, "alice").turns(), 1);
    late.accepted(&client, 2 * SECOND);
    assert_eq!(of(&late, "alice").turns(), 3);
    // Of two at one time, the one that came in first is the first.
    let mut same = Troubles::default();
    same.note(&client, &rejected, 0);
    same.accepted(&client, 0);
    same.note(&client, &rejected, 2 * SECOND);
    assert_eq!(of(&same, "alice").turns(), 2);
}

#[test]
fn only_the_latest_answers_are_kept_to_count_turns() {
    assert_eq!(of(&troubles(&"ra".repeat(ANSWERS_MAX / 2)), "alice").turns() as usize, ANSWERS_MAX - 1);
    assert_eq!(of(&troubles(&"ra".repeat(ANSWERS_MAX)), "alice").turns() as usize, ANSWERS_MAX - 1);
}

#[test]
fn actors_and_those_who_refuse_are_bounded() {
    let mut troubles = Troubles::default();
    for i in 0..ACTORS_MAX + 3 {
        troubles.note(&Client::named(&format!("actor-{i}")), &Outcome::Stale, SECOND);
    }
    assert_eq!(troubles.actors().count(), ACTORS_MAX);
    let (alice, mut troubles) = (Client::named("alice"), Troubles::default());
    for i in 0..ACTORS_MAX + 3 {
        troubles.note(&alice, &Outcome::Rejected { by: format!("policy {i}").into(), message: "no" }, SECOND);
    }
    let refusals = &of(&troubles, "alice").refusals;
    assert_eq!(refusals.len(), ACTORS_MAX);
    assert!(refusals.contains_key("policy 0"));
    troubles.note(&alice, &Outcome::Rejected { by: "policy 0".into(), message: "again" }, SECOND);
    assert_eq!(of(&troubles, "alice").refusals["policy 0"], "again", "what is known goes on");
}

#[test]
fn a_long_message_is_cut_between_characters() {
    let (alice, mut troubles) = (Client::named("alice"), Troubles::default());
    let message = format!("x{}", "ä".repeat(MESSAGE_BYTES_MAX));
    troubles.note(&alice, &Outcome::Rejected { by: "policy p".into(), message: &message }, SECOND);
    assert_eq!(of(&troubles, "alice").refusals["policy p"], message[..MESSAGE_BYTES_MAX - 1]);
}

#[test]
fn who_loses_again_now_and_then_is_not_contended() {
    let (client, mut rare) = (Client::named("alice"), Troubles::default());
    (0..12).for_each(|turn| rare.note(&client, &Outcome::Stale, turn * 600 * SECOND));
    assert!(!rare.is_contended(&Limits::default()), "one in ten minutes");
}

#[test]
fn troubles_take_the_bytes_of_their_answers_and_refusals() {
    assert_eq!(Troubles::default().bytes(), 0);
    let troubles = troubles("rca");
    let answers = of(&troubles, "alice").answers.capacity() * size_of::<Answered>();
    assert!(answers >= 3 * size_of::<Answered>());
    // `policy p` and `no`, and their place in the map.
    let refusal = 8 + 2 + 64;
    assert_eq!(troubles.bytes(), size_of::<(Arc<str>, Trouble)>() + answers + refusal);
}
