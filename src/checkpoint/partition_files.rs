//! The files of one partition.

use std::io::Read;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use super::decoder::Decoder;
use super::lane::{Job, Lane, Reply, Task};
use super::opening::Opener;
use super::queue::Queue;
use super::{Store, Written};

/// Buffers that are kept to be filled again.
const SPARES: usize = 8;

/// The checkpoints of one partition on disk.
pub(super) struct PartitionFiles {
    lane: Arc<Lane>,
    opener: Opener,
    queue: Arc<Queue>,
    replies: Receiver<Reply>,
    /// Of the checkpoint that was begun last; one more after each that is not wanted any more, of which no outcome counts.
    number: u64,
    /// Whether one was begun of which there is to be an outcome.
    is_under_way: bool,
    outcome: Option<Result<Written, String>>,
    spares: Vec<Vec<u8>>,
}

impl PartitionFiles {
    pub(super) fn new(lane: Lane, opener: &Opener, queue: &Arc<Queue>, replies: Receiver<Reply>) -> Self {
        Self {
            lane: Arc::new(lane),
            opener: opener.clone(),
            queue: Arc::clone(queue),
            replies,
            number: 0,
            is_under_way: false,
            outcome: None,
            spares: Vec::new(),
        }
    }

    /// Gives the writer thread something to do. Without that thread, whatever is begun fails.
    fn order(&self, task: Task) {
        if let Err(job) = self.queue.push(Job { lane: Arc::clone(&self.lane), task }) {
            job.let_go();
        }
    }

    /// Nothing that was begun so far is wanted any more.
    fn forget(&mut self) {
        self.listen();
        self.number += 1;
        self.is_under_way = false;
        self.outcome = None;
    }

    /// Takes in what the writer thread said.
    fn listen(&mut self) {
        while let Ok(reply) = self.replies.try_recv() {
            self.hear(reply);
        }
    }

    fn hear(&mut self, reply: Reply) {
        match reply {
            Reply::Buffer(buffer) if self.spares.len() < SPARES => self.spares.push(buffer),
            Reply::Outcome { number, outcome } if number == self.number => self.outcome = Some(outcome),
            Reply::Buffer(_) | Reply::Outcome { .. } => {}
        }
    }
}

impl Store for PartitionFiles {
    fn open(&mut self) -> Option<Decoder<Box<dyn Read + Send>>> {
        self.opener.open(&self.lane)
    }

    fn discard(&mut self) {
        self.forget();
        self.order(Task::Discard);
    }

    fn begin(&mut self) {
        self.forget();
        self.is_under_way = true;
        self.order(Task::Begin { number: self.number });
    }

    fn write(&mut self, bytes: Vec<u8>) -> Result<(), Vec<u8>> {
        self.listen();
        if self.queue.is_over() {
            return Ok(()); // the outcome says so
        }
        if !self.lane.admit(bytes.len()) {
            return Err(bytes);
        }
        self.order(Task::Write(bytes));
        Ok(())
    }

    fn finish(&mut self) -> bool {
        self.order(Task::Finish);
        true
    }

    fn outcome(&mut self) -> Option<Result<Written, String>> {
        self.listen();
        if self.is_under_way && self.outcome.is_none() && self.queue.is_over() {
            self.listen(); // what it said last
            self.outcome
                .get_or_insert_with(|| Err("the thread that writes checkpoints has ended".to_owned()));
        }
        let outcome = self.outcome.take()?;
        self.is_under_way = false;
        self.spares = Vec::new(); // the next one may be far off
        Some(outcome)
    }

    fn spare(&mut self) -> Option<Vec<u8>> {
        self.listen();
        self.spares.pop()
    }

    fn abandon(&mut self) {
        self.forget();
        self.order(Task::Abandon);
    }

    fn wait(&mut self, at_most: Duration) {
        if let Ok(reply) = self.replies.recv_timeout(at_most) {
            self.hear(reply);
        }
    }
}

impl Drop for PartitionFiles {
    fn drop(&mut self) {
        self.order(Task::Abandon);
    }
}
