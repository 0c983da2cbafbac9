//! Tests of the command line, which run the program as a user does.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use crate::util;

/// Returns an empty directory for a test.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    drop(std::fs::remove_dir_all(&folder));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn editwar(args: &[&str], stdin: Option<&[u8]>) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_editwar"))
        .args(args)
        .env_clear()
        .env("COLUMNS", "120")
        .current_dir(util::path(""))
        .stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    if let Some(text) = stdin {
        // A command that exits early closes its end of the pipe.
        drop(child.stdin.take().unwrap().write_all(text));
    }
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs the program. Returns exit code, stdout and stderr.
pub(crate) fn run(args: &[&str], stdin: Option<&[u8]>) -> (i32, String, String) {
    let output = editwar(args, stdin);
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

pub(crate) fn fixture(recording: &str) -> String {
    format!("fixtures/recordings/{recording}/audit.log.gz")
}

#[test]
fn analyze_prints_the_wars_and_exits_1_for_one() {
    let (code, out, err) = run(&["analyze", &fixture("hpa-vs-applier")], None);
    assert_eq!((code, err.as_str()), (1, ""));
    for part in [
        "Deployment shop/web",
        "spec.replicas",
        "3",
        "⇄",
        "5",
        "horizontal-pod-autoscaler",
        "virt-platform-autopilot",
        "ended: deleted",
        "confirmed",
        "8.3/min",
        "01:56:08Z",
    ] {
        assert!(out.contains(part), "{part} is missing:\n{out}");
    }
    assert!(out.lines().all(|line| line.chars().count() <= 120), "{out}");
}

#[test]
fn analyze_says_that_there_is_no_war_and_exits_0() {
    let (code, out, _) = run(&["analyze", &fixture("bootstrap"), &fixture("setup")], None);
    assert_eq!(code, 0);
    assert!(out.starts_with("No edit war: 357 writes to 276 objects."), "{out}");
    assert!(out.contains("setup/audit.log.gz, 2026-11-23 01:55:22Z to 2026-11-23 01:56:07Z."), "{out}");
}

#[test]
fn a_filter_that_matches_nothing_exits_2_and_names_the_nearest() {
    let log = fixture("hpa-vs-applier");
    for (arguments, expected) in [
        (&["-n", "shpo"][..], r#"no object in namespace "shpo"; did you mean "shop"?"#),
        (
            &["-n", "nosuch"],
            r#"no object in namespace "nosuch"; there are these namespaces: "kube-node-lease", "kube-system", "shop""#,
        ),
        (&["deploymint/web"], r#"no object of kind "deploymint"; did you mean "deployments.apps"?"#),
        (&["deployment/wbe", "-n", "shop"], r#"no deployment named "wbe" in namespace shop; did you mean "web"?"#),
        (&["--actor", "autopilto"], r#"did you mean "system:serviceaccount:openshift-cnv:virt-platform-autopilot"?"#),
        (
            &["--since", "2027-01-01T00:00:00Z"],
            "no event is within the given times; the events are from 2026-11-23T01:56:08",
        ),
        (
            &["--until", "2026-01-01T00:00:00Z"],
            "no event is within the given times; the events are from 2026-11-23T01:56:08",
        ),
    ] {
        let (code, out, err) = run(&[&["analyze", &log], arguments].concat(), None);
        assert_eq!((code, err.as_str()), (2, ""), "{arguments:?}: {out}");
        let line = out.split("\n\n").next().unwrap().replace('\n', " ");
        assert!(line.starts_with("Nothing was checked: ") && line.contains(expected), "{arguments:?}: {out}");
        assert!(!out.contains("No edit war"), "{out}");
        let (code, out, _) = run(&[&["analyze", &log, "-o", "json"], arguments].concat(), None);
        let report: serde_json::Value = serde_json::from_str(&out).unwrap();
        let problem = &report["coverage"]["problems"][0];
        assert_eq!(code, 2);
        assert!(problem["message"].as_str().unwrap().contains(expected), "{problem}");
    }
    // The counts are those of what matches.
    let (code, out, _) = run(&["analyze", &log, "-n", "kube-system"], None);
    assert!(code == 0 && out.starts_with("No edit war: 204 writes to 3 objects.\n"), "{out}");
}

#[test]
fn who_names_findings_that_are_not_wars_and_what_to_do() {
    for (recording, object, expected) in [
        ("conflict-storm", "cm/storm-counters", "311 requests failed with a conflict (409)"),
        ("flapping-webhook", "cm/guarded", "admission alternately accepted (29) and rejected (29) requests of alice"),
    ] {
        let (code, out, _) = run(&["who", object, "-n", "war", &fixture(recording)], None);
        let text = out.replace('\n', " ");
        assert!(code == 0 && text.contains(": no war, but: ") && text.contains(expected), "{out}");
        assert!(text.contains("To do: ") && text.contains("last at 02:0"), "{out}");
    }
}

#[test]
fn json_and_yaml_have_the_same_content() {
    let (_, json, _) = run(&["analyze", "-o", "json", &fixture("oddities")], None);
    let (_, yaml, _) = run(&["analyze", "-o", "yaml", &fixture("oddities")], None);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json, serde_yaml_ng::from_str::<serde_json::Value>(&yaml).unwrap());
    let war = &json["wars"][0];
    let keys = [
        "object",
        "state",
        "confidence",
        "cause",
        "since",
        "until",
        "retakes",
        "reversals",
        "thrashing_events",
        "parties",
        "fields",
        "other_writers",
        "remedies",
    ];
    for key in keys {
        assert!(war.get(key).is_some(), "product.md promises {key}");
    }
}

#[test]
fn filters_select_wars_by_object_actor_and_time() {
    let wars = |args: &[&str]| {
        let (code, out, err) = run(&[&["analyze", "-o", "json", &fixture("oddities")], args].concat(), None);
        let report: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out} {err}"));
        let names = report["wars"].as_array().unwrap().iter().map(|w| w["object"]["name"].as_str().unwrap().to_owned());
        let mut names: Vec<String> = names.collect();
        names.sort();
        (code, names.join(" "))
    };
    assert_eq!(wars(&[]), (1, "ann fin imp mixed mixed mixed phoenix rep sec twotools".into()));
    assert_eq!(wars(&["-n", "kube-system"]), (0, String::new()));
    assert_eq!(wars(&["cm/ann"]), (1, "ann".into()));
    assert_eq!(wars(&["hpa/mixed"]), (1, "mixed".into()));
    assert_eq!(wars(&["--object", "Secret/sec"]), (1, "sec".into()));
    assert_eq!(wars(&["--actor", "autopilot"]), (1, "mixed".into()));
    assert_eq!(wars(&["--since", "2026-11-23T02:09:19Z", "--until", "2026-11-23T02:09:23.4Z"]), (1, "fin rep".into()));
    assert_eq!(wars(&["--since", "1s"]), (0, String::new()));
    assert_eq!(wars(&["--since", "2026-11-23", "--until", "2026-11-24"]).1, wars(&[]).1);
    assert_eq!(wars(&["--since", "2026-11-24"]), (2, String::new()));
}

#[test]
fn who_separates_parties_from_other_writers_and_prints_writes() {
    let log = fixture("hpa-vs-applier");
    let (code, out, err) = run(&["who", "deployment/web", "-n", "shop", &log, "--timeline"], None);
    assert_eq!((code, err.as_str()), (1, ""));
    let (parties, others) = out.split_once("OTHER WRITERS").unwrap();
    assert!(
        parties.contains("kube-system:horizontal-pod-autoscaler")
            && parties.contains("openshift-cnv:virt-platform-autopilot")
    );
    assert!(others.contains("kube-system:deployment-controller"), "{out}");
    assert!(out.contains("spec.replicas 3 → 5") && out.contains("spec.replicas 5 → 3"), "{out}");
    assert!(out.contains("dependent: ReplicaSet shop/web-7d7548795c"), "{out}");
}

#[test]
fn who_says_what_is_wrong_since_when_who_and_what_to_do_before_the_evidence() {
    let object = ["who", "deployment/web", "-n", "shop"];
    let (_, out, _) = run(&[&object[..], &[&fixture("hpa-vs-applier")]].concat(), None);
    let mut at = 0;
    for part in [
        "Deployment shop/web: ended: deleted, confirmed\n",
        "  from 2026-11-23 01:56:08Z to 01:58:56Z (17s ago); 21 retakes, 8.3/min\n",
        "  spec.replicas\n",
        "openshift-cnv:virt-platform-autopilot  12 times\n",
        "kube-system:horizontal-pod-autoscaler  11 times\n",
        "  Cause: conflicting automation\n",
        "To prevent it from starting again, choose one:\n",
        " 1. leave spec.replicas to system:serviceaccount:kube-system:horizontal-pod-autoscaler\n",
        "To undo it:\n",
        "As a last resort:\n",
        "To check that it is over:\n",
        "PARTIES",
        "OTHER WRITERS",
        "writes in the timeline; --timeline shows them.\n",
    ] {
        at += out[at..].find(part).unwrap_or_else(|| panic!("{part} is missing or too early:\n{out}"));
    }
    // Only a timeline has a line for each write.
    assert!(!out.contains("3 → 5"), "{out}");
    let (_, all, _) = run(&[&object[..], &["--timeline-limit", "0", &fixture("hpa-vs-applier")]].concat(), None);
    assert_eq!(all.matches("3 → 5").count(), 11, "{all}");
}

#[test]
fn at_80_columns_only_commands_are_longer_and_no_word_is_broken() {
    for (recording, object, namespace) in [
        ("hpa-vs-applier", "deployment/web", "shop"),
        ("oddities", "deployment/mixed", "war"),
        ("flux-vs-alice", "deployment/web", "shop"),
    ] {
        let log = fixture(recording);
        for arguments in [&["analyze", &log][..], &["who", object, "-n", namespace, &log]] {
            let output =
                Command::new(env!("CARGO_BIN_EXE_editwar")).args(arguments).env("COLUMNS", "80").output().unwrap();
            let out = String::from_utf8(output.stdout).unwrap();
            let is_long =
                |line: &&str| line.chars().count() > 80 && !line.contains("kubectl ") && !line.contains("editwar ");
            let long: Vec<&str> = out.lines().filter(is_long).filter(|line| !line.starts_with("Based on ")).collect();
            assert!(long.is_empty(), "{arguments:?}: {long:#?}");
            for word in ["openshift-cnv:virt-platform-autopilot", "kube-system:horizontal-pod-autoscaler"] {
                assert!(recording != "hpa-vs-applier" || out.contains(word), "{word} is broken:\n{out}");
            }
        }
    }
}

#[test]
fn who_takes_its_arguments_in_any_order() {
    let log = fixture("hpa-vs-applier");
    let expected = run(&["who", "deployment/web", "-n", "shop", &log], None);
    assert_eq!(expected.0, 1, "{}", expected.2);
    for arguments in [
        &["deployment", "web", "-n", "shop", &log][..],
        &[&log, "deploy/web", "-n", "shop"],
        &["-n", "shop", &log, "Deployment/web"],
    ] {
        let found = run(&[&["who"], arguments].concat(), None);
        assert_eq!((found.0, found.1), (expected.0, expected.1.clone()), "{arguments:?}: {}", found.2);
    }
}

#[test]
fn filters_by_kind_and_the_most_urgent_objects_only() {
    let wars = |args: &[&str]| {
        let (code, out, err) = run(&[&["analyze", "-o", "json", &fixture("oddities")], args].concat(), None);
        let report: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out} {err}"));
        let names = report["wars"].as_array().unwrap().iter().map(|w| w["object"]["kind"].as_str().unwrap().to_owned());
        (code, names.collect::<Vec<_>>(), report["omitted"].as_u64().unwrap_or(0))
    };
    let (code, kinds, _) = wars(&["-A", "--kind", "hpa"]);
    assert_eq!((code, kinds), (1, vec!["HorizontalPodAutoscaler".to_owned()]));
    let (code, kinds, omitted) = wars(&["--top", "2"]);
    assert!(code == 1 && kinds.len() >= 2 && omitted >= 7, "{kinds:?} {omitted}");
    let (_, out, _) = run(&["analyze", "--top", "1", &fixture("oddities")], None);
    assert!(out.starts_with("Only the most urgent objects: "), "{out}");
    assert_eq!(wars(&["--kind", "pod", "--top", "1"]).0, 0);
    assert_eq!(run(&["analyze", "-A", "-n", "shop", &fixture("oddities")], None).0, 2);
}

#[test]
fn who_shows_uncontested_objects() {
    let (code, out, _) = run(&["who", "cm/dry", "-n", "war", &fixture("oddities"), "--timeline-limit", "0"], None);
    assert_eq!(code, 0);
    assert!(out.contains("ConfigMap war/dry: no war") && out.contains("admin") && !out.contains("alice"), "{out}");
}

#[test]
fn who_lists_the_choices_if_the_name_is_ambiguous() {
    let (code, _, err) = run(&["who", "cm/kube-root-ca.crt", &fixture("setup")], None);
    assert_eq!(code, 2);
    assert!(err.contains("choose one: configmaps/kube-root-ca.crt -n "), "{err}");
    let (code, _, err) = run(&["who", "deploy/nothing", &fixture("setup")], None);
    assert_eq!(code, 2);
    assert_eq!(
        err,
        "editwar: deploy/nothing: no object of kind \"deploy\"; there are 5 kinds, such as \"clusterrolebindings.rbac.authorization.k8s.io\", \"configmaps\", \"leases.coordination.k8s.io\"\n"
    );
}

#[test]
fn logs_are_read_in_every_format() {
    let folder = scratch("wrappings");
    let log = util::log("gitops-vs-kubectl");
    let lines = util::lines(&log);
    let expect_war = |arguments: &[&str], stdin: Option<&[u8]>| {
        let (code, out, err) = run(&[&["analyze", "-o", "json"], arguments].concat(), stdin);
        let report: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {err}"));
        assert_eq!((code, report["wars"][0]["retakes"].as_u64()), (1, Some(72)), "{arguments:?}");
    };
    let write = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    };
    expect_war(&["-"], Some(&log));
    // As `oc adm node-logs` prints it.
    let prefixed: Vec<u8> = lines.iter().flat_map(|line| [b"master-0.example.com ", *line, b"\r\n"].concat()).collect();
    expect_war(&[&write("prefixed.log", &prefixed)], None);
    // Pretty-printed, as by kubectl and jq.
    let items: Vec<serde_json::Value> = lines.iter().map(|line| serde_json::from_slice(line).unwrap()).collect();
    let list = serde_json::json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": items});
    expect_war(&[&write("pretty.json", serde_json::to_string_pretty(&list).unwrap().as_bytes())], None);
    expect_war(&[&write("list.json", serde_json::to_string(&list).unwrap().as_bytes())], None);
    expect_war(&[&write("array.json", serde_json::to_string(&list["items"]).unwrap().as_bytes())], None);
    // A rotated set whose names are not in order of time, and the log of another API server.
    let (first, rest) = lines.split_at(lines.len() / 3);
    let (second, third) = rest.split_at(rest.len() / 2);
    let gz = |part: &[&[u8]]| {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        part.iter().for_each(|line| gz.write_all(&[line, b"\n".as_slice()].concat()).unwrap());
        gz.finish().unwrap()
    };
    write("set/audit-2026-11-23T02-02-00.000.log.gz", &gz(first));
    write("set/audit-2026-11-23T02-03-00.000.log", &[second.join(&b'\n'), b"\n".to_vec()].concat());
    write("set/audit.log", &third.join(&b'\n'));
    let other: Vec<&[u8]> = lines.iter().copied().filter(|line| line.windows(5).any(|w| w == b"alice")).collect();
    write("set/another-server/audit.log", &other.join(&b'\n'));
    expect_war(&[&folder.join("set").display().to_string()], None);
}

#[test]
fn unreadable_lines_are_counted_and_the_rest_is_analyzed() {
    let folder = scratch("broken");
    let log = util::log("gitops-vs-kubectl");
    let mut mixed: Vec<u8> = b"not json\n\0\0\0\n{\"kind\":\"Event\",\n\n".to_vec();
    mixed.extend(format!("{{\"a\":{}}}\n", "[".repeat(100_000)).bytes());
    mixed.extend(b"{\"stage\":\"Response\xffComplete\"}\n");
    mixed.extend(format!("{{\"kind\":\"Event\",\"x\":\"{}\"}}\n", "x".repeat(100 << 20)).bytes());
    mixed.extend(&log);
    mixed.extend(&util::lines(&log)[0][..200]);
    let path = folder.join("audit.log");
    std::fs::write(&path, &mixed).unwrap();
    let (code, out, err) = run(&["analyze", "-o", "json", path.to_str().unwrap()], None);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, report["wars"][0]["retakes"].as_u64()), (1, Some(72)), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
    for reason in [
        "2 not_json (first: FILE:1)",
        "3 truncated (first: FILE:3)",
        "1 invalid_utf8 (first: FILE:6)",
        "1 too_long (first: FILE:7)",
    ] {
        let reason = reason.replace("FILE", path.to_str().unwrap());
        assert!(err.contains(&reason), "{reason} is missing: {err}");
        let told = &report["coverage"]["problems"][0];
        assert!(told["kind"] == "skipped_events" && told["message"].as_str().unwrap().contains(&reason), "{told}");
    }
}

