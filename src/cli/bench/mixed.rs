//! `kms bench mixed`

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use serde_json::json;

use super::super::table::table;
use super::super::{UsageError, print};
use super::CommonArgs;
use super::contest::{self, Contender, Kind, Round};
use super::delivery::{Cost, Delivered};
use super::instance::Instance;
use super::lab::Lab;
use super::moments::{now_ms, now_us, processor_seconds, processor_seconds_since};
use super::progress::Step;
use super::raw_fire::RawFire;
use super::reader::Reader;
use super::report::{document, grouped, heading};
use super::timetable::{Changing, Even, Timetable};
use super::workload::{Workload, mix};
use super::writer::Writer;

/// Measure firing while schedules are written, replaced and cancelled
///
/// Schedules are written all the time, each due three to five seconds later. Half a second after a schedule was written a share
/// of them is replaced (due three to five seconds after that) and a share cancelled. Every schedule must be delivered once, in its
/// last version; a cancelled one, and a version that was replaced, never.
///
/// The baseline, in the same run, in turn with kms: the same is written, replaced and cancelled on the same topic, while raw
/// librdkafka producers send as many messages and tombstones a second as kms has to (see `kms bench fire`).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kms bench mixed --brokers localhost:9092
  kms bench mixed --write-rate 5000 --seconds 60 --partitions 4
  kms bench mixed --replace 30 --cancel 30 --json

Topics and group are named kms-bench-…; the topics are deleted at the end. Transactional IDs are PREFIX:kms-bench-….

Exit codes: 0 done; 1 failed, or something was lost, doubled, early, or delivered although it was cancelled or replaced;
2 wrong usage or settings.")]
pub(super) struct MixedArgs {
    /// Schedules written a second
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    write_rate: u64,
    /// For so long
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// How many of a hundred schedules are replaced
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=100))]
    replace: u64,
    /// How many of a hundred schedules are cancelled
    #[arg(long, value_name = "PERCENT", default_value_t = 10, value_parser = clap::value_parser!(u64).range(0..=100))]
    cancel: u64,
    /// Partitions of the destination
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    destination_partitions: i32,
    #[command(flatten)]
    common: CommonArgs,
}

impl MixedArgs {
    fn schedules(&self) -> u64 {
        self.write_rate * self.seconds
    }

    fn fate(&self, number: u64) -> Fate {
        match mix(number) % 100 {
            share if share < self.replace => Fate::Replaced,
            share if share < self.replace + self.cancel => Fate::Cancelled,
            _ => Fate::Kept,
        }
    }

    fn what(&self) -> String {
        format!(
            "{} schedules written a second for {} s, {} % replaced, {} % cancelled; partitions: {} of the schedule topic, \
             {} of the destination",
            grouped(self.write_rate as i64),
            self.seconds,
            self.replace,
            self.cancel,
            self.common.partitions,
            self.destination_partitions,
        )
    }
}

/// What becomes of a schedule after it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Replaced,
    Cancelled,
}

pub(super) fn execute(args: &MixedArgs) -> anyhow::Result<ExitCode> {
    if args.replace + args.cancel > 100 {
        return Err(UsageError("--replace and --cancel together are more than 100 percent".to_owned()).into());
    }
    Lab::run(&args.common, |lab| {
        // Schedules, replacements, cancels, and as many tombstones.
        lab.must_hold(3 * args.schedules())?;
        let mut written = Vec::new();
        let rounds = contest::play(args.common.rounds, |contender| match contender {
            Contender::Kms => {
                let (delivered, of_kms) = kms(lab, args)?;
                written.push(of_kms);
                Ok(delivered)
            }
            Contender::Raw => raw(lab, args),
        })?;
        show(lab, args, &rounds, &written)
    })
}

