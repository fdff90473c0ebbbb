//! The pending set of a shard: every schedule that has not been delivered, by its ID and by its due time.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use super::arena::{Arena, Step};
use super::entry::{self, Parts, Place};
use super::hint::Hint;
use super::index::{Index, Turn};
use super::ready::Ready;
use super::topics::{TopicId, Topics};
use super::wheel::{Entries, Filed, Wheel};
use crate::schedule::{DueTime, Format, Headers, Schedule};

/// Names one version of a schedule: an ID as one record set it.
///
/// A handle goes stale when its version is replaced or removed, and then names nothing, ever: no two records of a
/// partition have the same offset.
#[derive(Clone, Copy, Debug)]
pub struct Handle {
    /// The entry's name, which it loses when it is moved…
    name: u32,
    /// …and then its ID's hash finds it.
    hash: u32,
    /// What it stands for.
    offset: i64,
}

impl PartialEq for Handle {
    fn eq(&self, other: &Self) -> bool {
        self.offset == other.offset
    }
}

impl Eq for Handle {}

impl Hash for Handle {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.offset.hash(state);
    }
}

impl Handle {
    /// The offset of the record that set this version.
    #[must_use]
    pub const fn offset(self) -> i64 {
        self.offset
    }
}

/// What a schedule in the set is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryState {
    /// For its due time, or for a place in a batch.
    Pending,
    /// For the outcome of the batch that it was handed out in.
    InFlight,
    /// For its retry time, or for a newer record.
    SetAside,
}

/// What an [`upsert`](PendingSet::upsert) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Upserted {
    /// The ID was not in the set.
    Inserted,
    /// The ID was in the set with an older version.
    Replaced {
        /// The state of that version.
        previous: EntryState,
    },
    /// The set holds this version or a newer one; nothing changed.
    Stale,
}

/// How much a batch may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Schedules.
    pub max_count: usize,
    /// Bytes of packed entries, as [`PendingSet::payload_bytes`] counts them.
    pub max_bytes: usize,
}

/// One schedule of the set, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View<'a> {
    /// The key of the record that carried the schedule.
    pub id: &'a [u8],
    /// The offset of that record.
    pub offset: i64,
    /// How that record was written.
    pub format: Format,
    /// What the schedule is waiting for.
    pub state: EntryState,
    /// The schedule itself.
    pub schedule: Schedule<'a>,
    /// The headers of the record itself, not of the message to deliver.
    pub record_headers: Headers<'a>,
}

/// Where a walk over the set goes on; the default is its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListCursor(Turn);

/// Every pending schedule of a shard, keyed by ID, and which of them are due.
///
/// A set begins in bulk mode, in which the log is read into it and nothing is ever due; after
/// [`finish_bulk`](Self::finish_bulk) has returned true, schedules become due as time is
/// [advanced](Self::advance).
///
/// A schedule is in the set until it is removed or replaced by a record: handing it out does not remove it. So the set
/// is what the log says at all times, and an outcome that never comes loses nothing.
///
/// Each call does a bounded piece of work, by its budget or limits where it has one. The set's time never goes back;
/// where the clock does, what is ready already waits until it is due by the clock again.
///
/// ```
/// use kafka_message_scheduler::engine::{BatchLimits, PendingSet};
/// use kafka_message_scheduler::schedule::{DueTime, Format, Headers, Schedule};
///
/// let mut pending = PendingSet::new(42);
/// let schedule = Schedule {
///     due: DueTime::from_epoch_ms(1_000),
///     topic: "orders",
///     key: b"order-7",
///     value: Some(b"remind"),
///     headers: Headers::default(),
/// };
/// pending.upsert(b"reminder-7", 0, Format::Avro, &schedule, Headers::default());
/// while !pending.finish_bulk(4_096) {}
///
/// let wake_ms = pending.next_wake().expect("something is pending");
/// assert!(wake_ms <= 1_000);
/// let mut batch = Vec::new();
/// while !pending.advance(1_000, 4_096) {}
/// pending.take_due(1_000, BatchLimits { max_count: 500, max_bytes: 1 << 20 }, &mut batch);
/// assert_eq!(pending.view(batch[0]).expect("current").schedule, schedule);
///
/// // The batch is committed: its tombstone, at offset 1, takes the schedule out.
/// pending.remove(b"reminder-7", 1);
/// assert!(pending.is_empty());
/// ```
///
/// Invariants, which [`check_invariants`](Self::check_invariants) holds: every entry is in the index under the hash of its
/// ID; its [`Place`] says which part has to let it go, and that part, or its counter here, knows it; to an entry that
/// waits, a hint in the wheel leads; nothing is unfiled once bulk mode has ended; what is ready is due by the wheel's time.
pub struct PendingSet {
    entries: Arena,
    index: Index,
    topics: Topics,
    wheel: Wheel,
    /// Schedules in the wheel.
    waiting: usize,
    ready: Ready,
    aside: Aside,
    /// Schedules in [`Place::Held`]; nothing else knows of them.
    held: usize,
    /// Schedules in [`Place::InFlight`]; nothing else knows of them.
    in_flight: usize,
    bulk: Bulk,
    /// See [`start_time_by`](Self::start_time_by).
    latest_start_ms: i64,
    /// Of all entries, counted as they come and go, as are those of the content.
    payload_bytes: usize,
    content_bytes: usize,
    sweeping: Sweeping,
    /// Hashes of what is looked up together.
    hashes: Vec<u32>,
}

/// Schedules that are set aside until a time.
#[derive(Debug, Default)]
struct Aside {
    by_time: BTreeSet<(i64, u32)>,
    retry_at_ms: BTreeMap<u32, i64>,
}

impl Aside {
    fn insert(&mut self, name: u32, retry_at_ms: i64) {
        self.by_time.insert((retry_at_ms, name));
        self.retry_at_ms.insert(name, retry_at_ms);
    }

    /// Lets go of a schedule that is here; returns its retry time.
    fn remove(&mut self, name: u32) -> i64 {
        let retry_at_ms = self.retry_at_ms.remove(&name).expect("what is set aside has a retry time");
        self.by_time.remove(&(retry_at_ms, name));
        retry_at_ms
    }

    fn first(&self) -> Option<(i64, u32)> {
        self.by_time.first().copied()
    }

    fn len(&self) -> usize {
        self.by_time.len()
    }

    fn allocated_bytes(&self) -> usize {
        self.len() * 2 * size_of::<(i64, u32)>()
    }
}

