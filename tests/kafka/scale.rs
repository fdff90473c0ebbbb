//! Many partitions over few instances, and what each of them costs.

use std::thread;
use std::time::{Duration, Instant};

use crate::rebalances::{await_shares, live_partitions};
use crate::scene::{Scene, alone};
use crate::stage::{await_log, await_metric, await_not_ready};
use crate::support::kms::{Cost, Kms};
use crate::support::{PATIENCE, now_ms, poll_until};

const PARTITIONS: i32 = 64;
/// On each partition one schedule falls due in each second of this.
const SECONDS: i64 = 30;
/// Of a process, beside those of its partitions.
const THREADS: u64 = 40;
/// Of a partition: the shard's own, and of its producer one for the client, one for each broker, one for the transaction
/// coordinator and one for nobody.
const THREADS_A_PARTITION: u64 = 5;

#[test]
fn many_partitions_are_shared_evenly_and_taken_over_one_by_one() {
    let _turn = alone();
    let scene = Scene::new("scale", PARTITIONS);
    let settings =
        scene.settings().env("KMS_KAFKA_PROPERTIES", "session.timeout.ms=6000;heartbeat.interval.ms=500");
    let mut first = Kms::start_ready(&settings);
    await_shares(&[&first], PARTITIONS);
    report("64 partitions on one instance", &first);
    assert!(first.cost().threads <= THREADS + THREADS_A_PARTITION * PARTITIONS as u64);

    let start_ms = now_ms();
    let due_at = |second| (0..PARTITIONS).map(move |partition| (second, partition));
    let wave: Vec<_> = (1..=SECONDS)
        .flat_map(due_at)
        .map(|(second, partition)| {
            let key = format!("wave-{partition}-{second}");
            scene.schedule(&key, 1, start_ms + 1_000 * second).partition(partition)
        })
        .collect();
    scene.client.produce(&wave);

    let (mut second, mut third) = (Kms::start(&settings), Kms::start(&settings));
    await_balance(&[&first, &second, &third]);
    for kms in [&first, &second, &third] {
        report("64 partitions over three instances", kms);
        let partitions = live_partitions(kms) as u64;
        assert!(
            kms.cost().threads <= THREADS + THREADS_A_PARTITION * partitions,
            "what was given up costs nothing"
        );
    }

    takes_only_what_is_new(&[&first, &second], || assert_eq!(third.sigterm_and_wait().code(), Some(0)));
    takes_only_what_is_new(&[&first], || second.kill9());
    scene.await_settled(i64::MAX);
    assert_eq!(first.sigterm_and_wait().code(), Some(0));
    let right = scene.assert_everything_fired_once(&settings);
    assert!(right >= wave.len(), "{right} of {} messages", wave.len());
}

/// Waits until each has as many as the others, or one more.
#[track_caller]
fn await_balance(instances: &[&Kms]) {
    let least = PARTITIONS / instances.len() as i32;
    let mut shares = Vec::new();
    let balanced = poll_until(PATIENCE, || {
        shares = instances.iter().map(|kms| live_partitions(kms)).collect();
        let are_even = shares.iter().all(|share| (least..=least + 1).contains(share));
        (are_even && shares.iter().sum::<i32>() == PARTITIONS).then_some(())
    });
    assert!(balanced.is_some(), "{PARTITIONS} partitions are not shared evenly: {shares:?}");
}

/// Whoever is left after `goes` takes over each partition that it did not have once, and none that it had.
#[track_caller]
fn takes_only_what_is_new(left: &[&Kms], goes: impl FnOnce()) {
    let fences = |kms: &Kms| kms.metric("kms_fences_total", &[]).unwrap_or_default() as i32;
    let before: Vec<_> = left.iter().map(|kms| (kms.live_partitions(), fences(kms))).collect();
    let started = Instant::now();
    goes();
    await_balance(left);
    println!("{} left: all partitions live {:?} after one went", left.len(), started.elapsed());
    for (kms, (had, fenced)) in left.iter().zip(before) {
        let has = kms.live_partitions();
        assert!(had.is_subset(&has), "partitions were moved that could have stayed");
        assert_eq!(fences(kms) - fenced, (has.len() - had.len()) as i32, "each is taken over once");
    }
}

#[test]
fn more_partitions_than_an_instance_should_own_are_served_and_said() {
    let scene = Scene::new("too-many", 5);
    let settings = scene.settings().env("KMS_PARTITIONS__MAX_OWNED", "3");
    let mut first = Kms::start(&settings);
    let ready = await_not_ready(
        &first,
        &["5 partitions are owned", "partitions.max_owned is 3", "start more instances"],
    );
    assert!(ready.contains("\"owned\":5"), "{ready}");
    await_log(&first, &["one instance alone would own more partitions", "2 are needed"]);
    await_log(&first, &["WARN", "not ready: 5 partitions are owned"]);
    await_metric(&first, "kms_partition_phase", &[("phase", "live")], 5.0);
    assert!(!first.is_ready(), "all are live, and they are too many");
    assert_eq!(first.metric("kms_partitions_limit_exceeded", &[]), Some(1.0));
    scene.pass_sentinels();

    let mut second = Kms::start(&settings);
    await_shares(&[&first, &second], 5);
    await_log(&first, &["within partitions.max_owned again"]);
    for kms in [&mut first, &mut second] {
        assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    }
    scene.assert_everything_fired_once(&scene.settings());
}

/// For docs/capacity.md: `KMS_SCALE="1 64 256" cargo test --test kafka -- --ignored --nocapture what_a_partition_costs`.
#[test]
#[ignore = "measures, on a machine with nothing else to do"]
fn what_a_partition_costs() {
    const IDLE: Duration = Duration::from_secs(20);
    let _turn = alone();
    let counts = std::env::var("KMS_SCALE").unwrap_or_else(|_| "1 64 256".to_owned());
    println!("| partitions | ready after, s | threads | open files | resident, MB | idle, % of a core |");
    println!("|---|---|---|---|---|---|");
    for count in counts.split_whitespace().map(|count| count.parse::<i32>().expect("a number of partitions"))
    {
        let scene = Scene::new("cost", count);
        let settings = scene.settings().env("KMS_LOGGING_LEVEL", "info");
        let started = Instant::now();
        let mut kms = Kms::start(&settings);
        let patience = PATIENCE + Duration::from_secs(count.unsigned_abs().into());
        let live = poll_until(patience, || (live_partitions(&kms) == count).then_some(()));
        assert!(live.is_some(), "{count} partitions are not live in {patience:?}");
        let ready = started.elapsed().as_secs_f64();
        // What the start left to do is done.
        thread::sleep(Duration::from_secs(5));
        let before = kms.cost();
        thread::sleep(IDLE);
        let Cost { threads, resident_bytes, open_files, cpu } = kms.cost();
        let idle = 100.0 * cpu.saturating_sub(before.cpu).as_secs_f64() / IDLE.as_secs_f64();
        let resident = resident_bytes as f64 / 1e6;
        println!("| {count} | {ready:.1} | {threads} | {open_files} | {resident:.0} | {idle:.1} |");
        assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    }
}

fn report(what: &str, kms: &Kms) {
    let Cost { threads, resident_bytes, open_files, .. } = kms.cost();
    let partitions = live_partitions(kms);
    println!(
        "{what}: {partitions} live, {threads} threads, {open_files} files, {} MB",
        resident_bytes / 1_000_000
    );
}
