//! From the hash of an ID to its node, in a table that grows and shrinks a little at a time.
//!
//! One hash table would double: at a hundred million IDs a standstill of seconds. Instead there are many small ones
//! and linear hashing (Litwin, VLDB 1980): the number of tables follows the number of IDs one by one, and adding a
//! table splits just one other. A round of splits doubles the tables; those the round has not come to yet hold twice
//! as much as the rest, so a table holds between half and twice the mean.
//!
//! The index keeps no hashes: 32 bits of each are in its node, so moving an entry reads the node but never the ID.

use std::hash::Hasher;

use foldhash::SharedSeed;
use foldhash::quality::FoldHasher;
use hashbrown::HashTable;

/// The mean entries a table at which one more table is made.
///
/// Before its turn a table reaches twice that, with the spread of a good hash some 13,700: below the 14,336 that
/// hashbrown puts in 2^14 buckets. A split reads as many nodes, the longest step of any insert.
const MEAN_ENTRIES: usize = 6_500;

/// Fewer than the mean divided by this, and a table is merged away: far enough off for nothing to swing.
const SPARSE_DIVISOR: usize = 4;

/// The keyed hash of IDs and names; the seed is a secret against producers who choose theirs to collide.
#[derive(Clone, Debug)]
pub(super) struct IdHasher {
    secret: SharedSeed,
    seed: u64,
}

impl IdHasher {
    pub(super) fn new(seed: u64) -> Self {
        Self { secret: SharedSeed::from_u64(seed), seed }
    }

    pub(super) fn hash64(&self, bytes: &[u8]) -> u64 {
        let mut hasher = FoldHasher::with_seed(self.seed, &self.secret);
        hasher.write(bytes);
        hasher.finish()
    }
}

/// Nodes by the hash of their ID.
#[derive(Debug)]
pub(super) struct Index {
    hasher: IdHasher,
    /// Table `t` holds the hashes whose lower bits are `t`: `round_bits + 1` bits in the tables that this round has
    /// split and those it has made, `round_bits` in the others. So there are between `2^round_bits` and twice as many.
    tables: Vec<HashTable<u32>>,
    round_bits: u32,
    len: usize,
    mean_entries: usize,
}

impl Index {
    /// An index with tables, though not yet memory, for `expected` IDs.
    pub(super) fn new(hash_seed: u64, expected: usize) -> Self {
        Self::with_mean(hash_seed, expected, MEAN_ENTRIES)
    }

