//! The work every peer is given: the same schedules in the same order.
//!
//! A population of schedules with shuffled IDs, due at random within [`SPREAD_MS`]. Every place of it holds one schedule;
//! an operation picks places at random, and what it takes out is put back under a new ID before the next, off the
//! clock. So the size stays, and no ID comes twice.
#![allow(clippy::disallowed_methods, reason = "what is measured is how long it takes")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use crate::peers::{Item, Pending};
use crate::shuffle::{Shuffle, mix};

/// How far ahead schedules are due: thirty days.
pub const SPREAD_MS: i64 = 30 * 86_400_000;

/// When it all begins, epoch milliseconds: some day of 2026 on which every wheel begins a slot of every level, since they
/// count from there or in powers of two from 1970. Or the turn of a slot of days, with a good part of all schedules in
/// it, would come in one sample of some; at ten million, none comes within what is delivered. How long such a turn takes
/// is what `examples/capacity.rs` tells.
pub const BEGIN_MS: i64 = 26 << 36;

/// Schedules of a delivery; the product's limit is 8,000 by default.
const BATCH: usize = 500;

/// Schedules that are announced at a time, as the product does it.
const AHEAD: usize = 32;

/// One block of [`mixed`](World::mixed): as many new schedules as cancelled and delivered ones, so that the size stays.
const MIX: [(Kind, usize); 3] = [(Kind::Replace, 30), (Kind::Cancel, 20), (Kind::Insert, MIX_INSERT)];
const MIX_INSERT: usize = 35;
const MIX_FIRE: usize = 15;
const MIX_BLOCK: usize = 100;

/// Set in the generation of a place that is vacant.
const VACANT: u32 = 1 << 31;

const KEY: [u8; 8] = *b"order-17";
const VALUE: [u8; 40] = *b"forty bytes that somebody is waiting for";

/// A set under test and what it holds.
pub struct World<P: Pending> {
    set: P,
    now_ms: i64,
    /// How many schedules each place has had, and whether it is vacant.
    generations: Vec<u32>,
    picker: Picker,
    plan: Vec<Step>,
    random: u64,
    due: Vec<P::Due>,
    delivered: Vec<[u8; 16]>,
}

/// What is to be done, worked out before the clock starts.
#[derive(Clone, Copy)]
struct Step {
    kind: Kind,
    id: [u8; 16],
    due_ms: i64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Insert,
    Replace,
    Cancel,
}

impl<P: Pending> World<P> {
    /// `size` schedules, each of which was replaced once, in random order: so nothing lies in memory as it came.
    #[must_use]
    pub fn new(size: usize) -> Self {
        let mut world = Self {
            set: P::with_expected(size, BEGIN_MS),
            now_ms: BEGIN_MS,
            generations: vec![VACANT; size],
            picker: Picker::new(size, 1),
            plan: Vec::new(),
            random: 0,
            due: Vec::new(),
            delivered: Vec::new(),
        };
        for place in 0..size {
            world.occupy(place);
        }
        world.replace(size);
        world
    }

    /// Inserts `count` schedules and returns how long that took.
    pub fn insert(&mut self, count: usize) -> Duration {
        self.in_chunks(count, |world, len| {
            world.plan.clear();
            for _ in 0..len {
                let place = world.pick();
                world.vacate(place);
                let step = world.fill(place);
                world.plan.push(step);
            }
            world.run_plan()
        })
    }

    /// Replaces `count` schedules, by others due at another time, and returns how long that took.
    pub fn replace(&mut self, count: usize) -> Duration {
        self.in_chunks(count, |world, len| {
            world.plan.clear();
            for _ in 0..len {
                let place = world.pick();
                let step = world.step(Kind::Replace, place);
                world.plan.push(step);
            }
            world.run_plan()
        })
    }

