//! Where the entries are: blocks of memory by size, each named by a `u32`.
//!
//! A memory allocator would do, were it not for what happens when most of the entries leave: those that stay are
//! scattered over all its pages, and none goes back to the system. Only who knows who points to a block may move it.
//! So: segments of a megabyte, each cut into blocks of one size; a freed block is used again for an entry of about its
//! size, which under steady change moves nothing at all; and where more than a quarter of the blocks of a size lie
//! free, the emptiest segment is [cleared](Arena::next_to_move), an entry at a time.
//!
//! A name is a segment and a place in it, in units of 16 bytes: so an arena has 65,535 segments, which is 64 GiB of small
//! entries, but no more than 65,535 entries that are larger than 512 KiB.

mod class;
mod segment;
mod size;

use std::collections::BTreeSet;

use super::entry::{self, Place};
use super::hint::Hint;
use class::Class;
use segment::Segment;
use size::{SEGMENT_BITS, SEGMENT_UNITS, SHARED_UNITS, UNIT_BYTES, block_units, class_of};

/// One less than a name tells apart, so that there is a name after every entry's: from there a walk goes on.
const MAX_SEGMENTS: usize = (u32::MAX >> SEGMENT_BITS) as usize;

/// A segment that has become empty is kept for the next entry if no more than that of it was ever used.
const KEPT_BYTES: usize = 64 << 10;

/// The entries of a set.
///
/// Invariants ([`check_invariants`](Self::check_invariants) holds them): a segment of shared size is in its class; if it has
/// free blocks, it is in `with_holes` there, unless it is `current` or being cleared; one that is being cleared takes no
/// entries.
#[derive(Debug)]
pub(super) struct Arena {
    segments: Vec<Option<Segment>>,
    /// Numbers of segments that are not used.
    vacant: BTreeSet<u32>,
    /// By the number of their size.
    classes: Vec<Class>,
    /// Entries in all segments.
    len: usize,
    /// Bytes that were ever used, in all segments.
    touched_bytes: usize,
    /// The stamp of the next block that is used for the first time: after a segment was given back and allocated anew,
    /// its names should not begin with the stamps they had.
    fresh_stamp: u8,
    /// The segment that is being cleared, and the unit from which on blocks may be left.
    clearing: Option<(u32, u32)>,
}

impl Arena {
    pub(super) fn new() -> Self {
        Self {
            // Address space for all there can be, not memory: growing would copy them all at once.
            segments: Vec::with_capacity(MAX_SEGMENTS),
            vacant: BTreeSet::new(),
            classes: Vec::new(),
            len: 0,
            touched_bytes: 0,
            fresh_stamp: 0,
            clearing: None,
        }
    }

    /// Entries in the arena.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Bytes of memory that was used, free blocks included.
    pub(super) fn allocated_bytes(&self) -> usize {
        self.touched_bytes
            + self.segments.len() * size_of::<Option<Segment>>()
            + self.classes.capacity() * size_of::<Class>()
    }

    /// A block for an entry of `len` bytes. Its place is [`Unfiled`](Place::Unfiled), the rest is for the caller to
    /// write.
    pub(super) fn allocate(&mut self, len: usize) -> u32 {
        let units = block_units(len);
        let number = if units > SHARED_UNITS { self.add_segment(units) } else { self.segment_for(units) };
        let fresh_stamp = self.fresh_stamp;
        let (unit, is_fresh) = self.segment_mut(number as usize).take(fresh_stamp);
        self.touched_bytes += if is_fresh { units * UNIT_BYTES } else { 0 };
        if units <= SHARED_UNITS {
            let class = &mut self.classes[class_of(units)];
            class.blocks += usize::from(is_fresh);
            class.live += 1;
        }
        self.len += 1;
        number << SEGMENT_BITS | unit as u32
    }

