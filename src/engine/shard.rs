//! The state machine of one owned partition: records and outcomes in, batches out.
//!
//! ```text
//! Unfenced ──fenced(target)──► CatchingUp ──applied ≥ target──► Filing ──► Live
//!     ▲                            ▲                                        │
//!     └────────── unfence ─────────┴──────────── unfence ───────────────────┘
//! ```
//!
//! Invariants: nothing is sealed unless Live; an entry leaves the set only because the log said so ([`Shard::apply`],
//! [`Shard::settle`]); every entry of a sealed batch is in flight until it is settled or released.

use std::ops::Range;

use super::pending::{BatchLimits, EntryState, Handle, PendingSet, Upserted};
use crate::schedule::{Format, Headers, Schedule};

/// Where a shard stands between taking its partition over and firing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The producer is not (or no longer) known to be the partition's only writer.
    Unfenced,
    /// Fenced; the log is applied up to the end it had after the fence.
    CatchingUp {
        /// The high watermark taken after the fence.
        target: i64,
    },
    /// Everything is applied; the survivors are filed into the timing wheel.
    Filing,
    /// Fires.
    Live,
}

/// What a record of the schedule topic says about its key.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// The key's schedule from now on.
    Schedule {
        /// How it was written.
        format: Format,
        /// The schedule.
        schedule: Schedule<'a>,
        /// The headers of the record itself.
        record_headers: Headers<'a>,
        /// The offset of the version that the record repeats, when it says that it repeats one of this very partition of
        /// this very topic. A version between the two was not known to whoever repeated it, and must not be lost.
        repeats: Option<i64>,
    },
    /// The key has no schedule any more.
    Tombstone {
        /// The offset of the version whose firing the tombstone acknowledges, when it names this very partition of
        /// this very topic. A version newer than that was not fired and must not be lost.
        fired: Option<i64>,
    },
    /// A record that cannot be decoded: it replaces its predecessor all the same, as compaction will.
    Invalid,
}

/// What a record did to the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Applied {
    /// A new schedule.
    Inserted,
    /// A newer version of a known schedule.
    Replaced,
    /// The schedule was removed.
    Removed,
    /// A removal of an ID that is not known.
    Unknown,
    /// Older than what is held, or read before: nothing changed.
    Stale,
    /// A tombstone for an older version, or a repetition of one, overtook this one in the log; it is held back and must be
    /// written again.
    Overtaken(Handle),
}

/// A partition's pending set and how far it can be trusted.
pub struct Shard {
    pending: PendingSet,
    phase: Phase,
    /// Whether the survivors of the load are in the wheel: then a shard that has caught up is live at once.
    filed: bool,
    /// Everything below this offset is applied; it never goes back.
    applied: i64,
    /// What was sealed last, until it is released. Who left it in the meantime, settled, set aside or replaced, is still
    /// listed, but not in flight.
    batch: Vec<Handle>,
    /// IDs whose version in the batch was replaced.
    contested: Vec<Vec<u8>>,
    /// Offsets of own records that are not committed yet. Whoever reads them all the same passes them by: settling applies
    /// them.
    own_unread: Range<i64>,
}

impl Shard {
    /// A shard with nothing applied; the set in bulk mode.
    #[must_use]
    pub fn new(pending: PendingSet) -> Self {
        Self {
            pending,
            phase: Phase::Unfenced,
            filed: false,
            applied: 0,
            batch: Vec::new(),
            contested: Vec::new(),
            own_unread: 0..0,
        }
    }

    /// Where the shard stands.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Everything below this offset is applied.
    #[must_use]
    pub fn applied(&self) -> i64 {
        self.applied
    }

    /// The schedules.
    #[must_use]
    pub fn pending(&self) -> &PendingSet {
        &self.pending
    }

    /// The partition was fenced off and then had its end at `target`.
    pub fn fenced(&mut self, target: i64) {
        debug_assert!(self.batch.is_empty(), "a batch is released before the next fence");
        self.phase = Phase::CatchingUp { target };
        self.progress();
    }

    /// The producer is gone, and with it the knowledge of what became of the batch: its entries stay pending until the
    /// log, read up to an end taken after the next fence, tells.
    pub fn unfence(&mut self) {
        self.release();
        self.phase = Phase::Unfenced;
    }

    /// Everything below `offset` was handed over.
    pub fn reached(&mut self, offset: i64) {
        self.applied = self.applied.max(offset);
        self.progress();
    }

