//! Both record formats, read and written, beside the crates that do the same:
//! `cargo bench -p kms-benches --bench codec`.
//!
//! The contestants of a group do one job on one record. Reading, that is: find and check the five fields, decode what
//! is base64, leave nothing for later; memory is kept from record to record. The peers read by borrowing, each in the
//! quickest of the ways that were tried (`apache_avro` cannot borrow). They are spared much of what `kms` does: header
//! names that come twice, base64 without padding, strings with escapes, times like `1.7e12`, fields that come twice,
//! packing the headers. Before a contestant is timed, what it makes of the record is compared with what went into it.
#![allow(missing_docs, clippy::unwrap_used, reason = "a program that measures")]

use std::fmt;
use std::hint::black_box;
use std::ops::Range;
use std::time::Duration;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use arrayvec::ArrayVec;
use base64_simd::{AsOut as _, STANDARD};
use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use jiter::{Jiter, NumberInt, Peek};
use kafka_message_scheduler::codec::{self, Scratch};
use kafka_message_scheduler::schedule::{DueTime, Format, HeadersBuf, Schedule};
use kms_benches as _; // for the allocator
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, SerializeStruct as _, Serializer};
use serde_avro_fast::de::DeserializerState;

criterion_group!(benches, avro_decode, avro_encode, json_decode, json_encode);
criterion_main!(benches);

fn avro_decode(criterion: &mut Criterion) {
    let schema = codec::avro_schema();
    let apache_schema = apache_avro::Schema::parse_str(&schema).unwrap();
    let apache = GenericDatumReader::builder(&apache_schema).build().unwrap();
    let fast_schema: serde_avro_fast::Schema = schema.parse().unwrap();

    for (name, message) in messages() {
        let record = message.record(Format::Avro);
        let mut group = group(criterion, &format!("avro_decode/{name}"), &record);
        bench_our_decode(&mut group, Format::Avro, &record, &message);

        assert_eq!(message, Message::of_fields(&read_avro(&record, &fast_schema), <[u8]>::to_vec));
        group.bench_function("serde_avro_fast", |b| {
            b.iter(|| {
                black_box(&read_avro(black_box(&record), &fast_schema));
            });
        });

        let datum = apache.read_value(&mut &*record).unwrap();
        assert_eq!(message.with_sorted_headers(), Message::of_apache(datum));
        group.bench_function("apache_avro", |b| {
            b.iter(|| apache.read_value(&mut black_box(&*record)).unwrap());
        });
        group.finish();
    }
}

fn read_avro<'a>(record: &'a [u8], schema: &serde_avro_fast::Schema) -> Fields<'a, [u8]> {
    let mut fields = Fields::default();
    let mut state = DeserializerState::from_slice(record, schema);
    FieldsSeed(&mut fields).deserialize(state.deserializer()).unwrap();
    fields
}

fn avro_encode(criterion: &mut Criterion) {
    let schema = codec::avro_schema();
    let apache_schema = apache_avro::Schema::parse_str(&schema).unwrap();
    let apache = GenericDatumWriter::builder(&apache_schema).build().unwrap();
    let fast_schema: serde_avro_fast::Schema = schema.parse().unwrap();
    let mut fast = serde_avro_fast::ser::SerializerConfig::new(&fast_schema);

    for (name, message) in messages() {
        let record = message.record(Format::Avro);
        let mut group = group(criterion, &format!("avro_encode/{name}"), &record);
        bench_our_encode(&mut group, Format::Avro, &message);

        let fields = Written { message: &message, to_text: false };
        bench_encode(&mut group, "serde_avro_fast", |out| {
            serde_avro_fast::to_datum(black_box(&fields), &mut *out, &mut fast).unwrap();
        })
        .expect(&record);

        let value = message.to_apache();
        let written = bench_encode(&mut group, "apache_avro", |out| {
            apache.write_value_ref(out, black_box(&value)).unwrap();
        });
        // It keeps headers in a hash map, so their order differs.
        let reader = GenericDatumReader::builder(&apache_schema).build().unwrap();
        let reread = reader.read_value(&mut &*written.0).unwrap();
        assert_eq!(message.with_sorted_headers(), Message::of_apache(reread));
        group.finish();
    }
}