/// Whether the wheel is being rid of stale hints.
#[derive(Clone, Copy, Debug, Default)]
struct Sweeping {
    is_under_way: bool,
    /// Hints that went stale since the round began, perhaps behind it.
    since: usize,
    /// Stale hints that the last round could not tell: their stamp has come round to the entry's.
    left: usize,
}

/// How far the bulk load is.
///
/// Filing each schedule as it is read would be in vain for those the rest of the log replaces, which may be nearly
/// all. And the wheel's time has to be known first: filed by a later time, what is overdue would have to be sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bulk {
    /// Reading the log: nothing is filed.
    Loading,
    /// Looking for the earliest due time. Nothing is filed; the few that arrive in the meantime may be due earlier,
    /// and will be sorted.
    Measuring { cursor: u32, earliest_ms: i64 },
    /// Filing what was not filed yet; what arrives is filed at once.
    Filing { cursor: u32 },
    /// Everything is filed.
    Done,
}

impl PendingSet {
    /// An empty set in bulk mode. The seed keys the hash of the IDs: random in production, fixed in a test.
    #[must_use]
    pub fn new(hash_seed: u64) -> Self {
        Self::with_expected(hash_seed, 0)
    }

    /// As [`new`](Self::new), with an index laid out for `expected` schedules. A guess that is far too high costs a few
    /// bytes for each thousand.
    #[must_use]
    pub fn with_expected(hash_seed: u64, expected: usize) -> Self {
        Self {
            entries: Arena::new(),
            index: Index::new(hash_seed, expected),
            topics: Topics::new(hash_seed),
            wheel: Wheel::new(0),
            waiting: 0,
            ready: Ready::new(),
            aside: Aside::default(),
            held: 0,
            in_flight: 0,
            bulk: Bulk::Loading,
            latest_start_ms: i64::MAX,
            payload_bytes: 0,
            content_bytes: 0,
            sweeping: Sweeping::default(),
            hashes: Vec::new(),
        }
    }

    /// Applies a record that sets a schedule: `id` is its key, `offset` its offset, `format` how it was written.
    ///
    /// A new version is pending, whatever the state of the one it replaces.
    pub fn upsert(
        &mut self,
        id: &[u8],
        offset: i64,
        format: Format,
        schedule: &Schedule<'_>,
        record_headers: Headers<'_>,
    ) -> Upserted {
        let hash = self.index.hash(id);
        let held = self.find(hash, id);
        if held.is_some_and(|name| offset <= entry::offset(&self.entries[name])) {
            return Upserted::Stale;
        }
        let parts = Parts {
            due_ms: schedule.due.epoch_ms(),
            offset,
            format,
            id,
            topic: self.topics.acquire(schedule.topic),
            key: schedule.key,
            value: schedule.value,
            headers: schedule.headers,
            record_headers,
        };
        let packed_bytes = parts.packed_bytes();
        self.payload_bytes += packed_bytes;
        self.content_bytes += parts.content_bytes() + schedule.topic.len();
        match held {
            None => {
                let name = self.entries.allocate(packed_bytes);
                parts.pack(&mut self.entries[name]);
                self.index.insert(hash, name);
                self.file_unless_loading(name);
                Upserted::Inserted
            }
            Some(name) => Upserted::Replaced { previous: self.replace(name, hash, &parts, packed_bytes) },
        }
    }

    /// Applies a record that removes `id`, such as a tombstone at the offset `before_offset`: removes the schedule if
    /// its own record came before, and returns the state it was in.
    pub fn remove(&mut self, id: &[u8], before_offset: i64) -> Option<EntryState> {
        let hash = self.index.hash(id);
        let name = self.find(hash, id)?;
        if entry::offset(&self.entries[name]) >= before_offset {
            return None;
        }
        Some(self.take_out(name, hash))
    }

    /// Removes the version that `handle` names, which was delivered; false if the set holds it no more.
    pub fn settle(&mut self, handle: Handle) -> bool {
        let Some(name) = self.current(handle) else { return false };
        self.take_out(name, handle.hash);
        true
    }

