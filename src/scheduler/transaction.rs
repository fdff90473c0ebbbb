//! The verified transaction: Kafka's substitute for a compare-and-set.
//!
//! 1. append records to the own partition as one record batch; their offsets are `b … b+n−1`;
//! 2. apply the log up to `b`: the open transaction holds the last stable offset there, so nothing newer can slip in;
//! 3. decide by what is applied: if the records are wrong there, abort;
//! 4. only then send messages to others, if there are any, and commit;
//! 5. apply the own records locally, exactly as if they had been read.

use std::time::Duration;

use crate::engine::{EntryState, Handle};
use crate::kafka::producer::Mode;
use crate::kafka::{Clock, Log, LogRecord, Transactions};
use crate::schedule::{Headers, HeadersBuf};

use super::fire::TOMBSTONE_OVERHEAD_BYTES;
use super::order::Order;
use super::record::Now;
use super::runner::{Interrupted, Runner, SLICE};
use super::status::{self, TransactionOutcome};

/// How long one read waits while a transaction is open; a fetch answers sooner.
const VERIFY_WAIT: Duration = Duration::from_millis(50);

/// A single record to the shard's own partition.
pub(super) struct OwnRecord {
    pub(super) id: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
    pub(super) headers: HeadersBuf,
    pub(super) only_if: OnlyIf,
}

/// When a record is right, at its place in the log.
#[derive(Clone, Copy)]
pub(super) enum OnlyIf {
    Always,
    /// The ID has a schedule there.
    Pending,
    /// And in this version.
    Still(Handle),
    /// Nowhere: it is appended to learn what lies before it, and aborted.
    Never,
}

impl OwnRecord {
    /// About what it takes in a record batch.
    pub(super) fn bytes(&self) -> usize {
        let headers = self.headers.as_headers().as_packed().len();
        self.id.len() + self.value.as_ref().map_or(0, Vec::len) + headers + TOMBSTONE_OVERHEAD_BYTES
    }
}

impl OnlyIf {
    /// Whether what a record was made of, which was not right in its place, is not as it was: the ID's state is what it is there.
    pub(super) fn is_outdated(self, state: Option<EntryState>) -> bool {
        matches!(self, Self::Still(_) | Self::Never) && state.is_some()
    }
}

/// What became of a single record to the shard's own partition.
pub(super) enum Written {
    At(i64),
    NotPending,
    /// The log is held back or the batch was torn; try again.
    NotNow,
}

/// What becomes of a transaction whose own records were appended.
pub(super) enum Decision {
    /// They lie contiguously from here, everything before is applied, and they are right: to be committed.
    Commit { base: i64 },
    /// By what lies before them they are wrong: aborted. The batch is still to be released.
    Overruled,
    /// Other records lie between them, or the log is not readable up to them: aborted, and the batch released.
    NotNow,
}

/// Where the time of a transaction goes: append, verify, send, commit.
pub(super) struct Laps {
    last_us: u64,
    pub(super) laps_us: Vec<u64>,
}

impl Laps {
    pub(super) fn start(clock: &impl Clock) -> Self {
        Self { last_us: clock.monotonic_us(), laps_us: Vec::with_capacity(4) }
    }

    pub(super) fn lap(&mut self, clock: &impl Clock) {
        let now_us = clock.monotonic_us();
        self.laps_us.push(now_us - self.last_us);
        self.last_us = now_us;
    }

    pub(super) fn total_us(&self) -> u64 {
        self.laps_us.iter().sum()
    }
}

impl<L: Log, T: Transactions, C: Clock> Runner<L, T, C> {
    /// Steps 1 to 3, for `count` records that were enqueued: whether they are right where they lie.
    pub(super) fn decide(
        &mut self,
        count: usize,
        laps: &mut Laps,
        are_right: impl FnOnce(&Self) -> bool,
    ) -> Result<Decision, Interrupted> {
        let Some(base) = self.append_and_catch_up(count, laps)? else {
            self.shard.release();
            return Ok(Decision::NotNow);
        };
        if are_right(self) {
            return Ok(Decision::Commit { base });
        }
        self.abort_cleanly()?;
        Ok(Decision::Overruled)
    }

