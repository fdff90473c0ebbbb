//! The timing wheel by itself beside what others keep timers in: `cargo bench -p kms-benches --bench wheel`.
//!
//! A timer is a number and a due time; who cancels knows the number. Ten thousand timers fit the caches, a million and more
//! do not. Timers are due at random within thirty days and are put in and cancelled in random order. Nothing else should run
//! on the machine.
//!
//! `KMS_BENCH_SIZES` gives other sizes than `10000,1000000,10000000`. Arguments go to Criterion.
#![allow(missing_docs, clippy::disallowed_methods, reason = "a program that measures")]

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::hint::black_box;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use hierarchical_hash_wheel_timer::wheels::Skip;
use hierarchical_hash_wheel_timer::wheels::quad_wheel::{PruneDecision, QuadWheelWithOverflow};
use kafka_message_scheduler::engine::{Entries, Filed, Hint, Wheel};
use kms_benches::shuffle::{Shuffle, mix};
use kms_benches::workload::{BEGIN_MS, SPREAD_MS};
use slab_wheel::{Policy, TimingWheel};
use tokio::runtime::{Builder, Runtime};
use tokio_util::time::{DelayQueue, delay_queue};

const HOUR_MS: i64 = 3_600_000;

/// The only clock `DelayQueue` goes by. It stands still unless it is told to go on.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_current_thread().enable_time().start_paused(true).build().expect("it needs nothing")
});

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .configure_from_args();
    // DelayQueue sets a timer of the runtime whenever its next due time changes.
    let _inside = RUNTIME.enter();
    for size in sizes() {
        measure::<Kms>(&mut criterion, size);
        measure::<Tokio>(&mut criterion, size);
        measure::<Sorted>(&mut criterion, size);
        measure::<Heap>(&mut criterion, size);
        measure::<SlabWheel>(&mut criterion, size);
        measure::<Quad>(&mut criterion, size);
    }
    criterion.final_summary();
}

fn sizes() -> Vec<u32> {
    if !std::env::args().any(|argument| argument == "--bench") {
        return vec![1_000]; // `cargo test --benches`: once, to see it work
    }
    let sizes = std::env::var("KMS_BENCH_SIZES").unwrap_or_else(|_| "10000,1000000,10000000".to_owned());
    sizes.split(',').map(|size| size.trim().parse().expect("a number")).collect()
}

/// What is asked of a keeper of timers. Numbers are below the size it was made for, times after [`BEGIN_MS`].
trait Timers {
    const NAME: &'static str;
    fn new(size: u32) -> Self;
    fn insert(&mut self, number: u32, due_ms: i64);
    fn cancel(&mut self, number: u32);
    /// Not later than the first due time; `None` where it cannot say.
    fn next_expiry_ms(&self) -> Option<i64>;
    /// Gives what is due by `now_ms`, which is after the last time.
    fn advance(&mut self, now_ms: i64, due: &mut Vec<u32>);
}

fn due_ms(number: u32, round: u64) -> i64 {
    BEGIN_MS + 1 + (mix(u64::from(number) << 32 | round) % SPREAD_MS as u64) as i64
}

/// Timers of all numbers but the last `vacant`, in random order.
fn filled<T: Timers>(size: u32, vacant: u32) -> T {
    let mut timers = T::new(size);
    let order = Shuffle::new(u64::from(size - vacant), 1);
    for at in 0..size - vacant {
        let number = order.nth(u64::from(at)) as u32;
        timers.insert(number, due_ms(number, 0));
    }
    timers
}

