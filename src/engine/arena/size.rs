//! The sizes of blocks, in units, and their numbers.
//!
//! | entry | a block for it comes | what is wasted |
//! |---|---|---|
//! | up to 1 KiB | in every size | less than a unit |
//! | up to 512 KiB | in sixteen sizes for each doubling | less than a sixteenth and a unit |
//! | larger | alone in a segment | less than a unit |

use crate::engine::entry;

pub(super) const UNIT_BYTES: usize = 16;

/// Units in a segment: together one megabyte.
pub(super) const SEGMENT_UNITS: usize = 1 << SEGMENT_BITS;
pub(super) const SEGMENT_BITS: u32 = 16;

/// Larger than that, and a block has a segment to itself.
pub(super) const SHARED_UNITS: usize = SEGMENT_UNITS / 2;

/// Blocks of up to this many units come in every size.
const FINE_UNITS: usize = 1 << FINE_BITS;
const FINE_BITS: u32 = 6;

/// Above, the bits below the highest that tell sizes apart.
const SIZE_BITS: u32 = 4;

/// The size of the block for an entry of `len` bytes.
pub(super) fn block_units(len: usize) -> usize {
    // A free block holds the link and the place.
    let units = len.max(entry::FREE_BYTES + 1).div_ceil(UNIT_BYTES);
    if units <= FINE_UNITS || units > SHARED_UNITS {
        return units;
    }
    units.next_multiple_of(1 << (units.ilog2() - SIZE_BITS))
}

/// The number of a size that [`block_units`] gives, for those that share a segment: larger sizes have larger numbers.
pub(super) fn class_of(units: usize) -> usize {
    if units <= FINE_UNITS {
        return units;
    }
    let bits = units.ilog2();
    let step = units >> (bits - SIZE_BITS) & ((1 << SIZE_BITS) - 1);
    FINE_UNITS + (((bits - FINE_BITS) as usize) << SIZE_BITS) + step
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_waste_little_and_are_told_apart() {
        let mut last = (0, 0);
        for len in 1..=SHARED_UNITS * UNIT_BYTES {
            let units = block_units(len);
            let class = class_of(units);
            assert!(
                units * UNIT_BYTES >= len && units * UNIT_BYTES < (len.max(17) + 16).max(len * 17 / 16 + 16)
            );
            assert!(class == last.1 && units == last.0 || class > last.1 && units > last.0, "{len}");
            last = (units, class);
        }
        assert!(last.1 < 256);
    }
}
