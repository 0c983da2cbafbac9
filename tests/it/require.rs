//! Requirements of tests that not every machine meets, such as a browser. A test without its requirement is skipped and
//! says so. `.ci/run` lists the mandatory requirements in `EDITWAR_REQUIRE`: without one of these, the test fails.

/// Returns whether `EDITWAR_REQUIRE`, a comma-separated list, contains this requirement.
pub(crate) fn is_required(requirement: &str) -> bool {
    std::env::var("EDITWAR_REQUIRE").is_ok_and(|list| contains(&list, requirement))
}

fn contains(list: &str, requirement: &str) -> bool {
    list.split(',').any(|item| item.trim() == requirement)
}

/// Reports that a test is skipped because of a missing requirement. The message bypasses the test runner's capture, so
/// that a skipped test does not look like a passed one.
///
/// # Panics
/// Panics if `EDITWAR_REQUIRE` lists the requirement.
#[allow(dead_code, reason = "the standing attack has its own way to report")]
pub(crate) fn skip(requirement: &str, why: &str) {
    assert!(!is_required(requirement), "{why}, and EDITWAR_REQUIRE lists {requirement}");
    drop(std::io::Write::write_all(&mut std::io::stderr(), format!("skipped: {requirement}: {why}\n").as_bytes()));
}

/// Returns the path of a program in `PATH`, under any of these names. Without it, the test is skipped.
#[allow(dead_code, reason = "the standing attack needs no programs")]
pub(crate) fn program(requirement: &str, names: &[&str]) -> Option<std::path::PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let find =
        |name: &&str| std::env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file());
    let found = names.iter().find_map(find);
    if found.is_none() {
        skip(requirement, &format!("no {} in PATH", names[0]));
    }
    found
}

#[test]
fn requirements_match_whole_list_items() {
    assert!(contains("apiserver", "apiserver") && contains("kafka, apiserver,browser", "apiserver"));
    assert!(!contains("", "apiserver") && !contains("apiserver-2,my apiserver", "apiserver"));
}
