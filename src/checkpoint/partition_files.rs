//! The files of one partition.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SendError, Sender, channel};
use std::time::Duration;

use super::decoder::Decoder;
use super::disk::Disk;
use super::lane::{Job, Lane, Reply, Task};
use super::names::Name;
use super::state_dir::Order;
use super::{Refusal, Store, Written};

/// Buffers that are kept to be filled again.
const SPARES: usize = 8;

/// The checkpoints of one partition on disk.
pub(super) struct PartitionFiles {
    lane: Arc<Lane>,
    disk: Arc<dyn Disk>,
    orders: Sender<Order>,
    replies: Receiver<Reply>,
    /// Of the checkpoint that was begun last; one more after each that is not wanted any more, of which no outcome counts.
    number: u64,
    outcome: Option<Result<Written, String>>,
    spares: Vec<Vec<u8>>,
}

impl PartitionFiles {
    pub(super) fn new(
        lane: Lane,
        disk: &Arc<dyn Disk>,
        orders: &Sender<Order>,
        replies: Receiver<Reply>,
    ) -> Self {
        Self {
            lane: Arc::new(lane),
            disk: Arc::clone(disk),
            orders: orders.clone(),
            replies,
            number: 0,
            outcome: None,
            spares: Vec::new(),
        }
    }

    /// Gives the writer thread something to do. Without that thread, whatever is begun fails.
    fn order(&mut self, task: Task) {
        let job = Job { lane: Arc::clone(&self.lane), task };
        let Err(SendError(Order::Do(Job { task, .. }))) = self.orders.send(Order::Do(job)) else { return };
        match task {
            Task::Write(bytes) => self.lane.let_go(bytes.len()),
            Task::Begin { .. } | Task::Finish => {}
            Task::Abandon | Task::Discard | Task::Answer(_) => return,
        }
        self.outcome = Some(Err("the thread that writes checkpoints has ended".to_owned()));
    }

    /// Nothing that was begun so far is wanted any more.
    fn forget(&mut self) {
        self.listen();
        self.number += 1;
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
        let (asker, answer) = channel();
        self.order(Task::Answer(asker));
        let _ = answer.recv(); // an error means that there is nobody who could still be writing
        newest(&*self.disk, &self.lane)
    }

    fn discard(&mut self) {
        self.forget();
        self.order(Task::Discard);
    }

    fn begin(&mut self) {
        self.forget();
        self.order(Task::Begin { number: self.number });
    }

    fn write(&mut self, bytes: Vec<u8>) -> Result<(), Vec<u8>> {
        self.listen();
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
        let outcome = self.outcome.take()?;
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

/// The newest complete checkpoint that can be read.
pub(super) fn newest(disk: &dyn Disk, lane: &Lane) -> Option<Decoder<Box<dyn Read + Send>>> {
    let names = match disk.list(&lane.dir) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
        Err(error) => {
            let (topic, partition, dir) = (&lane.topic, lane.partition, lane.dir.display());
            tracing::warn!(topic, partition, "no checkpoint is used: cannot list {dir}: {error}");
            return None;
        }
    };
    let complete = names.iter().filter_map(|name| match Name::parse(name) {
        Some(Name::Complete(offset)) => Some(offset),
        Some(Name::Unfinished(_)) | None => None,
    });
    let mut offsets: Vec<i64> = complete.collect();
    offsets.sort_unstable();
    offsets.into_iter().rev().find_map(|offset| {
        let path = lane.dir.join(Name::Complete(offset).to_string());
        match open(disk, &path, lane) {
            Ok(decoder) => Some(decoder),
            Err(refusal) => {
                refuse(disk, &path, lane, &refusal);
                None
            }
        }
    })
}

fn open(disk: &dyn Disk, path: &Path, lane: &Lane) -> Result<Decoder<Box<dyn Read + Send>>, Refusal> {
    let decoder = Decoder::open(disk.open(path).map_err(Refusal::Unreadable)?)?;
    let (topic, partition) = (&decoder.stand().topic, decoder.stand().partition);
    if (topic.as_str(), partition) != (lane.topic.as_str(), lane.partition) {
        return Err(Refusal::OtherPartition { topic: topic.clone(), partition });
    }
    Ok(decoder)
}

/// Says why a checkpoint is not used, and removes it unless it may be read another time.
fn refuse(disk: &dyn Disk, path: &Path, lane: &Lane, refusal: &Refusal) {
    let (topic, partition) = (&lane.topic, lane.partition);
    tracing::warn!(topic, partition, "the checkpoint {} is not used: {refusal}", path.display());
    if !matches!(refusal, Refusal::Unreadable(_))
        && let Err(error) = disk.remove(path)
    {
        tracing::warn!(topic, partition, "it cannot be removed either: {error}");
    }
}
