//! The history of one field: its writers and values, and which writes are retakes.

use std::sync::Arc;

use smallvec::SmallVec;

use super::actor::Client;
use super::cooperation::{ACTIVATION, CONSUMED_MARK, CooperationRule, is_own_mark};
use super::fields::{Change, EvidenceLevel, FieldValue};
use super::instance::party;
use super::policy::ObjectLimits;
use super::war::{PartyTally, WarId};
use crate::audit::event::Micros;

/// Maximum number of values of one field that are counted separately.
const VALUES_MAX: usize = 16;
/// Maximum number of authors of one field that are tracked.
const AUTHORS_MAX: usize = 16;
/// Maximum number of parties of one field that are counted separately.
const PARTIES_MAX: usize = 16;
/// Maximum time after another actor's write at which a write counts as an answer to it. Controllers that watch an
/// object answer within a second or two, even if they are throttled; pipelines and people do not.
const ANSWER_MAX: Micros = 5_000_000;
/// Minimum number of answers of each side. Fewer can be a coincidence; more show that the sides react to each other.
const ANSWERS_MIN: u16 = 2;

/// The author and the time of one write.
#[derive(Clone, Debug)]
pub(super) struct Author {
    pub(super) client: Arc<Client>,
    pub(super) at: Micros,
    /// The number of the write among the object's writes.
    pub(super) seq: u32,
}

/// A tracked field.
#[derive(Clone, Debug)]
pub struct FieldHistory {
    writers: SmallVec<[Writer; 2]>,
    /// The values that the field was given, by client; `None` means that it was removed.
    pub values: Vec<ValueSeen>,
    initial: Option<FieldValue>,
    /// Number of retakes that count towards a war.
    pub retakes: u32,
    /// Number of these retakes that brought an earlier value back.
    pub reversals: u32,
    /// The parties, with their retakes.
    pub(super) parties: SmallVec<[(Arc<str>, PartyTally); 2]>,
    /// The war over the field.
    pub(super) war: Option<WarId>,
    /// Whether the last write brought an earlier value back.
    is_returned: bool,
    /// Whether the last write removed a value that its own author had set. If so, the next write does not
    /// overwrite a value.
    is_released: bool,
    /// Whether all values are notations of one value.
    is_one_form: bool,
    /// The author of the last write, if its value is not known.
    unseen: Option<Arc<Client>>,
    pub(super) last_at: Micros,
}

/// A value, and the client that wrote it.
#[derive(Clone, Debug, PartialEq)]
pub struct ValueSeen {
    /// The value; `None` if the field was removed.
    pub value: Option<FieldValue>,
    /// The client that wrote it.
    pub client: Arc<Client>,
    /// How often the client wrote it.
    pub count: u32,
}

/// The writes of one client to the field within the window.
#[derive(Clone, Debug)]
struct Writer {
    author: Author,
    /// The retakes of this client, and those of them that followed right after the write that they undo.
    retakes: u16,
    answers: u16,
    habits: Habits,
}

/// The kinds of changes that a client makes.
#[derive(Clone, Copy, Debug, Default)]
struct Habits {
    sets: bool,
    removes: bool,
    /// Number of changes between zero and a number above zero.
    switches: u16,
    /// Number of changes from one number above zero to another.
    scales: u16,
}

/// The effect of a write on a field's history.
pub(super) enum Step<'l> {
    /// Nothing to report.
    None,
    /// The write is a retake.
    Retake(Retake),
    /// The write would be a retake, but both actors write the field by design.
    Cooperation(&'l CooperationRule, Arc<Client>),
}

/// A retake, with its evidence level.
#[derive(Clone, Debug)]
pub(super) struct Retake {
    pub(super) level: EvidenceLevel,
    pub(super) is_reversal: bool,
    /// The party that retakes.
    pub(super) party: Arc<str>,
    /// The party whose write is undone.
    pub(super) from: Arc<str>,
    /// When the retaking party had last written the field.
    pub(super) since: Micros,
}

// === impl FieldHistory ===

impl FieldHistory {
    /// Returns the history of a field that changes for the first time. The value before the change is attributed to
    /// `creator`.
    pub(super) fn new(change: &Change, creator: Option<&Author>) -> FieldHistory {
        let mut field = FieldHistory {
            writers: SmallVec::new(),
            values: Vec::new(),
            initial: change.old.clone(),
            retakes: 0,
            reversals: 0,
            parties: SmallVec::new(),
            war: None,
            is_returned: false,
            is_released: false,
            is_one_form: true,
            unseen: None,
            last_at: i64::MIN,
        };
        field.begin_epoch(change, creator);
        field
    }

    /// Returns the history of a field whose last change was made by this author, and is undone by `change`.
    pub(super) fn undoing(change: &Change, author: &Author) -> FieldHistory {
        let is_opaque = change.is_opaque && change.old.is_none();
        let before = Change { old: change.new.clone(), new: change.old.clone(), is_opaque, ..change.clone() };
        let mut field = FieldHistory::new(&before, None);
        field.write(author, &before, Habits::of(&before));
        field
    }

