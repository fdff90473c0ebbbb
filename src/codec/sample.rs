//! Schedules to test with: owned, comparable, generated.

use proptest::prelude::*;

use super::{DecodeError, Scratch};
use crate::schedule::{DueTime, Format, HeadersBuf, Schedule};

/// A [`Schedule`] that owns its parts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) time: i64,
    pub(super) topic: String,
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
    /// In order.
    pub(super) headers: Vec<(String, Vec<u8>)>,
}

impl Sample {
    /// Panics when a header's value is null, which no decoder may hand out.
    pub(super) fn of(schedule: &Schedule<'_>) -> Self {
        Self {
            time: schedule.due.epoch_ms(),
            topic: schedule.topic.to_owned(),
            key: schedule.key.to_vec(),
            value: schedule.value.map(<[u8]>::to_vec),
            headers: schedule
                .headers
                .iter()
                .map(|header| (header.name.to_owned(), header.value.expect("never null").to_vec()))
                .collect(),
        }
    }

    /// What a record's value says.
    pub(super) fn decode(format: Format, record: &[u8]) -> Result<Self, DecodeError> {
        super::decode(format, record, &mut Scratch::default()).map(|schedule| Self::of(&schedule))
    }

    /// A record's value that says this.
    pub(super) fn encode(&self, format: Format) -> Vec<u8> {
        let mut record = Vec::new();
        self.with_schedule(|schedule| super::encode(format, schedule, &mut record));
        record
    }

    pub(super) fn with_schedule<R>(&self, then: impl FnOnce(&Schedule<'_>) -> R) -> R {
        let headers: HeadersBuf = self.headers.iter().map(|(name, value)| (name, value)).collect();
        then(&Schedule {
            due: DueTime::from_epoch_ms(self.time),
            topic: &self.topic,
            key: &self.key,
            value: self.value.as_deref(),
            headers: headers.as_headers(),
        })
    }
}

/// Schedules without duplicate header names; with more headers, now and then, than are compared pair by pair.
pub(super) fn samples() -> impl Strategy<Value = Sample> {
    let few = prop::collection::btree_map(any::<String>(), bytes(), 0..4);
    let many = prop::collection::btree_map("[a-z]{0,4}", bytes(), 0..40);
    let headers = prop_oneof![9 => few.prop_map(Vec::from_iter), 1 => many.prop_map(Vec::from_iter)];
    (any::<i64>(), any::<String>(), bytes(), prop::option::of(bytes()), headers)
        .prop_map(|(time, topic, key, value, headers)| Sample { time, topic, key, value, headers })
}

/// Long enough for the vector code of the base64 decoder.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![9 => prop::collection::vec(any::<u8>(), 0..12), 1 => prop::collection::vec(any::<u8>(), 0..200)]
}
