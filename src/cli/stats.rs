//! `kms stats` and `kms partitions`: how a running instance is.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::api::ApiArgs;
use super::print;
use super::table::table;

/// Show how much is pending on a running instance, due how soon, and what it did since its start
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kms stats
  kms stats --json

Exit codes: 0 done; 1 failed; 2 wrong usage.")]
pub(super) struct StatsArgs {
    #[command(flatten)]
    api: ApiArgs,
}

/// Show the partitions of a schedule topic that a running instance owns
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kms partitions
  kms partitions --schedule-topic json-schedules --json

Exit codes: 0 done; 1 failed; 2 wrong usage.")]
pub(super) struct PartitionsArgs {
    #[command(flatten)]
    api: ApiArgs,
}

pub(super) fn execute(args: &StatsArgs) -> anyhow::Result<ExitCode> {
    let stats = args.api.get("/api/stats", &[])?;
    if args.api.json {
        print(&stats.to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = Vec::new();
    for (name, value) in stats.as_object().into_iter().flatten() {
        match value.as_array() {
            Some(windows) => rows.extend(windows.iter().map(|window| {
                let within = window["within"].as_str().unwrap_or_default();
                let name =
                    if within == "later" { "due later".to_owned() } else { format!("due within {within}") };
                vec![name, window["count"].to_string()]
            })),
            None => rows.push(vec![name.replace('_', " "), value.to_string()]),
        }
    }
    print(&table(&rows, 1))?;
    Ok(ExitCode::SUCCESS)
}

pub(super) fn execute_partitions(args: &PartitionsArgs) -> anyhow::Result<ExitCode> {
    let answer = args.api.get("/api/partitions", &[])?;
    if args.api.json {
        print(&answer.to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    let head = ["PARTITION", "PHASE", "PENDING", "SET ASIDE", "OVERDUE, MS", "APPLIED", "TO APPLY", "BYTES"];
    let mut rows = vec![head.map(str::to_owned).to_vec()];
    for partition in answer["partitions"].as_array().into_iter().flatten() {
        let bytes = ["payload_bytes", "structure_bytes"]
            .iter()
            .filter_map(|name| partition[*name].as_i64())
            .sum::<i64>();
        let mut row = vec![
            partition["partition"].to_string(),
            partition["phase"].as_str().unwrap_or_default().to_owned(),
        ];
        let figures = ["pending", "set_aside", "oldest_overdue_ms", "records_applied", "records_to_apply"];
        row.extend(figures.iter().map(|name| partition[*name].to_string()));
        row.push(bytes.to_string());
        rows.push(row);
    }
    print(&table(&rows, 2))?;
    let not_owned: Vec<String> =
        answer["not_owned"].as_array().into_iter().flatten().map(Value::to_string).collect();
    if !not_owned.is_empty() {
        eprintln!("Not this instance's: {}", not_owned.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}