    /// Reads ahead what applying records with these IDs would wait for, all of them at once: where a look-up has to
    /// wait for memory several times, one after the other, a few dozen look-ups wait together hardly longer. Changes
    /// nothing else.
    pub fn warm<'i>(&mut self, ids: impl IntoIterator<Item = &'i [u8]>) {
        let Self { entries, index, hashes, .. } = self;
        hashes.clear();
        hashes.extend(ids.into_iter().map(|id| index.hash(id)));
        // One pass for each step of a look-up: what a step reads was asked for in the pass before.
        for &hash in &*hashes {
            index.prefetch(hash);
        }
        for &hash in &*hashes {
            // Whether it is the right one is not known before it is here; the first of this hash nearly always is.
            index.find(hash, |name| {
                entries.prefetch(name);
                true
            });
        }
    }

    /// The version of `id` that the set holds.
    #[must_use]
    pub fn get(&self, id: &[u8]) -> Option<(Handle, View<'_>)> {
        let hash = self.index.hash(id);
        let name = self.find(hash, id)?;
        Some((self.handle_of(name, hash), self.view_of(name)))
    }

    /// The version that `handle` names, or `None` if the set holds it no more.
    #[must_use]
    pub fn view(&self, handle: Handle) -> Option<View<'_>> {
        self.current(handle).map(|name| self.view_of(name))
    }

    /// Whether the set still holds the version that `handle` names.
    #[must_use]
    pub fn is_current(&self, handle: Handle) -> bool {
        self.current(handle).is_some()
    }

    /// Time will not start later than `now_ms`, even if nothing is due before; to be said before bulk mode ends. A wheel
    /// that starts in the future has no place for what is due sooner, which is then kept sorted instead.
    pub fn start_time_by(&mut self, now_ms: i64) {
        self.latest_start_ms = now_ms;
    }

    /// Ends bulk mode, a piece at a time: files up to about `budget` schedules and returns true when all are filed.
    ///
    /// Time starts at the earliest due time, so that what is overdue comes out in due order, too. Between the calls,
    /// records go on being applied.
    pub fn finish_bulk(&mut self, budget: usize) -> bool {
        if self.bulk == Bulk::Loading {
            self.bulk = Bulk::Measuring { cursor: 0, earliest_ms: i64::MAX };
        }
        if let Bulk::Measuring { cursor, earliest_ms } = self.bulk {
            self.bulk = self.measure(cursor, earliest_ms, budget);
        }
        if let Bulk::Filing { cursor } = self.bulk {
            self.bulk = self.file_from(cursor, budget);
        }
        self.bulk == Bulk::Done
    }

    /// The earliest time, epoch milliseconds, at which [`advance`](Self::advance) or [`take_due`](Self::take_due) may
    /// have something to do: never too late, possibly too early, in the past where something is ready. `None` while
    /// nothing will ever be due by itself, as in bulk mode.
    #[must_use]
    pub fn next_wake(&self) -> Option<i64> {
        if self.bulk != Bulk::Done {
            return None;
        }
        let retry_at_ms = self.aside.first().map(|(retry_at_ms, _)| retry_at_ms);
        let wheel_ms = self.wheel.next_wake_ms().filter(|_| self.waiting > 0);
        [self.oldest_due(), wheel_ms, retry_at_ms].into_iter().flatten().min()
    }

    /// Makes ready what is due, or to be tried again, by `now_ms`; moves up to about `budget` schedules.
    ///
    /// Returns true when nothing that is due by `now_ms` is left behind, false when the budget ended first: then call
    /// again, now or later. A time before one that was given earlier takes nothing back. In bulk mode nothing is ever
    /// due.
    pub fn advance(&mut self, now_ms: i64, budget: usize) -> bool {
        if self.bulk != Bulk::Done {
            return true;
        }
        let mut left = budget;
        while let Some((retry_at_ms, name)) = self.aside.first()
            && retry_at_ms <= now_ms
        {
            if left == 0 {
                return false;
            }
            left -= 1;
            self.detach(name);
            self.file(name);
        }
        let (wheel, mut due) = self.wheel_and_due();
        wheel.advance(now_ms, &mut left, &mut due)
    }

    /// Does up to about `budget` steps of what can be done ahead or put off, so that nothing has to be done all at once:
    /// files what is due next more finely, drops the traces of cancelled and replaced schedules, and moves schedules
    /// together so that memory can go back to the system.
    ///
    /// Returns true when nothing is left to do for now.
    pub fn tidy(&mut self, now_ms: i64, budget: usize) -> bool {
        if self.bulk != Bulk::Done {
            return true;
        }
        let mut left = budget;
        let (wheel, mut due) = self.wheel_and_due();
        // What is due comes first in any case, and time has to go on for the rest.
        let is_prepared = wheel.advance(now_ms, &mut left, &mut due) && wheel.prepare(&mut left, &mut due);
        self.sweep(&mut left);
        while left > 0 && self.relocate_some(&mut left) {}
        is_prepared && !self.is_untidy()
    }

    /// The earliest time at which [`tidy`](Self::tidy) has something to do, in the past if it has already.
    #[must_use]
    pub fn next_tidy(&self) -> Option<i64> {
        match self.bulk {
            Bulk::Done if self.is_untidy() => Some(i64::MIN),
            Bulk::Done => self.wheel.next_prepare_ms(),
            _ => None,
        }
    }

    /// Hands out ready schedules in due order, appending them to `out`; they are in flight from then on.
    ///
    /// Whatever [`advance`](Self::advance) was told, nothing is handed out before its due time by `now_ms`. Stops
    /// before the schedule that would exceed a limit, but if anything is due then at least one is handed out,
    /// however large.
    pub fn take_due(&mut self, now_ms: i64, limits: BatchLimits, out: &mut Vec<Handle>) {
        if self.bulk != Bulk::Done {
            return;
        }
        let (mut count, mut bytes) = (0, 0);
        while let Some(name) = self.ready.front(&self.entries)
            && entry::due_ms(&self.entries[name]) <= now_ms
        {
            let parts = entry::parts(&self.entries[name]);
            let hash = self.index.hash(parts.id);
            count += 1;
            bytes += parts.packed_bytes();
            if count > 1 && (count > limits.max_count || bytes > limits.max_bytes) {
                break;
            }
            self.index.prefetch(hash); // its removal is likely to be next
            self.ready.remove(&mut self.entries, name);
            entry::set_place(&mut self.entries[name], Place::InFlight);
            self.in_flight += 1;
            out.push(self.handle_of(name, hash));
        }
    }

    /// Takes back a schedule whose batch was aborted: it is ready again, in due order. Nothing happens if `handle` is
    /// stale or not in flight.
    pub fn release(&mut self, handle: Handle) {
        if let Some(name) = self.current(handle)
            && entry::place(&self.entries[name]) == Place::InFlight
        {
            self.detach(name);
            self.ready.sort_in(&mut self.entries, name);
        }
    }

    /// Sets a schedule aside until `retry_at_ms`; then it is as it was before it was handed out. Nothing happens if
    /// `handle` is stale or [held](Self::hold).
    pub fn set_aside(&mut self, handle: Handle, retry_at_ms: i64) {
        if let Some(name) = self.current(handle)
            && entry::place(&self.entries[name]) != Place::Held
        {
            self.detach(name);
            entry::set_place(&mut self.entries[name], Place::Aside);
            self.aside.insert(name, retry_at_ms);
        }
    }

    /// Sets a schedule aside until a newer record for its ID arrives. Nothing happens if `handle` is stale.
    pub fn hold(&mut self, handle: Handle) {
        if let Some(name) = self.current(handle) {
            self.detach(name);
            entry::set_place(&mut self.entries[name], Place::Held);
            self.held += 1;
        }
    }

    /// Schedules in the set, in any state.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether the set holds no schedule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Schedules that are handed out.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Schedules that are set aside or held.
    #[must_use]
    pub fn set_aside_len(&self) -> usize {
        self.aside.len() + self.held
    }

    /// Schedules that are ready to be handed out.
    #[must_use]
    pub fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// The due time, epoch milliseconds, of what has been ready for longest; `None` when nothing is ready.
    #[must_use]
    pub fn oldest_due(&self) -> Option<i64> {
        self.ready.front(&self.entries).map(|name| entry::due_ms(&self.entries[name]))
    }

    /// Bytes of the packed entries: the content, and some 25 bytes a schedule.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// Bytes of what producers put in: IDs, topics, keys, values and headers, each schedule's counted in full.
    #[must_use]
    pub fn content_bytes(&self) -> usize {
        self.content_bytes
    }

    /// Bytes of everything but the packed entries: what their blocks are larger, free blocks, index, wheel, names of
    /// topics. O(number of tables of the index).
    #[must_use]
    pub fn structure_bytes(&self) -> usize {
        size_of::<Self>() + self.entries.allocated_bytes() - self.payload_bytes
            + self.index.allocated_bytes()
            + self.wheel.allocated_bytes()
            + self.topics.allocated_bytes()
            + self.ready.allocated_bytes()
            + self.aside.allocated_bytes()
    }

    /// For each of `horizons_ms`, about how many schedules are due within that time from `now_ms` on, overdue ones
    /// included, those in flight or set aside not; written to the same place of `out`.
    ///
    /// Whole slots of the wheel are counted by their start: a count is never too low, and too high by the rest of the
    /// slot its horizon falls into, some seconds for a horizon of minutes and some days for one of months. So is a slot
    /// that [`advance`](Self::advance) has left half done, and what is ready after the clock was set back; and by up to
    /// about a quarter where schedules were cancelled or replaced that [`tidy`](Self::tidy) has not forgotten yet. Zero
    /// in bulk mode.
    pub fn due_within(&self, now_ms: i64, horizons_ms: &[i64], out: &mut [u64]) {
        for (&horizon_ms, count) in horizons_ms.iter().zip(out) {
            let waiting = self.wheel.count_until(now_ms.saturating_add(horizon_ms)).min(self.waiting);
            *count = if self.bulk == Bulk::Done { (self.ready.len() + waiting) as u64 } else { 0 };
        }
    }

    /// Gives up to `budget` schedules, in no order that means anything, to `f`, and returns where to go on, `None` at
    /// the end. A call looks at some five thousand schedules at most, whatever the budget.
    ///
    /// What stays in the set during the walk is given exactly once, though not always in the same version.
    pub fn list(&self, cursor: ListCursor, budget: usize, f: &mut dyn FnMut(View<'_>)) -> Option<ListCursor> {
        if budget == 0 {
            return Some(cursor);
        }
        let mut found = Vec::new();
        let rest = self.index.walk(cursor.0, &mut |turn, name| found.push((turn, name)));
        let mut next = rest;
        if found.len() > budget {
            let (_, &mut (last, _), _) = found.select_nth_unstable(budget - 1);
            // The next few may have the same hash as the last, and then the same turn.
            found.retain(|&(turn, _)| turn <= last);
            next = last.next();
        }
        found.sort_unstable();
        for (_, name) in found {
            f(self.view_of(name));
        }
        next.map(ListCursor)
    }

    /// Panics where the parts contradict themselves or each other. Looks at everything: for tests.
    pub fn check_invariants(&self) {
        self.entries.check_invariants();
        self.ready.check_invariants(&self.entries);
        let hints = self.wheel.check_invariants(|hint| hinted_due_ms(&self.entries, hint));
        let hinted: BTreeSet<u32> = hints.into_iter().map(Hint::name).collect();
        self.index.check_invariants(|name| self.index.hash(entry::id(&self.entries[name])));
        let (mut found, mut from, mut no_limit) = (Census::default(), 0, usize::MAX);
        while let Step::Entry(name) = self.entries.next_from(from, &mut no_limit) {
            self.check_entry(name, &hinted, &mut found);
            from = name + 1;
        }
        assert_eq!(found.entries, self.entries.len(), "entries");
        assert_eq!(found.entries, self.index.len(), "entries in the index");
        assert_eq!(found.waiting, self.waiting, "schedules in the wheel");
        assert_eq!(found.ready, self.ready.len(), "ready schedules");
        assert_eq!(found.in_flight, self.in_flight, "schedules in flight");
        assert_eq!(found.aside, self.aside.len(), "schedules set aside");
        assert_eq!(found.aside, self.aside.retry_at_ms.len(), "retry times");
        assert_eq!(found.held, self.held, "schedules held");
        assert_eq!(found.payload_bytes, self.payload_bytes, "bytes of payloads");
        assert_eq!(found.content_bytes, self.content_bytes, "bytes of content");
        self.topics.check_invariants(&found.topics);
    }

    fn check_entry(&self, name: u32, hinted: &BTreeSet<u32>, found: &mut Census) {
        let bytes = &self.entries[name];
        let parts = entry::parts(bytes);
        assert_eq!(self.find(self.index.hash(parts.id), parts.id), Some(name), "entry {name} is not found");
        found.entries += 1;
        found.payload_bytes += parts.packed_bytes();
        found.content_bytes += parts.content_bytes() + self.topics.name(parts.topic).len();
        *found.topics.entry(parts.topic).or_default() += 1;
        match entry::place(bytes) {
            Place::Free => unreachable!("a walk gives entries only"),
            Place::Unfiled => assert_ne!(self.bulk, Bulk::Done, "entry {name} is in no place"),
            Place::Waiting => {
                assert!(hinted.contains(&name), "no hint leads to entry {name}");
                found.waiting += 1;
            }
            Place::Line | Place::OutOfLine => {
                assert!(parts.due_ms <= self.wheel.now_ms(), "entry {name} is ready too early");
                found.ready += 1;
            }
            Place::InFlight => found.in_flight += 1,
            Place::Aside => {
                let retry_at_ms = self.aside.retry_at_ms[&name];
                assert!(self.aside.by_time.contains(&(retry_at_ms, name)), "entry {name} is lost aside");
                found.aside += 1;
            }
            Place::Held => found.held += 1,
        }
    }

    fn find(&self, hash: u32, id: &[u8]) -> Option<u32> {
        self.index.find(hash, |name| entry::id(&self.entries[name]) == id)
    }

    fn current(&self, handle: Handle) -> Option<u32> {
        let is_it = |bytes: &[u8]| entry::offset(bytes) == handle.offset;
        if self.entries.get(handle.name).is_some_and(is_it) {
            return Some(handle.name);
        }
        self.index.find(handle.hash, |name| is_it(&self.entries[name]))
    }

    fn handle_of(&self, name: u32, hash: u32) -> Handle {
        Handle { name, hash, offset: entry::offset(&self.entries[name]) }
    }

    fn view_of(&self, name: u32) -> View<'_> {
        let bytes = &self.entries[name];
        let parts = entry::parts(bytes);
        View {
            id: parts.id,
            offset: parts.offset,
            format: parts.format,
            state: state(bytes),
            schedule: Schedule {
                due: DueTime::from_epoch_ms(parts.due_ms),
                topic: self.topics.name(parts.topic),
                key: parts.key,
                value: parts.value,
                headers: parts.headers,
            },
            record_headers: parts.record_headers,
        }
    }

    /// The wheel, and what it needs of the rest.
    fn wheel_and_due(&mut self) -> (&mut Wheel, Due<'_>) {
        let Self { entries, wheel, waiting, ready, .. } = self;
        (wheel, Due { entries, waiting, ready })
    }

    /// Puts the new version in the place of the one at `name`; returns the state that was in.
    fn replace(&mut self, name: u32, hash: u32, parts: &Parts<'_>, packed_bytes: usize) -> EntryState {
        let bytes = &self.entries[name];
        let previous = state(bytes);
        let fits = self.entries.fits(name, packed_bytes);
        let is_as_due = entry::place(bytes) == Place::Waiting && entry::due_ms(bytes) == parts.due_ms;
        self.count_out(name);
        if fits && is_as_due {
            parts.pack(&mut self.entries[name]);
            return previous; // the hint leads here as before
        }
        self.detach(name);
        let name = if fits {
            name
        } else {
            self.entries.free(name);
            let new = self.entries.allocate(packed_bytes);
            self.index.rename(hash, name, new);
            new
        };
        parts.pack(&mut self.entries[name]);
        self.file_unless_loading(name);
        previous
    }

    /// Removes the entry at `name`; returns the state it was in.
    fn take_out(&mut self, name: u32, hash: u32) -> EntryState {
        let previous = state(&self.entries[name]);
        self.count_out(name);
        self.detach(name);
        self.index.remove(hash, name);
        self.entries.free(name);
        if self.bulk == Bulk::Done {
            // Not before: the tables that the load expects to fill would go.
            self.index.contract();
        }
        previous
    }

    fn file_unless_loading(&mut self, name: u32) {
        match self.bulk {
            Bulk::Loading | Bulk::Measuring { .. } => {}
            Bulk::Filing { .. } | Bulk::Done => self.file(name),
        }
    }

    /// Puts the entry at `name`, which is nowhere, where its due time belongs.
    fn file(&mut self, name: u32) {
        let (wheel, mut due) = self.wheel_and_due();
        due.file(wheel, name);
    }

    /// Takes the entry at `name` out of the place it is in.
    fn detach(&mut self, name: u32) {
        match entry::place(&self.entries[name]) {
            Place::Free | Place::Unfiled => {}
            Place::Waiting => self.forget_hint(),
            Place::Line | Place::OutOfLine => self.ready.remove(&mut self.entries, name),
            Place::InFlight => self.in_flight -= 1,
            Place::Aside => drop(self.aside.remove(name)),
            Place::Held => self.held -= 1,
        }
        entry::set_place(&mut self.entries[name], Place::Unfiled);
    }

    /// Moves a few entries to where there is room, so that their segment may go; false if there are none.
    fn relocate_some(&mut self, budget: &mut usize) -> bool {
        if !self.entries.is_sparse() {
            return false;
        }
        let before = *budget;
        let moves = self.entries.next_to_move(budget);
        self.hashes.clear();
        for &name in moves.names() {
            let hash = self.index.hash(entry::id(&self.entries[name]));
            self.index.prefetch(hash);
            self.hashes.push(hash);
        }
        for (at, &name) in moves.names().iter().enumerate() {
            *budget = budget.saturating_sub(RELOCATION_STEPS + self.entries.block_bytes(name) / BYTES_A_STEP);
            self.relocate(name, self.hashes[at]);
        }
        *budget < before
    }

    fn relocate(&mut self, name: u32, hash: u32) {
        let place = entry::place(&self.entries[name]);
        match place {
            Place::Waiting => self.forget_hint(),
            Place::Line | Place::OutOfLine => self.ready.remove(&mut self.entries, name),
            Place::Free | Place::Unfiled | Place::InFlight | Place::Aside | Place::Held => {}
        }
        let moved = self.entries.move_entry(name);
        self.index.rename(hash, name, moved);
        match place {
            Place::Waiting | Place::Line | Place::OutOfLine => self.file(moved),
            Place::Aside => {
                let retry_at_ms = self.aside.remove(name);
                self.aside.insert(moved, retry_at_ms);
            }
            Place::Free | Place::Unfiled | Place::InFlight | Place::Held => {}
        }
    }

    /// A schedule in the wheel is not there any more: its hint is stale.
    fn forget_hint(&mut self) {
        self.waiting -= 1;
        self.sweeping.since += 1;
    }

    fn is_untidy(&self) -> bool {
        self.sweeping.is_under_way || self.has_much_stale() || self.entries.is_sparse()
    }

    /// Hints to be dropped, but for those that the last sweep could not tell.
    fn has_much_stale(&self) -> bool {
        let stale = self.wheel.len() - self.waiting;
        stale > self.sweeping.left + self.waiting / STALE_DIVISOR + STALE_ALWAYS
    }

    fn sweep(&mut self, budget: &mut usize) {
        if !self.sweeping.is_under_way && !self.has_much_stale() {
            return;
        }
        if !self.sweeping.is_under_way {
            self.sweeping.since = 0;
        }
        let entries = &self.entries;
        let read_ahead = |hints: &[Hint]| hints.iter().for_each(|hint| entries.prefetch(hint.name()));
        let is_current = |hint| hinted_due_ms(entries, hint).is_some();
        let is_round = self.wheel.sweep(budget, read_ahead, is_current);
        self.sweeping.is_under_way = !is_round;
        if is_round {
            self.sweeping.left = (self.wheel.len() - self.waiting).saturating_sub(self.sweeping.since);
        }
    }

    fn measure(&mut self, mut cursor: u32, mut earliest_ms: i64, budget: usize) -> Bulk {
        let mut left = budget;
        loop {
            match self.entries.next_from(cursor, &mut left) {
                Step::Entry(name) => {
                    earliest_ms = earliest_ms.min(entry::due_ms(&self.entries[name]));
                    cursor = name + 1;
                }
                Step::Paused(cursor) => return Bulk::Measuring { cursor, earliest_ms },
                Step::End => break,
            }
        }
        self.wheel = Wheel::new(if self.is_empty() { 0 } else { earliest_ms.min(self.latest_start_ms) });
        Bulk::Filing { cursor: 0 }
    }

    fn file_from(&mut self, mut cursor: u32, budget: usize) -> Bulk {
        let mut left = budget;
        loop {
            match self.entries.next_from(cursor, &mut left) {
                Step::Entry(name) => {
                    if entry::place(&self.entries[name]) == Place::Unfiled {
                        self.file(name);
                    }
                    cursor = name + 1;
                }
                Step::Paused(cursor) => return Bulk::Filing { cursor },
                Step::End => return Bulk::Done,
            }
        }
    }

    fn count_out(&mut self, name: u32) {
        let parts = entry::parts(&self.entries[name]);
        self.payload_bytes -= parts.packed_bytes();
        self.content_bytes -= parts.content_bytes() + self.topics.name(parts.topic).len();
        self.topics.release(parts.topic);
    }
}

