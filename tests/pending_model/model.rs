//! A model of the pending set that is too simple to be wrong, a map by ID and loops over all of it, and the steps that
//! are done to both.
//!
//! Used by `tests/pending_model.rs` with random steps, and by the fuzz target `pending_ops`.

use std::collections::{BTreeMap, BTreeSet};

use kafka_message_scheduler::engine::{
    BatchLimits, EntryState, Handle, ListCursor, PendingSet, Upserted, View,
};
use kafka_message_scheduler::schedule::{DueTime, Format, Headers, HeadersBuf, Schedule};

const NO_LIMITS: BatchLimits = BatchLimits { max_count: usize::MAX, max_bytes: usize::MAX };

/// What the model knows of a schedule.
#[derive(Clone, Debug)]
struct Entry {
    offset: i64,
    due_ms: i64,
    format: Format,
    topic: String,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    headers: HeadersBuf,
    record_headers: HeadersBuf,
    state: State,
    packed_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Pending,
    InFlight,
    Aside { retry_at_ms: i64 },
    Held,
}

impl Entry {
    fn schedule(&self) -> Schedule<'_> {
        Schedule {
            due: DueTime::from_epoch_ms(self.due_ms),
            topic: &self.topic,
            key: &self.key,
            value: self.value.as_deref(),
            headers: self.headers.as_headers(),
        }
    }

    fn seen_state(&self) -> EntryState {
        match self.state {
            State::Pending => EntryState::Pending,
            State::InFlight => EntryState::InFlight,
            State::Aside { .. } | State::Held => EntryState::SetAside,
        }
    }

    fn content_bytes(&self, id: &[u8]) -> usize {
        let headers = self.headers.as_headers().as_packed().len();
        let record_headers = self.record_headers.as_headers().as_packed().len();
        let value = self.value.as_ref().map_or(0, Vec::len);
        id.len() + self.topic.len() + self.key.len() + value + headers + record_headers
    }

    fn is_due(&self, now_ms: i64) -> bool {
        self.state == State::Pending && self.due_ms <= now_ms
    }
}

/// One step: what to do, and two numbers to do it with. As plain numbers a failing run shrinks well.
pub(crate) type Step = (u8, u64, u64);

type Action = fn(&mut Run, u64, u64);

/// What a step may be, each with its share: how many of the values of the first number mean it.
const STEPS: &[(u8, Action)] = &[
    (6, |run, a, b| run.upsert(id_of(a), a, b)),
    (1, Run::upsert_stale),
    (2, Run::remove),
    (3, Run::move_clock),
    (3, |run, a, _| _ = run.advance([0, 1, 3, 100][a as usize % 4])),
    (3, |run, a, b| {
        let max_count = [0, 1, 2, 5, usize::MAX][a as usize % 5];
        let max_bytes = [0, 30, 100, usize::MAX][b as usize % 4];
        run.take_due(BatchLimits { max_count, max_bytes });
    }),
    (1, Run::drain),
    (1, |run, a, _| run.release(a)),
    (1, Run::set_aside),
    (1, |run, a, _| run.set_clock([-3_600_000, -50, 50, 3_600_000][a as usize % 4])),
    (1, Run::hold),
    (1, |run, _, b| run.finish_bulk([0, 1, 3, 1_000][b as usize % 4])),
    (1, |run, _, b| run.walk_on(Some(b as usize % 7).filter(|&budget| budget < 6))),
    (2, |run, _, b| run.tidy([0, 1, 10, 5_000][b as usize % 4])),
    (1, |run, a, _| run.settle_one(a)),
];

/// A walk over the set that other steps interrupt.
struct Walk {
    cursor: ListCursor,
    seen: BTreeMap<Vec<u8>, usize>,
    there_throughout: BTreeSet<Vec<u8>>,
}

/// The set and its model, side by side.
pub(crate) struct Run {
    set: PendingSet,
    entries: BTreeMap<Vec<u8>, Entry>,
    now_ms: i64,
    /// The latest time by which nothing was left behind.
    reached_ms: Option<i64>,
    is_loaded: bool,
    last_offset: i64,
    /// Handles of versions past and present, with their IDs.
    handles: Vec<(Handle, Vec<u8>)>,
    walk: Option<Walk>,
}

