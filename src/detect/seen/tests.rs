use super::*;

const _: () = assert!(size_of::<Seen>() <= 56, "a cluster has millions of them");

fn hot(times_ms: impl Iterator<Item = u32>, is_no_op: bool) -> bool {
    let mut seen = Seen::new(Arc::new(Client::named("a")), Part::Main);
    times_ms.for_each(|ms| seen.pace(ms, is_no_op, &Limits::default()));
    seen.is_hot(&Limits::default())
}

#[test]
fn a_resync_that_changes_nothing_is_no_hot_loop() {
    assert!(!hot((0..200).map(|i| i * 15_000), true));
    assert!(!hot((0..200).map(|i| i * 5_001), true));
}

#[test]
fn no_op_right_after_no_op_is_a_hot_loop() {
    assert!(!hot((0..29).map(|i| i * 4_000), true), "29 of them");
    assert!(hot((0..30).map(|i| i * 4_000), true), "30 of them");
    assert!(!hot((0..200).map(|i| i * 4_000), false), "writes are changes");
}

#[test]
fn more_than_sixty_a_minute_is_a_hot_loop() {
    assert!(!hot((0..200).map(|i| i * 1_000), false));
    assert!(hot((0..700).map(|i| i * 900), false), "67 a minute, once the burst is used up");
    assert!(hot((0..62).map(|i| i * 10), false));
    assert!(!hot((0..60).map(|i| i * 10), false), "a burst");
}