    /// Cancels `count` schedules and returns how long that took.
    pub fn cancel(&mut self, count: usize) -> Duration {
        self.in_chunks(count, |world, len| {
            world.plan.clear();
            let places: Vec<usize> = (0..len).map(|_| world.pick()).collect();
            for &place in &places {
                let step = world.step(Kind::Cancel, place);
                world.plan.push(step);
            }
            let took = world.run_plan();
            for place in places {
                world.generations[place] |= VACANT;
                world.occupy(place);
            }
            took
        })
    }

    /// Delivers `count` schedules as they become due and returns how long that took: what comes with the passing of time,
    /// handing out, reading, settling.
    pub fn due_settle(&mut self, count: usize) -> Duration {
        let mut took = Duration::ZERO;
        let mut left = count;
        while left > 0 {
            let batch = left.min(BATCH);
            self.pass_time_for(batch);
            took += self.deliver(batch);
            left -= self.delivered.len();
            for place in std::mem::take(&mut self.delivered).iter().map(place_of) {
                self.generations[place] |= VACANT;
                self.occupy(place);
            }
        }
        took
    }

    /// Does `count` operations of all kinds in blocks, in random order but for the deliveries, which come in batches; returns
    /// how long they took.
    pub fn mixed(&mut self, count: usize) -> Duration {
        self.picker.prepare(MIX_INSERT);
        let mut vacant: Vec<usize> = (0..MIX_INSERT).map(|_| self.pick()).collect();
        for &place in &vacant {
            self.vacate(place);
        }
        let blocks = count.div_ceil(MIX_BLOCK);
        let took: Duration = (0..blocks).map(|_| self.mixed_block(&mut vacant)).sum();
        for place in vacant {
            self.occupy(place);
        }
        took.mul_f64(count as f64 / (blocks * MIX_BLOCK) as f64)
    }

