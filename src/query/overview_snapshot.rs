//! The rows of the overview at one time, shared by all clients.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::value::RawValue;
use tokio::sync::{Mutex, watch};

use super::first_rows;
use super::views::{OverviewHead, OverviewRow};

/// Minimum time between two snapshots, also as a multiple of the time that one takes.
pub(super) const EVERY: Duration = Duration::from_secs(1);
const EVERY_TIMES: u32 = 10;
/// Number of rows in a line, so that a line has at most some 100 kB.
const ROWS_PER_LINE: usize = 100;

/// The latest snapshot, shared by all clients.
#[derive(Clone, Debug, Default)]
pub(super) struct Overviews {
    /// Receivers are only notified of a snapshot that differs from the one before.
    latest: watch::Sender<Option<Arc<Snapshot>>>,
    /// Locked while a snapshot is made.
    making: Arc<Mutex<()>>,
    /// Locked by the task that makes a snapshot each second.
    watching: Arc<Mutex<()>>,
}

/// Is notified when there is another snapshot.
pub(super) type Changes = watch::Receiver<Option<Arc<Snapshot>>>;

/// Whether the latest snapshot will do, or a new one is due.
enum Latest {
    Fresh(Arc<Snapshot>),
    Due(Option<Arc<Snapshot>>),
}

/// All rows at one time, as JSON.
#[derive(Debug)]
pub(super) struct Snapshot {
    made: Instant,
    /// How long it took.
    took: Duration,
    /// The number of events on which the rows are based.
    events: u64,
    head: Arc<RawValue>,
    /// The rows by id. Shared with the snapshot before if there were no new events.
    rows: Arc<BTreeMap<Arc<str>, Arc<RawValue>>>,
    /// Number of objects that are left out.
    omitted: usize,
    /// As HTML: the problems of the head, and the table with the most urgent rows, which is empty if there are none.
    problems: String,
    table: Arc<str>,
}

/// A line of the answer: [`super::views::Overview`], whose parts are JSON already.
#[derive(Default, Serialize)]
pub(super) struct Line {
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    reset: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    head: Option<Arc<RawValue>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rows: Vec<Arc<RawValue>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gone: Vec<Arc<str>>,
    complete: bool,
}

// === impl Overviews ===

impl Overviews {
    /// Returns the latest snapshot, or a new one if it is due.
    pub(super) async fn current<F>(&self, make: F) -> Arc<Snapshot>
    where
        F: FnOnce(Option<&Snapshot>) -> Snapshot + Send + 'static,
    {
        let _making = self.making.lock().await;
        let before = match self.latest() {
            Latest::Fresh(latest) => return latest,
            Latest::Due(before) => before,
        };
        let made = tokio::task::spawn_blocking(move || make(before.as_deref())).await;
        self.keep(made.expect("a snapshot can be made"))
    }

    /// Does the same on a thread that may block.
    pub(super) fn current_blocking(&self, make: impl FnOnce(Option<&Snapshot>) -> Snapshot) -> Arc<Snapshot> {
        let _making = self.making.blocking_lock();
        match self.latest() {
            Latest::Fresh(latest) => latest,
            Latest::Due(before) => self.keep(make(before.as_deref())),
        }
    }

    /// Returns what notifies a client of the changes from now on.
    pub(super) fn changes(&self) -> Changes {
        self.latest.subscribe()
    }

