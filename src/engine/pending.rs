//! The pending set of a shard: every schedule that has not been delivered, by its ID and by its due time.

use std::collections::{BTreeMap, BTreeSet};

use super::index::Index;
use super::payload::{Parts, Payload};
use super::ready::Ready;
use super::slab::{Node, Nodes, Place, Step};
use super::topics::{TopicId, Topics};
use super::wheel::{Filed, Wheel};
use crate::schedule::{DueTime, Format, Headers, Schedule};

/// Names one version of a schedule: an ID as one record set it.
///
/// A handle goes stale when its version is replaced or removed, and then names nothing, ever: no two records of a
/// partition have the same offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Handle {
    node: u32,
    offset: i64,
}

impl Handle {
    /// The offset of the record that set this version.
    #[must_use]
    pub const fn offset(self) -> i64 {
        self.offset
    }
}

/// What a schedule in the set is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EntryState {
    /// For its due time, or for a place in a batch.
    Pending,
    /// For the outcome of the batch that it was handed out in.
    InFlight,
    /// For its retry time, or for a newer record.
    SetAside,
}

/// What an [`upsert`](PendingSet::upsert) did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Upserted {
    /// The ID was not in the set.
    Inserted,
    /// The ID was in the set with an older version.
    Replaced {
        /// The state of that version.
        previous: EntryState,
    },
    /// The set holds this version or a newer one; nothing changed.
    Stale,
}

/// How much a batch may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Schedules.
    pub max_count: usize,
    /// Bytes of packed payloads, as [`PendingSet::payload_bytes`] counts them.
    pub max_bytes: usize,
}

/// One schedule of the set, borrowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View<'a> {
    /// The key of the record that carried the schedule.
    pub id: &'a [u8],
    /// The offset of that record.
    pub offset: i64,
    /// How that record was written.
    pub format: Format,
    /// What the schedule is waiting for.
    pub state: EntryState,
    /// The schedule itself.
    pub schedule: Schedule<'a>,
    /// The headers of the record itself, not of the message to deliver.
    pub record_headers: Headers<'a>,
}

/// Where a walk over the set goes on; the default is its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListCursor(u32);

/// Every pending schedule of a shard, keyed by ID, and which of them are due.
///
/// A set begins in bulk mode, in which the log is read into it and nothing is ever due; after
/// [`finish_bulk`](Self::finish_bulk) has returned true, schedules become due as time is
/// [advanced](Self::advance).
///
/// A schedule is in the set until it is removed or replaced by a record: handing it out does not remove it. So the set
/// is what the log says at all times, and an outcome that never comes loses nothing.
///
/// Each call does a bounded piece of work, by its budget or limits where it has one. The set's time never goes back;
/// where the clock does, what is ready already waits until it is due by the clock again.
///
/// ```
/// use kafka_message_scheduler::engine::{BatchLimits, PendingSet};
/// use kafka_message_scheduler::schedule::{DueTime, Format, Headers, Schedule};
///
/// let mut pending = PendingSet::new(42);
/// let schedule = Schedule {
///     due: DueTime::from_epoch_ms(1_000),
///     topic: "orders",
///     key: b"order-7",
///     value: Some(b"remind"),
///     headers: Headers::default(),
/// };
/// pending.upsert(b"reminder-7", 0, Format::Avro, &schedule, Headers::default());
/// while !pending.finish_bulk(4_096) {}
///
/// let wake_ms = pending.next_wake().expect("something is pending");
/// assert!(wake_ms <= 1_000);
/// let mut batch = Vec::new();
/// while !pending.advance(1_000, 4_096) {}
/// pending.take_due(1_000, BatchLimits { max_count: 500, max_bytes: 1 << 20 }, &mut batch);
/// assert_eq!(pending.view(batch[0]).expect("current").schedule, schedule);
///
/// // The batch is committed: its tombstone, at offset 1, takes the schedule out.
/// pending.remove(b"reminder-7", 1);
/// assert!(pending.is_empty());
/// ```
pub struct PendingSet {
    nodes: Nodes,
    index: Index,
    topics: Topics,
    wheel: Wheel,
    ready: Ready,
    /// Set aside until a time, by that time.
    aside: BTreeSet<(i64, u32)>,
    held: usize,
    in_flight: usize,
    bulk: Bulk,
    latest_start_ms: i64,
    payload_bytes: usize,
    content_bytes: usize,
}

