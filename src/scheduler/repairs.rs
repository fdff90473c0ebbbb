//! Versions that an acknowledgement of an older one overtook in the log are written again.
//!
//! Only at-least-once instances overtake: their message goes before its tombstone. Both modes repair.

use crate::engine::Handle;
use crate::engine::shard::Phase;
use crate::kafka::producer::Mode;
use crate::kafka::{Clock, Kind, Log, Transactions};
use crate::schedule::HeadersBuf;

use super::runner::{Interrupted, Runner};
use super::transaction::{Decision, Written};

/// A version that fails so often is not written again.
const ATTEMPTS: u32 = 20;

impl<L: Log, T: Transactions, C: Clock> Runner<L, T, C> {
    /// Writes versions again that an acknowledgement of an older one overtook in the log.
    pub(super) fn write_repairs(&mut self) -> Result<(), Interrupted> {
        if !self.repairs.is_empty() {
            self.confirm_topic()?;
        }
        // A commit that was too slow ends this: nothing more is written by that producer.
        while self.shard.phase() == Phase::Live
            && !self.is_blocked()
            && let Some(handle) = self.repairs.pop_front()
        {
            match self.rewrite(handle) {
                Ok(Written::At(offset)) => {
                    self.counters.repaired.increment();
                    self.repair_offsets.insert(handle, offset);
                    self.repair_attempts.remove(&handle);
                    self.forget_repairs();
                }
                Ok(Written::NotPending) => {
                    self.repair_attempts.remove(&handle);
                }
                Ok(Written::NotNow) => {
                    self.repairs.push_front(handle);
                    return Ok(());
                }
                Err(interrupted) => {
                    // It may have been lost on the way, which passes, or be refused, and would be again and again.
                    let attempts = self.repair_attempts.entry(handle).or_default();
                    *attempts += 1;
                    if *attempts >= ATTEMPTS
                        && matches!(&interrupted, Interrupted::Transaction(error) if error.kind == Kind::Abortable)
                    {
                        self.repair_attempts.remove(&handle);
                        tracing::error!(
                            topic = self.topic,
                            partition = self.partition,
                            offset = handle.offset(),
                            "a schedule that raced with its own firing cannot be written again; it stays set aside"
                        );
                    } else {
                        self.repairs.push_front(handle);
                    }
                    return Err(interrupted);
                }
            }
        }
        Ok(())
    }

    /// Appends an overtaken version again, with its headers, if it is still the newest. It fires once the new record is
    /// read back (exactly-once: once it is committed). The record says which version it repeats: without transactions
    /// there may be a newer one by now, which is not read yet.
    fn rewrite(&mut self, handle: Handle) -> Result<Written, Interrupted> {
        let Some(view) = self.shard.pending().view(handle) else { return Ok(Written::NotPending) };
        let (id, mut value, mut headers) = (view.id.to_vec(), Vec::new(), HeadersBuf::new());
        crate::codec::encode(view.format, &view.schedule, &mut value);
        self.applier.repetition_headers(&view, &mut headers);
        let headers = headers.as_headers();
        if self.settings.mode == Mode::Plain {
            return Ok(Written::At(self.write_plainly(&id, Some(&value), headers)?));
        }
        match self.decide_on_one(&id, Some(&value), headers, |this| this.shard.all_current(&[handle]))? {
            Decision::Commit { base } => {
                self.commit(|_| ())?;
                Ok(Written::At(base))
            }
            Decision::Overruled => Ok(Written::NotPending),
            Decision::NotNow => Ok(Written::NotNow),
        }
    }

    /// Repairs that were read are forgotten once in a while.
    fn forget_repairs(&mut self) {
        if self.repair_offsets.len() > 2 * self.repairs.len() + 1_024 {
            let pending = self.shard.pending();
            self.repair_offsets.retain(|&handle, _| pending.is_current(handle));
        }
    }
}
