//! Firing: what is due becomes one verified transaction (or, at-least-once, messages and then tombstones).
//!
//! A verified transaction, step by step:
//! 1. append the tombstones to the own partition as one record batch; their offsets are `b … b+n−1`;
//! 2. apply the log up to `b`: the open transaction holds the last stable offset there, so nothing newer can slip in;
//! 3. a version that is no longer the newest of its key is out: abort, go on with the rest;
//! 4. only then send the messages, and commit;
//! 5. apply the tombstones locally, exactly as if they had been read.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::engine::{BatchLimits, Handle, View};
use crate::kafka::producer::Mode;
use crate::kafka::{Clock, Kind, Log, Message, SendError, TransactionError, Transactions};
use crate::schedule::{Headers, HeadersBuf};

use super::record::{Applier, Now};
use super::runner::{ADVANCE_BUDGET, Interrupted, Order, Runner, SLICE, Written};
use super::status::{self, SetAsideReason, TransactionOutcome};
use super::throttle::Throttle;

/// What a record of the log costs beside its key: lengths, deltas and the two headers of a tombstone.
const TOMBSTONE_OVERHEAD_BYTES: usize = 128;
/// Schedules in a batch whose messages are sent one at a time, to learn which of them is refused.
const CAREFUL_COUNT: usize = 64;
/// How long one read waits while a transaction is open; a fetch answers sooner.
const VERIFY_WAIT: Duration = Duration::from_millis(50);
/// How long a key rests that was written while it was being fired.
const CONTESTED_REST_MS: u64 = 50;
/// A destination that was refused is not asked about again for this long.
const REFUSAL_REMEMBERED_MS: u64 = 1_000;

/// What the fire loop remembers from batch to batch.
pub(super) struct Firing {
    /// Grows towards the configured limit while transactions succeed, halves when one is torn or raced with.
    count_limit: usize,
    count_max: usize,
    /// Failed attempts of schedules that were set aside, for their back-off.
    attempts: HashMap<Handle, u32>,
    /// Failed together with others for a reason that may be one of them alone: sent one at a time next.
    suspects: HashMap<Handle, SendError>,
    /// Suspects in a batch, at most.
    careful_limit: usize,
    /// Whoever is to blame for the error under way was found.
    blamed: bool,
    /// IDs that were written while they were being fired, and until when they rest (monotonic milliseconds).
    resting: HashMap<Vec<u8>, u64>,
    /// Destinations that are permitted and exist, as far as this producer knows.
    cleared: HashSet<String>,
    /// Destinations refused a moment ago (monotonic milliseconds, reason).
    refused: HashMap<String, (u64, SendError)>,
    complaints: Throttle,
    headers: HeadersBuf,
    extra_headers: HeadersBuf,
}

impl Firing {
    pub(super) fn new(max_count: usize) -> Self {
        let count_max = max_count.max(1);
        Self {
            count_limit: count_max,
            count_max,
            attempts: HashMap::new(),
            suspects: HashMap::new(),
            careful_limit: CAREFUL_COUNT,
            blamed: false,
            resting: HashMap::new(),
            cleared: HashSet::new(),
            refused: HashMap::new(),
            complaints: Throttle::default(),
            headers: HeadersBuf::new(),
            extra_headers: HeadersBuf::new(),
        }
    }

    /// A new producer knows no destination yet.
    pub(super) fn forget_destinations(&mut self) {
        self.cleared.clear();
    }

    /// Half as many as were tried in vain.
    fn shrink(&mut self, count: usize) {
        self.count_limit = (self.count_limit.min(count) / 2).max(1);
    }

    fn grow(&mut self) {
        self.count_limit = (self.count_limit * 2).min(self.count_max);
        self.careful_limit = (self.careful_limit * 2).min(CAREFUL_COUNT);
    }
}

/// A batch ready to be written.
struct Batch {
    /// The schedules, each with whether a message is sent for it.
    entries: Vec<Entry>,
    /// Messages are sent one at a time.
    careful: bool,
    /// The brokers do not say whether a destination is there.
    unreachable: bool,
}

