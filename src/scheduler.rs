//! Joins engine and Kafka: a thread for each owned partition, the consumer group that hands partitions out, firing.

pub mod command;
mod dry_run;
mod fire;
mod record;
mod run;
pub mod runner;
pub mod settings;
pub mod status;
pub mod supervisor;
mod throttle;
mod watch;

pub use run::{RunOptions, run, run_until};
