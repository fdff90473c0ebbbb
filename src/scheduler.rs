//! Joins engine and Kafka: a thread for each owned partition, the consumer group that hands partitions out, firing.

mod blame;
mod cancel_many;
pub mod checkpoints;
pub mod command;
mod commands;
pub mod desk;
pub mod dry_run;
mod fire;
mod history;
mod messages;
pub mod order;
mod publish;
pub mod reading;
mod record;
mod repairs;
pub mod runner;
pub mod settings;
pub mod status;
pub mod supervisor;
mod throttle;
mod transaction;
pub mod watch;

pub use fire::TOMBSTONE_OVERHEAD_BYTES;