    /// How many the set holds.
    pub fn len(&self) -> usize {
        self.set.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    /// One block of the mix, whose inserts go to the `vacant` places; as many are vacant afterwards.
    fn mixed_block(&mut self, vacant: &mut Vec<usize>) -> Duration {
        self.plan.clear();
        self.picker.prepare(MIX_BLOCK + MIX_INSERT);
        let mut to_fill = std::mem::take(vacant).into_iter();
        // New ones come last, so that no other step of the block is about one of them.
        for (kind, count) in MIX {
            for _ in 0..count {
                let step = match kind {
                    Kind::Insert => self.fill(to_fill.next().expect("as many were vacated")),
                    Kind::Replace | Kind::Cancel => {
                        let place = self.pick();
                        self.step(kind, place)
                    }
                };
                self.plan.push(step);
            }
        }
        for last in (1..self.plan.len()).rev() {
            let other = self.random_below(last as u64 + 1) as usize;
            self.plan.swap(last, other);
        }
        let mut took = self.run_plan();
        vacant
            .extend(self.plan.iter().filter(|step| step.kind == Kind::Cancel).map(|step| place_of(&step.id)));
        let cancelled = vacant.len();
        while vacant.len() < cancelled + MIX_FIRE {
            let left = cancelled + MIX_FIRE - vacant.len();
            self.pass_time_for(left);
            took += self.deliver(left);
            vacant.extend(self.delivered.drain(..).map(|id| place_of(&id)));
        }
        for &place in &*vacant {
            self.generations[place] |= VACANT;
        }
        took
    }

    /// Lets as much time go by as `count` schedules need to become due.
    fn pass_time_for(&mut self, count: usize) {
        self.now_ms += (SPREAD_MS * count as i64 / self.generations.len() as i64).max(1);
    }

    /// Delivers up to `limit` of what is due, and notes the IDs.
    fn deliver(&mut self, limit: usize) -> Duration {
        self.delivered.clear();
        let started = Instant::now();
        self.set.due(self.now_ms, limit, &mut self.due);
        for due in self.due.drain(..) {
            let item = self.set.read(&due);
            black_box((item.key, item.value));
            self.delivered.push(item.id.try_into().expect("all IDs are as long"));
            self.set.settle(due);
        }
        self.set.tidy(self.now_ms);
        started.elapsed()
    }

    fn run_plan(&mut self) -> Duration {
        let Self { set, plan, now_ms, .. } = self;
        let started = Instant::now();
        for steps in plan.chunks(AHEAD) {
            set.prepare(steps.iter().map(|step| &step.id[..]));
            for step in steps {
                do_step(set, step);
            }
        }
        set.tidy(*now_ms);
        started.elapsed()
    }

    /// Does `count` of something in pieces that are small against the population and the caches, and large against the
    /// clock. Never fewer than one piece, or a single operation would be taken for typical: then the time is scaled.
    fn in_chunks(&mut self, count: usize, mut chunk: impl FnMut(&mut Self, usize) -> Duration) -> Duration {
        let len = (self.generations.len() / 50).clamp(1, 10_000);
        let chunks = count.div_ceil(len);
        let took: Duration = (0..chunks)
            .map(|_| {
                self.picker.prepare(len);
                chunk(self, len)
            })
            .sum();
        took.mul_f64(count as f64 / (chunks * len) as f64)
    }

    /// A place that is not vacant, at random.
    fn pick(&mut self) -> usize {
        loop {
            let place = self.picker.pick();
            if self.generations[place] & VACANT == 0 {
                return place;
            }
        }
    }

    /// Takes out what a place holds, off the clock.
    fn vacate(&mut self, place: usize) {
        let id = id_of(place, self.generations[place]);
        assert!(self.set.cancel(&id), "{} lost a schedule", P::NAME);
        self.generations[place] |= VACANT;
    }

    /// Puts a new schedule into a vacant place, off the clock.
    fn occupy(&mut self, place: usize) {
        let step = self.fill(place);
        self.set.insert(&Item { id: &step.id, due_ms: step.due_ms, key: &KEY, value: &VALUE });
    }

    /// The step that puts a new schedule into a vacant place.
    fn fill(&mut self, place: usize) -> Step {
        self.generations[place] = (self.generations[place] & !VACANT) + 1;
        self.step(Kind::Insert, place)
    }

    fn step(&mut self, kind: Kind, place: usize) -> Step {
        let due_ms = self.now_ms + 1 + self.random_below(SPREAD_MS as u64) as i64;
        Step { kind, id: id_of(place, self.generations[place]), due_ms }
    }

    fn random_below(&mut self, bound: u64) -> u64 {
        self.random += 1;
        ((u128::from(mix(self.random)) * u128::from(bound)) >> 64) as u64
    }
}

fn do_step<P: Pending>(set: &mut P, step: &Step) {
    let item = Item { id: &step.id, due_ms: step.due_ms, key: &KEY, value: &VALUE };
    match step.kind {
        Kind::Insert => set.insert(&item),
        Kind::Replace => set.replace(&item),
        Kind::Cancel => {
            let held = set.cancel(&step.id);
            debug_assert!(held, "{} lost a schedule", P::NAME);
        }
    }
}

/// Goes through all places in random order, again and again, each time in another.
struct Picker {
    order: Shuffle,
    len: usize,
    key: u64,
    next: usize,
}

impl Picker {
    fn new(len: usize, key: u64) -> Self {
        Self { order: Shuffle::new(len as u64, key), len, key, next: 0 }
    }

    /// The next `count` that are picked are all different.
    fn prepare(&mut self, count: usize) {
        if self.next + count > self.len {
            *self = Self::new(self.len, self.key + 1);
        }
    }

    fn pick(&mut self) -> usize {
        self.next += 1;
        self.order.nth(self.next as u64 - 1) as usize
    }
}

/// Eight bytes that look random, and the eight they were made of.
fn id_of(place: usize, generation: u32) -> [u8; 16] {
    let number = u64::from(generation) << 32 | place as u64;
    let mut id = [0; 16];
    id[..8].copy_from_slice(&mix(number).to_le_bytes());
    id[8..].copy_from_slice(&number.to_le_bytes());
    id
}

fn place_of(id: &[u8; 16]) -> usize {
    u32::from_le_bytes(id[8..12].try_into().expect("four bytes")) as usize
}
