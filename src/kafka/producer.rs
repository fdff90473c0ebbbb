//! The producer of one shard: [`Transactions`] over librdkafka.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;

use super::ffi::{ErrorCode, NativeProducer, Report, TopicHandle};
use super::topics::is_legal_name;
use super::{Kind, Message, SendError, TransactionError, Transactions};
use crate::schedule::Headers;

/// librdkafka retries a commit or abort whose answer is missing after `retry.backoff.ms` (set to 1000, ±20 %), out of sight. A
/// commit slower than this may have been retried, and the delayed first request could end the *next* transaction of
/// the same producer epoch: a new epoch is taken instead.
const END_SUSPECT_AFTER: Duration = Duration::from_millis(800);

/// How long a question about a new destination may hold the shard up.
const DESTINATION_WAIT: Duration = Duration::from_secs(1);

/// At-least-once: how often a cluster is asked to fence off the other mode, which it may be unable to.
const FENCE_OTHER_ATTEMPTS: u32 = 40;
const LEADER_ATTEMPTS: u32 = 5;
const LEADER_WAIT: Duration = Duration::from_millis(50);

/// Set on tags of records to the shard's own partition.
const OWN: usize = 1 << (usize::BITS - 1);

/// The producer of one shard.
pub struct ShardProducer {
    config: ClientConfig,
    topic: String,
    partition: i32,
    transactional_id: String,
    mode: Mode,
    /// At-least-once only: the producer that takes the transactional ID over once, to end an exactly-once owner.
    fencer: Option<NativeProducer>,
    fence_attempts: u32,
    live: Option<Live>,
}

/// How a shard's writes reach the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// In transactions of the shard's own transactional ID.
    Transactional,
    /// One by one. The transactional ID is taken over once all the same, where that is allowed, so that an owner still
    /// running in the other mode is refused.
    Plain,
}

/// A producer and what belongs to it. Field order is drop order: topic handles go before their producer.
struct Live {
    destinations: HashMap<String, TopicHandle>,
    own_topic: TopicHandle,
    producer: NativeProducer,
    initialised: bool,
    own_enqueued: usize,
    own_offsets: Vec<Option<i64>>,
    own_failure: Option<(Kind, String)>,
    failures: Vec<(usize, SendError)>,
    /// When the open transaction was first asked to end: a call that is made again does not start anew.
    ending_since: Option<Instant>,
}

impl ShardProducer {
    /// A producer for the shard of a partition.
    #[must_use]
    pub fn new(
        config: ClientConfig,
        topic: &str,
        partition: i32,
        transactional_id: String,
        mode: Mode,
    ) -> Self {
        Self {
            config,
            topic: topic.to_owned(),
            partition,
            transactional_id,
            mode,
            fencer: None,
            fence_attempts: 0,
            live: None,
        }
    }

    fn create(&self, mode: Mode) -> Result<NativeProducer, TransactionError> {
        let mut config = self.config.clone();
        match mode {
            Mode::Transactional => config.set("transactional.id", &self.transactional_id),
            Mode::Plain => config.remove("transaction.timeout.ms"),
        };
        NativeProducer::new(&config).map_err(|reason| TransactionError {
            kind: Kind::Fatal,
            call: "create producer",
            reason,
        })
    }

