//! Short words for the tests of the set.

use super::{BatchLimits, Handle, PendingSet};
use crate::schedule::{DueTime, Format, Headers, Schedule};

pub(super) const ALL: BatchLimits = BatchLimits { max_count: usize::MAX, max_bytes: usize::MAX };

/// Applies a record that sets `id` to a small schedule; gives the handle of the new version.
pub(super) fn set(id: &[u8], offset: i64, due_ms: i64, set: &mut PendingSet) -> Handle {
    let due = DueTime::from_epoch_ms(due_ms);
    let schedule = Schedule { due, topic: "to", key: b"k", value: Some(b"v"), headers: Headers::default() };
    set.upsert(id, offset, Format::Avro, &schedule, Headers::default());
    set.get(id).expect("just applied").0
}

/// An empty set that is done with its bulk load.
pub(super) fn live() -> PendingSet {
    let mut live = PendingSet::new(1);
    assert!(live.finish_bulk(1));
    live
}

/// What is due by `now_ms`, handed out; looks at all invariants.
pub(super) fn due(pending: &mut PendingSet, now_ms: i64, limits: BatchLimits) -> Vec<Handle> {
    let mut batch = Vec::new();
    while !pending.advance(now_ms, 1_000) {}
    pending.take_due(now_ms, limits, &mut batch);
    pending.check_invariants();
    batch
}
