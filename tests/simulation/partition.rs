//! One partition of the schedule topic: a log with transactions, a last stable offset and compaction.

use std::collections::{BTreeMap, HashMap};

use crate::history::{self, Write};
use kafka_message_scheduler::codec::{self, Scratch};
use kafka_message_scheduler::schedule::{Format, Headers};

pub const FORMAT: Format = Format::Json;

/// A record as it is stored.
#[derive(Clone, Debug)]
pub struct Stored {
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
    /// Packed, see [`Headers`].
    pub headers: Vec<u8>,
    pub state: State,
    appended_us: u64,
    /// A tombstone may be cleaned away after this; known once a compaction has met it.
    horizon_us: Option<u64>,
}

/// What readers may know of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Committed,
    Aborted,
    /// In the open transaction of this producer.
    Open(u64),
}

#[derive(Debug, Default)]
pub struct Partition {
    records: BTreeMap<i64, Stored>,
    /// The first offset that may be read; earlier ones were deleted.
    pub start: i64,
    /// The high watermark: the next offset.
    pub end: i64,
    /// Producers with an open transaction here, and its first offset.
    open: BTreeMap<u64, i64>,
    /// Every record that was ever committed, whatever became of it.
    accepted: Vec<history::Record>,
    /// Of the scheduler's tombstones: which version each says it fired, by offsets.
    fired: BTreeMap<i64, i64>,
    /// What was accepted although an earlier record says the very same, and that does not say that it repeats one.
    written_again: Vec<String>,
    payloads: HashMap<u64, i64>,
    number: i32,
}

impl Partition {
    pub fn new(number: usize) -> Self {
        Self { number: number as i32, ..Self::default() }
    }

    /// Appends a record, in the open transaction of `producer` if there is one; returns its offset.
    pub fn append(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        headers: Headers<'_>,
        producer: Option<u64>,
        now_us: u64,
    ) -> i64 {
        let offset = self.end;
        self.end += 1;
        let state = producer.map_or(State::Committed, State::Open);
        let record = Stored {
            key: key.to_vec(),
            value: value.map(<[u8]>::to_vec),
            headers: headers.as_packed().to_vec(),
            state,
            appended_us: now_us,
            horizon_us: None,
        };
        match producer {
            Some(producer) => {
                self.open.entry(producer).or_insert(offset);
            }
            None => self.accept(offset, &record),
        }
        self.records.insert(offset, record);
        offset
    }

    /// Writes the marker that ends the transaction of `producer`.
    pub fn end_transaction(&mut self, producer: u64, commit: bool) {
        if self.open.remove(&producer).is_none() {
            return; // it wrote nothing here
        }
        self.end += 1;
        let mut records = std::mem::take(&mut self.records);
        for (offset, record) in &mut records {
            if record.state == State::Open(producer) {
                record.state = if commit { State::Committed } else { State::Aborted };
                if commit {
                    self.accept(*offset, record);
                }
            }
        }
        self.records = records;
    }

    /// Where the newest committed record of a key lies.
    pub fn newest_offset(&self, key: &[u8]) -> Option<i64> {
        let newest_first = self.records.iter().rev();
        let mut of_key =
            newest_first.filter(|(_, record)| record.state == State::Committed && record.key == key);
        of_key.next().map(|(offset, _)| *offset)
    }

    /// The last stable offset: where readers of what is committed have to stop.
    pub fn last_stable(&self) -> i64 {
        self.open.values().copied().min().unwrap_or(self.end)
    }

    /// Committed records from `from` on, at most `max`, and where to go on reading.
    pub fn read(&self, from: i64, max: usize) -> (Vec<(i64, Stored)>, i64) {
        let stable = self.last_stable();
        if from >= stable {
            return (Vec::new(), from);
        }
        let committed =
            self.records.range(from..stable).filter(|(_, record)| record.state == State::Committed);
        let found: Vec<_> = committed.take(max).map(|(offset, record)| (*offset, record.clone())).collect();
        let next = if found.len() < max { stable } else { found[max - 1].0 + 1 };
        (found, next)
    }