/// What the wheel needs of the rest of the set.
struct Due<'a> {
    entries: &'a mut Arena,
    waiting: &'a mut usize,
    ready: &'a mut Ready,
}

impl Due<'_> {
    /// Puts the entry at `name`, which is nowhere, where its due time belongs.
    fn file(&mut self, wheel: &mut Wheel, name: u32) {
        let bytes = &mut self.entries[name];
        let due_ms = entry::due_ms(bytes);
        let stamp = entry::renew_stamp(bytes);
        if wheel.file(Hint::new(name, stamp, due_ms), due_ms) == Filed::Waiting {
            entry::set_place(bytes, Place::Waiting);
            *self.waiting += 1;
        } else {
            self.ready.sort_in(self.entries, name);
        }
    }
}

/// When the entry of a hint in the wheel is due; `None` if the hint is stale.
fn hinted_due_ms(entries: &Arena, hint: Hint) -> Option<i64> {
    let bytes = entries.get(hint.name())?;
    entry::is_hinted(bytes, hint, Place::Waiting).then(|| entry::due_ms(bytes))
}

impl Entries for Due<'_> {
    fn due_ms(&self, hint: Hint) -> Option<i64> {
        hinted_due_ms(self.entries, hint)
    }

    fn read_ahead(&self, hints: &[Hint]) {
        for hint in hints {
            self.entries.prefetch(hint.name());
        }
    }

    fn expire(&mut self, hints: &[Hint], due_ms: i64) {
        for &hint in hints {
            if self.due_ms(hint) == Some(due_ms) {
                *self.waiting -= 1;
                self.ready.join(self.entries, hint.name());
            }
        }
    }
}

