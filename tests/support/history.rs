//! The judge: from everything the schedule topics accepted and everything a reader of the destinations saw, it says
//! what was lost, doubled, early, stale or wrong.
//!
//! It is pure and uses nothing but the standard library, so that whatever makes a history can include it.
//!
//! The rule it holds the scheduler to (exactly-once mode): the records of a key in one partition, in log order, are
//! its versions. A version fires **if and only if** the very next record of its key is the scheduler's tombstone, and
//! then exactly once, at or after its due time. The newest version must have fired when it is due by
//! [`History::until_ms`]. A version whose next record is anything else was replaced or cancelled in time: it must not
//! fire, however late the scheduler was.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

/// What happened in one run.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// Every committed record of the schedule topics, in any order, those that were compacted away since too.
    /// Records without a key are nobody's version and are left out.
    pub records: Vec<Record>,
    /// Every message that a `read_committed` reader of the destinations saw, in any order.
    pub messages: Vec<Message>,
    /// Schedules due by this time (milliseconds since the Unix epoch) had every chance to fire.
    pub until_ms: i64,
}

/// A committed record of a schedule topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    /// The schedule's ID.
    pub key: Vec<u8>,
    pub write: Write,
}

/// What a record did to the schedule of its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Created or replaced it. The scheduled message carries the schedule's ID as its key, and a payload of its own.
    Schedule { due_ms: i64, destination: String, payload_id: u64 },
    /// Cancelled it: a null value from anybody but a firing scheduler.
    Delete,
    /// The scheduler's tombstone: a null value with the header `schedule:expired`.
    Expired,
    /// Could not be decoded, which replaces the schedule by nothing.
    Invalid,
}

/// A message that arrived at a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub destination: String,
    pub key: Vec<u8>,
    /// See [`payload_id`].
    pub payload_id: u64,
    /// The broker's timestamp.
    pub seen_at_ms: i64,
}

/// Tells payloads apart: FNV-1a over the value; null is not the empty value.
pub fn payload_id(value: Option<&[u8]>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325;
    for byte in value.iter().flat_map(|value| [1].iter().chain(*value)) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}

/// What the judge found; each entry is a sentence that names the records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Should have fired and did not.
    pub lost: Vec<String>,
    /// Fired more often than it should have.
    pub doubled: Vec<String>,
    /// Fired before its due time.
    pub early: Vec<String>,
    /// Fired although a newer record had replaced or cancelled it.
    pub stale: Vec<String>,
    /// Arrived with another payload, key or destination than was scheduled.
    pub wrong: Vec<String>,
    /// Fired, but its tombstone is not in the log: it would fire again.
    pub unsettled: Vec<String>,
    /// Arrived, and nothing of the kind was ever scheduled.
    pub unexpected: Vec<String>,
    /// How many messages were as they should be.
    pub right: usize,
}

impl Verdict {
    /// Whether nothing is wrong.
    pub fn is_clean(&self) -> bool {
        self.lists().iter().all(|(_, list)| list.is_empty())
    }

    /// Panics with a report if anything is wrong.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.is_clean(), "{self}");
    }

    fn lists(&self) -> [(&'static str, &Vec<String>); 7] {
        [
            ("lost", &self.lost),
            ("doubled", &self.doubled),
            ("early", &self.early),
            ("stale", &self.stale),
            ("wrong", &self.wrong),
            ("unsettled", &self.unsettled),
            ("unexpected", &self.unexpected),
        ]
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 10;
        write!(f, "{} messages right", self.right)?;
        for (name, list) in self.lists() {
            if list.is_empty() {
                continue;
            }
            write!(f, "\n{} {name}:", list.len())?;
            for entry in list.iter().take(SHOWN) {
                write!(f, "\n  {entry}")?;
            }
            if list.len() > SHOWN {
                write!(f, "\n  … and {} more", list.len() - SHOWN)?;
            }
        }
        Ok(())
    }
}

