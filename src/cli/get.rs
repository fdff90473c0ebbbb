//! `kms get`

use std::process::ExitCode;

use clap::Args;

use super::api::{ApiArgs, schedule_path};
use super::from_kafka::FromKafkaArgs;
use super::table::table;
use super::{print, text};

/// Show a pending schedule
///
/// Asks a running instance (--admin), or with --from-kafka reads the schedule topic itself (--brokers and the other settings).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kms get order-17
  kms get order-17 --json
  kms get order-17 --from-kafka --brokers kafka:9092
  kms get '~_w'              an ID that is no text: ~ and its URL-safe base64, as `kms list` shows it

Exit codes: 0 done; 1 it is not pending, or failed; 2 wrong usage.")]
pub(super) struct GetArgs {
    /// The schedule's ID
    id: String,
    #[command(flatten)]
    api: ApiArgs,
    #[command(flatten)]
    kafka: FromKafkaArgs,
}

pub(super) fn execute(args: &GetArgs) -> anyhow::Result<ExitCode> {
    let schedule = if args.kafka.from_kafka {
        args.kafka.find(args.api.schedule_topic.clone(), &args.id)?
    } else {
        args.api.get(&schedule_path(&args.id), &[])?
    };
    if args.api.json {
        print(&schedule.to_string())?;
        return Ok(ExitCode::SUCCESS);
    }
    let field = |name: &str| schedule[name].as_str().unwrap_or_default().to_owned();
    let bytes = |base64: &str| {
        text::base64(base64).map_or_else(|_| base64.to_owned(), |bytes| text::show_bytes(&bytes))
    };
    let mut rows = vec![
        vec!["ID".to_owned(), text::show_id(&field("id"))],
        vec!["due".to_owned(), schedule["time"].as_i64().map_or_else(String::new, text::show_due)],
        vec!["state".to_owned(), field("state")],
        vec!["topic".to_owned(), text::show_bytes(field("topic").as_bytes())],
        vec!["key".to_owned(), bytes(&field("key"))],
        vec!["value".to_owned(), schedule["value"].as_str().map_or_else(|| "null".to_owned(), bytes)],
    ];
    for (name, value) in schedule["headers"].as_object().into_iter().flatten() {
        let value = value.as_str().map_or_else(|| "null".to_owned(), bytes);
        rows.push(vec!["header".to_owned(), format!("{} = {value}", text::show_bytes(name.as_bytes()))]);
    }
    let place = format!("{}-{}@{}", field("schedule_topic"), schedule["partition"], schedule["offset"]);
    rows.push(vec!["written at".to_owned(), place]);
    print(&table(&rows, 2))?;
    Ok(ExitCode::SUCCESS)
}
