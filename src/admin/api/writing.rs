//! Requests that write a record to a schedule topic.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Json, Response};
use serde::{Deserialize, Serialize};

use super::error::{self, ApiError};
use super::question::{Parsed, Place, TopicParameter, parameters};
use super::schedule::{NewSchedule, When};
use super::{Api, id};
use crate::schedule::is_legal_topic_name;
use crate::scheduler::command::{Action, Answer};

/// A record was written, and lies there.
#[derive(Debug, Serialize)]
pub(super) struct Done {
    outcome: &'static str,
    id: String,
    schedule_topic: String,
    partition: i32,
    offset: i64,
}

/// What a write is answered with.
pub(super) enum Answered {
    /// A record, in its place.
    Done(Json<Done>),
    /// A plain record in a partition of another instance.
    Accepted(Done),
}

impl IntoResponse for Answered {
    fn into_response(self) -> Response {
        match self {
            Self::Done(done) => done.into_response(),
            Self::Accepted(done) => (StatusCode::ACCEPTED, Json(done)).into_response(),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PutParameters {
    schedule_topic: Option<String>,
    accept: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct CancelParameters {
    schedule_topic: Option<String>,
    anyway: bool,
    accept: Option<String>,
}

/// What is accepted where an ID is in a partition of another instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Accept {
    /// An error.
    Nothing,
    /// A record like that of any producer: not decided by what lies before it.
    Unordered,
}

impl Accept {
    fn parse(text: Option<&str>) -> Result<Self, ApiError> {
        match text {
            None | Some("") => Ok(Self::Nothing),
            Some("unordered") => Ok(Self::Unordered),
            Some(_) => Err(ApiError::bad_request("invalid_parameter", "accept is unordered, or nothing")),
        }
    }
}

pub(super) type Body = Result<Bytes, BytesRejection>;

/// `PUT /api/schedules/{id}`: creates or replaces.
pub(super) async fn put(
    State(api): State<Api>,
    Path(id): Path<String>,
    asked: Parsed<PutParameters>,
    body: Body,
) -> Result<Answered, ApiError> {
    let PutParameters { schedule_topic, accept } = parameters(asked)?;
    let (id, topic) = (id::parse(&id)?, TopicParameter::named(schedule_topic));
    let accept = Accept::parse(accept.as_deref())?;
    let new = NewSchedule::parse(&read(body)?)?;
    api.require_deliverable(new.topic())?;
    let (_, format) = api.topic(&topic)?;
    let value = new.encode(format, api.now_ms())?;
    match api.place(&topic, id.clone()).await {
        Err(error) if error.is_elsewhere() && accept == Accept::Unordered => {
            api.write_unordered(&topic, id, Some(value)).await
        }
        place => api.write(place?, Action::Put { value }).await.map(Answered::Done),
    }
}

/// `DELETE /api/schedules/{id}`: cancels.
pub(super) async fn cancel(
    State(api): State<Api>,
    Path(id): Path<String>,
    asked: Parsed<CancelParameters>,
) -> Result<Answered, ApiError> {
    let CancelParameters { schedule_topic, anyway, accept } = parameters(asked)?;
    let (id, topic) = (id::parse(&id)?, TopicParameter::named(schedule_topic));
    let accept = Accept::parse(accept.as_deref())?;
    match api.place(&topic, id.clone()).await {
        Err(error) if error.is_elsewhere() && accept == Accept::Unordered => {
            api.write_unordered(&topic, id, None).await
        }
        place => {
            let action = if anyway { Action::CancelAnyway } else { Action::Cancel };
            api.write(place?, action).await.map(Answered::Done)
        }
    }
}

/// `POST /api/schedules/{id}/fire`: makes it due now.
pub(super) async fn fire(
    State(api): State<Api>,
    Path(id): Path<String>,
    topic: Parsed<TopicParameter>,
) -> Result<Json<Done>, ApiError> {
    let place = api.place(&parameters(topic)?, id::parse(&id)?).await?;
    let due_ms = api.now_ms();
    api.write(place, Action::Reschedule { due_ms }).await
}

/// `POST /api/schedules/{id}/reschedule`: gives it another due time.
pub(super) async fn reschedule(
    State(api): State<Api>,
    Path(id): Path<String>,
    topic: Parsed<TopicParameter>,
    body: Body,
) -> Result<Json<Done>, ApiError> {
    let (id, topic) = (id::parse(&id)?, parameters(topic)?);
    let when: When = serde_json::from_slice(&read(body)?).map_err(|error| {
        ApiError::bad_request("invalid_json", format!("the body is no due time: {error}"))
    })?;
    let due_ms = when.due(api.now_ms())?.epoch_ms();
    let place = api.place(&topic, id).await?;
    api.write(place, Action::Reschedule { due_ms }).await
}

pub(super) fn read(body: Body) -> Result<Bytes, ApiError> {
    body.map_err(|error| {
        if error.status() == StatusCode::PAYLOAD_TOO_LARGE {
            return ApiError::new(error.status(), "too_large", error.body_text());
        }
        let message = "the body did not come, or stopped on its way";
        ApiError::new(StatusCode::REQUEST_TIMEOUT, "slow_body", message)
    })
}

impl Api {
    async fn write(&self, place: Place, action: Action) -> Result<Json<Done>, ApiError> {
        match self.ask(&place.topic, place.partition, place.id.clone(), action).await? {
            Answer::Done { offset } => Ok(Json(Done {
                outcome: "done",
                id: id::to_text(&place.id),
                schedule_topic: place.topic,
                partition: place.partition,
                offset,
            })),
            Answer::NotPending => Err(self.not_pending(&place).await),
            other => Err(ApiError::wrong_answer(&other)),
        }
    }

    /// Writes a record as any producer does; whoever owns its partition takes it as it lies there.
    #[allow(clippy::disallowed_methods, reason = "a producer of its own, far from any record")]
    async fn write_unordered(
        &self,
        topic: &TopicParameter,
        id: Vec<u8>,
        value: Option<Vec<u8>>,
    ) -> Result<Answered, ApiError> {
        let (topic, _) = self.topic(topic)?;
        let Ok(permit) = self.plain_writes.clone().try_acquire_owned() else {
            let message = "other such writes are under way";
            return Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error::BUSY, message));
        };
        let (write, to, key) = (self.write_plainly.clone(), topic.clone(), id.clone());
        let write = move || {
            // Held until it is done, also if nobody waits for it any more.
            let _permit = permit;
            write(&to, &key, value.as_deref())
        };
        let written = tokio::task::spawn_blocking(write).await;
        let (partition, offset) = written.unwrap_or_else(|error| Err(error.to_string())).map_err(|why| {
            let message = format!("{why}; it may or may not have been written");
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "cluster_unavailable", message)
        })?;
        Ok(Answered::Accepted(Done {
            outcome: "accepted",
            id: id::to_text(&id),
            schedule_topic: topic,
            partition,
            offset,
        }))
    }

    /// Refuses what would be set aside when it is due.
    fn require_deliverable(&self, topic: &str) -> Result<(), ApiError> {
        let refuse = |code, message| Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, code, message));
        if !is_legal_topic_name(topic) {
            let message =
                format!("`{topic}` is no legal topic name: use 1 to 249 of a-z, A-Z, 0-9, '.', '_' and '-'");
            return refuse("illegal_destination", message);
        }
        if !self.settings.permits_destination(topic) {
            let message = format!(
                "the settings destinations.allow, .deny and .schedule_topics refuse the topic {topic}"
            );
            return refuse("destination_denied", message);
        }
        Ok(())
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.desk.now_ms()
    }
}
