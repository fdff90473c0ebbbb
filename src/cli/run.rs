//! `kms run`

use std::process::ExitCode;

use clap::Args;

use super::{SettingsArgs, print, text};
use crate::config::{Loaded, Notice};
use crate::instance::{self, RunOptions};
use crate::kafka::connection::reach;
use crate::schedule::DueTime;
use crate::telemetry;

/// Run the scheduler (the default)
///
/// Loads the schedule topics and delivers what is due, until it is told to stop (SIGTERM, Ctrl-C).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  SCHEDULE_TOPICS=schedules kms run
  kms run --config prod.toml
  kms run --print-config                            what the settings come to
  kms run --dry-run                                 what is pending, without delivering anything
  kms run --skip-overdue-before 2030-01-01T00:00:00Z

Exit codes: 0 stopped when told to; 1 failed; 2 wrong settings.")]
pub(super) struct RunArgs {
    #[command(flatten)]
    pub(super) settings: SettingsArgs,
    /// Load and report, deliver nothing, write nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Remove schedules due before this moment instead of delivering them late
    #[arg(long, value_name = "RFC3339", value_parser = text::moment)]
    skip_overdue_before: Option<DueTime>,
    /// Print the settings as they are after file, environment and flags, secrets masked, and exit
    #[arg(long)]
    print_config: bool,
}

pub(super) fn execute(args: &RunArgs) -> anyhow::Result<ExitCode> {
    let Loaded { settings, notices } = args.settings.load()?;
    if args.print_config {
        for notice in &notices {
            if let Notice::Warning(text) = notice {
                eprintln!("kms: warning: {text}");
            }
        }
        print(&settings.print_masked())?;
        return Ok(ExitCode::SUCCESS);
    }
    settings.require_topics()?;
    telemetry::start_log(&settings.logging);
    for notice in notices {
        match notice {
            Notice::Info(text) => tracing::info!("{text}"),
            Notice::Warning(text) => tracing::warn!("{text}"),
        }
    }
    if args.dry_run {
        reach(&settings)?;
    }
    let options = RunOptions {
        dry_run: args.dry_run,
        skip_overdue_before: args.skip_overdue_before,
        ..RunOptions::default()
    };
    instance::run(settings, options)?;
    Ok(ExitCode::SUCCESS)
}