fn measure<T: Timers>(criterion: &mut Criterion, size: u32) {
    // Operations in a chunk; between chunks the timers are made what they were, off the clock.
    let chunk = (size / 10).clamp(1, 10_000);
    let mut timers = None;
    let mut round = 0;
    let mut bench = |name: &str, operation: &mut dyn FnMut(&mut T, &[u32], u64) -> Duration| {
        let mut group = criterion.benchmark_group(name);
        group.throughput(Throughput::Elements(1));
        group.bench_function(BenchmarkId::new(T::NAME, size), |bencher| {
            let timers = timers.get_or_insert_with(|| filled::<T>(size, chunk));
            bencher.iter_custom(|count| {
                let (mut took, mut left) = (Duration::ZERO, count);
                while left > 0 {
                    round += 1;
                    let len = left.min(u64::from(chunk));
                    let order = Shuffle::new(u64::from(size - chunk), round);
                    let numbers: Vec<u32> = (0..len).map(|at| order.nth(at) as u32).collect();
                    took += operation(timers, &numbers, round);
                    left -= len;
                }
                took
            });
        });
        group.finish();
    };

    bench("wheel_insert", &mut |timers, numbers, round| {
        let fresh = size - chunk..size - chunk + numbers.len() as u32;
        let plan: Vec<(u32, i64)> = fresh.clone().map(|number| (number, due_ms(number, round))).collect();
        let started = Instant::now();
        for &(number, due_ms) in &plan {
            timers.insert(number, due_ms);
        }
        let took = started.elapsed();
        fresh.for_each(|number| timers.cancel(number));
        took
    });
    bench("wheel_cancel", &mut |timers, numbers, round| {
        let started = Instant::now();
        for &number in numbers {
            timers.cancel(number);
        }
        let took = started.elapsed();
        for &number in numbers {
            timers.insert(number, due_ms(number, round));
        }
        took
    });
    bench("wheel_next_expiry", &mut |timers, numbers, _| {
        let started = Instant::now();
        for _ in numbers {
            black_box(black_box(&*timers).next_expiry_ms());
        }
        started.elapsed()
    });
    drop(timers);

    // Nothing is due for long but the clock goes on, second by second.
    let mut group = criterion.benchmark_group("wheel_advance_over_a_gap");
    if size == sizes()[0] {
        group.bench_function(BenchmarkId::new(T::NAME, "one timer"), |bencher| {
            bencher.iter_custom(|count| {
                let mut timers = T::new(1);
                let mut due = Vec::new();
                timers.insert(0, BEGIN_MS + (count as i64 + 2) * 1_000);
                let started = Instant::now();
                for second in 1..=count as i64 {
                    timers.advance(BEGIN_MS + second * 1_000, &mut due);
                }
                let took = started.elapsed();
                assert!(due.is_empty());
                took
            });
        });
    }
    group.finish();

    let mut group = criterion.benchmark_group("wheel_cascade_and_expire");
    group.throughput(Throughput::Elements(u64::from(size)));
    group.bench_function(BenchmarkId::new(T::NAME, size), |bencher| {
        bencher.iter_custom(|count| {
            let mut took = Duration::ZERO;
            for _ in 0..count {
                let mut timers = filled::<T>(size, 0);
                let (mut due, mut expired) = (Vec::new(), 0);
                let started = Instant::now();
                for hour in 1..=SPREAD_MS / HOUR_MS {
                    timers.advance(BEGIN_MS + hour * HOUR_MS, &mut due);
                    expired += due.len();
                    due.clear();
                }
                took += started.elapsed();
                assert_eq!(expired, size as usize, "{} lost timers", T::NAME);
            }
            took
        });
    });
    group.finish();
}

/// Ours. The entries are due times with a stamp; cancelling is theirs to do, and forgetting what is stale the wheel's.
struct Kms {
    wheel: Wheel,
    entries: Stamped,
}

struct Stamped {
    timers: Vec<Timer>,
    waiting: usize,
    due: Vec<u32>,
}

#[derive(Clone, Copy)]
struct Timer {
    due_ms: i64,
    stamp: u8,
    is_waiting: bool,
}

impl Stamped {
    fn is_current(&self, hint: Hint) -> bool {
        let timer = self.timers[hint.name() as usize];
        timer.is_waiting && timer.stamp == hint.stamp()
    }
}

impl Entries for Stamped {
    fn due_ms(&self, hint: Hint) -> Option<i64> {
        self.is_current(hint).then(|| self.timers[hint.name() as usize].due_ms)
    }

    fn read_ahead(&self, hints: &[Hint]) {
        // What the product asks for by a prefetch; without one, a load of each.
        black_box(hints.iter().fold(0, |read, hint| read ^ self.timers[hint.name() as usize].due_ms));
    }

    fn expire(&mut self, hints: &[Hint], due_ms: i64) {
        for &hint in hints {
            let timer = &mut self.timers[hint.name() as usize];
            if timer.is_waiting && timer.stamp == hint.stamp() && timer.due_ms == due_ms {
                timer.is_waiting = false;
                self.waiting -= 1;
                self.due.push(hint.name());
            }
        }
    }
}

impl Timers for Kms {
    const NAME: &'static str = "kms";

    fn new(size: u32) -> Self {
        let timers = vec![Timer { due_ms: 0, stamp: 0, is_waiting: false }; size as usize];
        let entries = Stamped { timers, waiting: 0, due: Vec::new() };
        Self { wheel: Wheel::new(BEGIN_MS), entries }
    }

