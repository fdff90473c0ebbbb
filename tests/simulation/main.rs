//! A deterministic simulation: the scheduler's own shards, fire loop and recovery on a cluster that misbehaves.
//!
//! One seed decides everything: what is written, who crashes, freezes, is cut off or takes over, which answers are lost
//! and how long everything takes. The same seed gives the same run, event by event. The history checker judges each.
//!
//! | file | what it is |
//! |---|---|
//! | `cluster.rs`, `partition.rs` | Kafka: its log, its transactions, and time |
//! | `client.rs` | what a shard sees of it |
//! | `disk.rs` | what instances keep across restarts |
//! | `run.rs`, `run/` | who does what when; what shards are asked |
//! | `../support/history.rs`, `../support/at_least_once.rs`, `run/questions.rs` | the judges: of deliveries in either mode, and of answers |
//! | `planted.rs` | faults that must be found; those of the code itself are planted by `scripts/canaries` |
//!
//! `KMS_SIM_SEEDS=50000 cargo test --release --test simulation` runs more; `KMS_SIM_SEED=17 … -- --ignored --nocapture
//! trace` tells what happens in one.
#![allow(clippy::unwrap_used, reason = "a test")]
#![allow(unreachable_pub, reason = "modules of a test")]
#![allow(clippy::disallowed_methods, reason = "how many seeds, and which, is no setting of the product")]

#[path = "../support/at_least_once.rs"]
mod at_least_once;
mod client;
mod cluster;
mod disk;
#[path = "../support/history.rs"]
mod history;
mod partition;
mod planted;
#[path = "../support/rng.rs"]
mod rng;
mod run;

use std::collections::HashMap;
use std::panic::RefUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};

use history::{History, Write};
use kafka_message_scheduler::kafka::producer::Mode;
use planted::Planted;
use run::{Outcome, Plan, Weather, run};

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// What a run is to show, named like the test that does many of them.
fn plan_of(test: &str, seed: u64) -> Plan {
    let keeps = test.ends_with("_with_checkpoints");
    let (mode, weather) = match test {
        "exactly_once" | "exactly_once_with_checkpoints" | "exactly_once_cancelling_many" => {
            (Some(Mode::Transactional), Weather::Stormy)
        }
        "at_least_once" | "at_least_once_with_checkpoints" | "at_least_once_cancelling_many" => {
            (Some(Mode::Plain), Weather::Stormy)
        }
        "at_least_once_in_peace" => (Some(Mode::Plain), Weather::Peaceful),
        "modes_side_by_side" => (None, Weather::Stormy),
        "modes_side_by_side_in_peace" => (None, Weather::Peaceful),
        "restless" => (Some(Mode::Transactional), Weather::Restless),
        _ => panic!("there is no test {test} of many seeds"),
    };
    let cancels_many = test.ends_with("_cancelling_many");
    Plan { seed, mode, weather, keeps, cancels_many, planted: None, keeps_trace: false }
}

fn plan(seed: u64) -> Plan {
    plan_of("exactly_once", seed)
}

/// Runs these seeds on all processors; gives the first that has something wrong, with what.
fn first_complaint(
    seeds: std::ops::Range<u64>,
    plan: impl Fn(u64) -> Plan + Sync + RefUnwindSafe,
) -> Option<(u64, String)> {
    let next = AtomicU64::new(seeds.start);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let search = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return None;
            }
            let outcome = std::panic::catch_unwind(|| run(plan(seed)).complaint());
            if let Some(complaint) = outcome.unwrap_or_else(|_| Some("it panicked, see above".to_owned())) {
                next.store(seeds.end, Ordering::Relaxed);
                return Some((seed, complaint));
            }
        }
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(search)).collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap()).min()
    })
}

#[track_caller]
fn assert_clean(test: &str) {
    let seeds = from_environment("KMS_SIM_SEEDS").unwrap_or(5_000);
    let complaint = first_complaint(0..seeds, |seed| plan_of(test, seed));
    if let Some((seed, complaint)) = complaint {
        panic!(
            "seed {seed}: {complaint}\nto see what happens:\n\
             KMS_SIM_TEST={test} KMS_SIM_SEED={seed} cargo test --test simulation trace -- --ignored --nocapture"
        );
    }
}

#[test]
fn exactly_once() {
    assert_clean("exactly_once");
}

#[test]
fn at_least_once() {
    assert_clean("at_least_once");
}

/// Shards begin with what they kept: old, damaged, unfinished, or none.
#[test]
fn exactly_once_with_checkpoints() {
    assert_clean("exactly_once_with_checkpoints");
}

#[test]
fn at_least_once_with_checkpoints() {
    assert_clean("at_least_once_with_checkpoints");
}

/// Shards are asked to cancel up to twenty schedules at once.
#[test]
fn exactly_once_cancelling_many() {
    assert_clean("exactly_once_cancelling_many");
}

#[test]
fn at_least_once_cancelling_many() {
    assert_clean("at_least_once_cancelling_many");
}

/// Without crashes, lost answers and frozen owners nothing comes twice, transactions or not.
#[test]
fn at_least_once_in_peace() {
    assert_clean("at_least_once_in_peace");
}

/// A rolling restart from one mode to the other, among worse: what is promised without transactions holds.
#[test]
fn modes_side_by_side() {
    assert_clean("modes_side_by_side");
}

#[test]
fn modes_side_by_side_in_peace() {
    assert_clean("modes_side_by_side_in_peace");
}

