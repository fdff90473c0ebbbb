//! `kms tail`

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::anyhow;
use clap::Args;
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as KafkaHeaders, Message};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Map, Value, json};

use super::{SettingsArgs, text};
use crate::kafka::client::Isolation;
use crate::kafka::connection::reader;
use crate::kafka::troubles::is_unreachable;

/// Show the records of a topic as they arrive
///
/// Each line: time of the record, topic-partition@offset, key, value, headers. Where the header kms-due is present
/// (output.headers = true), also how late the record was sent.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  kms tail orders                                   what arrives from now on, until Ctrl-C
  kms tail orders --from-beginning --count 10
  kms tail orders --json | jq .lateness_ms

Bytes that are not text are shown as base64:… ; in JSON the fields are then called key_base64 and value_base64.")]
pub(super) struct TailArgs {
    /// The topic
    topic: String,
    /// Begin with the oldest record instead of the next one
    #[arg(long)]
    from_beginning: bool,
    /// Show records of open and aborted transactions too
    #[arg(long)]
    uncommitted: bool,
    /// Stop after so many records
    #[arg(long, value_name = "N")]
    count: Option<u64>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    settings: SettingsArgs,
}

pub(super) fn execute(args: &TailArgs) -> anyhow::Result<ExitCode> {
    let settings = args.settings.load_for_command()?;
    let isolation = if args.uncommitted { Isolation::ReadUncommitted } else { Isolation::ReadCommitted };
    let (reader, quiet, partitions) = reader(&settings, isolation, &args.topic)?;
    let mut from = TopicPartitionList::new();
    for partition in 0..partitions {
        let offset = if args.from_beginning { Offset::Beginning } else { Offset::End };
        from.add_partition_offset(&args.topic, partition, offset)?;
    }
    reader.assign(&from)?;

    let mut out = std::io::stdout().lock();
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut said = String::new();
    while left > 0 {
        match reader.poll(Duration::from_secs(1)) {
            None | Some(Err(KafkaError::PartitionEOF(_))) => {}
            // Connections that come and go are for librdkafka to mend.
            Some(Err(error)) if is_unreachable(&error) => {
                let trouble = quiet.explain(&settings, &error).to_string();
                // librdkafka tells of the same trouble with more and with fewer words before it.
                let what = trouble.rsplit(": ").next().unwrap_or_default();
                if what != said {
                    tracing::warn!("{trouble}");
                    what.clone_into(&mut said);
                }
            }
            Some(Err(error)) => return Err(anyhow!("reading `{}` failed: {error}", args.topic)),
            Some(Ok(message)) => {
                said.clear();
                let line = if args.json { as_json(&message) } else { as_text(&message) };
                let written = writeln!(out, "{line}").and_then(|()| out.flush());
                if written.is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
                    break;
                }
                left -= 1;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn headers<'a>(message: &'a BorrowedMessage<'_>) -> Vec<(&'a str, Option<&'a [u8]>)> {
    let headers = message.headers().into_iter().flat_map(KafkaHeaders::iter);
    headers.map(|header| (header.key, header.value)).collect()
}

/// How long after its due time the record was sent.
fn lateness_ms(headers: &[(&str, Option<&[u8]>)], sent_ms: Option<i64>) -> Option<i64> {
    let (_, due) = headers.iter().find(|(name, _)| *name == "kms-due")?;
    let due = std::str::from_utf8((*due)?).ok()?;
    let due_ms = due.parse().ok().or_else(|| Some(text::moment(due).ok()?.epoch_ms()))?;
    sent_ms?.checked_sub(due_ms)
}

fn as_text(message: &BorrowedMessage<'_>) -> String {
    let sent_ms = message.timestamp().to_millis();
    let headers = headers(message);
    let show = |bytes: Option<&[u8]>| bytes.map_or_else(|| "null".into(), text::show_bytes);
    let mut line = format!(
        "{}  {}-{}@{}  {} = {}",
        sent_ms.map_or_else(|| "-".into(), text::show_moment),
        message.topic(),
        message.partition(),
        message.offset(),
        show(message.key()),
        show(message.payload()),
    );
    for (name, value) in &headers {
        for part in ["  ", &text::show_bytes(name.as_bytes()), ": ", &show(*value)] {
            line.push_str(part);
        }
    }
    match lateness_ms(&headers, sent_ms) {
        Some(late) => format!("{line}  ({late} ms late)"),
        None => line,
    }
}

fn as_json(message: &BorrowedMessage<'_>) -> String {
    let sent_ms = message.timestamp().to_millis();
    let headers = headers(message);
    let mut object = Map::new();
    object.insert("timestamp".into(), json!(sent_ms));
    object.insert("topic".into(), json!(message.topic()));
    object.insert("partition".into(), json!(message.partition()));
    object.insert("offset".into(), json!(message.offset()));
    insert_bytes(&mut object, "key", message.key());
    insert_bytes(&mut object, "value", message.payload());
    let each = headers.iter().map(|(name, value)| {
        let mut header = Map::new();
        header.insert("name".into(), json!(name));
        insert_bytes(&mut header, "value", *value);
        Value::Object(header)
    });
    object.insert("headers".into(), each.collect());
    if let Some(late) = lateness_ms(&headers, sent_ms) {
        object.insert("lateness_ms".into(), json!(late));
    }
    Value::Object(object).to_string()
}

/// Text as text, null as null, other bytes under another name.
fn insert_bytes(object: &mut Map<String, Value>, name: &str, bytes: Option<&[u8]>) {
    match bytes.map(|bytes| std::str::from_utf8(bytes).map_err(|_| bytes)) {
        None => object.insert(name.into(), Value::Null),
        Some(Ok(text)) => object.insert(name.into(), json!(text)),
        Some(Err(bytes)) => object.insert(format!("{name}_base64"), json!(text::to_base64(bytes))),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_is_known_from_the_due_header() {
        let late = |due: &[u8], sent_ms| lateness_ms(&[("x", None), ("kms-due", Some(due))], sent_ms);
        assert_eq!(late(b"1500", Some(1_700)), Some(200));
        assert_eq!(late(b"1970-01-01T00:00:01.5Z", Some(1_700)), Some(200));
        assert_eq!(late(b"soon", Some(1_700)), None);
        assert_eq!(late(b"1500", None), None);
        assert_eq!(late(b"-9223372036854775808", Some(i64::MAX)), None);
        assert_eq!(lateness_ms(&[("x", Some(b"1500"))], Some(1_700)), None);
    }

    #[test]
    fn bytes_that_are_no_text_get_another_name() {
        let mut object = Map::new();
        insert_bytes(&mut object, "a", None);
        insert_bytes(&mut object, "b", Some(b"text"));
        insert_bytes(&mut object, "c", Some(&[0xff]));
        assert_eq!(Value::Object(object), json!({"a": null, "b": "text", "c_base64": "/w=="}));
    }
}
