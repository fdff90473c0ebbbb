//! Joins engine and Kafka: a thread for each owned partition, the consumer group that hands partitions out, firing.

pub mod command;
pub mod dry_run;
mod fire;
mod record;
pub mod runner;
pub mod settings;
pub mod status;
pub mod supervisor;
mod throttle;
pub mod watch;
