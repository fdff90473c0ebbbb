//! Checkpoints: a partition's pending set on disk, so that a restart reads that and only the rest of the log.
//!
//! A [checkpoint](Stand) says what the log says below an offset. The log stays the truth. A checkpoint that is damaged, or
//! of another version or partition, is removed; one that the disk does not give stays for another time; one that is not
//! believed is passed over for this start, and stays until the next takes its place. Each costs a full load, and so does a
//! directory that was deleted. Whether one is to be believed (the topic is the same, its tombstones are still there, the
//! log goes on from the offset) is for the reader of the log to say; here it is only made sure that a checkpoint is read as
//! it was written, or refused.
//!
//! | part | what it knows |
//! |---|---|
//! | `format` | the layout of a file, in the reader's and the writer's common words |
//! | `encoder` | from schedules to the bytes of a file |
//! | `decoder` | back, whatever the bytes are |
//! | `refusal` | why a file is not read |
//! | `moment` | times that mean something to the next process |
//! | `disk` | what is asked of a file system, so that a test can take it away at any point |
//! | `names` | the names of files: which is the newest |
//! | `partition_files` | the store of a partition |
//! | `opening` | from a directory to the newest file in it, on a thread of its own |
//! | `read_ahead` | that thread, and whoever decodes what it reads |
//! | `queue` | what waits to be written, and who waits for that |
//! | `writer` | the thread that writes them, and in which order it does what |
//! | `lane` | what a partition's shard and that thread share |
//! | `state_dir` | the directory, its lock and its thread |
//! | `tidying` | what in it nobody needs any more |
//!
//! The snapshot is taken while the set changes. Its offset is where the shard stood when it *began*, and what it has of each
//! schedule may be a later version. That does no harm: whoever reads the log on from the offset meets each change once more,
//! and what a set holds already, or something newer, it passes over.

mod decoder;
mod disk;
mod encoder;
mod format;
mod lane;
mod moment;
mod names;
mod opening;
mod partition_files;
mod queue;
mod read_ahead;
mod refusal;
#[cfg(test)]
mod samples;
#[cfg(test)]
mod simulated_disk;
mod state_dir;
mod tidying;
mod writer;

use std::io::Read;
use std::time::Duration;

use crate::schedule::{Format, Headers, Schedule};
pub use decoder::{Block, Decoder, Schedules};
pub use encoder::Encoder;
pub use moment::{Boot, Moment};
pub use refusal::Refusal;
pub use state_dir::{StateDir, StateDirError};

/// What a checkpoint stands for: all that the log says below `offset`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stand {
    /// The schedule topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The ID that Kafka gave the topic: another one, and it is another topic.
    pub topic_id: String,
    /// Where reading goes on.
    pub offset: i64,
    /// Of the record before `offset`, if known.
    pub leader_epoch: Option<i32>,
    /// Of the set it was taken from: a set with the same seed is filled in the order of its own tables.
    pub hash_seed: u64,
    /// About how many there are: as many as the set had when it was begun.
    pub schedules: u64,
    /// When `offset` was where the shard stood.
    pub taken: Moment,
    /// Where the log began at that time. Where it begins later now, records were deleted that this is about.
    pub log_start: i64,
    /// How long the topic kept tombstones at that time, milliseconds.
    pub tombstone_retention_ms: u64,
    /// How records were read, in the reader's own words: read another way, other schedules might have come of them.
    pub read_as: String,
}

/// One schedule of a checkpoint, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kept<'a> {
    /// The key of the record that carried the schedule.
    pub id: &'a [u8],
    /// The offset of that record.
    pub offset: i64,
    /// How that record was written.
    pub format: Format,
    /// The schedule itself.
    pub schedule: Schedule<'a>,
    /// The headers of the record itself.
    pub record_headers: Headers<'a>,
    /// Whether it waits for a newer record, whatever its time.
    pub held: bool,
}

/// Where one partition's checkpoints are kept. On disk, a [`StateDir`] gives one out.
pub trait Store: Send {
    /// The newest complete one, opened, with all that was ordered before. One that is refused is said in the log, removed
    /// unless the disk just did not give it, and passed over. Waits for a moment only: from a disk that takes longer there is
    /// none, which the log says, and one that stops giving while it is read is refused.
    fn open(&mut self) -> Option<Decoder<Box<dyn Read + Send>>>;

    /// What is there is not to be trusted: it is removed, what is being written too.
    fn discard(&mut self);

    /// A new one begins; what was begun before and not finished is abandoned.
    fn begin(&mut self);

    /// Takes bytes to be written in the background, in the order in which an [`Encoder`] gives them; or gives them back if
    /// it has too many already: then offer them again later. Never blocks.
    fn write(&mut self, bytes: Vec<u8>) -> Result<(), Vec<u8>>;

    /// All bytes were given: makes it the newest, in the background. False if that has to be asked for again later.
    fn finish(&mut self) -> bool;

    /// What became of the one begun last, once it is known, and once only.
    fn outcome(&mut self) -> Option<Result<Written, String>>;

    /// A buffer to fill again, if one came back.
    fn spare(&mut self) -> Option<Vec<u8>>;

    /// What was begun and not finished is not wanted any more.
    fn abandon(&mut self);

    /// For tests and measurements, which have nothing else to do: waits, at most so long, until there is room for more or an
    /// outcome. No shard waits.
    fn wait(&mut self, at_most: Duration) {
        let _ = at_most; // where nothing happens in the background
    }
}

/// A checkpoint that is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// The size of its file.
    pub bytes: u64,
}
