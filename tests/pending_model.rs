//! The pending set against a model that is too simple to be wrong.
//!
//! Whatever is done, in whatever order: the set holds what the records say, hands out nothing early, leaves nothing
//! behind, keeps to due order, never wakes late, and no part of it contradicts another.

#[path = "pending_model/model.rs"]
mod model;
#[path = "support/rng.rs"]
mod rng;

use std::collections::{BTreeMap, BTreeSet};

use kafka_message_scheduler::engine::{BatchLimits, PendingSet};
use kafka_message_scheduler::schedule::{DueTime, Format, Headers, Schedule};
use proptest::prelude::*;

use model::{Run, Step};
use rng::Rng;

const NO_LIMITS: BatchLimits = BatchLimits { max_count: usize::MAX, max_bytes: usize::MAX };

proptest! {
    #[test]
    fn any_steps_leave_set_and_model_equal(steps in prop::collection::vec(any::<Step>(), 0..150)) {
        Run::all(steps, 1);
    }
}

#[test]
fn hundreds_of_seeds_leave_set_and_model_equal() {
    let (seeds, steps) = if cfg!(miri) { (1, 100) } else { (300, 600) };
    for seed in 0..seeds {
        // Printed by the test harness if the seed fails.
        println!("seed {seed}");
        let mut numbers = Rng::new(seed);
        Run::all((0..steps).map(|_| (numbers.next() as u8, numbers.next(), numbers.next())), 1);
    }
}

/// One schedule, two looks at the clock, loaded in bulk or read live: handed out exactly when it is due.
#[test]
#[cfg_attr(miri, ignore = "too many sets")]
fn every_pair_of_edge_times_is_met_exactly() {
    let powers = [0, 6, 12, 36, 48, 62].map(|power| 1i64 << power);
    let edges = powers.iter().flat_map(|&edge| [edge - 1, edge, edge + 1]);
    let edges: Vec<_> = edges.chain([i64::MIN, -1, i64::MAX - 1, i64::MAX]).collect();
    for &due_ms in &edges {
        for &first_ms in &edges {
            for &second_ms in &edges {
                for in_bulk in [true, false] {
                    let mut set = PendingSet::new(1);
                    assert!(in_bulk || set.finish_bulk(1) && set.advance(first_ms, 0));
                    apply(&mut set, b"id", 0, due_ms);
                    assert!(set.finish_bulk(10));
                    for now_ms in [first_ms, second_ms] {
                        let mut batch = Vec::new();
                        assert!(set.advance(now_ms, 20)); // one schedule, down all levels
                        assert!(set.next_wake() <= Some(due_ms));
                        set.take_due(now_ms, NO_LIMITS, &mut batch);
                        let case = format!("due {due_ms}, now {first_ms}, {second_ms}, bulk {in_bulk}");
                        assert_eq!(batch.len(), usize::from(due_ms <= now_ms), "{case}");
                        for handle in batch {
                            set.release(handle);
                        }
                    }
                }
            }
        }
    }
}

/// Enough IDs for the index to split and merge many times, and for more than one segment of entries.
#[test]
#[cfg_attr(miri, ignore = "too many schedules")]
fn a_large_set_loses_and_invents_nothing() {
    const COUNT: u64 = 100_000;
    let mut numbers = Rng::new(1);
    let mut set = PendingSet::new(2);
    let mut model = BTreeMap::new();
    let mut offset = 0;
    for round in 0..3 {
        for _ in 0..COUNT {
            let id = (numbers.next() % COUNT).to_le_bytes();
            offset += 1;
            if numbers.next().is_multiple_of(4) {
                assert_eq!(set.remove(&id, offset).is_some(), model.remove(&id).is_some());
            } else {
                let due_ms = (numbers.next() % 10_000_000) as i64;
                apply(&mut set, &id, offset, due_ms);
                model.insert(id, due_ms);
            }
        }
        assert_eq!(set.len(), model.len());
        set.check_invariants();
        if round == 1 {
            while !set.finish_bulk(1_000) {}
            set.check_invariants();
        }
    }
    let full_bytes = set.structure_bytes();
    let mut batch = Vec::new();
    for now_ms in [1_000, 5_000_000, 9_999_999] {
        while !set.advance(now_ms, 512) {}
        batch.clear();
        set.take_due(now_ms, NO_LIMITS, &mut batch);
        let due: BTreeSet<_> =
            model.iter().filter(|&(_, &due_ms)| due_ms <= now_ms).map(|(id, _)| *id).collect();
        assert_eq!(batch.len(), due.len());
        for &handle in &batch {
            let id = set.view(handle).expect("just taken").id.to_vec();
            assert!(due.contains(&id[..]));
            set.remove(&id, i64::MAX);
            model.remove(&id[..]);
        }
        set.check_invariants();
    }
    assert!(set.is_empty() && model.is_empty());
    assert!(set.structure_bytes() < full_bytes, "nothing was given back");
}

/// A set is dropped on another thread, so that its shard need not wait.
#[test]
fn a_set_may_be_sent_to_another_thread() {
    let mut set = PendingSet::new(3);
    apply(&mut set, b"id", 0, 1);
    #[allow(clippy::disallowed_methods, reason = "shows that a set may be dropped elsewhere")]
    std::thread::spawn(move || drop(set)).join().expect("dropped");
}

fn apply(set: &mut PendingSet, id: &[u8], offset: i64, due_ms: i64) {
    let due = DueTime::from_epoch_ms(due_ms);
    let schedule = Schedule { due, topic: "topic", key: b"key", value: None, headers: Headers::default() };
    set.upsert(id, offset, Format::Avro, &schedule, Headers::default());
}
