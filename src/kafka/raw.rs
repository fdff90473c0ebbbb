//! librdkafka with nothing around it: the yardstick that `kms bench` measures the scheduler by.
//!
//! Two loops that read partitions and keep nothing, and a producer that looks at nothing but failures. They are set up as
//! the scheduler's own clients are, so that what differs is what the scheduler does.
#![allow(clippy::disallowed_methods, reason = "measures how long reading takes, no schedule")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::context::QuietContext;
use super::ffi::{Discarded, ErrorCode, NativeProducer, NativeQueue, Report, TopicHandle};
use super::{Kind, TransactionError};
use crate::schedule::Headers;

/// How long a loop waits before it looks whether it is still wanted.
const LOOK_UP: Duration = Duration::from_millis(100);
/// The batch call waits until its batch is full or this is over, also when it has taken the last record.
const FILL: Duration = Duration::from_millis(2);
/// How long a question before the clock starts may take.
const ASK: Duration = Duration::from_secs(10);

/// Why a yardstick could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum RawError {
    /// A client could not be set up, or a request failed.
    #[error(transparent)]
    Kafka(#[from] KafkaError),
    /// A partition could not be read.
    #[error("reading partition {partition} failed: {code}")]
    Read {
        /// Its number.
        partition: i32,
        /// What librdkafka says.
        code: ErrorCode,
    },
    /// A producer could not be set up.
    #[error("no producer: {0}")]
    Producer(String),
    /// A record was not taken, or not acknowledged.
    #[error("writing failed: {0}")]
    Write(String),
    /// A call of a transaction failed.
    #[error(transparent)]
    Transaction(#[from] TransactionError),
    /// Told to stop.
    #[error("interrupted")]
    Interrupted,
}

/// What a loop read, and how long it took from the assignment to the last record.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// Records.
    pub records: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// From the assignment on.
    pub took: Duration,
}

/// Reads all partitions of a topic from beginning to end, one message a call (`BaseConsumer::poll`).
pub fn read_by_message(
    config: &ClientConfig,
    topic: &str,
    partitions: i32,
    stop: &AtomicBool,
) -> Result<Reading, RawError> {
    let consumer = Assignable::new(config, topic, partitions)?;
    let mut unread = consumer.ends.iter().filter(|end| **end > 0).count();
    let mut is_read = vec![false; consumer.ends.len()];
    let mut reading = Reading::default();
    let started = consumer.assign()?;
    while unread > 0 {
        let partition = match consumer.client.poll(LOOK_UP) {
            Some(Ok(message)) => {
                reading.records += 1;
                reading.bytes += (message.key_len() + message.payload_len()) as u64;
                let partition = message.partition() as usize;
                if message.offset() + 1 < consumer.ends[partition] {
                    continue;
                }
                partition
            }
            Some(Err(KafkaError::PartitionEOF(partition))) => partition as usize,
            // Connections that come and go are for librdkafka to mend.
            Some(Err(error)) if super::troubles::is_unreachable(&error) => continue,
            Some(Err(error)) => return Err(error.into()),
            None if stop.load(Ordering::Relaxed) => return Err(RawError::Interrupted),
            None => continue,
        };
        if !std::mem::replace(&mut is_read[partition], true) && consumer.ends[partition] > 0 {
            unread -= 1;
        }
    }
    reading.took = started.elapsed();
    Ok(reading)
}

/// Reads all partitions of a topic from beginning to end, many messages a call (`rd_kafka_consume_batch_queue`), each
/// partition on a thread of its own, as the scheduler has it.
pub fn read_by_batch(
    config: &ClientConfig,
    topic: &str,
    partitions: i32,
    stop: &AtomicBool,
) -> Result<Reading, RawError> {
    let consumer = Assignable::new(config, topic, partitions)?;
    let mut queues = Vec::new();
    for partition in 0..partitions {
        let queue = NativeQueue::split(Arc::clone(&consumer.client), topic, partition)
            .ok_or(RawError::Read { partition, code: ErrorCode::UnknownPartition })?;
        queues.push((partition, queue, consumer.ends[partition as usize]));
    }
    let started = consumer.assign()?;
    let readings: Vec<Result<Reading, RawError>> = std::thread::scope(|threads| {
        let readers: Vec<_> = queues
            .into_iter()
            .map(|(partition, queue, end)| threads.spawn(move || discard_all(queue, partition, end, stop)))
            .collect();
        readers.into_iter().map(|reader| reader.join().expect("it only counts")).collect()
    });
    let mut sum = Reading { took: started.elapsed(), ..Reading::default() };
    for reading in readings {
        let Reading { records, bytes, .. } = reading?;
        sum.records += records;
        sum.bytes += bytes;
    }
    Ok(sum)
}

fn discard_all(
    mut queue: NativeQueue,
    partition: i32,
    end: i64,
    stop: &AtomicBool,
) -> Result<Reading, RawError> {
    let mut reading = Reading::default();
    let mut reached = 0;
    while reached < end {
        let Discarded { records, bytes, next_offset, error } = queue.discard(FILL);
        if let Some(code) = error {
            return Err(RawError::Read { partition, code });
        }
        if records == 0 && stop.load(Ordering::Relaxed) {
            return Err(RawError::Interrupted);
        }
        reading.records += records as u64;
        reading.bytes += bytes as u64;
        reached = reached.max(next_offset);
    }
    Ok(reading)
}

/// A consumer that knows the cluster, as one that has joined a group does, and has not been assigned anything yet.
struct Assignable {
    client: Arc<BaseConsumer<QuietContext>>,
    topic: String,
    /// Where each partition ends.
    ends: Vec<i64>,
}

