//! What a backlog costs as it grows, on a real Kafka: `cargo bench --bench growth`.
//!
//! Starts its own broker and the release build of `kms`, and prints tables for docs/benchmarks.md: by the number of
//! pending schedules, of partitions, and of instances. `-- schedules`, `-- partitions` or `-- instances` prints one of them, and
//! `KMS_GROWTH_SIZES=100000,1000000` chooses the sizes of the first. Broker, instances, producer and reader share the
//! machine, on which nothing else should run.
#![allow(missing_docs, clippy::unwrap_used, clippy::disallowed_methods, reason = "a program that measures")]

#[allow(unreachable_pub, reason = "a module of a program")]
mod schedules;
#[path = "../tests/support/mod.rs"]
#[allow(unused_imports, reason = "its own tests are not run here")]
mod support;

use std::time::{Duration, Instant};

use schedules::schedule;
use support::broker::Broker;
use support::client::{Client, unique};
use support::kms::{Kms, Settings};
use support::{PATIENCE, now_ms};

/// Due at one instant, for the rate of firing.
const BURST: usize = 100_000;
/// Due one by one, for the lateness.
const SINGLES: usize = 40;
const SINGLE_EVERY_MS: i64 = 100;
/// Schedules are written in parts of so many.
const PART: usize = 100_000;
/// With partitions and instances, so many are pending.
const PENDING: usize = 1_000_000;
/// A load may take so long.
const LOAD_PATIENCE: Duration = Duration::from_mins(20);

/// Prints a table.
type Table = fn(&Client, broker: &str);
const TABLES: [(&str, Table); 3] =
    [("schedules", by_schedules), ("partitions", by_partitions), ("instances", by_instances)];

fn main() {
    let is_said = |wanted: &str| std::env::args().any(|argument| argument == wanted);
    if !is_said("--bench") || is_said("--test") {
        eprintln!("growth: nothing done; it measures, which `cargo bench --bench growth` asks for");
        return;
    }
    let takes_all = !TABLES.iter().any(|(name, _)| is_said(name));
    let broker = Broker::shared();
    let client = Client::new(broker);
    for (name, table) in TABLES {
        if takes_all || is_said(name) {
            table(&client, broker);
        }
    }
}

fn by_schedules(client: &Client, broker: &str) {
    let sizes =
        std::env::var("KMS_GROWTH_SIZES").unwrap_or_else(|_| "100000,1000000,10000000,20000000".to_owned());
    print_head("pending");
    for size in sizes.split(',') {
        let size: usize = size.trim().parse().expect("KMS_GROWTH_SIZES are numbers");
        print_row(&size.to_string(), &measure(client, broker, size, 4, 1));
    }
}

fn by_partitions(client: &Client, broker: &str) {
    print_head("partitions");
    for partitions in [1, 8, 64] {
        print_row(&partitions.to_string(), &measure(client, broker, PENDING, partitions, 1));
    }
}

fn by_instances(client: &Client, broker: &str) {
    print_head("instances, 12 partitions");
    for instances in [1, 2, 3] {
        print_row(&instances.to_string(), &measure(client, broker, PENDING, 12, instances));
    }
}

/// What a backlog costs.
struct Cost {
    /// From the start of the processes until every partition is live.
    load: Duration,
    /// The same after a graceful stop, with a checkpoint on disk.
    load_kept: Duration,
    /// Of all instances.
    resident_bytes: u64,
    threads: u64,
    /// Delivered a second when many are due at one instant.
    burst_rate: f64,
    /// From due until visible, of single ones.
    late_ms: [i64; 2],
}

fn print_head(what: &str) {
    println!(
        "\n| {what} | load, s | with a checkpoint, s | resident, MB | threads | burst, schedules a second | late, p50, ms | p99 |"
    );
    println!("|---|---|---|---|---|---|---|---|");
}

fn print_row(name: &str, cost: &Cost) {
    let Cost { load, load_kept, resident_bytes, threads, burst_rate, late_ms: [p50, p99] } = cost;
    println!(
        "| {name} | {:.2} | {:.2} | {} | {threads} | {burst_rate:.0} | {p50} | {p99} |",
        load.as_secs_f64(),
        load_kept.as_secs_f64(),
        resident_bytes / 1_000_000,
    );
}

