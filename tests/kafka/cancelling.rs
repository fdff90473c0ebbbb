//! The newest record of an ID is what counts: cancelled and replaced schedules do not fire.

use crate::stage::{Stage, await_metric};
use crate::support::client::{NewRecord, Seen};
use crate::support::now_ms;

/// Long enough for what follows a write to happen before the schedule is due, on a busy machine too.
const SOON_MS: i64 = 2_500;

#[test]
fn a_cancelled_schedule_does_not_fire() {
    let stage = Stage::json(2);
    let kms = stage.start();
    // Late enough to see both pending, and one, before it fires, on a busy machine too.
    let due_ms = now_ms() + 3 * SOON_MS;
    stage.put("cancelled", &stage.plan("cancelled").due_ms(due_ms));
    stage.put("kept", &stage.plan("kept").due_ms(due_ms));
    await_metric(&kms, "kms_schedules_pending", &[], 2.0);
    stage.cancel("cancelled");
    stage.cancel("never scheduled");
    await_metric(&kms, "kms_schedules_pending", &[], 1.0);
    await_metric(&kms, "kms_schedules_cancelled_total", &[], 1.0);
    assert_eq!(stage.await_messages(1)[0].key_text(), "kept");
    stage.finish().assert_clean();
}

#[test]
fn a_cancel_outlives_a_restart_and_reaches_what_was_loaded() {
    let stage = Stage::avro(2);
    let due_ms = now_ms() + 2 * SOON_MS;
    for id in ["before", "between", "after", "kept"] {
        stage.put(id, &stage.plan(id).due_ms(due_ms));
    }
    {
        let mut kms = stage.start();
        stage.cancel("before");
        await_metric(&kms, "kms_schedules_pending", &[], 3.0);
        assert!(kms.sigterm_and_wait().success());
    }
    stage.cancel("between");
    let kms = stage.start();
    await_metric(&kms, "kms_schedules_pending", &[], 2.0);
    stage.cancel("after");
    await_metric(&kms, "kms_schedules_pending", &[], 1.0);
    assert_eq!(stage.await_messages(1)[0].key_text(), "kept");
    stage.finish().assert_clean();
}

#[test]
fn a_replaced_schedule_fires_as_it_was_written_last() {
    let stage = Stage::json(1);
    let kms = stage.start();
    let other = stage.another_destination();
    let now = now_ms();
    for id in ["earlier", "later", "elsewhere", "thrice", "again"] {
        stage.put(id, &stage.plan(id).due_ms(now + SOON_MS));
    }
    stage.put("earlier", &stage.plan("earlier").due_ms(now));
    stage.put("later", &stage.plan("later").due_ms(now + SOON_MS + 500));
    stage.put("elsewhere", &stage.plan("elsewhere").due_ms(now + SOON_MS).to(&other));
    stage.put("thrice", &stage.plan("thrice").due_much_later());
    stage.put("thrice", &stage.plan("thrice").due_ms(now + SOON_MS));
    stage.cancel("again");
    stage.put("again", &stage.plan("again").due_ms(now + SOON_MS));
    await_metric(&kms, "kms_schedules_replaced_total", &[], 5.0);

    let order: Vec<_> = stage.await_messages(4).iter().map(Seen::key_text).collect();
    assert_eq!((order[0].as_str(), order[3].as_str()), ("earlier", "later"));
    let verdict = stage.finish();
    verdict.assert_clean();
    assert_eq!(verdict.right, 6);
}

#[test]
fn an_id_can_be_used_again_after_it_fired() {
    let stage = Stage::json(1);
    let mut kms = stage.start();
    for round in 1..=3 {
        stage.put("k", &stage.plan("k"));
        stage.await_messages(round);
    }
    assert!(kms.sigterm_and_wait().success());
    stage.put("k", &stage.plan("k"));
    let _kms = stage.start();
    stage.await_messages(4);
    let verdict = stage.finish();
    verdict.assert_clean();
    assert_eq!(verdict.right, 5);
}

/// Compaction keeps the invalid record and drops the schedule: a restart must not know more than a running instance.
#[test]
fn an_invalid_record_replaces_the_schedule_of_its_id() {
    let stage = Stage::json(1);
    let mut kms = stage.start();
    let due_ms = now_ms() + SOON_MS;
    for id in ["spoilt", "spoilt and mended", "kept"] {
        stage.put(id, &stage.plan(id).due_ms(due_ms));
    }
    let invalid = |id: &str| NewRecord::to(&stage.topic().name).key(id).value("{\"time\": \"soon\"}");
    stage.client.produce(&[invalid("spoilt"), invalid("spoilt and mended")]);
    await_metric(&kms, "kms_schedules_pending", &[], 1.0);
    stage.put("spoilt and mended", &stage.plan("spoilt and mended").due_ms(due_ms));
    stage.await_messages(2);
    stage.finish().assert_clean();
    assert!(kms.sigterm_and_wait().success());

    let kms = stage.start();
    stage.finish().assert_clean();
    await_metric(&kms, "kms_schedules_pending", &[], 0.0);
}

#[test]
fn whose_tombstone_it_is_shows_by_its_header_in_any_case() {
    let stage = Stage::json(1);
    let kms = stage.start();
    let tombstone = |id: &str| NewRecord::to(&stage.topic().name).key(id);
    let ids = ["plain", "expired", "EXPIRED", "not true"];
    for id in ids {
        stage.put(id, &stage.plan(id).due_much_later());
    }
    await_metric(&kms, "kms_schedules_pending", &[], 4.0);
    stage.client.produce(&[
        tombstone("plain"),
        tombstone("expired").header("schedule:expired", Some(b"true")),
        tombstone("EXPIRED").header("another", None).header("Schedule:Expired", Some(b"TRUE")),
        tombstone("not true").header("schedule:expired", Some(b"no")),
    ]);
    // All of them remove the schedule; they differ in what they are counted as.
    await_metric(&kms, "kms_schedules_pending", &[], 0.0);
    for (kind, count) in [("expired", 2.0), ("canceled", 2.0)] {
        let labels = [("message_type", "delete"), ("message_delete_type", kind)];
        await_metric(&kms, "event_subscriber_total", &labels, count);
    }
    await_metric(&kms, "kms_schedules_cancelled_total", &[], 2.0);
}
