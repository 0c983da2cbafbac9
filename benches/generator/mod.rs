//! Generates audit logs of any size from a seed: events of the recordings, in a realistic mix, for many objects.
//!
//! Every event was written by a real kube-apiserver, apart from audit ID, time, object name and revision.

#![allow(dead_code, reason = "each bench uses a part of it")]

use std::io::{self, Read, Write};

use editwar::audit::decode::{Decoded, decode};
use editwar::audit::event::{Micros, parse_timestamp};
use editwar::audit::json_scan::{member, members};

/// What to generate.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    /// Which recordings the events are taken from: those ending in `-metadata`, or those with bodies.
    pub(crate) level: Level,
    /// Percentage of reads.
    pub(crate) reads_percent: u64,
    /// Number of generated objects per recorded object.
    pub(crate) objects: u64,
    /// Events per second of event time.
    pub(crate) per_second: u64,
    /// Seed of the random numbers.
    pub(crate) seed: u64,
}

/// Audit level of the events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Level {
    /// Without bodies.
    Metadata,
    /// With both bodies.
    RequestResponse,
}

/// Generates an endless log.
pub(crate) struct Generator {
    mix: Mix,
    seed: u64,
    at: Micros,
    revision: u64,
    count: u64,
    reads: Vec<Template>,
    writes: Vec<Template>,
}

/// An event as a sequence of parts.
struct Template(Vec<Part>);

enum Part {
    Text(Vec<u8>),
    AuditId,
    Name,
    Replaced,
    Resulting,
    Received,
    Staged,
}

impl Default for Mix {
    fn default() -> Mix {
        Mix { level: Level::Metadata, reads_percent: 85, objects: 2_000, per_second: 2_000, seed: 1 }
    }
}

impl Generator {
    /// Creates a generator for this mix.
    pub(crate) fn new(mix: Mix) -> Generator {
        let names: &[&str] = match mix.level {
            Level::Metadata => &["hpa-vs-applier-metadata", "gitops-vs-kubectl-metadata", "oddities-metadata"],
            Level::RequestResponse => &["hpa-vs-applier", "gitops-vs-kubectl", "bootstrap"],
        };
        let (mut reads, mut writes) = (Vec::new(), Vec::new());
        for name in names {
            let path = format!("{}/fixtures/recordings/{name}/audit.log.gz", env!("CARGO_MANIFEST_DIR"));
            let file = std::fs::File::open(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
            let mut log = Vec::new();
            flate2::read::GzDecoder::new(file).read_to_end(&mut log).expect("the recording unpacks");
            for line in log.split(|b| *b == b'\n') {
                match decode(line) {
                    Ok(Decoded::Read(_)) => reads.push(Template::of(line)),
                    Ok(Decoded::Event(_)) => writes.push(Template::of(line)),
                    _ => {}
                }
            }
        }
        let at = parse_timestamp("2026-11-23T00:00:00.000000Z").expect("a time");
        Generator { mix, seed: mix.seed.wrapping_mul(2).wrapping_add(1), at, revision: 1_000, count: 0, reads, writes }
    }

    /// Appends one event, without a newline.
    pub(crate) fn event(&mut self, out: &mut Vec<u8>) {
        self.count += 1;
        self.at += (1_000_000 / self.mix.per_second.max(1)) as Micros;
        let is_read = self.next() % 100 < self.mix.reads_percent;
        let pick = self.next() as usize;
        // Squaring a uniform distribution makes few objects busy.
        let even = self.next() % self.mix.objects;
        let object = even * even / self.mix.objects;
        self.revision += 1;
        let (id, revision) = (self.next(), self.revision);
        let times = [self.at, self.at + 4_000].map(|at| {
            jiff::Timestamp::from_microsecond(at).map(|t| format!("{t:.6}")).expect("a time of this century")
        });
        let templates = if is_read { &self.reads } else { &self.writes };
        let template = &templates[pick % templates.len()];
        for part in &template.0 {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::AuditId => {
                    let (count, low) = (self.count as u32, id & 0xffff_ffff_ffff);
                    write!(out, "{count:08x}-6a51-4013-9a98-{low:012x}").expect("a Vec takes everything");
                }
                Part::Name => write!(out, "-{object}").expect("a Vec takes everything"),
                Part::Replaced => write!(out, "{}", revision - 1).expect("a Vec takes everything"),
                Part::Resulting => write!(out, "{revision}").expect("a Vec takes everything"),
                Part::Received => out.extend_from_slice(times[0].as_bytes()),
                Part::Staged => out.extend_from_slice(times[1].as_bytes()),
            }
        }
    }

