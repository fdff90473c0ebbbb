//! `kms cancel`

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::connection::write;
use super::schedule::ScheduleTopicArgs;
use super::{SettingsArgs, print};

/// Cancel a schedule by its ID
///
/// Writes a null value under the ID, which any instance takes for a cancel, and prints where:
/// topic-partition@offset. Whether the schedule was still pending is not known to this command.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kms cancel order-17
  kms cancel order-17 --schedule-topic json-schedules --json")]
pub(super) struct CancelArgs {
    /// The schedule's ID
    id: String,
    #[command(flatten)]
    to: ScheduleTopicArgs,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(args: &CancelArgs) -> anyhow::Result<ExitCode> {
    let settings = args.settings.load_for_command()?;
    let topic = args.to.choose(&settings)?;
    let written = write(&settings, &topic, args.id.as_bytes(), None)?;
    let (partition, offset) = (written.partition, written.offset);
    if args.json {
        let shown =
            json!({ "id": args.id, "schedule_topic": topic, "partition": partition, "offset": offset });
        print(&shown.to_string())?;
    } else {
        print(&format!("{topic}-{partition}@{offset}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
