//! Asking shards: which of them has an ID, and what it answers.

use std::time::Duration;

use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::Json;
use jiff::Timestamp;
use serde::Deserialize;

use super::error::{self, ApiError};
use super::schedule::ScheduleJson;
use super::{Api, id};
use crate::schedule::{Format, partition_of};
use crate::scheduler::command::{Action, Answer, FoundSchedule};
use crate::scheduler::status::{Label, Phase};

/// A shard that has not begun by then does not begin any more…
const PATIENCE: Duration = Duration::from_secs(10);
/// …and one that has begun and not answered by then leaves the outcome open.
const LONGEST: Duration = Duration::from_secs(40);

/// Which schedule topic is meant.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TopicParameter {
    schedule_topic: Option<String>,
}

impl TopicParameter {
    pub(super) fn named(schedule_topic: Option<String>) -> Self {
        Self { schedule_topic }
    }
}

/// A schedule ID, and where it belongs.
pub(super) struct Place {
    pub(super) topic: String,
    pub(super) partition: i32,
    pub(super) id: Vec<u8>,
    /// The schedule, if it is pending.
    pub(super) found: Option<FoundSchedule>,
}

impl Api {
    /// The schedule topic that is meant: the first configured, if none is named.
    pub(super) fn topic(&self, parameter: &TopicParameter) -> Result<(String, Format), ApiError> {
        let topics = &self.settings.topics;
        let (topic, format) = match &parameter.schedule_topic {
            None => topics.iter().next(),
            Some(named) => topics.iter().find(|(topic, _)| topic == named),
        }
        .ok_or_else(|| {
            let names: Vec<_> = topics.iter().map(|(topic, _)| topic).collect();
            ApiError::new(
                StatusCode::NOT_FOUND,
                "no_such_topic",
                "this instance does not serve that schedule topic",
            )
            .hint(format!("schedule_topic is one of: {}", names.join(", ")))
        })?;
        Ok((topic.to_owned(), format))
    }

    /// How many partitions a schedule topic has.
    #[allow(clippy::disallowed_methods, reason = "a question of its own, far from any record")]
    pub(super) async fn partition_count(&self, topic: &str) -> Result<i32, ApiError> {
        let (desk, name) = (self.desk.clone(), topic.to_owned());
        let asked = tokio::task::spawn_blocking(move || desk.partition_count(&name)).await;
        asked.unwrap_or_else(|error| Err(error.to_string())).map_err(|why| {
            let message = format!("how many partitions {topic} has is not known: {why}");
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "cluster_unavailable", message)
        })
    }

    /// Where an ID is: in the partition that has its schedule, among those that this instance owns; else in the one that
    /// producers put it in.
    pub(super) async fn place(&self, parameter: &TopicParameter, id: Vec<u8>) -> Result<Place, ApiError> {
        let (topic, _) = self.topic(parameter)?;
        let home = partition_of(&id, self.partition_count(&topic).await?);
        let mut owned = self.desk.owned(&topic);
        let owns_home = owned.contains(&home);
        // Producers with another partitioner have put it elsewhere.
        owned.sort_by_key(|&partition| partition != home);
        for partition in owned {
            if let Answer::Found(found) = self.ask(&topic, partition, id.clone(), Action::Get).await? {
                return Ok(Place { topic, partition, id, found: Some(*found) });
            }
        }
        if owns_home {
            return Ok(Place { topic, partition: home, id, found: None });
        }
        let message = format!(
            "this instance has no such schedule, and partition {home} of {topic}, where it would be, is another's"
        );
        Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, error::NOT_OWNED, message)
            .hint("ask the instance that owns it: GET /api/partitions of each lists which it owns"))
    }

    /// What a shard answers; an error if it is not live or does not say.
    pub(super) async fn ask(
        &self,
        topic: &str,
        partition: i32,
        id: Vec<u8>,
        action: Action,
    ) -> Result<Answer, ApiError> {
        self.require_live(topic, partition)?;
        let writes = action.writes();
        let no_answer = || {
            if writes {
                return ApiError::outcome_unknown();
            }
            let message = format!("{topic}-{partition} did not answer in time, or was given up meanwhile");
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error::NO_ANSWER, message)
        };
        let answer = self.desk.ask(topic, partition, id, action, PATIENCE)?;
        match tokio::time::timeout(LONGEST, answer)
            .await
            .map_err(|_| no_answer())?
            .map_err(|_| no_answer())?
        {
            Answer::Expired => {
                let message = format!("{topic}-{partition} was busy for {PATIENCE:?}; nothing was done");
                Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error::BUSY, message))
            }
            Answer::Refused(why) => Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "refused", why)),
            answer => Ok(answer),
        }
    }

    fn require_live(&self, topic: &str, partition: i32) -> Result<(), ApiError> {
        let Some(figures) = self.status.partition_of(topic, partition) else { return Ok(()) };
        let phase = figures.phase();
        if phase == Phase::Live {
            return Ok(());
        }
        let reason = figures.reason().map_or_else(String::new, |reason| format!(": {reason}"));
        let message = format!("{topic}-{partition} is not live but {}{reason}", phase.label());
        Err(ApiError::new(StatusCode::SERVICE_UNAVAILABLE, error::NOT_LIVE, message)
            .hint("GET /api/partitions shows how far it is"))
    }
}

/// What an answer has at most, if nothing is said of it.
const LIMIT: usize = 100;
/// And whatever is said.
pub(super) const LONGEST_ANSWER: usize = 1_000;

/// How many an answer may have.
pub(super) fn limit_of(asked: Option<usize>) -> Result<usize, ApiError> {
    let limit = asked.unwrap_or(LIMIT);
    if (1..=LONGEST_ANSWER).contains(&limit) {
        return Ok(limit);
    }
    Err(ApiError::bad_request("invalid_parameter", format!("limit is from 1 to {LONGEST_ANSWER}")))
}

/// Query parameters, or why they cannot be read.
pub(super) type Parsed<T> = Result<Query<T>, QueryRejection>;

/// The query parameters, if they can be read.
pub(super) fn parameters<T>(parsed: Parsed<T>) -> Result<T, ApiError> {
    let Query(parameters) =
        parsed.map_err(|error| ApiError::bad_request("invalid_parameter", error.body_text()))?;
    Ok(parameters)
}

/// `GET /api/schedules/{id}`
pub(super) async fn get_one(
    State(api): State<Api>,
    Path(id): Path<String>,
    topic: Parsed<TopicParameter>,
) -> Result<Json<ScheduleJson>, ApiError> {
    let place = api.place(&parameters(topic)?, id::parse(&id)?).await?;
    match &place.found {
        Some(found) => Ok(Json(ScheduleJson::of(found, &place.topic, place.partition))),
        None => Err(api.not_pending(&place).await),
    }
}

impl Api {
    /// Says so, and what became of the schedule, if that is remembered.
    pub(super) async fn not_pending(&self, place: &Place) -> ApiError {
        let (id, topic) = (id::to_text(&place.id), &place.topic);
        let became = self.last_event(place).await.map_or_else(String::new, |event| {
            let at = Timestamp::from_millisecond(event.at_ms)
                .map_or_else(|_| event.at_ms.to_string(), |at| at.to_string());
            format!("; the last that happened to it: {} at {at}", event.kind.label())
        });
        let message = format!("no schedule with the ID {id} is pending in {topic}{became}");
        ApiError::new(StatusCode::NOT_FOUND, "not_pending", message)
    }
}