    fn with_mean(hash_seed: u64, expected: usize, mean_entries: usize) -> Self {
        let tables = expected.div_ceil(mean_entries).clamp(1, 1 << 31);
        Self {
            hasher: IdHasher::new(hash_seed),
            tables: std::iter::repeat_with(HashTable::new).take(tables).collect(),
            round_bits: tables.ilog2(),
            len: 0,
            mean_entries,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// What the index wants to know of `id`; its node keeps it.
    pub(super) fn hash(&self, id: &[u8]) -> u32 {
        self.hasher.hash64(id) as u32
    }

    /// The node of this hash for which `is_it` holds; it is asked about nodes of other hashes, too.
    pub(super) fn find(&self, hash: u32, mut is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.tables[self.table_of(hash)].find(spread(hash), |&node| is_it(node)).copied()
    }

    /// Adds `node`, whose ID is not in the index; splits at most one table.
    pub(super) fn insert(&mut self, hash: u32, node: u32, hash_of: impl Fn(u32) -> u32) {
        let table = self.table_of(hash);
        self.tables[table].insert_unique(spread(hash), node, |&other| spread(hash_of(other)));
        self.len += 1;
        if self.len > self.tables.len() * self.mean_entries {
            self.split_next(hash_of);
        }
    }

    /// Takes out `node`, which must be there.
    pub(super) fn remove(&mut self, hash: u32, node: u32) {
        let table = self.table_of(hash);
        let entry = self.tables[table].find_entry(spread(hash), |&other| other == node);
        entry.expect("every node is in the index under its hash").remove();
        self.len -= 1;
    }

    /// Merges at most one table away if there are far too many for what is left.
    pub(super) fn contract(&mut self, hash_of: impl Fn(u32) -> u32) {
        if self.tables.len() > 1 && self.len < self.tables.len() * self.mean_entries / SPARSE_DIVISOR {
            self.merge_last(hash_of);
        }
    }

    /// Bytes of the tables.
    pub(super) fn allocated_bytes(&self) -> usize {
        let entries: usize = self.tables.iter().map(HashTable::allocation_size).sum();
        entries + self.tables.capacity() * size_of::<HashTable<u32>>()
    }

    /// Panics where the tables contradict themselves or the hashes of the nodes, for tests.
    pub(super) fn check_invariants(&self, hash_of: impl Fn(u32) -> u32) {
        assert_eq!(self.round_bits, self.tables.len().ilog2(), "the round does not fit the tables");
        for (number, table) in self.tables.iter().enumerate() {
            for &node in table {
                assert_eq!(self.table_of(hash_of(node)), number, "node {node} is in the wrong table");
            }
        }
        let len: usize = self.tables.iter().map(HashTable::len).sum();
        assert_eq!(len, self.len, "the number of entries is wrong");
    }

    fn table_of(&self, hash: u32) -> usize {
        let wide = hash as usize & ((2 << self.round_bits) - 1);
        if wide < self.tables.len() { wide } else { wide & ((1 << self.round_bits) - 1) }
    }

    /// Makes one more table out of the next one in turn. Both are built anew: taking entries out of a hash table
    /// leaves marks that count as entries until it is rebuilt.
    fn split_next(&mut self, hash_of: impl Fn(u32) -> u32) {
        let new_bit = 1 << self.round_bits;
        let turn = self.tables.len() - new_bit;
        let whole = std::mem::take(&mut self.tables[turn]);
        let mut halves =
            [HashTable::with_capacity(whole.len() / 2), HashTable::with_capacity(whole.len() / 2)];
        for node in whole {
            let hash = hash_of(node);
            let half = &mut halves[usize::from(hash as usize & new_bit != 0)];
            half.insert_unique(spread(hash), node, |&other| spread(hash_of(other)));
        }
        let [lower, upper] = halves;
        self.tables[turn] = lower;
        self.tables.push(upper);
        self.round_bits = self.tables.len().ilog2();
    }

    /// Undoes the last split.
    fn merge_last(&mut self, hash_of: impl Fn(u32) -> u32) {
        let upper = self.tables.pop().expect("there is always a table");
        self.round_bits = self.tables.len().ilog2();
        let turn = self.tables.len() - (1 << self.round_bits);
        let lower = std::mem::take(&mut self.tables[turn]);
        let mut whole = HashTable::with_capacity(lower.len() + upper.len());
        for node in lower.into_iter().chain(upper) {
            whole.insert_unique(spread(hash_of(node)), node, |&other| spread(hash_of(other)));
        }
        self.tables[turn] = whole;
        if self.tables.len() < self.tables.capacity() / SPARSE_DIVISOR {
            self.tables.shrink_to(self.tables.len() * 2);
        }
    }
}

/// The 32 bits of a node as the 64 that hashbrown wants: it takes the bucket from the lower bits and a tag of seven
/// from the highest, and all entries of a table have the lowest bits in common. So every bit has to reach both ends.
fn spread(hash: u32) -> u64 {
    let product = u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ product >> 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// An index over nodes that are their own IDs.
    fn hash_of(index: &Index, node: u32) -> u32 {
        index.hash(&node.to_le_bytes())
    }

    fn with_mean(expected: usize, mean_entries: usize) -> (Index, Index) {
        let index = Index::with_mean(7, expected, mean_entries);
        let hashes = Index::with_mean(7, 0, mean_entries);
        (index, hashes)
    }

    #[test]
    fn the_seed_decides_the_hash() {
        let hash = |seed, id: &[u8]| Index::new(seed, 0).hash(id);
        assert_eq!(hash(1, b"id"), hash(1, b"id"));
        assert_ne!(hash(1, b"id"), hash(2, b"id"));
        assert_ne!(hash(1, b"id"), hash(1, b"ie"));
        assert_ne!(hash(1, b""), hash(1, b"\0"));
    }

    #[test]
    #[cfg_attr(miri, ignore = "too many hashes")]
    fn spreading_keeps_hashes_apart_that_share_their_table() {
        // 2^20 hashes with the same lower 12 bits, as in one of 4,096 tables: by bucket (16 bits) and tag (7 bits)
        // they should look like random ones, which take 1 − 1/e^(1/8) of the 2^23 combinations.
        let mut taken = vec![false; 1 << 23];
        for upper in 0..1u32 << 20 {
            let wide = spread(upper << 12 | 0xabc);
            taken[(wide >> 57 << 16 | wide & 0xffff) as usize] = true;
        }
        let taken = taken.iter().filter(|&&taken| taken).count() as f64 / f64::from(1 << 23);
        assert!(taken > 0.11, "{taken}");
    }

    #[test]
    #[cfg_attr(miri, ignore = "too many entries")]
    fn no_step_of_growth_is_longer_than_one_small_table() {
        let (mut index, hashes) = with_mean(0, MEAN_ENTRIES);
        let count = 300_000;
        let (mut moved, mut most) = (std::cell::Cell::new(0usize), 0);
        for node in 0..count {
            index.insert(hash_of(&hashes, node), node, |other| {
                moved.set(moved.get() + 1);
                hash_of(&hashes, other)
            });
            most = most.max(moved.replace(0));
        }
        assert!(*moved.get_mut() == 0 && most < 1 << 15, "one insert moved {most}");
        assert!(index.tables.iter().all(|table| table.len() <= 1 << 14 && table.num_buckets() <= 1 << 14));
        assert_eq!(index.tables.len(), (count as usize).div_ceil(MEAN_ENTRIES));
        index.check_invariants(|node| hash_of(&hashes, node));

        let full = index.allocated_bytes();
        for node in 0..count {
            index.remove(hash_of(&hashes, node), node);
            index.contract(|other| hash_of(&hashes, other));
        }
        assert_eq!(index.tables.len(), 1);
        assert!(index.allocated_bytes() < full / 10);
    }

    proptest! {
        #[test]
        fn the_index_is_a_map(
            expected in 0..40usize,
            steps in prop::collection::vec((0..200u32, any::<bool>()), 0..400),
            removals in prop::collection::vec(0..200u32, 0..400),
        ) {
            let (mut index, hashes) = with_mean(expected, 4);
            let mut map = BTreeMap::new();
            for (node, insert) in steps.into_iter().chain(removals.into_iter().map(|node| (node, false))) {
                let hash = hash_of(&hashes, node);
                let found = index.find(hash, |other| other == node);
                prop_assert_eq!(found, map.get(&node).copied());
                if insert && found.is_none() {
                    index.insert(hash, node, |other| hash_of(&hashes, other));
                    map.insert(node, node);
                } else if !insert && found.is_some() {
                    index.remove(hash, node);
                    index.contract(|other| hash_of(&hashes, other));
                    map.remove(&node);
                }
                index.check_invariants(|node| hash_of(&hashes, node));
                prop_assert_eq!(index.len(), map.len());
            }
        }
    }
}
