//! A handful of hot operations, for `scripts/instructions` to count the instructions of: a count is the same on a busy
//! machine as on an idle one, where a time is not.
//!
//! Given the name of an operation, this program prepares it, does it in a function named `counted_…`, which is where
//! callgrind counts, and prints how often it did it. Without a name it does all of them and counts nothing.
//!
//! Everything is seeded, and small enough for a minute under valgrind: cache misses are not what this is about.
#![allow(missing_docs, clippy::unwrap_used, reason = "a program that measures")]

use std::hint::black_box;

use kafka_message_scheduler::codec::{self, Scratch};
use kafka_message_scheduler::engine::{BatchLimits, PendingSet};
use kafka_message_scheduler::schedule::{DueTime, Format, Headers, HeadersBuf, Schedule};
use kms_benches::shuffle::{Shuffle, mix};
use kms_benches::workload::SPREAD_MS;

/// Schedules in the set, and of these how many are operated on, in random order.
const HELD: u64 = 20_000;
const COUNT: u64 = 10_000;

/// When it all begins, epoch milliseconds: 1 January 2026, so that in the thirty days the wheel's slots of twelve days turn
/// three times, and what that costs is part of the figures.
const BEGIN_MS: i64 = 1_767_225_600_000;

/// A slot of the wheel's level 5, twelve days.
const SLOT_MS: i64 = 1 << 30;

/// Entries moved in the wheel, or filed at the end of a load, at a time: as a shard does it (`src/scheduler/runner.rs`).
const ADVANCE_BUDGET: usize = 4_000;

/// Steps of housekeeping at a time: as a shard does it in a round that reads nothing.
const TIDY_BUDGET: usize = 1_000;

/// Schedules that are announced at a time, as the product does it.
const AHEAD: usize = 32;

/// A delivery; the product's limit is 8,000 by default.
const BATCH: BatchLimits = BatchLimits { max_count: 500, max_bytes: 1 << 20 };

/// An operation's name, and what prepares it, does it and says how often.
type Operation = (&'static str, fn() -> u64);

const OPERATIONS: [Operation; 12] = [
    ("upsert_new", upsert_new),
    ("replace", replace),
    ("remove", remove),
    ("get", get),
    ("fire", fire),
    ("cascade", cascade),
    ("tidy", tidy),
    ("warm", warm),
    ("decode_avro", decode_avro),
    ("decode_json", decode_json),
    ("encode_avro", encode_avro),
    ("encode_json", encode_json),
];

fn main() {
    let wanted = std::env::args().nth(1).filter(|argument| !argument.starts_with('-'));
    match wanted.as_deref() {
        Some("names") => OPERATIONS.iter().for_each(|(name, _)| println!("{name}")),
        Some(wanted) => {
            let (_, operation) = OPERATIONS.iter().find(|(name, _)| *name == wanted).expect("one of `names`");
            println!("{}", operation());
        }
        None => {
            for (name, operation) in OPERATIONS {
                println!("{name}: done {} times, not counted; see scripts/instructions", operation());
            }
        }
    }
}

/// A schedule that is put in, worked out beforehand.
struct Input {
    id: [u8; 16],
    due_ms: i64,
}

impl Input {
    fn schedule(&self) -> Schedule<'_> {
        Schedule {
            due: DueTime::from_epoch_ms(self.due_ms),
            topic: "orders",
            key: b"order-17",
            value: Some(b"forty bytes that somebody is waiting for"),
            headers: Headers::default(),
        }
    }
}

fn upsert_new() -> u64 {
    let mut set = live();
    let new = inputs(HELD..HELD + COUNT, 1);
    counted_upsert_new(&mut set, &new);
    assert_eq!(set.len() as u64, HELD + COUNT);
    COUNT
}

#[inline(never)]
fn counted_upsert_new(set: &mut PendingSet, new: &[Input]) {
    put_all(set, new, HELD as i64);
}

fn replace() -> u64 {
    let mut set = live();
    let newer = inputs(some(), 2);
    counted_replace(&mut set, &newer);
    assert_eq!(set.len() as u64, HELD);
    COUNT
}

#[inline(never)]
fn counted_replace(set: &mut PendingSet, newer: &[Input]) {
    put_all(set, newer, HELD as i64);
}

fn remove() -> u64 {
    let mut set = live();
    let old = inputs(some(), 1);
    counted_remove(&mut set, &old);
    assert_eq!(set.len() as u64, HELD - COUNT);
    COUNT
}

#[inline(never)]
fn counted_remove(set: &mut PendingSet, old: &[Input]) {
    for input in old {
        black_box(set.remove(&input.id, i64::MAX));
    }
}

fn get() -> u64 {
    let set = live();
    let held = inputs(some(), 1);
    counted_get(&set, &held);
    COUNT
}

#[inline(never)]
fn counted_get(set: &PendingSet, held: &[Input]) {
    for input in held {
        black_box(set.get(&input.id).unwrap());
    }
}

/// A delivery: advance, hand out, read, settle.
fn fire() -> u64 {
    let mut set = live();
    counted_fire(&mut set, COUNT);
    assert!(set.len() as u64 <= HELD - COUNT);
    HELD - set.len() as u64
}

#[inline(never)]
fn counted_fire(set: &mut PendingSet, count: u64) {
    let (mut now_ms, mut fired) = (BEGIN_MS, 0);
    let mut batch = Vec::new();
    while fired < count {
        now_ms += SPREAD_MS / 100;
        while !set.advance(now_ms, ADVANCE_BUDGET) {}
        set.take_due(now_ms, BATCH, &mut batch);
        fired += batch.len() as u64;
        for handle in batch.drain(..) {
            black_box(set.view(handle).unwrap());
            set.settle(handle);
        }
    }
}

