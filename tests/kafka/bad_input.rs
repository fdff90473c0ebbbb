//! One bad record is counted and said; nothing else notices it.

use crate::stage::{Format, Stage, Topic, avro_long, await_log, await_metric};
use crate::support::client::{NewRecord, Place};
use crate::support::now_ms;

/// What no producer of Avro schedules should have written.
fn bad_avro() -> Vec<Vec<u8>> {
    let datum = |numbers: &[i64]| {
        let mut datum = Vec::new();
        numbers.iter().for_each(|number| avro_long(&mut datum, *number));
        datum
    };
    // A whole datum up to its headers: time 1, topic "", key "", value null.
    let up_to_headers = |rest: &[i64]| datum(&[&[1, 0, 0, 0], rest].concat());
    vec![
        Vec::new(),
        b"not Avro at all".to_vec(),
        vec![0xff; 4_000],
        // A topic of the longest length there is; of a negative one; of the smallest.
        datum(&[1, i64::MAX]),
        datum(&[1, -1]),
        datum(&[1, i64::MIN]),
        // A union branch that is not there; a value larger than the record.
        datum(&[1, 0, 0, 2]),
        datum(&[1, 0, 0, 1, 1 << 40]),
        // Headers that promise more than there is.
        up_to_headers(&[i64::MAX]),
        up_to_headers(&[i64::MIN, 0]),
        up_to_headers(&[1]),
        // A topic that is not UTF-8.
        [&datum(&[1, 2])[..], b"\xff\xfe"].concat(),
    ]
}

fn bad_json() -> Vec<Vec<u8>> {
    [
        "",
        "not JSON",
        "[]",
        "null",
        "{}",
        r#"{"time": 1, "topic": "t"}"#,
        r#"{"time": "soon", "topic": "t", "key": ""}"#,
        r#"{"time": 1e300, "topic": "t", "key": ""}"#,
        r#"{"time": 1, "topic": null, "key": ""}"#,
        r#"{"time": 1, "topic": "t", "key": "no base64!"}"#,
        r#"{"time": 1, "topic": "t", "key": "", "headers": {"h": 1}}"#,
        r#"{"time": 1, "topic": "t", "key": "", "value": "cut sho"#,
    ]
    .map(|text| text.as_bytes().to_vec())
    .into_iter()
    .chain([b"[".repeat(100_000), b"\xff\xfe".to_vec()])
    .collect()
}

#[test]
fn bad_records_are_counted_and_said_and_nothing_else_notices() {
    // Few on each partition, so that none is left out of the log.
    const PARTITIONS: usize = 4;
    let stage = Stage::with(&[Format::Avro, Format::Json], PARTITIONS as i32);
    let mut kms = stage.start();
    let mut bad: Vec<(Place, &Topic)> = Vec::new();
    for (topic, values) in stage.topics.iter().zip([bad_avro(), bad_json()]) {
        for (number, value) in values.iter().enumerate() {
            let partition = (number % PARTITIONS) as i32;
            let [before, after] = ["before", "after"].map(|when| format!("{when}-{number}"));
            stage.put_on(topic, partition, &before, &stage.plan(&before).due_in(500));
            let record = NewRecord::to(&topic.name).partition(partition).key("bad").value(value);
            bad.push((stage.client.produce(&[record]).remove(0), topic));
            stage.put_on(topic, partition, &after, &stage.plan(&after));
        }
        await_metric(&kms, "kms_records_rejected_total", &[("topic", &topic.name)], values.len() as f64);
        let labels = [("message_type", "error"), ("message_source", topic.name.as_str())];
        await_metric(&kms, "event_subscriber_total", &labels, values.len() as f64);
    }
    for (place, _) in &bad {
        let parts = [
            "WARN".to_owned(),
            format!("topic=\"{}\"", place.topic),
            format!("partition={}", place.partition),
            format!("offset={} ", place.offset),
        ];
        await_log(&kms, &parts.each_ref().map(String::as_str));
    }
    stage.finish().assert_clean();
    assert!(kms.sigterm_and_wait().success());

    // They are still there at the next start.
    let kms = stage.start();
    await_metric(&kms, "kms_records_rejected_total", &[], bad.len() as f64);
    stage.finish().assert_clean();
}

