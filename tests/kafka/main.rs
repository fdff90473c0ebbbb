//! Tests against a real Apache Kafka, which they start themselves.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests panic, wait and look at the clock")]

#[path = "../support/calls.rs"]
mod calls;
#[path = "../support/mod.rs"]
mod support;

mod api;
mod at_least_once;
mod bad_input;
mod bench;
mod cancelling;
mod cancelling_many;
mod chaos;
mod checkpoints;
mod clock;
mod commands;
mod crashes;
mod destinations;
mod firing;
mod harness;
mod judged;
mod lasting_names;
mod lost_producers;
mod memory;
mod metrics;
mod modes;
mod outages;
mod races;
mod rebalances;
mod rejections;
mod restarting;
mod scale;
mod scene;
mod spoilers;
mod stage;
mod starting;
mod topics;
mod transactions;
mod watching;
mod zombies;
