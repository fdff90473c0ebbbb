//! The wall clock in microseconds: what due times are compared with.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Microseconds since the Unix epoch.
pub(super) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// Milliseconds since the Unix epoch.
pub(super) fn now_ms() -> i64 {
    now_us() / 1_000
}

/// Sleeps until a time of the wall clock, in microseconds.
pub(super) fn sleep_until_us(at_us: i64) {
    let left_us = at_us - now_us();
    if left_us > 0 {
        std::thread::sleep(Duration::from_micros(left_us as u64));
    }
}