fn measure(client: &Client, broker: &str, pending: usize, partitions: i32, instances: usize) -> Cost {
    let (schedules, destination) = (unique("schedules"), unique("destination"));
    client.create_schedule_topic(&schedules, partitions);
    client.create_destination_topic(&destination, 4);
    let week_off_ms = now_ms() + 7 * 86_400_000;
    for start in (0..pending).step_by(PART) {
        let part = start..(start + PART).min(pending);
        let records: Vec<_> = part
            .map(|n| schedule(&schedules, &format!("later-{n}"), week_off_ms + n as i64, &destination))
            .collect();
        client.produce(&records);
    }
    let disks = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let group = unique("growth");
    let settings: Vec<Settings> = (0..instances)
        .map(|number| {
            Settings::new(broker, &group)
                .json_topics(&schedules)
                .env("KMS_LOGGING_LEVEL", "info")
                .env("KMS_KAFKA__INSTANCE_ID", &format!("{group}-{number}"))
                .env("KMS_STATE__DIR", disks.path().join(number.to_string()).to_str().unwrap())
        })
        .collect();

    let (running, load) = start(&settings, partitions as usize, pending);
    let (resident_bytes, threads) = running
        .iter()
        .map(Kms::cost)
        .fold((0, 0), |(bytes, threads), more| (bytes + more.resident_bytes, threads + more.threads));
    let late_ms = lateness(client, &schedules, &destination);
    let burst_rate = burst(client, &schedules, &destination);
    await_checkpoints(&running, partitions as usize);
    stop(running);
    let (running, load_kept) = start(&settings, partitions as usize, pending);
    stop(running);
    client.delete_topic(&schedules);
    client.delete_topic(&destination);
    Cost { load, load_kept, resident_bytes, threads, burst_rate, late_ms }
}

/// Starts an instance for each of these and waits until all partitions are live, and stay so: the group may still be
/// moving some.
fn start(settings: &[Settings], partitions: usize, pending: usize) -> (Vec<Kms>, Duration) {
    let started = Instant::now();
    let running: Vec<Kms> = settings.iter().map(Kms::start).collect();
    let sum = |name, labels| running.iter().filter_map(|kms| kms.metric(name, labels)).sum::<f64>() as usize;
    let is_live = || {
        running.iter().all(Kms::is_ready)
            && sum("kms_partition_phase", &[("phase", "live")]) == partitions
            && sum("kms_schedules_pending", &[]) == pending
    };
    while !is_live() {
        assert!(started.elapsed() < LOAD_PATIENCE, "not live in {LOAD_PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    let took = started.elapsed();
    (running, took)
}

fn stop(running: Vec<Kms>) {
    for mut kms in running {
        assert!(kms.sigterm_and_wait().success());
    }
}

/// Until each partition has a checkpoint of its present owner's. The burst may have come after it, and is then read from the
/// log.
fn await_checkpoints(running: &[Kms], partitions: usize) {
    let started = Instant::now();
    let is_kept = |line: &&str| {
        line.starts_with("kms_checkpoint_bytes{") && line.rsplit(' ').next().is_some_and(|bytes| bytes != "0")
    };
    let kept = || running.iter().map(|kms| kms.metrics().lines().filter(is_kept).count()).sum::<usize>();
    while kept() < partitions {
        assert!(started.elapsed() < LOAD_PATIENCE, "no checkpoint in {LOAD_PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Median and 99th percentile from due until visible.
fn lateness(client: &Client, schedules: &str, destination: &str) -> [i64; 2] {
    let reader = client.reader(&[destination]);
    let first_ms = now_ms() + 1_000;
    let due_ms = |n: usize| first_ms + n as i64 * SINGLE_EVERY_MS;
    let records: Vec<_> =
        (0..SINGLES).map(|n| schedule(schedules, &format!("single-{n}"), due_ms(n), destination)).collect();
    client.produce(&records);
    let seen = reader.collect(PATIENCE, |seen| seen.len() >= SINGLES);
    assert_eq!(seen.len(), SINGLES);
    let mut late_ms: Vec<i64> = seen
        .iter()
        .map(|seen| seen.arrived_ms - due_ms(seen.key_text().trim_start_matches("single-").parse().unwrap()))
        .collect();
    late_ms.sort_unstable();
    [late_ms[SINGLES / 2], late_ms[SINGLES * 99 / 100]]
}

/// How many a second, from due until the last is visible.
fn burst(client: &Client, schedules: &str, destination: &str) -> f64 {
    let due_ms = now_ms() + 5_000;
    let records: Vec<_> =
        (0..BURST).map(|n| schedule(schedules, &format!("burst-{n}"), due_ms, destination)).collect();
    client.produce(&records);
    assert!(now_ms() < due_ms, "the schedules were written too late");
    let reader = client.reader(&[destination]);
    let wanted = BURST + SINGLES;
    let seen = reader.collect(PATIENCE, |seen| seen.len() >= wanted);
    assert_eq!(seen.len(), wanted);
    let last_ms = seen.iter().map(|seen| seen.arrived_ms).max().unwrap();
    BURST as f64 * 1_000.0 / (last_ms - due_ms) as f64
}
