//! Schedules that are set aside until a time.

use std::collections::{BTreeMap, BTreeSet};

/// Schedules that are set aside until a time.
///
/// Invariant ([`check_invariants`](Self::check_invariants) holds it): both maps have the same names and times.
#[derive(Debug, Default)]
pub(super) struct Aside {
    /// Epoch milliseconds by the clock as it was at first, and names.
    by_time: BTreeSet<(i64, u32)>,
    retry_at_ms: BTreeMap<u32, i64>,
    /// By how much the clock was set since.
    clock_set_ms: i64,
}

impl Aside {
    /// Adds a schedule, which must not be here.
    pub(super) fn insert(&mut self, name: u32, retry_at_ms: i64) {
        let retry_at_ms = retry_at_ms.saturating_sub(self.clock_set_ms);
        self.by_time.insert((retry_at_ms, name));
        self.retry_at_ms.insert(name, retry_at_ms);
    }

    /// Lets go of a schedule that is here; returns its retry time.
    pub(super) fn remove(&mut self, name: u32) -> i64 {
        let retry_at_ms = self.retry_at_ms.remove(&name).expect("what is set aside has a retry time");
        self.by_time.remove(&(retry_at_ms, name));
        retry_at_ms.saturating_add(self.clock_set_ms)
    }

    /// The earliest retry time, epoch milliseconds, and whose it is.
    pub(super) fn first(&self) -> Option<(i64, u32)> {
        let (retry_at_ms, name) = self.by_time.first()?;
        Some((retry_at_ms.saturating_add(self.clock_set_ms), *name))
    }

    /// The clock was set forward by `step_ms`, or back: whoever waits here does not wait longer or shorter for it.
    pub(super) fn clock_was_set(&mut self, step_ms: i64) {
        self.clock_set_ms = self.clock_set_ms.saturating_add(step_ms);
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

    #[test]
    fn a_clock_that_is_set_prolongs_and_shortens_no_wait() {
        let mut pending = live();
        let [first, second] = [set(b"a", 1, 10, &mut pending), set(b"b", 2, 10, &mut pending)];
        due(&mut pending, 5_000, ALL);
        pending.set_aside(first, 5_100);
        pending.clock_was_set(-4_000);
        assert_eq!(pending.next_wake(), Some(1_100));
        pending.set_aside(second, 1_200);
        assert_eq!(due(&mut pending, 1_099, ALL), []);
        assert_eq!(due(&mut pending, 1_100, ALL), [first]);
        pending.clock_was_set(9_000);
        assert_eq!(due(&mut pending, 10_199, ALL), []);
        assert_eq!(due(&mut pending, 10_200, ALL), [second]);
    }
}
