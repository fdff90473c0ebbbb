//! One table of the index: buckets, each a cache line.

use crate::prefetch::prefetch;

/// Names by hash: buckets, each overflowing into the next.
///
/// Invariants ([`check_invariants`](Self::check_invariants) holds them): a name is in the home of its hash, or in a later
/// bucket, and then each bucket on the way counts it as `passed`; a table is seven eighths full at most, so there is always
/// a free slot to find.
#[derive(Debug, Default)]
pub(super) struct Table {
    buckets: Box<[Bucket]>,
    len: usize,
}

impl Table {
    /// An empty table with room for this many names and a few more.
    pub(super) fn for_names(names: usize) -> Self {
        let buckets = (names + names / 4).div_ceil(BUCKET_SLOTS);
        Self { buckets: vec![Bucket::EMPTY; buckets].into_boxed_slice(), len: 0 }
    }

    /// Names in the table.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The name with this hash for which `is_it` holds.
    pub(super) fn find(&self, hash: u32, is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.position(hash, is_it).map(|(bucket, at)| self.buckets[bucket].names[at])
    }

    /// Whether there is no room for any name yet.
    pub(super) fn is_bare(&self) -> bool {
        self.buckets.is_empty()
    }

    /// Adds a name, which must not be there.
    pub(super) fn insert(&mut self, hash: u32, name: u32) {
        if self.is_too_full(self.len + 1) {
            self.rebuild(self.len + 1);
        }
        let mut number = self.home(hash);
        while self.buckets[number].used == Bucket::ALL_USED {
            self.buckets[number].passed += 1;
            number = self.after(number);
        }
        let bucket = &mut self.buckets[number];
        let at = bucket.used.trailing_ones() as usize;
        bucket.hashes[at] = hash;
        bucket.names[at] = name;
        bucket.used |= 1 << at;
        self.len += 1;
    }

    /// Takes out a name, which must be there.
    pub(super) fn remove(&mut self, hash: u32, name: u32) {
        let (found, at) = self.known_position(hash, name);
        self.buckets[found].used &= !(1 << at);
        let mut number = self.home(hash);
        while number != found {
            self.buckets[number].passed -= 1;
            number = self.after(number);
        }
        self.len -= 1;
        // A quarter full: far enough from where growing ends for nothing to swing.
        if self.len * 4 < self.buckets.len() * BUCKET_SLOTS && self.buckets.len() > 1 {
            self.rebuild(self.len);
        }
    }

    /// Puts the name `new` in the place of `old`, which must be there.
    pub(super) fn rename(&mut self, hash: u32, old: u32, new: u32) {
        let (bucket, at) = self.known_position(hash, old);
        self.buckets[bucket].names[at] = new;
    }

    /// Asks for what [`find`](Self::find) reads first.
    pub(super) fn prefetch(&self, hash: u32) {
        if !self.buckets.is_empty() {
            prefetch(&self.buckets[self.home(hash)]);
        }
    }

    /// Bytes of the buckets.
    pub(super) fn allocated_bytes(&self) -> usize {
        self.buckets.len() * size_of::<Bucket>()
    }

