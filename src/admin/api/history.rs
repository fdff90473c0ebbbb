//! `GET /api/history`: what happened lately.

use axum::extract::State;
use axum::response::Json;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::partitions::{Coverage, NO_ANSWER};
use super::question::{LONGEST_ANSWER, Parsed, Place, TopicParameter, limit_of, parameters};
use super::{Api, id};
use crate::scheduler::command::{Action, Answer, Event, EventKind, Recall};
use crate::scheduler::status::Label as _;

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Parameters {
    schedule_topic: Option<String>,
    kind: Option<String>,
    prefix: Option<String>,
    limit: Option<usize>,
}

#[derive(Debug, Serialize)]
pub(super) struct Lately {
    events: Vec<EventJson>,
    partitions: Coverage,
}

/// Something that happened to a schedule.
#[derive(Debug, Serialize)]
pub(super) struct EventJson {
    kind: &'static str,
    /// Epoch milliseconds.
    time: i64,
    id: String,
    partition: i32,
    offset: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<i64>,
    /// Of what was fired.
    #[serde(skip_serializing_if = "Option::is_none")]
    late_ms: Option<i64>,
    #[serde(skip_serializing_if = "String::is_empty")]
    topic: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    reason: String,
    #[serde(skip)]
    number: u64,
}

impl EventJson {
    pub(super) fn of(event: Event, partition: i32) -> Self {
        let late_ms = event.due_ms.map(|due_ms| event.at_ms.saturating_sub(due_ms).max(0));
        Self {
            kind: event.kind.label(),
            time: event.at_ms,
            id: id::to_text(&event.id),
            partition,
            offset: event.offset,
            due: event.due_ms,
            late_ms: late_ms.filter(|_| event.kind == EventKind::Fired),
            topic: event.topic,
            reason: event.reason,
            number: event.number,
        }
    }
}

/// Newest first, of several partitions.
pub(super) fn sort(events: &mut [EventJson]) {
    events.sort_by_key(|event| std::cmp::Reverse((event.time, event.partition, event.number)));
}

pub(super) async fn history(
    State(api): State<Api>,
    asked: Parsed<Parameters>,
) -> Result<Json<Lately>, ApiError> {
    let asked = parameters(asked)?;
    let limit = limit_of(asked.limit)?;
    let kind = asked.kind.filter(|kind| !kind.is_empty()).map(|kind| parse_kind(&kind)).transpose()?;
    let prefix = asked.prefix.as_deref().map(id::parse).transpose()?.unwrap_or_default();
    let (topic, _) = api.topic(&TopicParameter::named(asked.schedule_topic))?;
    let mut partitions = api.coverage(&topic).await?;
    let recall = Recall { kind, prefix, after: 0, limit };
    let asked: Vec<_> =
        partitions.owned().iter().map(|&partition| api.recall(&topic, partition, recall.clone())).collect();
    let mut events = Vec::new();
    for (answer, partition) in join_all(asked).await.into_iter().zip(partitions.owned().to_vec()) {
        match answer {
            Ok(of_partition) => {
                events.extend(of_partition.into_iter().map(|event| EventJson::of(event, partition)));
            }
            Err(_) => partitions.lose(partition, NO_ANSWER),
        }
    }
    sort(&mut events);
    events.truncate(limit);
    Ok(Json(Lately { events, partitions }))
}

fn parse_kind(text: &str) -> Result<EventKind, ApiError> {
    EventKind::ALL.iter().copied().find(|kind| kind.label() == text).ok_or_else(|| {
        let kinds: Vec<_> = EventKind::ALL.iter().map(|kind| kind.label()).collect();
        ApiError::bad_request("invalid_parameter", format!("kind is one of: {}", kinds.join(", ")))
    })
}

impl Api {
    pub(super) async fn recall(
        &self,
        topic: &str,
        partition: i32,
        recall: Recall,
    ) -> Result<Vec<Event>, ApiError> {
        match self.ask(topic, partition, Vec::new(), Action::Recall(recall)).await? {
            Answer::Recalled(events) => Ok(events),
            other => Err(ApiError::wrong_answer(&other)),
        }
    }

    /// What became of a schedule that is not pending, if that is remembered.
    pub(super) async fn last_event(&self, place: &Place) -> Option<Event> {
        let recall = Recall { kind: None, prefix: place.id.clone(), after: 0, limit: LONGEST_ANSWER };
        let events = self.recall(&place.topic, place.partition, recall).await.ok()?;
        events.into_iter().find(|event| event.id == place.id)
    }
}
