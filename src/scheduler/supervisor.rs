//! The consumer group's thread: partitions come and go, a shard thread for each.
//!
//! Order matters. Assign: the partition's queue is split off *before* the partition is assigned, or a record fetched in
//! between would land on the main queue. Revoke: every shard has ended, its queue and producer dropped, *before* the
//! partitions are unassigned, which is what lets the next owner have them.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;

use crate::engine::pending::PendingSet;
use crate::engine::shard::Shard;
use crate::kafka::clock::SystemClock;
use crate::kafka::log::{PartitionLog, Waker};
use crate::kafka::observer::{Observer, log_client_line};
use crate::kafka::producer::ShardProducer;

use super::command::Command;
use super::runner::{Control, Ended, Order, Runner};
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
}

/// Runs the consumer group and its shards.
pub struct Supervisor {
    consumer: Arc<BaseConsumer<GroupContext>>,
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

/// How long one poll of the group waits; events end it sooner.
const POLL: Duration = Duration::from_millis(100);

impl Supervisor {
    /// Joins the group and subscribes to the schedule topics.
    pub fn start(config: &ClientConfig, blueprint: Blueprint) -> Result<Self, KafkaError> {
        let (reload_sender, reloads) = channel();
        let topics: Vec<String> = blueprint.settings.keys().cloned().collect();
        let context = GroupContext {
            shards: Mutex::new(Shards { blueprint, running: HashMap::new(), reload_sender }),
            consumer: OnceLock::new(),
        };
        let consumer: Arc<BaseConsumer<GroupContext>> = Arc::new(config.create_with_context(context)?);
        let itself = Arc::downgrade(&consumer);
        consumer.context().consumer.set(itself).unwrap_or_else(|_| unreachable!("set once, here"));
        consumer.subscribe(&topics.iter().map(String::as_str).collect::<Vec<_>>())?;
        Ok(Self { consumer, reloads })
    }

    /// Where to ask for partitions to be loaded anew.
    #[must_use]
    pub fn reload_sender(&self) -> Sender<Reload> {
        self.shards().reload_sender.clone()
    }

    /// The command lane of an owned partition; `None` when another instance owns it.
    #[must_use]
    pub fn lane(&self, topic: &str, partition: i32) -> Option<Lane> {
        self.shards().running.get(&(topic.to_owned(), partition)).map(|shard| shard.lane.clone())
    }

    /// Serves the group for a moment. Call it again and again.
    pub fn poll(&self) {
        match self.consumer.poll(POLL) {
            None => {}
            Some(Ok(message)) => {
                // Its queue was not split off in time: what the shard has is not the whole log.
                let (topic, partition) = (message.topic().to_owned(), message.partition());
                drop(message);
                self.reload(Reload {
                    topic,
                    partition: Some(partition),
                    reason: "a record was delivered past its shard".to_owned(),
                });
            }
            Some(Err(KafkaError::MessageConsumption(
                code @ (RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic),
            ))) => tracing::debug!("a schedule topic does not exist yet: {code}"),
            Some(Err(error)) => tracing::warn!("consumer group: {error}"),
        }
        while let Ok(reload) = self.reloads.try_recv() {
            self.reload(reload);
        }
    }

    /// Ends all shards (each finishes what it has open), leaves the group.
    pub fn stop(self) {
        self.shards().end(|_| true, Order::Drain);
        self.consumer.unsubscribe();
        // The revocation that follows finds no shard left and only has to be acknowledged.
        for _ in 0..50 {
            if self.consumer.assignment().is_ok_and(|assigned| assigned.count() == 0) {
                break;
            }
            self.consumer.poll(POLL);
        }
    }

    fn reload(&self, reload: Reload) {
        let mut shards = self.shards();
        let partitions: Vec<i32> = shards
            .running
            .keys()
            .filter(|(topic, partition)| *topic == reload.topic && reload.partition.is_none_or(|p| p == *partition))
            .map(|(_, partition)| *partition)
            .collect();
        if partitions.is_empty() {
            return;
        }
        tracing::warn!(topic = reload.topic, ?partitions, "loading anew: {}", reload.reason);
        let mut list = TopicPartitionList::new();
        for &partition in &partitions {
            list.add_partition(&reload.topic, partition);
        }
        shards.end(|(topic, partition)| *topic == reload.topic && partitions.contains(partition), Order::Drop);
        if let Err(error) = self.consumer.incremental_unassign(&list) {
            tracing::warn!(topic = reload.topic, "giving partitions back to load them anew: {error}");
        }
        shards.assign(&self.consumer, &mut list);
    }

    fn shards(&self) -> MutexGuard<'_, Shards> {
        self.consumer.context().shards()
    }
}

/// Where commands for a shard are put.
#[derive(Clone)]
pub struct Lane {
    sender: Sender<Command>,
    waker: Waker,
}

impl Lane {
    /// Hands a command over. False: the shard has ended, and the command with it.
    pub fn submit(&self, command: Command) -> bool {
        let accepted = self.sender.send(command).is_ok();
        self.waker.wake();
        accepted
    }
}

struct GroupContext {
    shards: Mutex<Shards>,
    consumer: OnceLock<Weak<BaseConsumer<GroupContext>>>,
}

impl GroupContext {
    fn shards(&self) -> MutexGuard<'_, Shards> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ClientContext for GroupContext {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log_client_line(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("librdkafka: {error}: {reason}");
    }
}

