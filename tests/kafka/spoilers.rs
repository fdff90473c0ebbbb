//! One key, one record, one broker that spoils things for itself must not spoil them for the others.

use std::thread::{self, sleep};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use crate::scene::{Scene, payload, schedule};
use crate::stage::await_not_ready;
use crate::support::broker::Broker;
use crate::support::kms::Kms;
use crate::support::now_ms;

const OTHERS: usize = 200;

#[test]
fn a_key_that_is_written_all_the_time_does_not_stop_the_others() {
    let scene = Scene::new("hot-key", 1);
    let mut kms = Kms::start_ready(&scene.settings());
    let others: Vec<_> =
        (0..OTHERS).map(|n| scene.schedule(&format!("other-{n}"), 1, now_ms() + 2_000)).collect();
    thread::scope(|scope| {
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let (scene, bootstrap) = (&scene, scene.bootstrap());
        scope.spawn(move || {
            let producer: BaseProducer = ClientConfig::new()
                .set("bootstrap.servers", bootstrap)
                .set("linger.ms", "0")
                .create()
                .unwrap();
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
