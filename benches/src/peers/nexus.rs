//! The wheel of `nexus-timer`, and a table by ID.
#![allow(clippy::disallowed_methods, reason = "the wheel counts from an instant, any")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use nexus_timer::{TimerHandle, Wheel, WheelBuilder};

use super::{ById, Id, Item, Message, Pending, table};

/// Entries a chunk of the wheel's slab.
const CHUNK: usize = 65_536;

/// Schedules in a `Wheel`.
pub struct Nexus {
    wheel: Wheel<Queued>,
    by_id: ById<Entry>,
    /// What expired beyond a limit, in due order; dead where the table has the ID with another turn, or not.
    ready: VecDeque<Queued>,
    expired: Vec<Queued>,
    turn: u64,
    origin: Instant,
    origin_ms: i64,
}

struct Queued {
    due_ms: i64,
    turn: u64,
    id: Id,
}

struct Entry {
    due_ms: i64,
    turn: u64,
    timer: TimerHandle<Queued>,
    message: Message,
}

impl Nexus {
    fn instant(&self, ms: i64) -> Instant {
        self.origin + Duration::from_millis(u64::try_from(ms - self.origin_ms).unwrap_or(0))
    }

    /// Puts a new turn of `id` into the wheel.
    fn schedule(&mut self, id: Id, item: &Item<'_>) -> Entry {
        self.turn += 1;
        let (due_ms, turn) = (item.due_ms, self.turn);
        let timer = self.wheel.schedule(self.instant(due_ms), Queued { due_ms, turn, id });
        Entry { due_ms, turn, timer, message: Message::of(item) }
    }
}

impl Pending for Nexus {
    const NAME: &'static str = "nexus-timer";
    type Due = Id;

    fn with_expected(expected: usize, now_ms: i64) -> Self {
        let origin = Instant::now();
        // Eight levels of 64 slots, each sixteen times as wide as the one below: 198 days, and what is further ahead
        // goes round in the last. The default's seven reach five hours.
        let builder = WheelBuilder::new().num_levels(8).clk_shift(4).unbounded(CHUNK);
        Self {
            wheel: builder.build(origin).expect("the layout is a legal one"),
            by_id: table(expected),
            ready: VecDeque::new(),
            expired: Vec::new(),
            turn: 0,
            origin,
            origin_ms: now_ms,
        }
    }

    fn insert(&mut self, item: &Item<'_>) {
        let id = Id::from(item.id);
        let entry = self.schedule(id.clone(), item);
        self.by_id.insert(id, entry);
    }

    fn replace(&mut self, item: &Item<'_>) {
        let (id, _) = self.by_id.get_key_value(item.id).expect("it is held");
        let entry = self.schedule(id.clone(), item);
        let held = self.by_id.get_mut(item.id).expect("it is held");
        let replaced = std::mem::replace(held, entry);
        self.wheel.cancel(replaced.timer);
    }

    fn cancel(&mut self, id: &[u8]) -> bool {
        let Some(entry) = self.by_id.remove(id) else { return false };
        self.wheel.cancel(entry.timer);
        true
    }

    fn due(&mut self, now_ms: i64, limit: usize, out: &mut Vec<Id>) {
        if self.ready.len() < limit {
            self.wheel.poll_and_rebalance(self.instant(now_ms), &mut self.expired);
            // Slot by slot, finest level first, is not quite the due order.
            self.expired.sort_unstable_by_key(|queued| (queued.due_ms, queued.turn));
            self.ready.extend(self.expired.drain(..));
        }
        let mut left = limit;
        while left > 0
            && let Some(queued) = self.ready.pop_front()
        {
            if self.by_id.get(&*queued.id).is_some_and(|entry| entry.turn == queued.turn) {
                out.push(queued.id);
                left -= 1;
            }
        }
    }

    fn read<'a>(&'a self, due: &'a Id) -> Item<'a> {
        let entry = &self.by_id[&**due];
        entry.message.item(due, entry.due_ms)
    }

    fn settle(&mut self, due: Id) {
        if let Some(entry) = self.by_id.remove(&*due) {
            // It expired, and its place in the slab waits for this.
            self.wheel.free(entry.timer);
        }
    }

    fn len(&self) -> usize {
        self.by_id.len()
    }
}

/// The wheel insists on having every handle back.
impl Drop for Nexus {
    fn drop(&mut self) {
        for (_, entry) in self.by_id.drain() {
            self.wheel.free(entry.timer);
        }
    }
}
