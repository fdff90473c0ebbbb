//! `kms run --dry-run`: load everything, deliver nothing, write nothing, join no group; then say what would happen.

use std::collections::HashMap;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Settings;
use crate::engine::shard::Shard;
use crate::engine::{ListCursor, PendingSet};
use crate::kafka::clock::SystemClock;
use crate::kafka::log::PartitionLog;
use crate::kafka::observer::{Observer, TopicIds};
use crate::kafka::{ClientConfig, Clock, Log, LogError, LogItem, client};
use crate::schedule::Format;

use super::record::{Applier, Now, Rejection};
use super::status::TopicCounters;

const WAIT: Duration = Duration::from_millis(250);
const ASK: Duration = Duration::from_secs(10);
/// A log that yields nothing for this long is held back by an open transaction.
const PATIENCE_MS: u64 = 30_000;
const LIST_BUDGET: usize = 10_000;

/// What was found on one topic.
#[derive(Debug, Default)]
struct Report {
    partitions: usize,
    records: i64,
    pending: usize,
    overdue: [usize; AGES.len()],
    refused_destinations: HashMap<String, usize>,
    rejected: u64,
    examples: Vec<(i32, Rejection)>,
    held_back: Vec<String>,
}

/// Ages of overdue schedules, youngest first: the label and the upper bound in milliseconds.
const AGES: [(&str, i64); 5] = [
    ("less than a minute", 60_000),
    ("less than an hour", 3_600_000),
    ("less than a day", 86_400_000),
    ("less than 30 days", 30 * 86_400_000),
    ("longer", i64::MAX),
];

/// Loads every schedule topic and writes to `out` what a run would find.
pub fn dry_run(settings: &Settings, out: &mut impl Write) -> anyhow::Result<()> {
    let observer =
        Observer::new(&client::reader(settings, client::Isolation::ReadUncommitted)?, TopicIds::Known)?;
    let reader = client::reader(settings, client::Isolation::ReadCommitted)?;
    writeln!(out, "Dry run: nothing is delivered, nothing written, no group joined.")?;
    for (topic, format) in settings.topics.iter() {
        let Some(partitions) = observer.partition_count(topic, ASK)? else {
            writeln!(out, "\n{topic}: does not exist (`kms topics create` makes it)")?;
            continue;
        };
        let mut report = Report { partitions, ..Report::default() };
        for partition in 0..partitions as i32 {
            load(settings, &reader, &observer, topic, partition, format, &mut report)?;
        }
        print(out, topic, format, &report)?;
    }
    Ok(())
}

fn load(
    settings: &Settings,
    reader: &ClientConfig,
    observer: &Arc<Observer>,
    topic: &str,
    partition: i32,
    format: Format,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut log = PartitionLog::alone(reader, Arc::clone(observer), topic, partition)?;
    let clock = SystemClock::new();
    let mut shard = Shard::new(PendingSet::new(0));
    let mut applier = Applier::new(topic, partition, format, None);
    applier.identify(&log.topic_id(ASK)?);
    let counters = TopicCounters::default();
    let target = log.watermarks(ASK)?.high;
    let mut moved_ms = clock.monotonic_ms();
    while shard.applied() < target {
        let before = shard.applied();
        let outcome = log.read(WAIT, usize::MAX, &mut |item| match item {
            LogItem::End(offset) => shard.reached(offset),
            LogItem::Known(offset) => shard.reached(offset + 1), // which nothing is, here
            LogItem::Ahead(keys) => shard.warm(keys),
            LogItem::Record(record) => {
                report.records += 1;
                let now = Now { wall_ms: clock.now_ms(), monotonic_ms: clock.monotonic_ms() };
                applier.apply(&record, &mut shard, &counters, now);
            }
        });
        if let Err(error @ LogError::OutOfRange(_)) = outcome {
            anyhow::bail!("{topic}-{partition}: {error}");
        }
        shard.reached(log.position());
        if shard.applied() != before {
            moved_ms = clock.monotonic_ms();
        } else if clock.monotonic_ms() > moved_ms + PATIENCE_MS {
            report.held_back.push(format!("{topic}-{partition} at offset {before} of {target}"));
            break;
        }
    }
    report.rejected += counters.rejected.get();
    report.examples.extend(applier.examples().iter().map(|example| (partition, example.clone())));
    tally(settings, &shard, clock.now_ms(), report);
    Ok(())
}

fn tally(settings: &Settings, shard: &Shard, now_ms: i64, report: &mut Report) {
    report.pending += shard.pending().len();
    let mut cursor = Some(ListCursor::default());
    while let Some(at) = cursor {
        cursor = shard.pending().list(at, LIST_BUDGET, &mut |view| {
            let overdue_ms = now_ms.saturating_sub(view.schedule.due.epoch_ms());
            if overdue_ms >= 0 {
                let age = AGES.iter().position(|(_, bound)| overdue_ms < *bound).unwrap_or(AGES.len() - 1);
                report.overdue[age] += 1;
            }
            if !settings.permits_destination(view.schedule.topic) {
                *report.refused_destinations.entry(view.schedule.topic.to_owned()).or_default() += 1;
            }
            true
        });
    }
}

fn print(out: &mut impl Write, topic: &str, format: Format, report: &Report) -> std::io::Result<()> {
    let Report { partitions, records, pending, rejected, .. } = report;
    let format = match format {
        Format::Avro => "Avro",
        Format::Json => "JSON",
    };
    writeln!(out, "\n{topic} ({format}, {partitions} partitions, {records} records read)")?;
    writeln!(out, "  pending   {pending}")?;
    let overdue: usize = report.overdue.iter().sum();
    writeln!(out, "  overdue   {overdue} (would be delivered at once)")?;
    for ((label, _), count) in AGES.iter().zip(report.overdue).filter(|(_, count)| *count > 0) {
        writeln!(out, "    by {label:<20} {count}")?;
    }
    if overdue > 0 {
        writeln!(out, "    `kms run --skip-overdue-before TIME` removes those due before TIME instead")?;
    }
    writeln!(out, "  rejected  {rejected}")?;
    for (partition, Rejection { offset, reason }) in &report.examples {
        writeln!(out, "    {topic}-{partition}@{offset}: {reason}")?;
    }
    for (destination, count) in &report.refused_destinations {
        writeln!(out, "  {count} to `{destination}`, which the settings refuse as a destination")?;
    }
    for place in &report.held_back {
        writeln!(out, "  not read to the end: another producer's transaction is open on {place}")?;
    }
    Ok(())
}
