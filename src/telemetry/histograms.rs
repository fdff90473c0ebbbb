//! The histograms. OpenTelemetry has no histogram that is observed, so these go to the registry directly.

use std::collections::HashMap;
use std::sync::Arc;

use prometheus::core::{Collector, Desc};
use prometheus::proto::{self, LabelPair, Metric, MetricFamily, MetricType};

use crate::scheduler::status::{Histogram, Status, TopicCounters};

type TopicHistogram = (&'static str, &'static str, fn(&TopicCounters) -> &Histogram);

const TOPIC_HISTOGRAMS: &[TopicHistogram] = &[
    ("kms_lateness_seconds", "From due to delivered.", |topic| &topic.lateness_ms),
    ("kms_batch_size", "Schedules per transaction.", |topic| &topic.batch_size),
    ("kms_transaction_duration_seconds", "From begin to committed.", |topic| &topic.transaction_us),
];

/// Shows the histograms of every schedule topic.
pub(super) struct Histograms {
    status: Arc<Status>,
    descriptions: Vec<Desc>,
}

impl Histograms {
    pub(super) fn of(status: &Arc<Status>) -> Self {
        let describe = |&(name, about, _): &TopicHistogram| {
            let labels = vec!["topic".to_owned()];
            Desc::new(name.into(), about.into(), labels, HashMap::new()).expect("names and labels are legal")
        };
        Self { status: Arc::clone(status), descriptions: TOPIC_HISTOGRAMS.iter().map(describe).collect() }
    }
}

impl Collector for Histograms {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let topics = self.status.topics();
        let family = |&(name, about, histogram): &TopicHistogram| {
            let metrics = topics.iter().map(|(topic, counters)| metric(topic, histogram(counters))).collect();
            let mut family = MetricFamily::default();
            family.set_name(name.into());
            family.set_help(about.into());
            family.set_field_type(MetricType::HISTOGRAM);
            family.set_metric(metrics);
            family
        };
        // A family without a metric is an error to the registry.
        if topics.is_empty() { Vec::new() } else { TOPIC_HISTOGRAMS.iter().map(family).collect() }
    }
}

fn metric(topic: &str, histogram: &Histogram) -> Metric {
    let unit = histogram.unit() as f64;
    let cumulative = histogram.cumulative();
    let bucket = |(&bound, &count): (&u64, &u64)| {
        let mut bucket = proto::Bucket::default();
        bucket.set_upper_bound(bound as f64 / unit);
        bucket.set_cumulative_count(count);
        bucket
    };
    let mut shown = proto::Histogram::default();
    shown.set_bucket(histogram.bounds().iter().zip(&cumulative).map(bucket).collect());
    shown.set_sample_count(cumulative.last().copied().unwrap_or_default());
    shown.set_sample_sum(histogram.sum() as f64 / unit);

    let mut label = LabelPair::default();
    label.set_name("topic".into());
    label.set_value(topic.into());
    let mut metric = Metric::default();
    metric.set_label(vec![label]);
    metric.set_histogram(shown);
    metric
}
