//! Quantities: `2000m` and `2` are one value, which the API server stores in one notation.

/// Nano-units in one unit. Kubernetes' quantities are not more precise.
const NANOS: i128 = 1_000_000_000;

/// Maps whose members are quantities in Kubernetes' types and in most extensions.
const QUANTITY_MAPS: &[&str] = &[
    "limits",
    "requests",
    "hard",
    "used",
    "capacity",
    "allocatable",
    "podFixed",
    "default",
    "defaultRequest",
    "max",
    "min",
    "maxLimitRequestRatio",
];
/// Fields that are quantities.
const QUANTITY_FIELDS: &[&str] = &["sizeLimit", "averageValue", "divisor"];

/// Whether the field at this path is a quantity. Free text in ConfigMaps, labels and annotations is not.
pub(super) fn is_quantity(path: &str) -> bool {
    let (parent, key) = match path.strip_suffix("']").and_then(|rest| rest.rsplit_once("['")) {
        Some((parent, key)) => (parent, key),
        None => path.rsplit_once('.').unwrap_or(("", path)),
    };
    let parent = parent.rsplit(['.', ']']).next().unwrap_or_default();
    let is_free_text = ["data", "metadata", "binaryData"]
        .iter()
        .any(|root| path.strip_prefix(root).is_some_and(|rest| rest.starts_with(['.', '['])));
    !is_free_text && (QUANTITY_MAPS.contains(&parent) || QUANTITY_FIELDS.contains(&key))
}

/// Returns the amount in nano-units, or `None` if the text is not a quantity. Rounds up, as Kubernetes does.
pub(super) fn nanos(text: &str) -> Option<i128> {
    let (sign, rest) = match text.as_bytes().first()? {
        b'-' => (-1, &text[1..]),
        b'+' => (1, &text[1..]),
        _ => (1, text),
    };
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
    let (number, suffix) = rest.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 30 {
        return None;
    }
    let digits: i128 = format!("0{whole}{fraction}").parse().ok()?;
    let scale = 10_i128.checked_pow(fraction.len() as u32)?;
    let (up, down) = factor(suffix)?;
    let scaled = digits.checked_mul(up)?.checked_mul(NANOS)?;
    let divisor = scale.checked_mul(down)?;
    Some(sign * (scaled + divisor - 1).div_euclid(divisor))
}

/// Returns the factor and the divisor of a suffix.
fn factor(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, NANOS),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10_i128.checked_pow(exponent.unsigned_abs()).filter(|_| exponent.abs() <= 18)?;
            if exponent < 0 { (1, power) } else { (power, 1) }
        }
    })
}

#[cfg(test)]
#[path = "quantity/tests.rs"]
mod tests;
