//! Between the wheel and the rest of the set: filing entries, and making ready what is due.

use super::PendingSet;
use crate::engine::arena::Arena;
use crate::engine::entry::{self, Place};
use crate::engine::hint::Hint;
use crate::engine::ready::Ready;
use crate::engine::wheel::{Entries, Filed, Wheel};

/// What the wheel needs of the rest of the set.
pub(super) struct Due<'a> {
    entries: &'a mut Arena,
    waiting: &'a mut usize,
    ready: &'a mut Ready,
}

impl PendingSet {
    /// The wheel, and what it needs of the rest.
    #[inline]
    pub(super) fn wheel_and_due(&mut self) -> (&mut Wheel, Due<'_>) {
        let Self { entries, wheel, waiting, ready, .. } = self;
        (wheel, Due { entries, waiting, ready })
    }

    /// Puts the entry at `name`, which is nowhere, where its due time belongs.
    pub(super) fn file(&mut self, name: u32) {
        let (wheel, mut due) = self.wheel_and_due();
        due.file(wheel, name);
    }
}

impl Due<'_> {
    /// Puts the entry at `name`, which is nowhere, where its due time belongs.
    fn file(&mut self, wheel: &mut Wheel, name: u32) {
        let bytes = &mut self.entries[name];
        let due_ms = entry::due_ms(bytes);
        let stamp = entry::renew_stamp(bytes);
        if wheel.file(Hint::new(name, stamp, due_ms), due_ms) == Filed::Waiting {
            entry::set_place(bytes, Place::Waiting);
            *self.waiting += 1;
        } else {
            self.ready.sort_in(self.entries, name);
        }
    }
}

impl Entries for Due<'_> {
    fn due_ms(&self, hint: Hint) -> Option<i64> {
        hinted_due_ms(self.entries, hint)
    }

    fn read_ahead(&self, hints: &[Hint]) {
        self.entries.read_ahead(hints);
    }

    fn expire(&mut self, hints: &[Hint], due_ms: i64) {
        for &hint in hints {
            if self.due_ms(hint) == Some(due_ms) {
                *self.waiting -= 1;
                self.ready.join(self.entries, hint.name());
            }
        }
    }
}

/// When the entry of a hint in the wheel is due; `None` if the hint is stale.
#[inline]
pub(super) fn hinted_due_ms(entries: &Arena, hint: Hint) -> Option<i64> {
    entries.hinted(hint, Place::Waiting).map(entry::due_ms)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ALL, due, live, set};

    #[test]
    fn a_hint_of_long_ago_makes_nothing_ready() {
        let mut pending = live();
        // A stamp has eight bits and a hint the lower 24 of its due time: the last is as the first.
        for offset in 0..=256 {
            set(b"a", offset, 1_000 + (offset << 24), &mut pending);
        }
        assert_eq!(due(&mut pending, 1_000, ALL), []);
        assert_eq!(pending.ready_len(), 0);
        let due_ms = 1_000 + (256 << 24);
        assert_eq!(due(&mut pending, due_ms - 1, ALL), []);
        assert_eq!(due(&mut pending, due_ms, ALL).len(), 1);
    }
}
