//! The command line: one file a subcommand.

mod api;
mod bench;
mod cancel;
mod cancel_many;
mod completions;
mod demo;
mod from_kafka;
mod get;
mod list;
mod reschedule;
mod run;
mod schedule;
mod schema;
mod stats;
mod table;
mod tail;
mod text;
mod top;
mod topics;
mod when;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::LazyLock;

use clap::{Args, Parser, Subcommand};

use crate::admin::ServeError;
use crate::config::{ConfigError, Loaded, Notice, Settings, Sources};
use crate::kafka::client::ClientError;
use crate::kafka::topics::TopicsError;
use crate::telemetry;
use crate::version::Version;

/// Delivers messages to Kafka topics at a chosen time, exactly once.
#[derive(Debug, Parser)]
#[command(
    name = "kms",
    version = VERSION.as_str(),
    args_conflicts_with_subcommands = true,
    after_help = "\
Without a command, kms runs (see `kms run --help`).

Examples:
  kms demo                                          see it at work, without a Kafka
  SCHEDULE_TOPICS=schedules kms                     run with the Avro topic `schedules`
  kms --config prod.toml                            run with the settings of a file
  kms topics check                                  are the schedule topics as they should be?
  kms schedule order-17 --in 90m --topic orders --key 17 --value late
  kms cancel order-17
  kms cancel --prefix cart-                         many of them; it asks first
  kms top                                           a running instance, live
  kms list --prefix order-                          what is pending on a running instance
  kms tail orders                                   watch what is delivered
  kms bench fire                                    how fast, beside raw librdkafka?

Settings: kms.toml, environment, flags; `kms run --print-config` shows the result.

Exit codes: 0 done; 1 failed, or a check found something; 2 wrong usage or settings."
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    run: run::RunArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Demo(demo::DemoArgs),
    Schedule(Box<schedule::ScheduleArgs>),
    Cancel(cancel::CancelArgs),
    List(list::ListArgs),
    Get(get::GetArgs),
    Reschedule(reschedule::RescheduleArgs),
    Fire(reschedule::FireArgs),
    Stats(stats::StatsArgs),
    Partitions(stats::PartitionsArgs),
    Tail(tail::TailArgs),
    Top(top::TopArgs),
    Topics(topics::TopicsArgs),
    Bench(Box<bench::BenchArgs>),
    Schema(schema::SchemaArgs),
    Completions(completions::CompletionsArgs),
}

/// Runs the command that the process was called with.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    match execute(cli) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("kms: {}", sentence(&error));
            exit_code(&error)
        }
    }
}

fn execute(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command.unwrap_or(Command::Run(cli.run)) {
        Command::Run(args) => run::execute(&args),
        Command::Demo(args) => demo::execute(&args),
        Command::Schedule(args) => schedule::execute(&args),
        Command::Cancel(args) => cancel::execute(&args),
        Command::List(args) => list::execute(&args),
        Command::Get(args) => get::execute(&args),
        Command::Reschedule(args) => reschedule::execute(&args),
        Command::Fire(args) => reschedule::execute_fire(&args),
        Command::Stats(args) => stats::execute(&args),
        Command::Partitions(args) => stats::execute_partitions(&args),
        Command::Tail(args) => tail::execute(&args),
        Command::Top(args) => top::execute(&args),
        Command::Topics(args) => topics::execute(&args),
        Command::Bench(args) => bench::execute(&args),
        Command::Schema(args) => schema::execute(&args),
        Command::Completions(args) => completions::execute(&args),
    }
}

/// A request that cannot be carried out as it was put: exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct UsageError(String);

