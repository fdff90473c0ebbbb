//! Names for versions of schedules, for those who take them out of the set and come back.

use std::hash::{Hash, Hasher};

use super::PendingSet;
use super::view::View;
use crate::engine::entry;

/// Names one version of a schedule: an ID as one record set it.
///
/// A handle goes stale when its version is replaced or removed, and then names nothing, ever: no two records of a
/// partition have the same offset.
#[derive(Clone, Copy, Debug)]
pub struct Handle {
    /// The entry's name, which it loses when it is moved…
    pub(super) name: u32,
    /// …and then its ID's hash finds it.
    pub(super) hash: u32,
    /// What it stands for.
    offset: i64,
}

impl PartialEq for Handle {
    fn eq(&self, other: &Self) -> bool {
        self.offset == other.offset
    }
}

impl Eq for Handle {}

impl Hash for Handle {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.offset.hash(state);
    }
}

impl Handle {
    /// The offset of the record that set this version.
    #[must_use]
    pub const fn offset(self) -> i64 {
        self.offset
    }
}

impl PendingSet {
    /// The version that `handle` names, or `None` if the set holds it no more.
    #[must_use]
    pub fn view(&self, handle: Handle) -> Option<View<'_>> {
        self.current(handle).map(|name| self.view_of(name))
    }

    /// Whether the set still holds the version that `handle` names.
    #[must_use]
    pub fn is_current(&self, handle: Handle) -> bool {
        self.current(handle).is_some()
    }

    /// The name that the version of `handle` has by now. Its offset tells whether an entry is it, whatever its ID is.
    pub(super) fn current(&self, handle: Handle) -> Option<u32> {
        let is_it = |bytes: &[u8]| entry::offset(bytes) == handle.offset;
        if self.entries.get(handle.name).is_some_and(is_it) {
            return Some(handle.name);
        }
        self.index.find(handle.hash, |name| is_it(&self.entries[name]))
    }

    /// A handle for the version at `name`, whose ID has this hash.
    pub(super) fn handle_of(&self, name: u32, hash: u32) -> Handle {
        Handle { name, hash, offset: entry::offset(&self.entries[name]) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::testing::{live, set};
    use super::super::view::EntryState;

    #[test]
    fn a_handle_is_stale_after_a_replace_and_names_no_other_after_a_removal() {
        let mut pending = live();
        let first = set(b"a", 1, 10, &mut pending);
        let second = set(b"a", 2, 10, &mut pending);
        assert!(!pending.is_current(first) && pending.is_current(second));
        pending.remove(b"a", 3);
        let third = set(b"b", 4, 10, &mut pending);
        assert_eq!(third.name, second.name, "or the test is none");
        pending.release(second);
        pending.set_aside(second, 5);
        pending.hold(second);
        assert!(!pending.settle(second));
        assert_eq!(pending.view(second), None);
        assert_eq!(pending.view(third).unwrap().state, EntryState::Pending);
    }
}
