//! Values as JSON and YAML that are harmless in a terminal.

use serde::Serialize;

use crate::escape;

/// Formats a value as JSON. Characters that are harmful in a terminal are escaped, which does not change the value.
pub(in crate::cli) fn json(value: &impl Serialize) -> serde_json::Result<String> {
    Ok(escape::json(&serde_json::to_string_pretty(value)?).into_owned() + "\n")
}

/// Formats values as JSON, one line for each.
pub(in crate::cli) fn json_lines<T: Serialize>(values: &[T]) -> serde_json::Result<String> {
    values.iter().map(|value| Ok(escape::json(&serde_json::to_string(value)?).into_owned() + "\n")).collect()
}

/// Formats a value as YAML. If it contains characters that are harmful in a terminal and that YAML would not escape, it
/// is formatted as JSON, which is valid YAML too.
pub(in crate::cli) fn yaml(value: &impl Serialize) -> anyhow::Result<String> {
    let text = serde_yaml_ng::to_string(value)?;
    if text.contains(|c| escape::is_harmful(c) && c != '\n') {
        Ok(escape::yaml(&serde_json::to_string_pretty(value)?).into_owned() + "\n")
    } else {
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_harmless_and_mean_the_same() {
        let value = serde_json::json!({"name": "\u{9b}2J\u{202e}\u{e0041}\u{2028}", "plain": "größe"});
        let (json, written) = (json(&value).unwrap(), yaml(&value).unwrap());
        for text in [&json, &written] {
            assert!(!text.contains(|c| escape::is_harmful(c) && c != '\n'), "{text}");
        }
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value);
        assert_eq!(serde_yaml_ng::from_str::<serde_json::Value>(&written).unwrap(), value);
        assert_eq!(yaml(&serde_json::json!({"a": "größe"})).unwrap(), "a: größe\n");
    }
}
