//! Merges the partitions of a cluster by the times of their messages. The writes of an object may be in several partitions, and
//! a consumer with a backlog receives these one after the other, hours of one before the first message of the next.
//!
//! Messages wait until all partitions that may still deliver earlier ones have caught up. A partition that has too many
//! waiting messages is paused. A message without a plausible time does not wait, and nothing waits for its partition.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Time of a message in milliseconds since 1970, as its producer or broker has set it.
type Millis = i64;

/// How far a message may be ahead of the slowest partition. Verdicts do not depend on the order of events within a minute.
const AHEAD_MAX: Millis = 30_000;
/// How long the others wait for a partition that should deliver messages and does not, as if its broker is down.
const STALLED_AFTER: Duration = Duration::from_secs(30);
/// Maximum size of all waiting messages, and of those of one partition.
const WAITING_BYTES_MAX: usize = 64 << 20;
const PARTITION_BYTES_MAX: usize = 4 << 20;
/// Approximate size of a message besides its content.
pub(super) const MESSAGE_BYTES: usize = 128;

/// A partition: topic and number.
pub(super) type Partition = (String, i32);

/// A message that waits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    /// Its time, if that is plausible.
    pub(super) at: Option<Millis>,
    pub(super) offset: i64,
    pub(super) content: Vec<u8>,
}

/// The waiting messages of all assigned partitions.
#[derive(Debug, Default)]
pub(super) struct Merge {
    partitions: BTreeMap<Partition, Waiting>,
    /// When any partition last delivered a message.
    delivered: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    messages: VecDeque<Message>,
    bytes: usize,
    /// The time of the latest message since the partition was assigned.
    latest: Option<Millis>,
    /// Whether its latest message had a plausible time, or there was none yet.
    is_timed: bool,
    /// When it last delivered a message, or was assigned or resumed.
    delivered: Instant,
    /// Whether no more messages were in it, as of the latest statistics.
    is_at_end: bool,
    is_paused: bool,
}

/// Which partitions to pause and to resume.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) pause: Vec<Partition>,
    pub(super) resume: Vec<Partition>,
}

// === impl Merge ===

impl Merge {
    /// Sets which partitions are assigned, of which none is paused. Forgets the messages of all others.
    pub(super) fn assign(&mut self, assigned: impl IntoIterator<Item = Partition>, now: Instant) {
        let mut before = std::mem::take(&mut self.partitions);
        let kept = assigned.into_iter().map(|partition| {
            let mut waiting = before.remove(&partition).unwrap_or_else(|| Waiting::new(now));
            waiting.is_paused = false;
            waiting.delivered = now;
            (partition, waiting)
        });
        self.partitions = kept.collect();
    }

    /// Adds a message, unless its partition is not assigned any more. Returns whether too many messages of the partition
    /// wait.
    pub(super) fn push(
        &mut self,
        partition: &Partition,
        at: Option<Millis>,
        offset: i64,
        content: &[u8],
        now: Instant,
    ) -> bool {
        let was_silent = self.delivered.is_some_and(|delivered| delivered + STALLED_AFTER / 2 < now);
        self.delivered = Some(now);
        if was_silent {
            // All brokers may have been away. The other partitions get the time to come back, too.
            for waiting in self.partitions.values_mut() {
                (waiting.delivered, waiting.is_at_end) = (now, false);
            }
        }
        let bytes_max = self.bytes_max();
        let Some(waiting) = self.partitions.get_mut(partition) else { return false };
        waiting.latest = at.or(waiting.latest);
        waiting.is_timed = at.is_some();
        waiting.delivered = now;
        waiting.bytes += content.len() + MESSAGE_BYTES;
        waiting.messages.push_back(Message { at, offset, content: content.to_vec() });
        waiting.bytes > bytes_max
    }

    /// Records whether all messages of a partition were received, if that is known.
    pub(super) fn set_at_end(&mut self, partition: &Partition, is_at_end: bool) {
        if let Some(waiting) = self.partitions.get_mut(partition) {
            waiting.is_at_end = is_at_end;
        }
    }

