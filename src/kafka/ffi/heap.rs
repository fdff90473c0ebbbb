//! The C heap, which is librdkafka's alone: what the rest of the program allocates comes from another allocator.

/// Gives memory that librdkafka has freed back to the system.
///
/// After a load that is most of what it had fetched ahead. glibc keeps such memory, for a few small blocks here and there are
/// still in use, or kept by a thread for next time. It takes some milliseconds, in which librdkafka's threads may have to wait for
/// the heap.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(in crate::kafka) fn give_back() {
    // SAFETY: works on the heap under its own locks; nothing that is in use is touched.
    unsafe { libc::malloc_trim(0) };
}

/// Other C libraries have no such call.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(in crate::kafka) fn give_back() {}
