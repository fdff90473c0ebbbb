//! What is scheduled arrives: when it is due, as it was written, once; and its tombstone says so.

use std::fs;
use std::path::Path;

use crate::stage::{Format, Stage, Topic, await_metric};
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
    let stage = Stage::with(&[format], 1);
    let _kms = stage.start();
    let now = now_ms();
    let plans: Vec<_> = [("late", 1_900), ("past", -86_400_000), ("early", 700), ("now", 0), ("1970", -now)]
        .map(|(id, in_ms)| (id, stage.plan(id).due_ms(now + in_ms)))
        .into();
    let written_ms = now_ms();
    stage.put_all(&plans);

    let seen = stage.await_messages(plans.len());
    assert_eq!(seen.iter().map(Seen::key_text).collect::<Vec<_>>()[3..], ["early", "late"]);
    for (id, plan) in &plans {
        let message = seen.iter().find(|seen| seen.key_text() == *id).unwrap();
        let due_ms = plan.due_ms.max(written_ms);
        assert!(message.timestamp_ms >= plan.due_ms, "{message:?} is early: {plan:?}");
        assert!(message.timestamp_ms <= due_ms + PUNCTUAL_MS, "{message:?} is late: {plan:?}");
    }
    let verdict = stage.finish();
    verdict.assert_clean();
    assert_eq!(verdict.right, plans.len() + 1);
}

