//! Updates and cancels that meet the firing of what they change.

use std::time::Duration;

use crate::scene::{Dice, Scene, payload, sleep_until, write_at};
use crate::support::client::{NewRecord, Seen, unique};
use crate::support::kms::Kms;
use crate::support::now_ms;

const KEYS: usize = 500;
/// Schedules due at the same instant; then the firing is a batch, and takes a while.
const TOGETHER: usize = 25;

#[test]
fn an_update_at_the_firing_instant_wins_or_comes_after() {
    let race = Race::run("race-update", |scene, key, second_due_ms| scene.schedule(key, 2, second_due_ms));
    // What wins or comes after fires in either case; only the version before it may have been too late.
    for n in 0..KEYS {
        assert_eq!(race.scene.count_of(&payload(&key(n), 2)), 1, "the update of {}", key(n));
    }
}

#[test]
fn a_cancel_at_the_firing_instant_wins_or_comes_after() {
    let race = Race::run("race-cancel", |scene, key, _| scene.cancel(key));
    assert_eq!(race.scene.arrived().iter().filter(|seen| !is_sentinel(seen)).count(), race.fired_at_first);
}

struct Race {
    scene: Scene,
    /// First versions that fired.
    fired_at_first: usize,
}

impl Race {
    /// Lets `KEYS` schedules fall due, writes a `change` of each within 30 ms of that, then has the log compacted and
    /// loaded anew before the changes themselves fall due.
    fn run(name: &str, change: impl Fn(&Scene, &str, i64) -> NewRecord) -> Self {
        let scene = Scene::new(name, 2);
        let settings = scene.settings();
        let mut kms = Kms::start_ready(&settings);
        let start_ms = now_ms() + 1_500;
        let due_ms = |n: usize| start_ms + 100 * (n / TOGETHER) as i64;
        let second_due_ms = due_ms(KEYS) + 4_000;
        scene.client.produce(&(0..KEYS).map(|n| scene.schedule(&key(n), 1, due_ms(n))).collect::<Vec<_>>());
        let mut dice = Dice::new(1);
        let changes = (0..KEYS).map(|n| {
            let at_ms = due_ms(n) + dice.roll(-30..31);
            (at_ms, change(&scene, &key(n), second_due_ms))
        });
        write_at(&scene.client, changes.collect());
        scene.await_settled(due_ms(KEYS));
        let fired_at_first = scene.arrived().len();
        assert!(
            (1..KEYS).contains(&fired_at_first),
            "some changes should be in time and some not, but {fired_at_first} of {KEYS} fired"
        );
        assert_eq!(kms.sigterm_and_wait().code(), Some(0));
        scene.compact();
        scene.assert_everything_fired_once(&settings);
        Self { scene, fired_at_first }
    }
}

#[test]
fn a_transaction_around_the_firing_instant_wins_or_comes_after() {
    const TRANSACTIONS: usize = 40;
    const EACH: usize = 10;
    let scene = Scene::new("race-transaction", 2);
    let settings = scene.settings();
    let mut kms = Kms::start_ready(&settings);
    let foreign = scene.client.foreign(&unique("foreign"), Duration::from_secs(30));
    let start_ms = now_ms() + 1_000;
    let due_ms = |n: usize| start_ms + 100 * (n / EACH) as i64;
    let second_due_ms = due_ms(TRANSACTIONS * EACH) + 4_000;
    let first: Vec<_> = (0..TRANSACTIONS * EACH).map(|n| scene.schedule(&key(n), 1, due_ms(n))).collect();
    scene.client.produce(&first);

    let mut dice = Dice::new(2);
    for transaction in 0..TRANSACTIONS {
        let keys = transaction * EACH..(transaction + 1) * EACH;
        let due_ms = due_ms(keys.start);
        let changes: Vec<_> = keys
            .map(|n| match n % 2 {
                0 => scene.schedule(&key(n), 2, second_due_ms),
                _ => scene.cancel(&key(n)),
            })
            .collect();
        sleep_until(due_ms + dice.roll(-30..11));
        foreign.begin();
        foreign.produce(&changes).unwrap();
        sleep_until(due_ms + dice.roll(-10..31));
        if transaction % 4 == 3 {
            foreign.abort().unwrap();
        } else {
            foreign.commit().unwrap();
        }
    }
    scene.await_settled(due_ms(TRANSACTIONS * EACH));
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    scene.compact();
    scene.assert_everything_fired_once(&settings);
    for n in 0..TRANSACTIONS * EACH {
        let aborted = n / EACH % 4 == 3;
        let expected = usize::from(!aborted && n % 2 == 0);
        assert_eq!(scene.count_of(&payload(&key(n), 2)), expected, "the update of {}", key(n));
        if aborted {
            assert_eq!(scene.count_of(&payload(&key(n), 1)), 1, "{} was never changed", key(n));
        }
    }
}

#[test]
fn at_least_once_an_update_at_the_firing_instant_is_written_again() {
    let scene = Scene::new("race-plain", 2);
    let settings = scene.settings().delivery("at-least-once");
    let mut kms = Kms::start_ready(&settings);
    let start_ms = now_ms() + 1_500;
    let due_ms = |n: usize| start_ms + 100 * (n / TOGETHER) as i64;
    let second_due_ms = due_ms(KEYS) + 6_000;
    scene.client.produce(&(0..KEYS).map(|n| scene.schedule(&key(n), 1, due_ms(n))).collect::<Vec<_>>());
    let mut dice = Dice::new(3);
    let updates =
        (0..KEYS).map(|n| (due_ms(n) + dice.roll(-30..31), scene.schedule(&key(n), 2, second_due_ms)));
    write_at(&scene.client, updates.collect());

    // The newest record of every key is an update again, original or repeated, so nothing is left to compaction.
    let newest_is_an_update = || {
        let committed = scene.committed();
        let newest: std::collections::BTreeMap<_, &Seen> =
            committed.iter().map(|seen| ((seen.partition, seen.key_text()), seen)).collect();
        let updates = newest.values().filter(|seen| seen.value_text().contains(&second_due_ms.to_string()));
        (updates.count() == KEYS).then_some(())
    };
    assert!(
        crate::support::poll_until(crate::support::PATIENCE, newest_is_an_update).is_some(),
        "an update was overwritten by the tombstone of its predecessor and not written again"
    );
    assert!(now_ms() < second_due_ms, "the updates fell due before the log could be looked at");
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    scene.compact();
    let mut kms = Kms::start_ready(&settings);
    for n in 0..KEYS {
        scene.await_payload(&payload(&key(n), 2));
    }
    scene.pass_sentinels();
    for n in 0..KEYS {
        // Nothing crashed, so the windows in which this mode doubles were not entered.
        assert_eq!(scene.count_of(&payload(&key(n), 2)), 1, "the update of {}", key(n));
        assert!(scene.count_of(&payload(&key(n), 1)) <= 1, "the first version of {}", key(n));
    }
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
}

fn key(n: usize) -> String {
    format!("key-{n}")
}

fn is_sentinel(seen: &Seen) -> bool {
    seen.key_text().starts_with("sentinel")
}