/// The wheel is rid of stale hints when they are more than this part of the schedules in it…
const STALE_DIVISOR: usize = 4;
/// …and more than that.
const STALE_ALWAYS: usize = 256;

/// How many steps of [`PendingSet::tidy`]'s budget it takes to move an entry…
const RELOCATION_STEPS: usize = 8;
/// …and how many bytes of it are another step.
const BYTES_A_STEP: usize = 256;

fn state(bytes: &[u8]) -> EntryState {
    match entry::place(bytes) {
        Place::Free | Place::Unfiled | Place::Waiting | Place::Line | Place::OutOfLine => EntryState::Pending,
        Place::InFlight => EntryState::InFlight,
        Place::Aside | Place::Held => EntryState::SetAside,
    }
}

/// What [`PendingSet::check_invariants`] counts, to compare with what the set believes.
#[derive(Default)]
struct Census {
    entries: usize,
    waiting: usize,
    ready: usize,
    in_flight: usize,
    aside: usize,
    held: usize,
    payload_bytes: usize,
    content_bytes: usize,
    topics: BTreeMap<TopicId, usize>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const ALL: BatchLimits = BatchLimits { max_count: usize::MAX, max_bytes: usize::MAX };

    fn set(id: &[u8], offset: i64, due_ms: i64, set: &mut PendingSet) -> Handle {
        let due = DueTime::from_epoch_ms(due_ms);
        let schedule =
            Schedule { due, topic: "to", key: b"k", value: Some(b"v"), headers: Headers::default() };
        set.upsert(id, offset, Format::Avro, &schedule, Headers::default());
        set.get(id).expect("just applied").0
    }

