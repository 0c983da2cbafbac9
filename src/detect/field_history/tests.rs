use super::*;
use crate::detect::actor::Origin;
use crate::detect::policy::Limits;

const SECOND: Micros = 1_000_000;

/// The writes to one field. Times are in seconds; values are JSON, `-` is a removal, and `?` a value that is not known.
struct Story {
    path: &'static str,
    field: Option<FieldHistory>,
    now: Option<FieldValue>,
    seq: u32,
    limits: Limits,
}

/// How a write counts.
#[derive(Debug, PartialEq)]
enum Is {
    Nothing,
    Retake,
    Reversal,
    Cooperation,
}

impl Story {
    fn of(path: &'static str, initial: &str) -> Story {
        let now = (initial != "-").then(|| FieldValue::of_json(initial));
        Story { path, field: None, now, seq: 0, limits: Limits::default() }
    }

    fn client(name: &str) -> Arc<Client> {
        let (actor, rest) = name.split_once('@').unwrap_or((name, ""));
        let (tool, pod) = rest.split_once('#').unwrap_or((rest, ""));
        Arc::new(Client::new(actor, tool, "", Origin { pod: pod.into(), ..Origin::default() }))
    }

    fn write(&mut self, second: i64, who: &str, value: &str) -> Is {
        self.seq += 1;
        let author = Author { client: Story::client(who), at: second * SECOND, seq: self.seq };
        let new = (value != "-" && value != "?").then(|| FieldValue::of_json(value));
        let path = self.path.into();
        let change = Change { is_opaque: value == "?", ..Change::new(&path, self.now.as_ref(), new.as_ref()) };
        let on = ObjectLimits { limits: &self.limits, group: "", resource: "configmaps" };
        let field = self.field.get_or_insert_with(|| FieldHistory::new(&change, None));
        self.now = new;
        match field.step(&change, EvidenceLevel::Value, &author, &on) {
            Step::None => Is::Nothing,
            Step::Retake(retake) if retake.is_reversal => Is::Reversal,
            Step::Retake(_) => Is::Retake,
            Step::Cooperation(..) => Is::Cooperation,
        }
    }

    fn writes(&mut self, writes: &[(i64, &str, &str)]) -> Vec<Is> {
        writes.iter().map(|(second, who, value)| self.write(*second, who, value)).collect()
    }
}

#[test]
fn the_third_write_is_the_first_retake() {
    let mut story = Story::of("data.v", "0");
    let found = story.writes(&[(0, "a", "1"), (60, "b", "2"), (120, "a", "1"), (180, "b", "2")]);
    assert_eq!(found, [Is::Nothing, Is::Nothing, Is::Reversal, Is::Reversal]);
    let field = story.field.unwrap();
    assert_eq!((field.retakes, field.reversals, field.is_contested()), (2, 2, true));
}

#[test]
fn a_write_before_the_window_does_not_make_a_retake() {
    let mut story = Story::of("data.v", "0");
    let window = 6 * 3600;
    assert_eq!(story.writes(&[(0, "a", "1"), (60, "b", "2"), (window, "a", "1")])[2], Is::Reversal);
    let mut story = Story::of("data.v", "0");
    assert_eq!(story.writes(&[(0, "a", "1"), (60, "b", "2"), (window + 1, "a", "1")])[2], Is::Nothing);
}

