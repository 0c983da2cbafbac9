//! Attacks with wrong clocks: forged times, times of other API servers, times in text that tenants choose, across
//! restarts and offline.

use serde_json::{Value, json};

use crate::events::{
    SECOND, Standing, War, Write, begin_war, intake, is_fought, now, standing, time, war_over, writes,
};
use crate::outcome::Kind::Beside;
use crate::outcome::{Attack, Context, Outcome, Report, control};
use crate::server::{self, Server};

const OTHERS: &str = "a wrong clock of one cluster leaves the others' wars, states and decisions";
const TEXT: &str = "no time is taken from text that a tenant chooses";

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "time/other-cluster-2300",
        promise: OTHERS,
        kind: Beside,
        run: |c, r| other(c, r, "2300-01-01T00:00:00.000000Z"),
    },
    Attack {
        name: "time/other-cluster-9999",
        promise: OTHERS,
        kind: Beside,
        run: |c, r| other(c, r, "9999-12-31T23:59:59.999999Z"),
    },
    Attack {
        name: "time/other-cluster-year-1",
        promise: OTHERS,
        kind: Beside,
        run: |c, r| other(c, r, "0001-01-01T00:00:00.000000Z"),
    },
    Attack {
        name: "time/other-cluster-20-minutes",
        promise: OTHERS,
        kind: Beside,
        run: |c, r| other(c, r, &time(now() + 1200 * SECOND)),
    },
    Attack {
        name: "time/same-cluster-2300",
        promise: "an event from 2300 ends no war of its own cluster",
        kind: Beside,
        run: same_cluster,
    },
    Attack {
        name: "time/api-server-11-minutes-ahead",
        promise: "an API server 11 minutes ahead ends no war that others see",
        kind: Beside,
        run: eleven_minutes,
    },
    Attack {
        name: "time/creeping-clock",
        promise: "a source that creeps ahead, each step within the bound, gets no further than it",
        kind: Beside,
        run: creeping,
    },
    Attack { name: "time/text-in-a-batch", promise: TEXT, kind: Beside, run: |c, r| text(c, r, false) },
    Attack { name: "time/text-in-a-cut-batch", promise: TEXT, kind: Beside, run: |c, r| text(c, r, true) },
    Attack { name: "time/replay", promise: "a wrong clock poisons nothing after a restart", kind: Beside, run: replay },
    Attack { name: "time/hiding", promise: "a war cannot hide behind a wrong clock", kind: Beside, run: hiding },
    Attack {
        name: "time/offline",
        promise: "offline, a log with a wrong clock is reported and decides nothing",
        kind: Beside,
        run: offline,
    },
];

/// Another cluster posts an event with this time.
fn other(context: &Context, report: &mut Report, dated: &str) -> Outcome {
    let server = Server::start(context, &[])?.ready()?;
    let before = begin_war(&server, "a", "config")?;
    let count = writes(&server)?;
    server.post("/audit/other", &[Write::new("mallory", "forged", "1", now()).line_dated(dated)])?;
    spoils_nothing(&server, report, &before)?;
    report.promise(writes(&server)? > count + 16, "the write with the wrong clock is not counted");
    let kept = server.get("/api/v1/objects/configmaps/shop/forged?cluster=other")?;
    report.promise(kept.status == 200, "the write with the wrong clock is not kept");
    Ok(())
}

/// Checks that the war in cluster `a` is unchanged, and that new wars are found.
fn spoils_nothing(server: &Server, report: &mut Report, before: &Standing) -> Outcome {
    let after = standing(server, "a", "config")?;
    report.promise(after == *before, format!("the war in cluster a was {before:?} and is {after:?}"));
    server.post("/audit/a", &War::plain("new"))?;
    let new = standing(server, "a", "new")?;
    report.promise(is_fought(&new), format!("a new war in cluster a is {new:?}"));
    let answer = server.json("/api/v1/objects/configmaps/shop/config/decision?cluster=a")?;
    let as_of: Option<jiff::Timestamp> = answer["as_of"].as_str().and_then(|at| at.parse().ok());
    let is_near = as_of.is_some_and(|at| (at.as_microsecond() - now()).abs() < 900 * SECOND);
    report.promise(is_near, format!("what cluster a's decisions are based on: {}", answer["as_of"]));
    Ok(())
}

