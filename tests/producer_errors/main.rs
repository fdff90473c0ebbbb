//! What becomes of each error that Kafka can answer a shard's producer with, call by call.
//!
//! The cluster is librdkafka's mock, which answers as it is told, goes silent, and moves coordinators. It keeps no
//! transactions apart: what a real Kafka makes of a lost producer is in `tests/kafka/lost_producers.rs`.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests panic, wait and look at the clock")]

mod answers;
mod blame;
#[path = "../support/calls.rs"]
mod calls;
mod cluster;
mod silence;
