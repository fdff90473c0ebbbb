//! What a checkpoint costs, and how fast a set is filled from one:
//! `cargo run --release --example checkpoint -- 10000000`; `--help` tells what else can be asked.
//!
//! Memory only, unless a directory is named: what the disk takes is the disk's. So the file and two sets have to fit. Times are CPU
//! time of the one thread, which other processes cannot lengthen much; page faults are in them.
#![allow(clippy::disallowed_methods, reason = "a program that measures")]
#![allow(clippy::unwrap_used, reason = "a program that measures")]

#[path = "../benches/src/shuffle.rs"]
#[allow(unreachable_pub, reason = "it is the benches'")]
mod shuffle;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Parser;
use kafka_message_scheduler::checkpoint::{Decoder, Encoder, Kept, Moment, Stand, StateDir};
use kafka_message_scheduler::engine::{ListCursor, PendingSet};
use kafka_message_scheduler::schedule::{DueTime, Format, Headers, Schedule};
use mimalloc::MiMalloc;
use shuffle::{Shuffle, mix};

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

const BEGIN_MS: i64 = 1_767_225_600_000;

/// How far ahead schedules are due: thirty days.
const SPREAD_MS: i64 = 30 * 86_400_000;

/// IDs that are looked up together, as the product does it.
const AHEAD: usize = 32;

const KEY: [u8; 8] = *b"order-17";

/// The thread's CPU time.
struct Clock(Duration);

impl Clock {
    fn now() -> Self {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        Self(Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
    }

    fn elapsed(&self) -> Duration {
        Self::now().0.saturating_sub(self.0)
    }
}

/// Fills a pending set, writes a checkpoint of it to memory, and fills sets from that in several ways.
#[derive(Parser)]
struct Options {
    /// How many schedules
    #[arg(value_parser = clap::value_parser!(u64).range(1..=u64::from(u32::MAX)))]
    count: u64,

    /// Bytes of a value
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    value: usize,

    /// Only the ways of filling a set whose name begins with this
    #[arg(long, value_name = "NAME", default_value = "")]
    way: String,

