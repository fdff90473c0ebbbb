//! Firing: what is due becomes one verified transaction (or, at-least-once, messages and then tombstones).
//!
//! In a transaction the tombstones are the own records, and they are right as long as each version is the newest of its
//! key, and due: that may have taken a while, and the clock may have been set back. See [`transaction`](super::transaction).

use std::collections::{HashMap, HashSet};

use crate::engine::{BatchLimits, Handle, View};
use crate::kafka::producer::Mode;
use crate::kafka::{Clock, Kind, Log, SendError, TransactionError, Transactions};
use crate::schedule::{HeadersBuf, Schedule};

use super::history::{self, EventKind, Happening};
use super::order::Order;
use super::record::Applier;
use super::runner::{ADVANCE_BUDGET, Interrupted, Runner, SLICE};
use super::throttle::Throttle;
use super::transaction::{Decision, Laps};

/// What a record of the log costs beside its key: lengths, deltas and the two headers of a tombstone.
pub const TOMBSTONE_OVERHEAD_BYTES: usize = 128;
/// Schedules in a batch whose messages are sent one at a time, to learn which of them is refused.
const CAREFUL_COUNT: usize = 64;
/// How long a key rests that was written while it was being fired.
const CONTESTED_REST_MS: u64 = 50;
/// A destination that was refused is not asked about again for this long.
const REFUSAL_REMEMBERED_MS: u64 = 1_000;
/// How long the cluster is asked about destinations before what is known to be deliverable goes.
const ASKING_LONGEST_MS: u64 = 250;

/// What the fire loop remembers from batch to batch.
pub(super) struct Firing {
    /// Grows towards the configured limit while transactions succeed, halves when one is torn.
    count_limit: usize,
    count_max: usize,
    /// Failed attempts of schedules that were set aside, for their back-off.
    pub(super) attempts: HashMap<Handle, u32>,
    /// Failed together with others for a reason that may be one of them alone: sent one at a time next.
    pub(super) suspects: HashMap<Handle, SendError>,
    /// Suspects in a batch, at most.
    pub(super) careful_limit: usize,
    /// Whoever is to blame for the error under way was found.
    pub(super) blamed: bool,
    /// IDs that were written while they were being fired, and until when they rest (monotonic milliseconds).
    resting: HashMap<Vec<u8>, u64>,
    /// How long the cluster was asked about destinations while the batch was put together.
    asking_ms: u64,
    /// Destinations that are permitted and exist, as far as this producer knows.
    pub(super) cleared: HashSet<String, foldhash::fast::RandomState>,
    /// Destinations that are refused until then (monotonic milliseconds), and why.
    pub(super) refused: HashMap<String, (u64, SendError)>,
    /// Destinations that did not answer, and how often in a row.
    pub(super) silent: HashMap<String, u32>,
    pub(super) complaints: Throttle,
    pub(super) headers: HeadersBuf,
    pub(super) extra_headers: HeadersBuf,
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
            asking_ms: 0,
            cleared: HashSet::default(),
            refused: HashMap::new(),
            silent: HashMap::new(),
            complaints: Throttle::default(),
            headers: HeadersBuf::new(),
            extra_headers: HeadersBuf::new(),
        }
    }

    /// A new producer knows no destination yet.
    pub(super) fn forget_destinations(&mut self) {
        self.cleared.clear();
    }

    pub(super) fn is_refused(&self, topic: &str, now_ms: u64) -> bool {
        self.refused.get(topic).is_some_and(|(until_ms, _)| now_ms < *until_ms)
    }

    /// Half as many as were tried in vain.
    pub(super) fn shrink(&mut self, count: usize) {
        self.count_limit = (self.count_limit.min(count) / 2).max(1);
    }

    fn grow(&mut self) {
        self.count_limit = (self.count_limit * 2).min(self.count_max);
        self.careful_limit = (self.careful_limit * 2).min(CAREFUL_COUNT);
    }
}

/// A batch ready to be written.
pub(super) struct Batch {
    /// What was sealed, in order of due times.
    pub(super) entries: Vec<Entry>,
    /// Messages are sent one at a time.
    pub(super) careful: bool,
    /// Of its messages and tombstones, about.
    bytes: usize,
    /// The brokers do not say whether a destination is there.
    unreachable: bool,
}

