//! Hints: where to look when a time comes, eight bytes each, in lists of chunks.
//!
//! A hint says "the record of this name may be due then". The record is the truth: whoever changes or removes it leaves
//! the hint where it is, stale, and whoever meets the hint asks the record. So cancelling touches no list, moving a hint
//! touches no record, and a list is only ever appended to and taken from the front, a chunk at a time: memory is read
//! and written in order, where links through the records would cost a cache miss for each.

use super::slab::Slabs;

/// Names a record, as it was when the hint was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    name: u32,
    /// The stamp of the record in the upper eight bits, the lower bits of the due time below.
    stamp_and_due: u32,
}

impl Hint {
    /// How many of the lower bits of the due time a hint keeps: all that a slot of up to 4.7 hours leaves open.
    pub(super) const DUE_BITS: u32 = 24;

    const DUE_MASK: u32 = (1 << Self::DUE_BITS) - 1;
    const NONE: Self = Self { name: 0, stamp_and_due: 0 };

    /// A hint to the record `name`, whose stamp is `stamp` and which is due at `due_ms`.
    #[must_use]
    pub const fn new(name: u32, stamp: u8, due_ms: i64) -> Self {
        Self { name, stamp_and_due: (stamp as u32) << Self::DUE_BITS | due_ms as u32 & Self::DUE_MASK }
    }

    /// The record's name.
    #[must_use]
    pub const fn name(self) -> u32 {
        self.name
    }

    /// The stamp that the record had. With another one by now, the hint is stale.
    #[must_use]
    pub const fn stamp(self) -> u8 {
        (self.stamp_and_due >> Self::DUE_BITS) as u8
    }

    /// The lower bits of the due time.
    pub(super) const fn lower_due(self) -> u32 {
        self.stamp_and_due & Self::DUE_MASK
    }
}

/// Hints in a chunk: with the link and the length, 512 bytes.
pub(super) const CHUNK_HINTS: usize = 63;

/// Chunks in a segment, together a quarter of a megabyte.
const SEGMENT_CHUNKS: usize = 512;

/// The name of no chunk.
const NIL: u32 = u32::MAX;

/// A piece of a list.
#[derive(Clone, Copy, Debug)]
pub(super) struct Chunk {
    hints: [Hint; CHUNK_HINTS],
    len: u32,
    next: u32,
}

impl Chunk {
    pub(super) const EMPTY: Self = Self { hints: [Hint::NONE; CHUNK_HINTS], len: 0, next: NIL };

    pub(super) fn hints(&self) -> &[Hint] {
        &self.hints[..self.len as usize]
    }
}

/// The chunks of any number of lists.
#[derive(Debug)]
pub(super) struct Chunks(Slabs<Chunk, SEGMENT_CHUNKS>);

impl Chunks {
    pub(super) const fn new() -> Self {
        Self(Slabs::new())
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.0.allocated_bytes()
    }

    /// Panics unless exactly the chunks of `lists` are there, for tests.
    pub(super) fn check_invariants<'a>(&self, lists: impl Iterator<Item = &'a List>) {
        let mut used = 0;
        for list in lists {
            let (mut at, mut len) = (list.head, 0);
            while at != NIL {
                let chunk = &self.0[at];
                assert!(chunk.len > 0, "an empty chunk is in a list");
                assert!(
                    chunk.next == NIL || chunk.len as usize == CHUNK_HINTS,
                    "a chunk before the last has room"
                );
                assert_eq!(chunk.next == NIL, at == list.tail, "the tail is not the last chunk");
                len += chunk.len;
                used += 1;
                at = chunk.next;
            }
            assert_eq!(len, list.len, "the length of a list is wrong");
        }
        self.0.check_invariants(used);
    }
}

/// A list: appended to hint by hint, taken from chunk by chunk, first in, first out.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    head: u32,
    tail: u32,
    len: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { head: NIL, tail: NIL, len: 0 };

    /// Hints in the list, stale ones included.
    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) fn is_empty(&self) -> bool {
        self.head == NIL
    }

    pub(super) fn push(&mut self, chunks: &mut Chunks, hint: Hint) {
        if self.tail == NIL || chunks.0[self.tail].len as usize == CHUNK_HINTS {
            self.add_chunk(chunks);
        }
        let chunk = &mut chunks.0[self.tail];
        chunk.hints[chunk.len as usize] = hint;
        chunk.len += 1;
        self.len += 1;
    }

    /// Takes the first chunk off the list, never an empty one.
    pub(super) fn pop_chunk(&mut self, chunks: &mut Chunks) -> Option<Chunk> {
        if self.head == NIL {
            return None;
        }
        let chunk = chunks.0.remove(self.head);
        self.head = chunk.next;
        if self.head == NIL {
            self.tail = NIL;
        }
        self.len -= chunk.len;
        Some(chunk)
    }

    /// The hints, first to last.
    pub(super) fn iter(self, chunks: &Chunks) -> impl Iterator<Item = Hint> {
        let mut at = self.head;
        std::iter::from_fn(move || {
            (at != NIL).then(|| {
                let chunk = &chunks.0[at];
                at = chunk.next;
                chunk.hints()
            })
        })
        .flatten()
        .copied()
    }

    #[cold]
    fn add_chunk(&mut self, chunks: &mut Chunks) {
        let added = chunks.0.insert(Chunk::EMPTY);
        if self.tail == NIL {
            self.head = added;
        } else {
            chunks.0[self.tail].next = added;
        }
        self.tail = added;
    }
}

const _: () = assert!(size_of::<Hint>() == 8 && size_of::<Chunk>() == 512);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[test]
    fn a_hint_keeps_the_lower_bits_of_its_due_time() {
        let hint = Hint::new(u32::MAX, 0xa5, 0x1234_5678_9abc_def0);
        assert_eq!((hint.name(), hint.stamp(), hint.lower_due()), (u32::MAX, 0xa5, 0x00bc_def0));
        let hint = Hint::new(7, 255, -1);
        assert_eq!((hint.name(), hint.stamp(), hint.lower_due()), (7, 255, 0x00ff_ffff));
    }

    proptest! {
        #[test]
        fn lists_are_queues_that_share_their_chunks(
            steps in prop::collection::vec((0..3usize, prop_oneof![Just(0), 1..200u32]), 0..60),
        ) {
            let mut chunks = Chunks::new();
            let (mut lists, mut queues) = ([List::EMPTY; 3], [const { VecDeque::new() }; 3]);
            let mut name = 0;
            for (which, pushes) in steps {
                let (list, queue) = (&mut lists[which], &mut queues[which]);
                for _ in 0..pushes {
                    name += 1;
                    list.push(&mut chunks, Hint::new(name, 0, 0));
                    queue.push_back(name);
                }
                if pushes == 0 {
                    let popped = list.pop_chunk(&mut chunks);
                    prop_assert_eq!(popped.is_none(), queue.is_empty());
                    for hint in popped.iter().flat_map(Chunk::hints) {
                        prop_assert_eq!(Some(hint.name()), queue.pop_front());
                    }
                }
                chunks.check_invariants(lists.iter());
                for (list, queue) in lists.iter().zip(&queues) {
                    prop_assert_eq!(list.len(), queue.len());
                    prop_assert_eq!(list.is_empty(), queue.is_empty());
                    prop_assert!(list.iter(&chunks).map(Hint::name).eq(queue.iter().copied()));
                }
            }
        }
    }
}
