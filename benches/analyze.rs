//! Runs `editwar analyze` as a process on a generated log, end to end.

mod generator;

use std::path::PathBuf;
use std::process::{Command, Stdio};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use generator::{Generator, Level, Mix};

const BYTES: u64 = 64 << 20;

fn analyze(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("analyze");
    group.throughput(Throughput::Bytes(BYTES)).sample_size(10);
    for level in [Level::Metadata, Level::RequestResponse] {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("bench-{level:?}.log"));
        let mut file = std::fs::File::create(&path).expect("the target folder can be written to");
        Generator::new(Mix { level, ..Mix::default() }).write(BYTES, &mut file).expect("the log is written");
        group.bench_function(format!("{level:?}"), |b| {
            b.iter(|| {
                let status = Command::new(env!("CARGO_BIN_EXE_editwar"))
                    .args(["analyze", "-q", "-o", "json"])
                    .arg(&path)
                    .stdout(Stdio::null())
                    .status();
                assert!(status.expect("it runs").code().is_some_and(|code| code < 2));
            });
        });
        std::fs::remove_file(&path).expect("it was just written");
    }
}

criterion_group!(benches, analyze);
criterion_main!(benches);