#[derive(Clone, Copy)]
struct Entry {
    handle: Handle,
    due_ms: i64,
    /// Removed without delivery, because it was overdue before the time the operator named.
    skipped: bool,
}

/// How far the own records of a transaction got.
enum Appended {
    /// They lie contiguously from here, and everything before is applied.
    At(i64),
    /// Other records lie between them, or the log is not readable up to them: aborted.
    NotNow,
}

/// Where the time of a transaction goes: append, verify, send, commit.
struct Laps {
    last_us: u64,
    laps_us: Vec<u64>,
}

impl Laps {
    fn start(clock: &impl Clock) -> Self {
        Self { last_us: clock.monotonic_us(), laps_us: Vec::with_capacity(4) }
    }

    fn lap(&mut self, clock: &impl Clock) {
        let now_us = clock.monotonic_us();
        self.laps_us.push(now_us - self.last_us);
        self.last_us = now_us;
    }

    fn total_us(&self) -> u64 {
        self.laps_us.iter().sum()
    }
}

impl<L: Log, T: Transactions, C: Clock> Runner<L, T, C> {
    /// Fires what is due, one batch.
    pub(super) fn fire(&mut self) -> Result<(), Interrupted> {
        if self.is_blocked() {
            return Ok(());
        }
        let now_ms = self.clock.now_ms();
        if self.next_fire_ms().is_none_or(|fire_ms| fire_ms > now_ms) {
            return Ok(());
        }
        self.confirm_topic()?;
        self.shard.advance(now_ms, ADVANCE_BUDGET);
        let batch = self.assemble();
        if batch.entries.is_empty() {
            self.shard.release();
            // Nobody is to blame: ask again in a moment, and look up for orders meanwhile.
            return if batch.unreachable { self.read(SLICE) } else { Ok(()) };
        }
        self.status.in_flight.set_count(batch.entries.len());
        let outcome = match self.settings.mode {
            Mode::Transactional => self.fire_in_transaction(&batch),
            Mode::Plain => self.fire_plainly(&batch),
        };
        self.status.in_flight.set(0);
        let blamed = std::mem::take(&mut self.firing.blamed);
        if let Err(Interrupted::Transaction(error)) = &outcome
            && error.kind == Kind::Abortable
            && !blamed
        {
            self.suspect_all(&batch, error);
        }
        outcome
    }

    /// Something in the batch is refused and nothing says what (a destination that may be described but not written
    /// to, a tombstone that is too large): smaller and smaller batches find it.
    fn suspect_all(&mut self, batch: &Batch, error: &TransactionError) {
        let reason = SendError::Other(error.to_string());
        if let [entry] = batch.entries[..] {
            return self.set_aside(entry.handle, &reason);
        }
        self.firing.careful_limit = (self.firing.careful_limit.min(batch.entries.len()) / 2).max(1);
        for entry in &batch.entries {
            self.firing.suspects.insert(entry.handle, reason.clone());
        }
    }

    /// When there may be something to fire: the next due time, and however long it may wait for others.
    pub(super) fn next_fire_ms(&self) -> Option<i64> {
        let max_wait_ms = self.settings.max_wait.as_millis() as i64;
        self.shard.next_wake().map(|wake_ms| wake_ms.saturating_add(max_wait_ms))
    }

