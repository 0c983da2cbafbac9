//! JUnit reports for pipelines.

use super::output;

/// Escapes text for an attribute or the content of an element. Control characters, most of which XML cannot have, are made
/// visible.
pub(super) fn xml(text: &str) -> String {
    let clean = output::clean(text).replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}");
    clean.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&apos;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_text_is_escaped_in_xml() {
        assert_eq!(xml("a\u{fffe}\u{ffff}"), "a\u{fffd}\u{fffd}", "XML cannot have them");
        assert_eq!(xml("<a b='\"&'>\u{1b}"), "&lt;a b=&apos;&quot;&amp;&apos;&gt;\\u{1b}");
    }
}
