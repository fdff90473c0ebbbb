//! What was delivered: how much, how fast, how late, and whether it was right.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::timetable::{Timetable, WARM_UP};

/// What a reader has seen so far.
pub(super) struct Seen {
    /// Delivered as they should be, each counted once.
    pub(super) right: u64,
    pub(super) warm_ups: u64,
    pub(super) faults: Faults,
    /// Microseconds from due to visible.
    latency_us: Histogram<u64>,
    /// When the last of them was seen, epoch microseconds.
    last_us: i64,
    /// A bit a number.
    numbers: Vec<u64>,
}

/// What must not be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Faults {
    /// Due and not seen, even after a while in which nothing more came.
    pub(super) lost: u64,
    /// Seen once more.
    pub(super) doubled: u64,
    /// Seen before its time.
    pub(super) early: u64,
    /// Cancelled, replaced, or never scheduled.
    pub(super) wrong: u64,
}

impl Faults {
    pub(super) fn are_none(self) -> bool {
        self == Self::default()
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self {
            lost: self.lost + other.lost,
            doubled: self.doubled + other.doubled,
            early: self.early + other.early,
            wrong: self.wrong + other.wrong,
        }
    }
}

impl std::fmt::Display for Faults {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { lost, doubled, early, wrong } = self;
        write!(
            f,
            "{lost} not delivered, {doubled} doubled, {early} early, {wrong} cancelled or replaced but delivered"
        )
    }
}

/// Above this a latency is counted as this: an hour.
const LONGEST_US: u64 = 3_600_000_000;

impl Seen {
    pub(super) fn new(count: u64) -> Self {
        let latency_us = Histogram::new_with_bounds(1, LONGEST_US, 3).expect("the bounds are right");
        Self {
            right: 0,
            warm_ups: 0,
            faults: Faults::default(),
            latency_us,
            last_us: 0,
            numbers: vec![0; count.div_ceil(64) as usize],
        }
    }

    /// Judges a message of which the key said number and version.
    pub(super) fn judge(&mut self, timetable: &dyn Timetable, number: u64, version: u8, now_us: i64) {
        if number >= WARM_UP {
            self.warm_ups += 1;
            return;
        }
        let Some(due_ms) = timetable.due_ms(number, version) else {
            self.faults.wrong += 1;
            return;
        };
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if self.numbers[word] & bit != 0 {
            self.faults.doubled += 1;
            return;
        }
        self.numbers[word] |= bit;
        self.right += 1;
        self.last_us = now_us;
        let late_us = now_us.saturating_sub(due_ms.saturating_mul(1_000));
        self.faults.early += u64::from(late_us < 0);
        self.latency_us.saturating_record(late_us.max(0) as u64);
    }

    /// The figures, once nothing more is coming of `expected` messages, of which the first was due at `first_ms`.
    pub(super) fn figures(mut self, expected: u64, first_ms: i64, cost: Cost) -> Delivered {
        self.faults.lost = expected.saturating_sub(self.right);
        let seconds = (self.last_us - first_ms.saturating_mul(1_000)).max(1) as f64 / 1e6;
        let at = |quantile| self.latency_us.value_at_quantile(quantile) as f64 / 1e3;
        let mut counted = 0;
        let histogram = BOUNDS_MS.map(|up_to_ms| {
            let until_now = up_to_ms.map_or(self.right, |ms| self.latency_us.count_between(0, ms * 1_000));
            let messages = until_now.saturating_sub(counted);
            counted += messages;
            Bucket { up_to_ms, messages }
        });
        Delivered {
            messages: self.right,
            cost,
            seconds,
            messages_per_second: self.right as f64 / seconds,
            latency: Latency {
                p50_ms: at(0.5),
                p99_ms: at(0.99),
                p99_9_ms: at(0.999),
                max_ms: self.latency_us.max() as f64 / 1e3,
            },
            histogram,
            faults: self.faults,
        }
    }
}

/// The buckets of a latency histogram; the last holds the rest.
const BOUNDS_MS: [Option<u64>; 12] = [
    Some(1),
    Some(2),
    Some(5),
    Some(10),
    Some(20),
    Some(50),
    Some(100),
    Some(200),
    Some(500),
    Some(1_000),
    Some(10_000),
    None,
];

