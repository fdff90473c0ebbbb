//! `kms bench load`

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::super::print;
use super::super::table::table;
use super::CommonArgs;
use super::instance::{Instance, Loaded};
use super::lab::Lab;
use super::moments::{now_ms, processor_seconds, processor_seconds_since};
use super::progress::Step;
use super::report::{Spread, document, figure, grouped, heading};
use super::workload::{Workload, mix};
use super::writer::Writer;
use crate::kafka::client;
use crate::kafka::raw::{self, Reading};

/// Measure how fast schedules are loaded at a start
///
/// Writes schedules that are due in a month, then reads them in turn: with kms; with an empty loop that takes one message a
/// call (rust-rdkafka's poll); and with an empty loop that takes many a call (librdkafka's batch call), with a thread for
/// each partition, as kms has it. The loops are set up like the consumer of kms, down to its isolation level, and keep
/// nothing.
///
/// The clock starts when partitions are assigned, for each of them, and ends with the last record, or when every partition of
/// kms is live: it has fenced its predecessor, decoded and kept every schedule and filed it by its time. Connecting and
/// joining the consumer group come before and are shown apart.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kms bench load --brokers localhost:9092
  kms bench load --count 10000000 --partitions 4 --rounds 1
  kms bench load --format json --value-bytes 1000 --json
  kms bench load --embedded --count 10000                           to try it out

Topics and group are named kms-bench-…; the topics are deleted at the end.

Exit codes: 0 done; 1 failed, or something was not loaded; 2 wrong usage or settings.")]
pub(super) struct LoadArgs {
    /// How many schedules
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    pub(super) count: u64,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

/// The ways to read, in the order in which the first round takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    RawPoll,
    RawBatch,
    Kms,
}

const WAYS: [Way; 3] = [Way::RawPoll, Way::RawBatch, Way::Kms];

pub(super) fn execute(args: &LoadArgs) -> anyhow::Result<ExitCode> {
    Lab::run(&args.common, |lab| {
        lab.must_hold(args.count)?;
        let schedules = write(lab, args.count)?;
        let rounds: Vec<Round> = (0..args.common.rounds as usize)
            .map(|round| play(lab, args, &schedules, round))
            .collect::<anyhow::Result<_>>()?;
        show(lab, args, &rounds)
    })
}

const DAY_MS: i64 = 86_400_000;
/// Schedules are due at random within so long, from tomorrow on.
const SPREAD_MS: u64 = 30 * 86_400_000;

/// Writes the schedules to a new topic.
fn write(lab: &Lab, count: u64) -> anyhow::Result<String> {
    let schedules = lab.schedule_topic()?;
    let workload = Workload::new(lab.format, "kms-bench-destination", lab.value_bytes);
    let mut writer = Writer::new(lab, &schedules, lab.partitions, workload)?;
    let step = Step::begin("writing schedules", count);
    let first_ms = now_ms() + DAY_MS;
    for number in 0..count {
        writer.schedule(number, 0, first_ms + (mix(number) % SPREAD_MS) as i64)?;
        if number % 4_096 == 0 {
            lab.check()?;
            step.reach(number);
        }
    }
    writer.flush()?;
    step.done(count);
    Ok(schedules)
}

/// Between two passes: what one held is given back while nothing is measured.
const REST: Duration = Duration::from_secs(2);

