//! Settings: typed, with one place for every name and default (`config/default.toml`).
//!
//! Defaults, then the file, then the environment, then the flags; later wins. What a setting's name is and which kind
//! of value it takes is read from the defaults, so a key exists everywhere or nowhere.

mod environment;
mod layers;
mod protected;
mod values;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::schedule::Format;
use layers::Layers;
pub use values::{Patterns, Properties, Secret};

/// The defaults with their explanations.
pub const DEFAULTS: &str = include_str!("config/default.toml");

/// Where the settings file is looked for when none is named.
const FILE: &str = "kms.toml";

/// What an instance is to do.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Settings {
    /// With or without transactions.
    pub delivery: Delivery,
    /// The transactional ID of a partition is `{prefix}:{topic}:{partition}`.
    pub transactional_id_prefix: String,
    /// The cluster and how to reach it.
    pub kafka: Kafka,
    /// The schedule topics.
    pub topics: Topics,
    /// Where a transaction ends.
    pub batch: Batch,
    /// How long a transaction may take.
    pub transaction: Transaction,
    /// When a schedule that was set aside is tried again.
    pub retry: Retry,
    /// What delivered messages carry besides what was scheduled.
    pub output: Output,
    /// What becomes of records that are no schedules.
    pub rejections: Rejections,
    /// Where schedules may be delivered to.
    pub destinations: Destinations,
    /// What is kept on disk for a faster start.
    pub state: State,
    /// Metrics and health over HTTP.
    pub metrics: Metrics,
    /// The admin API.
    pub admin: Admin,
    /// What health means.
    pub health: Health,
    /// How much an instance may hold before it says that it is too much.
    pub memory: Memory,
    /// How many partitions an instance may own before it says that they are too many.
    pub partitions: Partitions,
    /// The log.
    pub logging: Logging,
}

/// How hard it is tried to deliver once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// Message and tombstone in one verified transaction.
    ExactlyOnce,
    /// Message, acknowledgement, then tombstone.
    AtLeastOnce,
}

impl Delivery {
    /// As the setting has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ExactlyOnce => "exactly-once",
            Self::AtLeastOnce => "at-least-once",
        }
    }
}

/// The cluster and how to reach it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Kafka {
    /// Bootstrap servers, separated by commas.
    pub brokers: String,
    /// The consumer group that spreads the partitions over the instances.
    pub group_id: String,
    /// This instance's lasting name in the group, so that it finds its partitions again after a restart; empty: none.
    pub instance_id: String,
    /// Encryption and authentication of connections.
    pub security_protocol: SecurityProtocol,
    /// This client's key and certificate; empty when not set.
    pub keystore_location: PathBuf,
    /// The password of the key store and of the key in it.
    pub keystore_password: Secret,
    /// The certificates to trust; empty: the system's.
    pub truststore_location: PathBuf,
    /// The password of the trust store.
    pub truststore_password: Secret,
    /// librdkafka properties of every client.
    pub properties: Properties,
    /// What consumers have of their own.
    pub consumer: KafkaClient,
    /// What producers have of their own.
    pub producer: KafkaClient,
}

/// What one kind of client has of its own.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct KafkaClient {
    /// librdkafka properties.
    pub properties: Properties,
}

/// Kafka's `security.protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "Kafka's own words")]
pub enum SecurityProtocol {
    #[serde(rename = "PLAINTEXT")]
    Plaintext,
    #[serde(rename = "SSL")]
    Ssl,
    #[serde(rename = "SASL_PLAINTEXT")]
    SaslPlaintext,
    #[serde(rename = "SASL_SSL")]
    SaslSsl,
}

impl SecurityProtocol {
    /// Whether connections are encrypted.
    #[must_use]
    pub fn has_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }

    /// As Kafka writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }
}

impl<'de> Deserialize<'de> for SecurityProtocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        [Self::Plaintext, Self::Ssl, Self::SaslPlaintext, Self::SaslSsl]
            .into_iter()
            .find(|protocol| protocol.as_str().eq_ignore_ascii_case(&text))
            .ok_or_else(|| {
                D::Error::custom(format!("`{text}` is none of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL"))
            })
    }
}

