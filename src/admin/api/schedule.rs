//! Schedules as JSON: that of the JSON schedule topics, with conveniences for people.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use base64::Engine as _;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::ApiError;
use super::id;
use crate::codec::{self, BASE64};
use crate::schedule::{DueTime, Format, HeadersBuf, Schedule};
use crate::scheduler::command::{EntryState, FoundSchedule};

/// A schedule in an answer.
#[derive(Debug, Serialize)]
pub(super) struct ScheduleJson {
    id: String,
    schedule_topic: String,
    partition: i32,
    offset: i64,
    state: &'static str,
    /// Epoch milliseconds.
    time: i64,
    /// The same for people; not for times that no calendar reaches.
    #[serde(skip_serializing_if = "Option::is_none")]
    due: Option<String>,
    topic: String,
    key: String,
    value: Option<String>,
    headers: BTreeMap<String, Option<String>>,
}

impl ScheduleJson {
    pub(super) fn of(found: &FoundSchedule, schedule_topic: &str, partition: i32) -> Self {
        let headers = found.headers.as_headers();
        Self {
            id: id::to_text(&found.id),
            schedule_topic: schedule_topic.to_owned(),
            partition,
            offset: found.offset,
            state: match found.state {
                EntryState::Pending => "pending",
                EntryState::InFlight => "in_flight",
                EntryState::SetAside => "set_aside",
            },
            time: found.due_ms,
            due: Timestamp::from_millisecond(found.due_ms).ok().map(|due| due.to_string()),
            topic: found.topic.clone(),
            key: BASE64.encode(&found.key),
            value: found.value.as_ref().map(|value| BASE64.encode(value)),
            headers: headers
                .iter()
                .map(|header| (header.name.to_owned(), header.value.map(|value| BASE64.encode(value))))
                .collect(),
        }
    }
}

/// A schedule in a request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NewSchedule {
    #[serde(default)]
    time: Option<Value>,
    #[serde(default, rename = "in")]
    after: Option<String>,
    topic: String,
    #[serde(default)]
    key: Option<String>,
    #[serde(default)]
    key_text: Option<String>,
    #[serde(default)]
    value: Option<String>,
    #[serde(default)]
    value_text: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(default)]
    headers_text: BTreeMap<String, String>,
}

/// A due time in a request.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct When {
    /// Epoch milliseconds, as a number or in digits, or RFC 3339.
    #[serde(default)]
    time: Option<Value>,
    /// From now on: `90m`.
    #[serde(default, rename = "in")]
    after: Option<String>,
}

impl When {
    /// The due time, by the clock of this machine where it is relative.
    pub(super) fn due(&self, now_ms: i64) -> Result<DueTime, ApiError> {
        due(self.time.as_ref(), self.after.as_deref(), now_ms)
    }
}

fn due(time: Option<&Value>, after: Option<&str>, now_ms: i64) -> Result<DueTime, ApiError> {
    let due_ms = match (time, after) {
        (Some(time), None) => moment_of(time)?,
        (None, Some(after)) => {
            let after = humantime::parse_duration(after).map_err(|error| {
                invalid(format!("`in` is no duration: {error}")).hint("write 90s, 5m, 1h 30m or 30d")
            })?;
            now_ms.saturating_add(i64::try_from(after.as_millis()).unwrap_or(i64::MAX))
        }
        (None, None) => return Err(invalid("there is neither `time` nor `in`").hint(TIME)),
        (Some(_), Some(_)) => return Err(invalid("there are both `time` and `in`").hint("give one of them")),
    };
    Ok(DueTime::from_epoch_ms(due_ms))
}

const TIME: &str =
    "`time` is epoch milliseconds or RFC 3339 (\"2030-12-24T18:00:00+01:00\"), `in` is a duration (\"90m\")";

pub(super) fn moment_of(time: &Value) -> Result<i64, ApiError> {
    let moment = match time {
        Value::Number(number) => integral(number),
        Value::String(text) => moment(text),
        _ => None,
    };
    moment.ok_or_else(|| invalid("`time` is no time").hint(TIME))
}

/// As on JSON topics, `1.7e12` is an integer, too.
fn integral(number: &serde_json::Number) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    number.as_i64().or_else(|| {
        let number = number.as_f64()?;
        (number.fract() == 0.0 && number.abs() <= EXACT).then_some(number as i64)
    })
}

/// A time in a query or a request: epoch milliseconds or RFC 3339.
pub(super) fn moment(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| Some(text.parse::<Timestamp>().ok()?.as_millisecond()))
}

