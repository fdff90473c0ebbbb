//! Health, for whatever restarts instances and sends them work.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Json;
use serde::Serialize;

use super::Observed;
use crate::scheduler::status::{Label, PartitionStatus, Phase};

/// Whether the process works: `503` when the thread of a partition has shown no sign of life for too long.
pub(super) async fn live(State(observed): State<Observed>) -> (StatusCode, Json<Liveness>) {
    let partitions = observed.status.partitions();
    let stalled = partitions.iter().filter(|(.., figures)| figures.heartbeat_age() > observed.stalled_after);
    let stalled: Vec<Stalled> = stalled
        .map(|(topic, partition, figures)| Stalled {
            topic: topic.to_string(),
            partition: *partition,
            phase: figures.phase().label(),
            silent_for_s: figures.heartbeat_age().as_secs(),
        })
        .collect();
    let live = stalled.is_empty();
    (code(live), Json(Liveness { live, stalled }))
}

/// Whether everything that this instance owns is delivered in time: `503` until the group is joined and every owned
/// partition is live, and while more is held than the settings want.
pub(super) async fn ready(State(observed): State<Observed>) -> (StatusCode, Json<Readiness>) {
    let partitions = observed.status.partitions();
    let not_live = partitions
        .iter()
        .filter(|(.., figures)| figures.phase() != Phase::Live)
        .map(|(topic, partition, figures)| NotLive::of(topic, *partition, figures))
        .collect();
    let ready = observed.status.ready();
    let (joined, reasons) = (observed.status.joined(), observed.status.reasons());
    (code(ready), Json(Readiness { ready, joined, owned: partitions.len(), not_live, reasons }))
}

fn code(well: bool) -> StatusCode {
    if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

#[derive(Debug, Serialize)]
pub(super) struct Liveness {
    live: bool,
    stalled: Vec<Stalled>,
}

#[derive(Debug, Serialize)]
struct Stalled {
    topic: String,
    partition: i32,
    phase: &'static str,
    silent_for_s: u64,
}

#[derive(Debug, Serialize)]
pub(super) struct Readiness {
    ready: bool,
    /// Whether the consumer group has given this instance its partitions, maybe none.
    joined: bool,
    /// How many partitions that is.
    owned: usize,
    not_live: Vec<NotLive>,
    /// What else is in the way, and what to do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<String>,
}

#[derive(Debug, Serialize)]
struct NotLive {
    topic: String,
    partition: i32,
    phase: &'static str,
    records_applied: i64,
    records_to_apply: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl NotLive {
    fn of(topic: &str, partition: i32, figures: &PartitionStatus) -> Self {
        Self {
            topic: topic.into(),
            partition,
            phase: figures.phase().label(),
            records_applied: figures.records_applied.get(),
            records_to_apply: figures.records_to_apply.get(),
            reason: figures.reason(),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods)]
    use super::super::router;
    use super::*;
    use crate::scheduler::status::Status;
    use crate::telemetry::Metrics;
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use serde_json::{Value, json};
    use std::sync::Arc;
    use std::time::Duration;
    use tower::ServiceExt;

    async fn ask(status: &Arc<Status>, stalled_after: Duration, path: &str) -> (u16, Value) {
        let metrics = Arc::new(Metrics::of(status).unwrap());
        let observed = Observed { status: Arc::clone(status), metrics, stalled_after };
        let request = Request::get(path).body(Body::empty()).unwrap();
        let answer = router(observed).oneshot(request).await.unwrap();
        let code = answer.status().as_u16();
        (code, serde_json::from_slice(&to_bytes(answer.into_body(), 1 << 20).await.unwrap()).unwrap())
    }

    const PATIENT: Duration = Duration::from_hours(1);

    #[tokio::test]
    async fn ready_says_what_is_missing() {
        let status = Arc::new(Status::new());
        let (code, body) = ask(&status, PATIENT, "/health/ready").await;
        assert_eq!((code, body["joined"].clone()), (503, json!(false)));

        status.set_joined(true);
        let (first, second) = (status.partition("s", 0), status.partition("s", 1));
        first.set_phase(Phase::Live);
        second.set_phase(Phase::Loading);
        second.records_applied.set(10);
        second.records_to_apply.set(40);
        second.set_reason("loading");
        let (code, body) = ask(&status, PATIENT, "/health/ready").await;
        let missing = json!([{
            "topic": "s", "partition": 1, "phase": "loading",
            "records_applied": 10, "records_to_apply": 40, "reason": "loading",
        }]);
        assert_eq!((code, &body["not_live"], &body["owned"]), (503, &missing, &json!(2)));

        second.set_phase(Phase::Live);
        let (code, body) = ask(&status, PATIENT, "/health/ready").await;
        assert_eq!((code, body), (200, json!({"ready": true, "joined": true, "owned": 2, "not_live": []})));
    }

    #[tokio::test]
    async fn more_than_the_bound_is_not_ready_and_says_what_to_do() {
        let status = Arc::new(Status::new());
        status.set_joined(true);
        status.set_bounds(Some(1 << 30), None);
        let partition = status.partition("s", 0);
        partition.set_phase(Phase::Live);
        partition.payload_bytes.set(2 << 30);
        status.look_at_bounds();
        let (code, body) = ask(&status, PATIENT, "/health/ready").await;
        assert_eq!((code, &body["not_live"], &body["joined"]), (503, &json!([]), &json!(true)));
        let reason = body["reasons"][0].as_str().unwrap();
        for part in ["takes 2.0 GiB", "memory.max_pending_bytes is 1.0 GiB", "start more instances"] {
            assert!(reason.contains(part), "{reason}");
        }
        assert_eq!(ask(&status, PATIENT, "/health/live").await.0, 200, "it works all the same");
    }

    #[tokio::test]
    async fn live_until_a_thread_falls_silent() {
        let status = Arc::new(Status::new());
        let partition = status.partition("s", 7);
        assert_eq!(ask(&status, PATIENT, "/health/live").await, (200, json!({"live": true, "stalled": []})));

        while partition.heartbeat_age() < Duration::from_millis(5) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (code, body) = ask(&status, Duration::from_millis(1), "/health/live").await;
        assert_eq!((code, &body["stalled"][0]["partition"]), (503, &json!(7)));
    }
}
