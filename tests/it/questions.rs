//! The questions in `docs/questions.md`, each answered by one command. What the answers must contain is known from how the
//! recordings were made.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::cli::{fixture, run};
use crate::cluster::{ALICE, BOB, Cluster, Level, OPERATOR};
use crate::envtest::{ApiServer, pause};
use crate::serve::Server;
use crate::util;

/// Runs a command on a recording, and returns its exit code and standard output.
fn ask(arguments: &str, recording: &str) -> (i32, String) {
    let log = fixture(recording);
    let words: Vec<&str> = arguments.split(' ').chain([log.as_str(), "-q"]).collect();
    let (code, out, _) = run(&words, None);
    (code, out)
}

fn contains_all(out: &str, parts: &[&str]) {
    for part in parts {
        assert!(out.contains(part), "{part} is missing:\n{out}");
    }
}

/// Returns the names of the objects that `-o name` lists.
fn names(arguments: &str, recording: &str) -> BTreeSet<String> {
    let (_, out) = ask(&format!("{arguments} -o name"), recording);
    out.lines().map(str::to_owned).collect()
}

#[test]
fn every_question_of_the_documentation_is_tested_here() {
    let text = std::fs::read_to_string(util::path("docs/questions.md")).unwrap();
    let questions = text.lines().filter(|line| line.starts_with("### ")).count();
    let tested = include_str!("questions.rs").lines().filter(|line| line.starts_with("fn question_")).count();
    assert!(questions >= 10 && questions == tested, "{questions} questions, {tested} tests");
}

#[test]
fn question_is_anything_fighting_and_over_what() {
    let (code, out) = ask("analyze", "flux-vs-alice");
    assert_eq!(code, 1);
    contains_all(&out, &["1 edit war: 1 ongoing", "Deployment shop/web", "spec.replicas 3 ⇄ 5", "alice (11 writes)"]);
    let (code, out) = ask("analyze", "keda-hpa-peace");
    assert_eq!(code, 0);
    contains_all(&out, &["No edit war"]);
}

#[test]
fn question_i_only_have_kubectl_what_can_i_see_and_what_comes_next() {
    let Some(server) = ApiServer::start(None) else { return };
    let kubeconfig = server.kubeconfig("alice");
    let (code, out, _) = run(&["doctor", "--kubeconfig", kubeconfig.to_str().unwrap()], None);
    assert_eq!(code, 1, "there is no server: {out}");
    contains_all(&out, &["this account may list and watch", "a watch: ", "editwar watch --kubeconfig", "→ next: "]);
    let (code, out, _) = run(&["setup", "evidence"], None);
    assert_eq!(code, 0);
    contains_all(&out, &["managedFields", "a watch and an audit log at level Metadata", "RequestResponse"]);
}

#[test]
fn question_what_will_fight_if_i_apply_this() {
    let Some(server) = ApiServer::start(None) else { return };
    server.kubectl("admin", &["create", "deployment", "web", "-n", "shop", "--image=nginx"]);
    server.kubectl("admin", &["autoscale", "deployment/web", "-n", "shop", "--min=2", "--max=10", "--cpu=60%"]);
    let manifests = crate::envtest::scratch("manifests");
    let manifest = server.kubectl(
        "admin",
        &[
            "create",
            "deployment",
            "web",
            "-n",
            "shop",
            "--image=nginx",
            "--replicas=3",
            "--dry-run=client",
            "-o",
            "yaml",
        ],
    );
    std::fs::write(manifests.join("web.yaml"), manifest).unwrap();
    let kubeconfig = server.kubeconfig("admin");
    let check = |arguments: &[&str]| {
        let (code, out, _) = run(&[&["check", "--kubeconfig", kubeconfig.to_str().unwrap()], arguments].concat(), None);
        (code, out)
    };
    assert_eq!(check(&[]).0, 0);
    let (code, out) = check(&["-f", manifests.to_str().unwrap()]);
    assert_eq!(code, 1, "{out}");
    contains_all(
        &out,
        &["Deployment shop/web  spec.replicas", "sets it to 3", "HorizontalPodAutoscaler shop/web scales it"],
    );
}

