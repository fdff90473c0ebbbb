//! The nodes that are due, oldest first.
//!
//! What comes out of the wheel comes in due order, and joins the end of a line. What does not fit there (a schedule
//! that arrives overdue, a retry, an aborted batch that comes back) is kept sorted beside it, and the front is the
//! earlier of the two. So the order holds at the wheel's price for all but the exceptions, and after the clock was set
//! back those that are ahead of it are simply not at the front.

use std::collections::BTreeSet;

use super::list::List;
use super::slab::{Nodes, Place};

/// The ready nodes. Invariant: the due times along the line never fall.
#[derive(Debug)]
pub(super) struct Ready {
    line: List,
    out_of_line: BTreeSet<(i64, u32)>,
}

impl Ready {
    pub(super) fn new() -> Self {
        Self { line: List::EMPTY, out_of_line: BTreeSet::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.line.len() + self.out_of_line.len()
    }

    /// Adds `node`, which is nowhere.
    pub(super) fn push(&mut self, nodes: &mut Nodes, node: u32) {
        let due_ms = nodes[node].due_ms;
        let last = self.line.back(nodes).map(|last| nodes[last].due_ms);
        if last.is_none_or(|last_ms| last_ms <= due_ms) {
            self.line.push_back(nodes, node);
            nodes[node].place = Place::Line;
        } else {
            self.put_out_of_line(nodes, node);
        }
    }

    /// Adds `node`, which was at the front before: it goes there again if it may.
    pub(super) fn push_back_in_front(&mut self, nodes: &mut Nodes, node: u32) {
        let due_ms = nodes[node].due_ms;
        let first = self.line.front().map(|first| nodes[first].due_ms);
        if first.is_none_or(|first_ms| due_ms <= first_ms) {
            self.line.push_front(nodes, node);
            nodes[node].place = Place::Line;
        } else {
            self.put_out_of_line(nodes, node);
        }
    }

    /// The node that has been due for longest.
    pub(super) fn front(&self, nodes: &Nodes) -> Option<u32> {
        let in_line = self.line.front();
        let Some(&(sorted_ms, sorted)) = self.out_of_line.first() else { return in_line };
        Some(in_line.filter(|&node| nodes[node].due_ms <= sorted_ms).unwrap_or(sorted))
    }

    /// Takes out `node`, which must be here.
    pub(super) fn remove(&mut self, nodes: &mut Nodes, node: u32) {
        if nodes[node].place == Place::Line {
            self.line.unlink(nodes, node);
        } else {
            let was_there = self.out_of_line.remove(&(nodes[node].due_ms, node));
            debug_assert!(was_there, "node {node} is not out of line");
        }
        nodes[node].place = Place::Unfiled;
    }

    /// Bytes of what is kept sorted, about.
    pub(super) fn allocated_bytes(&self) -> usize {
        self.out_of_line.len() * size_of::<(i64, u32)>()
    }

    /// Panics where the order or the nodes' places are wrong, for tests.
    pub(super) fn check_invariants(&self, nodes: &Nodes) {
        let line = self.line.checked_nodes(nodes);
        assert!(line.iter().all(|&node| nodes[node].place == Place::Line), "a node in line does not know");
        assert!(line.is_sorted_by_key(|&node| nodes[node].due_ms), "the line is out of order");
        for &(due_ms, node) in &self.out_of_line {
            assert_eq!((nodes[node].due_ms, nodes[node].place), (due_ms, Place::OutOfLine), "node {node}");
        }
    }

    fn put_out_of_line(&mut self, nodes: &mut Nodes, node: u32) {
        self.out_of_line.insert((nodes[node].due_ms, node));
        nodes[node].place = Place::OutOfLine;
    }
}

#[cfg(test)]
mod tests {
    use super::super::payload::{Parts, Payload};
    use super::super::slab::Node;
    use super::super::topics::TopicId;
    use super::*;
    use crate::schedule::{Format, Headers};
    use proptest::prelude::*;

    fn insert(nodes: &mut Nodes, due_ms: i64) -> u32 {
        let payload = Payload::pack(&Parts {
            offset: 0,
            format: Format::Avro,
            id: b"",
            topic: TopicId::from_number(0),
            key: b"",
            value: None,
            headers: Headers::default(),
            record_headers: Headers::default(),
        });
        nodes.insert(Node::new(payload, due_ms, 0))
    }

    #[test]
    fn nodes_due_together_come_in_the_order_they_came() {
        let (mut nodes, mut ready) = (Nodes::default(), Ready::new());
        let names = [5, 5, 5].map(|due_ms| insert(&mut nodes, due_ms));
        for name in names {
            ready.push(&mut nodes, name);
        }
        for name in names {
            assert_eq!(ready.front(&nodes), Some(name));
            ready.remove(&mut nodes, name);
        }
        assert_eq!(ready.front(&nodes), None);
    }

    proptest! {
        #[test]
        fn the_front_is_the_earliest(
            steps in prop::collection::vec((0..4u8, -9..9i64, any::<prop::sample::Index>()), 0..80),
        ) {
            let (mut nodes, mut ready, mut model) = (Nodes::default(), Ready::new(), Vec::new());
            for (step, due_ms, at) in steps {
                match step {
                    0 | 1 => {
                        let name = insert(&mut nodes, due_ms);
                        model.push(name);
                        if step == 0 {
                            ready.push(&mut nodes, name);
                        } else {
                            ready.push_back_in_front(&mut nodes, name);
                        }
                    }
                    _ if !model.is_empty() => {
                        let name = model.swap_remove(at.index(model.len()));
                        ready.remove(&mut nodes, name);
                    }
                    _ => {}
                }
                ready.check_invariants(&nodes);
                prop_assert_eq!(ready.len(), model.len());
                let front_ms = ready.front(&nodes).map(|name| nodes[name].due_ms);
                prop_assert_eq!(front_ms, model.iter().map(|&name| nodes[name].due_ms).min());
            }
        }
    }
}
