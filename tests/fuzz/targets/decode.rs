//! The decoder agrees with the plain reference decoder on every text that is valid JSON. On other texts it returns no
//! event that differs from the reference's.
#![no_main]

use editwar::audit::decode::{Decoded, decode, plain};

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let (fast, slow) = (decode(text), plain::decode(text));
    if serde_json::from_slice::<serde_json::Value>(text).is_ok() {
        assert_eq!(fast, slow);
    } else if let (Ok(Decoded::Event(fast)), Ok(Decoded::Event(slow))) = (&fast, &slow) {
        assert_eq!(fast, slow);
    }
});
