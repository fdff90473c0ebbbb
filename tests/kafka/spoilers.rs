//! One key, one record, one broker that spoils things for itself must not spoil them for the others.

use std::collections::VecDeque;
use std::thread::{self, sleep};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::scene::{Scene, payload, schedule, sleep_until};
use crate::stage::await_not_ready;
use crate::support::broker::Broker;
use crate::support::kms::Kms;
use crate::support::{PATIENCE, now_ms};

const OTHERS: usize = 200;

#[test]
fn a_key_that_is_written_all_the_time_does_not_stop_the_others() {
    let scene = Scene::new("hot-key", 1);
    let mut kms = Kms::start_ready(&scene.settings());
    let others: Vec<_> =
        (0..OTHERS).map(|n| scene.schedule(&format!("other-{n}"), 1, now_ms() + 2_000)).collect();
    thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let scene = &scene;
        scope.spawn(move || {
            let producer = restless_producer(scene, "0");
            for version in 0.. {
                // Due since 1970: it comes before everything else.
                let value = schedule(&scene.destination, "hot", version, 0);
                let record = BaseRecord::to(&scene.schedules).key("hot").payload(value.as_bytes());
                producer.send(record).map_err(|(error, _)| error).unwrap();
                producer.poll(Duration::ZERO);
                if stopped.recv_timeout(Duration::from_millis(1))
                    != Err(std::sync::mpsc::RecvTimeoutError::Timeout)
                {
                    break;
                }
            }
            producer.flush(Duration::from_secs(10)).unwrap();
        });
        scene.client.produce(&others);
        for n in 0..OTHERS {
            scene.await_payload(&payload(&format!("other-{n}"), 1));
        }
        drop(stop);
    });
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
}

/// Each of a thousand keys is put off just when it falls due, again and again: there is always something due that is replaced
/// before a transaction with it could be committed. The simulation does the same to the millisecond
/// (`a_writer_that_never_stops_does_not_stop_the_others`).
#[test]
fn a_writer_that_never_stops_putting_off_what_is_due_does_not_stop_the_others() {
    put_off_without_pause("exactly-once");
}

#[test]
fn at_least_once_a_writer_that_never_stops_putting_off_what_is_due_does_not_stop_the_others() {
    put_off_without_pause("at-least-once");
}

fn put_off_without_pause(delivery: &str) {
    const HOT: usize = 1_000;
    const PUT_OFF_BY_MS: i64 = 100;
    const STORM_MS: i64 = 10_000;
    const EVERY_MS: i64 = 10;
    let scene = Scene::new("put-off", 1);
    let settings = scene.settings().delivery(delivery);
    let mut kms = Kms::start_ready(&settings);
    let start_ms = now_ms() + 1_000;
    let due_ms = |n: i64| start_ms + n * EVERY_MS;
    let others = STORM_MS / EVERY_MS;
    scene.client.produce(
        &(0..others).map(|n| scene.schedule(&format!("other-{n}"), 1, due_ms(n))).collect::<Vec<_>>(),
    );

    // A request for each record would be a storm on the broker, not on the scheduler.
    let producer = restless_producer(&scene, "1");
    let mut due: VecDeque<(i64, usize)> =
        (0..HOT).map(|n| (start_ms + PUT_OFF_BY_MS * n as i64 / HOT as i64, n)).collect();
    let mut written = 0;
    while let Some((at_ms, n)) = due.pop_front()
        && at_ms < start_ms + STORM_MS
    {
        // It is due for a millisecond.
        sleep_until(at_ms + 1);
        let (key, due_ms) = (format!("hot-{n}"), at_ms.max(now_ms() - 1) + PUT_OFF_BY_MS);
        let value = schedule(&scene.destination, &key, written, due_ms);
        let record = BaseRecord::to(&scene.schedules).key(&key).payload(value.as_bytes());
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.poll(Duration::ZERO);
        due.push_back((due_ms, n));
        written += 1;
    }
    producer.flush(PATIENCE).unwrap();
    scene.pass_sentinels();
    let [committed, aborted] = ["committed", "aborted"]
        .map(|outcome| kms.metric("kms_transactions_total", &[("outcome", outcome)]).unwrap_or_default());
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));

    let arrived = scene.arrived();
    let mut late_ms: Vec<i64> = arrived
        .iter()
        .filter_map(|seen| {
            let key = seen.key_text();
            Some(seen.arrived_ms - due_ms(key.strip_prefix("other-")?.parse().ok()?))
        })
        .collect();
    late_ms.sort_unstable();
    let worst_ms = late_ms[late_ms.len() - 1];
    println!(
        "put-off, {delivery}: {written} records in {STORM_MS} ms put off what was due, {} of it fired; {} others fired, late by {} ms \
         (p50), {} ms (p99), {worst_ms} ms (worst); {committed} transactions committed, {aborted} aborted",
        arrived.len() - late_ms.len(),
        late_ms.len(),
        late_ms[late_ms.len() / 2],
        late_ms[late_ms.len() * 99 / 100],
    );
    // If nothing came through while that is written, the first of them would have waited for nearly all of the time.
    assert!(worst_ms < STORM_MS / 2, "{worst_ms} ms late");
    if delivery == "exactly-once" {
        scene.assert_everything_fired_once(&settings);
    } else {
        scene.assert_nothing_lost_nor_doubled(&settings);
    }
}

