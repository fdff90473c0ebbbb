//! Bounds on what an instance holds.
//!
//! They stop nothing: an instance that stopped reading would miss cancels, and one that left partitions alone would leave
//! their schedules to nobody. They make it say that it holds too much.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

/// A bound on one figure, and whether it is exceeded.
#[derive(Debug)]
pub struct Bound {
    /// 0: none.
    limit: AtomicU64,
    exceeded: AtomicBool,
    /// How far under the bound the figure has to be before it is within it again, in percent.
    slack_percent: u64,
}

/// A bound was crossed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Crossing {
    Exceeded,
    Within,
}

impl Bound {
    pub(super) const fn with_slack(slack_percent: u64) -> Self {
        Self { limit: AtomicU64::new(0), exceeded: AtomicBool::new(false), slack_percent }
    }

    /// Replaces the bound.
    pub(super) fn set(&self, limit: Option<u64>) {
        self.limit.store(limit.unwrap_or(0), Relaxed);
    }

    /// The bound; `None`: there is none.
    #[must_use]
    pub fn limit(&self) -> Option<u64> {
        Some(self.limit.load(Relaxed)).filter(|limit| *limit > 0)
    }

    /// Whether the figure was above the bound and has not been within it since.
    #[must_use]
    pub fn is_exceeded(&self) -> bool {
        self.exceeded.load(Relaxed)
    }

    /// Compares the figure with the bound; gives something only when it was crossed. For one thread.
    pub(super) fn look(&self, figure: u64) -> Option<Crossing> {
        let limit = self.limit()?;
        if self.is_exceeded() {
            let is_back = figure <= limit - limit / 100 * self.slack_percent;
            return is_back.then(|| self.cross(Crossing::Within));
        }
        (figure > limit).then(|| self.cross(Crossing::Exceeded))
    }

    fn cross(&self, crossing: Crossing) -> Crossing {
        self.exceeded.store(crossing == Crossing::Exceeded, Relaxed);
        crossing
    }
}

/// A number of bytes for people: `1.5 GiB`, `20.0 MiB`.
pub(super) struct Bytes(pub(super) u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = self.0 as f64 / f64::from(1 << 20);
        if mebibytes < 1_024.0 {
            write!(f, "{mebibytes:.1} MiB")
        } else {
            write!(f, "{:.1} GiB", mebibytes / 1_024.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_crossed_once_each_way_and_with_slack_on_the_way_back() {
        let bound = Bound::with_slack(5);
        bound.set(Some(1_000));
        let mut crossed = Vec::new();
        for figure in [0, 1_000, 1_001, 2_000, 1_000, 951, 950, 1_000, 1_001, 0] {
            if let Some(crossing) = bound.look(figure) {
                crossed.push((figure, crossing));
            }
        }
        let expected = [
            (1_001, Crossing::Exceeded),
            (950, Crossing::Within),
            (1_001, Crossing::Exceeded),
            (0, Crossing::Within),
        ];
        assert_eq!(crossed, expected);
    }

    #[test]
    fn without_slack_the_bound_itself_is_within() {
        let bound = Bound::with_slack(0);
        bound.set(Some(10));
        assert_eq!(bound.look(11), Some(Crossing::Exceeded));
        assert!(bound.is_exceeded());
        assert_eq!(bound.look(10), Some(Crossing::Within));
        assert!(!bound.is_exceeded());
    }

    #[test]
    fn no_bound_is_never_exceeded() {
        let bound = Bound::with_slack(5);
        assert_eq!((bound.limit(), bound.look(u64::MAX), bound.is_exceeded()), (None, None, false));
    }

    #[test]
    fn bytes_are_said_in_units_that_people_know() {
        assert_eq!([Bytes(20 << 20), Bytes(3 << 29)].map(|bytes| bytes.to_string()), ["20.0 MiB", "1.5 GiB"]);
    }
}