    /// Gives back the block of that name, which must be in use.
    pub(super) fn free(&mut self, name: u32) {
        let (number, unit) = split(name);
        let segment = self.segment_mut(number);
        let had_holes = segment.has_holes();
        segment.give_back(unit);
        let (is_empty, units) = (segment.live() == 0, segment.block_units());
        self.len -= 1;
        let number = number as u32;
        if units <= SHARED_UNITS {
            let is_clearing = self.is_clearing(number);
            let class = &mut self.classes[class_of(units)];
            class.live -= 1;
            if !had_holes && !is_clearing && class.current != Some(number) {
                class.with_holes.insert(number);
            }
        }
        if is_empty {
            self.release(number);
        }
    }

    /// Whether an entry of `len` bytes may take the place of the one of that name.
    pub(super) fn fits(&self, name: u32, len: usize) -> bool {
        self.segment(split(name).0).block_units() == block_units(len)
    }

    /// The entry of that name, if it is the name of one. Names may be used again, so whoever kept one has to look
    /// whether it is the same entry.
    pub(super) fn get(&self, name: u32) -> Option<&[u8]> {
        let (number, unit) = split(name);
        self.segments.get(number)?.as_ref()?.get(unit)
    }

    /// Asks for the front of the entry of that name, if there is one.
    pub(super) fn prefetch(&self, name: u32) {
        let (number, unit) = split(name);
        if let Some(Some(segment)) = self.segments.get(number) {
            segment.prefetch(unit);
        }
    }

    /// Asks for all of the entry of that name, if there is one, or the front of a large one.
    pub(super) fn prefetch_whole(&self, name: u32) {
        let (number, unit) = split(name);
        if let Some(Some(segment)) = self.segments.get(number) {
            segment.prefetch_whole(unit);
        }
    }

    /// Asks for the fronts of the entries that the hints name.
    #[inline]
    pub(super) fn read_ahead(&self, hints: &[Hint]) {
        for hint in hints {
            self.prefetch(hint.name());
        }
    }

    /// The entry that the hint leads to, if it is in `place` and the hint is not stale.
    #[inline]
    pub(super) fn hinted(&self, hint: Hint, place: Place) -> Option<&[u8]> {
        self.get(hint.name()).filter(|bytes| entry::is_hinted(bytes, hint, place))
    }

    /// Some of the entries that stand in the way of giving memory back, if there are any: each has to be
    /// [moved](Self::move_entry) before this is asked again. Looks at up to `budget` blocks, which it takes off `budget`.
    pub(super) fn next_to_move(&mut self, budget: &mut usize) -> Moves {
        let mut found = Moves::EMPTY;
        let clearing = self.clearing.or_else(|| Some((self.choose_to_clear()?, 0)));
        let Some((number, mut unit)) = clearing else { return found };
        let segment = self.segment(number as usize);
        let (units, block_units) = (segment.used_units() as u32, segment.block_units() as u32);
        debug_assert!(unit < units, "what was to be moved was not");
        while unit < units && *budget > 0 && !found.is_full() {
            *budget -= 1;
            if entry::place(segment.block(unit as usize)) != Place::Free {
                found.push(number << SEGMENT_BITS | unit);
            }
            unit += block_units;
        }
        self.clearing = Some((number, unit));
        found
    }

    /// Whether a segment is being cleared that is not empty yet.
    pub(super) fn has_begun_to_clear(&self) -> bool {
        self.clearing.is_some()
    }

    /// Bytes of the block of that name.
    pub(super) fn block_bytes(&self, name: u32) -> usize {
        self.segment(split(name).0).block_bytes()
    }

    /// Whether [`next_to_move`](Self::next_to_move) has something to do. O(number of sizes).
    pub(super) fn is_sparse(&self) -> bool {
        self.clearing.is_some() || self.classes.iter().any(Class::is_sparse)
    }

