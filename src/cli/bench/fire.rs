//! `kms bench fire`

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::super::table::table;
use super::super::{print, text};
use super::CommonArgs;
use super::contest::{self, Contender, Kind, Round};
use super::delivery::{Cost, Delivered};
use super::instance::Instance;
use super::lab::Lab;
use super::moments::{now_ms, processor_seconds, processor_seconds_since};
use super::progress::Step;
use super::raw_fire::RawFire;
use super::reader::Reader;
use super::report::{document, grouped, heading};
use super::timetable::{Even, Timetable as _, WARM_UP};
use super::workload::Workload;
use super::writer::Writer;

/// Measure how fast due schedules are delivered: a burst, or a steady rate
///
/// A burst: all schedules are due at one instant. A steady rate: they are spread evenly over some seconds. All of them are
/// written and loaded before the first is due. A read-committed consumer of the destination says when a message is
/// visible; all figures are from due to visible, by the clock of this machine.
///
/// The baseline, in the same run, in turn with kms: a raw librdkafka producer for each schedule partition, set up like that of
/// kms, sends the same messages and tombstones from memory as soon as they are due, in transactions of at most as many
/// (batch.*). It reads nothing back and checks nothing. With delivery=at-least-once there are no transactions on either
/// side: messages, their acknowledgements, tombstones.
///
/// Before the clock starts, both have delivered one message for each partition. Topics are new for each turn.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kms bench fire --brokers localhost:9092                           100,000 due at once
  kms bench fire --count 1000000 --partitions 4
  kms bench fire --rate 10000 --seconds 20                          a steady rate
  kms bench fire --rate 4 --seconds 30                              single schedules
  kms bench fire --rate 1000 --set delivery=at-least-once --json

Topics and group are named kms-bench-…; the topics are deleted at the end. Transactional IDs are PREFIX:kms-bench-….

Exit codes: 0 done; 1 failed, or something was lost, doubled or early; 2 wrong usage or settings.")]
pub(super) struct FireArgs {
    /// A burst of so many
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000_000), conflicts_with = "rate")]
    pub(super) count: u64,
    /// So many a second instead
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(super) rate: Option<u64>,
    /// For so long
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=86_400), requires = "rate", conflicts_with = "count")]
    pub(super) seconds: u64,
    /// Partitions of the destination
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    destination_partitions: i32,
    /// How long before the first is due writing begins [default: 4 s, and a second for each 100,000]
    #[arg(long, value_name = "DURATION", value_parser = text::duration)]
    lead: Option<Duration>,
    #[command(flatten)]
    pub(super) common: CommonArgs,
}

impl FireArgs {
    fn schedules(&self) -> u64 {
        self.rate.map_or(self.count, |rate| rate * self.seconds)
    }

    fn lead_ms(&self) -> i64 {
        let default = || Duration::from_secs(4) + Duration::from_micros(self.schedules() * 10);
        self.lead.unwrap_or_else(default).as_millis() as i64
    }

    fn what(&self) -> String {
        let what = match self.rate {
            None => format!("{} schedules due at one instant", grouped(self.count as i64)),
            Some(rate) => format!("{} schedules a second for {} s", grouped(rate as i64), self.seconds),
        };
        let (schedule, destination) = (self.common.partitions, self.destination_partitions);
        format!("{what}; partitions: {schedule} of the schedule topic, {destination} of the destination")
    }
}

pub(super) fn execute(args: &FireArgs) -> anyhow::Result<ExitCode> {
    Lab::run(&args.common, |lab| {
        lab.must_hold(args.schedules() + args.common.partitions as u64)?;
        let rounds = contest::play(args.common.rounds, |contender| match contender {
            Contender::Kms => kms(lab, args),
            Contender::Raw => raw(lab, args),
        })?;
        show(lab, args, &rounds)
    })
}

fn show(lab: &Lab, args: &FireArgs, rounds: &[Round]) -> anyhow::Result<ExitCode> {
    let faults = contest::faults(rounds);
    if args.common.json {
        let asked = json!({
            "schedules": args.schedules(),
            "rate_per_second": args.rate,
            "seconds": args.rate.map(|_| args.seconds),
            "destination_partitions": args.destination_partitions,
        });
        let own =
            json!({ "rounds": rounds, "summary": contest::summary(rounds, Kind::Alike), "faults": faults });
        print(&serde_json::to_string_pretty(&document("fire", asked, lab, &args.common, own))?)?;
    } else {
        let heading = heading(&args.what(), lab, &args.common);
        print(&format!("{heading}\n{}{}", table(&contest::rows(rounds, Kind::Alike), 1), contest::FOOTNOTE))?;
    }
    if faults.are_none() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("kms: {faults}");
    Ok(ExitCode::FAILURE)
}

/// What both need: topics, a reader, and when everything is due.
struct Stage {
    schedules: String,
    destination: String,
    timetable: Arc<Even>,
    reader: Reader,
}

/// Between two turns, so that what ended does not count against what begins.
const REST: Duration = Duration::from_secs(1);
/// How far a turn is is looked at this often: seldom enough to take nothing from what is measured.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long a delivery may stand still after everything was due.
const PATIENCE_MS: i64 = 30_000;
/// How long a message that warms up may take.
const WARM_UP_PATIENCE_MS: i64 = 60_000;

