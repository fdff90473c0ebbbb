//! The segments with blocks of one size.

use std::collections::BTreeSet;

use super::size::SEGMENT_UNITS;

/// The segments with blocks of one size, and where the next entry of that size goes.
///
/// An entry goes to the first of these that there is: a free block of `current`; of the lowest segment `with_holes`, so
/// that the highest drain, which then becomes `current`; a block of `growing` that was never used; a new segment, which
/// then is `growing`.
#[derive(Debug, Default)]
pub(super) struct Class {
    pub(super) segments: Vec<u32>,
    /// Those with free blocks, but for the current one, and for the one that is being cleared.
    pub(super) with_holes: BTreeSet<u32>,
    pub(super) current: Option<u32>,
    pub(super) growing: Option<u32>,
    pub(super) blocks_a_segment: usize,
    /// Blocks that were ever used, in all of the segments.
    pub(super) blocks: usize,
    /// Those with an entry.
    pub(super) live: usize,
    /// Goes up with each choice of candidates.
    turn: usize,
}

/// As many segments are looked at to find one that is worth clearing: looking at all of a large set's takes a millisecond.
const CANDIDATES: usize = 256;

impl Class {
    /// Adds a segment, to be filled, with blocks of `units`.
    pub(super) fn grow(&mut self, number: u32, units: usize) {
        self.segments.push(number);
        self.growing = Some(number);
        self.blocks_a_segment = SEGMENT_UNITS / units;
    }

    /// Whether clearing a segment is worth while: a quarter of the blocks is free, and there is room for what is in it.
    pub(super) fn is_sparse(&self) -> bool {
        let free = self.blocks - self.live;
        // A segment's entries and its own free blocks together are a segment's at most. So if that many are free in all,
        // the other segments have as many free blocks as it has entries.
        free * 4 > self.blocks && self.segments.len() > 1 && free >= self.blocks_a_segment
    }

    /// Some of the segments, from all over: one after the other gets its turn.
    pub(super) fn candidates(&mut self) -> impl Iterator<Item = u32> {
        let step = self.segments.len().div_ceil(CANDIDATES).max(1);
        self.turn = self.turn.wrapping_add(1);
        self.segments.iter().copied().skip(self.turn % step).step_by(step)
    }

    /// The free blocks of a segment are not used any more.
    pub(super) fn stop_filling(&mut self, number: u32) {
        self.with_holes.remove(&number);
        self.current = self.current.filter(|&current| current != number);
    }

    /// No block of a segment is used any more, nor one that was never used.
    pub(super) fn stop_using(&mut self, number: u32) {
        self.stop_filling(number);
        self.growing = self.growing.filter(|&growing| growing != number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_segment_is_a_candidate_now_and_then_and_few_are_at_a_time() {
        for count in [1, 2, 255, 256, 257, 3_000] {
            let mut class = Class { segments: (0..count).collect(), ..Class::default() };
            let mut met = BTreeSet::new();
            for _ in 0..count {
                let candidates: Vec<u32> = class.candidates().collect();
                assert!((1..=CANDIDATES).contains(&candidates.len()), "{} of {count}", candidates.len());
                met.extend(candidates);
            }
            assert_eq!(met.len(), count as usize);
        }
    }
}
