//! The instruments, as tables: a name, what it means, and where in the status its figure is.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use crate::scheduler::status::{Label, Status, TopicCounters};
use crate::version::Version;

use super::process;

/// Creates every instrument; each reads `status` when it is collected.
pub(super) fn observe(meter: &Meter, status: &Arc<Status>) {
    earlier(meter, status);
    for &(name, about, figure) in TOPIC_COUNTERS {
        let status = Arc::clone(status);
        let counter = meter.u64_observable_counter(name).with_description(about);
        let _ = counter
            .with_callback(move |observer| {
                for (topic, counters) in status.topics() {
                    observer.observe(figure(&counters), &[topic_label(&topic)]);
                }
            })
            .build();
    }
    labelled(meter, status, "kms_transactions", "Transactions by how they ended.", "outcome", |topic| {
        topic.transactions.iter().map(|(outcome, n)| (outcome.label(), n)).collect()
    });
    labelled(
        meter,
        status,
        "kms_set_aside",
        "Times a due schedule was set aside because it could not be delivered, by reason.",
        "reason",
        |topic| topic.set_aside.iter().map(|(reason, n)| (reason.label(), n)).collect(),
    );
    labelled(meter, status, "kms_checkpoints", "Checkpoints by what became of them.", "outcome", |topic| {
        topic.checkpoints.iter().map(|(outcome, n)| (outcome.label(), n)).collect()
    });
    whole_instance(meter, status);
}

type TopicCounter = (&'static str, &'static str, fn(&TopicCounters) -> u64);

const TOPIC_COUNTERS: &[TopicCounter] = &[
    ("kms_schedules_fired", "Schedules delivered.", |topic| topic.fired.get()),
    ("kms_schedules_cancelled", "Schedules cancelled while pending.", |topic| topic.cancelled.get()),
    ("kms_schedules_replaced", "Schedules replaced while pending.", |topic| topic.replaced.get()),
    ("kms_records_rejected", "Records that are no schedule.", |topic| topic.rejected.get()),
    ("kms_schedules_repaired", "Updates that raced with a firing and were written again.", |topic| {
        topic.repaired.get()
    }),
    ("kms_schedules_skipped", "Overdue schedules removed without delivery, on request.", |topic| {
        topic.skipped.get()
    }),
    ("kms_fences", "Times a partition was taken over.", |topic| topic.fences.get()),
];

/// Not shown where there is no figure.
type InstanceFigure = (&'static str, &'static str, fn(&Status) -> Option<u64>);

const INSTANCE_FIGURES: &[InstanceFigure] = &[
    ("kms_memory_pending_bytes", "Memory for all that is pending, structures included.", |status| {
        Some(status.pending_bytes())
    }),
    ("kms_memory_limit_bytes", "memory.max_pending_bytes, if it is set.", |status| {
        status.pending_bytes_bound.limit()
    }),
    ("kms_memory_limit_exceeded", "1 if memory.max_pending_bytes is exceeded.", |status| {
        Some(u64::from(status.pending_bytes_bound.is_exceeded()))
    }),
    ("kms_partitions_owned", "Partitions that this instance owns.", |status| Some(status.owned())),
    ("kms_partitions_limit", "partitions.max_owned, if it is set.", |status| status.owned_bound.limit()),
    ("kms_partitions_limit_exceeded", "1 if partitions.max_owned is exceeded.", |status| {
        Some(u64::from(status.owned_bound.is_exceeded()))
    }),
    ("process_resident_memory_bytes", "Memory of the process that is in use, whatever for.", |_| {
        process::resident_bytes()
    }),
    ("process_threads", "Threads of the process.", |_| process::threads()),
    ("process_open_fds", "Files and sockets that the process has open.", |_| process::open_files()),
];

/// The instruments that existing dashboards know, under their names.
fn earlier(meter: &Meter, status: &Arc<Status>) {
    let events = Arc::clone(status);
    let counter = meter
        .u64_observable_counter("event_subscriber")
        .with_description("Records read from schedule topics.");
    let _ = counter
        .with_callback(move |observer| {
            for (topic, counters) in events.topics() {
                let source = KeyValue::new("message_source", topic);
                let kind = |kind| KeyValue::new("message_type", kind);
                observer.observe(counters.updates.get(), &[kind("update"), source.clone()]);
                for (delete, n) in
                    [("expired", &counters.deletes_expired), ("canceled", &counters.deletes_canceled)]
                {
                    let delete = KeyValue::new("message_delete_type", delete);
                    observer.observe(n.get(), &[kind("delete"), source.clone(), delete]);
                }
                for (error, n) in counters.errors.iter() {
                    let error = KeyValue::new("message_error_type", error.label());
                    observer.observe(n, &[kind("error"), source.clone(), error]);
                }
            }
        })
        .build();

    let size = Arc::clone(status);
    let gauge = meter.i64_observable_up_down_counter("schedules_repository_size").with_description(
        "Schedules pending (total), and how often one was set, deleted, found or missed by a delete.",
    );
    let _ = gauge
        .with_callback(move |observer| {
            let topics = size.topics();
            let sum = |figure: fn(&TopicCounters) -> u64| -> i64 {
                topics.iter().map(|(_, counters)| figure(counters) as i64).sum()
            };
            let pending: i64 = size.partitions().iter().map(|(_, _, figures)| figures.pending.get()).sum();
            for (counter, n) in [
                ("total", pending),
                ("set", sum(|topic| topic.stored.get())),
                ("delete", sum(|topic| topic.removed.get())),
                ("hit", sum(|topic| topic.delete_hits.get())),
                ("miss", sum(|topic| topic.delete_misses.get())),
            ] {
                observer.observe(n, &[KeyValue::new("counter_type", counter)]);
            }
        })
        .build();
}

fn whole_instance(meter: &Meter, status: &Arc<Status>) {
    let ready = Arc::clone(status);
    let gauge = meter.i64_observable_gauge("kms_ready").with_description(
        "1 if the group is joined, every owned partition is live and no bound is exceeded.",
    );
    let _ = gauge.with_callback(move |observer| observer.observe(i64::from(ready.ready()), &[])).build();

    for &(name, about, figure) in INSTANCE_FIGURES {
        let status = Arc::clone(status);
        let gauge = meter.u64_observable_gauge(name).with_description(about);
        let _ = gauge
            .with_callback(move |observer| {
                if let Some(figure) = figure(&status) {
                    observer.observe(figure, &[]);
                }
            })
            .build();
    }

    let version = Version::current();
    let labels = [
        KeyValue::new("version", version.version),
        KeyValue::new("commit", version.commit.unwrap_or_default()),
        KeyValue::new("librdkafka", version.librdkafka),
    ];
    let gauge =
        meter.i64_observable_gauge("kms_build_info").with_description("1; which build, by its labels.");
    let _ = gauge.with_callback(move |observer| observer.observe(1, &labels)).build();
}

/// A counter of schedule topics with a label of its own.
fn labelled(
    meter: &Meter,
    status: &Arc<Status>,
    name: &'static str,
    about: &'static str,
    label: &'static str,
    figures: fn(&TopicCounters) -> Vec<(&'static str, u64)>,
) {
    let status = Arc::clone(status);
    let counter = meter.u64_observable_counter(name).with_description(about);
    let _ = counter
        .with_callback(move |observer| {
            for (topic, counters) in status.topics() {
                for (value, n) in figures(&counters) {
                    observer.observe(n, &[topic_label(&topic), KeyValue::new(label, value)]);
                }
            }
        })
        .build();
}

fn topic_label(topic: &Arc<str>) -> KeyValue {
    KeyValue::new("topic", Arc::clone(topic))
}
