//! Tests against a real Apache Kafka, which they start themselves.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests panic, wait and look at the clock")]

#[path = "../support/mod.rs"]
mod support;

mod commands;
mod crashes;
mod harness;
mod outages;
mod races;
mod rebalances;
mod scene;
mod topics;
mod transactions;
mod zombies;
