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
    /// A tombstone for an older version overtook this one in the log; it is held back and must be written again.
    Overtaken(Handle),
}

/// A partition's pending set and how far it can be trusted.
pub struct Shard {
    pending: PendingSet,
    phase: Phase,
    filed: bool,
    applied: i64,
    batch: Vec<Handle>,
    own_unread: std::ops::Range<i64>,
    id: Vec<u8>,
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
            own_unread: 0..0,
            id: Vec::new(),
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
    pub fn file(&mut self, budget: usize) {
        if self.phase == Phase::Filing && self.pending.finish_bulk(budget) {
            self.filed = true;
            self.phase = Phase::Live;
        }
    }

    fn progress(&mut self) {
        if let Phase::CatchingUp { target } = self.phase
            && self.applied >= target
        {
            self.phase = if self.filed { Phase::Live } else { Phase::Filing };
        }
    }

    /// Applies one record, in log order.
    pub fn apply(&mut self, offset: i64, id: &[u8], change: &Change<'_>) -> Applied {
        if self.own_unread.contains(&offset) {
            // Only a cluster without real transactions shows them before the commit, which applies them.
            return Applied::Stale;
        }
        let applied = match change {
            Change::Schedule { format, schedule, record_headers } => {
                match self.pending.upsert(id, offset, *format, schedule, *record_headers) {
                    Upserted::Inserted => Applied::Inserted,
                    Upserted::Replaced { .. } => Applied::Replaced,
                    Upserted::Stale => Applied::Stale,
                }
            }
            Change::Tombstone { fired: Some(fired) } => self.acknowledge(offset, id, *fired),
            Change::Tombstone { fired: None } | Change::Invalid => self.remove(offset, id),
        };
        self.reached(offset + 1);
        applied
    }

    fn remove(&mut self, offset: i64, id: &[u8]) -> Applied {
        if self.pending.remove(id, offset).is_some() { Applied::Removed } else { Applied::Unknown }
    }

    fn acknowledge(&mut self, offset: i64, id: &[u8], fired: i64) -> Applied {
        let overtaken = self.pending.get(id).and_then(|(handle, held)| {
            let newer_than_fired = fired < held.offset && held.offset < offset;
            newer_than_fired.then_some(handle)
        });
        match overtaken {
            Some(handle) => {
                self.pending.hold(handle);
                Applied::Overtaken(handle)
            }
            None => self.remove(offset, id),
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

    /// Whether every one of these versions is still the newest of its key.
    #[must_use]
    pub fn all_current(&self, handles: &[Handle]) -> bool {
        handles.iter().all(|&handle| self.pending.is_current(handle))
    }

    /// Ends the batch: entries that were neither settled nor set aside are due again at once.
    pub fn release(&mut self) {
        // Backwards, so that entries put back at the front keep their order.
        for handle in self.batch.drain(..).rev() {
            self.pending.settle_back(handle);
        }
        self.own_unread = 0..0;
    }

    /// The shard's own records lie at these offsets, not yet committed.
    pub fn expect_own(&mut self, offsets: std::ops::Range<i64>) {
        self.own_unread = offsets;
    }

    /// The commit of the batch succeeded: the entry's tombstone lies at `tombstone`. Exactly as if it had been read.
    pub fn settle(&mut self, handle: Handle, tombstone: i64) {
        let Some(view) = self.pending.view(handle) else { return };
        self.id.clear();
        self.id.extend_from_slice(view.id);
        self.pending.remove(&self.id, tombstone);
    }

    /// The state of the schedule with this ID, if it is pending.
    #[must_use]
    pub fn state_of(&self, id: &[u8]) -> Option<EntryState> {
        self.pending.get(id).map(|(_, view)| view.state)
    }
}