    /// Removes and returns the earliest message, unless a partition may still deliver a much earlier one. The messages of a
    /// partition stay in their order.
    pub(super) fn next(&mut self, now: Instant) -> Option<(&Partition, Message)> {
        let mut slowest = Millis::MAX;
        let mut earliest: Option<(Millis, &Partition, &mut Waiting)> = None;
        for (partition, waiting) in &mut self.partitions {
            let front = waiting.messages.front().map(|message| message.at);
            // One that has not delivered anything yet may start at any time.
            let last = || waiting.is_awaited(now).then(|| waiting.latest.unwrap_or(Millis::MIN));
            let next = front.unwrap_or_else(last);
            slowest = next.map_or(slowest, |next| slowest.min(next));
            // A message without a time is passed on at once.
            if let Some(at) = front.map(|at| at.unwrap_or(Millis::MIN))
                && earliest.as_ref().is_none_or(|(first, ..)| at < *first)
            {
                earliest = Some((at, partition, waiting));
            }
        }
        let (at, partition, waiting) = earliest?;
        if at > slowest.saturating_add(AHEAD_MAX) {
            return None;
        }
        let message = waiting.messages.pop_front()?;
        waiting.bytes -= message.content.len() + MESSAGE_BYTES;
        Some((partition, message))
    }

    /// Returns which partitions to pause, because too many of their messages wait, and which to resume.
    pub(super) fn change(&mut self, now: Instant) -> Change {
        let bytes_max = self.bytes_max();
        let mut change = Change::default();
        for (partition, waiting) in &mut self.partitions {
            // What was fetched for a paused partition is fetched again, so it is not resumed too early.
            if waiting.is_paused && waiting.bytes <= bytes_max / 4 {
                waiting.is_paused = false;
                waiting.delivered = now;
                change.resume.push(partition.clone());
            } else if !waiting.is_paused && waiting.bytes > bytes_max {
                waiting.is_paused = true;
                change.pause.push(partition.clone());
            }
        }
        change
    }

    /// Returns the maximum size of the waiting messages of one partition.
    fn bytes_max(&self) -> usize {
        PARTITION_BYTES_MAX.min(WAITING_BYTES_MAX / self.partitions.len().max(1))
    }
}

// === impl Waiting ===

impl Waiting {
    fn new(now: Instant) -> Waiting {
        Waiting {
            messages: VecDeque::new(),
            bytes: 0,
            latest: None,
            is_timed: true,
            delivered: now,
            is_at_end: false,
            is_paused: false,
        }
    }