/// Messages that were later than the bucket before says, and not later than this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Bucket {
    pub(super) up_to_ms: Option<u64>,
    pub(super) messages: u64,
}

/// What one contender delivered in one round.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Delivered {
    pub(super) messages: u64,
    #[serde(flatten)]
    pub(super) cost: Cost,
    /// From when the first was due until the last was visible.
    pub(super) seconds: f64,
    pub(super) messages_per_second: f64,
    #[serde(flatten)]
    pub(super) latency: Latency,
    #[serde(rename = "due_to_visible_histogram")]
    pub(super) histogram: [Bucket; BOUNDS_MS.len()],
    pub(super) faults: Faults,
}

impl Delivered {
    /// Processor time of this process for a message, in microseconds.
    pub(super) fn processor_us_per_message(&self) -> f64 {
        self.cost.processor_seconds.unwrap_or(0.0) * 1e6 / self.messages.max(1) as f64
    }

    /// Messages in a transaction, on average.
    pub(super) fn messages_per_transaction(&self) -> f64 {
        self.messages as f64 / self.cost.transactions.max(1) as f64
    }
}

/// What a delivery took beside time.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Cost {
    pub(super) transactions: u64,
    /// Of this process, its reader included; `None` where it cannot be known.
    pub(super) processor_seconds: Option<f64>,
}

/// From due until a read-committed reader has the message.
#[derive(Clone, Copy, Debug, Serialize)]
#[allow(clippy::struct_field_names, reason = "units are last in a name")]
pub(super) struct Latency {
    #[serde(rename = "due_to_visible_p50_ms")]
    pub(super) p50_ms: f64,
    #[serde(rename = "due_to_visible_p99_ms")]
    pub(super) p99_ms: f64,
    #[serde(rename = "due_to_visible_p99_9_ms")]
    pub(super) p99_9_ms: f64,
    #[serde(rename = "due_to_visible_max_ms")]
    pub(super) max_ms: f64,
}

#[cfg(test)]
mod tests {
    use super::super::timetable::Even;
    use super::*;

    #[test]
    fn every_fault_is_found() {
        let timetable = Even::new(4, None);
        timetable.begin(1_000);
        let mut seen = Seen::new(timetable.count());
        seen.judge(&timetable, 0, 0, 1_005_000);
        seen.judge(&timetable, 0, 0, 1_006_000);
        seen.judge(&timetable, 1, 0, 999_000);
        seen.judge(&timetable, 2, 1, 1_007_000);
        seen.judge(&timetable, 4, 0, 1_007_000);
        seen.judge(&timetable, WARM_UP + 1, 0, 0);
        let delivered = seen.figures(4, 1_000, Cost::default());
        assert_eq!(delivered.faults, Faults { lost: 2, doubled: 1, early: 1, wrong: 2 });
        assert!(!delivered.faults.are_none());
        assert_eq!(delivered.messages, 2);
    }

    #[test]
    fn latency_is_from_due_to_seen() {
        let timetable = Even::new(100, None);
        timetable.begin(1_000);
        let mut seen = Seen::new(100);
        for number in 0..100 {
            seen.judge(&timetable, number, 0, 1_000_000 + 1_000 * (number as i64 + 1));
        }
        let delivered = seen.figures(100, 1_000, Cost { transactions: 4, processor_seconds: Some(0.5) });
        let Latency { p50_ms, p99_ms, max_ms, .. } = delivered.latency;
        assert!((49.0..52.0).contains(&p50_ms) && (98.0..100.2).contains(&p99_ms), "{p50_ms} {p99_ms}");
        assert!((100.0..100.2).contains(&max_ms), "{max_ms}");
        assert!(
            (delivered.seconds - 0.1).abs() < 1e-9 && (delivered.messages_per_second - 1_000.0).abs() < 1e-6
        );
        assert!((delivered.messages_per_transaction() - 25.0).abs() < 1e-9);
        assert!((delivered.processor_us_per_message() - 5_000.0).abs() < 1e-6);
        assert!(delivered.faults.are_none());
        let buckets = delivered.histogram.map(|bucket| bucket.messages);
        assert_eq!(buckets, [1, 1, 3, 5, 10, 30, 50, 0, 0, 0, 0, 0]);
    }
}
