//! The nodes: one fixed entry a schedule, in segments that are never copied.
//!
//! One growing array would double: at a hundred million schedules a copy of 3 GB, seconds of standstill and twice the
//! memory. A segment is allocated once at its full size and given back when its last node leaves.

use std::collections::BTreeSet;

use slab::Slab;

use super::list::Links;
use super::payload::Payload;
use super::wheel::Timed;

/// Nodes in a segment: 2 MiB, one huge page.
const SEGMENT_NODES: usize = 1 << SEGMENT_BITS;
const SEGMENT_BITS: u32 = 16;

/// Numbers of nodes stay below this, so that none is [`NIL`](super::list::NIL).
const MAX_SEGMENTS: usize = u32::MAX as usize >> SEGMENT_BITS;

/// Where a node is linked, that is, who has to let it go before it may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Nowhere: on its way from one place to another, or waiting for the bulk load to finish.
    Unfiled,
    /// In this slot of the wheel.
    Slot(u16),
    /// In the line of ready nodes.
    Line,
    /// Among the ready nodes that came out of order.
    OutOfLine,
    /// Handed out in a batch.
    InFlight,
    /// Set aside until its retry time.
    Aside,
    /// Set aside until a newer record replaces or removes it.
    Held,
}

/// What there is of a schedule besides its payload. Everything that is touched in passing is here, in half a cache
/// line, so that the payload is only read when its message is.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) payload: Payload,
    pub(super) due_ms: i64,
    /// What the index knows of the ID.
    pub(super) hash: u32,
    next: u32,
    prev: u32,
    pub(super) place: Place,
}

impl Node {
    /// A node that is nowhere yet.
    pub(super) fn new(payload: Payload, due_ms: i64, hash: u32) -> Self {
        Self { payload, due_ms, hash, next: 0, prev: 0, place: Place::Unfiled }
    }

    /// The retry time of a node whose place is [`Place::Aside`]: such a node is in no list, so its links are free to
    /// hold it.
    pub(super) fn retry_at_ms(&self) -> i64 {
        debug_assert_eq!(self.place, Place::Aside);
        (u64::from(self.next) << 32 | u64::from(self.prev)) as i64
    }

    /// Places the node aside until `retry_at_ms`.
    pub(super) fn put_aside(&mut self, retry_at_ms: i64) {
        self.place = Place::Aside;
        self.next = (retry_at_ms as u64 >> 32) as u32;
        self.prev = retry_at_ms as u32;
    }
}

/// The shape of an entry of [`Slab`], whose own type is private: a vacant one holds a `usize`.
#[allow(dead_code)]
enum Entry {
    Vacant(usize),
    Occupied(Node),
}
// The payload's pointer is never null, which is how an entry tells vacant from occupied without a word more.
const _: () = assert!(size_of::<Node>() == 32 && size_of::<Entry>() == 32);

/// All nodes of a set, named by `u32`; a name is used again after its node left.
#[derive(Debug, Default)]
pub(super) struct Nodes {
    segments: Vec<Segment>,
    /// Segments that can take a node. The lowest is filled first, so that the highest drain and are given back.
    with_room: BTreeSet<u32>,
    len: usize,
}

/// One step of a walk over the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Here is a node; the walk goes on at the name after it.
    Node(u32),
    /// The budget ended; the walk goes on at this name.
    Paused(u32),
    /// There are no more nodes.
    End,
}

#[derive(Debug, Default)]
struct Segment {
    nodes: Slab<Node>,
    /// No node was ever at or after this offset, since the segment was allocated.
    used: usize,
}

impl Nodes {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Stores `node` and gives its name.
    pub(super) fn insert(&mut self, node: Node) -> u32 {
        let number = self.with_room.first().copied().unwrap_or_else(|| self.add_segment());
        let segment = &mut self.segments[number as usize];
        if segment.nodes.capacity() == 0 {
            segment.nodes = Slab::with_capacity(SEGMENT_NODES);
        }
        let offset = segment.nodes.insert(node);
        segment.used = segment.used.max(offset + 1);
        if segment.nodes.len() == SEGMENT_NODES {
            self.with_room.remove(&number);
        }
        self.len += 1;
        number << SEGMENT_BITS | offset as u32
    }