impl Run {
    fn new(start_ms: i64) -> Self {
        Self {
            set: PendingSet::new(0x5eed),
            entries: BTreeMap::new(),
            now_ms: start_ms,
            reached_ms: None,
            is_loaded: false,
            last_offset: -1,
            handles: Vec::new(),
            walk: None,
        }
    }

    /// Does the steps, then empties the set; looks at everything after each `check_every` of them and at the end.
    ///
    /// Panics where set and model differ.
    pub(crate) fn all(steps: impl IntoIterator<Item = Step>, check_every: usize) {
        let mut run: Option<Self> = None;
        for ((what, a, b), number) in steps.into_iter().zip(1usize..) {
            let run = run.get_or_insert_with(|| Self::new([0, 1_000_003, -70][a as usize % 3]));
            run.step(what, a, b);
            if number.is_multiple_of(check_every) {
                run.check();
            }
        }
        if let Some(mut run) = run {
            run.check();
            run.end();
        }
    }

    fn step(&mut self, what: u8, a: u64, b: u64) {
        let mut nth = what % STEPS.iter().map(|(share, _)| share).sum::<u8>();
        for (share, action) in STEPS {
            if nth < *share {
                return action(self, a, b);
            }
            nth -= share;
        }
    }

    fn upsert(&mut self, id: Vec<u8>, a: u64, b: u64) {
        self.last_offset += 1 + (a >> 40) as i64 % 3;
        let offset = self.last_offset;
        let mut entry = Entry {
            offset,
            due_ms: time_around(self.now_ms, a >> 8, b),
            format: if b.is_multiple_of(2) { Format::Avro } else { Format::Json },
            topic: format!("topic-{}", b % 5),
            key: vec![1; b as usize / 2 % 9],
            value: (!b.is_multiple_of(7)).then(|| vec![2; b as usize / 7 % 200]),
            headers: (0..b / 3 % 3).map(|i| (format!("h{i}"), [i as u8])).collect(),
            record_headers: (0..b / 5 % 2).map(|i| (format!("r{i}"), [3])).collect(),
            state: State::Pending,
            packed_bytes: 0,
        };
        let (bytes_before, old) = (self.set.payload_bytes(), self.entries.get(&id));
        let expected =
            old.map_or(Upserted::Inserted, |old| Upserted::Replaced { previous: old.seen_state() });
        let old_bytes = old.map_or(0, |old| old.packed_bytes);
        let record_headers = entry.record_headers.as_headers();
        let upserted = self.set.upsert(&id, offset, entry.format, &entry.schedule(), record_headers);
        assert_eq!(upserted, expected);
        entry.packed_bytes = self.set.payload_bytes() + old_bytes - bytes_before;
        self.entries.insert(id.clone(), entry);
        let (handle, _) = self.set.get(&id).expect("just applied");
        assert_eq!(handle.offset(), offset);
        self.handles.push((handle, id));
        if self.handles.len() > 100 {
            self.handles.remove(a as usize % 50);
        }
    }

    /// Reading back a record that the set knows, or an older one.
    fn upsert_stale(&mut self, a: u64, b: u64) {
        if let Some((id, entry)) = nth(&self.entries, a) {
            let schedule = Schedule {
                due: DueTime::from_epoch_ms(b as i64),
                topic: "stale",
                key: b"",
                value: None,
                headers: Headers::default(),
            };
            let offset = entry.offset - (b % 3) as i64;
            let upserted = self.set.upsert(id, offset, Format::Json, &schedule, Headers::default());
            assert_eq!(upserted, Upserted::Stale);
        }
    }

    fn remove(&mut self, a: u64, b: u64) {
        let id = id_of(a);
        let held = self.entries.get(&id).map(|entry| entry.offset);
        let is_too_early = b.is_multiple_of(4);
        let before_offset = held.filter(|_| is_too_early).unwrap_or_else(|| {
            self.last_offset += 1;
            self.last_offset
        });
        let removed = self.set.remove(&id, before_offset);
        if held.is_some_and(|offset| offset < before_offset) {
            let entry = self.entries.remove(&id).expect("held");
            assert_eq!(removed, Some(entry.seen_state()));
            if let Some(walk) = &mut self.walk {
                walk.there_throughout.remove(&id);
            }
        } else {
            assert_eq!(removed, None);
        }
    }

