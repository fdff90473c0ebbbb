//! Transactions of other producers that are open on the schedule topic while schedules fall due.

use std::time::Duration;

use crate::scene::{Scene, payload};
use crate::support::client::{Foreign, unique};
use crate::support::kms::Kms;
use crate::support::{PATIENCE, now_ms};

const KEYS: usize = 20;
/// What the broker grants a transaction that nobody ends: longer than it takes until the scheduler gives up.
const LEFT_OPEN: Duration = Duration::from_secs(12);

#[test]
fn a_transaction_that_is_committed_supersedes_what_fell_due_meanwhile() {
    let fired = fire_behind_an_open_transaction(|foreign| foreign.commit().unwrap());
    assert_eq!(fired, Fired { untouched: KEYS, first_versions: 0, second_versions: KEYS });
}

#[test]
fn a_transaction_that_is_aborted_supersedes_nothing() {
    let fired = fire_behind_an_open_transaction(|foreign| foreign.abort().unwrap());
    assert_eq!(fired, Fired { untouched: KEYS, first_versions: 2 * KEYS, second_versions: 0 });
}

#[test]
fn a_transaction_that_nobody_ends_supersedes_nothing_once_its_time_is_over() {
    let fired = fire_behind_an_open_transaction(Foreign::leave_open);
    assert_eq!(fired, Fired { untouched: KEYS, first_versions: 2 * KEYS, second_versions: 0 });
}

#[derive(Debug, PartialEq, Eq)]
struct Fired {
    untouched: usize,
    first_versions: usize,
    second_versions: usize,
}

/// Opens a transaction that replaces and cancels schedules, lets them fall due, and ends it only when the scheduler has
/// given up waiting with a transaction of its own.
fn fire_behind_an_open_transaction(end: impl FnOnce(Foreign)) -> Fired {
    let scene = Scene::new("open-transaction", 1);
    let settings = scene.settings().env("KMS_TRANSACTION__TIMEOUT", "3s");
    let mut kms = Kms::start_ready(&settings);
    let foreign = scene.client.foreign(&unique("foreign"), LEFT_OPEN);
    let due_ms = now_ms() + 3_000;
    let first = |name: &'static str| {
        let scene = &scene;
        (0..KEYS).map(move |n| scene.schedule(&format!("{name}-{n}"), 1, due_ms))
    };
    scene
        .client
        .produce(&first("untouched").chain(first("replaced")).chain(first("cancelled")).collect::<Vec<_>>());
    foreign.begin();
    let replacements = (0..KEYS).map(|n| scene.schedule(&format!("replaced-{n}"), 2, due_ms + 1_000));
    let cancels = (0..KEYS).map(|n| scene.cancel(&format!("cancelled-{n}")));
    foreign.produce(&replacements.chain(cancels).collect::<Vec<_>>()).unwrap();
    assert!(now_ms() < due_ms, "the transaction was opened too late to matter");

    kms.await_line("waiting for another producer's open transaction", PATIENCE);
    assert_eq!(scene.arrived(), [], "what an open transaction may supersede must wait for its end");
    end(foreign);

    scene.await_settled(i64::MAX);
    scene.pass_sentinels();
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    scene.assert_everything_fired_once(&settings);
    let count = |name: &str, version| {
        (0..KEYS).map(|n| scene.count_of(&payload(&format!("{name}-{n}"), version))).sum()
    };
    Fired {
        untouched: count("untouched", 1),
        first_versions: count("replaced", 1) + count("cancelled", 1),
        second_versions: count("replaced", 2),
    }
}
