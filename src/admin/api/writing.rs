//! Requests that write a record to a schedule topic.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Json;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::question::{Parsed, Place, TopicParameter, not_pending, parameters};
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

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct CancelParameters {
    schedule_topic: Option<String>,
    anyway: bool,
}

type Body = Result<Bytes, BytesRejection>;

/// `PUT /api/schedules/{id}`: creates or replaces.
pub(super) async fn put(
    State(api): State<Api>,
    Path(id): Path<String>,
    topic: Parsed<TopicParameter>,
    body: Body,
) -> Result<Json<Done>, ApiError> {
    let (id, topic) = (id::parse(&id)?, parameters(topic)?);
    let new = NewSchedule::parse(&read(body)?)?;
    api.require_deliverable(new.topic())?;
    let (_, format) = api.topic(&topic)?;
    let value = new.encode(format, api.now_ms())?;
    let place = api.place(&topic, id).await?;
    api.write(place, Action::Put { value }).await
}

/// `DELETE /api/schedules/{id}`: cancels.
pub(super) async fn cancel(
    State(api): State<Api>,
    Path(id): Path<String>,
    asked: Parsed<CancelParameters>,
) -> Result<Json<Done>, ApiError> {
    let CancelParameters { schedule_topic, anyway } = parameters(asked)?;
    let place = api.place(&TopicParameter::named(schedule_topic), id::parse(&id)?).await?;
    api.write(place, if anyway { Action::CancelAnyway } else { Action::Cancel }).await
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

fn read(body: Body) -> Result<Bytes, ApiError> {
    body.map_err(|error| {
        let code = if error.status() == StatusCode::PAYLOAD_TOO_LARGE { "too_large" } else { "unreadable" };
        ApiError::new(error.status(), code, error.body_text())
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
            Answer::NotPending => Err(not_pending(&place)),
            Answer::Found(_) | Answer::Page(_) | Answer::Expired | Answer::Refused(_) => {
                Err(ApiError::outcome_unknown())
            }
        }
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

    fn now_ms(&self) -> i64 {
        self.desk.now_ms()
    }
}
