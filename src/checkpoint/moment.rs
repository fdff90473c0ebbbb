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
    /// The time it is.
    #[must_use]
    #[allow(
        clippy::disallowed_methods,
        reason = "a time for the next process, which this one's `Clock` cannot tell"
    )]
    pub fn now() -> Self {
        use std::time::{SystemTime, UNIX_EPOCH};
        let wall_ms = match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_millis() as i64,
            Err(before) => -(before.duration().as_millis() as i64),
        };
        Self { wall_ms, boot: boot_now() }
    }

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

#[cfg(target_os = "linux")]
fn boot_now() -> Option<Boot> {
    let id = boot_id(&std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?)?;
    let since = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let since_boot = Duration::new(since.tv_sec.try_into().ok()?, since.tv_nsec.try_into().ok()?);
    Some(Boot { id, since_boot_ms: since_boot.as_millis() as u64 })
}

#[cfg(not(target_os = "linux"))]
fn boot_now() -> Option<Boot> {
    None
}

/// The bytes of a UUID.
#[cfg(any(target_os = "linux", test))]
fn boot_id(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.trim().chars().filter(|&c| c != '-').collect();
    if digits.len() != 32 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    Some(u128::from_str_radix(&digits, 16).ok()?.to_be_bytes())
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

    #[test]
    fn now_is_told_by_all_clocks_there_are_and_they_go_on() {
        let [first, second] = [Moment::now(), Moment::now()];
        assert!(first.wall_ms > 1_700_000_000_000);
        assert_eq!(first.boot.is_some(), cfg!(target_os = "linux"));
        assert!(first.age(&second).unwrap() < Duration::from_mins(1));
    }

    #[test]
    fn a_boot_id_is_sixteen_bytes() {
        let id = boot_id("01234567-89ab-cdef-0123-456789abcdef\n").unwrap();
        assert_eq!(id, [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef].repeat(2)[..]);
        for other in
            ["", "01234567", "+1234567-89ab-cdef-0123-456789abcdef", "é1234567-89ab-cdef-0123-456789abcde"]
        {
            assert_eq!(boot_id(other), None, "{other:?}");
        }
    }
}
