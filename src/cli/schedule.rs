//! `kms schedule`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde_json::json;

use super::when::When;
use super::{SettingsArgs, UsageError, print, text};
use crate::codec;
use crate::config::Settings;
use crate::kafka::connection::write;
use crate::schedule::{DueTime, Format, HeadersBuf, Schedule, is_legal_topic_name};

/// Schedule a message, or replace what is scheduled under the same ID
///
/// Prints where the schedule was written: topic-partition@offset.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kms schedule order-17 --in 90m --topic orders --key 17 --value '{\"late\":true}'
  kms schedule greeting --at 2030-12-24T18:00:00+01:00 --topic mails --key ann --value-file mail.html \\
      --header content-type=text/html
  kms schedule expiry-9 --in 30d --topic sessions --key 9 --null-value     a delete, at its time
  kms schedule order-17 --in 5m --topic orders --value x --schedule-topic json-schedules --json")]
pub(super) struct ScheduleArgs {
    /// The schedule's ID: what it is replaced and cancelled by
    id: String,
    #[command(flatten)]
    when: When,
    /// The topic to deliver to
    #[arg(long, value_name = "TOPIC")]
    topic: String,
    #[command(flatten)]
    key: Key,
    #[command(flatten)]
    value: Value,
    /// A header of the message; may be given more than once
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = text::pair)]
    headers: Vec<(String, String)>,
    #[command(flatten)]
    to: ScheduleTopicArgs,
    /// Format of the schedule [default: that of the list which has the schedule topic]
    #[arg(long, value_enum)]
    format: Option<FormatArg>,
    #[command(flatten)]
    settings: SettingsArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[group(multiple = false)]