    /// Whether it may deliver messages soon that others must wait for.
    fn is_awaited(&self, now: Instant) -> bool {
        self.is_timed && !self.is_at_end && (self.is_paused || now < self.delivered + STALLED_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: i32) -> Partition {
        ("audit".to_owned(), number)
    }

    /// Returns a merge of so many partitions.
    fn merge(count: i32, now: Instant) -> Merge {
        let mut merge = Merge::default();
        merge.assign((0..count).map(partition), now);
        merge
    }

    /// Adds messages at these seconds.
    fn push(merge: &mut Merge, number: i32, seconds: impl IntoIterator<Item = i64>, now: Instant) {
        for second in seconds {
            merge.push(&partition(number), Some(second * 1_000), second, b"{}", now);
        }
    }

    /// Returns the partitions and seconds of all messages that are due.
    fn due(merge: &mut Merge, now: Instant) -> Vec<(i32, i64)> {
        let next = || merge.next(now).map(|(partition, message)| (partition.1, message.at.unwrap_or(-1_000) / 1_000));
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn messages_of_all_partitions_come_in_the_order_of_their_times() {
        let now = Instant::now();
        let mut merge = merge(2, now);
        push(&mut merge, 0, [100, 200, 300], now);
        assert_eq!(due(&mut merge, now), [], "the other partition may start at any time");
        push(&mut merge, 1, [150, 250], now);
        let expected = [(0, 100), (1, 150), (0, 200), (1, 250)];
        assert_eq!(due(&mut merge, now), expected, "the next of 1 may be at 250 seconds");
        push(&mut merge, 1, [275], now);
        assert_eq!(due(&mut merge, now), [(1, 275), (0, 300)], "300 seconds is less than 30 seconds ahead");
    }

    #[test]
    fn nothing_waits_for_a_partition_that_was_read_to_its_end() {
        let now = Instant::now();
        let mut merge = merge(2, now);
        push(&mut merge, 0, [100], now);
        push(&mut merge, 1, [500, 600], now);
        assert_eq!(due(&mut merge, now), [(0, 100)]);
        merge.set_at_end(&partition(0), false);
        assert_eq!(due(&mut merge, now), []);
        merge.set_at_end(&partition(0), true);
        assert_eq!(due(&mut merge, now), [(1, 500), (1, 600)]);
        merge.set_at_end(&partition(0), false);
        push(&mut merge, 0, [700], now);
        push(&mut merge, 1, [800], now);
        assert_eq!(due(&mut merge, now), [(0, 700)], "it has messages again");
    }

    #[test]
    fn a_partition_that_delivers_nothing_is_awaited_for_half_a_minute() {
        let now = Instant::now();
        let mut merge = merge(2, now);
        push(&mut merge, 0, [100, 500], now);
        assert_eq!(due(&mut merge, now + STALLED_AFTER / 2), []);
        assert_eq!(due(&mut merge, now + STALLED_AFTER), [(0, 100), (0, 500)]);
    }

    #[test]
    fn messages_of_a_partition_stay_in_their_order() {
        let now = Instant::now();
        let mut merge = merge(2, now);
        push(&mut merge, 0, [100, 90, 120], now);
        push(&mut merge, 1, [95, 110], now);
        assert_eq!(due(&mut merge, now), [(1, 95), (0, 100), (0, 90), (1, 110), (0, 120)]);
    }

    #[test]
    fn messages_without_a_plausible_time_neither_wait_nor_are_waited_for() {
        let now = Instant::now();
        let mut merge = merge(2, now);
        merge.push(&partition(0), None, 1, b"{}", now);
        push(&mut merge, 1, [100, 500], now);
        assert_eq!(due(&mut merge, now), [(0, -1), (1, 100), (1, 500)]);
    }

    #[test]
    fn after_an_outage_of_all_partitions_those_that_come_back_later_are_awaited() {
        let now = Instant::now();
        let mut merge = merge(2, now);
        push(&mut merge, 0, [100], now);
        push(&mut merge, 1, [100], now);
        (0..2).for_each(|number| merge.set_at_end(&partition(number), true));
        assert_eq!(due(&mut merge, now).len(), 2);
        let later = now + Duration::from_secs(600);
        push(&mut merge, 0, [120, 700], later);
        assert_eq!(due(&mut merge, later), [(0, 120)]);
        push(&mut merge, 1, [150, 690], later + Duration::from_secs(5));
        assert_eq!(due(&mut merge, later + Duration::from_secs(5)), [(1, 150), (1, 690), (0, 700)]);
    }

    #[test]
    fn empty_messages_need_memory_too() {
        let now = Instant::now();
        let mut merge = merge(1, now);
        let count = (0..).take_while(|offset| !merge.push(&partition(0), Some(*offset), *offset, b"", now)).count();
        assert!(count < PARTITION_BYTES_MAX / MESSAGE_BYTES + 1, "{count}");
    }

    #[test]
    fn a_partition_with_many_waiting_messages_is_paused() {
        let now = Instant::now();
        let mut merge = merge(2, now);
        let content = vec![0; PARTITION_BYTES_MAX / 8];
        for second in 0..8 {
            merge.push(&partition(1), Some(second * 100_000), second, &content, now);
        }
        let (pause, resume) = (vec![partition(1)], vec![partition(1)]);
        assert_eq!(merge.change(now), Change { pause, resume: Vec::new() });
        assert_eq!(merge.change(now), Change::default(), "once");
        push(&mut merge, 0, [0], now);
        merge.set_at_end(&partition(0), true);
        // What waits is passed on.
        assert_eq!(due(&mut merge, now).len(), 9);
        assert_eq!(merge.change(now), Change { pause: Vec::new(), resume });
        let many = merge_of_many(now);
        assert!(many <= WAITING_BYTES_MAX, "{many}");
    }

    /// Returns how many bytes may wait in many partitions.
    fn merge_of_many(now: Instant) -> usize {
        let mut merge = merge(64, now);
        let content = vec![0; 256 << 10];
        for offset in 0..64 {
            for number in 0..64 {
                if !merge.partitions[&partition(number)].is_paused {
                    merge.push(&partition(number), Some(offset), offset, &content, now);
                }
            }
            merge.change(now);
        }
        // Each partition may exceed its share by one message.
        merge.partitions.values().map(|waiting| waiting.bytes - content.len() - MESSAGE_BYTES).sum()
    }

    #[test]
    fn an_assignment_forgets_the_messages_of_partitions_that_are_gone() {
        let now = Instant::now();
        let mut merge = merge(2, now);
        push(&mut merge, 0, [100], now);
        push(&mut merge, 1, [500], now);
        merge.assign([partition(1)], now);
        push(&mut merge, 0, [101], now);
        assert_eq!(due(&mut merge, now), [(1, 500)]);
    }
}
