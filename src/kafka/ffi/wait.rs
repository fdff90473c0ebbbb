//! librdkafka's timed waits, kept by the monotonic clock.
//!
//! librdkafka waits until a time of the wall clock (`cnd_timedwait` or, where C11's threads were not found,
//! `pthread_cond_timedwait`; its issue 2145). When somebody sets the clock back by an hour, whatever waits just then waits
//! an hour longer, unless it is woken: the thread that sends the group's heartbeats, connections that were to be tried
//! again, our own reads. It begins each wait anew that ends too soon by the monotonic clock, so only steps back do harm.
//!
//! `build.rs` has the program linked so that these calls come here. No other code in it waits like that: the standard
//! library and tokio use the monotonic clock.

use std::ffi::c_int;

use libc::{clockid_t, pthread_cond_t, pthread_mutex_t, timespec};

unsafe extern "C" {
    /// As `pthread_cond_timedwait`, by a clock of one's choice; glibc has it since 2.30.
    fn pthread_cond_clockwait(
        cond: *mut pthread_cond_t,
        mutex: *mut pthread_mutex_t,
        clock: clockid_t,
        until: *const timespec,
    ) -> c_int;
}

/// POSIX's call: 0, or a number of `errno`.
///
/// # Safety
/// As for [`timed_wait`].
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_pthread_cond_timedwait(
    cond: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: by the caller's promise.
    unsafe { timed_wait(cond, mutex, until) }
}

/// C11's call: the same in glibc, whose `cnd_t` and `mtx_t` are those of POSIX, with other answers.
///
/// # Safety
/// As for [`timed_wait`].
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_cnd_timedwait(
    cond: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: by the caller's promise.
    match unsafe { timed_wait(cond, mutex, until) } {
        0 => THRD_SUCCESS,
        libc::ETIMEDOUT => THRD_TIMEDOUT,
        _ => THRD_ERROR,
    }
}

const THRD_SUCCESS: c_int = 0;
const THRD_ERROR: c_int = 2;
const THRD_TIMEDOUT: c_int = 4;

/// Waits as `pthread_cond_timedwait` would if nobody set the wall clock from here on.
///
/// # Safety
/// As for `pthread_cond_timedwait`: a valid condition and time, and a mutex that this thread has locked.
unsafe fn timed_wait(
    cond: *mut pthread_cond_t,
    mutex: *mut pthread_mutex_t,
    until: *const timespec,
) -> c_int {
    // SAFETY: by the caller's promise.
    let left_ns = nanoseconds(unsafe { &*until }).saturating_sub(now_ns(libc::CLOCK_REALTIME));
    let until_ns = now_ns(libc::CLOCK_MONOTONIC).saturating_add(left_ns).max(0);
    let until = timespec { tv_sec: until_ns / SECOND_NS, tv_nsec: until_ns % SECOND_NS };
    // SAFETY: by the caller's promise; the time is valid and outlives the call.
    unsafe { pthread_cond_clockwait(cond, mutex, libc::CLOCK_MONOTONIC, &raw const until) }
}

const SECOND_NS: i64 = 1_000_000_000;

fn nanoseconds(at: &timespec) -> i64 {
    at.tv_sec.saturating_mul(SECOND_NS).saturating_add(at.tv_nsec)
}

fn now_ns(clock: clockid_t) -> i64 {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a valid out-pointer; every Linux has both clocks.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    nanoseconds(&now)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    #![allow(clippy::disallowed_methods, reason = "what is tested is how long it waits")]
    use super::*;
    use std::cell::UnsafeCell;
    use std::time::{Duration, Instant};

    struct Monitor {
        cond: UnsafeCell<pthread_cond_t>,
        mutex: UnsafeCell<pthread_mutex_t>,
    }

    // SAFETY: both are made to be used by several threads.
    unsafe impl Sync for Monitor {}

    impl Monitor {
        fn new() -> Self {
            Self {
                cond: libc::PTHREAD_COND_INITIALIZER.into(),
                mutex: libc::PTHREAD_MUTEX_INITIALIZER.into(),
            }
        }

        /// Waits for the time of the wall clock that is so far ahead of now; what came of it, and how long it took.
        fn wait(&self, ahead_ms: i64) -> (c_int, Duration) {
            let until_ns = now_ns(libc::CLOCK_REALTIME) + ahead_ms * 1_000_000;
            let until = timespec { tv_sec: until_ns / SECOND_NS, tv_nsec: until_ns % SECOND_NS };
            let began = Instant::now();
            // SAFETY: both are initialised, and this thread has locked the mutex.
            let outcome = unsafe {
                libc::pthread_mutex_lock(self.mutex.get());
                let outcome = timed_wait(self.cond.get(), self.mutex.get(), &raw const until);
                libc::pthread_mutex_unlock(self.mutex.get());
                outcome
            };
            (outcome, began.elapsed())
        }
    }

    #[test]
    fn it_waits_until_the_wall_clock_says_so() {
        let (outcome, took) = Monitor::new().wait(50);
        assert_eq!(outcome, libc::ETIMEDOUT);
        assert!(took >= Duration::from_millis(50), "{took:?}");
        assert_eq!(Monitor::new().wait(-3_600_000).0, libc::ETIMEDOUT, "a time in the past ends it at once");
    }

    #[test]
    fn a_signal_ends_it() {
        let monitor = Monitor::new();
        std::thread::scope(|threads| {
            let waiting = threads.spawn(|| monitor.wait(3_600_000));
            // Again and again, as the first may come before the wait.
            while !waiting.is_finished() {
                // SAFETY: initialised above.
                unsafe { libc::pthread_cond_signal(monitor.cond.get()) };
                std::thread::yield_now();
            }
            assert_eq!(waiting.join().unwrap().0, 0);
        });
    }
}
