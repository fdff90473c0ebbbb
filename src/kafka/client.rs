//! How each kind of client is set up: what correctness and speed need, what the user set, and security.

mod stores;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;

use crate::config::{Delivery, Properties, Settings};
pub use stores::StoreError;

/// Why no client can be set up.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// A key or trust store is of no use.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// librdkafka does not know a property, or does not take its value.
    #[error("librdkafka refuses the {client} properties: {why}")]
    Property {
        /// Which client's.
        client: &'static str,
        /// What librdkafka says.
        why: String,
    },
}

/// What a reader without a group sees of transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Isolation {
    /// Committed records, up to the last stable offset.
    ReadCommitted,
    /// Every record, up to the high watermark.
    ReadUncommitted,
}

/// What every client has: for admin clients it is all.
pub fn base(settings: &Settings) -> Result<ClientConfig, ClientError> {
    let mut config = common(settings)?;
    apply(&mut config, &settings.kafka.properties);
    validated(config, "client")
}

/// How many partitions a member of the group is laid out for where nobody could say how many there are.
pub const PARTITIONS_UNLESS_KNOWN: usize = 64;

/// The session of a member with a lasting name: long enough for it to be started anew, on another machine too.
const LASTING_SESSION: &str = "45000";

/// A member of the consumer group, which loads and follows the partitions it is given: `partitions` of them, should it be
/// alone.
pub fn consumer(settings: &Settings, partitions: usize) -> Result<ClientConfig, ClientError> {
    let mut config = following(settings, partitions)?;
    config
        .set("group.id", &settings.kafka.group_id)
        // Positions are never committed: the schedule topic itself says what was delivered.
        .set("partition.assignment.strategy", "cooperative-sticky")
        // The group notices a silent instance within ten seconds; what it then does is safe either way.
        .set("session.timeout.ms", "10000")
        .set("heartbeat.interval.ms", "3000");
    if !settings.kafka.instance_id.is_empty() {
        config
            .set("group.instance.id", &settings.kafka.instance_id)
            .set("session.timeout.ms", LASTING_SESSION);
    }
    apply(&mut config, &settings.kafka.properties);
    apply(&mut config, &settings.kafka.consumer.properties);
    validated(config, "consumer")
}

/// A reader of partitions of its own choice, without a group.
pub fn reader(settings: &Settings, isolation: Isolation) -> Result<ClientConfig, ClientError> {
    let mut config = following(settings, 1)?;
    config.set(
        "isolation.level",
        match isolation {
            Isolation::ReadCommitted => "read_committed",
            Isolation::ReadUncommitted => "read_uncommitted",
        },
    );
    apply(&mut config, &settings.kafka.properties);
    apply(&mut config, &settings.kafka.consumer.properties);
    validated(config, "consumer")
}

/// Kafka's own default.
const MAX_RECORD_BYTES: usize = 1_048_588;

/// What a producer of ours sends as a record, at most.
#[must_use]
pub fn max_record_bytes(settings: &Settings) -> usize {
    let set = |properties: &Properties| {
        let (_, bytes) = properties.iter().find(|(name, _)| *name == "message.max.bytes")?;
        bytes.parse().ok()
    };
    let own = set(&settings.kafka.producer.properties);
    own.or_else(|| set(&settings.kafka.properties)).unwrap_or(MAX_RECORD_BYTES)
}

