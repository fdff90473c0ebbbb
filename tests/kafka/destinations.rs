//! A destination that does not take its messages holds up nobody else's.

use std::collections::HashSet;

use crate::scene::{Scene, payload, schedule};
use crate::stage::{Stage, await_log, await_metric, in_both_deliveries};
use crate::support::broker::Broker;
use crate::support::client::{Isolation, NewRecord, unique};
use crate::support::kms::{Kms, Settings};
use crate::support::{PATIENCE, now_ms, poll_until};

/// Retries often, so that a test need not wait for the next attempt.
fn eager(stage: &Stage) -> Settings {
    stage.settings().env("KMS_RETRY__INITIAL", "200ms").env("KMS_RETRY__MAX", "1s")
}

/// Tries once within any test.
fn reluctant(stage: &Stage) -> Settings {
    stage.settings().env("KMS_RETRY__INITIAL", "10m").env("KMS_RETRY__MAX", "10m")
}

#[test]
fn destinations_that_cannot_be_are_set_aside_by_themselves() {
    let long = "x".repeat(250);
    let cases = [
        ("", "illegal-name"),
        ("..", "illegal-name"),
        ("spaces and ünï", "illegal-name"),
        (&long, "illegal-name"),
        ("nul\0inside", "illegal-name"),
        ("__consumer_offsets", "denied"),
        ("does-not-exist", "unknown-topic"),
    ];
    let stage = Stage::json(cases.len() as i32);
    let kms = Kms::start_ready(&reluctant(&stage));
    for (partition, (destination, _)) in (0..).zip(cases) {
        let place = stage.put_on(stage.topic(), partition, "refused", &stage.plan("refused").to(destination));
        stage.put_on(stage.topic(), partition, "good", &stage.plan("good"));
        let (partition, offset) = (format!("partition={partition} "), format!("offset={} ", place.offset));
        await_log(&kms, &["WARN", "set it aside", &stage.topic().name, &partition, &offset]);
    }
    let wanted: HashSet<_> = cases.iter().map(|(_, reason)| *reason).collect();
    for reason in wanted {
        let count = cases.iter().filter(|(_, r)| *r == reason).count();
        await_metric(&kms, "kms_set_aside_total", &[("reason", reason)], count as f64);
    }
    stage.await_messages(cases.len());
    await_metric(&kms, "kms_schedules_set_aside", &[], cases.len() as f64);
    await_metric(&kms, "kms_schedules_pending", &[], cases.len() as f64);

    // They can be cancelled as any other.
    let refused = |partition| NewRecord::to(&stage.topic().name).partition(partition).key("refused");
    stage.client.produce(&(0..cases.len() as i32).map(refused).collect::<Vec<_>>());
    await_metric(&kms, "kms_schedules_set_aside", &[], 0.0);
    stage.finish().assert_clean();
}

/// A schedule that is delivered to its own topic could schedule itself again, for ever.
#[test]
fn a_schedule_topic_is_no_destination() {
    let stage = Stage::json(1);
    let kms = Kms::start_ready(&reluctant(&stage));
    stage.put("loop", &stage.plan("loop").to(&stage.topic().name));
    stage.put("good", &stage.plan("good"));
    stage.await_messages(1);
    await_metric(&kms, "kms_set_aside_total", &[("reason", "denied")], 1.0);
}

#[test]
fn a_destination_that_is_created_later_gets_its_messages_then() {
    const SCHEDULES: usize = 20;
    let stage = Stage::json(1);
    let missing = unique("not-yet");
    let kms = Kms::start_ready(&eager(&stage));
    for number in 0..SCHEDULES {
        stage.put(format!("early-{number}"), &stage.plan("early").to(&missing));
        stage.put(format!("good-{number}"), &stage.plan("good"));
    }
    stage.await_messages(SCHEDULES);
    await_log(&kms, &["set it aside", &missing]);
    await_metric(&kms, "kms_schedules_pending", &[], SCHEDULES as f64);

    stage.client.create_destination_topic(&missing, 1);
    let seen = stage.client.collect(&[&missing], PATIENCE, |seen| seen.len() == SCHEDULES);
    assert_eq!(seen.len(), SCHEDULES);
    await_metric(&kms, "kms_schedules_pending", &[], 0.0);
}

