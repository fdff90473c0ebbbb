//! From the hash of an ID to its entry, in tables that grow and shrink a little at a time.
//!
//! One hash table would double: at a hundred million IDs a standstill of seconds. Instead there are many small ones
//! and linear hashing (Litwin, VLDB 1980): the number of tables follows the number of IDs one by one, and adding a
//! table splits just one other. A round of splits doubles the tables; those the round has not come to yet hold twice
//! as much as the rest, so a table holds between half and twice the mean.
//!
//! A table is an array of buckets, each a cache line: a look-up costs one miss here, and one for the entry. With each
//! name is the whole hash, so neither another ID nor growing reads an entry in vain.

mod table;
mod tables;

use super::hasher::IdHasher;
use table::Table;
use tables::Tables;

/// The mean names a table at which one more table is made. Before its turn a table holds twice that, in some 20 KB: so
/// neither moving its names nor the memory for it takes longer than a fraction of a millisecond.
const MEAN_NAMES: usize = 1_024;

/// Fewer than the mean divided by this, and a table is merged away: far enough off for nothing to swing.
const SPARSE_DIVISOR: usize = 4;

/// Names of entries by the hash of their ID.
#[derive(Debug)]
pub(super) struct Index {
    hasher: IdHasher,
    /// Table `t` holds the hashes whose lower bits are `t`: `round_bits + 1` bits in the tables that this round has
    /// split and those it has made, `round_bits` in the others. So there are between `2^round_bits` and twice as many.
    tables: Tables,
    round_bits: u32,
    len: usize,
    mean_names: usize,
    /// A table that gets its first name gets room for so many, if the index was laid out for them.
    laid_out_names: Option<usize>,
}

impl Index {
    pub(super) fn new(hash_seed: u64) -> Self {
        Self::with_mean(hash_seed, MEAN_NAMES)
    }