/// How far the bulk load is.
///
/// Filing each schedule as it is read would be in vain for those the rest of the log replaces, which may be nearly
/// all. And the wheel's time has to be known first: filed by a later time, what is overdue would have to be sorted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bulk {
    /// Reading the log: nothing is filed.
    Loading,
    /// Looking for the earliest due time. Nothing is filed; the few that arrive in the meantime may be due earlier,
    /// and will be sorted.
    Measuring { cursor: u32, earliest_ms: i64 },
    /// Filing what was not filed yet; what arrives is filed at once.
    Filing { cursor: u32 },
    /// Everything is filed.
    Done,
}

impl PendingSet {
    /// An empty set in bulk mode. The seed keys the hash of the IDs: random in production, fixed in a test.
    #[must_use]
    pub fn new(hash_seed: u64) -> Self {
        Self::with_expected(hash_seed, 0)
    }

    /// As [`new`](Self::new), with an index laid out for `expected` schedules. A guess that is far too high costs a few
    /// bytes for each thousand.
    #[must_use]
    pub fn with_expected(hash_seed: u64, expected: usize) -> Self {
        Self {
            nodes: Nodes::default(),
            index: Index::new(hash_seed, expected),
            topics: Topics::new(hash_seed),
            wheel: Wheel::new(0),
            ready: Ready::new(),
            aside: BTreeSet::new(),
            held: 0,
            in_flight: 0,
            bulk: Bulk::Loading,
            latest_start_ms: i64::MAX,
            payload_bytes: 0,
            content_bytes: 0,
        }
    }

    /// Applies a record that sets a schedule: `id` is its key, `offset` its offset, `format` how it was written.
    ///
    /// A new version is pending, whatever the state of the one it replaces.
    pub fn upsert(
        &mut self,
        id: &[u8],
        offset: i64,
        format: Format,
        schedule: &Schedule<'_>,
        record_headers: Headers<'_>,
    ) -> Upserted {
        let due_ms = schedule.due.epoch_ms();
        let hash = self.index.hash(id);
        let held = self.find(hash, id);
        if held.is_some_and(|node| offset <= self.nodes[node].payload.offset()) {
            return Upserted::Stale;
        }
        let payload = Payload::pack(&Parts {
            offset,
            format,
            id,
            topic: self.topics.acquire(schedule.topic),
            key: schedule.key,
            value: schedule.value,
            headers: schedule.headers,
            record_headers,
        });
        self.count_in(&payload);
        let (node, upserted) = if let Some(node) = held {
            let previous = self.nodes[node].state();
            self.detach(node);
            let old = std::mem::replace(&mut self.nodes[node].payload, payload);
            self.count_out(&old);
            self.nodes[node].due_ms = due_ms;
            (node, Upserted::Replaced { previous })
        } else {
            let node = self.nodes.insert(Node::new(payload, due_ms, hash));
            self.index.insert(hash, node, |other| self.nodes[other].hash);
            (node, Upserted::Inserted)
        };
        match self.bulk {
            Bulk::Loading | Bulk::Measuring { .. } => {}
            Bulk::Filing { .. } | Bulk::Done => self.file(node),
        }
        upserted
    }

    /// Applies a record that removes `id`, such as a tombstone at the offset `before_offset`: removes the schedule if
    /// its own record came before, and returns the state it was in.
    pub fn remove(&mut self, id: &[u8], before_offset: i64) -> Option<EntryState> {
        let hash = self.index.hash(id);
        let node = self.find(hash, id)?;
        if self.nodes[node].payload.offset() >= before_offset {
            return None;
        }
        let previous = self.nodes[node].state();
        self.detach(node);
        self.index.remove(hash, node);
        let removed = self.nodes.remove(node);
        self.count_out(&removed.payload);
        if self.bulk == Bulk::Done {
            // Not before: the tables that the load expects to fill would go.
            self.index.contract(|other| self.nodes[other].hash);
        }
        Some(previous)
    }