#[test]
fn unusable_input_exits_2_with_a_hint() {
    let folder = scratch("unusable");
    let write = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.join(name), bytes).unwrap();
        folder.join(name).display().to_string()
    };
    let legacy = b"2017-03-21T03:57:09.108841739-04:00 AUDIT: id=\"c9\" stage=\"ResponseComplete\" ip=\"127.0.0.1\"\n";
    std::fs::create_dir(folder.join("empty")).unwrap();
    std::fs::write(folder.join("empty/readme.txt"), "no log").unwrap();
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    for _ in 0..160 {
        gz.write_all(&vec![b' '; 1 << 20]).unwrap();
    }
    let bomb = gz.finish().unwrap();
    for (argument, expected) in [
        (write("legacy.log", legacy), "--audit-log-format=json"),
        (write("nothing.log", b""), "no audit events in the input"),
        (write("bomb.log.gz", &bomb), "expands more than"),
        (write("damaged.log.gz", &[0x1f, 0x8b, 8, 0, 1, 2, 3]), "damaged.log.gz"),
        (folder.join("empty").display().to_string(), "found no audit logs"),
        ("/does/not/exist.log".into(), "/does/not/exist.log: No such file"),
    ] {
        let (code, out, err) = run(&["analyze", &argument], None);
        assert_eq!((code, out.as_str()), (2, ""), "{argument}: {err}");
        assert!(err.contains(expected), "{argument}: {err}");
    }
    for arguments in [
        &["analyze"][..],
        &["analyse"],
        &["who", "web"],
        &["who", "deploy/web"],
        &["analyze", "--since", "soon", "x.log"],
    ] {
        let (code, _, err) = run(arguments, None);
        assert_eq!(code, 2, "{arguments:?}: {err}");
        assert!(!err.is_empty());
    }
}