    /// Seals what is due and takes out what cannot go: refused destinations, and what would not fit.
    fn assemble(&mut self) -> Batch {
        let limits =
            BatchLimits { max_count: self.firing.count_limit, max_bytes: self.settings.max_message_bytes };
        let mut batch = Batch { entries: Vec::new(), careful: false, unreachable: false };
        let mut own_bytes = 0;
        let now_ms = self.clock.monotonic_ms();
        self.firing.resting.retain(|_, until_ms| now_ms < *until_ms);
        for handle in self.shard.seal(self.clock.now_ms(), limits) {
            let Some(view) = self.shard.pending().view(handle) else { continue };
            if let Some(until_ms) = self.firing.resting.get(view.id) {
                let retry_at_ms = self.clock.now_ms().saturating_add((until_ms - now_ms) as i64);
                self.shard.set_aside(handle, retry_at_ms);
                continue;
            }
            let suspect = self.firing.suspects.contains_key(&handle);
            if batch.entries.is_empty() {
                batch.careful = suspect;
            }
            own_bytes += view.id.len() + TOMBSTONE_OVERHEAD_BYTES;
            let full = own_bytes > self.settings.max_own_bytes && !batch.entries.is_empty();
            if full
                || suspect != batch.careful
                || (suspect && batch.entries.len() >= self.firing.careful_limit)
            {
                // What is left of the sealed batch is released with it and comes first next time.
                break;
            }
            let due_ms = view.schedule.due.epoch_ms();
            let skipped = self.settings.skip_overdue_before_ms.is_some_and(|limit| due_ms < limit);
            let refusal = if skipped { None } else { self.refusal(handle) };
            match refusal {
                Some(error) if error.is_transient() => {
                    batch.unreachable = true;
                    break;
                }
                Some(error) => self.set_aside(handle, &error),
                None => batch.entries.push(Entry { handle, due_ms, skipped }),
            }
        }
        batch
    }

    /// Why a schedule's destination is not even tried.
    fn refusal(&mut self, handle: Handle) -> Option<SendError> {
        let topic = self.shard.pending().view(handle)?.schedule.topic;
        if self.firing.cleared.contains(topic) {
            return None;
        }
        if !self.settings.all.permits_destination(topic) {
            return Some(SendError::Denied);
        }
        self.status.beat();
        let now_ms = self.clock.monotonic_ms();
        if let Some((until_ms, error)) = self.firing.refused.get(topic)
            && now_ms < *until_ms
        {
            return Some(error.clone());
        }
        match self.transactions.check_destination(topic) {
            Ok(()) => {
                self.firing.refused.remove(topic);
                self.firing.cleared.insert(topic.to_owned());
                None
            }
            Err(error) if error.is_transient() => Some(error),
            Err(error) => {
                if self.firing.refused.len() > 1_024 {
                    self.firing.refused.retain(|_, (until_ms, _)| now_ms < *until_ms);
                }
                self.firing.refused.insert(topic.to_owned(), (now_ms + REFUSAL_REMEMBERED_MS, error.clone()));
                Some(error)
            }
        }
    }

    /// Keeps a schedule that cannot be delivered from holding others up: it is tried again by itself, later.
    fn set_aside(&mut self, handle: Handle, error: &SendError) {
        let attempts = self.firing.attempts.entry(handle).or_default();
        *attempts += 1;
        let factor = 1u32 << (*attempts - 1).min(16);
        let delay = self.settings.retry_initial.saturating_mul(factor).min(self.settings.retry_max);
        self.firing.suspects.remove(&handle);
        self.counters.set_aside.of(set_aside_reason(error)).increment();
        if let Some(view) = self.shard.pending().view(handle)
            && let Some(unsaid) = self.firing.complaints.admit(self.clock.monotonic_ms())
        {
            tracing::warn!(
                topic = self.topic,
                partition = self.partition,
                offset = view.offset,
                destination = view.schedule.topic,
                attempts = *attempts,
                retry_in = ?delay,
                unsaid = (unsaid > 0).then_some(unsaid),
                "cannot deliver a schedule, set it aside: {error}"
            );
        }
        let retry_at_ms = self.clock.now_ms().saturating_add(delay.as_millis() as i64);
        self.shard.set_aside(handle, retry_at_ms);
        self.forget_stale();
    }

    /// Attempts and suspicions of versions that are gone are dropped once in a while.
    fn forget_stale(&mut self) {
        let pending = self.shard.pending();
        let crowded = |len: usize| len > 2 * pending.set_aside_len() + 1_024;
        if crowded(self.firing.attempts.len()) {
            self.firing.attempts.retain(|&handle, _| pending.is_current(handle));
        }
        if crowded(self.firing.suspects.len()) {
            self.firing.suspects.retain(|&handle, _| pending.is_current(handle));
        }
    }