    /// Returns the approximate bytes of the history.
    pub(super) fn bytes(&self) -> usize {
        let values = self.values.iter().filter_map(|seen| seen.value.as_ref()).map(FieldValue::bytes).sum::<usize>();
        let lists = self.values.capacity() * size_of::<ValueSeen>() + self.writers.len() * size_of::<Writer>();
        size_of::<FieldHistory>() + values + lists
    }

    /// Begins again with a new object of the same name: so far only the creator of that object has written the field.
    pub(super) fn begin_epoch(&mut self, change: &Change, creator: Option<&Author>) {
        self.writers.clear();
        self.initial = change.old.clone();
        (self.is_returned, self.is_released) = (false, false);
        if let Some(creator) = creator
            && change.old.is_some()
        {
            let creation = Change::new(&change.path, None, change.old.as_ref());
            self.write(creator, &creation, Habits::default());
        }
    }

    /// Whether the field was retaken.
    pub fn is_contested(&self) -> bool {
        self.retakes > 0
    }

    /// Whether all values are notations of one value, so that the war is only about the notation.
    pub fn is_over_form(&self) -> bool {
        self.is_one_form && !self.values.is_empty()
    }

    /// Returns the party of a client: the actor, or an instance of its account if the account fights itself.
    pub fn party_of(&self, client: &Client) -> Arc<str> {
        let instance = self.parties.iter().find(|(party, _)| **party != *client.actor && client.is_named(party));
        instance.map_or_else(|| client.actor.clone(), |(party, _)| party.clone())
    }

    /// Processes the next write in order.
    pub(super) fn step<'l>(
        &mut self,
        change: &Change,
        level: EvidenceLevel,
        author: &Author,
        on: &ObjectLimits<'l>,
    ) -> Step<'l> {
        let oldest = author.at.saturating_sub(on.limits.window());
        self.writers.retain(|w| w.author.at >= oldest);
        let is_known = !change.is_opaque;
        self.reveal(change);
        let is_returning =
            is_known && (self.initial == change.new || self.values.iter().any(|seen| seen.value == change.new));
        let was_returned = std::mem::replace(&mut self.is_returned, is_returning);
        let was_released = self.is_released;
        let last = self.writers.iter().max_by_key(|w| w.author.seq).cloned();
        self.is_released = is_known
            && change.new.is_none()
            && last.as_ref().is_some_and(|last| last.author.client.is_same_actor(&author.client) && last.habits.sets);
        let habits = Habits::of(change);
        let mut step = Step::None;
        if let Some(last) = last
            && let Some(since) = self.retaken_since(author, &last, is_returning)
            && !(was_released && change.new.is_some())
        {
            let is_answer = author.at.saturating_sub(last.author.at) <= ANSWER_MAX;
            let (mine, theirs) = (self.write(author, change, habits), self.index(&last.author.client));
            self.writers[mine].retakes = self.writers[mine].retakes.saturating_add(1);
            self.writers[mine].answers = self.writers[mine].answers.saturating_add(u16::from(is_answer));
            let theirs = theirs.map(|index| self.writers[index].clone()).unwrap_or(last);
            let mine = self.writers[mine].clone();
            if let Some(row) = cooperation(change, &mine, &theirs, on) {
                return Step::Cooperation(row, theirs.author.client);
            }
            let is_fight = !is_known
                || is_returning
                || was_returned
                || (mine.answers_back() && theirs.answers_back() && !change.is_monotonic());
            if is_fight
                && let (Some(party), Some(from)) =
                    (party(&author.client, &theirs.author.client), party(&theirs.author.client, &author.client))
            {
                self.retakes += 1;
                self.reversals += u32::from(is_returning);
                step = Step::Retake(Retake { level, is_reversal: is_returning, party, from, since });
            }
        } else {
            self.write(author, change, habits);
        }
        self.is_one_form &= match (&change.old, &change.new) {
            _ if change.is_opaque => true,
            (Some(old), Some(new)) => old.is_same_form(new),
            (None, Some(_)) => true,
            (_, None) => false,
        };
        step
    }

    /// Counts a retake for its party.
    pub(super) fn count(&mut self, retake: &Retake, is_thrashing: bool) {
        self.share(&retake.from);
        if let Some(share) = self.share(&retake.party) {
            share.retakes += 1;
            share.thrashing_events += u32::from(is_thrashing);
        }
    }

    fn share(&mut self, party: &Arc<str>) -> Option<&mut PartyTally> {
        let index = self.parties.iter().position(|(known, _)| known == party);
        if index.is_none() && self.parties.len() < PARTIES_MAX {
            self.parties.push((party.clone(), PartyTally::default()));
        }
        let index = index.unwrap_or(self.parties.len() - 1);
        self.parties.get_mut(index).filter(|(known, _)| known == party).map(|(_, share)| share)
    }

    /// Returns when the author wrote the field before `last` did. Returns `None` if it did not, or if the two cannot be
    /// opponents.
    fn retaken_since(&self, author: &Author, last: &Writer, is_returning: bool) -> Option<Micros> {
        let is_same_actor = author.client.is_same_actor(&last.author.client);
        let is_former = |w: &&Writer| {
            if is_same_actor { w.author.client == author.client } else { w.author.client.is_same_actor(&author.client) }
        };
        let since = self.writers.iter().filter(is_former).map(|w| w.author.at).max()?;
        // One account with two tools fights itself only if values return.
        let is_rival = !is_same_actor
            || (is_returning
                && author.client != last.author.client
                && party(&author.client, &last.author.client).is_some());
        is_rival.then_some(since)
    }

    fn index(&self, client: &Client) -> Option<usize> {
        self.writers.iter().position(|w| *w.author.client == *client)
    }

    /// Attributes the value before a change to the last writer, if that wrote a value that was not known.
    fn reveal(&mut self, change: &Change) {
        if let (Some(client), Some(old)) = (self.unseen.take(), &change.old) {
            self.record_value(&client, Some(old));
        }
    }

    fn record_value(&mut self, client: &Arc<Client>, value: Option<&FieldValue>) {
        let is_it = |s: &&mut ValueSeen| s.value.as_ref() == value && *s.client == **client;
        match self.values.iter_mut().find(is_it) {
            Some(seen) => seen.count += 1,
            None => {
                if self.values.len() >= VALUES_MAX
                    && let Some(rarest) = (0..self.values.len()).min_by_key(|i| self.values[*i].count)
                {
                    self.values.remove(rarest);
                }
                self.values.push(ValueSeen { value: value.cloned(), client: client.clone(), count: 1 });
            }
        }
    }

    /// Records a write and its value. Returns the index of its client in `writers`.
    fn write(&mut self, author: &Author, change: &Change, habits: Habits) -> usize {
        self.last_at = self.last_at.max(author.at);
        if change.is_opaque {
            self.unseen = Some(author.client.clone());
        } else {
            self.record_value(&author.client, change.new.as_ref());
        }
        if let Some(index) = self.index(&author.client) {
            let writer = &mut self.writers[index];
            writer.author = author.clone();
            writer.habits.add(habits);
            return index;
        }
        if self.writers.len() >= AUTHORS_MAX
            && let Some(oldest) = (0..self.writers.len()).min_by_key(|i| self.writers[*i].author.seq)
        {
            self.writers.remove(oldest);
        }
        self.writers.push(Writer { author: author.clone(), retakes: 0, answers: 0, habits });
        self.writers.len() - 1
    }
}