    /// Files up to `budget` survivors into the wheel; the last one makes the shard live.
    pub fn file(&mut self, now_ms: i64, budget: usize) {
        self.pending.start_time_by(now_ms);
        if self.phase == Phase::Filing && self.pending.finish_bulk(budget) {
            self.filed = true;
            self.phase = Phase::Live;
        }
    }

    /// Applies one record, in log order.
    pub fn apply(&mut self, offset: i64, id: &[u8], change: &Change<'_>) -> Applied {
        if self.own_unread.contains(&offset) {
            // Only a cluster without real transactions shows them before the commit, which applies them.
            return Applied::Stale;
        }
        let applied = match change {
            Change::Schedule { repeats: Some(repeated), .. }
                if let Some(newer) = self.newer_than(*repeated, id, offset) =>
            {
                self.pending.hold(newer);
                Applied::Overtaken(newer)
            }
            Change::Schedule { format, schedule, record_headers, .. } => {
                match self.pending.upsert(id, offset, *format, schedule, *record_headers) {
                    Upserted::Inserted => Applied::Inserted,
                    Upserted::Replaced { previous } => {
                        if previous == EntryState::InFlight {
                            self.contested.push(id.to_vec());
                        }
                        Applied::Replaced
                    }
                    Upserted::Stale => Applied::Stale,
                }
            }
            Change::Tombstone { fired: Some(fired) } => self.acknowledge(offset, id, *fired),
            Change::Tombstone { fired: None } | Change::Invalid => self.remove(offset, id),
        };
        self.reached(offset + 1);
        applied
    }

    /// About so many schedules will be [restored](Self::restore), in the order of a set with the same seed.
    pub fn lay_out(&mut self, schedules: usize) {
        self.pending.lay_out(schedules);
    }

    /// Puts in what a checkpoint kept of the log: the version of `id` at `offset`, before anything of the log is applied.
    /// One that was `held` is held again, and must be written again as when it was [overtaken](Applied::Overtaken).
    pub fn restore(
        &mut self,
        id: &[u8],
        offset: i64,
        format: Format,
        schedule: &Schedule<'_>,
        record_headers: Headers<'_>,
        held: bool,
    ) -> Option<Handle> {
        self.pending.upsert(id, offset, format, schedule, record_headers);
        if !held {
            return None;
        }
        let (handle, _) = self.pending.get(id)?;
        self.pending.hold(handle);
        Some(handle)
    }

    /// A record of the shard's own about this ID is in the log and will be read: until then what it replaces is not fired.
    pub fn hold_until_read(&mut self, id: &[u8]) {
        if let Some((handle, _)) = self.pending.get(id) {
            self.pending.hold(handle);
        }
    }

    /// When there may be something to seal: epoch milliseconds, a lower bound. `None` unless live and not empty.
    #[must_use]
    pub fn next_wake(&self) -> Option<i64> {
        (self.phase == Phase::Live).then(|| self.pending.next_wake()).flatten()
    }

    /// Moves what is due by `now_ms` towards sealing, at most `budget` entries; true when nothing is left behind.
    pub fn advance(&mut self, now_ms: i64, budget: usize) -> bool {
        self.phase != Phase::Live || self.pending.advance(now_ms, budget)
    }

    /// Does up to about `budget` steps of what can be done ahead or put off; true when nothing is left to do for now, as
    /// while a batch is under way.
    pub fn tidy(&mut self, now_ms: i64, budget: usize) -> bool {
        !self.batch.is_empty() || self.pending.tidy(now_ms, budget)
    }

    /// When there is something to tidy: epoch milliseconds, in the past if there is already. `None` unless live.
    #[must_use]
    pub fn next_tidy(&self) -> Option<i64> {
        (self.phase == Phase::Live).then(|| self.pending.next_tidy()).flatten()
    }

    /// Reads ahead what applying records with these IDs would wait for.
    pub fn warm(&mut self, ids: &[&[u8]]) {
        self.pending.warm(ids.iter().copied());
    }

    /// Takes what is due by `now_ms` into a batch, within `limits`. The batch must be settled or released before the
    /// next. Empty unless live.
    pub fn seal(&mut self, now_ms: i64, limits: BatchLimits) -> Vec<Handle> {
        debug_assert!(self.batch.is_empty(), "one batch at a time");
        if self.phase == Phase::Live {
            self.pending.take_due(now_ms, limits, &mut self.batch);
        }
        self.batch.clone()
    }