impl History {
    /// Judges the run.
    pub fn judge(&self) -> Verdict {
        let mut verdict = Verdict::default();
        let mut arrivals = self.arrivals();
        for (identity, mut versions) in self.versions() {
            let mut arrived = arrivals.remove(&identity).unwrap_or_default();
            arrived.sort_unstable();
            versions.sort_by_key(|version| version.due_ms);
            judge_payload(&versions, &arrived, &mut verdict);
        }
        self.judge_strangers(arrivals, &mut verdict);
        verdict
    }

    /// When each message arrived, by what it is.
    fn arrivals(&self) -> HashMap<Identity<'_>, Vec<i64>> {
        let mut arrivals: HashMap<_, Vec<i64>> = HashMap::new();
        for message in &self.messages {
            let identity = Identity {
                destination: &message.destination,
                key: &message.key,
                payload_id: message.payload_id,
            };
            arrivals.entry(identity).or_default().push(message.seen_at_ms);
        }
        arrivals
    }

    /// All versions with their fates, by the message they would send: several versions can send the same one.
    fn versions(&self) -> BTreeMap<Identity<'_>, Vec<Version<'_>>> {
        let mut versions: BTreeMap<_, Vec<Version<'_>>> = BTreeMap::new();
        for log in self.logs().values() {
            let mut following = log.values().skip(1);
            for record in log.values() {
                let next = following.next().copied();
                let Write::Schedule { due_ms, destination, payload_id } = &record.write else { continue };
                let fate = self.fate(*due_ms, next);
                let identity = Identity { destination, key: &record.key, payload_id: *payload_id };
                versions.entry(identity).or_default().push(Version { record, next, due_ms: *due_ms, fate });
            }
        }
        versions
    }

    /// The records of each key in log order.
    fn logs(&self) -> BTreeMap<(&str, i32, &[u8]), BTreeMap<i64, &Record>> {
        let mut logs: BTreeMap<_, BTreeMap<i64, &Record>> = BTreeMap::new();
        for record in &self.records {
            let log =
                logs.entry((record.topic.as_str(), record.partition, record.key.as_slice())).or_default();
            if let Some(other) = log.insert(record.offset, record) {
                assert!(
                    other == record,
                    "the history gives one offset two records: {other:?} and {record:?}"
                );
            }
        }
        logs
    }

    fn fate(&self, due_ms: i64, next: Option<&Record>) -> Fate {
        match next.map(|next| &next.write) {
            Some(Write::Expired) => Fate::Fired,
            Some(Write::Schedule { .. } | Write::Delete | Write::Invalid) => Fate::Superseded,
            None if due_ms <= self.until_ms => Fate::Due,
            None => Fate::Pending,
        }
    }

    /// Messages that no version sends.
    fn judge_strangers(&self, strangers: HashMap<Identity<'_>, Vec<i64>>, verdict: &mut Verdict) {
        let mut payloads = HashSet::new();
        let mut addresses = HashSet::new();
        for record in &self.records {
            if let Write::Schedule { destination, payload_id, .. } = &record.write {
                payloads.insert(*payload_id);
                addresses.insert((destination.as_str(), record.key.as_slice()));
            }
        }
        let strangers: BTreeMap<_, _> = strangers.into_iter().collect();
        for (identity, arrived) in strangers {
            let times = arrived.len();
            if payloads.contains(&identity.payload_id) {
                verdict
                    .wrong
                    .push(format!("{identity}: {times} ×, a payload that was scheduled to go elsewhere"));
            } else if addresses.contains(&(identity.destination, identity.key)) {
                verdict.wrong.push(format!("{identity}: {times} ×, a payload that was never scheduled"));
            } else {
                verdict.unexpected.push(format!("{identity}: {times} ×"));
            }
        }
    }
}

