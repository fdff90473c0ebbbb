//! What a shard knows of Kafka: its log, its transactions and its clock, over the cluster of the run.
//!
//! A shard runs as a coroutine. Whatever takes time gives way to everything else that happens meanwhile: a request acts
//! at some moment after it was sent, and its answer comes some time after that.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use corosensei::Yielder;
use kafka_message_scheduler::kafka::producer::{END_SUSPECT_AFTER, Mode};
use kafka_message_scheduler::kafka::{
    Clock, Kind, Log, LogError, LogItem, LogRecord, Message, Resume, SendError, TransactionError,
    Transactions, Uptime, Watermarks,
};
use kafka_message_scheduler::schedule::Headers;
use kafka_message_scheduler::scheduler::status::{PartitionStatus, Phase};

use crate::cluster::{Cluster, Epoch, Event, Refused, SECOND_US};
use crate::history;
use crate::partition::Stored;
use crate::planted::Planted;

/// Messages to this destination are refused by the broker, each time.
pub const REFUSING: &str = "refusing";
/// This destination does not exist before all is calm.
pub const MISSING: &str = "missing";
/// The leader of this destination answers nobody: what is sent there is given up after [`GIVEN_UP_AFTER_US`].
pub const SILENT: &str = "silent";
pub const GIVEN_UP_AFTER_US: u64 = 2 * SECOND_US;

/// librdkafka asks again after a second whether a transaction has ended; the first request may still arrive.
const ASKS_AGAIN_AFTER_US: u64 = SECOND_US;
/// A producer whose transaction took that long to end is replaced.
const END_SUSPECT_AFTER_US: u64 = END_SUSPECT_AFTER.as_micros() as u64;

/// What an instance's shards have in common.
#[derive(Debug, Default)]
pub struct Machine {
    /// How far the wall clock is from the truth.
    pub clock_error_ms: Cell<i64>,
    /// The network is cut until then.
    pub cut_until_us: Cell<u64>,
}

/// A shard's place in the run.
pub struct Seat<'y> {
    pub yielder: &'y Yielder<(), ()>,
    pub cluster: Rc<RefCell<Cluster>>,
    pub machine: Rc<Machine>,
    pub actor: usize,
    pub partition: usize,
    /// Counts how often the shard has gone on; what was to wake it before then is void.
    pub turn: Rc<Cell<u64>>,
    /// The group takes the partition back: until the shard has ended, nothing is read.
    pub is_revoked: Rc<Cell<bool>>,
    /// The latest time that the shard was told since it last read: what it fires was due by then.
    pub told_ms: Cell<i64>,
    /// Where the log ended when the predecessor was fenced.
    pub fenced_at: Cell<i64>,
    /// Up to where the shard has been handed the log.
    pub handed_over: Cell<i64>,
    /// What the shard lets others see of itself.
    pub figures: Arc<PartitionStatus>,
}

impl Seat<'_> {
    fn now_us(&self) -> u64 {
        self.cluster.borrow().now_us
    }

    fn sleep_until(&self, at_us: u64) {
        while self.now_us() < at_us {
            self.wait(at_us, None);
        }
    }

    fn sleep_a_latency(&self) {
        let until_us = {
            let mut cluster = self.cluster.borrow_mut();
            cluster.now_us + cluster.latency_us()
        };
        self.sleep_until(until_us);
    }

    /// Waits until then, for something to read in the partition, or to be woken.
    fn wait(&self, until_us: u64, partition: Option<usize>) {
        let turn = self.turn.get();
        {
            let mut cluster = self.cluster.borrow_mut();
            cluster.schedule(until_us, Event::Resume { actor: self.actor, turn });
            if let Some(partition) = partition {
                cluster.wait_for(self.actor, turn, partition);
            }
        }
        self.yielder.suspend(());
    }
}

pub struct SimClock<'y>(pub Rc<Seat<'y>>);

impl Clock for SimClock<'_> {
    fn now_ms(&self) -> i64 {
        let now_ms = self.0.cluster.borrow().true_ms() + self.0.machine.clock_error_ms.get();
        self.0.told_ms.set(self.0.told_ms.get().max(now_ms));
        now_ms
    }

    fn monotonic_us(&self) -> u64 {
        self.0.now_us()
    }

    fn uptime(&self) -> Option<Uptime> {
        Some(Uptime { boot_id: [1; 16], since_boot_ms: self.0.now_us() / 1_000 })
    }
}