    /// Takes an entry out of the batch until `retry_at_ms`.
    pub fn set_aside(&mut self, handle: Handle, retry_at_ms: i64) {
        self.pending.set_aside(handle, retry_at_ms);
    }

    /// The clock was set forward by `step_ms`, or back if negative: see [`PendingSet::clock_was_set`].
    pub fn clock_was_set(&mut self, step_ms: i64) {
        self.pending.clock_was_set(step_ms);
    }

    /// Whether every one of these versions is still the newest of its key.
    #[must_use]
    pub fn all_current(&self, handles: &[Handle]) -> bool {
        handles.iter().all(|&handle| self.pending.is_current(handle))
    }

    /// Ends the batch: entries that were neither settled nor set aside are due again at once.
    pub fn release(&mut self) {
        for handle in self.batch.drain(..) {
            self.pending.release(handle);
        }
        self.contested.clear();
        self.own_unread = 0..0;
    }

    /// The IDs whose version in the batch was replaced while it was under way. A key that is written again and again
    /// would be in every batch, and every batch be in vain: whoever seals lets them rest.
    pub fn take_contested(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.contested)
    }

    /// The shard's own records lie at these offsets, not yet committed.
    pub fn expect_own(&mut self, offsets: Range<i64>) {
        self.own_unread = offsets;
    }

    /// The commit of the batch succeeded: the entry's tombstone lies at `tombstone`. Exactly as if it had been read.
    pub fn settle(&mut self, handle: Handle, tombstone: i64) {
        debug_assert!(handle.offset() < tombstone, "a tombstone before what it removes");
        self.pending.settle(handle);
    }

    /// The state of the schedule with this ID, if it is pending.
    #[must_use]
    pub fn state_of(&self, id: &[u8]) -> Option<EntryState> {
        self.pending.get(id).map(|(_, view)| view.state)
    }

    /// Goes on from catching up if the target is reached.
    fn progress(&mut self) {
        if let Phase::CatchingUp { target } = self.phase
            && self.applied >= target
        {
            self.phase = if self.filed { Phase::Live } else { Phase::Filing };
        }
    }

    /// Applies a record that takes away whatever its key had before.
    fn remove(&mut self, offset: i64, id: &[u8]) -> Applied {
        if self.pending.remove(id, offset).is_some() { Applied::Removed } else { Applied::Unknown }
    }

    /// Applies a tombstone that acknowledges the firing of the version `fired`.
    fn acknowledge(&mut self, offset: i64, id: &[u8], fired: i64) -> Applied {
        match self.newer_than(fired, id, offset) {
            Some(handle) => {
                self.pending.hold(handle);
                Applied::Overtaken(handle)
            }
            None => self.remove(offset, id),
        }
    }

    /// The version that is held of an ID, if it lies between the offsets `version` and `record`: whoever wrote that record
    /// for that version did not know of it.
    fn newer_than(&self, version: i64, id: &[u8], record: i64) -> Option<Handle> {
        let (handle, held) = self.pending.get(id)?;
        let lies_between = version < held.offset && held.offset < record;
        lies_between.then_some(handle)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::schedule::DueTime;

    const LIMITS: BatchLimits = BatchLimits { max_count: 10, max_bytes: 1 << 20 };

    fn put(shard: &mut Shard, offset: i64, id: &[u8], due_ms: i64) -> Applied {
        let due = DueTime::from_epoch_ms(due_ms);
        let schedule = Schedule { due, topic: "t", key: id, value: None, headers: Headers::default() };
        let record_headers = Headers::default();
        let change = Change::Schedule { format: Format::Json, schedule, record_headers, repeats: None };
        shard.apply(offset, id, &change)
    }

    fn repeat(shard: &mut Shard, offset: i64, id: &[u8], due_ms: i64, repeated: i64) -> Applied {
        let due = DueTime::from_epoch_ms(due_ms);
        let schedule = Schedule { due, topic: "t", key: id, value: None, headers: Headers::default() };
        let (format, record_headers, repeats) = (Format::Json, Headers::default(), Some(repeated));
        shard.apply(offset, id, &Change::Schedule { format, schedule, record_headers, repeats })
    }

    fn live() -> Shard {
        let mut shard = Shard::new(PendingSet::new(1));
        shard.fenced(0);
        shard.file(0, usize::MAX);
        assert_eq!(shard.phase(), Phase::Live);
        shard
    }

    fn sealed(shard: &mut Shard, now_ms: i64) -> Vec<Handle> {
        shard.advance(now_ms, usize::MAX);
        shard.seal(now_ms, LIMITS)
    }

    #[test]
    fn nothing_is_sealed_before_the_end_after_the_fence_is_applied() {
        let mut shard = Shard::new(PendingSet::new(1));
        put(&mut shard, 0, b"a", 5);
        // The end was reported before the target was known: it counts all the same.
        shard.reached(3);
        assert_eq!(sealed(&mut shard, 10), []);
        shard.fenced(4);
        shard.file(0, usize::MAX);
        assert_eq!(shard.phase(), Phase::CatchingUp { target: 4 });
        assert_eq!(sealed(&mut shard, 10), []);
        shard.reached(4);
        assert_eq!(shard.phase(), Phase::Filing);
        assert_eq!(sealed(&mut shard, 10), []);
        shard.file(0, usize::MAX);
        assert_eq!(sealed(&mut shard, 10).len(), 1);
    }

    #[test]
    fn time_starts_by_the_time_of_filing() {
        let mut shard = Shard::new(PendingSet::new(1));
        put(&mut shard, 0, b"late", 1_000_000);
        shard.fenced(1);
        shard.file(5, usize::MAX);
        put(&mut shard, 1, b"sooner", 500);
        assert_eq!((shard.phase(), shard.pending().ready_len()), (Phase::Live, 0));
        assert!(shard.next_wake() <= Some(500));
    }

    #[test]
    fn what_was_in_flight_when_the_producer_went_is_due_again_unless_the_log_says_otherwise() {
        let mut shard = live();
        put(&mut shard, 0, b"a", 5);
        put(&mut shard, 1, b"b", 5);
        assert_eq!(sealed(&mut shard, 10).len(), 2);
        shard.unfence();
        assert_eq!(sealed(&mut shard, 10), [], "not before it is fenced and caught up with");
        shard.fenced(5);
        // The commit had succeeded: its tombstones are in the log.
        shard.apply(3, b"a", &Change::Tombstone { fired: Some(0) });
        shard.reached(5);
        assert_eq!(shard.phase(), Phase::Live, "filed before, so live at once");
        assert_eq!(sealed(&mut shard, 10).iter().map(|h| h.offset()).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn an_update_or_a_cancel_takes_a_version_in_flight_out() {
        let mut shard = live();
        put(&mut shard, 0, b"a", 5);
        put(&mut shard, 1, b"b", 5);
        let batch = sealed(&mut shard, 10);
        assert!(shard.all_current(&batch));
        put(&mut shard, 2, b"a", 50);
        assert!(!shard.all_current(&batch));
        shard.release();
        let batch = sealed(&mut shard, 10);
        assert_eq!(batch.iter().map(|h| h.offset()).collect::<Vec<_>>(), [1]);
        shard.apply(3, b"b", &Change::Tombstone { fired: None });
        assert!(!shard.all_current(&batch));
    }

    #[test]
    fn a_key_that_is_replaced_in_flight_is_contested_however_often() {
        let mut shard = live();
        put(&mut shard, 0, b"hot", 0);
        put(&mut shard, 1, b"calm", 5);
        let batch = sealed(&mut shard, 10);
        put(&mut shard, 2, b"hot", 0);
        put(&mut shard, 3, b"hot", 0);
        put(&mut shard, 4, b"new", 0);
        assert!(!shard.all_current(&batch));
        assert_eq!(shard.take_contested(), [b"hot"]);
        assert!(shard.take_contested().is_empty());
    }

    #[test]
    fn who_was_contested_is_forgotten_with_the_batch() {
        let mut shard = live();
        put(&mut shard, 0, b"hot", 0);
        assert_eq!(sealed(&mut shard, 10).len(), 1);
        put(&mut shard, 1, b"hot", 0);
        shard.release();
        assert!(shard.take_contested().is_empty());
    }

    #[test]
    fn nothing_wakes_a_shard_that_is_not_live() {
        let mut shard = live();
        for offset in 0..1_000 {
            put(&mut shard, offset, b"a", 1_000 + offset);
        }
        put(&mut shard, 1_000, b"b", 5);
        let wakes = |shard: &Shard| (shard.next_wake().is_some(), shard.next_tidy().is_some());
        assert_eq!(wakes(&shard), (true, true));
        assert!(!shard.tidy(0, 0) && !shard.advance(10, 0), "there is something to do");
        shard.unfence();
        assert_eq!(wakes(&shard), (false, false));
        assert!(shard.advance(10, 0), "but not now");
        assert!(!shard.tidy(0, 0), "whoever has time may tidy");
    }

    #[test]
    fn what_was_reached_stays_reached() {
        let mut shard = live();
        put(&mut shard, 4, b"a", 5);
        shard.reached(3);
        assert_eq!(shard.applied(), 5);
    }

    #[test]
    fn a_version_that_an_acknowledgement_overtook_is_held_until_it_is_written_again() {
        let mut shard = live();
        put(&mut shard, 3, b"a", 5);
        let overtaken = shard.apply(4, b"a", &Change::Tombstone { fired: Some(1) });
        assert!(matches!(overtaken, Applied::Overtaken(handle) if handle.offset() == 3));
        assert_eq!(sealed(&mut shard, 10), [], "held");
        assert_eq!(put(&mut shard, 5, b"a", 5), Applied::Replaced);
        assert_eq!(sealed(&mut shard, 10).len(), 1);
        // Of the version itself it is a plain tombstone.
        shard.release();
        assert_eq!(shard.apply(6, b"a", &Change::Tombstone { fired: Some(5) }), Applied::Removed);
    }

    #[test]
    fn a_version_that_a_repetition_of_an_older_one_overtook_is_held_until_it_is_written_again() {
        let mut shard = live();
        put(&mut shard, 3, b"a", 5);
        assert_eq!(repeat(&mut shard, 4, b"a", 5, 3), Applied::Replaced, "it repeats what is held");
        put(&mut shard, 5, b"a", 6);
        let overtaken = repeat(&mut shard, 6, b"a", 5, 4);
        assert!(matches!(overtaken, Applied::Overtaken(handle) if handle.offset() == 5));
        assert_eq!((sealed(&mut shard, 10), shard.applied()), (vec![], 7), "held");
        assert_eq!(repeat(&mut shard, 7, b"a", 6, 5), Applied::Replaced);
        assert_eq!(sealed(&mut shard, 10).len(), 1);
    }

    #[test]
    fn what_was_held_when_a_checkpoint_was_taken_is_held_again() {
        let schedule = Schedule {
            due: DueTime::from_epoch_ms(5),
            topic: "t",
            key: b"a",
            value: None,
            headers: Headers::default(),
        };
        let mut shard = Shard::new(PendingSet::new(1));
        shard.lay_out(2);
        let mut restore =
            |offset, id, held| shard.restore(id, offset, Format::Json, &schedule, Headers::default(), held);
        assert_eq!(restore(2, b"free", false), None);
        let handle = restore(3, b"held", true).unwrap();
        shard.reached(5);
        shard.fenced(5);
        shard.file(0, usize::MAX);
        let batch = sealed(&mut shard, 10);
        assert_eq!((batch.len(), batch[0].offset(), handle.offset()), (1, 2, 3));
        shard.release();
        // Written again, it goes.
        assert_eq!(repeat(&mut shard, 5, b"held", 5, 3), Applied::Replaced);
        assert_eq!(sealed(&mut shard, 10).len(), 2);
    }

    #[test]
    fn a_repetition_of_what_is_not_there_any_more_is_a_schedule() {
        let mut shard = live();
        assert_eq!(repeat(&mut shard, 4, b"a", 5, 3), Applied::Inserted);
        assert_eq!(sealed(&mut shard, 10).len(), 1);
    }

    #[test]
    fn an_acknowledgement_that_is_read_again_does_not_touch_what_came_after_it() {
        let mut shard = live();
        put(&mut shard, 7, b"a", 5);
        assert_eq!(shard.apply(4, b"a", &Change::Tombstone { fired: Some(1) }), Applied::Unknown);
        assert_eq!(shard.applied(), 8);
        assert_eq!(shard.state_of(b"a"), Some(EntryState::Pending));
        assert_eq!(sealed(&mut shard, 10).len(), 1);
    }

    #[test]
    fn own_records_are_not_taken_for_newer_ones_before_the_commit() {
        let mut shard = live();
        put(&mut shard, 0, b"a", 5);
        let batch = sealed(&mut shard, 10);
        shard.expect_own(1..2);
        assert_eq!(shard.apply(1, b"a", &Change::Tombstone { fired: Some(0) }), Applied::Stale);
        assert!(shard.all_current(&batch));
        shard.settle(batch[0], 1);
        shard.release();
        assert!(shard.pending().is_empty());
        assert_eq!(shard.apply(1, b"a", &Change::Tombstone { fired: Some(0) }), Applied::Unknown);
    }
}
