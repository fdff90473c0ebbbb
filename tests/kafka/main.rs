//! Tests against a real Apache Kafka, which they start themselves.

#[path = "../support/mod.rs"]
mod support;

mod harness;
