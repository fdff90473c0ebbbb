//! The figures of partitions, as tables: a name, what it means, and where in the status its figure is.
//!
//! A thousand partitions have tens of thousands of them. By way of OpenTelemetry, which looks each up by its labels, a scrape
//! of these takes twice as long as it may; so, like the histograms, they go to the registry directly.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{Gauge, LabelPair, Metric, MetricFamily, MetricType};

use crate::scheduler::status::{DueWindow, Label, PartitionStatus, Phase, Status};

/// Shows the figures of every owned partition.
pub(super) struct Partitions {
    status: Arc<Status>,
    descriptions: Vec<Desc>,
}

/// A figure of a partition.
struct Figure {
    name: &'static str,
    about: &'static str,
    shape: Shape,
}

/// How many values it has.
enum Shape {
    One(fn(&PartitionStatus) -> f64),
    /// None where there is nothing to say.
    Maybe(fn(&PartitionStatus) -> Option<f64>),
    /// One for each value of a label of its own.
    Each(&'static str, fn(&PartitionStatus, &mut dyn FnMut(&'static str, f64))),
}
use Shape::{Each, Maybe, One};

const FIGURES: &[Figure] = &[
    Figure {
        name: "kms_schedules_pending",
        about: "Schedules pending.",
        shape: One(|p| p.pending.get() as f64),
    },
    Figure {
        name: "kms_schedules_in_flight",
        about: "Schedules in a transaction that is not settled.",
        shape: One(|p| p.in_flight.get() as f64),
    },
    Figure {
        name: "kms_in_flight_bytes",
        about: "Bytes of the transaction under way: messages and tombstones.",
        shape: One(|p| p.in_flight_bytes.get() as f64),
    },
    Figure {
        name: "kms_schedules_set_aside",
        about: "Schedules set aside until their next attempt.",
        shape: One(|p| p.set_aside.get() as f64),
    },
    Figure {
        name: "kms_oldest_overdue_seconds",
        about: "How long the oldest pending schedule that is not set aside has been overdue.",
        shape: One(|p| p.oldest_overdue_ms.get() as f64 / 1_000.0),
    },
    Figure {
        name: "kms_payload_bytes",
        about: "Memory for the schedules themselves.",
        shape: One(|p| p.payload_bytes.get() as f64),
    },
    Figure {
        name: "kms_structure_bytes",
        about: "Memory for the structures that find them.",
        shape: One(|p| p.structure_bytes.get() as f64),
    },
    Figure {
        name: "kms_fetched_records",
        about: "Records that were fetched and are not read yet.",
        shape: One(|p| p.fetched_records.get() as f64),
    },
    Figure {
        name: "kms_commands_waiting",
        about: "Commands that were accepted and are not answered yet.",
        shape: One(|p| p.commands_waiting.get() as f64),
    },
    Figure {
        name: "kms_repairs_waiting",
        about: "Versions that are to be written again.",
        shape: One(|p| p.repairs_waiting.get() as f64),
    },
    Figure {
        name: "kms_load_records_applied",
        about: "The offset up to which the log is applied.",
        shape: One(|p| p.records_applied.get() as f64),
    },
    Figure {
        name: "kms_load_records_to_apply",
        about: "The offset that the load goes to: the log's end at the takeover.",
        shape: One(|p| p.records_to_apply.get() as f64),
    },
    Figure {
        name: "kms_consumer_lag",
        about: "Offsets between the position and the last stable offset.",
        shape: One(|p| p.lag() as f64),
    },
    Figure {
        name: "kms_unstable_offsets",
        about: "Offsets between the last stable offset and the end: held by open transactions.",
        shape: One(|p| (p.end_offset.get() - p.last_stable_offset.get()).max(0) as f64),
    },
    Figure {
        name: "kms_heartbeat_age_seconds",
        about: "Time since the partition's thread last showed a sign of life.",
        shape: One(|p| p.heartbeat_age().as_secs_f64()),
    },
    Figure {
        name: "kms_schedules_due_within",
        about: "Schedules pending by how soon they are due, each in the first window that holds it.",
        shape: Each("window", |p, show| {
            for &window in DueWindow::ALL {
                show(window.label(), p.due_within[window.index()].get() as f64);
            }
        }),
    },
    Figure {
        name: "kms_partition_phase",
        about: "1 for the phase that the partition is in, 0 for the others.",
        shape: Each("phase", |p, show| {
            let current = p.phase();
            for &phase in Phase::ALL {
                show(phase.label(), f64::from(u8::from(phase == current)));
            }
        }),
    },
    // Where there is no checkpoint there is no figure: an age of nothing would look like a young one.
    Figure {
        name: "kms_checkpoint_age_seconds",
        about: "Age of the newest complete checkpoint.",
        shape: Maybe(|p| has_checkpoint(p).then(|| p.checkpoint_age_ms.get() as f64 / 1_000.0)),
    },
    Figure {
        name: "kms_checkpoint_bytes",
        about: "Size of the newest complete checkpoint; 0 if an earlier run wrote it.",
        shape: Maybe(|p| has_checkpoint(p).then(|| p.checkpoint_bytes.get() as f64)),
    },
];

fn has_checkpoint(partition: &PartitionStatus) -> bool {
    partition.checkpoint_taken_ms.get() != 0
}

impl Partitions {
    pub(super) fn of(status: &Arc<Status>) -> Self {
        let describe = |figure: &Figure| {
            let labels = ["topic", "partition"].map(str::to_owned).into_iter();
            let own = match figure.shape {
                Each(label, _) => Some(label.to_owned()),
                One(_) | Maybe(_) => None,
            };
            let labels = labels.chain(own).collect();
            Desc::new(figure.name.into(), figure.about.into(), labels, HashMap::new())
                .expect("names and labels are legal")
        };
        Self { status: Arc::clone(status), descriptions: FIGURES.iter().map(describe).collect() }
    }
}

impl Collector for Partitions {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let partitions: Vec<_> = self
            .status
            .partitions()
            .into_iter()
            .map(|(topic, number, figures)| {
                ([label("topic", &topic), label("partition", &number.to_string())], figures)
            })
            .collect();
        let families = FIGURES.iter().map(|figure| {
            let mut metrics = Vec::with_capacity(partitions.len());
            for (labels, partition) in &partitions {
                match figure.shape {
                    One(value) => metrics.push(gauge(labels, None, value(partition))),
                    Maybe(value) => {
                        metrics.extend(value(partition).map(|value| gauge(labels, None, value)));
                    }
                    Each(name, values) => values(partition, &mut |value, count| {
                        metrics.push(gauge(labels, Some(label(name, value)), count));
                    }),
                }
            }
            let mut family = MetricFamily::default();
            family.set_name(figure.name.into());
            family.set_help(figure.about.into());
            family.set_field_type(MetricType::GAUGE);
            family.set_metric(metrics);
            family
        });
        // A family without a metric is an error to the registry.
        families.filter(|family| !family.get_metric().is_empty()).collect()
    }
}

fn label(name: &str, value: &str) -> LabelPair {
    let mut label = LabelPair::default();
    label.set_name(name.into());
    label.set_value(value.into());
    label
}

fn gauge(labels: &[LabelPair; 2], own: Option<LabelPair>, value: f64) -> Metric {
    let mut shown = Gauge::default();
    shown.set_value(value);
    let mut metric = Metric::default();
    metric.set_label(labels.iter().cloned().chain(own).collect());
    metric.set_gauge(shown);
    metric
}