fn same_cluster(context: &Context, report: &mut Report) -> Outcome {
    let server = Server::start(context, &[])?.ready()?;
    let before = begin_war(&server, "a", "config")?;
    let forged = Write::new("mallory", "forged", "1", now());
    server.post("/audit/a", &[forged.line_dated("2300-01-01T00:00:00.000000Z")])?;
    // Both timestamps may be wrong, or only one of them.
    let mut event = forged.event();
    event["requestReceivedTimestamp"] = "2300-01-01T00:00:00.000000Z".into();
    event["auditID"] = "one-time-of-two".into();
    server.post("/audit/a", &[event.to_string()])?;
    spoils_nothing(&server, report, &before)
}

fn eleven_minutes(context: &Context, report: &mut Report) -> Outcome {
    let server = Server::start(context, &[])?.ready()?;
    let before = begin_war(&server, "a", "config")?;
    let fast = [127, 0, 0, 2].into();
    for n in 0..20 {
        let write = Write::new("carol", "elsewhere", &n.to_string(), now() + 660 * SECOND);
        control(server.post_from(fast, "/audit/a", &[write.line()])?.status == 200, "the fast clock's batch is taken")?;
    }
    spoils_nothing(&server, report, &before)
}

/// Steps of nine minutes, each within the tolerance relative to the last time.
fn creeping(context: &Context, report: &mut Report) -> Outcome {
    let server = Server::start(context, &[])?.ready()?;
    let before = begin_war(&server, "a", "config")?;
    for n in 1..=20 {
        let write = Write::new("mallory", "forged", &n.to_string(), now() + n * 540 * SECOND);
        server.post("/audit/other", &[write.line()])?;
    }
    spoils_nothing(&server, report, &before)
}

/// A ConfigMap with an annotation and a key that look like an event's time.
fn bait() -> Write {
    let mut write = Write::new("tenant", "bait", "1", now());
    let looks = json!({"stageTimestamp": "2300-01-01T00:00:00.000000Z", "requestReceivedTimestamp": "2300-01-01T00:00:00.000000Z"});
    let lines = "\"stageTimestamp\":\"2300-01-01T00:00:00.000000Z\"";
    write.patch = json!({"metadata": {"annotations": looks}, "data": looks});
    write.stored =
        json!({"metadata": {"annotations": {"stageTimestamp": looks["stageTimestamp"], "note": lines}}, "data": looks});
    write
}

