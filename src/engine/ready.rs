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
use super::entry::{self, Place};
use super::hint::Hint;
use super::hint_list::{CHUNK_HINTS, Chunks, List};

/// The ready schedules.
///
/// Invariant: the due times along the line never fall. Hints at its front may be stale, and the front is not known then:
/// where many that were due together are cancelled, finding the next one takes several calls.
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

/// Stale hints that a change drops at most: far more than it leaves, so that few gather.
const LOOKS_A_CHANGE: usize = 64;

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
    pub(super) fn sort_in(&mut self, entries: &mut Arena, name: u32) {
        if self.in_line == 0 {
            // Whatever is in the line is stale, and goes with this.
            return self.join(entries, name);
        }
        let bytes = &mut entries[name];
        entry::set_place(bytes, Place::OutOfLine);
        self.out_of_line.insert(sorted(bytes, name));
    }

    /// Adds the schedule `name`, which comes out of the wheel.
    pub(super) fn join(&mut self, entries: &mut Arena, name: u32) {
        let bytes = &mut entries[name];
        let due_ms = entry::due_ms(bytes);
        if self.in_line > 0 && due_ms < self.last_ms {
            return self.sort_in(entries, name);
        }
        entry::set_place(bytes, Place::Line);
        let hint = Hint::new(name, entry::renew_stamp(bytes), due_ms);
        self.line.push(&mut self.chunks, hint);
        self.in_line += 1;
        self.last_ms = due_ms;
        self.trim(entries, &mut { LOOKS_A_CHANGE });
    }

    /// Whether [`front`](Self::front) is known; if not, [`trim`](Self::trim) finds it.
    pub(super) fn is_front_known(&self, entries: &Arena) -> bool {
        self.in_line == 0 || self.first_in_line(entries).is_some()
    }

    /// The schedule that has been due for longest, if that [is known](Self::is_front_known).
    pub(super) fn front(&self, entries: &Arena) -> Option<u32> {
        let in_line = self.first_in_line(entries);
        let Some(&(sorted_ms, _, sorted)) = self.out_of_line.first() else { return in_line };
        Some(in_line.filter(|&name| entry::due_ms(&entries[name]) <= sorted_ms).unwrap_or(sorted))
    }

    /// Drops stale hints from the front of the line, up to `looks` of them, which it takes off `looks`. Returns whether
    /// the front is known then.
    pub(super) fn trim(&mut self, entries: &Arena, looks: &mut usize) -> bool {
        loop {
            match self.first[self.left.clone()].first() {
                Some(&hint) if is_in_line(entries, hint) => return true,
                Some(_) if *looks == 0 => return self.in_line == 0,
                Some(_) => {
                    *looks -= 1;
                    self.left.start += 1;
                }
                None => {
                    let next = self.line.pop_chunk(&mut self.chunks, &mut self.first);
                    entries.read_ahead(next);
                    self.left = 0..next.len();
                    if self.left.is_empty() {
                        return true;
                    }
                }
            }
        }
    }

    /// Lets go of the schedule `name`, which must be here: it is nowhere then.
    pub(super) fn remove(&mut self, entries: &mut Arena, name: u32) {
        let bytes = &mut entries[name];
        if entry::place(bytes) == Place::Line {
            entry::set_place(bytes, Place::Unfiled);
            self.in_line -= 1;
            self.trim(entries, &mut { LOOKS_A_CHANGE });
        } else {
            let was_there = self.out_of_line.remove(&sorted(bytes, name));
            debug_assert!(was_there, "entry {name} is not out of line");
            entry::set_place(bytes, Place::Unfiled);
        }
    }

    /// Bytes of the line, and of what is kept sorted, about.
    pub(super) fn allocated_bytes(&self) -> usize {
        self.chunks.allocated_bytes() + self.out_of_line.len() * size_of::<Sorted>()
    }

    /// Panics where the order or the places of the entries are wrong, for tests.
    pub(super) fn check_invariants(&self, entries: &Arena) {
        self.chunks.check_invariants(std::iter::once(&self.line));
        let first = self.first[self.left.clone()].iter().copied();
        let hints: Vec<Hint> = first.chain(self.line.iter(&self.chunks)).collect();
        let is_current = |hint: &Hint| is_in_line(entries, *hint);
        let current = hints.iter().filter(|hint| is_current(hint));
        let in_line: Vec<u32> = current.map(|hint| hint.name()).collect();
        let dues_ms: Vec<i64> = in_line.iter().map(|&name| entry::due_ms(&entries[name])).collect();
        assert!(dues_ms.is_sorted(), "the line is out of order");
        assert!(dues_ms.last().is_none_or(|&due_ms| due_ms <= self.last_ms), "the last of the line");
        assert_eq!(in_line.into_iter().collect::<BTreeSet<_>>().len(), self.in_line, "schedules in line");
        for &(due_ms, offset, name) in &self.out_of_line {
            let bytes = &entries[name];
            assert_eq!(sorted(bytes, name), (due_ms, offset, name), "entry {name} is sorted wrong");
            assert_eq!(entry::place(bytes), Place::OutOfLine, "entry {name} does not know");
        }
    }

    fn first_in_line(&self, entries: &Arena) -> Option<u32> {
        let first = self.first[self.left.clone()].first();
        first.filter(|&&hint| is_in_line(entries, hint)).map(|hint| hint.name())
    }
}

