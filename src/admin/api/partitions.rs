//! `GET /api/partitions`, `GET /api/stats`: what this instance owns, how it is, what it did.

use axum::extract::State;
use axum::response::Json;
use serde::Serialize;

use super::Api;
use super::error::ApiError;
use super::question::{Parsed, TopicParameter, parameters};
use crate::scheduler::status::{DueWindow, Label, PartitionStatus, Phase};

/// Which partitions of a topic an answer is about.
#[derive(Debug, Serialize)]
pub(super) struct Coverage {
    /// What this instance owns and can be asked about.
    owned: Vec<i32>,
    missing: Vec<Missing>,
}

#[derive(Debug, Serialize)]
struct Missing {
    partition: i32,
    why: &'static str,
}

/// The partitions of a schedule topic.
#[derive(Debug, Serialize)]
pub(super) struct OfTopic {
    schedule_topic: String,
    partitions: Vec<Partition>,
    /// Those that another instance owns, or none.
    not_owned: Vec<i32>,
}

#[derive(Debug, Serialize)]
struct Partition {
    #[serde(rename = "partition")]
    number: i32,
    phase: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    pending: i64,
    in_flight: i64,
    set_aside: i64,
    oldest_overdue_ms: i64,
    records_applied: i64,
    records_to_apply: i64,
    position: i64,
    lag: i64,
    payload_bytes: i64,
    structure_bytes: i64,
}

impl Partition {
    fn of(number: i32, figures: &PartitionStatus) -> Self {
        Self {
            number,
            phase: figures.phase().label(),
            reason: figures.reason(),
            pending: figures.pending.get(),
            in_flight: figures.in_flight.get(),
            set_aside: figures.set_aside.get(),
            oldest_overdue_ms: figures.oldest_overdue_ms.get(),
            records_applied: figures.records_applied.get(),
            records_to_apply: figures.records_to_apply.get(),
            position: figures.position.get(),
            lag: figures.lag(),
            payload_bytes: figures.payload_bytes.get(),
            structure_bytes: figures.structure_bytes.get(),
        }
    }
}

/// All partitions of this instance together, and its counters since it was started.
#[derive(Debug, Serialize)]
pub(super) struct Stats {
    ready: bool,
    partitions: usize,
    pending: i64,
    /// Of those, by how soon they are due.
    due: Vec<Due>,
    in_flight: i64,
    set_aside: i64,
    oldest_overdue_ms: i64,
    payload_bytes: i64,
    structure_bytes: i64,
    fired: u64,
    cancelled: u64,
    replaced: u64,
    rejected: u64,
    skipped: u64,
    repaired: u64,
}

#[derive(Debug, Serialize)]
struct Due {
    within: &'static str,
    count: i64,
}

/// `GET /api/partitions`
pub(super) async fn partitions(
    State(api): State<Api>,
    topic: Parsed<TopicParameter>,
) -> Result<Json<OfTopic>, ApiError> {
    let (schedule_topic, _) = api.topic(&parameters(topic)?)?;
    let count = api.partition_count(&schedule_topic).await?;
    let figures = api.status.partitions();
    let owned = figures.iter().filter(|(topic, ..)| **topic == *schedule_topic);
    let partitions: Vec<_> =
        owned.map(|(_, partition, figures)| Partition::of(*partition, figures)).collect();
    let is_owned = |number: &i32| partitions.iter().any(|owned| owned.number == *number);
    let not_owned = (0..count).filter(|number| !is_owned(number)).collect();
    Ok(Json(OfTopic { schedule_topic, partitions, not_owned }))
}

/// `GET /api/stats`
pub(super) async fn stats(State(api): State<Api>) -> Json<Stats> {
    let (partitions, topics) = (api.status.partitions(), api.status.topics());
    let sum = |of: &dyn Fn(&PartitionStatus) -> i64| partitions.iter().map(|(.., figures)| of(figures)).sum();
    let count = |of: &dyn Fn(&crate::scheduler::status::TopicCounters) -> u64| {
        topics.iter().map(|(_, counters)| of(counters)).sum()
    };
    let due = DueWindow::ALL.iter().map(|window| Due {
        within: window.label(),
        count: sum(&|figures| figures.due_within[window.index()].get()),
    });
    Json(Stats {
        ready: api.status.ready(),
        partitions: partitions.len(),
        pending: sum(&|figures| figures.pending.get()),
        due: due.collect(),
        in_flight: sum(&|figures| figures.in_flight.get()),
        set_aside: sum(&|figures| figures.set_aside.get()),
        oldest_overdue_ms: partitions
            .iter()
            .map(|(.., figures)| figures.oldest_overdue_ms.get())
            .max()
            .unwrap_or(0),
        payload_bytes: sum(&|figures| figures.payload_bytes.get()),
        structure_bytes: sum(&|figures| figures.structure_bytes.get()),
        fired: count(&|counters| counters.fired.get()),
        cancelled: count(&|counters| counters.cancelled.get()),
        replaced: count(&|counters| counters.replaced.get()),
        rejected: count(&|counters| counters.rejected.get()),
        skipped: count(&|counters| counters.skipped.get()),
        repaired: count(&|counters| counters.repaired.get()),
    })
}

impl Api {
    pub(super) fn is_live(&self, topic: &str, partition: i32) -> bool {
        self.status.partition_of(topic, partition).is_some_and(|figures| figures.phase() == Phase::Live)
    }

    /// Which partitions of a topic can be asked now.
    pub(super) async fn coverage(&self, topic: &str) -> Result<Coverage, ApiError> {
        let owned = self.desk.owned(topic);
        let (live, loading): (Vec<i32>, Vec<i32>) =
            owned.into_iter().partition(|&partition| self.is_live(topic, partition));
        let not_live = loading.iter().map(|&partition| Missing { partition, why: "not live yet" });
        let is_here = |number: &i32| live.contains(number) || loading.contains(number);
        let elsewhere = (0..self.partition_count(topic).await?).filter(|number| !is_here(number));
        let missing = not_live
            .chain(elsewhere.map(|partition| Missing { partition, why: "not owned by this instance" }));
        let missing = missing.collect();
        Ok(Coverage { owned: live, missing })
    }
}
