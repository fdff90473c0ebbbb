//! Owners that do not know that they are none any more.

use crate::rebalances::{await_shares, live_partitions};
use crate::scene::{Scene, alone};
use crate::support::client::unique;
use crate::support::kms::Kms;
use crate::support::{PATIENCE, poll_until};

const PARTITIONS: i32 = 6;

#[test]
fn a_thawed_instance_doubles_nothing_and_rejoins_without_a_fight() {
    let _turn = alone();
    let scene = Scene::new("zombie", PARTITIONS);
    let settings = scene.settings();
    let mut frozen = Kms::start_ready(&settings);
    let mut other = Kms::start(&settings);
    await_shares(&[&frozen, &other], PARTITIONS);
    let traffic = scene.traffic();
    let mut arrived = 0;
    for _ in 0..2 {
        scene.await_arrivals(arrived + 500);
        frozen.sigstop();
        let taken_over = poll_until(PATIENCE, || (live_partitions(&other) == PARTITIONS).then_some(()));
        assert!(taken_over.is_some(), "the frozen instance's partitions were not taken over");
        scene.await_arrivals(scene.arrived().len() + 500);
        frozen.sigcont();
        await_shares(&[&frozen, &other], PARTITIONS);
        arrived = scene.arrived().len();
    }
    traffic.stop();
    scene.await_settled(i64::MAX);
    assert_eq!(fenced(&other), 0, "the thawed instance took partitions from their owner");
    assert_eq!(other.sigterm_and_wait().code(), Some(0));
    assert_eq!(frozen.sigterm_and_wait().code(), Some(0));
    scene.assert_everything_fired_once(&settings);
}

#[test]
fn deployments_of_two_groups_fence_each_other_and_double_nothing() {
    let _turn = alone();
    let scene = Scene::new("two-groups", 2);
    let settings = scene.settings();
    let traffic = scene.traffic();
    let mut one = Kms::start_ready(&settings);
    let mut other = Kms::start_ready(&settings.clone().env("CONSUMER_GROUP_ID", &unique("other-group")));
    for kms in [&one, &other] {
        let was_fenced = poll_until(PATIENCE, || (fenced(kms) > 0).then_some(()));
        assert!(was_fenced.is_some(), "two groups own the same partitions and do not notice");
    }
    scene.await_arrivals(scene.arrived().len() + 100);
    traffic.stop();
    scene.await_settled(i64::MAX);
    assert_eq!(one.sigterm_and_wait().code(), Some(0));
    assert_eq!(other.sigterm_and_wait().code(), Some(0));
    scene.assert_everything_fired_once(&settings);
}

/// How often another instance's taking over ended a transaction of this one.
fn fenced(kms: &Kms) -> u64 {
    kms.metric("kms_transactions_total", &[("outcome", "fenced")]).unwrap_or_default() as u64
}
