//! What an operator sees: the names that existing dashboards know, ours, and health.

use crate::stage::{Format, Stage, await_metric};
use crate::support::client::NewRecord;
use crate::support::http;

#[test]
fn what_happened_is_counted_under_the_known_names() {
    let stage = Stage::with(&[Format::Avro, Format::Json], 2);
    let mut kms = stage.start();
    for topic in &stage.topics {
        let record = |id: &str| NewRecord::to(&topic.name).partition(1).key(id);
        for id in ["fires", "fires too"] {
            stage.put_on(topic, 1, id, &stage.plan(id));
        }
        for id in ["waits", "replaced", "replaced", "cancelled", "spoilt"] {
            stage.put_on(topic, 1, id, &stage.plan(id).due_much_later());
        }
        stage.client.produce(&[record("cancelled"), record("never there"), record("spoilt").value("?")]);
    }
    stage.await_messages(4);

    for topic in &stage.topics {
        let source = ("message_source", topic.name.as_str());
        let error = if topic.format == Format::Avro { "invalid-avro" } else { "not-json" };
        let (kind, delete) = ("message_type", "message_delete_type");
        await_metric(&kms, "event_subscriber_total", &[source, (kind, "update")], 7.0);
        await_metric(&kms, "event_subscriber_total", &[source, (kind, "delete"), (delete, "canceled")], 2.0);
        // Its own tombstones, read back.
        await_metric(&kms, "event_subscriber_total", &[source, (kind, "delete"), (delete, "expired")], 2.0);
        await_metric(&kms, "event_subscriber_total", &[source, (kind, "error")], 1.0);
        await_metric(&kms, "event_subscriber_total", &[source, ("message_error_type", error)], 1.0);

        let of = ("topic", topic.name.as_str());
        for (name, count) in [
            ("kms_schedules_fired_total", 2.0),
            ("kms_schedules_replaced_total", 1.0),
            ("kms_schedules_cancelled_total", 1.0),
            ("kms_records_rejected_total", 1.0),
            ("kms_lateness_seconds_count", 2.0),
            ("kms_schedules_pending", 2.0),
            ("kms_fences_total", 2.0),
        ] {
            await_metric(&kms, name, &[of], count);
        }
        await_metric(&kms, "kms_schedules_pending", &[of, ("partition", "0")], 0.0);
        await_metric(&kms, "kms_partition_phase", &[of, ("phase", "live")], 2.0);
        await_metric(&kms, "kms_schedules_due_within", &[of], 2.0);
        let committed = kms.metric("kms_transactions_total", &[of, ("outcome", "committed")]).unwrap();
        assert!((1.0..=2.0).contains(&committed), "{committed} transactions for two schedules");
    }
    // Of both topics together: pending, put in, taken out, and deletes that found something or nothing.
    for (kind, count) in [("total", 4.0), ("set", 14.0), ("delete", 8.0), ("hit", 2.0), ("miss", 2.0)] {
        await_metric(&kms, "schedules_repository_size", &[("counter_type", kind)], count);
    }

    assert!(kms.sigterm_and_wait().success());
    let kms = stage.start();
    await_metric(&kms, "schedules_repository_size", &[("counter_type", "total")], 4.0);
}

#[test]
fn lateness_is_measured_from_the_due_time() {
    let stage = Stage::json(1);
    let kms = stage.start();
    stage.put("an hour late", &stage.plan("an hour late").due_in(-3_600_000));
    stage.await_messages(1);
    await_metric(&kms, "kms_lateness_seconds_count", &[], 1.0);
    let sum = kms.metric("kms_lateness_seconds_sum", &[]).unwrap();
    assert!((3_600.0..3_660.0).contains(&sum), "{sum} s");
    await_metric(&kms, "kms_lateness_seconds_bucket", &[("le", "3600")], 0.0);
}

#[test]
fn an_overdue_schedule_that_cannot_go_shows() {
    let stage = Stage::json(1);
    let kms = stage.start();
    stage.put("stuck", &stage.plan("stuck").to("no-such-topic").due_in(-60_000));
    await_metric(&kms, "kms_schedules_set_aside", &[], 1.0);
    await_metric(&kms, "kms_schedules_due_within", &[("window", "1m")], 1.0);
    await_metric(&kms, "kms_schedules_due_within", &[], 1.0);
}

#[test]
fn health_and_version_are_served() {
    let stage = Stage::json(3);
    let kms = stage.start();
    let get = |path| http::get(kms.metrics_address(), path).unwrap();
    let ready = get("/health/ready");
    assert_eq!(ready.status, 200);
    assert!(ready.body.contains("\"owned\":3"), "{}", ready.body);
    assert_eq!(get("/health/live").status, 200);
    assert!(get("/version").body.contains(env!("CARGO_PKG_VERSION")));
    assert_eq!(kms.metric("kms_ready", &[]), Some(1.0));
    assert_eq!(get("/nothing-here").status, 404);
}
