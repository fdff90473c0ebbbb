//! What this instance is doing, published by the shard threads and read by health checks and metrics.
//!
//! Architecture invariant: the shards never wait for a reader. They hold an [`Arc`] of their figures and write plain
//! atomics; the locks here guard only the lists of who publishes, which change at a rebalance.

mod atomics;
mod partition;
mod topic;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

pub use atomics::{Counter, Counters, Gauge, Histogram, Label};
pub use partition::{DueWindow, PartitionStatus, Phase};
pub use topic::{CheckpointOutcome, RecordError, SetAsideReason, TopicCounters, TransactionOutcome};

/// Topic and partition number.
type PartitionName = (Arc<str>, i32);

/// The figures of this instance. Share it in an [`Arc`].
#[derive(Debug, Default)]
pub struct Status {
    joined: AtomicBool,
    partitions: RwLock<BTreeMap<PartitionName, Arc<PartitionStatus>>>,
    topics: RwLock<BTreeMap<Arc<str>, Arc<TopicCounters>>>,
}

impl Status {
    /// Nothing owned, nothing counted, group not joined.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Registers a partition that was just taken and returns its fresh figures.
    pub fn partition(&self, topic: &str, partition: i32) -> Arc<PartitionStatus> {
        let figures = Arc::new(PartitionStatus::new());
        write(&self.partitions).insert((topic.into(), partition), Arc::clone(&figures));
        figures
    }

    /// Forgets a partition that was given up. Call it before the same partition is registered again.
    pub fn release(&self, topic: &str, partition: i32) {
        write(&self.partitions).remove(&(Arc::from(topic), partition));
    }

    /// The counters of a schedule topic: the same ones for as long as the process lives.
    pub fn counters(&self, topic: &str) -> Arc<TopicCounters> {
        if let Some(counters) = read(&self.topics).get(topic) {
            return Arc::clone(counters);
        }
        Arc::clone(write(&self.topics).entry(topic.into()).or_default())
    }

    /// Says whether this instance is in the consumer group: an assignment was received, maybe an empty one, and not lost
    /// since.
    pub fn set_joined(&self, joined: bool) {
        self.joined.store(joined, Relaxed);
    }

    /// Whether this instance is in the consumer group.
    #[must_use]
    pub fn joined(&self) -> bool {
        self.joined.load(Relaxed)
    }

    /// Whether the group has been joined and every owned partition is live.
    ///
    /// An instance that owns nothing is ready: it stands by.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.joined() && read(&self.partitions).values().all(|partition| partition.phase() == Phase::Live)
    }

    /// The owned partitions, by topic and number.
    #[must_use]
    pub fn partitions(&self) -> Vec<(Arc<str>, i32, Arc<PartitionStatus>)> {
        let partitions = read(&self.partitions);
        partitions
            .iter()
            .map(|((topic, number), figures)| (Arc::clone(topic), *number, Arc::clone(figures)))
            .collect()
    }

    /// The schedule topics counted so far, by name.
    #[must_use]
    pub fn topics(&self) -> Vec<(Arc<str>, Arc<TopicCounters>)> {
        read(&self.topics).iter().map(|(topic, counters)| (Arc::clone(topic), Arc::clone(counters))).collect()
    }
}

/// The lists stay whole even if a thread died while it held the lock: each change is one insert or remove.
fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "tests wait and start threads")]
    use super::*;
    use std::time::Duration;

    #[test]
    fn ready_takes_the_group_and_every_owned_partition() {
        let status = Status::new();
        assert!(!status.ready(), "not joined yet");
        status.set_joined(true);
        assert!(status.ready(), "an instance without partitions stands by");

        let (first, second) = (status.partition("s", 0), status.partition("s", 1));
        first.set_phase(Phase::Live);
        assert!(!status.ready(), "the second is still fencing");
        second.set_phase(Phase::Live);
        assert!(status.ready());
        second.set_phase(Phase::Waiting);
        assert!(!status.ready());
        status.release("s", 1);
        assert!(status.ready(), "what is not owned does not count");
    }

    #[test]
    fn counters_survive_a_partition_given_up_and_taken_again() {
        let status = Status::new();
        status.partition("s", 0).pending.set(5);
        status.counters("s").fired.add(3);
        status.release("s", 0);
        assert!(status.partitions().is_empty());
        assert_eq!(status.partition("s", 0).pending.get(), 0, "a shard starts anew");
        assert_eq!(status.counters("s").fired.get(), 3);
    }

    #[test]
    fn going_live_forgets_why_it_was_not() {
        let status = Status::new();
        let partition = status.partition("s", 0);
        partition.set_phase(Phase::Waiting);
        partition.set_reason("fenced by another instance");
        assert_eq!(partition.reason().as_deref(), Some("fenced by another instance"));
        partition.set_phase(Phase::Live);
        assert_eq!(partition.reason(), None);
    }

    #[test]
    fn a_beat_makes_the_heartbeat_young() {
        let status = Status::new();
        let partition = status.partition("s", 0);
        while partition.heartbeat_age() < Duration::from_millis(200) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let before = partition.heartbeat_age();
        partition.beat();
        assert!(partition.heartbeat_age() < before);
    }

    #[test]
    fn lag_is_never_negative() {
        let status = Status::new();
        let partition = status.partition("s", 0);
        partition.last_stable_offset.set(10);
        partition.position.set(4);
        assert_eq!(partition.lag(), 6);
        partition.position.set(12);
        assert_eq!(partition.lag(), 0);
    }
}
