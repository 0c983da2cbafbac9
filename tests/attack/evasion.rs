//! Attacks that hide a fight over one field among many other fields that change at the same time.

use serde_json::{Value, json};

use crate::events::{SECOND, War, now, quick, standing, war_over};
use crate::outcome::Kind::{Heavy, Long};
use crate::outcome::{Attack, Context, Outcome, Report, control};
use crate::server::Server;

const FOUND: &str = "a war over one field is found, whatever else changes with it";
const MANY: &str = "a war over many fields is found, and says what was not looked at";

pub(crate) const ATTACKS: &[Attack] = &[
    Attack { name: "evasion/among-10", promise: FOUND, kind: Heavy, run: |c, r| hidden(c, r, 10) },
    Attack { name: "evasion/among-300", promise: FOUND, kind: Heavy, run: |c, r| hidden(c, r, 300) },
    Attack { name: "evasion/among-5000", promise: FOUND, kind: Heavy, run: |c, r| hidden(c, r, 5_000) },
    Attack { name: "evasion/among-50000", promise: FOUND, kind: Heavy, run: |c, r| hidden(c, r, 50_000) },
    Attack { name: "evasion/all-of-10", promise: MANY, kind: Heavy, run: |c, r| all(c, r, 10) },
    Attack { name: "evasion/all-of-300", promise: MANY, kind: Heavy, run: |c, r| all(c, r, 300) },
    Attack { name: "evasion/all-of-5000", promise: MANY, kind: Heavy, run: |c, r| all(c, r, 5_000) },
    Attack { name: "evasion/all-of-50000", promise: MANY, kind: Long, run: |c, r| all(c, r, 50_000) },
    Attack {
        name: "evasion/changing-names",
        promise: "a war is found whatever the rival calls itself",
        kind: Heavy,
        run: names,
    },
    Attack { name: "evasion/nested", promise: FOUND, kind: Heavy, run: nested },
];

/// What the rival writes in addition to the contested field.
#[derive(Clone, Copy)]
enum Dummies {
    /// The same keys with different values each time.
    Fixed,
    /// Different keys each time.
    Rotating,
    /// Keys that nobody changes.
    Still,
    /// Different keys each time, in a separate request before the one with the contested field.
    Apart,
}