    fn fire_in_transaction(&mut self, batch: &Batch) -> Result<(), Interrupted> {
        let mut laps = Laps::start(&self.clock);
        self.transactions.begin()?;
        for entry in &batch.entries {
            let Self { shard, transactions, firing, applier, .. } = self;
            let view = shard.pending().view(entry.handle).expect("sealed, and nothing was applied since");
            append_tombstone(transactions, applier, &mut firing.headers, &view, entry.skipped)?;
        }
        let Appended::At(base) = self.appended_and_applied(batch.entries.len(), &mut laps)? else {
            self.shard.release();
            return Ok(());
        };
        let handles: Vec<Handle> = batch.entries.iter().map(|entry| entry.handle).collect();
        if !self.shard.all_current(&handles) {
            self.abort_cleanly()?;
            // Others may be written all the time, too: a smaller batch is more likely to be left alone.
            self.firing.shrink(handles.len());
            let until_ms = self.clock.monotonic_ms() + CONTESTED_REST_MS;
            self.firing.resting.extend(self.shard.take_contested().into_iter().map(|id| (id, until_ms)));
            self.shard.release();
            return Ok(());
        }
        let failures = self.send_messages(batch)?;
        laps.lap(&self.clock);
        if !failures.is_empty() {
            return self.give_up_on(batch, failures);
        }
        self.commit(|this| {
            laps.lap(&this.clock);
            this.settle(batch, base, &laps);
        })
    }

    /// Commits the open transaction and does what follows from it: `apply`, for what it wrote.
    fn commit(&mut self, apply: impl FnOnce(&mut Self)) -> Result<(), Interrupted> {
        let must_fence = self.until_answered(|this| this.transactions.commit(SLICE))?;
        self.counters.transactions.of(TransactionOutcome::Committed).increment();
        apply(self);
        self.shard.release();
        if must_fence {
            // An answer still under way could end the next transaction of the same epoch: take a new one.
            self.shard.unfence();
        }
        Ok(())
    }

    /// Step 1 and 2: the appended records' offsets, and the log applied up to them.
    fn appended_and_applied(&mut self, count: usize, laps: &mut Laps) -> Result<Appended, Interrupted> {
        let offsets = self.until_answered(|this| this.transactions.appended(SLICE))?;
        laps.lap(&self.clock);
        debug_assert_eq!(offsets.len(), count);
        let base = offsets[0];
        let contiguous = offsets.iter().zip(base..).all(|(&offset, expected)| offset == expected);
        if !contiguous {
            tracing::debug!(
                topic = self.topic,
                partition = self.partition,
                count,
                "own records are not contiguous"
            );
            self.abort_cleanly()?;
            self.firing.shrink(count);
            return Ok(Appended::NotNow);
        }
        if base < self.shard.applied() {
            let applied = self.shard.applied();
            let reason = format!("the log ends at offset {base}, but was read up to {applied}");
            return Err(Interrupted::Reload(reason));
        }
        self.shard.expect_own(base..base + count as i64);
        let patience_ms = self.settings.transaction_timeout.as_millis() as u64 / 2;
        let give_up_ms = self.clock.monotonic_ms() + patience_ms;
        while self.shard.applied() < base {
            self.status.beat();
            let before = self.shard.applied();
            self.read(VERIFY_WAIT)?;
            if self.shard.applied() > before {
                continue;
            }
            if self.control.order() != Order::Run {
                // During a revocation librdkafka reads nothing, of any partition, until it is acknowledged: which
                // waits for this thread.
                self.abort_cleanly()?;
                return Err(Interrupted::Ordered);
            }
            if self.clock.monotonic_ms() > give_up_ms {
                // Another producer's transaction is open on this partition. While it is, nobody can know what it will
                // say about the schedules of this batch: wait without holding the partition back ourselves.
                let reason = format!(
                    "waiting for another producer's open transaction on the schedule topic (at offset {before})"
                );
                tracing::warn!(
                    topic = self.topic,
                    partition = self.partition,
                    "{reason}; nothing fires before it ends"
                );
                self.status.set_phase(status::Phase::Waiting);
                self.status.set_reason(reason);
                self.abort_cleanly()?;
                self.blocked_until = Some(base);
                return Ok(Appended::NotNow);
            }
        }
        laps.lap(&self.clock);
        Ok(Appended::At(base))
    }

