//! Things of one size, each named by a `u32`, in segments that are never copied.
//!
//! One growing array would double: a copy of gigabytes, seconds of standstill and twice the memory. A segment is
//! allocated once at its full size and given back when the last thing leaves it.

use std::collections::BTreeSet;

use slab::Slab;

/// Slabs of `SEGMENT` things each.
#[derive(Debug)]
pub(super) struct Slabs<T, const SEGMENT: usize> {
    segments: Vec<Slab<T>>,
    /// Segments that can take one more. The lowest is filled first, so that the highest drain and are given back.
    with_room: BTreeSet<u32>,
    len: usize,
}

impl<T, const SEGMENT: usize> Slabs<T, SEGMENT> {
    pub(super) const fn new() -> Self {
        Self { segments: Vec::new(), with_room: BTreeSet::new(), len: 0 }
    }

    /// Stores `thing` and gives its name.
    pub(super) fn insert(&mut self, thing: T) -> u32 {
        let number = self.with_room.first().copied().unwrap_or_else(|| self.add_segment());
        let segment = &mut self.segments[number as usize];
        if segment.capacity() == 0 {
            *segment = Slab::with_capacity(SEGMENT);
        }
        let offset = segment.insert(thing);
        if segment.len() == SEGMENT {
            self.with_room.remove(&number);
        }
        self.len += 1;
        number * SEGMENT as u32 + offset as u32
    }

    /// Takes out the thing of that name, which must be there.
    pub(super) fn remove(&mut self, name: u32) -> T {
        let (number, offset) = Self::split(name);
        let segment = &mut self.segments[number];
        let was_full = segment.len() == SEGMENT;
        let thing = segment.remove(offset);
        self.len -= 1;
        if was_full {
            self.with_room.insert(number as u32);
        }
        // The last segment with room is kept, or one insert and remove at the edge would allocate each time.
        if segment.is_empty() && self.with_room.len() > 1 {
            *segment = Slab::new();
        }
        thing
    }

    /// Bytes of the segments.
    pub(super) fn allocated_bytes(&self) -> usize {
        let things: usize = self.segments.iter().map(Slab::capacity).sum();
        // What an entry of `Slab` takes: a vacant one is told apart by a word of its own.
        things * (size_of::<T>() + size_of::<usize>()) + self.segments.capacity() * size_of::<Slab<T>>()
    }

    /// Panics where the segments contradict each other or do not hold `len` things, for tests.
    pub(super) fn check_invariants(&self, len: usize) {
        for (number, segment) in self.segments.iter().enumerate() {
            assert!(segment.capacity() == 0 || segment.capacity() == SEGMENT);
            let has_room = segment.len() < SEGMENT;
            assert_eq!(has_room, self.with_room.contains(&(number as u32)), "room of segment {number}");
        }
        assert_eq!(self.segments.iter().map(Slab::len).sum::<usize>(), self.len, "things in the segments");
        assert_eq!(self.len, len, "things that are used");
    }

    fn add_segment(&mut self) -> u32 {
        assert!(self.segments.len() < u32::MAX as usize / SEGMENT, "there are fewer than 2^32 names");
        let number = self.segments.len() as u32;
        self.segments.push(Slab::new());
        self.with_room.insert(number);
        number
    }

    fn split(name: u32) -> (usize, usize) {
        (name as usize / SEGMENT, name as usize % SEGMENT)
    }
}

impl<T, const SEGMENT: usize> std::ops::Index<u32> for Slabs<T, SEGMENT> {
    type Output = T;
    fn index(&self, name: u32) -> &T {
        let (number, offset) = Self::split(name);
        &self.segments[number][offset]
    }
}

impl<T, const SEGMENT: usize> std::ops::IndexMut<u32> for Slabs<T, SEGMENT> {
    fn index_mut(&mut self, name: u32) -> &mut T {
        let (number, offset) = Self::split(name);
        &mut self.segments[number][offset]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: usize = 16;
    const SEGMENT_BYTES: usize = SEGMENT * 16;

    fn segments(slabs: &Slabs<usize, SEGMENT>) -> usize {
        slabs.allocated_bytes() / SEGMENT_BYTES
    }

    #[test]
    fn a_name_leads_to_its_thing_until_it_leaves_and_is_used_again() {
        let mut slabs = Slabs::<_, SEGMENT>::new();
        let [a, b] = [1, 2].map(|thing| slabs.insert(thing));
        assert_eq!((slabs[a], slabs[b]), (1, 2));
        assert_eq!(slabs.remove(a), 1);
        assert_eq!(slabs.insert(3), a);
        slabs[a] += 1;
        assert_eq!((slabs[a], slabs[b]), (4, 2));
        slabs.check_invariants(2);
    }

    #[test]
    fn segments_come_one_by_one_and_go_when_they_are_empty() {
        let mut slabs = Slabs::<_, SEGMENT>::new();
        let names: Vec<u32> = (0..3 * SEGMENT).map(|thing| slabs.insert(thing)).collect();
        slabs.check_invariants(3 * SEGMENT);
        assert_eq!(segments(&slabs), 3);

        for &name in &names[SEGMENT..2 * SEGMENT] {
            slabs.remove(name);
        }
        assert_eq!(segments(&slabs), 3, "the only segment with room is kept");
        slabs.remove(names[0]);
        assert_eq!(slabs.insert(9), names[0], "the lowest segment is filled first");
        for &name in &names[2 * SEGMENT..] {
            slabs.remove(name);
        }
        slabs.check_invariants(SEGMENT);
        assert_eq!(segments(&slabs), 2);
        for thing in 0..2 * SEGMENT {
            slabs.insert(thing);
        }
        slabs.check_invariants(3 * SEGMENT);
        assert_eq!(segments(&slabs), 3);
    }
}