/// Hides the contested field among `others` fields.
fn hidden(context: &Context, report: &mut Report, others: usize) -> Outcome {
    let server = Server::start(context, &[])?.ready()?;
    let kinds = [
        ("fixed", Dummies::Fixed),
        ("rotating", Dummies::Rotating),
        ("still", Dummies::Still),
        ("apart", Dummies::Apart),
    ];
    for (name, dummies) in kinds {
        // With many fields, the short version only tests the hardest kind.
        if others > 1_000 && !context.is_full && !matches!(dummies, Dummies::Rotating) {
            continue;
        }
        let name = format!("{name}-{others}");
        let turns = context.count(40, if others > 1_000 { 12 } else { 40 });
        let mut stored: Vec<(String, String)> = Vec::new();
        let mut mode = "";
        for n in 0..turns {
            let at = now() - (turns - n) as i64 * SECOND;
            let side = (n % 2) as usize;
            let (actor, fight) = (["alice", "bob"][side], ["theirs", "ours"][side]);
            let mut patch = Vec::new();
            if side == 1 || n == 0 {
                let fresh = self::dummies(dummies, n, others);
                if matches!(dummies, Dummies::Rotating | Dummies::Apart) {
                    patch.extend(stored.iter().map(|(key, _)| format!(r#""{key}":null"#)));
                }
                patch.extend(fresh.iter().map(|(key, value)| format!(r#""{key}":"{value}""#)));
                stored = fresh;
                if matches!(dummies, Dummies::Apart) {
                    let first = quick(at - SECOND / 2, actor, "rival/v1", &name, &data(&patch), &object(&stored, mode));
                    server.post("/audit", &[first])?;
                    patch.clear();
                }
            }
            mode = fight;
            // Between the other fields, in the order of a file.
            patch.insert(patch.len() / 2, format!(r#""mode":"{mode}""#));
            let write = quick(at, actor, "rival/v1", &name, &data(&patch), &object(&stored, mode));
            server.post("/audit", &[write])?;
        }
        check(&server, report, &name, "data.mode")?;
    }
    report.number("RSS peak", format!("{} MiB", server.peak_bytes() >> 20));
    Ok(())
}

fn dummies(kind: Dummies, turn: u64, count: usize) -> Vec<(String, String)> {
    let one = |n: usize| match kind {
        Dummies::Fixed => (format!("d{n}"), turn.to_string()),
        Dummies::Rotating | Dummies::Apart => (format!("{}{turn}-{n}", ["d", "z"][n % 2]), "1".to_owned()),
        Dummies::Still => (format!("d{n}"), "1".to_owned()),
    };
    (0..count).map(one).collect()
}

/// Formats these pairs as `{"data":{…}}`.
fn data(pairs: &[String]) -> String {
    format!(r#"{{"data":{{{}}}}}"#, pairs.join(","))
}

/// Formats the stored object, with its contested field if `mode` is set.
fn object(others: &[(String, String)], mode: &str) -> String {
    let mut pairs: Vec<String> = others.iter().map(|(key, value)| format!(r#""{key}":"{value}""#)).collect();
    if !mode.is_empty() {
        pairs.insert(pairs.len() / 2, format!(r#""mode":"{mode}""#));
    }
    data(&pairs)
}

/// Checks that the war is found and names the field.
fn check(server: &Server, report: &mut Report, name: &str, field: &str) -> Outcome {
    let found = war_over(server, "", name)?;
    let Some(war) = found else {
        report.promise(false, format!("{name}: no war is listed"));
        return Ok(());
    };
    let fields: Vec<&str> = war["fields"].as_array().into_iter().flatten().filter_map(|f| f["path"].as_str()).collect();
    report.promise(
        fields.contains(&field),
        format!("{name}: the field is not named, only {:?}", &fields[..fields.len().min(3)]),
    );
    let found = standing(server, "", name)?;
    report.promise(!found.may_write, format!("{name}: a reconciler may write: {found:?}, {} retakes", war["retakes"]));
    Ok(())
}

/// Both sides write all of `count` fields.
fn all(context: &Context, report: &mut Report, count: usize) -> Outcome {
    let server = Server::start(context, &[])?.ready()?;
    let name = format!("all-{count}");
    let turns = context.count(24, 12);
    for n in 0..turns {
        let side = (n % 2) as usize;
        let pairs: Vec<String> = (0..count).map(|f| format!(r#""f{f}":"{side}""#)).collect();
        let (at, object) = (now() - (turns - n) * SECOND, data(&pairs));
        server.post("/audit", &[quick(at, ["alice", "bob"][side], "rival/v1", &name, &object, &object)])?;
    }
    report.number("RSS peak", format!("{} MiB", server.peak_bytes() >> 20));
    let found = standing(&server, "", &name)?;
    let Some(war) = war_over(&server, "", &name)? else {
        report.promise(false, format!("no war is listed over {count} fields: {found:?}"));
        return Ok(());
    };
    report.promise(!found.may_write, format!("a reconciler may write: {found:?}"));
    let named = war["fields"].as_array().map_or(0, Vec::len);
    report.number("fields named", format!("{named} of {count}"));
    let is_told = says_that_some_are_missing(&war, count);
    report.promise(named == count || is_told, format!("{named} of {count} fields are named, and nothing says so"));
    Ok(())
}

/// Returns whether a key or text in the response indicates that some fields are omitted.
fn says_that_some_are_missing(war: &Value, count: usize) -> bool {
    const WORDS: [&str; 12] = [
        "omitted",
        "more",
        "not looked",
        "unlooked",
        "unseen",
        "truncated",
        "further",
        "left out",
        "beyond",
        "not_",
        "only the",
        "incomplete",
    ];
    match war {
        Value::Object(map) => map.iter().any(|(key, value)| {
            let is_word = WORDS.iter().any(|word| key.contains(word)) && *value != json!(0) && *value != json!(false);
            (is_word && !value.is_null()) || says_that_some_are_missing(value, count)
        }),
        Value::Array(items) => items.iter().any(|item| says_that_some_are_missing(item, count)),
        Value::String(text) => WORDS.iter().any(|word| text.contains(word)),
        Value::Number(number) => number.as_u64() == Some(count as u64),
        _ => false,
    }
}

/// A field deep within lists and maps, in an object that grows and shrinks around it.
fn nested(context: &Context, report: &mut Report) -> Outcome {
    let server = Server::start(context, &[])?.ready()?;
    let name = "nested";
    let mut war = War::new(name);
    war.resource = "deployments.apps";
    let turns = context.count(40_i64, 12);
    for n in 0..turns {
        let mut write = war.turn(now() - (turns - n) * SECOND);
        let replicas = 3 + 2 * (n % 2);
        // Containers are added and removed, and their order changes.
        let count = context.count(40, 8) + 3 * (n % 2);
        let environment = |c: i64| {
            (0..100).map(|e| json!({"name": format!("E{e}"), "value": format!("{c}-{e}-{n}")})).collect::<Vec<_>>()
        };
        let containers: Vec<Value> = (0..count)
            .map(|c| json!({"name": format!("c{}", (c + n) % count), "image": format!("i:{n}"), "env": environment(c)}))
            .collect();
        let spec = json!({"spec": {"replicas": replicas, "template": {"spec": {"containers": containers}}}});
        (write.patch, write.stored) = (spec.clone(), spec);
        server.post("/audit", &[write.line()])?;
    }
    let found = war_over(&server, "", name)?;
    control(server.get("/api/v1/objects/deployments.apps/shop/nested")?.status == 200, "the object is known")?;
    let fields: Vec<String> = found
        .iter()
        .flat_map(|war| war["fields"].as_array().cloned().unwrap_or_default())
        .filter_map(|field| field["path"].as_str().map(str::to_owned))
        .collect();
    report.promise(
        fields.iter().any(|path| path == "spec.replicas"),
        format!("spec.replicas is not named: {} fields", fields.len()),
    );
    Ok(())
}

/// A rival that uses a different account, tool, address or Pod each time.
fn names(context: &Context, report: &mut Report) -> Outcome {
    type Change = fn(&mut Value, i64);
    let changes: [(&str, Change); 7] = [
        ("account", |event, n| event["user"]["username"] = format!("system:serviceaccount:x:rival-{n}").into()),
        ("impersonated", |event, n| event["impersonatedUser"] = json!({"username": format!("rival-{n}")})),
        ("agent", |event, n| event["userAgent"] = format!("tool-{n}/v{n}").into()),
        ("manager", |event, n| event["requestURI"] = format!("/api/v1/x?fieldManager=manager-{n}").into()),
        ("address", |event, n| event["sourceIPs"] = json!([format!("10.0.{n}.1")])),
        ("pod", |event, n| {
            event["user"]["extra"] = json!({"authentication.kubernetes.io/pod-name": [format!("rival-{n}")]});
        }),
        ("instance", |event, n| {
            event["userAgent"] = "kubectl/v1.36".into();
            event["requestURI"] = "/api/v1/x?fieldManager=kubectl".into();
            let labels = json!({"app.kubernetes.io/instance": format!("release-{n}")});
            event["requestObject"]["metadata"]["labels"] = labels.clone();
            event["responseObject"]["metadata"]["labels"] = labels;
        }),
    ];
    let server = Server::start(context, &[])?.ready()?;
    for (name, change) in changes {
        let mut war = War::new(name);
        let turns: i64 = 40;
        let lines: Vec<String> = (0..turns)
            .map(|n| {
                let mut event = war.turn(now() - (turns - n) * SECOND).event();
                if n % 2 == 1 {
                    change(&mut event, n);
                }
                event.to_string()
            })
            .collect();
        server.post("/audit", &lines)?;
        check(&server, report, name, "data.v")?;
    }
    Ok(())
}
