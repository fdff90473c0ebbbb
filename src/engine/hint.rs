//! Hints: where to look when a time comes.
//!
//! A hint says "the entry of this name may be due then". The entry is the truth: whoever changes or removes it leaves
//! the hint where it is, stale, and whoever meets the hint asks the entry. So cancelling touches no list, and moving a
//! hint touches no entry.

use zerocopy::{FromBytes, Immutable, IntoBytes};

/// Names an entry, as it was when the hint was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable)]
#[repr(C)]
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

const _: () = assert!(size_of::<Hint>() == 8);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hint_keeps_the_lower_bits_of_its_due_time() {
        let hint = Hint::new(u32::MAX, 0xa5, 0x1234_5678_9abc_def0);
        assert_eq!((hint.name(), hint.stamp(), hint.lower_due()), (u32::MAX, 0xa5, 0x00bc_def0));
        let hint = Hint::new(7, 255, -1);
        assert_eq!((hint.name(), hint.stamp(), hint.lower_due()), (7, 255, 0x00ff_ffff));
    }
}
