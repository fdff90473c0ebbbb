//! How many schedules fit, how fast they come and go, and how long the set ever keeps its thread:
//! `cargo run --release --example capacity -- 100000000`; `--help` tells what else can be asked.
//!
//! The program keeps nothing a schedule of its own: IDs, orders and due times are computed, so the memory is the set's.
#![allow(clippy::disallowed_methods, reason = "a program that measures")]
#![allow(clippy::unwrap_used, reason = "a program that measures")]

#[path = "../benches/src/shuffle.rs"]
#[allow(unreachable_pub, reason = "it is the benches'")]
mod shuffle;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use clap::Parser;
use kafka_message_scheduler::engine::{BatchLimits, PendingSet};
use kafka_message_scheduler::schedule::{DueTime, Format, Headers, Schedule};
use memmap2::MmapMut;
use mimalloc::MiMalloc;
use shuffle::{Shuffle, mix};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// When it all begins, epoch milliseconds: 1 January 2026, so that in the thirty days the wheel's slots of twelve days turn
/// three times, and what that costs is part of the figures.
const BEGIN_MS: i64 = 1_767_225_600_000;

/// How far ahead schedules are due: thirty days.
const SPREAD_MS: i64 = 30 * 86_400_000;

/// Entries moved in the wheel, or filed at the end of the load, at a time: as a shard does it (`src/scheduler/runner.rs`).
const ADVANCE_BUDGET: usize = 4_000;

/// Steps of housekeeping at a time: as a shard does it in a round that reads nothing.
const TIDY_BUDGET: usize = 1_000;

/// Operations between two times of housekeeping. That is a step an operation, where a shard gives eight: so housekeeping
/// falls behind, and what a phase ends with is more than a shard ever has to catch up with.
const TIDY_EVERY: u64 = 1_000;

/// A delivery; the product's limit is 8,000 by default.
const BATCH: BatchLimits = BatchLimits { max_count: 500, max_bytes: 1 << 20 };

/// What no call should take.
const TOO_LONG: Duration = Duration::from_millis(1);

/// IDs that are announced together, as the product does it.
const AHEAD: u64 = 32;

const KEY: [u8; 8] = *b"order-17";

/// Fills a pending set, churns it, empties it, and says what that took.
///
/// Loads COUNT schedules with random IDs, due at random within thirty days, replaces all of them in random order, cancels
/// most, and delivers what becomes due as time goes by, checking that each is the last version, in order and not early.
///
/// Every call is timed. The longest is given in CPU time of the thread, which other processes cannot lengthen, with the
/// time by the wall beside it; page faults are in both. What the machine does to a thread (interrupts, a host that takes
/// the processor or a page away and does not tell) is in both, too: so after each call comes a control, timed the same way:
/// two reads, one after the other, somewhere in a gigabyte. What the longest controls took, no set can undercut. Of the calls that
/// took too long it is said how many of them met page faults, in which the system has the processor and not the set. Clocks and
/// controls take a few times as long as most calls do: they are taken off the rates, and --rates-only does without.
///
/// Each run with the same options makes the same calls in the same order. A call that takes too long because of what the
/// set does takes too long in every run; what the machine does hits others each time. --slow-calls tells one from the
/// other.
#[derive(Parser)]
struct Options {
    /// How many schedules to load
    #[arg(value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    count: u64,

    /// Bytes of an ID, 8 or more
    #[arg(long, value_name = "BYTES", default_value_t = 16, value_parser = clap::value_parser!(u16).range(8..=4096))]
    id: u16,

    /// Bytes of a value
    #[arg(long, value_name = "BYTES", default_value_t = 40)]
    value: usize,

    /// How often to replace every schedule
    #[arg(long, value_name = "N", default_value_t = 1)]
    replace_rounds: u64,

    /// How many of a hundred schedules to cancel
    #[arg(long, value_name = "PERCENT", default_value_t = 90, value_parser = clap::value_parser!(u64).range(0..=100))]
    cancel: u64,

    /// How many schedules to deliver at most
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    fire: u64,

    /// Announces no IDs before they are looked up
    #[arg(long)]
    unprepared: bool,

    /// Times whole phases only, not each call
    #[arg(long)]
    rates_only: bool,

    /// Keeps in this file which calls took too long in every run so far; delete it to begin anew
    #[arg(long, value_name = "FILE", conflicts_with = "rates_only")]
    slow_calls: Option<PathBuf>,
}

