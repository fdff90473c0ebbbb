//! `kms stats` and `kms partitions`: how a running instance is.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::api::{AdminArgs, ApiArgs};
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
    admin: AdminArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
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
    let stats = args.admin.ask("GET", "/api/stats", None, &[], None)?;
    if args.json {
        print(&stats.to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    print(&table(&stats_rows(&stats), 1))?;
    for reason in stats["reasons"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        eprintln!("Not ready: {reason}.");
    }
    Ok(ExitCode::SUCCESS)
}

/// The figures, a row each. What is no figure of now is left to `--json`.
fn stats_rows(stats: &Value) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for (name, value) in stats.as_object().into_iter().flatten() {
        let shown = name.replace('_', " ");
        match (name.as_str(), value) {
            ("now" | "reasons" | "over_time", _) => {}
            ("due", Value::Array(windows)) => rows.extend(windows.iter().map(|window| {
                let within = window["within"].as_str().unwrap_or_default();
                let name =
                    if within == "later" { "due later".to_owned() } else { format!("due within {within}") };
                vec![name, window["count"].to_string()]
            })),
            (_, Value::Array(several)) => {
                let several: Vec<_> = several.iter().map(plain).collect();
                rows.push(vec![shown, several.join(", ")]);
            }
            (_, Value::Object(parts)) => {
                rows.extend(parts.iter().map(|(part, value)| vec![format!("{shown} {part}"), plain(value)]));
            }
            _ => rows.push(vec![shown, plain(value)]),
        }
    }
    rows
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
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
