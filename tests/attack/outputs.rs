//! Terminal control sequences and other harmful characters in names and values, in all outputs.

use std::process::Output;
use std::time::Duration;

use serde_json::json;

use crate::events::{SECOND, War, now};
use crate::outcome::Kind::Beside;
use crate::outcome::{Attack, Context, Outcome, Report, control};
use crate::server::{self, HONEST, Server, ask, pause, request};

pub(crate) const ATTACKS: &[Attack] = &[
    Attack {
        name: "outputs/characters",
        promise: "no output has control, bidi, invisible or tag characters from input",
        kind: Beside,
        run: characters,
    },
    Attack {
        name: "outputs/characters-in-the-log",
        promise: "no log line has control, bidi, invisible or tag characters from input",
        kind: Beside,
        run: logged,
    },
];

/// Characters that a terminal interprets, hides, or uses to change the text direction.
const NASTY: &str = "a\u{1b}]0;x\u{7}b\u{9b}31mc\u{202e}d\u{2066}e\u{200b}f\u{200f}g\u{feff}h\u{2028}i\u{e0041}j\u{ad}k\u{85}l\u{2029}m\u{61c}n\u{180e}o\u{fff9}p\rq\u{8}r";

/// Returns the names of such characters in an output.
fn nasty_in(bytes: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(bytes);
    let is_nasty = |c: &char| {
        matches!(*c, '\0'..='\u{8}' | '\u{b}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
    };
    let mut found: Vec<String> = text.chars().filter(is_nasty).map(|c| format!("U+{:04X}", c as u32)).collect();
    found.sort();
    found.dedup();
    found
}

/// A war with such characters wherever clients can choose text.
fn nasty_war() -> Vec<String> {
    let name = format!("n-{NASTY}");
    let mut war = War::new(&name);
    war.actors = [format!("alice{NASTY}"), format!("bob{NASTY}")];
    (0..16)
        .map(|n| {
            let mut write = war.turn(now() - (16 - n) * 2 * SECOND);
            write.agent = format!("agent{NASTY}/v1");
            let data = json!({"data": {format!("k{NASTY}"): format!("{}{NASTY}", n % 2)}});
            (write.patch, write.stored) = (data.clone(), data);
            let mut event = write.event();
            event["requestURI"] = format!("/api/v1/x?fieldManager=m{NASTY}").into();
            event["sourceIPs"] = json!([NASTY]);
            event.to_string()
        })
        .collect()
}

fn characters(context: &Context, report: &mut Report) -> Outcome {
    let folder = context.folder("doors-characters");
    std::fs::write(folder.join("audit.log"), nasty_war().join("\n"))?;
    let server = Server::start(context, &[])?.ready()?;
    server.post("/audit", &nasty_war())?;
    let url = format!("http://{}", server.admin);
    let mut check = |what: &str, output: Output| -> Outcome {
        control(
            !output.stdout.is_empty(),
            format!("{what} prints something: {}", String::from_utf8_lossy(&output.stderr).trim()),
        )?;
        let found = nasty_in(&[output.stdout, output.stderr].concat());
        report.promise(found.is_empty(), format!("{what} prints {}", found.join(" ")));
        Ok(())
    };
    for form in ["table", "wide", "json", "yaml", "markdown"] {
        check(&format!("analyze -o {form}"), server::run(context, &["analyze", "-o", form, "audit.log"], &folder)?)?;
        check(&format!("wars -o {form}"), server::run(context, &["wars", "-o", form, "--server", &url], &folder)?)?;
    }
    let name = format!("configmap/n-{NASTY}");
    for form in ["table", "wide", "json", "yaml", "markdown"] {
        let output = server::run(context, &["who", &name, "-n", "shop", "-o", form, "audit.log"], &folder)?;
        if output.status.code() != Some(2) {
            check(&format!("who -o {form}"), output)?;
        }
    }
    let simulated = server::run(context, &["simulate", "audit.log"], &folder)?;
    if simulated.status.code() != Some(2) {
        check("simulate", simulated)?;
    }
    // Responses that people read with curl.
    for path in ["/api/v1/wars", "/metrics"] {
        let found = nasty_in(server.get(path)?.body.as_bytes());
        report.promise(found.is_empty(), format!("GET {path} has {}", found.join(" ")));
    }
    Ok(())
}

/// Log output for hostile input.
fn logged(context: &Context, report: &mut Report) -> Outcome {
    let folder = context.folder("doors-logged");
    let log = folder.join("audit.log");
    std::fs::write(&log, nasty_war().join("\n"))?;
    let server = Server::start(context, &["--log-level", "debug", "--tail", &log.display().to_string()])?.ready()?;
    server.post("/audit", &nasty_war())?;
    for path in ["/audit/%1b%5d0%3b", "/\u{9b}31m", "/api/v1/objects/x/%c2%9b/%e2%80%ae"] {
        for to in [server.webhook, server.admin] {
            drop(ask(
                HONEST,
                to,
                &request("GET", path, "User-Agent: \u{9b}31m\u{202e}\r\n", b""),
                Duration::from_secs(5),
            ));
        }
    }
    pause(1000);
    let text = server.log();
    control(text.lines().count() > 2, "something is logged")?;
    let found = nasty_in(text.as_bytes());
    report.promise(found.is_empty(), format!("the log has {}", found.join(" ")));
    Ok(())
}
