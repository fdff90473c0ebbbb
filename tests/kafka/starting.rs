//! How a start goes wrong, and how it waits for what may still come.

use std::net::SocketAddr;

use crate::stage::{Format, Stage, await_log, curious};
use crate::support::broker::Broker;
use crate::support::client::unique;
use crate::support::kms::{Kms, Settings};
use crate::support::{PATIENCE, http, poll_until, port};

#[track_caller]
fn assert_refused(settings: &Settings, parts: &[&str]) {
    let mut kms = Kms::start(settings);
    let status = kms.wait(PATIENCE).expect("it ends by itself");
    assert!(status.code().is_some_and(|code| code != 0), "{status}");
    await_log(&kms, parts);
}

#[test]
fn without_a_schedule_topic_it_refuses_and_says_what_to_set() {
    let settings = Settings::new(Broker::shared(), &unique("group"));
    assert_refused(&settings, &["SCHEDULE_TOPICS", "JSON_SCHEDULE_TOPICS"]);
    assert_refused(&settings.avro_topics("").json_topics(" , "), &["SCHEDULE_TOPICS"]);
}

#[test]
fn a_topic_in_both_lists_is_refused_by_name() {
    let settings = Settings::new(Broker::shared(), &unique("group"));
    assert_refused(&settings.avro_topics("one,both").json_topics("both"), &["`both`"]);
}

#[test]
fn topics_that_do_not_exist_yet_are_waited_for() {
    let stage = Stage::without_topics(&[Format::Avro, Format::Json]);
    let kms = Kms::start(&curious(stage.settings()));
    let [first, second] = &stage.topics[..] else { unreachable!("two formats, two topics") };
    for topic in [first, second] {
        await_log(&kms, &["does not exist", &topic.name]);
    }
    // One after the other: what is there is served while the rest is waited for.
    for (topic, id) in [(first, "first"), (second, "second")] {
        stage.client.create_schedule_topic(&topic.name, 2);
        for partition in 0..2 {
            stage.put_on(topic, partition, id, &stage.plan(id));
        }
        stage.await_messages(if id == "first" { 2 } else { 4 });
    }
    stage.finish().assert_clean();
}

#[test]
fn partitions_added_later_are_served() {
    let stage = Stage::json(1);
    let kms = Kms::start_ready(&curious(stage.settings()));
    stage.put("old", &stage.plan("old"));
    stage.put("waits", &stage.plan("waits").due_in(4_000));
    stage.await_messages(1);
    stage.client.add_partitions(&stage.topic().name, 3);
    for partition in 0..3 {
        stage.put_on(stage.topic(), partition, "new", &stage.plan("new"));
    }
    stage.await_messages(5);
    let verdict = stage.finish();
    verdict.assert_clean();
    assert_eq!(verdict.right, 8);
    assert_eq!(kms.metric("kms_fences_total", &[]), Some(3.0), "the old partition was not disturbed");
}

#[test]
fn without_a_broker_it_is_alive_but_not_ready() {
    let nobody = SocketAddr::from(([127, 0, 0, 1], port::free())).to_string();
    let settings = Settings::new(&nobody, &unique("group")).json_topics("schedules");
    let mut kms = Kms::start(&settings);
    let health = |path| poll_until(PATIENCE, || http::get(kms.metrics_address(), path).ok()).unwrap();
    assert_eq!(health("/health/live").status, 200);
    let ready = health("/health/ready");
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("\"joined\":false"), "{}", ready.body);
    assert!(kms.sigterm_and_wait().success());
}

#[test]
fn asked_to_stop_it_leaves_the_group_at_once() {
    let stage = Stage::json(2);
    let mut kms = stage.start();
    assert!(kms.sigterm_and_wait().success());
    await_log(&kms, &["stopped"]);
    // With its session still open the next instance would have to wait for the time-out.
    let settings = stage.settings().env("KMS_KAFKA_PROPERTIES", "session.timeout.ms=120000");
    let mut kms = Kms::start_ready(&settings);
    assert!(kms.sigterm_and_wait().success());
    let _kms = Kms::start_ready(&settings);
    stage.finish().assert_clean();
}
