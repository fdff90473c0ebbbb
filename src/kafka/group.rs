//! The consumer group: partitions come and go.
//!
//! Order matters. Assign: the partition's queue is split off *before* the partition is assigned, or a record fetched in
//! between would land on the main queue. Revoke: whoever holds a partition has let go of its queue and producer
//! *before* it is unassigned, which is what lets the next owner have it.

use std::ffi::CString;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use rdkafka::types::RDKafkaRespErr;

use super::clock::SystemClock;
use super::context::log_client_line;
use super::log::PartitionLog;
use super::observer::Observer;
use super::troubles::Troubles;
use super::{Clock, Resume, ffi};

/// A partition: topic and number.
pub type Partition = (String, i32);

/// The log of a partition of the group.
pub type GroupLog<H> = PartitionLog<GroupContext<H>>;

/// What a group tells its owner, on the thread that polls.
pub trait Members: Send + Sized + 'static {
    /// From where to read a partition that is about to be assigned; `None`: from its beginning.
    fn resume(&mut self, partition: &Partition) -> Option<Resume>;

    /// An assignment arrived, maybe an empty one; each partition with its log, from where [`resume`](Self::resume) said.
    fn assigned(&mut self, partitions: Vec<(Partition, GroupLog<Self>)>);

    /// The partitions are given up: everything that holds one of their logs must be gone on return. `lost`: another
    /// instance may have them already.
    fn revoked(&mut self, partitions: &[Partition], lost: bool);
}

/// A member of the consumer group. Poll it from one thread.
pub struct Group<H: Members> {
    consumer: Arc<BaseConsumer<GroupContext<H>>>,
    /// Its lasting name in the group, if it has one.
    instance_id: Option<String>,
}

/// Why a member is out of the group for good.
#[derive(Debug, thiserror::Error)]
pub enum GroupError {
    /// The group has another member of its lasting name.
    #[error(
        "another instance has joined the group with the same kafka.instance_id, `{id}`, and taken this one's partitions: give \
         each instance an ID of its own, and end the old one before another takes its place"
    )]
    SameInstanceId {
        /// The name.
        id: String,
    },
    /// Anything else that librdkafka calls fatal.
    #[error("the consumer group's client is of no more use: {0}")]
    Finished(String),
}

/// What librdkafka calls back; an implementation detail of [`GroupLog`].
pub struct GroupContext<H: Members> {
    members: Mutex<H>,
    observer: Arc<Observer>,
    consumer: OnceLock<Weak<BaseConsumer<GroupContext<H>>>>,
    troubles: Mutex<Troubles>,
}

/// How long one poll waits; events end it sooner.
const POLL: Duration = Duration::from_millis(100);
/// Polls until a revocation has been acknowledged, at most.
const LEAVE_POLLS: u32 = 50;

impl<H: Members> Group<H> {
    /// Joins the group that `config` names and subscribes to `topics`.
    pub fn join(
        config: &ClientConfig,
        topics: &[&str],
        observer: Arc<Observer>,
        members: H,
    ) -> Result<Self, KafkaError> {
        let context = GroupContext {
            members: Mutex::new(members),
            observer,
            consumer: OnceLock::new(),
            troubles: Mutex::default(),
        };
        let consumer: Arc<BaseConsumer<GroupContext<H>>> = Arc::new(config.create_with_context(context)?);
        consumer.context().consumer.get_or_init(|| Arc::downgrade(&consumer));
        consumer.subscribe(topics)?;
        Ok(Self { consumer, instance_id: config.get("group.instance.id").map(str::to_owned) })
    }

    /// Serves the group for a moment. A partition whose record came past its own log is returned: what was read of it
    /// is not the whole log.
    pub fn poll(&self) -> Result<Option<Partition>, GroupError> {
        match self.consumer.poll(POLL) {
            None => {}
            Some(Ok(message)) => return Ok(Some((message.topic().to_owned(), message.partition()))),
            Some(Err(KafkaError::MessageConsumption(
                code @ (RDKafkaErrorCode::UnknownTopicOrPartition | RDKafkaErrorCode::UnknownTopic),
            ))) => tracing::debug!("a schedule topic does not exist yet: {code}"),
            Some(Err(error @ KafkaError::MessageConsumptionFatal(_))) => {
                return Err(self.why_finished(&error));
            }
            Some(Err(error)) => self.consumer.context().complain(&error),
        }
        Ok(None)
    }

