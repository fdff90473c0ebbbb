//! A client without a group that sees open transactions: high watermarks, topic IDs, which topics there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use super::LogError;
use super::context::QuietContext;
use super::ffi::{self, ErrorCode};

/// Asks the cluster what a read-committed consumer cannot know. Shared by all shards.
pub struct Observer {
    client: BaseConsumer<QuietContext>,
    topic_ids: TopicIds,
    /// As last heard; 0 before anything was heard.
    brokers: AtomicUsize,
}

/// Whether the cluster's topics have IDs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TopicIds {
    /// As every Kafka since 2.8.
    #[default]
    Known,
    /// The demo's embedded cluster never answers when asked.
    None,
}

impl Observer {
    /// A client of the cluster that `config` (without group) describes.
    pub fn new(config: &ClientConfig, topic_ids: TopicIds) -> Result<Arc<Self>, KafkaError> {
        let client = config
            .clone()
            .remove("group.id")
            .set("isolation.level", "read_uncommitted")
            .set("statistics.interval.ms", "0")
            .create_with_context(QuietContext)?;
        Ok(Arc::new(Self { client, topic_ids, brokers: AtomicUsize::new(0) }))
    }

    /// The partition's high watermark, open transactions included.
    pub fn end_offset(&self, topic: &str, partition: i32, wait: Duration) -> Result<i64, LogError> {
        let (_, high) = self.client.fetch_watermarks(topic, partition, wait).map_err(|error| {
            LogError::Retriable(format!("cannot ask for the end of {topic}-{partition}: {error}"))
        })?;
        Ok(high)
    }

    /// The topic's ID; empty where the cluster has none.
    pub fn topic_id(&self, topic: &str, wait: Duration) -> Result<String, LogError> {
        if self.topic_ids == TopicIds::None {
            return Ok(String::new());
        }
        let failed = |code| LogError::Retriable(format!("cannot ask for the ID of topic {topic}: {code}"));
        match ffi::topic_ids(&self.client, &[topic], wait) {
            Ok(mut ids) => ids.remove(topic).unwrap_or(Err(ErrorCode::UnknownTopic)).map_err(failed),
            Err(ErrorCode::UnsupportedFeature) => Ok(String::new()),
            Err(code) => Err(failed(code)),
        }
    }

    /// The number of partitions of a topic; `None` when it does not exist.
    pub fn partition_count(&self, topic: &str, wait: Duration) -> Result<Option<usize>, LogError> {
        let failed =
            |reason: String| LogError::Retriable(format!("cannot ask about topic {topic}: {reason}"));
        let answer = self.client.fetch_metadata(Some(topic), wait);
        // Nothing is subscribed to; but the errors of connections would pile up during an outage.
        while self.client.poll(Duration::ZERO).is_some() {}
        let metadata = answer.map_err(|error| failed(error.to_string()))?;
        self.brokers.store(metadata.brokers().len(), Ordering::Relaxed);
        let Some(found) = metadata.topics().iter().find(|t| t.name() == topic) else { return Ok(None) };
        match found.error().map(ErrorCode::from) {
            None => Ok(Some(found.partitions().len())),
            Some(ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopic) => Ok(None),
            Some(code) => Err(failed(code.to_string())),
        }
    }

    /// How many brokers the cluster has, as last heard when asked about a topic.
    pub fn brokers(&self) -> usize {
        self.brokers.load(Ordering::Relaxed)
    }
}
