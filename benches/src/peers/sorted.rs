//! `BTreeMap` by due time, and a table by ID.

use std::collections::BTreeMap;

use super::{ById, Id, Item, Message, Pending, table};

/// Schedules in a `BTreeMap`.
pub struct Sorted {
    /// By due time and, where that is the same, by turn.
    queue: BTreeMap<(i64, u64), Id>,
    by_id: ById<Entry>,
    turn: u64,
}

struct Entry {
    due_ms: i64,
    turn: u64,
    message: Message,
}

impl Pending for Sorted {
    const NAME: &'static str = "BTreeMap";
    type Due = Id;

    fn with_expected(expected: usize, _: i64) -> Self {
        Self { queue: BTreeMap::new(), by_id: table(expected), turn: 0 }
    }

    fn insert(&mut self, item: &Item<'_>) {
        self.turn += 1;
        let id = Id::from(item.id);
        self.queue.insert((item.due_ms, self.turn), id.clone());
        let entry = Entry { due_ms: item.due_ms, turn: self.turn, message: Message::of(item) };
        self.by_id.insert(id, entry);
    }

    fn replace(&mut self, item: &Item<'_>) {
        self.turn += 1;
        let entry = self.by_id.get_mut(item.id).expect("it is held");
        let id = self.queue.remove(&(entry.due_ms, entry.turn)).expect("what is held is queued");
        *entry = Entry { due_ms: item.due_ms, turn: self.turn, message: Message::of(item) };
        self.queue.insert((item.due_ms, self.turn), id);
    }

    fn cancel(&mut self, id: &[u8]) -> bool {
        let Some(entry) = self.by_id.remove(id) else { return false };
        self.queue.remove(&(entry.due_ms, entry.turn)).is_some()
    }

    fn due(&mut self, now_ms: i64, limit: usize, out: &mut Vec<Id>) {
        for _ in 0..limit {
            let Some(first) = self.queue.first_entry().filter(|first| first.key().0 <= now_ms) else { break };
            out.push(first.remove());
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
