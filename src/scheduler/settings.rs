//! What a shard needs to know of the settings, in the units it counts in.

use std::time::Duration;

use crate::config::Destinations;
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
    /// Which destinations are allowed.
    pub destinations: Destinations,
    /// Schedules due before this (epoch milliseconds) are removed, not delivered.
    pub skip_overdue_before_ms: Option<i64>,
    /// The topic's `delete.retention.ms`: a load that takes longer is not to be trusted.
    pub longest_load: Option<Duration>,
}