#[test]
fn new_values_are_a_war_only_if_both_sides_answer_each_other() {
    let mut slow = Story::of("data.v", r#""v0""#);
    for turn in 0..20 {
        let value = format!(r#""v{}""#, turn + 1);
        assert_eq!(slow.write(turn * 60, if turn % 2 == 0 { "a" } else { "b" }, &value), Is::Nothing, "{turn}");
    }
    let mut quick = Story::of("data.v", r#""v0""#);
    let found: Vec<Is> = (0..8)
        .map(|turn| quick.write(turn * 5, if turn % 2 == 0 { "a" } else { "b" }, &format!(r#""v{}""#, turn + 1)))
        .collect();
    // The third write is the first that could be a retake. With the sixth, each side has answered twice.
    assert_eq!(found[..5], [Is::Nothing, Is::Nothing, Is::Nothing, Is::Nothing, Is::Nothing]);
    assert_eq!(found[5..], [Is::Retake, Is::Retake, Is::Retake]);
}

#[test]
fn answers_of_one_side_are_not_a_war() {
    let mut story = Story::of("data.v", r#""v0""#);
    for turn in 0..12 {
        let at = turn * 60;
        assert_eq!(story.write(at, "pipeline", &format!(r#""v{turn}""#)), Is::Nothing, "{turn}");
        assert_eq!(story.write(at + 1, "resolver", &format!(r#""v{turn}@sha""#)), Is::Nothing, "{turn}");
    }
}

#[test]
fn a_counter_that_two_actors_increase_is_not_a_war() {
    for form in [|n: i64| n.to_string(), |n: i64| format!(r#""{n}""#)] {
        let mut story = Story::of("data.count", &form(0));
        for turn in 1..20 {
            let who = if turn % 2 == 0 { "a" } else { "b" };
            assert_eq!(story.write(turn, who, &form(turn)), Is::Nothing, "{turn}");
        }
    }
}

#[test]
fn a_new_value_after_a_reversal_is_a_retake() {
    let mut story = Story::of("data.v", "-");
    let found =
        story.writes(&[(0, "bob", "1"), (30, "flux", "-"), (60, "bob", "2"), (90, "flux", "-"), (120, "bob", "3")]);
    assert_eq!(found, [Is::Nothing, Is::Nothing, Is::Retake, Is::Reversal, Is::Retake]);
}

#[test]
fn setting_a_value_that_its_author_removed_is_not_a_retake() {
    let mut lock = Story::of("data.lock", "-");
    for turn in 0..10 {
        let who = if turn % 2 == 0 { "a" } else { "b" };
        assert_eq!(lock.write(turn * 60, who, &format!(r#""{who}""#)), Is::Nothing, "{turn}");
        assert_eq!(lock.write(turn * 60 + 30, who, "-"), Is::Nothing, "{turn}");
    }
}

#[test]
fn an_unknown_value_can_be_a_retake() {
    let mut story = Story::of("data.v", "0");
    let found = story.writes(&[(0, "a", "?"), (60, "b", "?"), (120, "a", "?")]);
    assert_eq!(found, [Is::Nothing, Is::Nothing, Is::Retake]);
}

#[test]
fn one_account_fights_itself_only_with_two_tools_and_reversals() {
    let mut one = Story::of("data.v", "0");
    assert_eq!(one.writes(&[(0, "a@x", "1"), (60, "a@x", "2"), (120, "a@x", "1")])[2], Is::Nothing);
    let mut two = Story::of("data.v", "0");
    assert_eq!(two.writes(&[(0, "a@x", "1"), (60, "a@y", "2"), (120, "a@x", "1")])[2], Is::Reversal);
    let mut new = Story::of("data.v", "0");
    assert_eq!(new.writes(&[(0, "a@x", "1"), (60, "a@y", "2"), (120, "a@x", "3")])[2], Is::Nothing);
    let mut pod = Story::of("data.v", "0");
    assert_eq!(pod.writes(&[(0, "a@x#p", "1"), (60, "a@y#p", "2"), (120, "a@x#p", "1")])[2], Is::Nothing, "one pod");
}

#[test]
fn switching_and_scaling_replicas_is_a_cooperation() {
    let mut story = Story::of("spec.replicas", "0");
    for turn in 0..8 {
        for (second, who, value) in [(0, "keda", "1"), (20, "hpa", "4"), (40, "hpa", "3"), (60, "keda", "0")] {
            let found = story.write(turn * 100 + second, who, value);
            assert!(matches!(found, Is::Nothing | Is::Cooperation), "{turn} {who} {value}: {found:?}");
        }
    }
    let mut war = Story::of("spec.replicas", "3");
    let found = war.writes(&[(0, "keda", "0"), (20, "flux", "3"), (40, "keda", "0"), (60, "flux", "3")]);
    assert_eq!(found[2..], [Is::Reversal, Is::Reversal]);
    let mut other = Story::of("spec.paused", "0");
    other.writes(&[(0, "a", "1"), (20, "b", "4"), (40, "a", "0"), (60, "a", "1"), (70, "b", "4")]);
    assert!(other.field.unwrap().is_contested(), "zero is special only for replicas");
}

#[test]
fn a_mark_is_consumed_by_the_program_that_it_names() {
    let strimzi = "system:serviceaccount:kafka:strimzi-cluster-operator";
    let path = "metadata.annotations['strimzi.io/manual-rolling-update']";
    let mut story = Story::of(path, "-");
    for turn in 0..6 {
        let asked = story.write(turn * 60, "alice", r#""true""#);
        assert!(matches!(asked, Is::Nothing | Is::Cooperation), "{turn}: {asked:?}");
        let done = story.write(turn * 60 + 10, strimzi, "-");
        assert!(matches!(done, Is::Nothing | Is::Cooperation), "{turn}: {done:?}");
    }
    // A program that also sets the mark is in a war.
    let mut fight = Story::of(path, "-");
    let found = fight.writes(&[(0, "alice", "1"), (60, strimzi, "2"), (120, "alice", "1"), (180, strimzi, "2")]);
    assert_eq!(found[2..], [Is::Reversal, Is::Reversal]);
}

#[test]
fn values_that_differ_only_in_notation_are_recognised() {
    let quantity = |text: &str| FieldValue::of_json(text);
    let mut story = Story::of("data.v", r#""1""#);
    story.writes(&[(0, "a", r#""2""#), (60, "b", r#""1""#)]);
    assert!(!story.field.unwrap().is_over_form());
    assert!(quantity("1").is_same_form(&quantity("1")) && !quantity("1").is_same_form(&quantity("2")));
}

#[test]
fn parties_are_counted_and_named() {
    let mut story = Story::of("data.v", "0");
    story.writes(&[(0, "a@x", "1"), (60, "a@y", "2")]);
    let author = Story::client("a@x");
    let retake = Retake {
        level: EvidenceLevel::Value,
        is_reversal: true,
        party: "a via x".into(),
        from: "a via y".into(),
        since: 0,
    };
    let field = story.field.as_mut().unwrap();
    field.count(&retake, true);
    field.count(&retake, false);
    let shares: Vec<(&str, u32, u32)> =
        field.parties.iter().map(|(p, s)| (&**p, s.retakes, s.thrashing_events)).collect();
    assert_eq!(shares, [("a via y", 0, 0), ("a via x", 2, 1)]);
    assert_eq!(&*field.party_of(&author), "a via x");
    assert_eq!(&*field.party_of(&Story::client("b")), "b");
}

#[test]
fn a_new_object_of_the_same_name_begins_with_its_creator() {
    let mut story = Story::of("data.v", "0");
    story.writes(&[(0, "a", "1"), (60, "b", "2")]);
    let begin = |story: &mut Story, creator: Option<&Author>| {
        let path = story.path.into();
        let change = Change::new(&path, Some(&FieldValue::of_json("7")), Some(&FieldValue::of_json("8")));
        story.now = Some(FieldValue::of_json("7"));
        story.field.as_mut().unwrap().begin_epoch(&change, creator);
    };
    begin(&mut story, None);
    assert_eq!(story.write(120, "a", "1"), Is::Nothing, "a has not written the new object");
    let carol = Author { client: Story::client("carol"), at: 150 * SECOND, seq: 9 };
    begin(&mut story, Some(&carol));
    story.seq = 9;
    assert_eq!(
        story.writes(&[(180, "a", "1"), (240, "carol", "7")]),
        [Is::Nothing, Is::Reversal],
        "creation is a write"
    );
}

#[test]
fn a_retaken_field_is_contested_and_over_form_if_its_values_are_equal() {
    let mut story = Story::of("data.v", "-");
    story.write(0, "a", "1");
    let field = story.field.as_ref().unwrap();
    assert!(!field.is_contested() && field.is_over_form(), "there was only one value");
    story.write(60, "b", "2");
    assert!(!story.field.as_ref().unwrap().is_over_form());
}

#[test]
fn an_account_retakes_with_a_third_tool_only_from_another_actor() {
    let mut third = Story::of("data.v", "0");
    assert_eq!(
        third.writes(&[(0, "a@x", "1"), (60, "a@y", "2"), (120, "a@z", "1")])[2],
        Is::Nothing,
        "z had not written before"
    );
    let mut other = Story::of("data.v", "0");
    assert_eq!(
        other.writes(&[(0, "a@x", "1"), (60, "b", "2"), (120, "a@y", "1")])[2],
        Is::Reversal,
        "a had written before"
    );
    let mut quick = Story::of("data.v", r#""v""#);
    for turn in 0..12 {
        let who = if turn % 2 == 0 { "a@x" } else { "a@y" };
        let found = quick.write(turn * 2, who, &format!(r#""v{turn}""#));
        assert_eq!(found, Is::Nothing, "{turn}: a war within an account needs values that return");
    }
}

#[test]
fn values_are_counted_by_value_and_client() {
    let mut story = Story::of("data.v", "0");
    story.writes(&[(0, "a", "1"), (60, "b", "2"), (120, "a", "1"), (180, "b", "1"), (240, "a", "1"), (300, "a", "-")]);
    let field = story.field.unwrap();
    let text = |value: &Option<FieldValue>| value.as_ref().and_then(FieldValue::text).unwrap_or("-").to_owned();
    let seen: Vec<_> = field.values.iter().map(|s| (text(&s.value), s.client.actor.to_string(), s.count)).collect();
    let expected = [("1", "a", 3), ("2", "b", 1), ("1", "b", 1), ("-", "a", 1)];
    assert_eq!(seen, expected.map(|(value, who, count)| (value.to_owned(), who.to_owned(), count)));
}

#[test]
fn values_and_writers_and_parties_are_bounded() {
    let mut story = Story::of("data.v", "-1");
    for i in 0..40 {
        story.write(i, &format!("w{i}"), &i.to_string());
    }
    let mut field = story.field.unwrap();
    assert_eq!((field.values.len(), field.writers.len()), (VALUES_MAX, AUTHORS_MAX));
    assert!(field.writers.iter().all(|w| w.author.at >= 24 * SECOND), "the latest writers are tracked");
    for i in 0..PARTIES_MAX {
        let (party, from) = (format!("p{i}").as_str().into(), format!("p{i}").as_str().into());
        field.count(&Retake { level: EvidenceLevel::Value, is_reversal: true, party, from, since: 0 }, false);
    }
    let retake =
        Retake { level: EvidenceLevel::Value, is_reversal: true, party: "late".into(), from: "p0".into(), since: 0 };
    field.count(&retake, true);
    assert_eq!(field.parties.len(), PARTIES_MAX);
    assert!(field.parties.iter().all(|(_, share)| (share.retakes, share.thrashing_events) == (1, 0)));
}

#[test]
fn a_side_answers_if_half_of_its_retakes_are_immediate() {
    /// Two actors alternately write new values. In each round, the third and fourth writes follow after two seconds,
    /// the others after a minute.
    fn rounds(turns_in_round: i64) -> Vec<Is> {
        let (mut story, mut at) = (Story::of("data.v", r#""v""#), 0);
        let mut found = Vec::new();
        for turn in 0..24 {
            at += if [2, 3].contains(&(turn % turns_in_round)) { 2 } else { 60 };
            found.push(story.write(at, if turn % 2 == 0 { "a" } else { "b" }, &format!(r#""v{turn}""#)));
        }
        found
    }
    // With the eighth write, both have answered twice in three retakes. From then on, at least half are answers.
    let half = rounds(4);
    assert!(half[..7].iter().all(|is| *is == Is::Nothing) && half[7..].iter().all(|is| *is == Is::Retake), "{half:?}");
    assert!(rounds(8).iter().all(|is| *is == Is::Nothing), "only a quarter are answers");
}

/// Returns how the last of these writes to the replicas counts.
fn replicas(initial: &str, writes: &[(&str, &str)]) -> Is {
    let mut story = Story::of("spec.replicas", initial);
    let found = writes.iter().zip(0..).map(|((who, value), turn)| story.write(turn * 20, who, value));
    found.last().unwrap()
}

#[test]
fn switching_and_scaling_are_recognised_by_the_changes() {
    // keda only switches off, or only on; the autoscaler switches once, and scales twice.
    let off = [("keda", "0"), ("hpa", "3"), ("hpa", "4"), ("hpa", "5"), ("keda", "0")];
    assert_eq!(replicas("5", &off), Is::Cooperation);
    let on = [("keda", "3"), ("hpa", "4"), ("hpa", "5"), ("hpa", "0"), ("keda", "3")];
    assert_eq!(replicas("0", &on), Is::Cooperation);
    // Sometimes one side acts before it has seen the other one's change.
    let early = [("hpa", "4"), ("keda", "0"), ("keda", "1"), ("keda", "0"), ("keda", "1"), ("hpa", "4"), ("keda", "3")];
    assert_eq!(replicas("1", &early), Is::Cooperation);
    let early = [
        ("keda", "0"),
        ("keda", "1"),
        ("hpa", "2"),
        ("hpa", "3"),
        ("hpa", "4"),
        ("hpa", "5"),
        ("keda", "0"),
        ("hpa", "3"),
    ];
    assert_eq!(replicas("1", &early), Is::Cooperation);
}

#[test]
fn switching_and_scaling_by_both_sides_is_a_war() {
    assert_eq!(replicas("0", &[("x", "2"), ("hpa", "3"), ("x", "2")]), Is::Reversal, "it switches and scales");
    assert_eq!(replicas("3", &[("x", "4"), ("keda", "0"), ("x", "4")]), Is::Reversal, "it scales and switches");
    assert_eq!(replicas("3", &[("hpa", "5"), ("flux", "-"), ("hpa", "5")]), Is::Reversal, "it removes the number");
    assert_eq!(replicas("3", &[("keda", "0"), ("flux", "-"), ("keda", "0")]), Is::Reversal, "it removes the number");
    assert_eq!(replicas("3", &[("a", "5"), ("b", "3"), ("a", "5")]), Is::Reversal, "both scale");
}

#[test]
fn a_mark_is_a_request_only_if_one_side_sets_and_the_other_removes_it() {
    let strimzi = "system:serviceaccount:kafka:strimzi-cluster-operator";
    let last = |writes: &[(&str, &str)]| {
        let mut story = Story::of("metadata.annotations['strimzi.io/manual-rolling-update']", "-");
        writes.iter().zip(0..).map(|((who, value), turn)| story.write(turn * 20, who, value)).last().unwrap()
    };
    let asked = [("alice", "1"), (strimzi, "-"), ("alice", "1")];
    assert_eq!(last(&asked), Is::Cooperation);
    let set = [asked.as_slice(), &[(strimzi, "2")]].concat();
    assert_eq!(last(&set), Is::Retake, "the program also sets it");
    let taken_back = [("alice", "1"), ("alice", "-"), ("alice", "1"), (strimzi, "-"), ("alice", "1")];
    assert_eq!(last(&taken_back), Is::Reversal, "alice also removes it");
    assert_eq!(last(&[("alice", "1"), ("bob", "-"), ("alice", "1")]), Is::Reversal, "the mark does not name bob");
}

#[test]
fn the_bytes_of_a_field_are_those_of_its_values_and_writers() {
    let mut story = Story::of("data.v", "0");
    story.writes(&[(0, "a", r#""one""#), (60, "b", r#""three""#), (120, "a", "-")]);
    let field = story.field.unwrap();
    assert_eq!((field.values.len(), field.writers.len()), (3, 2));
    let values = FieldValue::of_json(r#""one""#).bytes() + FieldValue::of_json(r#""three""#).bytes();
    let lists = field.values.capacity() * size_of::<ValueSeen>() + 2 * size_of::<Writer>();
    assert_eq!(field.bytes(), size_of::<FieldHistory>() + values + lists);
}
