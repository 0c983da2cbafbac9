//! Cost of many objects: time per write and memory, as the number of objects grows and as objects come and go.
//!
//! With `cargo bench --bench scale -- --objects 1000000 --actors 2`, each actor writes to every object once, one actor
//! after the other, and then the last actor does so again. With `--churn 10000000`, one actor writes to that many
//! objects, once each.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Parser;
use editwar::audit::decoded_chunk::DecodedChunk;
use editwar::detect::policy::Policy;
use editwar::pipeline::{Bounds, Pipeline};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Number of writes that are generated, decoded and ingested at a time.
const BATCH: u64 = 2_000;
/// Event time between two writes, in microseconds: 500 writes per second, as in a very large cluster.
const STEP: u64 = 2_000;

#[derive(Debug, Parser)]
struct Args {
    /// Number of objects.
    #[arg(long, default_value_t = 10_000)]
    objects: u64,
    /// Number of actors that write to each object.
    #[arg(long, default_value_t = 2)]
    actors: u64,
    /// Instead, the number of objects that come and go.
    #[arg(long)]
    churn: Option<u64>,
    /// Passed by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// A cluster in which nothing but writes happens.
struct Cluster {
    pipeline: Pipeline,
    writes: u64,
}

fn main() -> Result<()> {
    let args = Args::parse();
    let mut cluster = Cluster { pipeline: Pipeline::new(Policy::default(), Bounds::default()), writes: 0 };
    let empty = resident_kib()?;
    if let Some(churn) = args.churn {
        for part in 1..=5 {
            let (from, to) = (churn * (part - 1) / 5, churn * part / 5);
            let took = cluster.write(from..to, 0);
            report(&cluster, to, took / (to - from).max(1) as u32, empty)?;
        }
        return Ok(());
    }
    for actor in 0..args.actors {
        let took = cluster.write(0..args.objects, actor);
        report(&cluster, args.objects, took / args.objects as u32, empty)?;
    }
    // Writes of known actors to known objects, enough of them to be measurable.
    let rounds = (200_000 / args.objects).max(1);
    let last = args.actors.saturating_sub(1);
    let took: Duration = (0..rounds).map(|_| cluster.write(0..args.objects, last)).sum();
    report(&cluster, args.objects, took / (rounds * args.objects) as u32, empty)
}

fn report(cluster: &Cluster, written: u64, per_write: Duration, empty_kib: u64) -> Result<()> {
    writeln!(
        io::stdout(),
        "{written} objects written to, {} tracked: {} ns a write, {} MiB more than at the start, {} MiB counted",
        cluster.pipeline.table().len(),
        per_write.as_nanos(),
        resident_kib()?.saturating_sub(empty_kib) >> 10,
        cluster.pipeline.table().bytes() >> 20
    )?;
    Ok(())
}

// === impl Cluster ===

impl Cluster {
    /// Writes to each object once, in pseudo-random order. Returns the time for ingestion.
    fn write(&mut self, objects: std::ops::Range<u64>, actor: u64) -> Duration {
        let len = objects.end - objects.start;
        let mut took = Duration::ZERO;
        let mut at = 0;
        while at < len {
            let batch = BATCH.min(len - at);
            let mut log = String::new();
            for place in at..at + batch {
                // An odd stride visits each object once.
                let object = objects.start + place.wrapping_mul(7_368_787) % len;
                self.line(&mut log, object, actor);
            }
            let run = DecodedChunk::of(log.as_bytes(), false, Vec::new());
            assert_eq!(run.events.len() as u64, batch, "every line is a write");
            let begun = Instant::now();
            self.pipeline.batch("", "scale").ingest(&run, 0);
            took += begun.elapsed();
            at += batch;
        }
        took
    }

    fn line(&mut self, log: &mut String, object: u64, actor: u64) {
        self.writes += 1;
        let at = jiff::Timestamp::from_microsecond((1_795_400_000_000_000 + self.writes * STEP) as i64);
        let at = at.expect("a time of this century");
        let writes = self.writes;
        let space = object % 500;
        *log += &format!(
            r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"{writes:08x}-6a51-4013-9a98-{object:012x}","stage":"ResponseComplete","requestURI":"/api/v1/namespaces/team-{space}/configmaps/settings-{object}?fieldManager=actor-{actor}","#
        );
        *log += &format!(
            r#""verb":"patch","user":{{"username":"system:serviceaccount:team:actor-{actor}","groups":["system:authenticated"]}},"sourceIPs":["10.0.0.{actor}"],"userAgent":"actor-{actor}/v1.2.3 (linux/amd64)","#
        );
        *log += &format!(
            r#""objectRef":{{"resource":"configmaps","namespace":"team-{space}","name":"settings-{object}","apiVersion":"v1"}},"responseStatus":{{"metadata":{{}},"code":200}},"requestReceivedTimestamp":"{at:.6}","stageTimestamp":"{at:.6}"}}"#
        );
        log.push('\n');
    }
}

/// Returns the resident memory of this process.
fn resident_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("Linux tells the memory in use")?;
    Ok(line.split_whitespace().next().context("a number")?.parse()?)
}