    fn insert(&mut self, number: u32, due_ms: i64) {
        let timer = &mut self.entries.timers[number as usize];
        let stamp = timer.stamp.wrapping_add(1);
        *timer = Timer { due_ms, stamp, is_waiting: true };
        self.entries.waiting += 1;
        let filed = self.wheel.file(Hint::new(number, stamp, due_ms), due_ms);
        debug_assert_eq!(filed, Filed::Waiting);
    }

    fn cancel(&mut self, number: u32) {
        self.entries.timers[number as usize].is_waiting = false;
        self.entries.waiting -= 1;
        // As much forgetting as keeps stale hints at a quarter of the others, counted with what made them stale.
        let stale = self.wheel.len() - self.entries.waiting;
        if stale.is_multiple_of(64) && stale > self.entries.waiting / 4 {
            let read_ahead = |hints: &[Hint]| self.entries.read_ahead(hints);
            self.wheel.sweep(&mut (64 * 8), read_ahead, |hint| self.entries.is_current(hint));
        }
    }

    fn next_expiry_ms(&self) -> Option<i64> {
        self.wheel.next_wake_ms()
    }

    fn advance(&mut self, now_ms: i64, due: &mut Vec<u32>) {
        self.wheel.advance(now_ms, &mut usize::MAX.clone(), &mut self.entries);
        self.wheel.prepare(&mut usize::MAX.clone(), &mut self.entries);
        due.append(&mut self.entries.due);
    }
}

/// `DelayQueue` of tokio-util.
struct Tokio {
    queue: DelayQueue<u32>,
    keys: Vec<Option<delay_queue::Key>>,
    origin: tokio::time::Instant,
}

impl Timers for Tokio {
    const NAME: &'static str = "tokio DelayQueue";

    fn new(size: u32) -> Self {
        let queue = DelayQueue::with_capacity(size as usize);
        Self { queue, keys: vec![None; size as usize], origin: tokio::time::Instant::now() }
    }

    fn insert(&mut self, number: u32, due_ms: i64) {
        let ahead = Duration::from_millis((due_ms - BEGIN_MS) as u64);
        self.keys[number as usize] = Some(self.queue.insert_at(number, self.origin + ahead));
    }

    fn cancel(&mut self, number: u32) {
        if let Some(key) = self.keys[number as usize].take() {
            self.queue.remove(&key);
        }
    }

    fn next_expiry_ms(&self) -> Option<i64> {
        let key = self.queue.peek()?;
        Some(BEGIN_MS + (self.queue.deadline(&key) - self.origin).as_millis() as i64)
    }

    fn advance(&mut self, now_ms: i64, due: &mut Vec<u32>) {
        let now = self.origin + Duration::from_millis((now_ms - BEGIN_MS) as u64);
        let Self { queue, .. } = self;
        RUNTIME.block_on(tokio::task::coop::unconstrained(async {
            tokio::time::advance(now - tokio::time::Instant::now()).await;
            std::future::poll_fn(|context| {
                while let std::task::Poll::Ready(Some(expired)) = queue.poll_expired(context) {
                    due.push(expired.into_inner());
                }
                std::task::Poll::Ready(())
            })
            .await;
        }));
    }
}

/// A sorted set.
struct Sorted {
    timers: BTreeSet<(i64, u32)>,
    dues_ms: Vec<i64>,
}

impl Timers for Sorted {
    const NAME: &'static str = "BTreeSet";

    fn new(size: u32) -> Self {
        Self { timers: BTreeSet::new(), dues_ms: vec![0; size as usize] }
    }

    fn insert(&mut self, number: u32, due_ms: i64) {
        self.dues_ms[number as usize] = due_ms;
        self.timers.insert((due_ms, number));
    }

    fn cancel(&mut self, number: u32) {
        self.timers.remove(&(self.dues_ms[number as usize], number));
    }

    fn next_expiry_ms(&self) -> Option<i64> {
        self.timers.first().map(|&(due_ms, _)| due_ms)
    }

    fn advance(&mut self, now_ms: i64, due: &mut Vec<u32>) {
        while let Some(first) = self.timers.first()
            && first.0 <= now_ms
        {
            due.extend(self.timers.pop_first().map(|(_, number)| number));
        }
    }
}

/// A heap that forgets what was cancelled when it comes to it, or when half of it was.
struct Heap {
    timers: BinaryHeap<Reverse<(i64, u32, u32)>>,
    generations: Vec<u32>,
    dead: usize,
}

impl Timers for Heap {
    const NAME: &'static str = "BinaryHeap, lazy";

    fn new(size: u32) -> Self {
        Self { timers: BinaryHeap::new(), generations: vec![0; size as usize], dead: 0 }
    }

