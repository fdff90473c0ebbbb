//! Memory straight from the system.
//!
//! An allocator decides itself when, and in what pieces, memory goes back. A segment that the set does not need should be
//! the system's again at once, whole, whatever allocator the program has chosen.

use memmap2::MmapMut;

/// A piece of memory: all zero at first, the system's again when dropped. Pages that are never touched cost nothing.
#[derive(Debug)]
pub(super) struct Memory(MmapMut);

impl Memory {
    /// Panics where a memory allocator would abort: when the system has no memory left.
    pub(super) fn new(bytes: usize) -> Self {
        match MmapMut::map_anon(bytes) {
            Ok(memory) => {
                // A huge page is filled with zeros all at once, in the call that touches it first. Only where the system
                // has no such pages does this fail.
                #[cfg(target_os = "linux")]
                let _ = memory.advise(memmap2::Advice::NoHugePage);
                Self(memory)
            }
            Err(error) => panic!("the system gives no memory ({bytes} bytes): {error}"),
        }
    }
}

impl std::ops::Deref for Memory {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl std::ops::DerefMut for Memory {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}