impl Stage {
    fn set(lab: &Lab, args: &FireArgs) -> anyhow::Result<Self> {
        lab.pause(REST)?;
        let schedules = lab.schedule_topic()?;
        let destination = lab.destination(args.destination_partitions)?;
        let timetable = Arc::new(Even::new(args.schedules(), args.rate));
        let reader =
            Reader::start(lab, &destination, args.destination_partitions, Arc::clone(&timetable) as _)?;
        Ok(Self { schedules, destination, timetable, reader })
    }

    fn workload(&self, lab: &Lab) -> Workload {
        Workload::new(lab.format, &self.destination, lab.value_bytes)
    }

    /// Waits until each partition has delivered one message.
    fn await_warm_ups(
        &mut self,
        lab: &Lab,
        mut look: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let give_up_ms = now_ms() + WARM_UP_PATIENCE_MS;
        while self.reader.warm_ups() < lab.partitions as u64 {
            look()?;
            self.reader.look()?;
            std::thread::sleep(LOOK_EVERY);
            anyhow::ensure!(
                now_ms() < give_up_ms,
                "of {} schedules that were to warm up {} were delivered within {} s",
                lab.partitions,
                self.reader.warm_ups(),
                WARM_UP_PATIENCE_MS / 1_000
            );
        }
        Ok(())
    }

    /// Waits until all messages are visible, or nothing more comes; gives the processor time it took.
    fn await_deliveries(
        &mut self,
        what: &str,
        mut look: impl FnMut() -> anyhow::Result<()>,
    ) -> anyhow::Result<Option<f64>> {
        let processor_before = processor_seconds();
        let step = Step::begin(format!("{what}: delivering"), self.timetable.count());
        let (mut right, mut moved_ms) = (0, self.timetable.last_ms());
        while right < self.timetable.count() {
            look()?;
            self.reader.look()?;
            std::thread::sleep(LOOK_EVERY);
            if self.reader.right() > right {
                right = self.reader.right();
                step.reach(right);
                moved_ms = now_ms().max(self.timetable.last_ms());
            } else if now_ms() > moved_ms + PATIENCE_MS {
                break;
            }
        }
        step.done(right);
        Ok(processor_seconds_since(processor_before))
    }

    fn end(self, lab: &Lab, cost: Cost) -> anyhow::Result<Delivered> {
        let Self { schedules, destination, timetable, reader } = self;
        let seen = reader.finish()?;
        lab.drop_topics(&[&schedules, &destination]);
        Ok(seen.figures(timetable.count(), timetable.first_ms(), cost))
    }
}

fn kms(lab: &Lab, args: &FireArgs) -> anyhow::Result<Delivered> {
    let mut stage = Stage::set(lab, args)?;
    let mut instance = Instance::start(lab, &stage.schedules)?;
    instance.await_live()?;
    let mut writer = Writer::new(lab, &stage.schedules, lab.partitions, stage.workload(lab))?;
    for number in 0..lab.partitions as u64 {
        writer.schedule(WARM_UP + number, 0, now_ms())?;
    }
    writer.flush()?;
    stage.await_warm_ups(lab, || instance.look())?;
    let before = instance.batches();

    let count = stage.timetable.count();
    stage.timetable.begin(now_ms() + args.lead_ms());
    let step = Step::begin("kms: writing schedules", count);
    for number in 0..count {
        writer.schedule(number, 0, stage.timetable.at(number))?;
        if number % 4_096 == 0 {
            lab.check()?;
            step.reach(number);
        }
    }
    writer.flush()?;
    step.done(count);
    // Applied, too: what is measured is the firing alone.
    while instance.pending() < count {
        instance.look()?;
        std::thread::sleep(LOOK_EVERY);
        anyhow::ensure!(
            now_ms() < stage.timetable.first_ms(),
            "the schedules were not written and loaded before the first was due: give more time by --lead \
             (it was {} s)",
            args.lead_ms() / 1_000
        );
    }
    drop(writer);
    let processor_seconds = stage.await_deliveries("kms", || instance.look())?;
    let transactions = instance.batches() - before;
    instance.stop()?;
    stage.end(lab, Cost { transactions, processor_seconds })
}

/// How long before the first is due the raw producers are told to begin.
const RAW_LEAD_MS: i64 = 1_000;

fn raw(lab: &Lab, args: &FireArgs) -> anyhow::Result<Delivered> {
    let mut stage = Stage::set(lab, args)?;
    let mut fire = RawFire::prepare(lab, &stage.schedules, &stage.destination, &stage.timetable)?;
    stage.await_warm_ups(lab, || lab.check())?;
    stage.timetable.begin(now_ms() + RAW_LEAD_MS);
    fire.start();
    let waited = stage.await_deliveries("raw librdkafka", || {
        anyhow::ensure!(!fire.has_failed(), "a raw producer has ended early");
        lab.check()
    });
    // Why one has failed says more.
    let transactions = if fire.has_failed() || waited.is_ok() { fire.finish()? } else { 0 };
    let processor_seconds = waited?;
    stage.end(lab, Cost { transactions, processor_seconds })
}