#[test]
fn a_destination_that_is_deleted_holds_up_nobody() {
    let stage = Stage::json(1);
    let doomed = unique("doomed");
    stage.client.create_destination_topic(&doomed, 1);
    // A producer gives up on a topic that it knew when its transaction would time out.
    let kms = Kms::start_ready(&eager(&stage).env("KMS_TRANSACTION__TIMEOUT", "2s"));
    stage.put("first", &stage.plan("first").to(&doomed));
    await_metric(&kms, "kms_schedules_fired_total", &[], 1.0);
    stage.client.delete_topic(&doomed);
    stage.put("second", &stage.plan("second").to(&doomed));
    stage.put("good", &stage.plan("good"));
    stage.await_messages(1);
    await_metric(&kms, "kms_schedules_pending", &[], 1.0);
    stage.client.create_destination_topic(&doomed, 1);
    let seen = stage.client.collect(&[&doomed], PATIENCE, |seen| seen.len() == 1);
    assert_eq!(seen[0].key_text(), "second");
}

/// It exists and has a leader, which takes nothing: the second replica that it wants is not there. (In a transaction Kafka
/// itself would wait for it: see docs/guarantees.md.)
#[test]
fn at_least_once_a_destination_that_does_not_answer_holds_up_nobody() {
    const EACH: usize = 20;
    let broker = Broker::private();
    let scene = Scene::on(broker.bootstrap(), "silence", 1);
    let settings = scene.settings().delivery("at-least-once").env("KMS_TRANSACTION__TIMEOUT", "2s");
    let settings = settings.env("KMS_RETRY__INITIAL", "200ms").env("KMS_RETRY__MAX", "5s");
    let mut kms = Kms::start_ready(&settings);
    // Only now, so that the group is looked after by the first.
    let mut second = broker.second();
    let silent = unique("silent");
    scene.client.create_topic_on(&[1, 2], &silent, &[("min.insync.replicas", "2")]);
    second.kill();
    let due_ms = now_ms() + 1_000;
    let bad = |n| {
        NewRecord::to(&scene.schedules).key(format!("bad-{n}")).value(schedule(&silent, "bad", n, due_ms))
    };
    let good = |n| scene.schedule(&format!("good-{n}"), 1, due_ms);
    scene.client.produce(&(0..EACH).flat_map(|n| [bad(n), good(n)]).collect::<Vec<_>>());
    scene.await_arrivals(EACH);
    let refused = || kms.metric("kms_set_aside_total", &[("reason", "no-answer")]).unwrap_or_default();
    assert!(poll_until(PATIENCE, || (refused() > 0.0).then_some(())).is_some(), "nobody is to blame");
    // What is scheduled now goes between two attempts at those.
    scene.pass_sentinels();
    second.restart();
    await_metric(&kms, "kms_schedules_pending", &[], 0.0);
    let taken = scene.client.read_topic(&silent, Isolation::ReadCommitted);
    let taken: HashSet<_> = taken.iter().map(|seen| &seen.value).collect();
    assert_eq!(taken.len(), EACH);
    assert_eq!(kms.sigterm_and_wait().code(), Some(0));
}

