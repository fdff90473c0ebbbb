//! The adapter to Kafka: the only place that knows librdkafka.

pub mod client;
pub mod topics;
