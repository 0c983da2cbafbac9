//! All events of any body or line are processed or counted, by the envelope and by the whole pipeline.
#![no_main]

use editwar::audit::decoded_chunk::DecodedChunk;
use editwar::detect::policy::Policy;
use editwar::pipeline::{Bounds, Pipeline};

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let bounds = Bounds { objects_max: 8, body_bytes_max: 1 << 12, requests_max: 64, ..Bounds::default() };
    let pipeline = Pipeline::new(Policy::default(), bounds);
    let mut batch = pipeline.batch("", "fuzz");
    batch.ingest(&DecodedChunk::of_values(text), 0);
    batch.ingest(&DecodedChunk::of(text, false, Vec::new()), 0);
    drop(batch);
    assert!(pipeline.table().len() <= 9);
});
