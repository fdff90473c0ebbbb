//! What is scheduled arrives: when it is due, as it was written, once; and its tombstone says so.

use std::fs;
use std::path::Path;

use crate::scene::{Format, Scene, Topic, await_metric};
use crate::support::client::{Isolation, NewRecord, Place, Seen};
use crate::support::{PATIENCE, now_ms};

/// Generous: the machine may be busy. A message later than this was not sent because it was due.
const PUNCTUAL_MS: i64 = 15_000;

#[test]
fn json_schedules_arrive_at_their_time() {
    schedules_arrive_at_their_time(Format::Json);
}

#[test]
fn avro_schedules_arrive_at_their_time() {
    schedules_arrive_at_their_time(Format::Avro);
}

fn schedules_arrive_at_their_time(format: Format) {
    let scene = Scene::with(&[format], 1);
    let _kms = scene.start();
    let now = now_ms();
    let plans: Vec<_> = [("late", 1_900), ("past", -86_400_000), ("early", 700), ("now", 0), ("1970", -now)]
        .map(|(id, in_ms)| (id, scene.plan(id).due_ms(now + in_ms)))
        .into();
    let written_ms = now_ms();
    scene.put_all(&plans);

    let seen = scene.await_messages(plans.len());
    assert_eq!(seen.iter().map(Seen::key_text).collect::<Vec<_>>()[3..], ["early", "late"]);
    for (id, plan) in &plans {
        let message = seen.iter().find(|seen| seen.key_text() == *id).unwrap();
        let due_ms = plan.due_ms.max(written_ms);
        assert!(message.timestamp_ms >= plan.due_ms, "{message:?} is early: {plan:?}");
        assert!(message.timestamp_ms <= due_ms + PUNCTUAL_MS, "{message:?} is late: {plan:?}");
    }
    let verdict = scene.finish();
    verdict.assert_clean();
    assert_eq!(verdict.right, plans.len() + 1);
}

#[test]
fn a_message_is_exactly_what_was_scheduled() {
    for format in [Format::Json, Format::Avro] {
        let scene = Scene::with(&[format], 1);
        let _kms = scene.start();
        let every_byte: Vec<u8> = (0..=255).collect();
        let plans = [
            ("plain", scene.plan("plain").header("h", b"text").header("a second one", b"2")),
            ("bytes", scene.plan(&every_byte).value(&every_byte).header("bytes", &every_byte)),
            ("empty", scene.plan("").value(b"").header("empty", b"").header("", b"a header without name")),
            ("null", scene.plan("k").null_value().header("ünï", b"1")),
            ("null, bare", scene.plan("k").null_value()),
            ("large", scene.plan("k").value(&every_byte.repeat(2_000))),
        ];
        // One after the other, so that the messages come in this order.
        for (number, (id, plan)) in plans.iter().enumerate() {
            scene.put(id, plan);
            scene.await_messages(number + 1);
        }
        for (message, (id, plan)) in scene.messages().iter().zip(&plans) {
            assert_eq!(message.key.as_ref(), Some(&plan.key), "{format:?} {id}: key");
            assert_eq!(message.value, plan.value, "{format:?} {id}: value");
            let mut headers: Vec<_> =
                message.headers.iter().map(|(name, value)| (name.clone(), value.clone().unwrap())).collect();
            let mut wanted = plan.headers.clone();
            headers.sort();
            wanted.sort();
            assert_eq!(headers, wanted, "{format:?} {id}: headers");
        }
    }
}

#[test]
fn avro_without_headers_is_the_older_format() {
    let scene = Scene::avro(1);
    let _kms = scene.start();
    let plan = scene.plan("old");
    let place = &scene
        .client
        .produce(&[NewRecord::to(&scene.topic().name).key("old").value(plan.avro_without_headers())])[0];
    scene.note(place, "old", &plan);
    assert_eq!(scene.await_messages(1)[0].headers, []);
    scene.finish().assert_clean();
}

#[test]
fn messages_go_to_the_partition_that_javas_partitioner_chooses() {
    let scene = Scene::json(1);
    let _kms = scene.start();
    let destination = crate::support::client::unique("partitioned");
    scene.client.create_destination_topic(&destination, 7);
    // What Java's `Utils.toPositive(Utils.murmur2(key)) % 7` gives.
    let chosen = [("21", 3), ("foobar", 0), ("a-little-bit-long-string", 1), ("abc", 4)];
    for (key, _) in chosen {
        scene.put(key, &scene.plan(key).to(&destination));
    }
    let seen = scene.client.collect(&[&destination], PATIENCE, |seen| seen.len() == chosen.len());
    let partitions =
        chosen.map(|(key, _)| seen.iter().find(|seen| seen.key_text() == key).unwrap().partition);
    assert_eq!(partitions, chosen.map(|(_, partition)| partition));
}