/// The schedule topics.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Topics {
    /// Topics whose records are Avro.
    pub avro: Vec<String>,
    /// Topics whose records are JSON.
    pub json: Vec<String>,
    /// Whether the start creates those that are missing.
    pub create: bool,
    /// Partitions of a topic that is created.
    pub partitions: i32,
    /// Copies of each of its partitions; −1 is the broker's default.
    pub replication_factor: i32,
}

impl Topics {
    /// Every schedule topic with the format of its records, Avro first.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Format)> {
        let avro = self.avro.iter().map(|topic| (topic.as_str(), Format::Avro));
        avro.chain(self.json.iter().map(|topic| (topic.as_str(), Format::Json)))
    }

    /// The format of the records of `topic`; `None` if it is not a schedule topic.
    #[must_use]
    pub fn format_of(&self, topic: &str) -> Option<Format> {
        self.iter().find(|(name, _)| *name == topic).map(|(_, format)| format)
    }
}

/// Where a transaction ends, whichever comes first.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Batch {
    /// Schedules fired.
    pub max_count: usize,
    /// Bytes written to the schedule topic. They must fit one record batch of the producer.
    pub max_own_bytes: usize,
    /// Bytes of the messages delivered.
    pub max_message_bytes: usize,
    /// How long a due schedule may wait for others to be due.
    #[serde(with = "values::duration")]
    pub max_wait: Duration,
}

/// How long a transaction may take.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Transaction {
    /// After this the broker aborts it.
    #[serde(with = "values::duration")]
    pub timeout: Duration,
}

/// When a schedule that was set aside is tried again.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Retry {
    /// The first interval; each next one is longer.
    #[serde(with = "values::duration")]
    pub initial: Duration,
    /// The longest interval.
    #[serde(with = "values::duration")]
    pub max: Duration,
}

/// What delivered messages carry besides what was scheduled.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Output {
    /// Whether `kms-schedule-id`, `kms-due` and `kms-source` are added to the headers.
    pub headers: bool,
}

/// What becomes of records that are no schedules.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Rejections {
    /// The topic that they are copied to; empty: none.
    pub topic: String,
}

/// Where schedules may be delivered to.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Destinations {
    /// Topics that are allowed.
    pub allow: Patterns,
    /// Topics that are not, even if allowed.
    pub deny: Patterns,
    /// Whether schedule topics are destinations like any other.
    pub schedule_topics: bool,
}

/// What is kept on disk for a faster start; the schedule topics stay the truth.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct State {
    /// The directory; empty: nothing is kept.
    pub dir: PathBuf,
    /// Between two checkpoints of a partition at least.
    #[serde(with = "values::duration")]
    pub checkpoint_interval: Duration,
    /// How much the log of a partition has to have grown since its last checkpoint, in offsets, for the next.
    pub checkpoint_after: u32,
}

/// Metrics and health over HTTP.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Metrics {
    /// The address; port 0 takes any free one.
    #[serde(deserialize_with = "listen_address")]
    pub listen: SocketAddr,
}

/// The admin API.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Admin {
    /// The address; port 0 takes any free one, `None` serves nothing.
    #[serde(with = "values::optional_address")]
    pub listen: Option<SocketAddr>,
    /// What whoever asks has to know; empty: nothing, and then only this machine may ask.
    pub token: Secret,
    /// Whether nothing can be changed.
    pub read_only: bool,
    /// What it is encrypted with.
    pub tls: AdminTls,
}

/// The certificate of the admin API.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
pub struct AdminTls {
    /// A file with the certificate and those between it and its root, in PEM; empty: no TLS.
    pub certificate: PathBuf,
    /// A file with its private key, in PEM.
    pub key: PathBuf,
}

impl AdminTls {
    /// Whether there is TLS.
    #[must_use]
    pub fn is_set(&self) -> bool {
        !self.certificate.as_os_str().is_empty()
    }
}