/// A producer of fired messages and tombstones. The caller adds `transactional.id` where there is one.
pub fn producer(settings: &Settings) -> Result<ClientConfig, ClientError> {
    let mut config = common(settings)?;
    config
        .set("enable.idempotence", "true")
        .set("partitioner", "murmur2_random")
        .set("compression.codec", "lz4")
        .set("batch.size", "1000000")
        .set("batch.num.messages", "100000")
        // The broker's default limit of a batch, so that it and not the client decides what is too large.
        .set("message.max.bytes", MAX_RECORD_BYTES.to_string())
        .set("queue.buffering.max.messages", "1000000")
        // There is a producer for each partition, and an answer is about all partitions of its topics: with a thousand, asked
        // every ten seconds, that is most of a core. A leader that moved is noticed by its answers.
        .set("topic.metadata.refresh.interval.ms", "60000")
        // How long messages to a topic that does not exist hold up the others.
        .set("topic.metadata.propagation.max.ms", "2000");
    match settings.delivery {
        Delivery::ExactlyOnce => config
            .set("transaction.timeout.ms", settings.transaction.timeout.as_millis().to_string())
            // The records of a transaction leave when it is flushed. Until then they must stay together: its own
            // ones have to be one record batch.
            .set("linger.ms", "100")
            // A retry that librdkafka hides is told from a slow commit by this wait (see docs/ARCHITECTURE.md).
            .set("retry.backoff.ms", "1000"),
        Delivery::AtLeastOnce => config
            .set("linger.ms", "5")
            // One message that cannot be sent must not keep the tombstones of the others waiting for minutes.
            .set("message.timeout.ms", settings.transaction.timeout.as_millis().to_string()),
    };
    apply(&mut config, &settings.kafka.properties);
    apply(&mut config, &settings.kafka.producer.properties);
    bound_queue(&mut config, settings);
    validated(config, "producer")
}

/// A producer holds one batch at a time, and what it holds is bounded by that; librdkafka's own bound, 1 GiB by default, only
/// makes sure of it. It has to take the largest message there may be, alone.
fn bound_queue(config: &mut ClientConfig, settings: &Settings) {
    const BOUND: &str = "queue.buffering.max.kbytes";
    let largest = max_record_bytes(settings);
    let batch = settings.batch.max_message_bytes.saturating_add(settings.batch.max_own_bytes);
    let kbytes = batch.saturating_mul(2).saturating_add(largest) / 1_024;
    if config.get(BOUND).is_none() {
        config.set(BOUND, kbytes.clamp(1, MOST_QUEUE_KBYTES).to_string());
    }
}

/// The most that librdkafka takes.
const MOST_QUEUE_KBYTES: usize = i32::MAX as usize;

fn common(settings: &Settings) -> Result<ClientConfig, ClientError> {
    let kafka = &settings.kafka;
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &kafka.brokers)
        .set("client.id", "kms")
        .set("security.protocol", kafka.security_protocol.as_str())
        .set("socket.keepalive.enable", "true")
        .set("enable.metrics.push", "false")
        // New partitions and topics made anew are noticed within this.
        .set("topic.metadata.refresh.interval.ms", "10000");
    if kafka.security_protocol.has_tls() {
        config.set("ssl.endpoint.identification.algorithm", "https");
        stores::apply(kafka, &mut config)?;
    }
    Ok(config)
}

fn following(settings: &Settings, partitions: usize) -> Result<ClientConfig, ClientError> {
    let queues = FetchQueues::of(partitions);
    let mut config = common(settings)?;
    config
        .set("isolation.level", "read_committed")
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        .set("enable.partition.eof", "true")
        .set("auto.offset.reset", "error")
        .set("allow.auto.create.topics", "false")
        // A full queue pauses its partition for this long: at the default of a second, a load would mostly wait.
        .set("fetch.queue.backoff.ms", "5")
        .set("queued.min.messages", queues.records.to_string())
        .set("queued.max.messages.kbytes", queues.kbytes.to_string())
        .set("fetch.message.max.bytes", queues.answer_bytes.to_string())
        .set("fetch.max.bytes", FETCH_BYTES.to_string())
        // The end of a partition is reported by an answer to a fetch, so up to this late.
        .set("fetch.wait.max.ms", "50");
    Ok(config)
}

/// What lies fetched and not yet read, of one partition: more is fetched while there is less than `records` and `kbytes` of
/// it, and a fetch brings `answer_bytes` at most.
///
/// librdkafka bounds each partition by itself, so each gets a share of what is meant for all. A record in a queue takes some
/// 320 bytes beside its own: for small ones their number is the bound.
struct FetchQueues {
    records: usize,
    kbytes: usize,
    answer_bytes: usize,
}

/// For all partitions together: records, kilobytes of them, and bytes of an answer.
const QUEUED_RECORDS: usize = 300_000;
const QUEUED_KBYTES: usize = 131_072;
const FETCH_BYTES: usize = 32 << 20;