/// Where a consumer is in the log; two that share it take records from each other.
#[derive(Debug, Default)]
pub struct Position {
    fetched: VecDeque<(i64, Stored)>,
    /// What is fetched next begins here.
    next: i64,
    /// The offset after the last record handed over.
    after_record: i64,
    /// The end that was said last.
    said_end: Option<i64>,
    /// It was said that the log no longer holds the position: nothing more is fetched.
    is_gone: bool,
}

impl Position {
    pub fn at(next: i64) -> Self {
        Self { next, ..Self::default() }
    }

    /// Whether anything was heard of the log: before, nobody knows whether it is still there.
    fn has_started(&self) -> bool {
        self.after_record > 0 || self.said_end.is_some()
    }
}

pub struct SimLog<'y> {
    pub seat: Rc<Seat<'y>>,
    pub position: Rc<RefCell<Position>>,
    /// The end of the log before the partition was taken over.
    pub end_at_start: i64,
    /// What the ends were when they were asked for, and when the answer comes.
    pub watermarks_asked: Option<(Watermarks, u64)>,
    /// Offsets of tombstones that are known.
    pub known: Range<i64>,
}

impl SimLog<'_> {
    /// Fetches some records if none are left of the last fetch. The records in between may be compacted, or their
    /// successors written, before they are handed over.
    fn fetch(&self) -> Result<(), LogError> {
        let mut cluster = self.seat.cluster.borrow_mut();
        let mut position = self.position.borrow_mut();
        if !position.fetched.is_empty() || position.is_gone {
            return Ok(());
        }
        let most = cluster.rng.between(1, 60) as usize;
        let start = cluster.partitions[self.seat.partition].start;
        if position.next < start {
            if position.next == 0 || cluster.has(Planted::SilentReset) {
                position.next = start;
            } else {
                position.is_gone = true;
                return Err(LogError::OutOfRange(format!("{} < {start}", position.next)));
            }
        }
        let (records, next) = cluster.partitions[self.seat.partition].read(position.next, most);
        position.fetched.extend(records);
        position.next = next;
        Ok(())
    }
}

