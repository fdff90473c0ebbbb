//! Instances that come and go while schedules fall due.

use crate::scene::{Scene, alone};
use crate::support::kms::Kms;
use crate::support::{PATIENCE, poll_until};

const PARTITIONS: i32 = 8;

#[test]
fn instances_share_the_partitions_and_hand_them_over() {
    let _turn = alone();
    let scene = Scene::new("rebalance", PARTITIONS);
    let settings = scene.settings();
    let mut first = Kms::start_ready(&settings);
    let traffic = scene.traffic();
    scene.await_arrivals(100);

    let mut second = Kms::start(&settings);
    await_shares(&[&first, &second], PARTITIONS);
    let mut third = Kms::start(&settings);
    await_shares(&[&first, &second, &third], PARTITIONS);
    await_all_firing(&[&first, &second, &third]);

    assert_eq!(first.sigterm_and_wait().code(), Some(0));
    await_shares(&[&second, &third], PARTITIONS);
    let mut fourth = Kms::start(&settings);
    await_shares(&[&second, &third, &fourth], PARTITIONS);
    second.kill9();
    await_shares(&[&third, &fourth], PARTITIONS);
    await_all_firing(&[&third, &fourth]);
    assert_eq!(third.sigterm_and_wait().code(), Some(0));
    await_shares(&[&fourth], PARTITIONS);
    await_all_firing(&[&fourth]);

    traffic.stop();
    scene.await_settled(i64::MAX);
    assert_eq!(fourth.sigterm_and_wait().code(), Some(0));
    scene.assert_everything_fired_once(&settings);
    for kms in [first, second, third, fourth] {
        // While a revocation is under way nothing can be read, so a transaction that waits for that holds all up.
        let held_up =
            kms.log_lines().into_iter().find(|line| line.contains("another producer's open transaction"));
        assert_eq!(held_up, None, "there is no other producer of transactions");
    }
}

/// A rebalance pauses every partition of an instance for a moment. Where reading goes on afterwards decides whether a
/// record that came meanwhile is missed, or the whole partition loaded anew.
#[test]
fn partitions_that_stay_notice_nothing_of_those_that_are_added() {
    const ADDED: i32 = 6;
    let scene = Scene::new("growing", 1);
    let settings = scene.settings().env("KMS_KAFKA_PROPERTIES", "topic.metadata.refresh.interval.ms=500");
    let mut kms = Kms::start_ready(&settings);
    let traffic = scene.traffic();
    for partitions in 2..=1 + ADDED {
        scene.client.add_partitions(&scene.schedules, partitions);
        await_shares(&[&kms], partitions);
    }
    let taken = kms.metric("kms_fences_total", &[]);
    assert_eq!(taken, Some(f64::from(1 + ADDED)), "each partition is taken over and loaded once");

    traffic.stop();
    scene.await_settled(i64::MAX);
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    scene.assert_everything_fired_once(&settings);
}

/// Waits until each of `instances` has some of the `total` partitions, all of them live.
#[track_caller]
pub(crate) fn await_shares(instances: &[&Kms], total: i32) {
    let mut shares = Vec::new();
    let done = poll_until(PATIENCE, || {
        shares = instances.iter().map(|kms| live_partitions(kms)).collect();
        (shares.iter().all(|live| *live > 0) && shares.iter().sum::<i32>() == total).then_some(())
    });
    assert!(done.is_some(), "{total} partitions were not shared in {PATIENCE:?}: {shares:?}");
}

/// How many partitions an instance delivers for; 0 while it is not ready.
pub(crate) fn live_partitions(kms: &Kms) -> i32 {
    if !kms.is_ready() {
        return 0;
    }
    kms.metric("kms_partition_phase", &[("phase", "live")]).unwrap_or_default() as i32
}

/// Waits until each of `instances` has delivered something since now.
#[track_caller]
fn await_all_firing(instances: &[&Kms]) {
    for kms in instances {
        let fired = || kms.metric("kms_schedules_fired_total", &[]).unwrap_or_default();
        let before = fired();
        assert!(
            poll_until(PATIENCE, || (fired() > before).then_some(())).is_some(),
            "an instance with partitions delivers nothing"
        );
    }
}
