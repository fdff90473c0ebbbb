//! Where every decision of a run comes from.

/// A generator of numbers that look random: the same seed, the same numbers. `SplitMix64` (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// A number from `least` to `most`, both included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.next() % (most - least + 1)
    }

    /// An index of something that has `len` elements.
    pub fn index(&mut self, len: usize) -> usize {
        (self.next() % len as u64) as usize
    }

    /// True `part` times of a thousand.
    pub fn permille(&mut self, part: u64) -> bool {
        self.next() % 1_000 < part
    }

    /// How long something takes that goes over the network, microseconds: mostly a millisecond, at times seconds.
    pub fn latency_us(&mut self) -> u64 {
        match self.next() % 1_000 {
            0..900 => self.between(100, 2_000),
            900..980 => self.between(2_000, 40_000),
            980..996 => self.between(40_000, 600_000),
            _ => self.between(600_000, 4_000_000),
        }
    }
}
