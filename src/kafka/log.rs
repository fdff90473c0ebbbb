//! A schedule partition as a [`Log`]: its own queue, read on the shard's thread.

use std::ffi::CString;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};
use std::time::Duration;

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList, TopicPartitionListElem};

use super::context::QuietContext;
use super::ffi::{self, ErrorCode, NativeQueue, QueueItem, QueueWaker};
use super::observer::Observer;
use super::{Log, LogError, LogItem, LogRecord, Resume, Watermarks};

/// One partition of a consumer, split off the consumer's main queue.
pub struct PartitionLog<C: ConsumerContext + 'static> {
    consumer: Arc<BaseConsumer<C>>,
    observer: Arc<Observer>,
    topic: String,
    topic_c: CString,
    partition: i32,
    queue: NativeQueue,
    /// See [`Log::know`].
    known: Range<i64>,
    /// The offset after the last record handed over.
    after_record: i64,
    /// Where the answer about the log's ends will come.
    watermarks_asked: Option<Receiver<Result<Watermarks, LogError>>>,
}

/// Items that are looked through for a broker's refusal; before a seek has succeeded there are few.
const LOOKED_THROUGH: usize = 1_000;
/// How long a question that nobody waits for may take.
const ASK: Duration = Duration::from_secs(10);

/// Wakes the thread that waits in [`Log::read`].
#[derive(Clone)]
pub struct Waker(QueueWaker);

impl Waker {
    /// Makes a wait in [`Log::read`] end at once.
    pub fn wake(&self) {
        self.0.wake();
    }
}

impl<C: ConsumerContext + 'static> PartitionLog<C> {
    /// Splits a partition off, before it is assigned to the consumer.
    ///
    /// `None`: the topic's name cannot be one of Kafka's.
    #[must_use]
    pub fn split(
        consumer: Arc<BaseConsumer<C>>,
        observer: Arc<Observer>,
        topic: &str,
        partition: i32,
    ) -> Option<Self> {
        let queue = NativeQueue::split(Arc::clone(&consumer), topic, partition)?;
        Some(Self {
            consumer,
            observer,
            topic: topic.to_owned(),
            topic_c: CString::new(topic).ok()?,
            partition,
            queue,
            known: 0..0,
            after_record: 0,
            watermarks_asked: None,
        })
    }

    /// A handle that wakes the reading thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker(self.queue.waker())
    }
}

impl PartitionLog<QuietContext> {
    /// A partition read from its beginning by a consumer of its own, outside any group.
    pub fn alone(
        config: &ClientConfig,
        observer: Arc<Observer>,
        topic: &str,
        partition: i32,
    ) -> Result<Self, KafkaError> {
        // An assignment needs a group's name; nothing is joined and nothing committed under it.
        let consumer: BaseConsumer<QuietContext> =
            config.clone().set("group.id", "kms-reader").create_with_context(QuietContext)?;
        let consumer = Arc::new(consumer);
        let log = Self::split(Arc::clone(&consumer), observer, topic, partition)
            .ok_or_else(|| KafkaError::ClientCreation(format!("`{topic}` is no legal topic name")))?;
        let mut assignment = TopicPartitionList::new();
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
        consumer.assign(&assignment)?;
        Ok(log)
    }
}

