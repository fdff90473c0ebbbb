//! The names of destination topics, each kept once however many schedules go there.
//!
//! Counted, because names come from producers: a million names used once each must not stay.

use hashbrown::HashTable;
use slab::Slab;

use super::hasher::IdHasher;

/// A destination topic of a set, as a number.
///
/// It stands for the same name as long as some schedule of the set goes there, and may stand for another one later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TopicId(u32);

impl TopicId {
    /// The number itself.
    pub(super) const fn number(self) -> u32 {
        self.0
    }

    pub(super) const fn from_number(number: u32) -> Self {
        Self(number)
    }
}

#[derive(Debug)]
struct Topic {
    name: Box<str>,
    users: usize,
}

/// The names in use.
#[derive(Debug)]
pub(super) struct Topics {
    hasher: IdHasher,
    used: Slab<Topic>,
    by_name: HashTable<u32>,
    names_bytes: usize,
}

impl Topics {
    pub(super) fn new(hash_seed: u64) -> Self {
        let hasher = IdHasher::new(hash_seed);
        Self { hasher, used: Slab::new(), by_name: HashTable::new(), names_bytes: 0 }
    }

    /// The number of `name`, for one more user.
    pub(super) fn acquire(&mut self, name: &str) -> TopicId {
        let Self { hasher, used, by_name, names_bytes } = self;
        let hash = hasher.hash64(name.as_bytes());
        if let Some(&number) = by_name.find(hash, |&number| *used[number as usize].name == *name) {
            used[number as usize].users += 1;
            return TopicId(number);
        }
        let number = used.insert(Topic { name: name.into(), users: 1 }) as u32;
        by_name.insert_unique(hash, number, |&other| hasher.hash64(used[other as usize].name.as_bytes()));
        *names_bytes += name.len();
        TopicId(number)
    }

    /// One user less; the last one takes the name along.
    pub(super) fn release(&mut self, id: TopicId) {
        let topic = &mut self.used[id.0 as usize];
        topic.users -= 1;
        if topic.users == 0 {
            let topic = self.used.remove(id.0 as usize);
            self.names_bytes -= topic.name.len();
            let hash = self.hasher.hash64(topic.name.as_bytes());
            let entry = self.by_name.find_entry(hash, |&number| number == id.0);
            entry.expect("every name in use is in the table").remove();
        }
    }

    /// The name of a topic in use.
    pub(super) fn name(&self, id: TopicId) -> &str {
        &self.used[id.0 as usize].name
    }

    pub(super) fn allocated_bytes(&self) -> usize {
        self.used.capacity() * size_of::<Topic>() + self.by_name.allocation_size() + self.names_bytes
    }

    /// Panics unless exactly the topics in `users` are in use, by that many, for tests.
    pub(super) fn check_invariants(&self, users: &std::collections::BTreeMap<TopicId, usize>) {
        assert_eq!(self.used.len(), users.len(), "topics in use");
        assert_eq!(self.by_name.len(), users.len(), "names in the table");
        for (number, topic) in &self.used {
            let id = TopicId(number as u32);
            assert_eq!(Some(&topic.users), users.get(&id), "users of {:?}", topic.name);
            let hash = self.hasher.hash64(topic.name.as_bytes());
            assert!(
                self.by_name.find(hash, |&other| other == id.0).is_some(),
                "{:?} is not found",
                topic.name
            );
        }
        let bytes: usize = self.used.iter().map(|(_, topic)| topic.name.len()).sum();
        assert_eq!(bytes, self.names_bytes, "bytes of the names");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn a_name_is_kept_once_and_as_long_as_it_is_used() {
        let mut topics = Topics::new(1);
        let [a, b, again] = ["a", "b", "a"].map(|name| topics.acquire(name));
        assert_eq!((a, topics.name(a), topics.name(b)), (again, "a", "b"));
        topics.check_invariants(&BTreeMap::from([(a, 2), (b, 1)]));
        topics.release(a);
        assert_eq!(topics.name(a), "a");
        topics.release(a);
        topics.check_invariants(&BTreeMap::from([(b, 1)]));
        topics.release(b);
        topics.check_invariants(&BTreeMap::new());
    }

    #[test]
    fn names_that_are_used_once_leave_nothing() {
        let mut topics = Topics::new(1);
        for i in 0..2_000 {
            let id = topics.acquire(&format!("topic-{i}"));
            topics.release(id);
        }
        topics.check_invariants(&BTreeMap::new());
        assert!(topics.allocated_bytes() < 1_000);
    }

    #[test]
    fn many_names_stay_apart() {
        let mut topics = Topics::new(1);
        let ids: Vec<_> = (0..500).map(|i| topics.acquire(&i.to_string())).collect();
        for (i, &id) in ids.iter().enumerate() {
            assert_eq!(topics.name(id), i.to_string());
        }
        topics.check_invariants(&ids.into_iter().map(|id| (id, 1)).collect());
    }
}