    fn insert(&mut self, number: u32, due_ms: i64) {
        self.timers.push(Reverse((due_ms, number, self.generations[number as usize])));
    }

    fn cancel(&mut self, number: u32) {
        self.generations[number as usize] += 1;
        self.dead += 1;
        if self.dead * 2 > self.timers.len() {
            let generations = &self.generations;
            self.timers
                .retain(|Reverse((_, number, generation))| generations[*number as usize] == *generation);
            self.dead = 0;
        }
    }

    fn next_expiry_ms(&self) -> Option<i64> {
        self.timers.peek().map(|Reverse((due_ms, ..))| *due_ms)
    }

    fn advance(&mut self, now_ms: i64, due: &mut Vec<u32>) {
        while let Some(&Reverse((due_ms, number, generation))) = self.timers.peek()
            && due_ms <= now_ms
        {
            self.timers.pop();
            if self.generations[number as usize] == generation {
                due.push(number);
            } else {
                self.dead -= 1;
            }
        }
    }
}

/// `slab-wheel`, with as many levels as thirty days need and more.
struct SlabWheel {
    wheel: TimingWheel<u32, Layout>,
    keys: Vec<Option<slab_wheel::Key>>,
    expired: Vec<(slab_wheel::Key, u32)>,
    origin: Instant,
}

struct Layout;

impl Policy for Layout {
    const SLOTS: &'static [usize] = &[64; 7];
    const RESOLUTION: &'static [u64] = &[1, 1 << 6, 1 << 12, 1 << 18, 1 << 24, 1 << 30, 1 << 36];
}

impl SlabWheel {
    fn instant(&self, ms: i64) -> Instant {
        self.origin + Duration::from_millis((ms - BEGIN_MS) as u64)
    }
}

impl Timers for SlabWheel {
    const NAME: &'static str = "slab-wheel";

    fn new(size: u32) -> Self {
        let origin = Instant::now();
        let wheel = TimingWheel::starting_at(origin);
        Self { wheel, keys: vec![None; size as usize], expired: Vec::new(), origin }
    }

    fn insert(&mut self, number: u32, due_ms: i64) {
        self.keys[number as usize] = Some(self.wheel.insert(self.instant(due_ms), number));
    }

    fn cancel(&mut self, number: u32) {
        if let Some(key) = self.keys[number as usize].take() {
            self.wheel.remove(key);
        }
    }

    fn next_expiry_ms(&self) -> Option<i64> {
        self.wheel.next_expiry().map(|at| BEGIN_MS + (at - self.origin).as_millis() as i64)
    }

    fn advance(&mut self, now_ms: i64, due: &mut Vec<u32>) {
        self.wheel.advance_to(self.instant(now_ms));
        self.wheel.drain_expired_into(&mut self.expired);
        due.extend(self.expired.drain(..).map(|(_, number)| number));
    }
}

/// The four levels of `hierarchical_hash_wheel_timer`: 49 days, then an unsorted list. It cannot take a timer out: a
/// cancelled one is known by its generation, and waits.
struct Quad {
    wheel: QuadWheelWithOverflow<(u32, u32)>,
    generations: Vec<u32>,
    now_ms: i64,
}

impl Timers for Quad {
    const NAME: &'static str = "hierarchical_hash_wheel_timer";

    fn new(size: u32) -> Self {
        let wheel = QuadWheelWithOverflow::new(|_| PruneDecision::Keep);
        Self { wheel, generations: vec![0; size as usize], now_ms: BEGIN_MS }
    }

    fn insert(&mut self, number: u32, due_ms: i64) {
        let ahead = Duration::from_millis((due_ms - self.now_ms) as u64);
        let entry = (number, self.generations[number as usize]);
        assert!(self.wheel.insert_with_delay(entry, ahead).is_ok(), "it is due later");
    }

    fn cancel(&mut self, number: u32) {
        self.generations[number as usize] += 1;
    }

    fn next_expiry_ms(&self) -> Option<i64> {
        None
    }

    fn advance(&mut self, now_ms: i64, due: &mut Vec<u32>) {
        while self.now_ms < now_ms {
            match self.wheel.can_skip() {
                Skip::Empty => self.now_ms = now_ms,
                Skip::Millis(ms) => {
                    let ms = i64::from(ms).min(now_ms - self.now_ms);
                    self.wheel.skip(ms as u32);
                    self.now_ms += ms;
                }
                Skip::None => {
                    let expired = self.wheel.tick().into_iter();
                    let current = expired.filter(|&(number, at)| self.generations[number as usize] == at);
                    due.extend(current.map(|(number, _)| number));
                    self.now_ms += 1;
                }
            }
        }
    }
}
