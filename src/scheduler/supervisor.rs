//! The owner of the shard threads: one for each partition that the consumer group hands this instance.

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::checkpoint::{StateDir, Store};
use crate::engine::PendingSet;
use crate::engine::shard::Shard;
use crate::kafka::clock::SystemClock;
use crate::kafka::group::{Group, GroupError, GroupLog, Members, Partition};
use crate::kafka::observer::Observer;
use crate::kafka::producer::ShardProducer;
use crate::kafka::{ClientConfig, KafkaError, Resume};

use super::checkpoints::{Checkpoints, Opened, resume_at};
use super::command;
use super::desk::{Desk, Lane};
use super::order::{Control, Order};
use super::runner::{Ended, Runner};
use super::settings::ShardSettings;
use super::status::Status;

/// What every shard is made of.
pub struct Blueprint {
    /// Settings by schedule topic.
    pub settings: HashMap<String, Arc<ShardSettings>>,
    /// The configuration of shard producers, without transactional ID.
    pub producer: ClientConfig,
    /// Prefix of transactional IDs.
    pub transactional_id_prefix: String,
    /// Asks what a read-committed consumer cannot know.
    pub observer: Arc<Observer>,
    /// Where shards publish what they do.
    pub status: Arc<Status>,
    /// Where shards are asked.
    pub desk: Arc<Desk>,
    /// Where checkpoints are kept, if anywhere.
    pub state: Option<StateDir>,
}

/// Runs the consumer group and its shards. Drive it from one thread.
pub struct Supervisor {
    group: Group<Shards>,
    reloads: Receiver<Reload>,
}

/// A partition whose shard cannot go on with what it loaded.
#[derive(Debug)]
pub struct Reload {
    /// The schedule topic.
    pub topic: String,
    /// The partition; `None` means every owned one of the topic.
    pub partition: Option<i32>,
    /// Why.
    pub reason: String,
}

/// Why an instance cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// It is out of the group for good.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The system has no thread for a partition.
    #[error(
        "cannot start a thread for {topic}-{partition}: {source}; each partition takes several: raise the limit of threads \
         (ulimit -u, TasksMax, pids.max), or start more instances, which share the partitions"
    )]
    Thread {
        /// The schedule topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// What the system says.
        source: std::io::Error,
    },
}

impl Supervisor {
    /// Joins the group that `consumer` names and subscribes to the schedule topics.
    pub fn start(consumer: &ClientConfig, blueprint: Blueprint) -> Result<Self, KafkaError> {
        let (reload_sender, reloads) = channel();
        let topics: Vec<String> = blueprint.settings.keys().cloned().collect();
        let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
        let observer = Arc::clone(&blueprint.observer);
        let shards = Shards {
            blueprint,
            opened: HashMap::new(),
            distrusted: HashSet::new(),
            running: HashMap::new(),
            reload_sender,
            failure: None,
        };
        Ok(Self { group: Group::join(consumer, &topics, observer, shards)?, reloads })
    }

    /// Where to ask for partitions to be loaded anew.
    #[must_use]
    pub fn reload_sender(&self) -> Sender<Reload> {
        self.group.members().reload_sender.clone()
    }

    /// Serves the group for a moment. Call it again and again, until it fails: then [`give_up`](Self::give_up).
    pub fn poll(&self) -> Result<(), SupervisorError> {
        if let Some((topic, partition)) = self.group.poll()? {
            let reason = "a record was delivered past its shard".to_owned();
            self.reload(&Reload { topic, partition: Some(partition), reason });
        }
        while let Ok(reload) = self.reloads.try_recv() {
            self.reload(&reload);
        }
        let failure = self.group.members().failure.take();
        failure.map_or(Ok(()), Err)
    }

    /// Ends all shards (each finishes what it has open), leaves the group.
    pub fn stop(self) {
        self.group.members().end(|_| true, Order::Drain);
        self.group.leave();
    }

