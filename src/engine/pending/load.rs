//! The bulk load: the log is read into the set first, and what has survived is filed then.

use super::PendingSet;
use crate::engine::arena::Step;
use crate::engine::entry::{self, Place};
use crate::engine::wheel::Wheel;

/// How far the bulk load is.
///
/// Filing each schedule as it is read would be in vain for those the rest of the log replaces, which may be nearly
/// all. And the wheel's time has to be known first: filed by a later time, what is overdue would have to be sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bulk {
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

    /// Files the entry at `name`, which is nowhere, or leaves that to the end of the load.
    pub(super) fn file_unless_loading(&mut self, name: u32) {
        match self.bulk {
            Bulk::Loading | Bulk::Measuring { .. } => {}
            Bulk::Filing { .. } | Bulk::Done => self.file(name),
        }
    }

    /// Finds the earliest due time, and starts the wheel's there.
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

    /// Files what is not filed yet, from the name `cursor` on.
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
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::testing::{ALL, due, set};
    use super::*;

    #[test]
    fn a_bulk_load_is_finished_in_pieces_and_gives_what_is_overdue_in_order() {
        let mut pending = PendingSet::new(1);
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
    fn time_starts_no_later_than_it_is_told_to() {
        let mut pending = PendingSet::new(1);
        set(b"late", 0, 1_000_000, &mut pending);
        pending.start_time_by(5);
        assert!(pending.finish_bulk(10));
        set(b"sooner", 1, 500, &mut pending);
        assert_eq!(pending.ready_len(), 0, "it is not due yet, and the wheel has a place for it");
        assert_eq!(due(&mut pending, 500, ALL).len(), 1);
    }
}
