//! What happened on a schedule topic since this process started.
//!
//! Counted by topic, not by partition: a partition moves to another instance, and a counter that vanished with it
//! would make every rate computed from it wrong.

use super::atomics::{Counter, Counters, Histogram, labels};

labels! {
    /// Why a record of a schedule topic could not be taken as a schedule; the names that existing dashboards know.
    RecordError {
        /// The bytes are not the Avro schema.
        InvalidAvro = "invalid-avro",
        /// The bytes are not JSON at all.
        NotJson = "not-json",
        /// JSON, but not a schedule.
        InvalidJson = "invalid-json",
        /// Any other failure to decode; there is none today, but dashboards know the name.
        Decode = "decode",
        /// The record has a null key, so it has no schedule ID.
        Transformation = "transformation",
    }
}

labels! {
    /// How a transaction of a shard ended.
    TransactionOutcome {
        /// Everything in it became visible.
        Committed = "committed",
        /// Given up on purpose (a race was noticed, a record was refused); nothing became visible.
        Aborted = "aborted",
        /// A fatal error: the producer was replaced and the log asked for the outcome.
        Failed = "failed",
        /// Another instance has taken the partition.
        Fenced = "fenced",
    }
}

labels! {
    /// Why a due schedule could not be delivered and waits by itself for its next attempt.
    SetAsideReason {
        /// The destination topic does not exist.
        UnknownTopic = "unknown-topic",
        /// This client may not write to the destination.
        NotAuthorized = "not-authorized",
        /// The broker or the client refuses messages of that size.
        TooLarge = "too-large",
        /// The destination is not a legal topic name.
        IllegalName = "illegal-name",
        /// The destination exists and did not answer, while others did.
        NoAnswer = "no-answer",
        /// `destinations.allow` and `destinations.deny` refuse the destination.
        Denied = "denied",
        /// Any other refusal of this one message.
        Other = "other",
    }
}

labels! {
    /// What became of a checkpoint.
    CheckpointOutcome {
        /// It is on disk.
        Written = "written",
        /// It could not be written.
        Failed = "failed",
        /// A shard began with it.
        Restored = "restored",
    }
}

/// The counters of one schedule topic. Written by every shard of the topic, read by metrics.
#[derive(Debug)]
pub struct TopicCounters {
    /// Records that held a schedule.
    pub updates: Counter,
    /// Null values that say a schedule was fired.
    pub deletes_expired: Counter,
    /// Null values that cancel a schedule.
    pub deletes_canceled: Counter,
    /// Records that held neither.
    pub errors: Counters<RecordError>,
    /// Schedules put into the pending set, replacements too.
    pub stored: Counter,
    /// Schedules taken out of the pending set.
    pub removed: Counter,
    /// Deletes that found a pending schedule.
    pub delete_hits: Counter,
    /// Deletes that found none.
    pub delete_misses: Counter,
    /// Schedules delivered.
    pub fired: Counter,
    /// Schedules cancelled while pending.
    pub cancelled: Counter,
    /// Schedules replaced while pending.
    pub replaced: Counter,
    /// Records rejected.
    pub rejected: Counter,
    /// Updates that raced with a firing and were written again (at-least-once only).
    pub repaired: Counter,
    /// Overdue schedules removed without delivery, as asked for by `--skip-overdue-before`.
    pub skipped: Counter,
    /// Transactions by how they ended.
    pub transactions: Counters<TransactionOutcome>,
    /// Times a shard took its partition over (`init_transactions`).
    pub fences: Counter,
    /// Checkpoints by what became of them.
    pub checkpoints: Counters<CheckpointOutcome>,
    /// Times a due schedule was set aside.
    pub set_aside: Counters<SetAsideReason>,
    /// Milliseconds from due to delivered.
    pub lateness_ms: Histogram,
    /// Schedules a transaction.
    pub batch_size: Histogram,
    /// Microseconds from begin to committed.
    pub transaction_us: Histogram,
}

impl TopicCounters {
    /// The bounds of [`lateness_ms`](Self::lateness_ms).
    #[must_use]
    pub fn lateness_bounds_ms() -> &'static [u64] {
        LATENESS_BOUNDS_MS
    }
}

const LATENESS_BOUNDS_MS: &[u64] =
    &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 60_000, 600_000, 3_600_000];
const BATCH_BOUNDS: &[u64] =
    &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000];
const TRANSACTION_BOUNDS_US: &[u64] = &[
    1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000,
    10_000_000, 30_000_000,
];

impl Default for TopicCounters {
    fn default() -> Self {
        Self {
            updates: Counter::default(),
            deletes_expired: Counter::default(),
            deletes_canceled: Counter::default(),
            errors: Counters::default(),
            stored: Counter::default(),
            removed: Counter::default(),
            delete_hits: Counter::default(),
            delete_misses: Counter::default(),
            fired: Counter::default(),
            cancelled: Counter::default(),
            replaced: Counter::default(),
            rejected: Counter::default(),
            repaired: Counter::default(),
            skipped: Counter::default(),
            transactions: Counters::default(),
            fences: Counter::default(),
            checkpoints: Counters::default(),
            set_aside: Counters::default(),
            lateness_ms: Histogram::new(LATENESS_BOUNDS_MS, 1_000),
            batch_size: Histogram::new(BATCH_BOUNDS, 1),
            transaction_us: Histogram::new(TRANSACTION_BOUNDS_US, 1_000_000),
        }
    }
}
