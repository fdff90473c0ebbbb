//! What a shard lets others see of itself: figures every now and then, and how far a load has come.

use crate::kafka::{Clock, Log, Transactions};

use super::runner::Runner;
use super::status::DueWindow;

const PUBLISH_EVERY_MS: u64 = 200;
const PROGRESS_EVERY_MS: u64 = 5_000;
const HORIZONS_MS: [i64; 4] = [60_000, 600_000, 3_600_000, 86_400_000];

/// What the progress line of a load is made of.
#[derive(Debug, Default)]
pub(super) struct Progress {
    said_ms: u64,
    said_offset: i64,
}

impl<L: Log, T: Transactions, C: Clock> Runner<L, T, C> {
    pub(super) fn say_progress(&mut self, target: i64) {
        let now_ms = self.clock.monotonic_ms();
        let applied = self.shard.applied();
        if self.progress.said_ms == 0 {
            self.progress.said_ms = now_ms;
            self.progress.said_offset = applied;
        }
        let elapsed_ms = now_ms - self.progress.said_ms;
        if elapsed_ms < PROGRESS_EVERY_MS {
            return;
        }
        let rate = (applied - self.progress.said_offset).max(0) as u64 * 1_000 / elapsed_ms;
        let left = (target - applied).max(0) as u64;
        tracing::info!(
            topic = self.topic,
            partition = self.partition,
            applied,
            target,
            records_per_second = rate,
            seconds_left = left.checked_div(rate),
            pending = self.shard.pending().len(),
            "loading"
        );
        if rate == 0 {
            let reason =
                "loading stands still: a transaction of another producer may be open on the schedule topic";
            self.status.set_reason(reason);
            tracing::warn!(topic = self.topic, partition = self.partition, applied, target, "{reason}");
        }
        self.progress.said_ms = now_ms;
        self.progress.said_offset = applied;
    }

    pub(super) fn publish_now_and_then(&mut self) {
        let now_ms = self.clock.monotonic_ms();
        if now_ms >= self.publish_at_ms {
            self.publish_at_ms = now_ms + PUBLISH_EVERY_MS;
            self.transactions.idle();
            self.publish();
        }
    }

    /// Publishes what others may see.
    pub(super) fn publish(&self) {
        let (status, pending) = (&self.status, self.shard.pending());
        status.pending.set_count(pending.len());
        status.set_aside.set_count(pending.set_aside_len());
        status.payload_bytes.set_count(pending.content_bytes());
        status.structure_bytes.set_count(
            pending.structure_bytes() + pending.payload_bytes().saturating_sub(pending.content_bytes()),
        );
        status.fetched_records.set_count(self.log.fetched());
        status.commands_waiting.set_count(self.waiting.len() + self.walks.len() + self.commands.len());
        status.repairs_waiting.set_count(self.repairs.len());
        let wall_ms = self.clock.now_ms();
        let overdue = pending.oldest_due().map_or(0, |due| wall_ms.saturating_sub(due).max(0));
        status.oldest_overdue_ms.set(overdue);
        let mut within = [0; HORIZONS_MS.len()];
        pending.due_within(wall_ms, &HORIZONS_MS, &mut within);
        // What was handed out was due, and still is if it could not be delivered.
        let handed_out = (pending.in_flight() + pending.set_aside_len()) as u64;
        let mut before = 0;
        for (gauge, count) in status.due_within.iter().zip(within.map(|count| count + handed_out)) {
            gauge.set_count((count - before) as usize);
            before = count;
        }
        status.due_within[DueWindow::Later as usize].set_count(pending.len().saturating_sub(before as usize));
        if let Some((taken_ms, bytes)) = self.checkpoints.newest() {
            status.checkpoint_taken_ms.set(taken_ms);
            status.checkpoint_age_ms.set(wall_ms.saturating_sub(taken_ms).max(0));
            if let Some(bytes) = bytes {
                status.checkpoint_bytes.set_count(bytes as usize);
            }
        }
        let applied = self.shard.applied();
        let end = self.log.known_end().unwrap_or(applied).max(applied);
        status.position.set(applied);
        status.records_applied.set(applied);
        status.end_offset.set(end);
        // A read-committed reader is told that it is at the end when it is at the last stable offset.
        status.last_stable_offset.set(if self.last_end == applied { applied } else { end });
    }
}