/// What a slot of days costs when its time comes: all of it is filed more finely, nearly nothing is due.
fn cascade() -> u64 {
    let mut set = PendingSet::new(42);
    set.start_time_by(BEGIN_MS);
    let slot_ms = (BEGIN_MS / SLOT_MS + 2) * SLOT_MS;
    let mut all = inputs(0..HELD, 1);
    for input in &mut all {
        input.due_ms = slot_ms + (input.due_ms - BEGIN_MS) % SLOT_MS;
    }
    put_all(&mut set, &all, 0);
    while !set.finish_bulk(ADVANCE_BUDGET) {}
    while !set.advance(slot_ms - 1, ADVANCE_BUDGET) {}
    counted_cascade(&mut set, slot_ms + 3_600_000);
    HELD
}

#[inline(never)]
fn counted_cascade(set: &mut PendingSet, now_ms: i64) {
    while !set.advance(now_ms, ADVANCE_BUDGET) {}
}

/// What each replaced schedule leaves for later.
fn tidy() -> u64 {
    let mut set = live();
    put_all(&mut set, &inputs(some(), 2), HELD as i64);
    counted_tidy(&mut set);
    COUNT
}

#[inline(never)]
fn counted_tidy(set: &mut PendingSet) {
    while !set.tidy(BEGIN_MS, TIDY_BUDGET) {}
}

fn warm() -> u64 {
    let mut set = live();
    let held = inputs(some(), 1);
    counted_warm(&mut set, &held);
    COUNT
}

#[inline(never)]
fn counted_warm(set: &mut PendingSet, held: &[Input]) {
    for inputs in held.chunks(AHEAD) {
        set.warm(inputs.iter().map(|input| &input.id[..]));
    }
}

fn decode_avro() -> u64 {
    let records = records(Format::Avro);
    counted_decode_avro(&records, &mut Scratch::default());
    COUNT
}

#[inline(never)]
fn counted_decode_avro(records: &[Vec<u8>], scratch: &mut Scratch) {
    for record in records {
        black_box(codec::decode(Format::Avro, record, scratch).unwrap());
    }
}

fn decode_json() -> u64 {
    let records = records(Format::Json);
    counted_decode_json(&records, &mut Scratch::default());
    COUNT
}

#[inline(never)]
fn counted_decode_json(records: &[Vec<u8>], scratch: &mut Scratch) {
    for record in records {
        black_box(codec::decode(Format::Json, record, scratch).unwrap());
    }
}

fn encode_avro() -> u64 {
    let (inputs, headers) = (inputs(0..COUNT, 1), headers());
    counted_encode_avro(&inputs, headers.as_headers(), &mut Vec::with_capacity(1_024));
    COUNT
}

#[inline(never)]
fn counted_encode_avro(inputs: &[Input], headers: Headers<'_>, record: &mut Vec<u8>) {
    for input in inputs {
        record.clear();
        codec::encode(Format::Avro, &Schedule { headers, ..input.schedule() }, record);
        black_box(&*record);
    }
}

fn encode_json() -> u64 {
    let (inputs, headers) = (inputs(0..COUNT, 1), headers());
    counted_encode_json(&inputs, headers.as_headers(), &mut Vec::with_capacity(1_024));
    COUNT
}

#[inline(never)]
fn counted_encode_json(inputs: &[Input], headers: Headers<'_>, record: &mut Vec<u8>) {
    for input in inputs {
        record.clear();
        codec::encode(Format::Json, &Schedule { headers, ..input.schedule() }, record);
        black_box(&*record);
    }
}

/// A loaded set.
fn live() -> PendingSet {
    let mut set = PendingSet::new(42);
    set.start_time_by(BEGIN_MS);
    put_all(&mut set, &inputs(0..HELD, 1), 0);
    while !set.finish_bulk(ADVANCE_BUDGET) {}
    set
}

fn put_all(set: &mut PendingSet, inputs: &[Input], offset: i64) {
    for (offset, input) in (offset..).zip(inputs) {
        black_box(set.upsert(&input.id, offset, Format::Avro, &input.schedule(), Headers::default()));
    }
}

/// The numbers of those that are operated on.
fn some() -> impl Iterator<Item = u64> {
    let order = Shuffle::new(HELD, 7);
    (0..COUNT).map(move |position| order.nth(position))
}

fn inputs(numbers: impl IntoIterator<Item = u64>, version: u64) -> Vec<Input> {
    let input = |number| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&mix(number).to_le_bytes());
        id[8..].copy_from_slice(&mix(!number).to_le_bytes());
        Input { id, due_ms: BEGIN_MS + 1 + (mix(number ^ version << 48) % SPREAD_MS as u64) as i64 }
    };
    numbers.into_iter().map(input).collect()
}

fn records(format: Format) -> Vec<Vec<u8>> {
    let headers = headers();
    let record = |input: &Input| {
        let mut record = Vec::new();
        codec::encode(format, &Schedule { headers: headers.as_headers(), ..input.schedule() }, &mut record);
        record
    };
    inputs(0..COUNT, 1).iter().map(record).collect()
}

fn headers() -> HeadersBuf {
    [("trace-id", b"4bf92f3577b34da6a3ce929d0e0e4736".as_slice()), ("source", b"checkout")]
        .into_iter()
        .collect()
}
