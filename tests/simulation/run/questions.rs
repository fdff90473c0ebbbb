//! What shards are asked by their command lane, and whether their answers are true.

use kafka_message_scheduler::codec::{self, Scratch};
use kafka_message_scheduler::kafka::producer::Mode;
use kafka_message_scheduler::scheduler::command::{Action, Answer, CancelMany, Command, Version};
use tokio::sync::oneshot;

use super::{Owner, Run};
use crate::history::{self, History, Record, Write};
use crate::partition::FORMAT;

/// A command to a shard.
pub struct Asked {
    question: Question,
    actor: usize,
    answer: oneshot::Receiver<Answer>,
}

/// What was asked, and when.
struct Question {
    id: Vec<u8>,
    partition: usize,
    wanted: Wanted,
    /// By the monotonic clock.
    deadline_ms: u64,
    /// The end of the log when it was asked.
    end: i64,
}

/// What is to be in the log afterwards.
enum Wanted {
    Cancel,
    /// Of each of these, whatever its version is, or only where it is the one named.
    CancelMany {
        versions: Vec<Version>,
        only_these: bool,
    },
    Schedule {
        payload_id: u64,
    },
    /// It is no schedule.
    Nonsense,
}

/// What was answered.
pub struct Answered {
    question: Question,
    answer: Answer,
    at_ms: u64,
    /// The end of the log when it was answered.
    end: i64,
}

impl Run {
    /// Asks a shard for something.
    pub(super) fn ask(&mut self) {
        let (id, partition) = self.key();
        let Owner::Actor(actor) = self.owners[partition] else { return };
        let action = if self.permille(500) { Action::Cancel } else { Action::Put { value: self.value(&id) } };
        let wanted = wanted(&action);
        let deadline_ms = self.now_us() / 1_000 + self.random(10, 20_000);
        let (sender, answer) = oneshot::channel();
        let command = Command { id: id.clone(), action, deadline_ms, answer: sender };
        if self.actors[actor].commands.send(command).is_ok() {
            let what = if matches!(wanted, Wanted::Cancel) { "cancel" } else { "put" };
            self.note(format_args!("asked to {what} {}", String::from_utf8_lossy(&id)));
            let end = self.cluster.borrow().partitions[partition].end;
            let question = Question { id, partition, wanted, deadline_ms, end };
            self.asked.push(Asked { question, actor, answer });
            self.wake(actor);
        }
    }

    /// Asks a shard to cancel several schedules of its partition, all that are there or as they are in the log now.
    pub(super) fn ask_to_cancel_many(&mut self) {
        let (_, partition) = self.key();
        let Owner::Actor(actor) = self.owners[partition] else { return };
        let only_these = self.permille(500);
        let mut versions: Vec<Version> = Vec::new();
        for _ in 0..self.random(1, 20) {
            let (id, of_partition) = self.key();
            if of_partition != partition || versions.iter().any(|version| version.id == id) {
                continue;
            }
            let cluster = self.cluster.borrow();
            let newest = cluster.partitions[partition].newest_offset(&id);
            versions.push(Version { offset: newest.unwrap_or(-1), id });
        }
        let deadline_ms = self.now_us() / 1_000 + self.random(10, 20_000);
        let (sender, answer) = oneshot::channel();
        let action = Action::CancelMany(CancelMany::new(versions.clone(), only_these));
        let command = Command { id: Vec::new(), action, deadline_ms, answer: sender };
        if self.actors[actor].commands.send(command).is_ok() {
            let which = if only_these { "these versions" } else { "all" };
            self.note(format_args!("asked to cancel {which} of {} at once", versions.len()));
            let end = self.cluster.borrow().partitions[partition].end;
            let wanted = Wanted::CancelMany { versions, only_these };
            let question = Question { id: Vec::new(), partition, wanted, deadline_ms, end };
            self.asked.push(Asked { question, actor, answer });
            self.wake(actor);
        }
    }

    /// What the shard has answered just now.
    pub(super) fn collect_answers(&mut self, actor: usize) {
        let end = self.cluster.borrow().partitions[self.actors[actor].partition].end;
        let at_ms = self.now_us() / 1_000;
        let mut index = 0;
        while index < self.asked.len() {
            let asked = &mut self.asked[index];
            match (asked.actor == actor).then(|| asked.answer.try_recv()) {
                Some(Ok(answer)) => {
                    let Asked { question, .. } = self.asked.swap_remove(index);
                    if let Answer::Cancelled(count @ 1..) = answer {
                        self.note(format_args!("{count} cancelled at once"));
                    }
                    self.answered.push(Answered { question, answer, at_ms, end });
                }
                _ => index += 1,
            }
        }
    }