    /// Ends an exactly-once owner of the partition; a cluster or an ACL without transactions has none to end.
    fn fence_other_mode(&mut self, wait: Duration) -> Result<(), TransactionError> {
        let fencer = match self.fencer.take() {
            Some(fencer) => fencer,
            None => self.create(Mode::Transactional)?,
        };
        match fencer.init_transactions(wait) {
            Err(error) if error.kind == Kind::Retriable && self.fence_attempts < FENCE_OTHER_ATTEMPTS => {
                self.fence_attempts += 1;
                self.fencer = Some(fencer);
                Err(error)
            }
            Err(error) => {
                tracing::info!(
                    topic = self.topic,
                    partition = self.partition,
                    "transactions are not available here ({error}); an exactly-once instance cannot be fenced off"
                );
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    fn live(&mut self) -> Result<&mut Live, TransactionError> {
        self.live.as_mut().ok_or_else(|| TransactionError {
            kind: Kind::Fatal,
            call: "producer",
            reason: "the partition is not taken over yet".to_owned(),
        })
    }
}

impl Transactions for ShardProducer {
    fn fence(&mut self, wait: Duration) -> Result<(), TransactionError> {
        if self.mode == Mode::Plain {
            self.fence_other_mode(wait)?;
        }
        if self.live.as_ref().is_none_or(|live| live.initialised) {
            self.live = None;
            let producer = self.create(self.mode)?;
            let own_topic = producer.topic(&self.topic).expect("a partition of this topic is being read");
            self.live = Some(Live {
                destinations: HashMap::new(),
                own_topic,
                producer,
                initialised: false,
                own_enqueued: 0,
                own_offsets: Vec::new(),
                own_failure: None,
                failures: Vec::new(),
                ending_since: None,
            });
        }
        let live = self.live.as_mut().expect("made above");
        if self.mode == Mode::Transactional
            && let Err(error) = live.producer.init_transactions(wait)
        {
            if error.kind != Kind::Retriable {
                self.live = None;
            }
            return Err(error);
        }
        live.initialised = true;
        Ok(())
    }

    fn begin(&mut self) -> Result<(), TransactionError> {
        let live = self.live()?;
        live.reset();
        live.producer.begin()
    }

    fn append(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        headers: Headers<'_>,
    ) -> Result<(), TransactionError> {
        let partition = self.partition;
        let live = self.live()?;
        let tag = OWN | live.own_enqueued;
        live.producer
            .produce(&live.own_topic, partition, key, value, [headers, Headers::default()], tag)
            .map_err(|code| live.produce_error("append", code))?;
        live.own_enqueued += 1;
        live.own_offsets.push(None);
        Ok(())
    }

    fn appended(&mut self, wait: Duration) -> Result<Vec<i64>, TransactionError> {
        let live = self.live()?;
        live.flush("append", wait)?;
        if let Some((kind, reason)) = live.own_failure.take() {
            let error = TransactionError { kind, call: "append", reason };
            return Err(live.producer.fatal_error().unwrap_or(error));
        }
        let offsets: Option<Vec<i64>> = live.own_offsets.drain(..).collect();
        live.own_enqueued = 0;
        offsets.ok_or_else(|| TransactionError {
            kind: Kind::Abortable,
            call: "append",
            reason: "records were given up by librdkafka".to_owned(),
        })
    }

    fn send(&mut self, message: &Message<'_>, tag: usize) -> Result<(), SendError> {
        let live = self.live().map_err(|error| SendError::Other(error.to_string()))?;
        live.know_destination(message.topic)?;
        live.producer
            .produce(
                &live.destinations[message.topic],
                -1,
                message.key,
                message.value,
                [message.headers, message.extra_headers],
                tag,
            )
            .map_err(send_error)
    }

    fn delivered(&mut self, wait: Duration) -> Result<(), TransactionError> {
        self.live()?.flush("send", wait)
    }

    fn failures(&mut self) -> Vec<(usize, SendError)> {
        let Some(live) = &mut self.live else { return Vec::new() };
        let failures = std::mem::take(&mut live.failures);
        if !failures.is_empty() {
            // What was known about the destinations may be what was wrong.
            live.destinations.clear();
        }
        failures
    }

    fn commit(&mut self, wait: Duration) -> Result<bool, TransactionError> {
        let live = self.live()?;
        live.begin_to_end();
        live.producer.commit(wait)?;
        Ok(live.ended_late())
    }

    fn abort(&mut self, wait: Duration) -> Result<bool, TransactionError> {
        let live = self.live()?;
        live.begin_to_end();
        let result = live.producer.abort(wait);
        live.serve_reports();
        result?;
        let late = live.ended_late();
        live.reset();
        Ok(late)
    }

    fn check_destination(&mut self, topic: &str) -> Result<(), SendError> {
        if !is_legal_name(topic) {
            return Err(SendError::IllegalName);
        }
        let live = self.live().map_err(|error| SendError::Other(error.to_string()))?;
        live.know_destination(topic)
    }
}

#[allow(clippy::disallowed_methods, reason = "times librdkafka's hidden retries, not schedules")]
impl Live {
    fn begin_to_end(&mut self) {
        self.ending_since.get_or_insert_with(Instant::now);
    }

    /// Whether the transaction that has just ended took so long about it that librdkafka may have asked twice.
    fn ended_late(&mut self) -> bool {
        self.ending_since.take().is_some_and(|since| since.elapsed() >= END_SUSPECT_AFTER)
    }
}

impl Live {
    /// Makes sure that a destination's handle is held; asks the cluster about one that is new to this producer.
    fn know_destination(&mut self, topic: &str) -> Result<(), SendError> {
        if !self.destinations.contains_key(topic) {
            let handle = self.producer.topic(topic).ok_or(SendError::IllegalName)?;
            self.ask_about(&handle).map_err(send_error)?;
            self.destinations.insert(topic.to_owned(), handle);
        }
        Ok(())
    }

    /// A topic that the cluster has just created for us is without leader for a moment.
    #[allow(clippy::disallowed_methods, reason = "bounded; there is nothing to wait on")]
    fn ask_about(&self, topic: &TopicHandle) -> Result<(), ErrorCode> {
        for _ in 0..LEADER_ATTEMPTS {
            match self.producer.metadata(topic, DESTINATION_WAIT) {
                Err(ErrorCode::LeaderNotAvailable) => std::thread::sleep(LEADER_WAIT),
                answer => return answer,
            }
        }
        Err(ErrorCode::LeaderNotAvailable)
    }

    fn flush(&mut self, call: &'static str, wait: Duration) -> Result<(), TransactionError> {
        let flushed = self.producer.flush(wait);
        self.serve_reports();
        if let Some(error) = self.producer.fatal_error() {
            return Err(error);
        }
        if flushed {
            return Ok(());
        }
        Err(TransactionError {
            kind: Kind::Retriable,
            call,
            reason: "the broker has not answered yet".to_owned(),
        })
    }

    fn serve_reports(&mut self) {
        for Report { tag, outcome } in self.producer.take_reports() {
            match outcome {
                Ok(offset) if tag & OWN != 0 => {
                    if let Some(slot) = self.own_offsets.get_mut(tag & !OWN) {
                        *slot = Some(offset);
                    }
                }
                // Given up by an abort, which has another reason.
                Ok(_) | Err(ErrorCode::PurgeQueue | ErrorCode::PurgeInflight) => {}
                Err(code) if tag & OWN != 0 => {
                    // A broker that does not answer is no fault of the record's.
                    let transient = send_error(code).is_transient();
                    let kind = if transient { Kind::Fatal } else { Kind::Abortable };
                    self.own_failure = Some((kind, Report::reason(code)));
                }
                Err(code) => self.failures.push((tag, send_error(code))),
            }
        }
    }

    fn reset(&mut self) {
        self.producer.poll();
        self.serve_reports();
        self.own_enqueued = 0;
        self.own_offsets.clear();
        self.own_failure = None;
        self.failures.clear();
        self.ending_since = None;
    }

    fn produce_error(&self, call: &'static str, code: ErrorCode) -> TransactionError {
        self.producer.fatal_error().unwrap_or_else(|| TransactionError {
            kind: Kind::Abortable,
            call,
            reason: Report::reason(code),
        })
    }
}

fn send_error(code: ErrorCode) -> SendError {
    match code {
        ErrorCode::UnknownTopic | ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownPartition => {
            SendError::UnknownTopic
        }
        ErrorCode::LeaderNotAvailable => SendError::NoLeader,
        ErrorCode::TopicAuthorizationFailed => SendError::NotAuthorized,
        ErrorCode::MessageSizeTooLarge | ErrorCode::MessageBatchTooLarge => SendError::TooLarge,
        ErrorCode::InvalidTopic => SendError::IllegalName,
        ErrorCode::QueueFull => SendError::QueueFull,
        ErrorCode::MessageTimedOut
        | ErrorCode::OperationTimedOut
        | ErrorCode::TimedOutQueue
        | ErrorCode::BrokerTransportFailure
        | ErrorCode::AllBrokersDown => SendError::Unavailable(Report::reason(code)),
        other => SendError::Other(Report::reason(other)),
    }
}