fn json_decode(criterion: &mut Criterion) {
    let mut records: Vec<_> =
        messages().into_iter().map(|(name, message)| (name, message.record(Format::Json), message)).collect();
    // As Python's json writes unless told otherwise, with a blank after each colon and comma.
    let (_, plain, message) = &records[1];
    let spaced = String::from_utf8(plain.clone()).unwrap().replace("\":", "\": ").replace(",\"", ", \"");
    records.push(("248B_spaced", spaced.into_bytes(), message.clone()));

    for (name, record, message) in &records {
        let mut group = group(criterion, &format!("json_decode/{name}"), record);
        bench_our_decode(&mut group, Format::Json, record, message);
        bench_json_decode(&mut group, "serde_json", record, message, |record, fields| {
            FieldsSeed(fields).deserialize(&mut serde_json::Deserializer::from_slice(record)).unwrap();
        });
        bench_json_decode(&mut group, "sonic_rs", record, message, |record, fields| {
            FieldsSeed(fields).deserialize(&mut sonic_rs::Deserializer::from_slice(record)).unwrap();
        });
        bench_json_decode(&mut group, "jiter", record, message, read_jiter);
        bench_simd_json_decode(&mut group, record, message);
        group.finish();
    }
}

/// `read` finds the fields; the base64 in them is decoded here.
fn bench_json_decode<'a>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    record: &'a [u8],
    message: &Message,
    read: impl Fn(&'a [u8], &mut Fields<'a, str>),
) {
    let mut memory = vec![0; record.len()];
    let mut fields = Fields::default();
    read(record, &mut fields);
    let decoded = fields.decode(&mut memory);
    assert_eq!(*message, Message::of_decoded(&fields, &decoded, &memory), "{name}");

    group.bench_function(name, |b| {
        b.iter(|| {
            let mut fields = Fields::default();
            read(black_box(record), &mut fields);
            let decoded = fields.decode(&mut memory);
            black_box((&fields, &decoded, &memory));
        });
    });
}

/// It unescapes in place, so each run wants a record of its own; copying that is not timed.
fn bench_simd_json_decode(group: &mut BenchmarkGroup<'_, WallTime>, record: &[u8], message: &Message) {
    let mut memory = vec![0; record.len()];
    let mut buffers = simd_json::Buffers::new(record.len());
    read_simd_json(&mut record.to_vec(), &mut buffers, &mut memory, |fields, decoded, memory| {
        assert_eq!(*message, Message::of_decoded(fields, decoded, memory));
    });

    group.bench_function("simd_json", |b| {
        b.iter_batched_ref(
            || record.to_vec(),
            |record| {
                read_simd_json(black_box(record), &mut buffers, &mut memory, |fields, decoded, memory| {
                    black_box((fields, decoded, memory));
                });
            },
            BatchSize::SmallInput,
        );
    });
}

fn read_simd_json(
    record: &mut [u8],
    buffers: &mut simd_json::Buffers,
    memory: &mut [u8],
    then: impl FnOnce(&Fields<'_, str>, &Decoded, &[u8]),
) {
    let mut fields = Fields::default();
    let mut deserializer = simd_json::Deserializer::from_slice_with_buffers(record, buffers).unwrap();
    FieldsSeed(&mut fields).deserialize(&mut deserializer).unwrap();
    let decoded = fields.decode(memory);
    then(&fields, &decoded, memory);
}

fn json_encode(criterion: &mut Criterion) {
    for (name, message) in messages() {
        let record = message.record(Format::Json);
        let mut group = group(criterion, &format!("json_encode/{name}"), &record);
        bench_our_encode(&mut group, Format::Json, &message);

        let fields = Written { message: &message, to_text: true };
        bench_encode(&mut group, "serde_json", |out| serde_json::to_writer(out, black_box(&fields)).unwrap())
            .expect(&record);
        bench_encode(&mut group, "sonic_rs", |out| sonic_rs::to_writer(out, black_box(&fields)).unwrap())
            .expect(&record);
        bench_encode(&mut group, "simd_json", |out| simd_json::to_writer(out, black_box(&fields)).unwrap())
            .expect(&record);
        group.finish();
    }
}

fn group<'c>(criterion: &'c mut Criterion, name: &str, record: &[u8]) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    group.throughput(Throughput::ElementsAndBytes { elements: 1, bytes: record.len() as u64 });
    group
}

fn bench_our_decode(
    group: &mut BenchmarkGroup<'_, WallTime>,
    format: Format,
    record: &[u8],
    message: &Message,
) {
    let mut scratch = Scratch::default();
    assert_eq!(*message, Message::of(&codec::decode(format, record, &mut scratch).unwrap()));
    group.bench_function("kms", |b| {
        b.iter(|| {
            black_box(codec::decode(format, black_box(record), &mut scratch).unwrap());
        });
    });
}

