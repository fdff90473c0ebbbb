//! What can be done ahead or put off, a little at a time: preparing the wheel, dropping stale hints, clearing segments.

use super::PendingSet;
use super::due::hinted_due_ms;
use super::load::Bulk;
use crate::engine::entry::{self, Place};
use crate::engine::hint::Hint;

/// The wheel is rid of stale hints when they are more than this part of the schedules in it…
const STALE_DIVISOR: usize = 4;
/// …and more than that.
const STALE_ALWAYS: usize = 256;

/// How many steps of [`PendingSet::tidy`]'s budget it takes to move an entry…
const RELOCATION_STEPS: usize = 8;
/// …and how many bytes of it are another step.
const BYTES_A_STEP: usize = 256;
/// How many steps it takes to give a segment back: the system needs some 80 µs, in which a hundred entries are moved.
const UNMAPPING_STEPS: usize = 400;

/// Whether the wheel is being rid of stale hints.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sweeping {
    is_under_way: bool,
    /// Hints that went stale since the round began, perhaps behind it.
    since: usize,
    /// Stale hints that the last round could not tell: their stamp has come round to the entry's.
    left: usize,
}

impl PendingSet {
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

    /// A schedule in the wheel is not there any more: its hint is stale.
    pub(super) fn forget_hint(&mut self) {
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
        let read_ahead = |hints: &[Hint]| entries.read_ahead(hints);
        let is_current = |hint| hinted_due_ms(entries, hint).is_some();
        let is_round = self.wheel.sweep(budget, read_ahead, is_current);
        self.sweeping.is_under_way = !is_round;
        if is_round {
            self.sweeping.left = (self.wheel.len() - self.waiting).saturating_sub(self.sweeping.since);
        }
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
        if !moves.names().is_empty() && !self.entries.has_begun_to_clear() {
            *budget = budget.saturating_sub(UNMAPPING_STEPS);
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
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::handle::Handle;
    use super::super::testing::{ALL, due, live, set};
    use super::*;

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
    fn a_replace_that_changes_neither_due_time_nor_size_leaves_nothing_to_tidy() {
        let mut pending = live();
        for offset in 0..1_000 {
            set(b"a", offset, 1_000, &mut pending);
        }
        assert_eq!(pending.wheel.len(), 1);
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
    fn few_segments_are_given_back_at_a_time() {
        const A_SEGMENT: usize = 31;
        let mut pending = live();
        let ids = (0..A_SEGMENT * 40).map(|n| [&n.to_le_bytes()[..], &vec![0; 32 << 10]].concat());
        let ids: Vec<_> = ids.collect();
        for id in &ids {
            set(id, 0, 1_000, &mut pending);
        }
        for id in ids.iter().enumerate().filter_map(|(n, id)| (n % A_SEGMENT > 0).then_some(id)) {
            pending.remove(id, i64::MAX);
        }
        let bytes = |pending: &PendingSet| pending.structure_bytes() + pending.payload_bytes();
        let (mut before, mut is_done) = (bytes(&pending), false);
        assert!(before > 36 << 20, "{before}");
        while !is_done {
            is_done = pending.tidy(0, 1_000);
            let after = bytes(&pending);
            assert!(before <= after + (3 << 20), "{} bytes at once", before - after);
            before = after;
        }
        assert!(before < 4 << 20, "{before}");
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
}