    /// Takes out the node of that name, which must be there.
    pub(super) fn remove(&mut self, name: u32) -> Node {
        let (number, offset) = split(name);
        let segment = &mut self.segments[number];
        let was_full = segment.nodes.len() == SEGMENT_NODES;
        let node = segment.nodes.remove(offset);
        self.len -= 1;
        if was_full {
            self.with_room.insert(number as u32);
        }
        // The last segment with room is kept, or one insert and remove at the edge would allocate each time.
        if segment.nodes.is_empty() && self.with_room.len() > 1 {
            *segment = Segment::default();
        }
        node
    }

    /// The node of that name, if there is one.
    pub(super) fn get(&self, name: u32) -> Option<&Node> {
        let (number, offset) = split(name);
        self.segments.get(number)?.nodes.get(offset)
    }

    /// The first node from the name `cursor` on; every name looked at is taken off `budget`.
    ///
    /// A walk that goes on after each node meets every node that stays exactly once, whatever comes and goes between.
    pub(super) fn next_from(&self, cursor: u32, budget: &mut usize) -> Step {
        let (mut number, mut offset) = split(cursor);
        while let Some(segment) = self.segments.get(number) {
            while offset < segment.used {
                let name = (number as u32) << SEGMENT_BITS | offset as u32;
                if *budget == 0 {
                    return Step::Paused(name);
                }
                *budget -= 1;
                if segment.nodes.contains(offset) {
                    return Step::Node(name);
                }
                offset += 1;
            }
            (number, offset) = (number + 1, 0);
        }
        Step::End
    }

    /// Bytes of the segments.
    pub(super) fn allocated_bytes(&self) -> usize {
        let nodes: usize = self.segments.iter().map(|segment| segment.nodes.capacity()).sum();
        nodes * size_of::<Entry>() + self.segments.capacity() * size_of::<Segment>()
    }

    /// Panics where the segments contradict each other, for tests.
    pub(super) fn check_invariants(&self) {
        let mut len = 0;
        for (number, segment) in self.segments.iter().enumerate() {
            len += segment.nodes.len();
            assert!(segment.nodes.capacity() == 0 || segment.nodes.capacity() == SEGMENT_NODES);
            let has_room = segment.nodes.len() < SEGMENT_NODES;
            assert_eq!(has_room, self.with_room.contains(&(number as u32)), "room of segment {number}");
            assert!(segment.nodes.iter().all(|(offset, _)| offset < segment.used));
        }
        assert_eq!(len, self.len, "the number of nodes is wrong");
    }

    fn add_segment(&mut self) -> u32 {
        assert!(self.segments.len() < MAX_SEGMENTS, "a shard holds fewer than 2^32 schedules");
        let number = self.segments.len() as u32;
        self.segments.push(Segment::default());
        self.with_room.insert(number);
        number
    }
}

impl std::ops::Index<u32> for Nodes {
    type Output = Node;
    fn index(&self, name: u32) -> &Node {
        let (number, offset) = split(name);
        &self.segments[number].nodes[offset]
    }
}

impl std::ops::IndexMut<u32> for Nodes {
    fn index_mut(&mut self, name: u32) -> &mut Node {
        let (number, offset) = split(name);
        &mut self.segments[number].nodes[offset]
    }
}

impl Links for Nodes {
    fn next(&self, node: u32) -> u32 {
        self[node].next
    }
    fn prev(&self, node: u32) -> u32 {
        self[node].prev
    }
    fn set_next(&mut self, node: u32, next: u32) {
        self[node].next = next;
    }
    fn set_prev(&mut self, node: u32, prev: u32) {
        self[node].prev = prev;
    }
}