    fn move_clock(&mut self, a: u64, b: u64) {
        let due_ms = nth(&self.entries, b).map_or(self.now_ms, |(_, entry)| entry.due_ms);
        self.now_ms = match a % 12 {
            0..=2 => self.now_ms.saturating_add(b as i64 & 7),
            3 | 4 => self.now_ms.saturating_add(b as i64 & 0xfff),
            5 => due_ms,
            6 => due_ms.saturating_sub(1),
            7 => self.set.next_wake().unwrap_or(self.now_ms),
            8 => self.now_ms.saturating_sub(b as i64 & 0xff),
            9 => self.now_ms.saturating_sub(b as i64 & 0xff_ffff),
            10 => self.now_ms.saturating_add(1 << (b % 40)),
            _ if b.is_multiple_of(8) => i64::MAX - (b as i64 & 0xff),
            _ => self.now_ms,
        };
    }

    fn advance(&mut self, budget: usize) -> bool {
        let all = self.set.advance(self.now_ms, budget);
        if !self.is_loaded {
            assert!(all, "there is nothing to advance in bulk mode");
            return true;
        }
        if all {
            self.reached_ms = self.reached_ms.max(Some(self.now_ms));
        }
        for (id, entry) in &mut self.entries {
            if let State::Aside { retry_at_ms } = entry.state
                && retry_at_ms <= self.now_ms
            {
                let (_, view) = self.set.get(id).expect("in the set");
                let is_back = view.state == EntryState::Pending;
                assert!(is_back || !all, "the retry time passed");
                if is_back {
                    entry.state = State::Pending;
                }
            }
        }
        all
    }

    fn take_due(&mut self, limits: BatchLimits) -> usize {
        let mut batch = Vec::new();
        self.set.take_due(self.now_ms, limits, &mut batch);
        assert!(self.is_loaded || batch.is_empty(), "nothing is due in bulk mode");
        let (mut bytes, mut last_ms) = (0, i64::MIN);
        for &handle in &batch {
            let id = self.set.view(handle).expect("just taken").id.to_vec();
            let entry = self.entries.get_mut(&id).expect("in the model");
            assert_eq!(entry.offset, handle.offset());
            assert_eq!(entry.state, State::Pending, "handed out twice or while set aside");
            assert!(entry.due_ms <= self.now_ms, "due at {}, handed out at {}", entry.due_ms, self.now_ms);
            assert!(entry.due_ms >= last_ms, "out of order");
            last_ms = entry.due_ms;
            bytes += entry.packed_bytes;
            entry.state = State::InFlight;
            self.handles.push((handle, id));
        }
        assert!(batch.len() <= limits.max_count.max(1), "more than asked for");
        assert!(bytes <= limits.max_bytes || batch.len() == 1, "larger than asked for");
        if let Some(reached_ms) = self.reached_ms {
            let is_left = |entry: &&Entry| entry.is_due(self.now_ms.min(reached_ms));
            let left = self.entries.values().filter(is_left).map(|entry| (entry.due_ms, entry.packed_bytes));
            if let Some((first_ms, _)) = left.clone().min() {
                assert!(first_ms >= last_ms, "left behind");
                let next_bytes = left.filter(|&(due_ms, _)| due_ms == first_ms).map(|(_, bytes)| bytes).max();
                let is_full = batch.len() >= limits.max_count
                    || next_bytes.is_some_and(|next| bytes + next > limits.max_bytes);
                assert!(is_full && !batch.is_empty(), "the batch has room for what is due");
            }
        }
        batch.len()
    }

    /// Everything that is due comes out, in order, however small the pieces.
    fn drain(&mut self, a: u64, b: u64) {
        if !self.is_loaded {
            return;
        }
        let budget = 1 + a as usize % 9;
        let mut calls = 0;
        while !self.advance(budget) {
            calls += 1;
            assert!(calls < 10_000, "advance does not come to an end");
        }
        let due = self.entries.values().filter(|entry| entry.is_due(self.now_ms)).count();
        assert!(due <= self.set.ready_len(), "what is due is not ready");
        let limits = BatchLimits { max_count: 1 + b as usize % 4, max_bytes: usize::MAX };
        let mut taken = 0;
        loop {
            let count = self.take_due(limits);
            taken += count;
            if count == 0 {
                break;
            }
        }
        assert_eq!(taken, due);
        assert!(!self.entries.values().any(|entry| entry.is_due(self.now_ms)));
        self.settle(a);
    }