impl Log for SimLog<'_> {
    fn read(
        &mut self,
        wait: Duration,
        max: usize,
        sink: &mut dyn FnMut(LogItem<'_>),
    ) -> Result<(), LogError> {
        self.seat.told_ms.set(i64::MIN);
        let started_us = self.seat.now_us();
        let until_us = started_us + wait.as_micros() as u64;
        // A poll takes time, too.
        let poll_us = self.seat.cluster.borrow_mut().rng.between(1, 50);
        self.seat.sleep_until(started_us + poll_us);
        loop {
            let is_cut = self.seat.now_us() < self.seat.machine.cut_until_us.get();
            if !is_cut && !self.seat.is_revoked.get() {
                self.fetch()?;
            }
            let mut position = self.position.borrow_mut();
            if !position.fetched.is_empty() && !self.seat.is_revoked.get() {
                let most = max.min(self.seat.cluster.borrow_mut().rng.between(1, 40) as usize);
                let count = position.fetched.len().min(most);
                let records: Vec<_> = position.fetched.drain(..count).collect();
                position.after_record = records[count - 1].0 + 1;
                self.seat.handed_over.set(position.after_record);
                drop(position);
                let is_known =
                    |(offset, record): &(i64, Stored)| record.value.is_none() && self.known.contains(offset);
                let unknown = records.iter().filter(|record| !is_known(record));
                let keys: Vec<&[u8]> = unknown.map(|(_, record)| &record.key[..]).collect();
                sink(LogItem::Ahead(&keys));
                for record in &records {
                    let (offset, Stored { key, value, headers, .. }) = record;
                    if is_known(record) {
                        sink(LogItem::Known(*offset));
                        continue;
                    }
                    sink(LogItem::Record(LogRecord {
                        offset: *offset,
                        key: Some(key),
                        value: value.as_deref(),
                        headers: Headers::from_trusted(headers),
                    }));
                }
                return Ok(());
            }
            let stable = self.seat.cluster.borrow().partitions[self.seat.partition].last_stable();
            if !is_cut
                && !self.seat.is_revoked.get()
                && position.next == stable
                && position.said_end != Some(stable)
            {
                position.said_end = Some(stable);
                self.seat.handed_over.set(stable);
                drop(position);
                sink(LogItem::End(stable));
                return Ok(());
            }
            drop(position);
            if self.seat.now_us() >= until_us {
                return Ok(());
            }
            let turn = self.seat.turn.get();
            self.seat.wait(until_us, Some(self.seat.partition));
            if self.seat.turn.get() > turn + 1 || self.seat.now_us() < until_us {
                // Woken: by something to read, an order or a command.
                if !is_cut && !self.seat.is_revoked.get() {
                    self.fetch()?;
                }
                if self.position.borrow().fetched.is_empty() {
                    return Ok(());
                }
            }
        }
    }

    fn know(&mut self, offsets: Range<i64>) {
        self.known = offsets;
    }

    fn position(&mut self) -> i64 {
        let position = {
            let position = self.position.borrow();
            if !position.has_started() {
                0
            } else if position.fetched.is_empty() {
                position.next.max(position.after_record)
            } else {
                position.after_record
            }
        };
        self.seat.handed_over.set(position);
        let cluster = self.seat.cluster.borrow();
        if cluster.has(Planted::Unverified) { cluster.partitions[self.seat.partition].end } else { position }
    }

    fn pause(&mut self, wait: Duration) {
        self.seat.sleep_until(self.seat.now_us() + wait.as_micros() as u64);
    }

    fn known_end(&self) -> Option<i64> {
        Some(self.seat.cluster.borrow().partitions[self.seat.partition].end)
    }

    fn watermarks(&mut self, _wait: Duration) -> Result<Watermarks, LogError> {
        self.seat.sleep_a_latency();
        if self.seat.now_us() < self.seat.machine.cut_until_us.get() {
            return Err(LogError::Retriable("the network is cut".to_owned()));
        }
        let cluster = self.seat.cluster.borrow();
        let partition = &cluster.partitions[self.seat.partition];
        let high = if cluster.has(Planted::LiveAtLastStable) {
            partition.last_stable()
        } else if cluster.has(Planted::TargetBeforeFence) {
            self.end_at_start
        } else {
            partition.end
        };
        Ok(Watermarks { low: partition.start, high })
    }

    fn ask_watermarks(&mut self) {
        let cluster = &mut *self.seat.cluster.borrow_mut();
        let answers_us = cluster.now_us + cluster.latency_us();
        let partition = &cluster.partitions[self.seat.partition];
        self.watermarks_asked = Some((Watermarks { low: partition.start, high: partition.end }, answers_us));
    }

    fn watermarks_answer(&mut self) -> Option<Result<Watermarks, LogError>> {
        let (watermarks, answers_us) = self.watermarks_asked?;
        let now_us = self.seat.now_us();
        if now_us < answers_us {
            return None;
        }
        self.watermarks_asked = None;
        let is_cut = now_us < self.seat.machine.cut_until_us.get();
        Some(if is_cut { Err(LogError::Retriable("the network is cut".to_owned())) } else { Ok(watermarks) })
    }

    fn confirm(&mut self, _resume: Resume, _wait: Duration) -> Result<(), LogError> {
        self.seat.sleep_a_latency();
        let cluster = &mut *self.seat.cluster.borrow_mut();
        if cluster.faulty && cluster.rng.permille(100) {
            return Err(LogError::Retriable("not assigned yet".to_owned()));
        }
        Ok(())
    }

    fn resume(&mut self) -> Option<Resume> {
        let position = self.position.borrow();
        let has_started = position.has_started();
        let offset = if position.fetched.is_empty() { position.next } else { position.after_record };
        let offset = offset.max(position.after_record);
        has_started.then_some(Resume { offset, leader_epoch: None })
    }

    fn topic_id(&mut self, _wait: Duration) -> Result<String, LogError> {
        self.seat.sleep_a_latency();
        let cluster = &mut *self.seat.cluster.borrow_mut();
        if cluster.faulty && cluster.rng.permille(100) {
            return Err(LogError::Retriable("the controller is elsewhere".to_owned()));
        }
        Ok("the-topic-of-the-run--".to_owned())
    }
}

/// A request under way.
struct Request {
    call: &'static str,
    acts_us: u64,
    answers_us: u64,
    /// What it came to, once it has acted.
    outcome: Option<Result<(), TransactionError>>,
    /// It fails without having done anything, or although it has.
    fails: Option<(Kind, When)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Before,
    After,
}

struct Own {
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    headers: Vec<u8>,
}

