//! `editwar analyze --explain-input`: says what each input is, before anything is concluded from it.

use std::fmt::Write as _;
use std::io::Write as _;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use serde::Serialize;

use super::Outcome;
use super::args::{Format, LogArgs};
use super::output::{self, clean};
use super::style::clock;
use crate::audit::decoded_chunk::DecodedChunk;
use crate::audit::envelope::Sample;
use crate::audit::event::{Event, Level, Micros};
use crate::ingest::files::{self, Input};
use crate::pipeline::feed::Feed;
use crate::query::views;

/// The name of kube-apiserver's own formats, which are not converted.
const NATIVE: &str = "audit.k8s.io";

/// What an input is.
#[derive(Debug, Default, Serialize)]
struct Explanation {
    input: String,
    /// Number of events by format.
    formats: std::collections::BTreeMap<String, u64>,
    /// Times of the first and the last event.
    #[serde(with = "views::time_option")]
    first: Option<Micros>,
    #[serde(with = "views::time_option")]
    last: Option<Micros>,
    /// Finished requests that write, by audit level.
    metadata: u64,
    request: u64,
    request_response: u64,
    /// Finished requests that read.
    reads: u64,
    /// Events of stages that do not end a request.
    unfinished: u64,
    /// Log entries about something else.
    other: u64,
    /// What could not be read, by reason.
    malformed: std::collections::BTreeMap<String, u64>,
    /// The first JSON of no known format: its line, and some of its keys.
    unknown: Option<Sample>,
    /// Why the input could not be read to its end.
    error: Option<String>,
    /// What is missing, as sentences.
    missing: Vec<String>,
    #[serde(skip)]
    feed: Feed,
}

/// Runs `editwar analyze --explain-input`.
///
/// # Errors
/// No input, or a path that does not exist.
pub(super) fn run(paths: &[PathBuf], args: &LogArgs) -> Result<Outcome> {
    let inputs = files::inputs(paths)?;
    let explained: Vec<Explanation> = inputs.iter().map(explain).collect();
    let mut stdout = anstream::stdout().lock();
    match args.output {
        Format::Json => write!(stdout, "{}", output::json(&explained)?)?,
        Format::Yaml => write!(stdout, "{}", output::yaml(&explained)?)?,
        Format::Jsonl => write!(stdout, "{}", output::json_lines(&explained)?)?,
        Format::Table | Format::Wide => {
            write!(stdout, "{}", explained.iter().map(Explanation::text).collect::<Vec<_>>().join("\n"))?
        }
        Format::Csv | Format::Name | Format::Markdown => {
            bail!("--explain-input has the formats table, json, jsonl and yaml")
        }
    }
    let is_usable = explained.iter().any(|input| input.events() > 0);
    Ok(if is_usable { Outcome::Calm } else { Outcome::Unusable })
}

fn explain(input: &Input) -> Explanation {
    let mut explanation = Explanation { input: input.name(), ..Explanation::default() };
    let inputs = std::slice::from_ref(input);
    files::read(inputs, NonZeroUsize::MIN, &Arc::default(), &mut explanation);
    explanation.conclude();
    explanation
}

// === impl Explanation ===

impl files::Consumer for Explanation {
    fn ingest(&mut self, _: usize, chunk: &DecodedChunk<'_>, _: u64) {
        self.reads += chunk.reads;
        self.unfinished += chunk.unfinished;
        for (reason, (count, _)) in &chunk.malformed {
            *self.malformed.entry((*reason).to_owned()).or_default() += count;
        }
        if let Some(notes) = &chunk.notes {
            self.feed.notes(notes);
        }
        for event in &chunk.events {
            self.event(event);
        }
        let times = || chunk.times.iter().copied();
        self.first = times().chain(self.first).min();
        self.last = times().chain(self.last).max();
    }

    fn broken(&mut self, error: files::Error) {
        self.error = Some(error.to_string());
    }
}

impl Explanation {
    fn event(&mut self, event: &Event<'_>) {
        if Feed::concerns(event) {
            self.feed.record(event);
        }
        // The object before a reviewed write does not count as a write.
        if event.is_reviewed() && event.username.is_empty() {
            return;
        }
        match event.level {
            Level::Metadata => self.metadata += 1,
            Level::Request => self.request += 1,
            Level::RequestResponse => self.request_response += 1,
        }
    }

    fn writes(&self) -> u64 {
        self.metadata + self.request + self.request_response
    }

    fn events(&self) -> u64 {
        self.writes() + self.reads + self.unfinished
    }

    fn conclude(&mut self) {
        let notes = std::mem::take(&mut self.feed.notes);
        let converted: u64 = notes.formats.values().sum();
        self.formats.clone_from(&notes.formats);
        if converted == 0 && self.events() > 0 {
            self.formats.insert(NATIVE.to_owned(), self.events());
        }
        self.other = notes.other;
        if notes.unknown > 0 {
            self.malformed.insert("unknown_format".to_owned(), notes.unknown);
            self.unknown.clone_from(&notes.sample);
        }
        self.feed.notes(&notes);
        if self.events() == 0 {
            self.missing.push("It has no audit events.".to_owned());
            return;
        }
        if self.writes() == 0 {
            self.missing.push("It has no writes: an audit policy or an export may leave them out.".to_owned());
        }
        if self.metadata > 0 && self.metadata == self.writes() {
            self.missing
                .push("No write has a body (all are at level Metadata): fields and values are unknown.".to_owned());
        } else if self.metadata > 0 {
            self.missing.push(format!("{} writes have no body: their fields and values are unknown.", self.metadata));
        }
        if self.request > 0 {
            self.missing.push(format!(
                "{} writes have no response: what they changed follows from the requests.",
                self.request
            ));
        }
        if self.reads == 0 {
            self.missing.push("It has no reads, so that a quiet time and a gap in the log look alike.".to_owned());
        }
        self.missing.extend(self.feed.caveats());
    }

    fn text(&self) -> String {
        let mut out = format!("{}\n", clean(&self.input));
        for (format, count) in &self.formats {
            let _ = writeln!(out, "  Format:   {} ({} events)", clean(format), count);
        }
        if let (Some(first), Some(last)) = (self.first, self.last) {
            let _ = writeln!(out, "  Times:    {} to {}", clock(first), clock(last));
        }
        if self.writes() > 0 {
            let levels =
                [(self.request_response, "RequestResponse"), (self.request, "Request"), (self.metadata, "Metadata")];
            let levels: Vec<String> = levels
                .iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, level)| format!("{count} {level}"))
                .collect();
            let _ = writeln!(out, "  Writes:   {} ({})", self.writes(), levels.join(", "));
        }
        if self.events() > 0 {
            let _ = writeln!(
                out,
                "  Reads:    {}, and {} events of stages that do not end a request",
                self.reads, self.unfinished
            );
        }
        if self.other > 0 {
            let _ = writeln!(out, "  Other:    {} log entries about something else", self.other);
        }
        for (reason, count) in &self.malformed {
            let sample = self.unknown.as_ref().filter(|_| reason == "unknown_format");
            let sample = sample.map(|s| format!(", the first in line {}, with the keys {}", s.line, clean(&s.keys)));
            let _ = writeln!(out, "  Not read: {count} {reason}{}", sample.unwrap_or_default());
        }
        if let Some(error) = &self.error {
            let _ = writeln!(out, "  Error:    {}; only the data before it was read", clean(error));
        }
        for text in &self.missing {
            let _ = writeln!(out, "  Missing:  {}", clean(text));
        }
        out
    }
}