    /// Ends all shards after a failure of [`poll`](Self::poll).
    pub fn give_up(self, failure: &SupervisorError) {
        match failure {
            SupervisorError::Thread { .. } => self.stop(),
            SupervisorError::Group(_) => {
                // Others have the partitions, or will.
                self.group.members().end(|_| true, Order::Drop);
                // A client that is finished cannot be closed in good order; the process ends, and its connections with it.
                std::mem::forget(self);
            }
        }
    }

    fn reload(&self, reload: &Reload) {
        let concerned = |(topic, partition): &Partition| {
            *topic == reload.topic && reload.partition.is_none_or(|only| only == *partition)
        };
        let ended = {
            let mut shards = self.group.members();
            let ended = shards.end(concerned, Order::Drop);
            // What made the shard unusable may be as wrong in what it kept.
            shards.distrusted.extend(ended.iter().cloned());
            ended
        };
        if !ended.is_empty() {
            tracing::warn!(partitions = ?names(&ended), "loading anew: {}", reload.reason);
            self.group.reassign(&ended);
        }
    }
}

struct Shards {
    blueprint: Blueprint,
    /// Checkpoints of partitions about to be assigned, and where they are kept.
    opened: HashMap<Partition, (Box<dyn Store>, Option<Opened>)>,
    /// Partitions that are to be loaded from the log alone, the next time.
    distrusted: HashSet<Partition>,
    running: HashMap<Partition, ShardThread>,
    reload_sender: Sender<Reload>,
    /// Said at the next poll: the group calls back from within one.
    failure: Option<SupervisorError>,
}

struct ShardThread {
    control: Arc<Control>,
    lane: Lane,
    thread: JoinHandle<()>,
}

impl Members for Shards {
    fn resume(&mut self, partition: &Partition) -> Option<Resume> {
        let (topic, number) = partition;
        let mut store = self.blueprint.state.as_ref()?.store(topic, *number);
        let is_distrusted = self.distrusted.remove(partition);
        let opened = (!is_distrusted).then(|| store.open()).flatten();
        let resume = opened.as_ref().map(|opened| resume_at(opened.stand()));
        self.opened.insert(partition.clone(), (store, opened));
        resume
    }

    fn assigned(&mut self, partitions: Vec<(Partition, GroupLog<Self>)>) {
        self.blueprint.status.set_joined(true);
        if !partitions.is_empty() {
            tracing::info!(partitions = ?names(partitions.iter().map(|(partition, _)| partition)), "taking partitions");
        }
        for (partition, log) in partitions {
            self.start(partition, log);
        }
    }

    fn revoked(&mut self, partitions: &[Partition], lost: bool) {
        // Lost: the group went on without this instance; the partition's next owner fences what is still open.
        let order = if lost { Order::Drop } else { Order::Drain };
        if lost {
            // Not one that stands by: it has to join again.
            self.blueprint.status.set_joined(false);
        }
        let ended = self.end(|partition| partitions.contains(partition), order);
        if !ended.is_empty() {
            tracing::info!(partitions = ?names(&ended), lost, "gave up partitions");
        }
    }
}