    /// The offset of the first record, and the log applied up to there; `None`: not now, and aborted.
    fn append_and_catch_up(&mut self, count: usize, laps: &mut Laps) -> Result<Option<i64>, Interrupted> {
        let offsets = self.until_answered(|this| this.transactions.appended(SLICE))?;
        laps.lap(&self.clock);
        assert_eq!(offsets.len(), count, "every appended record has its offset");
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
            return Ok(None);
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
                return Ok(None);
            }
        }
        laps.lap(&self.clock);
        Ok(Some(base))
    }

    /// Commits the open transaction and does what follows from it: `apply`, for what it wrote.
    pub(super) fn commit(&mut self, apply: impl FnOnce(&mut Self)) -> Result<(), Interrupted> {
        let must_fence = self.until_answered(|this| this.transactions.commit(SLICE))?;
        self.counters.transactions.of(TransactionOutcome::Committed).increment();
        apply(self);
        self.shard.release();
        if must_fence {
            // An answer still under way could end the next transaction of the same epoch: take a new one.
            self.fence_anew();
        }
        Ok(())
    }

    fn abort_cleanly(&mut self) -> Result<(), Interrupted> {
        let must_fence = self.until_answered(|this| this.transactions.abort(SLICE))?;
        self.counters.transactions.of(TransactionOutcome::Aborted).increment();
        if must_fence {
            self.fence_anew();
        }
        Ok(())
    }

    /// Writes a single record to the own partition, decided on the state at its place in the log. With an error comes
    /// the record's offset when a commit was tried whose outcome is unknown.
    pub(super) fn write_one(&mut self, own: &OwnRecord) -> Result<Written, (Interrupted, Option<i64>)> {
        let unsent = |interrupted| (interrupted, None);
        let OwnRecord { id, headers, only_if, .. } = own;
        let (value, headers) = (own.value.as_deref(), headers.as_headers());
        let base = match self.settings.mode {
            Mode::Plain if !self.holds(id, *only_if) => return Ok(Written::NotPending),
            Mode::Plain => {
                // It comes back in its place: what lies before it may be unread.
                let offset = self.write_plainly(id, value, headers).map_err(unsent)?;
                self.shard.hold_until_read(id);
                return Ok(Written::At(offset));
            }
            Mode::Transactional => {
                let is_right = |this: &Self| this.holds(id, *only_if);
                match self.decide_on_one(id, value, headers, is_right).map_err(unsent)? {
                    Decision::Commit { base } => base,
                    Decision::Overruled => return Ok(Written::NotPending),
                    Decision::NotNow => return Ok(Written::NotNow),
                }
            }
        };
        self.commit(|_| ()).map_err(|interrupted| (interrupted, Some(base)))?;
        // Not in the commit's closure: until the batch is released, own records are passed by.
        self.apply_own(base, id, value, headers);
        Ok(Written::At(base))
    }

    /// Whether a record about this ID is right as things are.
    fn holds(&self, id: &[u8], only_if: OnlyIf) -> bool {
        match only_if {
            OnlyIf::Always => true,
            OnlyIf::Pending => self.shard.state_of(id).is_some(),
            OnlyIf::Still(version) => self.shard.all_current(&[version]),
            OnlyIf::Never => false,
        }
    }

    /// Begins a transaction with one own record; [`Decision::Commit`] leaves it to be committed.
    pub(super) fn decide_on_one(
        &mut self,
        id: &[u8],
        value: Option<&[u8]>,
        headers: Headers<'_>,
        is_right: impl FnOnce(&Self) -> bool,
    ) -> Result<Decision, Interrupted> {
        self.transactions.begin()?;
        self.transactions.append(id, value, headers)?;
        let decision = self.decide(1, &mut Laps::start(&self.clock), is_right)?;
        if matches!(decision, Decision::Overruled) {
            self.shard.release();
        }
        Ok(decision)
    }

    /// Appends one own record outside of any transaction; gives its offset.
    pub(super) fn write_plainly(
        &mut self,
        id: &[u8],
        value: Option<&[u8]>,
        headers: Headers<'_>,
    ) -> Result<i64, Interrupted> {
        self.transactions.append(id, value, headers)?;
        let offsets = self.until_answered(|this| this.transactions.appended(SLICE))?;
        self.written_plainly = offsets[0];
        Ok(offsets[0])
    }

    /// An own record is in the log: apply it exactly as if it had been read.
    pub(super) fn apply_own(&mut self, offset: i64, id: &[u8], value: Option<&[u8]>, headers: Headers<'_>) {
        let record = LogRecord { offset, key: Some(id), value, headers };
        let now = Now { wall_ms: self.clock.now_ms(), monotonic_ms: self.clock.monotonic_ms() };
        self.applied_below = offset + 1;
        self.applier.apply(&record, &mut self.shard, &self.counters, now);
    }
}
