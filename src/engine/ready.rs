//! The schedules that are due, oldest first.
//!
//! What comes out of the wheel comes in due order, and joins the end of a line. Everything else (a schedule that arrives
//! overdue, a retry, an aborted batch that comes back) is kept sorted beside it, and the front is the earlier of the two.
//! So the order holds at the wheel's price for all but the exceptions, and after the clock was set back those that are
//! ahead of it are simply not at the front.
//!
//! Who leaves the line leaves its hint behind, stale. As only the wheel fills the line, each schedule leaves one at most
//! for each time that it waited in the wheel, however often it is set again while it is overdue.

use std::collections::BTreeSet;
use std::ops::Range;

use super::arena::Arena;
use super::hints::{CHUNK_HINTS, Chunks, Hint, List};
use super::record::{self, Place};

/// The ready schedules.
///
/// Invariants: the due times along the line never fall; the first hint of the line is not stale.
#[derive(Debug)]
pub(super) struct Ready {
    chunks: Chunks,
    /// The line but for its first chunk.
    line: List,
    /// Its first chunk, as it was, and the hints of that which are still in the line.
    first: [Hint; CHUNK_HINTS],
    left: Range<usize>,
    /// Schedules in the line. Each has a hint there that is not stale; where stamps have come round perhaps two, but both at
    /// its due time.
    in_line: usize,
    /// The latest due time that joined the line.
    last_ms: i64,
    /// By due time, then as they came in the log.
    out_of_line: BTreeSet<Sorted>,
}

/// Due time, offset, name.
type Sorted = (i64, i64, u32);

impl Ready {
    pub(super) const fn new() -> Self {
        Self {
            chunks: Chunks::new(),
            line: List::EMPTY,
            first: [Hint::NONE; CHUNK_HINTS],
            left: 0..0,
            in_line: 0,
            last_ms: i64::MIN,
            out_of_line: BTreeSet::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.in_line + self.out_of_line.len()
    }

    /// Adds the schedule `name`, which is nowhere, by its due time.
    pub(super) fn sort_in(&mut self, records: &mut Arena, name: u32) {
        if self.in_line == 0 {
            // Whatever is in the line is stale, and goes with this.
            return self.join(records, name);
        }
        let bytes = &mut records[name];
        record::set_place(bytes, Place::OutOfLine);
        self.out_of_line.insert(sorted(bytes, name));
    }

    /// Adds the schedule `name`, which comes out of the wheel.
    pub(super) fn join(&mut self, records: &mut Arena, name: u32) {
        let bytes = &mut records[name];
        let due_ms = record::due_ms(bytes);
        if self.in_line > 0 && due_ms < self.last_ms {
            return self.sort_in(records, name);
        }
        record::set_place(bytes, Place::Line);
        let hint = Hint::new(name, record::renew_stamp(bytes), due_ms);
        self.line.push(&mut self.chunks, hint);
        self.in_line += 1;
        self.last_ms = due_ms;
        self.trim(records);
    }

    /// The schedule that has been due for longest.
    pub(super) fn front(&self, records: &Arena) -> Option<u32> {
        let in_line = self.first[self.left.clone()].first().map(|hint| hint.name());
        let Some(&(sorted_ms, _, sorted)) = self.out_of_line.first() else { return in_line };
        Some(in_line.filter(|&name| record::due_ms(&records[name]) <= sorted_ms).unwrap_or(sorted))
    }

    /// Lets go of the schedule `name`, which must be here: it is nowhere then.
    pub(super) fn remove(&mut self, records: &mut Arena, name: u32) {
        let bytes = &mut records[name];
        if record::place(bytes) == Place::Line {
            record::set_place(bytes, Place::Unfiled);
            self.in_line -= 1;
            self.trim(records);
        } else {
            let was_there = self.out_of_line.remove(&sorted(bytes, name));
            debug_assert!(was_there, "record {name} is not out of line");
            record::set_place(bytes, Place::Unfiled);
        }
    }

    /// Bytes of the line, and of what is kept sorted, about.
    pub(super) fn allocated_bytes(&self) -> usize {
        self.chunks.allocated_bytes() + self.out_of_line.len() * size_of::<Sorted>()
    }

    /// Panics where the order or the places of the records are wrong, for tests.
    pub(super) fn check_invariants(&self, records: &Arena) {
        self.chunks.check_invariants(std::iter::once(&self.line));
        let first = self.first[self.left.clone()].iter().copied();
        let hints: Vec<Hint> = first.chain(self.line.iter(&self.chunks)).collect();
        let is_current = |hint: &Hint| is_in_line(records, *hint);
        assert!(hints.first().is_none_or(is_current), "the first hint is stale");
        let current = hints.iter().filter(|hint| is_current(hint));
        let in_line: Vec<u32> = current.map(|hint| hint.name()).collect();
        let dues_ms: Vec<i64> = in_line.iter().map(|&name| record::due_ms(&records[name])).collect();
        assert!(dues_ms.is_sorted(), "the line is out of order");
        assert!(dues_ms.last().is_none_or(|&due_ms| due_ms <= self.last_ms), "the last of the line");
        assert_eq!(in_line.into_iter().collect::<BTreeSet<_>>().len(), self.in_line, "schedules in line");
        for &(due_ms, offset, name) in &self.out_of_line {
            let bytes = &records[name];
            assert_eq!(sorted(bytes, name), (due_ms, offset, name), "record {name} is sorted wrong");
            assert_eq!(record::place(bytes), Place::OutOfLine, "record {name} does not know");
        }
    }

    /// Drops stale hints from the front.
    fn trim(&mut self, records: &Arena) {
        loop {
            match self.first[self.left.clone()].first() {
                Some(&hint) if is_in_line(records, hint) => return,
                Some(_) => self.left.start += 1,
                None => {
                    self.left = 0..self.line.pop_chunk(&mut self.chunks, &mut self.first).len();
                    if self.left.is_empty() {
                        return;
                    }
                }
            }
        }
    }
}

fn sorted(bytes: &[u8], name: u32) -> Sorted {
    (record::due_ms(bytes), record::offset(bytes), name)
}

fn is_in_line(records: &Arena, hint: Hint) -> bool {
    records.get(hint.name()).is_some_and(|bytes| record::is_hinted(bytes, hint, Place::Line))
}

#[cfg(test)]
mod tests {
    use super::super::record::Parts;
    use super::super::topics::TopicId;
    use super::*;
    use crate::schedule::{Format, Headers};
    use proptest::prelude::*;