impl Shards {
    fn start(&mut self, (topic, partition): Partition, log: GroupLog<Self>) {
        let Some(settings) = self.blueprint.settings.get(&topic).cloned() else {
            tracing::error!(topic, partition, "assigned a topic that was not subscribed to");
            return;
        };
        let (checkpoints, hash_seed) = match self.opened.remove(&(topic.clone(), partition)) {
            Some((store, opened)) => {
                let kept_seed = opened.as_ref().map(|opened| opened.stand().hash_seed);
                let checkpoints = Checkpoints::new(store, opened);
                // In the order of the set it was taken from, which is that of a set with the same seed, it is put in fastest.
                (checkpoints, kept_seed.unwrap_or_else(random_seed))
            }
            None => (Checkpoints::default(), random_seed()),
        };
        let control = Arc::new(Control::default());
        let (sender, commands) = command::lane();
        let lane = Lane::new(sender, log.waker());
        let status = &self.blueprint.status;
        let (figures, counters) = (status.partition(&topic, partition), status.counters(&topic));
        let transactional_id = format!("{}:{topic}:{partition}", self.blueprint.transactional_id_prefix);
        let producer_config = self.blueprint.producer.clone();
        let reloads = self.reload_sender.clone();
        let body = {
            let (control, topic) = (Arc::clone(&control), topic.clone());
            move || {
                let _on_panic = OnPanic { reloads: reloads.clone(), topic: topic.clone(), partition };
                // The producer's callbacks run on the thread that uses it, so it is made here.
                let producer =
                    ShardProducer::new(producer_config, &topic, partition, transactional_id, settings.mode);
                let shard = Shard::new(PendingSet::new(hash_seed));
                let clock = SystemClock::new();
                let mut runner = Runner::new(
                    &topic,
                    partition,
                    shard,
                    log,
                    producer,
                    clock,
                    settings,
                    control,
                    figures,
                    counters,
                    commands,
                    checkpoints,
                );
                let ended = runner.run();
                discard(runner.into_shard());
                if let Ended::Reload(reason) = ended {
                    ask_to_reload(&reloads, topic, partition, reason);
                }
            }
        };
        match spawn(format!("{topic}-{partition}"), body) {
            Ok(thread) => {
                self.blueprint.desk.open(&topic, partition, lane.clone());
                self.running.insert((topic, partition), ShardThread { control, lane, thread });
            }
            Err(source) => {
                self.blueprint.status.release(&topic, partition);
                self.failure = Some(SupervisorError::Thread { topic, partition, source });
            }
        }
    }

    /// Ends the shards that `which` names; they and their threads are gone on return.
    fn end(&mut self, which: impl Fn(&Partition) -> bool, order: Order) -> Vec<Partition> {
        let ending: Vec<_> = self.running.extract_if(|partition, _| which(partition)).collect();
        for ((topic, partition), shard) in &ending {
            self.blueprint.desk.close(topic, *partition);
            shard.control.give(order);
            shard.lane.wake();
        }
        let mut ended = Vec::new();
        for (partition, shard) in ending {
            let (topic, number) = &partition;
            if shard.thread.join().is_err() {
                tracing::error!(topic, partition = number, "the shard's thread had died");
            }
            self.blueprint.status.release(topic, *number);
            ended.push(partition);
        }
        ended
    }
}

/// A shard's thread that dies must not leave its partition without one.
struct OnPanic {
    reloads: Sender<Reload>,
    topic: String,
    partition: i32,
}

impl Drop for OnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let reason = "the shard's thread died; please report the panic above".to_owned();
            ask_to_reload(&self.reloads, std::mem::take(&mut self.topic), self.partition, reason);
        }
    }
}

fn ask_to_reload(reloads: &Sender<Reload>, topic: String, partition: i32, reason: String) {
    if reloads.send(Reload { topic, partition: Some(partition), reason }).is_err() {
        tracing::debug!("nobody is left to load a partition anew: the process is ending");
    }
}

/// Unmapping the segments and freeing the tables of a large shard takes tenths of a second that the next owner need not
/// wait for.
fn discard(shard: Shard) {
    if let Err(error) = spawn("discard".to_owned(), move || drop(shard)) {
        tracing::debug!("a shard was freed on its own thread: {error}");
    }
}

#[allow(clippy::disallowed_methods, reason = "the one place that starts shard threads")]
fn spawn(name: String, body: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name).spawn(body)
}

fn names<'a>(partitions: impl IntoIterator<Item = &'a Partition>) -> Vec<String> {
    let mut partitions: Vec<_> = partitions.into_iter().collect();
    partitions.sort_unstable();
    partitions.into_iter().map(|(topic, partition)| format!("{topic}-{partition}")).collect()
}

/// IDs are user input: the hash of the index must not be predictable.
#[allow(clippy::disallowed_types, reason = "randomness for a seed, outside the engine")]
pub(super) fn random_seed() -> u64 {
    std::hash::RandomState::new().hash_one(0u8)
}
