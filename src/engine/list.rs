//! First-in-first-out lists through the nodes: circular, doubly linked by `u32`, only a head and a length outside.
//!
//! The tail is the head's `prev`, so that both ends and any unlink are O(1) and an empty list is eight bytes.

/// The name of no node.
pub(super) const NIL: u32 = u32::MAX;

/// Where a list keeps its links: two words of each node, free for the list that the node is in.
pub(super) trait Links {
    fn next(&self, node: u32) -> u32;
    fn prev(&self, node: u32) -> u32;
    fn set_next(&mut self, node: u32, next: u32);
    fn set_prev(&mut self, node: u32, prev: u32);
}

/// One list. A node is in at most one list at a time; who calls knows in which.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    head: u32,
    len: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { head: NIL, len: 0 };

    pub(super) fn len(self) -> usize {
        self.len as usize
    }

    pub(super) fn is_empty(self) -> bool {
        self.head == NIL
    }

    pub(super) fn front(self) -> Option<u32> {
        (self.head != NIL).then_some(self.head)
    }

    pub(super) fn back(self, links: &impl Links) -> Option<u32> {
        self.front().map(|head| links.prev(head))
    }

    pub(super) fn push_back(&mut self, links: &mut impl Links, node: u32) {
        if self.head == NIL {
            links.set_next(node, node);
            links.set_prev(node, node);
            self.head = node;
        } else {
            let tail = links.prev(self.head);
            links.set_next(node, self.head);
            links.set_prev(node, tail);
            links.set_next(tail, node);
            links.set_prev(self.head, node);
        }
        self.len += 1;
    }

    pub(super) fn push_front(&mut self, links: &mut impl Links, node: u32) {
        // In a ring the place before the head is also the place after the tail.
        self.push_back(links, node);
        self.head = node;
    }

    /// Takes out `node`, which must be in this list.
    pub(super) fn unlink(&mut self, links: &mut impl Links, node: u32) {
        let (prev, next) = (links.prev(node), links.next(node));
        if next == node {
            self.head = NIL;
        } else {
            links.set_next(prev, next);
            links.set_prev(next, prev);
            if self.head == node {
                self.head = next;
            }
        }
        self.len -= 1;
    }

    pub(super) fn pop_front(&mut self, links: &mut impl Links) -> Option<u32> {
        let front = self.front()?;
        self.unlink(links, front);
        Some(front)
    }

    /// The nodes front to back. Panics where the links contradict each other or the length, for tests.
    pub(super) fn checked_nodes(self, links: &impl Links) -> Vec<u32> {
        let mut nodes = Vec::with_capacity(self.len());
        let mut node = self.head;
        while node != NIL {
            assert!(nodes.len() < self.len(), "a list is longer than it says");
            nodes.push(node);
            let next = links.next(node);
            assert_eq!(links.prev(next), node, "prev of node {next} does not lead back");
            node = if next == self.head { NIL } else { next };
        }
        assert_eq!(nodes.len(), self.len(), "a list is shorter than it says");
        nodes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    impl Links for Vec<(u32, u32)> {
        fn next(&self, node: u32) -> u32 {
            self[node as usize].0
        }
        fn prev(&self, node: u32) -> u32 {
            self[node as usize].1
        }
        fn set_next(&mut self, node: u32, next: u32) {
            self[node as usize].0 = next;
        }
        fn set_prev(&mut self, node: u32, prev: u32) {
            self[node as usize].1 = prev;
        }
    }

    proptest! {
        #[test]
        fn a_list_is_a_deque(steps in prop::collection::vec((0..4u8, 0..12u32), 0..200)) {
            let mut links = vec![(NIL, NIL); 12];
            let mut list = List::EMPTY;
            let mut deque = VecDeque::new();
            for (step, node) in steps {
                let at = deque.iter().position(|&other| other == node);
                match (step, at) {
                    (0, None) => {
                        list.push_back(&mut links, node);
                        deque.push_back(node);
                    }
                    (1, None) => {
                        list.push_front(&mut links, node);
                        deque.push_front(node);
                    }
                    (2, Some(at)) => {
                        list.unlink(&mut links, node);
                        deque.remove(at);
                    }
                    (3, _) => prop_assert_eq!(list.pop_front(&mut links), deque.pop_front()),
                    _ => {}
                }
                prop_assert_eq!(list.checked_nodes(&links), Vec::from(deque.clone()));
                prop_assert_eq!(list.front(), deque.front().copied());
                prop_assert_eq!(list.back(&links), deque.back().copied());
                prop_assert_eq!(list.is_empty(), deque.is_empty());
            }
        }
    }
}
