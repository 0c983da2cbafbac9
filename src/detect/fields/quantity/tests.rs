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
        assert!(amounts[0].is_some() && amounts.iter().all(|amount| *amount == amounts[0]), "{forms:?} {amounts:?}");
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
fn other_texts_are_not_quantities() {
    for text in ["", "-", ".", "1.2.3", "v2", "1x", "1 Gi", "1e", "1e99", "mi", "9".repeat(40).as_str()] {
        assert_eq!(nanos(text), None, "{text}");
    }
}

#[test]
fn quantities_are_recognised_by_their_path() {
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

#[test]
fn suffixes_are_powers_of_ten_and_of_1024() {
    for (i, suffix) in ["k", "M", "G", "T", "P", "E"].iter().enumerate() {
        let expected = NANOS * 1_000_i128.pow(i as u32 + 1);
        assert_eq!(nanos(&format!("1{suffix}")), Some(expected), "{suffix}");
        assert_eq!(nanos(&format!("1e{}", 3 * (i + 1))), Some(expected), "{suffix}");
        assert_eq!(
            nanos(&format!("1{}i", suffix.to_uppercase())),
            Some(NANOS * 1024_i128.pow(i as u32 + 1)),
            "{suffix}i"
        );
    }
    for (suffix, expected) in [("n", 1), ("u", 1_000), ("m", 1_000_000), ("e-9", 1), ("e0", NANOS), ("e-3", 1_000_000)]
    {
        assert_eq!(nanos(&format!("1{suffix}")), Some(expected), "{suffix}");
    }
}

#[test]
fn a_number_with_too_many_digits_is_not_a_quantity() {
    assert_eq!(nanos(&"0".repeat(30)), Some(0), "thirty characters");
    assert_eq!(nanos(&"0".repeat(31)), None);
    assert_eq!(nanos("1e18"), Some(NANOS * 1_000_000_000_000_000_000));
    assert_eq!(nanos("1e19"), None);
}