    /// Step 4: every message enqueued and acknowledged; the ones that failed, by their place in the batch.
    fn send_messages(&mut self, batch: &Batch) -> Result<Vec<(usize, SendError)>, Interrupted> {
        let mut failures = Vec::new();
        for (tag, entry) in batch.entries.iter().enumerate().filter(|(_, entry)| !entry.skipped) {
            while let Err(error) = self.send_message(entry, tag) {
                if error != SendError::QueueFull {
                    failures.push((tag, error));
                    break;
                }
                self.until_answered(|this| this.transactions.delivered(SLICE))?;
            }
            if batch.careful {
                self.until_answered(|this| this.transactions.delivered(SLICE))?;
                failures.extend(self.transactions.failures());
            }
            if !failures.is_empty() {
                // A producer that is finished refuses everything: that is no fault of the message's.
                self.until_answered(|this| this.transactions.delivered(SLICE))?;
                return Ok(failures);
            }
        }
        self.until_answered(|this| this.transactions.delivered(SLICE))?;
        Ok(self.transactions.failures())
    }

    fn send_message(&mut self, entry: &Entry, tag: usize) -> Result<(), SendError> {
        let Self { shard, transactions, firing, topic, partition, settings, .. } = self;
        let Some(view) = shard.pending().view(entry.handle) else { return Ok(()) };
        let extra_headers = if settings.output_headers {
            describe_origin(&mut firing.extra_headers, &view, topic, *partition);
            firing.extra_headers.as_headers()
        } else {
            Headers::default()
        };
        let schedule = &view.schedule;
        let message = Message {
            topic: schedule.topic,
            key: schedule.key,
            value: schedule.value,
            headers: schedule.headers,
            extra_headers,
        };
        transactions.send(&message, tag)
    }

    /// Messages were refused: abort, set aside those that are to blame for certain, suspect the others.
    fn give_up_on(&mut self, batch: &Batch, failures: Vec<(usize, SendError)>) -> Result<(), Interrupted> {
        self.firing.blamed = true;
        let alone = batch.careful || batch.entries.len() == 1;
        for (tag, error) in failures {
            let Some(entry) = batch.entries.get(tag) else { continue };
            match error {
                // The broker did not answer in time; no fault of the schedule's.
                error if error.is_transient() => {}
                error if alone || error.concerns_topic() => self.set_aside(entry.handle, &error),
                error => {
                    self.firing.suspects.insert(entry.handle, error);
                }
            }
        }
        Err(Interrupted::Transaction(TransactionError {
            kind: Kind::Abortable,
            call: "send",
            reason: "a destination refused messages".to_owned(),
        }))
    }

    fn abort_cleanly(&mut self) -> Result<(), Interrupted> {
        let must_fence = self.until_answered(|this| this.transactions.abort(SLICE))?;
        self.counters.transactions.of(TransactionOutcome::Aborted).increment();
        if must_fence {
            self.shard.unfence();
        }
        Ok(())
    }

    /// Step 5: committed.
    fn settle(&mut self, batch: &Batch, base: i64, laps: &Laps) {
        for (entry, tombstone) in batch.entries.iter().zip(base..) {
            self.settle_entry(entry, tombstone);
        }
        self.firing.grow();
        let took_us = laps.total_us();
        self.counters.transaction_us.observe(took_us);
        self.counters.batch_size.observe(batch.entries.len() as u64);
        tracing::trace!(
            topic = self.topic,
            partition = self.partition,
            schedules = batch.entries.len(),
            took_us,
            append_verify_send_commit_us = ?laps.laps_us,
            "committed"
        );
    }