    /// Copies the entry to a new block, frees the old one and gives the new name.
    pub(super) fn move_entry(&mut self, name: u32) -> u32 {
        let (number, unit) = split(name);
        let moved = self.allocate(self.segment(number).block_bytes());
        let (moved_number, moved_unit) = split(moved);
        let segments = self.segments.get_disjoint_mut([number, moved_number]);
        let [Some(from), Some(to)] = segments.expect("a segment that is being cleared takes no entries")
        else {
            unreachable!("both are in use")
        };
        entry::copy(from.block(unit), to.block_mut(moved_unit));
        self.free(name);
        moved
    }

    /// The first entry from the name `from` on, in the order of memory; every block looked at is taken off `budget`.
    pub(super) fn next_from(&self, from: u32, budget: &mut usize) -> Step {
        let (mut number, mut unit) = split(from);
        while let Some(segment) = self.segments.get(number) {
            let Some(segment) = segment else {
                (number, unit) = (number + 1, 0);
                continue;
            };
            let (units, step) = (segment.used_units(), segment.block_units());
            if unit > 0 && unit < units {
                unit = unit.next_multiple_of(step);
            }
            while unit < units {
                let name = (number << SEGMENT_BITS | unit) as u32;
                if *budget == 0 {
                    return Step::Paused(name);
                }
                *budget -= 1;
                if entry::place(&self[name]) != Place::Free {
                    return Step::Entry(name);
                }
                unit += step;
            }
            (number, unit) = (number + 1, 0);
        }
        Step::End
    }

    /// Panics where the segments contradict themselves or each other, for tests.
    pub(super) fn check_invariants(&self) {
        let (mut len, mut touched_bytes) = (0, 0);
        // Segments, blocks and entries of each.
        let mut classes: Vec<_> = self.classes.iter().map(|_| (0, 0, 0)).collect();
        for (number, segment) in self.segments.iter().enumerate() {
            let number = number as u32;
            assert_eq!(self.vacant.contains(&number), segment.is_none(), "segment {number} is vacant");
            let Some(segment) = segment else { continue };
            segment.check_invariants();
            let live = segment.live() as usize;
            len += live;
            touched_bytes += segment.touched_bytes();
            if segment.block_units() <= SHARED_UNITS {
                let at = class_of(segment.block_units());
                let class = &self.classes[at];
                let counted = &mut classes[at];
                *counted = (counted.0 + 1, counted.1 + segment.blocks(), counted.2 + live);
                assert!(class.segments.contains(&number), "the class does not know segment {number}");
                let is_listed = class.with_holes.contains(&number);
                let is_open = class.current != Some(number) && !self.is_clearing(number);
                assert_eq!(is_listed, is_open && segment.has_holes(), "holes of segment {number}");
                let takes_entries = class.current == Some(number) || class.growing == Some(number);
                assert!(
                    !takes_entries || !self.is_clearing(number),
                    "segment {number} is cleared and filled"
                );
            }
        }
        let known = self.classes.iter().map(|class| (class.segments.len(), class.blocks, class.live));
        assert!(known.eq(classes), "segments, blocks and entries by size");
        assert_eq!((len, touched_bytes), (self.len, self.touched_bytes), "entries, bytes");
    }

    fn segment(&self, number: usize) -> &Segment {
        self.segments[number].as_ref().expect("the name of an entry leads to a segment in use")
    }

    fn segment_mut(&mut self, number: usize) -> &mut Segment {
        self.segments[number].as_mut().expect("the name of an entry leads to a segment in use")
    }

    fn is_clearing(&self, number: u32) -> bool {
        self.clearing.is_some_and(|(clearing, _)| clearing == number)
    }

    /// The segment that the next entry of this size goes to.
    fn segment_for(&mut self, units: usize) -> u32 {
        let at = class_of(units);
        if at >= self.classes.len() {
            self.classes.resize_with(at + 1, Class::default);
        }
        let class = &self.classes[at];
        if let Some(current) = class.current.filter(|&current| self.segment(current as usize).has_holes()) {
            return current;
        }
        let growing = class.growing.filter(|&growing| self.segment(growing as usize).can_grow());
        let class = &mut self.classes[at];
        class.current = class.with_holes.pop_first();
        if let Some(number) = class.current.or(growing) {
            return number;
        }
        let number = self.add_segment(units);
        self.classes[at].grow(number, units);
        number
    }

