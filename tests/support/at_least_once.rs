//! What is promised without transactions: whatever is due is delivered, once or more often; nothing is early or made up.
//!
//! As pure as the judge of exactly-once delivery, on which it builds.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use super::history::{History, Record, Verdict, Write};

/// What the scheduler's tombstones say they fired (their header `kms-fired`): the offset of the first tombstone by
/// partition and offset of the version.
pub type Fired = BTreeMap<(i32, i64), i64>;

/// Judges a run without transactions, on one schedule topic whose payloads are all different.
///
/// Must be empty: *lost* names what did not arrive although a tombstone says that it fired, or although it is due and
/// nothing but tombstones of older versions follows it; *early*, *wrong* and *unexpected* are as ever. What the
/// documentation allows, and only in the windows that it names, is counted: *doubled* has an entry for each time that a
/// message arrived again, *stale* one for each version that arrived although something newer lies before its tombstone.
pub fn judge_at_least_once(history: &History, fired: &Fired) -> Verdict {
    let Verdict { wrong, unexpected, .. } = history.judge();
    let mut verdict = Verdict { wrong, unexpected, ..Verdict::default() };
    let mut arrived: HashMap<_, Vec<i64>> = HashMap::new();
    for message in &history.messages {
        arrived.entry((&message.key, message.payload_id)).or_default().push(message.seen_at_ms);
    }
    for version in versions(history, fired) {
        let due_ms = version.due_ms;
        let Some(times) = arrived.get(&(&version.record.key, version.payload_id)) else {
            if version.tombstone.is_some() || version.following.is_none() && due_ms <= history.until_ms {
                verdict.lost.push(format!("{version}: never arrived"));
            }
            continue;
        };
        let early = times.iter().filter(|at_ms| **at_ms < due_ms);
        verdict.early.extend(early.map(|at_ms| format!("{version}: arrived at {at_ms}")));
        verdict.doubled.extend((1..times.len()).map(|_| format!("{version}: arrived again")));
        match version.change() {
            Some(change) => {
                verdict.stale.push(format!("{version}: arrived, although changed by @{}", change.offset));
            }
            None => verdict.right += 1,
        }
    }
    verdict
}

/// What one or more records say of an ID: more than one if a repair wrote the version again.
pub struct Version<'r> {
    /// The first of them.
    pub record: &'r Record,
    pub payload_id: u64,
    pub due_ms: i64,
    /// The offset of the first tombstone that says it fired.
    tombstone: Option<i64>,
    /// What was written after the first of them, tombstones and repairs left aside.
    following: Option<&'r Record>,
}

impl Version<'_> {
    /// The update or cancel that came before the tombstone: had the scheduler known it, this would not have fired.
    pub fn change(&self) -> Option<&Record> {
        self.following.filter(|next| self.tombstone.is_none_or(|tombstone| next.offset < tombstone))
    }
}

impl fmt::Display for Version<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { topic, partition, offset, key, .. } = self.record;
        write!(f, "{topic}-{partition}@{offset} key {:?} due {}", String::from_utf8_lossy(key), self.due_ms)?;
        match self.tombstone {
            Some(tombstone) => write!(f, ", tombstone @{tombstone}"),
            None => write!(f, ", no tombstone"),
        }
    }
}

