//! What a shard publishes about the partition it owns.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::atomics::{Gauge, Label, labels};

labels! {
    /// Where a shard is in its life.
    Phase {
        /// Its producer takes the partition over; nothing is known of the log yet.
        Fencing = "fencing",
        /// It applies the log up to the end it had after the fence.
        Loading = "loading",
        /// It delivers.
        Live = "live",
        /// Another instance fenced it, or something it needs is missing: it tries again later.
        Waiting = "waiting",
        /// It finishes what is open and goes.
        Stopping = "stopping",
    }
}

labels! {
    /// How soon a pending schedule is due. Each schedule is counted once, in the first window that holds it.
    DueWindow {
        /// Overdue, or due within a minute.
        Minute = "1m",
        /// Within ten minutes.
        TenMinutes = "10m",
        /// Within an hour.
        Hour = "1h",
        /// Within a day.
        Day = "1d",
        /// Later.
        Later = "later",
    }
}

/// The figures of one owned partition. One shard thread writes, anyone reads; nothing blocks but [`reason`].
///
/// [`reason`]: PartitionStatus::reason
#[derive(Debug)]
pub struct PartitionStatus {
    phase: AtomicU8,
    /// Schedules pending.
    pub pending: Gauge,
    /// Of these, in a transaction that is not settled.
    pub in_flight: Gauge,
    /// Bytes of that transaction: its messages and its tombstones.
    pub in_flight_bytes: Gauge,
    /// Of these, set aside until their next attempt.
    pub set_aside: Gauge,
    /// Bytes of the schedules themselves: ID, topic, key, value, headers.
    pub payload_bytes: Gauge,
    /// Bytes of the structures that find them.
    pub structure_bytes: Gauge,
    /// Records that were fetched and are not read yet.
    pub fetched_records: Gauge,
    /// Commands that were accepted and are not answered yet.
    pub commands_waiting: Gauge,
    /// Versions that are to be written again.
    pub repairs_waiting: Gauge,
    /// Schedules pending, by [`DueWindow::index`](Label::index).
    pub due_within: [Gauge; DueWindow::ALL.len()],
    /// How long the oldest pending schedule has been overdue; 0 when none is.
    pub oldest_overdue_ms: Gauge,
    /// Records applied since loading began.
    pub records_applied: Gauge,
    /// Records (offsets, more exactly) there were to apply when loading began.
    pub records_to_apply: Gauge,
    /// How long the last load took, from the assignment until live; 0 before the first has ended.
    pub load_ms: Gauge,
    /// Of that, from the first record applied until live.
    pub apply_ms: Gauge,
    /// The offset of the next record to apply.
    pub position: Gauge,
    /// The last stable offset, as last heard.
    pub last_stable_offset: Gauge,
    /// The high watermark, as last heard.
    pub end_offset: Gauge,
    /// When the newest complete checkpoint was taken, epoch milliseconds; 0 when there is none.
    pub checkpoint_taken_ms: Gauge,
    /// Its age when last published.
    pub checkpoint_age_ms: Gauge,
    /// Its size; 0 where it is not known.
    pub checkpoint_bytes: Gauge,
    reason: Mutex<Option<String>>,
    origin: Instant,
    /// Of the last beat, since `origin`: a monotonic clock, so that a step of the wall clock kills no process.
    heartbeat_ms: AtomicU64,
}

#[allow(clippy::disallowed_methods, reason = "the heartbeat's age is what HTTP asks for, on the real clock")]
impl PartitionStatus {
    pub(super) fn new() -> Self {
        Self {
            phase: AtomicU8::new(Phase::Fencing as u8),
            pending: Gauge::default(),
            in_flight: Gauge::default(),
            in_flight_bytes: Gauge::default(),
            set_aside: Gauge::default(),
            payload_bytes: Gauge::default(),
            structure_bytes: Gauge::default(),
            fetched_records: Gauge::default(),
            commands_waiting: Gauge::default(),
            repairs_waiting: Gauge::default(),
            due_within: std::array::from_fn(|_| Gauge::default()),
            oldest_overdue_ms: Gauge::default(),
            records_applied: Gauge::default(),
            records_to_apply: Gauge::default(),
            load_ms: Gauge::default(),
            apply_ms: Gauge::default(),
            position: Gauge::default(),
            last_stable_offset: Gauge::default(),
            end_offset: Gauge::default(),
            checkpoint_taken_ms: Gauge::default(),
            checkpoint_age_ms: Gauge::default(),
            checkpoint_bytes: Gauge::default(),
            reason: Mutex::new(None),
            origin: Instant::now(),
            heartbeat_ms: AtomicU64::new(0),
        }
    }

    /// Where the shard is in its life.
    #[must_use]
    pub fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Relaxed))]
    }

    /// Enters `phase`. Going live forgets the reason for not being so.
    pub fn set_phase(&self, phase: Phase) {
        if phase == Phase::Live {
            *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = None;
        }
        self.phase.store(phase as u8, Relaxed);
    }

    /// Why the shard is not live, for people; `None` when its phase says it all.
    #[must_use]
    pub fn reason(&self) -> Option<String> {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says why the shard is not live.
    pub fn set_reason(&self, reason: impl Into<String>) {
        *self.reason.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.into());
    }

    /// Says that the shard's thread is alive; called once a round of its loop.
    pub fn beat(&self) {
        self.heartbeat_ms.store(self.since_origin_ms(), Relaxed);
    }

    /// Time since the last beat (or since the partition was taken, before the first).
    #[must_use]
    pub fn heartbeat_age(&self) -> Duration {
        Duration::from_millis(self.since_origin_ms().saturating_sub(self.heartbeat_ms.load(Relaxed)))
    }

    /// Offsets that the shard has not applied although every reader may see them.
    #[must_use]
    pub fn lag(&self) -> i64 {
        (self.last_stable_offset.get() - self.position.get()).max(0)
    }

    fn since_origin_ms(&self) -> u64 {
        self.origin.elapsed().as_millis() as u64
    }
}
