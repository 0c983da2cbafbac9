//! Event to verdict: writes that were decoded before, taken in by a pipeline that knows 100,000 objects.

mod generator;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use editwar::audit::decode::{Decoded, decode};
use editwar::detect::policy::Policy;
use editwar::pipeline::{Bounds, Pipeline};
use generator::{Generator, Mix};

const WRITES: usize = 100_000;

fn observe(criterion: &mut Criterion) {
    let mut lines = Vec::with_capacity(2 * WRITES);
    let mut generator = Generator::new(Mix { reads_percent: 0, objects: 1_000, ..Mix::default() });
    for _ in 0..2 * WRITES {
        let mut line = Vec::new();
        generator.event(&mut line);
        lines.push(line);
    }
    let decoded: Vec<Decoded<'_>> = lines.iter().filter_map(|line| decode(line).ok()).collect();
    let (known, new) = decoded.split_at(WRITES);
    let mut group = criterion.benchmark_group("observe");
    group.throughput(Throughput::Elements(WRITES as u64)).sample_size(10);
    group.bench_function("writes", |b| {
        let warm = || {
            let pipeline = Pipeline::new(Policy::default(), Bounds::default());
            let mut batch = pipeline.batch("", "test");
            known.iter().for_each(|event| batch.take(Ok(event.clone()), 0));
            drop(batch);
            (pipeline, new.to_vec())
        };
        b.iter_batched(
            warm,
            |(pipeline, new)| {
                let mut batch = pipeline.batch("", "test");
                new.into_iter().for_each(|event| batch.take(Ok(event), 0));
                drop(batch);
                pipeline
            },
            BatchSize::PerIteration,
        );
    });
}

criterion_group!(benches, observe);
criterion_main!(benches);
