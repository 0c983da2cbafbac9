//! Compares the decoder with the reference decoder on every event of every recording.

use editwar::audit::decode::{Decoded, decode, plain};

use crate::util;

#[test]
fn twins_agree_on_every_event_of_every_recording() {
    let (mut events, mut reads) = (0, 0);
    for recording in util::recordings() {
        let log = util::log(&recording);
        for (number, line) in util::lines(&log).into_iter().enumerate() {
            let fast = decode(line);
            assert_eq!(fast, plain::decode(line), "{recording} line {}", number + 1);
            match fast.unwrap() {
                Decoded::Event(_) => events += 1,
                Decoded::Read(_) => reads += 1,
                Decoded::Unfinished => {}
            }
        }
    }
    assert!(events > 5_000 && reads > 5_000, "{events} {reads}");
}
