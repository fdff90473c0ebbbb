#![allow(clippy::unwrap_used)]
use super::*;
use crate::scheduler::status::{DueWindow, Label, Phase, RecordError, SetAsideReason, TransactionOutcome};
use std::collections::{BTreeMap, BTreeSet};

/// A sample: its name and its labels but for the scope.
type Series = (String, BTreeMap<String, String>);

/// Parses the text format strictly enough to notice anything that is not a sample.
fn parse(text: &str) -> BTreeMap<Series, f64> {
    let mut samples = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        let labels: BTreeMap<String, String> = labels
            .strip_suffix('}')
            .unwrap()
            .split(',')
            .filter(|pair| !pair.is_empty())
            .map(|pair| {
                let (name, value) = pair.split_once('=').unwrap();
                (name.to_owned(), value.strip_prefix('"').unwrap().strip_suffix('"').unwrap().to_owned())
            })
            .filter(|(name, _)| name != "otel_scope_name")
            .collect();
        let earlier = samples.insert((name.to_owned(), labels), value.parse().unwrap());
        assert!(earlier.is_none(), "shown twice: {line}");
    }
    samples
}

fn value(samples: &BTreeMap<Series, f64>, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    samples.get(&(name.to_owned(), labels)).copied()
}

fn observed(status: &Arc<Status>) -> BTreeMap<Series, f64> {
    parse(&Metrics::of(status).unwrap().render().unwrap())
}

#[test]
fn the_names_that_dashboards_know_have_the_right_values() {
    let status = Arc::new(Status::new());
    let topic = status.counters("s");
    topic.updates.add(7);
    topic.deletes_expired.add(3);
    topic.deletes_canceled.add(2);
    topic.errors.of(RecordError::NotJson).add(5);
    topic.stored.add(11);
    topic.removed.add(4);
    topic.delete_hits.add(6);
    topic.delete_misses.add(9);
    status.counters("t").stored.add(1);
    status.partition("s", 0).pending.set(8);
    status.partition("t", 3).pending.set(2);

    let samples = observed(&status);
    let event = |labels: &[(&str, &str)]| value(&samples, "event_subscriber_total", labels);
    assert_eq!(event(&[("message_type", "update"), ("message_source", "s")]), Some(7.0));
    let delete =
        |kind| event(&[("message_type", "delete"), ("message_source", "s"), ("message_delete_type", kind)]);
    assert_eq!((delete("expired"), delete("canceled")), (Some(3.0), Some(2.0)));
    for error in ["invalid-avro", "not-json", "invalid-json", "decode", "transformation"] {
        let n = event(&[("message_type", "error"), ("message_source", "s"), ("message_error_type", error)]);
        assert_eq!(n, Some(if error == "not-json" { 5.0 } else { 0.0 }), "{error}");
    }
    for (counter, n) in [("total", 10.0), ("set", 12.0), ("delete", 4.0), ("hit", 6.0), ("miss", 9.0)] {
        assert_eq!(
            value(&samples, "schedules_repository_size", &[("counter_type", counter)]),
            Some(n),
            "{counter}"
        );
    }
}

