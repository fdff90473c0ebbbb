//! Joins engine and Kafka: a thread for each owned partition, the consumer group that hands partitions out, firing.

mod command;
mod fire;
mod record;
mod runner;
mod settings;
pub mod status;
mod supervisor;
mod throttle;