    fn live() -> PendingSet {
        let mut live = PendingSet::new(1);
        assert!(live.finish_bulk(1));
        live
    }

    fn due(pending: &mut PendingSet, now_ms: i64, limits: BatchLimits) -> Vec<Handle> {
        let mut batch = Vec::new();
        while !pending.advance(now_ms, 1_000) {}
        pending.take_due(now_ms, limits, &mut batch);
        pending.check_invariants();
        batch
    }

    #[test]
    #[cfg_attr(miri, ignore = "too many IDs")]
    fn ids_with_the_same_hash_stay_apart() {
        let mut pending = live();
        let mut seen = BTreeMap::new();
        let same = (0u32..).find_map(|n| {
            let id = n.to_le_bytes();
            seen.insert(pending.index.hash(&id), id).map(|other| [other, id])
        });
        let [a, b] = same.expect("32 bits are few");
        let [first, second] = [set(&a, 1, 10, &mut pending), set(&b, 2, 20, &mut pending)];
        pending.check_invariants();
        assert_eq!(pending.get(&a).unwrap().0, first);
        let (mut cursor, mut listed) = (Some(ListCursor::default()), Vec::new());
        while let Some(from) = cursor {
            cursor = pending.list(from, 1, &mut |view| listed.push(view.offset));
        }
        listed.sort_unstable();
        assert_eq!(listed, [1, 2], "each once, though a cursor cannot lie between them");
        assert_eq!(pending.remove(&b, 3), Some(EntryState::Pending));
        assert!(pending.is_current(first) && !pending.is_current(second));
        pending.check_invariants();
    }

    #[test]
    fn a_handle_is_stale_after_a_replace_and_names_no_other_after_a_removal() {
        let mut pending = live();
        let first = set(b"a", 1, 10, &mut pending);
        let second = set(b"a", 2, 10, &mut pending);
        assert!(!pending.is_current(first) && pending.is_current(second));
        pending.remove(b"a", 3);
        let third = set(b"b", 4, 10, &mut pending);
        assert_eq!(third.name, second.name, "or the test is none");
        pending.release(second);
        pending.set_aside(second, 5);
        pending.hold(second);
        assert!(!pending.settle(second));
        assert_eq!(pending.view(second), None);
        assert_eq!(pending.view(third).unwrap().state, EntryState::Pending);
    }

    #[test]
    fn a_replace_takes_a_schedule_out_of_its_batch() {
        let mut pending = live();
        set(b"a", 1, 10, &mut pending);
        let batch = due(&mut pending, 10, ALL);
        set(b"a", 2, 30, &mut pending);
        pending.release(batch[0]);
        assert_eq!((pending.in_flight(), pending.ready_len()), (0, 0));
        assert_eq!(due(&mut pending, 29, ALL), []);
        assert_eq!(due(&mut pending, 30, ALL).len(), 1);
    }

    #[test]
    fn an_aborted_batch_comes_again_in_due_order_before_what_is_due_later() {
        let mut pending = live();
        for (offset, due_ms) in [30, 10, 20, 40].into_iter().enumerate() {
            set(&[offset as u8], offset as i64, due_ms, &mut pending);
        }
        let batch = due(&mut pending, 50, BatchLimits { max_count: 3, ..ALL });
        for &handle in &batch {
            pending.release(handle);
        }
        let again = due(&mut pending, 50, ALL);
        assert_eq!(again[..3], batch);
        assert_eq!(again.len(), 4);
    }

