//! The calls of a shard's transaction one by one, made as the scheduler makes them, and what each comes to.
#![allow(dead_code, reason = "each test binary uses its own part of this")]
#![allow(unreachable_pub, reason = "a module of test binaries has no outside")]
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests panic and look at the clock")]

use std::thread;
use std::time::{Duration, Instant};

use kafka_message_scheduler::config::{Settings, Sources};
use kafka_message_scheduler::kafka::producer::{Mode, ShardProducer};
use kafka_message_scheduler::kafka::{Kind, Message, SendError, TransactionError, Transactions, client};
use kafka_message_scheduler::schedule::Headers;

/// How long one attempt of a call may block, as in the scheduler.
pub const SLICE: Duration = Duration::from_millis(250);
/// How long a call may ask to be made again.
const PATIENCE: Duration = Duration::from_secs(30);

/// What is asked of [`Transactions`], in the order of a transaction that succeeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Call {
    Fence,
    /// Begins a transaction and writes a record to the own partition.
    Append,
    /// Sends a message to the destination.
    Send,
    Commit,
    /// In place of a commit.
    Abort,
}

/// Checks each case by itself, all at once: most of the time they wait.
pub fn for_each<T: Send>(cases: impl IntoIterator<Item = T>, check: impl Fn(T) + Sync) {
    let check = &check;
    thread::scope(|threads| {
        for case in cases {
            threads.spawn(move || check(case));
        }
    });
}

/// What a call came to in the end: one that asks to be made again was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Done,
    /// It succeeded, but the producer has to be replaced before the next transaction.
    DoneLate,
    Failed(Kind),
    /// The message was refused, by its own name.
    Refused(SendError),
}

/// The producer of partition 0 of a topic, and one destination.
pub struct Calls {
    pub producer: ShardProducer,
    destination: String,
    mode: Mode,
    /// The offsets of the own records that were acknowledged.
    pub own_offsets: Vec<i64>,
    /// How often a call asked to be made again.
    pub asked_again: usize,
    keys: usize,
}

/// Names the message in what the producer says of it.
const TAG: usize = 7;

impl Calls {
    /// As the scheduler sets its producers up, on the cluster at `bootstrap`.
    pub fn new(bootstrap: &str, topic: &str, destination: &str, mode: Mode, timeout: &str) -> Self {
        let delivery = if mode == Mode::Plain { "at-least-once" } else { "exactly-once" };
        let environment =
            [("KAFKA_BROKERS", bootstrap), ("KMS_DELIVERY", delivery), ("KMS_TRANSACTION__TIMEOUT", timeout)];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let settings = Settings::load(&Sources { environment, ..Sources::default() }).unwrap().settings;
        let config = client::producer(&settings).unwrap();
        Self {
            producer: ShardProducer::new(config, topic, 0, format!("kms:{topic}:0"), mode),
            destination: destination.to_owned(),
            mode,
            own_offsets: Vec::new(),
            asked_again: 0,
            keys: 0,
        }
    }

    /// Makes all calls before `call`, which have to succeed.
    #[track_caller]
    pub fn up_to(&mut self, call: Call) {
        let before: &[Call] = match (self.mode, call) {
            (_, Call::Fence) => &[],
            (Mode::Plain, Call::Send) | (Mode::Transactional, Call::Append) => &[Call::Fence],
            (Mode::Plain, _) => &[Call::Fence, Call::Send],
            (Mode::Transactional, Call::Send) => &[Call::Fence, Call::Append],
            (Mode::Transactional, _) => &[Call::Fence, Call::Append, Call::Send],
        };
        for &call in before {
            self.succeed(call);
        }
    }

    /// Makes a call that has to succeed.
    #[track_caller]
    pub fn succeed(&mut self, call: Call) {
        let outcome = self.make(call);
        assert!(matches!(outcome, Outcome::Done | Outcome::DoneLate), "{call:?} came to {outcome:?}");
    }

    /// Makes a call, again for as long as it asks for that.
    #[track_caller]
    pub fn make(&mut self, call: Call) -> Outcome {
        if let Err(outcome) = self.start(call) {
            return outcome;
        }
        self.finish(call)
    }

    /// The part of a call that waits, again for as long as it asks for that.
    #[track_caller]
    pub fn finish(&mut self, call: Call) -> Outcome {
        let started = Instant::now();
        loop {
            match self.attempt(call, SLICE) {
                Ok(outcome) => return outcome,
                Err(error) if error.kind == Kind::Retriable => self.asked_again += 1,
                Err(error) => return Outcome::Failed(error.kind),
            }
            assert!(started.elapsed() < PATIENCE, "{call:?} asks to be made again, without end");
        }
    }

