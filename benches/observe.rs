//! Event to verdict: decoded writes, ingested by a pipeline that tracks 100,000 objects; and the decision that a reconciler
//! is given about one of them.

mod generator;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use editwar::audit::decoded_chunk::DecodedChunk;
use editwar::detect::actor_class::ActorClassifier;
use editwar::detect::policy::Policy;
use editwar::detect::write::classify_write;
use editwar::pipeline::key::ObjectKey;
use editwar::pipeline::{Bounds, Pipeline};
use editwar::query::api::Api;
use editwar::telemetry::metrics::{self, Metrics};
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
            pipeline.batch("", "test").ingest(run, 0);
            pipeline
        };
        let warm = || take(Pipeline::new(Policy::default(), Bounds::default()), &known);
        b.iter_batched(warm, |pipeline| take(pipeline, &new), BatchSize::PerIteration);
    });
    group.finish();

    let pipeline = Arc::new(Pipeline::new(Policy::default(), Bounds::default()));
    pipeline.batch("", "test").ingest(&known, 0);
    let keys = known.events.iter().filter_map(|event| Some(ObjectKey::new("", &classify_write(event).ok()?.object)));
    let keys: Vec<ObjectKey> = keys.collect();
    let bounds = metrics::SeriesLimits { max_objects: 10, max_actors_per_object: 10, ttl: Duration::from_secs(60) };
    let api = Api::new(pipeline, Arc::new(ActorClassifier::default()), Metrics::new(bounds));
    let mut next = keys.iter().cycle();
    criterion
        .bench_function("decision", |b| b.iter(|| black_box(api.decision(next.next().expect("there are writes")))));
}

criterion_group!(benches, observe);
criterion_main!(benches);
