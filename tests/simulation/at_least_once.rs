//! What is promised without transactions: whatever is due is delivered, once or more often; nothing is early or made up.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::history::{History, Verdict, Write};

/// Judges a run without transactions. `fired` gives, for each partition, the version that a tombstone says it fired.
///
/// A version has to have arrived if a tombstone says so, or if it is due and nothing but tombstones of older versions
/// follows it. What was replaced or cancelled may have been delivered all the same, and anything more than once, except
/// in peace.
pub fn judge_at_least_once(history: &History, fired: &[&BTreeMap<i64, i64>], peaceful: bool) -> Verdict {
    let mut verdict = history.judge();
    verdict.doubled.clear();
    verdict.stale.clear();
    verdict.unsettled.clear();
    verdict.lost.clear();
    let mut arrived: HashMap<_, u32> = HashMap::new();
    for message in &history.messages {
        *arrived.entry((&message.key, message.payload_id)).or_default() += 1;
    }
    let fired: Vec<HashSet<i64>> = fired.iter().map(|fired| fired.values().copied().collect()).collect();
    let mut last_writes = HashMap::new();
    for record in history.records.iter().filter(|record| record.write != Write::Expired) {
        let last = last_writes.entry((record.partition, &record.key)).or_insert(record.offset);
        *last = record.offset.max(*last);
    }
    for record in &history.records {
        let Write::Schedule { due_ms, payload_id, .. } = &record.write else { continue };
        let says_fired = fired[record.partition as usize].contains(&record.offset);
        let is_last = last_writes[&(record.partition, &record.key)] == record.offset;
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
