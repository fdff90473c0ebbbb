//! `kms cancel`

use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::api::AdminArgs;
use super::cancel_many::{self, ManyArgs};
use super::schedule::ScheduleTopicArgs;
use super::{SettingsArgs, UsageError, print};
use crate::admin::api::parse_id;
use crate::kafka::connection::write;

/// Cancel a schedule by its ID, or many by what they have in common
///
/// With an ID it writes a null value under the ID, which any instance takes for a cancel, and prints where:
/// topic-partition@offset. Whether the schedule was still pending is not known to this command.
///
/// With --prefix, --destination, --from, --until or --ids-from it asks a running instance (--admin), and not the brokers: first how many match, then, unless
/// told that it need not ask, whether to go on; and says how many were cancelled.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kms cancel order-17
  kms cancel order-17 --schedule-topic json-schedules --json
  kms cancel '~_w'                                          an ID that is no text, as `kms list` shows it
  kms cancel --prefix cart- --dry-run                       how many would that be?
  kms cancel --prefix cart- --until 2030-12-24T18:00:00Z    asks before it does
  kms cancel --ids-from ids.txt --yes                       one ID a line, and no question

Exit codes: 0 done; 1 failed, stopped, or not all could be looked at; 2 wrong usage.")]
pub(super) struct CancelArgs {
    /// The schedule's ID
    #[arg(required_unless_present = "many", conflicts_with = "many")]
    id: Option<String>,
    #[command(flatten)]
    many: ManyArgs,
    #[command(flatten)]
    to: ScheduleTopicArgs,
    #[command(flatten)]
    settings: SettingsArgs,
    #[command(flatten)]
    admin: AdminArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(args: &CancelArgs) -> anyhow::Result<ExitCode> {
    let Some(id) = &args.id else {
        return cancel_many::execute(&args.many, &args.admin, args.to.schedule_topic.as_deref(), args.json);
    };
    let settings = args.settings.load_for_command()?;
    let topic = args.to.choose(&settings)?;
    let written = write(&settings, &topic, &parse_id(id).map_err(UsageError)?, None)?;
    let (partition, offset) = (written.partition, written.offset);
    if args.json {
        let shown = json!({ "id": id, "schedule_topic": topic, "partition": partition, "offset": offset });
        print(&shown.to_string())?;
    } else {
        print(&format!("{topic}-{partition}@{offset}"))?;
    }
    Ok(ExitCode::SUCCESS)
}