#[test]
fn a_damaged_file_is_read_up_to_the_damage() {
    let folder = scratch("damaged");
    let whole = std::fs::read(util::path(&fixture("gitops-vs-kubectl"))).unwrap();
    let path = folder.join("audit.log.gz");
    std::fs::write(&path, &whole[..whole.len() * 3 / 4]).unwrap();
    let (code, out, err) = run(&["analyze", path.to_str().unwrap()], None);
    assert_eq!((code, err.as_str()), (2, ""), "not all of it was read");
    let told = format!("Incomplete: {}: the compressed data ends too early: ", path.display());
    assert!(out.replace('\n', " ").starts_with(&told) && out.contains("ConfigMap war/app-config"), "{out}");
    // A report without wars must not look like an all-clear.
    let (code, out, _) = run(&["analyze", "-n", "kube-system", path.to_str().unwrap()], None);
    assert!(code == 2 && out.contains("\n\nNo edit war in what was read: "), "{out}");
    let (_, out, err) = run(&["analyze", "-o", "json", path.to_str().unwrap()], None);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(report["coverage"]["problems"][0]["kind"], "incomplete_input");
    assert!(err.contains("ends too early"), "{err}");
    let (_, out, _) = run(&["analyze", "-o", "markdown", path.to_str().unwrap()], None);
    assert!(out.starts_with("**Incomplete:** "), "{out}");
    let junit = folder.join("junit.xml");
    let (code, _, _) = run(&["simulate", path.to_str().unwrap(), "--junit", junit.to_str().unwrap()], None);
    let report = std::fs::read_to_string(&junit).unwrap();
    assert!(
        code == 2 && report.contains("errors=\"2\"") && report.contains("<error message=\"Incomplete: "),
        "{report}"
    );
}

