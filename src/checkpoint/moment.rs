//! Times that mean something to the next process.

use std::time::Duration;

/// A time that can be compared across restarts of the process.
///
/// The wall clock alone would not do: it may have been set back meanwhile, and then what is old seems young. While the
/// machine has not been started anew there is a better one, which nobody sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// By the wall clock, epoch milliseconds.
    pub wall_ms: i64,
    /// By the clock that runs since the machine was started, where there is one.
    pub boot: Option<Boot>,
}

/// A time since the machine was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Which start that was: each has its own.
    pub id: [u8; 16],
    /// Milliseconds, those in which the machine was suspended included.
    pub since_boot_ms: u64,
}

impl Moment {
    /// How long ago it was, at `now`: the longer of what the two clocks say. `None` if no clock can tell, because it lies in
    /// the future.
    #[must_use]
    pub fn age(&self, now: &Self) -> Option<Duration> {
        let by_wall_ms = now.wall_ms.checked_sub(self.wall_ms).and_then(|ms| u64::try_from(ms).ok());
        let by_boot_ms = match (self.boot, now.boot) {
            // No clock that runs since the same start goes back. Then it is another one, of which nothing is known.
            (Some(then), Some(now)) if then.id == now.id => {
                Some(now.since_boot_ms.checked_sub(then.since_boot_ms)?)
            }
            _ => None,
        };
        by_wall_ms.max(by_boot_ms).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn moment(wall_ms: i64, boot: Option<(u8, u64)>) -> Moment {
        Moment { wall_ms, boot: boot.map(|(id, since_boot_ms)| Boot { id: [id; 16], since_boot_ms }) }
    }

    fn age_ms(then: Moment, now: Moment) -> Option<u128> {
        then.age(&now).map(|age| age.as_millis())
    }

    #[test]
    fn the_longer_of_both_ages_counts() {
        let then = moment(1_000, Some((1, 500)));
        assert_eq!(age_ms(then, moment(3_000, Some((1, 600)))), Some(2_000), "the clock was set forward");
        assert_eq!(age_ms(then, moment(1_010, Some((1, 9_500)))), Some(9_000), "the clock was set back");
        assert_eq!(age_ms(then, moment(-5_000, Some((1, 9_500)))), Some(9_000), "to before it was");
    }

    #[test]
    fn after_another_start_of_the_machine_the_wall_clock_is_all_there_is() {
        let then = moment(1_000, Some((1, 500)));
        assert_eq!(age_ms(then, moment(3_000, Some((2, 100)))), Some(2_000));
        assert_eq!(age_ms(then, moment(3_000, None)), Some(2_000));
        assert_eq!(age_ms(moment(1_000, None), moment(1_000, Some((2, 100)))), Some(0));
    }

    #[test]
    fn what_lies_in_the_future_is_not_to_be_trusted() {
        assert_eq!(age_ms(moment(1_000, Some((1, 500))), moment(999, Some((2, 100)))), None);
        assert_eq!(age_ms(moment(1_000, None), moment(999, None)), None);
        assert_eq!(age_ms(moment(i64::MIN, None), moment(i64::MAX, None)), None, "or too far away to tell");
        let then = moment(1_000, Some((1, 500)));
        assert_eq!(age_ms(then, moment(3_000, Some((1, 499)))), None, "by the clock that nobody sets");
    }
}
