//! `editwar demo`: a server on loopback that receives recordings of real clusters through its webhook, faster than they happened.
//!
//! Verdicts depend on the times of events, so these must pass as fast as in the recordings, relative to each other. The
//! times of all events are moved so that the last one happens when it is posted: the first ones are some minutes old,
//! and none is in the future.

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use flate2::read::GzDecoder;
use http_body_util::Full;
use hyper::Request;
use hyper::header::CONTENT_TYPE;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use super::args::DemoArgs;
use super::{Outcome, server};
use crate::audit::event::{Micros, parse_timestamp};
use crate::config::Config;
use crate::query::api::PresentTime;
use crate::query::views::time;
use crate::telemetry::logs;
use crate::util::clock;

/// How much faster the recordings pass.
const SPEED: i64 = 8;
/// Time between two batches.
const EVERY: Duration = Duration::from_millis(250);
/// Time between two reads that keep the time of events going when the recordings have ended.
const ALIVE: Duration = Duration::from_secs(2);
/// How long the webhook may be unreachable.
const UNREACHABLE_MAX: Duration = Duration::from_secs(30);
const SECOND: Micros = 1_000_000;

/// A recording, and the cluster that it is shown as.
struct Recording {
    cluster: &'static str,
    /// When it begins, in seconds of its own time.
    begins: i64,
    /// What happens in it.
    story: &'static str,
    log: &'static [u8],
}

macro_rules! recording {
    ($name:literal) => {
        include_bytes!(concat!("../../fixtures/recordings/", $name, "/audit.log.gz"))
    };
}

static RECORDINGS: [Recording; 5] = [
    Recording {
        cluster: "production",
        begins: 0,
        story: "Flux and a person set spec.replicas of a Deployment. It goes on",
        log: recording!("flux-vs-alice"),
    },
    Recording {
        cluster: "staging",
        begins: 40,
        story: "an operator and an autoscaler set spec.replicas. It ends when the Deployment is deleted",
        log: recording!("hpa-vs-applier"),
    },
    Recording {
        cluster: "edge",
        begins: 240,
        story: "people edit the same ConfigMap by hand",
        log: recording!("gitops-vs-kubectl"),
    },
    Recording {
        cluster: "lab",
        begins: 100,
        story: "peace: a quota is enforced while Pods come and go",
        log: recording!("quota-peace"),
    },
    Recording {
        cluster: "lab",
        begins: 360,
        story: "an admission policy rejects every other write",
        log: recording!("flapping-webhook"),
    },
];

/// Events of one cluster, in the order of their times.
struct Feed {
    cluster: &'static str,
    /// The time of each event after the beginning of the demo, and the event.
    events: Vec<(Micros, Value)>,
    posted: usize,
}

/// Runs `editwar demo` until it is stopped by a signal.
///
/// # Errors
/// No address can be bound.
pub(super) fn run(args: &DemoArgs) -> Result<Outcome> {
    let journal = tempfile::tempdir().context("a directory for the journal")?;
    let mut config = Config::default();
    config.admin.listen = match args.port {
        Some(port) => SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        None => free(config.admin.listen)?,
    };
    config.webhook.listen = free(config.webhook.listen)?;
    config.journal.path = Some(journal.path().join("journal"));
    let page = format!("http://{}/", config.admin.listen);
    let webhook = config.webhook.listen;
    let feeds: Vec<Feed> = RECORDINGS.iter().map(Feed::of).collect::<Result<_>>()?;
    let end = feeds.iter().filter_map(|feed| feed.events.last()).map(|(at, _)| *at).max().unwrap_or(0);

    let log_levels = logs::start("error")?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("editwar").build()?;
    let is_opened = !args.no_open;
    runtime.spawn(async move {
        if let Err(error) = replay(feeds, end, webhook, &page, is_opened).await {
            anstream::eprintln!("editwar: the demo has stopped: {error:#}");
        }
    });
    let served = runtime.block_on(server::serve(config, log_levels.clone(), PresentTime::LatestEvent));
    log_levels.stop();
    served?;
    Ok(Outcome::Calm)
}

/// Returns this address if it is free, or else the same one with another port.
fn free(address: SocketAddr) -> Result<SocketAddr> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = TcpListener::bind(address).or_else(|_| TcpListener::bind(any)).context("no free port")?;
    Ok(listener.local_addr()?)
}