    /// Compacts what lies before `bound`: of each key only the last record stays, and tombstones that a compaction has
    /// met before stay until `retention_us` have gone by.
    pub fn compact(&mut self, bound: i64, now_us: u64, retention_us: u64) {
        let bound = bound.min(self.last_stable());
        let mut last = HashMap::new();
        for (offset, record) in self.records.range(..bound) {
            if record.state == State::Committed {
                last.insert(record.key.clone(), *offset);
            }
        }
        self.records.retain(|offset, record| {
            if *offset >= bound {
                return true;
            }
            if last.get(&record.key) != Some(offset) {
                return false;
            }
            if record.value.is_some() {
                return true;
            }
            match record.horizon_us {
                None => {
                    record.horizon_us = Some(now_us + retention_us);
                    true
                }
                Some(horizon_us) => now_us <= horizon_us,
            }
        });
    }

    /// The first offset that was appended at this time or later.
    pub fn first_since(&self, time_us: u64) -> i64 {
        let mut records = self.records.iter();
        records.find(|(_, record)| record.appended_us >= time_us).map_or(self.end, |(offset, _)| *offset)
    }

    /// Deletes what lies before `bound` and the first record that still means something: `DeleteRecords` by a careful
    /// operator.
    pub fn delete_done(&mut self, bound: i64) {
        // What is not committed yet may never be.
        let mut last = HashMap::new();
        for (offset, record) in &self.records {
            if record.state == State::Committed {
                last.insert(record.key.clone(), *offset);
            }
        }
        let matters = |(offset, record): &(&i64, &Stored)| {
            matches!(record.state, State::Open(_))
                || record.value.is_some() && last.get(&record.key) == Some(*offset)
        };
        let keep_from = self.records.iter().find(matters).map_or(self.last_stable(), |(offset, _)| *offset);
        self.start = self.start.max(keep_from.min(self.last_stable()).min(bound));
        self.records = self.records.split_off(&self.start);
    }

    /// The version that is pending under `key` by what is committed now: its offset and due time.
    pub fn pending(&self, key: &[u8]) -> Option<(i64, i64)> {
        let committed = |(_, record): &(&i64, &Stored)| record.state == State::Committed && record.key == key;
        let (offset, record) = self.records.iter().rev().find(committed)?;
        match classify(record) {
            Write::Schedule { due_ms, .. } => Some((*offset, due_ms)),
            Write::Delete | Write::Expired | Write::Invalid => None,
        }
    }

    /// Every record that was ever committed.
    pub fn accepted(&self) -> &[history::Record] {
        &self.accepted
    }

    /// Of the scheduler's tombstones: which version each says it fired, by offsets.
    pub fn fired(&self) -> &BTreeMap<i64, i64> {
        &self.fired
    }

    /// Records that say what an earlier one says, as only a repair may: whatever was written in between is undone by them.
    pub fn written_again(&self) -> &[String] {
        &self.written_again
    }

    fn accept(&mut self, offset: i64, record: &Stored) {
        let headers = Headers::from_trusted(&record.headers);
        let header = |name| headers.iter().find(|header| header.name == name).and_then(|header| header.value);
        if let Some(fired) = header("kms-fired") {
            let text = std::str::from_utf8(fired).expect("the scheduler writes text");
            let version = text.rsplit(':').next().and_then(|version| version.parse().ok());
            self.fired.insert(offset, version.expect("it ends with an offset"));
        }
        let write = classify(record);
        if let Write::Schedule { payload_id, .. } = write {
            let first = *self.payloads.entry(payload_id).or_insert(offset);
            if first < offset && header("kms-repeats").is_none() {
                let (number, key) = (self.number, String::from_utf8_lossy(&record.key));
                self.written_again.push(format!("{number}@{offset} {key}: says again what @{first} says"));
            }
        }
        self.accepted.push(history::Record {
            topic: "schedules".to_owned(),
            partition: self.number,
            offset,
            key: record.key.clone(),
            write,
        });
    }
}

fn classify(record: &Stored) -> Write {
    let Some(value) = &record.value else {
        let headers = Headers::from_trusted(&record.headers);
        let is_expired = headers.iter().any(|header| header.name == "schedule:expired");
        return if is_expired { Write::Expired } else { Write::Delete };
    };
    match codec::decode(FORMAT, value, &mut Scratch::default()) {
        Ok(schedule) => Write::Schedule {
            due_ms: schedule.due.epoch_ms(),
            destination: schedule.topic.to_owned(),
            payload_id: history::payload_id(schedule.value),
        },
        Err(_) => Write::Invalid,
    }
}