    /// Makes a snapshot each second as long as clients wait for changes and `is_ready` holds, unless that is done already. It is
    /// a separate task, because the task of a client is not polled while that client does not read.
    pub(super) fn keep_current<F>(&self, is_ready: impl Fn() -> bool + Send + 'static, make: F)
    where
        F: FnOnce(Option<&Snapshot>) -> Snapshot + Clone + Send + 'static,
    {
        let Ok(turn) = self.watching.clone().try_lock_owned() else { return };
        let overviews = self.clone();
        tokio::spawn(async move {
            while overviews.latest.receiver_count() > 0 {
                tokio::time::sleep(EVERY).await;
                if !is_ready() {
                    break;
                }
                overviews.current(make.clone()).await;
            }
            drop(turn);
            // Wake the remaining streams: they end if the server is no longer ready, and otherwise start another task.
            overviews.latest.send_modify(|_| {});
        });
    }

    fn latest(&self) -> Latest {
        match self.latest.borrow().clone() {
            Some(latest) if latest.made.elapsed() < EVERY.max(latest.took * EVERY_TIMES) => Latest::Fresh(latest),
            before => Latest::Due(before),
        }
    }

    fn keep(&self, made: Snapshot) -> Arc<Snapshot> {
        let made = Arc::new(made);
        self.latest.send_if_modified(|latest| {
            let is_same = latest.as_ref().is_some_and(|before| before.is_same(&made));
            *latest = Some(made.clone());
            !is_same
        });
        made
    }
}

// === impl Line ===

impl Line {
    /// Returns a line without any change.
    pub(super) fn alive() -> Line {
        Line { complete: true, ..Line::default() }
    }
}

// === impl Snapshot ===

impl Snapshot {
    /// Makes a snapshot, which shares with the one before what has not changed. `rows` returns the rows, the most urgent ones
    /// first, and the number of objects that are left out. It is only called if there are new events, since nothing else changes a verdict.
    pub(super) fn make(
        before: Option<&Snapshot>,
        started: Instant,
        events: u64,
        mut head: OverviewHead,
        rows: impl FnOnce() -> (Vec<OverviewRow>, usize),
    ) -> Snapshot {
        let (rows, omitted, table) = match before {
            Some(before) if before.events == events => (before.rows.clone(), before.omitted, before.table.clone()),
            before => {
                let (rows, omitted) = rows();
                let table = first_rows::table(&rows, omitted, head.as_of).into();
                (Arc::new(rows.iter().map(|row| shared(row, before)).collect()), omitted, table)
            }
        };
        head.omitted = omitted;
        let problems = first_rows::problems(&head.coverage.problems);
        let head = raw(&head);
        let same = before.map(|before| &before.head).filter(|before| before.get() == head.get());
        let head = same.cloned().unwrap_or(head);
        Snapshot { head, rows, omitted, problems, table, events, made: Instant::now(), took: started.elapsed() }
    }

    /// Whether a client that has one of them has the other one too.
    fn is_same(&self, other: &Snapshot) -> bool {
        Arc::ptr_eq(&self.head, &other.head) && Arc::ptr_eq(&self.rows, &other.rows)
    }

    /// Returns the most urgent rows as HTML, after the problems that make them incomplete, or `None` if there are no rows.
    pub(super) fn first_rows(&self) -> Option<String> {
        (!self.table.is_empty()).then(|| format!("{}{}", self.problems, self.table))
    }

    /// Returns the line that has everything.
    pub(super) fn whole(&self) -> Line {
        let rows = self.rows.values().cloned().collect();
        Line { reset: true, head: Some(self.head.clone()), rows, gone: Vec::new(), complete: true }
    }

    /// Returns the lines that turn the rows of `known` into these.
    pub(super) fn lines_since(&self, known: Option<&Snapshot>) -> VecDeque<Line> {
        if known.is_some_and(|known| std::ptr::eq(known, self)) {
            return VecDeque::new();
        }
        let (changed, gone) = match known {
            // With many streams and rows, comparing each row for each stream would use most of a core.
            Some(known) if Arc::ptr_eq(&known.rows, &self.rows) => Default::default(),
            _ => self.changes_since(known),
        };
        let mut lines: VecDeque<Line> =
            changed.chunks(ROWS_PER_LINE).map(|rows| Line { rows: rows.to_vec(), ..Line::default() }).collect();
        let head = known.is_none_or(|known| !Arc::ptr_eq(&known.head, &self.head)).then(|| self.head.clone());
        if lines.is_empty() && (known.is_none() || head.is_some() || !gone.is_empty()) {
            lines.push_back(Line::default());
        }
        if let Some(first) = lines.front_mut() {
            (first.reset, first.head, first.gone) = (known.is_none(), head, gone);
        }
        if let Some(last) = lines.back_mut() {
            last.complete = true;
        }
        lines
    }

    /// Returns the rows that `known` does not have, and the ids of those that only `known` has.
    fn changes_since(&self, known: Option<&Snapshot>) -> (Vec<Arc<RawValue>>, Vec<Arc<str>>) {
        let is_known = |id: &Arc<str>, row: &Arc<RawValue>| {
            known.and_then(|known| known.rows.get(id)).is_some_and(|known| Arc::ptr_eq(known, row))
        };
        let changed = self.rows.iter().filter(|(id, row)| !is_known(id, row)).map(|(_, row)| row.clone());
        let gone = known.into_iter().flat_map(|known| known.rows.keys()).filter(|id| !self.rows.contains_key(*id));
        (changed.collect(), gone.cloned().collect())
    }
}

/// Returns a row with its id, both as the snapshot before has them if they are the same.
fn shared(row: &OverviewRow, before: Option<&Snapshot>) -> (Arc<str>, Arc<RawValue>) {
    let json = raw(row);
    match before.and_then(|before| before.rows.get_key_value(&*row.id)) {
        Some((id, known)) if known.get() == json.get() => (id.clone(), known.clone()),
        Some((id, _)) => (id.clone(), json),
        None => (row.id.as_str().into(), json),
    }
}

fn raw(value: &impl Serialize) -> Arc<RawValue> {
    serde_json::value::to_raw_value(value).expect("views are JSON").into()
}
