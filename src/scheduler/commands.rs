//! Commands that came by the [lane](super::command), carried out between two batches.

use crate::codec::{self, Scratch};
use crate::engine::View;
use crate::engine::shard::Phase;
use crate::kafka::producer::Mode;
use crate::kafka::{Clock, Kind, Log, Transactions};
use crate::schedule::{DueTime, HeadersBuf, Schedule};

use super::command::{Action, Answer, Command, FoundSchedule, Listing, Page, Version};
use super::record::Applier;
use super::runner::{Interrupted, Runner};
use super::transaction::{OnlyIf, OwnRecord, Written};

const COMMANDS_PER_ROUND: usize = 64;
/// Schedules that a step of a walk looks at, most of which are not in any cache: a fraction of a millisecond.
const LOOKS_A_STEP: usize = 1_000;
/// And of those with one look at the index.
const LOOKS_TOGETHER: usize = 100;
/// A page ends after so many bytes of content.
const PAGE_BYTES: usize = 1 << 20;

impl<L: Log, T: Transactions, C: Clock> Runner<L, T, C> {
    pub(super) fn take_commands(&mut self) {
        while self.waiting.len() + self.walks.len() < COMMANDS_PER_ROUND
            && let Some(command) = self.commands.take()
        {
            self.waiting.push_back(command);
        }
    }

    pub(super) fn run_commands(&mut self) -> Result<(), Interrupted> {
        self.answer_without_writing();
        if !self.waiting.is_empty() {
            self.confirm_topic()?;
        }
        // A commit that was too slow ends this: nothing more is written by that producer.
        while self.shard.phase() == Phase::Live
            && !self.is_blocked()
            && let Some(command) = self.next_to_write().and_then(|at| self.waiting.remove(at))
        {
            // Those before it took their time.
            if self.is_expired(&command) {
                answer(command, Answer::Expired);
            } else if matches!(command.action, Action::CancelMany(_)) {
                // A transaction of it a round: what is due comes between them.
                self.cancel_some(command)?;
                break;
            } else if !self.write_command(command)? {
                break;
            }
        }
        Ok(())
    }

    /// Which of those that wait can be written now. Without transactions what was written last is not applied before it is
    /// read back, and a schedule would be given another time as it was before.
    pub(super) fn next_to_write(&self) -> Option<usize> {
        let is_up_to_date = self.shard.applied() > self.written_plainly;
        let mut waiting = self.waiting.iter();
        waiting.position(|command| is_up_to_date || !matches!(command.action, Action::Reschedule { .. }))
    }

    fn is_expired(&self, command: &Command) -> bool {
        let is_begun = matches!(&command.action, Action::CancelMany(many) if many.is_begun());
        !is_begun && self.clock.monotonic_ms() > command.deadline_ms
    }

    /// Answers the commands that write nothing, which another producer's open transaction does not hold up.
    fn answer_without_writing(&mut self) {
        for command in std::mem::take(&mut self.waiting) {
            if self.is_expired(&command) {
                answer(command, Answer::Expired);
                continue;
            }
            match &command.action {
                Action::Get => {
                    let found = self.find(&command.id);
                    answer(command, found);
                }
                Action::Put { value } => {
                    match codec::decode(self.settings.format, value, &mut Scratch::default()) {
                        Ok(_) => self.waiting.push_back(command),
                        Err(error) => answer(command, Answer::Refused(error.to_string())),
                    }
                }
                Action::List(_) | Action::ListVersions(_) | Action::Recall(_) => {
                    self.walks.push_back(command);
                }
                Action::CountDue(within_ms) => {
                    let due = self.count_due(within_ms);
                    answer(command, Answer::Due(due));
                }
                Action::Cancel | Action::CancelAnyway | Action::Reschedule { .. } | Action::CancelMany(_) => {
                    self.waiting.push_back(command);
                }
            }
        }
        self.take_a_step();
    }

    /// A step of one walk a round: what is due comes between them.
    fn take_a_step(&mut self) {
        let Some(walk) = self.walks.pop_front() else { return };
        if self.is_expired(&walk) {
            return answer(walk, Answer::Expired);
        }
        match &walk.action {
            Action::List(listing) => {
                let page = self.list(listing, FoundSchedule::of, FoundSchedule::bytes);
                answer(walk, Answer::Page(page));
            }
            Action::ListVersions(listing) => {
                let of = |view: &View<'_>| Version { id: view.id.to_vec(), offset: view.offset };
                let page = self.list(listing, of, |version| version.id.len());
                answer(walk, Answer::Versions(page));
            }
            Action::Recall(recall) => {
                let events = self.applier.history.recall(recall);
                answer(walk, Answer::Recalled(events));
            }
            _ => unreachable!("no other action is a walk"),
        }
    }

    fn find(&self, id: &[u8]) -> Answer {
        let found = self.shard.pending().get(id);
        found.map_or(Answer::NotPending, |(_, view)| Answer::Found(Box::new(FoundSchedule::of(&view))))
    }

