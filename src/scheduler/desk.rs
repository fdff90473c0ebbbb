//! Where whoever is not a shard asks shards, by topic and partition.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::oneshot;

use crate::kafka::Clock as _;
use crate::kafka::clock::SystemClock;
use crate::kafka::log::Waker;
use crate::kafka::observer::Observer;

use super::command::{Action, Answer, Command, CommandSender, NotTaken};
use super::status::{read, write};

/// The lanes of the partitions that this instance owns, and how many partitions there are. Share it in an [`Arc`].
pub struct Desk {
    lanes: RwLock<BTreeMap<(String, i32), Open>>,
    observer: Arc<Observer>,
    clock: SystemClock,
    /// Partitions by topic, and until when that counts (monotonic milliseconds).
    counts: Mutex<HashMap<String, (u64, i32)>>,
}

/// Where commands for a shard are put.
#[derive(Clone)]
pub struct Lane {
    sender: CommandSender,
    waker: Waker,
}

struct Open {
    lane: Lane,
    /// Unlike that of any other time the partition was owned.
    term: u64,
}

/// Topics gain partitions now and then.
const COUNT_KNOWN_FOR_MS: u64 = 10_000;
/// How long the cluster may take to say how many there are.
const ASK: Duration = Duration::from_secs(5);

impl Lane {
    /// A lane whose shard `waker` wakes.
    #[must_use]
    pub fn new(sender: CommandSender, waker: Waker) -> Self {
        Self { sender, waker }
    }

    /// Hands a command over.
    pub fn submit(&self, command: Command) -> Result<(), NotTaken> {
        let taken = self.sender.send(command);
        self.wake();
        taken
    }

    /// Makes the shard look up.
    pub(super) fn wake(&self) {
        self.waker.wake();
    }
}

impl Desk {
    /// A desk without any partition.
    #[must_use]
    pub fn new(observer: Arc<Observer>) -> Self {
        let (lanes, counts) = (RwLock::default(), Mutex::default());
        Self { lanes, observer, clock: SystemClock::new(), counts }
    }

    /// A partition was taken.
    pub(super) fn open(&self, topic: &str, partition: i32, lane: Lane) {
        let open = Open { lane, term: super::supervisor::random_seed() };
        write(&self.lanes).insert((topic.to_owned(), partition), open);
    }

    /// A partition is given up.
    pub(super) fn close(&self, topic: &str, partition: i32) {
        write(&self.lanes).remove(&(topic.to_owned(), partition));
    }

    /// The lane of a partition; `None` when this instance does not own it.
    #[must_use]
    pub fn lane(&self, topic: &str, partition: i32) -> Option<Lane> {
        self.with(topic, partition, |open| open.lane.clone())
    }

    /// What tells this time of owning a partition from any other: the order of its schedules is another each time.
    #[must_use]
    pub fn term(&self, topic: &str, partition: i32) -> Option<u64> {
        self.with(topic, partition, |open| open.term)
    }

    /// The partitions of a topic that this instance owns.
    #[must_use]
    pub fn owned(&self, topic: &str) -> Vec<i32> {
        let lanes = read(&self.lanes);
        lanes.keys().filter(|(owned, _)| owned == topic).map(|(_, partition)| *partition).collect()
    }

    /// Asks the shard of a partition, which is not to begin with it after `patience`. The channel is closed without an answer
    /// if the shard ended before it was decided.
    pub fn ask(
        &self,
        topic: &str,
        partition: i32,
        id: Vec<u8>,
        action: Action,
        patience: Duration,
    ) -> Result<oneshot::Receiver<Answer>, NotTaken> {
        let lane = self.lane(topic, partition).ok_or(NotTaken::Ended)?;
        let (sender, answer) = oneshot::channel();
        let deadline_ms = self.clock.monotonic_ms() + patience.as_millis() as u64;
        lane.submit(Command { id, action, deadline_ms, answer: sender })?;
        Ok(answer)
    }

    /// The wall clock, by which schedules are due: epoch milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    /// How many partitions a topic has. Blocks while the cluster is asked, which it is now and then.
    pub fn partition_count(&self, topic: &str) -> Result<i32, String> {
        let now_ms = self.clock.monotonic_ms();
        let known = self.counts().get(topic).copied();
        if let Some((_, count)) = known.filter(|(until_ms, _)| now_ms < *until_ms) {
            return Ok(count);
        }
        let count = match self.observer.partition_count(topic, ASK) {
            Ok(Some(count)) => count as i32,
            Ok(None) => return Err(format!("the topic {topic} does not exist")),
            Err(error) => return Err(error.to_string()),
        };
        self.counts().insert(topic.to_owned(), (now_ms + COUNT_KNOWN_FOR_MS, count));
        Ok(count)
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<String, (u64, i32)>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<R>(&self, topic: &str, partition: i32, f: impl FnOnce(&Open) -> R) -> Option<R> {
        read(&self.lanes).get(&(topic.to_owned(), partition)).map(f)
    }
}
