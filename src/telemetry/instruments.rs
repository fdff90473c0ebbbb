//! The instruments, as tables: a name, what it means, and where in the status its figure is.

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::Meter;

use crate::scheduler::status::{DueWindow, Label, PartitionStatus, Phase, Status, TopicCounters};
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
    for &(name, about, figure) in PARTITION_FIGURES {
        each_partition(meter, status, name, about, move |partition, labels, observe| {
            observe(figure(partition), labels);
        });
    }
    each_partition(
        meter,
        status,
        "kms_schedules_due_within",
        "Schedules pending by how soon they are due, each in the first window that holds it.",
        |partition, labels, observe| {
            for &window in DueWindow::ALL {
                labels.push(KeyValue::new("window", window.label()));
                observe(partition.due_within[window.index()].get() as f64, labels);
                labels.pop();
            }
        },
    );
    each_partition(
        meter,
        status,
        "kms_partition_phase",
        "1 for the phase that the partition is in, 0 for the others.",
        |partition, labels, observe| {
            let current = partition.phase();
            for &phase in Phase::ALL {
                labels.push(KeyValue::new("phase", phase.label()));
                observe(f64::from(u8::from(phase == current)), labels);
                labels.pop();
            }
        },
    );
    labelled(meter, status, "kms_checkpoints", "Checkpoints by what became of them.", "outcome", |topic| {
        topic.checkpoints.iter().map(|(outcome, n)| (outcome.label(), n)).collect()
    });
    // Where there is no checkpoint there is no figure: an age of nothing would look like a young one.
    for (name, about, figure) in CHECKPOINT_FIGURES {
        each_partition(meter, status, name, about, move |partition, labels, observe| {
            if partition.checkpoint_taken_ms.get() != 0 {
                observe(figure(partition), labels);
            }
        });
    }
    whole_instance(meter, status);
}

const CHECKPOINT_FIGURES: [PartitionFigure; 2] = [
    ("kms_checkpoint_age_seconds", "Age of the newest complete checkpoint.", |p| {
        p.checkpoint_age_ms.get() as f64 / 1_000.0
    }),
    ("kms_checkpoint_bytes", "Size of the newest complete checkpoint; 0 if an earlier run wrote it.", |p| {
        p.checkpoint_bytes.get() as f64
    }),
];

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

type PartitionFigure = (&'static str, &'static str, fn(&PartitionStatus) -> f64);

const PARTITION_FIGURES: &[PartitionFigure] = &[
    ("kms_schedules_pending", "Schedules pending.", |p| p.pending.get() as f64),
    ("kms_schedules_in_flight", "Schedules in a transaction that is not settled.", |p| {
        p.in_flight.get() as f64
    }),
    ("kms_in_flight_bytes", "Bytes of the transaction under way: messages and tombstones.", |p| {
        p.in_flight_bytes.get() as f64
    }),
    ("kms_schedules_set_aside", "Schedules set aside until their next attempt.", |p| {
        p.set_aside.get() as f64
    }),
    (
        "kms_oldest_overdue_seconds",
        "How long the oldest pending schedule that is not set aside has been overdue.",
        |p| p.oldest_overdue_ms.get() as f64 / 1_000.0,
    ),
    ("kms_payload_bytes", "Memory for the schedules themselves.", |p| p.payload_bytes.get() as f64),
    ("kms_structure_bytes", "Memory for the structures that find them.", |p| p.structure_bytes.get() as f64),
    ("kms_fetched_records", "Records that were fetched and are not read yet.", |p| {
        p.fetched_records.get() as f64
    }),
    ("kms_commands_waiting", "Commands that were accepted and are not answered yet.", |p| {
        p.commands_waiting.get() as f64
    }),
    ("kms_repairs_waiting", "Versions that are to be written again.", |p| p.repairs_waiting.get() as f64),
    ("kms_load_records_applied", "The offset up to which the log is applied.", |p| {
        p.records_applied.get() as f64
    }),
    ("kms_load_records_to_apply", "The offset that the load goes to: the log's end at the takeover.", |p| {
        p.records_to_apply.get() as f64
    }),
    ("kms_consumer_lag", "Offsets between the position and the last stable offset.", |p| p.lag() as f64),
    (
        "kms_unstable_offsets",
        "Offsets between the last stable offset and the end: held by open transactions.",
        |p| (p.end_offset.get() - p.last_stable_offset.get()).max(0) as f64,
    ),
    ("kms_heartbeat_age_seconds", "Time since the partition's thread last showed a sign of life.", |p| {
        p.heartbeat_age().as_secs_f64()
    }),
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

/// A figure of every owned partition; `figures` may add labels to those of the partition.
fn each_partition(
    meter: &Meter,
    status: &Arc<Status>,
    name: &'static str,
    about: &'static str,
    figures: impl Fn(&PartitionStatus, &mut Vec<KeyValue>, &dyn Fn(f64, &[KeyValue])) + Send + Sync + 'static,
) {
    let status = Arc::clone(status);
    let gauge = meter.f64_observable_gauge(name).with_description(about);
    let _ = gauge
        .with_callback(move |observer| {
            for (topic, number, partition) in status.partitions() {
                let mut labels = vec![topic_label(&topic), KeyValue::new("partition", i64::from(number))];
                figures(&partition, &mut labels, &|value, labels| observer.observe(value, labels));
            }
        })
        .build();
}

fn topic_label(topic: &Arc<str>) -> KeyValue {
    KeyValue::new("topic", Arc::clone(topic))
}