    /// The version of `id` that the set holds.
    #[must_use]
    pub fn get(&self, id: &[u8]) -> Option<(Handle, View<'_>)> {
        let node = self.find(self.index.hash(id), id)?;
        Some((self.handle_of(node), self.view_of(&self.nodes[node])))
    }

    /// The version that `handle` names, or `None` if the set holds it no more.
    #[must_use]
    pub fn view(&self, handle: Handle) -> Option<View<'_>> {
        self.current(handle).map(|node| self.view_of(&self.nodes[node]))
    }

    /// Whether the set still holds the version that `handle` names.
    #[must_use]
    pub fn is_current(&self, handle: Handle) -> bool {
        self.current(handle).is_some()
    }

    /// Time will not start later than `now_ms`, even if nothing is due before; to be said before bulk mode ends. A wheel
    /// that starts in the future has no place for what is due sooner, which is then kept sorted instead.
    pub fn start_time_by(&mut self, now_ms: i64) {
        self.latest_start_ms = now_ms;
    }

    /// Ends bulk mode, a piece at a time: files up to about `budget` schedules and returns true when all are filed.
    ///
    /// Time starts at the earliest due time, so that what is overdue comes out in due order, too. Between the calls,
    /// records go on being applied.
    pub fn finish_bulk(&mut self, budget: usize) -> bool {
        if self.bulk == Bulk::Loading {
            self.bulk = Bulk::Measuring { cursor: 0, earliest_ms: i64::MAX };
        }
        if let Bulk::Measuring { cursor, earliest_ms } = self.bulk {
            self.bulk = self.measure(cursor, earliest_ms, budget);
        }
        if let Bulk::Filing { cursor } = self.bulk {
            self.bulk = self.file_from(cursor, budget);
        }
        self.bulk == Bulk::Done
    }

    /// The earliest time, epoch milliseconds, at which [`advance`](Self::advance) or [`take_due`](Self::take_due) may
    /// have something to do: never too late, possibly too early, in the past where something is ready. `None` while
    /// nothing will ever be due by itself, as in bulk mode.
    #[must_use]
    pub fn next_wake(&self) -> Option<i64> {
        if self.bulk != Bulk::Done {
            return None;
        }
        let retry_at_ms = self.aside.first().map(|&(retry_at_ms, _)| retry_at_ms);
        [self.oldest_due(), self.wheel.next_wake_ms(), retry_at_ms].into_iter().flatten().min()
    }

    /// Makes ready what is due, or to be tried again, by `now_ms`; moves up to `budget` schedules.
    ///
    /// Returns true when nothing that is due by `now_ms` is left behind, false when the budget ended first: then call
    /// again, now or later. A time before one that was given earlier takes nothing back. In bulk mode nothing is ever
    /// due.
    pub fn advance(&mut self, now_ms: i64, budget: usize) -> bool {
        if self.bulk != Bulk::Done {
            return true;
        }
        let mut left = budget;
        while let Some(&(retry_at_ms, node)) = self.aside.first()
            && retry_at_ms <= now_ms
        {
            if left == 0 {
                return false;
            }
            left -= 1;
            self.aside.pop_first();
            self.file(node);
        }
        let Self { nodes, wheel, ready, .. } = self;
        wheel.advance(nodes, now_ms, &mut left, |nodes, node| ready.push(nodes, node))
    }

    /// Hands out ready schedules in due order, appending them to `out`; they are in flight from then on.
    ///
    /// Whatever [`advance`](Self::advance) was told, nothing is handed out before its due time by `now_ms`. Stops
    /// before the schedule that would exceed a limit, but if anything is due then at least one is handed out,
    /// however large.
    pub fn take_due(&mut self, now_ms: i64, limits: BatchLimits, out: &mut Vec<Handle>) {
        if self.bulk != Bulk::Done {
            return;
        }
        let (mut count, mut bytes) = (0, 0);
        while let Some(node) = self.ready.front(&self.nodes)
            && self.nodes[node].due_ms <= now_ms
        {
            count += 1;
            bytes += self.nodes[node].payload.len();
            if count > 1 && (count > limits.max_count || bytes > limits.max_bytes) {
                break;
            }
            self.ready.remove(&mut self.nodes, node);
            self.nodes[node].place = Place::InFlight;
            self.in_flight += 1;
            out.push(self.handle_of(node));
        }
    }

    /// Takes back a schedule whose batch was aborted: it is ready again, in due order. Nothing happens if `handle` is
    /// stale or not in flight.
    ///
    /// Cheapest for a batch in the reverse of the order it was handed out in.
    pub fn settle_back(&mut self, handle: Handle) {
        if let Some(node) = self.current(handle)
            && self.nodes[node].place == Place::InFlight
        {
            self.detach(node);
            self.ready.push_back_in_front(&mut self.nodes, node);
        }
    }

    /// Sets a schedule aside until `retry_at_ms`; then it is as it was before it was handed out. Nothing happens if
    /// `handle` is stale or [held](Self::hold).
    pub fn set_aside(&mut self, handle: Handle, retry_at_ms: i64) {
        if let Some(node) = self.current(handle)
            && self.nodes[node].place != Place::Held
        {
            self.detach(node);
            self.nodes[node].put_aside(retry_at_ms);
            self.aside.insert((retry_at_ms, node));
        }
    }

    /// Sets a schedule aside until a newer record for its ID arrives. Nothing happens if `handle` is stale.
    pub fn hold(&mut self, handle: Handle) {
        if let Some(node) = self.current(handle) {
            self.detach(node);
            self.nodes[node].place = Place::Held;
            self.held += 1;
        }
    }

    /// Schedules in the set, in any state.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether the set holds no schedule.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Schedules that are handed out.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Schedules that are set aside or held.
    #[must_use]
    pub fn set_aside_len(&self) -> usize {
        self.aside.len() + self.held
    }

    /// Schedules that are ready to be handed out.
    #[must_use]
    pub fn ready_len(&self) -> usize {
        self.ready.len()
    }

    /// The due time, epoch milliseconds, of what has been ready for longest; `None` when nothing is ready.
    #[must_use]
    pub fn oldest_due(&self) -> Option<i64> {
        self.ready.front(&self.nodes).map(|node| self.nodes[node].due_ms)
    }

    /// Bytes of the packed payloads, without what the allocator adds.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.payload_bytes
    }

    /// Bytes of what producers put in: IDs, topics, keys, values and headers, each schedule's counted in full.
    #[must_use]
    pub fn content_bytes(&self) -> usize {
        self.content_bytes
    }

    /// Bytes of everything but the payloads: nodes, index, wheel, names of topics. O(number of tables of the index).
    #[must_use]
    pub fn structure_bytes(&self) -> usize {
        size_of::<Self>()
            + self.nodes.allocated_bytes()
            + self.index.allocated_bytes()
            + self.topics.allocated_bytes()
            + self.ready.allocated_bytes()
            + self.aside.len() * size_of::<(i64, u32)>()
    }

    /// For each of `horizons_ms`, about how many schedules are due within that time from `now_ms` on, overdue ones
    /// included, those in flight or set aside not; written to the same place of `out`.
    ///
    /// Whole slots of the wheel are counted by their start: a count is never too low, and too high by the rest of the
    /// slot its horizon falls into, some seconds for a horizon of minutes and some days for one of months. So is a slot
    /// that [`advance`](Self::advance) has left half done, and what is ready after the clock was set back. Zero in
    /// bulk mode.
    pub fn due_within(&self, now_ms: i64, horizons_ms: &[i64], out: &mut [u64]) {
        for (&horizon_ms, count) in horizons_ms.iter().zip(out) {
            let waiting = self.wheel.count_until(now_ms.saturating_add(horizon_ms));
            *count = if self.bulk == Bulk::Done { (self.ready.len() + waiting) as u64 } else { 0 };
        }
    }

    /// Gives up to `budget` schedules, in no order, to `f`, and returns where to go on, `None` at the end. Places that
    /// are empty count towards the budget.
    ///
    /// What stays in the set during the walk is given exactly once, though not always in the same version.
    pub fn list(&self, cursor: ListCursor, budget: usize, f: &mut dyn FnMut(View<'_>)) -> Option<ListCursor> {
        let (mut cursor, mut left) = (cursor.0, budget);
        loop {
            match self.nodes.next_from(cursor, &mut left) {
                Step::Node(node) => {
                    f(self.view_of(&self.nodes[node]));
                    cursor = node + 1;
                }
                Step::Paused(at) => return Some(ListCursor(at)),
                Step::End => return None,
            }
        }
    }

    /// Panics where the parts contradict themselves or each other. Looks at everything: for tests.
    pub fn check_invariants(&self) {
        self.nodes.check_invariants();
        self.wheel.check_invariants(&self.nodes);
        self.ready.check_invariants(&self.nodes);
        self.index.check_invariants(|node| self.nodes[node].hash);
        let mut found = Census::default();
        let (mut cursor, mut left) = (0, usize::MAX);
        while let Step::Node(node) = self.nodes.next_from(cursor, &mut left) {
            self.check_node(node, &mut found);
            cursor = node + 1;
        }
        assert_eq!(found.nodes, self.nodes.len(), "nodes");
        assert_eq!(found.nodes, self.index.len(), "nodes in the index");
        assert_eq!(found.waiting, self.wheel.len(), "nodes in the wheel");
        assert_eq!(found.ready, self.ready.len(), "ready nodes");
        assert_eq!(found.in_flight, self.in_flight, "nodes in flight");
        assert_eq!(found.aside, self.aside.len(), "nodes set aside");
        assert_eq!(found.held, self.held, "nodes held");
        assert_eq!(found.payload_bytes, self.payload_bytes, "bytes of payloads");
        assert_eq!(found.content_bytes, self.content_bytes, "bytes of content");
        self.topics.check_invariants(&found.topics);
    }

    fn check_node(&self, name: u32, found: &mut Census) {
        let node = &self.nodes[name];
        let parts = node.payload.parts();
        assert_eq!(node.hash, self.index.hash(parts.id), "the hash of node {name}");
        assert_eq!(self.find(node.hash, parts.id), Some(name), "node {name} is not found by its ID");
        found.nodes += 1;
        found.payload_bytes += node.payload.len();
        found.content_bytes += parts.content_bytes() + self.topics.name(parts.topic).len();
        *found.topics.entry(parts.topic).or_default() += 1;
        match node.place {
            Place::Unfiled => assert_ne!(self.bulk, Bulk::Done, "node {name} is in no place"),
            Place::Slot(_) => found.waiting += 1,
            Place::Line | Place::OutOfLine => {
                assert!(node.due_ms <= self.wheel.now_ms(), "node {name} is ready too early");
                found.ready += 1;
            }
            Place::InFlight => found.in_flight += 1,
            Place::Aside => {
                assert!(self.aside.contains(&(node.retry_at_ms(), name)), "node {name} has no retry time");
                found.aside += 1;
            }
            Place::Held => found.held += 1,
        }
    }

    fn find(&self, hash: u32, id: &[u8]) -> Option<u32> {
        self.index.find(hash, |node| self.nodes[node].hash == hash && self.nodes[node].payload.id() == id)
    }

    fn current(&self, handle: Handle) -> Option<u32> {
        let node = self.nodes.get(handle.node)?;
        (node.payload.offset() == handle.offset).then_some(handle.node)
    }

    fn handle_of(&self, node: u32) -> Handle {
        Handle { node, offset: self.nodes[node].payload.offset() }
    }

    fn view_of<'a>(&'a self, node: &'a Node) -> View<'a> {
        let parts = node.payload.parts();
        View {
            id: parts.id,
            offset: parts.offset,
            format: parts.format,
            state: node.state(),
            schedule: Schedule {
                due: DueTime::from_epoch_ms(node.due_ms),
                topic: self.topics.name(parts.topic),
                key: parts.key,
                value: parts.value,
                headers: parts.headers,
            },
            record_headers: parts.record_headers,
        }
    }

    /// Puts `node`, which is nowhere, where its due time belongs.
    fn file(&mut self, node: u32) {
        if self.wheel.file(&mut self.nodes, node) == Filed::Expired {
            self.ready.push(&mut self.nodes, node);
        }
    }

    /// Takes `node` out of the place it is in.
    fn detach(&mut self, node: u32) {
        match self.nodes[node].place {
            Place::Unfiled => {}
            Place::Slot(_) => self.wheel.remove(&mut self.nodes, node),
            Place::Line | Place::OutOfLine => self.ready.remove(&mut self.nodes, node),
            Place::InFlight => self.in_flight -= 1,
            Place::Aside => {
                let was_there = self.aside.remove(&(self.nodes[node].retry_at_ms(), node));
                debug_assert!(was_there, "node {node} has no retry time");
            }
            Place::Held => self.held -= 1,
        }
        self.nodes[node].place = Place::Unfiled;
    }

    fn measure(&mut self, mut cursor: u32, mut earliest_ms: i64, budget: usize) -> Bulk {
        let mut left = budget;
        loop {
            match self.nodes.next_from(cursor, &mut left) {
                Step::Node(node) => {
                    earliest_ms = earliest_ms.min(self.nodes[node].due_ms);
                    cursor = node + 1;
                }
                Step::Paused(cursor) => return Bulk::Measuring { cursor, earliest_ms },
                Step::End => break,
            }
        }
        self.wheel =
            Wheel::new(if self.nodes.len() == 0 { 0 } else { earliest_ms.min(self.latest_start_ms) });
        Bulk::Filing { cursor: 0 }
    }

    fn file_from(&mut self, mut cursor: u32, budget: usize) -> Bulk {
        let mut left = budget;
        loop {
            match self.nodes.next_from(cursor, &mut left) {
                Step::Node(node) => {
                    if self.nodes[node].place == Place::Unfiled {
                        self.file(node);
                    }
                    cursor = node + 1;
                }
                Step::Paused(cursor) => return Bulk::Filing { cursor },
                Step::End => return Bulk::Done,
            }
        }
    }

    fn count_in(&mut self, payload: &Payload) {
        let parts = payload.parts();
        self.payload_bytes += payload.len();
        self.content_bytes += parts.content_bytes() + self.topics.name(parts.topic).len();
    }

    fn count_out(&mut self, payload: &Payload) {
        let parts = payload.parts();
        self.payload_bytes -= payload.len();
        self.content_bytes -= parts.content_bytes() + self.topics.name(parts.topic).len();
        self.topics.release(parts.topic);
    }
}

