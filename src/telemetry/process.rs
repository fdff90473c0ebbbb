//! What the system says of this process; nothing where it is not Linux.

use std::fs;

/// Bytes of memory that are in use.
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    Some(status("VmRSS:")? * 1_024)
}

/// Threads.
pub(super) fn threads() -> Option<u64> {
    status("Threads:")
}

/// Files, sockets and pipes that are open.
pub(super) fn open_files() -> Option<u64> {
    Some(fs::read_dir("/proc/self/fd").ok()?.count() as u64)
}

/// The first number of a line of `/proc/self/status`.
fn status(name: &str) -> Option<u64> {
    let text = fs::read_to_string("/proc/self/status").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_process_knows_itself() {
        assert!((1 << 20..1 << 40).contains(&resident_bytes().unwrap()));
        assert!((1..100_000).contains(&threads().unwrap()));
        let held: Vec<_> = (0..50).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        assert!(open_files().unwrap() > held.len() as u64);
    }
}
