//! The machine's clocks.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::{Clock, Uptime};

/// The system's wall clock and monotonic clock.
#[derive(Clone, Debug)]
pub struct SystemClock {
    started: Instant,
}

#[allow(clippy::disallowed_methods, reason = "the one place that reads the machine's clocks")]
impl SystemClock {
    /// A clock whose monotonic reading counts from the first such clock of this process: a time taken from one of them
    /// (the deadline of a command) means the same to every other.
    #[must_use]
    pub fn new() -> Self {
        static STARTED: OnceLock<Instant> = OnceLock::new();
        Self { started: *STARTED.get_or_init(Instant::now) }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

#[allow(clippy::disallowed_methods, reason = "the one place that reads the machine's clocks")]
impl Clock for SystemClock {
    fn now_ms(&self) -> i64 {
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => since.as_millis() as i64,
            Err(before) => -(before.duration().as_millis() as i64),
        }
    }

    fn monotonic_us(&self) -> u64 {
        self.started.elapsed().as_micros() as u64
    }

    fn uptime(&self) -> Option<Uptime> {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
        let boot_id = u128::from_str_radix(&boot_id.trim().replace('-', ""), 16).ok()?.to_be_bytes();
        let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
        let seconds: f64 = uptime.split_whitespace().next()?.parse().ok()?;
        Some(Uptime { boot_id, since_boot_ms: (seconds * 1_000.0) as u64 })
    }
}

/// Notices that the wall clock was set: it and the monotonic clock, which nobody sets, then no longer keep their distance.
/// (What only makes the clock go faster or slower for a while, as NTP mostly does, makes both do so.)
#[derive(Clone, Debug, Default)]
pub struct ClockSteps {
    /// How far the wall clock was ahead of the monotonic one.
    ahead_ms: Option<i64>,
}

/// What is less is no step, or will be one together with the next.
const STEP_MS: u64 = 250;
/// Between two readings of the clocks no thread stands still for longer, or what they say does not go together.
const READING_MS: u64 = 20;

impl ClockSteps {
    /// By how much the wall clock was set forward, or back if negative, since the last look. A machine that was suspended
    /// finds its clock set forward, too.
    pub fn look(&mut self, clock: &impl Clock) -> Option<i64> {
        let monotonic_ms = clock.monotonic_ms();
        let wall_ms = clock.now_ms();
        if clock.monotonic_ms() - monotonic_ms > READING_MS {
            return None;
        }
        let ahead_ms = wall_ms - monotonic_ms as i64;
        let step_ms = ahead_ms - *self.ahead_ms.get_or_insert(ahead_ms);
        if step_ms.unsigned_abs() < STEP_MS {
            return None;
        }
        self.ahead_ms = Some(ahead_ms);
        Some(step_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    /// A monotonic clock that goes on by `reading_ms` each time it is read, and a wall clock.
    #[derive(Default)]
    #[allow(clippy::struct_field_names, reason = "units are last in a name")]
    struct Clocks {
        monotonic_ms: Cell<u64>,
        ahead_ms: Cell<i64>,
        reading_ms: Cell<u64>,
    }

    impl Clock for Clocks {
        fn now_ms(&self) -> i64 {
            self.monotonic_ms.get() as i64 + self.ahead_ms.get()
        }

        fn monotonic_us(&self) -> u64 {
            let now_ms = self.monotonic_ms.get();
            self.monotonic_ms.set(now_ms + self.reading_ms.get());
            now_ms * 1_000
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_uptime_goes_on_and_the_boot_stays() {
        let clock = SystemClock::new();
        let [first, second] = [(); 2].map(|()| clock.uptime().expect("/proc is there"));
        assert_eq!(first.boot_id, second.boot_id);
        assert!(0 < first.since_boot_ms && first.since_boot_ms <= second.since_boot_ms);
    }

    #[test]
    fn a_clock_that_is_set_is_noticed_once() {
        let (clocks, mut steps) = (Clocks::default(), ClockSteps::default());
        clocks.ahead_ms.set(1_800_000_000_000);
        assert_eq!(steps.look(&clocks), None, "nothing to compare with yet");
        for step_ms in [-3_600_000, 250, 7_200_000, -250] {
            clocks.monotonic_ms.set(clocks.monotonic_ms.get() + 200);
            clocks.ahead_ms.set(clocks.ahead_ms.get() + step_ms);
            assert_eq!((steps.look(&clocks), steps.look(&clocks)), (Some(step_ms), None));
        }
    }

    #[test]
    fn small_steps_count_together() {
        let (clocks, mut steps) = (Clocks::default(), ClockSteps::default());
        let mut looked_after = |step_ms| {
            clocks.ahead_ms.set(clocks.ahead_ms.get() + step_ms);
            steps.look(&clocks)
        };
        assert_eq!([0, 200, -100, -100].map(&mut looked_after), [None; 4]);
        assert_eq!([-100, -100, -100].map(&mut looked_after), [None, None, Some(-300)]);
    }

    #[test]
    fn a_thread_that_stands_still_between_two_readings_sees_no_step() {
        let (clocks, mut steps) = (Clocks::default(), ClockSteps::default());
        steps.look(&clocks);
        clocks.reading_ms.set(5_000);
        assert_eq!(steps.look(&clocks), None);
        clocks.reading_ms.set(0);
        assert_eq!(steps.look(&clocks), None);
    }
}
