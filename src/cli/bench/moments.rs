//! The wall clock in microseconds, which due times are compared with, and the processor time that this process took.

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

/// Seconds of processor time that all threads of this process have taken, in hundredths; `None` where the system does not
/// say it as Linux does.
pub(super) fn processor_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    processor_seconds_of(&stat)
}

/// Behind the program's name, which may hold anything, `utime` and `stime` are the twelfth and the thirteenth field
/// (`proc_pid_stat(5)`), in ticks of a hundredth of a second.
fn processor_seconds_of(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) as f64 / 100.0)
}

/// What of it was taken since `before`.
pub(super) fn processor_seconds_since(before: Option<f64>) -> Option<f64> {
    Some(processor_seconds()? - before?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_that_of_user_and_system() {
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 9 0 100 1000 10 1";
        assert_eq!(processor_seconds_of(stat), Some(2.0));
        assert_eq!(processor_seconds_of("7 (kms"), None);
    }
}