struct Key {
    /// The message's key [default: empty]
    #[arg(id = "key", long = "key", value_name = "TEXT", allow_hyphen_values = true)]
    text: Option<String>,
    /// The message's key in base64
    #[arg(id = "key-base64", long = "key-base64", value_name = "BASE64")]
    base64: Option<String>,
    /// The message's key is what this file holds
    #[arg(id = "key-file", long = "key-file", value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Value {
    /// The message's value
    #[arg(id = "value", long = "value", value_name = "TEXT", allow_hyphen_values = true)]
    text: Option<String>,
    /// The message's value in base64
    #[arg(id = "value-base64", long = "value-base64", value_name = "BASE64")]
    base64: Option<String>,
    /// The message's value is what this file holds
    #[arg(id = "value-file", long = "value-file", value_name = "FILE")]
    file: Option<PathBuf>,
    /// The message's value is null: a delete, to a compacted topic
    #[arg(id = "null-value", long = "null-value")]
    null: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArg {
    Avro,
    Json,
}

/// Which schedule topic is meant.
#[derive(Debug, Args)]
pub(super) struct ScheduleTopicArgs {
    /// The schedule topic [default: the configured one, if there is only one]
    #[arg(long, value_name = "TOPIC")]
    pub(super) schedule_topic: Option<String>,
}

impl ScheduleTopicArgs {
    pub(super) fn choose(&self, settings: &Settings) -> anyhow::Result<String> {
        if let Some(topic) = &self.schedule_topic {
            return Ok(topic.clone());
        }
        settings.require_topics()?;
        let configured: Vec<&str> = settings.topics.iter().map(|(topic, _)| topic).collect();
        match configured.as_slice() {
            [only] => Ok((*only).to_owned()),
            several => {
                let several = several.join(", ");
                Err(UsageError(format!("choose one of the schedule topics with --schedule-topic: {several}"))
                    .into())
            }
        }
    }
}

pub(super) fn execute(args: &ScheduleArgs) -> anyhow::Result<ExitCode> {
    let settings = args.settings.load_for_command()?;
    let schedule_topic = args.to.choose(&settings)?;
    let format = match (args.format, settings.topics.format_of(&schedule_topic)) {
        (Some(FormatArg::Avro), _) | (None, Some(Format::Avro)) => Format::Avro,
        (Some(FormatArg::Json), _) | (None, Some(Format::Json)) => Format::Json,
        (None, None) => {
            let message = format!(
                "the format of `{schedule_topic}` is not known: it is neither in SCHEDULE_TOPICS (Avro) nor in JSON_SCHEDULE_TOPICS; set \
                 these, or say --format avro or json"
            );
            return Err(UsageError(message).into());
        }
    };
    if !is_legal_topic_name(&args.topic) {
        return Err(UsageError(format!("`{}` is no legal topic name", args.topic)).into());
    }
    if !settings.permits_destination(&args.topic) {
        tracing::warn!(
            "these settings do not allow `{}` as a destination: an instance with them sets it aside",
            args.topic
        );
    }
    let due = args.when.due()?;
    let key = args.key.bytes()?;
    let value = args.value.bytes()?;
    let headers: HeadersBuf = args.headers.iter().map(|(name, value)| (name, value)).collect();
    let schedule = Schedule {
        due,
        topic: &args.topic,
        key: &key,
        value: value.as_deref(),
        headers: headers.as_headers(),
    };
    let mut record = Vec::new();
    codec::encode(format, &schedule, &mut record);
    let written = write(&settings, &schedule_topic, args.id.as_bytes(), Some(&record))?;

    let (partition, offset) = (written.partition, written.offset);
    let at = text::show_moment(due.epoch_ms());
    if args.json {
        let shown = json!({
            "id": args.id, "time": due.epoch_ms(), "at": at,
            "schedule_topic": schedule_topic, "partition": partition, "offset": offset,
        });
        print(&shown.to_string())?;
    } else {
        print(&format!("{schedule_topic}-{partition}@{offset}  due {at}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

impl When {
    fn due(&self) -> anyhow::Result<DueTime> {
        match (self.at, self.after) {
            (Some(at), _) => Ok(at),
            (None, Some(after)) => {
                text::from_now(after).ok_or_else(|| UsageError("--in is too far in the future".into()).into())
            }
            (None, None) => unreachable!("one of them is required"),
        }
    }
}

impl Key {
    fn bytes(&self) -> anyhow::Result<Vec<u8>> {
        Ok(given(self.text.as_deref(), self.base64.as_deref(), self.file.as_ref(), "key")?
            .unwrap_or_default())
    }
}

impl Value {
    fn bytes(&self) -> anyhow::Result<Option<Vec<u8>>> {
        if self.null {
            return Ok(None);
        }
        given(self.text.as_deref(), self.base64.as_deref(), self.file.as_ref(), "value")
    }
}

/// The bytes of whichever of three ways was used.
fn given(
    plain: Option<&str>,
    base64: Option<&str>,
    file: Option<&PathBuf>,
    what: &str,
) -> anyhow::Result<Option<Vec<u8>>> {
    match (plain, base64, file) {
        (Some(plain), _, _) => Ok(Some(plain.into())),
        (_, Some(base64), _) => {
            Ok(Some(text::base64(base64).map_err(|why| UsageError(format!("--{what}-base64: {why}")))?))
        }
        (_, _, Some(path)) => {
            let read = std::fs::read(path);
            Ok(Some(read.with_context(|| format!("cannot read the {what} from {}", path.display()))?))
        }
        (None, None, None) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::{Cli, Command};
    use super::*;
    use clap::Parser;
    use std::time::Duration;

    fn parse(arguments: &[&str]) -> Result<ScheduleArgs, clap::Error> {
        let line = ["kms", "schedule", "id", "--topic", "t"].iter().chain(arguments);
        match Cli::try_parse_from(line)?.command {
            Some(Command::Schedule(args)) => Ok(*args),
            _ => panic!("not a schedule"),
        }
    }

    #[test]
    fn a_time_and_a_value_are_needed_once() {
        parse(&["--in", "90m", "--value", "v"]).unwrap();
        for wrong in [
            &["--value", "v"][..],
            &["--in", "90m"],
            &["--in", "90m", "--at", "2030-01-01T00:00:00Z", "--value", "v"],
            &["--in", "90m", "--value", "v", "--null-value"],
            &["--in", "90m", "--value", "v", "--key", "k", "--key-base64", "aw=="],
            &["--in", "90", "--value", "v"],
            &["--at", "2030-01-01", "--value", "v"],
            &["--in", "90m", "--value", "v", "--header", "novalue"],
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn the_due_time_is_the_moment_or_counted_from_now() {
        let at = parse(&["--at", "1970-01-01T00:00:02Z", "--null-value"]).unwrap();
        assert_eq!(at.when.due().unwrap().epoch_ms(), 2_000);
        let after = parse(&["--in", "1h", "--null-value"]).unwrap();
        let (earliest, due, latest) = (
            text::from_now(Duration::from_mins(59)).unwrap(),
            after.when.due().unwrap(),
            text::from_now(Duration::from_mins(61)).unwrap(),
        );
        assert!(earliest < due && due < latest);
        let never = parse(&["--in", "300000000years", "--null-value"]).unwrap();
        assert!(never.when.due().is_err());
    }

    #[test]
    fn keys_and_values_come_as_text_base64_or_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, [0, 255]).unwrap();
        let path = file.path().to_str().unwrap();
        let args = parse(&["--in", "1s", "--key-file", path, "--value-base64", "AP8"]).unwrap();
        assert_eq!(
            (args.key.bytes().unwrap(), args.value.bytes().unwrap()),
            (vec![0, 255], Some(vec![0, 255]))
        );
        let args = parse(&["--in", "1s", "--value", "-1"]).unwrap();
        assert_eq!((args.key.bytes().unwrap(), args.value.bytes().unwrap()), (vec![], Some(b"-1".to_vec())));
        let args = parse(&["--in", "1s", "--null-value"]).unwrap();
        assert_eq!(args.value.bytes().unwrap(), None);
        let args = parse(&["--in", "1s", "--value-base64", "?"]).unwrap();
        assert!(args.value.bytes().unwrap_err().is::<UsageError>());
    }

    #[test]
    fn the_only_schedule_topic_is_the_default() {
        use crate::config::Sources;
        let settings = |topics: &str| {
            let environment = vec![("SCHEDULE_TOPICS".to_owned(), topics.to_owned())];
            Settings::load(&Sources { environment, ..Sources::default() }).unwrap().settings
        };
        let unsaid = ScheduleTopicArgs { schedule_topic: None };
        assert_eq!(unsaid.choose(&settings("a")).unwrap(), "a");
        assert!(unsaid.choose(&settings("a,b")).unwrap_err().to_string().contains("a, b"));
        let said = ScheduleTopicArgs { schedule_topic: Some("c".into()) };
        assert_eq!(said.choose(&settings("a,b")).unwrap(), "c");
    }
}
