//! Joins engine and Kafka: a thread for each owned partition, the consumer group that hands partitions out, firing.

mod command;
mod dry_run;
mod fire;
mod record;
mod run;
mod runner;
mod settings;
pub mod status;
mod supervisor;
mod throttle;
mod watch;

pub use run::{RunOptions, run};
