//! Kafka behind three narrow traits: the [`Log`] a shard reads, the [`Transactions`] it writes, and the [`Clock`].
//!
//! The scheduler is generic over them: a shard's code knows neither librdkafka nor the machine's clocks. Everything
//! unsafe lives in `ffi`.

pub mod client;
pub mod clock;
pub mod connection;
pub mod context;
pub mod embedded;
mod ffi;
pub mod group;
pub mod log;
pub mod observer;
pub mod producer;
pub mod raw;
pub mod topics;
pub mod troubles;

use std::ops::Range;
use std::time::Duration;

pub use rdkafka::ClientConfig;
pub use rdkafka::error::KafkaError;

use crate::schedule::Headers;

/// Gives back to the system what librdkafka needed for a load and needs no more. Takes some milliseconds.
pub fn give_back_memory() {
    ffi::give_back();
}

/// Where the time comes from.
pub trait Clock {
    /// The wall clock, milliseconds since the Unix epoch. May step either way.
    fn now_ms(&self) -> i64;

    /// A clock that only goes forward, microseconds since some fixed instant; for time-outs, back-off and durations.
    fn monotonic_us(&self) -> u64;

    /// The same in milliseconds.
    fn monotonic_ms(&self) -> u64 {
        self.monotonic_us() / 1_000
    }

    /// How long the machine has been up, which means something to another process of the same boot, too. `None` where that
    /// is not known.
    fn uptime(&self) -> Option<Uptime> {
        None
    }
}

/// How long a machine has been up, the time it was suspended included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uptime {
    /// Which boot, out of all of all machines.
    pub boot_id: [u8; 16],
    /// Milliseconds since.
    pub since_boot_ms: u64,
}

/// One partition of a schedule topic, read in order with read-committed isolation.
pub trait Log {
    /// Waits up to `wait` for something to read, then hands at most `max` items to `sink`, in log order; none after a
    /// wait in vain or a wake-up.
    fn read(&mut self, wait: Duration, max: usize, sink: &mut dyn FnMut(LogItem<'_>))
    -> Result<(), LogError>;

    /// The tombstones at these offsets are known: from now on they are handed over as [`LogItem::Known`], which costs less.
    /// Takes the place of what it was told before.
    fn know(&mut self, offsets: Range<i64>);

    /// The offset before which everything readable was handed over, as far as it is known without waiting.
    fn position(&mut self) -> i64;

    /// Waits without reading anything.
    fn pause(&mut self, wait: Duration);

    /// Records that were fetched and are not read yet, as far as that is known.
    fn fetched(&self) -> usize {
        0
    }

    /// The partition's high watermark as last heard, without asking; `None` before anything was heard.
    fn known_end(&self) -> Option<i64>;

    /// Where the partition begins and ends, open transactions included.
    fn watermarks(&mut self, wait: Duration) -> Result<Watermarks, LogError>;

    /// Asks for the same without waiting; [`watermarks_answer`](Self::watermarks_answer) has the answer later. Asked again, a
    /// question that is not answered yet is forgotten.
    fn ask_watermarks(&mut self);

    /// The answer to [`ask_watermarks`](Self::ask_watermarks), once.
    fn watermarks_answer(&mut self) -> Option<Result<Watermarks, LogError>>;

    /// Has the brokers check that the log is still the one that `resume` is about, which was read up to there at another
    /// time. Called before anything is read, and maybe again until something is: nothing is handed over before they have
    /// agreed, and if they do not, [`read`](Self::read) says that the position is gone.
    fn confirm(&mut self, resume: Resume, wait: Duration) -> Result<(), LogError>;

    /// From where the log can be read on by whoever keeps what was handed over so far; `None` before the first record.
    fn resume(&mut self) -> Option<Resume>;

    /// The topic's ID, which a topic that is deleted and created again does not keep; empty where the cluster has none.
    fn topic_id(&mut self, wait: Duration) -> Result<String, LogError>;
}

/// Where a partition begins and ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watermarks {
    /// The first offset that is there. Compaction does not move it, deleting records does.
    pub low: i64,
    /// The high watermark: the next offset.
    pub high: i64,
}

/// A place in a log to go on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resume {
    /// The next record's offset, or one before it.
    pub offset: i64,
    /// The leader epoch of what lies before it: by this a broker knows whether the log is still the same there. `None`
    /// where brokers do not tell.
    pub leader_epoch: Option<i32>,
}

/// What [`Log::read`] hands over.
#[derive(Clone, Copy, Debug)]
pub enum LogItem<'a> {
    /// A committed record.
    Record(LogRecord<'a>),
    /// A committed tombstone at this offset, of those that are [known](Log::know).
    Known(i64),
    /// The keys of the records that come next, for whoever can make use of knowing them a little ahead.
    Ahead(&'a [&'a [u8]]),
    /// Everything readable before this offset has been handed over.
    End(i64),
}

/// A record of a schedule topic.
#[derive(Clone, Copy, Debug)]
pub struct LogRecord<'a> {
    /// Its offset in the partition.
    pub offset: i64,
    /// Its key: the schedule ID.
    pub key: Option<&'a [u8]>,
    /// Its value: the encoded schedule; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers.
    pub headers: Headers<'a>,
}

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The position no longer exists: records were deleted, the log was truncated or the topic created anew. What was
    /// loaded before stands for a log that is gone.
    #[error(
        "the log no longer holds the position of this partition ({0}); it is loaded again from the beginning"
    )]
    OutOfRange(String),
    /// Try again.
    #[error("{0}")]
    Retriable(String),
}