/// Reads everything in each way. Who begins changes from round to round.
fn play(lab: &Lab, args: &LoadArgs, schedules: &str, round: usize) -> anyhow::Result<Round> {
    let (mut poll, mut batch, mut kms) = (None, None, None);
    for turn in 0..WAYS.len() {
        lab.pause(REST)?;
        let way = WAYS[(round + turn) % WAYS.len()];
        let step = Step::begin(format!("round {}: {}", round + 1, way.name()), 0);
        match way {
            Way::RawPoll => poll = Some(read(lab, args.count, schedules, raw::read_by_message)?),
            Way::RawBatch => batch = Some(read(lab, args.count, schedules, raw::read_by_batch)?),
            Way::Kms => kms = Some(load(lab, args.count, schedules)?),
        }
        step.done(args.count);
    }
    let its_turn = "each way has its turn";
    let ((poll, poll_processor), (batch, batch_processor)) = (poll.expect(its_turn), batch.expect(its_turn));
    let kms = kms.expect(its_turn);
    let pass = |took: Duration, processor| Pass::of(args.count, poll.bytes, took.as_secs_f64(), processor);
    Ok(Round {
        raw_poll: pass(poll.took, poll_processor),
        raw_batch: pass(batch.took, batch_processor),
        kms_assigned_to_live: pass(kms.loading, kms.processor_seconds),
        kms_first_record_to_live: pass(kms.applying, None),
        kms_joining_seconds: kms.joining.as_secs_f64(),
        kms_resident_bytes: kms.resident_bytes.saturating_sub(kms.resident_before_bytes),
    })
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::RawPoll => "empty loop, a message a call",
            Self::RawBatch => "empty loop, a batch a call",
            Self::Kms => "kms",
        }
    }
}

type ReadingLoop =
    fn(&rdkafka::ClientConfig, &str, i32, &std::sync::atomic::AtomicBool) -> Result<Reading, raw::RawError>;

/// Reads everything in one of the raw ways; gives the processor time with it.
fn read(
    lab: &Lab,
    count: u64,
    schedules: &str,
    reading_loop: ReadingLoop,
) -> anyhow::Result<(Reading, Option<f64>)> {
    let config = client::consumer(&lab.settings, lab.partitions as usize)?;
    let processor_before = processor_seconds();
    let reading = reading_loop(&config, schedules, lab.partitions, &lab.interrupted)?;
    anyhow::ensure!(
        reading.records == count,
        "an empty loop read {} records of {count}: the figures would not be comparable",
        reading.records
    );
    Ok((reading, processor_seconds_since(processor_before)))
}

fn load(lab: &Lab, count: u64, schedules: &str) -> anyhow::Result<Loaded> {
    let mut instance = Instance::start(lab, schedules)?;
    let loaded = instance.await_live()?;
    instance.stop()?;
    anyhow::ensure!(loaded.pending == count, "kms loaded {} schedules of {count}", loaded.pending);
    Ok(loaded)
}

/// What each way took in one round.
#[derive(Clone, Copy, Debug, Serialize)]
struct Round {
    raw_poll: Pass,
    raw_batch: Pass,
    kms_assigned_to_live: Pass,
    kms_first_record_to_live: Pass,
    kms_joining_seconds: f64,
    kms_resident_bytes: u64,
}

/// Everything read once.
#[derive(Clone, Copy, Debug, Serialize)]
struct Pass {
    records: u64,
    seconds: f64,
    records_per_second: f64,
    megabytes_per_second: f64,
    /// Of this process; `None` where it cannot be known.
    processor_seconds: Option<f64>,
}

impl Pass {
    fn of(records: u64, bytes: u64, seconds: f64, processor_seconds: Option<f64>) -> Self {
        // What takes no time by a clock of milliseconds took up to one.
        let seconds = seconds.max(0.001);
        Self {
            records,
            seconds,
            records_per_second: records as f64 / seconds,
            megabytes_per_second: bytes as f64 / 1e6 / seconds,
            processor_seconds,
        }
    }

    fn processor_us_per_record(&self) -> Option<f64> {
        Some(self.processor_seconds? * 1e6 / self.records as f64)
    }
}

/// A way in a table or document: name in JSON, name for people, and where it is found.
type NamedPass = (&'static str, &'static str, fn(&Round) -> Pass);

const FIRST_RECORD_TO_LIVE: &str = "kms, first record to live";