    #[test]
    fn a_schedule_set_aside_comes_at_its_retry_time_but_never_before_it_is_due() {
        let mut pending = live();
        let [late, early] = [set(b"a", 1, 10, &mut pending), set(b"b", 2, 500, &mut pending)];
        due(&mut pending, 20, ALL);
        pending.set_aside(late, 100);
        pending.set_aside(early, 200);
        assert_eq!((pending.set_aside_len(), pending.next_wake()), (2, Some(100)));
        assert_eq!(due(&mut pending, 99, ALL), []);
        assert_eq!(due(&mut pending, 100, ALL), [late]);
        assert_eq!(due(&mut pending, 499, ALL), []);
        assert_eq!(due(&mut pending, 500, ALL), [early]);
    }

    #[test]
    fn a_schedule_held_waits_for_a_newer_record() {
        let mut pending = live();
        let held = set(b"a", 1, 10, &mut pending);
        pending.hold(held);
        pending.set_aside(held, 20);
        pending.release(held);
        assert_eq!((due(&mut pending, i64::MAX, ALL), pending.next_wake()), (vec![], None));
        let newer = set(b"a", 2, 10, &mut pending);
        assert_eq!(due(&mut pending, 10, ALL), [newer]);
    }

    #[test]
    fn what_is_ready_waits_when_the_clock_is_set_back() {
        let mut pending = live();
        set(b"a", 1, 1_000, &mut pending);
        assert!(pending.advance(2_000, 10));
        set(b"b", 2, 500, &mut pending);
        assert_eq!(due(&mut pending, 499, ALL), []);
        assert_eq!(pending.next_wake(), Some(500));
        assert_eq!(due(&mut pending, 999, ALL).len(), 1);
        assert_eq!(pending.next_wake(), Some(1_000));
        assert_eq!(due(&mut pending, 1_000, ALL).len(), 1);
    }

    #[test]
    fn a_bulk_load_is_finished_in_pieces_and_gives_what_is_overdue_in_order() {
        let mut pending = PendingSet::with_expected(1, 100);
        for offset in 0..100 {
            set(&[offset as u8], offset, 1_000_000 + offset * 37 % 100, &mut pending);
        }
        assert_eq!(due(&mut pending, i64::MAX, ALL), []);
        let mut calls = 1;
        while !pending.finish_bulk(10) {
            pending.check_invariants();
            if calls == 5 {
                set(b"early", 100, -5, &mut pending);
            }
            calls += 1;
        }
        assert!(calls > 10, "{calls} calls");
        let batch = due(&mut pending, 2_000_000, ALL);
        let dues_ms: Vec<_> = batch.iter().map(|&h| pending.view(h).unwrap().schedule.due).collect();
        assert!(dues_ms.is_sorted() && dues_ms.len() == 101);
        assert!(pending.ready.len() == 0 && pending.next_wake().is_none());
    }

    #[test]
    fn what_is_set_again_and_again_leaves_nothing_behind() {
        let mut pending = live();
        for offset in 0..20_000 {
            // To and fro between two times, the case in which a hint of long ago would fit again.
            set(b"a", offset, 1_000_000 + offset % 2 * 10, &mut pending);
            if offset % 100 == 0 {
                while !pending.tidy(0, 1_000) {}
                assert!(pending.wheel.len() < 600, "{} hints for one schedule", pending.wheel.len());
            }
        }
        let mut counts = [0];
        pending.due_within(0, &[2_000_000], &mut counts);
        assert_eq!(counts, [1]);
        assert_eq!(due(&mut pending, 1_000_009, ALL), []);
        assert_eq!(due(&mut pending, 1_000_010, ALL).len(), 1);
    }

    #[test]
    fn when_most_are_cancelled_most_of_the_memory_goes_and_handles_lead_on() {
        let mut pending = live();
        let stays = |n: u32| n.is_multiple_of(10);
        for n in 0..100_000u32 {
            set(&n.to_le_bytes(), i64::from(n), 1_000 + i64::from(n % 2_000), &mut pending);
        }
        let full = pending.structure_bytes() + pending.payload_bytes();
        let in_flight = due(&mut pending, 1_000, ALL);
        for n in (0..100_000u32).filter(|&n| !stays(n)) {
            pending.remove(&n.to_le_bytes(), i64::MAX);
        }
        let kept: Vec<_> =
            (0..100_000u32).filter(|&n| stays(n)).map(|n| pending.get(&n.to_le_bytes()).unwrap().0).collect();
        let mut calls = 0;
        while !pending.tidy(1_000, 100) {
            calls += 1;
        }
        pending.check_invariants();
        assert!(calls > 100, "{calls} calls: more than its budget in one");
        let left = pending.structure_bytes() + pending.payload_bytes();
        assert!(left < full / 3, "{left} of {full} bytes");
        assert!(kept.iter().any(|handle| pending.entries.get(handle.name).is_none()), "or nothing was moved");
        assert!(kept.iter().all(|&handle| pending.view(handle).is_some()));
        let (gone, there): (Vec<Handle>, Vec<Handle>) =
            in_flight.into_iter().partition(|&handle| pending.view(handle).is_none());
        assert_eq!((gone.len(), there.len()), (0, 50), "every tenth of those due at 1,000 stays");
        for handle in there {
            pending.release(handle);
        }
        assert_eq!(due(&mut pending, 10_000, ALL).len(), 10_000);
    }

