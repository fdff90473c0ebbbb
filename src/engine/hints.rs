//! Hints: where to look when a time comes, eight bytes each, in lists of chunks.
//!
//! A hint says "the entry of this name may be due then". The entry is the truth: whoever changes or removes it leaves
//! the hint where it is, stale, and whoever meets the hint asks the entry. So cancelling touches no list, moving a hint
//! touches no entry, and a list is only ever appended to and taken from the front, a chunk at a time: memory is read
//! and written in order, where links through the entries would cost a cache miss for each.

use std::collections::BTreeSet;

/// Names an entry, as it was when the hint was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hint {
    name: u32,
    /// The stamp of the entry in the upper eight bits, the lower bits of the due time below.
    stamp_and_due: u32,
}

impl Hint {
    /// How many of the lower bits of the due time a hint keeps: all that a slot of up to 4.7 hours leaves open.
    pub(super) const DUE_BITS: u32 = 24;

    const DUE_MASK: u32 = (1 << Self::DUE_BITS) - 1;
    pub(super) const NONE: Self = Self { name: 0, stamp_and_due: 0 };

    /// A hint to the entry `name`, whose stamp is `stamp` and which is due at `due_ms`.
    #[must_use]
    pub const fn new(name: u32, stamp: u8, due_ms: i64) -> Self {
        Self { name, stamp_and_due: (stamp as u32) << Self::DUE_BITS | due_ms as u32 & Self::DUE_MASK }
    }

    /// The entry's name.
    #[must_use]
    pub const fn name(self) -> u32 {
        self.name
    }

    /// The stamp that the entry had. With another one by now, the hint is stale.
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
const SEGMENT_CHUNKS: usize = 1 << SEGMENT_BITS;
const SEGMENT_BITS: u32 = 9;

/// The name of no chunk.
const NIL: u32 = u32::MAX;

/// A piece of a list, or of the free ones of a segment.
#[derive(Clone, Copy, Debug)]
struct Chunk {
    hints: [Hint; CHUNK_HINTS],
    len: u32,
    next: u32,
}

impl Chunk {
    const EMPTY: Self = Self { hints: [Hint::NONE; CHUNK_HINTS], len: 0, next: NIL };
}

/// The chunks of any number of lists, in segments that come one by one and go when they are empty.
#[derive(Debug)]
pub(super) struct Chunks {
    segments: Vec<Segment>,
    /// Segments that have a chunk to give, but for the current one. The lowest is used first, so that the highest
    /// empty and go.
    with_room: BTreeSet<u32>,
    current: u32,
}

#[derive(Debug, Default)]
struct Segment {
    /// As many as were ever used, up to [`SEGMENT_CHUNKS`].
    chunks: Vec<Chunk>,
    used: u32,
    /// The first free chunk, which leads to the next.
    free: Option<u32>,
}

impl Segment {
    fn has_room(&self) -> bool {
        (self.used as usize) < SEGMENT_CHUNKS
    }
}

impl Chunks {
    pub(super) const fn new() -> Self {
        Self { segments: Vec::new(), with_room: BTreeSet::new(), current: 0 }
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        let chunks: usize = self.segments.iter().map(|segment| segment.chunks.capacity()).sum();
        chunks * size_of::<Chunk>() + self.segments.capacity() * size_of::<Segment>()
    }

    /// Panics unless exactly the chunks of `lists` are used, for tests.
    pub(super) fn check_invariants<'a>(&self, lists: impl Iterator<Item = &'a List>) {
        let mut used = vec![0; self.segments.len()];
        for list in lists {
            let (mut at, mut len) = (list.head, 0);
            while at != NIL {
                let chunk = self.chunk(at);
                assert!(chunk.len > 0, "an empty chunk is in a list");
                assert!(
                    chunk.next == NIL || chunk.len as usize == CHUNK_HINTS,
                    "a chunk before the last has room"
                );
                assert_eq!(chunk.next == NIL, at == list.tail, "the tail is not the last chunk");
                len += chunk.len;
                used[split(at).0] += 1;
                at = chunk.next;
            }
            assert_eq!(len, list.len, "the length of a list is wrong");
        }
        for (number, (segment, used)) in self.segments.iter().zip(used).enumerate() {
            assert_eq!(segment.used, used, "used chunks of segment {number}");
            let is_listed = self.with_room.contains(&(number as u32));
            assert_eq!(
                is_listed,
                segment.has_room() && self.current != number as u32,
                "room of segment {number}"
            );
        }
    }