    /// A new segment for blocks of `units`, in no class yet.
    fn add_segment(&mut self, units: usize) -> u32 {
        let number = self.vacant.pop_first().unwrap_or_else(|| {
            assert!(
                self.segments.len() < MAX_SEGMENTS,
                "a shard holds less than 64 GiB, and fewer than 65,535 schedules of more than 512 KiB"
            );
            self.segments.push(None);
            self.segments.len() as u32 - 1
        });
        self.segments[number as usize] = Some(Segment::new(units));
        number
    }

    /// Takes a segment without entries out of use, or makes it as new.
    fn release(&mut self, number: u32) {
        // Far from what its blocks may have had by now.
        self.fresh_stamp = self.fresh_stamp.wrapping_add(101);
        let segment = self.segment_mut(number as usize);
        let (units, blocks, touched_bytes) =
            (segment.block_units(), segment.blocks(), segment.touched_bytes());
        self.touched_bytes -= touched_bytes;
        if self.is_clearing(number) {
            self.clearing = None;
        }
        if units <= SHARED_UNITS {
            let class = &mut self.classes[class_of(units)];
            class.blocks -= blocks;
            class.stop_filling(number);
            if class.growing == Some(number) && touched_bytes <= KEPT_BYTES {
                return self.segment_mut(number as usize).reset();
            }
            class.stop_using(number);
            class.segments.retain(|&other| other != number);
        }
        self.segments[number as usize] = None;
        self.vacant.insert(number);
    }

    /// Takes the emptiest candidate of a size of which too many blocks are free out of use.
    fn choose_to_clear(&mut self) -> Option<u32> {
        let class = self.classes.iter_mut().find(|class| class.is_sparse())?;
        let live = |number: u32| self.segments[number as usize].as_ref().map_or(0, Segment::live);
        // One that is empty is kept for what comes next, and has nothing to clear.
        let used = class.candidates().filter(|&number| live(number) > 0);
        let number = used.min_by_key(|&number| live(number))?;
        class.stop_using(number);
        Some(number)
    }
}

impl std::ops::Index<u32> for Arena {
    type Output = [u8];
    /// The block of that name.
    fn index(&self, name: u32) -> &[u8] {
        let (number, unit) = split(name);
        self.segment(number).block(unit)
    }
}

impl std::ops::IndexMut<u32> for Arena {
    fn index_mut(&mut self, name: u32) -> &mut [u8] {
        let (number, unit) = split(name);
        self.segment_mut(number).block_mut(unit)
    }
}

/// One step of a walk over the entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Here is an entry; the walk goes on at the name after it.
    Entry(u32),
    /// The budget ended; the walk goes on at this name.
    Paused(u32),
    /// There are no more entries.
    End,
}

/// Names of entries to be moved together.
pub(super) struct Moves {
    names: [u32; MOVES_AT_ONCE],
    len: usize,
}

/// So many that their look-ups wait for memory together.
const MOVES_AT_ONCE: usize = 32;

impl Moves {
    const EMPTY: Self = Self { names: [0; MOVES_AT_ONCE], len: 0 };

    pub(super) fn names(&self) -> &[u32] {
        &self.names[..self.len]
    }

    fn push(&mut self, name: u32) {
        self.names[self.len] = name;
        self.len += 1;
    }

    fn is_full(&self) -> bool {
        self.len == MOVES_AT_ONCE
    }
}

