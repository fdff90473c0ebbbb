//! The pending set and the alternatives that a good engineer would pick, each behind [`Pending`].
//!
//! A set of schedules has to know two things, which is due next and where the one with this ID is. So each peer is a
//! timer queue beside a hash table. What they have in common is chosen in their favour:
//!
//! - the hash is foldhash with a fixed seed, the table hashbrown's, laid out for the expected number at once;
//! - ID and message are copied into one allocation each, and the queue shares the ID with the table by an `Rc`, which
//!   a scheduler with threads could not use;
//! - they keep neither offsets nor formats nor states, and where ours checks that a schedule was not replaced while it
//!   was being delivered, they need not.
//!
//! | peer | what it cannot do |
//! |---|---|
//! | [`Sorted`] | nothing |
//! | [`Heap`] | take a cancelled entry out: it waits for its due time, or until half of the heap is dead and all of it is rebuilt at once |
//! | [`TokioQueue`] | due times more than 2^36 ms (2.2 years) ahead of the queue's beginning: it panics, so they are cut; time by a runtime only |
//! | [`QuadWheel`] | take a cancelled entry out; pass a time span without touching each 256th millisecond of it; more than 2^32 ms (49 days) ahead is an unsorted list |
//! | [`SlabWheel`] | stop half-way: one call expires all that is due and cascades whole slots; more than 2^42 ms (139 years) ahead is a `BTreeMap` |
//! | [`Nexus`] | hand out in due order: it is sorted afterwards, so a limit cannot be handed on; all that is due comes at once |
//! | [`Kms`] | |
//!
//! Left out are `bitwheel` (its slots have a fixed capacity, and it clamps what is a day ahead), `ora-timer` (a copy of
//! the wheel of [`QuadWheel`] without its pruning), `timing-wheel` and `hashed_wheel_timer` (neither cancels, or only by
//! a thread of its own).

mod heap;
mod kms;
mod nexus;
mod quad_wheel;
mod slab_wheel;
mod sorted;
mod tokio_queue;

use std::rc::Rc;

pub use heap::Heap;
pub use kms::Kms;
pub use nexus::Nexus;
pub use quad_wheel::QuadWheel;
pub use slab_wheel::SlabWheel;
pub use sorted::Sorted;
pub use tokio_queue::TokioQueue;

/// What is asked of a set of pending schedules.
///
/// Time never goes back, and what is put in is due after the time that was last told.
pub trait Pending {
    /// What to call it in a report.
    const NAME: &'static str;

    /// Names a schedule that was handed out.
    type Due;

    /// An empty set at the time `now_ms`, laid out for `expected` schedules.
    fn with_expected(expected: usize, now_ms: i64) -> Self;

    /// Says which schedules come next, to a set that can make something of it. Records come in batches, so that much is
    /// known.
    fn prepare<'i>(&mut self, _ids: impl Iterator<Item = &'i [u8]>) {}

    /// Puts in a schedule whose ID the set does not hold.
    fn insert(&mut self, item: &Item<'_>);

    /// Replaces the schedule with this ID, which the set holds.
    fn replace(&mut self, item: &Item<'_>);

    /// Takes the schedule with this ID out; false where the set does not hold it.
    fn cancel(&mut self, id: &[u8]) -> bool;

    /// Hands out the earliest of what is due by `now_ms`, up to `limit`, appending to `out` in due order. They stay in
    /// the set until each is settled, and until then nothing else is asked.
    fn due(&mut self, now_ms: i64, limit: usize, out: &mut Vec<Self::Due>);

    /// What to deliver.
    fn read<'a>(&'a self, due: &'a Self::Due) -> Item<'a>;

    /// Takes out a schedule that was handed out and is delivered.
    fn settle(&mut self, due: Self::Due);

    /// Does what the set puts off until there is time for it; asked for after some thousand operations, and measured
    /// with them.
    fn tidy(&mut self, _now_ms: i64) {}

    /// How many schedules the set holds.
    fn len(&self) -> usize;

    /// Whether it holds none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A schedule, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// Its ID.
    pub id: &'a [u8],
    /// When it is due, epoch milliseconds.
    pub due_ms: i64,
    /// The message's key.
    pub key: &'a [u8],
    /// The message's value.
    pub value: &'a [u8],
}

/// An ID that the queue and the table of a peer share.
type Id = Rc<[u8]>;

/// The table of a peer.
type ById<T> = hashbrown::HashMap<Id, T, foldhash::fast::FixedState>;

/// The message of a peer's schedule: key and value, one behind the other.
#[derive(Debug)]
struct Message {
    bytes: Box<[u8]>,
    key_len: u32,
}

impl Message {
    fn of(item: &Item<'_>) -> Self {
        Self { bytes: [item.key, item.value].concat().into(), key_len: item.key.len() as u32 }
    }

    fn item<'a>(&'a self, id: &'a [u8], due_ms: i64) -> Item<'a> {
        let (key, value) = self.bytes.split_at(self.key_len as usize);
        Item { id, due_ms, key, value }
    }
}

fn table<T>(expected: usize) -> ById<T> {
    ById::with_capacity_and_hasher(expected, foldhash::fast::FixedState::with_seed(42))
}
