//! Errors, all of one shape: `{"code": …, "message": …, "hint": …}`.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use serde::Serialize;

use crate::scheduler::command::{Answer, NotTaken};

// Codes that this instance goes by itself.
pub(super) const BUSY: &str = "busy";
pub(super) const NOT_LIVE: &str = "not_live";
pub(super) const NOT_OWNED: &str = "not_owned";
pub(super) const NO_ANSWER: &str = "no_answer";
const OUTCOME_UNKNOWN: &str = "outcome_unknown";

/// Why a request was not done. Nothing was written, unless `code` is `outcome_unknown`.
#[derive(Debug)]
pub(super) struct ApiError {
    status: StatusCode,
    body: Body,
}

#[derive(Debug, Serialize)]
struct Body {
    /// For programs.
    code: &'static str,
    /// What is wrong.
    message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

impl ApiError {
    pub(super) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, body: Body { code, message: message.into(), hint: None } }
    }

    pub(super) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.body.hint = Some(hint.into());
        self
    }

    /// A shard answered something else than it was asked.
    pub(super) fn wrong_answer(answer: &Answer) -> Self {
        let message = format!("a shard gave an answer to another question: {answer:?}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "wrong_answer", message)
    }

    /// Whether another instance is to be asked.
    pub(super) fn is_elsewhere(&self) -> bool {
        self.body.code == NOT_OWNED
    }

    /// Whether the same question may be answered in a moment, and nothing was written.
    pub(super) fn may_pass(&self) -> bool {
        [BUSY, NOT_LIVE, NO_ANSWER].contains(&self.body.code)
    }

    pub(super) fn is_outcome_unknown(&self) -> bool {
        self.body.code == OUTCOME_UNKNOWN
    }

    /// Nobody knows what became of a write.
    pub(super) fn outcome_unknown() -> Self {
        let message = "the partition was given up, or did not answer in time, before the outcome was known";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, OUTCOME_UNKNOWN, message)
            .hint("ask for the schedule in a moment: it may or may not have been written")
    }
}

impl std::fmt::Display for ApiError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.body.message)
    }
}

impl From<NotTaken> for ApiError {
    fn from(not_taken: NotTaken) -> Self {
        let (status, code) = match not_taken {
            NotTaken::Full => (StatusCode::SERVICE_UNAVAILABLE, BUSY),
            NotTaken::Ended => (StatusCode::MISDIRECTED_REQUEST, NOT_OWNED),
        };
        Self::new(status, code, not_taken.to_string())
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut response = (self.status, Json(self.body)).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}