#[test]
fn question_is_anything_fighting_without_an_audit_log() {
    let Some(server) = ApiServer::start(None) else { return };
    server.kubectl("admin", &["create", "configmap", "web", "-n", "shop", "--from-literal=v=0"]);
    let mut watch = Command::new(env!("CARGO_BIN_EXE_editwar"))
        .args(["watch", "configmaps", "-n", "shop", "--for", "10m", "--kubeconfig"])
        .arg(server.kubeconfig("admin"))
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(watch.stderr.take().unwrap()).lines().map(Result::unwrap);
    said.find(|line| line.contains("watching 1") && !line.contains("no connection")).expect("it is connected");
    for turn in 0..12 {
        let (manager, patch) =
            if turn % 2 == 0 { ("a", r#"{"data":{"v":"1"}}"#) } else { ("b", r#"{"data":{"v":"2"}}"#) };
        let manager = format!("--field-manager={manager}");
        server.kubectl("admin", &["patch", "configmap", "web", "-n", "shop", &manager, "--type=merge", "-p", patch]);
    }
    // The last revisions are on their way.
    pause(2_000);
    assert!(Command::new("kill").args(["-INT", &watch.id().to_string()]).status().unwrap().success());
    let output = watch.wait_with_output().unwrap();
    let out = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1), "{out}");
    contains_all(&out, &["1 edit war: 1 ongoing", "ConfigMap shop/web", "data.v", "a (Update)", "b (Update)"]);
}

#[test]
fn question_who_fights_over_this_object_and_what_can_be_done() {
    let (code, out) = ask("who deployment web -n shop", "flux-vs-alice");
    assert_eq!(code, 1);
    contains_all(
        &out,
        &[
            "sustained, confirmed",
            "flux-system:kustomize-controller",
            "alice",
            "Cause: manual edits",
            "choose one:",
            "To check",
        ],
    );
}

#[test]
fn question_which_wars_still_go_on() {
    // HPA mixed and Deployment mixed were deleted at the end of the recording.
    let ongoing = names("analyze --state ongoing", "oddities");
    let ended = names("analyze --state ended", "oddities");
    assert!(ongoing.is_disjoint(&ended));
    assert_eq!(ongoing.union(&ended).cloned().collect::<BTreeSet<_>>(), names("analyze", "oddities"));
    assert!(ended.contains("deployments.apps/mixed -n war"), "{ended:?}");
}

#[test]
fn question_which_wars_were_there_in_the_last_hour() {
    let server = Server::start(&[]).ready();
    server.post_log("flux-vs-alice");
    let url = server.url("");
    let wars = |since: &str| {
        let (code, out, err) = run(&["wars", "--server", &url, "--since", since, "-o", "json"], None);
        assert!((0..=2).contains(&code), "{err}");
        serde_json::from_str::<Value>(&out).unwrap()
    };
    // One row for the war, however often its verdict changed.
    let all = wars("2026-11-24T20:00:00Z");
    assert_eq!(all["wars"].as_array().unwrap().len(), 1);
    assert_eq!(wars("2026-11-24T20:49:00Z")["wars"].as_array().unwrap().len(), 1, "its last retake was at 20:49:04");
    let none = wars("2026-11-24T20:49:10Z");
    assert_eq!((none["wars"].as_array().unwrap().len(), &none["matched"]["other_wars"]), (0, &1.into()));
    assert_eq!(all["coverage"]["problems"][0]["kind"], "late_start", "the server knows nothing from before 20:42");
}

#[test]
fn question_which_wars_involve_gitops() {
    assert_eq!(names("analyze --class gitops", "flux-vs-alice").len(), 1);
    assert_eq!(names("analyze --class flux", "flux-vs-alice").len(), 1);
    let (code, out) = ask("analyze --class argo_cd", "flux-vs-alice");
    assert_eq!(code, 0);
    contains_all(&out, &["No edit war with these properties, but 1 with others"]);
    let (code, _) = ask("analyze --class gitpos", "flux-vs-alice");
    assert_eq!(code, 2);
}

