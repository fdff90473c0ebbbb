//! Whether a peer does what it is measured for: each against a `BTreeMap`, once, before anything is timed.

use std::collections::{BTreeMap, BTreeSet};

use crate::peers::{Item, Pending};
use crate::shuffle::mix;
use crate::workload::{BEGIN_MS, SPREAD_MS};

const STEPS: u64 = 30_000;

/// IDs to choose from; about half of them are held at any time.
const IDS: u64 = 2_000;

/// What a set should hold.
#[derive(Default)]
struct Model {
    /// Due time and content by ID.
    held: BTreeMap<u64, (i64, u64)>,
    by_due: BTreeSet<(i64, u64)>,
}

/// Panics where a peer hands out too early, too late, in the wrong order or with the wrong content, or knows an ID that
/// it should not, or does not know one that it should.
pub fn check<P: Pending>() {
    let mut now_ms = BEGIN_MS;
    let mut set = P::with_expected(0, now_ms);
    let mut model = Model::default();
    for step in 0..STEPS {
        let [choice, id, content, when] = [1, 2, 3, 4].map(|n| mix(step * 4 + n));
        let id = id % IDS;
        match choice % 16 {
            0..8 => {
                let due_ms = now_ms + 1 + (when % ahead_ms(when)) as i64;
                let value = content.to_le_bytes();
                let item = Item { id: &id.to_be_bytes(), due_ms, key: b"key", value: &value };
                if model.put(id, due_ms, content) {
                    set.replace(&item);
                } else {
                    set.insert(&item);
                }
            }
            8..12 => {
                let held = model.take(id).is_some();
                assert_eq!(set.cancel(&id.to_be_bytes()), held, "{}: cancel at step {step}", P::NAME);
            }
            _ => {
                now_ms += (when % passing_ms(when)) as i64;
                check_delivery(&mut set, &mut model, now_ms, 1 + (content % 40) as usize);
            }
        }
        if step % 1_000 == 0 {
            set.tidy(now_ms);
        }
        assert_eq!(set.len(), model.held.len(), "{}: length at step {step}", P::NAME);
    }
    assert!(model.held.len() > 100, "the check is none: nearly nothing was held in the end");
    check_delivery(&mut set, &mut model, now_ms + SPREAD_MS, usize::MAX);
    assert!(set.is_empty() && model.held.is_empty(), "{}: something is never due", P::NAME);
}

/// How far ahead a schedule may be: mostly seconds, so that the fine slots are shared; sometimes as far as it goes.
fn ahead_ms(random: u64) -> u64 {
    match random >> 32 & 7 {
        0..3 => 4_000,
        3..6 => 10_000_000,
        _ => SPREAD_MS as u64,
    }
}

/// How much time may go by at once: mostly little, sometimes days.
fn passing_ms(random: u64) -> u64 {
    match random >> 32 & 255 {
        0..192 => 100,
        192..254 => 100_000,
        _ => SPREAD_MS as u64 / 10,
    }
}

fn check_delivery<P: Pending>(set: &mut P, model: &mut Model, now_ms: i64, limit: usize) {
    let mut due = Vec::new();
    set.due(now_ms, limit, &mut due);
    assert!(due.len() <= limit, "{}: more than the limit", P::NAME);
    let stopped_by_limit = due.len() == limit;
    for due in due {
        let item = set.read(&due);
        let id = u64::from_be_bytes(item.id.try_into().expect("eight bytes"));
        let (first_ms, _) = *model.by_due.first().unwrap_or_else(|| panic!("{}: nothing is due", P::NAME));
        assert!(first_ms <= now_ms, "{}: {id} is early", P::NAME);
        assert_eq!(item.due_ms, first_ms, "{}: {id} is out of order", P::NAME);
        let (due_ms, content) = model.take(id).unwrap_or_else(|| panic!("{}: {id} is not held", P::NAME));
        let value = content.to_le_bytes();
        assert_eq!((item.due_ms, item.key, item.value), (due_ms, &b"key"[..], &value[..]), "{}", P::NAME);
        set.settle(due);
    }
    if !stopped_by_limit {
        assert!(model.by_due.first().is_none_or(|&(due_ms, _)| due_ms > now_ms), "{}: late", P::NAME);
    }
}

impl Model {
    /// Whether the ID was held.
    fn put(&mut self, id: u64, due_ms: i64, content: u64) -> bool {
        let was_held = self.take(id).is_some();
        self.held.insert(id, (due_ms, content));
        self.by_due.insert((due_ms, id));
        was_held
    }

    fn take(&mut self, id: u64) -> Option<(i64, u64)> {
        let held = self.held.remove(&id)?;
        self.by_due.remove(&(held.0, id));
        Some(held)
    }
}