fn show(lab: &Lab, args: &MixedArgs, rounds: &[Round], written: &[Written]) -> anyhow::Result<ExitCode> {
    let faults = contest::faults(rounds);
    if args.common.json {
        let asked = json!({
            "writes_per_second": args.write_rate,
            "seconds": args.seconds,
            "replaced_percent": args.replace,
            "cancelled_percent": args.cancel,
            "destination_partitions": args.destination_partitions,
        });
        let own = json!({
            "rounds": rounds,
            "written_for_kms": written,
            "summary": contest::summary(rounds, Kind::Apart),
            "faults": faults,
        });
        print(&serde_json::to_string_pretty(&document("mixed", asked, lab, &args.common, own))?)?;
    } else {
        let heading = heading(&args.what(), lab, &args.common);
        let (figures, histogram) =
            (table(&contest::rows(rounds, Kind::Apart), 1), table(&contest::histogram_rows(rounds), 1));
        print(&format!("{heading}\n{figures}{}\n\n{histogram}", contest::FOOTNOTE))?;
        let sum = |of: fn(&Written) -> u64| grouped(written.iter().map(of).sum::<u64>() as i64);
        print(&format!(
            "\nwritten for kms in all rounds: {} schedules, of which {} were replaced and {} cancelled; {faults}.",
            sum(|written| written.schedules),
            sum(|written| written.replaced),
            sum(|written| written.cancelled),
        ))?;
    }
    if faults.are_none() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("kms: {faults}");
    Ok(ExitCode::FAILURE)
}

/// Between two turns, so that what ended does not count against what begins.
const REST: Duration = Duration::from_secs(1);
/// How far a turn is is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long a delivery may stand still after everything was due.
const PATIENCE_MS: i64 = 30_000;
/// A schedule is due so long after it was written…
const DUE_AFTER_MS: i64 = 3_000;
/// …and up to so much later.
const DUE_SPREAD_MS: u64 = 2_000;
/// A schedule is replaced or cancelled so long after it was written…
const CHANGE_AFTER_US: i64 = 500_000;
/// …unless it is due so soon, because writing has fallen behind, that it may be delivered first.
const LEFT_ALONE_MS: i64 = 1_500;

/// What was written in one turn.
#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Written {
    schedules: u64,
    replaced: u64,
    cancelled: u64,
}

