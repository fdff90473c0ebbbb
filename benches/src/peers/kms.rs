//! The pending set of this project.

use kafka_message_scheduler::engine::{BatchLimits, Handle, PendingSet};
use kafka_message_scheduler::schedule::{DueTime, Format, Headers, Schedule};

use super::{Item, Pending};

/// Entries moved in the wheel at a time: as a shard does it (`src/scheduler/runner.rs`).
const ADVANCE_BUDGET: usize = 4_000;

/// Steps of housekeeping at a time: as a shard does it in a round that reads nothing.
const TIDY_BUDGET: usize = 1_000;

/// Schedules in a `PendingSet`, which is told beforehand what comes where `AHEAD` says so, as the product does it.
pub struct Kms<const AHEAD: bool> {
    set: PendingSet,
    /// The offset of the next record.
    offset: i64,
}

impl<const AHEAD: bool> Kms<AHEAD> {
    fn upsert(&mut self, item: &Item<'_>) {
        let schedule = Schedule {
            due: DueTime::from_epoch_ms(item.due_ms),
            topic: "orders",
            key: item.key,
            value: Some(item.value),
            headers: Headers::default(),
        };
        self.set.upsert(item.id, self.offset, Format::Avro, &schedule, Headers::default());
        self.offset += 1;
    }
}

impl<const AHEAD: bool> Pending for Kms<AHEAD> {
    const NAME: &'static str = if AHEAD { "kms" } else { "kms (unprepared)" };
    type Due = Handle;

    fn with_expected(_: usize, now_ms: i64) -> Self {
        let mut set = PendingSet::new(42);
        // Bulk mode is left at once: the peers have none.
        while !set.finish_bulk(ADVANCE_BUDGET) {}
        while !set.advance(now_ms, ADVANCE_BUDGET) {}
        Self { set, offset: 0 }
    }

    fn prepare<'i>(&mut self, ids: impl Iterator<Item = &'i [u8]>) {
        if AHEAD {
            self.set.warm(ids);
        }
    }

    fn insert(&mut self, item: &Item<'_>) {
        self.upsert(item);
    }

    fn replace(&mut self, item: &Item<'_>) {
        self.upsert(item);
    }

    fn cancel(&mut self, id: &[u8]) -> bool {
        self.offset += 1;
        self.set.remove(id, self.offset).is_some()
    }

    fn due(&mut self, now_ms: i64, limit: usize, out: &mut Vec<Handle>) {
        while !self.set.advance(now_ms, ADVANCE_BUDGET) {}
        self.set.take_due(now_ms, BatchLimits { max_count: limit, max_bytes: usize::MAX }, out);
    }

    fn read<'a>(&'a self, due: &'a Handle) -> Item<'a> {
        let schedule = self.set.view(*due).expect("nothing came between");
        let message = schedule.schedule;
        Item {
            id: schedule.id,
            due_ms: message.due.epoch_ms(),
            key: message.key,
            value: message.value.unwrap_or_default(),
        }
    }

    fn settle(&mut self, due: Handle) {
        assert!(self.set.settle(due), "something came between");
    }

    fn tidy(&mut self, now_ms: i64) {
        while !self.set.tidy(now_ms, TIDY_BUDGET) {}
    }

    fn len(&self) -> usize {
        self.set.len()
    }
}
