//! Instances with a lasting name in the group (`kafka.instance_id`).

use std::collections::BTreeSet;
use std::thread;
use std::time::{Duration, Instant};

use crate::rebalances::await_shares;
use crate::scene::Scene;
use crate::support::kms::{Kms, Settings};
use crate::support::{PATIENCE, poll_until};

const PARTITIONS: i32 = 6;
/// Longer than it takes the others to notice that one has left the group, and shorter than a session.
const AWAY: Duration = Duration::from_secs(3);

/// Its session is long enough for a restart, and short enough for the last instance of a test, which waits for the ends of
/// the sessions of those before it.
fn named(scene: &Scene, id: &str) -> Settings {
    scene
        .settings()
        .env("KMS_KAFKA__INSTANCE_ID", id)
        .env("KMS_KAFKA_PROPERTIES", "session.timeout.ms=10000;heartbeat.interval.ms=500")
}

#[test]
fn a_restart_moves_no_partition_and_disturbs_nobody() {
    let scene = Scene::new("lasting", PARTITIONS);
    let settings = named(&scene, "kms-0");
    let mut restarted = Kms::start_ready(&settings);
    let mut other = Kms::start(&named(&scene, "kms-1"));
    await_shares(&[&restarted, &other], PARTITIONS);
    let traffic = scene.traffic();
    let (own, others) = (restarted.live_partitions(), other.live_partitions());
    let fences = |kms: &Kms| kms.metric("kms_fences_total", &[]);
    let before = fences(&other);

    for how in ["SIGTERM", "kill -9"] {
        let fired = other.metric("kms_schedules_fired_total", &[]).unwrap();
        if how == "SIGTERM" {
            assert_eq!(restarted.sigterm_and_wait().code(), Some(0));
        } else {
            restarted.kill9();
        }
        thread::sleep(AWAY);
        let started = Instant::now();
        restarted = Kms::start(&settings);
        await_live(&restarted, &own);
        println!("{how}: live again with the same partitions {:?} after its start", started.elapsed());
        assert_eq!(other.live_partitions(), others, "{how}: the other keeps its own");
        assert_eq!(fences(&other), before, "{how}: and takes none of them anew");
        let goes_on = || (other.metric("kms_schedules_fired_total", &[]).unwrap() > fired).then_some(());
        assert!(poll_until(PATIENCE, goes_on).is_some(), "{how}: the other fires nothing");
    }
    let gave_up: Vec<_> =
        other.log_lines().into_iter().filter(|line| line.contains("gave up partitions")).collect();
    assert_eq!(gave_up.len(), 0, "{gave_up:?}");

    traffic.stop();
    scene.await_settled(i64::MAX);
    for kms in [&mut restarted, &mut other] {
        assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    }
    scene.assert_everything_fired_once(&settings);
}

/// What a name costs: nobody takes over before the session is over.
#[test]
fn the_partitions_of_one_that_does_not_come_back_are_taken_when_its_session_ends() {
    let scene = Scene::new("lasting-gone", PARTITIONS);
    let mut gone = Kms::start_ready(&named(&scene, "kms-0"));
    let mut heir = Kms::start(&named(&scene, "kms-1"));
    await_shares(&[&gone, &heir], PARTITIONS);
    let traffic = scene.traffic();
    let own = heir.live_partitions();
    assert_eq!(gone.sigterm_and_wait().code(), Some(0));
    let stopped = Instant::now();
    await_shares(&[&heir], PARTITIONS);
    let waited = stopped.elapsed();
    println!("taken over {waited:?} after a stop, with a session of 10 s");
    assert!(
        waited.as_secs() >= 5,
        "it has left the group, which the one of a lasting name must not: {waited:?}"
    );
    assert!(own.is_subset(&heir.live_partitions()));

    traffic.stop();
    scene.await_settled(i64::MAX);
    assert_eq!(heir.sigterm_and_wait().code(), Some(0));
    scene.assert_everything_fired_once(&named(&scene, "kms-1"));
}

#[test]
fn of_two_instances_with_one_name_the_earlier_ends_and_says_why() {
    let scene = Scene::new("same-name", 2);
    let settings = named(&scene, "twin");
    let mut first = Kms::start_ready(&settings);
    let traffic = scene.traffic();
    scene.await_arrivals(50);
    let mut second = Kms::start(&settings);
    let status = first.wait(PATIENCE).expect("it ends by itself");
    assert_eq!(status.code(), Some(1));
    let line = first.await_line("kafka.instance_id", PATIENCE);
    for part in ["kms: another instance", "`twin`", "an ID of its own"] {
        assert!(line.contains(part), "{line}");
    }
    await_shares(&[&second], 2);

    traffic.stop();
    scene.await_settled(i64::MAX);
    assert_eq!(second.sigterm_and_wait().code(), Some(0));
    scene.assert_everything_fired_once(&settings);
}

/// Waits until it is ready and delivers for exactly these partitions.
#[track_caller]
fn await_live(kms: &Kms, partitions: &BTreeSet<i32>) {
    let mut live = BTreeSet::new();
    let done = poll_until(PATIENCE, || {
        if !kms.is_ready() {
            return None;
        }
        live = kms.live_partitions();
        (live == *partitions).then_some(())
    });
    assert!(done.is_some(), "{live:?} are live, not {partitions:?}");
}