impl<C: ConsumerContext + 'static> Log for PartitionLog<C> {
    fn read(
        &mut self,
        wait: Duration,
        max: usize,
        sink: &mut dyn FnMut(LogItem<'_>),
    ) -> Result<(), LogError> {
        let mut failure = None;
        let after_record = &mut self.after_record;
        self.queue.read(wait, max, &self.known, &mut |item| match item {
            QueueItem::Record { offset, key, value, headers } => {
                *after_record = offset + 1;
                sink(LogItem::Record(LogRecord { offset, key, value, headers }));
            }
            QueueItem::Known { offset } => {
                *after_record = offset + 1;
                sink(LogItem::Known(offset));
            }
            QueueItem::Ahead { keys } => sink(LogItem::Ahead(keys)),
            QueueItem::End { offset } => sink(LogItem::End(offset)),
            QueueItem::Error { code, reason } => failure = Some(log_error(code, reason)),
        });
        failure.map_or(Ok(()), Err)
    }

    fn know(&mut self, offsets: Range<i64>) {
        self.known = offsets;
    }

    fn position(&mut self) -> i64 {
        let known = self.after_record.max(self.queue.eof_offset());
        if !self.queue.has_started() {
            return known;
        }
        self.resume().map_or(known, |native| known.max(native.offset))
    }

    fn confirm(&mut self, resume: Resume, wait: Duration) -> Result<(), LogError> {
        let Some(leader_epoch) = resume.leader_epoch else { return Ok(()) };
        // An assignment with an epoch is not checked by librdkafka (its issue 5158); a seek with one is.
        let mut place = TopicPartitionList::new();
        let failed =
            |error: KafkaError| LogError::Retriable(format!("cannot go to the checkpoint's place: {error}"));
        place
            .add_partition_offset(&self.topic, self.partition, Offset::Offset(resume.offset))
            .map_err(failed)?;
        ffi::set_leader_epoch(&mut place, &self.topic_c, self.partition, leader_epoch);
        let answered = self.consumer.seek_partitions(place, wait).map_err(failed)?;
        let outcome = answered.elements().iter().try_for_each(TopicPartitionListElem::error);
        if outcome.is_ok() {
            // What came before comes again.
            self.queue.forget();
            return Ok(());
        }
        // It cannot seek before the assignment has arrived in librdkafka's threads, nor any more when a broker has refused the
        // offset meanwhile. Then that lies in the queue.
        let mut refused = None;
        self.queue.read(Duration::ZERO, LOOKED_THROUGH, &self.known, &mut |item| {
            if let QueueItem::Error { code, reason } = item {
                refused = Some(log_error(code, reason));
            }
        });
        match refused {
            Some(error @ LogError::OutOfRange(_)) => Err(error),
            Some(LogError::Retriable(_)) | None => outcome.map_err(failed),
        }
    }

    fn resume(&mut self) -> Option<Resume> {
        let position = || ffi::position(&self.consumer, &self.topic_c, self.partition);
        self.queue.has_started().then(position).flatten()
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "there is nothing to wait on but the queue, which would be read"
    )]
    fn pause(&mut self, wait: Duration) {
        std::thread::sleep(wait);
    }

    fn fetched(&self) -> usize {
        self.queue.len()
    }

    fn known_end(&self) -> Option<i64> {
        ffi::known_end(&self.consumer, &self.topic_c, self.partition)
    }

    fn watermarks(&mut self, wait: Duration) -> Result<Watermarks, LogError> {
        self.observer.watermarks(&self.topic, self.partition, wait)
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "librdkafka asks on the thread that waits; this one has others to serve"
    )]
    fn ask_watermarks(&mut self) {
        let (sender, receiver) = sync_channel(1);
        self.watermarks_asked = Some(receiver);
        let (observer, topic, partition) = (Arc::clone(&self.observer), self.topic.clone(), self.partition);
        let asked = std::thread::Builder::new().name("ask-watermarks".to_owned()).spawn(move || {
            // Nobody listens any more when the partition was given up meanwhile.
            let _ = sender.send(observer.watermarks(&topic, partition, ASK));
        });
        if let Err(error) = asked {
            tracing::debug!("no thread to ask for the end of a partition: {error}");
        }
    }

    fn watermarks_answer(&mut self) -> Option<Result<Watermarks, LogError>> {
        let answer = match self.watermarks_asked.as_ref()?.try_recv() {
            Ok(answer) => answer,
            Err(TryRecvError::Empty) => return None,
            Err(TryRecvError::Disconnected) => Err(LogError::Retriable(
                "nobody could be sent to ask for the end of the partition".to_owned(),
            )),
        };
        self.watermarks_asked = None;
        Some(answer)
    }

    fn topic_id(&mut self, wait: Duration) -> Result<String, LogError> {
        self.observer.topic_id(&self.topic, wait)
    }
}

fn log_error(code: ErrorCode, reason: String) -> LogError {
    match code {
        ErrorCode::AutoOffsetReset
        | ErrorCode::OffsetOutOfRange
        | ErrorCode::LogTruncation
        | ErrorCode::UnknownTopicId => LogError::OutOfRange(reason),
        _ => LogError::Retriable(reason),
    }
}