/// Judges the arrivals of one message against the versions that send it; both in order of time.
fn judge_payload(versions: &[Version<'_>], arrived: &[i64], verdict: &mut Verdict) {
    let with = |fates: &[Fate]| -> Vec<&Version<'_>> {
        versions.iter().filter(|v| fates.contains(&v.fate)).collect()
    };
    let owed = with(&[Fate::Fired, Fate::Due]);
    let allowed = with(&[Fate::Fired, Fate::Due, Fate::Pending]);

    if arrived.len() < owed.len() {
        // Which of equal messages is missing cannot be told; name the latest.
        verdict.lost.extend(owed[arrived.len()..].iter().map(|version| format!("{version}: never arrived")));
    }
    // The n-th arrival cannot be right unless it is as late as the n-th due time.
    for (version, at_ms) in allowed.iter().zip(arrived) {
        if *at_ms < version.due_ms {
            verdict.early.push(format!("{version}: arrived at {at_ms}, {} ms early", version.due_ms - at_ms));
        } else if version.fate == Fate::Fired {
            verdict.right += 1;
        } else {
            verdict.unsettled.push(format!("{version}: arrived at {at_ms}, but no tombstone follows it"));
        }
    }
    for at_ms in arrived.iter().skip(allowed.len()) {
        match (allowed.last(), versions.last()) {
            (Some(version), _) => verdict.doubled.push(format!("{version}: arrived again at {at_ms}")),
            (None, Some(version)) => {
                verdict.stale.push(format!("{version}: arrived all the same, at {at_ms}"));
            }
            (None, None) => unreachable!("a message is judged here because a version sends it"),
        }
    }
}

/// What makes two messages the same to a reader.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Identity<'a> {
    destination: &'a str,
    key: &'a [u8],
    payload_id: u64,
}

impl fmt::Display for Identity<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { destination, key, payload_id } = self;
        write!(f, "key {:?} payload {payload_id:x} at {destination}", String::from_utf8_lossy(key))
    }
}

/// A schedule record and what became of it.
struct Version<'a> {
    record: &'a Record,
    next: Option<&'a Record>,
    due_ms: i64,
    fate: Fate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// The scheduler's tombstone follows: the log says it fired.
    Fired,
    /// A newer record follows: it must never fire.
    Superseded,
    /// The newest of its key, and due: it must have fired, and its tombstone is missing.
    Due,
    /// The newest of its key, not due by the end of the run: it may have fired if it came due after that.
    Pending,
}