impl Admin {
    /// Whether nobody reaches it who may not.
    fn is_guarded(&self) -> bool {
        self.listen.is_none_or(|address| address.ip().is_loopback()) || !self.token.is_empty()
    }
}

/// What health means.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Health {
    /// How long a partition's thread may show no sign of life.
    #[serde(with = "values::duration")]
    pub stalled_after: Duration,
}

/// How much an instance may hold before it says that it is too much. It goes on all the same: an instance that stopped
/// reading would miss cancels.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Memory {
    /// Bytes of what is pending, with the structures that find it; `None`: no bound.
    #[serde(with = "values::size")]
    pub max_pending_bytes: Option<u64>,
}

/// How many partitions an instance may own before it says that they are too many. It serves them all the same: nobody else
/// would.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Partitions {
    /// Partitions of all schedule topics together; 0: no bound.
    pub max_owned: usize,
}

/// The log.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Logging {
    /// Of this program.
    pub level: Level,
    /// Of the libraries it uses.
    pub root_level: Level,
    /// How a line looks.
    pub format: LogFormat,
}

/// How much is logged. Java's names (`ALL`, `WARNING`, any case) are understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "the usual words")]
pub enum Level {
    Off,
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

impl<'de> Deserialize<'de> for Level {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Ok(match text.to_ascii_lowercase().as_str() {
            "off" => Self::Off,
            "error" => Self::Error,
            "warn" | "warning" => Self::Warn,
            "info" => Self::Info,
            "debug" => Self::Debug,
            "trace" | "all" => Self::Trace,
            _ => {
                let why = format!("`{text}` is none of off, error, warn, info, debug, trace");
                return Err(D::Error::custom(why));
            }
        })
    }
}

/// How a line of the log looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text, unless the environment asks for JSON.
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

fn listen_address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    let text = String::deserialize(deserializer)?;
    text.parse()
        .map_err(|_| D::Error::custom(format!("`{text}` is no address; write 0.0.0.0:9401 or [::]:9401")))
}

/// Where settings come from.
#[derive(Clone, Default)]
pub struct Sources {
    /// A file that must exist; `None`: `kms.toml` in the working directory, if there is one.
    pub file: Option<PathBuf>,
    /// Environment variables.
    pub environment: Vec<(String, String)>,
    /// Keys with their values as text, from the command line.
    pub flags: Vec<(String, String)>,
}

impl Sources {
    /// A file and flags with the environment of this process. Variables that are not UTF-8 are none of ours.
    #[must_use]
    pub fn of_process(file: Option<PathBuf>, flags: Vec<(String, String)>) -> Self {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        Self { file, environment, flags }
    }
}

impl fmt::Debug for Sources {
    /// Without values: any of them may be a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names =
            |pairs: &[(String, String)]| pairs.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        f.debug_struct("Sources")
            .field("file", &self.file)
            .field("environment", &names(&self.environment))
            .field("flags", &names(&self.flags))
            .finish()
    }
}

/// Settings, and what there is to say about how they came about.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Sentences for the log, which is not set up while settings are loaded.
    pub notices: Vec<Notice>,
}

/// A sentence for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Good to know.
    Info(String),
    /// Probably a mistake.
    Warning(String),
}

/// Why settings were refused. Values are never quoted where they may be secrets.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the settings file {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{origin} line {line} is not TOML: {why}")]
    Syntax {
        /// The file.
        origin: String,
        /// Counted from 1.
        line: usize,
        /// What the parser says.
        why: String,
    },
    /// No such setting.
    #[error("{origin}: there is no setting `{key}`; did you mean `{nearest}`?")]
    UnknownKey {
        /// The file or flag.
        origin: String,
        /// As it was written.
        key: String,
        /// A setting that exists.
        nearest: String,
    },
    /// A value that the setting does not take.
    #[error("{origin}: {key}: {why}")]
    Invalid {
        /// The file, variable or flag.
        origin: String,
        /// The setting.
        key: String,
        /// What is wrong and what would be right.
        why: String,
    },
    /// A librdkafka property that correctness rests on.
    #[error("{origin}: {table} may not set `{property}`: {why}")]
    Protected {
        /// The file, variable or flag.
        origin: String,
        /// The table of properties.
        table: String,
        /// The property.
        property: String,
        /// Why, or what to set instead.
        why: &'static str,
    },
    /// Nothing to work on.
    #[error(
        "no schedule topic is configured: set SCHEDULE_TOPICS (Avro) or JSON_SCHEDULE_TOPICS to a comma-separated \
         list, or topics.avro or topics.json in kms.toml"
    )]
    NoTopics,
    /// A topic of two formats.
    #[error("the topic `{topic}` is in both topics.avro and topics.json: remove it from one of them")]
    TopicTwice {
        /// The topic.
        topic: String,
    },
}

