//! Schedule topics: how they should be configured, how they are, and the making of missing ones.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_executor::block_on;
use rdkafka::admin::{
    AdminClient, AdminOptions, ConfigResource, ConfigResourceResult, NewTopic, ResourceSpecifier,
    TopicReplication,
};
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use serde::Serialize;

use super::client::{self, ClientError, Isolation};
use crate::config::{Delivery, Settings};
use crate::schedule::is_legal_topic_name;

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Costs time or space.
    Advice,
    /// A guarantee is weaker than it could be.
    Warning,
    /// Schedules are lost.
    Critical,
}

/// A setting of a schedule topic that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The topic.
    pub topic: String,
    /// The setting, by Kafka's name.
    pub setting: &'static str,
    /// Its value.
    pub is: String,
    /// The recommended value.
    pub should_be: String,
    /// What follows from the difference.
    pub why: &'static str,
    /// How much it matters.
    pub severity: Severity,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { topic, setting, is, should_be, why, .. } = self;
        write!(f, "{topic}: {setting} is {is}, should be {should_be}: {why}")
    }
}

/// Why topics could not be checked or created.
#[derive(Debug, thiserror::Error)]
pub enum TopicsError {
    /// The clients could not be set up.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A request as a whole failed.
    #[error("no answer about the schedule topics: {0}")]
    Request(#[from] KafkaError),
    /// The broker refused one topic.
    #[error("{action} the topic `{topic}` failed: {code}")]
    Refused {
        /// What was tried.
        action: &'static str,
        /// The topic.
        topic: String,
        /// The broker's reason.
        code: RDKafkaErrorCode,
    },
    /// A name that Kafka does not allow.
    #[error("`{0}` is no legal topic name: use 1 to 249 of the characters a-z, A-Z, 0-9, '.', '_' and '-'")]
    IllegalName(String),
}

/// The configuration recommended for a schedule topic, by Kafka's names.
#[must_use]
pub fn recommended(delivery: Delivery) -> Vec<(&'static str, String)> {
    RULES.iter().map(|rule| (rule.setting, rule.recommended(delivery))).collect()
}

/// Asks and changes what the cluster has of the schedule topics. Its calls block the thread.
pub struct TopicAdmin<C: ConsumerContext> {
    admin: AdminClient<C>,
    /// Existence is a question for a consumer: asked by a producer or an admin client, the broker creates the topic.
    reader: BaseConsumer<C>,
    timeout: Duration,
}

impl<C: ConsumerContext + Clone> TopicAdmin<C> {
    /// Clients for the cluster of `settings`, each of whose calls may take `timeout`.
    pub fn new(settings: &Settings, context: C, timeout: Duration) -> Result<Self, TopicsError> {
        let reader = client::reader(settings, Isolation::ReadCommitted)?;
        Ok(Self {
            admin: client::base(settings)?.create_with_context(context.clone())?,
            reader: reader.create_with_context(context)?,
            timeout,
        })
    }

    /// Compares the schedule topics of `settings` with what is recommended, the gravest finding first. A topic that
    /// does not exist is a finding of the setting `topic`.
    pub fn check(&self, settings: &Settings) -> Result<Vec<Finding>, TopicsError> {
        let mut findings = Vec::new();
        for (topic, answer) in self.describe(settings)? {
            let resource = answer.map_err(|code| refused("describing", topic, code))?;
            let entries = resource.entries.iter();
            let values: BTreeMap<&str, &str> =
                entries.filter_map(|entry| Some((entry.name.as_str(), entry.value.as_deref()?))).collect();
            if values.is_empty() {
                findings.push(nothing_known(topic, self.exists(topic)?));
            } else {
                findings.extend(compare(topic, &values, settings.delivery));
            }
        }
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        Ok(findings)
    }

    /// Creates those schedule topics of `settings` that do not exist, as recommended. Returns the names of the new
    /// ones.
    pub fn create(&self, settings: &Settings) -> Result<Vec<String>, TopicsError> {
        let topics = legal_topics(settings)?;
        let recommended = recommended(settings.delivery);
        let new_topics: Vec<NewTopic<'_>> = topics
            .iter()
            .map(|topic| {
                let replication = TopicReplication::Fixed(settings.topics.replication_factor);
                let new = NewTopic::new(topic, settings.topics.partitions, replication);
                recommended.iter().fold(new, |new, (setting, value)| new.set(setting, value))
            })
            .collect();
        let mut created = Vec::new();
        for answer in block_on(self.admin.create_topics(&new_topics, &self.options()))? {
            match answer {
                Ok(topic) => created.push(topic),
                Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => return Err(refused("creating", &topic, code)),
            }
        }
        Ok(created)
    }

