//! A configuration is taken or refused with a reason; what is taken can be printed and read again.
#![no_main]

use editwar::config::Config;

libfuzzer_sys::fuzz_target!(|text: &str| {
    if let Ok(config) = Config::parse(text, "fuzz") {
        drop(config.policy());
        drop(config.classes());
    }
});
