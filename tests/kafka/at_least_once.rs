//! Delivery without transactions: the same behaviour as far as nothing crashes.

use std::time::Duration;

use crate::stage::{Stage, await_metric, await_not_ready, in_both_deliveries};
use crate::support::client::unique;
use crate::support::kms::{Kms, Settings};

fn settings(stage: &Stage) -> Settings {
    stage.settings().delivery("at-least-once")
}

#[test]
fn schedules_fire_and_are_not_replayed() {
    let stage = Stage::json(3);
    {
        let mut kms = Kms::start_ready(&settings(&stage));
        for number in 0..300 {
            let id = format!("id-{number}");
            stage.put(&id, &stage.plan(&id).due_in(number).header("h", b"v"));
        }
        stage.put("cancelled", &stage.plan("cancelled").due_in(2_000));
        stage.cancel("cancelled");
        stage.put("waits", &stage.plan("waits").due_much_later());
        stage.await_messages(300);
        stage.finish().assert_clean();
        assert!(kms.sigterm_and_wait().success());
    }
    let kms = Kms::start_ready(&settings(&stage));
    stage.finish().assert_clean();
    await_metric(&kms, "kms_schedules_pending", &[], 1.0);
}

#[test]
fn a_tombstone_names_what_was_fired_and_its_partition_is_the_records_own() {
    let stage = Stage::avro(4);
    let _kms = Kms::start_ready(&settings(&stage));
    for partition in 0..4 {
        stage.put_on(stage.topic(), partition, [0xff, 0x00], &stage.plan([0xff, 0x00]));
    }
    stage.await_messages(4);
    stage.finish().assert_clean();
    let records = stage.records_of(stage.topic(), [0xff, 0x00]);
    for pair in records.chunks(2) {
        let [schedule, tombstone] = pair else { panic!("a schedule and its tombstone: {pair:?}") };
        assert_eq!((tombstone.partition, tombstone.value.as_deref()), (schedule.partition, None));
        assert_eq!(tombstone.header("schedule:expired"), Some(&b"true"[..]));
        let fired = String::from_utf8_lossy(tombstone.header("kms-fired").unwrap()).into_owned();
        let [id, partition, offset] = fired.split(':').collect::<Vec<_>>()[..] else { panic!("{fired}") };
        assert_eq!(id.len(), 22, "a topic ID: {fired}");
        assert_eq!((partition, offset), (&*schedule.partition.to_string(), &*schedule.offset.to_string()));
    }
    assert_eq!(records.len(), 8);
}

/// Without transactions a tombstone can come to lie behind a foreign one that is open; whoever takes over must not
/// believe that the log ends where that begins.
#[test]
fn tombstones_behind_a_foreign_transaction_count_at_the_next_start() {
    in_both_deliveries(|next_delivery| {
        let stage = Stage::json(1);
        let foreign = stage.client.foreign(&unique("foreign"), Duration::from_mins(1));
        {
            let mut kms = Kms::start_ready(&settings(&stage));
            stage.put("k", &stage.plan("k").due_in(1_500));
            await_metric(&kms, "kms_schedules_pending", &[], 1.0);
            foreign.begin();
            foreign.produce(&[stage.record(stage.topic(), "foreign", &stage.plan("foreign"))]).unwrap();
            stage.await_messages(1);
            await_metric(&kms, "kms_schedules_pending", &[], 0.0);
            assert!(kms.sigterm_and_wait().success());
        }
        let mut kms = Kms::start(&stage.settings().delivery(next_delivery));
        await_not_ready(&kms, &["\"records_to_apply\":3"]);
        foreign.abort().unwrap();
        kms.wait_ready();
        let verdict = stage.finish();
        verdict.assert_clean();
        assert_eq!(verdict.right, 2);
    });
}