/// A message on its way to its destination.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// The destination topic.
    pub topic: &'a str,
    /// The message's key; the partition follows from it as Java's default partitioner would have it.
    pub key: &'a [u8],
    /// The message's value; `None` is null.
    pub value: Option<&'a [u8]>,
    /// The message's headers.
    pub headers: Headers<'a>,
    /// Headers of the scheduler's own, after the schedule's.
    pub extra_headers: Headers<'a>,
}

/// What a shard writes: messages to destinations and records to its own partition.
///
/// Calls that may block take a `wait` and answer [`Kind::Retriable`] when it ends first: the same call is then made
/// again. A transaction goes `begin`, `append`…, `appended`, `send`…, `delivered`, `commit` (or `abort` at any point).
/// Without transactions (at-least-once) `begin`, `commit` and `abort` are left out.
pub trait Transactions {
    /// Takes the partition over: a fresh producer, whose start ends whatever an earlier owner left open and refuses
    /// all it sends later.
    fn fence(&mut self, wait: Duration) -> Result<(), TransactionError>;

    /// Opens a transaction.
    fn begin(&mut self) -> Result<(), TransactionError>;

    /// Enqueues a record to the shard's own partition. Nothing is sent before [`appended`](Self::appended).
    fn append(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        headers: Headers<'_>,
    ) -> Result<(), TransactionError>;

    /// Sends the records enqueued by [`append`](Self::append) and waits for their offsets, in order of appending.
    fn appended(&mut self, wait: Duration) -> Result<Vec<i64>, TransactionError>;

    /// Enqueues a message; `tag` names it in [`failures`](Self::failures). One that comes when the transaction has failed
    /// already is dropped, as those before it were: [`delivered`](Self::delivered) says so.
    fn send(&mut self, message: &Message<'_>, tag: usize) -> Result<(), SendError>;

    /// Waits until every message enqueued by [`send`](Self::send) is acknowledged or failed. An error is not about any one
    /// message that could be named.
    fn delivered(&mut self, wait: Duration) -> Result<(), TransactionError>;

    /// The messages that failed since the last call, by tag.
    fn failures(&mut self) -> Vec<(usize, SendError)>;

    /// Commits. `Ok(true)`: committed, but so late that the producer must be replaced ([`fence`](Self::fence)) before
    /// the next transaction: an answer still under way could end that one instead.
    fn commit(&mut self, wait: Duration) -> Result<bool, TransactionError>;

    /// Aborts, dropping whatever was enqueued. `Ok(true)`: as for [`commit`](Self::commit).
    fn abort(&mut self, wait: Duration) -> Result<bool, TransactionError>;

    /// Called now and then between transactions: lets the producer say what it has to say, which would pile up unheard.
    fn idle(&mut self) {}

    /// Whether a destination can be written to, as far as can be known before trying. Cached; asks the cluster (which
    /// creates the topic where it creates topics for producers) once for a new name.
    fn check_destination(&mut self, topic: &str) -> Result<(), SendError>;
}

/// What to do about an error of [`Transactions`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Make the same call again.
    Retriable,
    /// Abort the transaction; its entries stay. Then [`Transactions::fence`]: a record that was refused leaves a gap in
    /// what the producer has numbered, and its next transaction would fail for that.
    Abortable,
    /// The producer is finished: [`Transactions::fence`] again, catch up with the log, go on.
    Fatal,
    /// Another instance has taken the partition over.
    Fenced,
}

/// An error of [`Transactions`], with what to do about it.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{call}: {reason}")]
pub struct TransactionError {
    /// What to do.
    pub kind: Kind,
    /// The call that failed.
    pub call: &'static str,
    /// What Kafka says.
    pub reason: String,
}

/// Why a message cannot be delivered to its destination.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SendError {
    /// The topic does not exist (and is not created for producers).
    #[error("the destination topic does not exist; create it")]
    UnknownTopic,
    /// It exists and does not answer, while others do: its leader is out of reach, or too few of its replicas are there.
    #[error(
        "the destination did not take the message in time; see to its leader and its min.insync.replicas"
    )]
    NoAnswer,
    /// A partition of it has no leader.
    #[error("a partition of the destination has no leader; bring its broker back")]
    NoLeader,
    /// The scheduler may not write to it.
    #[error("not authorised to write to the destination; grant the scheduler WRITE on it")]
    NotAuthorized,
    /// The message, or the batch it was sent in, is larger than client or broker allow.
    #[error(
        "the message is larger than allowed; raise max.message.bytes of the destination (and message.max.bytes)"
    )]
    TooLarge,
    /// Kafka has no topic of such a name.
    #[error("the destination is not a legal topic name (1 to 249 of a-z A-Z 0-9 . _ -)")]
    IllegalName,
    /// The scheduler's settings forbid it.
    #[error("the settings refuse the destination: see destinations.allow, .deny and .schedule_topics")]
    Denied,
    /// The queue to the broker is full for the moment.
    #[error("the producer's queue is full")]
    QueueFull,
    /// The broker did not answer; no fault of the message's.
    #[error("the broker did not answer in time: {0}")]
    Unavailable(String),
    /// Anything else.
    #[error("{0}")]
    Other(String),
}

impl SendError {
    /// Whether the error is about the destination topic as a whole, so that every message to it would meet it.
    #[must_use]
    pub fn concerns_topic(&self) -> bool {
        matches!(
            self,
            Self::UnknownTopic
                | Self::NoAnswer
                | Self::NoLeader
                | Self::NotAuthorized
                | Self::IllegalName
                | Self::Denied
        )
    }

    /// Whether the broker or the way to it is to blame, not the message.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::QueueFull)
    }
}
