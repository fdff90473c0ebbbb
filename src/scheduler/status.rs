//! What this instance is doing, published by the shard threads and read by health checks and metrics.
//!
//! Architecture invariant: the shards never wait for a reader. They hold an [`Arc`] of their figures and write plain
//! atomics; the locks here guard only the lists of who publishes, which change at a rebalance.

mod atomics;
mod bounds;
mod partition;
mod topic;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

pub(super) use atomics::labels;
pub use atomics::{Counter, Counters, Gauge, Histogram, Label};
pub use bounds::Bound;
use bounds::{Bytes, Crossing};
pub use partition::{DueWindow, PartitionStatus, Phase};
pub use topic::{CheckpointOutcome, RecordError, SetAsideReason, TopicCounters, TransactionOutcome};

/// Topic and partition number.
type PartitionName = (Arc<str>, i32);

/// The figures of this instance. Share it in an [`Arc`].
#[derive(Debug)]
pub struct Status {
    joined: AtomicBool,
    partitions: RwLock<BTreeMap<PartitionName, Arc<PartitionStatus>>>,
    topics: RwLock<BTreeMap<Arc<str>, Arc<TopicCounters>>>,
    /// On [`pending_bytes`](Self::pending_bytes).
    pub pending_bytes_bound: Bound,
    /// On [`owned`](Self::owned).
    pub owned_bound: Bound,
}

/// Once exceeded, the bound on memory is within reach again only well below: what is pending comes and goes all the time.
const PENDING_BYTES_SLACK_PERCENT: u64 = 5;

const NOT_JOINED: &str = "the consumer group has not given this instance any answer yet, or went on without it: no broker is reached, \
                          a schedule topic is missing, or the group is just being balanced; the log says which";

/// What there is to say about a bound that was crossed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Crossed {
    /// It is exceeded now.
    Exceeded(String),
    /// What is held is within it again.
    Within(String),
}

impl Default for Status {
    fn default() -> Self {
        Self {
            joined: AtomicBool::default(),
            partitions: RwLock::default(),
            topics: RwLock::default(),
            pending_bytes_bound: Bound::with_slack(PENDING_BYTES_SLACK_PERCENT),
            owned_bound: Bound::with_slack(0),
        }
    }
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