    /// An empty chunk.
    fn take(&mut self) -> u32 {
        if !self.segments.get(self.current as usize).is_some_and(Segment::has_room) {
            self.current = self.with_room.pop_first().unwrap_or_else(|| {
                self.segments.push(Segment::default());
                self.segments.len() as u32 - 1
            });
        }
        let segment = &mut self.segments[self.current as usize];
        segment.used += 1;
        let offset = if let Some(offset) = segment.free {
            let chunk = &mut segment.chunks[offset as usize];
            segment.free = (chunk.next != NIL).then_some(chunk.next);
            (chunk.len, chunk.next) = (0, NIL);
            offset
        } else {
            segment.chunks.reserve_exact(SEGMENT_CHUNKS - segment.chunks.len());
            segment.chunks.push(Chunk::EMPTY);
            segment.chunks.len() as u32 - 1
        };
        self.current << SEGMENT_BITS | offset
    }

    fn give_back(&mut self, name: u32) {
        let (number, offset) = split(name);
        let segment = &mut self.segments[number];
        let had_room = segment.has_room();
        segment.chunks[offset].next = segment.free.unwrap_or(NIL);
        segment.free = Some(offset as u32);
        segment.used -= 1;
        let is_current = self.current as usize == number;
        if segment.used == 0 && !is_current {
            *segment = Segment::default();
        }
        if !had_room && !is_current {
            self.with_room.insert(number as u32);
        }
    }

    fn chunk(&self, name: u32) -> &Chunk {
        let (number, offset) = split(name);
        &self.segments[number].chunks[offset]
    }

    fn chunk_mut(&mut self, name: u32) -> &mut Chunk {
        let (number, offset) = split(name);
        &mut self.segments[number].chunks[offset]
    }
}

fn split(name: u32) -> (usize, usize) {
    ((name >> SEGMENT_BITS) as usize, name as usize & (SEGMENT_CHUNKS - 1))
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
        if self.tail == NIL || chunks.chunk(self.tail).len as usize == CHUNK_HINTS {
            self.add_chunk(chunks);
        }
        let chunk = chunks.chunk_mut(self.tail);
        chunk.hints[chunk.len as usize] = hint;
        chunk.len += 1;
        self.len += 1;
    }

    /// Pushes each of them, in order.
    pub(super) fn extend(&mut self, chunks: &mut Chunks, mut hints: &[Hint]) {
        while !hints.is_empty() {
            if self.tail == NIL || chunks.chunk(self.tail).len as usize == CHUNK_HINTS {
                self.add_chunk(chunks);
            }
            let chunk = chunks.chunk_mut(self.tail);
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

    #[test]
    fn segments_come_one_by_one_and_go_when_they_are_empty() {
        const HINTS: usize = SEGMENT_CHUNKS * CHUNK_HINTS;
        let (mut chunks, mut taken) = (Chunks::new(), [Hint::NONE; CHUNK_HINTS]);
        let mut lists = [List::EMPTY; 3];
        let segments = |chunks: &Chunks| chunks.allocated_bytes() / (SEGMENT_CHUNKS * size_of::<Chunk>());
        for list in &mut lists {
            (0..HINTS).for_each(|_| list.push(&mut chunks, Hint::NONE));
        }
        assert_eq!(segments(&chunks), 3);
        while !lists[1].pop_chunk(&mut chunks, &mut taken).is_empty() {}
        chunks.check_invariants(lists.iter());
        assert_eq!(segments(&chunks), 2);
        lists[0].pop_chunk(&mut chunks, &mut taken);
        while !lists[2].pop_chunk(&mut chunks, &mut taken).is_empty() {}
        lists[1].push(&mut chunks, Hint::NONE);
        chunks.check_invariants(lists.iter());
        assert!(segments(&chunks) <= 2, "the current one may stay");
        (0..2 * HINTS).for_each(|_| lists[1].push(&mut chunks, Hint::NONE));
        chunks.check_invariants(lists.iter());
        assert_eq!(segments(&chunks), 3);
    }

    #[test]
    fn the_lowest_segment_with_room_is_used_first() {
        let (mut chunks, mut taken) = (Chunks::new(), [Hint::NONE; CHUNK_HINTS]);
        let mut lists = [List::EMPTY; 3];
        for list in &mut lists {
            (0..SEGMENT_CHUNKS * CHUNK_HINTS).for_each(|_| list.push(&mut chunks, Hint::NONE));
        }
        lists[1].pop_chunk(&mut chunks, &mut taken);
        lists[0].pop_chunk(&mut chunks, &mut taken);
        lists[2].push(&mut chunks, Hint::NONE);
        let used: Vec<u32> = chunks.segments.iter().map(|segment| segment.used).collect();
        assert_eq!(used, [512, 511, 512]);
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
