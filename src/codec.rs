//! Bytes ⇄ [`Schedule`]: the two formats in which producers write schedules.
//!
//! Decoding borrows: what can be a slice of the record is one, and what cannot (base64, escapes, headers that came in
//! pieces) goes to a [`Scratch`] that is reused from record to record. Every length in a record is hostile until it
//! was checked: no input panics, recurses without bound, or costs more than about its own size in work and memory.
//!
//! Headers are a map in both formats. A name that comes twice keeps the last value, at the place where that value
//! stood. Neither format can say that a header's value is null.
//!
//! ```
//! use kafka_message_scheduler::codec::{self, Scratch};
//! use kafka_message_scheduler::schedule::{DueTime, Format, Headers, Schedule};
//!
//! let schedule = Schedule {
//!     due: DueTime::from_epoch_ms(1_767_225_600_000),
//!     topic: "orders",
//!     key: b"order-1",
//!     value: Some(b"hello"),
//!     headers: Headers::default(),
//! };
//! let mut record = Vec::new();
//! codec::encode(Format::Avro, &schedule, &mut record);
//! assert_eq!(codec::decode(Format::Avro, &record, &mut Scratch::default()), Ok(schedule));
//! ```
#![allow(
    clippy::inline_always,
    reason = "measured: a reader that is lent keeps its place in memory, not in registers"
)]

mod avro;
mod base64;
mod error;
mod json;
#[cfg(test)]
mod sample;
mod schema;
mod unique;

pub use base64::BASE64;
pub use error::{AvroFault, AvroPlace, DecodeError, JsonFault, JsonPlace};
pub use schema::avro_schema;

use crate::schedule::{Format, Schedule};

/// Reused memory of a decoder: it grows to what the largest record needed and stays there.
///
/// What an ordinary Avro record says is never copied into it.
#[derive(Debug, Default)]
pub struct Scratch {
    /// A JSON schedule's topic, when it was written with escapes.
    topic: Vec<u8>,
    /// Any other string of a JSON schedule that was written with escapes.
    unescaped: Vec<u8>,
    /// A JSON schedule's key and value, decoded, and earlier versions of them.
    body: Vec<u8>,
    /// The brackets around a place in a JSON schedule.
    open: Vec<u8>,
    /// Packed headers, where the record does not hold them as one run: decoded from JSON, or from several Avro blocks.
    run: Vec<u8>,
    /// What [`unique::last_of_each`] needs for headers with duplicate names.
    unique: unique::Scratch,
}

/// Reads the schedule that `bytes`, a record's value, holds.
///
/// The schedule borrows from the record and from `scratch`, so the one must be let go before the next is read.
#[inline] // but not what it calls: in one function the formats would share registers, and each lose by the other
pub fn decode<'a>(
    format: Format,
    bytes: &'a [u8],
    scratch: &'a mut Scratch,
) -> Result<Schedule<'a>, DecodeError> {
    match format {
        Format::Avro => avro::decode(bytes, scratch),
        Format::Json => json::decode(bytes, scratch),
    }
}

/// Appends `schedule` to `out`, as a record's value.
///
/// A header whose value is null is written as an empty one, and of headers with the same name a reader sees the last.
#[inline] // as `decode`
pub fn encode(format: Format, schedule: &Schedule<'_>, out: &mut Vec<u8>) {
    match format {
        Format::Avro => avro::encode(schedule, out),
        Format::Json => json::encode(schedule, out),
    }
}

#[cfg(test)]
mod tests {
    use super::sample::{Sample, samples};
    use super::*;
    use proptest::prelude::*;

    const FORMATS: [Format; 2] = [Format::Avro, Format::Json];

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(sample in samples()) {
            for format in FORMATS {
                let decoded = Sample::decode(format, &sample.encode(format));
                prop_assert_eq!(decoded.as_ref(), Ok(&sample));
            }
        }

        #[test]
        fn encoding_appends(sample in samples()) {
            for format in FORMATS {
                let mut record = b"before".to_vec();
                sample.with_schedule(|schedule| encode(format, schedule, &mut record));
                prop_assert_eq!(&record[..6], b"before");
                prop_assert_eq!(&record[6..], sample.encode(format));
            }
        }

        /// A scratch full of the last record changes nothing about the next.
        #[test]
        fn a_used_scratch_decodes_as_a_new_one(records: [Vec<u8>; 2], used in samples(), next in samples()) {
            for format in FORMATS {
                let mut scratch = Scratch::default();
                for record in [&used.encode(format), &records[0], &next.encode(format), &records[1]] {
                    let decoded = decode(format, record, &mut scratch).map(|schedule| Sample::of(&schedule));
                    prop_assert_eq!(decoded, Sample::decode(format, record));
                }
            }
        }

        #[test]
        fn a_record_cut_anywhere_is_refused_or_lacks_its_headers(sample in samples()) {
            for format in FORMATS {
                let record = sample.encode(format);
                for len in 0..record.len() {
                    if let Ok(decoded) = Sample::decode(format, &record[..len]) {
                        prop_assert_eq!(format, Format::Avro);
                        let bare = Sample { headers: Vec::new(), ..sample.clone() };
                        prop_assert_eq!(&decoded, &bare);
                        prop_assert_eq!(len, bare.encode(format).len() - 1, "cut inside the headers");
                    }
                }
            }
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            for format in FORMATS {
                describe(format, &bytes);
            }
        }

        #[test]
        fn flipped_bytes_never_panic(sample in samples(), flips in prop::collection::vec((any::<usize>(), 1u8..), 1..8)) {
            for format in FORMATS {
                let mut record = sample.encode(format);
                for (at, mask) in &flips {
                    let at = at % record.len();
                    record[at] ^= mask;
                    describe(format, &record);
                }
            }
        }
    }

    /// Reads everything a decoder hands out, the error's text too.
    fn describe(format: Format, bytes: &[u8]) {
        if let Err(error) = Sample::decode(format, bytes) {
            assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn a_null_header_value_is_written_as_an_empty_one() {
        let mut headers = crate::schedule::HeadersBuf::new();
        headers.push("h", None);
        let sample = Sample { headers: vec![("h".into(), Vec::new())], ..Sample::default() };
        for format in FORMATS {
            let mut record = Vec::new();
            sample.with_schedule(|schedule| {
                encode(format, &Schedule { headers: headers.as_headers(), ..*schedule }, &mut record);
            });
            assert_eq!(Sample::decode(format, &record), Ok(sample.clone()));
        }
    }
}
