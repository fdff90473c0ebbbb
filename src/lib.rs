//! The Kafka Message Scheduler: delivers messages to Kafka topics at a chosen time, exactly once.
//!
//! Start with `docs/ARCHITECTURE.md`, which says where each part lives and what may use what.

pub mod admin;
pub mod allocator;
pub mod checkpoint;
pub mod cli;
pub mod codec;
pub mod config;
pub mod engine;
pub mod instance;
pub mod kafka;
mod prefetch;
pub mod schedule;
pub mod scheduler;
pub mod telemetry;
pub mod version;