/// A producer that sends records when they have waited for others so long.
fn restless_producer(scene: &Scene, linger_ms: &str) -> BaseProducer {
    let mut settings = ClientConfig::new();
    settings.set("bootstrap.servers", scene.bootstrap()).set("linger.ms", linger_ms);
    settings.create().unwrap()
}

/// The broker takes a compressed key that is larger than any record the scheduler may write.
#[test]
fn a_key_that_no_tombstone_can_carry_is_not_delivered_and_stops_nobody() {
    let scene = Scene::new("big-key", 1);
    let mut kms = Kms::start_ready(&scene.settings());
    let producer: BaseProducer = ClientConfig::new()
        .set("bootstrap.servers", scene.bootstrap())
        .set("message.max.bytes", "8000000")
        .set("compression.codec", "lz4")
        .create()
        .unwrap();
    let due_ms = now_ms() + 1_000;
    let value = schedule(&scene.destination, "big", 1, due_ms);
    let key = vec![b'a'; 1_200_000];
    producer
        .send(BaseRecord::to(&scene.schedules).key(&key).payload(value.as_bytes()))
        .map_err(|(error, _)| error)
        .unwrap();
    producer.flush(Duration::from_secs(10)).unwrap();
    let others: Vec<_> = (0..OTHERS).map(|n| scene.schedule(&format!("other-{n}"), 1, due_ms)).collect();
    scene.client.produce(&others);
    for n in 0..OTHERS {
        scene.await_payload(&payload(&format!("other-{n}"), 1));
    }
    kms.await_line("cannot deliver a schedule", Duration::from_mins(1));
    assert_eq!(scene.count_of(&payload("big", 1)), 0, "without its tombstone it would come again and again");
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
}

#[test]
fn a_schedule_topic_of_small_batches_is_served_in_small_batches() {
    let scene = Scene::new("small-batches", 1);
    scene
        .client
        .set_configs(&scene.schedules, &[("max.message.bytes".to_owned(), "20000".to_owned())].into());
    let mut kms = Kms::start_ready(&scene.settings());
    let due_ms = now_ms() + 3_000;
    // Keys that do not compress, so that a batch of tombstones is as large as it looks.
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut key = || {
        (0..4).fold(String::new(), |key, _| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            format!("{key}{state:016x}")
        })
    };
    let keys: Vec<String> = (0..1_000).map(|_| key()).collect();
    for some in keys.chunks(50) {
        let records: Vec<_> = some.iter().map(|key| scene.schedule(key, 1, due_ms)).collect();
        scene.client.produce(&records);
    }
    scene.await_arrivals(keys.len());
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
}

#[test]
fn a_broker_that_hangs_does_not_keep_an_instance_from_stopping() {
    let mut broker = Broker::private();
    let scene = Scene::on(broker.bootstrap(), "hangs", 1);
    let mut kms = Kms::start_ready(&scene.settings().env("KMS_TRANSACTION__TIMEOUT", "2s"));
    let due_ms = now_ms() + 1_500;
    let records: Vec<_> = (0..OTHERS).map(|n| scene.schedule(&format!("k-{n}"), 1, due_ms)).collect();
    scene.client.produce(&records);
    broker.freeze();
    // What falls due now has a destination that was never asked about, and nobody answers.
    while now_ms() < due_ms + 1_000 {
        sleep(Duration::from_millis(50));
    }
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    broker.thaw();
}

#[test]
fn a_schedule_topic_that_may_not_be_written_to_is_no_fault_of_its_schedules() {
    let broker = Broker::with_permissions();
    let scene = Scene::on(broker.bootstrap(), "read-only", 1);
    scene.client.produce(&[scene.schedule("waits", 1, now_ms())]);
    broker.permit(&scene.schedules, &["Describe", "Read"]);
    // What is set aside is not tried again within this test.
    let settings = scene.settings().env("KMS_RETRY__INITIAL", "10m").env("KMS_RETRY__MAX", "10m");
    let mut kms = Kms::start(&settings);
    await_not_ready(&kms, &["\"waiting\"", "authorization failed"]);
    broker.permit(&scene.schedules, &["Write"]);
    scene.await_payload(&payload("waits", 1));
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    scene.assert_everything_fired_once(&settings);
}
