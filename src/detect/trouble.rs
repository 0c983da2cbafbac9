//! Not a war, but named: contention and flapping admission, by actor. (Hot loops: `seen`.)

use std::collections::BTreeMap;
use std::sync::Arc;

use super::actor::Client;
use super::bucket::RetakeBucket;
use super::policy::Limits;
use super::write::Outcome;
use crate::audit::event::Micros;

/// Actors of one object whose troubles are followed.
const ACTORS_MAX: usize = 16;
/// Answers of one actor that are kept in order, to count turns.
const ANSWERS_MAX: usize = 256;
/// Bytes of a refusal's message that are kept.
const MESSAGE_BYTES_MAX: usize = 300;

/// What went wrong around one object, by actor.
#[derive(Clone, Debug, Default)]
pub struct Troubles {
    /// By name. A map's first node would have room for eleven, and most objects have one.
    actors: Vec<(Arc<str>, Trouble)>,
}

/// One actor's troubles with one object.
#[derive(Clone, Debug, Default)]
pub struct Trouble {
    /// 409s on a stale resourceVersion.
    pub stale: u32,
    /// 409s of applies without force.
    pub apply_conflicts: u32,
    /// Refusals by admission.
    pub rejected: u32,
    /// Writes and no-ops that were accepted since the first refusal.
    pub accepted: u32,
    /// Requests that may or may not have been stored.
    pub uncertain: u32,
    /// Who refused, and the last thing it said.
    pub refusals: BTreeMap<String, String>,
    /// First and last conflict.
    pub conflicts_at: Option<(Micros, Micros)>,
    /// First and last refusal.
    pub rejected_at: Option<(Micros, Micros)>,
    /// The latest answers, by time.
    answers: Vec<Answered>,
}

/// How one request ended.
#[derive(Clone, Copy, Debug)]
struct Answered {
    at: Micros,
    /// Which client of the actor asked: the parts of one program race with each other too.
    client: u64,
    answer: Answer,
}

/// How a request ended, as far as it tells contention and flapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Accepted,
    Rejected,
    Conflict,
}

// === impl Troubles ===

impl Troubles {
    /// Bytes that they take, roughly.
    pub fn bytes(&self) -> usize {
        let of = |trouble: &Trouble| {
            let refusals = trouble.refusals.iter().map(|(by, words)| by.len() + words.len() + 64).sum::<usize>();
            size_of::<(Arc<str>, Trouble)>() + trouble.answers.capacity() * size_of::<Answered>() + refusals
        };
        self.actors.iter().map(|(_, trouble)| of(trouble)).sum()
    }

    /// Notes a request that was not stored.
    pub fn note(&mut self, client: &Client, outcome: &Outcome<'_>, at: Micros) {
        let is_conflict = matches!(outcome, Outcome::Stale | Outcome::ApplyConflict);
        let Some(trouble) = self.of(&client.actor) else { return };
        let stretch = |span: &mut Option<(Micros, Micros)>| {
            let (first, last) = span.unwrap_or((at, at));
            *span = Some((first.min(at), last.max(at)));
        };
        match outcome {
            Outcome::Stale => trouble.stale += 1,
            Outcome::ApplyConflict => trouble.apply_conflicts += 1,
            Outcome::Uncertain => trouble.uncertain += 1,
            Outcome::Rejected { by, message } => {
                trouble.rejected += 1;
                stretch(&mut trouble.rejected_at);
                let end = (0..=message.len().min(MESSAGE_BYTES_MAX)).rev().find(|i| message.is_char_boundary(*i));
                let words = &message[..end.unwrap_or(0)];
                if trouble.refusals.len() < ACTORS_MAX || trouble.refusals.contains_key(by.as_ref()) {
                    trouble.refusals.insert(by.to_string(), words.to_owned());
                }
                trouble.answer(client, at, Answer::Rejected);
            }
            Outcome::Committed | Outcome::Failed => {}
        }
        if is_conflict {
            stretch(&mut trouble.conflicts_at);
            trouble.answer(client, at, Answer::Conflict);
        }
    }

    /// Notes a request that was stored, by an actor that was refused before or lost a race.
    pub fn accepted(&mut self, client: &Client, at: Micros) {
        if let Ok(index) = self.find(&client.actor) {
            let (_, trouble) = &mut self.actors[index];
            trouble.accepted += u32::from(trouble.rejected > 0);
            trouble.answer(client, at, Answer::Accepted);
        }
    }

    /// Whether an actor keeps losing: one 409 is routine where the next try succeeds, as every controller's does now and
    /// then. What counts are the tries that failed again, and of these more than the limit allows.
    pub fn is_contended(&self, limits: &Limits) -> bool {
        self.actors.iter().any(|(_, trouble)| trouble.keeps_losing(limits))
    }

    /// When the last of them was.
    pub fn last_at(&self) -> Micros {
        let spans = self.actors.iter().flat_map(|(_, t)| [t.conflicts_at, t.rejected_at]).flatten();
        spans.map(|(_, last)| last).max().unwrap_or(i64::MIN)
    }

    /// The actors and their troubles.
    pub fn actors(&self) -> impl Iterator<Item = (&Arc<str>, &Trouble)> {
        self.actors.iter().map(|(actor, trouble)| (actor, trouble))
    }

    fn find(&self, actor: &Arc<str>) -> Result<usize, usize> {
        self.actors.binary_search_by(|(known, _)| known.cmp(actor))
    }

    fn of(&mut self, actor: &Arc<str>) -> Option<&mut Trouble> {
        let index = match self.find(actor) {
            Ok(index) => index,
            Err(_) if self.actors.len() >= ACTORS_MAX => return None,
            Err(index) => {
                self.actors.reserve_exact(1);
                self.actors.insert(index, (actor.clone(), Trouble::default()));
                index
            }
        };
        Some(&mut self.actors[index].1)
    }
}

// === impl Trouble ===

impl Trouble {
    /// How often accepted followed rejected or the other way round, in order of time.
    pub fn turns(&self) -> u32 {
        let mut answers =
            self.answers.iter().map(|answered| answered.answer).filter(|answer| *answer != Answer::Conflict);
        let mut last = answers.next();
        answers.filter(|answer| last.replace(*answer) != Some(*answer)).count() as u32
    }

    fn keeps_losing(&self, limits: &Limits) -> bool {
        let mut bucket = RetakeBucket::default();
        let mut losers: Vec<u64> = Vec::new();
        self.answers.iter().any(|Answered { at, client, answer }| {
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

    fn answer(&mut self, client: &Client, at: Micros, answer: Answer) {
        let place = self.answers.iter().rposition(|answered| answered.at <= at).map_or(0, |i| i + 1);
        self.answers.insert(place, Answered { at, client: client.id, answer });
        if self.answers.len() > ANSWERS_MAX {
            self.answers.remove(0);
        }
    }
}

#[cfg(test)]
#[path = "trouble/tests.rs"]
mod tests;
