//! Plain files whose chunks are read as ranges: nothing is lost, repeated or out of order, whatever the lines are like.

use std::fs::File;
use std::io::Write;
use std::num::NonZeroUsize;
use std::sync::Arc;

use proptest::prelude::*;

use super::{Consumer, Error, Input, read};
use crate::audit::decoded_chunk::DecodedChunk;
use crate::audit::event::Micros;

/// Lengths of lines: reads, writes, bodies, and lines that are longer than a chunk, or than what is searched for a line.
const LENGTHS: [usize; 6] = [300, 900, 5_000, 70_000, 300_000, 700_000];

/// Collects the times of all events, by input, in the order of their delivery.
#[derive(Default)]
struct Collector {
    events: Vec<(usize, Micros)>,
    /// Number of lines that came before, as the reader counts them.
    before: Vec<(usize, u64, u64)>,
    broken: Vec<String>,
    /// Called before the first chunk is ingested.
    at_first: Option<Box<dyn FnOnce() + Send>>,
}

impl Consumer for Collector {
    fn ingest(&mut self, input: usize, chunk: &DecodedChunk<'_>, before: u64) {
        if let Some(run) = self.at_first.take() {
            run();
        }
        assert!(chunk.malformed.is_empty(), "{:?}", chunk.malformed);
        self.before.push((input, before, chunk.positions));
        self.events.extend(chunk.all_times().into_iter().map(|at| (input, at)));
    }

    fn broken(&mut self, error: Error) {
        self.broken.push(error.to_string());
    }
}

fn line(at: Micros, len: usize) -> String {
    let time = jiff::Timestamp::from_microsecond(at).unwrap();
    format!(
        r#"{{"kind":"Event","apiVersion":"audit.k8s.io/v1","level":"Metadata","auditID":"a","stage":"ResponseComplete","requestURI":"/{}","verb":"get","user":{{}},"requestReceivedTimestamp":"{time:.6}","stageTimestamp":"{time:.6}"}}"#,
        "x".repeat(len.saturating_sub(250))
    )
}

/// Writes a log. Each line has a time after the previous one, in milliseconds, and a length.
fn log(lines: &[(u16, usize)], ends_in_newline: bool) -> (Input, Vec<Micros>, tempfile::NamedTempFile) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let (mut at, mut times) = (1_796_000_000_000_000, Vec::new());
    let mut text = Vec::new();
    for (step, len) in lines {
        at += Micros::from(*step) * 1_000;
        times.push(at);
        text.push(line(at, *len));
    }
    file.write_all(text.join("\n").as_bytes()).unwrap();
    if ends_in_newline {
        file.write_all(b"\n").unwrap();
    }
    (Input::File(file.path().to_owned()), times, file)
}

fn collected(inputs: &[Input], workers: usize) -> Collector {
    let mut collector = Collector::default();
    read(inputs, NonZeroUsize::new(workers).unwrap(), &Arc::default(), &mut collector);
    collector
}

fn lines() -> impl Strategy<Value = Vec<(u16, usize)>> {
    // Most lines are short, as in a log; some files have many long ones.
    let len = prop_oneof![20 => Just(LENGTHS[0]), 20 => Just(LENGTHS[1]), 8 => Just(LENGTHS[2]), 2 => prop::sample::select(&LENGTHS[..])];
    let step = prop_oneof![20 => 0..5_u16, 1 => 0..3_000_u16];
    prop::collection::vec((step, len), 1..1_500)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_line_is_delivered_once_and_in_order(logs in prop::collection::vec((lines(), any::<bool>()), 1..4)) {
        let logs: Vec<_> = logs.iter().map(|(lines, ends)| log(lines, *ends)).collect();
        let inputs: Vec<Input> = logs.iter().map(|(input, ..)| input.clone()).collect();
        let alone = collected(&inputs, 1);
        prop_assert!(alone.broken.is_empty(), "{:?}", alone.broken);
        for (index, (_, times, _)) in logs.iter().enumerate() {
            let found: Vec<Micros> = alone.events.iter().filter(|(input, _)| *input == index).map(|(_, at)| *at).collect();
            prop_assert_eq!(&found, times);
            let mut lines = 0;
            for (_, before, positions) in alone.before.iter().filter(|(input, ..)| *input == index) {
                prop_assert_eq!(*before, lines);
                lines += positions;
            }
        }
        let together = collected(&inputs, 3);
        prop_assert_eq!(&together.events, &alone.events);
        prop_assert_eq!(&together.before, &alone.before);
    }
}

#[test]
fn a_file_that_is_truncated_while_it_is_read_is_an_error_and_nothing_behind_it_counts() {
    for workers in [1, 2, 8] {
        let (input, times, file) = log(&vec![(1, 900); 40_000], true);
        let handle = File::options().write(true).open(file.path()).unwrap();
        let len = handle.metadata().unwrap().len();
        let mut collector =
            Collector { at_first: Some(Box::new(move || handle.set_len(len / 2).unwrap())), ..Collector::default() };
        read(&[input], NonZeroUsize::new(workers).unwrap(), &Arc::default(), &mut collector);
        let [error] = collector.broken.as_slice() else { panic!("{workers} workers: {:?}", collector.broken) };
        assert!(error.ends_with("the file was truncated while it was read"), "{error}");
        let found: Vec<Micros> = collector.events.iter().map(|(_, at)| *at).collect();
        // All lines before the end are known, but for the one that was cut.
        assert!(times.starts_with(&found), "{workers} workers");
        let whole_lines = times.len() / 2;
        assert!((whole_lines - 1..=whole_lines).contains(&found.len()), "{workers} workers: {} events", found.len());
    }
}

#[test]
fn a_line_of_another_format_in_the_middle_of_a_file_is_converted() {
    let (input, mut times, mut file) = log(&vec![(1, 900); 2_000], true);
    let at = times.last().unwrap() + 1_000;
    let wrapped = format!(r#"{{"log":{},"stream":"stdout"}}"#, serde_json::Value::from(line(at, 900) + "\n"));
    for _ in 0..1_000 {
        writeln!(file, "{wrapped}").unwrap();
        times.push(at);
    }
    for workers in [1, 3] {
        let found: Vec<Micros> =
            collected(std::slice::from_ref(&input), workers).events.iter().map(|(_, at)| *at).collect();
        assert_eq!(found, times, "{workers} workers");
    }
}
