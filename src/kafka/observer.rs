//! A client without a group that sees open transactions: high watermarks, topic IDs, which topics there are.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;

use super::context::QuietContext;
use super::ffi::{self, ErrorCode};
use super::{LogError, Watermarks};

/// Asks the cluster what a read-committed consumer cannot know. Shared by all shards.
pub struct Observer {
    client: BaseConsumer<QuietContext>,
    topic_ids: TopicIds,
    /// As last heard; 0 before anything was heard.
    brokers: AtomicUsize,
    /// What was asked about the IDs of topics.
    asked: Mutex<HashMap<String, Asked>>,
    answered: Condvar,
}

/// A question about the ID of a topic, and the last answer.
#[derive(Default)]
struct Asked {
    is_open: bool,
    /// When the answer was asked for, and what it was, or why there was none.
    answer: Option<(Instant, Result<String, String>)>,
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
        let (brokers, asked, answered) = (AtomicUsize::new(0), Mutex::default(), Condvar::new());
        Ok(Arc::new(Self { client, topic_ids, brokers, asked, answered }))
    }

    /// Where a partition begins and ends, open transactions included.
    pub fn watermarks(&self, topic: &str, partition: i32, wait: Duration) -> Result<Watermarks, LogError> {
        let (low, high) = self.client.fetch_watermarks(topic, partition, wait).map_err(|error| {
            LogError::Retriable(format!("cannot ask for the end of {topic}-{partition}: {error}"))
        })?;
        Ok(Watermarks { low, high })
    }

    /// The topic's ID; empty where the cluster has none.
    ///
    /// Those who ask at the same time share an answer, which was asked for after each of them came: the answer is about all
    /// partitions of the topic, and a thousand shards that each ask for it at once would wait for minutes.
    #[allow(clippy::disallowed_methods, reason = "tells which question came first, nothing about schedules")]
    pub fn topic_id(&self, topic: &str, wait: Duration) -> Result<String, LogError> {
        if self.topic_ids == TopicIds::None {
            return Ok(String::new());
        }
        let came = Instant::now();
        let mut asked = self.asked();
        loop {
            let of_topic = asked.entry(topic.to_owned()).or_default();
            if let Some((at, answer)) = &of_topic.answer
                && *at >= came
            {
                return answer.clone().map_err(LogError::Retriable);
            }
            if !of_topic.is_open {
                of_topic.is_open = true;
                break;
            }
            let Some(left) = wait.checked_sub(came.elapsed()).filter(|left| !left.is_zero()) else {
                let reason =
                    format!("cannot ask for the ID of topic {topic}: the question before is unanswered");
                return Err(LogError::Retriable(reason));
            };
            let woken = self.answered.wait_timeout(asked, left).unwrap_or_else(PoisonError::into_inner);
            asked = woken.0;
        }
        drop(asked);
        let at = Instant::now();
        let answer = self.ask_for_topic_id(topic, wait);
        self.asked().insert(topic.to_owned(), Asked { is_open: false, answer: Some((at, answer.clone())) });
        self.answered.notify_all();
        answer.map_err(LogError::Retriable)
    }

    fn ask_for_topic_id(&self, topic: &str, wait: Duration) -> Result<String, String> {
        let failed = |code| format!("cannot ask for the ID of topic {topic}: {code}");
        match ffi::topic_ids(&self.client, &[topic], wait) {
            Ok(mut ids) => ids.remove(topic).unwrap_or(Err(ErrorCode::UnknownTopic)).map_err(failed),
            Err(ErrorCode::UnsupportedFeature) => Ok(String::new()),
            Err(code) => Err(failed(code)),
        }
    }

    fn asked(&self) -> MutexGuard<'_, HashMap<String, Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]
    use super::*;
    use crate::kafka::embedded::EmbeddedCluster;

    #[test]
    fn those_who_ask_together_are_not_answered_one_after_the_other() {
        const WAIT: Duration = Duration::from_millis(500);
        // It never answers a question about IDs.
        let cluster = EmbeddedCluster::start(&[("s", 1)]).unwrap();
        let config = ClientConfig::new().set("bootstrap.servers", cluster.bootstrap_servers()).clone();
        let observer = Observer::new(&config, TopicIds::Known).unwrap();
        let started = Instant::now();
        std::thread::scope(|threads| {
            for _ in 0..50 {
                threads.spawn(|| observer.topic_id("s", WAIT).unwrap_err());
            }
        });
        let took = started.elapsed();
        assert!((WAIT..6 * WAIT).contains(&took), "{took:?}");
    }
}
