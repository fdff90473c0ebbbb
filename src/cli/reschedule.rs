//! `kms reschedule` and `kms fire`: another due time for what is pending.

use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::api::{ApiArgs, schedule_path};
use super::print;
use super::when::When;

/// Give a pending schedule another due time
///
/// All else stays as it is. The running instance writes it in a verified transaction, so the answer is definite. Prints where:
/// topic-partition@offset.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kms reschedule order-17 --in 90m
  kms reschedule order-17 --at 2030-12-24T18:00:00+01:00 --json

Exit codes: 0 done; 1 it is not pending, or failed; 2 wrong usage.")]
pub(super) struct RescheduleArgs {
    /// The schedule's ID
    id: String,
    #[command(flatten)]
    when: When,
    #[command(flatten)]
    api: ApiArgs,
}

/// Make a pending schedule due now
///
/// Prints where that was written: topic-partition@offset.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kms fire order-17

Exit codes: 0 done; 1 it is not pending, or failed; 2 wrong usage.")]
pub(super) struct FireArgs {
    /// The schedule's ID
    id: String,
    #[command(flatten)]
    api: ApiArgs,
}

pub(super) fn execute(args: &RescheduleArgs) -> anyhow::Result<ExitCode> {
    let body = match (args.when.at, args.when.after) {
        (Some(at), _) => json!({ "time": at.epoch_ms() }),
        (None, after) => json!({ "in": format!("{}ms", after.unwrap_or_default().as_millis()) }),
    };
    show(&args.api, &args.api.post(&format!("{}/reschedule", schedule_path(&args.id)), &body)?)
}

pub(super) fn execute_fire(args: &FireArgs) -> anyhow::Result<ExitCode> {
    show(&args.api, &args.api.post(&format!("{}/fire", schedule_path(&args.id)), &json!({}))?)
}

fn show(api: &ApiArgs, done: &Value) -> anyhow::Result<ExitCode> {
    if api.json {
        print(&done.to_string())?;
    } else {
        let topic = done["schedule_topic"].as_str().unwrap_or_default();
        print(&format!("{topic}-{}@{}", done["partition"], done["offset"]))?;
    }
    Ok(ExitCode::SUCCESS)
}