#[derive(Clone, Copy)]
pub(super) struct Entry {
    pub(super) handle: Handle,
    pub(super) due_ms: i64,
    /// Removed without delivery, because it was overdue before the time the operator named.
    pub(super) skipped: bool,
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
        // Enough to fill a batch, with what it moves besides.
        self.shard.advance(now_ms, ADVANCE_BUDGET.max(2 * self.firing.count_limit));
        let batch = self.assemble();
        if batch.entries.is_empty() {
            self.shard.release();
            // Nobody is to blame: ask again in a moment, and look up for orders meanwhile.
            return if batch.unreachable { self.read(SLICE) } else { Ok(()) };
        }
        self.status.in_flight.set_count(batch.entries.len());
        self.status.in_flight_bytes.set_count(batch.bytes);
        let outcome = match self.settings.mode {
            Mode::Transactional => self.fire_in_transaction(&batch),
            Mode::Plain => self.fire_plainly(&batch),
        };
        self.status.in_flight.set(0);
        self.status.in_flight_bytes.set(0);
        let blamed = std::mem::take(&mut self.firing.blamed);
        if let Err(Interrupted::Transaction(error)) = &outcome
            && error.kind == Kind::Abortable
            && !blamed
        {
            self.suspect_all(&batch, error);
        }
        outcome
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
        let mut batch = Batch { entries: Vec::new(), careful: false, bytes: 0, unreachable: false };
        let mut own_bytes = 0;
        self.firing.asking_ms = 0;
        let now_ms = self.clock.monotonic_ms();
        self.firing.resting.retain(|_, until_ms| now_ms < *until_ms);
        for handle in self.shard.seal(self.clock.now_ms(), limits) {
            let Some(view) = self.shard.pending().view(handle) else { continue };
            if let Some(until_ms) = self.firing.resting.get(view.id) {
                let retry_at_ms = self.time_in(until_ms - now_ms);
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
                || self.firing.asking_ms > ASKING_LONGEST_MS
                || (self.firing.asking_ms > 0 && self.control.order() != Order::Run)
            {
                // What is left of the sealed batch is released with it and comes first next time.
                break;
            }
            let due_ms = view.schedule.due.epoch_ms();
            let bytes = view.id.len() + TOMBSTONE_OVERHEAD_BYTES + message_bytes(&view.schedule);
            let skipped = self.settings.skip_overdue_before_ms.is_some_and(|limit| due_ms < limit);
            let refusal = if skipped { None } else { self.refusal(handle) };
            match refusal {
                Some(error) if error.is_transient() => {
                    batch.unreachable = true;
                    break;
                }
                Some(error) => self.set_aside(handle, &error),
                None => {
                    batch.bytes += bytes;
                    batch.entries.push(Entry { handle, due_ms, skipped });
                }
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
        let asked_ms = self.clock.monotonic_ms();
        if self.firing.is_refused(topic, asked_ms) {
            return Some(self.firing.refused[topic].1.clone());
        }
        let answer = self.transactions.check_destination(topic);
        self.firing.asking_ms += self.clock.monotonic_ms() - asked_ms;
        match answer {
            Ok(()) => {
                self.firing.refused.remove(topic);
                self.firing.cleared.insert(topic.to_owned());
                None
            }
            Err(error) if error.is_transient() => Some(error),
            Err(error) => {
                let now_ms = self.clock.monotonic_ms();
                if self.firing.refused.len() > 1_024 {
                    self.firing.refused.retain(|_, (until_ms, _)| now_ms < *until_ms);
                }
                self.firing.refused.insert(topic.to_owned(), (now_ms + REFUSAL_REMEMBERED_MS, error.clone()));
                Some(error)
            }
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
        let handles: Vec<Handle> = batch.entries.iter().map(|entry| entry.handle).collect();
        let decision = self.decide(handles.len(), &mut laps, |this| {
            let now_ms = this.clock.now_ms();
            this.shard.all_current(&handles) && batch.entries.iter().all(|entry| entry.due_ms <= now_ms)
        })?;
        let base = match decision {
            Decision::Commit { base } => base,
            Decision::Overruled => {
                // Others may be written all the time, too: a smaller batch is more likely to be left alone.
                self.firing.shrink(handles.len());
                let until_ms = self.clock.monotonic_ms() + CONTESTED_REST_MS;
                self.firing.resting.extend(self.shard.take_contested().into_iter().map(|id| (id, until_ms)));
                self.shard.release();
                return Ok(());
            }
            Decision::NotNow => return Ok(()),
        };
        // After the decision, so that one to abort leaves nothing in any destination.
        let failures = self.send_messages(batch, true)?;
        laps.lap(&self.clock);
        if !failures.is_empty() {
            return Err(self.refused(batch, &failures));
        }
        self.commit(|this| {
            laps.lap(&this.clock);
            this.settle(batch, base, &laps);
        })
    }

    /// Committed: the tombstones lie from `base` on.
    fn settle(&mut self, batch: &Batch, base: i64, laps: &Laps) {
        let skipped = self.settle_entries(&batch.entries, base..);
        // They come back when they are read, and are applied already. Of what was skipped each is counted by its headers.
        if skipped == 0 {
            self.log.know(base..base + batch.entries.len() as i64);
        }
        self.firing.grow();
        let took_us = laps.total_us();
        self.counters.transaction_us.observe(took_us);
        tracing::trace!(
            topic = self.topic,
            partition = self.partition,
            schedules = batch.entries.len(),
            took_us,
            append_verify_send_commit_us = ?laps.laps_us,
            "committed"
        );
    }

    /// Settles what has its tombstone at these offsets; gives how many of them were skipped.
    fn settle_entries(&mut self, entries: &[Entry], tombstones: impl IntoIterator<Item = i64>) -> usize {
        let now_ms = self.clock.now_ms();
        // Of a large batch, the last ones only: they push out the others anyway.
        let remembered_from = entries.len().saturating_sub(history::REMEMBERED);
        for entry in &entries[remembered_from..] {
            self.remember_fired(entry, now_ms);
        }
        for (entry, tombstone) in entries.iter().zip(tombstones) {
            self.settle_entry(entry, tombstone, now_ms);
        }
        self.counters.batch_size.observe(entries.len() as u64);
        let skipped = entries.iter().filter(|entry| entry.skipped).count();
        if skipped > 0 {
            tracing::info!(
                topic = self.topic,
                partition = self.partition,
                schedules = skipped,
                "removed overdue schedules without delivering them"
            );
        }
        skipped
    }

    fn remember_fired(&mut self, entry: &Entry, now_ms: i64) {
        let Self { shard, applier, .. } = self;
        let Some(view) = shard.pending().view(entry.handle) else { return };
        let happening = Happening {
            at_ms: now_ms,
            id: view.id,
            offset: view.offset,
            due_ms: Some(entry.due_ms),
            topic: view.schedule.topic,
            reason: "",
        };
        let kind = if entry.skipped { EventKind::Skipped } else { EventKind::Fired };
        applier.history.remember(kind, &happening);
    }

    fn settle_entry(&mut self, entry: &Entry, tombstone: i64, now_ms: i64) {
        if !self.firing.silent.is_empty()
            && let Some(view) = self.shard.pending().view(entry.handle)
        {
            self.firing.silent.remove(view.schedule.topic);
        }
        self.shard.settle(entry.handle, tombstone);
        self.counters.removed.increment();
        if entry.skipped {
            self.counters.skipped.increment();
        } else {
            self.counters.fired.increment();
            let lateness_ms = now_ms.saturating_sub(entry.due_ms).max(0);
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
        let failures = self.send_messages(batch, false)?;
        if !failures.is_empty() {
            self.firing.forget_destinations();
        }
        self.blame(batch, &failures);
        let failed: HashSet<usize> = failures.iter().map(|(tag, _)| *tag).collect();
        let entries = batch.entries.iter().enumerate();
        let delivered: Vec<Entry> =
            entries.filter(|(tag, _)| !failed.contains(tag)).map(|(_, entry)| *entry).collect();
        if !delivered.is_empty() {
            for entry in &delivered {
                let Self { shard, transactions, firing, applier, .. } = self;
                let view = shard.pending().view(entry.handle).expect("sealed, and nothing was applied since");
                append_tombstone(transactions, applier, &mut firing.headers, &view, entry.skipped)?;
            }
            let offsets = self.until_answered(|this| this.transactions.appended(SLICE))?;
            assert_eq!(offsets.len(), delivered.len(), "every appended record has its offset");
            self.settle_entries(&delivered, offsets);
        }
        self.shard.release();
        self.firing.grow();
        Ok(())
    }
}

fn message_bytes(schedule: &Schedule<'_>) -> usize {
    schedule.key.len() + schedule.value.map_or(0, <[u8]>::len) + schedule.headers.as_packed().len()
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