impl Node {
    fn state(&self) -> EntryState {
        match self.place {
            Place::Unfiled | Place::Slot(_) | Place::Line | Place::OutOfLine => EntryState::Pending,
            Place::InFlight => EntryState::InFlight,
            Place::Aside | Place::Held => EntryState::SetAside,
        }
    }
}

/// What [`PendingSet::check_invariants`] counts, to compare with what the set believes.
#[derive(Default)]
struct Census {
    nodes: usize,
    waiting: usize,
    ready: usize,
    in_flight: usize,
    aside: usize,
    held: usize,
    payload_bytes: usize,
    content_bytes: usize,
    topics: BTreeMap<TopicId, usize>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    const ALL: BatchLimits = BatchLimits { max_count: usize::MAX, max_bytes: usize::MAX };

    fn set(id: &[u8], offset: i64, due_ms: i64, set: &mut PendingSet) -> Handle {
        let due = DueTime::from_epoch_ms(due_ms);
        let schedule =
            Schedule { due, topic: "to", key: b"k", value: Some(b"v"), headers: Headers::default() };
        set.upsert(id, offset, Format::Avro, &schedule, Headers::default());
        set.get(id).expect("just applied").0
    }

    fn live() -> PendingSet {
        let mut live = PendingSet::new(1);
        assert!(live.finish_bulk(1));
        live
    }