    fn insert(records: &mut Arena, due_ms: i64) -> u32 {
        let parts = Parts {
            due_ms,
            offset: records.len() as i64,
            format: Format::Avro,
            id: b"",
            topic: TopicId::from_number(0),
            key: b"",
            value: None,
            headers: Headers::default(),
            record_headers: Headers::default(),
        };
        let name = records.allocate(parts.packed_bytes());
        parts.pack(&mut records[name]);
        name
    }

    #[test]
    fn schedules_due_together_come_in_the_order_they_came() {
        let (mut records, mut ready) = (Arena::new(), Ready::new());
        // Whatever was due last, the line begins anew once it is empty.
        let last = insert(&mut records, 9);
        ready.join(&mut records, last);
        ready.remove(&mut records, last);
        let mut names: Vec<u32> = (0..200).map(|_| insert(&mut records, 5)).collect();
        names[..100].reverse();
        for (at, &name) in names.iter().enumerate() {
            // Half of them overdue from the start: those come in the order of the log.
            if at < 100 { ready.join(&mut records, name) } else { ready.sort_in(&mut records, name) }
        }
        for &name in &names {
            assert_eq!(ready.front(&records), Some(name));
            ready.remove(&mut records, name);
        }
        assert_eq!(ready.front(&records), None);
    }

    #[test]
    fn what_is_set_again_and_again_leaves_nothing_in_the_line() {
        let (mut records, mut ready) = (Arena::new(), Ready::new());
        let [front, other] = [5, 7].map(|due_ms| insert(&mut records, due_ms));
        ready.join(&mut records, front);
        ready.join(&mut records, other);
        let bytes = ready.allocated_bytes();
        for _ in 0..10_000 {
            ready.remove(&mut records, other);
            ready.sort_in(&mut records, other);
        }
        ready.check_invariants(&records);
        assert!(ready.allocated_bytes() < bytes + 100);
        assert_eq!((ready.len(), ready.front(&records)), (2, Some(front)));
    }

    proptest! {
        #[test]
        fn the_front_is_the_earliest(
            steps in prop::collection::vec((0..4u8, -9..9i64, any::<prop::sample::Index>()), 0..300),
        ) {
            let (mut records, mut ready) = (Arena::new(), Ready::new());
            let (mut here, mut nowhere) = (Vec::new(), Vec::new());
            for (step, due_ms, which) in steps {
                match step {
                    0 => {
                        let name = insert(&mut records, due_ms);
                        if which.index(2) == 0 {
                            ready.join(&mut records, name);
                        } else {
                            ready.sort_in(&mut records, name);
                        }
                        here.push(name);
                    }
                    1 if !here.is_empty() => {
                        let name = here.swap_remove(which.index(here.len()));
                        ready.remove(&mut records, name);
                        nowhere.push(name);
                    }
                    2 if !nowhere.is_empty() => {
                        let name = nowhere.swap_remove(which.index(nowhere.len()));
                        ready.sort_in(&mut records, name);
                        here.push(name);
                    }
                    3 if !nowhere.is_empty() => {
                        records.free(nowhere.swap_remove(which.index(nowhere.len())));
                    }
                    _ => {}
                }
                ready.check_invariants(&records);
                prop_assert_eq!(ready.len(), here.len());
                let due_ms = |name: u32| record::due_ms(&records[name]);
                let front_ms = ready.front(&records).map(due_ms);
                prop_assert_eq!(front_ms, here.iter().map(|&name| due_ms(name)).min());
            }
        }
    }
}
