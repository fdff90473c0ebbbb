//! What the fuzz targets share: schedules that own their parts, and numbers written in more bytes than they need.

use std::collections::BTreeSet;

use arbitrary::Arbitrary;
use kafka_message_scheduler::codec::{self, DecodeError, Scratch};
use kafka_message_scheduler::schedule::{DueTime, Format, HeadersBuf, Schedule, varint};

/// A [`Schedule`] that owns its parts and can be compared.
#[derive(Arbitrary, Clone, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// Epoch milliseconds.
    pub time: i64,
    /// The destination.
    pub topic: String,
    /// The message's key.
    pub key: Vec<u8>,
    /// The message's value.
    pub value: Option<Vec<u8>>,
    /// The message's headers, in order; of those that come from a decoder, each name comes once.
    pub headers: Vec<(String, Vec<u8>)>,
}

impl Sample {
    /// Copies what a decoder handed out. Panics when a header's value is null or its name comes twice.
    #[must_use]
    pub fn of(schedule: &Schedule<'_>) -> Self {
        let mut names = BTreeSet::new();
        let headers = schedule.headers.iter().map(|header| {
            assert!(names.insert(header.name), "a name comes twice");
            (header.name.to_owned(), header.value.expect("neither format can say null").to_vec())
        });
        Self {
            time: schedule.due.epoch_ms(),
            topic: schedule.topic.to_owned(),
            key: schedule.key.to_vec(),
            value: schedule.value.map(<[u8]>::to_vec),
            headers: headers.collect(),
        }
    }

    /// Decodes a record, with a scratch that another record was decoded with, of which nothing must show. A refusal's
    /// text is made too, for that must not panic either.
    pub fn decode(format: Format, record: &[u8]) -> Result<Self, DecodeError> {
        let mut scratch = Scratch::default();
        codec::decode(format, other_record(format), &mut scratch).expect("a schedule");
        let decoded = codec::decode(format, record, &mut scratch).map(|schedule| Self::of(&schedule));
        if let Err(error) = &decoded {
            assert!(!error.to_string().is_empty());
        }
        decoded
    }

    /// The record's value that says this.
    #[must_use]
    pub fn encode(&self, format: Format) -> Vec<u8> {
        let headers: HeadersBuf = self.headers.iter().map(|(name, value)| (name, value)).collect();
        let schedule = Schedule {
            due: DueTime::from_epoch_ms(self.time),
            topic: &self.topic,
            key: &self.key,
            value: self.value.as_deref(),
            headers: headers.as_headers(),
        };
        let mut record = Vec::new();
        codec::encode(format, &schedule, &mut record);
        record
    }

    /// As a reader sees it: of the headers with the same name, only the last is left, where it stands.
    #[must_use]
    pub fn with_last_of_each_header(mut self) -> Self {
        let mut later = BTreeSet::new();
        let mut kept: Vec<_> =
            self.headers.into_iter().rev().filter(|(name, _)| later.insert(name.clone())).collect();
        kept.reverse();
        self.headers = kept;
        self
    }

    /// For comparison with what knows no order of headers.
    #[must_use]
    pub fn with_sorted_headers(mut self) -> Self {
        self.headers.sort();
        self
    }

    /// Panics unless the schedule survives being written and read.
    pub fn assert_survives(&self, format: Format) {
        let again = Self::decode(format, &self.encode(format));
        assert_eq!(again.as_ref(), Ok(self), "written as {format:?} and read again");
    }
}

/// A record that leaves something in each part of a scratch: escapes, headers in two blocks, a name that comes twice.
fn other_record(format: Format) -> &'static [u8] {
    match format {
        Format::Avro => b"\x00\x02t\x00\x00\x02\x0aother\x02x\x02\x0aother\x02y\x00",
        Format::Json => {
            br#"{"time":1,"topic":"\u006fther","key":"b3RoZXI=","value":"b3RoZXI=","headers":{"other":"","other":"eA=="}}"#
        }
    }
}

/// A name of which there are few, so that they come twice, or any other.
#[derive(Arbitrary, Clone, Debug)]
pub enum Name {
    /// One of a handful.
    Few(u8),
    /// One of more than are compared pair by pair.
    Some(u8),
    /// Any.
    Any(String),
}

impl Name {
    /// The name's text.
    #[must_use]
    pub fn text(&self) -> String {
        match self {
            Self::Few(n) => ["", "a", "b", "ab"][usize::from(n % 4)].to_owned(),
            Self::Some(n) => format!("h{}", n % 40),
            Self::Any(name) => name.clone(),
        }
    }
}

/// An integer as a careless writer may write it: right, but in more bytes than it needs.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Long {
    /// The integer.
    pub value: i64,
    /// How many bytes more; a multiple of eight is none.
    pub excess: u8,
}

impl Long {
    /// An integer in as few bytes as it takes.
    #[must_use]
    pub fn plain(value: i64) -> Self {
        Self { value, excess: 0 }
    }

    /// Appends the integer to `out`.
    pub fn write(self, out: &mut Vec<u8>) {
        varint::write(out, self.value);
        let room = varint::MAX_LEN - varint::len(self.value);
        for _ in 0..usize::from(self.excess % 8).min(room) {
            *out.last_mut().expect("just written") |= 0x80;
            out.push(0);
        }
    }
}
