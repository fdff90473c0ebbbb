//! A hierarchical timing wheel over epoch milliseconds: which node is due next.
//!
//! Eight levels of 64 slots. The level of a due time is where it first differs, in base 64, from the wheel's time:
//!
//! | level | a slot spans | the level spans |
//! |---|---|---|
//! | 0 | 1 ms | 64 ms |
//! | 1 | 64 ms | 4.1 s |
//! | 2 | 4.1 s | 4.4 min |
//! | 3 | 4.4 min | 4.7 h |
//! | 4 | 4.7 h | 12 days |
//! | 5 | 12 days | 2.2 years |
//! | 6 | 2.2 years | 139 years |
//! | 7 | 139 years | 8,925 years |
//!
//! What differs above that waits in one more list, `beyond`, until time enters the first block of 2^48 ms in which
//! something of it is due. Times before 1970 are simply past.
//!
//! Why comparing with the wheel's time, rather than the distance to it: everything in a lower level is due before
//! everything in a higher one, and within a level the slots are in due order. So the first occupied slot is the next
//! one, found by one bitmap a level, and time hops from occupied slot to occupied slot however far it goes.
//!
//! The scheme is Varghese and Lauck's sixth and seventh (SOSP 1987), with the level by exclusive or that the wheel of
//! Tokio uses.

use super::list::{Links, List};

const LEVELS: usize = 8;
const SLOTS: usize = 64;
const SLOT_BITS: u32 = SLOTS.trailing_zeros();

/// The list of what is due past the wheel's block; its number follows those of the slots.
const BEYOND: u16 = (LEVELS * SLOTS) as u16;

/// Bits of a time that are the same throughout the wheel's block.
const BLOCK_MASK: u64 = !((1 << (SLOT_BITS * LEVELS as u32)) - 1);

/// What the wheel needs of the nodes it files, besides their links.
pub(super) trait Timed: Links {
    /// When `node` is due, epoch milliseconds.
    fn due_ms(&self, node: u32) -> i64;
    /// The slot that [`set_slot`](Self::set_slot) noted.
    fn slot(&self, node: u32) -> u16;
    /// Notes the slot that `node` was filed in.
    fn set_slot(&mut self, node: u32, slot: u16);
}

/// What became of a node that was to be filed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filed {
    /// It is in the wheel.
    Waiting,
    /// It is due by the wheel's time and is in no list.
    Expired,
}

/// The wheel: list heads and bitmaps; the entries are the nodes' own.
///
/// Invariants ([`check_invariants`](Self::check_invariants) holds them):
/// - a node in the wheel is due after `elapsed`, except in the slot that is being drained;
/// - it is in the slot that `elapsed` and its due time give, with the same exception;
/// - a bit of `occupied` is set exactly where the slot's list is not empty.
///
/// From the first two: no slot before the one of `elapsed` is occupied, at any level, so the lowest set bit is next.
pub(super) struct Wheel {
    /// The wheel's time; it never goes back.
    elapsed: u64,
    occupied: [u64; LEVELS],
    /// Level by level, slot by slot, then `BEYOND`.
    lists: [List; LEVELS * SLOTS + 1],
    /// The list whose entries are being filed anew, never empty: it comes before any other, since what remains in it
    /// may be due before what was filed out of it.
    draining: Option<u16>,
    /// How many entries of `beyond` are still to be looked at while it is drained, or more.
    beyond_unseen: usize,
    /// No entry of `beyond` is due before; while it is drained, no entry that was looked at.
    beyond_earliest: u64,
    len: usize,
}

/// A list to take entries from, and the time at which it is its turn.
struct Source {
    list: u16,
    start: u64,
}