impl Timed for Nodes {
    fn due_ms(&self, node: u32) -> i64 {
        self[node].due_ms
    }
    fn slot(&self, node: u32) -> u16 {
        match self[node].place {
            Place::Slot(slot) => slot,
            place => unreachable!("node {node} is not in the wheel but {place:?}"),
        }
    }
    fn set_slot(&mut self, node: u32, slot: u16) {
        self[node].place = Place::Slot(slot);
    }
}

fn split(name: u32) -> (usize, usize) {
    ((name >> SEGMENT_BITS) as usize, name as usize & (SEGMENT_NODES - 1))
}

#[cfg(test)]
mod tests {
    use super::super::payload::Parts;
    use super::super::topics::TopicId;
    use super::*;
    use crate::schedule::{Format, Headers};

    fn node(due_ms: i64) -> Node {
        let payload = Payload::pack(&Parts {
            offset: due_ms,
            format: Format::Avro,
            id: b"id",
            topic: TopicId::from_number(0),
            key: b"",
            value: None,
            headers: Headers::default(),
            record_headers: Headers::default(),
        });
        Node::new(payload, due_ms, 0)
    }

    fn walk(nodes: &Nodes, budget: usize) -> Vec<i64> {
        let (mut cursor, mut dues) = (0, Vec::new());
        loop {
            let mut left = budget;
            match nodes.next_from(cursor, &mut left) {
                Step::Node(name) => {
                    dues.push(nodes[name].due_ms);
                    cursor = name + 1;
                }
                Step::Paused(at) => cursor = at,
                Step::End => return dues,
            }
        }
    }

    #[test]
    fn a_name_leads_to_its_node_until_it_leaves_and_is_used_again() {
        let mut nodes = Nodes::default();
        let [a, b] = [1, 2].map(|due_ms| nodes.insert(node(due_ms)));
        assert_eq!((nodes[a].due_ms, nodes[b].due_ms, nodes.len()), (1, 2, 2));
        assert_eq!(nodes.remove(a).due_ms, 1);
        assert!(nodes.get(a).is_none());
        assert_eq!(nodes.insert(node(3)), a);
        assert_eq!(walk(&nodes, 1), [3, 2]);
        nodes.check_invariants();
    }

    #[test]
    fn a_node_set_aside_keeps_any_retry_time() {
        let mut node = node(1);
        for retry_at_ms in [i64::MIN, -1, 0, 1, 1 << 40, i64::MAX] {
            node.put_aside(retry_at_ms);
            assert_eq!(node.retry_at_ms(), retry_at_ms);
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "too many nodes")]
    fn segments_come_one_by_one_and_go_when_they_are_empty() {
        let mut nodes = Nodes::default();
        let segment_bytes = SEGMENT_NODES * 32;
        let total = 3 * SEGMENT_NODES as i64;
        let names: Vec<u32> = (0..total).map(|due_ms| nodes.insert(node(due_ms))).collect();
        nodes.check_invariants();
        assert_eq!(nodes.allocated_bytes() / segment_bytes, 3);
        assert_eq!(walk(&nodes, 1_000), (0..total).collect::<Vec<_>>());

        for &name in &names[SEGMENT_NODES..2 * SEGMENT_NODES] {
            nodes.remove(name);
        }
        nodes.check_invariants();
        assert_eq!(nodes.allocated_bytes() / segment_bytes, 3, "the only segment with room is kept");
        nodes.remove(names[0]);
        assert_eq!(nodes.insert(node(-1)), names[0], "the lowest segment is filled first");
        for &name in &names[2 * SEGMENT_NODES..] {
            nodes.remove(name);
        }
        nodes.check_invariants();
        assert_eq!(nodes.allocated_bytes() / segment_bytes, 2);
        assert_eq!(walk(&nodes, 1_000).len(), SEGMENT_NODES);
        for due_ms in 0..2 * SEGMENT_NODES as i64 {
            nodes.insert(node(due_ms));
        }
        nodes.check_invariants();
        assert_eq!(nodes.allocated_bytes() / segment_bytes, 3);
    }
}