fn main() {
    kafka_message_scheduler::allocator::give_back_at_once();
    let options = Options::parse();
    let Options { count, id, value, .. } = options;
    println!("{count} schedules: ID {id}, key {}, value {value} bytes; due within 30 days", KEY.len());
    let mut run = Run::new(options);
    if run.clocks.is_on {
        report_first_touches(run.clocks);
    }
    run.load();
    for round in 1..=run.options.replace_rounds {
        run.replace(round);
    }
    run.cancel();
    run.fire();
    if let Some(file) = &run.options.slow_calls {
        compare(file, &run.slow_calls);
    }
}

/// Says which calls took too long in this run and in all before, and notes them for the next.
fn compare(file: &Path, slow: &BTreeSet<String>) {
    let before = std::fs::read_to_string(file).ok();
    let always: Vec<&str> = match &before {
        Some(before) => before.lines().filter(|call| slow.contains(*call)).collect(),
        None => slow.iter().map(String::as_str).collect(),
    };
    let runs = if before.is_some() { "this run and all before" } else { "this run, the first" };
    println!("{} calls took over 1 ms in this run, {} in {runs}", slow.len(), always.len());
    for call in always.iter().take(20) {
        println!("    {call}");
    }
    std::fs::write(file, always.join("\n")).unwrap();
}

/// How long the machine takes over a page that is touched for the first time, as a set that grows has to: no set can do
/// better.
fn report_first_touches(clocks: Clocks) {
    const PAGES: usize = 250_000;
    const PAGE_BYTES: usize = 4_096;
    let mut memory = MmapMut::map_anon(PAGES * PAGE_BYTES).unwrap();
    let mut touches = Calls::new("first touch");
    let mut phase = clocks.start();
    for page in 0..PAGES {
        memory[page * PAGE_BYTES] = 1;
        phase.lap(&mut touches);
    }
    phase.report("first touches of pages", PAGES as u64, &[&touches]);
}

/// The set and what was done to it.
struct Run {
    options: Options,
    set: PendingSet,
    clocks: Clocks,
    /// The offset of the next record.
    offset: i64,
    /// Which version of the schedules the set holds.
    round: u64,
    /// Resident before anything was loaded.
    idle_bytes: u64,
    id: Vec<u8>,
    value: Vec<u8>,
    /// IDs that are announced, one after the other.
    ahead: Vec<u8>,
    /// Calls that took too long: phase, kind and number.
    slow_calls: BTreeSet<String>,
}

impl Run {
    fn new(options: Options) -> Self {
        let clocks = Clocks::new(!options.rates_only);
        if clocks.is_on {
            println!("the clocks and a control take {} ns a call", clocks.cost.as_nanos());
        }
        let mut set = PendingSet::new(42);
        set.start_time_by(BEGIN_MS);
        let (id, value) = (vec![0; options.id.into()], vec![0; options.value]);
        Self {
            options,
            set,
            clocks,
            offset: 0,
            round: 0,
            idle_bytes: Memory::now().resident_bytes,
            id,
            value,
            ahead: Vec::new(),
            slow_calls: BTreeSet::new(),
        }
    }

    /// Reads the log in, as it were, and ends bulk mode.
    fn load(&mut self) {
        let [mut warms, mut upserts] = ["warm", "upsert"].map(Calls::new);
        let mut phase = self.clocks.start();
        for number in 0..self.options.count {
            self.announce(number, self.options.count, |number| number, &mut phase, &mut warms);
            self.upsert(number);
            phase.lap(&mut upserts);
        }
        self.slow_calls.extend(phase.report("load", self.options.count, &[&warms, &upserts]));

        let mut steps = Calls::new("finish_bulk");
        let mut phase = self.clocks.start();
        let mut is_done = false;
        while !is_done {
            is_done = self.set.finish_bulk(ADVANCE_BUDGET);
            phase.lap(&mut steps);
        }
        self.slow_calls.extend(phase.report("finish_bulk", self.options.count, &[&steps]));
        self.report_memory();
    }

    /// Replaces every schedule in random order.
    fn replace(&mut self, round: u64) {
        self.round = round;
        let order = Shuffle::new(self.options.count, round);
        let [mut warms, mut upserts, mut tidies] = ["warm", "upsert", "tidy"].map(Calls::new);
        let mut phase = self.clocks.start();
        for position in 0..self.options.count {
            self.announce(position, self.options.count, |at| order.nth(at), &mut phase, &mut warms);
            self.upsert(order.nth(position));
            phase.lap(&mut upserts);
            self.tidy_now_and_then(position, &mut phase, &mut tidies);
        }
        self.tidy_up(BEGIN_MS, &mut phase, &mut tidies);
        let slow = phase.report(
            &format!("replace, round {round}"),
            self.options.count,
            &[&warms, &upserts, &tidies],
        );
        self.slow_calls.extend(slow);
        self.report_memory();
    }