    fn with_mean(hash_seed: u64, mean_names: usize) -> Self {
        let (hasher, tables) = (IdHasher::new(hash_seed), Tables::new());
        Self { hasher, tables, round_bits: 0, len: 0, mean_names, laid_out_names: None }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The seed of the hash.
    pub(super) fn hash_seed(&self) -> u64 {
        self.hasher.seed()
    }

    /// Makes the tables for so many names at once, while there are none. They take memory when names come.
    pub(super) fn lay_out(&mut self, names: usize) {
        debug_assert_eq!(self.len, 0, "there are names already");
        // A power of two, so that all will hold about the same.
        let tables = names.div_ceil(self.mean_names).next_power_of_two();
        while self.tables.len() < tables {
            self.tables.push(Table::default());
        }
        self.round_bits = self.tables.len().ilog2();
        self.laid_out_names = Some(names / self.tables.len());
    }

    /// What the index knows of `id`.
    pub(super) fn hash(&self, id: &[u8]) -> u32 {
        self.hasher.hash64(id) as u32
    }

    /// The entry of this hash for which `is_it` holds.
    pub(super) fn find(&self, hash: u32, is_it: impl FnMut(u32) -> bool) -> Option<u32> {
        self.tables[self.table_of(hash)].find(hash, is_it)
    }

    /// Adds the entry `name`, whose ID is not in the index; splits at most one table.
    pub(super) fn insert(&mut self, hash: u32, name: u32) {
        let table = self.table_of(hash);
        if let Some(names) = self.laid_out_names
            && self.tables[table].is_bare()
        {
            self.tables[table] = Table::for_names(names);
        }
        self.tables[table].insert(hash, name);
        self.len += 1;
        if self.len > self.tables.len() * self.mean_names {
            self.split_next();
        }
    }

    /// Takes out the entry `name`, which must be there.
    pub(super) fn remove(&mut self, hash: u32, name: u32) {
        let table = self.table_of(hash);
        self.tables[table].remove(hash, name);
        self.len -= 1;
    }

    /// The entry `old`, which must be there, is called `new` from now on.
    pub(super) fn rename(&mut self, hash: u32, old: u32, new: u32) {
        let table = self.table_of(hash);
        self.tables[table].rename(hash, old, new);
    }

    /// Merges at most one table away if there are far too many for what is left.
    pub(super) fn contract(&mut self) {
        if self.tables.len() > 1 && self.len < self.tables.len() * self.mean_names / SPARSE_DIVISOR {
            self.merge_last();
        }
    }

    /// Asks for what a look-up of `hash` reads first.
    pub(super) fn prefetch(&self, hash: u32) {
        self.tables[self.table_of(hash)].prefetch(hash);
    }

    /// Gives every hash that is `from` or later, and its name, to `f`, a table at a time; and says where to go on.
    /// `None` at the end.
    ///
    /// Hashes come in the order of their bits read backwards, which is the order of the tables whatever their number:
    /// what stays in the index is given exactly once, whatever comes, goes and is split between the calls.
    pub(super) fn walk(&self, from: Turn, f: &mut impl FnMut(Turn, u32)) -> Option<Turn> {
        let table = self.table_of(from.hash());
        for (hash, name) in self.tables[table].iter() {
            if Turn::of(hash) >= from {
                f(Turn::of(hash), name);
            }
        }
        let is_split = table + (1 << self.round_bits) < self.tables.len() || table >= 1 << self.round_bits;
        from.after_table(self.round_bits + u32::from(is_split))
    }

    /// Names in the fullest table.
    #[cfg(test)]
    pub(super) fn largest_table(&self) -> usize {
        self.tables.iter().map(Table::len).max().unwrap_or(0)
    }

    /// Bytes of the tables.
    pub(super) fn allocated_bytes(&self) -> usize {
        self.tables.allocated_bytes()
    }

    /// Panics where the tables contradict themselves or the hashes of the entries, for tests.
    pub(super) fn check_invariants(&self, hash_of: impl Fn(u32) -> u32) {
        assert_eq!(self.round_bits, self.tables.len().ilog2(), "the round does not fit the tables");
        for (number, table) in self.tables.iter().enumerate() {
            table.check_invariants();
            for (hash, name) in table.iter() {
                assert_eq!(hash_of(name), hash, "entry {name} is under the wrong hash");
                assert_eq!(self.table_of(hash), number, "entry {name} is in the wrong table");
            }
        }
        let len: usize = self.tables.iter().map(Table::len).sum();
        assert_eq!(len, self.len, "the number of names is wrong");
    }

    fn table_of(&self, hash: u32) -> usize {
        let wide = hash as usize & ((2 << self.round_bits) - 1);
        if wide < self.tables.len() { wide } else { wide & ((1 << self.round_bits) - 1) }
    }

    /// Makes one more table out of the next one in turn.
    fn split_next(&mut self) {
        self.laid_out_names = None;
        let new_bit = 1 << self.round_bits;
        let turn = self.tables.len() - new_bit;
        let whole = std::mem::take(&mut self.tables[turn]);
        let mut halves = [Table::for_names(whole.len() / 2), Table::for_names(whole.len() / 2)];
        for (hash, name) in whole.iter() {
            halves[usize::from(hash as usize & new_bit != 0)].insert(hash, name);
        }
        let [lower, upper] = halves;
        self.tables[turn] = lower;
        self.tables.push(upper);
        self.round_bits = self.tables.len().ilog2();
    }

    /// Undoes the last split.
    fn merge_last(&mut self) {
        self.laid_out_names = None;
        let upper = self.tables.pop();
        self.round_bits = self.tables.len().ilog2();
        let turn = self.tables.len() - (1 << self.round_bits);
        let mut whole = Table::for_names(self.tables[turn].len() + upper.len());
        for (hash, name) in self.tables[turn].iter().chain(upper.iter()) {
            whole.insert(hash, name);
        }
        self.tables[turn] = whole;
    }
}

/// A hash's turn in a walk: its bits read backwards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Turn(u32);

impl Turn {
    fn of(hash: u32) -> Self {
        Self(hash.reverse_bits())
    }

    fn hash(self) -> u32 {
        self.0.reverse_bits()
    }

    pub(super) fn to_bits(self) -> u32 {
        self.0
    }

    pub(super) fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The turn after this one; `None` after the last.
    pub(super) fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }

    /// The first turn of the next table, where tables are told apart by `bits` bits.
    fn after_table(self, bits: u32) -> Option<Self> {
        let last_of_table = u64::from(self.0) | (u64::from(u32::MAX) >> bits);
        Self(last_of_table as u32).next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// An index over entries whose names are their own IDs.
    fn hash_of(index: &Index, name: u32) -> u32 {
        index.hash(&name.to_le_bytes())
    }

    fn with_mean(mean_names: usize) -> (Index, Index) {
        (Index::with_mean(7, mean_names), Index::with_mean(7, mean_names))
    }

    #[test]
    fn the_seed_decides_the_hash() {
        let hash = |seed, id: &[u8]| Index::new(seed).hash(id);
        assert_eq!(hash(1, b"id"), hash(1, b"id"));
        assert_ne!(hash(1, b"id"), hash(2, b"id"));
        assert_ne!(hash(1, b"id"), hash(1, b"ie"));
        assert_ne!(hash(1, b""), hash(1, b"\0"));
    }

    #[test]
    fn no_table_is_large_and_none_is_wasteful() {
        let (mut index, hashes) = with_mean(MEAN_NAMES);
        let count = 300_000;
        for name in 0..count {
            index.insert(hash_of(&hashes, name), name);
            if name % 1_000 == 999 {
                let names = name as usize + 1;
                assert!(
                    index.allocated_bytes() <= names * 16 + 4_096,
                    "{} bytes for {names}",
                    index.allocated_bytes()
                );
            }
        }
        assert!(index.tables.iter().all(|table| table.len() <= 5 * MEAN_NAMES / 2));
        assert_eq!(index.tables.len(), (count as usize).div_ceil(MEAN_NAMES));
        index.check_invariants(|name| hash_of(&hashes, name));

        let full = index.allocated_bytes();
        for name in 0..count - 300 {
            index.remove(hash_of(&hashes, name), name);
            index.contract();
        }
        assert_eq!(index.tables.len(), 1);
        assert!(index.allocated_bytes() < full / 100);
        index.check_invariants(|name| hash_of(&hashes, name));
    }

    #[test]
    fn the_tables_themselves_take_no_room_when_they_are_gone() {
        let (mut index, hashes) = with_mean(4);
        (0..40_000).for_each(|name| index.insert(hash_of(&hashes, name), name));
        index.check_invariants(|name| hash_of(&hashes, name));
        assert!(index.tables.len() == 10_000 && index.allocated_bytes() > 10_000 * size_of::<Table>());
        for name in 0..40_000 {
            index.remove(hash_of(&hashes, name), name);
            index.contract();
        }
        // One group stays.
        assert!(index.allocated_bytes() <= 1_024 * size_of::<Table>() + 64, "{}", index.allocated_bytes());
    }

    #[test]
    fn a_walk_goes_on_at_the_very_turn_it_is_given() {
        let (mut index, _) = with_mean(4);
        let turns = [Turn(0), Turn(1), Turn(u32::MAX)];
        for (name, turn) in (0..).zip(turns) {
            index.insert(turn.hash(), name);
        }
        for (before, turn) in turns.into_iter().enumerate() {
            let mut met = 0;
            index.walk(turn, &mut |_, _| met += 1);
            assert_eq!(met, turns.len() - before, "from {turn:?} on");
        }
        assert_eq!((turns[0].next(), turns[2].next()), (Some(turns[1]), None));
    }

    proptest! {
        #[test]
        fn the_index_is_a_map(
            steps in prop::collection::vec((0..200u32, any::<bool>()), 0..400),
            removals in prop::collection::vec(0..200u32, 0..400),
        ) {
            let (mut index, hashes) = with_mean(4);
            let mut map = BTreeMap::new();
            for (name, insert) in steps.into_iter().chain(removals.into_iter().map(|name| (name, false))) {
                let hash = hash_of(&hashes, name);
                let found = index.find(hash, |other| other == name);
                prop_assert_eq!(found, map.get(&name).copied());
                if insert && found.is_none() {
                    index.insert(hash, name);
                    map.insert(name, name);
                } else if !insert && found.is_some() {
                    index.remove(hash, name);
                    index.contract();
                    map.remove(&name);
                }
                index.check_invariants(|name| hash_of(&hashes, name));
                prop_assert_eq!(index.len(), map.len());
            }
        }

        /// What is there throughout a walk is met once, whatever else comes and goes.
        #[test]
        fn a_walk_meets_everything_once(
            stays in 0..60u32,
            changes in prop::collection::vec(prop::collection::vec((60..260u32, any::<bool>()), 0..60), 0..40),
        ) {
            let (mut index, hashes) = with_mean(4);
            for name in 0..stays {
                index.insert(hash_of(&hashes, name), name);
            }
            let (mut met, mut from) = (vec![0; 260], Some(Turn::default()));
            let mut changes = changes.into_iter();
            while let Some(turn) = from {
                from = index.walk(turn, &mut |at, name| {
                    assert!(at >= turn);
                    met[name as usize] += 1;
                });
                for (name, insert) in changes.next().unwrap_or_default() {
                    let hash = hash_of(&hashes, name);
                    match (insert, index.find(hash, |other| other == name)) {
                        (true, None) => index.insert(hash, name),
                        (false, Some(_)) => {
                            index.remove(hash, name);
                            index.contract();
                        }
                        _ => {}
                    }
                }
            }
            prop_assert!(met[..stays as usize].iter().all(|&times| times == 1), "{:?}", met);
        }
    }
}