impl NewSchedule {
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        serde_json::from_slice(body).map_err(|error| {
            ApiError::bad_request("invalid_json", format!("the body is no schedule: {error}")).hint(
                "{\"time\": …, \"topic\": …, \"key\": base64, \"value\": base64 or null, \"headers\": {name: base64}}; `in`, \
                 key_text, value_text and headers_text may be given instead",
            )
        })
    }

    /// The destination topic.
    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// The record's value on a topic of this format.
    pub(super) fn encode(&self, format: Format, now_ms: i64) -> Result<Vec<u8>, ApiError> {
        let key = content("key", self.key.as_ref(), self.key_text.as_ref())?.unwrap_or_default();
        let value = content("value", self.value.as_ref(), self.value_text.as_ref())?;
        let mut headers = HeadersBuf::new();
        for (name, value) in &self.headers {
            headers.push(name, Some(&from_base64(&format!("the header {name}"), value)?));
        }
        for (name, value) in &self.headers_text {
            if self.headers.contains_key(name) {
                return Err(invalid(format!("the header {name} is in both headers and headers_text")));
            }
            headers.push(name, Some(value.as_bytes()));
        }
        let schedule = Schedule {
            due: due(self.time.as_ref(), self.after.as_deref(), now_ms)?,
            topic: &self.topic,
            key: &key,
            value: value.as_deref(),
            headers: headers.as_headers(),
        };
        let mut encoded = Vec::new();
        codec::encode(format, &schedule, &mut encoded);
        Ok(encoded)
    }
}

/// What a field or its variant in text says; `None` is null.
fn content(name: &str, base64: Option<&String>, text: Option<&String>) -> Result<Option<Vec<u8>>, ApiError> {
    match (base64, text) {
        (Some(_), Some(_)) => Err(invalid(format!("there are both {name} and {name}_text"))),
        (Some(base64), None) => from_base64(name, base64).map(Some),
        (None, text) => Ok(text.map(|text| text.as_bytes().to_vec())),
    }
}

fn from_base64(what: &str, base64: &str) -> Result<Vec<u8>, ApiError> {
    BASE64.decode(base64).map_err(|error| {
        invalid(format!("{what} is no base64: {error}"))
            .hint("key_text, value_text and headers_text take plain text")
    })
}

fn invalid(message: impl Into<String>) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid_schedule", message)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    const NOW_MS: i64 = 1_000_000;

    fn decoded(body: &Value, check: impl FnOnce(&Schedule<'_>)) {
        for format in [Format::Avro, Format::Json] {
            let encoded =
                NewSchedule::parse(body.to_string().as_bytes()).unwrap().encode(format, NOW_MS).unwrap();
            let _ = &encoded;
        }
        let encoded =
            NewSchedule::parse(body.to_string().as_bytes()).unwrap().encode(Format::Json, NOW_MS).unwrap();
        let mut scratch = codec::Scratch::default();
        check(&codec::decode(Format::Json, &encoded, &mut scratch).unwrap());
    }

    fn refused(body: &Value) {
        let refused =
            NewSchedule::parse(body.to_string().as_bytes()).and_then(|new| new.encode(Format::Avro, NOW_MS));
        assert!(refused.is_err(), "{body}");
    }

    #[test]
    fn what_people_write_is_the_same_as_what_programs_write() {
        let due_ms = 1_924_362_000_000_i64;
        for time in
            [json!(due_ms), json!("1924362000000"), json!("2030-12-24T18:00:00+01:00"), json!(1.924_362e12)]
        {
            for (key, value, headers) in [
                (json!({"key": "b3JkZXI="}), json!({"value": "aGk"}), json!({"headers": {"a": "MQ=="}})),
                (
                    json!({"key_text": "order"}),
                    json!({"value_text": "hi"}),
                    json!({"headers_text": {"a": "1"}}),
                ),
            ] {
                let mut body = json!({"time": time, "topic": "t"});
                for part in [key, value, headers] {
                    body.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
                }
                decoded(&body, |schedule| {
                    assert_eq!((schedule.due.epoch_ms(), schedule.topic), (due_ms, "t"), "{body}");
                    assert_eq!((schedule.key, schedule.value), (&b"order"[..], Some(&b"hi"[..])));
                    assert_eq!(schedule.headers.iter().next().unwrap().value, Some(&b"1"[..]));
                });
            }
        }
    }

    #[test]
    fn what_is_missing_has_its_default_and_in_counts_from_now() {
        decoded(&json!({"in": "1h 30m", "topic": "t", "value": null}), |schedule| {
            assert_eq!(schedule.due.epoch_ms(), NOW_MS + 90 * 60_000);
            assert_eq!((schedule.key, schedule.value), (&b""[..], None));
            assert!(schedule.headers.is_empty());
        });
    }

    #[test]
    fn what_is_doubtful_is_refused() {
        for body in [
            json!({"topic": "t"}),
            json!({"time": 1, "in": "1s", "topic": "t"}),
            json!({"time": 1.5, "topic": "t"}),
            json!({"time": "tomorrow", "topic": "t"}),
            json!({"time": 1}),
            json!({"time": 1, "topic": "t", "key": "*"}),
            json!({"time": 1, "topic": "t", "key": "", "key_text": ""}),
            json!({"time": 1, "topic": "t", "headers": {"a": ""}, "headers_text": {"a": ""}}),
            json!({"time": 1, "topic": "t", "vaule": ""}),
            json!([]),
        ] {
            refused(&body);
        }
    }
}