#[test]
fn control_characters_in_a_log_are_escaped() {
    let folder = scratch("escapes");
    let text = String::from_utf8(util::log("gitops-vs-kubectl")).unwrap();
    let text = text
        .replace(
            r#""username":"alice""#,
            "\"username\":\"al\\u001b[2Jice\\u202e\u{9b}1m\u{e0041}\u{e007f}\u{2028}\u{200b}\"",
        )
        .replace("green", "gr\\u001b]0;x\\u0007een\u{9d}\u{2029}\u{e0042}");
    let path = folder.join("audit.log");
    std::fs::write(&path, text).unwrap();
    let commands: [&[&str]; 7] = [
        &["analyze"],
        &["analyze", "-o", "wide"],
        &["analyze", "-o", "markdown"],
        &["analyze", "-o", "json"],
        &["analyze", "-o", "yaml"],
        &["who", "cm/app-config"],
        &["who", "cm/app-config", "-o", "json"],
    ];
    for command in commands {
        let (_, out, _) = run(&[command, &[path.to_str().unwrap()]].concat(), None);
        assert!(out.contains("ice"), "{out}");
        let is_harmful = |c: char| {
            (c.is_control() && c != '\n')
                || matches!(c, '\u{200b}' | '\u{2028}'..='\u{202e}' | '\u{e0000}'..='\u{e007f}')
        };
        assert!(!out.contains(is_harmful), "{command:?}: {out:?}");
        if command.contains(&"json") {
            let written = serde_json::from_str::<serde_json::Value>(&out).unwrap().to_string();
            assert!(written.contains("1m\u{e0041}\u{e007f}\u{2028}"), "it says the same: {written}");
        }
    }
}