fn sorted(bytes: &[u8], name: u32) -> Sorted {
    (entry::due_ms(bytes), entry::offset(bytes), name)
}

fn is_in_line(entries: &Arena, hint: Hint) -> bool {
    entries.hinted(hint, Place::Line).is_some()
}

#[cfg(test)]
mod tests {
    use super::super::entry::Parts;
    use super::super::topics::TopicId;
    use super::*;
    use crate::schedule::{Format, Headers};
    use proptest::prelude::*;

    fn insert(entries: &mut Arena, due_ms: i64) -> u32 {
        let parts = Parts {
            due_ms,
            offset: entries.len() as i64,
            format: Format::Avro,
            id: b"",
            topic: TopicId::from_number(0),
            key: b"",
            value: None,
            headers: Headers::default(),
            record_headers: Headers::default(),
        };
        let name = entries.allocate(parts.packed_bytes());
        parts.pack(&mut entries[name]);
        name
    }

    #[test]
    fn schedules_due_together_come_in_the_order_they_came() {
        let (mut entries, mut ready) = (Arena::new(), Ready::new());
        // Whatever was due last, the line begins anew once it is empty.
        let last = insert(&mut entries, 9);
        ready.join(&mut entries, last);
        ready.remove(&mut entries, last);
        let mut names: Vec<u32> = (0..200).map(|_| insert(&mut entries, 5)).collect();
        names[..100].reverse();
        for (at, &name) in names.iter().enumerate() {
            // Half of them overdue from the start: those come in the order of the log.
            if at < 100 { ready.join(&mut entries, name) } else { ready.sort_in(&mut entries, name) }
        }
        for &name in &names {
            assert_eq!(ready.front(&entries), Some(name));
            ready.remove(&mut entries, name);
        }
        assert_eq!(ready.front(&entries), None);
    }

    #[test]
    fn what_is_set_again_and_again_leaves_nothing_in_the_line() {
        let (mut entries, mut ready) = (Arena::new(), Ready::new());
        let [front, other] = [5, 7].map(|due_ms| insert(&mut entries, due_ms));
        ready.join(&mut entries, front);
        ready.join(&mut entries, other);
        let bytes = ready.allocated_bytes();
        for _ in 0..10_000 {
            ready.remove(&mut entries, other);
            ready.sort_in(&mut entries, other);
        }
        ready.check_invariants(&entries);
        assert!(ready.allocated_bytes() < bytes + 100);
        assert_eq!((ready.len(), ready.front(&entries)), (2, Some(front)));
    }

    proptest! {
        #[test]
        fn the_front_is_the_earliest(
            steps in prop::collection::vec((0..4u8, -9..9i64, any::<prop::sample::Index>()), 0..300),
        ) {
            let (mut entries, mut ready) = (Arena::new(), Ready::new());
            let (mut here, mut nowhere) = (Vec::new(), Vec::new());
            for (step, due_ms, which) in steps {
                match step {
                    0 => {
                        let name = insert(&mut entries, due_ms);
                        if which.index(2) == 0 {
                            ready.join(&mut entries, name);
                        } else {
                            ready.sort_in(&mut entries, name);
                        }
                        here.push(name);
                    }
                    1 if !here.is_empty() => {
                        let name = here.swap_remove(which.index(here.len()));
                        ready.remove(&mut entries, name);
                        nowhere.push(name);
                    }
                    2 if !nowhere.is_empty() => {
                        let name = nowhere.swap_remove(which.index(nowhere.len()));
                        ready.sort_in(&mut entries, name);
                        here.push(name);
                    }
                    3 if !nowhere.is_empty() => {
                        entries.free(nowhere.swap_remove(which.index(nowhere.len())));
                    }
                    _ => {}
                }
                ready.check_invariants(&entries);
                prop_assert_eq!(ready.len(), here.len());
                let due_ms = |name: u32| entry::due_ms(&entries[name]);
                let front_ms = ready.front(&entries).map(due_ms);
                prop_assert_eq!(front_ms, here.iter().map(|&name| due_ms(name)).min());
            }
        }
    }
}