    /// Cancels a share of the schedules in random order.
    fn cancel(&mut self) {
        let count = self.options.count * self.options.cancel / 100;
        let order = Shuffle::new(self.options.count, u64::MAX);
        let [mut warms, mut removes, mut tidies] = ["warm", "remove", "tidy"].map(Calls::new);
        let mut phase = self.clocks.start();
        for position in 0..count {
            self.announce(position, count, |at| order.nth(at), &mut phase, &mut warms);
            self.write_id(order.nth(position));
            self.offset += 1;
            assert!(self.set.remove(&self.id, self.offset).is_some(), "a schedule was lost");
            phase.lap(&mut removes);
            self.tidy_now_and_then(position, &mut phase, &mut tidies);
        }
        self.tidy_up(BEGIN_MS, &mut phase, &mut tidies);
        let name = format!("cancel {} %", self.options.cancel);
        self.slow_calls.extend(phase.report(&name, count, &[&warms, &removes, &tidies]));
        self.report_memory();
    }

    /// Lets time go by and delivers what becomes due.
    fn fire(&mut self) {
        let wanted = self.options.fire.min(self.set.len() as u64);
        let [mut advances, mut takes, mut settles, mut tidies] =
            ["advance", "take_due", "settle", "tidy"].map(Calls::new);
        let mut now_ms = BEGIN_MS;
        let (mut fired, mut last_due_ms) = (0, i64::MIN);
        let mut batch = Vec::new();
        let mut phase = self.clocks.start();
        while fired < wanted {
            now_ms += (SPREAD_MS * BATCH.max_count as i64 / self.set.len() as i64).max(1);
            let mut is_done = false;
            while !is_done {
                is_done = self.set.advance(now_ms, ADVANCE_BUDGET);
                phase.lap(&mut advances);
            }
            loop {
                self.set.take_due(now_ms, BATCH, &mut batch);
                phase.lap(&mut takes);
                if batch.is_empty() {
                    break;
                }
                for handle in batch.drain(..) {
                    let due_ms = self.check(handle);
                    assert!((last_due_ms..=now_ms).contains(&due_ms), "out of order, or early");
                    last_due_ms = due_ms;
                    fired += 1;
                    phase.pause();
                    assert!(self.set.settle(handle));
                    phase.lap(&mut settles);
                }
            }
            self.tidy_up(now_ms, &mut phase, &mut tidies);
        }
        self.slow_calls.extend(phase.report("fire", fired, &[&advances, &takes, &settles, &tidies]));
        self.report_memory();
    }

    /// Says which IDs come next, some at a time, as the reader of a log does.
    fn announce(
        &mut self,
        position: u64,
        end: u64,
        number_at: impl Fn(u64) -> u64,
        phase: &mut Phase,
        warms: &mut Calls,
    ) {
        if self.options.unprepared || !position.is_multiple_of(AHEAD) {
            return;
        }
        let id_bytes = usize::from(self.options.id);
        self.ahead.clear();
        for at in position..end.min(position + AHEAD) {
            let start = self.ahead.len();
            self.ahead.resize(start + id_bytes, 0);
            write_number(&mut self.ahead[start..], number_at(at));
        }
        phase.pause();
        self.set.warm(self.ahead.chunks_exact(id_bytes));
        phase.lap(warms);
    }

    /// Housekeeping between the operations.
    fn tidy_now_and_then(&mut self, position: u64, phase: &mut Phase, tidies: &mut Calls) {
        if position.is_multiple_of(TIDY_EVERY) {
            self.set.tidy(BEGIN_MS, TIDY_BUDGET);
            phase.lap(tidies);
        }
    }

    /// Housekeeping until there is none left.
    fn tidy_up(&mut self, now_ms: i64, phase: &mut Phase, tidies: &mut Calls) {
        let mut is_done = false;
        while !is_done {
            is_done = self.set.tidy(now_ms, TIDY_BUDGET);
            phase.lap(tidies);
        }
    }