/// Posts the events when they are due. When all are posted, keeps the time of events going.
async fn replay(mut feeds: Vec<Feed>, end: Micros, webhook: SocketAddr, page: &str, opens: bool) -> Result<()> {
    let client = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
    let post = async |cluster: &str, events: &[Value]| -> Result<()> {
        let list = json!({"kind": "EventList", "apiVersion": "audit.k8s.io/v1", "items": events});
        let body = Bytes::from(serde_json::to_vec(&list)?);
        let started = Instant::now();
        loop {
            let request = Request::post(format!("http://{webhook}/audit/{cluster}"))
                .header(CONTENT_TYPE, "application/json")
                .body(Full::new(body.clone()))?;
            match client.request(request).await {
                Ok(answer) if answer.status().is_success() => return Ok(()),
                Ok(answer) => bail!("the webhook answered {}", answer.status()),
                // The server is starting or stopping.
                Err(_) if started.elapsed() < UNREACHABLE_MAX => tokio::time::sleep(EVERY).await,
                Err(error) => return Err(error.into()),
            }
        }
    };
    introduce(page, end)?;
    if opens {
        open(page);
    }
    let started = Instant::now();
    // The last event happens when it is posted.
    let first = clock::now() + end / SPEED - end;
    loop {
        let elapsed = i64::try_from(started.elapsed().as_micros()).unwrap_or(i64::MAX).saturating_mul(SPEED);
        for feed in &mut feeds {
            let due = feed.due(elapsed, first);
            if !due.is_empty() {
                post(feed.cluster, &due).await?;
            }
        }
        if elapsed >= end {
            break;
        }
        tokio::time::sleep(EVERY).await;
    }
    anstream::eprintln!(
        "The recordings have ended; from now on, time passes as usual, and without writes the wars end."
    );
    for number in 0.. {
        for feed in &feeds {
            post(feed.cluster, &[read(number, feed.cluster)]).await?;
        }
        tokio::time::sleep(ALIVE).await;
    }
    Ok(())
}

fn introduce(page: &str, end: Micros) -> Result<()> {
    let mut stderr = anstream::stderr().lock();
    writeln!(stderr, "Recordings of real clusters, {SPEED} times as fast, for {} s:", end / SPEED / SECOND)?;
    for Recording { cluster, begins, story, .. } in &RECORDINGS {
        writeln!(stderr, "  {cluster:<10}  from second {:>2}: {story}.", begins / SPEED)?;
    }
    writeln!(stderr, "The page: {page}\nIn another terminal: editwar wars --server {}", page.trim_end_matches('/'))?;
    writeln!(stderr, "Press Ctrl-C to stop.")?;
    Ok(())
}

/// Opens a page in the browser of the desktop, if there is one.
fn open(page: &str) {
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    let quiet = || std::process::Stdio::null();
    drop(std::process::Command::new(opener).arg(page).stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn());
}

/// Returns the event of a read at the present time.
fn read(number: u64, cluster: &str) -> Value {
    let now = time::text(clock::now());
    json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata", "stage": "ResponseComplete",
        "auditID": format!("demo-{cluster}-{number}"), "requestURI": "/version", "verb": "get",
        "user": {"username": "system:demo"}, "responseStatus": {"code": 200},
        "requestReceivedTimestamp": now, "stageTimestamp": now,
    })
}

// === impl Feed ===

impl Feed {
    fn of(recording: &Recording) -> Result<Feed> {
        let log = std::io::read_to_string(GzDecoder::new(recording.log))?;
        let mut events = Vec::new();
        for line in log.lines() {
            let event: Value = serde_json::from_str(line)?;
            let at = parse_timestamp(event["stageTimestamp"].as_str().unwrap_or_default()).context("a time")?;
            events.push((at, event));
        }
        events.sort_by_key(|(at, _)| *at);
        let begin = events.first().map_or(0, |(at, _)| *at) - recording.begins * SECOND;
        for (at, _) in &mut events {
            *at -= begin;
        }
        Ok(Feed { cluster: recording.cluster, events, posted: 0 })
    }

    /// Returns the events up to a time after the beginning that were not returned before, as if the demo had begun at `first`.
    fn due(&mut self, elapsed: Micros, first: Micros) -> Vec<Value> {
        let until = self.events.partition_point(|(at, _)| *at <= elapsed);
        let due = &mut self.events[self.posted.min(until)..until];
        self.posted = until;
        let moved = |(at, event): &mut (Micros, Value)| {
            let stage = *at + first;
            let received = parse_timestamp(event["requestReceivedTimestamp"].as_str().unwrap_or_default());
            let staged = parse_timestamp(event["stageTimestamp"].as_str().unwrap_or_default());
            let took = staged.zip(received).map_or(0, |(staged, received)| staged - received);
            let mut event = event.take();
            event["stageTimestamp"] = time::text(stage).into();
            event["requestReceivedTimestamp"] = time::text(stage - took).into();
            event
        };
        due.iter_mut().map(moved).collect()
    }
}
