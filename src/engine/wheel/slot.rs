//! Levels, windows and slots: the arithmetic of where a time belongs.

use crate::engine::hint::Hint;

pub(super) const LEVELS: usize = 11;
const SLOT_BITS: u32 = 6;
/// Slots in a window.
const WINDOW: u64 = 1 << SLOT_BITS;
/// Slots in a ring: two windows.
pub(super) const RING: usize = 2 * WINDOW as usize;

/// A slot, and when it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) level: usize,
    pub(super) start: u64,
}

impl Slot {
    /// The slot of `level` that `time` falls into.
    #[inline]
    pub(super) fn of(level: usize, time: u64) -> Self {
        Self::new(level, time >> shift(level))
    }

    /// The slot for what is due at `due` when the wheel's time is `elapsed`, which is earlier: in the lowest level whose
    /// windows reach it.
    #[inline]
    pub(super) fn for_due(due: u64, elapsed: u64) -> Self {
        Self::of(level_for(due, elapsed), due)
    }

    /// The slot that the list `number` stands for when the wheel's time is `elapsed`.
    pub(super) fn of_list(number: usize, elapsed: u64) -> Self {
        let (level, place) = (number / RING, (number % RING) as u64);
        let first = first_in_window(level, elapsed);
        Self::new(level, first + (place.wrapping_sub(first) & (RING as u64 - 1)))
    }

    /// The first slot of `level` that is `occupied`, a bit for each place of the ring, when the wheel's time is `elapsed`.
    #[inline]
    pub(super) fn first_of(level: usize, occupied: u128, elapsed: u64) -> Option<Self> {
        if occupied == 0 {
            return None;
        }
        let first = first_in_window(level, elapsed);
        let ahead = occupied.rotate_right((first % RING as u64) as u32).trailing_zeros();
        Some(Self::new(level, first + u64::from(ahead)))
    }

    /// The slot after this one.
    #[inline]
    pub(super) fn next(self) -> Self {
        Self { start: self.start + (1 << shift(self.level)), ..self }
    }

    /// The number of its list: level by level, place by place of the ring.
    #[inline]
    pub(super) fn list(self) -> usize {
        self.level * RING + (self.start >> shift(self.level)) as usize % RING
    }

    /// When what is in the slot may be filed in the level below: one slot ahead of its start. Never in the lowest.
    #[inline]
    pub(super) fn prepare_at(self) -> u64 {
        if self.level == 0 { u64::MAX } else { self.start.saturating_sub(1 << shift(self.level)) }
    }

    /// The last millisecond of the slot.
    #[inline]
    pub(super) fn last(self) -> u64 {
        self.start | self.lower_bits()
    }

    /// Whether a time is in the slot.
    #[inline]
    pub(super) fn contains(self, time: u64) -> bool {
        (self.start..=self.last()).contains(&time)
    }

    /// Whether a hint says when, within the slot, its entry is due.
    #[inline]
    pub(super) fn is_in_hint(self) -> bool {
        shift(self.level) <= Hint::DUE_BITS
    }

    /// The time in the slot that has these lower bits; the upper ones do not matter.
    #[inline]
    pub(super) fn at(self, lower: u64) -> u64 {
        self.start | lower & self.lower_bits()
    }

    /// The slot of `level` with the number `absolute`, counted from the epoch.
    fn new(level: usize, absolute: u64) -> Self {
        Self { level, start: absolute << shift(level) }
    }

    /// The bits of a time in the slot that its start leaves open.
    fn lower_bits(self) -> u64 {
        (1 << shift(self.level)) - 1
    }
}

/// The lowest bit of a time that tells slots of this level apart.
pub(super) fn shift(level: usize) -> u32 {
    SLOT_BITS * level as u32
}

/// The number, counted from the epoch, of the first slot of the level's current window.
fn first_in_window(level: usize, elapsed: u64) -> u64 {
    elapsed >> shift(level) & !(WINDOW - 1)
}

/// The lowest level whose windows reach `due` when the wheel's time is `elapsed`, which is earlier.
fn level_for(due: u64, elapsed: u64) -> usize {
    // A due time nearer than a window's span is in the current window or the next, so this level will do…
    let level = (((due - elapsed) | (WINDOW - 1)).ilog2() / SLOT_BITS) as usize;
    // …and so may the one below, whose window is nearer than twice its span, but none lower.
    let windows_below = (due >> shift(level)) - (elapsed >> shift(level));
    level - usize::from(level > 0 && windows_below <= 1)
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// The times at which a level, a slot or the arithmetic ends, and their neighbours.
    pub(in crate::engine::wheel) fn edges() -> Vec<i64> {
        let powers = [0, 1, 6, 7, 12, 13, 18, 24, 36, 42, 48, 54, 60, 61, 62].map(|power| 1i64 << power);
        let around = powers.iter().flat_map(|&edge| [edge - 1, edge, edge + 1]);
        let mut edges: Vec<_> = around.chain([i64::MIN, -65, -1, i64::MAX - 1, i64::MAX, 3 << 48]).collect();
        edges.sort_unstable();
        edges.dedup();
        edges
    }

    #[test]
    fn the_level_is_the_lowest_whose_windows_reach() {
        let edges: Vec<u64> = edges().iter().map(|&edge| edge.max(0) as u64).collect();
        for &elapsed in &edges {
            for &due in edges.iter().filter(|&&due| due > elapsed) {
                let window = |time: u64, level| time.checked_shr(shift(level) + SLOT_BITS).unwrap_or(0);
                let reaches = |&level: &usize| window(due, level) - window(elapsed, level) <= 1;
                let lowest = (0..LEVELS).find(reaches).unwrap();
                assert_eq!(level_for(due, elapsed), lowest, "{due} from {elapsed}");
            }
        }
    }
}