    fn upsert(&mut self, number: u64) {
        self.write_id(number);
        write_number(&mut self.value, number);
        let schedule = Schedule {
            due: DueTime::from_epoch_ms(due_ms(number, self.round)),
            topic: "orders",
            key: &KEY,
            value: Some(&self.value),
            headers: Headers::default(),
        };
        self.set.upsert(&self.id, self.offset, Format::Avro, &schedule, Headers::default());
        self.offset += 1;
    }

    /// That a schedule which was handed out is what was put in last; leaves its ID in `id` and returns its due time.
    fn check(&mut self, handle: kafka_message_scheduler::engine::Handle) -> i64 {
        let view = self.set.view(handle).unwrap();
        self.id.clear();
        self.id.extend_from_slice(view.id);
        let number = u64::from_le_bytes(view.id[..8].try_into().unwrap());
        let due_ms = due_ms(number, self.round);
        write_number(&mut self.value, number);
        assert_eq!(view.schedule.due.epoch_ms(), due_ms, "not the last version");
        assert_eq!((view.schedule.key, view.schedule.value), (&KEY[..], Some(&*self.value)), "other content");
        due_ms
    }

    fn write_id(&mut self, number: u64) {
        write_number(&mut self.id, number);
    }

    fn report_memory(&self) {
        let Memory { resident_bytes, peak_bytes } = Memory::now();
        let held = self.set.len();
        let content = u64::from(self.options.id) + KEY.len() as u64 + self.options.value as u64;
        print!(
            "    {held} held: {:.2} GB resident (peak {:.2}) since the start",
            gigabytes(resident_bytes.saturating_sub(self.idle_bytes)),
            gigabytes(peak_bytes.saturating_sub(self.idle_bytes))
        );
        if held > 0 {
            let each = resident_bytes.saturating_sub(self.idle_bytes) as f64 / held as f64;
            print!(": {each:.1} bytes each, {:.1} over the content", each - content as f64);
        }
        println!();
    }
}

fn gigabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e9
}

