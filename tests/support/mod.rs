//! What the tests against a real Kafka stand on: a broker, a client, the scheduler as a process, and the judge.
//!
//! Each test binary that says `mod support` compiles its own copy and uses a part of it.
#![allow(dead_code, reason = "each test binary uses its own part of this")]
#![allow(unreachable_pub, reason = "a module of test binaries has no outside")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests panic, wait and look at the clock")]

pub mod at_least_once;
pub mod broker;
pub mod child;
pub mod client;
pub mod fake_clock;
pub mod history;
pub mod http;
pub mod kms;
pub mod log;
pub mod port;
pub mod rng;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long anything may take that normally takes a few seconds: generous, because CI machines are slow.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The time of day, milliseconds since the Unix epoch.
pub fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

/// Asks `ready` until it gives a value, at most for `patience`; for states that send no event to await.
pub fn poll_until<T>(patience: Duration, mut ready: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(value) = ready() {
            return Some(value);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
