//! A stand-in for Kafka inside this process, for the demo and for trying `kms bench` out.
//!
//! librdkafka's mock cluster: everything is in memory, a partition keeps a few megabytes, transactions are answered but
//! not kept apart, nothing is compacted. Good for a look, not for a promise.

use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;

/// The embedded cluster; gone when dropped.
pub struct EmbeddedCluster {
    cluster: MockCluster<'static, DefaultProducerContext>,
}

impl EmbeddedCluster {
    /// A cluster of one broker on a free port of this machine, with the given topics and numbers of partitions.
    pub fn start(topics: &[(&str, i32)]) -> Result<Self, KafkaError> {
        let cluster = MockCluster::new(1)?;
        for (topic, partitions) in topics {
            cluster.create_topic(topic, *partitions, 1)?;
        }
        Ok(Self { cluster })
    }

    /// Another topic.
    pub fn create_topic(&self, topic: &str, partitions: i32) -> Result<(), KafkaError> {
        self.cluster.create_topic(topic, partitions, 1)
    }

    /// Where clients find it: `127.0.0.1:port`.
    #[must_use]
    pub fn bootstrap_servers(&self) -> String {
        self.cluster.bootstrap_servers()
    }
}
