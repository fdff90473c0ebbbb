//! What is promised without transactions: whatever is due is delivered, once or more often; nothing is early or made up.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::history::{History, Record, Verdict, Write};

/// What the headers of a partition's records say.
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// Of the scheduler's tombstones: which version each says it fired, by offsets.
    pub fired: BTreeMap<i64, i64>,
    /// Where a schedule is that says it repeats another.
    pub repetitions: BTreeSet<i64>,
}

impl Notes {
    /// Notes what the headers of the record at this offset say.
    pub fn take<'h>(&mut self, offset: i64, headers: impl IntoIterator<Item = (&'h str, Option<&'h [u8]>)>) {
        for (name, value) in headers {
            match (name, value) {
                ("kms-fired", Some(version)) => {
                    let text = std::str::from_utf8(version).expect("the scheduler writes text");
                    let version = text.rsplit(':').next().and_then(|version| version.parse().ok());
                    self.fired.insert(offset, version.expect("it ends with an offset"));
                }
                ("kms-repeats", Some(_)) => drop(self.repetitions.insert(offset)),
                _ => {}
            }
        }
    }
}

/// Judges a run without transactions, of whose partitions `notes` are.
///
/// A version has to have arrived if a tombstone says so, or if it is due and nothing follows it but tombstones and
/// repetitions of older versions. What was replaced or cancelled may have been delivered all the same, and anything more
/// than once, except in peace.
pub fn judge_at_least_once(history: &History, notes: &[&Notes], peaceful: bool) -> Verdict {
    let mut verdict = history.judge();
    verdict.doubled.clear();
    verdict.stale.clear();
    verdict.unsettled.clear();
    verdict.lost.clear();
    let mut arrived: HashMap<_, u32> = HashMap::new();
    for message in &history.messages {
        *arrived.entry((&message.key, message.payload_id)).or_default() += 1;
    }
    let fired: Vec<HashSet<i64>> =
        notes.iter().map(|notes| notes.fired.values().copied().collect()).collect();
    let is_of_others = |record: &&Record| {
        record.write != Write::Expired
            && !notes[record.partition as usize].repetitions.contains(&record.offset)
    };
    let mut last_writes = HashMap::new();
    for record in history.records.iter().filter(is_of_others) {
        let last = last_writes.entry((record.partition, &record.key)).or_insert(record.offset);
        *last = record.offset.max(*last);
    }
    for record in &history.records {
        let Write::Schedule { due_ms, payload_id, .. } = &record.write else { continue };
        let says_fired = fired[record.partition as usize].contains(&record.offset);
        let is_last = last_writes.get(&(record.partition, &record.key)) == Some(&record.offset);
        if (says_fired || *due_ms <= history.until_ms && is_last)
            && !arrived.contains_key(&(&record.key, *payload_id))
        {
            let key = String::from_utf8_lossy(&record.key);
            verdict.lost.push(format!("{}@{} key {key:?} due {due_ms}", record.partition, record.offset));
        }
    }
    if peaceful {
        let doubled = arrived.iter().filter(|(_, times)| **times > 1);
        let mut doubled: Vec<_> = doubled
            .map(|((key, payload_id), times)| {
                format!("key {:?} payload {payload_id:?}: {times} times", String::from_utf8_lossy(key))
            })
            .collect();
        doubled.sort();
        verdict.doubled = doubled;
    }
    verdict
}

/// Versions that were delivered although a newer record of their ID precedes their tombstone: what the windows of this mode
/// let through. Counted by what that record was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overtaken {
    pub by_updates: usize,
    /// And by records that are no schedules.
    pub by_cancels: usize,
}

