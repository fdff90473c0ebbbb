//! The lane into a shard: what others ask of it, answered on its own thread between two batches.
//!
//! Every write is decided on the state of the log at the point where its record lies (a verified transaction), so the
//! answer is definite. (Without transactions it is decided by what is read so far: a record that is not read yet may be passed
//! over.) A command whose outcome a failure left open is resolved from the log before it is answered.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use tokio::sync::oneshot;

pub use super::history::{Event, EventKind};
use crate::engine::View;
pub use crate::engine::{EntryState, ListCursor};
use crate::schedule::{Format, HeadersBuf};

/// Something asked of a shard. Dropping the receiver of the answer abandons nothing: the command still runs, but for one that
/// cancels many, of which no more is done then.
#[derive(Debug)]
pub struct Command {
    /// The schedule ID: the record key. Of a [listing](Action::List): empty.
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
    /// Writes a tombstone, whether the schedule is pending or not: a schedule that is not read yet goes, too.
    CancelAnyway,
    /// Creates or replaces the schedule by an encoded one, in the format of the shard's topic.
    Put {
        /// The record value.
        value: Vec<u8>,
    },
    /// Gives the schedule another due time, if it is pending. All else stays as it is when this is decided.
    Reschedule {
        /// Milliseconds since the Unix epoch; in the past: at once.
        due_ms: i64,
    },
    /// Cancels many schedules: with a tombstone for each, as many as fit in a transaction. The command's own ID is empty.
    CancelMany(CancelMany),
    /// Looks the schedule up.
    Get,
    /// Looks through some of the schedules, in no order that means anything: a step of a walk over all of them.
    List(Listing),
    /// The same, for their IDs and offsets alone.
    ListVersions(Listing),
    /// About how many schedules are due within each of these times from now on, milliseconds; overdue ones are in all of them.
    CountDue(Vec<i64>),
    /// Looks up what happened lately.
    Recall(Recall),
}

impl Action {
    /// Whether it may write a record.
    #[must_use]
    pub fn writes(&self) -> bool {
        match self {
            Self::Cancel
            | Self::CancelAnyway
            | Self::Put { .. }
            | Self::Reschedule { .. }
            | Self::CancelMany(_) => true,
            Self::Get | Self::List(_) | Self::ListVersions(_) | Self::CountDue(_) | Self::Recall(_) => false,
        }
    }
}

/// A version of a schedule, by its place in the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Version {
    /// The schedule ID.
    pub id: Vec<u8>,
    /// The offset of its record.
    pub offset: i64,
}

/// Schedules to cancel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CancelMany {
    /// What is left to do.
    pub left: VecDeque<Version>,
    /// Whether another version of an ID than the one named is left alone; else each ID gets its tombstone, whether
    /// anything is pending or not, and the offsets mean nothing.
    pub only_these_versions: bool,
    /// How many were pending at the place of their tombstone in the log, so far.
    cancelled: usize,
    /// How many are tried at once.
    at_once: usize,
    /// Whether any tombstone was written: then it is carried through, however long it takes.
    is_begun: bool,
}

impl CancelMany {
    /// All of them to do.
    #[must_use]
    pub fn new(versions: Vec<Version>, only_these_versions: bool) -> Self {
        Self {
            left: versions.into(),
            only_these_versions,
            cancelled: 0,
            at_once: Self::AT_ONCE,
            is_begun: false,
        }
    }

    /// Tombstones in a transaction, at most: a few milliseconds of work.
    pub const AT_ONCE: usize = 500;

    pub(super) fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// How many are tried at once.
    pub(super) fn at_once(&self) -> usize {
        self.at_once
    }

    /// Half as many at once as were tried in vain.
    pub(super) fn shrink(&mut self, tried: usize) {
        self.at_once = (tried / 2).max(1);
    }

    /// The first ones are done, with so many tombstones, and so many of them were pending.
    pub(super) fn advance(&mut self, done: usize, tombstones: usize, cancelled: usize) {
        self.left.drain(..done);
        self.at_once = (self.at_once * 2).min(Self::AT_ONCE);
        self.cancelled += cancelled;
        self.is_begun |= tombstones > 0;
    }

    /// How many were cancelled, so far.
    pub(super) fn cancelled(&self) -> usize {
        self.cancelled
    }

