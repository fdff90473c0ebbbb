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

mod avro;
mod base64;
mod error;
mod json;
mod json_text;
#[cfg(test)]
mod sample;
mod schema;
mod unique;

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

    fn encoded(format: Format, sample: &Sample) -> Vec<u8> {
        let mut record = Vec::new();
        sample.with_schedule(|schedule| encode(format, schedule, &mut record));
        record
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(sample in samples()) {
            for format in FORMATS {
                let record = encoded(format, &sample);
                let mut scratch = Scratch::default();
                let decoded = decode(format, &record, &mut scratch).map(|schedule| Sample::of(&schedule));
                prop_assert_eq!(decoded.as_ref(), Ok(&sample));
            }
        }

        #[test]
        fn encoding_appends(sample in samples()) {
            for format in FORMATS {
                let mut record = b"before".to_vec();
                sample.with_schedule(|schedule| encode(format, schedule, &mut record));
                prop_assert_eq!(&record[..6], b"before");
                prop_assert_eq!(&record[6..], encoded(format, &sample));
            }
        }

        /// A scratch full of the last record changes nothing about the next.
        #[test]
        fn a_used_scratch_decodes_as_a_new_one(records: [Vec<u8>; 2], used in samples(), next in samples()) {
            for format in FORMATS {
                let mut scratch = Scratch::default();
                for record in [&encoded(format, &used), &records[0], &encoded(format, &next), &records[1]] {
                    let expected = decode(format, record, &mut Scratch::default()).map(|s| Sample::of(&s));
                    prop_assert_eq!(decode(format, record, &mut scratch).map(|s| Sample::of(&s)), expected);
                }
            }
        }

        #[test]
        fn a_record_cut_anywhere_is_refused_or_lacks_its_headers(sample in samples()) {
            for format in FORMATS {
                let record = encoded(format, &sample);
                for len in 0..record.len() {
                    let mut scratch = Scratch::default();
                    if let Ok(schedule) = decode(format, &record[..len], &mut scratch) {
                        prop_assert_eq!(format, Format::Avro);
                        let bare = Sample { headers: Vec::new(), ..sample.clone() };
                        prop_assert_eq!(Sample::of(&schedule), bare);
                        prop_assert_eq!(len, encoded(format, &bare_of(&sample)).len() - 1, "cut inside the headers");
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
                let mut record = encoded(format, &sample);
                for (at, mask) in &flips {
                    let at = at % record.len();
                    record[at] ^= mask;
                    describe(format, &record);
                }
            }
        }
    }

    fn bare_of(sample: &Sample) -> Sample {
        Sample { headers: Vec::new(), ..sample.clone() }
    }

    /// Reads everything a decoder hands out, the error's text too.
    fn describe(format: Format, bytes: &[u8]) {
        match decode(format, bytes, &mut Scratch::default()) {
            Ok(schedule) => drop(Sample::of(&schedule)),
            Err(error) => assert!(!error.to_string().is_empty()),
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
            let mut scratch = Scratch::default();
            assert_eq!(decode(format, &record, &mut scratch).map(|s| Sample::of(&s)), Ok(sample.clone()));
        }
    }
}
