//! The pending set of a shard: every schedule that has not been delivered, by its ID and by its due time.

mod aside;
mod check;
mod due;
mod handle;
mod load;
mod snapshot;
#[cfg(test)]
mod testing;
mod tidy;
mod view;

use super::arena::Arena;
use super::entry::{self, Parts, Place};
use super::index::Index;
use super::ready::Ready;
use super::topics::Topics;
use super::wheel::Wheel;
use crate::schedule::{Format, Headers, Schedule};
use aside::Aside;
pub use handle::Handle;
use load::Bulk;
use tidy::Sweeping;
pub use view::{EntryState, ListCursor, View};

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

/// Traces of removed schedules that [`take_due`](PendingSet::take_due) passes over in one call.
const LOOKS_A_BATCH: usize = 1_024;

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
/// ID; its `Place` says which part has to let it go, and that part, or its counter here, knows it; to an entry that
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

impl PendingSet {
    /// An empty set in bulk mode. The seed keys the hash of the IDs: random in production, fixed in a test.
    #[must_use]
    pub fn new(hash_seed: u64) -> Self {
        Self {
            entries: Arena::new(),
            index: Index::new(hash_seed),
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

    /// The earliest time, epoch milliseconds, at which [`advance`](Self::advance) or [`take_due`](Self::take_due) may
    /// have something to do: never too late, possibly too early, in the past where something is ready. `None` while
    /// nothing will ever be due by itself, as in bulk mode.
    #[must_use]
    pub fn next_wake(&self) -> Option<i64> {
        if self.bulk != Bulk::Done {
            return None;
        }
        let retry_at_ms = self.aside.first().map(|(retry_at_ms, _)| retry_at_ms);
        // While nothing waits, whatever is in the wheel is stale.
        let wheel_ms = self.wheel.next_wake_ms().filter(|_| self.waiting > 0);
        let ready_ms =
            if self.ready.is_front_known(&self.entries) { self.oldest_due() } else { Some(i64::MIN) };
        [ready_ms, wheel_ms, retry_at_ms].into_iter().flatten().min()
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

    /// Hands out ready schedules in due order, appending them to `out`; they are in flight from then on.
    ///
    /// Whatever [`advance`](Self::advance) was told, nothing is handed out before its due time by `now_ms`. Stops
    /// before the schedule that would exceed a limit, but if anything is due then at least one is handed out,
    /// however large; unless thousands that were due before it were removed since, and it has to be looked for: then
    /// [`next_wake`](Self::next_wake) says that there is more to do, and the next call looks on.
    pub fn take_due(&mut self, now_ms: i64, limits: BatchLimits, out: &mut Vec<Handle>) {
        if self.bulk != Bulk::Done {
            return;
        }
        let (mut count, mut bytes, mut looks) = (0, 0, LOOKS_A_BATCH);
        while self.ready.trim(&self.entries, &mut looks)
            && let Some(name) = self.ready.front(&self.entries)
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

    /// The clock was set forward by `step_ms`, or back if negative. Due times mean what they say by any clock; what is set
    /// aside waits for as long as it would have waited.
    pub fn clock_was_set(&mut self, step_ms: i64) {
        self.aside.clock_was_set(step_ms);
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

    /// The due time, epoch milliseconds, of what has been ready for longest; `None` when nothing is ready, or it is
    /// not known yet which.
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
    /// about a quarter where schedules were cancelled or replaced that [`tidy`](Self::tidy) has not forgotten yet: but
    /// where there are few, each is looked at. Zero in bulk mode.
    pub fn due_within(&self, now_ms: i64, horizons_ms: &[i64], out: &mut [u64]) {
        const FEW: usize = 1_024;
        if self.bulk == Bulk::Done && self.wheel.len() > self.waiting && self.wheel.len() <= FEW {
            out.fill(self.ready.len() as u64);
            let waiting = self.wheel.hints().filter_map(|hint| due::hinted_due_ms(&self.entries, hint));
            for due_ms in waiting {
                let horizons = horizons_ms.iter().zip(&mut *out);
                horizons
                    .filter(|(horizon_ms, _)| due_ms <= now_ms.saturating_add(**horizon_ms))
                    .for_each(|(_, count)| *count += 1);
            }
            // A hint of long ago may have the stamp of the entry's own by chance.
            let all = (self.ready.len() + self.waiting) as u64;
            for count in out {
                *count = (*count).min(all);
            }
            return;
        }
        for (&horizon_ms, count) in horizons_ms.iter().zip(out) {
            let waiting = self.wheel.count_until(now_ms.saturating_add(horizon_ms)).min(self.waiting);
            *count = if self.bulk == Bulk::Done { (self.ready.len() + waiting) as u64 } else { 0 };
        }
    }

    /// The name of the entry with this ID.
    fn find(&self, hash: u32, id: &[u8]) -> Option<u32> {
        self.index.find(hash, |name| entry::id(&self.entries[name]) == id)
    }

    /// Puts the new version in the place of the one at `name`; returns the state that was in.
    fn replace(&mut self, name: u32, hash: u32, parts: &Parts<'_>, packed_bytes: usize) -> EntryState {
        let bytes = &self.entries[name];
        let previous = EntryState::of(bytes);
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
        let previous = EntryState::of(&self.entries[name]);
        self.count_out(name);
        self.detach(name);
        self.index.remove(hash, name);
        self.entries.free(name);
        self.index.contract();
        previous
    }

    /// Takes the entry at `name` out of the place it is in; it is nowhere then.
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

    /// Takes the entry at `name` off what is counted: bytes, and users of topics.
    fn count_out(&mut self, name: u32) {
        let parts = entry::parts(&self.entries[name]);
        self.payload_bytes -= parts.packed_bytes();
        self.content_bytes -= parts.content_bytes() + self.topics.name(parts.topic).len();
        self.topics.release(parts.topic);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::testing::{ALL, due, live, set};
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn what_follows_many_cancelled_ones_is_found_in_pieces() {
        const COUNT: u32 = 10_000;
        let mut pending = live();
        for n in 0..COUNT {
            set(&n.to_le_bytes(), 0, 1_000, &mut pending);
        }
        while !pending.advance(1_000, 1_000) {}
        assert_eq!(pending.oldest_due(), Some(1_000));
        // From the last but one to the first, so that each but the first leaves its trace behind.
        for n in (0..COUNT - 1).rev() {
            pending.remove(&n.to_le_bytes(), i64::MAX);
        }
        let (mut batch, mut calls) = (Vec::new(), 0);
        while batch.is_empty() {
            assert_eq!(pending.next_wake(), Some(i64::MIN), "after {calls} calls");
            pending.check_invariants();
            pending.take_due(1_000, ALL, &mut batch);
            calls += 1;
        }
        assert_eq!(calls, (COUNT as usize).div_ceil(LOOKS_A_BATCH));
        assert_eq!(pending.view(batch[0]).unwrap().id, (COUNT - 1).to_le_bytes());
        assert_eq!(pending.next_wake(), None);
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
            cursor = pending.list(from, 1, &mut |view| {
                listed.push(view.offset);
                true
            });
        }
        listed.sort_unstable();
        assert_eq!(listed, [1, 2], "each once, though a cursor cannot lie between them");
        listed.clear();
        set(b"other", 4, 10, &mut pending);
        cursor = Some(ListCursor::default());
        while let Some(from) = cursor {
            // Enough each time.
            cursor = pending.list(from, usize::MAX, &mut |view| {
                listed.push(view.offset);
                false
            });
        }
        listed.sort_unstable();
        assert_eq!(listed, [1, 2, 4]);
        pending.remove(b"other", 5);
        assert_eq!(pending.remove(&b, 3), Some(EntryState::Pending));
        assert!(pending.is_current(first) && !pending.is_current(second));
        pending.check_invariants();
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
    fn of_a_few_those_that_are_cancelled_or_put_off_count_no_more() {
        let mut pending = live();
        for offset in 0..6 {
            set(&[offset as u8], offset, 1_800_000, &mut pending);
        }
        set(b"far", 6, 8_640_000_000, &mut pending);
        pending.remove(&[0], 7);
        set(&[1], 8, 7_200_000, &mut pending);
        let mut counts = [0; 3];
        pending.due_within(0, &[3_600_000, 86_400_000, i64::MAX], &mut counts);
        assert_eq!(counts, [4, 5, 6]);
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