    fn settle_entry(&mut self, entry: &Entry, tombstone: i64) {
        self.shard.settle(entry.handle, tombstone);
        self.counters.removed.increment();
        if entry.skipped {
            self.counters.skipped.increment();
        } else {
            self.counters.fired.increment();
            let lateness_ms = self.clock.now_ms().saturating_sub(entry.due_ms).max(0);
            self.counters.lateness_ms.observe(lateness_ms as u64);
        }
        if !self.firing.attempts.is_empty() {
            self.firing.attempts.remove(&entry.handle);
        }
        if !self.firing.suspects.is_empty() {
            self.firing.suspects.remove(&entry.handle);
        }
    }

    /// At-least-once: messages, their acknowledgements, then the tombstones of those that were acknowledged.
    fn fire_plainly(&mut self, batch: &Batch) -> Result<(), Interrupted> {
        let failures = self.send_messages_plainly(batch)?;
        if !failures.is_empty() {
            self.firing.forget_destinations();
        }
        let alone = batch.careful || batch.entries.len() == 1;
        let mut delivered = Vec::with_capacity(batch.entries.len());
        for (tag, entry) in batch.entries.iter().enumerate() {
            match failures.get(&tag) {
                None => delivered.push(*entry),
                Some(error) if error.is_transient() => {}
                Some(error) if alone || error.concerns_topic() => self.set_aside(entry.handle, error),
                Some(error) => {
                    self.firing.suspects.insert(entry.handle, error.clone());
                }
            }
        }
        if !delivered.is_empty() {
            for entry in &delivered {
                let Self { shard, transactions, firing, applier, .. } = self;
                let view = shard.pending().view(entry.handle).expect("sealed, and nothing was applied since");
                append_tombstone(transactions, applier, &mut firing.headers, &view, entry.skipped)?;
            }
            let offsets = self.until_answered(|this| this.transactions.appended(SLICE))?;
            for (entry, tombstone) in delivered.iter().zip(offsets) {
                self.settle_entry(entry, tombstone);
            }
            self.counters.batch_size.observe(delivered.len() as u64);
        }
        self.shard.release();
        self.firing.grow();
        Ok(())
    }

    /// Sends every message, careful or not; one that fails does not stop the others.
    fn send_messages_plainly(&mut self, batch: &Batch) -> Result<HashMap<usize, SendError>, Interrupted> {
        let mut failures = HashMap::new();
        for (tag, entry) in batch.entries.iter().enumerate().filter(|(_, entry)| !entry.skipped) {
            while let Err(error) = self.send_message(entry, tag) {
                if error != SendError::QueueFull {
                    failures.insert(tag, error);
                    break;
                }
                self.until_answered(|this| this.transactions.delivered(SLICE))?;
            }
            if batch.careful {
                self.until_answered(|this| this.transactions.delivered(SLICE))?;
            }
        }
        self.until_answered(|this| this.transactions.delivered(SLICE))?;
        failures.extend(self.transactions.failures());
        Ok(failures)
    }

    /// Writes a single record to the own partition, decided on the state at its place in the log. With an error comes
    /// the record's offset when a commit was tried whose outcome is unknown.
    pub(super) fn write_one(
        &mut self,
        id: &[u8],
        value: Option<&[u8]>,
        only_if_pending: bool,
    ) -> Result<Written, (Interrupted, Option<i64>)> {
        let unsent = |interrupted| (interrupted, None);
        let base = match self.settings.mode {
            Mode::Plain if only_if_pending && self.shard.state_of(id).is_none() => {
                return Ok(Written::NotPending);
            }
            Mode::Plain => {
                self.transactions
                    .append(id, value, Headers::default())
                    .map_err(|error| unsent(error.into()))?;
                let offsets =
                    self.until_answered(|this| this.transactions.appended(SLICE)).map_err(unsent)?;
                // It comes back in its place: what lies before it may be unread.
                return Ok(Written::At(offsets[0]));
            }
            Mode::Transactional => {
                self.transactions.begin().map_err(|error| unsent(error.into()))?;
                self.transactions
                    .append(id, value, Headers::default())
                    .map_err(|error| unsent(error.into()))?;
                let Appended::At(base) =
                    self.appended_and_applied(1, &mut Laps::start(&self.clock)).map_err(unsent)?
                else {
                    return Ok(Written::NotNow);
                };
                if only_if_pending && self.shard.state_of(id).is_none() {
                    self.abort_cleanly().map_err(unsent)?;
                    self.shard.release();
                    return Ok(Written::NotPending);
                }
                self.commit(|_| ()).map_err(|interrupted| (interrupted, Some(base)))?;
                base
            }
        };
        self.apply_own(base, id, value);
        Ok(Written::At(base))
    }