/// All versions of all IDs.
pub fn versions<'r>(history: &'r History, fired: &Fired) -> Vec<Version<'r>> {
    let mut all_writes: BTreeMap<_, Vec<&Record>> = BTreeMap::new();
    for record in history.records.iter().filter(|record| record.write != Write::Expired) {
        all_writes.entry((record.partition, record.key.as_slice())).or_default().push(record);
    }
    let mut all = Vec::new();
    for writes in all_writes.values_mut() {
        writes.sort_by_key(|record| record.offset);
        let begin = all.len();
        let mut payloads = HashSet::new();
        // A repair changes nothing: it repeats a version, and what came after that still came after it.
        let (originals, repetitions): (Vec<&Record>, Vec<&Record>) =
            writes.iter().copied().partition(|record| match record.write {
                Write::Schedule { payload_id, .. } => payloads.insert(payload_id),
                _ => true,
            });
        let tombstone_of = |record: &Record| fired.get(&(record.partition, record.offset)).copied();
        for (index, &record) in originals.iter().enumerate() {
            let Write::Schedule { payload_id, due_ms, .. } = record.write else { continue };
            let (tombstone, following) = (tombstone_of(record), originals.get(index + 1).copied());
            all.push(Version { record, payload_id, due_ms, tombstone, following });
        }
        for repetition in repetitions {
            let Write::Schedule { payload_id, .. } = repetition.write else { continue };
            let repeated = all[begin..].iter_mut().find(|known| known.payload_id == payload_id);
            let repeated = repeated.expect("a payload was met before it was met again");
            repeated.tombstone = [repeated.tombstone, tombstone_of(repetition)].into_iter().flatten().min();
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::history::Message;
    use super::*;

    const DUE: i64 = 1_000;

    /// A history of the key "k", told record by record; offsets count from 0.
    #[derive(Default)]
    struct Tale(History, Fired);

    impl Tale {
        fn write(mut self, write: Write) -> Self {
            let offset = self.0.records.len() as i64;
            let (topic, key) = ("s".to_owned(), b"k".to_vec());
            self.0.records.push(Record { topic, partition: 0, offset, key, write });
            self
        }

        fn schedule(self, payload_id: u64) -> Self {
            self.write(Write::Schedule { due_ms: DUE, destination: "d".to_owned(), payload_id })
        }

        fn fired(mut self, version: i64) -> Self {
            let offset = self.0.records.len() as i64;
            self.1.entry((0, version)).or_insert(offset);
            self.write(Write::Expired)
        }

        fn arrives(mut self, payload_id: u64, seen_at_ms: i64) -> Self {
            let (destination, key) = ("d".to_owned(), b"k".to_vec());
            self.0.messages.push(Message { destination, key, payload_id, seen_at_ms });
            self
        }

        /// How many were right, lost, doubled, early and stale.
        fn counts(mut self) -> [usize; 5] {
            self.0.until_ms = DUE;
            let verdict = judge_at_least_once(&self.0, &self.1);
            assert!(verdict.wrong.is_empty() && verdict.unexpected.is_empty(), "{verdict}");
            let lists = [&verdict.lost, &verdict.doubled, &verdict.early, &verdict.stale].map(Vec::len);
            [verdict.right, lists[0], lists[1], lists[2], lists[3]]
        }
    }

    #[test]
    fn an_update_that_was_overtaken_and_written_again_is_right() {
        let repaired = || Tale::default().schedule(1).schedule(2).fired(0).schedule(2).fired(3);
        let both = repaired().arrives(1, DUE).arrives(2, DUE);
        assert_eq!(both.counts(), [1, 0, 0, 0, 1], "the first came although it was replaced, in its window");
        assert_eq!(repaired().arrives(1, DUE).counts(), [0, 1, 0, 0, 1]);
    }

    #[test]
    fn a_repair_does_not_undo_what_came_between() {
        let undone = || Tale::default().schedule(1).schedule(2).fired(0).schedule(3).schedule(2);
        assert_eq!(undone().arrives(1, DUE).fired(4).arrives(2, DUE).counts(), [0, 1, 0, 0, 2]);
        assert_eq!(undone().arrives(1, DUE).fired(3).arrives(3, DUE).counts(), [1, 0, 0, 0, 1]);
    }

    #[test]
    fn what_was_replaced_or_cancelled_in_time_need_not_come() {
        assert_eq!(
            Tale::default().schedule(1).schedule(2).fired(1).arrives(2, DUE).counts(),
            [1, 0, 0, 0, 0]
        );
        assert_eq!(Tale::default().schedule(1).write(Write::Delete).counts(), [0; 5]);
    }

    #[test]
    fn canary_a_loss_is_reported() {
        assert_eq!(Tale::default().schedule(1).counts(), [0, 1, 0, 0, 0]);
        assert_eq!(
            Tale::default().schedule(1).fired(0).schedule(2).arrives(2, DUE).counts(),
            [1, 1, 0, 0, 0]
        );
    }

    #[test]
    fn canary_each_further_arrival_counts_and_so_does_an_early_one() {
        let twice = Tale::default().schedule(1).fired(0).arrives(1, DUE).arrives(1, DUE).arrives(1, DUE - 1);
        assert_eq!(twice.counts(), [1, 0, 2, 1, 0]);
    }
}