    /// The outcome of what is in flight: committed, aborted, or still unknown.
    fn settle(&mut self, mut luck: u64) {
        for (handle, id) in std::mem::take(&mut self.handles) {
            luck = luck.rotate_right(3);
            if !self.is_in_flight(handle, &id) || luck % 4 == 3 {
                self.handles.push((handle, id));
            } else if luck.is_multiple_of(4) {
                self.set.release(handle);
                self.entries.get_mut(&id).expect("in flight").state = State::Pending;
                self.handles.push((handle, id));
            } else {
                self.last_offset += 1;
                assert_eq!(self.set.remove(&id, self.last_offset), Some(EntryState::InFlight));
                self.entries.remove(&id);
                if let Some(walk) = &mut self.walk {
                    walk.there_throughout.remove(&id);
                }
            }
        }
    }

    /// A version was delivered: it leaves, whatever its state, unless it has been replaced or has left before.
    fn settle_one(&mut self, a: u64) {
        if let Some((handle, id)) = pick(&self.handles, a) {
            let is_current = self.current(handle, &id).is_some();
            assert_eq!(self.set.settle(handle), is_current);
            if is_current {
                self.entries.remove(&id);
                if let Some(walk) = &mut self.walk {
                    walk.there_throughout.remove(&id);
                }
            }
        }
    }

    fn release(&mut self, a: u64) {
        if let Some((handle, id)) = pick(&self.handles, a) {
            self.set.release(handle);
            if self.is_in_flight(handle, &id) {
                self.entries.get_mut(&id).expect("in flight").state = State::Pending;
            }
        }
    }

    fn set_aside(&mut self, a: u64, b: u64) {
        if let Some((handle, id)) = pick(&self.handles, a) {
            // Setting the clock moves it, which must not take it beyond what a number holds.
            let retry_at_ms = time_around(self.now_ms, a >> 8, b).clamp(i64::MIN / 2, i64::MAX / 2);
            self.set.set_aside(handle, retry_at_ms);
            if let Some(entry) = self.current(handle, &id)
                && entry.state != State::Held
            {
                entry.state = State::Aside { retry_at_ms };
            }
        }
    }

    /// The clock is set, and whoever set it says so.
    fn set_clock(&mut self, step_ms: i64) {
        self.now_ms = self.now_ms.saturating_add(step_ms);
        self.set.clock_was_set(step_ms);
        for entry in self.entries.values_mut() {
            if let State::Aside { retry_at_ms } = &mut entry.state {
                *retry_at_ms += step_ms;
            }
        }
    }

    fn hold(&mut self, a: u64, b: u64) {
        if let Some((handle, id)) = pick(&self.handles, a)
            && b.is_multiple_of(3)
        {
            self.set.hold(handle);
            if let Some(entry) = self.current(handle, &id) {
                entry.state = State::Held;
            }
        }
    }

    fn finish_bulk(&mut self, budget: usize) {
        let finished = self.set.finish_bulk(budget);
        assert!(finished || !self.is_loaded, "a load that was finished is not any more");
        assert!(finished || budget < 1_000, "everything fits the budget");
        self.is_loaded = finished;
    }

    /// Housekeeping changes nothing that anyone can see, and comes to an end.
    fn tidy(&mut self, budget: usize) {
        let done = self.set.tidy(self.now_ms, budget);
        assert!(done || self.is_loaded, "there is nothing to tidy in bulk mode");
        if done && self.is_loaded {
            let next_ms = self.set.next_tidy();
            let is_past = next_ms.is_some_and(|next_ms| next_ms <= self.now_ms);
            assert!(!is_past, "done, but {next_ms:?} is past at {}", self.now_ms);
        }
        let mut calls = 0;
        while budget > 1_000 && !self.set.tidy(self.now_ms, budget) {
            calls += 1;
            assert!(calls < 1_000, "tidy does not come to an end");
        }
    }