#[test]
fn a_message_that_is_too_large_for_its_destination_holds_up_nobody() {
    in_both_deliveries(|delivery| {
        let stage = Stage::json(1);
        let tiny = unique("tiny");
        let configs = [("message.timestamp.type", "LogAppendTime"), ("max.message.bytes", "1000")];
        stage.client.create_topic(&tiny, 1, &configs);
        stage.judge_too(&tiny);
        let kms = Kms::start_ready(&reluctant(&stage).delivery(delivery));
        // Bytes that do not compress.
        let noise: Vec<u8> = (0u64..800)
            .flat_map(|number| number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29).to_le_bytes())
            .collect();
        // All due at once, so that they meet in one transaction.
        let due_ms = crate::support::now_ms() + 1_000;
        for number in 0..5 {
            let [large, small, good] = ["large", "small", "good"].map(|id| format!("{id}-{number}"));
            stage.put(&large, &stage.plan(&large).due_ms(due_ms).to(&tiny).value(&noise));
            stage.put(&small, &stage.plan(&small).due_ms(due_ms).to(&tiny));
            stage.put(&good, &stage.plan(&good).due_ms(due_ms));
        }
        stage.await_messages(5);
        await_metric(&kms, "kms_schedules_fired_total", &[], 10.0);
        await_metric(&kms, "kms_set_aside_total", &[("reason", "too-large")], 5.0);
        await_metric(&kms, "kms_schedules_pending", &[], 5.0);
        for number in 0..5 {
            stage.cancel(format!("large-{number}"));
        }
        stage.finish().assert_clean();
    });
}

/// Each fits, but not the batch in which a producer would send them.
#[test]
fn many_small_messages_reach_a_destination_that_takes_only_small_batches() {
    const SCHEDULES: usize = 300;
    in_both_deliveries(|delivery| {
        let stage = Stage::json(1);
        let tiny = unique("tiny");
        let configs = [("message.timestamp.type", "LogAppendTime"), ("max.message.bytes", "400")];
        stage.client.create_topic(&tiny, 1, &configs);
        stage.judge_too(&tiny);
        let kms = Kms::start_ready(&eager(&stage).delivery(delivery));
        let due_ms = crate::support::now_ms() + 1_000;
        let plans: Vec<_> = (0..SCHEDULES)
            .map(|number| {
                let id = format!("small-{number}");
                let plan = stage.plan(&id).due_ms(due_ms);
                (id, if number % 10 == 0 { plan } else { plan.to(&tiny) })
            })
            .collect();
        stage.put_all(&plans);
        let fired = || (kms.metric("kms_schedules_fired_total", &[]) == Some(SCHEDULES as f64)).then_some(());
        assert!(
            poll_until(PATIENCE, fired).is_some(),
            "{:?} fired",
            kms.metric("kms_schedules_fired_total", &[])
        );
        let verdict = stage.finish();
        verdict.assert_clean();
        assert_eq!(verdict.right, SCHEDULES + 1);
    });
}

/// Kafka says that such a topic is there. It refuses the transaction that would write to it, and with it all the others'
/// messages.
#[test]
fn a_destination_that_may_be_seen_but_not_written_to_holds_up_nobody() {
    const GOOD: usize = 50;
    const REFUSED: usize = 5;
    let broker = Broker::with_permissions();
    for delivery in ["exactly-once", "at-least-once"] {
        let scene = Scene::on(broker.bootstrap(), delivery, 1);
        let forbidden = unique("forbidden");
        scene.client.create_destination_topic(&forbidden, 1);
        broker.permit(&forbidden, &["Describe"]);
        let settings = scene.settings().env("KMS_RETRY__INITIAL", "10m").env("KMS_RETRY__MAX", "10m");
        let mut kms = Kms::start_ready(&settings.delivery(delivery));
        // All due at once, so that they meet in one transaction; the refused ones are first, among the others, and last.
        let due_ms = now_ms() + 1_000;
        let records: Vec<_> = (0..GOOD + REFUSED)
            .map(|n| {
                let key = format!("key-{n}");
                let to = if n % 11 == 0 { &forbidden } else { &scene.destination };
                NewRecord::to(&scene.schedules).key(&key).value(schedule(to, &key, 1, due_ms))
            })
            .collect();
        scene.client.produce(&records);
        for n in (0..GOOD + REFUSED).filter(|n| n % 11 != 0) {
            scene.await_payload(&payload(&format!("key-{n}"), 1));
        }
        // They alone were ever set aside, and for the true reason.
        await_metric(&kms, "kms_set_aside_total", &[("reason", "not-authorized")], REFUSED as f64);
        await_metric(&kms, "kms_set_aside_total", &[], REFUSED as f64);
        await_metric(&kms, "kms_schedules_pending", &[], REFUSED as f64);
        assert_eq!(kms.sigterm_and_wait().code(), Some(0));
    }
}