#[test]
fn a_record_without_key_is_rejected_and_stops_nothing() {
    // Kafka itself refuses them once a topic is compacted.
    let stage = Stage::without_topics(&[Format::Json]);
    stage.client.create_topic(&stage.topic().name, 1, &[("cleanup.policy", "delete")]);
    let kms = stage.start();
    let plan = stage.plan("k");
    let keyless = NewRecord::to(&stage.topic().name).value(plan.encoded(Format::Json));
    let place = stage.client.produce(&[keyless, NewRecord::to(&stage.topic().name)]).remove(0);
    stage.put("good", &stage.plan("good"));
    stage.await_messages(1);
    await_metric(&kms, "event_subscriber_total", &[("message_error_type", "transformation")], 2.0);
    await_log(&kms, &["no key", &stage.topic().name, "partition=0", &format!("offset={} ", place.offset)]);
    stage.finish().assert_clean();
}

#[test]
fn a_flood_of_garbage_is_counted_and_not_logged_line_by_line() {
    const RECORDS: usize = 2_000;
    let stage = Stage::json(1);
    let kms = stage.start();
    let garbage = |n| NewRecord::to(&stage.topic().name).key(format!("garbage-{n}")).value("garbage");
    stage.client.produce(&(0..RECORDS).map(garbage).collect::<Vec<_>>());
    stage.put("good", &stage.plan("good"));
    stage.await_messages(1);
    await_metric(&kms, "kms_records_rejected_total", &[], RECORDS as f64);
    let lines = kms.log_lines().iter().filter(|line| line.contains("rejected a record")).count();
    assert!((1..100).contains(&lines), "{lines} lines");
    stage.finish().assert_clean();
}

#[test]
fn a_schedule_of_900_kb_fires_and_one_that_is_cut_short_does_not_hurt() {
    let stage = Stage::avro(1);
    let kms = stage.start();
    let large = stage.plan("large").value(&vec![0x5a; 900_000]);
    let whole = large.encoded(Format::Avro);
    let cut = NewRecord::to(&stage.topic().name).key("cut").value(&whole[..whole.len() - 2]);
    stage.client.produce(&[cut]);
    stage.put("large", &large);
    stage.put("small", &stage.plan("small"));
    assert_eq!(
        stage.await_messages(2).iter().map(|seen| seen.value.as_ref().unwrap().len()).max(),
        Some(900_000)
    );
    await_metric(&kms, "event_subscriber_total", &[("message_error_type", "invalid-avro")], 1.0);
    stage.finish().assert_clean();
}

#[test]
fn the_first_time_there_is_fires_at_once_and_the_last_one_is_held() {
    let stage = Stage::with(&[Format::Avro, Format::Json], 1);
    let mut kms = stage.start();
    for topic in &stage.topics {
        for (id, due_ms) in [("first", i64::MIN), ("last", i64::MAX), ("almost", i64::MAX - 1), ("zero", 0)] {
            stage.put_on(topic, 0, id, &stage.plan(id).due_ms(due_ms));
        }
    }
    stage.await_messages(4);
    await_metric(&kms, "kms_schedules_pending", &[], 4.0);
    await_metric(&kms, "kms_schedules_due_within", &[("window", "later")], 4.0);
    stage.finish().assert_clean();
    assert!(kms.sigterm_and_wait().success());
    // Loaded in bulk they go another way into the wheel.
    for topic in &stage.topics {
        stage.put_on(topic, 0, "first", &stage.plan("first").due_ms(i64::MIN));
        stage.put_on(topic, 0, "soon", &stage.plan("soon").due_ms(now_ms() + 2_000));
    }
    let kms = stage.start();
    stage.await_messages(4 + 2 + 4);
    stage.finish().assert_clean();
    await_metric(&kms, "kms_schedules_pending", &[], 4.0);
}
