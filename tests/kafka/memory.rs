//! What an instance holds in memory, and what it says when that is too much.

use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};

use crate::scene::{Scene, alone, payload};
use crate::stage::{await_log, await_metric, await_not_ready};
use crate::support::kms::{Kms, Settings};
use crate::support::{PATIENCE, http, now_ms, poll_until};

const MIB: f64 = 1_048_576.0;

#[test]
fn more_pending_than_the_bound_is_said_and_nothing_stops() {
    const PENDING: usize = 60_000;
    let scene = Scene::new("too-much", 2);
    let settings = scene.settings().env("KMS_MEMORY__MAX_PENDING_BYTES", "4MiB");
    let mut kms = Kms::start_ready(&settings);
    assert_eq!(kms.metric("kms_memory_limit_bytes", &[]), Some(4.0 * MIB));
    let later_ms = now_ms() + 3_600_000;
    let key = |n: usize| format!("later-{n}");
    let pending: Vec<_> = (0..PENDING).map(|n| scene.schedule(&key(n), 1, later_ms)).collect();
    scene.client.produce(&pending);

    let why = ["what is pending takes", "memory.max_pending_bytes is 4.0 MiB", "start more instances"];
    await_not_ready(&kms, &why);
    await_log(&kms, &["WARN", "not ready: what is pending takes"]);
    await_metric(&kms, "kms_memory_limit_exceeded", &[], 1.0);
    await_metric(&kms, "kms_schedules_pending", &[], PENDING as f64);
    assert!(kms.metric("kms_memory_pending_bytes", &[]).unwrap() > 4.0 * MIB);

    let due_ms = now_ms() + 1_000;
    let soon: Vec<_> = (0..50).map(|n| scene.schedule(&format!("soon-{n}"), 1, due_ms)).collect();
    scene.client.produce(&soon);
    (0..50).for_each(|n| scene.await_payload(&payload(&format!("soon-{n}"), 1)));
    let latest_ms = scene.arrived().iter().map(|seen| seen.arrived_ms).max().unwrap();
    assert!((0..5_000).contains(&(latest_ms - due_ms)), "{} ms late", latest_ms - due_ms);
    assert!(!kms.is_ready(), "it fired while there was too much");

    let cancels: Vec<_> = (0..PENDING).filter(|n| n % 20 != 0).map(|n| scene.cancel(&key(n))).collect();
    scene.client.produce(&cancels);
    assert!(poll_until(PATIENCE, || kms.is_ready().then_some(())).is_some(), "it stays not ready");
    await_log(&kms, &["INFO", "well within memory.max_pending_bytes again"]);
    let said =
        kms.log_lines().iter().filter(|line| line.contains("not ready: what is pending takes")).count();
    assert_eq!(said, 1);

    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    scene.client.await_stable(&[&scene.schedules, &scene.destination], PATIENCE);
    scene.verdict(now_ms()).assert_clean();
}

/// How much more memory may be in use than what is pending takes: librdkafka's queues, its and the allocators' slack, and
/// the program itself. docs/capacity.md says so, too.
const MARGIN_BYTES: f64 = 400_000_000.0;

