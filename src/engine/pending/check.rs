//! Whether the parts of a set contradict themselves or each other.

use std::collections::{BTreeMap, BTreeSet};

use super::PendingSet;
use super::due::hinted_due_ms;
use super::load::Bulk;
use crate::engine::arena::Step;
use crate::engine::entry::{self, Place};
use crate::engine::hint::Hint;
use crate::engine::topics::TopicId;

impl PendingSet {
    /// Panics where the parts contradict themselves or each other. Looks at everything: for tests.
    pub fn check_invariants(&self) {
        self.entries.check_invariants();
        self.ready.check_invariants(&self.entries);
        self.aside.check_invariants();
        let hints = self.wheel.check_invariants(|hint| hinted_due_ms(&self.entries, hint));
        let hinted: BTreeSet<u32> = hints.into_iter().map(Hint::name).collect();
        self.index.check_invariants(|name| self.index.hash(entry::id(&self.entries[name])));
        let (mut found, mut from, mut no_limit) = (Census::default(), 0, usize::MAX);
        while let Step::Entry(name) = self.entries.next_from(from, &mut no_limit) {
            self.check_entry(name, &hinted, &mut found);
            from = name + 1;
        }
        assert_eq!(found.entries, self.entries.len(), "entries");
        assert_eq!(found.entries, self.index.len(), "entries in the index");
        assert_eq!(found.waiting, self.waiting, "schedules in the wheel");
        assert_eq!(found.ready, self.ready.len(), "ready schedules");
        assert_eq!(found.in_flight, self.in_flight, "schedules in flight");
        assert_eq!(found.aside, self.aside.len(), "schedules set aside");
        assert_eq!(found.held, self.held, "schedules held");
        assert_eq!(found.payload_bytes, self.payload_bytes, "bytes of payloads");
        assert_eq!(found.content_bytes, self.content_bytes, "bytes of content");
        self.topics.check_invariants(&found.topics);
    }

    fn check_entry(&self, name: u32, hinted: &BTreeSet<u32>, found: &mut Census) {
        let bytes = &self.entries[name];
        let parts = entry::parts(bytes);
        assert_eq!(self.find(self.index.hash(parts.id), parts.id), Some(name), "entry {name} is not found");
        found.entries += 1;
        found.payload_bytes += parts.packed_bytes();
        found.content_bytes += parts.content_bytes() + self.topics.name(parts.topic).len();
        *found.topics.entry(parts.topic).or_default() += 1;
        match entry::place(bytes) {
            Place::Free => unreachable!("a walk gives entries only"),
            Place::Unfiled => assert_ne!(self.bulk, Bulk::Done, "entry {name} is in no place"),
            Place::Waiting => {
                assert!(hinted.contains(&name), "no hint leads to entry {name}");
                found.waiting += 1;
            }
            Place::Line | Place::OutOfLine => {
                assert!(parts.due_ms <= self.wheel.now_ms(), "entry {name} is ready too early");
                found.ready += 1;
            }
            Place::InFlight => found.in_flight += 1,
            Place::Aside => {
                assert!(self.aside.contains(name), "entry {name} is lost aside");
                found.aside += 1;
            }
            Place::Held => found.held += 1,
        }
    }
}

/// What [`PendingSet::check_invariants`] counts, to compare with what the set believes.
#[derive(Default)]
struct Census {
    entries: usize,
    waiting: usize,
    ready: usize,
    in_flight: usize,
    aside: usize,
    held: usize,
    payload_bytes: usize,
    content_bytes: usize,
    topics: BTreeMap<TopicId, usize>,
}