fn bench_our_encode(group: &mut BenchmarkGroup<'_, WallTime>, format: Format, message: &Message) {
    message.with_schedule(|schedule| {
        let written = bench_encode(group, "kms", |out| codec::encode(format, black_box(schedule), out));
        assert_eq!(
            *message,
            Message::of(&codec::decode(format, &written.0, &mut Scratch::default()).unwrap())
        );
    });
}

/// Times writing into memory that is used again and again; gives what was written.
fn bench_encode(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mut write: impl FnMut(&mut Vec<u8>),
) -> Record {
    let mut out = Vec::new();
    group.bench_function(name, |b| {
        b.iter(|| {
            out.clear();
            write(&mut out);
            black_box(&out);
        });
    });
    out.clear();
    write(&mut out);
    Record(out)
}

struct Record(Vec<u8>);

impl Record {
    fn expect(&self, expected: &[u8]) {
        assert_eq!(self.0, expected);
    }
}

/// The records are named by the length of the Avro datum.
fn messages() -> Vec<(&'static str, Message)> {
    const FEW: [(&str, &str); 3] =
        [("content-type", "application/json"), ("source", "billing"), ("v", "2.1")];
    const MANY: [(&str, &str); MOST_HEADERS] = [
        ("content-type", "application/json"),
        ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        ("tracestate", "vendor=00f067aa0ba902b7"),
        ("x-request-id", "b9d7c7a0-6f0e-4a56-9c8f-2f6f3e7d1c55"),
        ("x-tenant-id", "tenant-42"),
        ("x-source", "billing"),
        ("x-retry-count", "0"),
        ("x-schema-id", "1017"),
        ("x-created-at", "2026-01-01T00:00:00Z"),
        ("x-user-agent", "order-service/4.2"),
    ];
    let small = Message::new("order.reminders!", "order-123456", 25, &[]);
    let uuid = "9f1c2b5e-7a34-4d0c-8e21-5b6f0c9d3a17";
    // 6 bytes of time, 1 + 20 of topic, 1 + 36 of key, 1 + 2 + 128 of value, 1 + 52 of headers.
    let of_value_len = |len| Message::new("orders.notifications", uuid, len, &FEW);
    let messages = vec![
        ("64B", small),
        ("248B", of_value_len(128)),
        ("1KiB", of_value_len(904)),
        ("64KiB_value", of_value_len(64 << 10)),
        ("10_headers", Message::new("orders.notifications", uuid, 128, &MANY)),
    ];
    let lens: Vec<_> = messages.iter().map(|(_, message)| message.record(Format::Avro).len()).collect();
    assert_eq!(lens[..3], [64, 248, 1024]);
    messages
}

/// What a schedule says, owned.
#[derive(Clone, Debug, PartialEq)]
struct Message {
    time: i64,
    topic: String,
    key: Vec<u8>,
    value: Vec<u8>,
    headers: Vec<(String, Vec<u8>)>,
}

impl Message {
    fn new(topic: &str, key: &str, value_len: usize, headers: &[(&str, &str)]) -> Self {
        Self {
            time: 1_767_225_600_000,
            topic: topic.to_owned(),
            key: key.as_bytes().to_vec(),
            value: (0..=255).cycle().take(value_len).collect(),
            headers: headers.iter().map(|&(name, value)| (name.to_owned(), value.into())).collect(),
        }
    }

    fn record(&self, format: Format) -> Vec<u8> {
        let mut record = Vec::new();
        self.with_schedule(|schedule| codec::encode(format, schedule, &mut record));
        record
    }