    fn due(pending: &mut PendingSet, now_ms: i64, limits: BatchLimits) -> Vec<Handle> {
        let mut batch = Vec::new();
        assert!(pending.advance(now_ms, 1_000));
        pending.take_due(now_ms, limits, &mut batch);
        pending.check_invariants();
        batch
    }

    #[test]
    #[cfg_attr(miri, ignore = "too many IDs")]
    fn ids_with_the_same_hash_stay_apart() {
        let mut pending = live();
        let mut seen = BTreeMap::new();
        let same = (0u32..).find_map(|n| {
            let id = n.to_le_bytes();
            seen.insert(pending.index.hash(&id), id).map(|other| [other, id])
        });
        let [a, b] = same.expect("32 bits are few");
        let [first, second] = [set(&a, 1, 10, &mut pending), set(&b, 2, 20, &mut pending)];
        pending.check_invariants();
        assert_eq!(pending.get(&a).unwrap().0, first);
        assert_eq!(pending.remove(&b, 3), Some(EntryState::Pending));
        assert!(pending.is_current(first) && !pending.is_current(second));
        pending.check_invariants();
    }

    #[test]
    fn a_handle_is_stale_after_a_replace_and_names_no_other_after_a_removal() {
        let mut pending = live();
        let first = set(b"a", 1, 10, &mut pending);
        let second = set(b"a", 2, 10, &mut pending);
        assert!(!pending.is_current(first) && pending.is_current(second));
        pending.remove(b"a", 3);
        let third = set(b"b", 4, 10, &mut pending);
        assert_eq!(third.node, second.node, "or the test is none");
        pending.settle_back(second);
        pending.set_aside(second, 5);
        pending.hold(second);
        assert_eq!(pending.view(second), None);
        assert_eq!(pending.view(third).unwrap().state, EntryState::Pending);
    }

