//! The machine's clocks.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::Clock;

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
}