#[test]
fn question_which_team_had_the_most_wars_last_month() {
    let folder = crate::journal::folder("by-team");
    let server = crate::journal::start(&folder, "degrade").ready();
    // Two over the shop's object, one over that of an object without an owner.
    let mut cluster = Cluster::new(Level::RequestResponse);
    let config = |team: &str| {
        let labels = if team.is_empty() { json!({}) } else { json!({"team": team}) };
        json!({"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"labels": labels}, "data": {"v": "0"}})
    };
    for (name, team) in [("web", "shop"), ("plain", "")] {
        cluster.create(OPERATOR, &format!("configmaps/shop/{name}"), config(team));
    }
    let mut fight = |name: &str| {
        for turn in 0..30 {
            cluster.wait(1.0);
            let (who, value) = if turn % 2 == 0 { (ALICE, "a") } else { (BOB, "b") };
            cluster.patch(who, &format!("configmaps/shop/{name}"), "", json!({"data": {"v": value}}));
        }
        // A day of peace.
        cluster.wait(86_400.0);
    };
    ["web", "plain", "web"].into_iter().for_each(&mut fight);
    cluster.create(OPERATOR, "configmaps/shop/end", config(""));
    let lines: Vec<Vec<u8>> = cluster.lines().map(<[u8]>::to_vec).collect();
    for batch in lines.chunks(40) {
        assert_eq!(crate::journal::try_post(server.webhook(), &crate::journal::body(batch)), Some(200));
    }
    let url = server.url("");
    let wars = |more: &[&str]| run(&[&["wars", "--server", &url, "--since", "30d"], more].concat(), None);
    util::until("the journal has all transitions", || wars(&["--by", "team", "-o", "jsonl"]).1.contains("\"wars\":2"));
    let (code, out, err) = wars(&["--by", "team"]);
    assert_eq!((code, err.as_str()), (1, ""), "{out}");
    let rows: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().take(4).collect()).collect();
    assert!(rows.contains(&vec!["shop", "2", "1", "0"]) && rows.contains(&vec!["(none)", "1", "1", "0"]), "{out}");
    assert!(out.contains("complete since"), "{out}");
    // If nothing matches, that is not an all-clear.
    let (code, out, err) = wars(&["--by", "team", "-n", "shpo"]);
    assert!(code == 2 && err.contains("shpo"), "{code} {out}{err}");
    let (_, out, err) = wars(&["--by", "owner"]);
    assert!(out.contains("(none)") && err.contains("add it to notify.owner_labels"), "{out}{err}");
    let (_, out, _) = wars(&["--by", "namespace", "-o", "json"]);
    let found: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(
        (&found["by"], &found["groups"][0]["value"], &found["groups"][0]["wars"]),
        (&"namespace".into(), &"shop".into(), &3.into())
    );
}

#[test]
fn question_which_wars_are_the_worst() {
    let (_, out) = ask("analyze --sort retakes -o jsonl", "oddities");
    let retakes: Vec<u64> =
        out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["retakes"].as_u64().unwrap()).collect();
    assert!(retakes.len() > 5 && retakes.is_sorted_by(|a, b| a >= b), "{retakes:?}");
    let (_, out) = ask("analyze --top 1 --sort retakes", "oddities");
    contains_all(&out, &["Only the most urgent objects: ", "more objects are not shown"]);
}

#[test]
fn question_what_does_my_operator_fight_over() {
    let all = names("analyze --actor virt-platform-autopilot", "oddities");
    assert_eq!(all, ["deployments.apps/mixed -n war".to_owned()].into());
    let (code, out) = ask("analyze --actor carol --confidence confirmed --cause manual_edits", "oddities");
    assert_eq!(code, 1);
    contains_all(&out, &["spec.replicas 1 ⇄ 2", "carol"]);
}

#[test]
fn question_what_would_other_limits_have_paused() {
    let (code, out) = ask("simulate --limit 5/10m,12/6h --limit 50/10m", "flux-vs-alice");
    assert_eq!(code, 1);
    contains_all(&out, &["Deployment shop/web"]);
}

