//! How the memory allocator is set up.
//!
//! For its tables and lists the engine uses mimalloc, which the programs choose as their global allocator.

// Options are set through mimalloc's C interface.
#![allow(unsafe_code)]

/// Lets memory go back to the system as soon as it is freed, a piece at a time; to be called before anything else.
///
/// By default mimalloc lets it gather, and then gives it all back within one call: after millions of cancelled schedules
/// that took 7 ms, in whichever call came next.
pub fn give_back_at_once() {
    // `mi_option_purge_delay` of mimalloc.h, in milliseconds; the crate has no name for it.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: sets a number that mimalloc reads when it frees memory.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, 0) }
}