    /// Appends an `EventList` of `events` events, as kube-apiserver posts it.
    pub(crate) fn event_list(&mut self, events: usize, out: &mut Vec<u8>) {
        const LINE: &[u8] = br#"{"kind":"Event","apiVersion":"audit.k8s.io/v1","#;
        out.extend_from_slice(br#"{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":["#);
        let mut line = Vec::new();
        for index in 0..events {
            line.clear();
            self.event(&mut line);
            out.extend_from_slice(if index == 0 { b"{" } else { b",{" });
            out.extend_from_slice(line.strip_prefix(LINE).expect("lines begin so"));
        }
        out.extend_from_slice(b"]}\n");
    }

    /// Writes lines until they have at least `bytes` bytes.
    pub(crate) fn write(&mut self, bytes: u64, out: &mut impl Write) -> io::Result<()> {
        let mut written = 0;
        let mut buffer = Vec::with_capacity(1 << 20);
        while written < bytes {
            buffer.clear();
            while buffer.len() < 1 << 20 && written + (buffer.len() as u64) < bytes {
                self.event(&mut buffer);
                buffer.push(b'\n');
            }
            out.write_all(&buffer)?;
            written += buffer.len() as u64;
        }
        Ok(())
    }

    fn next(&mut self) -> u64 {
        self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.seed >> 29
    }
}

impl Template {
    fn of(line: &[u8]) -> Template {
        let offset = |slice: &[u8]| slice.as_ptr() as usize - line.as_ptr() as usize;
        let inner = |raw: &[u8]| (offset(raw) + 1, raw.len().saturating_sub(2));
        let mut cuts: Vec<(usize, usize, Part)> = Vec::new();
        let mut cut = |raw: Option<&[u8]>, part: Part| {
            if let Some(raw) = raw.filter(|raw| raw.first() == Some(&b'"')) {
                let (at, len) = inner(raw);
                cuts.push((at, len, part));
            }
        };
        cut(member(line, "auditID"), Part::AuditId);
        cut(member(line, "requestReceivedTimestamp"), Part::Received);
        cut(member(line, "stageTimestamp"), Part::Staged);
        let reference = member(line, "objectRef");
        cut(reference.and_then(|r| member(r, "resourceVersion")), Part::Replaced);
        let stored = member(line, "responseObject").and_then(|body| member(body, "metadata"));
        cut(stored.and_then(|m| member(m, "resourceVersion")), Part::Resulting);
        // A number is appended to each occurrence of the name.
        let name = reference.and_then(|r| member(r, "name"));
        for raw in [name, stored.and_then(|m| member(m, "name"))].into_iter().flatten() {
            cuts.push((offset(raw) + raw.len() - 1, 0, Part::Name));
        }
        if let (Some(uri), Some(name)) = (member(line, "requestURI"), name) {
            let plain = &name[1..name.len() - 1];
            let found = uri.windows(plain.len() + 1).position(|w| w[0] == b'/' && &w[1..] == plain);
            cuts.extend(found.map(|at| (offset(uri) + at + 1 + plain.len(), 0, Part::Name)));
        }
        cuts.sort_by_key(|(at, ..)| *at);
        let mut parts = Vec::new();
        let mut from = 0;
        for (at, len, part) in cuts {
            parts.push(Part::Text(line[from..at].to_vec()));
            parts.push(part);
            from = at + len;
        }
        parts.push(Part::Text(line[from..].to_vec()));
        debug_assert!(members(line).count() > 0);
        Template(parts)
    }
}