#[test]
fn question_what_did_alice_change() {
    let (code, out) = ask("who --actor alice", "flux-vs-alice");
    assert_eq!(code, 0);
    contains_all(&out, &["alice: 11 writes to 1 object", "Deployment shop/web: patch 11"]);
    assert_eq!(out.matches("spec.replicas 3 → 5").count(), 11, "{out}");
    let (code, out) = ask("who --actor alcie", "flux-vs-alice");
    assert_eq!(code, 2);
    contains_all(&out, &["did you mean \"alice\"?"]);
}

#[test]
fn question_how_do_i_get_every_write_into_a_spreadsheet() {
    let (_, out) = ask("who deployment/web -n shop -o csv", "flux-vs-alice");
    let mut lines = out.lines();
    assert_eq!(lines.next(), Some("at,cluster,namespace,group,resource,name,actor,tool,verb,field,old,new"));
    let by_alice: Vec<&str> = lines.filter(|line| line.contains(",alice,")).collect();
    assert_eq!(by_alice.len(), 11, "{by_alice:#?}");
    assert!(by_alice.iter().all(|line| line.ends_with(",patch,spec.replicas,3,5")), "{by_alice:#?}");
}

#[test]
fn question_does_the_log_show_enough_for_a_verdict() {
    let (code, out) = ask("analyze", "flux-vs-alice-metadata");
    assert_eq!(code, 0, "{out}");
    contains_all(&out, &["1 undecided: several actors write this object alternately", "editwar setup policy"]);
    contains_all(&out, &["100 % of the writes have no bodies (Metadata)"]);
}

#[test]
fn hidden_values_are_shown_as_hidden() {
    let (_, out) = ask("who secret/sec -n war --timeline", "oddities");
    contains_all(&out, &["data.p (redacted) → (redacted)"]);
    let (_, out) = ask("who secret/sec -n war -o json", "oddities");
    let found: Value = serde_json::from_str(&out).unwrap();
    let changes = found["timeline"].as_array().unwrap().iter().flat_map(|write| write["changes"].as_array().unwrap());
    let of_p: Vec<&Value> = changes.filter(|change| change["path"] == "data.p").collect();
    assert!(of_p.len() > 5 && of_p.iter().all(|change| change["new_redacted"] == true && change["new"].is_null()));
}

#[test]
fn ages_count_back_from_the_last_event_and_utc_shows_times() {
    let (_, relative) = ask("analyze", "flux-vs-alice");
    contains_all(&relative, &["ongoing for 7m42s, since 2026-11-24 20:42:16Z", "(54s"]);
    let (_, absolute) = ask("analyze --utc", "flux-vs-alice");
    contains_all(&absolute, &["ongoing since 2026-11-24 20:42:16Z, last retake at 20:49:04Z"]);
    assert!(!absolute.contains(" ago"), "{absolute}");
}

#[test]
fn colours_can_be_switched_on_and_off() {
    let (_, plain) = ask("analyze", "flux-vs-alice");
    assert!(!plain.contains('\u{1b}'));
    let (_, coloured) = ask("analyze --color always", "flux-vs-alice");
    assert!(coloured.contains("\u{1b}[31m"), "{coloured}");
}

#[test]
fn formats_that_make_no_sense_are_refused() {
    for (arguments, format) in [("simulate", "markdown"), ("simulate", "csv"), ("who --actor alice", "markdown")] {
        let log = fixture("flux-vs-alice");
        let words: Vec<&str> = arguments.split(' ').chain([log.as_str(), "-o", format]).collect();
        let (code, out, err) = run(&words, None);
        assert_eq!((code, out.as_str()), (2, ""), "{arguments} -o {format}");
        contains_all(&err, &[&format!("this command does not support -o {format}: use ")]);
    }
}

#[test]
fn the_objects_of_o_name_are_arguments_of_who() {
    let log = fixture("oddities");
    for name in names("analyze", "oddities") {
        let words: Vec<&str> = ["who"].into_iter().chain(name.split(' ')).chain([log.as_str(), "-q"]).collect();
        let (code, out, err) = run(&words, None);
        assert_eq!(code, 1, "{name}: {out}{err}");
    }
}

