//! The lane into a shard: what others ask of it, answered on its own thread between two batches.
//!
//! Every write is decided on the state of the log at the point where its record lies (a verified transaction), so the
//! answer is definite. A command whose outcome a failure left open is resolved from the log before it is answered.

use tokio::sync::oneshot;

use crate::schedule::Format;

/// Something asked of a shard. Dropping the receiver of the answer abandons nothing: the command still runs.
#[derive(Debug)]
pub struct Command {
    /// The schedule ID: the record key.
    pub id: Vec<u8>,
    /// What to do.
    pub action: Action,
    /// Not begun after this, on the shard's monotonic clock (milliseconds, see [`Clock`](crate::kafka::Clock)).
    pub deadline_ms: u64,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Answer>,
}

/// What a command does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Removes the schedule, if it is pending.
    Cancel,
    /// Creates or replaces the schedule by an encoded one, in the format of the shard's topic.
    Put {
        /// The record value.
        value: Vec<u8>,
    },
    /// Looks the schedule up.
    Get,
}

/// The definite answer to a command. There is none, the channel being closed, when the shard ended before it was decided, and
/// without transactions when an attempt was made of which nobody knows what came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Written, at this offset of the shard's partition.
    Done {
        /// The offset of the record that was written.
        offset: i64,
    },
    /// No schedule of this ID was pending when it was decided.
    NotPending,
    /// The schedule as it is pending.
    Found(Box<FoundSchedule>),
    /// The deadline passed before it was begun; nothing was written.
    Expired,
    /// It cannot be done; nothing was written.
    Refused(String),
}

/// A pending schedule, copied out of the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundSchedule {
    /// The offset of its record.
    pub offset: i64,
    /// The format of its record.
    pub format: Format,
    /// When it is due, milliseconds since the Unix epoch.
    pub due_ms: i64,
    /// Its destination topic.
    pub topic: String,
}