/// Counts them.
pub fn overtaken(history: &History, notes: &[&Notes]) -> Overtaken {
    let mut logs: HashMap<_, BTreeMap<i64, &Write>> = HashMap::new();
    for record in &history.records {
        let log = logs.entry((record.partition, &record.key)).or_default();
        log.insert(record.offset, &record.write);
    }
    let mut overtaken = Overtaken::default();
    for ((partition, _), log) in &logs {
        for (tombstone, _) in log.iter().filter(|(_, write)| **write == &Write::Expired) {
            let Some(version) = notes[*partition as usize].fired.get(tombstone) else { continue };
            match log.range(version + 1..*tombstone).next().map(|(_, write)| write) {
                Some(Write::Schedule { .. }) => overtaken.by_updates += 1,
                Some(Write::Delete | Write::Invalid) => overtaken.by_cancels += 1,
                Some(Write::Expired) | None => {}
            }
        }
    }
    overtaken
}

#[cfg(test)]
mod tests {
    use super::super::history::Message;
    use super::*;

    const DUE: i64 = 1_000;

    fn schedule(payload_id: u64) -> Write {
        Write::Schedule { due_ms: DUE, destination: "d".into(), payload_id }
    }

    /// A log of one ID in one partition, and the payloads that arrived.
    fn history(writes: Vec<Write>, arrived: &[u64]) -> History {
        let record =
            |(offset, write)| Record { topic: "s".into(), partition: 0, offset, key: b"k".into(), write };
        let message = |payload_id: &u64| Message {
            destination: "d".into(),
            key: b"k".into(),
            payload_id: *payload_id,
            seen_at_ms: DUE,
        };
        History {
            records: (0..).zip(writes).map(record).collect(),
            messages: arrived.iter().map(message).collect(),
            until_ms: DUE,
        }
    }

    /// Lost, doubled, overtaken by updates, overtaken by cancels. The record at 3 is a repetition.
    fn counts(history: &History, fired: &[(i64, i64)]) -> [usize; 4] {
        let notes = Notes { fired: fired.iter().copied().collect(), repetitions: [3].into() };
        let verdict = judge_at_least_once(history, &[&notes], true);
        let Overtaken { by_updates, by_cancels } = overtaken(history, &[&notes]);
        [verdict.lost.len(), verdict.doubled.len(), by_updates, by_cancels]
    }

    #[test]
    fn an_update_that_was_overtaken_must_be_written_again() {
        let repaired = vec![schedule(1), schedule(2), Write::Expired, schedule(2), Write::Expired];
        assert_eq!(counts(&history(repaired.clone(), &[1, 2]), &[(2, 0), (4, 3)]), [0, 0, 1, 0]);
        // Both the update and its repetition say that it should have come.
        assert_eq!(counts(&history(repaired.clone(), &[1]), &[(2, 0), (4, 3)]), [2, 0, 1, 0]);
        assert_eq!(counts(&history(repaired[..3].to_vec(), &[1]), &[(2, 0)]), [1, 0, 1, 0]);
        assert_eq!(counts(&history(repaired, &[1, 2, 2]), &[(2, 0), (4, 3)]), [0, 1, 1, 0]);
    }

    #[test]
    fn a_repetition_takes_no_place() {
        let second = vec![schedule(1), schedule(2), schedule(3), schedule(2), Write::Expired];
        assert_eq!(counts(&history(second.clone(), &[2, 3]), &[(4, 3)]), [0, 0, 0, 0]);
        assert_eq!(counts(&history(second, &[2]), &[(4, 3)]), [1, 0, 0, 0]);
    }

    #[test]
    fn what_precedes_or_follows_the_firing_overtakes_nothing() {
        let in_time = vec![schedule(1), schedule(2), Write::Expired];
        assert_eq!(counts(&history(in_time, &[2]), &[(2, 1)]), [0, 0, 0, 0]);
        let late = vec![schedule(1), Write::Expired, Write::Delete];
        assert_eq!(counts(&history(late, &[1]), &[(1, 0)]), [0, 0, 0, 0]);
    }

    #[test]
    fn a_cancel_can_be_overtaken() {
        let cancelled = vec![schedule(1), Write::Delete, Write::Expired];
        assert_eq!(counts(&history(cancelled, &[1]), &[(2, 0)]), [0, 0, 0, 1]);
    }
}