    fn with_schedule(&self, then: impl FnOnce(&Schedule<'_>)) {
        let headers: HeadersBuf = self.headers.iter().map(|(name, value)| (name, value)).collect();
        then(&Schedule {
            due: DueTime::from_epoch_ms(self.time),
            topic: &self.topic,
            key: &self.key,
            value: Some(&self.value),
            headers: headers.as_headers(),
        });
    }

    fn of(schedule: &Schedule<'_>) -> Self {
        let headers = schedule.headers.iter();
        Self {
            time: schedule.due.epoch_ms(),
            topic: schedule.topic.to_owned(),
            key: schedule.key.to_vec(),
            value: schedule.value.unwrap().to_vec(),
            headers: headers.map(|header| (header.name.to_owned(), header.value.unwrap().to_vec())).collect(),
        }
    }

    fn of_fields<B: ?Sized>(fields: &Fields<'_, B>, bytes: impl Fn(&B) -> Vec<u8>) -> Self {
        Self {
            time: fields.time,
            topic: fields.topic.to_owned(),
            key: bytes(fields.key.unwrap()),
            value: bytes(fields.value.unwrap()),
            headers: fields.headers.iter().map(|&(name, value)| (name.to_owned(), bytes(value))).collect(),
        }
    }

    fn of_decoded(fields: &Fields<'_, str>, decoded: &Decoded, memory: &[u8]) -> Self {
        let bytes = |range: &Range<usize>| memory[range.clone()].to_vec();
        let headers = fields.headers.iter().zip(&decoded.headers);
        Self {
            key: bytes(&decoded.key),
            value: bytes(decoded.value.as_ref().unwrap()),
            headers: headers.map(|(&(name, _), value)| (name.to_owned(), bytes(value))).collect(),
            ..Self::of_fields(fields, |_| Vec::new())
        }
    }

    /// Headers come in the order of their names.
    fn of_apache(datum: Value) -> Self {
        let bytes = |value| if let Value::Bytes(bytes) = value { bytes } else { panic!("{value:?}") };
        let Value::Record(fields) = datum else { panic!("{datum:?}") };
        let [time, topic, key, value, headers] = <[_; 5]>::try_from(fields).unwrap().map(|(_, field)| field);
        let (Value::Long(time), Value::String(topic)) = (time, topic) else { panic!("time and topic") };
        let (Value::Union(1, value), Value::Map(headers)) = (value, headers) else {
            panic!("value, headers")
        };
        let headers = headers.into_iter().map(|(name, value)| (name, bytes(value))).collect();
        Self { time, topic, key: bytes(key), value: bytes(*value), headers }.with_sorted_headers()
    }

    fn to_apache(&self) -> Value {
        let headers = self.headers.iter().map(|(name, value)| (name.clone(), Value::Bytes(value.clone())));
        Value::Record(vec![
            ("time".to_owned(), Value::Long(self.time)),
            ("topic".to_owned(), Value::String(self.topic.clone())),
            ("key".to_owned(), Value::Bytes(self.key.clone())),
            ("value".to_owned(), Value::Union(1, Box::new(Value::Bytes(self.value.clone())))),
            ("headers".to_owned(), Value::Map(headers.collect())),
        ])
    }

    fn with_sorted_headers(&self) -> Self {
        let mut sorted = self.clone();
        sorted.headers.sort();
        sorted
    }
}

const MOST_HEADERS: usize = 10;

/// What a peer found in a record, borrowed: byte fields are `[u8]`, or a `str` of base64.
struct Fields<'a, B: ?Sized> {
    time: i64,
    topic: &'a str,
    key: Option<&'a B>,
    value: Option<&'a B>,
    headers: ArrayVec<(&'a str, &'a B), MOST_HEADERS>,
}

impl<B: ?Sized> Default for Fields<'_, B> {
    fn default() -> Self {
        Self { time: 0, topic: "", key: None, value: None, headers: ArrayVec::new() }
    }
}

/// Where the decoded bytes of the fields are.
struct Decoded {
    key: Range<usize>,
    value: Option<Range<usize>>,
    headers: ArrayVec<Range<usize>, MOST_HEADERS>,
}

impl Fields<'_, str> {
    #[inline]
    fn decode(&self, memory: &mut [u8]) -> Decoded {
        let mut used = 0;
        let mut decode = |text: &str| {
            let start = used;
            used += STANDARD.decode(text.as_bytes(), memory[start..].as_out()).unwrap().len();
            start..used
        };
        Decoded {
            key: decode(self.key.unwrap()),
            value: self.value.map(&mut decode),
            headers: self.headers.iter().map(|(_, value)| decode(value)).collect(),
        }
    }
}

