//! Schedulers that end in the middle of firing, by themselves or not.

use std::time::{Duration, Instant};

use crate::scene::{Dice, Scene, alone};
use crate::support::client::NewRecord;
use crate::support::kms::Kms;
use crate::support::now_ms;

/// Small enough that a few thousand schedules are many transactions.
pub(crate) const BATCH: (&str, &str) = ("KMS_BATCH__MAX_COUNT", "100");

#[test]
fn a_kill_in_the_middle_of_firing_loses_and_doubles_nothing() {
    let _turn = alone();
    let scene = Scene::new("kill", 4);
    let settings = scene.settings().env(BATCH.0, BATCH.1);
    let mut kms = Kms::start_ready(&settings);
    scene.client.produce(&wave(&scene, 0, 4_000, now_ms() + 1_000, 2_000));
    scene.await_arrivals(700);
    kms.kill9();
    assert!(scene.arrived().len() < 4_000, "the kill came too late");
    scene.assert_everything_fired_once(&settings);
}

#[test]
fn eight_kills_while_20_000_fall_due_lose_and_double_nothing() {
    const KILLS: usize = 8;
    const WAVE: usize = 2_500;
    let _turn = alone();
    let scene = Scene::new("kills", 4);
    // The group waits for each dead instance that long.
    let session = "session.timeout.ms=1000;heartbeat.interval.ms=250";
    let settings = scene.settings().env(BATCH.0, BATCH.1).env("KMS_KAFKA_PROPERTIES", session);
    let mut dice = Dice::new(8);
    let mut arrived = 0;
    for kill in 0..KILLS {
        // Written while nobody runs, due while the next instance loads and fires.
        scene.client.produce(&wave(&scene, kill, WAVE, now_ms(), 3_500));
        let mut kms = Kms::start(&settings);
        scene.await_arrivals(arrived + dice.roll(500..2_000) as usize);
        kms.kill9();
        arrived = scene.arrived().len();
        assert!(arrived < (kill + 1) * WAVE, "kill {kill} came too late");
    }
    scene.assert_everything_fired_once(&settings);
}

#[test]
fn sigterm_in_the_middle_of_firing_ends_in_good_order() {
    let _turn = alone();
    let scene = Scene::new("sigterm", 4);
    let settings = scene.settings().env(BATCH.0, BATCH.1);
    let mut kms = Kms::start_ready(&settings);
    scene.client.produce(&wave(&scene, 0, 4_000, now_ms() + 1_000, 2_000));
    scene.await_arrivals(700);
    let asked = Instant::now();
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    assert!(asked.elapsed() < Duration::from_secs(15), "it took {:?} to stop", asked.elapsed());
    // What it had open was finished, not left for the next one to abort.
    scene.client.await_stable(&[&scene.schedules, &scene.destination], Duration::from_secs(1));
    let arrived = scene.verdict(0);
    assert!(arrived.right < 4_000, "the signal came too late");
    assert!(arrived.is_clean(), "{arrived}");
    scene.assert_everything_fired_once(&settings);
}

/// `count` schedules due within `spread_ms` from `start_ms` on.
pub(crate) fn wave(
    scene: &Scene,
    wave: usize,
    count: usize,
    start_ms: i64,
    spread_ms: i64,
) -> Vec<NewRecord> {
    (0..count)
        .map(|n| {
            let due_ms = start_ms + n as i64 * spread_ms / count as i64;
            scene.schedule(&format!("wave-{wave}-{n}"), 1, due_ms)
        })
        .collect()
}
