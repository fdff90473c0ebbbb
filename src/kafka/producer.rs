//! The producer of one shard: [`Transactions`] over librdkafka.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;

use super::ffi::{ErrorCode, NativeProducer, Report, TopicHandle, producer_is_finished};
use super::{Kind, Message, SendError, TransactionError, Transactions};
use crate::schedule::{Headers, is_legal_topic_name};

/// librdkafka retries a commit or abort whose answer is missing after `retry.backoff.ms` (set to 1000, ±20 %), out of sight. A
/// commit slower than this may have been retried, and the delayed first request could end the *next* transaction of
/// the same producer epoch: a new epoch is taken instead.
pub const END_SUSPECT_AFTER: Duration = Duration::from_millis(800);

/// How long a question about a new destination may hold the shard up.
const DESTINATION_WAIT: Duration = Duration::from_secs(1);

/// How long a new producer may take for a connection before it is asked for anything.
const CONNECTING_LONGEST: Duration = Duration::from_millis(250);

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
    destinations: HashMap<String, TopicHandle, foldhash::fast::RandomState>,
    own_topic: TopicHandle,
    producer: NativeProducer,
    mode: Mode,
    initialised: bool,
    own_enqueued: usize,
    own_offsets: Vec<Option<i64>>,
    /// What a record's failure says of the shard's own records, or of the producer.
    trouble: Option<(Kind, String)>,
    failures: Vec<(usize, SendError)>,
    /// Messages enqueued since all of them were last answered.
    sent: usize,
    /// Records and messages that librdkafka gave up because their transaction has failed.
    given_up: Vec<usize>,
    /// librdkafka takes no more messages, because the transaction has failed or the producer is finished.
    refuses: bool,
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
            Ok(()) => {
                self.fence_attempts = 0;
                Ok(())
            }
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
            if self.mode == Mode::Transactional {
                get_connected(&producer, &own_topic);
            }
            self.live = Some(Live {
                destinations: HashMap::default(),
                own_topic,
                producer,
                mode: self.mode,
                initialised: false,
                own_enqueued: 0,
                own_offsets: Vec::new(),
                trouble: None,
                failures: Vec::new(),
                sent: 0,
                given_up: Vec::new(),
                refuses: false,
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
        let offsets: Option<Vec<i64>> = live.own_offsets.drain(..).collect();
        live.own_enqueued = 0;
        offsets.ok_or_else(|| {
            let (code, error) = live.why_given_up("append");
            let kind = if error.kind == Kind::Abortable { live.kind_of_own(code) } else { error.kind };
            TransactionError { kind, ..error }
        })
    }

    fn send(&mut self, message: &Message<'_>, tag: usize) -> Result<(), SendError> {
        let live = self.live().map_err(|error| SendError::Other(error.to_string()))?;
        live.know_destination(message.topic)?;
        let enqueued = live.producer.produce(
            &live.destinations[message.topic],
            -1,
            message.key,
            message.value,
            [message.headers, message.extra_headers],
            tag,
        );
        match enqueued {
            Ok(()) => {}
            // No fault of this message's: what is, the next wait for answers says.
            Err(ErrorCode::State | ErrorCode::Fatal) => live.refuses = true,
            Err(code) => return Err(send_error(code)),
        }
        live.sent += 1;
        Ok(())
    }

    fn delivered(&mut self, wait: Duration) -> Result<(), TransactionError> {
        let live = self.live()?;
        live.flush("send", wait)?;
        live.find_out_who_failed()
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

    fn idle(&mut self) {
        // Errors of connections, which librdkafka keeps for as long as nobody asks: during an outage more and more of them.
        if let Some(live) = &self.live {
            live.producer.poll();
        }
    }

    fn check_destination(&mut self, topic: &str) -> Result<(), SendError> {
        if !is_legal_topic_name(topic) {
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
        if !flushed && !self.has_failed() {
            let reason = "the broker has not answered yet".to_owned();
            return Err(TransactionError { kind: Kind::Retriable, call, reason });
        }
        match self.trouble.take() {
            Some((kind, reason)) => Err(TransactionError { kind, call, reason }),
            None => Ok(()),
        }
    }

    /// Whether the open transaction can only be aborted, so that nothing is left to wait for. A record that was just being
    /// enqueued when librdkafka gave the others up would keep waiting, until its time-out.
    fn has_failed(&self) -> bool {
        let is_felled = self.refuses || self.trouble.is_some();
        self.mode == Mode::Transactional
            && (is_felled || !self.given_up.is_empty() || !self.failures.is_empty())
    }

    /// All messages were answered or given up. Those that were given up, or refused, fell with the transaction and say
    /// nothing of why it fell; but one that was under way alone has felled it.
    fn find_out_who_failed(&mut self) -> Result<(), TransactionError> {
        let sent = std::mem::take(&mut self.sent);
        let given_up = std::mem::take(&mut self.given_up);
        if !self.failures.is_empty() || (given_up.is_empty() && !self.refuses) {
            return Ok(());
        }
        let (code, error) = self.why_given_up("send");
        match given_up[..] {
            [tag] if sent == 1 && error.kind == Kind::Abortable => {
                self.failures.push((tag, send_error(code)));
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// What the transaction failed for, whose records were given up.
    fn why_given_up(&self, call: &'static str) -> (ErrorCode, TransactionError) {
        let failed = self.producer.failed_transaction();
        let (code, mut error) = failed.unwrap_or_else(|| {
            let reason = "records were given up by librdkafka".to_owned();
            (ErrorCode::PurgeQueue, TransactionError { kind: Kind::Abortable, call, reason })
        });
        error.call = call;
        (code, error)
    }

    fn serve_reports(&mut self) {
        for Report { tag, outcome } in self.producer.take_reports() {
            match outcome {
                Ok(offset) if tag & OWN != 0 => self.own_record_is_at(tag & !OWN, offset),
                Ok(_) => {}
                Err(ErrorCode::PurgeQueue | ErrorCode::PurgeInflight) => self.given_up.push(tag),
                Err(code) => match producer_is_finished(code) {
                    Some(kind) => self.note_trouble(kind, Report::reason(code)),
                    None if tag & OWN != 0 => {
                        self.note_trouble(self.kind_of_own(code), Report::reason(code));
                    }
                    None => self.failures.push((tag, send_error(code))),
                },
            }
        }
    }

    /// An offset below zero is librdkafka's word for a record that is in the log by a request whose answer was lost: only
    /// reading the log tells where.
    fn own_record_is_at(&mut self, number: usize, offset: i64) {
        if offset < 0 {
            self.note_trouble(Kind::Fatal, "a record was written, but not said where".to_owned());
        } else if let Some(slot) = self.own_offsets.get_mut(number) {
            *slot = Some(offset);
        }
    }

    /// What to do about an error of the shard's own records. A broker that does not answer is no fault of theirs, and
    /// neither is one that does not let the shard write to its own topic. At-least-once, though, their messages are sent by
    /// then and would be sent again at each attempt: such schedules had better wait.
    fn kind_of_own(&self, code: ErrorCode) -> Kind {
        let error = send_error(code);
        let is_innocent =
            error.is_transient() || (self.mode == Mode::Transactional && error.concerns_topic());
        if is_innocent { Kind::Fatal } else { Kind::Abortable }
    }

    /// The first trouble is the cause of those that follow.
    fn note_trouble(&mut self, kind: Kind, reason: String) {
        self.trouble.get_or_insert((kind, reason));
    }

    fn reset(&mut self) {
        self.producer.poll();
        self.serve_reports();
        self.own_enqueued = 0;
        self.own_offsets.clear();
        self.trouble = None;
        self.failures.clear();
        self.sent = 0;
        self.given_up.clear();
        self.refuses = false;
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

/// Asked to take a transactional ID over before a broker is connected, librdkafka looks for one again after a quarter of a
/// second only. The first answer replaces the bootstrap servers' connections; the second comes from one that stays.
fn get_connected(producer: &NativeProducer, own_topic: &TopicHandle) {
    for _ in 0..2 {
        if producer.metadata(own_topic, CONNECTING_LONGEST).is_err() {
            return; // that it cannot be reached says whatever comes next
        }
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
