//! What a shard needs to know of the settings, in the units it counts in.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::{Delivery, Settings};
use crate::kafka::client;
use crate::kafka::producer::Mode;
use crate::schedule::Format;

/// The settings of one shard.
#[derive(Clone, Debug)]
pub struct ShardSettings {
    /// How the topic's records are encoded.
    pub format: Format,
    /// Whether writes are transactions.
    pub mode: Mode,
    /// Schedules in a transaction, at most.
    pub max_count: usize,
    /// Bytes written to the shard's own partition in a transaction, at most: they must fit one record batch.
    pub max_own_bytes: usize,
    /// Bytes of a record, at most: what the producer refuses fails the transaction.
    pub max_record_bytes: usize,
    /// Bytes of messages in a transaction, at most (a single larger message goes alone).
    pub max_message_bytes: usize,
    /// How long a due schedule may wait for others.
    pub max_wait: Duration,
    /// After this the broker ends a transaction whose owner went silent.
    pub transaction_timeout: Duration,
    /// The first retry of a schedule that was set aside comes after this, each further one after twice as long…
    pub retry_initial: Duration,
    /// …but never longer than this.
    pub retry_max: Duration,
    /// Between two checkpoints at least.
    pub checkpoint_interval: Duration,
    /// No checkpoint is worth its writing before the log has grown by so many offsets since the last.
    pub checkpoint_after: i64,
    /// Whether messages tell where they come from, in headers of their own.
    pub output_headers: bool,
    /// The settings as a whole, which say what destinations are allowed.
    pub all: Arc<Settings>,
    /// Schedules due before this (epoch milliseconds) are removed, not delivered.
    pub skip_overdue_before_ms: Option<i64>,
    /// What the cluster last said of the topic.
    pub facts: Arc<TopicFacts>,
}

impl ShardSettings {
    /// The settings of the shards of one topic.
    #[must_use]
    pub fn new(
        all: &Arc<Settings>,
        format: Format,
        skip_overdue_before_ms: Option<i64>,
        facts: &Arc<TopicFacts>,
    ) -> Self {
        Self {
            format,
            mode: match all.delivery {
                Delivery::ExactlyOnce => Mode::Transactional,
                Delivery::AtLeastOnce => Mode::Plain,
            },
            max_count: all.batch.max_count,
            max_own_bytes: all.batch.max_own_bytes,
            max_record_bytes: client::max_record_bytes(all),
            max_message_bytes: all.batch.max_message_bytes,
            max_wait: all.batch.max_wait,
            transaction_timeout: all.transaction.timeout,
            retry_initial: all.retry.initial,
            retry_max: all.retry.max,
            checkpoint_after: all.state.checkpoint_after.into(),
            checkpoint_interval: all.state.checkpoint_interval,
            output_headers: all.output.headers,
            all: Arc::clone(all),
            skip_overdue_before_ms,
            facts: Arc::clone(facts),
        }
    }
}

impl ShardSettings {
    /// How long to wait before the next attempt, after so many: twice as long each time.
    pub(super) fn retry_delay(&self, attempts: u32) -> Duration {
        let factor = 1u32 << attempts.saturating_sub(1).min(16);
        self.retry_initial.saturating_mul(factor).min(self.retry_max)
    }
}

/// What the cluster last said of a schedule topic.
#[derive(Debug, Default)]
pub struct TopicFacts {
    tombstone_retention_ms: AtomicU64,
    /// When that was asked for, monotonic.
    retention_asked_ms: AtomicU64,
    retention_wanted: AtomicBool,
    identity: Mutex<Option<Identity>>,
}

#[derive(Debug)]
struct Identity {
    id: String,
    asked_ms: u64,
}

impl TopicFacts {
    /// The topic kept tombstones for so long when asked at `asked_ms` (monotonic), or later.
    pub fn set_tombstone_retention(&self, retention: Duration, asked_ms: u64) {
        self.tombstone_retention_ms.store(retention.as_millis() as u64, Ordering::Relaxed);
        self.retention_asked_ms.store(asked_ms, Ordering::Release);
    }

    /// [`tombstone_retention`](Self::tombstone_retention) as it was at `since_ms` or later. Otherwise it is asked for soon.
    pub(super) fn tombstone_retention_since(&self, since_ms: u64) -> Option<Duration> {
        if self.retention_asked_ms.load(Ordering::Acquire) >= since_ms {
            return self.tombstone_retention();
        }
        self.retention_wanted.store(true, Ordering::Relaxed);
        None
    }

    /// Whether somebody wants to know anew how long the topic keeps tombstones.
    pub(super) fn take_retention_wanted(&self) -> bool {
        self.retention_wanted.swap(false, Ordering::Relaxed)
    }

    /// The topic's `delete.retention.ms`: a load that takes longer is not to be trusted. `None` while it is not known.
    #[must_use]
    pub fn tombstone_retention(&self) -> Option<Duration> {
        match self.tombstone_retention_ms.load(Ordering::Relaxed) {
            0 => None,
            ms => Some(Duration::from_millis(ms)),
        }
    }

    /// The topic had this ID when asked at `asked_ms` (monotonic, see [`Clock`](crate::kafka::Clock)), or later.
    pub fn set_id(&self, id: &str, asked_ms: u64) {
        *self.identity() = Some(Identity { id: id.to_owned(), asked_ms });
    }

    /// Whether the topic still had this ID at `since_ms`.
    #[must_use]
    pub fn had_id_at(&self, id: &str, since_ms: u64) -> bool {
        self.identity().as_ref().is_some_and(|known| known.id == id && known.asked_ms >= since_ms)
    }

    fn identity(&self) -> MutexGuard<'_, Option<Identity>> {
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
