//! What the shard of a partition and the thread that writes its checkpoints share: neither ever waits for the other.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::Sender;

use super::Written;

/// As many bytes of a partition may wait to be written…
pub(super) const LANE_BYTES: usize = 8 << 20;
/// …and of all partitions together. What is taken last may exceed either.
pub(super) const TOTAL_BYTES: usize = 32 << 20;

/// A partition, as the writer thread knows it.
pub(super) struct Lane {
    /// No two have the same.
    pub(super) number: u64,
    pub(super) topic: String,
    pub(super) partition: i32,
    /// Where its files are.
    pub(super) dir: PathBuf,
    /// Bytes that wait to be written.
    waiting: AtomicUsize,
    /// Of all lanes.
    waiting_in_all: Arc<AtomicUsize>,
    replies: Sender<Reply>,
}

/// What the writer thread says to a shard.
pub(super) enum Reply {
    /// A buffer that was written, empty now.
    Buffer(Vec<u8>),
    /// What became of the checkpoint with this number.
    Outcome { number: u64, outcome: Result<Written, String> },
}

/// What the writer thread is to do for a partition.
pub(super) struct Job {
    pub(super) lane: Arc<Lane>,
    pub(super) task: Task,
}

/// See [`Store`](super::Store).
pub(super) enum Task {
    /// The number is the partition's own count.
    Begin {
        number: u64,
    },
    Write(Vec<u8>),
    Finish,
    Abandon,
    Discard,
}

impl Job {
    /// It is not done: what it would write does not wait any more.
    pub(super) fn let_go(&self) {
        if let Task::Write(bytes) = &self.task {
            self.lane.let_go(bytes.len());
        }
    }
}

impl Lane {
    pub(super) fn new(
        number: u64,
        (topic, partition): (&str, i32),
        dir: PathBuf,
        waiting_in_all: &Arc<AtomicUsize>,
        replies: Sender<Reply>,
    ) -> Self {
        let waiting = AtomicUsize::new(0);
        let waiting_in_all = Arc::clone(waiting_in_all);
        Self { number, topic: topic.to_owned(), partition, dir, waiting, waiting_in_all, replies }
    }

    /// Whether there is room for more to wait; then so many bytes do.
    pub(super) fn admit(&self, bytes: usize) -> bool {
        let is_full = self.waiting.load(Ordering::Relaxed) >= LANE_BYTES
            || self.waiting_in_all.load(Ordering::Relaxed) >= TOTAL_BYTES;
        if !is_full {
            self.waiting.fetch_add(bytes, Ordering::Relaxed);
            self.waiting_in_all.fetch_add(bytes, Ordering::Relaxed);
        }
        !is_full
    }

    /// So many bytes do not wait any more.
    pub(super) fn let_go(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
        self.waiting_in_all.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// A buffer that waited was written.
    pub(super) fn give_back(&self, mut buffer: Vec<u8>) {
        self.let_go(buffer.len());
        buffer.clear();
        self.reply(Reply::Buffer(buffer));
    }

    /// Whoever asked may be gone.
    pub(super) fn reply(&self, reply: Reply) {
        let _ = self.replies.send(reply);
    }
}
