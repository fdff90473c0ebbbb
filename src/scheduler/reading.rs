//! A partition read to its end, apart from any consumer group: nothing is delivered and nothing written.

use std::sync::Arc;
use std::time::Duration;

use crate::config::Settings;
use crate::engine::shard::Shard;
use crate::engine::{ListCursor, PendingSet};
use crate::kafka::client::{self, Isolation};
use crate::kafka::clock::SystemClock;
use crate::kafka::log::PartitionLog;
use crate::kafka::observer::{Observer, TopicIds};
use crate::kafka::{ClientConfig, Clock, Log, LogError, LogItem};
use crate::schedule::Format;

use super::command::FoundSchedule;
use super::record::{Applier, Now, Rejection};
use super::status::TopicCounters;

const WAIT: Duration = Duration::from_millis(250);
const ASK: Duration = Duration::from_secs(10);
/// A log that yields nothing for this long is held back by an open transaction.
const PATIENCE_MS: u64 = 30_000;
const LIST_BUDGET: usize = 10_000;

/// Reads schedule topics.
pub struct Reading {
    observer: Arc<Observer>,
    reader: ClientConfig,
}

/// What a partition has.
pub struct Content {
    pub(super) shard: Shard,
    pub(super) records: i64,
    pub(super) rejected: u64,
    pub(super) examples: Vec<Rejection>,
    /// Where reading ended before the end, and where that is: another producer's transaction is open there.
    pub held_back: Option<(i64, i64)>,
}

impl Reading {
    /// A reader of the brokers of these settings.
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        let observer =
            Observer::new(&client::reader(settings, Isolation::ReadUncommitted)?, TopicIds::Known)?;
        Ok(Self { observer, reader: client::reader(settings, Isolation::ReadCommitted)? })
    }

    /// How many partitions a topic has; `None`: it does not exist.
    pub fn partition_count(&self, topic: &str) -> anyhow::Result<Option<i32>> {
        Ok(self.observer.partition_count(topic, ASK)?.map(|count| count as i32))
    }

    /// Reads a partition to where it ends now.
    pub fn read(&self, topic: &str, partition: i32, format: Format) -> anyhow::Result<Content> {
        let mut log = PartitionLog::alone(&self.reader, Arc::clone(&self.observer), topic, partition)?;
        let clock = SystemClock::new();
        let mut shard = Shard::new(PendingSet::new(0));
        let mut applier = Applier::new(topic, partition, format, None);
        applier.identify(&log.topic_id(ASK)?);
        let counters = TopicCounters::default();
        let target = log.watermarks(ASK)?.high;
        let mut moved_ms = clock.monotonic_ms();
        let (mut records, mut held_back) = (0, None);
        while shard.applied() < target {
            let before = shard.applied();
            let outcome = log.read(WAIT, usize::MAX, &mut |item| match item {
                LogItem::End(offset) => shard.reached(offset),
                LogItem::Known(offset) => shard.reached(offset + 1), // which nothing is, here
                LogItem::Ahead(keys) => shard.warm(keys),
                LogItem::Record(record) => {
                    records += 1;
                    let now = Now { wall_ms: clock.now_ms(), monotonic_ms: clock.monotonic_ms() };
                    applier.apply(&record, &mut shard, &counters, now);
                }
            });
            if let Err(error @ LogError::OutOfRange(_)) = outcome {
                anyhow::bail!("{topic}-{partition}: {error}");
            }
            shard.reached(log.position());
            if shard.applied() != before {
                moved_ms = clock.monotonic_ms();
            } else if clock.monotonic_ms() > moved_ms + PATIENCE_MS {
                held_back = Some((before, target));
                break;
            }
        }
        let examples = applier.examples().to_vec();
        Ok(Content { shard, records, rejected: counters.rejected.get(), examples, held_back })
    }
}

impl Content {
    /// How many schedules are pending.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.shard.pending().len()
    }

    /// The schedule of an ID, if it is pending.
    #[must_use]
    pub fn find(&self, id: &[u8]) -> Option<FoundSchedule> {
        self.shard.pending().get(id).map(|(_, view)| FoundSchedule::of(&view))
    }

    /// Gives every pending schedule, in no order that means anything, until `f` returns false.
    pub fn each(&self, mut f: impl FnMut(FoundSchedule) -> bool) {
        let (mut cursor, mut goes_on) = (Some(ListCursor::default()), true);
        while goes_on && let Some(at) = cursor {
            cursor = self.shard.pending().list(at, LIST_BUDGET, &mut |view| {
                goes_on = goes_on && f(FoundSchedule::of(&view));
                goes_on
            });
        }
    }
}
