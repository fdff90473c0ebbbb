//! `kms topics`

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::json;

use super::{SettingsArgs, print};
use crate::config::Settings;
use crate::kafka::connection::{Quiet, TIMEOUT, reach};
use crate::kafka::topics::{Finding, Severity, TopicAdmin, TopicsError};

/// Check or create the schedule topics
#[derive(Debug, Args)]
pub(super) struct TopicsArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Compare the configuration of the schedule topics with what is recommended
    #[command(after_help = "\
Examples:
  kms topics check
  kms topics check --json | jq '.[] | select(.severity == \"critical\")'

Exit codes: 0 all well, or only advice; 1 a warning or worse, or failed; 2 wrong usage or settings.")]
    Check(ActionArgs),
    /// Create the schedule topics that are missing, as recommended
    #[command(after_help = "\
Examples:
  SCHEDULE_TOPICS=schedules kms topics create
  kms topics create --set topics.partitions=24 --set topics.replication_factor=3

Topics that exist are left as they are: see `kms topics check`.")]
    Create(ActionArgs),
}

#[derive(Debug, Args)]
struct ActionArgs {
    #[command(flatten)]
    settings: SettingsArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(args: &TopicsArgs) -> anyhow::Result<ExitCode> {
    match &args.action {
        Action::Check(args) => {
            let findings = ask(args, TopicAdmin::check)?;
            show_findings(&findings, args.json)?;
            let well = findings.iter().all(|finding| finding.severity == Severity::Advice);
            Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Action::Create(args) => {
            let created = ask(args, TopicAdmin::create)?;
            if args.json {
                print(&json!({ "created": created }).to_string())?;
            } else if created.is_empty() {
                print("all schedule topics exist")?;
            } else {
                print(&format!("created {}", created.join(", ")))?;
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Puts one question to the cluster.
fn ask<T>(
    args: &ActionArgs,
    question: fn(&TopicAdmin<Quiet>, &Settings) -> Result<T, TopicsError>,
) -> anyhow::Result<T> {
    let settings = args.settings.load_for_command()?;
    settings.require_topics()?;
    reach(&settings)?;
    let quiet = Quiet::default();
    let answer =
        TopicAdmin::new(&settings, quiet.clone(), TIMEOUT).and_then(|admin| question(&admin, &settings));
    answer.map_err(|error| match error {
        TopicsError::Request(source) => quiet.explain(&settings, &source),
        other => other.into(),
    })
}

fn show_findings(findings: &[Finding], json: bool) -> anyhow::Result<()> {
    if json {
        return print(&serde_json::to_string_pretty(findings)?);
    }
    for finding in findings {
        let mark = match finding.severity {
            Severity::Critical => "CRITICAL",
            Severity::Warning => "warning ",
            Severity::Advice => "advice  ",
        };
        print(&format!("{mark}  {finding}"))?;
    }
    if findings.is_empty() {
        print("all schedule topics are as recommended")?;
    }
    Ok(())
}