pub struct SimTransactions<'y> {
    seat: Rc<Seat<'y>>,
    mode: Mode,
    id: String,
    epoch: Option<Epoch>,
    own: Vec<Own>,
    offsets: Vec<i64>,
    messages: Vec<(usize, history::Message)>,
    failures: Vec<(usize, SendError)>,
    /// The transaction can only be aborted.
    is_spoilt: bool,
    /// A destination does not answer, which takes a while to know.
    gives_up: bool,
    request: Option<Request>,
    ending_since_us: Option<u64>,
    /// The last transaction took so long to end that this producer must not begin another.
    must_be_replaced: bool,
}

impl<'y> SimTransactions<'y> {
    pub fn new(seat: Rc<Seat<'y>>, mode: Mode) -> Self {
        let id = format!("kms:schedules:{}", seat.partition);
        Self {
            seat,
            mode,
            id,
            epoch: None,
            own: Vec::new(),
            offsets: Vec::new(),
            messages: Vec::new(),
            failures: Vec::new(),
            is_spoilt: false,
            gives_up: false,
            request: None,
            ending_since_us: None,
            must_be_replaced: false,
        }
    }

    fn epoch(&self) -> Result<Epoch, TransactionError> {
        self.epoch.ok_or_else(|| failed(Kind::Fatal, "producer", "not taken over yet"))
    }

    fn plan(&self, call: &'static str) -> Request {
        let cluster = &mut *self.seat.cluster.borrow_mut();
        let acts_us = cluster.now_us + cluster.latency_us();
        let answers_us = acts_us + cluster.latency_us();
        let fails =
            (cluster.faulty && cluster.rng.permille(15)).then(|| match (call, cluster.rng.index(3)) {
                ("commit" | "abort" | "fence", 0) => (Kind::Fatal, When::Before),
                ("commit" | "abort" | "fence", _) => (Kind::Fatal, When::After),
                (_, 0) => (Kind::Abortable, When::Before),
                // Without transactions, nobody says of a record that was written that it is refused.
                ("append", 1) if self.mode == Mode::Plain => (Kind::Fatal, When::After),
                (_, 1) => (Kind::Abortable, When::After),
                (_, _) => (Kind::Fatal, When::After),
            });
        Request { call, acts_us, answers_us, outcome: None, fails }
    }

    /// Makes a request, or goes on waiting for the one that is under way.
    fn request(
        &mut self,
        call: &'static str,
        wait: Duration,
        mut act: impl FnMut(&mut Self, &mut Cluster) -> Result<(), Refused>,
    ) -> Result<(), TransactionError> {
        let deadline_us = self.seat.now_us() + wait.as_micros() as u64;
        // One that was given up may be left over from another call.
        let under_way = self.request.take().filter(|request| request.call == call);
        let mut request = under_way.unwrap_or_else(|| self.plan(call));
        while request.outcome.is_none() {
            request.acts_us = request.acts_us.max(self.seat.machine.cut_until_us.get());
            self.seat.sleep_until(request.acts_us.min(deadline_us));
            if self.seat.now_us() < request.acts_us {
                self.request = Some(request);
                return Err(failed(Kind::Retriable, call, "no answer yet"));
            }
            let cluster = Rc::clone(&self.seat.cluster);
            let cluster = &mut *cluster.borrow_mut();
            request.outcome = match request.fails {
                Some((kind, When::Before)) => Some(Err(failed(kind, call, "lost on the way"))),
                fails => match (act(self, cluster), fails) {
                    (Err(Refused::Concurrent), _) => {
                        request.acts_us = cluster.now_us + cluster.rng.between(1_000, 20_000);
                        None
                    }
                    (Err(Refused::Fenced), _) => Some(Err(failed(Kind::Fenced, call, "fenced"))),
                    (Err(Refused::Invalid), _) => Some(Err(failed(Kind::Fatal, call, "no such transaction"))),
                    (Ok(()), Some((kind, When::After))) => {
                        Some(Err(failed(kind, call, "the answer was lost")))
                    }
                    (Ok(()), _) => Some(Ok(())),
                },
            };
            request.answers_us = request.answers_us.max(cluster.now_us + 100);
        }
        let answers_us = request.answers_us.max(self.seat.machine.cut_until_us.get());
        self.seat.sleep_until(answers_us.min(deadline_us));
        if self.seat.now_us() < answers_us {
            request.answers_us = answers_us;
            self.request = Some(request);
            return Err(failed(Kind::Retriable, call, "no answer yet"));
        }
        let outcome = request.outcome.expect("it has acted");
        match &outcome {
            Err(error) if error.kind == Kind::Abortable => self.is_spoilt = true,
            Err(_) => self.epoch = None,
            Ok(()) => {}
        }
        outcome
    }