impl fmt::Display for Version<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Record { topic, partition, offset, key, .. } = self.record;
        write!(f, "{topic}-{partition}@{offset} key {:?} due {}", String::from_utf8_lossy(key), self.due_ms)?;
        match self.next {
            None => write!(f, ", the newest of its key"),
            Some(next) => {
                let what = match next.write {
                    Write::Schedule { .. } => "replaced",
                    Write::Delete => "cancelled",
                    Write::Expired => "tombstone",
                    Write::Invalid => "replaced by an invalid record",
                };
                write!(f, ", {what} @{}", next.offset)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUE: i64 = 1_000;
    const UNTIL: i64 = 5_000;

    /// A history of one partition, told record by record.
    #[derive(Default)]
    struct Tale(History);

    impl Tale {
        fn new() -> Self {
            Self(History { until_ms: UNTIL, ..History::default() })
        }

        fn write(mut self, key: &str, write: Write) -> Self {
            let offset = self.0.records.len() as i64;
            self.0.records.push(Record { topic: "s".into(), partition: 0, offset, key: key.into(), write });
            self
        }

        fn schedule(self, key: &str, due_ms: i64, payload_id: u64) -> Self {
            self.write(key, Write::Schedule { due_ms, destination: "d".into(), payload_id })
        }

        fn arrives(self, key: &str, seen_at_ms: i64, payload_id: u64) -> Self {
            self.arrives_at("d", key, seen_at_ms, payload_id)
        }

        fn arrives_at(mut self, destination: &str, key: &str, seen_at_ms: i64, payload_id: u64) -> Self {
            self.0.messages.push(Message {
                destination: destination.into(),
                key: key.into(),
                payload_id,
                seen_at_ms,
            });
            self
        }

        /// How many were lost, doubled, early, stale, wrong, unsettled, unexpected.
        fn counts(&self) -> [usize; 7] {
            self.0.judge().lists().map(|(_, list)| list.len())
        }
    }

    #[test]
    fn a_faithful_scheduler_is_clean() {
        let tale = Tale::new()
            .schedule("fires", DUE, 1)
            .schedule("replaced", DUE, 2)
            .schedule("cancelled", DUE, 3)
            .schedule("spoilt", DUE, 4)
            .schedule("later", UNTIL + 1, 5)
            .write("replaced", Write::Expired)
            .write("fires", Write::Expired)
            .schedule("replaced", DUE, 6)
            .schedule("replaced", DUE, 7)
            .write("cancelled", Write::Delete)
            .write("spoilt", Write::Invalid)
            .write("replaced", Write::Expired)
            .write("never scheduled", Write::Delete)
            .arrives("fires", DUE, 1)
            .arrives("replaced", DUE + 50, 2)
            .arrives("replaced", DUE + 90, 7);
        let verdict = tale.0.judge();
        verdict.assert_clean();
        assert_eq!(verdict.right, 3);
    }

    #[test]
    fn keys_of_other_partitions_and_topics_are_other_schedules() {
        let mut tale = Tale::new().schedule("k", DUE, 1).schedule("k", DUE, 2).schedule("k", DUE, 3);
        tale.0.records[1].partition = 1;
        tale.0.records[2].topic = "t".into();
        for i in 0..3 {
            let mut tombstone = tale.0.records[i].clone();
            tombstone.offset += 10;
            tombstone.write = Write::Expired;
            tale.0.records.push(tombstone);
        }
        tale.arrives("k", DUE, 1).arrives("k", DUE, 2).arrives("k", DUE, 3).0.judge().assert_clean();
    }

    #[test]
    fn a_message_may_be_scheduled_again_and_again() {
        let twice = || {
            Tale::new()
                .schedule("k", DUE, 1)
                .write("k", Write::Expired)
                .schedule("k", DUE + 500, 1)
                .write("k", Write::Expired)
        };
        twice().arrives("k", DUE + 600, 1).arrives("k", DUE, 1).0.judge().assert_clean();
        assert_eq!(twice().arrives("k", DUE, 1).counts(), [1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(twice().arrives("k", DUE, 1).arrives("k", DUE + 1, 1).counts(), [0, 0, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn canary_a_loss_is_reported() {
        let tombstone_only = Tale::new().schedule("k", DUE, 1).write("k", Write::Expired);
        assert_eq!(tombstone_only.counts(), [1, 0, 0, 0, 0, 0, 0]);
        let forgotten = Tale::new().schedule("k", UNTIL, 1);
        assert_eq!(forgotten.counts(), [1, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn canary_a_double_is_reported() {
        let doubled = Tale::new()
            .schedule("k", DUE, 1)
            .write("k", Write::Expired)
            .arrives("k", DUE, 1)
            .arrives("k", DUE, 1);
        assert_eq!(doubled.counts(), [0, 1, 0, 0, 0, 0, 0]);
        let with_two_tombstones = doubled.write("k", Write::Expired);
        assert_eq!(with_two_tombstones.counts(), [0, 1, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn canary_an_early_message_is_reported() {
        let fired = Tale::new().schedule("k", DUE, 1).write("k", Write::Expired).arrives("k", DUE - 1, 1);
        assert_eq!(fired.counts(), [0, 0, 1, 0, 0, 0, 0]);
        let far_ahead =
            Tale::new().schedule("k", UNTIL + 100, 1).write("k", Write::Expired).arrives("k", DUE, 1);
        assert_eq!(far_ahead.counts(), [0, 0, 1, 0, 0, 0, 0]);
    }

    #[test]
    fn canary_a_replaced_version_that_fires_is_stale_and_its_update_lost() {
        // The update lies before the tombstone, so the tombstone swallowed it: the race every other scheduler loses.
        let raced = Tale::new()
            .schedule("k", DUE, 1)
            .schedule("k", DUE + 1_000, 2)
            .write("k", Write::Expired)
            .arrives("k", DUE, 1);
        assert_eq!(raced.counts(), [1, 0, 0, 1, 0, 0, 0]);
    }

    #[test]
    fn canary_a_cancelled_or_spoilt_version_that_fires_is_stale() {
        for write in [Write::Delete, Write::Invalid] {
            let tale = Tale::new().schedule("k", DUE, 1).write("k", write);
            let raced = tale.arrives("k", DUE, 1);
            assert_eq!(raced.counts(), [0, 0, 0, 1, 0, 0, 0]);
            assert_eq!(raced.write("k", Write::Expired).counts(), [0, 0, 0, 1, 0, 0, 0]);
        }
    }

    #[test]
    fn canary_a_wrong_payload_key_or_destination_is_reported() {
        let fired = || Tale::new().schedule("k", DUE, 1).write("k", Write::Expired);
        for wrong in [
            fired().arrives("k", DUE, 99),
            fired().arrives("another", DUE, 1),
            fired().arrives_at("another", "k", DUE, 1),
        ] {
            assert_eq!(wrong.counts(), [1, 0, 0, 0, 1, 0, 0]);
        }
    }

    #[test]
    fn canary_payloads_that_change_places_are_reported() {
        let swapped = Tale::new()
            .schedule("a", DUE, 1)
            .schedule("b", DUE, 2)
            .write("a", Write::Expired)
            .write("b", Write::Expired)
            .arrives("a", DUE, 2)
            .arrives("b", DUE, 1);
        assert_eq!(swapped.counts(), [2, 0, 0, 0, 2, 0, 0]);
    }

    #[test]
    fn canary_a_message_without_its_tombstone_is_reported() {
        let crashed = Tale::new().schedule("k", DUE, 1).arrives("k", DUE, 1);
        assert_eq!(crashed.counts(), [0, 0, 0, 0, 0, 1, 0]);
    }

    #[test]
    fn canary_a_message_nobody_scheduled_is_reported() {
        assert_eq!(Tale::new().arrives("k", DUE, 1).counts(), [0, 0, 0, 0, 0, 0, 1]);
    }

    #[test]
    fn the_order_in_which_things_were_collected_does_not_matter() {
        let mut tale = Tale::new()
            .schedule("k", DUE, 1)
            .schedule("k", DUE, 2)
            .write("k", Write::Expired)
            .arrives("k", DUE, 2);
        tale.0.records.reverse();
        tale.0.records.push(tale.0.records[0].clone());
        tale.0.judge().assert_clean();
    }

    #[test]
    #[should_panic(expected = "one offset two records")]
    fn two_records_at_one_offset_are_no_history() {
        let mut tale = Tale::new().schedule("k", DUE, 1).schedule("k", DUE, 2);
        tale.0.records[1].offset = 0;
        tale.0.judge();
    }

    #[test]
    fn the_report_names_the_first_ten_and_counts_the_rest() {
        let tale = (0..12).fold(Tale::new(), |tale, i| tale.schedule(&format!("key-{i:02}"), DUE, i));
        let report = tale.0.judge().to_string();
        assert!(report.starts_with("0 messages right\n12 lost:\n"), "{report}");
        assert!(
            report.contains("s-0@3 key \"key-03\" due 1000, the newest of its key: never arrived"),
            "{report}"
        );
        assert!(report.ends_with("\n  … and 2 more"), "{report}");
        assert_eq!(report.lines().count(), 2 + 10 + 1);
    }

    #[test]
    fn payload_ids_tell_null_from_empty() {
        assert_ne!(payload_id(None), payload_id(Some(b"")));
        assert_ne!(payload_id(Some(b"a")), payload_id(Some(b"b")));
    }
}
