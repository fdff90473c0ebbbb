//! Lists of hints, in chunks.
//!
//! A list is only ever appended to and taken from the front, a chunk at a time: memory is read and written in order,
//! where links through the entries would cost a cache miss for each.

mod chunks;

use super::hint::Hint;
pub(super) use chunks::{CHUNK_HINTS, Chunks};
use chunks::{Chunk, NIL};

/// A list: appended to hint by hint, taken from chunk by chunk, first in, first out.
///
/// Invariants ([`Chunks::check_invariants`] holds them): no chunk of it is empty, and each but the last is full; `tail` is
/// the last.
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
        let chunk = self.chunk_with_room(chunks);
        chunk.hints[chunk.len as usize] = hint;
        chunk.len += 1;
        self.len += 1;
    }

    /// Pushes each of them, in order.
    pub(super) fn extend(&mut self, chunks: &mut Chunks, mut hints: &[Hint]) {
        while !hints.is_empty() {
            let chunk = self.chunk_with_room(chunks);
            let room = &mut chunk.hints[chunk.len as usize..];
            let (fits, rest) = hints.split_at(room.len().min(hints.len()));
            room[..fits.len()].copy_from_slice(fits);
            chunk.len += fits.len() as u32;
            self.len += fits.len() as u32;
            hints = rest;
        }
    }

    /// Takes the hints of the first chunk off the list and writes them to `taken`, of which it gives the part it wrote:
    /// not empty unless the list is.
    pub(super) fn pop_chunk<'t>(
        &mut self,
        chunks: &mut Chunks,
        taken: &'t mut [Hint; CHUNK_HINTS],
    ) -> &'t mut [Hint] {
        if self.head == NIL {
            return &mut [];
        }
        let name = self.head;
        let chunk = chunks.chunk(name);
        let len = chunk.len as usize;
        let taken = &mut taken[..len];
        taken.copy_from_slice(&chunk.hints[..len]);
        self.head = chunk.next;
        if self.head == NIL {
            self.tail = NIL;
        }
        self.len -= len as u32;
        chunks.give_back(name);
        taken
    }

    /// The hints, first to last.
    pub(super) fn iter(self, chunks: &Chunks) -> impl Iterator<Item = Hint> {
        let mut at = self.head;
        std::iter::from_fn(move || {
            (at != NIL).then(|| {
                let chunk = chunks.chunk(at);
                at = chunk.next;
                &chunk.hints[..chunk.len as usize]
            })
        })
        .flatten()
        .copied()
    }

    /// The last chunk, a new one if that is full.
    #[inline]
    fn chunk_with_room<'c>(&mut self, chunks: &'c mut Chunks) -> &'c mut Chunk {
        if self.tail == NIL || chunks.chunk(self.tail).len as usize == CHUNK_HINTS {
            self.add_chunk(chunks);
        }
        chunks.chunk_mut(self.tail)
    }

    // One push in 63 needs it, and the others are faster without it in their midst.
    #[inline(never)]
    fn add_chunk(&mut self, chunks: &mut Chunks) {
        let added = chunks.take();
        if self.tail == NIL {
            self.head = added;
        } else {
            chunks.chunk_mut(self.tail).next = added;
        }
        self.tail = added;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

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
                let names = name + 1..=name + pushes;
                let hints: Vec<Hint> = names.clone().map(|name| Hint::new(name, 0, 0)).collect();
                if pushes % 2 == 0 {
                    list.extend(&mut chunks, &hints);
                } else {
                    for &hint in &hints {
                        list.push(&mut chunks, hint);
                    }
                }
                queue.extend(names);
                name += pushes;
                if pushes == 0 {
                    let mut taken = [Hint::NONE; CHUNK_HINTS];
                    let popped = list.pop_chunk(&mut chunks, &mut taken);
                    prop_assert_eq!(popped.is_empty(), queue.is_empty());
                    for hint in popped {
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
