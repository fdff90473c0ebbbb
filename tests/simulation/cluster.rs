//! The cluster: partitions, the transaction coordinator, and the time in which all of it happens.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::fmt::Write as _;

use crate::history;
use crate::partition::Partition;
use crate::planted::Planted;
use crate::rng::Rng;
use kafka_message_scheduler::schedule::Headers;

/// When a run begins, epoch milliseconds: what clocks say that nobody has set wrong.
pub const BEGIN_MS: i64 = 1_800_000_000_000;

pub const SECOND_US: u64 = 1_000_000;

/// How long the broker lets a transaction be open.
pub const TRANSACTION_TIMEOUT_US: u64 = 10 * SECOND_US;

/// What happens at some time.
#[derive(Clone, Debug)]
pub enum Event {
    /// An actor goes on, if it has not done so since `turn`.
    Resume { actor: usize, turn: u64 },
    /// A marker reaches a partition.
    Marker { partition: usize, producer: u64, commit: bool },
    /// All markers of a transaction are written.
    Ended { id: String, producer: u64 },
    /// A request to end a transaction that was sent long ago arrives.
    StaleEnd { id: String, epoch: Epoch, commit: bool },
    /// The broker ends a transaction that is open for too long.
    TimedOut { id: String, epoch: Epoch, begun_us: u64 },
    /// Anything that the run itself does.
    Run(crate::run::Happening),
}

/// A producer and its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Epoch {
    pub producer: u64,
    pub epoch: u32,
}

/// Why a request did nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A newer epoch has taken over.
    Fenced,
    /// The markers of the transaction before are not all written yet: ask again.
    Concurrent,
    /// There is no such transaction.
    Invalid,
}

/// What the coordinator knows of a transactional ID.
#[derive(Debug)]
struct Transactional {
    epoch: Epoch,
    phase: TransactionPhase,
    partitions: BTreeSet<usize>,
    messages: Vec<history::Message>,
    begun_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TransactionPhase {
    Empty,
    Ongoing,
    /// Decided; markers are on their way.
    Ending {
        commit: bool,
    },
    /// All markers are written.
    Ended {
        commit: bool,
    },
}

/// An actor that waits for something to read.
#[derive(Clone, Copy, Debug)]
struct Waiter {
    actor: usize,
    turn: u64,
    partition: usize,
}

/// Everything but the instances.
pub struct Cluster {
    pub now_us: u64,
    pub rng: Rng,
    pub planted: Option<Planted>,
    pub partitions: Vec<Partition>,
    /// Messages of committed transactions, and of none.
    pub delivered: Vec<history::Message>,
    transactional: BTreeMap<String, Transactional>,
    next_producer: u64,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    /// By their number, which is the order in which they were made.
    waiting_events: BTreeMap<u64, Event>,
    next_event: u64,
    waiters: Vec<Waiter>,
    /// Errors and delays happen.
    pub faulty: bool,
    /// How long a request or an answer takes while they do not.
    pub latency_us: (u64, u64),
    /// The storm is over: nothing new is begun.
    pub calm: bool,
    pub trace: Trace,
    /// Rules of the design that were seen broken, whether or not anything came of it.
    pub broken_rules: Vec<String>,
}

/// What the headers of a tombstone say, for the trace.
struct Named<'a>(Headers<'a>);

impl std::fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fired = self.0.iter().find(|header| header.name == "kms-fired").and_then(|header| header.value);
        fired.map_or(Ok(()), |fired| write!(f, ", fired {}", String::from_utf8_lossy(fired)))
    }
}

/// What happened, as text or only its hash.
#[derive(Default)]
pub struct Trace {
    pub hash: u64,
    pub lines: Option<Vec<String>>,
}

impl Trace {
    pub fn add(&mut self, now_us: u64, what: std::fmt::Arguments<'_>) {
        let mut line = String::new();
        write!(line, "{:>12.6} {what}", now_us as f64 / 1e6).expect("a string takes anything");
        for byte in line.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        if let Some(lines) = &mut self.lines {
            lines.push(line);
        }
    }
}

impl Cluster {
    pub fn new(seed: u64, partitions: usize, planted: Option<Planted>) -> Self {
        Self {
            now_us: 0,
            rng: Rng::new(seed),
            planted,
            partitions: (0..partitions).map(Partition::new).collect(),
            delivered: Vec::new(),
            transactional: BTreeMap::new(),
            next_producer: 1,
            events: BinaryHeap::new(),
            waiting_events: BTreeMap::new(),
            next_event: 0,
            waiters: Vec::new(),
            faulty: true,
            latency_us: (100, 2_000),
            calm: false,
            trace: Trace::default(),
            broken_rules: Vec::new(),
        }
    }

    pub fn has(&self, planted: Planted) -> bool {
        self.planted == Some(planted)
    }

    pub fn note(&mut self, what: std::fmt::Arguments<'_>) {
        self.trace.add(self.now_us, what);
    }

