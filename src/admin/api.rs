//! The admin API: what is pending, and changing it. JSON in and out; see docs/operations.md.
//!
//! An instance answers for the partitions that it owns. Every write is a record on the schedule topic, written by the shard
//! that owns the partition in a verified transaction, so its answer is definite.

mod error;
mod guard;
mod id;
mod listing;
mod openapi;
mod partitions;
mod question;
mod schedule;
mod writing;

use std::sync::Arc;

use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{get, post};
use axum::{Router, http::StatusCode};

use crate::config::Settings;
use crate::scheduler::desk::Desk;
use crate::scheduler::status::Status;
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
}

/// `/api/…`
pub fn router(api: Api) -> Router {
    Router::new()
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
        .with_state(api)
}

/// What there is, for those who are lost.
const ROUTES: [(&str, &[&str]); 7] = [
    ("/api/schedules", &["GET"]),
    ("/api/schedules/{id}", &["GET", "PUT", "DELETE"]),
    ("/api/schedules/{id}/fire", &["POST"]),
    ("/api/schedules/{id}/reschedule", &["POST"]),
    ("/api/partitions", &["GET"]),
    ("/api/stats", &["GET"]),
    ("/api/openapi.json", &["GET"]),
];

fn lost(status: StatusCode, code: &'static str, message: &str) -> ApiError {
    let routes = ROUTES.map(|(path, methods)| format!("{} {path}", methods.join(" ")));
    ApiError::new(status, code, message).hint(format!("there is: {}", routes.join(", ")))
}
