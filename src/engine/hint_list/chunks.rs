//! The memory of lists of hints: chunks, in segments that come one by one and go when they are empty.
//!
//! No segment is ever copied to grow: each is allocated whole. And each is the system's again at once when its last chunk
//! is given back; an allocator puts that off, and then gives many back within one call.

use std::collections::BTreeSet;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::List;
use crate::engine::hint::Hint;
use crate::engine::memory::Memory;

/// Hints in a chunk: with the link and the length, 512 bytes.
pub(in crate::engine) const CHUNK_HINTS: usize = 63;

/// Chunks in a segment, together a quarter of a megabyte.
const SEGMENT_CHUNKS: usize = 1 << SEGMENT_BITS;
const SEGMENT_BITS: u32 = 9;

/// The name of no chunk.
pub(super) const NIL: u32 = u32::MAX;

/// The chunks of any number of lists.
///
/// Invariants ([`check_invariants`](Self::check_invariants) holds them): a chunk that was ever used is in one list or in
/// the free ones of its segment; a segment with a chunk to give is in `with_room`, unless it is `current`; one without
/// used chunks has no memory, unless it is `current`.
#[derive(Debug)]
pub(in crate::engine) struct Chunks {
    segments: Vec<Segment>,
    /// Segments that have a chunk to give, but for the current one. The lowest is used first, so that the highest
    /// empty and go.
    with_room: BTreeSet<u32>,
    /// The segment that the next chunk is taken from, as long as it has one.
    current: u32,
    /// Segments that went back to the system.
    given_back: usize,
}

impl Chunks {
    pub(in crate::engine) const fn new() -> Self {
        Self { segments: Vec::new(), with_room: BTreeSet::new(), current: 0, given_back: 0 }
    }

    /// Bytes of the segments that were ever used.
    pub(in crate::engine) fn allocated_bytes(&self) -> usize {
        let chunks: usize = self.segments.iter().map(|segment| segment.ever_used as usize).sum();
        chunks * size_of::<Chunk>() + self.segments.capacity() * size_of::<Segment>()
    }

    /// Segments that went back to the system, which takes time, since there are chunks.
    pub(in crate::engine) fn given_back(&self) -> usize {
        self.given_back
    }

    /// Panics unless exactly the chunks of `lists` are used, for tests.
    pub(in crate::engine) fn check_invariants<'a>(&self, lists: impl Iterator<Item = &'a List>) {
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
            let is_current = self.current as usize == number;
            assert_eq!(segment.used, used, "used chunks of segment {number}");
            assert_eq!(
                segment.free_len() + used as usize,
                segment.ever_used as usize,
                "chunks of segment {number}"
            );
            let is_listed = self.with_room.contains(&(number as u32));
            assert_eq!(is_listed, segment.has_room() && !is_current, "room of segment {number}");
            assert!(used > 0 || is_current || segment.memory.is_none(), "memory of segment {number}");
        }
    }

    /// An empty chunk.
    #[inline]
    pub(super) fn take(&mut self) -> u32 {
        if !self.segments.get(self.current as usize).is_some_and(Segment::has_room) {
            self.current = self.with_room.pop_first().unwrap_or_else(|| {
                self.segments.push(Segment::default());
                self.segments.len() as u32 - 1
            });
        }
        let segment = &mut self.segments[self.current as usize];
        segment.used += 1;
        segment.memory.get_or_insert_with(|| Memory::new(size_of::<[Chunk; SEGMENT_CHUNKS]>()));
        let offset = segment.free.unwrap_or(segment.ever_used);
        let is_new = segment.free.is_none();
        let chunk = segment.chunk_mut(offset);
        let next_free = (!is_new && chunk.next != NIL).then_some(chunk.next);
        (chunk.len, chunk.next) = (0, NIL);
        segment.free = next_free;
        segment.ever_used += u32::from(is_new);
        self.current << SEGMENT_BITS | offset
    }

    /// Takes back the chunk of that name, which is in no list any more.
    #[inline]
    pub(super) fn give_back(&mut self, name: u32) {
        let (number, offset) = split(name);
        let segment = &mut self.segments[number];
        let had_room = segment.has_room();
        segment.chunk_mut(offset).next = segment.free.unwrap_or(NIL);
        segment.free = Some(offset);
        segment.used -= 1;
        let is_current = self.current as usize == number;
        if segment.used == 0 && !is_current {
            *segment = Segment::default();
            self.given_back += 1;
        }
        if !had_room && !is_current {
            self.with_room.insert(number as u32);
        }
    }

    #[inline]
    pub(super) fn chunk(&self, name: u32) -> &Chunk {
        let (number, offset) = split(name);
        self.segments[number].chunk(offset)
    }

    #[inline]
    pub(super) fn chunk_mut(&mut self, name: u32) -> &mut Chunk {
        let (number, offset) = split(name);
        self.segments[number].chunk_mut(offset)
    }
}

#[derive(Debug, Default)]
struct Segment {
    /// None before the first chunk is taken.
    memory: Option<Memory>,
    /// Chunks that were ever used, from the front on, up to [`SEGMENT_CHUNKS`].
    ever_used: u32,
    used: u32,
    /// The first free chunk, which leads to the next.
    free: Option<u32>,
}

impl Segment {
    fn has_room(&self) -> bool {
        (self.used as usize) < SEGMENT_CHUNKS
    }

    /// The chunk at this offset.
    #[inline]
    fn chunk(&self, offset: u32) -> &Chunk {
        let memory = self.memory.as_deref().expect(HAS_MEMORY);
        let chunks = <[Chunk; SEGMENT_CHUNKS]>::ref_from_bytes(memory).expect(FITS);
        &chunks[offset as usize]
    }

    /// The chunk at this offset.
    #[inline]
    fn chunk_mut(&mut self, offset: u32) -> &mut Chunk {
        let memory = self.memory.as_deref_mut().expect(HAS_MEMORY);
        let chunks = <[Chunk; SEGMENT_CHUNKS]>::mut_from_bytes(memory).expect(FITS);
        &mut chunks[offset as usize]
    }

    fn free_len(&self) -> usize {
        let next = |&offset: &u32| Some(self.chunk(offset).next).filter(|&next| next != NIL);
        std::iter::successors(self.free, next).count()
    }
}

const HAS_MEMORY: &str = "a segment has memory while its chunks are used";
const FITS: &str = "memory of this size was asked for, and begins at a page";

/// A piece of a list, or of the free ones of a segment.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub(super) struct Chunk {
    pub(super) hints: [Hint; CHUNK_HINTS],
    /// How many of the hints, from the front on, are in the list.
    pub(super) len: u32,
    pub(super) next: u32,
}

const _: () = assert!(size_of::<Chunk>() == 512);

/// The segment of a chunk, and where the chunk is in it.
fn split(name: u32) -> (usize, u32) {
    ((name >> SEGMENT_BITS) as usize, name & (SEGMENT_CHUNKS as u32 - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
