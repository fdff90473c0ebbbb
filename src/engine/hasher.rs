//! The keyed hash of what producers name: IDs and topics.

use std::hash::Hasher;

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;

/// The keyed hash of IDs and of names of topics; the seed is a secret against producers who choose theirs to collide.
#[derive(Clone, Debug)]
pub(super) struct IdHasher {
    secret: SharedSeed,
    seed: u64,
}

impl IdHasher {
    pub(super) fn new(seed: u64) -> Self {
        Self { secret: SharedSeed::from_u64(seed), seed }
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    pub(super) fn hash64(&self, bytes: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.secret);
        hasher.write(bytes);
        hasher.finish()
    }
}