#[test]
fn a_tombstone_follows_and_names_what_was_fired() {
    let scene = Scene::json(3);
    let _kms = scene.start();
    let id = [0xff, 0x00, b'k', 0xfe];
    // Something in front of it, so that offsets and partitions cannot be right by being zero.
    for number in 0..3 {
        scene.put_on(scene.topic(), 2, format!("before-{number}"), &scene.plan("before").due_much_later());
    }
    let place = scene.put_on(scene.topic(), 2, id, &scene.plan("message key"));
    scene.await_messages(1);

    let records = scene.records_of(scene.topic(), id);
    let [schedule, tombstone] = &records[..] else { panic!("a schedule and its tombstone: {records:#?}") };
    assert_eq!((schedule.place(), tombstone.partition), (place.clone(), 2));
    assert_eq!((tombstone.key.as_deref(), tombstone.value.as_deref()), (Some(&id[..]), None));
    let fired = format!("{}:2:{}", topic_id(&place), place.offset);
    let headers = [("schedule:expired", "true"), ("kms-fired", fired.as_str())];
    let headers = headers.map(|(name, value)| (name.to_owned(), Some(value.as_bytes().to_vec())));
    assert_eq!(tombstone.headers, headers);
}

#[test]
fn a_schedule_lives_and_dies_on_its_own_partition() {
    const PARTITIONS: i32 = 5;
    let scene = Scene::with(&[Format::Json, Format::Avro], PARTITIONS);
    let mut kms = scene.start();
    let ids: [&[u8]; 3] = [b"text", b"\xff\xfe\x00", b""];
    // Each ID on each partition of both topics: on most of them no partitioner would put it.
    for topic in &scene.topics {
        for partition in 0..PARTITIONS {
            for id in ids {
                scene.put_on(topic, partition, id, &scene.plan(id).due_in(500));
            }
        }
    }
    let schedules = scene.topics.len() * PARTITIONS as usize * ids.len();
    scene.await_messages(schedules);
    let verdict = scene.finish();
    verdict.assert_clean();
    assert_eq!(verdict.right, schedules + scene.topics.len() * PARTITIONS as usize);

    assert!(kms.sigterm_and_wait().success());
    let _kms = scene.start();
    scene.finish().assert_clean();
}

#[test]
fn several_topics_of_both_formats_are_served_at_once() {
    let scene = Scene::with(&[Format::Avro, Format::Json, Format::Avro, Format::Json], 2);
    let kms = scene.start();
    for topic in &scene.topics {
        for partition in 0..2 {
            // The same IDs everywhere, on every topic another schedule.
            scene.put_on(topic, partition, "fires", &scene.plan("fires"));
            scene.put_on(topic, partition, "waits", &scene.plan("waits").due_much_later());
        }
    }
    scene.await_messages(8);
    for topic in &scene.topics {
        await_metric(&kms, "kms_schedules_fired_total", &[("topic", &topic.name)], 2.0);
        await_metric(&kms, "kms_schedules_pending", &[("topic", &topic.name)], 2.0);
    }
    // A cancel reaches the schedule of its own topic only.
    let Topic { name, .. } = &scene.topics[2];
    scene.client.produce(&[NewRecord::to(name).partition(1).key("waits")]);
    await_metric(&kms, "kms_schedules_pending", &[("topic", name)], 1.0);
    await_metric(&kms, "kms_schedules_pending", &[], 7.0);
    scene.finish().assert_clean();
}

#[test]
fn thousands_that_are_due_together_arrive_once_each() {
    const SCHEDULES: usize = 20_000;
    let scene = Scene::avro(4);
    let _kms = scene.start();
    let due_ms = now_ms() + 1_500;
    let plans: Vec<_> = (0..SCHEDULES)
        .map(|number| {
            let id = format!("schedule-{number}");
            let plan = scene.plan(&id).due_ms(due_ms);
            (id, plan)
        })
        .collect();
    scene.put_all(&plans);
    scene.await_messages(SCHEDULES);
    let verdict = scene.finish();
    verdict.assert_clean();
    assert_eq!(verdict.right, SCHEDULES + 4);
}

/// The topic's ID as the broker itself noted it, beside the partition's log.
fn topic_id(place: &Place) -> String {
    let brokers = fs::read_dir(env!("CARGO_TARGET_TMPDIR")).unwrap().flatten();
    let notes = brokers.map(|broker| {
        let partition = Path::new("data").join(format!("{}-{}", place.topic, place.partition));
        broker.path().join(partition).join("partition.metadata")
    });
    let note = notes.filter_map(|note| fs::read_to_string(note).ok()).next().expect("a broker has the topic");
    note.lines().find_map(|line| line.strip_prefix("topic_id: ")).expect("the ID is in it").to_owned()
}

#[test]
fn nothing_but_schedules_and_tombstones_is_written_to_a_schedule_topic() {
    let scene = Scene::json(1);
    let _kms = scene.start();
    for number in 0..20 {
        scene.put(format!("id-{number}"), &scene.plan("k"));
    }
    scene.await_messages(20);
    scene.client.await_stable(&[&scene.topic().name], PATIENCE);
    // Aborted attempts would show here.
    let records = scene.client.read_topic(&scene.topic().name, Isolation::ReadUncommitted);
    let (schedules, tombstones): (Vec<_>, Vec<_>) = records.iter().partition(|seen| seen.value.is_some());
    assert_eq!((schedules.len(), tombstones.len()), (20, 20));
}