/// For five seconds a writer puts off what is about to fire, a thousand schedules by a tenth of a second each: there is always
/// something due that will be replaced before a transaction with it is committed. The others come all the same.
#[test]
fn restless() {
    const SEEDS: u64 = 4;
    const WORST_MS: i64 = 1_000;
    for seed in 0..SEEDS {
        let outcome = run(plan_of("restless", seed));
        if let Some(complaint) = outcome.complaint() {
            panic!("seed {seed}: {complaint}");
        }
        let mut late_ms = lateness_of_others_ms(&outcome.history);
        late_ms.sort_unstable();
        let (count, worst_ms) = (late_ms.len(), late_ms[late_ms.len() - 1]);
        println!(
            "seed {seed}: {count} others, late by {} ms (p50), {worst_ms} ms (worst)",
            late_ms[count / 2]
        );
        assert!(worst_ms < WORST_MS, "seed {seed}: one of the others came {worst_ms} ms late");
    }
}

/// How late those came that nobody puts off.
fn lateness_of_others_ms(history: &History) -> Vec<i64> {
    let due_ms: HashMap<&[u8], i64> = history
        .records
        .iter()
        .filter_map(|record| match record.write {
            Write::Schedule { due_ms, .. } if record.key.starts_with(b"other-") => {
                Some((&*record.key, due_ms))
            }
            _ => None,
        })
        .collect();
    let late_ms = history.messages.iter().filter_map(|seen| Some(seen.seen_at_ms - due_ms.get(&*seen.key)?));
    late_ms.collect()
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let tests = [
        "exactly_once",
        "at_least_once",
        "at_least_once_in_peace",
        "modes_side_by_side",
        "restless",
        "exactly_once_with_checkpoints",
    ];
    for (seed, test) in (0..20).zip(tests.into_iter().cycle()) {
        let traced = || run(Plan { keeps_trace: true, ..plan_of(test, seed) });
        let (first, second) = (traced(), traced());
        for (line, other) in first.trace.iter().zip(&second.trace) {
            assert_eq!(line, other, "seed {seed}");
        }
        assert_eq!((first.trace_hash, first.events), (second.trace_hash, second.events), "seed {seed}");
    }
}

#[test]
fn the_runs_are_eventful() {
    let outcomes: Vec<Outcome> = (0..100).map(|seed| run(Plan { keeps_trace: true, ..plan(seed) })).collect();
    let delivered: usize = outcomes.iter().map(|outcome| outcome.verdict.right).sum();
    let records: usize = outcomes.iter().map(|outcome| outcome.history.records.len()).sum();
    println!("{delivered} delivered, {records} records");
    assert!(delivered > 5_000 && records > 20_000, "{delivered} delivered of {records} records");
    assert_all_happen(
        &outcomes,
        &[
            "is killed",
            "stands still",
            "is cut off",
            "is wrong by",
            "timed out",
            "compacted",
            "are deleted",
            "hangs",
            "asked to cancel",
            "asked to put",
        ],
    );
}

#[test]
fn many_are_cancelled_at_once() {
    let plan = |seed| Plan { keeps_trace: true, ..plan_of("exactly_once_cancelling_many", seed) };
    let outcomes: Vec<Outcome> = (0..20).map(|seed| run(plan(seed))).collect();
    assert_all_happen(
        &outcomes,
        &["asked to cancel these versions", "asked to cancel all", "cancelled at once"],
    );
}

#[test]
fn checkpoints_are_used_and_passed_over() {
    let plan = |seed| Plan { keeps_trace: true, ..plan_of("exactly_once_with_checkpoints", seed) };
    let outcomes: Vec<Outcome> = (0..100).map(|seed| run(plan(seed))).collect();
    assert_all_happen(
        &outcomes,
        &[
            "it has a checkpoint",
            "passed over: it is damaged",
            "passed over: it is cut short",
            "s old, and the topic keeps tombstones for",
        ],
    );
}

/// Each of these is in the trace of some run.
#[track_caller]
fn assert_all_happen(outcomes: &[Outcome], troubles: &[&str]) {
    for trouble in troubles {
        let has_it = |outcome: &&Outcome| outcome.trace.iter().any(|line| line.contains(trouble));
        let count = outcomes.iter().filter(has_it).count();
        println!("{trouble}: in {count} of {} runs", outcomes.len());
        assert!(count > 0, "in none of {} runs: {trouble}", outcomes.len());
    }
}

/// Each planted fault is found within so many seeds.
const FOUND_WITHIN: u64 = 300;

#[test]
fn every_planted_fault_is_found() {
    let mut missed = Vec::new();
    for &planted in planted::ALL {
        let found = first_complaint(0..FOUND_WITHIN, |seed| Plan { planted: Some(planted), ..plan(seed) });
        match found {
            Some((seed, complaint)) => {
                println!("{planted:?}: seed {seed}: {}", complaint.lines().nth(2).unwrap_or(&complaint));
            }
            None => missed.push(planted),
        }
    }
    assert!(missed.is_empty(), "not found within {FOUND_WITHIN} seeds: {missed:?}");
}

/// Tells what happens in the run of `KMS_SIM_SEED` of the test `KMS_SIM_TEST`, with the fault `KMS_SIM_PLANTED`.
#[test]
#[ignore = "asked for by name, with KMS_SIM_SEED"]
fn trace() {
    let seed = from_environment("KMS_SIM_SEED").expect("KMS_SIM_SEED says which run");
    let planted = std::env::var("KMS_SIM_PLANTED").ok();
    let planted: Option<Planted> =
        planted.map(|name| *planted::ALL.iter().find(|planted| format!("{planted:?}") == name).unwrap());
    let test = std::env::var("KMS_SIM_TEST").unwrap_or_else(|_| "exactly_once".to_owned());
    let outcome = run(Plan { planted, keeps_trace: true, ..plan_of(&test, seed) });
    println!("{}", outcome.trace.join("\n"));
    let complaint = outcome.complaint();
    assert!(complaint.is_none(), "{}", complaint.unwrap_or_default());
}
