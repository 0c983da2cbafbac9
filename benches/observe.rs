//! Event to verdict: decoded writes, ingested by a pipeline that tracks 100,000 objects.

mod generator;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use editwar::audit::decoded_chunk::DecodedChunk;
use editwar::detect::policy::Policy;
use editwar::pipeline::{Bounds, Pipeline};
use generator::{Generator, Mix};

const WRITES: usize = 100_000;

fn observe(criterion: &mut Criterion) {
    let mut generator = Generator::new(Mix { reads_percent: 0, objects: 1_000, ..Mix::default() });
    let mut writes = || {
        let mut log = Vec::new();
        for _ in 0..WRITES {
            generator.event(&mut log);
            log.push(b'\n');
        }
        log
    };
    let (known, new) = (writes(), writes());
    let [known, new] = [&known, &new].map(|log| DecodedChunk::of(log, false, Vec::new()));
    let mut group = criterion.benchmark_group("observe");
    group.throughput(Throughput::Elements(new.events.len() as u64)).sample_size(10);
    group.bench_function("writes", |b| {
        let take = |pipeline: Pipeline, run: &DecodedChunk<'_>| {
            pipeline.batch("", "test").run(run, 0);
            pipeline
        };
        let warm = || take(Pipeline::new(Policy::default(), Bounds::default()), &known);
        b.iter_batched(warm, |pipeline| take(pipeline, &new), BatchSize::PerIteration);
    });
}

criterion_group!(benches, observe);
criterion_main!(benches);
