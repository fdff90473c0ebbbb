//! The pending set under hostile times: due times and clock readings where a slot of the wheel, a window of slots or the
//! arithmetic ends.
//!
//! Nothing comes early by the clock, nothing is left behind, all of it comes in due order, and the alarm is never late.
#![no_main]

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Unstructured};
use kafka_message_scheduler::engine::{BatchLimits, EntryState, Handle, PendingSet};
use kafka_message_scheduler::schedule::{DueTime, Format, Headers, Schedule};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    let mut input = Unstructured::new(input);
    if let (Ok(start), Ok(steps)) = (Start::arbitrary(&mut input), Vec::<Step>::arbitrary_take_rest(input)) {
        run(&start, &steps);
    }
});

/// What is there when time begins, read live or in bulk.
#[derive(Arbitrary, Debug)]
enum Start {
    Live,
    Bulk { dues: Vec<Time>, by: Option<Time>, budget: u8 },
}

#[derive(Arbitrary, Debug)]
enum Step {
    Set {
        id: u8,
        due: Time,
    },
    Remove {
        id: u8,
    },
    Clock(Time),
    /// A piece of the work, perhaps not all.
    Advance {
        budget: u8,
    },
    /// All of the work, in such pieces, then everything that is due, in such batches.
    CatchUp {
        budget: u8,
        batch: u8,
    },
    /// A batch, perhaps not all.
    Take {
        count: u8,
    },
    /// Its outcome.
    Release {
        id: u8,
    },
    /// Some housekeeping, perhaps not all.
    Tidy {
        budget: u8,
    },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Time {
    edge: Edge,
    nudge: i8,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Edge {
    Now,
    Zero,
    First,
    Last,
    /// Where a window ends, seen from 1970.
    Power {
        level: u8,
        is_negative: bool,
    },
    /// Some slots of a level from now, up to a window's 64.
    Ahead {
        level: u8,
        times: u8,
    },
    Behind {
        level: u8,
        times: u8,
    },
    /// Where the slot of a level that holds now ends, and with it a window of the level below.
    EndOfSlot {
        level: u8,
    },
    Alarm,
    Due {
        id: u8,
    },
    Any(i64),
}

struct Entry {
    due_ms: i64,
    in_flight: Option<Handle>,
}

struct Run {
    set: PendingSet,
    entries: BTreeMap<u8, Entry>,
    now_ms: i64,
    offset: i64,
}

fn run(start: &Start, steps: &[Step]) {
    let mut run = Run { set: PendingSet::new(1), entries: BTreeMap::new(), now_ms: 0, offset: 0 };
    run.start(start);
    for (step, number) in steps.iter().zip(1usize..) {
        run.step(step);
        run.check_alarm();
        if number.is_multiple_of(16) {
            run.set.check_invariants();
        }
    }
    run.set.check_invariants();
    run.follow_the_alarm();
}

impl Run {
    fn start(&mut self, start: &Start) {
        let mut budget = 1;
        if let Start::Bulk { dues, by, budget: pieces } = start {
            for (due, id) in dues.iter().zip(0..=u8::MAX) {
                self.set(id, *due);
            }
            if let Some(by) = by {
                self.set.start_time_by(self.ms(*by));
            }
            budget = 1 + usize::from(*pieces);
        }
        assert!(self.set.advance(i64::MAX, 0) && self.take(usize::MAX).is_empty(), "due in bulk mode");
        let mut calls = 0;
        while !self.set.finish_bulk(budget) {
            calls += 1;
            assert!(calls <= 2 * (self.entries.len() + 2), "the bulk load does not come to an end");
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Set { id, due } => self.set(id, due),
            Step::Remove { id } => self.remove(id),
            Step::Clock(time) => self.now_ms = self.ms(time),
            Step::Advance { budget } => _ = self.set.advance(self.now_ms, usize::from(budget)),
            Step::CatchUp { budget, batch } => self.catch_up(1 + usize::from(budget), 1 + usize::from(batch)),
            Step::Take { count } => _ = self.take(usize::from(count)),
            Step::Release { id } => self.release(id),
            Step::Tidy { budget } => _ = self.set.tidy(self.now_ms, usize::from(budget)),
        }
    }

    fn set(&mut self, id: u8, due: Time) {
        let due_ms = self.ms(due);
        let due = DueTime::from_epoch_ms(due_ms);
        let schedule = Schedule { due, topic: "t", key: b"", value: None, headers: Headers::default() };
        self.offset += 1;
        self.set.upsert(&[id], self.offset, Format::Avro, &schedule, Headers::default());
        self.entries.insert(id, Entry { due_ms, in_flight: None });
    }

    fn remove(&mut self, id: u8) {
        self.offset += 1;
        let removed = self.set.remove(&[id], self.offset);
        let expected = self.entries.remove(&id).map(|entry| match entry.in_flight {
            Some(_) => EntryState::InFlight,
            None => EntryState::Pending,
        });
        assert_eq!(removed, expected);
    }

    fn release(&mut self, id: u8) {
        if let Some(entry) = self.entries.get_mut(&id)
            && let Some(handle) = entry.in_flight.take()
        {
            self.set.release(handle);
        }
    }

    /// Takes a batch; gives the due times.
    fn take(&mut self, max_count: usize) -> Vec<i64> {
        let mut batch = Vec::new();
        self.set.take_due(self.now_ms, BatchLimits { max_count, max_bytes: usize::MAX }, &mut batch);
        let mut dues_ms = Vec::new();
        for handle in batch {
            let id = self.set.view(handle).expect("just taken").id[0];
            let entry = self.entries.get_mut(&id).expect("in the set");
            assert!(entry.due_ms <= self.now_ms, "due at {}, taken at {}", entry.due_ms, self.now_ms);
            assert_eq!(entry.in_flight.replace(handle), None, "taken twice");
            dues_ms.push(entry.due_ms);
        }
        assert!(dues_ms.is_sorted(), "out of order");
        dues_ms
    }

    fn catch_up(&mut self, budget: usize, batch: usize) {
        let due = self.pending().filter(|&due_ms| due_ms <= self.now_ms).count();
        let mut calls = 0;
        while !self.set.advance(self.now_ms, budget) {
            calls += 1;
            // Each level moves a schedule once, and twelve levels are more than there are.
            assert!(calls <= 12 * (self.entries.len() + 1), "advance does not come to an end");
        }
        let mut taken_ms = Vec::new();
        loop {
            let batch_ms = self.take(batch);
            if batch_ms.is_empty() {
                break;
            }
            taken_ms.extend(batch_ms);
        }
        assert_eq!(taken_ms.len(), due, "left behind");
        assert!(taken_ms.is_sorted(), "out of order between batches");
    }

    fn check_alarm(&self) {
        let (alarm_ms, first_ms) = (self.set.next_wake(), self.pending().min());
        assert_eq!(alarm_ms.is_some(), first_ms.is_some());
        assert!(alarm_ms <= first_ms, "an alarm at {alarm_ms:?} for {first_ms:?}");
    }

    /// From the beginning of time, the alarm alone brings everything, in a bounded number of alarms.
    fn follow_the_alarm(mut self) {
        for id in self.entries.keys().copied().collect::<Vec<_>>() {
            self.release(id);
        }
        let mut last_ms = None;
        let mut alarms = 0;
        while let Some(alarm_ms) = self.set.next_wake() {
            assert!(Some(alarm_ms) > last_ms, "woken again for nothing at {alarm_ms}");
            last_ms = Some(alarm_ms);
            self.now_ms = alarm_ms;
            self.catch_up(1_000, 3);
            alarms += 1;
            // One a level for each schedule there is or was: of those that are gone the wheel learns by and by.
            assert!(alarms <= 12 * (self.offset + 1), "woken too often");
        }
        assert_eq!(self.set.in_flight(), self.entries.len());
    }

    fn pending(&self) -> impl Iterator<Item = i64> {
        self.entries.values().filter(|entry| entry.in_flight.is_none()).map(|entry| entry.due_ms)
    }

    fn ms(&self, time: Time) -> i64 {
        let edge_ms = match time.edge {
            Edge::Now => self.now_ms,
            Edge::Zero => 0,
            Edge::First => i64::MIN,
            Edge::Last => i64::MAX,
            Edge::Power { level, is_negative: false } => slot_ms(level),
            Edge::Power { level, is_negative: true } => -slot_ms(level),
            Edge::Ahead { level, times } => {
                self.now_ms.saturating_add(slot_ms(level).saturating_mul(i64::from(times % 65)))
            }
            Edge::Behind { level, times } => {
                self.now_ms.saturating_sub(slot_ms(level).saturating_mul(i64::from(times % 65)))
            }
            Edge::EndOfSlot { level } => (self.now_ms | (slot_ms(level) - 1)).saturating_add(1),
            Edge::Alarm => self.set.next_wake().unwrap_or(self.now_ms),
            Edge::Due { id } => self.entries.get(&id).map_or(self.now_ms, |entry| entry.due_ms),
            Edge::Any(ms) => ms,
        };
        edge_ms.saturating_add(i64::from(time.nudge))
    }
}

/// What a slot of a level spans: a power of 64, the last of which an `i64` holds is the tenth.
fn slot_ms(level: u8) -> i64 {
    1 << (6 * (level % 11))
}
