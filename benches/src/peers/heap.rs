//! `BinaryHeap` by due time, from which nothing is taken but its first, and a table by ID that says what is still true.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{ById, Id, Item, Message, Pending, table};

/// So few dead entries are not worth a rebuild.
const DEAD_AT_LEAST: usize = 1_024;

/// Schedules in a `BinaryHeap`, cancelled lazily.
pub struct Heap {
    /// By due time, then by turn; an entry is dead unless the table has it with the same turn.
    queue: BinaryHeap<Reverse<(i64, u64, Id)>>,
    by_id: ById<Entry>,
    turn: u64,
}

struct Entry {
    due_ms: i64,
    turn: u64,
    message: Message,
}

impl Heap {
    fn push(&mut self, due_ms: i64, id: Id) {
        self.queue.push(Reverse((due_ms, self.turn, id)));
    }
}

fn is_live(by_id: &ById<Entry>, turn: u64, id: &Id) -> bool {
    by_id.get(&**id).is_some_and(|entry| entry.turn == turn)
}

impl Pending for Heap {
    const NAME: &'static str = "BinaryHeap (lazy)";
    type Due = Id;

    fn with_expected(expected: usize, _: i64) -> Self {
        Self { queue: BinaryHeap::with_capacity(expected), by_id: table(expected), turn: 0 }
    }

    fn insert(&mut self, item: &Item<'_>) {
        self.turn += 1;
        let id = Id::from(item.id);
        self.push(item.due_ms, id.clone());
        let entry = Entry { due_ms: item.due_ms, turn: self.turn, message: Message::of(item) };
        self.by_id.insert(id, entry);
    }

    fn replace(&mut self, item: &Item<'_>) {
        self.turn += 1;
        let (id, entry) = self.by_id.get_key_value_mut(item.id).expect("it is held");
        let id = id.clone();
        *entry = Entry { due_ms: item.due_ms, turn: self.turn, message: Message::of(item) };
        self.push(item.due_ms, id);
    }

    fn cancel(&mut self, id: &[u8]) -> bool {
        self.by_id.remove(id).is_some()
    }

    fn due(&mut self, now_ms: i64, limit: usize, out: &mut Vec<Id>) {
        let mut left = limit;
        while left > 0 && self.queue.peek().is_some_and(|Reverse((due_ms, ..))| *due_ms <= now_ms) {
            let Reverse((_, turn, id)) = self.queue.pop().expect("just seen");
            if is_live(&self.by_id, turn, &id) {
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

    /// Without this, keys that are written often would fill the memory with what they were.
    fn tidy(&mut self, _: i64) {
        let Self { queue, by_id, .. } = self;
        if queue.len() > 2 * by_id.len() + DEAD_AT_LEAST {
            queue.retain(|Reverse((_, turn, id))| is_live(by_id, *turn, id));
        }
    }

    fn len(&self) -> usize {
        self.by_id.len()
    }
}