fn read_jiter<'a>(record: &'a [u8], fields: &mut Fields<'a, str>) {
    let mut jiter = Jiter::new(record);
    let mut next = jiter.next_object_bytes().unwrap();
    while let Some(name) = next {
        match name {
            b"time" => {
                let NumberInt::Int(time) = jiter.next_int().unwrap();
                fields.time = time;
            }
            b"topic" => fields.topic = next_text(&mut jiter, record),
            b"key" => fields.key = Some(next_text(&mut jiter, record)),
            b"value" => match jiter.peek().unwrap() {
                Peek::Null => jiter.known_null().unwrap(),
                _ => fields.value = Some(next_text(&mut jiter, record)),
            },
            b"headers" => {
                let mut next = jiter.next_object_bytes().unwrap().map(<[u8]>::len);
                while let Some(len) = next {
                    // The name does not outlive the next step, so it is found again: it ends before its colon.
                    let before = &record[..jiter.current_index()];
                    let end = before.iter().rposition(|&byte| byte == b'"').unwrap();
                    let name = std::str::from_utf8(&record[end - len..end]).unwrap();
                    fields.headers.push((name, next_text(&mut jiter, record)));
                    next = jiter.next_key_bytes().unwrap().map(<[u8]>::len);
                }
            }
            _ => jiter.next_skip().unwrap(),
        }
        next = jiter.next_key_bytes().unwrap();
    }
    jiter.finish().unwrap();
}

/// The next string, as a part of the record.
fn next_text<'a>(jiter: &mut Jiter<'_>, record: &'a [u8]) -> &'a str {
    assert_eq!(jiter.peek().unwrap(), Peek::String);
    let start = jiter.current_index() + 1;
    let len = jiter.known_bytes().unwrap().len();
    std::str::from_utf8(&record[start..start + len]).unwrap()
}

/// Lets a crate that speaks serde fill [`Fields`] in place.
struct FieldsSeed<'f, 'a, B: ?Sized>(&'f mut Fields<'a, B>);

impl<'de, B: ?Sized> DeserializeSeed<'de> for FieldsSeed<'_, 'de, B>
where
    &'de B: serde::Deserialize<'de>,
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, B: ?Sized> Visitor<'de> for FieldsSeed<'_, 'de, B>
where
    &'de B: serde::Deserialize<'de>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a schedule")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(name) = map.next_key::<FieldName>()? {
            match name {
                FieldName::Time => self.0.time = map.next_value()?,
                FieldName::Topic => self.0.topic = map.next_value()?,
                FieldName::Key => self.0.key = Some(map.next_value()?),
                FieldName::Value => self.0.value = map.next_value()?,
                FieldName::Headers => map.next_value_seed(HeadersSeed(&mut self.0.headers))?,
                FieldName::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum FieldName {
    Time,
    Topic,
    Key,
    Value,
    Headers,
    #[serde(other)]
    Other,
}

struct HeadersSeed<'f, 'a, B: ?Sized>(&'f mut ArrayVec<(&'a str, &'a B), MOST_HEADERS>);

impl<'de, B: ?Sized> DeserializeSeed<'de> for HeadersSeed<'_, 'de, B>
where
    &'de B: serde::Deserialize<'de>,
{
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, B: ?Sized> Visitor<'de> for HeadersSeed<'_, 'de, B>
where
    &'de B: serde::Deserialize<'de>,
{
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("headers")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(header) = map.next_entry()? {
            self.0.push(header);
        }
        Ok(())
    }
}

/// A message as a crate that speaks serde writes it: byte fields as bytes, or as text in base64.
struct Written<'a> {
    message: &'a Message,
    to_text: bool,
}

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let &Self { message, to_text } = self;
        let mut fields = serializer.serialize_struct("AvroSchedule", 5)?;
        fields.serialize_field("time", &message.time)?;
        fields.serialize_field("topic", &message.topic)?;
        fields.serialize_field("key", &WrittenBytes { bytes: &message.key, to_text })?;
        fields.serialize_field("value", &Some(WrittenBytes { bytes: &message.value, to_text }))?;
        fields.serialize_field("headers", &WrittenHeaders { headers: &message.headers, to_text })?;
        fields.end()
    }
}

struct WrittenBytes<'a> {
    bytes: &'a [u8],
    to_text: bool,
}

impl Serialize for WrittenBytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.to_text {
            serializer.serialize_str(&STANDARD.encode_to_string(self.bytes))
        } else {
            serializer.serialize_bytes(self.bytes)
        }
    }
}

struct WrittenHeaders<'a> {
    headers: &'a [(String, Vec<u8>)],
    to_text: bool,
}

impl Serialize for WrittenHeaders<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.headers.len()))?;
        for (name, bytes) in self.headers {
            map.serialize_entry(name, &WrittenBytes { bytes, to_text: self.to_text })?;
        }
        map.end()
    }
}