    #[test]
    fn a_replace_takes_a_schedule_out_of_its_batch() {
        let mut pending = live();
        set(b"a", 1, 10, &mut pending);
        let batch = due(&mut pending, 10, ALL);
        set(b"a", 2, 30, &mut pending);
        pending.settle_back(batch[0]);
        assert_eq!((pending.in_flight(), pending.ready_len()), (0, 0));
        assert_eq!(due(&mut pending, 29, ALL), []);
        assert_eq!(due(&mut pending, 30, ALL).len(), 1);
    }

    #[test]
    fn an_aborted_batch_comes_again_in_due_order_before_what_is_due_later() {
        let mut pending = live();
        for (offset, due_ms) in [30, 10, 20, 40].into_iter().enumerate() {
            set(&[offset as u8], offset as i64, due_ms, &mut pending);
        }
        let batch = due(&mut pending, 50, BatchLimits { max_count: 3, ..ALL });
        for &handle in &batch {
            pending.settle_back(handle);
        }
        let again = due(&mut pending, 50, ALL);
        assert_eq!(again[..3], batch);
        assert_eq!(again.len(), 4);
    }

    #[test]
    fn a_schedule_set_aside_comes_at_its_retry_time_but_never_before_it_is_due() {
        let mut pending = live();
        let [late, early] = [set(b"a", 1, 10, &mut pending), set(b"b", 2, 500, &mut pending)];
        due(&mut pending, 20, ALL);
        pending.set_aside(late, 100);
        pending.set_aside(early, 200);
        assert_eq!((pending.set_aside_len(), pending.next_wake()), (2, Some(100)));
        assert_eq!(due(&mut pending, 99, ALL), []);
        assert_eq!(due(&mut pending, 100, ALL), [late]);
        assert_eq!(due(&mut pending, 499, ALL), []);
        assert_eq!(due(&mut pending, 500, ALL), [early]);
    }

