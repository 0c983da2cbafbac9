//! Requests that were not stored, by actor. They show contention and flapping admission, which are not wars but are
//! reported. (Hot loops are in `writer_stats`.)

use std::collections::BTreeMap;
use std::sync::Arc;

use super::actor::Client;
use super::bucket::RetakeBucket;
use super::policy::Limits;
use super::write::Outcome;
use crate::audit::event::Micros;

/// Maximum number of actors of one object whose failures are counted.
const ACTORS_MAX: usize = 16;
/// Maximum number of answers to one actor that are kept in order, to detect alternations and contention.
const ANSWERS_MAX: usize = 256;
/// Maximum number of bytes of a rejection's message that are kept.
const MESSAGE_BYTES_MAX: usize = 300;

/// The failed requests about one object, by actor.
#[derive(Clone, Debug, Default)]
pub struct Failures {
    /// Sorted by name. This is not a map, because the first node of a map has room for eleven entries, and most objects
    /// have one.
    actors: Vec<(Arc<str>, ActorFailures)>,
}

/// The failed requests of one actor about one object.
#[derive(Clone, Debug, Default)]
pub struct ActorFailures {
    /// Number of 409s because of a stale resourceVersion.
    pub stale: u32,
    /// Number of 409s of applies without force.
    pub apply_conflicts: u32,
    /// Number of rejections by admission.
    pub rejected: u32,
    /// Number of writes and no-ops that were accepted since the first rejection.
    pub accepted: u32,
    /// The webhooks and policies that rejected, with their last messages.
    pub rejections: BTreeMap<String, String>,
    /// Times of the first and the last conflict.
    pub conflicts_at: Option<(Micros, Micros)>,
    /// Times of the first and the last rejection.
    pub rejected_at: Option<(Micros, Micros)>,
    /// The latest answers, sorted by time.
    answers: Vec<AnsweredRequest>,
}

/// How one request ended.
#[derive(Clone, Copy, Debug)]
struct AnsweredRequest {
    at: Micros,
    /// The client of the actor. Parts of one program can conflict with each other too.
    client: u64,
    answer: Answer,
}

/// How a request ended, as far as contention and flapping depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Accepted,
    Rejected,
    Conflict,
}

// === impl Failures ===

impl Failures {
    /// Returns the approximate bytes of the failures.
    pub fn bytes(&self) -> usize {
        let of = |entry: &ActorFailures| {
            let rejections = entry.rejections.iter().map(|(by, words)| by.len() + words.len() + 64).sum::<usize>();
            size_of::<(Arc<str>, ActorFailures)>()
                + entry.answers.capacity() * size_of::<AnsweredRequest>()
                + rejections
        };
        self.actors.iter().map(|(_, entry)| of(entry)).sum()
    }

    /// Records a request that was not stored.
    pub fn record(&mut self, client: &Client, outcome: &Outcome<'_>, at: Micros) {
        let is_conflict = matches!(outcome, Outcome::Stale | Outcome::ApplyConflict);
        let Some(entry) = self.entry(&client.actor) else { return };
        let stretch = |span: &mut Option<(Micros, Micros)>| {
            let (first, last) = span.unwrap_or((at, at));
            *span = Some((first.min(at), last.max(at)));
        };
        match outcome {
            Outcome::Stale => entry.stale += 1,
            Outcome::ApplyConflict => entry.apply_conflicts += 1,
            Outcome::Rejected { by, message } => {
                entry.rejected += 1;
                stretch(&mut entry.rejected_at);
                let end = (0..=message.len().min(MESSAGE_BYTES_MAX)).rev().find(|i| message.is_char_boundary(*i));
                let words = &message[..end.unwrap_or(0)];
                if entry.rejections.len() < ACTORS_MAX || entry.rejections.contains_key(by.as_ref()) {
                    entry.rejections.insert(by.to_string(), words.to_owned());
                }
                entry.push_answer(client, at, Answer::Rejected);
            }
            Outcome::Committed | Outcome::Failed | Outcome::Uncertain => {}
        }
        if is_conflict {
            stretch(&mut entry.conflicts_at);
            entry.push_answer(client, at, Answer::Conflict);
        }
    }

    /// Records a request that was stored, if requests of the same actor failed before.
    pub fn record_accepted(&mut self, client: &Client, at: Micros) {
        if let Ok(index) = self.find(&client.actor) {
            let (_, entry) = &mut self.actors[index];
            entry.accepted += u32::from(entry.rejected > 0);
            entry.push_answer(client, at, Answer::Accepted);
        }
    }

    /// Whether the conflicts of an actor exceed the limit. Every controller gets a 409 now and then and succeeds with the
    /// next attempt, so only attempts that fail again count.
    pub fn is_contended(&self, limits: &Limits) -> bool {
        self.actors.iter().any(|(_, entry)| entry.is_contended(limits))
    }

    /// Returns the time of the last failure.
    pub fn last_at(&self) -> Micros {
        let spans = self.actors.iter().flat_map(|(_, t)| [t.conflicts_at, t.rejected_at]).flatten();
        spans.map(|(_, last)| last).max().unwrap_or(i64::MIN)
    }

    /// Returns the actors with their failures.
    pub fn actors(&self) -> impl Iterator<Item = (&Arc<str>, &ActorFailures)> {
        self.actors.iter().map(|(actor, entry)| (actor, entry))
    }

    fn find(&self, actor: &Arc<str>) -> Result<usize, usize> {
        self.actors.binary_search_by(|(known, _)| known.cmp(actor))
    }

    fn entry(&mut self, actor: &Arc<str>) -> Option<&mut ActorFailures> {
        let index = match self.find(actor) {
            Ok(index) => index,
            Err(_) if self.actors.len() >= ACTORS_MAX => return None,
            Err(index) => {
                self.actors.reserve_exact(1);
                self.actors.insert(index, (actor.clone(), ActorFailures::default()));
                index
            }
        };
        Some(&mut self.actors[index].1)
    }
}

// === impl ActorFailures ===

impl ActorFailures {
    /// Returns how often the answers changed between accepted and rejected.
    pub fn alternations(&self) -> u32 {
        let mut answers =
            self.answers.iter().map(|answered| answered.answer).filter(|answer| *answer != Answer::Conflict);
        let mut last = answers.next();
        answers.filter(|answer| last.replace(*answer) != Some(*answer)).count() as u32
    }

    fn is_contended(&self, limits: &Limits) -> bool {
        let mut bucket = RetakeBucket::default();
        let mut losers: Vec<u64> = Vec::new();
        self.answers.iter().any(|AnsweredRequest { at, client, answer }| {
            let known = losers.iter().position(|loser| loser == client);
            match (answer, known) {
                (Answer::Conflict, Some(_)) => return !bucket.take(&limits.contention, *at),
                (Answer::Conflict, None) => losers.push(*client),
                (_, Some(index)) => {
                    losers.swap_remove(index);
                }
                (_, None) => {}
            }
            false
        })
    }

    fn push_answer(&mut self, client: &Client, at: Micros, answer: Answer) {
        let position = self.answers.iter().rposition(|answered| answered.at <= at).map_or(0, |i| i + 1);
        self.answers.insert(position, AnsweredRequest { at, client: client.id, answer });
        if self.answers.len() > ANSWERS_MAX {
            self.answers.remove(0);
        }
    }
}

#[cfg(test)]
#[path = "failures/tests.rs"]
mod tests;