/// `KMS_FLOOD=20000000 cargo test --release --test kafka -- --nocapture memory_stays_near` for more than a million.
#[test]
fn memory_stays_near_what_is_pending_under_a_writer_at_full_speed() {
    const STEADY: usize = 600;
    const STEADY_EVERY_MS: i64 = 25;
    let _turn = alone();
    let flood: usize = std::env::var("KMS_FLOOD").map_or(1_000_000, |count| count.parse().expect("a number"));
    let scene = Scene::new("flood", 4);
    let settings = scene.settings().env("KMS_LOGGING_LEVEL", "info");
    let mut kms = Kms::start_ready(&settings);

    let first_ms = now_ms() + 2_000;
    let due_ms = |n: usize| first_ms + n as i64 * STEADY_EVERY_MS;
    let steady: Vec<_> = (0..STEADY).map(|n| scene.schedule(&format!("steady-{n}"), 1, due_ms(n))).collect();
    scene.client.produce(&steady);
    let idle = kms.cost().resident_bytes as f64;
    let started = Instant::now();
    let writer = thread::spawn({
        let (bootstrap, schedules) = (scene.bootstrap().to_owned(), scene.schedules.clone());
        let destination = scene.destination.clone();
        move || write_as_fast_as_possible(&bootstrap, &schedules, &destination, flood)
    });
    // The most at any time that was in use beside what is pending.
    let (mut most_beside, mut most_fetched) = (0.0f64, 0.0f64);
    let patience = PATIENCE + Duration::from_micros(20) * flood as u32;
    let read = poll_until(patience, || {
        let metrics = ["kms_memory_pending_bytes", "kms_fetched_records", "kms_schedules_pending"];
        let [bytes, fetched, pending] = metrics.map(|name| kms.metric(name, &[]).unwrap());
        most_beside = most_beside.max(kms.cost().resident_bytes as f64 - bytes);
        most_fetched = most_fetched.max(fetched);
        (pending >= flood as f64 && writer.is_finished()).then_some(())
    });
    let wrote_for = writer.join().expect("every record is accepted");
    assert!(read.is_some(), "the flood was not read in {patience:?}");
    let read_for = started.elapsed();
    (0..STEADY).for_each(|n| scene.await_payload(&payload(&format!("steady-{n}"), 1)));
    await_metric(&kms, "kms_schedules_pending", &[], flood as f64);

    let arrived = scene.arrived();
    assert_eq!(arrived.len(), STEADY, "each once, and none of the flood");
    let due_of = |key: &str| due_ms(key.trim_start_matches("steady-").parse().unwrap());
    let mut late_ms: Vec<i64> =
        arrived.iter().map(|seen| seen.arrived_ms - due_of(&seen.key_text())).collect();
    late_ms.sort_unstable();
    let (bytes, content) =
        (kms.metric("kms_memory_pending_bytes", &[]).unwrap(), kms.metric("kms_payload_bytes", &[]).unwrap());
    let resident = kms.cost().resident_bytes as f64;
    println!(
        "{flood} schedules written in {wrote_for:?}, read after {read_for:?}; content {:.0} MiB, with structures {:.0}, \
         resident {:.0} at the end ({:.0} when idle); beside what is pending {:.0} MiB at most, {:.0} at the end; \
         at most {most_fetched} records fetched ahead; due until visible p50 {} ms, p99 {} ms, at most {} ms",
        content / MIB,
        bytes / MIB,
        resident / MIB,
        idle / MIB,
        most_beside / MIB,
        (resident - bytes) / MIB,
        late_ms[STEADY / 2],
        late_ms[STEADY * 99 / 100],
        late_ms[STEADY - 1]
    );
    assert!(most_beside < MARGIN_BYTES, "{:.0} MiB beside what is pending", most_beside / MIB);
    assert!(late_ms[0] >= 0, "none is early");
    assert!(late_ms[STEADY * 99 / 100] < 5_000, "99 of 100 are on time, as far as this machine allows");
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));

    // A load reads as fast as it can, too, and librdkafka fetches faster than that.
    let Loaded { most_beside, took, .. } = load(&settings, flood);
    println!("loaded again in {took:?}, beside what is pending {:.0} MiB at most", most_beside / MIB);
    assert!(most_beside < MARGIN_BYTES, "{:.0} MiB beside what is pending in a load", most_beside / MIB);
}