#[test]
fn watch_lists_the_wars_again_when_they_change() {
    let server = Server::start(&[]).ready();
    let mut watch = Command::new(env!("CARGO_BIN_EXE_editwar"))
        .args(["wars", "--watch", "-o", "jsonl", "--server", &server.url("")])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    server.post_log("flux-vs-alice");
    let war: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!((&war["object"]["name"], &war["fields"][0]["path"]), (&"web".into(), &"spec.replicas".into()));
    watch.kill().unwrap();
    watch.wait().unwrap();
}

/// Runs the completion script in a real bash, as pressing the tab key does.
#[test]
fn the_shell_completes_names_from_the_server() {
    let server = Server::start(&[]).ready();
    server.post_log("hpa-vs-applier");
    let completed = |words: &[&str], url: Option<&str>| {
        let script = r#"
            source <("$EDITWAR" completions bash)
            editwar() { "$EDITWAR" "$@"; }
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_TYPE=9
            "$(complete -p editwar | sed 's/.*-F \([^ ]*\).*/\1/')" editwar "${@: -1}" "${@: -2:1}"
            printf '%s\n' "${COMPREPLY[@]}""#;
        let mut bash = Command::new("bash");
        bash.args(["-c", script, "bash"]).args(words).env("EDITWAR", env!("CARGO_BIN_EXE_editwar"));
        bash.env_remove("EDITWAR_SERVER").envs(url.map(|url| ("EDITWAR_SERVER", url)));
        let output = bash.output().unwrap();
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let url = server.url("");
    // On a busy machine, the server may not answer within the time that a completion has.
    let offers = |words: &[&str], url: Option<&str>, wanted: &str| {
        crate::envtest::wait_until(wanted, 30, || completed(words, url) == [wanted]);
    };
    offers(&["editwar", "who", "dep"], Some(&url), "deployment/web");
    offers(&["editwar", "who", "--server", &url, "deployment/w"], None, "deployment/web");
    offers(&["editwar", "wars", "-n", ""], Some(&url), "shop");
    let autoscaler = "system:serviceaccount:kube-system:horizontal-pod-autoscaler";
    offers(&["editwar", "wars", "--actor", "system:serviceaccount:k"], Some(&url), autoscaler);
    assert_eq!(completed(&["editwar", "anal"], None), ["analyze"]);
    assert_eq!(completed(&["editwar", "who", "Cargo.to"], None), ["Cargo.toml"], "without a server, a log");
    assert_eq!(
        completed(&["editwar", "who", "dep"], Some("http://127.0.0.1:1")),
        [""],
        "a server that does not answer"
    );
}

#[test]
fn rows_are_accompanied_by_what_they_cannot_say() {
    let log = fixture("oddities");
    let (code, out, err) = run(&["analyze", "--class", "argo_cd", "-o", "jsonl", &log], None);
    assert_eq!((code, out.as_str()), (0, ""));
    contains_all(&err, &["no edit war with these properties; 10 with others"]);
    let (_, out, err) = run(&["analyze", "--top", "1", "-o", "name", &log], None);
    assert_eq!(out.lines().count(), 1);
    contains_all(&err, &["more objects are not listed"]);
    // A server without any event: not an empty list without a word.
    let server = Server::start(&[]).ready();
    let (code, out, err) = run(&["wars", "-o", "csv", "--server", &server.url("")], None);
    assert_eq!((code, out.lines().count()), (2, 1), "only the header: {out}");
    contains_all(&err, &["no audit event has arrived yet"]);
}

#[test]
fn contested_objects_that_never_thrashed_can_be_selected_by_their_state() {
    let all = names("analyze --all", "argo-peace");
    let contested = names("analyze --state contested", "argo-peace");
    let others = names("analyze --all --state contested", "argo-peace");
    assert!(contested.contains("deployments.apps/web -n shop"), "{contested:?}");
    assert!(contested.is_subset(&all) && contested == others, "{contested:?} {others:?}");
}

#[test]
fn the_command_to_check_a_war_from_a_pipe_has_no_relative_time() {
    let log = util::log("flux-vs-alice");
    let (_, out, _) = run(&["who", "deployment/web", "-n", "shop", "-"], Some(&log));
    contains_all(&out, &["      editwar who deployments.apps/web -n shop -\n"]);
}
