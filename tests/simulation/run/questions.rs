//! What shards are asked by their command lane, and whether their answers are true.

use kafka_message_scheduler::codec::{self, Scratch};
use kafka_message_scheduler::kafka::producer::Mode;
use kafka_message_scheduler::scheduler::command::{Action, Answer, Command};
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
#[derive(Clone, Copy)]
enum Wanted {
    Cancel,
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
            Answer::Refused(_) => {
                matches!(question.wanted, Wanted::Cancel)
                    || !self.records(history).any(|record| question.wanted.is_in(record))
            }
            Answer::Found(_) | Answer::Page(_) => false,
        };
        (!is_right).then(|| {
            let id = String::from_utf8_lossy(&question.id);
            let (partition, asked, now) = (question.partition, question.end, self.end);
            format!("{id}: answered {answer:?} in {partition} between {asked} and {now}, which is wrong")
        })
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
    fn is_in(self, record: &Record) -> bool {
        match (self, &record.write) {
            (Self::Cancel, Write::Delete) => true,
            (Self::Schedule { payload_id }, Write::Schedule { payload_id: there, .. }) => {
                payload_id == *there
            }
            _ => false,
        }
    }
}
