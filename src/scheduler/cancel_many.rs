//! Cancelling many schedules: a tombstone for each, in verified transactions of as many as fit.
//!
//! Such a command takes one transaction a round of the shard's loop, so that what is due comes between them.

use crate::engine::Handle;
use crate::kafka::producer::Mode;
use crate::kafka::{Clock, Kind, Log, Transactions};
use crate::schedule::Headers;

use super::command::{Action, Answer, CancelMany, Command};
use super::commands::answer;
use super::fire::TOMBSTONE_OVERHEAD_BYTES;
use super::runner::{Interrupted, Runner, SLICE};
use super::transaction::{Decision, Laps};

/// The tombstones of one transaction.
struct Chosen {
    /// How many of what is left to do they stand for: what needs no tombstone is passed over.
    done: usize,
    ids: Vec<Vec<u8>>,
    /// The versions that are to go, where only these are.
    versions: Vec<Handle>,
}

/// What became of them.
enum Tried {
    /// Written, where so many of the IDs were pending.
    Written { cancelled: usize },
    /// One of the versions is not the newest any more.
    Overruled,
    /// The log is held back, or other records came between.
    NotNow,
}

impl<L: Log, T: Transactions, C: Clock> Runner<L, T, C> {
    /// Writes the tombstones of one transaction; answers the command when there is nothing left to do.
    pub(super) fn cancel_some(&mut self, mut command: Command) -> Result<(), Interrupted> {
        if command.answer.is_closed() {
            // Whoever asked has given up on it, and may have written some of the IDs anew.
            return Ok(());
        }
        let Action::CancelMany(many) = &mut command.action else { unreachable!("what this is called for") };
        let (chosen, is_begun) = (self.choose(many), many.is_begun());
        match self.write_tombstones(&chosen) {
            Ok(Tried::Written { cancelled }) => {
                many.advance(chosen.done, chosen.ids.len(), cancelled);
            }
            Ok(Tried::Overruled) => many.shrink(chosen.ids.len()),
            // Of fewer, others' records come less often between.
            Ok(Tried::NotNow) if !self.is_blocked() => many.shrink(chosen.ids.len()),
            Ok(Tried::NotNow) => {}
            Err((interrupted, may_be_committed)) => {
                match &interrupted {
                    Interrupted::Transaction(error)
                        if error.kind == Kind::Abortable && !is_begun && !may_be_committed =>
                    {
                        answer(command, Answer::Refused(error.to_string()));
                    }
                    // Not committed for certain: once more, after the partition was taken over again.
                    Interrupted::Transaction(error) if error.kind != Kind::Abortable && !may_be_committed => {
                        self.waiting.push_front(command);
                    }
                    // Nobody knows how many of them were written, so there is no answer.
                    _ => {}
                }
                return Err(interrupted);
            }
        }
        if many.left.is_empty() {
            let cancelled = many.cancelled();
            answer(command, Answer::Cancelled(cancelled));
        } else {
            self.waiting.push_back(command);
        }
        Ok(())
    }

    /// The next that fit into one transaction.
    fn choose(&self, many: &CancelMany) -> Chosen {
        let mut chosen = Chosen { done: 0, ids: Vec::new(), versions: Vec::new() };
        let mut bytes = 0;
        for version in &many.left {
            let held = self.shard.pending().get(&version.id);
            let is_asked_for = held.as_ref().is_some_and(|(_, view)| view.offset == version.offset);
            if many.only_these_versions && !is_asked_for {
                chosen.done += 1;
                continue;
            }
            let own_bytes = version.id.len() + TOMBSTONE_OVERHEAD_BYTES;
            if own_bytes > self.settings.max_record_bytes {
                // No producer sends its tombstone.
                chosen.done += 1;
                continue;
            }
            bytes += own_bytes;
            let is_full = chosen.ids.len() >= many.at_once() || bytes > self.settings.max_own_bytes;
            if is_full && !chosen.ids.is_empty() {
                break;
            }
            chosen.done += 1;
            chosen.ids.push(version.id.clone());
            if many.only_these_versions {
                chosen.versions.extend(held.map(|(handle, _)| handle));
            }
        }
        chosen
    }

    /// With an error comes whether a commit was tried.
    fn write_tombstones(&mut self, chosen: &Chosen) -> Result<Tried, (Interrupted, bool)> {
        let Chosen { ids, versions, .. } = chosen;
        if ids.is_empty() {
            return Ok(Tried::Written { cancelled: 0 });
        }
        match self.settings.mode {
            // What was sent before the error may be there.
            Mode::Plain => self.write_tombstones_plainly(ids).map_err(|interrupted| (interrupted, true)),
            Mode::Transactional => {
                let mut cancelled = 0;
                let decision = self.decide_on_tombstones(ids, |this| {
                    cancelled = this.count_pending(ids);
                    this.shard.all_current(versions)
                });
                let base = match decision.map_err(|interrupted| (interrupted, false))? {
                    Decision::Commit { base } => base,
                    Decision::Overruled => {
                        self.shard.release();
                        return Ok(Tried::Overruled);
                    }
                    Decision::NotNow => return Ok(Tried::NotNow),
                };
                self.commit(|_| ()).map_err(|interrupted| (interrupted, true))?;
                for (id, offset) in ids.iter().zip(base..) {
                    self.apply_own(offset, id, None, Headers::default());
                }
                Ok(Tried::Written { cancelled })
            }
        }
    }

    fn decide_on_tombstones(
        &mut self,
        ids: &[Vec<u8>],
        are_right: impl FnOnce(&Self) -> bool,
    ) -> Result<Decision, Interrupted> {
        self.transactions.begin()?;
        for id in ids {
            self.transactions.append(id, None, Headers::default())?;
        }
        self.decide(ids.len(), &mut Laps::start(&self.clock), are_right)
    }

    fn write_tombstones_plainly(&mut self, ids: &[Vec<u8>]) -> Result<Tried, Interrupted> {
        let cancelled = self.count_pending(ids);
        for id in ids {
            self.transactions.append(id, None, Headers::default())?;
        }
        let offsets = self.until_answered(|this| this.transactions.appended(SLICE))?;
        self.written_plainly = offsets.into_iter().fold(self.written_plainly, i64::max);
        for id in ids {
            // Their tombstones come back in their places: what lies before them may be unread.
            self.shard.hold_until_read(id);
        }
        Ok(Tried::Written { cancelled })
    }

    fn count_pending(&self, ids: &[Vec<u8>]) -> usize {
        ids.iter().filter(|id| self.shard.state_of(id).is_some()).count()
    }
}
