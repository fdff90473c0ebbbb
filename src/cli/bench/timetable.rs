//! What is to be delivered, and when: by it the reader judges what it sees.

use std::sync::atomic::{AtomicI64, Ordering::Relaxed};

/// From here on, numbers are of schedules that warm everything up and are not counted.
pub(super) const WARM_UP: u64 = 1 << 40;

/// Schedules, numbered from 0.
pub(super) trait Timetable: Send + Sync {
    /// How many there are at most.
    fn count(&self) -> u64;

    /// When this version of a schedule is due, epoch milliseconds; `None`: it must not be delivered.
    fn due_ms(&self, number: u64, version: u8) -> Option<i64>;
}

/// All at one instant, or so many a second.
#[derive(Debug)]
pub(super) struct Even {
    count: u64,
    per_second: Option<u64>,
    /// Not known until everything is ready; until then nothing is due.
    first_ms: AtomicI64,
}

impl Even {
    pub(super) fn new(count: u64, per_second: Option<u64>) -> Self {
        Self { count, per_second, first_ms: AtomicI64::new(i64::MAX) }
    }

    /// Says when the first is due.
    pub(super) fn begin(&self, first_ms: i64) {
        self.first_ms.store(first_ms, Relaxed);
    }

    pub(super) fn first_ms(&self) -> i64 {
        self.first_ms.load(Relaxed)
    }

    pub(super) fn last_ms(&self) -> i64 {
        self.at(self.count.saturating_sub(1))
    }

    pub(super) fn at(&self, number: u64) -> i64 {
        let after_ms = self.per_second.map_or(0, |per_second| number * 1_000 / per_second);
        self.first_ms().saturating_add(after_ms as i64)
    }
}

impl Timetable for Even {
    fn count(&self) -> u64 {
        self.count
    }

    fn due_ms(&self, number: u64, version: u8) -> Option<i64> {
        (number < self.count && version == 0).then(|| self.at(number))
    }
}

/// As a writer goes along: it says what it schedules, replaces and cancels.
pub(super) struct Changing {
    /// Due time and version; [`NOTHING`] before a schedule is written and once it is cancelled.
    expected: Vec<AtomicI64>,
}

const NOTHING: i64 = i64::MIN;

impl Changing {
    pub(super) fn new(count: u64) -> Self {
        Self { expected: (0..count).map(|_| AtomicI64::new(NOTHING)).collect() }
    }

    pub(super) fn expect(&self, number: u64, version: u8, due_ms: i64) {
        self.expected[number as usize].store(due_ms << 8 | i64::from(version), Relaxed);
    }

    pub(super) fn cancel(&self, number: u64) {
        self.expected[number as usize].store(NOTHING, Relaxed);
    }

    /// When the newest version of a schedule is due, if there is one.
    pub(super) fn newest_due_ms(&self, number: u64) -> Option<i64> {
        let expected = self.expected.get(number as usize)?.load(Relaxed);
        (expected != NOTHING).then_some(expected >> 8)
    }

    /// How many are to be delivered.
    pub(super) fn outstanding(&self) -> u64 {
        (0..self.count()).filter(|number| self.newest_due_ms(*number).is_some()).count() as u64
    }
}

impl Timetable for Changing {
    fn count(&self) -> u64 {
        self.expected.len() as u64
    }

    fn due_ms(&self, number: u64, version: u8) -> Option<i64> {
        let expected = self.expected.get(number as usize)?.load(Relaxed);
        (expected != NOTHING && expected & 0xff == i64::from(version)).then_some(expected >> 8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_due_at_once_and_a_rate_is_spread_evenly() {
        let burst = Even::new(3, None);
        assert_eq!(burst.due_ms(0, 0), Some(i64::MAX), "not before it began");
        burst.begin(1_000);
        assert_eq!([0, 2, 3].map(|number| burst.due_ms(number, 0)), [Some(1_000), Some(1_000), None]);
        assert_eq!(burst.due_ms(0, 1), None, "there is no other version");

        let steady = Even::new(5, Some(4));
        steady.begin(1_000);
        assert_eq!([0, 1, 4].map(|number| steady.due_ms(number, 0)), [Some(1_000), Some(1_250), Some(2_000)]);
        assert_eq!(steady.last_ms(), 2_000);
    }

    #[test]
    fn only_the_newest_version_is_expected() {
        let changing = Changing::new(2);
        assert_eq!((changing.due_ms(0, 0), changing.outstanding()), (None, 0));
        changing.expect(0, 0, 1_000);
        changing.expect(1, 0, 1_001);
        changing.expect(0, 1, 2_000);
        assert_eq!((changing.due_ms(0, 0), changing.due_ms(0, 1)), (None, Some(2_000)));
        assert_eq!(changing.outstanding(), 2);
        changing.cancel(1);
        assert_eq!((changing.due_ms(1, 0), changing.outstanding()), (None, 1));
        assert_eq!(changing.due_ms(2, 0), None, "never written");
    }
}
