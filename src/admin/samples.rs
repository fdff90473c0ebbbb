//! Figures over time, for plots: one sample each five seconds of the last hour, one a minute of the last day.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::scheduler::status::{Status, TopicCounters};

const FINE: Duration = Duration::from_secs(5);
const FINE_KEPT: usize = 721;
const COARSE: Duration = Duration::from_mins(1);
const COARSE_KEPT: usize = 1_441;
/// Lateness "now" is that of so many fine samples.
const LATELY: usize = 12;

/// What was sampled.
#[derive(Debug, Default)]
pub(super) struct Samples {
    kept: Mutex<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    fine: VecDeque<Arc<Sample>>,
    coarse: VecDeque<Arc<Sample>>,
}

/// Figures at one time; all but `pending` only grow.
#[derive(Debug)]
struct Sample {
    at_ms: i64,
    pending: i64,
    fired: u64,
    cancelled: u64,
    replaced: u64,
    rejected: u64,
    /// For each bound of the lateness histogram, how many were not above it; then all.
    lateness: Vec<u64>,
}

/// How far back a plot goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    /// Ten minutes.
    TenMinutes,
    /// An hour.
    Hour,
    /// A day.
    Day,
}

impl Over {
    /// The one that is written so: `10m`, `1h`, `24h`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "10m" => Some(Self::TenMinutes),
            "1h" => Some(Self::Hour),
            "24h" => Some(Self::Day),
            _ => None,
        }
    }

    /// Between two points.
    pub(super) fn step(self) -> Duration {
        match self {
            Self::TenMinutes | Self::Hour => FINE,
            Self::Day => COARSE,
        }
    }
}

/// What happened in a step, and how it was at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Point {
    /// The step's end, epoch milliseconds.
    pub(super) at_ms: i64,
    /// Schedules pending then.
    pub(super) pending: i64,
    /// Schedules fired in the step.
    pub(super) fired: u64,
    /// Cancelled in the step.
    pub(super) cancelled: u64,
    /// Replaced in the step.
    pub(super) replaced: u64,
    /// Records rejected in the step.
    pub(super) rejected: u64,
    /// How late what was fired in it was.
    pub(super) lateness: Lateness,
}

/// Quantiles of lateness, interpolated within the buckets of the histogram; `None`: nothing was fired.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Lateness {
    /// The median, milliseconds.
    pub(super) p50_ms: Option<u64>,
    /// Of a hundred, one was later.
    pub(super) p99_ms: Option<u64>,
}