    fn bytes(&self) -> usize {
        self.left.iter().map(|version| version.id.len() + size_of::<Version>()).sum()
    }
}

/// What of the past is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recall {
    /// The kind of event; `None`: any.
    pub kind: Option<EventKind>,
    /// What the IDs begin with.
    pub prefix: Vec<u8>,
    /// Events after the one of this number.
    pub after: u64,
    /// Events in the answer, at most: the newest.
    pub limit: usize,
}

/// A step of a walk over what is pending.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// Where to go on; the default is the beginning.
    pub from: ListCursor,
    /// What the IDs that are asked for begin with.
    pub prefix: Vec<u8>,
    /// Due times that are asked for, milliseconds since the Unix epoch.
    pub due_ms: RangeInclusive<i64>,
    /// The destination topic that is asked for; `None`: any.
    pub destination: Option<String>,
    /// Schedules in the answer, at most.
    pub limit: usize,
}

impl Listing {
    /// Whether a schedule is asked for.
    #[must_use]
    pub fn wants(&self, id: &[u8], due_ms: i64, topic: &str) -> bool {
        id.starts_with(&self.prefix)
            && self.due_ms.contains(&due_ms)
            && self.destination.as_ref().is_none_or(|wanted| wanted == topic)
    }
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
    /// What a listing found.
    Page(Page<FoundSchedule>),
    /// What a listing of versions found.
    Versions(Page<Version>),
    /// All of them have their tombstones; how many were pending where those lie.
    Cancelled(usize),
    /// How many are due within each time, ascending as the times are.
    Due(Vec<u64>),
    /// What happened, newest first.
    Recalled(Vec<Event>),
    /// The deadline passed before it was begun; nothing was written.
    Expired,
    /// It cannot be done; nothing was written.
    Refused(String),
}

/// What a step of a walk found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// What is asked for of the schedules that are; maybe none, though there are more further on.
    pub found: Vec<T>,
    /// How many schedules were looked at.
    pub looked_at: usize,
    /// Where the walk goes on; `None`: it has seen all of them.
    pub next: Option<ListCursor>,
}

/// A pending schedule, copied out of the set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundSchedule {
    /// The schedule ID.
    pub id: Vec<u8>,
    /// The offset of its record.
    pub offset: i64,
    /// The format of its record.
    pub format: Format,
    /// When it is due, milliseconds since the Unix epoch.
    pub due_ms: i64,
    /// Its destination topic.
    pub topic: String,
    /// The key of its message.
    pub key: Vec<u8>,
    /// The value of its message.
    pub value: Option<Vec<u8>>,
    /// The headers of its message.
    pub headers: HeadersBuf,
    /// What it is waiting for.
    pub state: EntryState,
}

impl FoundSchedule {
    pub(super) fn of(view: &View<'_>) -> Self {
        let schedule = &view.schedule;
        let mut headers = HeadersBuf::new();
        headers.extend(schedule.headers);
        Self {
            id: view.id.to_vec(),
            offset: view.offset,
            format: view.format,
            due_ms: schedule.due.epoch_ms(),
            topic: schedule.topic.to_owned(),
            key: schedule.key.to_vec(),
            value: schedule.value.map(<[u8]>::to_vec),
            headers,
            state: view.state,
        }
    }

    /// Bytes of its content.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let value = self.value.as_ref().map_or(0, Vec::len);
        self.id.len() + self.key.len() + value + self.headers.as_headers().as_packed().len()
    }
}

/// Commands that wait in a lane, at most…
const LANE_COUNT: usize = 1_024;
/// …and the bytes of their IDs and values: the largest records that a schedule topic takes by default, sixteen of them.
const LANE_BYTES: usize = 16 << 20;

/// A lane into a shard. It is bounded, so that those who ask faster than the shard writes do not fill the memory.
#[must_use]
pub fn lane() -> (CommandSender, CommandReceiver) {
    let (sender, receiver) = sync_channel(LANE_COUNT);
    let content = Arc::new(Content::default());
    (CommandSender { sender, content: Arc::clone(&content) }, CommandReceiver { receiver, content })
}

/// The end of a lane where commands go in.
#[derive(Clone, Debug)]
pub struct CommandSender {
    sender: SyncSender<Command>,
    content: Arc<Content>,
}

