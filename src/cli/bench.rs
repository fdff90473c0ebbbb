//! `kms bench`: how fast the scheduler loads and fires, beside librdkafka with nothing around it, in the same run.
#![allow(
    clippy::disallowed_methods,
    reason = "a command that measures: it looks at the clock and starts threads"
)]

mod contest;
mod delivery;
mod fire;
mod instance;
mod lab;
mod load;
mod mixed;
mod moments;
mod progress;
mod raw_fire;
mod reader;
mod report;
mod timetable;
mod workload;
mod writer;

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

use super::SettingsArgs;
use crate::schedule::Format;

/// Measure how fast schedules are loaded and fired, beside raw librdkafka
///
/// Each figure stands beside what librdkafka alone does with the same records, on the same brokers, in the same run.
#[derive(Debug, Args)]
pub(super) struct BenchArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Load(load::LoadArgs),
    Fire(fire::FireArgs),
    Mixed(mixed::MixedArgs),
}

/// What the benchmarks have in common.
#[derive(Debug, Args)]
struct CommonArgs {
    /// Bytes of each message's value, of letters that hardly compress
    #[arg(long, value_name = "BYTES", default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=900_000))]
    value_bytes: u32,
    /// Partitions of the schedule topic
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(i32).range(1..=10_000))]
    partitions: i32,
    /// Format of the schedules
    #[arg(long, value_enum, default_value = "avro")]
    format: FormatArg,
    /// How often everything is measured; the median is shown with the least and the most
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Use a stand-in for Kafka inside this process: to try the command out, not to measure
    #[arg(long, conflicts_with = "brokers")]
    embedded: bool,
    /// Leave the topics as they are at the end
    #[arg(long)]
    keep: bool,
    /// Print one JSON document
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArg {
    Avro,
    Json,
}

impl From<FormatArg> for Format {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Avro => Self::Avro,
            FormatArg::Json => Self::Json,
        }
    }
}

pub(super) fn execute(args: &BenchArgs) -> anyhow::Result<ExitCode> {
    match &args.what {
        What::Load(args) => load::execute(args),
        What::Fire(args) => fire::execute(args),
        What::Mixed(args) => mixed::execute(args),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn parse(line: &str) -> Result<What, clap::Error> {
        Line::try_parse_from(line.split_whitespace()).map(|line| line.bench.what)
    }

    #[test]
    fn a_benchmark_has_defaults_for_everything() {
        let What::Load(load) = parse("bench load").unwrap() else { panic!("not load") };
        assert_eq!((load.count, load.common.partitions, load.common.rounds), (1_000_000, 1, 3));
        let What::Fire(fire) = parse("bench fire").unwrap() else { panic!("not fire") };
        assert_eq!((fire.count, fire.rate, fire.common.value_bytes), (100_000, None, 100));
        assert!(matches!(parse("bench mixed").unwrap(), What::Mixed(_)));
    }

    #[test]
    fn a_burst_and_a_steady_rate_exclude_each_other() {
        let What::Fire(fire) = parse("bench fire --rate 4 --seconds 10").unwrap() else { panic!("not fire") };
        assert_eq!((fire.rate, fire.seconds), (Some(4), 10));
        assert!(parse("bench fire --rate 4 --count 10").is_err());
        assert!(parse("bench fire --seconds 10").is_err(), "seconds of what?");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "bench",
            "bench load --count 0",
            "bench load --partitions 0",
            "bench load --rounds 0",
            "bench load --embedded --brokers k:1",
            "bench fire --rate 0",
            "bench mixed --cancel 101",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