impl Wheel {
    /// An empty wheel whose time is `start_ms`.
    pub(super) fn new(start_ms: i64) -> Self {
        Self {
            elapsed: on_wheel(start_ms),
            occupied: [0; LEVELS],
            lists: [List::EMPTY; LEVELS * SLOTS + 1],
            draining: None,
            beyond_unseen: 0,
            beyond_earliest: u64::MAX,
            len: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The wheel's time: what is due by then is no longer in it.
    pub(super) fn now_ms(&self) -> i64 {
        self.elapsed as i64
    }

    /// Puts `node`, which is in no list, where its due time belongs.
    pub(super) fn file(&mut self, nodes: &mut impl Timed, node: u32) -> Filed {
        let due = on_wheel(nodes.due_ms(node));
        if due <= self.elapsed {
            return Filed::Expired;
        }
        let slot = slot_for(self.elapsed, due);
        if slot == BEYOND {
            self.beyond_earliest = self.beyond_earliest.min(due);
        } else {
            self.occupied[slot as usize / SLOTS] |= 1 << (slot as usize % SLOTS);
        }
        self.lists[slot as usize].push_back(nodes, node);
        nodes.set_slot(node, slot);
        self.len += 1;
        Filed::Waiting
    }

    /// Takes out `node`, which must be in the wheel.
    pub(super) fn remove(&mut self, nodes: &mut impl Timed, node: u32) {
        let slot = nodes.slot(node);
        let list = &mut self.lists[slot as usize];
        list.unlink(nodes, node);
        self.len -= 1;
        if list.is_empty() {
            self.note_emptied(slot);
        }
    }

    /// The earliest time at which [`advance`](Self::advance) may have something to do: never later than the first
    /// due time, possibly earlier.
    pub(super) fn next_wake_ms(&self) -> Option<i64> {
        self.next_source().map(|source| source.start as i64)
    }

    /// Moves time to `now_ms`, or as far as `budget` entries allow, and gives each node that expires to `expired`, in
    /// the order of their due times. Takes what it uses off `budget`.
    ///
    /// Returns true when no node due by `now_ms` is left in the wheel; if false, a later call goes on from there. A
    /// time before the wheel's changes nothing: what is in the wheel is due later.
    pub(super) fn advance<N: Timed>(
        &mut self,
        nodes: &mut N,
        now_ms: i64,
        budget: &mut usize,
        mut expired: impl FnMut(&mut N, u32),
    ) -> bool {
        let now = on_wheel(now_ms);
        while let Some(source) = self.next_source()
            && source.start <= now
        {
            if self.draining != Some(source.list) {
                self.enter(&source);
            }
            while self.draining == Some(source.list) {
                if *budget == 0 {
                    return false;
                }
                *budget -= 1;
                let node = self.take_from(nodes, source.list);
                if self.file(nodes, node) == Filed::Expired {
                    expired(nodes, node);
                }
            }
        }
        self.elapsed = self.elapsed.max(now);
        true
    }

    /// How many nodes are in slots that start by `until_ms`: those due by then, and the later ones of the slot that
    /// `until_ms` falls into. At most one pass over the slots.
    pub(super) fn count_until(&self, until_ms: i64) -> usize {
        let until = on_wheel(until_ms);
        let mut count = 0;
        for level in 0..LEVELS {
            let mut bits = self.occupied[level];
            while bits != 0 {
                let slot = bits.trailing_zeros();
                bits &= bits - 1;
                if self.slot_start(level, slot) > until {
                    break;
                }
                count += self.lists[level * SLOTS + slot as usize].len();
            }
        }
        // While `beyond` is drained, what was not looked at yet may be due any time from now on.
        if self.draining == Some(BEYOND) || self.beyond_earliest & BLOCK_MASK <= until {
            count += self.lists[BEYOND as usize].len();
        }
        count
    }

    /// Panics where the wheel contradicts itself or the nodes, for tests.
    pub(super) fn check_invariants(&self, nodes: &impl Timed) {
        let mut len = 0;
        for (number, list) in self.lists.iter().enumerate() {
            let number = number as u16;
            let members = list.checked_nodes(nodes);
            len += members.len();
            for &node in &members {
                assert_eq!(nodes.slot(node), number, "node {node} does not know its slot");
                let due = on_wheel(nodes.due_ms(node));
                if self.draining == Some(number) {
                    assert!(due >= self.elapsed, "node {node} is overdue in the slot being drained");
                } else {
                    assert!(due > self.elapsed, "node {node} is overdue in slot {number}");
                    assert_eq!(slot_for(self.elapsed, due), number, "node {node} is in the wrong slot");
                }
                if number == BEYOND && self.draining != Some(BEYOND) {
                    assert!(due >= self.beyond_earliest, "node {node} is due before the earliest beyond");
                }
            }
            if number != BEYOND {
                let bit = self.occupied[number as usize / SLOTS] >> (number as usize % SLOTS) & 1;
                assert_eq!(bit == 1, !members.is_empty(), "the bit of slot {number} is wrong");
            }
        }
        assert_eq!(len, self.len, "the wheel's length is wrong");
        if let Some(list) = self.draining {
            assert!(!self.lists[list as usize].is_empty(), "an empty slot is being drained");
        }
    }

    /// The list whose turn is next. O(levels).
    fn next_source(&self) -> Option<Source> {
        if let Some(list) = self.draining {
            return Some(Source { list, start: self.elapsed });
        }
        if let Some(level) = self.occupied.iter().position(|&bits| bits != 0) {
            let slot = self.occupied[level].trailing_zeros();
            let list = (level * SLOTS) as u16 + slot as u16;
            return Some(Source { list, start: self.slot_start(level, slot) });
        }
        let beyond = &self.lists[BEYOND as usize];
        (!beyond.is_empty()).then_some(Source { list: BEYOND, start: self.beyond_earliest & BLOCK_MASK })
    }

    fn slot_start(&self, level: usize, slot: u32) -> u64 {
        let shift = SLOT_BITS * level as u32;
        let above = !((1u64 << (shift + SLOT_BITS)) - 1);
        self.elapsed & above | u64::from(slot) << shift
    }

    /// Moves time to the start of `source` and makes it the list to drain.
    fn enter(&mut self, source: &Source) {
        debug_assert!(source.start >= self.elapsed, "the wheel's time would go back");
        self.elapsed = self.elapsed.max(source.start);
        self.draining = Some(source.list);
        if source.list == BEYOND {
            // What is still beyond goes to the back of the same list: one look at each, and the earliest anew.
            self.beyond_unseen = self.lists[BEYOND as usize].len();
            self.beyond_earliest = u64::MAX;
        }
    }

    /// Takes the first node off the list being drained; the drain ends with the list's last.
    fn take_from(&mut self, nodes: &mut impl Timed, list: u16) -> u32 {
        let node = self.lists[list as usize].pop_front(nodes).expect("a list being drained is not empty");
        self.len -= 1;
        if list == BEYOND {
            // Removals may have left the count too high: then some are looked at twice, but none is left out.
            self.beyond_unseen -= 1;
            if self.beyond_unseen == 0 {
                self.draining = None;
            }
        }
        if self.lists[list as usize].is_empty() {
            self.note_emptied(list);
        }
        node
    }

    fn note_emptied(&mut self, list: u16) {
        if list == BEYOND {
            self.beyond_earliest = u64::MAX;
        } else {
            self.occupied[list as usize / SLOTS] &= !(1 << (list as usize % SLOTS));
        }
        if self.draining == Some(list) {
            self.draining = None;
        }
    }
}

/// A time as the wheel counts it: before 1970 is past in any case.
fn on_wheel(ms: i64) -> u64 {
    ms.max(0) as u64
}

/// The slot for `due` when the wheel's time is `elapsed`, earlier than `due`.
fn slot_for(elapsed: u64, due: u64) -> u16 {
    // `| 63`: a difference within the lowest digit is level 0.
    let level = (((elapsed ^ due) | (SLOTS as u64 - 1)).ilog2() / SLOT_BITS) as usize;
    if level >= LEVELS {
        return BEYOND;
    }
    let slot = due >> (SLOT_BITS * level as u32) & (SLOTS as u64 - 1);
    (level * SLOTS) as u16 + slot as u16
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    /// Nodes with nothing but what the wheel needs.
    #[derive(Clone, Default)]
    struct Dues(Vec<Entry>);

    #[derive(Clone, Copy)]
    struct Entry {
        due_ms: i64,
        next: u32,
        prev: u32,
        slot: u16,
    }

    impl Dues {
        fn new(dues_ms: &[i64]) -> Self {
            Self(dues_ms.iter().map(|&due_ms| Entry { due_ms, next: 0, prev: 0, slot: u16::MAX }).collect())
        }
    }

    impl Links for Dues {
        fn next(&self, node: u32) -> u32 {
            self.0[node as usize].next
        }
        fn prev(&self, node: u32) -> u32 {
            self.0[node as usize].prev
        }
        fn set_next(&mut self, node: u32, next: u32) {
            self.0[node as usize].next = next;
        }
        fn set_prev(&mut self, node: u32, prev: u32) {
            self.0[node as usize].prev = prev;
        }
    }

    impl Timed for Dues {
        fn due_ms(&self, node: u32) -> i64 {
            self.0[node as usize].due_ms
        }
        fn slot(&self, node: u32) -> u16 {
            self.0[node as usize].slot
        }
        fn set_slot(&mut self, node: u32, slot: u16) {
            self.0[node as usize].slot = slot;
        }
    }

    fn advance(wheel: &mut Wheel, nodes: &mut Dues, now_ms: i64) -> Vec<u32> {
        let (mut expired, mut budget) = (Vec::new(), 1_000_000);
        assert!(wheel.advance(nodes, now_ms, &mut budget, |_, node| expired.push(node)));
        wheel.check_invariants(nodes);
        expired
    }

    /// The times at which a level, a slot or the arithmetic ends, and their neighbours.
    fn edges() -> Vec<i64> {
        let powers = [0, 1, 6, 12, 18, 36, 42, 47, 48, 54, 62].map(|power| 1i64 << power);
        let around = powers.iter().flat_map(|&edge| [edge - 1, edge, edge + 1]);
        let mut edges: Vec<_> = around.chain([i64::MIN, -65, -1, i64::MAX - 1, i64::MAX, 3 << 48]).collect();
        edges.sort_unstable();
        edges.dedup();
        edges
    }

    #[test]
    fn every_edge_expires_when_it_is_due_and_not_before() {
        let edges = edges();
        for &start_ms in &edges {
            for &due_ms in &edges {
                for &now_ms in &edges {
                    let mut nodes = Dues::new(&[due_ms]);
                    let mut wheel = Wheel::new(start_ms);
                    if wheel.file(&mut nodes, 0) == Filed::Expired {
                        assert!(due_ms <= start_ms.max(0), "{due_ms} came early at {start_ms}");
                        continue;
                    }
                    let wake_ms = wheel.next_wake_ms().unwrap();
                    assert!(wake_ms <= due_ms, "waking at {wake_ms} for {due_ms}");
                    let expired = !advance(&mut wheel, &mut nodes, now_ms).is_empty();
                    assert_eq!(expired, due_ms <= now_ms, "{due_ms} from {start_ms} at {now_ms}");
                    assert_eq!(wheel.next_wake_ms().is_none(), expired);
                }
            }
        }
    }

    #[test]
    fn waking_when_told_meets_each_due_time_after_a_few_hops() {
        let edges = edges();
        let mut nodes = Dues::new(&edges);
        let mut wheel = Wheel::new(0);
        let mut waiting: Vec<_> = (0..edges.len() as u32).collect();
        waiting.retain(|&node| wheel.file(&mut nodes, node) == Filed::Waiting);
        let mut hops = 0;
        while let Some(wake_ms) = wheel.next_wake_ms() {
            let expired = advance(&mut wheel, &mut nodes, wake_ms);
            let rest = waiting.split_off(expired.len());
            assert_eq!(waiting, expired, "out of order at {wake_ms}");
            assert!(expired.iter().all(|&node| nodes.due_ms(node) == wake_ms));
            waiting = rest;
            hops += 1;
            assert!(hops < edges.len() * (LEVELS + 2), "waking too often");
        }
        assert!(waiting.is_empty());
    }

    #[test]
    fn a_jump_to_the_end_of_time_passes_every_block_that_has_an_entry() {
        let dues: Vec<i64> = (0..500).map(|i| i64::MAX / 500 * i + i).collect();
        let mut nodes = Dues::new(&dues);
        let mut wheel = Wheel::new(-1);
        let waiting: Vec<u32> = (0..500).filter(|&n| wheel.file(&mut nodes, n) == Filed::Waiting).collect();
        assert_eq!(advance(&mut wheel, &mut nodes, i64::MAX), waiting);
    }

    #[test]
    fn what_is_due_together_comes_in_the_order_it_was_filed() {
        let mut nodes = Dues::new(&[5_000; 20]);
        let mut wheel = Wheel::new(0);
        for node in 0..20 {
            wheel.file(&mut nodes, node);
        }
        assert_eq!(advance(&mut wheel, &mut nodes, 9_999), (0..20).collect::<Vec<_>>());
    }

    #[test]
    fn removing_the_earliest_beyond_delays_nothing_else() {
        let block = 1i64 << 48;
        let mut nodes = Dues::new(&[block + 1, 2 * block + 1]);
        let mut wheel = Wheel::new(0);
        wheel.file(&mut nodes, 0);
        wheel.file(&mut nodes, 1);
        wheel.remove(&mut nodes, 0);
        wheel.check_invariants(&nodes);
        assert_eq!(advance(&mut wheel, &mut nodes, 2 * block), Vec::<u32>::new());
        assert_eq!(advance(&mut wheel, &mut nodes, 2 * block + 1), vec![1]);
    }

    #[test]
    fn slots_are_counted_by_their_start() {
        let mut nodes = Dues::new(&[1, 63, 64, 127, 4_096, 1 << 48]);
        let mut wheel = Wheel::new(0);
        for node in 0..6 {
            wheel.file(&mut nodes, node);
        }
        let counts = [0, 1, 63, 64, 127, 4_095, 4_096, 1 << 47, 1 << 48];
        assert_eq!(counts.map(|until_ms| wheel.count_until(until_ms)), [0, 1, 2, 4, 4, 4, 5, 5, 6]);
    }

    fn due_time() -> impl Strategy<Value = i64> {
        let spread = (0..63u32, -2..200i64).prop_map(|(power, off)| (1i64 << power).saturating_add(off));
        prop_oneof![3 => 0..300i64, 3 => spread, 1 => any::<i64>()]
    }

    proptest! {
        /// Whatever the budget, the wheel gives what a sorted list gives, and in that order.
        #[test]
        fn the_wheel_is_a_sorted_list(
            start_ms in 0..200i64,
            dues in prop::collection::vec(due_time(), 1..60),
            mut times in prop::collection::vec((due_time(), 0..8usize, any::<prop::sample::Index>()), 0..60),
        ) {
            let mut nodes = Dues::new(&dues);
            let mut wheel = Wheel::new(start_ms);
            let mut waiting: Vec<u32> = (0..dues.len() as u32).collect();
            waiting.retain(|&node| wheel.file(&mut nodes, node) == Filed::Waiting);
            times.sort_unstable_by_key(|&(now_ms, ..)| now_ms);
            let mut last_ms = i64::MIN;
            for (now_ms, budget, victim) in times {
                let mut left = budget;
                let mut expired = Vec::new();
                let done = wheel.advance(&mut nodes, now_ms, &mut left, |_, node| expired.push(node));
                wheel.check_invariants(&nodes);
                for node in expired {
                    prop_assert!(dues[node as usize] <= now_ms, "early");
                    prop_assert!(dues[node as usize] >= last_ms, "out of order");
                    last_ms = dues[node as usize];
                    waiting.retain(|&other| other != node);
                }
                let first_ms = waiting.iter().map(|&node| dues[node as usize]).min();
                prop_assert!(!done || first_ms.is_none_or(|first_ms| first_ms > now_ms), "left behind");
                prop_assert!(done || left == 0, "stopped with budget left");
                prop_assert_eq!(wheel.next_wake_ms().is_some(), first_ms.is_some());
                prop_assert!(wheel.next_wake_ms() <= first_ms, "waking late");
                if !waiting.is_empty() {
                    wheel.remove(&mut nodes, waiting.swap_remove(victim.index(waiting.len())));
                    wheel.check_invariants(&nodes);
                }
            }
        }
    }
}