/// The end of a lane where a shard takes them out.
#[derive(Debug)]
pub struct CommandReceiver {
    receiver: Receiver<Command>,
    content: Arc<Content>,
}

/// What lies in a lane.
#[derive(Debug, Default)]
struct Content {
    count: AtomicUsize,
    bytes: AtomicUsize,
}

/// Why a command was not taken; it is dropped, and nothing was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// For the moment.
    #[error("as many commands wait for this partition as it takes; ask again in a moment")]
    Full,
    /// For good.
    #[error("this instance does not own the partition any more; ask the one that does")]
    Ended,
}

impl CommandSender {
    /// Hands a command over.
    pub fn send(&self, command: Command) -> Result<(), NotTaken> {
        let bytes = command.bytes();
        // One that is larger than all the room there is goes alone; whether a record may be so large is the broker's to say.
        let before = self.content.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.content.count.fetch_add(1, Ordering::Relaxed);
        let sent = if before > 0 && before + bytes > LANE_BYTES {
            Err(NotTaken::Full)
        } else {
            self.sender.try_send(command).map_err(|error| match error {
                TrySendError::Full(_) => NotTaken::Full,
                TrySendError::Disconnected(_) => NotTaken::Ended,
            })
        };
        if sent.is_err() {
            self.content.less(bytes);
        }
        sent
    }
}

impl CommandReceiver {
    /// The next command, without waiting for one.
    pub(super) fn take(&self) -> Option<Command> {
        let command = self.receiver.try_recv().ok()?;
        self.content.less(command.bytes());
        Some(command)
    }

    /// How many commands lie in the lane.
    pub(super) fn len(&self) -> usize {
        self.content.count.load(Ordering::Relaxed)
    }
}

impl Content {
    fn less(&self, bytes: usize) {
        self.count.fetch_sub(1, Ordering::Relaxed);
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Command {
    fn bytes(&self) -> usize {
        self.id.len()
            + match &self.action {
                Action::Put { value } => value.len(),
                Action::List(listing) | Action::ListVersions(listing) => {
                    listing.prefix.len() + listing.destination.as_ref().map_or(0, String::len)
                }
                Action::CancelMany(many) => many.bytes(),
                Action::Recall(recall) => recall.prefix.len(),
                Action::CountDue(within_ms) => size_of_val(&within_ms[..]),
                Action::Cancel | Action::CancelAnyway | Action::Reschedule { .. } | Action::Get => 0,
            }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn command(action: Action) -> Command {
        Command { id: b"id".to_vec(), action, deadline_ms: 0, answer: oneshot::channel().0 }
    }

    #[test]
    fn a_full_lane_refuses_until_a_command_is_taken() {
        let (sender, receiver) = lane();
        for _ in 0..LANE_COUNT {
            sender.send(command(Action::Get)).unwrap();
        }
        assert_eq!(sender.send(command(Action::Get)), Err(NotTaken::Full));
        assert_eq!(receiver.len(), LANE_COUNT, "what was refused does not count");
        assert!(receiver.take().is_some());
        sender.send(command(Action::Cancel)).unwrap();
        assert_eq!(sender.send(command(Action::Get)), Err(NotTaken::Full));
    }

    #[test]
    fn large_values_fill_it_sooner() {
        let (sender, receiver) = lane();
        let put = |bytes: usize| command(Action::Put { value: vec![0; bytes] });
        sender.send(put(LANE_BYTES / 2)).unwrap();
        assert_eq!(sender.send(put(LANE_BYTES / 2)), Err(NotTaken::Full), "the IDs count, too");
        sender.send(put(LANE_BYTES / 4)).unwrap();
        while receiver.take().is_some() {}
        assert_eq!(receiver.content.bytes.load(Ordering::Relaxed), 0);
        sender.send(put(2 * LANE_BYTES)).expect("it is alone");
        assert_eq!(sender.send(command(Action::Get)), Err(NotTaken::Full));
    }

    #[test]
    fn a_lane_without_a_shard_says_so() {
        let (sender, receiver) = lane();
        drop(receiver);
        assert_eq!(sender.send(command(Action::Get)), Err(NotTaken::Ended));
        assert_eq!(sender.content.bytes.load(Ordering::Relaxed), 0);
    }
}
