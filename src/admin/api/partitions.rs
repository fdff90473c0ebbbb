//! `GET /api/partitions`, `GET /api/stats`: what this instance owns, how it is, what it did.

use axum::extract::State;
use axum::response::Json;
use serde::{Deserialize, Serialize};

use super::Api;
use super::error::ApiError;
use super::question::{Parsed, TopicParameter, parameters};
use crate::admin::samples::{Over, Point};
use crate::scheduler::status::{DueWindow, Label, PartitionStatus, Phase, TopicCounters};
use crate::telemetry::resident_bytes;
use crate::version::Version;

/// Why a partition that can be asked is not in an answer.
pub(super) const NO_ANSWER: &str = "it did not answer in time";

/// Which partitions of a topic an answer is about.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Coverage {
    /// What this instance owns and can be asked about.
    owned: Vec<i32>,
    missing: Vec<Missing>,
}

#[derive(Clone, Debug, Serialize)]
struct Missing {
    partition: i32,
    why: &'static str,
}

impl Coverage {
    /// What can be asked.
    pub(super) fn owned(&self) -> &[i32] {
        &self.owned
    }

    /// It could not be asked to the end.
    pub(super) fn lose(&mut self, partition: i32, why: &'static str) {
        self.owned.retain(|&owned| owned != partition);
        self.missing.retain(|missing| missing.partition != partition);
        self.missing.push(Missing { partition, why });
    }
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
    /// Epoch milliseconds.
    now: i64,
    version: &'static str,
    read_only: bool,
    schedule_topics: Vec<String>,
    ready: bool,
    /// Why it is not.
    reasons: Vec<String>,
    partitions: usize,
    pending: i64,
    /// Of those, by how soon they are due.
    due: Vec<Due>,
    in_flight: i64,
    set_aside: i64,
    oldest_overdue_ms: i64,
    payload_bytes: i64,
    structure_bytes: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    resident_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_limit_bytes: Option<u64>,
    fired: u64,
    cancelled: u64,
    replaced: u64,
    rejected: u64,
    skipped: u64,
    repaired: u64,
    /// Of what was fired in the last minute.
    lateness_ms: LatenessJson,
    #[serde(skip_serializing_if = "Option::is_none")]
    over_time: Option<OverTime>,
}

#[derive(Debug, Serialize)]
struct LatenessJson {
    p50: Option<u64>,
    p99: Option<u64>,
}

/// Points of plots.
#[derive(Debug, Serialize)]
struct OverTime {
    step_ms: u64,
    points: Vec<PointJson>,
}

#[derive(Debug, Serialize)]
struct PointJson {
    /// Epoch milliseconds.
    time: i64,
    pending: i64,
    fired: u64,
    cancelled: u64,
    replaced: u64,
    rejected: u64,
    late_p50_ms: Option<u64>,
    late_p99_ms: Option<u64>,
}

impl From<Point> for PointJson {
    fn from(point: Point) -> Self {
        Self {
            time: point.at_ms,
            pending: point.pending,
            fired: point.fired,
            cancelled: point.cancelled,
            replaced: point.replaced,
            rejected: point.rejected,
            late_p50_ms: point.lateness.p50_ms,
            late_p99_ms: point.lateness.p99_ms,
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct StatsParameters {
    over: Option<String>,
    /// Taken, as everywhere: these figures are of all topics.
    #[serde(rename = "schedule_topic")]
    _schedule_topic: Option<String>,
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
pub(super) async fn stats(
    State(api): State<Api>,
    asked: Parsed<StatsParameters>,
) -> Result<Json<Stats>, ApiError> {
    let over = match parameters(asked)?.over.as_deref() {
        None | Some("") => None,
        Some(text) => Some(
            Over::parse(text)
                .ok_or_else(|| ApiError::bad_request("invalid_parameter", "over is one of: 10m, 1h, 24h"))?,
        ),
    };
    let mut stats = Stats::of(&api);
    stats.over_time = over.map(|over| OverTime {
        step_ms: over.step().as_millis() as u64,
        points: api.samples.points(over).into_iter().map(PointJson::from).collect(),
    });
    Ok(Json(stats))
}

impl Stats {
    /// As it is now.
    pub(super) fn of(api: &Api) -> Self {
        let status = &api.status;
        let (partitions, topics) = (status.partitions(), status.topics());
        let sum = |of: &dyn Fn(&PartitionStatus) -> i64| -> i64 {
            partitions.iter().map(|(.., figures)| of(figures)).sum()
        };
        let count =
            |of: &dyn Fn(&TopicCounters) -> u64| topics.iter().map(|(_, counters)| of(counters)).sum();
        let due = DueWindow::ALL.iter().map(|window| Due {
            within: window.label(),
            count: sum(&|figures| figures.due_within[window.index()].get()),
        });
        let lateness = api.samples.lateness(status);
        Self {
            now: api.now_ms(),
            version: Version::current().version,
            read_only: api.settings.admin.read_only,
            schedule_topics: api.settings.topics.iter().map(|(topic, _)| topic.to_owned()).collect(),
            ready: status.ready(),
            reasons: status.reasons(),
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
            resident_bytes: resident_bytes(),
            memory_limit_bytes: status.pending_bytes_bound.limit(),
            fired: count(&|counters| counters.fired.get()),
            cancelled: count(&|counters| counters.cancelled.get()),
            replaced: count(&|counters| counters.replaced.get()),
            rejected: count(&|counters| counters.rejected.get()),
            skipped: count(&|counters| counters.skipped.get()),
            repaired: count(&|counters| counters.repaired.get()),
            lateness_ms: LatenessJson { p50: lateness.p50_ms, p99: lateness.p99_ms },
            over_time: None,
        }
    }
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