    /// Questions whose time is over and that a shard which still runs has not answered.
    pub(super) fn unanswered(&mut self) -> Vec<String> {
        let now_ms = self.now_us() / 1_000;
        let Self { asked, actors, .. } = self;
        let mut complaints = Vec::new();
        for Asked { question, actor, answer } in asked {
            let is_over = question.deadline_ms < now_ms && actors[*actor].coroutine.is_some();
            if is_over && answer.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
                complaints.push(format!("{}: never answered", String::from_utf8_lossy(&question.id)));
            }
        }
        complaints
    }
}

fn wanted(action: &Action) -> Wanted {
    let Action::Put { value } = action else { return Wanted::Cancel };
    match codec::decode(FORMAT, value, &mut Scratch::default()) {
        Ok(schedule) => Wanted::Schedule { payload_id: history::payload_id(schedule.value) },
        Err(_) => Wanted::Nonsense,
    }
}

impl Answered {
    /// That the answer is not what the log says: what was asked for is where it is said to be; nothing was pending at some
    /// place that the log reached between question and answer; nothing was written of what was refused.
    pub(super) fn complaint(&self, history: &History, mode: Option<Mode>) -> Option<String> {
        let Self { question, answer, .. } = self;
        let is_right = match answer {
            Answer::Done { offset } => {
                self.records(history).any(|record| record.offset == *offset && question.wanted.is_in(record))
            }
            // Without transactions a shard knows only what it has read.
            Answer::NotPending => mode != Some(Mode::Transactional) || self.was_not_pending(history),
            Answer::Expired => self.at_ms > question.deadline_ms,
            Answer::Cancelled(count) => {
                // Without transactions what is not read yet may be what a tombstone removes.
                let removed = self.removed_by_cancels(history);
                removed.is_some_and(|removed| mode != Some(Mode::Transactional) || *count <= removed)
            }
            Answer::Refused(_) => {
                matches!(question.wanted, Wanted::Cancel | Wanted::CancelMany { .. })
                    || !self.records(history).any(|record| question.wanted.is_in(record))
            }
            Answer::Found(_)
            | Answer::Page(_)
            | Answer::Versions(_)
            | Answer::Due(_)
            | Answer::Recalled(_) => false,
        };
        (!is_right).then(|| {
            let id = String::from_utf8_lossy(&question.id);
            let (partition, asked, now) = (question.partition, question.end, self.end);
            format!("{id}: answered {answer:?} in {partition} between {asked} and {now}, which is wrong")
        })
    }

    /// How many of what was to be cancelled were removed since the question; `None`: one that was to get a tombstone in any
    /// case has none.
    fn removed_by_cancels(&self, history: &History) -> Option<usize> {
        let Wanted::CancelMany { versions, only_these } = &self.question.wanted else { return None };
        let between = self.question.end..self.end;
        let of_id = |id: &[u8]| {
            let mut records: Vec<&Record> = history
                .records
                .iter()
                .filter(|record| record.partition as usize == self.question.partition && record.key == id)
                .collect();
            records.sort_by_key(|record| record.offset);
            records
        };
        let is_cancel =
            |record: &Record| matches!(record.write, Write::Delete) && between.contains(&record.offset);
        let mut removed = 0;
        for version in versions {
            let records = of_id(&version.id);
            if !only_these && !records.iter().any(|record| is_cancel(record)) {
                return None;
            }
            let is_removal = |pair: &[&Record]| {
                matches!(pair[0].write, Write::Schedule { .. })
                    && is_cancel(pair[1])
                    && (!only_these || pair[0].offset == version.offset)
            };
            removed += usize::from(records.windows(2).any(is_removal));
        }
        Some(removed)
    }

    fn was_not_pending(&self, history: &History) -> bool {
        let between = self.question.end..=self.end;
        let ends = self.records(history).map(|record| record.offset + 1).filter(|end| between.contains(end));
        std::iter::once(self.question.end).chain(ends).any(|end| {
            let earlier = self.records(history).filter(|record| record.offset < end);
            let last = earlier.max_by_key(|record| record.offset);
            last.is_none_or(|record| !matches!(record.write, Write::Schedule { .. }))
        })
    }

    /// Those of the ID.
    fn records<'h>(&'h self, history: &'h History) -> impl Iterator<Item = &'h Record> {
        let Question { id, partition, .. } = &self.question;
        let is_ours = move |record: &&Record| record.partition as usize == *partition && record.key == *id;
        history.records.iter().filter(is_ours)
    }
}

impl Wanted {
    fn is_in(&self, record: &Record) -> bool {
        match (self, &record.write) {
            (Self::Cancel, Write::Delete) => true,
            (Self::Schedule { payload_id }, Write::Schedule { payload_id: there, .. }) => payload_id == there,
            _ => false,
        }
    }
}