const PASSES: [NamedPass; 4] = [
    ("raw_poll", "empty loop, BaseConsumer::poll", |round| round.raw_poll),
    ("raw_batch", "empty loop, batches", |round| round.raw_batch),
    ("kms_assigned_to_live", "kms, assigned to live", |round| round.kms_assigned_to_live),
    ("kms_first_record_to_live", FIRST_RECORD_TO_LIVE, |round| round.kms_first_record_to_live),
];

fn show(lab: &Lab, args: &LoadArgs, rounds: &[Round]) -> anyhow::Result<ExitCode> {
    let spread = |of: fn(&Round) -> Pass, figure: fn(&Pass) -> f64| {
        Spread::of(rounds.iter().map(|round| figure(&of(round))))
    };
    let processor = |of: fn(&Round) -> Pass| {
        let figures: Option<Vec<f64>> =
            rounds.iter().map(|round| of(round).processor_us_per_record()).collect();
        figures.map(Spread::of)
    };
    let rates = PASSES.map(|(_, _, of)| spread(of, |pass| pass.records_per_second));
    let [poll, batch, ..] = rates;
    let joining = Spread::of(rounds.iter().map(|round| round.kms_joining_seconds));
    let resident = Spread::of(rounds.iter().map(|round| round.kms_resident_bytes as f64));
    if args.common.json {
        let mut summary = json!({ "kms_joining_seconds": joining, "kms_resident_bytes": resident });
        for ((name, _, of), rate) in PASSES.iter().zip(rates) {
            summary[*name] = json!({
                "seconds": spread(*of, |pass| pass.seconds),
                "records_per_second": rate,
                "megabytes_per_second": spread(*of, |pass| pass.megabytes_per_second),
                "processor_us_per_record": processor(*of),
                "ratio_to_raw_poll": rate.median / poll.median,
                "ratio_to_raw_batch": rate.median / batch.median,
            });
        }
        let asked = json!({ "schedules": args.count });
        let own = json!({ "rounds": rounds, "summary": summary });
        print(&serde_json::to_string_pretty(&document("load", asked, lab, &args.common, own))?)?;
    } else {
        let what =
            format!("{} schedules, partitions: {}", grouped(args.count as i64), args.common.partitions);
        let heading = heading(&what, lab, &args.common);
        let head = ["", "s", "records/s", "MB/s", "of poll", "of batches", "CPU, µs/record"]
            .map(str::to_owned)
            .to_vec();
        let rows = PASSES.iter().zip(rates).map(|((_, name, of), rate)| {
            // The loops have no such instant.
            let has_ratio = *name != FIRST_RECORD_TO_LIVE;
            let ratio = |rate: Spread, loops: Spread| {
                if has_ratio { figure(rate.median / loops.median) } else { String::new() }
            };
            vec![
                (*name).to_owned(),
                spread(*of, |pass| pass.seconds).show(),
                rate.show(),
                figure(spread(*of, |pass| pass.megabytes_per_second).median),
                ratio(rate, poll),
                ratio(rate, batch),
                processor(*of).map_or_else(String::new, |spread| figure(spread.median)),
            ]
        });
        let table = table(&std::iter::once(head).chain(rows).collect::<Vec<_>>(), 1);
        print(&format!(
            "{heading}\n{table}\nJoining the group, which is not counted: {} s. Memory that loading took, what librdkafka had fetched \
             included: {} MB, {} bytes a schedule.",
            joining.show(),
            figure(resident.median / 1e6),
            figure(resident.median / args.count as f64),
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pass_says_its_rates() {
        let pass = Pass::of(1_000, 150_000, 0.5, Some(0.002));
        assert!((pass.records_per_second - 2_000.0).abs() < 1e-9);
        assert!((pass.megabytes_per_second - 0.3).abs() < 1e-9);
        assert!(pass.processor_us_per_record().is_some_and(|us| (us - 2.0).abs() < 1e-9));
        assert!(Pass::of(1, 1, 0.0, None).records_per_second.is_finite());
    }
}
