//! `kms list`

use std::ops::ControlFlow;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::api::ApiArgs;
use super::from_kafka::FromKafkaArgs;
use super::table::table;
use super::{UsageError, print, text};
use crate::admin::api;
use crate::schedule::DueTime;
use crate::scheduler::command::{ListCursor, Listing};

/// List what is pending, in no particular order
///
/// Asks a running instance (--admin), or with --from-kafka reads the schedule topic itself (--brokers and the other settings).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kms list                                        the first 100
  kms list --prefix cart- --limit 1000
  kms list --destination reminders --until 2030-12-24T18:00:00+01:00
  kms list --from-kafka --all --json              without an instance
  kms list --all --json > pending.jsonl           all of them, a JSON object a line

Exit codes: 0 done; 1 failed; 2 wrong usage.")]
pub(super) struct ListArgs {
    /// Only IDs that begin with this
    #[arg(long, value_name = "TEXT")]
    prefix: Option<String>,
    /// Only those for this topic
    #[arg(long, value_name = "TOPIC")]
    destination: Option<String>,
    /// Only those due at this moment or later
    #[arg(long, value_name = "TIME", value_parser = text::moment, allow_hyphen_values = true)]
    from: Option<DueTime>,
    /// Only those due at this moment or earlier
    #[arg(long, value_name = "TIME", value_parser = text::moment, allow_hyphen_values = true)]
    until: Option<DueTime>,
    /// So many at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// However many there are
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    #[command(flatten)]
    api: ApiArgs,
    #[command(flatten)]
    kafka: FromKafkaArgs,
}

/// Schedules in a page.
const PAGE: u64 = 1_000;

pub(super) fn execute(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let mut shown = Shown { args, left: if args.all { u64::MAX } else { args.limit }, rows: vec![head()] };
    let (missing, there_are_more) =
        if args.kafka.from_kafka { shown.read_topic()? } else { shown.ask_instance()? };
    if !args.api.json {
        print(&table(&shown.rows, shown.rows[0].len()))?;
        if there_are_more {
            eprintln!("There are more: --limit or --all gives them.");
        }
    }
    if missing > 0 {
        eprintln!("{missing} partitions are not this instance's, or not live: what they have is not listed.");
    }
    Ok(ExitCode::SUCCESS)
}

/// What is listed.
struct Shown<'a> {
    args: &'a ListArgs,
    /// How many more.
    left: u64,
    rows: Vec<Vec<String>>,
}

impl Shown<'_> {
    fn show(&mut self, schedule: &Value) -> anyhow::Result<()> {
        self.left = self.left.saturating_sub(1);
        if self.args.api.json {
            return print(&schedule.to_string());
        }
        self.rows.push(row(schedule));
        Ok(())
    }

    /// How many partitions are missing, and whether there are more schedules.
    fn ask_instance(&mut self) -> anyhow::Result<(usize, bool)> {
        let args = self.args;
        let mut cursor = None::<String>;
        loop {
            let mut parameters = vec![("limit", self.left.min(PAGE).to_string())];
            let due = |due: DueTime| due.epoch_ms().to_string();
            for (name, value) in [
                ("prefix", args.prefix.clone()),
                ("destination", args.destination.clone()),
                ("from", args.from.map(due)),
                ("to", args.until.map(due)),
                ("cursor", cursor),
            ] {
                parameters.extend(value.map(|value| (name, value)));
            }
            let page = args.api.get("/api/schedules", &parameters)?;
            for schedule in page["schedules"].as_array().into_iter().flatten() {
                self.show(schedule)?;
            }
            cursor = page["next_cursor"].as_str().map(str::to_owned);
            if cursor.is_none() || self.left == 0 {
                let missing = page["partitions"]["missing"].as_array().map_or(0, Vec::len);
                return Ok((missing, cursor.is_some()));
            }
        }
    }

    fn read_topic(&mut self) -> anyhow::Result<(usize, bool)> {
        let args = self.args;
        let prefix = args.prefix.as_deref().map(api::parse_id).transpose().map_err(UsageError)?;
        let wanted = Listing {
            from: ListCursor::default(),
            prefix: prefix.unwrap_or_default(),
            due_ms: args.from.map_or(i64::MIN, DueTime::epoch_ms)
                ..=args.until.map_or(i64::MAX, DueTime::epoch_ms),
            destination: args.destination.clone(),
            limit: usize::MAX,
        };
        let mut there_are_more = false;
        args.kafka.each(args.api.schedule_topic.clone(), |found, topic, partition| {
            if !wanted.wants(&found.id, found.due_ms, &found.topic) {
                return Ok(ControlFlow::Continue(()));
            }
            if self.left == 0 {
                there_are_more = true;
                return Ok(ControlFlow::Break(()));
            }
            self.show(&api::describe(found, topic, partition))?;
            Ok(ControlFlow::Continue(()))
        })?;
        Ok((0, there_are_more))
    }
}

fn head() -> Vec<String> {
    ["ID", "DUE", "TOPIC", "KEY", "STATE"].map(str::to_owned).to_vec()
}

fn row(schedule: &Value) -> Vec<String> {
    let field = |name: &str| schedule[name].as_str().unwrap_or_default().to_owned();
    let key = text::base64(&field("key")).map_or_else(|_| field("key"), |key| text::show_bytes(&key));
    let due = schedule["time"].as_i64().map_or_else(String::new, text::show_due);
    let topic = text::show_bytes(field("topic").as_bytes());
    vec![text::show_id(&field("id")), due, topic, key, field("state")]
}
