//! `GET /api/schedules`: a walk over what is pending, page by page.

use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Json;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::partitions::Coverage;
use super::question::{Parsed, TopicParameter, limit_of, parameters};
use super::schedule::{ScheduleJson, moment};
use super::{Api, id};
use crate::scheduler::command::{Action, Answer, FoundSchedule, ListCursor, Listing};

/// A page ends after so many bytes of content.
const BYTES: usize = 1 << 20;
/// A page that took so long is given as it is: what nothing matches is walked over in several requests.
const PATIENCE: Duration = Duration::from_millis(40);

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct Parameters {
    schedule_topic: Option<String>,
    from: Option<String>,
    to: Option<String>,
    prefix: Option<String>,
    destination: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

impl Parameters {
    /// What is left empty, as in a form, is not asked for.
    fn without_empty(mut self) -> Self {
        let Self { schedule_topic, from, to, prefix, destination, cursor, .. } = &mut self;
        for parameter in [schedule_topic, from, to, prefix, destination, cursor] {
            parameter.take_if(|text| text.is_empty());
        }
        self
    }
}

/// A page. It may have fewer schedules than asked for, even none: there are more as long as there is a cursor.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    schedules: Vec<ScheduleJson>,
    /// How many schedules were looked at for it.
    looked_at: usize,
    next_cursor: Option<String>,
    partitions: Coverage,
}

/// Where a walk goes on: that of one time that a partition was owned, for its order is another the next time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cursor {
    partition: i32,
    term: u64,
    within: ListCursor,
}

impl Cursor {
    fn encode(self) -> String {
        let mut bytes = [0; 16];
        bytes[..4].copy_from_slice(&self.partition.to_be_bytes());
        bytes[4..8].copy_from_slice(&self.within.to_bits().to_be_bytes());
        bytes[8..].copy_from_slice(&self.term.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    fn decode(text: &str) -> Option<Self> {
        let bytes: [u8; 16] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let word = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Some(Self {
            partition: word(0) as i32,
            within: ListCursor::from_bits(word(4)),
            term: u64::from(word(8)) << 32 | u64::from(word(12)),
        })
    }
}

#[allow(clippy::disallowed_methods, reason = "how long a request may take, nothing about schedules")]
pub(super) async fn list(State(api): State<Api>, asked: Parsed<Parameters>) -> Result<Json<Page>, ApiError> {
    let began = Instant::now();
    let asked = parameters(asked)?.without_empty();
    let (topic, _) = api.topic(&TopicParameter::named(asked.schedule_topic))?;
    let limit = limit_of(asked.limit)?;
    let due_ms = time("from", asked.from)?.unwrap_or(i64::MIN)..=time("to", asked.to)?.unwrap_or(i64::MAX);
    let prefix = asked.prefix.as_deref().map(id::parse).transpose()?.unwrap_or_default();
    let partitions = api.coverage(&topic).await?;

    let (mut bytes, mut looked_at, mut schedules, mut next) =
        (0, 0, Vec::new(), begin(&api, &topic, asked.cursor.as_deref())?);
    while let Some(cursor) = next
        && schedules.len() < limit
        && bytes < BYTES
        && began.elapsed() < PATIENCE
    {
        let listing = Listing {
            from: cursor.within,
            prefix: prefix.clone(),
            due_ms: due_ms.clone(),
            destination: asked.destination.clone(),
            limit: limit - schedules.len(),
        };
        let page = match api.ask(&topic, cursor.partition, Vec::new(), Action::List(listing)).await? {
            Answer::Page(page) => page,
            other => return Err(ApiError::wrong_answer(&other)),
        };
        looked_at += page.looked_at;
        bytes += page.found.iter().map(FoundSchedule::bytes).sum::<usize>();
        schedules.extend(page.found.iter().map(|found| ScheduleJson::of(found, &topic, cursor.partition)));
        next = match page.next {
            Some(within) => Some(Cursor { within, ..cursor }),
            None => api.first_after(&topic, cursor.partition),
        };
    }
    Ok(Json(Page { schedules, looked_at, next_cursor: next.map(Cursor::encode), partitions }))
}

/// Where a walk goes on; `None`: there is nothing to walk over.
fn begin(api: &Api, topic: &str, cursor: Option<&str>) -> Result<Option<Cursor>, ApiError> {
    let Some(text) = cursor else { return Ok(api.first_after(topic, -1)) };
    let cursor = Cursor::decode(text).ok_or_else(|| {
        ApiError::bad_request("invalid_parameter", "cursor is none that was given as next_cursor")
    })?;
    if api.desk.term(topic, cursor.partition) != Some(cursor.term) {
        let message =
            format!("{topic}-{} was given up or loaded anew since this cursor was given", cursor.partition);
        return Err(
            ApiError::new(StatusCode::GONE, "outdated_cursor", message).hint("begin anew, without a cursor")
        );
    }
    Ok(Some(cursor))
}

impl Api {
    /// The beginning of the next live partition of those that are owned.
    fn first_after(&self, topic: &str, partition: i32) -> Option<Cursor> {
        let mut after = self
            .desk
            .owned(topic)
            .into_iter()
            .filter(|&owned| owned > partition && self.is_live(topic, owned));
        after.find_map(|partition| {
            let term = self.desk.term(topic, partition)?;
            Some(Cursor { partition, term, within: ListCursor::default() })
        })
    }
}

fn time(name: &str, text: Option<String>) -> Result<Option<i64>, ApiError> {
    text.map(|text| {
        moment(&text).ok_or_else(|| {
            ApiError::bad_request("invalid_parameter", format!("{name} is no time"))
                .hint("write epoch milliseconds or RFC 3339, with + as %2B")
        })
    })
    .transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_was_written_and_nothing_else_is() {
        let cursor =
            Cursor { partition: 70_000, term: u64::MAX - 5, within: ListCursor::from_bits(0xdead_beef) };
        assert_eq!(Cursor::decode(&cursor.encode()), Some(cursor));
        for text in ["", "x", "AAAA", &cursor.encode()[1..], "*******************---"] {
            assert_eq!(Cursor::decode(text), None, "{text}");
        }
    }
}
