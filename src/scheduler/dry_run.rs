//! `kms run --dry-run`: load everything, deliver nothing, write nothing, join no group; then say what would happen.

use std::collections::HashMap;
use std::io::Write;

use crate::config::Settings;
use crate::kafka::Clock;
use crate::kafka::clock::SystemClock;
use crate::schedule::Format;

use super::reading::{Content, Reading};
use super::record::Rejection;

/// What was found on one topic.
#[derive(Debug, Default)]
struct Report {
    partitions: i32,
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
    let reading = Reading::new(settings)?;
    let clock = SystemClock::new();
    writeln!(out, "Dry run: nothing is delivered, nothing written, no group joined.")?;
    for (topic, format) in settings.topics.iter() {
        let Some(partitions) = reading.partition_count(topic)? else {
            writeln!(out, "\n{topic}: does not exist (`kms topics create` makes it)")?;
            continue;
        };
        let mut report = Report { partitions, ..Report::default() };
        for partition in 0..partitions {
            let content = reading.read(topic, partition, format)?;
            report.records += content.records;
            report.rejected += content.rejected;
            report.pending += content.pending();
            report.examples.extend(content.examples.iter().map(|example| (partition, example.clone())));
            report.held_back.extend(
                content
                    .held_back
                    .map(|(offset, end)| format!("{topic}-{partition} at offset {offset} of {end}")),
            );
            tally(settings, &content, clock.now_ms(), &mut report);
        }
        print(out, topic, format, &report)?;
    }
    Ok(())
}

fn tally(settings: &Settings, content: &Content, now_ms: i64, report: &mut Report) {
    content.each(|found| {
        let overdue_ms = now_ms.saturating_sub(found.due_ms);
        if overdue_ms >= 0 {
            let age = AGES.iter().position(|(_, bound)| overdue_ms < *bound).unwrap_or(AGES.len() - 1);
            report.overdue[age] += 1;
        }
        if !settings.permits_destination(&found.topic) {
            *report.refused_destinations.entry(found.topic).or_default() += 1;
        }
        true
    });
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