    /// Whether the group has been joined, every owned partition is live, and no bound is exceeded.
    ///
    /// An instance that owns nothing is ready: it stands by.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.joined()
            && !self.pending_bytes_bound.is_exceeded()
            && !self.owned_bound.is_exceeded()
            && read(&self.partitions).values().all(|partition| partition.phase() == Phase::Live)
    }

    /// Sets the bounds beyond which this instance is not ready.
    pub fn set_bounds(&self, pending_bytes: Option<u64>, owned: Option<u64>) {
        self.pending_bytes_bound.set(pending_bytes);
        self.owned_bound.set(owned);
    }

    /// Bytes of all that is pending, and of the structures that find it, as the shards last published them.
    #[must_use]
    pub fn pending_bytes(&self) -> u64 {
        let bytes = |figures: &PartitionStatus| figures.payload_bytes.get() + figures.structure_bytes.get();
        read(&self.partitions).values().map(|figures| bytes(figures).max(0) as u64).sum()
    }

    /// How many partitions are owned.
    #[must_use]
    pub fn owned(&self) -> u64 {
        read(&self.partitions).len() as u64
    }

    /// Compares what is held with the bounds; gives what there is to say where one was crossed. To be called again and
    /// again, by one thread.
    pub fn look_at_bounds(&self) -> Vec<Crossed> {
        let mut crossed = Vec::new();
        let (bytes, owned) = (self.pending_bytes(), self.owned());
        match self.pending_bytes_bound.look(bytes) {
            Some(Crossing::Exceeded) => crossed.extend(self.too_many_bytes().map(Crossed::Exceeded)),
            Some(Crossing::Within) => crossed.push(Crossed::Within(format!(
                "what is pending takes {}, well within memory.max_pending_bytes again",
                Bytes(bytes)
            ))),
            None => {}
        }
        match self.owned_bound.look(owned) {
            Some(Crossing::Exceeded) => crossed.extend(self.too_many_partitions().map(Crossed::Exceeded)),
            Some(Crossing::Within) => crossed.push(Crossed::Within(format!(
                "{owned} partitions are owned, within partitions.max_owned again"
            ))),
            None => {}
        }
        crossed
    }

    /// Which bounds are exceeded, for people: what is held, what may be, what to do.
    #[must_use]
    pub fn excesses(&self) -> Vec<String> {
        self.too_many_bytes().into_iter().chain(self.too_many_partitions()).collect()
    }

    /// Why this instance is not ready, for people, apart from partitions that are not live: see their own
    /// [`reason`](PartitionStatus::reason).
    #[must_use]
    pub fn reasons(&self) -> Vec<String> {
        let mut reasons = self.excesses();
        if !self.joined() {
            reasons.push(NOT_JOINED.to_owned());
        }
        reasons
    }

    fn too_many_bytes(&self) -> Option<String> {
        let bound = self.pending_bytes_bound.limit().filter(|_| self.pending_bytes_bound.is_exceeded())?;
        Some(format!(
            "what is pending takes {}, and memory.max_pending_bytes is {}; it is read and fired all the same: start more \
             instances, give this one more memory and raise the bound, or cancel schedules",
            Bytes(self.pending_bytes()),
            Bytes(bound)
        ))
    }

    fn too_many_partitions(&self) -> Option<String> {
        let bound = self.owned_bound.limit().filter(|_| self.owned_bound.is_exceeded())?;
        Some(format!(
            "{} partitions are owned, and partitions.max_owned is {bound}; all of them are served: start more instances, or \
             raise the bound",
            self.owned()
        ))
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

    /// The figures of an owned partition.
    #[must_use]
    pub fn partition_of(&self, topic: &str, partition: i32) -> Option<Arc<PartitionStatus>> {
        read(&self.partitions).get(&(Arc::from(topic), partition)).cloned()
    }

    /// The schedule topics counted so far, by name.
    #[must_use]
    pub fn topics(&self) -> Vec<(Arc<str>, Arc<TopicCounters>)> {
        read(&self.topics).iter().map(|(topic, counters)| (Arc::clone(topic), Arc::clone(counters))).collect()
    }
}

/// The lists stay whole even if a thread died while it held the lock: each change is one insert or remove.
pub(super) fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
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
    fn more_pending_than_the_bound_is_not_ready_until_well_below() {
        let status = Status::new();
        status.set_joined(true);
        status.set_bounds(Some(100 << 20), None);
        let (first, second) = (status.partition("s", 0), status.partition("s", 1));
        for partition in [&first, &second] {
            partition.set_phase(Phase::Live);
            partition.payload_bytes.set(30 << 20);
            partition.structure_bytes.set(20 << 20);
        }
        assert_eq!((status.look_at_bounds(), status.ready()), (Vec::new(), true), "just within");

        second.structure_bytes.set(21 << 20);
        let crossed = status.look_at_bounds();
        assert!(
            matches!(&crossed[..], [Crossed::Exceeded(why)] if why.contains("takes 101.0 MiB") && why.contains("is 100.0 MiB")),
            "{crossed:?}"
        );
        assert!(!status.ready());
        assert_eq!(status.look_at_bounds(), [], "said once");
        assert_eq!(status.excesses().len(), 1);

        second.structure_bytes.set(16 << 20);
        assert_eq!((status.look_at_bounds(), status.ready()), (Vec::new(), false), "96 % is not well below");
        status.release("s", 1);
        assert!(matches!(&status.look_at_bounds()[..], [Crossed::Within(_)]));
        assert!(status.ready() && status.excesses().is_empty());
    }

    #[test]
    fn more_partitions_than_the_bound_are_not_ready() {
        let status = Status::new();
        status.set_joined(true);
        status.set_bounds(None, Some(2));
        for number in 0..3 {
            status.partition("s", number).set_phase(Phase::Live);
        }
        let crossed = status.look_at_bounds();
        assert!(
            matches!(&crossed[..], [Crossed::Exceeded(why)] if why.contains("3 partitions") && why.contains("is 2")),
            "{crossed:?}"
        );
        assert!(!status.ready());
        status.release("s", 0);
        assert!(matches!(&status.look_at_bounds()[..], [Crossed::Within(_)]));
        assert!(status.ready());
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