/// Writes as planned, and keeps `changing` up to date. `look` is called again and again.
fn write(
    args: &MixedArgs,
    writer: &mut Writer<'_>,
    changing: &Changing,
    what: &str,
    mut look: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<Written> {
    let total = args.schedules();
    let step = Step::begin(format!("{what}: writing"), total);
    let began_us = now_us();
    let at_us = |number: u64| began_us + (number * 1_000_000 / args.write_rate) as i64;
    let due_ms = |salt: u64| now_ms() + DUE_AFTER_MS + (mix(salt) % DUE_SPREAD_MS) as i64;
    let mut written = Written::default();
    let mut changed = 0;
    while changed < total {
        let now_us = now_us();
        let before = (written.schedules, changed);
        while written.schedules < total && at_us(written.schedules) <= now_us {
            let number = written.schedules;
            let due_ms = due_ms(number);
            changing.expect(number, 0, due_ms);
            writer.schedule(number, 0, due_ms)?;
            written.schedules += 1;
        }
        while changed < written.schedules && at_us(changed) + CHANGE_AFTER_US <= now_us {
            let number = changed;
            changed += 1;
            if changing.newest_due_ms(number).is_none_or(|due_ms| due_ms < now_ms() + LEFT_ALONE_MS) {
                continue;
            }
            match args.fate(number) {
                Fate::Kept => {}
                Fate::Replaced => {
                    let due_ms = due_ms(!number);
                    changing.expect(number, 1, due_ms);
                    writer.schedule(number, 1, due_ms)?;
                    written.replaced += 1;
                }
                Fate::Cancelled => {
                    changing.cancel(number);
                    writer.cancel(number)?;
                    written.cancelled += 1;
                }
            }
        }
        look()?;
        step.reach(written.schedules);
        if before == (written.schedules, changed) {
            writer.pause(Duration::from_millis(1))?;
        }
    }
    writer.flush()?;
    step.done(written.schedules);
    Ok(written)
}

/// Waits until `expected` messages are visible, or nothing more comes after the last was due.
fn await_deliveries(
    reader: &mut Reader,
    expected: u64,
    last_due_ms: i64,
    mut look: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (mut right, mut moved_ms) = (0, last_due_ms);
    while right < expected && now_ms() < moved_ms + PATIENCE_MS {
        look()?;
        reader.look()?;
        std::thread::sleep(LOOK_EVERY);
        if reader.right() > right {
            right = reader.right();
            moved_ms = now_ms().max(last_due_ms);
        }
    }
    Ok(())
}

fn kms(lab: &Lab, args: &MixedArgs) -> anyhow::Result<(Delivered, Written)> {
    lab.pause(REST)?;
    let (schedules, destination) = (lab.schedule_topic()?, lab.destination(args.destination_partitions)?);
    let changing = Arc::new(Changing::new(args.schedules()));
    let timetable = Arc::clone(&changing) as Arc<dyn Timetable>;
    let mut reader = Reader::start(lab, &destination, args.destination_partitions, timetable)?;
    let mut instance = Instance::start(lab, &schedules)?;
    instance.await_live()?;
    let workload = Workload::new(lab.format, &destination, lab.value_bytes);
    let mut writer = Writer::new(lab, &schedules, lab.partitions, workload)?;

    let (began_ms, processor_before) = (now_ms(), processor_seconds());
    let written = write(args, &mut writer, &changing, "kms", || instance.look())?;
    let last_due_ms = now_ms() + DUE_AFTER_MS + DUE_SPREAD_MS as i64;
    await_deliveries(&mut reader, changing.outstanding(), last_due_ms, || instance.look())?;
    let processor_seconds = processor_seconds_since(processor_before);
    let cost = Cost { transactions: instance.batches(), processor_seconds };
    instance.stop()?;
    let seen = reader.finish()?;
    lab.drop_topics(&[&schedules, &destination]);
    Ok((seen.figures(changing.outstanding(), began_ms + DUE_AFTER_MS, cost), written))
}

fn raw(lab: &Lab, args: &MixedArgs) -> anyhow::Result<Delivered> {
    lab.pause(REST)?;
    let (schedules, destination) = (lab.schedule_topic()?, lab.destination(args.destination_partitions)?);
    let expected =
        (0..args.schedules()).filter(|number| args.fate(*number) != Fate::Cancelled).count() as u64;
    let per_second = expected.div_ceil(args.seconds).max(1);
    let timetable = Arc::new(Even::new(expected, Some(per_second)));
    let mut reader =
        Reader::start(lab, &destination, args.destination_partitions, Arc::clone(&timetable) as _)?;
    let mut fire = RawFire::prepare(lab, &schedules, &destination, &timetable)?;
    let workload = Workload::new(lab.format, &destination, lab.value_bytes);
    let mut writer = Writer::new(lab, &schedules, lab.partitions, workload)?;

    let processor_before = processor_seconds();
    timetable.begin(now_ms() + DUE_AFTER_MS);
    fire.start();
    let changing = Changing::new(args.schedules());
    let look = || {
        anyhow::ensure!(!fire.has_failed(), "a raw producer has ended early");
        lab.check()
    };
    let outcome = write(args, &mut writer, &changing, "raw librdkafka", look)
        .and_then(|_| await_deliveries(&mut reader, expected, timetable.last_ms(), look));
    let processor_seconds = processor_seconds_since(processor_before);
    // Why one has failed says more.
    let transactions = if fire.has_failed() || outcome.is_ok() { fire.finish()? } else { 0 };
    outcome?;
    let cost = Cost { transactions, processor_seconds };
    let seen = reader.finish()?;
    lab.drop_topics(&[&schedules, &destination]);
    Ok(seen.figures(expected, timetable.first_ms(), cost))
}