impl Assignable {
    fn new(config: &ClientConfig, topic: &str, partitions: i32) -> Result<Self, RawError> {
        let mut config = config.clone();
        // librdkafka wants a group's name before it assigns; nothing is joined and nothing committed under it.
        config.set("group.id", "kms-raw");
        let client: BaseConsumer<QuietContext> = config.create_with_context(QuietContext)?;
        let end = |partition| client.fetch_watermarks(topic, partition, ASK).map(|(_, end)| end);
        let ends = (0..partitions).map(end).collect::<Result<_, _>>()?;
        Ok(Self { client: Arc::new(client), topic: topic.to_owned(), ends })
    }

    /// Assigns every partition from its beginning, and starts the clock.
    fn assign(&self) -> Result<Instant, RawError> {
        let mut assignment = TopicPartitionList::new();
        for partition in 0..self.ends.len() {
            assignment.add_partition_offset(&self.topic, partition as i32, Offset::Beginning)?;
        }
        let started = Instant::now();
        self.client.assign(&assignment)?;
        Ok(started)
    }
}

/// A topic known to a [`RawProducer`].
#[derive(Clone, Copy, Debug)]
pub struct RawTopic(usize);

/// A producer of many records; used and dropped on one thread.
///
/// Field order is drop order: topic handles go before their producer.
pub struct RawProducer {
    topics: Vec<TopicHandle>,
    client: NativeProducer,
    failure: Option<String>,
    /// Enqueued since delivery reports were last served.
    unserved: usize,
}

const LEADER_ATTEMPTS: u32 = 100;
const LEADER_WAIT: Duration = Duration::from_millis(50);

/// Delivery reports are served this often, so that they do not pile up.
const SERVE_EVERY: usize = 10_000;

impl RawProducer {
    /// A producer with the given configuration.
    pub fn new(config: &ClientConfig) -> Result<Self, RawError> {
        let client = NativeProducer::new(config).map_err(RawError::Producer)?;
        Ok(Self { topics: Vec::new(), client, failure: None, unserved: 0 })
    }

    /// Makes a topic known, and itself known to the topic's brokers.
    pub fn topic(&mut self, name: &str) -> Result<RawTopic, RawError> {
        let illegal = || RawError::Write(format!("`{name}` is no legal topic name"));
        let handle = self.client.topic(name).ok_or_else(illegal)?;
        let mut answer = self.client.metadata(&handle, ASK);
        for _ in 0..LEADER_ATTEMPTS {
            // So says a broker that has not heard yet of a topic that another has just created.
            let is_new = [ErrorCode::LeaderNotAvailable, ErrorCode::UnknownTopicOrPartition];
            if !answer.is_err_and(|code| is_new.contains(&code)) {
                break;
            }
            std::thread::sleep(LEADER_WAIT);
            answer = self.client.metadata(&handle, ASK);
        }
        answer.map_err(|code| RawError::Write(format!("the topic `{name}`: {}", Report::reason(code))))?;
        self.topics.push(handle);
        Ok(RawTopic(self.topics.len() - 1))
    }

    /// Enqueues a record, waiting for room. `partition` −1 leaves the choice to the partitioner.
    pub fn send(
        &mut self,
        topic: RawTopic,
        partition: i32,
        key: &[u8],
        value: Option<&[u8]>,
        headers: Headers<'_>,
    ) -> Result<(), RawError> {
        loop {
            let handle = &self.topics[topic.0];
            let outcome = if headers.is_empty() {
                handle.produce(partition, key, value)
            } else {
                self.client.produce(handle, partition, key, value, [headers, Headers::default()], 0)
            };
            match outcome {
                Ok(()) => break,
                Err(ErrorCode::QueueFull) => self.poll(LOOK_UP)?,
                Err(code) => return Err(RawError::Write(Report::reason(code))),
            }
        }
        self.unserved += 1;
        if self.unserved >= SERVE_EVERY { self.poll(Duration::ZERO) } else { Ok(()) }
    }

    /// Serves delivery reports, waiting up to `wait` for the first.
    pub fn poll(&mut self, wait: Duration) -> Result<(), RawError> {
        self.client.poll_for(wait);
        self.serve()
    }

    /// Sends what is enqueued and waits until all of it is acknowledged; false when `wait` ended first.
    pub fn flush(&mut self, wait: Duration) -> Result<bool, RawError> {
        let is_done = self.client.flush(wait);
        self.serve()?;
        Ok(is_done)
    }

    /// Takes the transactional ID over.
    pub fn init_transactions(&mut self) -> Result<(), RawError> {
        self.until_answered(|client| client.init_transactions(ASK))
    }

    /// Opens a transaction.
    pub fn begin(&mut self) -> Result<(), RawError> {
        Ok(self.client.begin()?)
    }

    /// Sends what is enqueued, waits for the acknowledgements and commits.
    pub fn commit(&mut self) -> Result<(), RawError> {
        // The commit flushes, too.
        self.until_answered(|client| client.commit(ASK))?;
        self.serve()
    }

    fn until_answered(
        &self,
        call: impl Fn(&NativeProducer) -> Result<(), TransactionError>,
    ) -> Result<(), RawError> {
        for _ in 0..ATTEMPTS {
            match call(&self.client) {
                Err(error) if error.kind == Kind::Retriable => {}
                outcome => return Ok(outcome?),
            }
        }
        Ok(call(&self.client)?)
    }

    /// Looks through the delivery reports for failures.
    fn serve(&mut self) -> Result<(), RawError> {
        self.unserved = 0;
        for report in self.client.take_reports() {
            if let Err(code) = report.outcome {
                self.failure.get_or_insert_with(|| Report::reason(code));
            }
        }
        self.failure.clone().map_or(Ok(()), |reason| Err(RawError::Write(reason)))
    }
}

/// How often a retriable call of a transaction is made again.
const ATTEMPTS: usize = 3;