impl ConsumerContext for GroupContext {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        let mut shards = self.shards();
        if err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            shards.blueprint.status.set_joined(true);
            if let Some(itself) = self.consumer.get().and_then(Weak::upgrade) {
                shards.assign(&itself, list);
            }
            return;
        }
        // Lost: the group has gone on without this instance; the partition's next owner fences what is still open.
        let order = if consumer.assignment_lost() { Order::Drop } else { Order::Drain };
        let revoked: Vec<(String, i32)> =
            list.elements().iter().map(|e| (e.topic().to_owned(), e.partition())).collect();
        if !revoked.is_empty() {
            tracing::info!(partitions = ?names(&revoked), lost = order == Order::Drop, "giving up partitions");
        }
        shards.end(|key| revoked.contains(key), order);
        if let Err(error) = consumer.incremental_unassign(list) {
            tracing::error!("giving up partitions: {error}");
        }
    }
}

struct Shards {
    blueprint: Blueprint,
    running: HashMap<(String, i32), ShardThread>,
    reload_sender: Sender<Reload>,
}

struct ShardThread {
    control: Arc<Control>,
    lane: Lane,
    thread: JoinHandle<()>,
}

impl Shards {
    fn assign(&mut self, consumer: &Arc<BaseConsumer<GroupContext>>, list: &mut TopicPartitionList) {
        let assigned: Vec<(String, i32)> =
            list.elements().iter().map(|e| (e.topic().to_owned(), e.partition())).collect();
        if assigned.is_empty() {
            return;
        }
        tracing::info!(partitions = ?names(&assigned), "taking partitions");
        let mut logs = Vec::new();
        for (topic, partition) in assigned {
            if let Err(error) = list.set_partition_offset(&topic, partition, Offset::Beginning) {
                tracing::error!(topic, partition, "{error}");
            }
            let observer = Arc::clone(&self.blueprint.observer);
            match PartitionLog::split(Arc::clone(consumer), observer, &topic, partition) {
                Some(log) => logs.push((topic, partition, log)),
                None => tracing::error!(topic, partition, "librdkafka does not know the partition"),
            }
        }
        if let Err(error) = consumer.incremental_assign(list) {
            tracing::error!("taking partitions: {error}");
        }
        for (topic, partition, log) in logs {
            self.start(topic, partition, log);
        }
    }

    fn start(&mut self, topic: String, partition: i32, log: PartitionLog<GroupContext>) {
        let Some(settings) = self.blueprint.settings.get(&topic).cloned() else {
            tracing::error!(topic, partition, "assigned a topic that was not subscribed to");
            return;
        };
        let control = Arc::new(Control::default());
        let (sender, commands) = channel();
        let lane = Lane { sender, waker: log.waker() };
        let status = &self.blueprint.status;
        let (figures, counters) = (status.partition(&topic, partition), status.counters(&topic));
        let transactional_id = format!("{}:{topic}:{partition}", self.blueprint.transactional_id_prefix);
        let producer_config = self.blueprint.producer.clone();
        let reload_sender = self.reload_sender.clone();
        let thread = {
            let (control, topic) = (Arc::clone(&control), topic.clone());
            move || {
                // The producer's callbacks run on the thread that uses it, so it is made here.
                let producer =
                    ShardProducer::new(producer_config, &topic, partition, transactional_id, settings.mode);
                let shard = Shard::new(PendingSet::new(random_seed()));
                let mut runner = Runner::new(
                    &topic,
                    partition,
                    shard,
                    log,
                    producer,
                    SystemClock::new(),
                    settings,
                    control,
                    figures,
                    counters,
                    commands,
                );
                let ended = runner.run();
                discard(runner.into_shard());
                if let Ended::Reload(reason) = ended {
                    let reload = Reload { topic, partition: Some(partition), reason };
                    if reload_sender.send(reload).is_err() {
                        tracing::debug!("nobody is left to load a partition anew");
                    }
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name(format!("{topic}-{partition}"))
            .spawn(thread)
            .expect("the system has room for one thread a partition");
        self.running.insert((topic, partition), ShardThread { control, lane, thread });
    }

    /// Ends the shards that `which` names, and returns once their threads are gone.
    fn end(&mut self, which: impl Fn(&(String, i32)) -> bool, order: Order) {
        let ending: Vec<_> = self.running.extract_if(|key, _| which(key)).collect();
        for (_, shard) in &ending {
            shard.control.give(order);
            shard.lane.waker.wake();
        }
        for ((topic, partition), shard) in ending {
            if shard.thread.join().is_err() {
                tracing::error!(topic, partition, "the shard's thread had died; its partition loads anew elsewhere");
            }
            self.blueprint.status.release(&topic, partition);
        }
    }
}

/// Freeing millions of payloads takes seconds that the next owner need not wait for.
fn discard(shard: Shard) {
    if let Err(error) = std::thread::Builder::new().name("discard".to_owned()).spawn(move || drop(shard)) {
        tracing::debug!("freeing a shard on its own thread: {error}");
    }
}

fn names(partitions: &[(String, i32)]) -> Vec<String> {
    partitions.iter().map(|(topic, partition)| format!("{topic}-{partition}")).collect()
}

/// IDs are user input: the hash of the index must not be predictable.
fn random_seed() -> u64 {
    RandomState::new().hash_one(0u8)
}