    /// What a clock says that is right.
    pub fn true_ms(&self) -> i64 {
        BEGIN_MS + (self.now_us / 1_000) as i64
    }

    /// How long a request or an answer takes now.
    pub fn latency_us(&mut self) -> u64 {
        let (least, most) = self.latency_us;
        if !self.faulty {
            return self.rng.between(least, most);
        }
        // Mostly a millisecond, at times seconds.
        match self.rng.below(1_000) {
            0..900 => self.rng.between(100, 2_000),
            900..980 => self.rng.between(2_000, 40_000),
            980..996 => self.rng.between(40_000, 600_000),
            _ => self.rng.between(600_000, 4_000_000),
        }
    }

    pub fn schedule(&mut self, at_us: u64, event: Event) {
        self.events.push(Reverse((at_us.max(self.now_us), self.next_event)));
        self.waiting_events.insert(self.next_event, event);
        self.next_event += 1;
    }

    pub fn schedule_in(&mut self, delay_us: u64, event: Event) {
        self.schedule(self.now_us + delay_us, event);
    }

    /// Takes the next event before `until_us`, and lets its time come.
    pub fn next_event(&mut self, until_us: u64) -> Option<Event> {
        let Reverse((at_us, number)) = *self.events.peek()?;
        if at_us >= until_us {
            return None;
        }
        self.events.pop();
        self.now_us = at_us;
        self.waiting_events.remove(&number)
    }

    /// The actor is to be woken when there is something new to read.
    pub fn wait_for(&mut self, actor: usize, turn: u64, partition: usize) {
        self.waiters.retain(|waiter| waiter.actor != actor);
        self.waiters.push(Waiter { actor, turn, partition });
    }

    fn wake_readers(&mut self, partition: usize) {
        let (woken, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.waiters).into_iter().partition(|waiter| waiter.partition == partition);
        self.waiters = rest;
        for Waiter { actor, turn, .. } in woken {
            let delay_us = self.latency_us();
            self.schedule_in(delay_us, Event::Resume { actor, turn });
        }
    }

    /// Appends a record outside any transaction.
    pub fn append(
        &mut self,
        partition: usize,
        key: &[u8],
        value: Option<&[u8]>,
        headers: Headers<'_>,
    ) -> i64 {
        let offset = self.partitions[partition].append(key, value, headers, None, self.now_us);
        self.note(format_args!(
            "{partition}@{offset} {} {}{}",
            String::from_utf8_lossy(key),
            if value.is_some() { "set" } else { "removed" },
            Named(headers)
        ));
        self.wake_readers(partition);
        offset
    }

    /// Takes a transactional ID over: what its owner before has open is aborted, and what it sends later refused.
    pub fn initialise(&mut self, id: &str) -> Result<Epoch, Refused> {
        let Some(known) = self.transactional.get(id) else {
            let epoch = Epoch { producer: self.next_producer, epoch: 0 };
            self.next_producer += 1;
            let fresh = Transactional {
                epoch,
                phase: TransactionPhase::Empty,
                partitions: BTreeSet::new(),
                messages: Vec::new(),
                begun_us: 0,
            };
            self.transactional.insert(id.to_owned(), fresh);
            return Ok(epoch);
        };
        match known.phase {
            TransactionPhase::Ending { .. } => Err(Refused::Concurrent),
            TransactionPhase::Ongoing => {
                self.bump(id);
                self.decide(id, false);
                Err(Refused::Concurrent)
            }
            TransactionPhase::Empty | TransactionPhase::Ended { .. } => {
                self.bump(id);
                let known = self.transactional.get_mut(id).expect("looked up above");
                known.phase = TransactionPhase::Empty;
                Ok(known.epoch)
            }
        }
    }

    /// The epoch that owns the transactional ID now, for who does not take it over.
    pub fn current_epoch(&self, id: &str) -> Option<Epoch> {
        self.transactional.get(id).map(|known| known.epoch)
    }

    fn bump(&mut self, id: &str) {
        let known = self.transactional.get_mut(id).expect("it is known");
        known.epoch.epoch += 1;
        let epoch = known.epoch;
        self.note(format_args!("{id} has epoch {}", epoch.epoch));
    }

    /// Joins a partition to the transaction, which begins with the first; a destination has none.
    fn join(&mut self, id: &str, epoch: Epoch, partition: Option<usize>) -> Result<(), Refused> {
        let now_us = self.now_us;
        let known = self.transactional.get_mut(id).ok_or(Refused::Invalid)?;
        if known.epoch != epoch {
            return Err(Refused::Fenced);
        }
        match known.phase {
            TransactionPhase::Ending { .. } => return Err(Refused::Concurrent),
            TransactionPhase::Ongoing => {}
            TransactionPhase::Empty | TransactionPhase::Ended { .. } => {
                known.phase = TransactionPhase::Ongoing;
                known.begun_us = now_us;
                let timed_out = Event::TimedOut { id: id.to_owned(), epoch, begun_us: now_us };
                self.schedule(now_us + TRANSACTION_TIMEOUT_US, timed_out);
            }
        }
        let known = self.transactional.get_mut(id).expect("looked up above");
        known.partitions.extend(partition);
        Ok(())
    }

