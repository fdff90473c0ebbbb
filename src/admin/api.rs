//! The admin API: what is pending, and changing it. JSON in and out; see docs/operations.md.
//!
//! An instance answers for the partitions that it owns. Every write is a record on the schedule topic, written by the shard
//! that owns the partition in a verified transaction, so its answer is definite.

mod cancelling;
mod due;
mod error;
mod events;
mod guard;
mod history;
mod id;
mod listing;
mod openapi;
mod partitions;
mod question;
mod schedule;
mod writing;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use axum::{Router, http::StatusCode};
use tokio::sync::Semaphore;
use tower_http::timeout::RequestBodyTimeoutLayer;

use super::samples::Samples;
use crate::config::Settings;
use crate::scheduler::command::FoundSchedule;
use crate::scheduler::desk::Desk;
use crate::scheduler::status::Status;
use cancelling::Jobs;
use error::ApiError;

/// A request's body, at most: a schedule of the largest message that Kafka takes by default, in base64, with room to spare.
const BODY_BYTES: usize = 4 << 20;

/// What the API is about.
#[derive(Clone)]
pub struct Api {
    /// Where shards are asked.
    pub desk: Arc<Desk>,
    /// What they publish.
    pub status: Arc<Status>,
    /// Which topics, and who may do what.
    pub settings: Arc<Settings>,
    /// Figures over time.
    samples: Arc<Samples>,
    /// What is cancelled in bulk.
    jobs: Arc<Jobs>,
    /// Requests that are answered at a time; what more come are refused.
    requests: Arc<Semaphore>,
    /// Of those who watch, likewise.
    watchers: Arc<Semaphore>,
    /// Writes records as any producer does.
    write_plainly: WritePlainly,
    /// How many of these at a time.
    plain_writes: Arc<Semaphore>,
}

/// Writes a record to a schedule topic and gives its partition and offset: topic, ID, value. It blocks.
pub type WritePlainly = Arc<dyn Fn(&str, &[u8], Option<&[u8]>) -> Result<(i32, i64), String> + Send + Sync>;

/// Requests answered at a time.
const REQUESTS: usize = 256;
/// Watchers of events at a time.
const WATCHERS: usize = 32;
/// Records that are written with a producer of their own at a time.
const PLAIN_WRITES: usize = 8;
/// A body that does not go on for so long is given up.
const BODY_PATIENCE: Duration = Duration::from_secs(10);

impl Api {
    /// An API without a past.
    #[must_use]
    pub fn new(
        desk: Arc<Desk>,
        status: Arc<Status>,
        settings: Arc<Settings>,
        write_plainly: WritePlainly,
    ) -> Self {
        let jobs = Arc::new(Jobs::new(desk.now_ms()));
        Self {
            desk,
            status,
            settings,
            samples: Arc::default(),
            jobs,
            requests: Arc::new(Semaphore::new(REQUESTS)),
            watchers: Arc::new(Semaphore::new(WATCHERS)),
            write_plainly,
            plain_writes: Arc::new(Semaphore::new(PLAIN_WRITES)),
        }
    }

    /// Samples the figures, for ever.
    pub async fn keep_sampling(self) {
        let desk = &self.desk;
        self.samples.keep_sampling(&self.status, || desk.now_ms()).await;
    }
}

/// `/api/…`
pub fn router(api: Api) -> Router {
    Router::new()
        .route("/api/cancel", post(cancelling::start))
        .route("/api/cancel/{job}", get(cancelling::look).delete(cancelling::stop))
        .route("/api/due", get(due::due))
        .route("/api/events", get(events::events))
        .route("/api/history", get(history::history))
        .route("/api/schedules", get(listing::list))
        .route("/api/schedules/{id}", get(question::get_one).put(writing::put).delete(writing::cancel))
        .route("/api/schedules/{id}/fire", post(writing::fire))
        .route("/api/schedules/{id}/reschedule", post(writing::reschedule))
        .route("/api/partitions", get(partitions::partitions))
        .route("/api/stats", get(partitions::stats))
        .route("/api/openapi.json", get(openapi::openapi))
        .fallback(async || lost(StatusCode::NOT_FOUND, "no_such_path", "there is nothing here"))
        .method_not_allowed_fallback(async || {
            lost(StatusCode::METHOD_NOT_ALLOWED, "wrong_method", "this path does not take that method")
        })
        .layer(from_fn_with_state(api.clone(), guard::guard))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .layer(RequestBodyTimeoutLayer::new(BODY_PATIENCE))
        .with_state(api)
}

/// What there is, for those who are lost.
const ROUTES: [(&str, &[&str]); 12] = [
    ("/api/schedules", &["GET"]),
    ("/api/schedules/{id}", &["GET", "PUT", "DELETE"]),
    ("/api/schedules/{id}/fire", &["POST"]),
    ("/api/schedules/{id}/reschedule", &["POST"]),
    ("/api/cancel", &["POST"]),
    ("/api/cancel/{job}", &["GET", "DELETE"]),
    ("/api/due", &["GET"]),
    ("/api/events", &["GET"]),
    ("/api/history", &["GET"]),
    ("/api/partitions", &["GET"]),
    ("/api/stats", &["GET"]),
    ("/api/openapi.json", &["GET"]),
];

/// A schedule as the API gives it.
#[must_use]
pub fn describe(found: &FoundSchedule, schedule_topic: &str, partition: i32) -> serde_json::Value {
    serde_json::json!(schedule::ScheduleJson::of(found, schedule_topic, partition))
}

/// The ID that is written so in paths and answers.
pub fn parse_id(text: &str) -> Result<Vec<u8>, String> {
    id::parse(text).map_err(|error| error.to_string())
}

fn lost(status: StatusCode, code: &'static str, message: &str) -> ApiError {
    let routes = ROUTES.map(|(path, methods)| format!("{} {path}", methods.join(" ")));
    ApiError::new(status, code, message).hint(format!("there is: {}", routes.join(", ")))
}