    /// Some schedules further, or a piece of a snapshot.
    fn walk_on(&mut self, budget: Option<usize>) {
        let walk = self.walk.get_or_insert_with(|| Walk {
            cursor: ListCursor::default(),
            seen: BTreeMap::new(),
            there_throughout: self.entries.keys().cloned().collect(),
        });
        let entries = &self.entries;
        let mut given = 0;
        let mut see = |view: View<'_>| {
            assert_same(&entries[view.id], &view);
            *walk.seen.entry(view.id.to_vec()).or_default() += 1;
            given += 1;
        };
        let cursor = match budget {
            Some(budget) => self.set.list(walk.cursor, budget, &mut |view| {
                let wants_more = view.offset % 3 != 0;
                see(view);
                wants_more
            }),
            None => self.set.snapshot(walk.cursor, &mut |view, is_held| {
                assert_eq!(is_held, entries[view.id].state == State::Held);
                see(view);
            }),
        };
        assert!(budget.is_none_or(|budget| given <= budget));
        if let Some(cursor) = cursor {
            walk.cursor = cursor;
        } else {
            for id in &walk.there_throughout {
                assert_eq!(walk.seen.get(id), Some(&1), "{id:?} was there throughout");
            }
            self.walk = None;
        }
    }

    fn current(&mut self, handle: Handle, id: &[u8]) -> Option<&mut Entry> {
        self.entries.get_mut(id).filter(|entry| entry.offset == handle.offset())
    }

    fn is_in_flight(&mut self, handle: Handle, id: &[u8]) -> bool {
        self.current(handle, id).is_some_and(|entry| entry.state == State::InFlight)
    }

    /// Everything that can be asked at any time.
    fn check(&mut self) {
        self.set.check_invariants();
        assert_eq!((self.set.len(), self.set.is_empty()), (self.entries.len(), self.entries.is_empty()));
        for (id, entry) in &self.entries {
            let (handle, view) = self.set.get(id).expect("in the model");
            assert_eq!(handle.offset(), entry.offset);
            assert_eq!(view.id, &id[..]);
            assert_same(entry, &view);
        }
        assert!(self.set.get(b"unknown").is_none());
        for (handle, id) in &self.handles {
            let is_current = self.entries.get(id).is_some_and(|entry| entry.offset == handle.offset());
            assert_eq!(self.set.is_current(*handle), is_current);
            assert_eq!(self.set.view(*handle).map(|view| view.id), is_current.then_some(&id[..]));
        }
        let in_state = |state| self.entries.values().filter(|entry| entry.seen_state() == state).count();
        assert_eq!(self.set.in_flight(), in_state(EntryState::InFlight));
        assert_eq!(self.set.set_aside_len(), in_state(EntryState::SetAside));
        assert!(self.set.ready_len() <= in_state(EntryState::Pending));
        let content_bytes: usize = self.entries.iter().map(|(id, entry)| entry.content_bytes(id)).sum();
        let packed_bytes: usize = self.entries.values().map(|entry| entry.packed_bytes).sum();
        assert_eq!(self.set.content_bytes(), content_bytes);
        assert_eq!(self.set.payload_bytes(), packed_bytes);
        self.check_times();
    }

    fn check_times(&self) {
        let pending = || self.entries.values().filter(|entry| entry.state == State::Pending);
        let mut counts = [0; 5];
        let horizons_ms = [0, 100, 60_000, 1 << 36, i64::MAX];
        self.set.due_within(self.now_ms, &horizons_ms, &mut counts);
        if !self.is_loaded {
            assert_eq!((self.set.next_wake(), counts), (None, [0; 5]));
            return;
        }
        let turn_ms = |entry: &Entry| match entry.state {
            State::Pending => Some(entry.due_ms),
            State::Aside { retry_at_ms } => Some(retry_at_ms),
            State::InFlight | State::Held => None,
        };
        let first_ms = self.entries.values().filter_map(turn_ms).min();
        let wake_ms = self.set.next_wake();
        assert_eq!(wake_ms.is_some(), first_ms.is_some());
        assert!(wake_ms <= first_ms, "waking at {wake_ms:?}, but {first_ms:?} is someone's turn");
        for (horizon_ms, count) in horizons_ms.into_iter().zip(counts) {
            let until_ms = self.now_ms.saturating_add(horizon_ms);
            let due = pending().filter(|entry| entry.due_ms <= until_ms).count();
            assert!(due <= count as usize, "{due} are due within {horizon_ms} ms, not {count}");
            assert!(count as usize <= pending().count(), "more than there are");
        }
        if let Some(reached_ms) = self.reached_ms {
            let oldest_ms = pending().map(|entry| entry.due_ms).min();
            if oldest_ms.is_some_and(|oldest_ms| oldest_ms <= reached_ms) {
                assert_eq!(self.set.oldest_due(), oldest_ms);
            }
        }
    }

    /// However a run went, the set can be brought to hand out everything, by following its own alarm, and to be empty.
    fn end(mut self) {
        while !self.is_loaded {
            self.finish_bulk(10);
        }
        for (handle, id) in std::mem::take(&mut self.handles) {
            self.set.release(handle);
            if self.is_in_flight(handle, &id) {
                self.entries.get_mut(&id).expect("in flight").state = State::Pending;
            }
        }
        // Versions whose handles were forgotten, or that are held: newer ones take their place.
        let stuck = self.entries.iter().filter(|(_, e)| matches!(e.state, State::InFlight | State::Held));
        for id in stuck.map(|(id, _)| id.clone()).collect::<Vec<_>>() {
            self.upsert(id, 7, 9);
        }
        self.now_ms = i64::MIN;
        let (mut alarms, most) = (0, 12 * (self.entries.len() + 1) + 600);
        while let Some(wake_ms) = self.set.next_wake() {
            assert!(wake_ms > self.now_ms || alarms == 0, "woken again for nothing");
            self.now_ms = wake_ms;
            assert!(self.advance(usize::MAX));
            self.take_due(NO_LIMITS);
            alarms += 1;
            assert!(alarms < most, "woken too often");
        }
        for (id, entry) in std::mem::take(&mut self.entries) {
            assert_eq!(entry.state, State::InFlight);
            assert_eq!(self.set.remove(&id, i64::MAX), Some(EntryState::InFlight));
        }
        self.check();
        assert_eq!(self.set.payload_bytes(), 0);
    }
}