    /// An own record is in the log: apply it exactly as if it had been read.
    fn apply_own(&mut self, offset: i64, id: &[u8], value: Option<&[u8]>) {
        let record = crate::kafka::LogRecord { offset, key: Some(id), value, headers: Headers::default() };
        let now = Now { wall_ms: self.clock.now_ms(), monotonic_ms: self.clock.monotonic_ms() };
        self.applier.apply(&record, &mut self.shard, &self.counters, now);
    }

    /// Appends an overtaken version again, with its headers, if it is still the newest. It fires once the new record is
    /// read back (exactly-once: once it is committed). The record says which version it repeats: without transactions
    /// there may be a newer one by now, which is not read yet.
    pub(super) fn rewrite(&mut self, handle: Handle) -> Result<Written, Interrupted> {
        let Self { shard, transactions, firing, applier, settings, .. } = self;
        let Some(view) = shard.pending().view(handle) else { return Ok(Written::NotPending) };
        let mut value = Vec::new();
        crate::codec::encode(view.format, &view.schedule, &mut value);
        let headers = &mut firing.headers;
        applier.repetition_headers(&view, headers);
        if settings.mode == Mode::Transactional {
            transactions.begin()?;
        }
        transactions.append(view.id, Some(&value), headers.as_headers())?;
        if self.settings.mode == Mode::Plain {
            let offsets = self.until_answered(|this| this.transactions.appended(SLICE))?;
            return Ok(Written::At(offsets[0]));
        }
        let Appended::At(base) = self.appended_and_applied(1, &mut Laps::start(&self.clock))? else {
            self.shard.release();
            return Ok(Written::NotNow);
        };
        if self.shard.all_current(&[handle]) {
            self.commit(|_| ())?;
            Ok(Written::At(base))
        } else {
            self.abort_cleanly()?;
            self.shard.release();
            Ok(Written::NotPending)
        }
    }
}

fn append_tombstone<T: Transactions>(
    transactions: &mut T,
    applier: &Applier,
    headers: &mut HeadersBuf,
    view: &View<'_>,
    skipped: bool,
) -> Result<(), TransactionError> {
    applier.tombstone_headers(view.offset, skipped, headers);
    transactions.append(view.id, None, headers.as_headers())
}

/// The headers that `output.headers` adds to a delivered message.
fn describe_origin(headers: &mut HeadersBuf, view: &View<'_>, topic: &str, partition: i32) {
    headers.clear();
    headers.push("kms-schedule-id", Some(view.id));
    headers.push("kms-due", Some(view.schedule.due.epoch_ms().to_string().as_bytes()));
    headers.push("kms-source", Some(format!("{topic}-{partition}@{}", view.offset).as_bytes()));
}

fn set_aside_reason(error: &SendError) -> SetAsideReason {
    match error {
        SendError::UnknownTopic => SetAsideReason::UnknownTopic,
        SendError::NotAuthorized => SetAsideReason::NotAuthorized,
        SendError::TooLarge => SetAsideReason::TooLarge,
        SendError::IllegalName => SetAsideReason::IllegalName,
        SendError::Denied => SetAsideReason::Denied,
        SendError::NoLeader | SendError::QueueFull | SendError::Unavailable(_) | SendError::Other(_) => {
            SetAsideReason::Other
        }
    }
}
