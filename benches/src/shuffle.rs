//! Random order that is computed, not stored: at a hundred million schedules a stored one would be what is measured.

/// A permutation of the numbers below a length.
#[derive(Clone, Copy, Debug)]
pub struct Shuffle {
    len: u64,
    bits: u32,
    /// What each round adds and, odd, multiplies by.
    rounds: [(u64, u64); 3],
}

impl Shuffle {
    /// One of the permutations of `0..len`; each `key` gives another.
    #[must_use]
    pub fn new(len: u64, key: u64) -> Self {
        // Two bits at least, or there is nothing to fold.
        let bits = (u64::BITS - len.saturating_sub(1).leading_zeros()).max(2);
        let rounds = [0, 1, 2].map(|round| {
            let key = mix(mix(key).wrapping_add(round));
            (key, mix(key) | 1)
        });
        Self { len, bits, rounds }
    }

    /// The number at `position`, which must be below the length.
    #[must_use]
    pub fn nth(&self, position: u64) -> u64 {
        assert!(position < self.len, "{position} is outside of 0..{}", self.len);
        // Some of the numbers below the next power of two are too large. Each lies on a cycle that leads back to one
        // that is not, and different ones to different ones.
        let mut number = self.scatter(position);
        while number >= self.len {
            number = self.scatter(number);
        }
        number
    }

    /// Permutes the numbers of `bits` bits: adding, multiplying by an odd number and folding the upper half onto the
    /// lower can all be undone.
    fn scatter(&self, mut number: u64) -> u64 {
        let mask = (1 << self.bits) - 1;
        for (summand, odd) in self.rounds {
            number = number.wrapping_add(summand).wrapping_mul(odd) & mask;
            number ^= number >> self.bits.div_ceil(2);
        }
        number
    }
}

/// A number that looks random, another one for each `number` (the finalizer of `SplitMix64`, by Steele, Lea and
/// Flood).
#[must_use]
pub const fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ number >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ number >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ number >> 31
}