#[test]
fn a_closed_output_pipe_is_not_an_error() {
    let command = format!("{} analyze {} | head -c 1", env!("CARGO_BIN_EXE_editwar"), fixture("oddities"));
    let output =
        Command::new("bash").args(["-o", "pipefail", "-c", &command]).current_dir(util::path("")).output().unwrap();
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn serve_check_config_reports_errors() {
    let folder = scratch("config");
    let file = |text: &str| {
        let path = folder.join("editwar.yaml");
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let check = |path: &str| run(&["serve", "--check-config", "--config", path], None);
    assert_eq!(check(&file("limits: {quiet_period: 5m}\n")).0, 0);
    let (code, _, err) = check(&file("limits:\n  quite_period: 5m\n"));
    assert_eq!(code, 2);
    assert!(err.contains("limits.quite_period") && err.contains("did you mean `quiet_period`"), "{err}");
    let (code, _, err) = check(&file("webhook: {tls: {cert: /no/cert.pem, key: /no/key.pem}}\n"));
    assert_eq!(code, 2);
    assert!(err.contains("/no/cert.pem"), "{err}");
    assert!(Path::new(&folder).exists());
}

#[test]
fn the_number_of_workers_does_not_change_verdicts() {
    let folder = scratch("workers");
    for recording in util::smaller_recordings() {
        // Longer than a chunk, so that several workers have work; with reads in between, as in a real log.
        let path = folder.join(format!("{recording}.log"));
        std::fs::write(&path, util::log(&recording)).unwrap();
        let file = path.to_str().unwrap();
        let of = |workers: &str| run(&["analyze", "--all", "-o", "json", "--workers", workers, file], None);
        let alone = of("1");
        assert!(alone.0 < 2, "{recording}: {}", alone.2);
        for workers in ["2", "8"] {
            assert_eq!(of(workers), alone, "{recording} with {workers} workers");
        }
    }
    // All at once, merged by time, and one log with some broken lines. Derived recordings are excluded: they contain
    // the same requests, and which of two copies comes first is random.
    let recorded = util::smaller_recordings().into_iter().filter(|name| !name.ends_with("-derived"));
    let all: Vec<String> = recorded.map(|recording| fixture(&recording)).collect();
    let arguments = |workers| {
        let mut arguments = vec!["analyze", "--all", "-o", "json", "--workers", workers];
        arguments.extend(all.iter().map(String::as_str));
        run(&arguments, None)
    };
    assert_eq!(arguments("8"), arguments("1"));
    let mut broken = util::log("gitops-vs-kubectl");
    for at in (5_000..broken.len()).step_by(300_000) {
        broken[at] = b'\n';
    }
    let of = |workers| run(&["analyze", "--all", "-o", "json", "--workers", workers, "-"], Some(&broken));
    assert!(of("1").2.contains("cannot be read"), "{}", of("1").2);
    assert_eq!(of("8"), of("1"));
}

/// Alice and Bob use different API servers and write alternately for eight hours. `line` formats an event from user,
/// time and number.
fn slow_war(line: impl Fn(&str, &str, usize) -> String) -> [String; 2] {
    let mut logs = [String::new(), String::new()];
    let start: jiff::Timestamp = "2026-11-20T00:00:00Z".parse().unwrap();
    for turn in 0..240 {
        let at = start + jiff::SignedDuration::from_secs(120 * turn as i64);
        logs[turn % 2] += &line(["alice", "bob"][turn % 2], &format!("{at:.6}"), turn);
        logs[turn % 2].push('\n');
    }
    logs
}

#[test]
fn a_slow_war_is_the_same_in_one_log_or_split_over_two() {
    let folder = scratch("two-logs");
    let levels = [("Metadata", false), ("RequestResponse", true)];
    for (level, has_bodies) in levels {
        let line = |user: &str, at: &str, turn: usize| {
            let replicas = if user == "alice" { 3 } else { 5 };
            let bodies = format!(
                r#","requestObject":{{"spec":{{"replicas":{replicas}}}}},"responseObject":{{"kind":"Deployment","apiVersion":"apps/v1","metadata":{{"name":"web","namespace":"shop","uid":"u","resourceVersion":"{}"}},"spec":{{"replicas":{replicas}}}}}"#,
                1000 + turn
            );
            format!(
                r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"{level}","auditID":"{turn}","stage":"ResponseComplete","requestURI":"/apis/apps/v1/namespaces/shop/deployments/web","verb":"patch","user":{{"username":"{user}","groups":["system:authenticated"]}},"sourceIPs":["10.0.0.1"],"userAgent":"tool/1","objectRef":{{"resource":"deployments","namespace":"shop","name":"web","apiGroup":"apps","apiVersion":"v1"}},"responseStatus":{{"metadata":{{}},"code":200}}{},"requestReceivedTimestamp":"{at}","stageTimestamp":"{at}"}}"#,
                if has_bodies { &bodies } else { "" }
            )
        };
        let [alice, bob] = slow_war(line);
        // One log with the lines of both, ordered by the time at the end of each line.
        let mut both: Vec<&str> = alice.lines().chain(bob.lines()).collect();
        both.sort_by_key(|line| line.rsplit(r#""stageTimestamp":"#).next());
        let file = |name: &str, text: &str| {
            let path = folder.join(name);
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let (a, b) = (file("a.log", &alice), file("b.log", bob.trim_end()));
        let one = file("both.log", &(both.join("\n") + "\n"));
        let wars = |arguments: &[&str]| -> serde_json::Value {
            let (_, out, err) = run(&[&["analyze", "--all", "-o", "json"], arguments].concat(), None);
            let report: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {err}"));
            let mut wars = report["wars"].clone();
            // The command to check names the files.
            wars.as_array_mut().unwrap().iter_mut().for_each(|war| drop(war["verify"].take()));
            wars
        };
        let expected = wars(&[&one]);
        assert_eq!(expected[0]["retakes"], 238, "each write but the first two takes back: {expected}");
        for order in [[&a, &b], [&b, &a]] {
            for workers in ["1", "2"] {
                assert_eq!(wars(&[order[0], order[1], "--workers", workers]), expected, "{level}, {workers} workers");
            }
        }
    }
}
