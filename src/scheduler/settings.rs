//! What a shard needs to know of the settings, in the units it counts in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::config::{Delivery, Settings};
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
    /// Whether messages tell where they come from, in headers of their own.
    pub output_headers: bool,
    /// The settings as a whole, which say what destinations are allowed.
    pub all: Arc<Settings>,
    /// Schedules due before this (epoch milliseconds) are removed, not delivered.
    pub skip_overdue_before_ms: Option<i64>,
    /// The topic's `delete.retention.ms`: a load that takes longer is not to be trusted.
    pub tombstone_retention: Arc<TombstoneRetention>,
}

impl ShardSettings {
    /// The settings of the shards of one topic.
    #[must_use]
    pub fn new(
        all: &Arc<Settings>,
        format: Format,
        skip_overdue_before_ms: Option<i64>,
        tombstone_retention: &Arc<TombstoneRetention>,
    ) -> Self {
        Self {
            format,
            mode: match all.delivery {
                Delivery::ExactlyOnce => Mode::Transactional,
                Delivery::AtLeastOnce => Mode::Plain,
            },
            max_count: all.batch.max_count,
            max_own_bytes: all.batch.max_own_bytes,
            max_message_bytes: all.batch.max_message_bytes,
            max_wait: all.batch.max_wait,
            transaction_timeout: all.transaction.timeout,
            retry_initial: all.retry.initial,
            retry_max: all.retry.max,
            output_headers: all.output.headers,
            all: Arc::clone(all),
            skip_overdue_before_ms,
            tombstone_retention: Arc::clone(tombstone_retention),
        }
    }
}

/// How long a topic keeps tombstones, as last heard from the cluster.
#[derive(Debug, Default)]
pub struct TombstoneRetention(AtomicU64);

impl TombstoneRetention {
    /// The cluster said so.
    pub fn set(&self, retention: Duration) {
        self.0.store(retention.as_millis() as u64, Ordering::Relaxed);
    }

    /// `None` while it is not known.
    #[must_use]
    pub fn get(&self) -> Option<Duration> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            ms => Some(Duration::from_millis(ms)),
        }
    }
}