    /// A step of a walk: a bounded piece of work, whatever is asked for. Of what is found, `of` is given, which has so many
    /// `bytes`.
    fn list<R>(
        &self,
        listing: &Listing,
        of: impl Fn(&View<'_>) -> R,
        bytes_of: impl Fn(&R) -> usize,
    ) -> Page<R> {
        let mut page = Page { found: Vec::new(), looked_at: 0, next: Some(listing.from) };
        let (mut bytes, mut looks_left) = (0, LOOKS_A_STEP);
        while let Some(cursor) = page.next
            && page.found.len() < listing.limit
            && bytes < PAGE_BYTES
            && looks_left > 0
        {
            looks_left -= LOOKS_TOGETHER;
            page.next = self.shard.pending().list(cursor, LOOKS_TOGETHER, &mut |view| {
                page.looked_at += 1;
                if listing.wants(view.id, view.schedule.due.epoch_ms(), view.schedule.topic) {
                    let found = of(&view);
                    bytes += bytes_of(&found);
                    page.found.push(found);
                }
                page.found.len() < listing.limit && bytes < PAGE_BYTES
            });
        }
        page
    }

    /// Counts what is due within each of these times, what was handed out or set aside with it: that was due, and still is.
    fn count_due(&self, within_ms: &[i64]) -> Vec<u64> {
        let pending = self.shard.pending();
        let mut counts = vec![0; within_ms.len()];
        pending.due_within(self.clock.now_ms(), within_ms, &mut counts);
        let (handed_out, all) =
            ((pending.in_flight() + pending.set_aside_len()) as u64, pending.len() as u64);
        counts.iter().map(|count| (count + handed_out).min(all)).collect()
    }

    /// Writes a command's record in a verified transaction and answers by what the log held at that point. False: it
    /// could not be decided yet and waits for the next round.
    fn write_command(&mut self, command: Command) -> Result<bool, Interrupted> {
        let own = self.own_record(&command);
        if own.bytes() > self.settings.max_record_bytes {
            let (bytes, most) = (own.bytes(), self.settings.max_record_bytes);
            let why = format!(
                "its record would have {bytes} bytes, and a producer sends {most} at most (message.max.bytes)"
            );
            answer(command, Answer::Refused(why));
            return Ok(true);
        }
        match self.write_one(&own) {
            Ok(Written::At(offset)) => answer(command, Answer::Done { offset }),
            // Of what has changed since, the next round writes what it is then. Others come first: a schedule may be replaced
            // all the time.
            Ok(Written::NotPending) if own.only_if.is_outdated(self.shard.state_of(&command.id)) => {
                self.waiting.push_back(command);
                return Ok(false);
            }
            Ok(Written::NotPending) => answer(command, Answer::NotPending),
            Ok(Written::NotNow) => {
                self.waiting.push_front(command);
                return Ok(false);
            }
            Err((interrupted, appended)) => {
                // Not committed for certain unless a commit was tried; then the log will tell.
                match (appended, &interrupted) {
                    (Some(offset), _) => self.unresolved = Some((offset, command)),
                    (None, Interrupted::Transaction(error)) if error.kind == Kind::Abortable => {
                        // Its record is refused, and would be again.
                        answer(command, Answer::Refused(error.to_string()));
                    }
                    // It may be in the log, and others may have written after it: written again, it would undo what they
                    // wrote. Nobody knows, so there is no answer.
                    (None, _) if self.settings.mode == Mode::Plain => {}
                    (None, _) => self.waiting.push_front(command),
                }
                return Err(interrupted);
            }
        }
        Ok(true)
    }

    /// What a command writes as things are.
    fn own_record(&self, command: &Command) -> OwnRecord {
        let pending = self.shard.pending();
        let (value, headers, only_if) = match &command.action {
            Action::Put { value } => (Some(value.clone()), HeadersBuf::new(), OnlyIf::Always),
            Action::CancelAnyway => (None, HeadersBuf::new(), OnlyIf::Always),
            Action::Cancel => (None, HeadersBuf::new(), OnlyIf::Pending),
            Action::Reschedule { due_ms } => match pending.get(&command.id) {
                // It may be in the log, and not read yet.
                None => (None, HeadersBuf::new(), OnlyIf::Never),
                Some((handle, view)) => {
                    // What is overdue may be removed without delivery, as it was before the start; this is asked for now.
                    let due_ms = self
                        .settings
                        .skip_overdue_before_ms
                        .map_or(*due_ms, |before_ms| before_ms.max(*due_ms));
                    let schedule = Schedule { due: DueTime::from_epoch_ms(due_ms), ..view.schedule };
                    let (mut value, mut headers) = (Vec::new(), HeadersBuf::new());
                    codec::encode(view.format, &schedule, &mut value);
                    match self.settings.mode {
                        Mode::Transactional => Applier::new_version_headers(&view, &mut headers),
                        // There may be a newer version that is not read yet: what this one was made of tells.
                        Mode::Plain => self.applier.repetition_headers(&view, &mut headers),
                    }
                    (Some(value), headers, OnlyIf::Still(handle))
                }
            },
            _ => unreachable!("answered without writing, or many at a time"),
        };
        OwnRecord { id: command.id.clone(), value, headers, only_if }
    }

    /// The log was caught up with after a transaction of unknown outcome: a record that was not met was not committed.
    pub(super) fn resolve_command(&mut self) {
        if let Some((_, command)) = self.unresolved.take() {
            self.waiting.push_front(command);
        }
    }
}

pub(super) fn answer(command: Command, answer: Answer) {
    if command.answer.send(answer).is_err() {
        tracing::debug!("a command was answered after its asker had gone");
    }
}