    /// The part of a call that does not wait.
    pub fn start(&mut self, call: Call) -> Result<(), Outcome> {
        self.keys += 1;
        let key = format!("key-{}", self.keys);
        let failed = |error: TransactionError| Outcome::Failed(error.kind);
        match call {
            Call::Append => {
                if self.mode == Mode::Transactional {
                    self.producer.begin().map_err(failed)?;
                }
                self.producer.append(key.as_bytes(), None, Headers::default()).map_err(failed)
            }
            Call::Send => {
                let destination = self.destination.clone();
                self.send(&destination, b"value", TAG).map_err(Outcome::Refused)
            }
            Call::Fence | Call::Commit | Call::Abort => Ok(()),
        }
    }

    /// Makes the part of a call that waits once, for at most `wait`.
    pub fn attempt(&mut self, call: Call, wait: Duration) -> Result<Outcome, TransactionError> {
        let ended = |late| if late { Outcome::DoneLate } else { Outcome::Done };
        match call {
            Call::Fence => self.producer.fence(wait).map(|()| Outcome::Done),
            Call::Append => {
                let offsets = self.producer.appended(wait)?;
                assert_eq!(offsets.len(), 1, "one record was appended");
                self.own_offsets.extend(offsets);
                Ok(Outcome::Done)
            }
            Call::Send => {
                self.producer.delivered(wait)?;
                match &self.producer.failures()[..] {
                    [] => Ok(Outcome::Done),
                    [(TAG, error)] => Ok(Outcome::Refused(error.clone())),
                    others => panic!("these failed, and were not sent: {others:?}"),
                }
            }
            Call::Commit => self.producer.commit(wait).map(ended),
            Call::Abort => self.producer.abort(wait).map(ended),
        }
    }

    /// Waits until all messages are answered; those that failed, by their tags.
    #[track_caller]
    pub fn failures(&mut self) -> Result<Vec<(usize, SendError)>, Outcome> {
        let started = Instant::now();
        while started.elapsed() < PATIENCE {
            match self.producer.delivered(SLICE) {
                Ok(()) => return Ok(self.producer.failures()),
                Err(error) if error.kind == Kind::Retriable => {}
                Err(error) => return Err(Outcome::Failed(error.kind)),
            }
        }
        panic!("the messages are not answered");
    }

    /// Enqueues a message.
    pub fn send(&mut self, destination: &str, value: &[u8], tag: usize) -> Result<(), SendError> {
        let message = Message {
            topic: destination,
            key: b"key",
            value: Some(value),
            headers: Headers::default(),
            extra_headers: Headers::default(),
        };
        self.producer.send(&message, tag)
    }

    /// Does what the outcome of a call asks for ([`Kind`] says it), and then a whole transaction, which has to succeed.
    #[track_caller]
    pub fn go_on_after(&mut self, call: Call, outcome: &Outcome) {
        match (self.mode, outcome) {
            (Mode::Transactional, Outcome::Done) if (Call::Append..Call::Commit).contains(&call) => {
                if call == Call::Append {
                    self.succeed(Call::Send);
                }
                self.end();
            }
            (Mode::Plain, Outcome::Refused(error)) if error.is_transient() => self.send_until_taken(),
            (_, Outcome::Done) | (Mode::Plain, Outcome::Refused(_)) => {}
            (Mode::Transactional, Outcome::Failed(Kind::Abortable) | Outcome::Refused(_)) => {
                self.succeed(Call::Abort);
                self.succeed(Call::Fence);
            }
            (_, Outcome::DoneLate | Outcome::Failed(_)) => self.succeed(Call::Fence),
        }
        self.whole_transaction();
    }

    /// One more transaction from begin to commit, or its like without transactions.
    #[track_caller]
    pub fn whole_transaction(&mut self) {
        match self.mode {
            Mode::Transactional => {
                self.succeed(Call::Append);
                self.succeed(Call::Send);
                self.end();
            }
            Mode::Plain => {
                self.succeed(Call::Send);
                self.succeed(Call::Append);
            }
        }
    }

    /// A connection that was lost comes back when librdkafka tries it again.
    #[track_caller]
    fn send_until_taken(&mut self) {
        let started = Instant::now();
        while matches!(self.make(Call::Send), Outcome::Refused(error) if error.is_transient()) {
            assert!(started.elapsed() < PATIENCE, "the broker is back and takes no message");
        }
    }

    #[track_caller]
    fn end(&mut self) {
        match self.make(Call::Commit) {
            Outcome::Done => {}
            Outcome::DoneLate => self.succeed(Call::Fence),
            other => panic!("the commit came to {other:?}"),
        }
    }
}