/// Sends the annotation in an ordinary batch, or in one that is truncated.
fn text(context: &Context, report: &mut Report, is_cut: bool) -> Outcome {
    let server = Server::start(context, &["--set", "webhook.max_body_bytes=64KiB"])?.ready()?;
    let before = begin_war(&server, "a", "config")?;
    // In the middle and at the end, which is where a truncated batch ends.
    let mut events = vec![bait().line(), Write::new("carol", "elsewhere", "1", now()).line(), bait().line()];
    let cut_before = server.metric(r#"editwar_batches_total{outcome="truncated"}"#);
    if is_cut {
        let mut big = bait();
        big.patch["data"]["zbig"] = "x".repeat(80 << 10).into();
        big.stored = bait().stored;
        // The annotation must be before the point of truncation.
        let line = big.line();
        let at = line.find("\"requestObject\"").unwrap_or_default();
        control(at < 60 << 10, "the event begins in time")?;
        events.push(line);
    }
    server.post("/audit/a", &events)?;
    if is_cut {
        let cut = server.metric(r#"editwar_batches_total{outcome="truncated"}"#);
        control(cut > cut_before || cut_before.is_nan(), "the batch was cut")?;
    }
    let wars = server.json("/api/v1/wars?cluster=a")?;
    let is_late = |of: &Value| of.as_str().is_some_and(|at| at > "2200");
    let coverage = &wars["coverage"];
    let sources = coverage["sources"].as_array().cloned().unwrap_or_default();
    let is_forged = is_late(&coverage["last"]) || sources.iter().any(|source| is_late(&source["last"]));
    report.promise(!is_forged, format!("coverage reaches to {}", coverage["last"]));
    let lag = server.metric("editwar_last_event_timestamp_seconds");
    report.promise(lag < 7e9, format!("the latest event is at {lag} s since 1970"));
    spoils_nothing(&server, report, &before)
}

fn replay(context: &Context, report: &mut Report) -> Outcome {
    let folder = context.folder("time-replay").display().to_string();
    let mut server = Server::start(context, &["--journal", &folder])?.ready()?;
    let before = begin_war(&server, "a", "config")?;
    for dated in ["2300-01-01T00:00:00.000000Z", "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00.000000Z"] {
        server.post("/audit/other", &[Write::new("mallory", "forged", dated, now()).line_dated(dated)])?;
    }
    server.post("/audit/other", &[bait().line()])?;
    server.terminate()?;
    let server = Server::start(context, &["--journal", &folder])?.ready()?;
    spoils_nothing(&server, report, &before)?;
    let timeline = server.json("/api/v1/objects/configmaps/shop/config/timeline?cluster=a&since=1h")?;
    let kept = timeline["timeline"].as_array().map_or(0, Vec::len);
    report.promise(kept == 16, format!("the last hour has {kept} of 16 writes of the war"));
    Ok(())
}

/// One of two parties, or both, use an API server with a wrong clock.
fn hiding(context: &Context, report: &mut Report) -> Outcome {
    let server = Server::start(context, &[])?.ready()?;
    let cases = [
        ("half-ahead", "2300-01-01T00:00:00.000000Z", true),
        ("half-behind", "0001-01-01T00:00:00.000000Z", true),
        ("all-ahead", "2300-01-01T00:00:00.000000Z", false),
        ("all-9999", "9999-12-31T23:59:59.999999Z", false),
    ];
    for (name, dated, is_half) in cases {
        let mut war = War::new(name);
        for turn in 0..24 {
            let write = war.turn(now());
            let line = if is_half && turn % 2 == 0 { write.line() } else { write.line_dated(dated) };
            server.post(&intake("hidden"), &[line])?;
        }
        let found = war_over(&server, "hidden", name)?;
        let state = found.as_ref().map(|war| war["state"].clone());
        report.promise(found.is_some(), format!("the war {name} is not listed"));
        let is_told = state.as_ref().is_some_and(|state| state != "calm");
        report.promise(is_told, format!("the war {name}, fought just now, is told as {state:?}"));
    }
    Ok(())
}

fn offline(context: &Context, report: &mut Report) -> Outcome {
    let folder = context.folder("time-offline");
    let write = |name: &str, lines: &[String]| std::fs::write(folder.join(name), lines.join("\n") + "\n");
    write("audit-1.log", &War::new("config").lines(40, 5 * SECOND, now()))?;
    let analyze = |files: &[&str], more: &[&str]| {
        server::run(context, &[&["analyze", "-o", "json"], more, files].concat(), &folder)
    };
    let states = |output: &std::process::Output| -> Option<Vec<(String, String)>> {
        let report: Value = serde_json::from_slice(&output.stdout).ok()?;
        let wars = report["wars"].as_array()?;
        let told = wars.iter().map(|war| (war["object"]["name"].to_string(), war["state"].to_string()));
        Some(told.filter(|(name, _)| name.contains("config")).collect())
    };
    let good = analyze(&["audit-1.log"], &[])?;
    let expected = states(&good);
    control(expected.as_ref().is_some_and(|found| found.len() == 1), format!("the war is found: {good:?}"))?;
    let recent = states(&analyze(&["audit-1.log"], &["--since", "1h"])?);
    for (name, dated) in [
        ("ahead-2300", "2300-01-01T00:00:00.000000Z".to_owned()),
        ("ahead-9999", "9999-12-31T23:59:59.999999Z".to_owned()),
        ("year-1", "0001-01-01T00:00:00.000000Z".to_owned()),
        ("ahead-1-day", time(now() + 86_400 * SECOND)),
    ] {
        let file = format!("{name}.log");
        write(&file, &[Write::new("mallory", "forged", "1", now()).line_dated(&dated)])?;
        let output = analyze(&["audit-1.log", &file], &[])?;
        let (found, said) = (states(&output), String::from_utf8_lossy(&output.stderr).to_lowercase());
        let code = output.status.code();
        report.promise(code == good.status.code(), format!("{name}: exit code {code:?}: {}", said.trim()));
        report.promise(found == expected, format!("{name}: the war is told as {found:?}"));
        let is_told =
            said.contains("clock") || String::from_utf8_lossy(&output.stdout).to_lowercase().contains("clock");
        report.promise(is_told, format!("{name}: nothing says that a clock is wrong"));
        let since = states(&analyze(&["audit-1.log", &file], &["--since", "1h"])?);
        report.promise(since == recent, format!("{name}: --since 1h tells {since:?}"));
    }
    Ok(())
}
