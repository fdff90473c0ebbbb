//! The machine's clocks.

use std::sync::OnceLock;
#[cfg(target_os = "linux")]
use std::time::Duration;
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

    #[cfg(target_os = "linux")]
    fn uptime(&self) -> Option<Uptime> {
        static BOOT_ID: OnceLock<Option<[u8; 16]>> = OnceLock::new();
        let read = || boot_id(&std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?);
        let boot_id = (*BOOT_ID.get_or_init(read))?;
        let since = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let since_boot = Duration::new(since.tv_sec.try_into().ok()?, since.tv_nsec.try_into().ok()?);
        Some(Uptime { boot_id, since_boot_ms: since_boot.as_millis() as u64 })
    }
}

/// The bytes of a UUID.
#[cfg(any(target_os = "linux", test))]
fn boot_id(text: &str) -> Option<[u8; 16]> {
    let digits: String = text.trim().chars().filter(|&c| c != '-').collect();
    let is_hex = digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u128::from_str_radix(&digits, 16).ok()).flatten().map(u128::to_be_bytes)
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
    fn a_boot_id_is_sixteen_bytes() {
        let id = boot_id("01234567-89ab-cdef-0123-456789abcdef\n").expect("a UUID");
        assert_eq!(id, [0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef].repeat(2)[..]);
        for other in
            ["", "01234567", "+1234567-89ab-cdef-0123-456789abcdef", "é1234567-89ab-cdef-0123-456789abcde"]
        {
            assert_eq!(boot_id(other), None, "{other:?}");
        }
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
