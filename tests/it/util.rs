//! Fixtures, and helpers that run the engine over them.

use std::io::Read;
use std::path::PathBuf;

use editwar::audit::decoded_chunk::DecodedChunk;
use editwar::detect::actor_class::ActorClassifier;
use editwar::detect::policy::Policy;
use editwar::pipeline::{Bounds, Pipeline};
use editwar::query::reporter::Reporter;
use editwar::query::views::{Filter, Report};

/// Returns the path of a file or directory in the repository.
pub(crate) fn path(below: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(below)
}

/// Returns the names of all recordings.
pub(crate) fn recordings() -> Vec<String> {
    let entries = std::fs::read_dir(path("fixtures/recordings")).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(names.len() >= 16, "the recordings are gone: {names:?}");
    names
}

/// Returns the recordings of up to 6 MiB, or of up to 10 MiB if `EDITWAR_SEEDS` is set. Tests can read these many
/// times. The largest recordings would take minutes, and contain nothing that the others do not.
pub(crate) fn smaller_recordings() -> Vec<String> {
    let max = if std::env::var_os("EDITWAR_SEEDS").is_some() { 10 << 20 } else { 6 << 20 };
    let mut names = recordings();
    names.retain(|name| log(name).len() <= max);
    assert!(names.len() >= 25, "{names:?}");
    names
}

/// Returns the decompressed log of a recording.
pub(crate) fn log(recording: &str) -> Vec<u8> {
    unpacked(&format!("fixtures/recordings/{recording}/audit.log.gz"))
}

/// Returns the decompressed content of a file in the repository.
pub(crate) fn unpacked(below: &str) -> Vec<u8> {
    let file = std::fs::File::open(path(below)).unwrap();
    let mut text = Vec::new();
    flate2::read::GzDecoder::new(file).read_to_end(&mut text).unwrap();
    text
}

/// Returns the lines of a log.
pub(crate) fn lines(log: &[u8]) -> Vec<&[u8]> {
    log.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect()
}

/// Returns a pipeline that has ingested these lines in this order.
pub(crate) fn pipeline_of<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Pipeline {
    let pipeline = Pipeline::new(Policy::default(), Bounds::default());
    let mut batch = pipeline.batch("", "test");
    for (number, line) in lines.into_iter().enumerate() {
        batch.ingest(&DecodedChunk::of(line, false, Vec::new()), number as u64);
    }
    drop(batch);
    pipeline
}

/// Returns everything that was found in a pipeline.
pub(crate) fn report(pipeline: &Pipeline) -> Report {
    Reporter::new(pipeline, &ActorClassifier::default()).report(&Filter::default())
}

/// Formats an object as `deployments.apps shop/web`.
pub(crate) fn name(object: &editwar::query::views::Object) -> String {
    let group = if object.group.is_empty() { String::new() } else { format!(".{}", object.group) };
    format!("{}{group} {}/{}", object.resource, object.namespace, object.name)
}

/// The audit policy of the tests' API servers: it logs changes with bodies, and omits resources that are not contested.
pub(crate) const POLICY: &str = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived, ResponseStarted]
rules:
- {level: None, resources: [{group: coordination.k8s.io}, {group: '', resources: [events]}, {group: events.k8s.io}]}
- {level: Metadata, resources: [{group: '', resources: [secrets]}]}
- {level: RequestResponse, verbs: [create, update, patch, delete, deletecollection]}
- {level: Metadata}
";

/// Waits for something that happens soon.
pub(crate) fn until(what: &str, is_so: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !is_so() {
        assert!(started.elapsed() < std::time::Duration::from_secs(30), "not in time: {what}");
        crate::envtest::pause(1);
    }
}
