//! Walking over all schedules at the pace of memory, to write them down; and filling a set with what was written.

use super::PendingSet;
use super::view::{ListCursor, View};
use crate::engine::entry::{self, Place};

/// So many entries are asked for together: about as many as memory brings at a time.
const TOGETHER: usize = 8;

impl PendingSet {
    /// The seed of the hash of the IDs, as the set was made with it.
    #[must_use]
    pub fn hash_seed(&self) -> u64 {
        self.index.hash_seed()
    }

    /// Gives the next piece of all schedules to `f`, with whether each is [held](Self::hold), and returns where to go on,
    /// `None` at the end. A piece is a table of the index: about a thousand schedules, some five thousand at most.
    ///
    /// What stays in the set during the walk is given exactly once, though not always in the same version. The order of
    /// the pieces depends on the [seed](Self::hash_seed) alone: put into another set with the same seed in this order, the
    /// schedules of a piece go to the same part of its index.
    pub fn snapshot(&self, cursor: ListCursor, f: &mut dyn FnMut(View<'_>, bool)) -> Option<ListCursor> {
        let mut names = Vec::new();
        let next = self.index.walk(cursor.0, &mut |_, name| names.push(name));
        for some in names.chunks(TOGETHER) {
            // First one line of each, so that the system's tables are asked once where each of them is. All lines of each at
            // once took more than twice as long.
            for &name in some {
                self.entries.prefetch(name);
            }
            for &name in some {
                self.entries.prefetch_whole(name);
            }
            for &name in some {
                f(self.view_of(name), entry::place(&self.entries[name]) == Place::Held);
            }
        }
        next.map(ListCursor)
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

    #[test]
    #[cfg_attr(miri, ignore = "too many schedules")]
    fn what_stays_is_given_once_while_the_index_grows_and_shrinks_and_entries_move() {
        const COUNT: u32 = 40_000;
        const COME_LATER: u32 = 100_000;
        let stays = |n: &u32| n.is_multiple_of(8);
        let mut pending = live();
        let put = |n: u32, pending: &mut PendingSet| _ = set(&n.to_le_bytes(), n.into(), 1_000, pending);
        (0..COUNT).for_each(|n| put(n, &mut pending));
        let names = |pending: &PendingSet| -> Vec<u32> {
            (0..COUNT).filter(stays).map(|n| pending.get(&n.to_le_bytes()).unwrap().0.name).collect()
        };
        let names_before = names(&pending);
        let (mut met, mut index_bytes) =
            (BTreeMap::<i64, usize>::new(), vec![pending.index.allocated_bytes()]);
        let (mut pieces, mut cursor) = (0, Some(ListCursor::default()));
        while let Some(from) = cursor {
            cursor = pending.snapshot(from, &mut |view, _| *met.entry(view.offset).or_default() += 1);
            pieces += 1;
            match pieces {
                4 => (COUNT..COUNT + COME_LATER).for_each(|n| put(n, &mut pending)),
                20 => {
                    let goes = (0..COUNT + COME_LATER).filter(|n| *n >= COUNT || !stays(n));
                    goes.for_each(|n| _ = pending.remove(&n.to_le_bytes(), i64::MAX));
                    while !pending.tidy(0, 1_000) {}
                }
                _ => continue,
            }
            assert!(cursor.is_some(), "the walk has ended before");
            index_bytes.push(pending.index.allocated_bytes());
        }
        let [before, grown, shrunk] = index_bytes[..] else { panic!("the walk has ended before") };
        assert!(grown > 2 * before && shrunk < before, "or the index has not grown and shrunk");
        assert_ne!(names(&pending), names_before, "or no entry was moved");
        let missed: Vec<_> = (0..COUNT).filter(stays).filter(|&n| met.get(&n.into()) != Some(&1)).collect();
        assert!(missed.is_empty(), "{missed:?}");
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
