//! Records that another implementation wrote, through the public API: see `tests/golden`.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use ::base64::Engine as _;
use ::base64::engine::general_purpose::STANDARD;
use kafka_message_scheduler::codec::{DecodeError, Scratch, decode, encode};
use kafka_message_scheduler::schedule::{Format, Schedule};
use serde::Deserialize;

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Case>,
}

/// One record, and either what it says or that it must be refused.
#[derive(Deserialize)]
struct Case {
    name: String,
    datum: Option<String>,
    text: Option<String>,
    schedule: Option<Expected>,
    #[serde(default)]
    refuse: bool,
}

/// A schedule; all but time and topic in base64.
#[derive(Debug, PartialEq, Deserialize)]
struct Expected {
    time: i64,
    topic: String,
    key: String,
    value: Option<String>,
    headers: BTreeMap<String, String>,
}

impl Expected {
    fn of(schedule: &Schedule<'_>) -> Self {
        let headers: BTreeMap<_, _> = schedule
            .headers
            .iter()
            .map(|header| (header.name.to_owned(), STANDARD.encode(header.value.unwrap())))
            .collect();
        assert_eq!(headers.len(), schedule.headers.iter().count(), "a name comes twice");
        Self {
            time: schedule.due.epoch_ms(),
            topic: schedule.topic.to_owned(),
            key: STANDARD.encode(schedule.key),
            value: schedule.value.map(|value| STANDARD.encode(value)),
            headers,
        }
    }
}

#[test]
fn avro_records_are_read_as_they_were_meant() {
    check(Format::Avro, include_str!("golden/avro.json"), |case| {
        STANDARD.decode(case.datum.as_ref().unwrap()).unwrap()
    });
}

#[test]
fn json_records_are_read_as_they_were_meant() {
    check(Format::Json, include_str!("golden/json.json"), |case| case.text.clone().unwrap().into_bytes());
}

/// Decodes each case with a scratch that has seen the others; what is accepted is then written and read once more.
fn check(format: Format, vectors: &str, record_of: impl Fn(&Case) -> Vec<u8>) {
    let vectors: Vectors = serde_json::from_str(vectors).unwrap();
    let mut scratch = Scratch::default();
    let (mut accepted, mut refused) = (0, 0);
    for case in &vectors.cases {
        let (name, record) = (&case.name, record_of(case));
        match (decode(format, &record, &mut scratch), &case.schedule) {
            (Ok(schedule), Some(expected)) => {
                assert_eq!(&Expected::of(&schedule), expected, "{name}");
                let mut rewritten = Vec::new();
                encode(format, &schedule, &mut rewritten);
                let mut scratch = Scratch::default();
                let reread = decode(format, &rewritten, &mut scratch).unwrap();
                assert_eq!(&Expected::of(&reread), expected, "{name}, rewritten");
                accepted += 1;
            }
            (Err(error), None) => {
                assert!(case.refuse, "{name}: a case says what must come of it");
                let is_of_format =
                    matches!(error, DecodeError::InvalidAvro { .. }) == (format == Format::Avro);
                assert!(is_of_format, "{name}: {error}");
                refused += 1;
            }
            (Ok(schedule), None) => panic!("{name}: accepted as {schedule:?}"),
            (Err(error), Some(_)) => panic!("{name}: refused, {error}"),
        }
    }
    assert!(accepted > 0 && refused > 0, "{accepted} cases accepted, {refused} refused");
}