fn exit_code(error: &anyhow::Error) -> ExitCode {
    let is_usage = error.chain().any(|cause| {
        let topics = cause.downcast_ref();
        cause.is::<UsageError>()
            || cause.is::<ConfigError>()
            || cause.is::<ClientError>()
            || matches!(cause.downcast_ref(), Some(ServeError::Tls { .. }))
            || matches!(topics, Some(TopicsError::Client(_) | TopicsError::IllegalName(_)))
    });
    if is_usage { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// An error with its causes, each said once: some sentences hold their cause already.
fn sentence(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| {
        if said.is_empty() {
            cause
        } else if said.contains(&cause) {
            said
        } else {
            format!("{said}: {cause}")
        }
    })
}

/// Prints `text` and a line end. Nobody left to read it is no failure.
fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Where the settings come from: the same for every command that needs them.
#[derive(Debug, Args)]
struct SettingsArgs {
    /// Settings file [default: ./kms.toml if there is one]
    #[arg(long, value_name = "FILE", env = "KMS_CONFIG")]
    config: Option<PathBuf>,
    /// Kafka brokers, separated by commas (the setting kafka.brokers)
    #[arg(long, value_name = "HOST:PORT,…")]
    brokers: Option<String>,
    #[arg(long = "set", help = "Any setting by its key, for example --set batch.max_count=500", value_name = "KEY=VALUE", value_parser = text::pair)]
    settings: Vec<(String, String)>,
}

impl SettingsArgs {
    fn load(&self) -> Result<Loaded, ConfigError> {
        let brokers = self.brokers.iter().map(|brokers| ("kafka.brokers".to_owned(), brokers.clone()));
        let flags = self.settings.iter().cloned().chain(brokers).collect();
        Settings::load(&Sources::of_process(self.config.clone(), flags))
    }

    /// Settings for a command that does one thing and ends: only what may be a mistake is worth a line.
    fn load_for_command(&self) -> Result<Settings, ConfigError> {
        let Loaded { settings, notices } = self.load()?;
        telemetry::start_log(&settings.logging);
        for notice in notices {
            if let Notice::Warning(warning) = notice {
                tracing::warn!("{warning}");
            }
        }
        Ok(settings)
    }
}

/// What `--version` says.
static VERSION: LazyLock<String> = LazyLock::new(|| {
    let version = Version::current();
    let commit = version.commit.map(|commit| format!(", commit {commit}")).unwrap_or_default();
    format!("{} (librdkafka {}{commit})", version.version, version.librdkafka)
});

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_explains_itself_with_examples() {
        let mut commands: Vec<clap::Command> = Cli::command().get_subcommands().cloned().collect();
        while let Some(command) = commands.pop() {
            let name = command.get_name();
            assert!(command.get_about().is_some(), "{name}");
            if command.has_subcommands() {
                commands.extend(command.get_subcommands().cloned());
            } else {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                assert!(help.contains("Example"), "{name}");
            }
        }
    }

    #[test]
    fn run_is_what_happens_without_a_command() {
        let cli = Cli::try_parse_from(["kms", "--set", "batch.max_count=5", "--dry-run"]).unwrap();
        assert!(cli.command.is_none() && cli.run.dry_run);
        assert_eq!(cli.run.settings.settings, [("batch.max_count".into(), "5".into())]);
        let cli = Cli::try_parse_from(["kms", "run", "--brokers", "k:1"]).unwrap();
        let Some(Command::Run(run)) = cli.command else { panic!("not run") };
        assert_eq!(run.settings.brokers.as_deref(), Some("k:1"));
    }

    #[test]
    fn wrong_settings_and_wrong_usage_exit_with_two() {
        let code = |error: anyhow::Error| format!("{:?}", exit_code(&error));
        let two = format!("{:?}", ExitCode::from(2));
        assert_eq!(code(ConfigError::NoTopics.into()), two);
        assert_eq!(code(UsageError("x".into()).into()), two);
        assert_eq!(code(anyhow::Error::from(ConfigError::NoTopics).context("while starting")), two);
        let property = ClientError::Property { client: "consumer", why: "x".into() };
        assert_eq!(code(TopicsError::Client(property).into()), two);
        assert_eq!(code(TopicsError::IllegalName("a b".into()).into()), two);
        assert_eq!(code(anyhow::anyhow!("x")), format!("{:?}", ExitCode::from(1)));
    }

    #[test]
    fn an_error_is_said_with_its_causes_once() {
        let missing = std::fs::read("/nonexistent").unwrap_err();
        let error = ConfigError::Read { path: "/nonexistent".into(), source: missing };
        let said = sentence(&anyhow::Error::from(error).context("cannot start"));
        assert!(said.starts_with("cannot start: cannot read the settings file /nonexistent: "), "{said}");
        assert_eq!(said.matches("No such file").count(), 1, "{said}");
    }
}