    /// How long each schedule topic of `settings` keeps tombstones (`delete.retention.ms`), for those that say so.
    pub fn tombstone_retention(
        &self,
        settings: &Settings,
    ) -> Result<BTreeMap<String, Duration>, TopicsError> {
        let retention = |resource: ConfigResource| {
            let entry = resource.entries.into_iter().find(|entry| entry.name == "delete.retention.ms")?;
            entry.value?.parse().ok().map(Duration::from_millis)
        };
        let known = self.describe(settings)?.into_iter().filter_map(|(topic, answer)| {
            answer.ok().and_then(retention).map(|retention| (topic.to_owned(), retention))
        });
        Ok(known.collect())
    }

    /// Whether `topic` exists. Asking does not create it.
    pub fn exists(&self, topic: &str) -> Result<bool, TopicsError> {
        let metadata = self.reader.fetch_metadata(Some(topic), self.timeout)?;
        Ok(metadata.topics().iter().any(|found| found.name() == topic && !found.partitions().is_empty()))
    }

    /// The configuration of each schedule topic of `settings`, as the cluster has it.
    fn describe<'a>(
        &self,
        settings: &'a Settings,
    ) -> Result<Vec<(&'a str, ConfigResourceResult)>, TopicsError> {
        let topics = legal_topics(settings)?;
        let resources: Vec<_> = topics.iter().map(|topic| ResourceSpecifier::Topic(topic)).collect();
        let answers = block_on(self.admin.describe_configs(&resources, &self.options()))?;
        Ok(topics.into_iter().zip(answers).collect())
    }

    fn options(&self) -> AdminOptions {
        AdminOptions::new().request_timeout(Some(self.timeout)).operation_timeout(Some(self.timeout))
    }
}

fn refused(action: &'static str, topic: &str, code: RDKafkaErrorCode) -> TopicsError {
    TopicsError::Refused { action, topic: topic.into(), code }
}

/// The schedule topics of `settings`, all of them under names that Kafka allows.
pub fn legal_topics(settings: &Settings) -> Result<Vec<&str>, TopicsError> {
    let check = |(topic, _)| {
        if is_legal_topic_name(topic) { Ok(topic) } else { Err(TopicsError::IllegalName(topic.into())) }
    };
    settings.topics.iter().map(check).collect()
}

/// The finding about a topic without a configuration. Why there is none, the crate does not pass on.
fn nothing_known(topic: &str, exists: bool) -> Finding {
    let topic = topic.into();
    if exists {
        Finding {
            topic,
            setting: "configuration",
            is: "unreadable".into(),
            should_be: "readable".into(),
            why: "it cannot be checked that schedules are not deleted; allow this client DescribeConfigs on the topic",
            severity: Severity::Warning,
        }
    } else {
        Finding {
            topic,
            setting: "topic",
            is: "missing".into(),
            should_be: "created".into(),
            why: "nothing can be scheduled on it; `kms topics create` makes it as recommended",
            severity: Severity::Critical,
        }
    }
}

fn compare(topic: &str, values: &BTreeMap<&str, &str>, delivery: Delivery) -> Vec<Finding> {
    RULES
        .iter()
        .filter_map(|rule| {
            let is = *values.get(rule.setting)?;
            let (severity, why) = rule.judge(is, delivery)?;
            Some(Finding {
                topic: topic.into(),
                setting: rule.setting,
                is: is.into(),
                should_be: rule.recommended(delivery),
                why,
                severity,
            })
        })
        .collect()
}

/// One recommended setting.
struct Rule {
    setting: &'static str,
    should_be: ShouldBe,
}