    /// Appends a record in a transaction.
    pub fn append_in(
        &mut self,
        id: &str,
        epoch: Epoch,
        partition: usize,
        key: &[u8],
        value: Option<&[u8]>,
        headers: Headers<'_>,
    ) -> Result<i64, Refused> {
        self.join(id, epoch, Some(partition))?;
        let offset =
            self.partitions[partition].append(key, value, headers, Some(epoch.producer), self.now_us);
        self.note(format_args!(
            "{partition}@{offset} {} {}{} by {id}",
            String::from_utf8_lossy(key),
            if value.is_some() { "set" } else { "removed" },
            Named(headers)
        ));
        Ok(offset)
    }

    /// Delivers messages outside any transaction.
    pub fn deliver(&mut self, messages: Vec<history::Message>) {
        self.note_messages(&messages, "nobody");
        self.delivered.extend(messages);
    }

    fn note_messages(&mut self, messages: &[history::Message], id: &str) {
        for history::Message { key, payload_id, .. } in messages {
            self.note(format_args!("message of {}, {payload_id:x}, by {id}", String::from_utf8_lossy(key)));
        }
    }

    /// Puts messages into a transaction.
    pub fn deliver_in(
        &mut self,
        id: &str,
        epoch: Epoch,
        messages: Vec<history::Message>,
    ) -> Result<(), Refused> {
        self.join(id, epoch, None)?;
        self.note_messages(&messages, id);
        self.transactional.get_mut(id).expect("joined").messages.extend(messages);
        Ok(())
    }

    /// Ends a transaction.
    pub fn end(&mut self, id: &str, epoch: Epoch, commit: bool) -> Result<(), Refused> {
        let known = self.transactional.get(id).ok_or(Refused::Invalid)?;
        if known.epoch != epoch {
            return Err(Refused::Fenced);
        }
        match known.phase {
            TransactionPhase::Empty => Ok(()),
            TransactionPhase::Ongoing => {
                self.decide(id, commit);
                Ok(())
            }
            TransactionPhase::Ending { commit: decided } | TransactionPhase::Ended { commit: decided } => {
                if decided == commit {
                    Ok(())
                } else {
                    Err(Refused::Invalid)
                }
            }
        }
    }

    /// Whether a transaction of this epoch is open.
    pub fn is_open(&self, id: &str, epoch: Epoch) -> bool {
        self.transactional
            .get(id)
            .is_some_and(|known| known.epoch == epoch && known.phase == TransactionPhase::Ongoing)
    }

    /// From here on it is decided; each partition hears of it in its own time.
    fn decide(&mut self, id: &str, commit: bool) {
        self.note(format_args!("{id} {}", if commit { "commits" } else { "aborts" }));
        let known = self.transactional.get_mut(id).expect("it is known");
        known.phase = TransactionPhase::Ending { commit };
        let producer = known.epoch.producer;
        let messages = std::mem::take(&mut known.messages);
        let partitions = std::mem::take(&mut known.partitions);
        if commit {
            self.delivered.extend(messages);
        }
        let mut last_us = self.now_us;
        for partition in partitions {
            let at_us = self.now_us + self.latency_us();
            last_us = last_us.max(at_us);
            self.schedule(at_us, Event::Marker { partition, producer, commit });
        }
        self.schedule(last_us, Event::Ended { id: id.to_owned(), producer });
    }

    /// Does what an event of the cluster's own asks for; gives back any other.
    pub fn happen(&mut self, event: Event) -> Option<Event> {
        match event {
            Event::Marker { partition, producer, commit } => {
                self.partitions[partition].end_transaction(producer, commit);
                self.note(format_args!("{partition}: marker of {producer}, {commit}"));
                self.wake_readers(partition);
            }
            Event::Ended { id, producer } => {
                if let Some(known) = self.transactional.get_mut(&id)
                    && known.epoch.producer == producer
                    && let TransactionPhase::Ending { commit } = known.phase
                {
                    known.phase = TransactionPhase::Ended { commit };
                }
            }
            Event::StaleEnd { id, epoch, commit } => {
                let outcome = self.end(&id, epoch, commit);
                self.note(format_args!("a request of long ago to end {id}: {outcome:?}"));
            }
            Event::TimedOut { id, epoch, begun_us } => {
                let is_it = self.transactional.get(&id).is_some_and(|known| known.begun_us == begun_us);
                if is_it && self.is_open(&id, epoch) {
                    self.note(format_args!("{id} timed out"));
                    self.bump(&id);
                    self.decide(&id, false);
                }
            }
            other => return Some(other),
        }
        None
    }
}