    #[test]
    fn a_schedule_held_waits_for_a_newer_record() {
        let mut pending = live();
        let held = set(b"a", 1, 10, &mut pending);
        pending.hold(held);
        pending.set_aside(held, 20);
        pending.settle_back(held);
        assert_eq!((due(&mut pending, i64::MAX, ALL), pending.next_wake()), (vec![], None));
        let newer = set(b"a", 2, 10, &mut pending);
        assert_eq!(due(&mut pending, 10, ALL), [newer]);
    }

    #[test]
    fn what_is_ready_waits_when_the_clock_is_set_back() {
        let mut pending = live();
        set(b"a", 1, 1_000, &mut pending);
        assert!(pending.advance(2_000, 10));
        set(b"b", 2, 500, &mut pending);
        assert_eq!(due(&mut pending, 499, ALL), []);
        assert_eq!(pending.next_wake(), Some(500));
        assert_eq!(due(&mut pending, 999, ALL).len(), 1);
        assert_eq!(pending.next_wake(), Some(1_000));
        assert_eq!(due(&mut pending, 1_000, ALL).len(), 1);
    }

    #[test]
    fn a_bulk_load_is_finished_in_pieces_and_gives_what_is_overdue_in_order() {
        let mut pending = PendingSet::with_expected(1, 100);
        for offset in 0..100 {
            set(&[offset as u8], offset, 1_000_000 + offset * 37 % 100, &mut pending);
        }
        assert_eq!(due(&mut pending, i64::MAX, ALL), []);
        let mut calls = 1;
        while !pending.finish_bulk(10) {
            pending.check_invariants();
            if calls == 5 {
                set(b"early", 100, -5, &mut pending);
            }
            calls += 1;
        }
        assert!(calls > 10, "{calls} calls");
        let batch = due(&mut pending, 2_000_000, ALL);
        let dues_ms: Vec<_> = batch.iter().map(|&h| pending.view(h).unwrap().schedule.due).collect();
        assert!(dues_ms.is_sorted() && dues_ms.len() == 101);
        assert!(pending.ready.len() == 0 && pending.next_wake().is_none());
    }

