//! Delivery without transactions where something goes wrong, and from one mode to the other while schedules fall due:
//! held to what `docs/guarantees.md` says can happen then.

use std::collections::HashMap;

use crate::crashes::{BATCH, wave};
use crate::rebalances::await_shares;
use crate::scene::{Dice, Scene, alone};
use crate::support::at_least_once::{Version, judge_at_least_once, versions};
use crate::support::history::{History, Verdict};
use crate::support::kms::Kms;
use crate::support::{PATIENCE, now_ms, poll_until};

/// How long before its message a change may have reached the log without being heeded: what a shard needs to read it,
/// and while partitions move it reads nothing.
const UNREAD_MS: i64 = 2_000;

#[test]
fn a_rolling_restart_changes_the_mode_and_changes_it_back() {
    const PARTITIONS: i32 = 4;
    let _turn = alone();
    let scene = Scene::new("modes", PARTITIONS);
    let mut configs = scene.client.own_configs(&scene.schedules);
    configs.insert("min.compaction.lag.ms".to_owned(), "3600000".to_owned());
    scene.client.set_configs(&scene.schedules, &configs);
    let exactly_once = scene.settings();
    let at_least_once = scene.settings().delivery("at-least-once");
    let mut instances = [Kms::start_ready(&exactly_once), Kms::start(&exactly_once)];
    await_shares(&instances.each_ref(), PARTITIONS);

    let more = || scene.await_arrivals(scene.arrived().len() + 300);
    let traffic = scene.traffic_of("changing");
    for settings in [&at_least_once, &exactly_once] {
        for index in 0..instances.len() {
            more();
            assert_eq!(instances[index].sigterm_and_wait().code(), Some(0));
            instances[index] = Kms::start(settings);
            await_shares(&instances.each_ref(), PARTITIONS);
        }
    }
    more();
    traffic.stop();
    await_delivered(&scene);

    let traffic = scene.traffic_of("afterwards");
    more();
    more();
    traffic.stop();
    await_delivered(&scene);
    scene.pass_sentinels();
    for kms in &mut instances {
        assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    }
    scene.client.await_stable(&[&scene.schedules, &scene.destination], PATIENCE);

    let verdict = verdict(&scene);
    assert_promises_kept(&verdict);
    let unread_ms = unread_changes(&scene);
    println!(
        "{}: {} right, {} doubled, {} stale (changed at most {:?} ms before)",
        scene.schedules,
        verdict.right,
        verdict.doubled.len(),
        verdict.stale.len(),
        unread_ms.iter().max()
    );
    assert_eq!(unread_ms.len(), verdict.stale.len());
    // Nobody crashed, no answer was lost, nobody stood still.
    assert!(verdict.doubled.is_empty(), "{verdict}");
    assert!(unread_ms.iter().all(|unread_ms| *unread_ms <= UNREAD_MS), "{unread_ms:?}, {verdict}");
    let afterwards = part(&scene.history(i64::MAX), "afterwards-").judge();
    afterwards.assert_clean();
    println!("{}: {} right afterwards", scene.schedules, afterwards.right);
}

#[test]
fn kills_without_transactions_lose_nothing_and_double_what_was_in_hand() {
    const PARTITIONS: i32 = 4;
    const KILLS: usize = 5;
    const WAVE: usize = 2_500;
    let _turn = alone();
    let scene = Scene::new("plain-kills", PARTITIONS);
    // The group waits for each dead instance that long.
    let session = "session.timeout.ms=1000;heartbeat.interval.ms=250";
    let settings =
        scene.settings().delivery("at-least-once").env(BATCH.0, BATCH.1).env("KMS_KAFKA_PROPERTIES", session);
    let mut dice = Dice::new(9);
    let mut arrived = 0;
    for kill in 0..KILLS {
        // Written while nobody runs, due when the next instance has loaded: it fires one full batch after the other.
        scene.client.produce(&wave(&scene, kill, WAVE, now_ms(), 500));
        let mut kms = Kms::start(&settings);
        scene.await_arrivals(arrived + dice.roll(500..2_000) as usize);
        kms.kill9();
        arrived = scene.arrived().len();
    }
    let mut last = Kms::start_ready(&settings);
    await_delivered(&scene);
    scene.pass_sentinels();
    assert_eq!(last.sigterm_and_wait().code(), Some(0));

    let verdict = verdict(&scene);
    assert_promises_kept(&verdict);
    println!("{}: {} right, {} doubled", scene.schedules, verdict.right, verdict.doubled.len());
    assert_eq!(verdict.right, KILLS * WAVE + PARTITIONS as usize);
    assert!(verdict.stale.is_empty(), "nobody changed anything: {verdict}");
    let in_hand = KILLS * PARTITIONS as usize * BATCH.1.parse::<usize>().unwrap();
    assert!(verdict.doubled.len() <= in_hand, "more than {in_hand}: {verdict}");
}

/// What both modes promise.
#[track_caller]
fn assert_promises_kept(verdict: &Verdict) {
    let Verdict { lost, early, wrong, unexpected, .. } = verdict;
    assert!([lost, early, wrong, unexpected].iter().all(|list| list.is_empty()), "{verdict}");
}

fn verdict(scene: &Scene) -> Verdict {
    judge_at_least_once(&scene.history(i64::MAX), &scene.fired())
}

/// Waits until no schedule is left in the log that is not followed by its tombstone, a change or a repair.
#[track_caller]
fn await_delivered(scene: &Scene) {
    let mut waiting = 0;
    let delivered = poll_until(PATIENCE, || {
        let records = scene.keep();
        let newest: HashMap<_, _> =
            records.iter().map(|seen| ((seen.partition, seen.key_text()), seen)).collect();
        waiting = newest.values().filter(|seen| seen.value.is_some()).count();
        (waiting == 0).then_some(())
    });
    assert!(delivered.is_some(), "{waiting} schedules were not delivered in {PATIENCE:?}");
}

/// For each version that came although it was replaced or cancelled: how long before its message the change was
/// written, in milliseconds, less than 0 if afterwards.
fn unread_changes(scene: &Scene) -> Vec<i64> {
    let records = scene.committed();
    let written_ms: HashMap<_, _> =
        records.iter().map(|seen| ((seen.partition, seen.offset), seen.timestamp_ms)).collect();
    let history = scene.history(i64::MAX);
    let arrived_ms: HashMap<_, _> = history
        .messages
        .iter()
        .map(|message| ((&message.key, message.payload_id), message.seen_at_ms))
        .collect();
    let unread = |version: Version<'_>| {
        let change = version.change()?;
        let arrived_ms = arrived_ms.get(&(&version.record.key, version.payload_id))?;
        Some(arrived_ms - written_ms[&(change.partition, change.offset)])
    };
    versions(&history, &scene.fired()).into_iter().filter_map(unread).collect()
}

/// What concerns the IDs that begin with `name`.
fn part(history: &History, name: &str) -> History {
    let mut part = history.clone();
    part.records.retain(|record| record.key.starts_with(name.as_bytes()));
    part.messages.retain(|message| message.key.starts_with(name.as_bytes()));
    part
}
