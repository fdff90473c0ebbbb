//! Walking over all schedules at the pace of memory, to write them down; and filling a set with what was written.

use super::PendingSet;
use super::view::{ListCursor, View};
use crate::engine::entry::{self, Place};
use crate::engine::index::Turn;

/// So many entries are asked for together: about as many as memory brings at a time.
const TOGETHER: usize = 8;

/// What a piece has at most: whoever writes it down takes some tenths of a millisecond for that.
const PIECE: Limit = Limit { entries: 2_048, bytes: 256 << 10 };

/// How much of the set is given at once.
#[derive(Clone, Copy)]
struct Limit {
    entries: usize,
    /// Of their blocks in memory. A larger entry is given alone.
    bytes: usize,
}

impl PendingSet {
    /// The seed of the hash of the IDs, as the set was made with it.
    #[must_use]
    pub fn hash_seed(&self) -> u64 {
        self.index.hash_seed()
    }

    /// Gives the next piece of all schedules to `f`, with whether each is [held](Self::hold), and returns where to go on,
    /// `None` at the end. A piece is a table of the index, about a thousand schedules, or what a quarter of a megabyte has
    /// room for of it; a schedule that is larger is a piece of its own.
    ///
    /// What stays in the set during the walk is given exactly once, though not always in the same version. The order of
    /// the pieces depends on the [seed](Self::hash_seed) alone: put into another set with the same seed in this order, the
    /// schedules of a piece go to the same part of its index.
    pub fn snapshot(&self, cursor: ListCursor, f: &mut dyn FnMut(View<'_>, bool)) -> Option<ListCursor> {
        self.snapshot_within(PIECE, cursor, f)
    }

    fn snapshot_within(
        &self,
        limit: Limit,
        cursor: ListCursor,
        f: &mut dyn FnMut(View<'_>, bool),
    ) -> Option<ListCursor> {
        let mut found = Vec::new();
        let rest = self.index.walk(cursor.0, &mut |turn, name| found.push((turn, name)));
        let next = self.keep_first(limit, &mut found).map_or(rest, Turn::next);
        for some in found.chunks(TOGETHER) {
            // First one line of each, so that the system's tables are asked once where each of them is. All lines of each at
            // once took more than twice as long.
            for &(_, name) in some {
                self.entries.prefetch(name);
            }
            for &(_, name) in some {
                self.entries.prefetch_whole(name);
            }
            for &(_, name) in some {
                f(self.view_of(name), entry::place(&self.entries[name]) == Place::Held);
            }
        }
        next.map(ListCursor)
    }

    /// Keeps what comes first and is within the limit, but one turn at least; says which the last is, if there are more.
    fn keep_first(&self, limit: Limit, found: &mut Vec<(Turn, u32)>) -> Option<Turn> {
        let mut last_kept = None;
        loop {
            // A block's size is known without looking at the block.
            let bytes: usize = found.iter().map(|&(_, name)| self.entries.block_bytes(name)).sum();
            if found.len() <= 1 || found.len() <= limit.entries && bytes <= limit.bytes {
                return last_kept;
            }
            // As many as would fit if all were of the same size; looked at again, for they are not.
            let by_bytes = (found.len() as u128 * limit.bytes as u128 / bytes as u128) as usize;
            let count = by_bytes.min(limit.entries).clamp(1, found.len() - 1);
            let len = found.len();
            let (_, &mut (last, _), _) = found.select_nth_unstable(count - 1);
            // The next few may have the same hash as the last, and then the same turn.
            found.retain(|&(turn, _)| turn <= last);
            if found.len() == len {
                return last_kept; // all have
            }
            last_kept = Some(last);
        }
    }

    /// Lays out the index of a set that is empty for about so many schedules, which come in the order of a
    /// [`snapshot`](Self::snapshot) of a set with the same seed. In that order they would crowd into the few tables that a
    /// set begins with, which are told apart by just those bits of the hash that the first schedules have in common.
    /// Does nothing if the set is not empty.
    pub fn lay_out(&mut self, schedules: usize) {
        if self.is_empty() {
            self.index.lay_out(schedules.min(u32::MAX as usize)); // more than there are names
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::testing::{live, set};
    use super::*;
    use crate::schedule::{DueTime, Format, Headers, Schedule};
    use std::collections::BTreeMap;

    /// All that a snapshot gives, by offset, and whether it is held.
    fn all_of(pending: &PendingSet) -> Vec<(i64, bool)> {
        let (mut cursor, mut all) = (Some(ListCursor::default()), Vec::new());
        while let Some(from) = cursor {
            cursor = pending.snapshot(from, &mut |view, is_held| all.push((view.offset, is_held)));
        }
        all.sort_unstable();
        all
    }

    #[test]
    fn only_what_waits_for_a_newer_record_is_said_to_be_held() {
        let mut pending = live();
        let [waits, held, aside] = [1, 2, 3].map(|offset| set(&[offset as u8], offset, 10, &mut pending));
        pending.hold(held);
        pending.set_aside(aside, 1_000);
        let expected = [(waits.offset(), false), (held.offset(), true), (aside.offset(), false)];
        assert_eq!(all_of(&pending), expected);
    }

    /// Puts in a schedule with a value of so many bytes.
    fn put_sized(n: u32, value_len: usize, pending: &mut PendingSet) {
        let (due, value) = (DueTime::from_epoch_ms(1_000), vec![7; value_len]);
        let schedule =
            Schedule { due, topic: "to", key: b"k", value: Some(&value), headers: Headers::default() };
        pending.upsert(&n.to_le_bytes(), n.into(), Format::Avro, &schedule, Headers::default());
    }

    /// Mostly small, and some are larger than all that a piece of the tests may have.
    fn value_len(n: u32) -> usize {
        match n % 512 {
            0 => 60_000,
            1..8 => 3_000,
            _ => 1,
        }
    }

    #[test]
    fn a_piece_has_no_more_than_it_may_unless_a_schedule_has() {
        let mut pending = live();
        (0..1_500).for_each(|n| put_sized(n, value_len(n), &mut pending));
        let limit = Limit { entries: 100, bytes: 20_000 };
        let (mut cursor, mut all, mut sizes) = (Some(ListCursor::default()), Vec::new(), Vec::new());
        while let Some(from) = cursor {
            let (mut entries, mut bytes) = (0, 0);
            cursor = pending.snapshot_within(limit, from, &mut |view, _| {
                all.push(view.offset);
                (entries, bytes) = (entries + 1, bytes + view.schedule.value.map_or(0, <[u8]>::len));
            });
            assert!(entries <= limit.entries, "{entries} entries");
            assert!(entries == 1 || bytes <= limit.bytes, "{entries} entries of {bytes} bytes");
            sizes.push((entries, bytes));
        }
        all.sort_unstable();
        assert!(all.into_iter().eq(0..1_500), "each once");
        assert!(sizes.iter().filter(|&&(_, bytes)| bytes >= 60_000).count() == 3);
        assert!(sizes.len() < 100, "{} pieces, where some forty would do", sizes.len());
    }

    #[test]
    #[cfg_attr(miri, ignore = "too many schedules")]
    fn what_stays_is_given_once_while_the_index_grows_and_shrinks_and_entries_move() {
        /// Of which pieces the set grows and shrinks, whose pieces have so much.
        struct Case {
            limit: Limit,
            grows_at: usize,
            shrinks_at: usize,
            value_len: fn(u32) -> usize,
        }
        let cases = [
            Case { limit: PIECE, grows_at: 4, shrinks_at: 20, value_len: |_| 1 },
            Case { limit: Limit { entries: 100, bytes: 20_000 }, grows_at: 50, shrinks_at: 250, value_len },
            Case { limit: Limit { entries: 1, bytes: 1 }, grows_at: 5_003, shrinks_at: 20_011, value_len },
        ];
        for Case { limit, grows_at, shrinks_at, value_len } in cases {
            const COUNT: u32 = 40_000;
            const COME_LATER: u32 = 100_000;
            let stays = |n: &u32| n.is_multiple_of(8);
            let mut pending = live();
            let put = |n: u32, pending: &mut PendingSet| put_sized(n, value_len(n), pending);
            (0..COUNT).for_each(|n| put(n, &mut pending));
            let names = |pending: &PendingSet| -> Vec<u32> {
                (0..COUNT).filter(stays).map(|n| pending.get(&n.to_le_bytes()).unwrap().0.name).collect()
            };
            let names_before = names(&pending);
            let (mut met, mut index_bytes) =
                (BTreeMap::<i64, usize>::new(), vec![pending.index.allocated_bytes()]);
            let (mut pieces, mut cursor) = (0, Some(ListCursor::default()));
            while let Some(from) = cursor {
                cursor = pending
                    .snapshot_within(limit, from, &mut |view, _| *met.entry(view.offset).or_default() += 1);
                pieces += 1;
                if pieces == grows_at {
                    (COUNT..COUNT + COME_LATER).for_each(|n| put(n, &mut pending));
                } else if pieces == shrinks_at {
                    let goes = (0..COUNT + COME_LATER).filter(|n| *n >= COUNT || !stays(n));
                    goes.for_each(|n| _ = pending.remove(&n.to_le_bytes(), i64::MAX));
                    while !pending.tidy(0, 1_000) {}
                } else {
                    continue;
                }
                assert!(cursor.is_some(), "the walk has ended before");
                index_bytes.push(pending.index.allocated_bytes());
            }
            let [before, grown, shrunk] = index_bytes[..] else { panic!("the walk has ended before") };
            assert!(grown > 2 * before && shrunk < before, "or the index has not grown and shrunk");
            assert!(names(&pending) != names_before, "or no entry was moved");
            let missed: Vec<_> =
                (0..COUNT).filter(stays).filter(|&n| met.get(&n.into()) != Some(&1)).collect();
            assert!(missed.is_empty(), "{missed:?}");
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too many schedules")]
    fn in_the_order_of_a_snapshot_no_table_is_crowded() {
        const COUNT: u32 = 100_000;
        let mut pending = live();
        for n in 0..COUNT {
            set(&n.to_le_bytes(), n.into(), 1_000, &mut pending);
        }
        let mut again = PendingSet::new(pending.hash_seed());
        again.lay_out(pending.len());
        let (mut largest, mut cursor) = (0, Some(ListCursor::default()));
        while let Some(from) = cursor {
            cursor = pending.snapshot(from, &mut |view, _| {
                again.upsert(view.id, view.offset, view.format, &view.schedule, view.record_headers);
            });
            largest = largest.max(again.index.largest_table());
        }
        assert!(largest < 2_500, "{largest} names in a table");
        again.check_invariants();
        assert_eq!(all_of(&again), all_of(&pending));
    }
}