impl Samples {
    /// Takes samples for ever; `now_ms` is the wall clock.
    #[allow(clippy::disallowed_methods, reason = "plots of the real time, nothing about schedules")]
    pub(super) async fn keep_sampling(&self, status: &Status, now_ms: impl Fn() -> i64) {
        let mut ticks = tokio::time::interval(FINE);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.take(status, now_ms());
        }
    }

    fn take(&self, status: &Status, now_ms: i64) {
        let sample = Arc::new(Sample::of(status, now_ms));
        let mut kept = self.kept();
        let is_time = kept
            .coarse
            .back()
            .is_none_or(|newest| (now_ms - newest.at_ms).unsigned_abs() >= COARSE.as_millis() as u64);
        if is_time {
            push(&mut kept.coarse, Arc::clone(&sample), COARSE_KEPT);
        }
        push(&mut kept.fine, sample, FINE_KEPT);
    }

    /// The points of a plot, oldest first.
    pub(super) fn points(&self, over: Over) -> Vec<Point> {
        let kept = self.kept();
        let (samples, wanted) = match over {
            Over::TenMinutes => (&kept.fine, 121),
            Over::Hour => (&kept.fine, FINE_KEPT),
            Over::Day => (&kept.coarse, COARSE_KEPT),
        };
        let from = samples.len().saturating_sub(wanted);
        let pairs = samples.iter().skip(from).zip(samples.iter().skip(from + 1));
        pairs.map(|(before, after)| after.since(before)).collect()
    }

    /// How late what was fired in the last minute was.
    pub(super) fn lateness(&self, status: &Status) -> Lateness {
        let now = Sample::of(status, 0);
        let kept = self.kept();
        let before = kept.fine.iter().rev().nth(LATELY).or_else(|| kept.fine.front());
        before.map_or_else(Lateness::default, |before| now.since(before).lateness)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn push(samples: &mut VecDeque<Arc<Sample>>, sample: Arc<Sample>, most: usize) {
    if samples.len() == most {
        samples.pop_front();
    }
    samples.push_back(sample);
}

impl Sample {
    fn of(status: &Status, at_ms: i64) -> Self {
        let topics = status.topics();
        let sum = |figure: fn(&TopicCounters) -> u64| topics.iter().map(|(_, topic)| figure(topic)).sum();
        let mut lateness = Vec::new();
        for (_, topic) in &topics {
            let of_topic = topic.lateness_ms.cumulative();
            lateness.resize(of_topic.len(), 0);
            lateness.iter_mut().zip(of_topic).for_each(|(all, topic)| *all += topic);
        }
        Self {
            at_ms,
            pending: status.partitions().iter().map(|(.., figures)| figures.pending.get()).sum(),
            fired: sum(|topic| topic.fired.get()),
            cancelled: sum(|topic| topic.cancelled.get()),
            replaced: sum(|topic| topic.replaced.get()),
            rejected: sum(|topic| topic.rejected.get()),
            lateness,
        }
    }

    fn since(&self, before: &Self) -> Point {
        let counts: Vec<u64> = self
            .lateness
            .iter()
            .enumerate()
            .map(|(at, now)| now.saturating_sub(before.lateness.get(at).copied().unwrap_or(0)))
            .collect();
        Point {
            at_ms: self.at_ms,
            pending: self.pending,
            fired: self.fired.saturating_sub(before.fired),
            cancelled: self.cancelled.saturating_sub(before.cancelled),
            replaced: self.replaced.saturating_sub(before.replaced),
            rejected: self.rejected.saturating_sub(before.rejected),
            lateness: Lateness { p50_ms: quantile(&counts, 50), p99_ms: quantile(&counts, 99) },
        }
    }
}

/// Interpolated within its bucket; beyond the last bound there is nothing to go by but that bound.
fn quantile(cumulative: &[u64], percent: u64) -> Option<u64> {
    let all = cumulative.last().copied().filter(|&all| all > 0)?;
    let bounds = TopicCounters::lateness_bounds_ms();
    let rank = (all * percent).div_ceil(100).max(1);
    let at = cumulative.partition_point(|&count| count < rank);
    let Some(&upper) = bounds.get(at) else { return bounds.last().copied() };
    let (lower, below) = if at == 0 { (0, 0) } else { (bounds[at - 1], cumulative[at - 1]) };
    Some(lower + (upper - lower) * (rank - below) / (cumulative[at] - below))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_point_says_what_happened_since_the_one_before() {
        let (status, samples) = (Status::new(), Samples::default());
        let topic = status.counters("s");
        let partition = status.partition("s", 0);
        topic.fired.add(5);
        partition.pending.set(10);
        samples.take(&status, 0);
        assert_eq!(samples.points(Over::Hour), []);

        topic.fired.add(100);
        topic.cancelled.add(2);
        partition.pending.set(7);
        for lateness_ms in 1..=100 {
            topic.lateness_ms.observe(lateness_ms);
        }
        samples.take(&status, 5_000);
        let points = samples.points(Over::Hour);
        let [point] = &points[..] else { panic!("{points:?}") };
        assert_eq!((point.at_ms, point.pending, point.fired, point.cancelled), (5_000, 7, 100, 2));
        assert_eq!(point.lateness, Lateness { p50_ms: Some(50), p99_ms: Some(99) });
        assert_eq!(samples.lateness(&status), point.lateness);

        samples.take(&status, 10_000);
        assert_eq!(samples.points(Over::TenMinutes)[1].lateness, Lateness::default(), "nothing was fired");
    }

    #[test]
    fn a_day_has_a_point_a_minute_and_no_more_is_kept_than_is_shown() {
        let (status, samples) = (Status::new(), Samples::default());
        for number in 0..2 * 86_400 / 5 {
            samples.take(&status, number * 5_000);
        }
        let count = |over| samples.points(over).len();
        assert_eq!((count(Over::TenMinutes), count(Over::Hour), count(Over::Day)), (120, 720, 1_440));
        let day = samples.points(Over::Day);
        assert_eq!(day[1].at_ms - day[0].at_ms, 60_000);
    }

    #[test]
    fn a_clock_set_back_stops_nothing() {
        let (status, samples) = (Status::new(), Samples::default());
        samples.take(&status, 86_400_000);
        samples.take(&status, 0);
        samples.take(&status, 60_000);
        assert_eq!(samples.points(Over::Day).len(), 2);
    }

    #[test]
    fn what_is_later_than_the_last_bound_counts_as_that_late() {
        let mut counts = vec![0; TopicCounters::lateness_bounds_ms().len() + 1];
        assert_eq!(quantile(&counts, 99), None);
        *counts.last_mut().unwrap() = 3;
        assert_eq!(quantile(&counts, 99), TopicCounters::lateness_bounds_ms().last().copied());
    }
}
