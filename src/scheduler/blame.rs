//! Who is to blame when messages are refused, and setting those aside, so that they hold up nobody else.

use crate::engine::Handle;
use crate::kafka::{Clock, Kind, Log, SendError, TransactionError, Transactions};

use super::fire::Batch;
use super::runner::{Interrupted, Runner, SLICE};
use super::status::SetAsideReason;

impl<L: Log, T: Transactions, C: Clock> Runner<L, T, C> {
    /// Messages of a transaction were refused: why it has to be aborted.
    pub(super) fn refused(&mut self, batch: &Batch, failures: &[(usize, SendError)]) -> Interrupted {
        self.firing.blamed = true;
        self.blame(batch, failures);
        Interrupted::Transaction(TransactionError {
            kind: Kind::Abortable,
            call: "send",
            reason: "a destination refused messages".to_owned(),
        })
    }

    /// Sets aside those that are to blame for certain, and suspects the others. Nobody is to blame where the whole cluster
    /// does not answer.
    pub(super) fn blame(&mut self, batch: &Batch, failures: &[(usize, SendError)]) {
        let alone = batch.careful || batch.entries.len() == 1;
        let is_silent = |(_, error): &(usize, SendError)| error.is_transient();
        let others_answer = failures.iter().any(is_silent) && self.log.watermarks(SLICE).is_ok();
        for (tag, error) in failures {
            let Some(entry) = batch.entries.get(*tag) else { continue };
            if error.is_transient() {
                if others_answer {
                    self.refuse_for_silence(entry.handle);
                }
            } else if alone || error.concerns_topic() {
                self.set_aside(entry.handle, error);
            } else {
                self.firing.suspects.insert(entry.handle, error.clone());
            }
        }
    }

    /// A destination did not answer while the own partition's broker did. It would hold up each batch for as long as messages
    /// are waited for, so nothing is sent there for a while, each time longer.
    fn refuse_for_silence(&mut self, handle: Handle) {
        let Some(view) = self.shard.pending().view(handle) else { return };
        let topic = view.schedule.topic;
        if !self.firing.is_refused(topic, self.clock.monotonic_ms()) {
            let times = self.firing.silent.entry(topic.to_owned()).or_default();
            *times += 1;
            let until_ms = self.clock.monotonic_ms() + self.settings.retry_delay(*times).as_millis() as u64;
            self.firing.cleared.remove(topic);
            self.firing.refused.insert(topic.to_owned(), (until_ms, SendError::NoAnswer));
        }
        self.set_aside(handle, &SendError::NoAnswer);
    }

    /// Something in the batch is refused and nothing says what (a destination that may be described but not written
    /// to, a tombstone that is too large): smaller and smaller batches find it.
    pub(super) fn suspect_all(&mut self, batch: &Batch, error: &TransactionError) {
        let reason = SendError::Other(error.to_string());
        if let [entry] = batch.entries[..] {
            return self.set_aside(entry.handle, &reason);
        }
        self.firing.careful_limit = (self.firing.careful_limit.min(batch.entries.len()) / 2).max(1);
        for entry in &batch.entries {
            self.firing.suspects.insert(entry.handle, reason.clone());
        }
    }

    /// Keeps a schedule that cannot be delivered from holding others up: it is tried again by itself, later.
    pub(super) fn set_aside(&mut self, handle: Handle, error: &SendError) {
        let attempts = self.firing.attempts.entry(handle).or_default();
        *attempts += 1;
        let delay = self.settings.retry_delay(*attempts);
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
        let retry_at_ms = self.time_in(delay.as_millis() as u64);
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
}

fn set_aside_reason(error: &SendError) -> SetAsideReason {
    match error {
        SendError::UnknownTopic => SetAsideReason::UnknownTopic,
        SendError::NotAuthorized => SetAsideReason::NotAuthorized,
        SendError::TooLarge => SetAsideReason::TooLarge,
        SendError::IllegalName => SetAsideReason::IllegalName,
        SendError::Denied => SetAsideReason::Denied,
        SendError::NoAnswer | SendError::NoLeader => SetAsideReason::NoAnswer,
        SendError::QueueFull | SendError::Unavailable(_) | SendError::Other(_) => SetAsideReason::Other,
    }
}
