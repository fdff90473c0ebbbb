//! How the memory allocator is set up.
//!
//! For its tables and lists the engine uses mimalloc, which the programs choose as their global allocator.

// Options are set through mimalloc's C interface.
#![allow(unsafe_code)]

/// Lets memory go back to the system as soon as it is freed, a piece at a time; to be called before anything else.
///
/// By default mimalloc lets it gather, and then gives it all back within one call: after millions of cancelled schedules
/// that took 7 ms, in whichever call came next. And once in ten thousand of its slower calls it looks through all pages of
/// the thread, of which the index of a hundred million schedules has thousands: that took 1.8 ms.
pub fn give_back_at_once() {
    set(PURGE_DELAY, 0);
    set(GENERIC_COLLECT, 1_000_000); // the most it takes
}

// Of mimalloc.h; the crate has no names for them.

/// `mi_option_purge_delay`: milliseconds.
const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
/// `mi_option_generic_collect`: calls between two looks through all pages.
const GENERIC_COLLECT: libmimalloc_sys::mi_option_t = 34;

fn set(option: libmimalloc_sys::mi_option_t, value: std::ffi::c_long) {
    // SAFETY: sets a number that mimalloc reads when it allocates or frees memory.
    unsafe { libmimalloc_sys::mi_option_set(option, value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_options_are_known_by_their_defaults() {
        // SAFETY: reads a number.
        let get = |option| unsafe { libmimalloc_sys::mi_option_get(option) };
        assert_eq!(
            (get(PURGE_DELAY), get(GENERIC_COLLECT)),
            (1_000, 10_000),
            "counted otherwise by this mimalloc"
        );
    }
}