#[test]
fn the_scope_is_called_as_it_was() {
    let status = Arc::new(Status::new());
    status.counters("s");
    let text = Metrics::of(&status).unwrap().render().unwrap();
    let line = text.lines().find(|line| line.starts_with("event_subscriber_total{")).unwrap();
    assert!(line.contains(r#"otel_scope_name="scheduler""#), "{line}");
}

#[test]
fn figures_of_topics_and_partitions_are_shown() {
    let status = Arc::new(Status::new());
    let topic = status.counters("s");
    topic.fired.add(3);
    topic.transactions.of(TransactionOutcome::Aborted).add(2);
    topic.set_aside.of(SetAsideReason::TooLarge).add(1);
    let partition = status.partition("s", 4);
    partition.set_phase(Phase::Loading);
    partition.oldest_overdue_ms.set(1_500);
    partition.last_stable_offset.set(100);
    partition.end_offset.set(105);
    partition.position.set(60);
    partition.due_within[DueWindow::Hour.index()].set(17);

    let samples = observed(&status);
    assert_eq!(value(&samples, "kms_schedules_fired_total", &[("topic", "s")]), Some(3.0));
    assert_eq!(
        value(&samples, "kms_transactions_total", &[("topic", "s"), ("outcome", "aborted")]),
        Some(2.0)
    );
    assert_eq!(value(&samples, "kms_set_aside_total", &[("topic", "s"), ("reason", "too-large")]), Some(1.0));
    let at = [("topic", "s"), ("partition", "4")];
    assert_eq!(value(&samples, "kms_oldest_overdue_seconds", &at), Some(1.5));
    assert_eq!(value(&samples, "kms_consumer_lag", &at), Some(40.0));
    assert_eq!(value(&samples, "kms_unstable_offsets", &at), Some(5.0));
    let with = |name, value| [at[0], at[1], (name, value)];
    assert_eq!(value(&samples, "kms_schedules_due_within", &with("window", "1h")), Some(17.0));
    assert_eq!(value(&samples, "kms_schedules_due_within", &with("window", "1d")), Some(0.0));
    assert_eq!(value(&samples, "kms_partition_phase", &with("phase", "loading")), Some(1.0));
    assert_eq!(value(&samples, "kms_partition_phase", &with("phase", "live")), Some(0.0));
    assert_eq!(value(&samples, "kms_ready", &[]), Some(0.0));
}

#[test]
fn bounds_are_shown_where_they_are_set() {
    let status = Arc::new(Status::new());
    let partition = status.partition("s", 0);
    partition.payload_bytes.set(900);
    partition.structure_bytes.set(200);
    partition.in_flight_bytes.set(7);
    let figure = |name| value(&observed(&status), name, &[]);
    assert_eq!(figure("kms_memory_pending_bytes"), Some(1_100.0));
    assert_eq!((figure("kms_memory_limit_bytes"), figure("kms_partitions_limit")), (None, None));

    status.set_bounds(Some(1_000), Some(1));
    status.look_at_bounds();
    assert_eq!(
        (figure("kms_memory_limit_bytes"), figure("kms_memory_limit_exceeded")),
        (Some(1_000.0), Some(1.0))
    );
    assert_eq!(
        (figure("kms_partitions_owned"), figure("kms_partitions_limit_exceeded")),
        (Some(1.0), Some(0.0))
    );
    let in_flight = value(&observed(&status), "kms_in_flight_bytes", &[("topic", "s"), ("partition", "0")]);
    assert_eq!(in_flight, Some(7.0));
}

#[test]
fn histograms_are_in_seconds_and_cumulative() {
    let status = Arc::new(Status::new());
    let topic = status.counters("s");
    for lateness_ms in [1, 3, 4_000_000] {
        topic.lateness_ms.observe(lateness_ms);
    }
    topic.transaction_us.observe(5_500);
    let samples = observed(&status);
    let bucket = |le| value(&samples, "kms_lateness_seconds_bucket", &[("topic", "s"), ("le", le)]);
    assert_eq!(
        (bucket("0.001"), bucket("0.005"), bucket("3600"), bucket("+Inf")),
        (Some(1.0), Some(2.0), Some(2.0), Some(3.0))
    );
    assert_eq!(value(&samples, "kms_lateness_seconds_sum", &[("topic", "s")]), Some(4_000.004));
    assert_eq!(value(&samples, "kms_lateness_seconds_count", &[("topic", "s")]), Some(3.0));
    assert_eq!(value(&samples, "kms_transaction_duration_seconds_sum", &[("topic", "s")]), Some(0.0055));
}

#[test]
fn a_partition_given_up_is_shown_no_more_and_its_topic_still_is() {
    let status = Arc::new(Status::new());
    let metrics = Metrics::of(&status).unwrap();
    status.counters("s").fired.add(3);
    status.partition("s", 0).pending.set(1);
    let partitions = |samples: &BTreeMap<Series, f64>| -> BTreeSet<String> {
        samples.keys().filter_map(|(_, labels)| labels.get("partition").cloned()).collect()
    };
    assert_eq!(partitions(&parse(&metrics.render().unwrap())), BTreeSet::from(["0".into()]));
    status.release("s", 0);
    status.partition("s", 1).pending.set(1);
    let samples = parse(&metrics.render().unwrap());
    assert_eq!(partitions(&samples), BTreeSet::from(["1".into()]));
    assert_eq!(value(&samples, "kms_schedules_fired_total", &[("topic", "s")]), Some(3.0));
}

#[test]
fn many_partitions_are_not_folded_together() {
    let status = Arc::new(Status::new());
    let partitions: Vec<_> = (0..1_000).map(|number| status.partition("s", number)).collect();
    let samples = observed(&status);
    let phases = samples.keys().filter(|(name, _)| name == "kms_partition_phase").count();
    assert_eq!(phases, partitions.len() * Phase::ALL.len());
}

#[test]
fn an_instance_that_has_seen_nothing_has_metrics() {
    let samples = observed(&Arc::new(Status::new()));
    assert!(
        samples.keys().any(|(name, labels)| name == "kms_build_info" && labels.contains_key("librdkafka"))
    );
}

/// For docs/benchmarks.md: `./test --release --lib -- --ignored --nocapture what_a_scrape_costs`.
#[test]
#[ignore = "measures, on a machine with nothing else to do"]
#[allow(clippy::disallowed_methods, reason = "it measures")]
fn what_a_scrape_costs() {
    for count in [10, 100, 1_000] {
        let status = Arc::new(Status::new());
        let topic = status.counters("schedules");
        topic.lateness_ms.observe(5);
        for number in 0..count {
            let partition = status.partition("schedules", number);
            partition.set_phase(Phase::Live);
            partition.pending.set(100_000);
            partition.checkpoint_taken_ms.set(1);
        }
        let metrics = Metrics::of(&status).unwrap();
        let mut bytes = 0;
        let mut took_us: Vec<u128> = (0..50)
            .map(|_| {
                let began = std::time::Instant::now();
                bytes = metrics.render().unwrap().len();
                began.elapsed().as_micros()
            })
            .collect();
        took_us.sort_unstable();
        println!(
            "{count} partitions: {bytes} bytes, {:.1} ms (median), {:.1} ms (most)",
            took_us[25] as f64 / 1_000.0,
            took_us[49] as f64 / 1_000.0
        );
    }
}
