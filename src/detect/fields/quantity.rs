//! Quantities: `2000m` and `2` are one value, which the API server stores in one form.

/// Nano-units in one unit: the finest that Kubernetes keeps.
const NANOS: i128 = 1_000_000_000;

/// Maps whose members are quantities, as Kubernetes' types and most extensions name them.
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
/// Fields that are quantities by themselves.
const QUANTITY_FIELDS: &[&str] = &["sizeLimit", "averageValue", "divisor"];

/// Whether the field at this path is a quantity. Text that people keep in ConfigMaps, labels and annotations is not.
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

/// The amount in nano-units; `None` for what is no quantity. What is finer is rounded up, as Kubernetes does.
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

/// What a suffix multiplies with and divides by.
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
mod tests {
    use super::*;

    #[test]
    fn forms_of_one_amount_are_equal() {
        for forms in [
            &["2000m", "2", "2.0", "+2", "2e0", "2000000u", "0.002k"][..],
            &["1Gi", "1024Mi", "1048576Ki", "1073741824"],
            &["500m", "0.5", ".5", "5e-1"],
            &["-1500m", "-1.5"],
            &["0", "0m", "0.0Gi"],
            &["1E", "1000P", "1e18"],
        ] {
            let amounts: Vec<_> = forms.iter().map(|form| nanos(form)).collect();
            assert!(
                amounts[0].is_some() && amounts.iter().all(|amount| *amount == amounts[0]),
                "{forms:?} {amounts:?}"
            );
        }
    }

    #[test]
    fn amounts_that_differ_are_not_equal() {
        assert_eq!(nanos("1500m"), Some(1_500_000_000));
        assert_ne!(nanos("1Gi"), nanos("1G"));
        assert_ne!(nanos("1"), nanos("-1"));
        assert_eq!(nanos("0.1n"), Some(1), "rounded up");
    }

    #[test]
    fn other_texts_are_no_quantities() {
        for text in ["", "-", ".", "1.2.3", "v2", "1x", "1 Gi", "1e", "1e99", "mi", "9".repeat(40).as_str()] {
            assert_eq!(nanos(text), None, "{text}");
        }
    }

    #[test]
    fn quantities_are_known_by_where_they_stand() {
        for path in [
            "spec.template.spec.containers[name=web].resources.requests.cpu",
            "spec.containers[name=web].resources.limits['nvidia.com/gpu']",
            "status.used['requests.cpu']",
            "spec.hard.pods",
            "spec.volumes[name=tmp].emptyDir.sizeLimit",
        ] {
            assert!(is_quantity(path), "{path}");
        }
        for path in [
            "spec.replicas",
            "data.cpu",
            "data['limits.cpu']",
            "metadata.annotations['limits.cpu']",
            "spec.requests",
            "spec.template.spec.containers[name=limits].image",
        ] {
            assert!(!is_quantity(path), "{path}");
        }
    }
}
