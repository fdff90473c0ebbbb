//! The wheel of `slab-wheel`, and a table by ID.
#![allow(clippy::disallowed_methods, reason = "the wheel counts from an instant, any")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use slab_wheel::{Key, Policy, TimingWheel};

use super::{ById, Id, Item, Message, Pending, table};

/// Schedules in a `TimingWheel`.
pub struct SlabWheel {
    wheel: TimingWheel<Id, Layout>,
    by_id: ById<Entry>,
    /// What expired beyond a limit; dead where the table has the ID with another key, or not.
    ready: VecDeque<(Key, Id)>,
    expired: Vec<(Key, Id)>,
    origin: Instant,
    origin_ms: i64,
}

struct Entry {
    due_ms: i64,
    key: Key,
    message: Message,
}

/// Seven levels of 64 slots: 139 years. The default's four reach eighteen hours.
struct Layout;

impl Policy for Layout {
    const SLOTS: &'static [usize] = &[64; 7];
    const RESOLUTION: &'static [u64] = &[1, 1 << 6, 1 << 12, 1 << 18, 1 << 24, 1 << 30, 1 << 36];
}

impl SlabWheel {
    fn instant(&self, ms: i64) -> Instant {
        self.origin + Duration::from_millis(u64::try_from(ms - self.origin_ms).unwrap_or(0))
    }
}

impl Pending for SlabWheel {
    const NAME: &'static str = "slab-wheel";
    type Due = Id;

    fn with_expected(expected: usize, now_ms: i64) -> Self {
        let origin = Instant::now();
        Self {
            wheel: TimingWheel::starting_at(origin),
            by_id: table(expected),
            ready: VecDeque::new(),
            expired: Vec::new(),
            origin,
            origin_ms: now_ms,
        }
    }

    fn insert(&mut self, item: &Item<'_>) {
        let id = Id::from(item.id);
        let key = self.wheel.insert(self.instant(item.due_ms), id.clone());
        self.by_id.insert(id, Entry { due_ms: item.due_ms, key, message: Message::of(item) });
    }

    fn replace(&mut self, item: &Item<'_>) {
        let when = self.instant(item.due_ms);
        let (id, entry) = self.by_id.get_key_value_mut(item.id).expect("it is held");
        let id = self.wheel.remove(entry.key).unwrap_or_else(|| id.clone());
        let key = self.wheel.insert(when, id);
        *entry = Entry { due_ms: item.due_ms, key, message: Message::of(item) };
    }

    fn cancel(&mut self, id: &[u8]) -> bool {
        let Some(entry) = self.by_id.remove(id) else { return false };
        self.wheel.remove(entry.key);
        true
    }

    fn due(&mut self, now_ms: i64, limit: usize, out: &mut Vec<Id>) {
        if self.ready.len() < limit {
            self.wheel.advance_to(self.instant(now_ms));
            self.wheel.drain_expired_into(&mut self.expired);
            self.ready.extend(self.expired.drain(..));
        }
        let mut left = limit;
        while left > 0
            && let Some((key, id)) = self.ready.pop_front()
        {
            if self.by_id.get(&*id).is_some_and(|entry| entry.key == key) {
                out.push(id);
                left -= 1;
            }
        }
    }

    fn read<'a>(&'a self, due: &'a Id) -> Item<'a> {
        let entry = &self.by_id[&**due];
        entry.message.item(due, entry.due_ms)
    }

    fn settle(&mut self, due: Id) {
        self.by_id.remove(&*due);
    }

    fn len(&self) -> usize {
        self.by_id.len()
    }
}
