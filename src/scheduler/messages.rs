//! The messages of a batch on their way to their destinations.

use crate::engine::View;
use crate::kafka::{Clock, Log, Message, SendError, Transactions};
use crate::schedule::{Headers, HeadersBuf};

use super::fire::{Batch, Entry};
use super::runner::{Interrupted, Runner, SLICE};

impl<L: Log, T: Transactions, C: Clock> Runner<L, T, C> {
    /// Every message enqueued and acknowledged; gives the ones that failed, by their place in the batch. With
    /// `stops_at_first` nothing more is sent once one has failed.
    pub(super) fn send_messages(
        &mut self,
        batch: &Batch,
        stops_at_first: bool,
    ) -> Result<Vec<(usize, SendError)>, Interrupted> {
        let mut failures = Vec::new();
        for (tag, entry) in batch.entries.iter().enumerate().filter(|(_, entry)| !entry.skipped) {
            if let Err(error) = self.send_when_there_is_room(entry, tag)? {
                failures.push((tag, error));
            }
            if batch.careful {
                self.until_answered(|this| this.transactions.delivered(SLICE))?;
                failures.extend(self.transactions.failures());
            }
            if stops_at_first && !failures.is_empty() {
                break;
            }
        }
        // A producer that is finished, or a transaction that had failed before, comes first: that is no fault of any message's.
        self.until_answered(|this| this.transactions.delivered(SLICE))?;
        failures.extend(self.transactions.failures());
        Ok(failures)
    }

    fn send_when_there_is_room(
        &mut self,
        entry: &Entry,
        tag: usize,
    ) -> Result<Result<(), SendError>, Interrupted> {
        match self.send_message(entry, tag) {
            Err(SendError::QueueFull) => {}
            sent => return Ok(sent),
        }
        self.until_answered(|this| this.transactions.delivered(SLICE))?;
        Ok(match self.send_message(entry, tag) {
            // The queue was empty.
            Err(SendError::QueueFull) => Err(SendError::TooLarge),
            sent => sent,
        })
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
}

/// The headers that `output.headers` adds to a delivered message.
fn describe_origin(headers: &mut HeadersBuf, view: &View<'_>, topic: &str, partition: i32) {
    headers.clear();
    headers.push("kms-schedule-id", Some(view.id));
    headers.push("kms-due", Some(view.schedule.due.epoch_ms().to_string().as_bytes()));
    headers.push("kms-source", Some(format!("{topic}-{partition}@{}", view.offset).as_bytes()));
}
