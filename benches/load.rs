//! Load test of the webhook. It posts as kube-apiserver does: EventLists of 400 events, several at once, over TLS, with
//! retries after errors.
//!
//! `cargo bench --bench load -- --seconds 10` starts a server of its own; `--url`, `--ca` and `--pid` use another one.
//! Every event is new: its audit ID and times are set before it is sent.

mod generator;

use std::io::{self, BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use clap::Parser;
use generator::{Generator, Level, Mix};
use http_body_util::{BodyExt, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Events per batch; the default of kube-apiserver's `--audit-webhook-batch-max-size`.
const BATCH: usize = 400;
/// Number of different batches. The others differ from these only in IDs and times.
const BODIES: u64 = 64;
/// Number of attempts per batch, as in kube-apiserver.
const ATTEMPTS: u32 = 5;
/// Delay before the second attempt. kube-apiserver waits ten seconds, longer than most runs take.
const BACKOFF: Duration = Duration::from_millis(200);
/// Clock ticks per second in `/proc/PID/stat`, on every Linux system in use.
const TICKS: f64 = 100.0;

#[derive(Debug, Parser)]
struct Args {
    /// URL to post to. Without it, a server is started.
    #[arg(long)]
    url: Option<String>,
    /// Certificate to trust for the server.
    #[arg(long)]
    ca: Option<PathBuf>,
    /// Process ID of the server, to measure its CPU time and memory.
    #[arg(long)]
    pid: Option<u32>,
    /// Duration of the run.
    #[arg(long, default_value_t = 1)]
    seconds: u64,
    /// Number of API servers. Each has its own connections.
    #[arg(long, default_value_t = 1)]
    servers: usize,
    /// Batches in flight per API server.
    #[arg(long, default_value_t = 4)]
    in_flight: usize,
    /// Total events per second. Without it, as many as the server accepts.
    #[arg(long)]
    rate: Option<u64>,
    /// Use HTTP/1.1 instead of HTTP/2.
    #[arg(long)]
    http1: bool,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let args = Args::parse();
    rustls::crypto::ring::default_provider().install_default().ok();
    let own = args.url.is_none().then(Server::start).transpose()?;
    let (url, ca, pid) = match &own {
        Some(server) => (server.url.clone(), Some(server.ca.clone()), Some(server.child.id())),
        None => (args.url.clone().unwrap_or_default(), args.ca.clone(), args.pid),
    };
    let line = tokio::runtime::Runtime::new()?.block_on(load(&args, &url, ca, pid))?;
    writeln!(io::stdout(), "{line}")?;
    Ok(())
}

/// Posts until the time is over, and returns a summary.
async fn load(args: &Args, url: &str, ca: Option<PathBuf>, pid: Option<u32>) -> Result<String> {
    let work = Arc::new(Work::new(args.rate));
    let before = pid.map(Usage::of).transpose()?;
    let started = Instant::now();
    let until = started + Duration::from_secs(args.seconds);
    let mut senders = tokio::task::JoinSet::new();
    for _ in 0..args.servers {
        let client = client(args.http1, ca.as_ref())?;
        for _ in 0..args.in_flight {
            let (client, work, url) = (client.clone(), work.clone(), url.parse()?);
            senders.spawn(async move { work.send(&client, &url, started, until).await });
        }
    }
    let mut all = Tally::default();
    for tally in senders.join_all().await {
        all.add(tally?);
    }
    let elapsed = started.elapsed().as_secs_f64();
    all.acks.sort_unstable();
    let quantile = |q: f64| all.acks.get(((all.acks.len() as f64 * q) as usize).min(all.acks.len().saturating_sub(1)));
    let ms = |q| quantile(q).map_or(0.0, Duration::as_secs_f64) * 1e3;
    let events = (all.acks.len() * BATCH) as f64;
    let protocol = if args.http1 { "HTTP/1.1" } else { "HTTP/2" };
    let mut line = format!(
        "{protocol}: {:.0} events/s, ack p50 {:.1} ms, p99 {:.1} ms, {} attempts repeated, {} batches lost",
        events / elapsed,
        ms(0.5),
        ms(0.99),
        all.repeated,
        all.lost
    );
    if let (Some(before), Some(after)) = (before, pid.map(Usage::of).transpose()?) {
        let cpu = after.cpu_seconds - before.cpu_seconds;
        line += &format!(
            "; server {:.2} cores, {:.0} events per CPU-second, {} MiB at most",
            cpu / elapsed,
            events / cpu.max(1.0 / TICKS),
            after.peak_kib >> 10
        );
    }
    Ok(line)
}

type Http = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// Creates the HTTP client of one API server.
fn client(is_http1: bool, ca: Option<&PathBuf>) -> Result<Http> {
    let mut roots = rustls::RootCertStore::empty();
    if let Some(path) = ca {
        roots.add(CertificateDer::from_pem_file(path).with_context(|| path.display().to_string())?)?;
    }
    let config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    // As in Go's client.
    tcp.set_nodelay(true);
    let builder = HttpsConnectorBuilder::new().with_tls_config(config).https_or_http();
    let connector =
        if is_http1 { builder.enable_http1().wrap_connector(tcp) } else { builder.enable_http2().wrap_connector(tcp) };
    Ok(Client::builder(TokioExecutor::new()).http2_only(!is_http1).build(connector))
}

/// The batches to send.
struct Work {
    bodies: Vec<Body>,
    next: AtomicU64,
    rate: Option<u64>,
}

/// An `EventList`, and the positions at which each copy differs.
struct Body {
    bytes: Vec<u8>,
    ids: Vec<usize>,
    received: Vec<usize>,
    staged: Vec<usize>,
}

/// Results of batches.
#[derive(Default)]
struct Tally {
    acks: Vec<Duration>,
    repeated: u64,
    lost: u64,
}

// === impl Work ===

impl Work {
    fn new(rate: Option<u64>) -> Work {
        let mut generator = Generator::new(Mix { level: Level::Metadata, ..Mix::default() });
        let body = |_| {
            let mut bytes = Vec::new();
            generator.event_list(BATCH, &mut bytes);
            let all =
                |key: &str| -> Vec<usize> { memchr::memmem::find_iter(&bytes, key).map(|at| at + key.len()).collect() };
            let ids = all(r#""auditID":""#);
            let (received, staged) = (all(r#""requestReceivedTimestamp":""#), all(r#""stageTimestamp":""#));
            Body { bytes, ids, received, staged }
        };
        Work { bodies: (0..BODIES).map(body).collect(), next: AtomicU64::new(0), rate }
    }

    /// Sends batches until the time is over.
    async fn send(&self, client: &Http, url: &hyper::Uri, started: Instant, until: Instant) -> Result<Tally> {
        let mut tally = Tally::default();
        loop {
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            // Latency counts from when the batch was due, even if it is sent late.
            let mut since = Instant::now();
            if let Some(rate) = self.rate {
                since = started + Duration::from_secs_f64((number * BATCH as u64) as f64 / rate as f64);
                tokio::time::sleep_until(since.into()).await;
            }
            if Instant::now() >= until {
                return Ok(tally);
            }
            let body = Bytes::from(self.bodies[(number % BODIES) as usize].numbered(number));
            let mut backoff = BACKOFF;
            let mut attempts = 1;
            let is_acknowledged = loop {
                if is_taken(client, url, body.clone()).await? {
                    break true;
                }
                if attempts == ATTEMPTS {
                    break false;
                }
                tokio::time::sleep(backoff).await;
                backoff = backoff.mul_f64(1.5);
                tally.repeated += 1;
                attempts += 1;
            };
            if is_acknowledged { tally.acks.push(since.elapsed()) } else { tally.lost += 1 }
        }
    }
}

/// Posts a batch. Returns whether the response was a success.
async fn is_taken(client: &Http, url: &hyper::Uri, body: Bytes) -> Result<bool> {
    let request = hyper::Request::post(url.clone())
        .header("content-type", "application/json")
        .header("user-agent", "kube-apiserver-admission")
        .body(Full::new(body))?;
    let Ok(response) = client.request(request).await else { return Ok(false) };
    let status = response.status();
    Ok(response.into_body().collect().await.is_ok() && status.is_success())
}

// === impl Body ===

impl Body {
    /// Returns batch number `number`, with unique events.
    fn numbered(&self, number: u64) -> Vec<u8> {
        let mut bytes = self.bytes.clone();
        for (index, at) in self.ids.iter().enumerate() {
            let id = (number as u32).wrapping_mul(BATCH as u32).wrapping_add(index as u32);
            for (digit, byte) in bytes[*at..at + 8].iter_mut().enumerate() {
                *byte = b"0123456789abcdef"[(id >> (28 - 4 * digit)) as usize & 15];
            }
        }
        // Batches are 0.1 s of event time apart.
        let time = |ms: u64| {
            let at = jiff::Timestamp::from_millisecond(1_790_000_000_000 + (number * 100 + ms) as i64);
            at.map(|at| format!("{at:.6}")).expect("a time of this century")
        };
        for (places, time) in [(&self.received, time(0)), (&self.staged, time(4))] {
            places.iter().for_each(|at| bytes[*at..at + time.len()].copy_from_slice(time.as_bytes()));
        }
        bytes
    }
}

// === impl Tally ===

impl Tally {
    fn add(&mut self, other: Tally) {
        self.acks.extend(other.acks);
        self.repeated += other.repeated;
        self.lost += other.lost;
    }
}

/// Resource usage of a process so far.
struct Usage {
    cpu_seconds: f64,
    peak_kib: u64,
}

impl Usage {
    fn of(pid: u32) -> Result<Usage> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, fields) = stat.rsplit_once(") ").context("a process has a name")?;
        let ticks: u64 = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let peak_kib = peak.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        Ok(Usage { cpu_seconds: ticks as f64 / TICKS, peak_kib })
    }
}

/// A server that runs until it is dropped.
struct Server {
    child: Child,
    url: String,
    ca: PathBuf,
}

impl Server {
    fn start() -> Result<Server> {
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("load");
        std::fs::create_dir_all(&folder)?;
        let pair = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()])?;
        let (ca, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        std::fs::write(&ca, pair.cert.pem())?;
        std::fs::write(&key, pair.signing_key.serialize_pem())?;
        let tls = format!("webhook.tls={{cert: {}, key: {}}}", ca.display(), key.display());
        let mut child = Command::new(env!("CARGO_BIN_EXE_editwar"))
            .args(["serve", "--listen", "127.0.0.1:0", "--webhook-listen", "127.0.0.1:0", "--set", &tls])
            .current_dir(&folder)
            .stderr(Stdio::piped())
            .spawn()?;
        let mut lines = BufReader::new(child.stderr.take().context("its log is piped")?).lines();
        let address = lines.by_ref().find_map(|line| {
            let line: serde_json::Value = serde_json::from_str(&line.ok()?).ok()?;
            Some(line["webhook"].as_str()?.to_owned())
        });
        let address = address.context("the server did not start")?;
        std::thread::spawn(move || lines.for_each(drop));
        let port = address.trim_end_matches("/audit").rsplit(':').next().context("the address has a port")?;
        Ok(Server { url: format!("https://localhost:{port}/audit"), child, ca })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