    /// What is behind an error that librdkafka calls fatal.
    fn why_finished(&self, error: &KafkaError) -> GroupError {
        match (self.consumer.client().fatal_error(), &self.instance_id) {
            (Some((RDKafkaErrorCode::FencedInstanceId, _)), Some(id)) => {
                GroupError::SameInstanceId { id: id.clone() }
            }
            (Some((_, reason)), _) => GroupError::Finished(reason),
            (None, _) => GroupError::Finished(error.to_string()),
        }
    }

    /// Takes owned partitions as if they were assigned just now; whoever held their logs has let go of them.
    pub fn reassign(&self, partitions: &[Partition]) {
        let mut list = TopicPartitionList::new();
        for (topic, partition) in partitions {
            list.add_partition(topic, *partition);
        }
        if let Err(error) = self.consumer.incremental_unassign(&list) {
            tracing::warn!("giving partitions back to read them again: {error}");
        }
        self.consumer.context().assign(&self.consumer, &mut list);
    }

    /// Leaves the group; every partition must have been let go of.
    ///
    /// A member of a lasting name does not leave: its partitions wait for it, until its session ends. Closing its client,
    /// which happens when this is dropped, says nothing to the group either.
    pub fn leave(self) {
        if self.instance_id.is_some() {
            return;
        }
        self.consumer.unsubscribe();
        // The revocation that follows finds nothing left and only has to be acknowledged.
        for _ in 0..LEAVE_POLLS {
            if self.consumer.assignment().is_ok_and(|assigned| assigned.count() == 0) {
                break;
            }
            self.consumer.poll(POLL);
        }
    }

    /// The members.
    pub fn members(&self) -> MutexGuard<'_, H> {
        self.consumer.context().members()
    }
}

impl<H: Members> GroupContext<H> {
    fn members(&self) -> MutexGuard<'_, H> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn complain(&self, error: &KafkaError) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sentence) = troubles.sentence(error, SystemClock::new().monotonic_ms()) {
            tracing::warn!("{sentence}");
        }
    }

    fn assign(&self, consumer: &Arc<BaseConsumer<Self>>, list: &mut TopicPartitionList) {
        let mut logs = Vec::new();
        for (topic, partition) in partitions_of(list) {
            let resume = self.members().resume(&(topic.clone(), partition));
            begin_at(resume, &topic, partition, list);
            let observer = Arc::clone(&self.observer);
            if let Some(log) = PartitionLog::split(Arc::clone(consumer), observer, &topic, partition) {
                logs.push(((topic, partition), log));
            } else {
                tracing::error!(topic, partition, "librdkafka does not know the partition");
            }
        }
        if let Err(error) = consumer.incremental_assign(list) {
            tracing::error!("taking partitions: {error}");
        }
        self.members().assigned(logs);
    }
}

impl<H: Members> ClientContext for GroupContext<H> {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        log_client_line(level, facility, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("librdkafka: {error}: {reason}");
        // The poll that returns the error follows; it does not have the reason.
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner).heard(&error, reason);
    }
}

impl<H: Members> ConsumerContext for GroupContext<H> {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, err: RDKafkaRespErr, list: &mut TopicPartitionList) {
        if err == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS {
            if let Some(itself) = self.consumer.get().and_then(Weak::upgrade) {
                self.assign(&itself, list);
            }
            return;
        }
        self.members().revoked(&partitions_of(list), consumer.assignment_lost());
        if let Err(error) = consumer.incremental_unassign(list) {
            tracing::error!("giving up partitions: {error}");
        }
    }
}

/// Sets from where a partition of the list is read.
fn begin_at(resume: Option<Resume>, topic: &str, partition: i32, list: &mut TopicPartitionList) {
    let offset = resume.map_or(Offset::Beginning, |resume| Offset::Offset(resume.offset));
    if let Err(error) = list.set_partition_offset(topic, partition, offset) {
        tracing::error!(topic, partition, "{error}");
    }
    if let Some(epoch) = resume.and_then(|resume| resume.leader_epoch)
        && let Ok(topic) = CString::new(topic)
    {
        ffi::set_leader_epoch(list, &topic, partition, epoch);
    }
}

fn partitions_of(list: &TopicPartitionList) -> Vec<Partition> {
    list.elements().iter().map(|element| (element.topic().to_owned(), element.partition())).collect()
}
