//! Decoding of bytes to events: one line, and a batch as kube-apiserver posts it.

mod generator;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use editwar::audit::decode::{decode, plain};
use editwar::audit::envelope;
use generator::{Generator, Level, Mix};

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

criterion_group!(benches, decoders);
criterion_main!(benches);
