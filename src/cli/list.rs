//! `kms list`

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::api::ApiArgs;
use super::table::table;
use super::{print, text};
use crate::schedule::DueTime;

/// List what is pending on a running instance, in no particular order
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kms list                                        the first 100
  kms list --prefix cart- --limit 1000
  kms list --destination reminders --until 2030-12-24T18:00:00+01:00
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
    #[arg(long, value_name = "RFC3339", value_parser = text::moment, allow_hyphen_values = true)]
    from: Option<DueTime>,
    /// Only those due at this moment or earlier
    #[arg(long, value_name = "RFC3339", value_parser = text::moment, allow_hyphen_values = true)]
    until: Option<DueTime>,
    /// So many at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// However many there are
    #[arg(long, conflicts_with = "limit")]
    all: bool,
    #[command(flatten)]
    api: ApiArgs,
}

/// Schedules in a page.
const PAGE: u64 = 1_000;

pub(super) fn execute(args: &ListArgs) -> anyhow::Result<ExitCode> {
    let mut left = if args.all { u64::MAX } else { args.limit };
    let mut rows = vec![["ID", "DUE", "TOPIC", "KEY", "STATE"].map(str::to_owned).to_vec()];
    let mut cursor = None::<String>;
    let missing = loop {
        let mut parameters = vec![("limit", left.min(PAGE).to_string())];
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
        let schedules = page["schedules"].as_array().map_or(&[][..], Vec::as_slice);
        left = left.saturating_sub(schedules.len() as u64);
        for schedule in schedules {
            if args.api.json {
                print(&schedule.to_string())?;
            } else {
                rows.push(row(schedule));
            }
        }
        cursor = page["next_cursor"].as_str().map(str::to_owned);
        if cursor.is_none() || left == 0 {
            break page["partitions"]["missing"].as_array().map_or(0, Vec::len);
        }
    };
    if !args.api.json {
        print(&table(&rows, rows[0].len()))?;
        if cursor.is_some() {
            eprintln!("There are more: --limit or --all gives them.");
        }
    }
    if missing > 0 {
        eprintln!("{missing} partitions are not this instance's, or not live: what they have is not listed.");
    }
    Ok(ExitCode::SUCCESS)
}

fn row(schedule: &Value) -> Vec<String> {
    let field = |name: &str| schedule[name].as_str().unwrap_or_default().to_owned();
    let key = text::base64(&field("key")).map_or_else(|_| field("key"), |key| text::show_bytes(&key));
    let due = schedule["time"].as_i64().map_or_else(String::new, text::show_moment);
    vec![text::show_bytes(field("id").as_bytes()), due, field("topic"), key, field("state")]
}