#[test]
fn a_message_is_exactly_what_was_scheduled() {
    for format in [Format::Json, Format::Avro] {
        let stage = Stage::with(&[format], 1);
        let _kms = stage.start();
        let every_byte: Vec<u8> = (0..=255).collect();
        let plans = [
            ("plain", stage.plan("plain").header("h", b"text").header("a second one", b"2")),
            ("bytes", stage.plan(&every_byte).value(&every_byte).header("bytes", &every_byte)),
            ("empty", stage.plan("").value(b"").header("empty", b"").header("", b"a header without name")),
            ("null", stage.plan("k").null_value().header("ünï", b"1")),
            ("null, bare", stage.plan("k").null_value()),
            ("large", stage.plan("k").value(&every_byte.repeat(2_000))),
        ];
        // One after the other, so that the messages come in this order.
        for (number, (id, plan)) in plans.iter().enumerate() {
            stage.put(id, plan);
            stage.await_messages(number + 1);
        }
        for (message, (id, plan)) in stage.messages().iter().zip(&plans) {
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
    let stage = Stage::avro(1);
    let _kms = stage.start();
    let plan = stage.plan("old");
    let place = &stage
        .client
        .produce(&[NewRecord::to(&stage.topic().name).key("old").value(plan.avro_without_headers())])[0];
    stage.note(place, "old", &plan);
    assert_eq!(stage.await_messages(1)[0].headers, []);
    stage.finish().assert_clean();
}

#[test]
fn messages_go_to_the_partition_that_javas_partitioner_chooses() {
    let stage = Stage::json(1);
    let _kms = stage.start();
    let destination = crate::support::client::unique("partitioned");
    stage.client.create_destination_topic(&destination, 7);
    // What Java's `Utils.toPositive(Utils.murmur2(key)) % 7` gives.
    let chosen = [("21", 3), ("foobar", 0), ("a-little-bit-long-string", 1), ("abc", 4)];
    for (key, _) in chosen {
        stage.put(key, &stage.plan(key).to(&destination));
    }
    let seen = stage.client.collect(&[&destination], PATIENCE, |seen| seen.len() == chosen.len());
    let partitions =
        chosen.map(|(key, _)| seen.iter().find(|seen| seen.key_text() == key).unwrap().partition);
    assert_eq!(partitions, chosen.map(|(_, partition)| partition));
}

#[test]
fn a_tombstone_follows_and_names_what_was_fired() {
    let stage = Stage::json(3);
    let _kms = stage.start();
    let id = [0xff, 0x00, b'k', 0xfe];
    // Something in front of it, so that offsets and partitions cannot be right by being zero.
    for number in 0..3 {
        stage.put_on(stage.topic(), 2, format!("before-{number}"), &stage.plan("before").due_much_later());
    }
    let place = stage.put_on(stage.topic(), 2, id, &stage.plan("message key"));
    stage.await_messages(1);

    let records = stage.records_of(stage.topic(), id);
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
    let stage = Stage::with(&[Format::Json, Format::Avro], PARTITIONS);
    let mut kms = stage.start();
    let ids: [&[u8]; 3] = [b"text", b"\xff\xfe\x00", b""];
    // Each ID on each partition of both topics: on most of them no partitioner would put it.
    for topic in &stage.topics {
        for partition in 0..PARTITIONS {
            for id in ids {
                stage.put_on(topic, partition, id, &stage.plan(id).due_in(500));
            }
        }
    }
    let schedules = stage.topics.len() * PARTITIONS as usize * ids.len();
    stage.await_messages(schedules);
    let verdict = stage.finish();
    verdict.assert_clean();
    assert_eq!(verdict.right, schedules + stage.topics.len() * PARTITIONS as usize);

    assert!(kms.sigterm_and_wait().success());
    let _kms = stage.start();
    stage.finish().assert_clean();
}

#[test]
fn several_topics_of_both_formats_are_served_at_once() {
    let stage = Stage::with(&[Format::Avro, Format::Json, Format::Avro, Format::Json], 2);
    let kms = stage.start();
    for topic in &stage.topics {
        for partition in 0..2 {
            // The same IDs everywhere, on every topic another schedule.
            stage.put_on(topic, partition, "fires", &stage.plan("fires"));
            stage.put_on(topic, partition, "waits", &stage.plan("waits").due_much_later());
        }
    }
    stage.await_messages(8);
    for topic in &stage.topics {
        await_metric(&kms, "kms_schedules_fired_total", &[("topic", &topic.name)], 2.0);
        await_metric(&kms, "kms_schedules_pending", &[("topic", &topic.name)], 2.0);
    }
    // A cancel reaches the schedule of its own topic only.
    let Topic { name, .. } = &stage.topics[2];
    stage.client.produce(&[NewRecord::to(name).partition(1).key("waits")]);
    await_metric(&kms, "kms_schedules_pending", &[("topic", name)], 1.0);
    await_metric(&kms, "kms_schedules_pending", &[], 7.0);
    stage.finish().assert_clean();
}

#[test]
fn thousands_that_are_due_together_arrive_once_each() {
    const SCHEDULES: usize = 20_000;
    let stage = Stage::avro(4);
    let _kms = stage.start();
    let due_ms = now_ms() + 1_500;
    let plans: Vec<_> = (0..SCHEDULES)
        .map(|number| {
            let id = format!("schedule-{number}");
            let plan = stage.plan(&id).due_ms(due_ms);
            (id, plan)
        })
        .collect();
    stage.put_all(&plans);
    stage.await_messages(SCHEDULES);
    let verdict = stage.finish();
    verdict.assert_clean();
    assert_eq!(verdict.right, SCHEDULES + 4);
}

/// The topic's ID as the broker itself noted it, beside the partition's log.
fn topic_id(place: &Place) -> String {
    let brokers = fs::read_dir(env!("CARGO_TARGET_TMPDIR")).unwrap().flatten();
    let mut notes = brokers.map(|broker| {
        let partition = Path::new("data").join(format!("{}-{}", place.topic, place.partition));
        broker.path().join(partition).join("partition.metadata")
    });
    let note = notes.find_map(|note| fs::read_to_string(note).ok()).expect("a broker has the topic");
    note.lines().find_map(|line| line.strip_prefix("topic_id: ")).expect("the ID is in it").to_owned()
}

#[test]
fn nothing_but_schedules_and_tombstones_is_written_to_a_schedule_topic() {
    let stage = Stage::json(1);
    let _kms = stage.start();
    for number in 0..20 {
        stage.put(format!("id-{number}"), &stage.plan("k"));
    }
    stage.await_messages(20);
    stage.client.await_stable(&[&stage.topic().name], PATIENCE);
    // Aborted attempts would show here.
    let records = stage.client.read_topic(&stage.topic().name, Isolation::ReadUncommitted);
    let (schedules, tombstones): (Vec<_>, Vec<_>) = records.iter().partition(|seen| seen.value.is_some());
    assert_eq!((schedules.len(), tombstones.len()), (20, 20));
}
