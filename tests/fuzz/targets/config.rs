//! A configuration is accepted or rejected with a reason, and an accepted one yields a policy.
#![no_main]

use editwar::config::Config;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(config) = Config::parse(text, "fuzz") {
        drop(config.policy());
        drop(config.classes());
    }
});