/// For docs/capacity.md: what is fetched ahead and how fast a load is, by the size of the queues.
/// `KMS_LOAD=2000000 cargo test --release --test kafka -- --ignored --nocapture what_fetching_ahead_costs`
#[test]
#[ignore = "measures, on a machine with nothing else to do"]
fn what_fetching_ahead_costs() {
    const ROUNDS: usize = 5;
    const LAYOUTS: [(&str, &str); 3] = [
        ("as laid out", ""),
        (
            "100000 records, 8 MiB answers",
            "queued.min.messages=100000;queued.max.messages.kbytes=65536;fetch.message.max.bytes=8388608;\
             fetch.max.bytes=67108864",
        ),
        (
            "300000 records, 8 MiB answers",
            "queued.min.messages=300000;queued.max.messages.kbytes=131072;fetch.message.max.bytes=8388608;\
             fetch.max.bytes=67108864",
        ),
    ];
    let _turn = alone();
    let count: usize = std::env::var("KMS_LOAD").map_or(2_000_000, |count| count.parse().expect("a number"));
    println!(
        "| partitions | queues | seconds (least … most) | beside what is pending, MiB, at most | at the end |"
    );
    println!("|---|---|---|---|---|");
    for partitions in [1, 4, 8, 64] {
        let scene = Scene::new("ahead", partitions);
        write_as_fast_as_possible(scene.bootstrap(), &scene.schedules, &scene.destination, count);
        let settings = LAYOUTS.map(|(_, properties)| {
            let settings = scene.settings().env("KMS_LOGGING_LEVEL", "info");
            settings.env("KMS_KAFKA_CONSUMER_PROPERTIES", properties)
        });
        // In turn, so that what else the machine does meets all of them.
        let rounds: Vec<_> =
            (0..ROUNDS).map(|_| settings.each_ref().map(|settings| load(settings, count))).collect();
        for (n, (name, _)) in LAYOUTS.iter().enumerate() {
            let mut seconds: Vec<f64> = rounds.iter().map(|round| round[n].took.as_secs_f64()).collect();
            seconds.sort_by(f64::total_cmp);
            let most = |figure: fn(&Loaded) -> f64| {
                rounds.iter().map(|round| figure(&round[n])).fold(0.0, f64::max) / MIB
            };
            println!(
                "| {partitions} | {name} | {:.2} ({:.2} … {:.2}) | {:.0} | {:.0} |",
                seconds[ROUNDS / 2],
                seconds[0],
                seconds[ROUNDS - 1],
                most(|loaded| loaded.most_beside),
                most(|loaded| loaded.beside)
            );
        }
    }
}

/// A start with schedules in the topic.
struct Loaded {
    /// From the start of the process until it is ready.
    took: Duration,
    /// Bytes in use beside what is pending: the most at any time, and some seconds later.
    most_beside: f64,
    beside: f64,
}

fn load(settings: &Settings, count: usize) -> Loaded {
    let started = Instant::now();
    let mut kms = Kms::start(settings);
    let beside = |kms: &Kms| {
        let pending = kms.metric("kms_memory_pending_bytes", &[]).unwrap_or_default();
        kms.cost().resident_bytes as f64 - pending
    };
    let (mut most_beside, mut took) = (0.0f64, Duration::ZERO);
    let patience = PATIENCE + Duration::from_micros(20) * count as u32;
    let is_loaded = poll_until(patience, || {
        if http::get(kms.metrics_address(), "/health/live").is_err() {
            return None; // it does not serve yet
        }
        took = started.elapsed();
        most_beside = most_beside.max(beside(&kms));
        (kms.is_ready() && kms.metric("kms_schedules_pending", &[]) == Some(count as f64)).then_some(())
    });
    assert!(is_loaded.is_some(), "{count} schedules are not loaded in {patience:?}");
    thread::sleep(Duration::from_secs(2));
    let beside = beside(&kms);
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    Loaded { took, most_beside, beside }
}

/// Writes schedules that are due after any test, without waiting for anything but room in the producer's queue.
fn write_as_fast_as_possible(bootstrap: &str, schedules: &str, destination: &str, count: usize) -> Duration {
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("linger.ms", "20")
        .set("batch.size", "500000")
        .create()
        .expect("the producer's settings are valid");
    let started = Instant::now();
    let value = BASE64.encode([b'x'; 100]);
    let due_ms = now_ms() + 86_400_000;
    for n in 0..count {
        let key = format!("flood-{n}");
        let due_ms = due_ms + n as i64;
        let schedule = format!(
            r#"{{"time":{due_ms},"topic":"{destination}","key":"{}","value":"{value}"}}"#,
            BASE64.encode(&key)
        );
        let mut record = BaseRecord::to(schedules).key(&key).payload(&schedule);
        while let Err((error, unsent)) = producer.send(record) {
            assert!(
                matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)),
                "the record is refused: {error}"
            );
            record = unsent;
            producer.poll(Duration::from_millis(10));
        }
    }
    producer.flush(PATIENCE).expect("the broker takes what was written");
    started.elapsed()
}
