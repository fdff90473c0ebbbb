//! Raw Avro binary, read in place.
//!
//! A datum is `time: long, topic: string, key: bytes, value: ["null","bytes"], headers: map<bytes>` (schema:
//! [`avro_schema`](super::avro_schema)). Older producers end it after `value`. Since a map takes at least one byte, the
//! two shapes cannot be confused: a datum that ends after `value` has no headers, and any byte there must begin a whole
//! map. What follows a whole map is ignored, for a later schema may append fields.
//!
//! Source of the encoding: the Avro specification, "Binary encoding".
//!
//! Known differences to the `apache-avro` crate, which the differential tests hold against it:
//! - It takes a `value` that is missing or cut short inside the union's branch for null, and a `topic` cut short too;
//!   here they are errors.
//! - It drops bits above the 64th of a ten-byte integer; here they are an error.
//! - It refuses lengths and counts above an allocation limit as such; here a count costs nothing until its entries
//!   come, so it fails where the record ends.
//! - It knows headers as a hash map; here they keep the record's order. (Last wins in both.)
//!
//! As in it, and in the Java implementation, the byte size of a block with a negative count is read and not used.

mod reader;

use reader::{BYTES_BRANCH, NULL_BRANCH, Reader, Refusal, Refused};

use super::unique::{self, Names};
use super::{AvroPlace, DecodeError, Scratch};
use crate::schedule::{DueTime, Headers, Schedule, varint};

#[inline(never)]
pub(super) fn decode<'a>(bytes: &'a [u8], scratch: &'a mut Scratch) -> Result<Schedule<'a>, DecodeError> {
    read(bytes, scratch).map_err(|Refused| explain(bytes))
}

#[inline(never)]
pub(super) fn encode(schedule: &Schedule<'_>, out: &mut Vec<u8>) {
    const AROUND: usize = 7 * varint::MAX_LEN; // the time, the lengths, the branch, the count and the end of the map
    let raw_len = schedule.topic.len() + schedule.key.len() + schedule.value.map_or(0, <[u8]>::len);
    out.reserve(AROUND + raw_len + schedule.headers.as_packed().len());

    varint::write(out, schedule.due.epoch_ms());
    varint::write_bytes(out, schedule.topic.as_bytes());
    varint::write_bytes(out, schedule.key);
    match schedule.value {
        None => varint::write(out, NULL_BRANCH),
        Some(value) => {
            varint::write(out, BYTES_BRANCH);
            varint::write_bytes(out, value);
        }
    }
    write_headers(out, schedule.headers);
}

/// One block, which is the packed run itself unless a value is null.
fn write_headers(out: &mut Vec<u8>, headers: Headers<'_>) {
    let (mut count, mut has_null) = (0, false);
    for span in headers.spans() {
        count += 1;
        has_null |= span.value.is_none();
    }
    if count > 0 {
        varint::write(out, count);
        if has_null {
            for header in headers.iter() {
                varint::write_bytes(out, header.name.as_bytes());
                varint::write_bytes(out, header.value.unwrap_or_default());
            }
        } else {
            out.extend_from_slice(headers.as_packed());
        }
    }
    varint::write(out, END_OF_MAP);
}

const END_OF_MAP: i64 = 0;

/// Reads a datum once more for what is wrong with it.
#[cold]
#[inline(never)]
fn explain(bytes: &[u8]) -> DecodeError {
    read(bytes, &mut Scratch::default()).expect_err("a datum that was refused is refused again")
}

#[inline(always)]
fn read<'a, E: Refusal>(bytes: &'a [u8], scratch: &'a mut Scratch) -> Result<Schedule<'a>, E> {
    let mut reader = Reader::new(bytes);
    let due = DueTime::from_epoch_ms(reader.time(AvroPlace::Time)?);
    let topic = reader.text(AvroPlace::Topic)?;
    let key = reader.bytes(AvroPlace::Key)?;
    let value = reader.nullable_bytes(AvroPlace::Value)?;
    let headers =
        if reader.at() == bytes.len() { Headers::default() } else { read_headers(&mut reader, scratch)? };
    Ok(Schedule { due, topic, key, value, headers })
}

/// Reads the map: one block without duplicate names stays where it is, all else is put together in `scratch`.
#[inline(always)]
fn read_headers<'a, E: Refusal>(reader: &mut Reader<'a>, scratch: &'a mut Scratch) -> Result<Headers<'a>, E> {
    let mut seen = Seen::default();
    let first = match read_count(reader)? {
        0 => return Ok(Headers::default()),
        count => read_block(count, reader, &mut seen)?,
    };
    let run = match read_count(reader)? {
        0 => first,
        count => {
            seen = join_blocks(first, count, *reader, seen, &mut scratch.run)?;
            &scratch.run
        }
    };
    let run = Headers::from_trusted(run);
    Ok(if seen.maybe_twice { unique::last_of_each(run, &mut scratch.unique) } else { run })
}

