//! A configuration is taken or refused with a reason, and what is taken makes a policy.
#![no_main]

use editwar::config::Config;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(config) = Config::parse(text, "fuzz") {
        drop(config.policy());
        drop(config.classes());
    }
});