enum ShouldBe {
    /// Exactly `compact`: a second policy deletes by age or size.
    Compact,
    /// Each side of the value has its own consequence, or none.
    Value {
        exactly_once: f64,
        at_least_once: f64,
        if_less: Option<(Severity, &'static str)>,
        if_more: Option<(Severity, &'static str)>,
    },
}

const HOUR_MS: f64 = 3_600_000.0;

const RULES: &[Rule] = &[
    Rule { setting: "cleanup.policy", should_be: ShouldBe::Compact },
    Rule {
        setting: "delete.retention.ms",
        should_be: ShouldBe::Value {
            exactly_once: HOUR_MS,
            at_least_once: HOUR_MS,
            if_less: Some((
                Severity::Warning,
                "a load that takes longer misses tombstones, must start over, and may never become live",
            )),
            if_more: Some((
                Severity::Advice,
                "tombstones of delivered schedules are kept, and loaded, for longer than needed",
            )),
        },
    },
    Rule {
        setting: "min.compaction.lag.ms",
        should_be: ShouldBe::Value {
            exactly_once: 0.0,
            at_least_once: HOUR_MS,
            if_less: Some((
                Severity::Warning,
                "without transactions, an update that races with its firing can be compacted away before it is repaired",
            )),
            if_more: Some((
                Severity::Advice,
                "delivered schedules are kept, and loaded, for longer than needed",
            )),
        },
    },
    Rule {
        setting: "min.cleanable.dirty.ratio",
        should_be: ShouldBe::Value {
            exactly_once: 0.1,
            at_least_once: 0.1,
            if_less: None,
            if_more: Some((Severity::Advice, "compaction waits longer, so a start has more to load")),
        },
    },
    Rule {
        setting: "segment.ms",
        should_be: ShouldBe::Value {
            exactly_once: 24.0 * HOUR_MS,
            at_least_once: 24.0 * HOUR_MS,
            if_less: None,
            if_more: Some((
                Severity::Advice,
                "the newest segment is never compacted, so a start has more to load",
            )),
        },
    },
    Rule {
        setting: "segment.bytes",
        should_be: ShouldBe::Value {
            exactly_once: 100_000_000.0,
            at_least_once: 100_000_000.0,
            if_less: None,
            if_more: Some((
                Severity::Advice,
                "the newest segment is never compacted, so a start has more to load",
            )),
        },
    },
];

impl Rule {
    fn recommended(&self, delivery: Delivery) -> String {
        match &self.should_be {
            ShouldBe::Compact => "compact".into(),
            ShouldBe::Value { exactly_once, at_least_once, .. } => match delivery {
                Delivery::ExactlyOnce => exactly_once.to_string(),
                Delivery::AtLeastOnce => at_least_once.to_string(),
            },
        }
    }

    fn judge(&self, is: &str, delivery: Delivery) -> Option<(Severity, &'static str)> {
        match &self.should_be {
            ShouldBe::Compact => {
                let policies: Vec<&str> = is.split(',').map(str::trim).collect();
                if !policies.contains(&"compact") {
                    Some((
                        Severity::Critical,
                        "SCHEDULES ARE LOST: without compaction, retention deletes what is still pending",
                    ))
                } else if policies.contains(&"delete") {
                    Some((
                        Severity::Critical,
                        "SCHEDULES ARE LOST: besides compaction, retention deletes what is still pending",
                    ))
                } else {
                    None
                }
            }
            ShouldBe::Value { exactly_once, at_least_once, if_less, if_more } => {
                let recommended = match delivery {
                    Delivery::ExactlyOnce => exactly_once,
                    Delivery::AtLeastOnce => at_least_once,
                };
                match is.parse::<f64>().ok()?.total_cmp(recommended) {
                    std::cmp::Ordering::Less => *if_less,
                    std::cmp::Ordering::Equal => None,
                    std::cmp::Ordering::Greater => *if_more,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(setting: &'static str, value: &str, delivery: Delivery) -> Option<Severity> {
        let findings = compare("s", &BTreeMap::from([(setting, value)]), delivery);
        assert!(findings.iter().all(|finding| finding.setting == setting && finding.is == value));
        findings.first().map(|finding| finding.severity)
    }

    #[test]
    fn what_is_recommended_is_not_found_fault_with() {
        for delivery in [Delivery::ExactlyOnce, Delivery::AtLeastOnce] {
            let recommended = recommended(delivery);
            let values = recommended.iter().map(|(setting, value)| (*setting, value.as_str())).collect();
            assert_eq!(compare("s", &values, delivery), []);
        }
    }

    #[test]
    fn a_topic_that_retention_deletes_from_is_critical() {
        for (policy, severity) in [
            ("compact", None),
            ("delete", Some(Severity::Critical)),
            ("compact,delete", Some(Severity::Critical)),
            ("delete, compact", Some(Severity::Critical)),
        ] {
            assert_eq!(found("cleanup.policy", policy, Delivery::ExactlyOnce), severity, "{policy}");
        }
    }

    #[test]
    fn what_matters_depends_on_the_side_and_on_the_delivery() {
        use Delivery::{AtLeastOnce, ExactlyOnce};
        for (setting, value, delivery, severity) in [
            ("delete.retention.ms", "60000", ExactlyOnce, Some(Severity::Warning)),
            ("delete.retention.ms", "86400000", ExactlyOnce, Some(Severity::Advice)),
            ("min.compaction.lag.ms", "0", ExactlyOnce, None),
            ("min.compaction.lag.ms", "0", AtLeastOnce, Some(Severity::Warning)),
            ("min.compaction.lag.ms", "3600000", ExactlyOnce, Some(Severity::Advice)),
            ("min.cleanable.dirty.ratio", "0.5", ExactlyOnce, Some(Severity::Advice)),
            ("min.cleanable.dirty.ratio", "0.01", ExactlyOnce, None),
            ("segment.bytes", "1073741824", ExactlyOnce, Some(Severity::Advice)),
            ("segment.ms", "604800000", ExactlyOnce, Some(Severity::Advice)),
        ] {
            assert_eq!(found(setting, value, delivery), severity, "{setting} = {value}");
        }
    }

    #[test]
    fn whole_numbers_are_written_as_kafka_writes_them() {
        let all: BTreeMap<_, _> = recommended(Delivery::ExactlyOnce).into_iter().collect();
        assert_eq!(all["segment.ms"], "86400000");
        assert_eq!(all["segment.bytes"], "100000000");
        assert_eq!(all["min.compaction.lag.ms"], "0");
        assert_eq!(all["min.cleanable.dirty.ratio"], "0.1");
    }
}