fn assert_same(entry: &Entry, view: &View<'_>) {
    assert_eq!(view.offset, entry.offset);
    assert_eq!(view.format, entry.format);
    assert_eq!(view.state, entry.seen_state());
    assert_eq!(view.schedule, entry.schedule());
    assert_eq!(view.record_headers, entry.record_headers.as_headers());
}

fn nth(entries: &BTreeMap<Vec<u8>, Entry>, n: u64) -> Option<(&Vec<u8>, &Entry)> {
    entries.iter().nth(n as usize % entries.len().max(1))
}

fn pick(handles: &[(Handle, Vec<u8>)], n: u64) -> Option<(Handle, Vec<u8>)> {
    handles.get(n as usize % handles.len().max(1)).cloned()
}

/// One of two dozen IDs: few enough to be replaced often; one is empty, some are not UTF-8.
fn id_of(n: u64) -> Vec<u8> {
    let n = n as u8 % 24;
    if n == 0 { Vec::new() } else { vec![0xe0 + n; n as usize] }
}

/// A time near `now_ms`, or where a level or the arithmetic ends.
fn time_around(now_ms: i64, kind: u64, n: u64) -> i64 {
    let n = n as i64;
    match kind % 12 {
        0..=3 => now_ms.saturating_add(n & 0xff),
        4 => now_ms.saturating_sub(n & 0x3f),
        5 => now_ms.saturating_add(n & 0xf_ffff),
        6 => now_ms,
        7 => now_ms.saturating_add(1 << (n & 0x3f).min(62)),
        8 => (1i64 << (n & 0x3f).min(62)).saturating_add((n >> 6) & 3).saturating_sub(2),
        9 => now_ms & !0xfff,
        10 => [i64::MIN, -1, 0, i64::MAX][n as usize & 3],
        _ => n,
    }
}