// === impl Writer ===

impl Writer {
    /// Whether at least half of its retakes follow right after the write that they undo.
    fn answers_back(&self) -> bool {
        self.answers >= ANSWERS_MIN && self.answers * 2 >= self.retakes
    }
}

// === impl Habits ===

impl Habits {
    fn of(change: &Change) -> Habits {
        let number = |value: &Option<FieldValue>| value.as_ref().and_then(FieldValue::number);
        let zeros = number(&change.old).zip(number(&change.new)).map(|(old, new)| (old == 0.0, new == 0.0));
        Habits {
            sets: change.new.is_some(),
            removes: change.new.is_none() && !change.is_opaque,
            switches: u16::from(zeros.is_some_and(|(old, new)| old != new)),
            scales: u16::from(zeros == Some((false, false))),
        }
    }

    fn add(&mut self, other: Habits) {
        self.sets |= other.sets;
        self.removes |= other.removes;
        self.switches = self.switches.saturating_add(other.switches);
        self.scales = self.scales.saturating_add(other.scales);
    }
}

/// Returns the co-operation by which both write the field, if there is one.
fn cooperation<'l>(change: &Change, a: &Writer, b: &Writer, on: &ObjectLimits<'l>) -> Option<&'l CooperationRule> {
    let known = &on.limits.cooperations;
    if let Some(row) = known.find(on.group, on.resource, &change.path, &a.author.client, &b.author.client) {
        return Some(row);
    }
    let is_replicas = change.path.ends_with("eplicas");
    // Tolerate some exceptions: a scaler sometimes acts before it has seen the other one's change.
    let switches = |w: &Writer| w.habits.switches > 0 && w.habits.scales <= w.habits.switches / 2;
    let scales = |w: &Writer| w.habits.scales > 0 && w.habits.switches <= w.habits.scales / 2;
    if is_replicas && ((switches(a) && scales(b)) || (switches(b) && scales(a))) {
        return known.mechanism(ACTIVATION);
    }
    let asks = |w: &Writer| w.habits.sets && !w.habits.removes;
    let consumes = |w: &Writer| w.habits.removes && !w.habits.sets && is_own_mark(&change.path, &w.author.client);
    if (asks(a) && consumes(b)) || (asks(b) && consumes(a)) {
        return known.mechanism(CONSUMED_MARK);
    }
    None
}

// === impl Change ===

impl Change {
    /// Whether the new value only advances the old one.
    fn is_monotonic(&self) -> bool {
        self.old.as_ref().zip(self.new.as_ref()).is_some_and(|(old, new)| new.is_monotonic_update(old))
    }
}

#[cfg(test)]
#[path = "field_history/tests.rs"]
mod tests;
