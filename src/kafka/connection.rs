//! Talking to Kafka once: clients that keep quiet, and whose silence is turned into a sentence.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use rdkafka::client::ClientContext;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer, ProducerContext};

use super::client::{self, Isolation};
use crate::config::Settings;

/// How long a command waits for Kafka.
pub const TIMEOUT: Duration = Duration::from_secs(10);

/// Keeps what librdkafka complains about, for the one sentence that a failed command prints.
#[derive(Clone, Debug, Default)]
pub struct Quiet {
    last_complaint: Arc<Mutex<Option<String>>>,
}

impl Quiet {
    /// `error` as a sentence: when it is only that no answer came, with what librdkafka said last.
    pub fn explain(&self, settings: &Settings, error: &KafkaError) -> anyhow::Error {
        let brokers = &settings.kafka.brokers;
        let complaint = self.last_complaint.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let code = match error {
            KafkaError::AdminOp(code) => Some(*code),
            other => other.rdkafka_error_code(),
        };
        match (code, complaint) {
            (Some(code), Some(complaint)) if is_silence(code) => {
                anyhow!("no answer from {brokers}: {complaint}")
            }
            (Some(code), None) if is_silence(code) => {
                anyhow!(
                    "no answer from {brokers} within {} s: are address and security protocol right?",
                    TIMEOUT.as_secs()
                )
            }
            _ => anyhow!("{brokers} refused: {error}"),
        }
    }
}

fn is_silence(code: RDKafkaErrorCode) -> bool {
    use RDKafkaErrorCode as Code;
    matches!(
        code,
        Code::BrokerTransportFailure
            | Code::AllBrokersDown
            | Code::OperationTimedOut
            | Code::RequestTimedOut
            | Code::MessageTimedOut
            | Code::Resolve
    )
}

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        tracing::debug!("librdkafka {facility}: {message}");
        // As in syslog, the lower the graver.
        if level as i32 <= RDKafkaLogLevel::Warning as i32 {
            // The message begins with the thread and the broker in its own notation: "[thrd:…]: broker: what".
            let complaint = message.split_once("]: ").map_or(message, |(_, rest)| rest);
            let complaint = complaint.split_once(": ").map_or(complaint, |(_, rest)| rest);
            let complaint = complaint.split_once(" (after ").map_or(complaint, |(what, _)| what);
            *self.last_complaint.lock().unwrap_or_else(PoisonError::into_inner) = Some(complaint.into());
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!("librdkafka: {error}: {reason}");
    }
}

impl ConsumerContext for Quiet {}

/// A client of any kind, and the context that explains its errors.
pub fn connect<C: FromClientConfigAndContext<Quiet>>(
    settings: &Settings,
    config: &rdkafka::ClientConfig,
) -> anyhow::Result<(C, Quiet)> {
    let quiet = Quiet::default();
    let client =
        config.create_with_context(quiet.clone()).map_err(|error| quiet.explain(settings, &error))?;
    Ok((client, quiet))
}

/// Makes sure that a broker answers, or says why none does.
pub fn reach(settings: &Settings) -> anyhow::Result<()> {
    let (reader, quiet): (Reader, _) =
        connect(settings, &client::reader(settings, Isolation::ReadCommitted)?)?;
    // The answer is small as long as it is about one topic, any one.
    partitions_of(&reader, &quiet, settings, "kms").map(drop)
}

/// A reader that assigns itself partitions, and how many `topic` has. The topic must exist; asking does not create it.
pub fn reader(
    settings: &Settings,
    isolation: Isolation,
    topic: &str,
) -> anyhow::Result<(Reader, Quiet, i32)> {
    let mut config = client::reader(settings, isolation)?;
    // Never joined, nothing is committed to it: librdkafka only wants a group before it assigns partitions.
    config.set("group.id", &settings.kafka.group_id);
    let (reader, quiet): (Reader, _) = connect(settings, &config)?;
    match partitions_of(&reader, &quiet, settings, topic)? {
        0 => Err(anyhow!(
            "the topic `{topic}` does not exist on {}; create it first, or check the name",
            settings.kafka.brokers
        )),
        partitions => Ok((reader, quiet, i32::try_from(partitions)?)),
    }
}

/// Reads partitions that are assigned to it.
pub type Reader = BaseConsumer<Quiet>;

fn partitions_of(reader: &Reader, quiet: &Quiet, settings: &Settings, topic: &str) -> anyhow::Result<usize> {
    let metadata = reader.fetch_metadata(Some(topic), TIMEOUT).map_err(|error| {
        // What librdkafka had to say meanwhile is handed out only by polls.
        while reader.poll(Duration::from_millis(10)).is_some() {}
        quiet.explain(settings, &error)
    })?;
    Ok(metadata
        .topics()
        .iter()
        .find(|found| found.name() == topic)
        .map_or(0, |found| found.partitions().len()))
}

/// Where a record lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The partition.
    pub partition: i32,
    /// The offset there.
    pub offset: i64,
}

/// Writes one record to a schedule topic and waits until every replica has it. The partition is the one that a Java
/// producer would choose.
pub fn write(settings: &Settings, topic: &str, key: &[u8], value: Option<&[u8]>) -> anyhow::Result<Written> {
    // A producer's question would create the topic, and without compaction.
    reader(settings, Isolation::ReadCommitted, topic)?;

    let mut config = client::producer(settings)?;
    config.set("linger.ms", "0").set("message.timeout.ms", TIMEOUT.as_millis().to_string());
    let context = Acknowledged::default();
    let producer: BaseProducer<Acknowledged> = config.create_with_context(context.clone())?;
    let mut record = BaseRecord::to(topic).key(key);
    if let Some(value) = value {
        record = record.payload(value);
    }
    producer
        .send(record)
        .map_err(|(error, _)| error)
        .with_context(|| format!("cannot write to `{topic}`"))?;
    producer.flush(2 * TIMEOUT).map_err(|error| context.quiet.explain(settings, &error))?;
    let outcome = context.outcome.lock().unwrap_or_else(PoisonError::into_inner).take();
    match outcome.expect("a flush ends when every record has its report") {
        Ok(written) => Ok(written),
        Err(error) => Err(context.quiet.explain(settings, &error)),
    }
}

/// Remembers the one delivery report.
#[derive(Clone, Default)]
struct Acknowledged {
    quiet: Quiet,
    outcome: Arc<Mutex<Option<Result<Written, KafkaError>>>>,
}

impl ClientContext for Acknowledged {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.quiet.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.quiet.error(error, reason);
    }
}

impl ProducerContext for Acknowledged {
    type DeliveryOpaque = ();

    fn delivery(&self, report: &DeliveryResult<'_>, (): ()) {
        let outcome = match report {
            Ok(message) => Ok(Written { partition: message.partition(), offset: message.offset() }),
            Err((error, _)) => Err(error.clone()),
        };
        *self.outcome.lock().unwrap_or_else(PoisonError::into_inner) = Some(outcome);
    }
}