    #[test]
    fn a_schedule_that_is_moved_waits_for_what_it_waited_for() {
        const COUNT: u32 = 96_000;
        let mut pending = live();
        let all = || (0..COUNT).map(|n| (n, n.to_le_bytes()));
        for (n, id) in all() {
            set(&id, n.into(), 10_000, &mut pending);
        }
        pending.advance(1_000, 0);
        // Every tenth stays, a sixth of those in each place.
        let again = |pending: &mut PendingSet, place: u32, due_ms: i64| -> Vec<Handle> {
            let ids = all().filter(|(n, _)| n % 60 == place * 10);
            ids.map(|(n, id)| set(&id, (COUNT + n).into(), due_ms, pending)).collect()
        };
        let waiting = again(&mut pending, 0, 10_000);
        let in_flight = again(&mut pending, 1, 100);
        assert_eq!(due(&mut pending, 1_000, ALL), in_flight);
        let aside = again(&mut pending, 2, 900);
        for &handle in &aside {
            pending.set_aside(handle, 5_000);
        }
        let held = again(&mut pending, 3, 900);
        for &handle in &held {
            pending.hold(handle);
        }
        let in_line = again(&mut pending, 4, 1_000);
        let out_of_line = again(&mut pending, 5, 500);
        for (_, id) in all().filter(|(n, _)| n % 10 > 0) {
            pending.remove(&id, i64::MAX);
        }
        while !pending.tidy(1_000, 1_000) {}
        pending.check_invariants();
        let is_moved = |&handle: &Handle| pending.current(handle) != Some(handle.name);
        for group in [&waiting, &in_flight, &aside, &held, &in_line, &out_of_line] {
            assert!(group.iter().any(is_moved), "or the test is none");
        }

        let sorted = |mut handles: Vec<Handle>| {
            handles.sort_unstable_by_key(|handle| handle.offset());
            handles.iter().map(|handle| handle.offset()).collect::<Vec<_>>()
        };
        let first = due(&mut pending, 1_000, ALL);
        let (early, late) = first.split_at(out_of_line.len());
        assert_eq!(sorted(early.to_vec()), sorted(out_of_line), "the earliest come first");
        assert_eq!(sorted(late.to_vec()), sorted(in_line));
        assert_eq!(due(&mut pending, 4_999, ALL), []);
        assert_eq!(sorted(due(&mut pending, 5_000, ALL)), sorted(aside));
        assert_eq!(sorted(due(&mut pending, 10_000, ALL)), sorted(waiting));
        assert_eq!(pending.set_aside_len(), held.len());
        for &handle in &in_flight {
            pending.release(handle);
        }
        assert_eq!(sorted(due(&mut pending, 10_000, ALL)), sorted(in_flight));
    }

    #[test]
    fn to_move_a_schedule_is_several_steps_of_tidying() {
        let mut pending = live();
        pending.advance(1_000, 0);
        let all: Vec<Handle> =
            (0..120_000u32).map(|n| set(&n.to_le_bytes(), n.into(), 1_000, &mut pending)).collect();
        for handle in all.iter().step_by(3) {
            assert!(pending.settle(*handle));
        }
        assert!(!pending.tidy(1_000, 800));
        let is_moved = |handle: &&Handle| pending.current(**handle).is_some_and(|name| name != handle.name);
        let moved = all.iter().filter(is_moved).count();
        assert!((1..800 / RELOCATION_STEPS + 32).contains(&moved), "{moved} were moved");
    }

    #[test]
    fn a_hint_of_long_ago_makes_nothing_ready() {
        let mut pending = live();
        // A stamp has eight bits and a hint the lower 24 of its due time: the last is as the first.
        for offset in 0..=256 {
            set(b"a", offset, 1_000 + (offset << 24), &mut pending);
        }
        assert_eq!(due(&mut pending, 1_000, ALL), []);
        assert_eq!(pending.ready_len(), 0);
        let due_ms = 1_000 + (256 << 24);
        assert_eq!(due(&mut pending, due_ms - 1, ALL), []);
        assert_eq!(due(&mut pending, due_ms, ALL).len(), 1);
    }

    #[test]
    fn hints_with_the_stamp_of_the_current_one_are_told_apart_by_their_due_times() {
        let mut pending = live();
        for offset in 0..=256 * 3 {
            set(b"a", offset, 1_000_000 + offset, &mut pending);
        }
        while !pending.tidy(0, 1_000) {}
        assert_eq!(pending.wheel.len(), 1);
    }

    #[test]
    fn hints_that_cannot_be_told_from_the_current_one_do_not_keep_tidy_busy() {
        let mut pending = live();
        // To and fro: each 256th hint has the stamp and the due time of the last.
        for offset in 0..256 * 400 {
            set(b"a", offset, 1_000_000 + offset % 2 * 10, &mut pending);
        }
        assert_eq!(pending.next_tidy(), Some(i64::MIN), "at once");
        let calls = (0..1_000).take_while(|_| !pending.tidy(0, 1_000)).count();
        assert!(calls < 1_000, "tidy does not come to an end");
        assert!(pending.wheel.len() > STALE_ALWAYS, "or the test is none");
        assert!(pending.next_tidy() > Some(0));
        assert_eq!(due(&mut pending, 1_000_010, ALL).len(), 1);
    }

    #[test]
    fn time_starts_no_later_than_it_is_told_to() {
        let mut pending = PendingSet::new(1);
        set(b"late", 0, 1_000_000, &mut pending);
        pending.start_time_by(5);
        assert!(pending.finish_bulk(10));
        set(b"sooner", 1, 500, &mut pending);
        assert_eq!(pending.ready_len(), 0, "it is not due yet, and the wheel has a place for it");
        assert_eq!(due(&mut pending, 500, ALL).len(), 1);
    }

    #[test]
    fn a_replace_that_changes_neither_due_time_nor_size_leaves_nothing_to_tidy() {
        let mut pending = live();
        for offset in 0..1_000 {
            set(b"a", offset, 1_000, &mut pending);
        }
        assert_eq!(pending.wheel.len(), 1);
    }

    #[test]
    fn limits_hold_but_never_stop_a_single_schedule() {
        let mut pending = live();
        for offset in 0..5 {
            set(&[offset as u8], offset, 10, &mut pending);
        }
        let one = pending.payload_bytes() / 5;
        let count = |pending: &mut PendingSet, max_count, max_bytes| {
            let batch = due(pending, 10, BatchLimits { max_count, max_bytes });
            batch.iter().rev().for_each(|&handle| pending.release(handle));
            batch.len()
        };
        assert_eq!(count(&mut pending, 2, usize::MAX), 2);
        assert_eq!(count(&mut pending, 5, 3 * one), 3);
        assert_eq!(count(&mut pending, 5, 3 * one - 1), 2);
        assert_eq!(count(&mut pending, 0, 0), 1);
    }

    #[test]
    fn counts_within_a_horizon_are_whole_slots() {
        let mut pending = live();
        pending.advance(1_000_000, 0);
        for (offset, due_ms) in [999_000, 1_000_000, 1_000_010, 1_060_000, 90_000_000].into_iter().enumerate()
        {
            set(&[offset as u8], offset as i64, due_ms, &mut pending);
        }
        let mut counts = [0; 4];
        pending.due_within(1_000_000, &[0, 10, 60_000, 80_000_000], &mut counts);
        assert_eq!(counts, [2, 3, 4, 4]);
        pending.due_within(1_000_000, &[0, 86_400_000], &mut counts[..2]);
        assert_eq!(counts[..2], [2, 5], "the last one's slot of 4.7 h has begun by then");
    }
}
