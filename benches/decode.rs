//! Decoding of bytes to events: one line, a batch as kube-apiserver posts it, and logs in the formats of clouds and shippers.

mod generator;
#[path = "../tests/it/wrappers.rs"]
#[allow(clippy::unwrap_used, dead_code, reason = "tests use the rest of it")]
mod wrappers;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use editwar::audit::decode::{decode, plain};
use editwar::audit::decoded_chunk::DecodedChunk;
use editwar::audit::envelope::{self, Converter};
use generator::{Generator, Level, Mix};

// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn decoders(criterion: &mut Criterion) {
    for level in [Level::Metadata, Level::RequestResponse] {
        let mut log = Vec::new();
        Generator::new(Mix { level, ..Mix::default() }).write(4 << 20, &mut log).expect("a Vec takes everything");
        let lines: Vec<&[u8]> = log.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
        let mut group = criterion.benchmark_group(format!("decode/{level:?}"));
        group.throughput(Throughput::Elements(lines.len() as u64));
        group.bench_function("in use", |b| {
            b.iter(|| lines.iter().filter(|line| decode(black_box(line)).is_ok()).count());
        });
        group.bench_function("plain", |b| {
            b.iter(|| lines.iter().filter(|line| plain::decode(black_box(line)).is_ok()).count());
        });
        let mut body = Vec::new();
        Generator::new(Mix { level, ..Mix::default() }).event_list(400, &mut body);
        group.throughput(Throughput::Elements(400));
        group.bench_function("a batch of 400", |b| {
            b.iter(|| {
                let mut events = 0;
                envelope::values(black_box(&body), |event| events += usize::from(event.is_ok()));
                events
            });
        });
    }
}

/// Conversion to lines, and decoding of the lines. The throughput is that of the wrapped log, uncompressed.
fn converters(criterion: &mut Criterion) {
    let mut log = Vec::new();
    Generator::new(Mix { level: Level::RequestResponse, ..Mix::default() })
        .write(4 << 20, &mut log)
        .expect("a Vec takes everything");
    let text = std::str::from_utf8(&log).expect("the log is JSON");
    let events: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let mut group = criterion.benchmark_group("convert");
    // Wrapping takes longer than measuring.
    let wanted = std::env::args().find_map(|arg| arg.strip_prefix("convert/").map(String::from)).unwrap_or_default();
    for (name, _, wrap) in wrappers::WRAPPERS.iter().filter(|(name, ..)| name.contains(&wanted)) {
        let wrapped = wrap(&events);
        // Files decompress elsewhere.
        if wrapped.starts_with(&[0x1f, 0x8b]) {
            continue;
        }
        // Of formats with compressed parts, the bytes of the events.
        group.throughput(Throughput::Bytes(wrapped.len().max(log.len()) as u64));
        let mut lines = Vec::new();
        group.bench_function(*name, |b| {
            b.iter(|| {
                lines.clear();
                Converter::new().convert(black_box(&wrapped), true, &mut lines);
                DecodedChunk::of(&lines, false, Vec::new()).events.len()
            });
        });
    }
}

criterion_group!(benches, decoders, converters);
criterion_main!(benches);
