//! Ports nobody else is using.
#![allow(
    clippy::disallowed_types,
    reason = "two test processes must not try the same ports in the same order"
)]

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::net::TcpListener;
use std::sync::Mutex;

/// A free TCP port of 127.0.0.1, given out once per test process.
///
/// It lies below the range from which the kernel takes ports for outgoing connections (32768 and up on Linux), so it
/// is still free when the process it is meant for starts, and when a stopped broker comes back to it.
pub fn free() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap();
    let given = given.get_or_insert_with(HashSet::new);
    (0u32..10_000)
        .map(|attempt| 15_000 + (RandomState::new().hash_one(attempt) % 17_000) as u16)
        .find(|port| {
            !given.contains(port) && TcpListener::bind(("127.0.0.1", *port)).is_ok() && given.insert(*port)
        })
        .expect("some port is free")
}
