//! The decoder in use agrees with its plain twin on every text that is valid JSON, and takes nothing else for a write
//! that the twin refuses at its head.
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
