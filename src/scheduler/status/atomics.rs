//! The three shapes a published figure takes. Every operation is relaxed: a reader wants a recent figure, not an
//! order of events, and the writing threads must not pay for being watched.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

/// A figure that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    /// The figure now.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// A figure that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicI64);

impl Gauge {
    /// Replaces the figure.
    pub fn set(&self, value: i64) {
        self.0.store(value, Relaxed);
    }

    /// Replaces the figure by a count.
    pub fn set_count(&self, count: usize) {
        self.set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// The figure now.
    #[must_use]
    pub fn get(&self) -> i64 {
        self.0.load(Relaxed)
    }
}

/// A closed set of label values: what makes the number of time series bounded.
pub trait Label: Copy + 'static {
    /// Every value, in the order of [`index`](Self::index).
    const ALL: &'static [Self];

    /// The place of this value in [`ALL`](Self::ALL).
    fn index(self) -> usize;

    /// How the value is written in metrics and JSON.
    fn label(self) -> &'static str;
}

/// Declares a fieldless enum and its [`Label`] in one place, so that neither can miss a value of the other.
macro_rules! labels {
    ($(#[$about:meta])* $name:ident { $($(#[$doc:meta])* $value:ident = $label:literal,)+ }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $value,)+ }

        impl $crate::scheduler::status::Label for $name {
            const ALL: &'static [Self] = &[$(Self::$value,)+];

            fn index(self) -> usize {
                self as usize
            }

            fn label(self) -> &'static str {
                match self { $(Self::$value => $label,)+ }
            }
        }
    };
}
pub(in crate::scheduler) use labels;

/// One counter for each value of a label.
#[derive(Debug)]
pub struct Counters<L> {
    by_label: Box<[Counter]>,
    label: PhantomData<L>,
}

impl<L: Label> Default for Counters<L> {
    fn default() -> Self {
        Self { by_label: L::ALL.iter().map(|_| Counter::default()).collect(), label: PhantomData }
    }
}

impl<L: Label> Counters<L> {
    /// The counter of `label`.
    #[must_use]
    pub fn of(&self, label: L) -> &Counter {
        &self.by_label[label.index()]
    }

    /// Every label with its figure.
    pub fn iter(&self) -> impl Iterator<Item = (L, u64)> {
        L::ALL.iter().map(|&label| (label, self.of(label).get()))
    }
}

/// Observations counted in fixed buckets.
///
/// Observations and bounds are integers of a small unit; [`unit`](Self::unit) says how many of them make one unit of
/// the metric (1000 for milliseconds that are published as seconds).
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    unit: u64,
    /// One more than `bounds`: the last holds what is above them all. Not cumulative.
    buckets: Box<[Counter]>,
    sum: Counter,
}

impl Histogram {
    /// An empty histogram with the inclusive upper `bounds`, which ascend.
    #[must_use]
    pub fn new(bounds: &'static [u64], unit: u64) -> Self {
        debug_assert!(bounds.is_sorted_by(|a, b| a < b), "bounds ascend");
        let buckets = (0..=bounds.len()).map(|_| Counter::default()).collect();
        Self { bounds, unit, buckets, sum: Counter::default() }
    }

    /// Counts one observation.
    pub fn observe(&self, value: u64) {
        self.buckets[self.bounds.partition_point(|&bound| bound < value)].increment();
        self.sum.add(value);
    }

    /// The inclusive upper bounds of the buckets but the last.
    #[must_use]
    pub fn bounds(&self) -> &'static [u64] {
        self.bounds
    }

    /// How many of the integers observed make one unit of the metric.
    #[must_use]
    pub fn unit(&self) -> u64 {
        self.unit
    }

    /// For each bound, how many observations were not above it; then how many there were in all.
    #[must_use]
    pub fn cumulative(&self) -> Vec<u64> {
        self.buckets
            .iter()
            .scan(0, |below, bucket| {
                *below += bucket.get();
                Some(*below)
            })
            .collect()
    }

    /// The sum of the observations, in the integers observed.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scheduler::status::Phase;

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let histogram = Histogram::new(&[10, 20], 1);
        for value in [0, 10, 11, 20, 21, u64::MAX] {
            histogram.observe(value);
        }
        assert_eq!(histogram.cumulative(), [2, 4, 6]);
    }

    #[test]
    fn each_label_has_its_own_counter() {
        let phases = Counters::<Phase>::default();
        phases.of(Phase::Live).add(2);
        let counted: Vec<_> =
            phases.iter().filter(|&(_, n)| n > 0).map(|(phase, n)| (phase.label(), n)).collect();
        assert_eq!(counted, [("live", 2)]);
    }
}
