//! A segment of the arena: memory cut into blocks of one size.

use super::size::{SEGMENT_UNITS, SHARED_UNITS, UNIT_BYTES};
use crate::engine::entry::{self, Place};
use crate::engine::memory::Memory;
use crate::prefetch::prefetch;

/// What a look-up reads of an entry: its front and most of the ID.
const LOOKED_UP_BYTES: usize = 48;

/// What is asked for of an entry that is going to be read as a whole.
const READ_AHEAD_BYTES: usize = 512;

const CACHE_LINE_BYTES: usize = 64;

/// The unit of no block.
const NIL: u32 = u32::MAX;

/// Blocks of one size, each known by the unit it begins at.
///
/// Invariants ([`check_invariants`](Self::check_invariants) holds them): a block is free exactly where its place is
/// [`Free`](Place::Free), and then it is in the list that begins at `free`; all others are `live`.
#[derive(Debug)]
pub(super) struct Segment {
    memory: Memory,
    block_units: u32,
    /// Units that were ever used, from the front on.
    used_units: u32,
    /// Blocks with an entry.
    live: u32,
    /// The first unit of a free block, which holds that of the next, or [`NIL`].
    free: u32,
}

impl Segment {
    /// An empty segment for blocks of `units`; if they are larger than shared ones, for a single one.
    pub(super) fn new(units: usize) -> Self {
        let memory = Memory::new(if units > SHARED_UNITS { units } else { SEGMENT_UNITS } * UNIT_BYTES);
        Self { memory, block_units: units as u32, used_units: 0, live: 0, free: NIL }
    }

    /// Units of a block.
    #[inline]
    pub(super) fn block_units(&self) -> usize {
        self.block_units as usize
    }

    /// Bytes of a block.
    #[inline]
    pub(super) fn block_bytes(&self) -> usize {
        self.block_units() * UNIT_BYTES
    }

    /// Units that were ever used, from the front on.
    pub(super) fn used_units(&self) -> usize {
        self.used_units as usize
    }

    /// Bytes that were ever used.
    pub(super) fn touched_bytes(&self) -> usize {
        self.used_units() * UNIT_BYTES
    }

    /// Blocks that were ever used.
    pub(super) fn blocks(&self) -> usize {
        (self.used_units / self.block_units) as usize
    }

    /// Blocks with an entry.
    pub(super) fn live(&self) -> u32 {
        self.live
    }

    /// Whether a block that was used is free.
    #[inline]
    pub(super) fn has_holes(&self) -> bool {
        self.free != NIL
    }

    /// Whether there is a block that was never used.
    #[inline]
    pub(super) fn can_grow(&self) -> bool {
        (self.used_units + self.block_units) as usize <= SEGMENT_UNITS
    }

    /// Takes a free block, or else one that was never used and now gets `fresh_stamp`; there must be one. Gives its unit,
    /// and whether it was never used.
    #[inline]
    pub(super) fn take(&mut self, fresh_stamp: u8) -> (usize, bool) {
        let is_fresh = !self.has_holes();
        let unit = if is_fresh {
            let unit = self.used_units();
            self.used_units += self.block_units;
            entry::set_stamp(self.block_mut(unit), fresh_stamp);
            unit
        } else {
            let unit = self.free as usize;
            self.free = next_free(self.block(unit));
            unit
        };
        entry::set_place(self.block_mut(unit), Place::Unfiled);
        self.live += 1;
        (unit, is_fresh)
    }

    /// Frees the block that begins at `unit`, which must be in use.
    #[inline]
    pub(super) fn give_back(&mut self, unit: usize) {
        let next = self.free;
        let block = self.block_mut(unit);
        entry::set_place(block, Place::Free);
        set_next_free(block, next);
        self.free = unit as u32;
        self.live -= 1;
    }

    /// Makes a segment without entries as if it had never been used.
    pub(super) fn reset(&mut self) {
        self.used_units = 0;
        self.free = NIL;
    }

    /// The block that begins at `unit`.
    #[inline]
    pub(super) fn block(&self, unit: usize) -> &[u8] {
        &self.memory[unit * UNIT_BYTES..][..self.block_bytes()]
    }

    /// As [`block`](Self::block), to write to.
    #[inline]
    pub(super) fn block_mut(&mut self, unit: usize) -> &mut [u8] {
        let len = self.block_bytes();
        &mut self.memory[unit * UNIT_BYTES..][..len]
    }

    /// The entry in the block that begins at `unit`, if one does and is in use.
    #[inline]
    pub(super) fn get(&self, unit: usize) -> Option<&[u8]> {
        let is_block = unit < self.used_units() && (unit as u32).is_multiple_of(self.block_units);
        let block = is_block.then(|| self.block(unit))?;
        (entry::place(block) != Place::Free).then_some(block)
    }

    /// Asks for what a look-up reads of the entry at `unit`, if there is one.
    #[inline]
    pub(super) fn prefetch(&self, unit: usize) {
        if let Some(front) = self.memory.get(unit * UNIT_BYTES..)
            && let Some([first, .., last]) = front.get(..LOOKED_UP_BYTES.min(front.len()))
        {
            // A block may begin late in a cache line.
            prefetch(first);
            prefetch(last);
        }
    }

    /// Asks for all of the entry at `unit`, if there is one, or the front of a large one: what comes after that, the
    /// machine foresees.
    #[inline]
    pub(super) fn prefetch_whole(&self, unit: usize) {
        if let Some(front) = self.memory.get(unit * UNIT_BYTES..) {
            let block = &front[..self.block_bytes().min(READ_AHEAD_BYTES).min(front.len())];
            block.iter().step_by(CACHE_LINE_BYTES).chain(block.last()).for_each(prefetch);
        }
    }

    /// Panics where the blocks contradict what the segment believes of them, for tests.
    pub(super) fn check_invariants(&self) {
        let units = (0..self.used_units()).step_by(self.block_units());
        let live = units.filter(|&unit| self.get(unit).is_some()).count();
        let (mut at, mut free) = (self.free, 0);
        while at != NIL {
            let block = self.block(at as usize);
            assert_eq!(entry::place(block), Place::Free, "a block in use is in the list of free ones");
            free += 1;
            at = next_free(block);
        }
        assert_eq!(live, self.live as usize, "blocks with an entry");
        assert_eq!(live + free, self.blocks(), "blocks");
    }
}

fn next_free(block: &[u8]) -> u32 {
    u32::from_le_bytes(block[..4].try_into().expect("four bytes"))
}

fn set_next_free(block: &mut [u8], next: u32) {
    block[..4].copy_from_slice(&next.to_le_bytes());
}