    #[test]
    fn limits_hold_but_never_stop_a_single_schedule() {
        let mut pending = live();
        for offset in 0..5 {
            set(&[offset as u8], offset, 10, &mut pending);
        }
        let one = pending.payload_bytes() / 5;
        let count = |pending: &mut PendingSet, max_count, max_bytes| {
            let batch = due(pending, 10, BatchLimits { max_count, max_bytes });
            batch.iter().rev().for_each(|&handle| pending.settle_back(handle));
            batch.len()
        };
        assert_eq!(count(&mut pending, 2, usize::MAX), 2);
        assert_eq!(count(&mut pending, 5, 3 * one), 3);
        assert_eq!(count(&mut pending, 5, 3 * one - 1), 2);
        assert_eq!(count(&mut pending, 0, 0), 1);
    }

    #[test]
    fn counts_within_a_horizon_are_whole_slots() {
        let mut pending = live();
        pending.advance(1_000_000, 0);
        for (offset, due_ms) in [999_000, 1_000_000, 1_000_010, 1_060_000, 90_000_000].into_iter().enumerate()
        {
            set(&[offset as u8], offset as i64, due_ms, &mut pending);
        }
        let mut counts = [0; 4];
        pending.due_within(1_000_000, &[0, 10, 60_000, 80_000_000], &mut counts);
        assert_eq!(counts, [2, 3, 4, 4]);
        pending.due_within(1_000_000, &[0, 86_400_000], &mut counts[..2]);
        assert_eq!(counts[..2], [2, 5], "the last one's slot of 4.7 h has begun by then");
    }
}
