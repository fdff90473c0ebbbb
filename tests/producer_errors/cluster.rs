//! A cluster that answers as a test tells it to.

use std::ops::Deref;
use std::time::Duration;

use kafka_message_scheduler::kafka::producer::Mode;
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::{MockCluster, MockCoordinator};
use rdkafka::producer::DefaultProducerContext;
use rdkafka::types::{RDKafkaApiKey as Request, RDKafkaErrorCode as Code, RDKafkaRespErr};

use crate::calls::Calls;

/// The topic whose partition 0 is the shard's own.
pub(crate) const OWN: &str = "schedules";
pub(crate) const DESTINATION: &str = "destination";

pub(crate) struct Cluster(MockCluster<'static, DefaultProducerContext>);

impl Cluster {
    pub(crate) fn start(brokers: i32) -> Self {
        let cluster = Self(MockCluster::new(brokers).unwrap());
        for topic in [OWN, DESTINATION] {
            cluster.create_topic(topic, 1, 1).unwrap();
        }
        cluster
    }

    pub(crate) fn calls(&self) -> Calls {
        self.calls_in(Mode::Transactional, "10s")
    }

    /// With this time-out of transactions, and so of messages.
    pub(crate) fn calls_in(&self, mode: Mode, timeout: &str) -> Calls {
        Calls::new(&self.bootstrap_servers(), OWN, DESTINATION, mode, timeout)
    }

    /// The next requests of this kind are answered with these errors, one after the other.
    pub(crate) fn answer(&self, request: Request, errors: &[Code]) {
        let errors: Vec<_> =
            errors.iter().map(|code| RDKafkaRespErr::try_from(*code as i32).unwrap()).collect();
        self.request_errors(request, &errors);
    }

    /// Gives the shard's transactions another coordinator.
    pub(crate) fn move_coordinator(&self, broker: i32) {
        self.coordinator(MockCoordinator::Transaction(format!("kms:{OWN}:0")), broker).unwrap();
    }

    /// The offsets of everything that was ever written to the only partition of a topic; nothing here takes one else.
    pub(crate) fn offsets_of(&self, topic: &str) -> Vec<i64> {
        let client: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", self.bootstrap_servers()).create().unwrap();
        (0..client.fetch_watermarks(topic, 0, Duration::from_secs(30)).unwrap().1).collect()
    }
}

impl Deref for Cluster {
    type Target = MockCluster<'static, DefaultProducerContext>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}
