//! The four-level wheel of `hierarchical_hash_wheel_timer`, and a table by ID.
//!
//! Its cancellable variant keeps a table of its own, but one that needs each ID twice and an owned one to look for. This
//! is that variant with a better table: the table owns the schedules, and the wheel's references to them die with them.

use std::collections::VecDeque;
use std::hash::BuildHasher;
use std::rc::{Rc, Weak};
use std::time::Duration;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::OccupiedEntry;
use hierarchical_hash_wheel_timer::TimerError;
use hierarchical_hash_wheel_timer::wheels::Skip;
use hierarchical_hash_wheel_timer::wheels::cancellable::rc_prune;
use hierarchical_hash_wheel_timer::wheels::quad_wheel::QuadWheelWithOverflow;

use super::{Item, Message, Pending};

/// Schedules in a `QuadWheelWithOverflow`.
pub struct QuadWheel {
    wheel: QuadWheelWithOverflow<Weak<Entry>>,
    by_id: HashTable<Rc<Entry>>,
    hasher: FixedState,
    /// What a tick gave beyond a limit.
    ready: VecDeque<Weak<Entry>>,
    now_ms: i64,
}

/// A schedule. The memory of a dead one stays until the wheel comes to its reference; what its boxes held does not.
#[derive(Debug)]
pub struct Entry {
    id: Box<[u8]>,
    due_ms: i64,
    message: Message,
}

impl QuadWheel {
    fn hash(&self, id: &[u8]) -> u64 {
        self.hasher.hash_one(id)
    }

    /// Puts a new entry into the wheel.
    fn file(&mut self, item: &Item<'_>) -> Rc<Entry> {
        let entry = Rc::new(Entry { id: item.id.into(), due_ms: item.due_ms, message: Message::of(item) });
        let delay = Duration::from_millis(u64::try_from(item.due_ms - self.now_ms).unwrap_or(0));
        match self.wheel.insert_with_delay(Rc::downgrade(&entry), delay) {
            Err(TimerError::Expired(expired)) => self.ready.push_back(expired),
            outcome => outcome.expect("it can only be expired"),
        }
        entry
    }

    /// Moves time to `now_ms`, or as far as it takes until `enough` is ready.
    fn advance(&mut self, now_ms: i64, enough: usize) {
        while self.now_ms < now_ms && self.ready.len() < enough {
            match self.wheel.can_skip() {
                Skip::Empty => self.now_ms = now_ms,
                Skip::Millis(ms) => {
                    let ms = i64::from(ms).min(now_ms - self.now_ms);
                    self.wheel.skip(ms as u32);
                    self.now_ms += ms;
                }
                Skip::None => {
                    self.ready.extend(self.wheel.tick());
                    self.now_ms += 1;
                }
            }
        }
    }
}

impl Pending for QuadWheel {
    const NAME: &'static str = "hierarchical_hash_wheel_timer";
    type Due = Rc<Entry>;

    fn with_expected(expected: usize, now_ms: i64) -> Self {
        Self {
            wheel: QuadWheelWithOverflow::new(rc_prune),
            by_id: HashTable::with_capacity(expected),
            hasher: FixedState::with_seed(42),
            ready: VecDeque::new(),
            now_ms,
        }
    }

    fn insert(&mut self, item: &Item<'_>) {
        let entry = self.file(item);
        let hasher = &self.hasher;
        self.by_id.insert_unique(hasher.hash_one(item.id), entry, |entry| hasher.hash_one(&*entry.id));
    }

    fn replace(&mut self, item: &Item<'_>) {
        let entry = self.file(item);
        let held = self.by_id.find_mut(self.hasher.hash_one(item.id), |held| *held.id == *item.id);
        *held.expect("it is held") = entry;
    }

    fn cancel(&mut self, id: &[u8]) -> bool {
        let hash = self.hash(id);
        self.by_id.find_entry(hash, |held| *held.id == *id).map(OccupiedEntry::remove).is_ok()
    }

    fn due(&mut self, now_ms: i64, limit: usize, out: &mut Vec<Rc<Entry>>) {
        let mut left = limit;
        while left > 0 {
            if self.ready.is_empty() {
                self.advance(now_ms, left);
            }
            let Some(first) = self.ready.pop_front() else { break };
            if let Some(entry) = first.upgrade() {
                out.push(entry);
                left -= 1;
            }
        }
    }

    fn read<'a>(&'a self, due: &'a Rc<Entry>) -> Item<'a> {
        due.message.item(&due.id, due.due_ms)
    }

    fn settle(&mut self, due: Rc<Entry>) {
        self.cancel(&due.id);
    }

    fn len(&self) -> usize {
        self.by_id.len()
    }
}
