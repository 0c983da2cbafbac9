//! `editwar demo`, as a newcomer runs it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::util;

#[test]
fn a_newcomer_sees_wars_begin_last_and_end_within_a_minute() {
    let mut demo =
        Command::new(env!("CARGO_BIN_EXE_editwar")).args(["demo", "--no-open"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(demo.stderr.take().unwrap()).lines().map_while(Result::ok);
    let page = lines.find_map(|line| line.strip_prefix("The page: ").map(str::to_owned)).unwrap();
    // The rest must be read, or the demo would block on a full pipe.
    let log = std::thread::spawn(move || lines.collect::<Vec<String>>());
    let overview = || -> Value {
        let text = Command::new("curl").args(["-sS", &format!("{page}api/v1/overview")]).output().unwrap().stdout;
        serde_json::from_slice(&text).unwrap_or_default()
    };
    let states = |cluster: &str| -> Vec<String> {
        let rows = overview()["rows"].as_array().cloned().unwrap_or_default();
        let wars = rows.iter().filter(|row| row["object"]["cluster"] == cluster && row["finding"] == "war");
        wars.map(|row| row["war"]["state"].as_str().unwrap().to_owned()).collect()
    };
    // As the recordings' truth says: what begins, what lasts, what ends, and what is peace.
    util::until("the war in staging has begun", || states("staging") == ["sustained"]);
    util::until("the war in production has begun", || states("production") == ["sustained"]);
    util::until("the war in staging has ended", || states("staging") == ["calm"]);
    util::until("the war in edge has begun", || states("edge") == ["sustained"]);
    assert_eq!(states("production"), ["sustained"]);
    let answer = overview();
    assert_eq!(answer["head"]["coverage"]["problems"], Value::Null, "{answer}");
    let lab = answer["rows"].as_array().unwrap().iter().filter(|row| row["object"]["namespace"] != "war");
    let loud = lab.filter(|row| row["object"]["cluster"] == "lab" && row["war"]["thrashing_events"] != 0);
    assert_eq!(loud.count(), 0, "a quota is peace: {answer}");
    // Ctrl-C.
    Command::new("kill").args(["-INT", &demo.id().to_string()]).status().unwrap();
    assert!(demo.wait().unwrap().success());
    let log = log.join().unwrap();
    assert!(log.iter().all(|line| !line.contains("error")), "{log:?}");
}