    /// Ends the transaction. Whether it took so long that it was asked for twice.
    fn end(&mut self, call: &'static str, commit: bool, wait: Duration) -> Result<bool, TransactionError> {
        let epoch = self.epoch()?;
        let since_us = *self.ending_since_us.get_or_insert(self.seat.now_us());
        self.request(call, wait, |this, cluster| cluster.end(&this.id, epoch, commit))?;
        let took_us = self.seat.now_us() - since_us;
        self.reset();
        let cluster = &mut *self.seat.cluster.borrow_mut();
        if took_us >= ASKS_AGAIN_AFTER_US && cluster.rng.permille(700) {
            let stale = Event::StaleEnd { id: self.id.clone(), epoch, commit };
            let delay_us = cluster.rng.between(0, 3 * SECOND_US);
            cluster.schedule_in(delay_us, stale);
        }
        self.must_be_replaced = took_us >= END_SUSPECT_AFTER_US;
        Ok(self.must_be_replaced && !cluster.has(Planted::LateCommitIgnored))
    }

    fn reset(&mut self) {
        self.own.clear();
        self.offsets.clear();
        self.messages.clear();
        self.failures.clear();
        self.is_spoilt = false;
        self.gives_up = false;
        self.request = None;
        self.ending_since_us = None;
    }

    fn note_broken(&self, rule: &str) {
        let partition = self.seat.partition;
        self.seat.cluster.borrow_mut().broken_rules.push(format!("{partition}: {rule}"));
    }

    fn append_own(&mut self, cluster: &mut Cluster, count: usize) -> Result<(), Refused> {
        let partition = self.seat.partition;
        let epoch = self.epoch;
        for Own { key, value, headers } in &self.own[..count] {
            let headers = Headers::from_trusted(headers);
            let partition = if cluster.has(Planted::TombstoneByHash) && value.is_none() {
                key.iter().map(|byte| usize::from(*byte)).sum::<usize>() % cluster.partitions.len()
            } else {
                partition
            };
            let outside = cluster.has(Planted::TombstoneOutside) && value.is_none();
            let offset = match epoch {
                Some(epoch) if self.mode == Mode::Transactional && !outside => {
                    cluster.append_in(&self.id, epoch, partition, key, value.as_deref(), headers)?
                }
                _ => cluster.append(partition, key, value.as_deref(), headers),
            };
            self.offsets.push(offset);
        }
        self.own.drain(..count);
        Ok(())
    }
}