/// The number itself, by which it is known again, and then what looks random.
fn write_number(bytes: &mut [u8], number: u64) {
    for (part, chunk) in bytes.chunks_mut(8).enumerate() {
        let word = if part == 0 { number } else { mix(number.wrapping_mul(8) + part as u64) };
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
}

fn due_ms(number: u64, round: u64) -> i64 {
    BEGIN_MS + 1 + (mix(number ^ round << 48) % SPREAD_MS as u64) as i64
}

/// How each call is timed: the clocks are read after each call and after each control, so either takes from one reading
/// to the next.
#[derive(Clone, Copy)]
struct Clocks {
    is_on: bool,
    /// What the clocks and a control take.
    cost: Duration,
}

impl Clocks {
    fn new(is_on: bool) -> Self {
        const LAPS: u32 = 100_000;
        let mut clocks = Self { is_on, cost: Duration::ZERO };
        let mut nothing = Calls::new("");
        if is_on {
            LazyLock::force(&CONTROL_MEMORY);
        }
        let mut phase = clocks.start();
        let started = Instant::now();
        for _ in 0..LAPS {
            phase.lap(&mut nothing);
        }
        clocks.cost = started.elapsed() / LAPS;
        clocks
    }

    fn start(self) -> Phase {
        let started = Reading::now();
        Phase { clocks: self, started, last: started, laps: 0, controls: Calls::new("control") }
    }
}

const CONTROL_BYTES: usize = 1 << 30;

/// What the controls read.
static CONTROL_MEMORY: LazyLock<Vec<u8>> = LazyLock::new(|| (0..CONTROL_BYTES).map(|at| at as u8).collect());

/// What is timed as a whole and call by call.
struct Phase {
    clocks: Clocks,
    started: Reading,
    last: Reading,
    laps: u32,
    controls: Calls,
}

impl Phase {
    /// Ends a call.
    fn lap(&mut self, calls: &mut Calls) {
        calls.count += 1;
        if self.clocks.is_on {
            let end = Reading::now();
            calls.add(self.last, end);
            self.control(end);
        }
    }

    /// What came before belongs to no call.
    fn pause(&mut self) {
        if self.clocks.is_on {
            self.control(Reading::now());
        }
    }

    /// Waits for memory about as a call does, from `start` on.
    fn control(&mut self, start: Reading) {
        let at = |random: u64| CONTROL_MEMORY[mix(random) as usize % CONTROL_BYTES];
        let first = at(self.controls.count << 8);
        std::hint::black_box(at(self.controls.count << 8 | u64::from(first)));
        self.last = Reading::now();
        self.controls.count += 1;
        self.controls.add(start, self.last);
        self.laps += 1;
    }

    /// Prints what a phase took, and returns which of its calls took too long.
    fn report(&self, name: &str, count: u64, calls: &[&Calls]) -> Vec<String> {
        let timing = self.clocks.cost * self.laps;
        let took = self.started.wall.elapsed().saturating_sub(timing).as_secs_f64();
        let rate = count as f64 / took;
        let each = took * 1e9 / count.max(1) as f64;
        println!("{name}: {count} in {took:.2} s: {:.2} million a second, {each:.0} ns each", rate / 1e6);
        for calls in calls.iter().chain([&&self.controls]).filter(|_| self.clocks.is_on) {
            let (cpu, wall) = calls.longest_cpu;
            println!(
                "    {} x {}: longest {} us of CPU ({} us by the wall), {} over 1 ms; longest by the wall {} us",
                calls.count,
                calls.name,
                cpu.as_micros(),
                wall.as_micros(),
                calls.too_long.len(),
                calls.longest_wall.as_micros()
            );
            if !calls.too_long.is_empty() {
                println!(
                    "        of those over 1 ms, {} met page faults, {} at most",
                    calls.too_long_with_faults, calls.most_faults
                );
            }
        }
        let slow = |calls: &&Calls| {
            let kind = calls.name;
            calls.too_long.iter().map(|number| format!("{name}: {kind} {number}")).collect::<Vec<_>>()
        };
        calls.iter().flat_map(slow).collect()
    }
}

/// All calls of a kind.
struct Calls {
    name: &'static str,
    count: u64,
    /// By CPU time, and how long that one took by the wall.
    longest_cpu: (Duration, Duration),
    longest_wall: Duration,
    /// The numbers of those that took more CPU time than [`TOO_LONG`]…
    too_long: Vec<u64>,
    /// …and how many of them met page faults, and how many faults one of them met.
    too_long_with_faults: u64,
    most_faults: u64,
}

impl Calls {
    fn new(name: &'static str) -> Self {
        let longest_cpu = (Duration::ZERO, Duration::ZERO);
        Self {
            name,
            count: 0,
            longest_cpu,
            longest_wall: Duration::ZERO,
            too_long: Vec::new(),
            too_long_with_faults: 0,
            most_faults: 0,
        }
    }

    /// Notes how long one took.
    fn add(&mut self, start: Reading, end: Reading) {
        let (cpu, wall) = (end.cpu.saturating_sub(start.cpu), end.wall - start.wall);
        if cpu > self.longest_cpu.0 {
            self.longest_cpu = (cpu, wall);
        }
        self.longest_wall = self.longest_wall.max(wall);
        if cpu > TOO_LONG {
            let faults = end.faults - start.faults;
            self.too_long.push(self.count);
            self.too_long_with_faults += u64::from(faults > 0);
            self.most_faults = self.most_faults.max(faults);
        }
    }
}

#[derive(Clone, Copy)]
struct Reading {
    wall: Instant,
    /// CPU time of this thread.
    cpu: Duration,
    /// Pages that the system had to find for this thread.
    faults: u64,
}

impl Reading {
    fn now() -> Self {
        Self { wall: Instant::now(), cpu: thread_cpu_time(), faults: thread_page_faults() }
    }
}

#[allow(unsafe_code, reason = "the standard library does not have this clock")]
fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place for the result.
    let outcome = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(outcome, 0, "this system has no clock of a thread's CPU time");
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "the standard library does not count them")]
fn thread_page_faults() -> u64 {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::uninit();
    // SAFETY: `usage` is a valid place for the result, which is whole when the call succeeds.
    let usage = unsafe {
        let outcome = libc::getrusage(libc::RUSAGE_THREAD, usage.as_mut_ptr());
        assert_eq!(outcome, 0, "this system does not count a thread's page faults");
        usage.assume_init()
    };
    (usage.ru_minflt + usage.ru_majflt) as u64
}

/// Other systems count them by process only.
#[cfg(not(target_os = "linux"))]
fn thread_page_faults() -> u64 {
    0
}

/// What the system says of this process; zero where there is no /proc.
struct Memory {
    resident_bytes: u64,
    peak_bytes: u64,
}

impl Memory {
    fn now() -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let bytes = |name: &str| {
            let kib = status.lines().find_map(|line| line.strip_prefix(name)?.trim().strip_suffix(" kB"));
            kib.and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1_024
        };
        Self { resident_bytes: bytes("VmRSS:"), peak_bytes: bytes("VmHWM:") }
    }
}
