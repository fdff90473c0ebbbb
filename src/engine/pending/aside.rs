//! Schedules that are set aside until a time.

use std::collections::{BTreeMap, BTreeSet};

/// Schedules that are set aside until a time.
///
/// Invariant ([`check_invariants`](Self::check_invariants) holds it): both maps have the same names and times.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// Epoch milliseconds, and names.
    by_time: BTreeSet<(i64, u32)>,
    retry_at_ms: BTreeMap<u32, i64>,
}

impl Aside {
    /// Adds a schedule, which must not be here.
    pub(super) fn insert(&mut self, name: u32, retry_at_ms: i64) {
        self.by_time.insert((retry_at_ms, name));
        self.retry_at_ms.insert(name, retry_at_ms);
    }

    /// Lets go of a schedule that is here; returns its retry time.
    pub(super) fn remove(&mut self, name: u32) -> i64 {
        let retry_at_ms = self.retry_at_ms.remove(&name).expect("what is set aside has a retry time");
        self.by_time.remove(&(retry_at_ms, name));
        retry_at_ms
    }

    /// The earliest retry time, epoch milliseconds, and whose it is.
    pub(super) fn first(&self) -> Option<(i64, u32)> {
        self.by_time.first().copied()
    }

    pub(super) fn len(&self) -> usize {
        self.by_time.len()
    }

    pub(super) fn contains(&self, name: u32) -> bool {
        self.retry_at_ms.contains_key(&name)
    }

    /// Bytes of both maps, about.
    pub(super) fn allocated_bytes(&self) -> usize {
        self.len() * 2 * size_of::<(i64, u32)>()
    }

    /// Panics where the maps contradict each other, for tests.
    pub(super) fn check_invariants(&self) {
        assert_eq!(self.by_time.len(), self.retry_at_ms.len(), "retry times");
        for (&name, &retry_at_ms) in &self.retry_at_ms {
            assert!(self.by_time.contains(&(retry_at_ms, name)), "the retry time of entry {name}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{ALL, due, live, set};

    #[test]
    fn a_schedule_set_aside_comes_at_its_retry_time_but_never_before_it_is_due() {
        let mut pending = live();
        let [late, early] = [set(b"a", 1, 10, &mut pending), set(b"b", 2, 500, &mut pending)];
        due(&mut pending, 20, ALL);
        pending.set_aside(late, 100);
        pending.set_aside(early, 200);
        assert_eq!((pending.set_aside_len(), pending.next_wake()), (2, Some(100)));
        assert_eq!(due(&mut pending, 99, ALL), []);
        assert_eq!(due(&mut pending, 100, ALL), [late]);
        assert_eq!(due(&mut pending, 499, ALL), []);
        assert_eq!(due(&mut pending, 500, ALL), [early]);
    }
}