impl Transactions for SimTransactions<'_> {
    fn fence(&mut self, wait: Duration) -> Result<(), TransactionError> {
        if self.request.as_ref().is_none_or(|request| request.call != "fence") {
            self.reset();
        }
        let mode = self.mode;
        self.request("fence", wait, |this, cluster| {
            this.epoch = match cluster.current_epoch(&this.id) {
                Some(epoch) if cluster.has(Planted::NoFence) => Some(epoch),
                _ => Some(cluster.initialise(&this.id)?),
            };
            this.seat.fenced_at.set(cluster.partitions[this.seat.partition].end);
            this.must_be_replaced = false;
            Ok(())
        })
        .or_else(|error| match mode {
            // Without transactions it does not matter whether there are any.
            Mode::Plain if error.kind != Kind::Retriable => Ok(()),
            _ => Err(error),
        })
    }

    fn begin(&mut self) -> Result<(), TransactionError> {
        self.epoch()?;
        let (handed_over, fenced_at) = (self.seat.handed_over.get(), self.seat.fenced_at.get());
        if handed_over < fenced_at {
            self.note_broken(&format!(
                "live at {handed_over}, although the log ended at {fenced_at} when its predecessor was fenced"
            ));
        }
        if self.must_be_replaced && !self.seat.cluster.borrow().has(Planted::LateCommitIgnored) {
            self.note_broken("a producer begins a transaction that should have been replaced before");
        }
        if self.seat.figures.phase() != Phase::Live {
            self.note_broken("fires, and others are told that it does not");
        }
        self.reset();
        Ok(())
    }

    fn append(
        &mut self,
        key: &[u8],
        value: Option<&[u8]>,
        headers: Headers<'_>,
    ) -> Result<(), TransactionError> {
        let value = value.map(<[u8]>::to_vec);
        self.own.push(Own { key: key.to_vec(), value, headers: headers.as_packed().to_vec() });
        Ok(())
    }

    fn appended(&mut self, wait: Duration) -> Result<Vec<i64>, TransactionError> {
        let deadline_us = self.seat.now_us() + wait.as_micros() as u64;
        while !self.own.is_empty() || self.request.is_some() {
            let left = Duration::from_micros(deadline_us.saturating_sub(self.seat.now_us()));
            self.request("append", left, |this, cluster| {
                // Now and then what should be one batch becomes two, and others write just there.
                let is_torn = cluster.faulty && this.own.len() > 1 && cluster.rng.permille(40);
                let count = if is_torn { this.own.len().div_ceil(2) } else { this.own.len() };
                this.append_own(cluster, count)?;
                if is_torn && cluster.rng.permille(500) {
                    cluster.append(this.seat.partition, &this.own[0].key, None, Headers::default());
                }
                Ok(())
            })?;
        }
        let mut offsets = std::mem::take(&mut self.offsets);
        if self.seat.cluster.borrow().has(Planted::Torn) {
            let base = offsets[0];
            offsets = (base..base + offsets.len() as i64).collect();
        }
        Ok(offsets)
    }

    fn send(&mut self, message: &Message<'_>, tag: usize) -> Result<(), SendError> {
        if self.seat.cluster.borrow_mut().rng.permille(5) && !self.messages.is_empty() {
            return Err(SendError::QueueFull);
        }
        let seen_at_ms = self.seat.told_ms.get();
        self.messages.push((
            tag,
            history::Message {
                destination: message.topic.to_owned(),
                key: message.key.to_vec(),
                payload_id: history::payload_id(message.value),
                seen_at_ms,
            },
        ));
        Ok(())
    }

    fn delivered(&mut self, wait: Duration) -> Result<(), TransactionError> {
        if self.messages.is_empty() && self.request.is_none() {
            return Ok(());
        }
        let epoch = self.epoch;
        self.request("send", wait, |this, cluster| {
            let (silent, answered): (Vec<_>, Vec<_>) = std::mem::take(&mut this.messages)
                .into_iter()
                .partition(|(_, message)| message.destination == SILENT);
            let (refused, accepted): (Vec<_>, Vec<_>) =
                answered.into_iter().partition(|(_, message)| message.destination == REFUSING);
            this.is_spoilt |= !refused.is_empty() || !silent.is_empty();
            this.gives_up |= !silent.is_empty();
            let given_up = SendError::Unavailable("Local: Message timed out".to_owned());
            this.failures.extend(silent.into_iter().map(|(tag, _)| (tag, given_up.clone())));
            this.failures.extend(refused.into_iter().map(|(tag, _)| (tag, SendError::TooLarge)));
            let accepted: Vec<_> = accepted.into_iter().map(|(_, message)| message).collect();
            match epoch {
                Some(epoch) if this.mode == Mode::Transactional => {
                    cluster.deliver_in(&this.id, epoch, accepted)
                }
                _ => {
                    cluster.deliver(accepted);
                    Ok(())
                }
            }
        })?;
        if std::mem::take(&mut self.gives_up) {
            self.seat.sleep_until(self.seat.now_us() + GIVEN_UP_AFTER_US);
        }
        Ok(())
    }

    fn failures(&mut self) -> Vec<(usize, SendError)> {
        std::mem::take(&mut self.failures)
    }

    fn commit(&mut self, wait: Duration) -> Result<bool, TransactionError> {
        if self.is_spoilt {
            return Err(failed(Kind::Abortable, "commit", "something before it failed"));
        }
        self.end("commit", true, wait)
    }

    fn abort(&mut self, wait: Duration) -> Result<bool, TransactionError> {
        self.end("abort", false, wait)
    }

    fn check_destination(&mut self, topic: &str) -> Result<(), SendError> {
        self.seat.sleep_a_latency();
        if self.seat.now_us() < self.seat.machine.cut_until_us.get() {
            return Err(SendError::Unavailable("the network is cut".to_owned()));
        }
        let is_missing = topic == MISSING && !self.seat.cluster.borrow().calm;
        if is_missing { Err(SendError::UnknownTopic) } else { Ok(()) }
    }
}

fn failed(kind: Kind, call: &'static str, reason: &str) -> TransactionError {
    TransactionError { kind, call, reason: reason.to_owned() }
}