impl FetchQueues {
    fn of(partitions: usize) -> Self {
        let share = |all: usize, least, most| (all / partitions.max(1)).clamp(least, most);
        Self {
            records: share(QUEUED_RECORDS, 500, 60_000),
            kbytes: share(QUEUED_KBYTES, 1_024, 32_768),
            // No less than the largest record batch that brokers take by default: one that does not fit is given only to the
            // partition that a fetch names first.
            answer_bytes: share(FETCH_BYTES, 1_100_000, 4 << 20),
        }
    }
}

/// Sets the user's properties over ours, whichever of its names a property was called by.
fn apply(config: &mut ClientConfig, properties: &Properties) {
    for (name, value) in properties.iter() {
        config.set(canonical(name), value);
    }
}

/// The name we use for a property that has two. With both set, it would be left to chance which of them holds.
fn canonical(name: &str) -> &str {
    match name {
        "compression.type" => "compression.codec",
        "queue.buffering.max.ms" => "linger.ms",
        "max.partition.fetch.bytes" => "fetch.message.max.bytes",
        other => other,
    }
}

/// Lets librdkafka judge names and values now, where the answer can be a sentence.
fn validated(config: ClientConfig, client: &'static str) -> Result<ClientConfig, ClientError> {
    match config.create_native_config() {
        Ok(_) => Ok(config),
        Err(KafkaError::ClientConfig(_, why, _, _)) => Err(ClientError::Property { client, why }),
        Err(other) => Err(ClientError::Property { client, why: other.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::Sources;
    use rdkafka::consumer::BaseConsumer;
    use rdkafka::producer::BaseProducer;

    fn settings(environment: &[(&str, &str)]) -> Settings {
        let environment = environment.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Settings::load(&Sources { environment, ..Sources::default() }).unwrap().settings
    }

    #[test]
    fn librdkafka_takes_each_set_of_properties() {
        for delivery in ["exactly-once", "at-least-once"] {
            let settings = settings(&[("KMS_DELIVERY", delivery), ("KAFKA_BROKERS", "127.0.0.1:1")]);
            let mut producing = producer(&settings).unwrap();
            if settings.delivery == Delivery::ExactlyOnce {
                producing.set("transactional.id", "kms:s:0");
            }
            producing.create::<BaseProducer>().unwrap();
            for partitions in [0, 1, 1_000] {
                consumer(&settings, partitions).unwrap().create::<BaseConsumer>().unwrap();
            }
            reader(&settings, Isolation::ReadUncommitted).unwrap().create::<BaseConsumer>().unwrap();
            base(&settings).unwrap();
        }
    }

    #[test]
    fn the_users_properties_win_under_either_name_and_reach_the_right_client() {
        let settings = settings(&[
            ("KMS_KAFKA_PROPERTIES", "client.id=mine;sasl.mechanism=PLAIN"),
            ("KMS_KAFKA_CONSUMER_PROPERTIES", "session.timeout.ms=6000"),
            ("KMS_KAFKA_PRODUCER_PROPERTIES", "compression.type=zstd"),
        ]);
        let producer = producer(&settings).unwrap();
        assert_eq!(producer.get("compression.codec"), Some("zstd"));
        assert_eq!(producer.get("compression.type"), None);
        assert_eq!(producer.get("session.timeout.ms"), None);
        let consumer = consumer(&settings, 1).unwrap();
        assert_eq!(consumer.get("session.timeout.ms"), Some("6000"));
        assert_eq!(consumer.get("client.id"), Some("mine"));
        assert_eq!(base(&settings).unwrap().get("sasl.mechanism"), Some("PLAIN"));
    }

    #[test]
    fn what_correctness_needs_is_set() {
        let settings = settings(&[]);
        let consumer = consumer(&settings, 1).unwrap();
        for (property, value) in [
            ("isolation.level", "read_committed"),
            ("enable.auto.commit", "false"),
            ("enable.auto.offset.store", "false"),
            ("enable.partition.eof", "true"),
            ("auto.offset.reset", "error"),
            ("partition.assignment.strategy", "cooperative-sticky"),
        ] {
            assert_eq!(consumer.get(property), Some(value), "{property}");
        }
        let producer = producer(&settings).unwrap();
        assert_eq!(producer.get("enable.idempotence"), Some("true"));
        assert_eq!(producer.get("partitioner"), Some("murmur2_random"));
        assert_eq!(producer.get("transaction.timeout.ms"), Some("10000"));
        let watermarks = reader(&settings, Isolation::ReadUncommitted).unwrap();
        assert_eq!(watermarks.get("isolation.level"), Some("read_uncommitted"));
        assert_eq!(watermarks.get("group.id"), None);
    }

    #[test]
    fn an_unknown_property_is_named() {
        let settings = settings(&[("KMS_KAFKA_CONSUMER_PROPERTIES", "sesion.timeout.ms=1")]);
        let message = consumer(&settings, 1).unwrap_err().to_string();
        assert!(message.contains("consumer") && message.contains("sesion.timeout.ms"), "{message}");
    }

    #[test]
    fn what_is_fetched_ahead_is_bounded_over_all_partitions() {
        let number =
            |config: &ClientConfig, property: &str| config.get(property).unwrap().parse::<usize>().unwrap();
        for partitions in [1, 2, 8, 64, 128] {
            let config = consumer(&settings(&[]), partitions).unwrap();
            let records = partitions * number(&config, "queued.min.messages");
            let kbytes = partitions * number(&config, "queued.max.messages.kbytes");
            assert!(records <= QUEUED_RECORDS, "{partitions}: {records} records");
            assert!(kbytes <= QUEUED_KBYTES, "{partitions}: {kbytes} kB");
            assert!(
                number(&config, "fetch.message.max.bytes") > 1_048_588,
                "the largest batch of a broker's default"
            );
        }
        let mine = settings(&[(
            "KMS_KAFKA_CONSUMER_PROPERTIES",
            "queued.min.messages=7;max.partition.fetch.bytes=9000000",
        )]);
        let config = consumer(&mine, 64).unwrap();
        assert_eq!(
            (number(&config, "queued.min.messages"), number(&config, "fetch.message.max.bytes")),
            (7, 9_000_000)
        );
    }

    #[test]
    fn a_producers_queue_takes_a_batch_and_the_largest_message() {
        let kbytes = |environment: &[(&str, &str)]| {
            let config = producer(&settings(environment)).unwrap();
            config.get("queue.buffering.max.kbytes").unwrap().parse::<usize>().unwrap()
        };
        let by_default = kbytes(&[]);
        assert!((33_000..40_000).contains(&by_default), "two batches of 16 MiB: {by_default}");
        let large = kbytes(&[("KMS_KAFKA_PRODUCER_PROPERTIES", "message.max.bytes=100000000")]);
        assert!(large * 1_024 > 100_000_000 + 2 * 16_777_216 - 2_048, "{large}");
        assert_eq!(kbytes(&[("KMS_BATCH__MAX_MESSAGE_BYTES", "9000000000000")]), MOST_QUEUE_KBYTES);
        assert_eq!(kbytes(&[("KMS_KAFKA_PRODUCER_PROPERTIES", "queue.buffering.max.kbytes=5")]), 5);
    }

    #[test]
    fn a_lasting_name_comes_with_a_longer_session() {
        let session = |environment: &[(&str, &str)]| {
            let config = consumer(&settings(environment), 1).unwrap();
            let get = |property: &str| config.get(property).map(str::to_owned);
            (get("group.instance.id"), get("session.timeout.ms").unwrap())
        };
        assert_eq!(session(&[]), (None, "10000".into()));
        let named = ("KMS_KAFKA__INSTANCE_ID", "kms-0");
        assert_eq!(session(&[named]), (Some("kms-0".into()), LASTING_SESSION.into()));
        let mine = ("KMS_KAFKA_PROPERTIES", "session.timeout.ms=6000");
        assert_eq!(session(&[named, mine]), (Some("kms-0".into()), "6000".into()));
    }
}