/// Puts the first block, the next one of `count` entries, and all that follow into one run.
#[cold]
#[inline(never)]
fn join_blocks<E: Refusal>(
    first: &[u8],
    mut count: u64,
    mut reader: Reader<'_>,
    mut seen: Seen,
    run: &mut Vec<u8>,
) -> Result<Seen, E> {
    run.clear();
    run.extend_from_slice(first);
    while count > 0 {
        run.extend_from_slice(read_block(count, &mut reader, &mut seen)?);
        count = read_count(&mut reader)?;
    }
    Ok(seen)
}

/// What the blocks of a map have in common.
#[derive(Default)]
struct Seen {
    /// How many headers.
    count: usize,
    names: Names,
    /// Whether two of the names may be the same.
    maybe_twice: bool,
}

/// How many entries the next block has; 0 at the end of the map.
#[inline(always)]
fn read_count<E: Refusal>(reader: &mut Reader<'_>) -> Result<u64, E> {
    let count = reader.long(AvroPlace::HeaderBlock)?;
    if count < 0 {
        reader.long(AvroPlace::HeaderBlock)?; // its size in bytes, for readers that skip blocks
    }
    Ok(count.unsigned_abs())
}

/// The checked entries of a block, which are a packed run of headers.
///
/// A hostile count only ends in an error sooner: each entry takes two bytes at least, so the loop is bounded by the
/// record.
#[inline(always)]
fn read_block<'a, E: Refusal>(count: u64, reader: &mut Reader<'a>, seen: &mut Seen) -> Result<&'a [u8], E> {
    let start = reader.at();
    for _ in 0..count {
        seen.count += 1;
        seen.maybe_twice |= seen.names.see(reader.name(AvroPlace::HeaderName(seen.count))?);
        reader.skip_bytes(AvroPlace::HeaderValue(seen.count))?;
    }
    Ok(reader.since(start))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use apache_avro::Schema;
    use apache_avro::reader::datum::GenericDatumReader;
    use apache_avro::types::Value;
    use apache_avro::util::max_allocation_bytes;
    use apache_avro::writer::datum::GenericDatumWriter;
    use proptest::prelude::*;

    use super::*;
    use crate::codec::sample::{Sample, samples};
    use crate::codec::{AvroFault, avro_schema};
    use crate::schedule::Format;

    /// A datum's fields as `apache-avro` holds them, of which `with_headers` says whether there are five or four.
    fn to_apache(sample: &Sample, with_headers: bool) -> Value {
        let value = match &sample.value {
            None => Value::Union(0, Box::new(Value::Null)),
            Some(value) => Value::Union(1, Box::new(Value::Bytes(value.clone()))),
        };
        let headers =
            sample.headers.iter().map(|(name, value)| (name.clone(), Value::Bytes(value.clone()))).collect();
        let mut fields = vec![
            ("time".to_owned(), Value::Long(sample.time)),
            ("topic".to_owned(), Value::String(sample.topic.clone())),
            ("key".to_owned(), Value::Bytes(sample.key.clone())),
            ("value".to_owned(), value),
        ];
        if with_headers {
            fields.push(("headers".to_owned(), Value::Map(headers)));
        }
        Value::Record(fields)
    }

    /// The reverse; headers come back in the order of their names. `None` for a null `topic`.
    fn of_apache(datum: Value) -> Option<Sample> {
        let Value::Record(fields) = datum else { panic!("not a record") };
        let mut sample = Sample::default();
        for (name, field) in fields {
            match (name.as_str(), field) {
                ("time", Value::Long(time)) => sample.time = time,
                ("topic", Value::String(topic)) => sample.topic = topic,
                ("topic", Value::Null) => return None,
                ("key", Value::Bytes(key)) => sample.key = key,
                ("value", Value::Union(0, _)) => sample.value = None,
                ("value", Value::Union(1, value)) => match *value {
                    Value::Bytes(value) => sample.value = Some(value),
                    other => panic!("value is {other:?}"),
                },
                ("headers", Value::Map(map)) => {
                    let map: BTreeMap<_, _> = map.into_iter().collect();
                    let entry = |(name, value)| match value {
                        Value::Bytes(value) => (name, value),
                        other => panic!("header is {other:?}"),
                    };
                    sample.headers = map.into_iter().map(entry).collect();
                }
                other => panic!("field {other:?}"),
            }
        }
        Some(sample)
    }

    /// The schema's first `fields` fields.
    fn schema_of(fields: usize) -> Schema {
        let mut schema: serde_json::Value = serde_json::from_str(&avro_schema()).unwrap();
        schema["fields"].as_array_mut().unwrap().truncate(fields);
        Schema::parse(&schema).unwrap()
    }

    fn read_apache(fields: usize, bytes: &mut &[u8]) -> Option<Value> {
        max_allocation_bytes(1 << 20); // or a flipped count makes it reserve half a gigabyte
        let schema = schema_of(fields);
        GenericDatumReader::builder(&schema).build().unwrap().read_value(bytes).ok()
    }

    fn write_apache(sample: &Sample, with_headers: bool) -> Vec<u8> {
        let schema = schema_of(if with_headers { 5 } else { 4 });
        let writer = GenericDatumWriter::builder(&schema).build().unwrap();
        writer.write_value_to_vec(to_apache(sample, with_headers)).unwrap()
    }

    /// What `apache-avro` makes of a record by the rule of two shapes, without its leniency at the record's end.
    fn oracle(record: &[u8]) -> Option<Sample> {
        let mut rest = record;
        read_apache(3, &mut rest)?;
        if rest.iter().all(|&byte| byte >= 0x80) {
            return None; // a value that is not there, or whose branch is cut short, is not null
        }
        if let Some(datum) = read_apache(5, &mut &*record) {
            return of_apache(datum);
        }
        let mut rest = record;
        let datum = read_apache(4, &mut rest)?;
        if rest.is_empty() { of_apache(datum) } else { None }
    }

    fn decoded(record: &[u8]) -> Result<Sample, DecodeError> {
        Sample::decode(Format::Avro, record)
    }

    fn with_sorted_headers(mut sample: Sample) -> Sample {
        sample.headers.sort();
        sample
    }

    /// Records as any writer may make them: a map in several blocks, sizes given and wrong, duplicate names, bytes
    /// behind, then perhaps damage.
    fn records() -> impl Strategy<Value = Vec<u8>> {
        let entry = ("[ab]{0,2}", prop::collection::vec(any::<u8>(), 0..3));
        let block = (prop::option::of(any::<i64>()), prop::collection::vec(entry, 1..20));
        let tail = prop_oneof![Just(vec![]), prop::collection::vec(any::<u8>(), 0..4)];
        let damage = prop_oneof![
            3 => Just(None),
            1 => (any::<prop::sample::Index>(), 1u8..).prop_map(Some),
        ];
        let map = prop::option::weighted(0.8, prop::collection::vec(block, 0..4));
        (samples(), map, tail, damage).prop_map(|(sample, map, tail, damage)| {
            let mut record = Sample { headers: vec![], ..sample }.encode(Format::Avro);
            record.pop(); // the empty map
            if let Some(blocks) = map {
                for (size, entries) in blocks {
                    let count = entries.len() as i64;
                    varint::write(&mut record, if size.is_some() { -count } else { count });
                    size.inspect(|size| varint::write(&mut record, *size));
                    for (name, value) in entries {
                        varint::write_bytes(&mut record, name.as_bytes());
                        varint::write_bytes(&mut record, &value);
                    }
                }
                varint::write(&mut record, END_OF_MAP);
            }
            record.extend(tail);
            if let Some((at, mask)) = damage {
                let at = at.index(record.len());
                record[at] ^= mask;
            }
            record
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4 * ProptestConfig::default().cases))]

        #[test]
        fn reads_what_apache_avro_writes(sample in samples()) {
            prop_assert_eq!(decoded(&write_apache(&sample, true)).map(with_sorted_headers), Ok(with_sorted_headers(sample.clone())));
            let bare = Sample { headers: vec![], ..sample };
            prop_assert_eq!(decoded(&write_apache(&bare, false)), Ok(bare));
        }

        #[test]
        fn apache_avro_reads_what_is_written(sample in samples()) {
            let record = sample.encode(Format::Avro);
            let mut rest = record.as_slice();
            let datum = read_apache(5, &mut rest).and_then(of_apache);
            prop_assert_eq!(datum, Some(with_sorted_headers(sample)));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn agrees_with_apache_avro_on_any_record(record in records()) {
            match decoded(&record) {
                Ok(sample) => prop_assert_eq!(Some(with_sorted_headers(sample)), oracle(&record)),
                Err(DecodeError::InvalidAvro { fault: AvroFault::TooWide, .. }) => {} // it drops the bits
                Err(error) => prop_assert_eq!(None, oracle(&record), "{}", error),
            }
        }

        /// The general test of this does not write several blocks or duplicate names.
        #[test]
        fn a_used_scratch_changes_nothing(used in records(), next in records()) {
            let mut scratch = Scratch::default();
            drop(decode(&used, &mut scratch).map(|schedule| Sample::of(&schedule)));
            prop_assert_eq!(decode(&next, &mut scratch).map(|schedule| Sample::of(&schedule)), decoded(&next));
        }
    }

    /// `time` 0, `topic` "t", `key` "k", `value` null.
    const FOUR_FIELDS: [u8; 6] = [0, 2, b't', 2, b'k', 0];

    fn with_map(map: &[u8]) -> Vec<u8> {
        [&FOUR_FIELDS[..], map].concat()
    }

    #[test]
    fn the_encoding_is_canonical() {
        let sample = Sample {
            time: -1,
            topic: "t".into(),
            key: b"k".to_vec(),
            value: Some(b"v".to_vec()),
            headers: vec![("h".into(), b"x".to_vec()), (String::new(), vec![])],
        };
        let record = sample.encode(Format::Avro);
        assert_eq!(record, b"\x01\x02t\x02k\x02\x02v\x04\x02h\x02x\x00\x00\x00");
    }

    #[test]
    fn one_block_without_duplicates_stays_in_the_record() {
        let sample =
            Sample { headers: vec![("a".into(), vec![1]), ("b".into(), vec![2])], ..Sample::default() };
        let record = sample.encode(Format::Avro);
        let mut scratch = Scratch::default();
        let schedule = decode(&record, &mut scratch).unwrap();
        let packed = schedule.headers.as_packed();
        assert_eq!(packed.len(), 8);
        assert!(record.as_ptr_range().contains(&packed.as_ptr()));
        assert_eq!(scratch.run.capacity(), 0);
    }

    #[test]
    fn the_last_of_a_name_wins_across_blocks() {
        let map = [4, 2, b'a', 2, 1, 2, b'b', 2, 2, 1, 0, 2, b'a', 2, 3, 0];
        let headers = decoded(&with_map(&map)).unwrap().headers;
        assert_eq!(headers, [("b".to_owned(), vec![2]), ("a".to_owned(), vec![3])]);
    }

    #[test]
    fn a_null_header_value_cannot_be_smuggled_in() {
        // −1 is null in the packed layout of headers, and no length at all in Avro.
        let error = decoded(&with_map(&[2, 2, b'h', 1, 0])).unwrap_err();
        let place = AvroPlace::HeaderValue(1);
        assert_eq!(
            error,
            DecodeError::InvalidAvro {
                place,
                at: 9,
                fault: AvroFault::NegativeLength(-1),
                maybe_framed: true
            }
        );
    }

    #[test]
    fn a_hostile_count_costs_nothing() {
        for count in [i64::MAX, i64::MIN, i64::MIN + 1, 1 << 40] {
            let mut record = FOUR_FIELDS.to_vec();
            varint::write(&mut record, count);
            record.extend([0; 100]);
            let error = decoded(&record).unwrap_err();
            assert!(matches!(error, DecodeError::InvalidAvro { fault: AvroFault::Cut, .. }), "{error}");
        }
    }

    #[test]
    fn errors_say_what_where_and_why() {
        let text = |record: &[u8]| decoded(record).unwrap_err().to_string();
        assert_eq!(text(&[]), "invalid Avro: the record ends inside an integer (time, at byte 0)");
        assert_eq!(
            text(&[2, 20, b'x']),
            "invalid Avro: a length of 10 where 1 bytes are left (topic, at byte 1)"
        );
        assert_eq!(text(&[2, 2, 0xff, 0]), "invalid Avro: a text that is not UTF-8 (topic, at byte 1)");
        assert_eq!(
            text(&[2, 0, 0, 4]),
            "invalid Avro: union branch 2 where there are only 0 (null) and 1 (bytes) (value, at byte 3)"
        );
        assert_eq!(
            text(&[2, 0, 0, 0, 2, 0, 6]),
            "invalid Avro: a length of 3 where 0 bytes are left (value of header 1, at byte 6)"
        );
        assert_eq!(text(&[0xff; 11]), "invalid Avro: an integer of more than 64 bits (time, at byte 0)");
        assert_eq!(
            text(&[0, 0, 0, 0, 7, 2]),
            "invalid Avro: the record ends inside an integer (name of header 1, at byte 6); the first byte is 0: was it \
             written with a schema registry's prefix? Schedules are raw Avro"
        );
    }
}
