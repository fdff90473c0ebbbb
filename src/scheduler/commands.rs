//! Commands that came by the [lane](super::command), carried out between two batches.

use crate::codec::{self, Scratch};
use crate::engine::shard::Phase;
use crate::kafka::producer::Mode;
use crate::kafka::{Clock, Kind, Log, Transactions};

use super::command::{Action, Answer, Command, FoundSchedule};
use super::runner::{Interrupted, Runner};
use super::transaction::Written;

const COMMANDS_PER_ROUND: usize = 64;

/// A command that was taken from the lane and is not answered yet.
pub(super) struct Waiting {
    pub(super) command: Command,
    /// Without transactions an attempt was made of which nobody knows what came.
    maybe_written: bool,
}

impl Waiting {
    pub(super) fn new(command: Command) -> Self {
        Self { command, maybe_written: false }
    }

    /// Answers; unless that would say that nothing was written, and nobody knows.
    fn answer(self, with: Answer) {
        if !self.maybe_written || matches!(with, Answer::Done { .. } | Answer::Found(_)) {
            answer(self.command, with);
        }
    }
}

impl<L: Log, T: Transactions, C: Clock> Runner<L, T, C> {
    pub(super) fn take_commands(&mut self) {
        while self.waiting.len() < COMMANDS_PER_ROUND
            && let Some(command) = self.commands.take()
        {
            self.waiting.push_back(Waiting::new(command));
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
            && let Some(waiting) = self.waiting.pop_front()
        {
            // Those before it took their time.
            if self.clock.monotonic_ms() > waiting.command.deadline_ms {
                waiting.answer(Answer::Expired);
            } else if !self.write_command(waiting)? {
                break;
            }
        }
        Ok(())
    }

    /// Answers the commands that write nothing, which another producer's open transaction does not hold up.
    fn answer_without_writing(&mut self) {
        for waiting in std::mem::take(&mut self.waiting) {
            if self.clock.monotonic_ms() > waiting.command.deadline_ms {
                waiting.answer(Answer::Expired);
                continue;
            }
            match &waiting.command.action {
                Action::Get => {
                    let found = self.find(&waiting.command.id);
                    waiting.answer(found);
                }
                Action::Put { value } => {
                    match codec::decode(self.settings.format, value, &mut Scratch::default()) {
                        Ok(_) => self.waiting.push_back(waiting),
                        Err(error) => waiting.answer(Answer::Refused(error.to_string())),
                    }
                }
                Action::Cancel => self.waiting.push_back(waiting),
            }
        }
    }

    fn find(&self, id: &[u8]) -> Answer {
        self.shard.pending().get(id).map_or(Answer::NotPending, |(_, view)| {
            Answer::Found(Box::new(FoundSchedule {
                offset: view.offset,
                format: view.format,
                due_ms: view.schedule.due.epoch_ms(),
                topic: view.schedule.topic.to_owned(),
            }))
        })
    }

    /// Writes a command's record in a verified transaction and answers by what the log held at that point. False: it
    /// could not be decided yet and waits for the next round.
    fn write_command(&mut self, mut waiting: Waiting) -> Result<bool, Interrupted> {
        let command = &waiting.command;
        let value = match &command.action {
            Action::Put { value } => Some(value.as_slice()),
            Action::Cancel | Action::Get => None,
        };
        match self.write_one(&command.id, value, value.is_none()) {
            Ok(Written::At(offset)) => waiting.answer(Answer::Done { offset }),
            Ok(Written::NotPending) => waiting.answer(Answer::NotPending),
            Ok(Written::NotNow) => {
                self.waiting.push_front(waiting);
                return Ok(false);
            }
            Err((interrupted, appended)) => {
                // Not committed for certain unless a commit was tried; then the log will tell.
                match (appended, &interrupted) {
                    (Some(offset), _) => self.unresolved = Some((offset, waiting.command)),
                    (None, Interrupted::Transaction(error)) if error.kind == Kind::Abortable => {
                        // Its record is refused, and would be again.
                        waiting.answer(Answer::Refused(error.to_string()));
                    }
                    (None, _) => {
                        waiting.maybe_written |= self.settings.mode == Mode::Plain;
                        self.waiting.push_front(waiting);
                    }
                }
                return Err(interrupted);
            }
        }
        Ok(true)
    }

    /// The log was caught up with after a transaction of unknown outcome: a record that was not met was not committed.
    pub(super) fn resolve_command(&mut self) {
        if let Some((_, command)) = self.unresolved.take() {
            self.waiting.push_front(Waiting::new(command));
        }
    }
}

pub(super) fn answer(command: Command, answer: Answer) {
    if command.answer.send(answer).is_err() {
        tracing::debug!("a command was answered after its asker had gone");
    }
}