    /// Hashes and names.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, u32)> {
        self.buckets.iter().flat_map(|bucket| {
            let is_used = |at: &usize| bucket.used >> at & 1 == 1;
            (0..BUCKET_SLOTS).filter(is_used).map(|at| (bucket.hashes[at], bucket.names[at]))
        })
    }

    /// Panics where the table contradicts itself, for tests.
    pub(super) fn check_invariants(&self) {
        let mut passed = vec![0; self.buckets.len()];
        for (found, bucket) in self.buckets.iter().enumerate() {
            for at in (0..BUCKET_SLOTS).filter(|at| bucket.used >> at & 1 == 1) {
                let mut number = self.home(bucket.hashes[at]);
                while number != found {
                    passed[number] += 1;
                    number = self.after(number);
                }
            }
        }
        for (bucket, passed) in self.buckets.iter().zip(passed) {
            assert_eq!(bucket.passed, passed, "how many passed a bucket");
        }
        assert_eq!(self.iter().count(), self.len, "the length of a table");
        assert!(!self.is_too_full(self.len), "a table is too full");
    }

    /// The bucket in which a hash is looked for first. There must be one.
    fn home(&self, hash: u32) -> usize {
        // All hashes of a table have their lower bits in common, so the upper ones decide, well mixed (by the golden ratio,
        // after Knuth); and their product with the number of buckets, not its remainder, which would cost a division.
        let mixed = hash.wrapping_mul(0x9e37_79b9);
        ((u64::from(mixed) * self.buckets.len() as u64) >> u32::BITS) as usize
    }

    /// Whether this many names are more than seven eighths of the slots: then too many would pass their bucket.
    fn is_too_full(&self, names: usize) -> bool {
        names * 8 > self.buckets.len() * BUCKET_SLOTS * 7
    }

    fn after(&self, bucket: usize) -> usize {
        if bucket + 1 == self.buckets.len() { 0 } else { bucket + 1 }
    }

    /// The bucket, and the slot in it.
    fn position(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<(usize, usize)> {
        if self.buckets.is_empty() {
            return None;
        }
        let home = self.home(hash);
        let mut number = home;
        loop {
            let bucket = &self.buckets[number];
            let mut matches = bucket.matches(hash);
            while matches != 0 {
                let at = matches.trailing_zeros() as usize;
                if is_it(bucket.names[at]) {
                    return Some((number, at));
                }
                matches &= matches - 1;
            }
            if bucket.passed == 0 {
                return None;
            }
            number = self.after(number);
            if number == home {
                return None;
            }
        }
    }

    fn known_position(&self, hash: u32, name: u32) -> (usize, usize) {
        self.position(hash, |other| other == name).expect("every entry is in the index under its hash")
    }

    fn rebuild(&mut self, names: usize) {
        let mut rebuilt = Self::for_names(names + names / 8);
        for (hash, name) in self.iter() {
            rebuilt.insert(hash, name);
        }
        *self = rebuilt;
    }
}

/// Slots in a bucket, each for a name and its hash.
const BUCKET_SLOTS: usize = 7;

/// A cache line of a table.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Bucket {
    hashes: [u32; BUCKET_SLOTS],
    /// A bit for each slot that is used.
    used: u32,
    names: [u32; BUCKET_SLOTS],
    /// How many names belong here, or in a bucket before, and are in a later one because this one was full.
    passed: u32,
}

const _: () = assert!(size_of::<Bucket>() == 64);

impl Bucket {
    const EMPTY: Self = Self { hashes: [0; BUCKET_SLOTS], used: 0, names: [0; BUCKET_SLOTS], passed: 0 };
    const ALL_USED: u32 = (1 << BUCKET_SLOTS) - 1;

    /// A bit for each used slot of this hash. Without a branch, so that all can be compared at once.
    fn matches(&self, hash: u32) -> u32 {
        let mut bits = 0;
        for (at, &other) in self.hashes.iter().enumerate() {
            bits |= u32::from(other == hash) << at;
        }
        bits & self.used
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_pass_their_bucket_although_hashes_of_a_table_share_their_lower_bits() {
        // As in one of 4,096 tables: 2^13 hashes with the same lower 12 bits, at the fullest.
        let mut table = Table::for_names(0);
        for upper in 0..1u32 << 13 {
            table.insert(upper.wrapping_mul(0x85eb_ca77) << 12 | 0xabc, upper);
        }
        let passed: u32 = table.buckets.iter().map(|bucket| bucket.passed).sum();
        assert!(passed < 1 << 11, "{passed} of {} passed a bucket", 1 << 13);
        table.check_invariants();
    }

    #[test]
    fn hashes_that_are_all_the_same_stay_apart() {
        let mut table = Table::default();
        for name in 0..100 {
            table.insert(u32::MAX, name);
        }
        for name in (0..100).rev() {
            assert_eq!(table.find(u32::MAX, |other| other == name), Some(name));
            table.rename(u32::MAX, name, name + 1_000);
            table.remove(u32::MAX, name + 1_000);
            table.check_invariants();
        }
        assert_eq!(table.find(u32::MAX, |_| true), None);
    }
}