    /// Reads the file from this directory, too: by itself, and ahead on a thread of its own
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// How often everything is measured
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
}

fn main() {
    kafka_message_scheduler::allocator::give_back_at_once();
    let options = Options::parse();
    println!("{} schedules: ID 16, key {}, value {} bytes", options.count, KEY.len(), options.value);
    let set = filled(&options);
    for _ in 0..options.rounds {
        walk(&set);
        let file = encode(&set);
        decode("decode alone", &file[..]);
        if let Some(dir) = &options.dir {
            read_from_disk(&file, dir);
        }
        for way in [
            Way { name: "same seed, laid out", has_same_seed: true, is_laid_out: true, is_warmed: false },
            Way {
                name: "same seed, laid out, warmed",
                has_same_seed: true,
                is_laid_out: true,
                is_warmed: true,
            },
            Way { name: "same seed", has_same_seed: true, is_laid_out: false, is_warmed: false },
            Way { name: "other seed", has_same_seed: false, is_laid_out: false, is_warmed: false },
            Way { name: "other seed, warmed", has_same_seed: false, is_laid_out: false, is_warmed: true },
        ] {
            if way.name.starts_with(&options.way) {
                restore(&file, &way);
            }
        }
    }
}

/// A set whose schedules came in random order.
fn filled(options: &Options) -> PendingSet {
    let mut set = PendingSet::new(1);
    let order = Shuffle::new(options.count, 7);
    let (mut id, mut value) = ([0; 16], vec![0; options.value]);
    let started = Clock::now();
    for position in 0..options.count {
        let number = order.nth(position);
        write_number(&mut id, number);
        write_number(&mut value, number);
        let due = DueTime::from_epoch_ms(BEGIN_MS + (mix(number) % SPREAD_MS as u64) as i64);
        let (topic, key, headers) = ("orders", &KEY[..], Headers::default());
        let schedule = Schedule { due, topic, key, value: Some(&value), headers };
        set.upsert(&id, position as i64, Format::Avro, &schedule, Headers::default());
    }
    while !set.finish_bulk(4_000) {}
    report("fill, not warmed", options.count, started.elapsed(), "");
    set
}

/// What the walk alone takes.
fn walk(set: &PendingSet) {
    let mut sum = 0;
    pieces("walk alone", set, |set, cursor| {
        let next = set.snapshot(cursor, &mut |view, _| {
            sum += view.schedule.value.map_or(0, |value| value.iter().map(|&byte| u64::from(byte)).sum());
        });
        (next, Duration::ZERO)
    });
    std::hint::black_box(sum);
}

/// What it takes to turn a set into a file, on its thread.
fn encode(set: &PendingSet) -> Vec<u8> {
    let stand = Stand {
        topic: "schedules".to_owned(),
        partition: 0,
        topic_id: "x6-M4GZdQ_6vJ3kVgBm5Lg".to_owned(),
        offset: set.len() as i64,
        leader_epoch: None,
        hash_seed: set.hash_seed(),
        schedules: set.len() as u64,
        taken: Moment { wall_ms: 1_767_225_600_000, boot: None },
        log_start: 0,
        tombstone_retention_ms: 3_600_000,
        read_as: String::new(),
    };
    let mut encoder = Encoder::new(&stand);
    let mut file = Vec::with_capacity(set.payload_bytes() + set.payload_bytes() / 4);
    let mut copying = Duration::ZERO;
    pieces("walk and encode", set, |set, cursor| {
        let next = set.snapshot(cursor, &mut |view, held| {
            let (id, offset, format) = (view.id, view.offset, view.format);
            let (schedule, record_headers) = (view.schedule, view.record_headers);
            encoder.push(&Kept { id, offset, format, schedule, record_headers, held });
        });
        // Not its thread's work.
        let started = Clock::now();
        while let Some(bytes) = encoder.take() {
            file.extend_from_slice(&bytes);
            encoder.recycle(bytes);
        }
        let copied = started.elapsed();
        copying += copied;
        (next, copied)
    });
    file.extend(encoder.finish());
    println!(
        "    and {:.2} s to copy the file away; {} bytes, {:.1} a schedule",
        copying.as_secs_f64(),
        file.len(),
        file.len() as f64 / set.len() as f64
    );
    file
}

/// Walks over a set, and says what it took and how long the longest pieces. With each piece comes what of it does not count.
fn pieces(
    name: &str,
    set: &PendingSet,
    mut next: impl FnMut(&PendingSet, ListCursor) -> (Option<ListCursor>, Duration),
) {
    let mut pieces = Vec::new();
    let mut cursor = Some(ListCursor::default());
    while let Some(from) = cursor {
        let started = Clock::now();
        let (rest, other) = next(set, from);
        pieces.push(started.elapsed().saturating_sub(other));
        cursor = rest;
    }
    pieces.sort_unstable();
    let us = |part: usize| pieces[(pieces.len() - 1) * part / 1_000].as_micros();
    let text = format!(
        "{} pieces: median {} us, 99.9 % {} us, the longest {} us",
        pieces.len(),
        us(500),
        us(999),
        us(1_000)
    );
    report(name, set.len() as u64, pieces.iter().sum(), &text);
}

/// What it takes to read a file, without doing anything with it.
fn decode(name: &str, source: impl Read) {
    let (started, began) = (Clock::now(), Instant::now());
    let mut decoder = Decoder::open(source).unwrap();
    let (mut count, mut sum) = (0, 0);
    while let Some(block) = decoder.next_block().unwrap() {
        for kept in block.schedules() {
            let kept = kept.unwrap();
            sum += kept.offset + kept.schedule.key.len() as i64;
            count += 1;
        }
    }
    std::hint::black_box(sum);
    report(name, count, started.elapsed(), &format!("{:.2} s by the clock", began.elapsed().as_secs_f64()));
}

/// What it takes to read a file that the page cache mostly has.
fn read_from_disk(file: &[u8], dir: &Path) {
    const AT_ONCE: usize = 1 << 20;
    let state = StateDir::open(dir).unwrap();
    let mut store = state.store("schedules", 0);
    store.begin();
    for piece in file.chunks(AT_ONCE) {
        let mut piece = piece.to_vec();
        while let Err(refused) = store.write(piece) {
            piece = refused;
            store.wait(Duration::from_millis(100));
        }
    }
    while !store.finish() {}
    while store.outcome().map(Result::unwrap).is_none() {
        store.wait(Duration::from_millis(100));
    }
    let path = fs::read_dir(dir.join("schedules/0")).unwrap().next().unwrap().unwrap().path();
    for _ in 0..2 {
        decode("decode from the disk", File::open(&path).unwrap());
        let mut opened = store.open().unwrap();
        let (started, began, mut count) = (Clock::now(), Instant::now(), 0);
        while let Some(block) = opened.next_block().unwrap() {
            count += block.schedules().map(Result::unwrap).filter(|kept| kept.offset >= 0).count() as u64;
        }
        let by_the_clock = format!("{:.2} s by the clock", began.elapsed().as_secs_f64());
        report("decode what is read ahead", count, started.elapsed(), &by_the_clock);
    }
    store.discard();
}

/// How a set is filled from a file.
struct Way {
    name: &'static str,
    has_same_seed: bool,
    is_laid_out: bool,
    is_warmed: bool,
}

fn restore(file: &[u8], way: &Way) {
    let started = Clock::now();
    let mut decoder = Decoder::open(file).unwrap();
    let Stand { hash_seed, schedules, .. } = *decoder.stand();
    let mut set = PendingSet::new(if way.has_same_seed { hash_seed } else { hash_seed + 1 });
    if way.is_laid_out {
        set.lay_out(schedules as usize);
    }
    let mut longest = Duration::ZERO;
    while let Some(block) = decoder.next_block().unwrap() {
        let block_started = Clock::now();
        let mut all = block.schedules().map(Result::unwrap);
        let mut some = Vec::with_capacity(AHEAD);
        loop {
            some.clear();
            some.extend(all.by_ref().take(AHEAD));
            if some.is_empty() {
                break;
            }
            if way.is_warmed {
                set.warm(some.iter().map(|kept| kept.id));
            }
            for kept in &some {
                set.upsert(kept.id, kept.offset, kept.format, &kept.schedule, kept.record_headers);
            }
        }
        longest = longest.max(block_started.elapsed());
    }
    let took = started.elapsed();
    report(way.name, schedules, took, &format!("the longest block {} us", longest.as_micros()));
    assert_eq!(set.len() as u64, schedules);
    let started = Clock::now();
    while !set.finish_bulk(4_000) {}
    report("    and filed", schedules, started.elapsed(), "");
}

fn report(name: &str, count: u64, took: Duration, more: &str) {
    let took = took.as_secs_f64();
    let (each, rate) = (took * 1e9 / count as f64, count as f64 / took / 1e6);
    println!("{name:32} {took:7.2} s {each:6.0} ns each {rate:6.2} million a second   {more}");
}

/// The number itself, and then what looks random.
fn write_number(bytes: &mut [u8], number: u64) {
    for (part, chunk) in bytes.chunks_mut(8).enumerate() {
        let word = if part == 0 { number } else { mix(number.wrapping_mul(8) + part as u64) };
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
    }
}