impl Settings {
    /// Reads, merges and checks the settings of all `sources`.
    ///
    /// That there is a schedule topic is for [`require_topics`](Self::require_topics): some commands need none.
    pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
        let mut layers = Layers::of_defaults();
        match &sources.file {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| ConfigError::Read { path: path.clone(), source })?;
                layers.merge_file(&path.display().to_string(), &text)?;
            }
            None => match std::fs::read_to_string(FILE) {
                Ok(text) => layers.merge_file(FILE, &text)?,
                Err(missing) if missing.kind() == std::io::ErrorKind::NotFound => {}
                Err(source) => return Err(ConfigError::Read { path: FILE.into(), source }),
            },
        }
        let mut notices = environment::merge(&mut layers, &sources.environment)?;
        for (key, value) in &sources.flags {
            layers.set(key, value, "command line")?;
        }
        let mut settings: Self = layers.settings()?;
        if let Some(notice) = environment::choose_log_format(&mut settings.logging, &sources.environment) {
            notices.push(notice);
        }
        settings.check(&layers)?;
        Ok(Loaded { settings, notices })
    }

    /// Refuses to go on without a schedule topic.
    pub fn require_topics(&self) -> Result<(), ConfigError> {
        if self.topics.avro.is_empty() && self.topics.json.is_empty() {
            Err(ConfigError::NoTopics)
        } else {
            Ok(())
        }
    }

    /// Whether the settings let schedules be delivered to `topic`. The rejections topic always may be written to.
    #[must_use]
    pub fn permits_destination(&self, topic: &str) -> bool {
        if !topic.is_empty() && topic == self.rejections.topic {
            return true;
        }
        self.destinations.allow.matches(topic)
            && !self.destinations.deny.matches(topic)
            && (self.destinations.schedule_topics || self.topics.format_of(topic).is_none())
    }

    /// The settings as TOML that can be read again, but for the secrets, which are masked.
    #[must_use]
    pub fn print_masked(&self) -> String {
        toml::to_string_pretty(self).expect("settings are tables of plain values")
    }

    fn check(&mut self, layers: &Layers) -> Result<(), ConfigError> {
        for list in [&mut self.topics.avro, &mut self.topics.json] {
            let mut seen = std::collections::HashSet::new();
            list.retain(|topic| !topic.is_empty() && seen.insert(topic.clone()));
        }
        if let Some(topic) = self.topics.avro.iter().find(|topic| self.topics.json.contains(topic)) {
            return Err(ConfigError::TopicTwice { topic: topic.clone() });
        }
        let rejections = &self.rejections.topic;
        if self.topics.format_of(rejections).is_some() {
            return Err(ConfigError::Invalid {
                origin: layers.origin("rejections.topic", None),
                key: "rejections.topic".into(),
                why: "must not be a schedule topic: what is rejected there would be copied there again"
                    .into(),
            });
        }
        for (table, properties) in [
            ("kafka.properties", &self.kafka.properties),
            ("kafka.consumer.properties", &self.kafka.consumer.properties),
            ("kafka.producer.properties", &self.kafka.producer.properties),
        ] {
            for (property, _) in properties.iter() {
                if let Some(why) = protected::reason(property) {
                    let (origin, table) = (layers.origin(table, Some(property)), table.into());
                    return Err(ConfigError::Protected { origin, table, property: property.into(), why });
                }
            }
        }
        let second = Duration::from_secs(1);
        for (key, holds, why) in [
            (
                "kafka.brokers",
                self.kafka.brokers.split(',').all(is_broker),
                "name each broker as host:port, with commas between them",
            ),
            ("kafka.group_id", !self.kafka.group_id.is_empty(), "must not be empty"),
            (
                "kafka.instance_id",
                is_instance_id(&self.kafka.instance_id),
                "must be at most 249 of a-z A-Z 0-9 . _ -",
            ),
            (
                "memory.max_pending_bytes",
                self.memory.max_pending_bytes.is_none_or(|bytes| bytes >= LEAST_PENDING_BYTES),
                "must be at least 1MiB, or nothing for no bound",
            ),
            (
                "admin.token",
                self.admin.is_guarded(),
                "must be set where admin.listen is not this machine alone (127.0.0.1, [::1]): whoever reaches that address \
                 may cancel schedules",
            ),
            (
                "admin.tls.key",
                self.admin.tls.is_set() != self.admin.tls.key.as_os_str().is_empty(),
                "and admin.tls.certificate must be set both, or neither",
            ),
            ("transactional_id_prefix", !self.transactional_id_prefix.is_empty(), "must not be empty"),
            ("topics.partitions", self.topics.partitions > 0, "must be at least 1"),
            (
                "topics.replication_factor",
                self.topics.replication_factor == -1 || self.topics.replication_factor > 0,
                "must be at least 1, or -1 for the broker's default",
            ),
            ("batch.max_count", (1..=MAX_BATCH_COUNT).contains(&self.batch.max_count), "must be 1 to 50000"),
            (
                "batch.max_own_bytes",
                (1_000..=MAX_OWN_BYTES).contains(&self.batch.max_own_bytes),
                "must be 1000 to 900000, what one record batch holds under any broker's default message.max.bytes",
            ),
            ("batch.max_message_bytes", self.batch.max_message_bytes >= 1_000, "must be at least 1000"),
            (
                "transaction.timeout",
                (second..=15 * 60 * second).contains(&self.transaction.timeout),
                "must be 1s to 15m, what brokers allow by default",
            ),
            (
                "batch.max_wait",
                self.batch.max_wait < self.transaction.timeout,
                "must be less than transaction.timeout",
            ),
            ("retry.initial", self.retry.initial >= second / 100, "must be at least 10ms"),
            ("retry.max", self.retry.max >= self.retry.initial, "must not be less than retry.initial"),
            (
                "health.stalled_after",
                self.health.stalled_after >= 2 * self.transaction.timeout,
                "must be at least twice transaction.timeout, for a commit may take that long",
            ),
        ] {
            if !holds {
                return Err(ConfigError::Invalid {
                    origin: layers.origin(key, None),
                    key: key.into(),
                    why: why.into(),
                });
            }
        }
        Ok(())
    }
}

/// What librdkafka takes as a bootstrap server: `host`, `host:port`, `[::1]:port`, each maybe after `protocol://`.
fn is_broker(server: &str) -> bool {
    let server = server.trim();
    let address = server.split_once("://").map_or(server, |(_, address)| address);
    let (host, port) = match address.rsplit_once(':') {
        // What is in brackets has colons of its own.
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (address, None),
    };
    !host.is_empty() && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0))
}

/// What Kafka takes as a `group.instance.id`; nothing stands for none.
fn is_instance_id(id: &str) -> bool {
    id.len() <= 249
        && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && ![".", ".."].contains(&id)
}

/// An empty partition has some kilobytes already.
const LEAST_PENDING_BYTES: u64 = 1 << 20;
/// A record batch holds 100,000 at most as the producer is set up; the rest is room for what is appended beside.
const MAX_BATCH_COUNT: usize = 50_000;
/// Below Kafka's default of 1 MiB for a record batch, with room for its header and the records' own overhead.
const MAX_OWN_BYTES: usize = 900_000;

#[cfg(test)]
mod tests;
