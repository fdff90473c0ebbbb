//! The main job on a real Kafka, as a user's reader sees it: `cargo bench --bench main_job`.
//!
//! Starts its own broker and the release build of `kms`. Each figure is taken three times; the median is printed with
//! the spread. Nothing else should run on the machine. `-- idle steady` takes only these figures, `-- --once` each once.
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
use support::now_ms;

/// Takes a figure so many times.
type Figure = fn(&Client, broker: &str, times: usize);
const FIGURES: [(&str, Figure); 4] = [("burst", burst), ("load", load), ("steady", steady), ("idle", idle)];

fn main() {
    // `cargo bench` passes --bench and `cargo test --benches` nothing; --test is for trying a bench out, as Criterion
    // has it. This one needs minutes and a machine of its own, and checks nothing that the tests against Kafka do not.
    if !is_said("--bench") || is_said("--test") {
        eprintln!("main_job: nothing done; it measures, which `cargo bench --bench main_job` asks for");
        return;
    }
    let takes_all = !FIGURES.iter().any(|(name, _)| is_said(name));
    let times = if is_said("--once") { 1 } else { 3 };
    let broker = Broker::shared();
    let client = Client::new(broker);
    println!("{:<64} {:>10} {:>24}", "", "median", "min … max");
    for (name, figure) in FIGURES {
        if takes_all || is_said(name) {
            figure(&client, broker, times);
        }
    }
}

fn is_said(wanted: &str) -> bool {
    std::env::args().any(|argument| argument == wanted)
}

/// How long until all of 100,000 schedules due at one instant, on one partition, are visible.
fn burst(client: &Client, broker: &str, times: usize) {
    const COUNT: usize = 100_000;
    let seconds = taken(times, || {
        let (schedules, destination) = topics(client, 1, 4);
        let mut kms = start(broker, &schedules);
        let due_ms = now_ms() + 8_000;
        let records: Vec<_> =
            (0..COUNT).map(|i| schedule(&schedules, &id(i), due_ms, &destination)).collect();
        client.produce(&records);
        assert!(now_ms() < due_ms, "the schedules were written too late");
        let reader = client.reader(&[&destination]);
        let seen = reader.collect(Duration::from_mins(1), |seen| seen.len() >= COUNT);
        assert_eq!(seen.len(), COUNT);
        kms.sigterm_and_wait();
        (seen.iter().map(|seen| seen.arrived_ms).max().unwrap() - due_ms) as f64 / 1_000.0
    });
    report("burst: 100,000 due at once, 1 partition: last one visible (s)", &seconds);
}

/// How long from process start until 1,000,000 schedules are loaded and live.
fn load(client: &Client, broker: &str, times: usize) {
    const COUNT: usize = 1_000_000;
    for partitions in [1, 4] {
        let (schedules, destination) = topics(client, partitions, 1);
        let due_ms = now_ms() + 86_400_000;
        for chunk in 0..10 {
            let ids = chunk * COUNT / 10..(chunk + 1) * COUNT / 10;
            let records: Vec<_> =
                ids.map(|i| schedule(&schedules, &id(i), due_ms + i as i64, &destination)).collect();
            client.produce(&records);
        }
        let seconds = taken(times, || {
            let started = Instant::now();
            let mut kms = start(broker, &schedules);
            let seconds = started.elapsed().as_secs_f64();
            let pending = kms.metric("schedules_repository_size", &[("counter_type", "total")]);
            assert_eq!(pending, Some(COUNT as f64));
            kms.sigterm_and_wait();
            seconds
        });
        report(&format!("load: process start to live, 1,000,000, partitions: {partitions} (s)"), &seconds);
    }
}

/// From due to visible at 1,000 schedules a second, one partition.
fn steady(client: &Client, broker: &str, times: usize) {
    const COUNT: usize = 10_000;
    spread_out(client, broker, times, "steady: 1,000 a second: due to visible", COUNT, 1);
}

/// From due to visible for single schedules on an otherwise idle instance.
fn idle(client: &Client, broker: &str, times: usize) {
    spread_out(client, broker, times, "idle: one each 250 ms: due to visible", 40, 250);
}

fn spread_out(client: &Client, broker: &str, times: usize, name: &str, count: usize, every_ms: i64) {
    let (mut medians, mut p99s) = (Vec::new(), Vec::new());
    for _ in 0..times {
        let (schedules, destination) = topics(client, 1, 4);
        let mut kms = start(broker, &schedules);
        let first_ms = now_ms() + 5_000;
        let records: Vec<_> = (0..count)
            .map(|i| schedule(&schedules, &id(i), first_ms + i as i64 * every_ms, &destination))
            .collect();
        client.produce(&records);
        let reader = client.reader(&[&destination]);
        let seen = reader.collect(Duration::from_mins(1), |seen| seen.len() >= count);
        assert_eq!(seen.len(), count);
        kms.sigterm_and_wait();
        let mut late_ms: Vec<f64> = seen
            .iter()
            .map(|seen| {
                let number: i64 = seen.key_text().trim_start_matches("id-").parse().unwrap();
                (seen.arrived_ms - (first_ms + number * every_ms)) as f64
            })
            .collect();
        late_ms.sort_by(f64::total_cmp);
        assert!(late_ms[0] >= 0.0, "a schedule was early");
        medians.push(late_ms[count / 2]);
        p99s.push(late_ms[count * 99 / 100]);
    }
    report(&format!("{name}, p50 (ms)"), &medians);
    report(&format!("{name}, p99 (ms)"), &p99s);
}

fn topics(client: &Client, partitions: i32, destination_partitions: i32) -> (String, String) {
    let (schedules, destination) = (unique("schedules"), unique("destination"));
    client.create_schedule_topic(&schedules, partitions);
    client.create_destination_topic(&destination, destination_partitions);
    (schedules, destination)
}

fn start(broker: &str, schedules: &str) -> Kms {
    let settings =
        Settings::new(broker, &unique("bench")).json_topics(schedules).env("KMS_LOGGING_LEVEL", "info");
    Kms::start_ready(&settings)
}

fn id(number: usize) -> String {
    format!("id-{number}")
}

fn taken(times: usize, figure: impl FnMut() -> f64) -> Vec<f64> {
    std::iter::repeat_with(figure).take(times).collect()
}

fn report(name: &str, figures: &[f64]) {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (min, median, max) = (sorted[0], sorted[sorted.len() / 2], sorted[sorted.len() - 1]);
    println!("{name:<64} {median:>10.2} {:>24}", format!("{min:.2} … {max:.2}"));
}