/// A name's segment, and the unit there.
fn split(name: u32) -> (usize, usize) {
    ((name >> SEGMENT_BITS) as usize, name as usize & (SEGMENT_UNITS - 1))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// Writes `mark` all over what is the caller's of the block.
    fn fill(arena: &mut Arena, name: u32, len: usize, mark: u8) {
        for (at, byte) in arena[name][..len].iter_mut().enumerate() {
            if !(NOT_THE_CALLERS).contains(&at) {
                *byte = mark;
            }
        }
    }

    /// The place and the stamp, which are not the caller's to write.
    const NOT_THE_CALLERS: std::ops::Range<usize> = entry::FREE_BYTES..entry::FREE_BYTES + 2;

    fn is_filled(arena: &Arena, name: u32, len: usize, mark: u8) -> bool {
        let bytes = arena[name][..len].iter().enumerate();
        bytes.filter(|(at, _)| !NOT_THE_CALLERS.contains(at)).all(|(_, &byte)| byte == mark)
    }

    fn move_all(arena: &mut Arena, mut moved: impl FnMut(u32, u32)) {
        let mut budget = usize::MAX;
        while arena.is_sparse() {
            let before = budget;
            for &name in arena.next_to_move(&mut budget).names() {
                let new = arena.move_entry(name);
                moved(name, new);
            }
            assert!(budget < before, "nothing was looked at");
        }
    }

    #[test]
    fn what_is_freed_is_used_again_before_anything_grows() {
        let mut arena = Arena::new();
        let mut names: Vec<u32> = (0..20_000).map(|_| arena.allocate(100)).collect();
        let bytes = arena.allocated_bytes();
        for round in 0..5 {
            for name in names.iter_mut().skip(round).step_by(3) {
                arena.free(*name);
                *name = arena.allocate(97 + round);
            }
        }
        assert_eq!(arena.allocated_bytes(), bytes);
        arena.check_invariants();
    }

    #[test]
    fn when_most_leave_most_of_the_memory_goes() {
        let mut arena = Arena::new();
        let names: Vec<u32> = (0..100_000).map(|_| arena.allocate(300)).collect();
        let full = arena.allocated_bytes();
        let mut stays = BTreeMap::new();
        for (at, &name) in names.iter().enumerate() {
            if at % 10 == 7 {
                fill(&mut arena, name, 300, at as u8);
                stays.insert(name, at as u8);
            } else {
                arena.free(name);
            }
        }
        assert!(arena.allocated_bytes() > full / 2, "survivors are scattered");
        let mut moves = 0;
        move_all(&mut arena, |old, new| {
            let mark = stays.remove(&old).unwrap();
            stays.insert(new, mark);
            moves += 1;
        });
        arena.check_invariants();
        assert!(arena.allocated_bytes() < full / 7, "{} of {full}", arena.allocated_bytes());
        assert!(moves < 30_000, "{moves} moves");
        assert_eq!((stays.len(), arena.len()), (10_000, 10_000));
        assert!(stays.iter().all(|(&name, &mark)| is_filled(&arena, name, 300, mark)));
        for &name in stays.keys() {
            arena.free(name);
        }
        arena.check_invariants();
        assert!(arena.allocated_bytes() < 100 << 10, "{}", arena.allocated_bytes());
    }

    #[test]
    fn a_segment_is_cleared_only_if_what_is_in_it_has_room_elsewhere() {
        let mut arena = Arena::new();
        let a_segment = SEGMENT_UNITS / block_units(300);
        let names: Vec<u32> = (0..3 * a_segment).map(|_| arena.allocate(300)).collect();
        let mut to_free = names.into_iter().step_by(3);
        // A third of each segment will be free: as many blocks in two as the third has entries, if not one less.
        to_free.by_ref().take(a_segment - 1).for_each(|name| arena.free(name));
        assert!(!arena.is_sparse() && arena.next_to_move(&mut usize::MAX.clone()).names().is_empty());
        to_free.for_each(|name| arena.free(name));
        assert!(arena.is_sparse());
        let touched_bytes = arena.touched_bytes;
        while arena.is_sparse() {
            for &name in arena.next_to_move(&mut usize::MAX.clone()).names() {
                arena.move_entry(name);
                assert!(arena.touched_bytes <= touched_bytes, "the arena grows to be cleared");
            }
        }
        arena.check_invariants();
        assert_eq!(arena.touched_bytes, touched_bytes / 3 * 2);
    }

    #[test]
    fn a_segment_that_is_kept_although_empty_is_not_cleared() {
        let mut arena = Arena::new();
        let names: Vec<u32> = (0..65_546).map(|_| arena.allocate(17)).collect();
        for &name in names[65_536..].iter().chain(names[..65_536].iter().step_by(2)) {
            arena.free(name);
        }
        assert!(arena.is_sparse(), "or the test is none");
        let mut stays: BTreeSet<u32> = names[..65_536].iter().skip(1).step_by(2).copied().collect();
        move_all(&mut arena, |old, new| {
            assert!(stays.remove(&old) && stays.insert(new));
        });
        arena.check_invariants();
        assert!(stays.iter().all(|&name| arena.get(name).is_some()));
    }

    #[test]
    fn a_large_entry_has_memory_of_its_own_and_gives_it_back() {
        let mut arena = Arena::new();
        let small = arena.allocate(40);
        let large = arena.allocate(5_000_000);
        fill(&mut arena, large, 5_000_000, 9);
        assert!(
            is_filled(&arena, large, 5_000_000, 9) && arena.fits(large, 5_000_000) && !arena.fits(large, 40)
        );
        arena.check_invariants();
        arena.free(large);
        assert!(arena.get(large).is_none() && arena.get(small).is_some());
        assert!(arena.allocated_bytes() < 100 << 10);
        arena.check_invariants();
    }

    #[test]
    fn a_name_that_comes_again_has_another_stamp() {
        for len in [100, 5_000_000] {
            let mut arena = Arena::new();
            let name = arena.allocate(len);
            let stamp = entry::renew_stamp(&mut arena[name]);
            arena.free(name);
            assert_eq!(arena.allocate(len), name, "or the test is none");
            assert_ne!(entry::renew_stamp(&mut arena[name]), stamp, "{len} bytes");
        }
    }

    #[test]
    fn only_an_entry_of_about_its_size_fits_a_block() {
        let mut arena = Arena::new();
        let name = arena.allocate(100);
        let fitting: Vec<usize> = (0..1_000).filter(|&len| arena.fits(name, len)).collect();
        assert_eq!(fitting, (97..=112).collect::<Vec<_>>());
    }

    #[test]
    fn the_segment_that_was_being_filled_may_go() {
        let mut arena = Arena::new();
        let a_segment = SEGMENT_UNITS / block_units(300);
        let mut names: Vec<u32> = (0..a_segment + 50).map(|_| arena.allocate(300)).collect();
        arena.free(names[7]);
        names[7] = arena.allocate(300);
        names[..a_segment].iter().for_each(|&name| arena.free(name));
        assert!(arena.get(names[7]).is_none());
        assert_eq!(split(arena.allocate(300)).0, 1);
        arena.check_invariants();
    }

    #[test]
    fn an_empty_segment_is_kept_if_little_of_it_was_used() {
        for (entries, is_kept) in [(10, true), (1_000, false)] {
            let mut arena = Arena::new();
            let names: Vec<u32> = (0..entries).map(|_| arena.allocate(300)).collect();
            for &name in &names {
                arena.free(name);
            }
            assert_eq!(arena.segments[0].is_some(), is_kept, "after {entries} entries");
            arena.check_invariants();
        }
    }

    #[test]
    fn a_name_inside_a_block_or_outside_all_names_nothing() {
        let mut arena = Arena::new();
        let name = arena.allocate(100);
        // Whatever is in it: here, what would be places of entries.
        fill(&mut arena, name, 100, Place::Waiting as u8);
        assert!(arena.get(name).is_some());
        let last = (SEGMENT_UNITS - 1) as u32;
        let cut_off = last - last % block_units(100) as u32;
        for other in [1, 2, 6, 7, 700, cut_off, last, 1 << SEGMENT_BITS, u32::MAX] {
            assert!(arena.get(name | other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_segment_that_never_had_a_hole_may_be_cleared() {
        let mut arena = Arena::new();
        let a_segment = SEGMENT_UNITS / block_units(300);
        let names: Vec<u32> = (0..2 * a_segment + 50).map(|_| arena.allocate(300)).collect();
        names[..2 * a_segment].iter().filter(|name| **name % 3 > 0).for_each(|&name| arena.free(name));
        let mut budget = 10;
        let batch = arena.next_to_move(&mut budget);
        assert_eq!((budget, batch.names()), (0, &names[2 * a_segment..][..10]));
        for &name in batch.names() {
            arena.move_entry(name);
            arena.check_invariants();
        }
        move_all(&mut arena, |_, _| ());
        arena.check_invariants();
    }

    #[test]
    fn the_segment_that_is_being_filled_may_be_cleared() {
        let mut arena = Arena::new();
        let a_segment = SEGMENT_UNITS / block_units(300);
        let names: Vec<u32> = (0..3 * a_segment).map(|_| arena.allocate(300)).collect();
        arena.free(names[a_segment]);
        names[50..a_segment].iter().for_each(|&name| arena.free(name));
        assert_eq!(split(arena.allocate(300)).0, 0, "the lowest segment is filled first");
        names[a_segment + 1..].iter().step_by(2).for_each(|&name| arena.free(name));
        let len = arena.len();
        move_all(&mut arena, |_, _| ());
        arena.check_invariants();
        assert_eq!(arena.len(), len);
    }

    proptest! {
        #[test]
        fn entries_keep_what_is_in_them(
            steps in prop::collection::vec((0..8u8, 1..40_000usize, any::<prop::sample::Index>()), 1..40),
        ) {
            let mut arena = Arena::new();
            let mut model: BTreeMap<u32, (usize, u8)> = BTreeMap::new();
            for (mark, (step, len, which)) in steps.into_iter().enumerate() {
                let pick = |model: &BTreeMap<u32, (usize, u8)>| {
                    (!model.is_empty()).then(|| *model.keys().nth(which.index(model.len())).unwrap())
                };
                match (step, pick(&model)) {
                    (0..=3, _) => {
                        for _ in 0..if step < 2 { 1 } else { 40 } {
                            let len = if step == 0 { len * 20 } else { len % 3_000 + 1 };
                            let name = arena.allocate(len);
                            fill(&mut arena, name, len, mark as u8);
                            prop_assert!(model.insert(name, (len, mark as u8)).is_none(), "a name twice");
                        }
                    }
                    (4..=5, Some(name)) => {
                        arena.free(name);
                        model.remove(&name);
                        prop_assert!(arena.get(name).is_none());
                    }
                    (6, Some(_)) => {
                        let kept = len % 7;
                        let leave: Vec<u32> = model.keys().copied().skip(kept).step_by(2).collect();
                        for name in leave {
                            arena.free(name);
                            model.remove(&name);
                        }
                    }
                    (7, _) => {
                        let mut budget = len % 50;
                        for &name in arena.next_to_move(&mut budget).names() {
                            let entry = model.remove(&name).unwrap();
                            model.insert(arena.move_entry(name), entry);
                        }
                    }
                    _ => {}
                }
                arena.check_invariants();
                prop_assert_eq!(arena.len(), model.len());
                for (&name, &(len, mark)) in &model {
                    prop_assert!(is_filled(&arena, name, len, mark));
                }
                let (mut walked, mut from, mut budget) = (Vec::new(), 0, 1 + len % 9);
                loop {
                    match arena.next_from(from, &mut budget) {
                        Step::Entry(name) => {
                            walked.push(name);
                            from = name + 1;
                        }
                        Step::Paused(at) => (from, budget) = (at, 1 + len % 9),
                        Step::End => break,
                    }
                }
                prop_assert!(walked.iter().eq(model.keys()));
            }
        }
    }
}
