//! Both record formats, read and written, beside the crates that do the same:
//! `cargo bench -p kms-benches --bench codec`.
//!
//! The contestants of a group do one job on one record. Reading, that is: find and check the five fields, decode what
//! is base64, leave nothing for later, and keep memory from record to record where the crate lets one. The peers read
//! by borrowing (`apache_avro` cannot), each in the quickest of the ways that were tried. They need not do all that
//! `kms` does: find header names that come twice, take base64 without padding, escapes, or times like `1.7e12`.
//! Before a contestant is timed, what it makes of the record is compared.
#![allow(missing_docs, clippy::unwrap_used, reason = "a program that measures")]

use std::fmt;
use std::hint::black_box;
use std::ops::Range;

use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use arrayvec::ArrayVec;
use base64_simd::{AsOut as _, STANDARD};
use criterion::measurement::WallTime;
use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use jiter::{Jiter, Peek};
use kafka_message_scheduler::codec::{self, Scratch};
use kafka_message_scheduler::schedule::{DueTime, Format, HeadersBuf, Schedule};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde::ser::{Serialize, SerializeMap as _, SerializeStruct as _, Serializer};

criterion_group!(benches, avro_decode, json_decode, avro_encode, json_encode);
criterion_main!(benches);

fn avro_decode(criterion: &mut Criterion) {
    let schema = codec::avro_schema();
    let apache_schema = apache_avro::Schema::parse_str(&schema).unwrap();
    let apache = GenericDatumReader::builder(&apache_schema).build().unwrap();
    let fast_schema: serde_avro_fast::Schema = schema.parse().unwrap();

    for (name, message) in messages() {
        let record = message.record(Format::Avro);
        let mut group = group(criterion, &format!("avro_decode/{name}"), &record);
        decode_ours(&mut group, Format::Avro, &record, &message);

        let read = |record| {
            let mut fields = Fields::<&[u8]>::default();
            let mut state = serde_avro_fast::de::DeserializerState::from_slice(record, &fast_schema);
            FieldsSeed(&mut fields).deserialize(state.deserializer()).unwrap();
            fields
        };
        assert_eq!(message, Message::of_fields(&read(&record)));
        group.bench_function("serde_avro_fast", |b| b.iter(|| {
            let mut fields = Fields::<&[u8]>::default();
            let mut state = serde_avro_fast::de::DeserializerState::from_slice(black_box(&record), &fast_schema);
            FieldsSeed(&mut fields).deserialize(state.deserializer()).unwrap();
            black_box(&fields);
        }));
        group.bench_function("serde_avro_fast_derived", |b| b.iter(|| {
            black_box(serde_avro_fast::from_datum_slice::<Derived>(black_box(&record), &fast_schema).unwrap())
        }));

        assert_eq!(message.with_sorted_headers(), Message::of_apache(apache.read_value(&mut &*record).unwrap()));
        group.bench_function("apache_avro", |b| b.iter(|| apache.read_value(&mut black_box(&*record)).unwrap()));
        group.finish();
    }
}

#[derive(serde::Deserialize)]
#[allow(dead_code)]
struct Derived<'a> {
    time: i64,
    topic: &'a str,
    #[serde(borrow, with = "serde_bytes")]
    key: &'a [u8],
    #[serde(borrow, with = "serde_bytes")]
    value: Option<&'a [u8]>,
    #[serde(borrow)]
    headers: DerivedHeaders<'a>,
}
#[allow(dead_code)]
struct DerivedHeaders<'a>(ArrayVec<(&'a str, &'a [u8]), MOST_HEADERS>);
impl<'de: 'a, 'a> serde::Deserialize<'de> for DerivedHeaders<'a> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let mut headers = ArrayVec::new();
        d.deserialize_map(HeadersVisitor(&mut headers))?;
        Ok(Self(headers))
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
        decode_ours(&mut group, Format::Json, record, message);
        let mut kept = vec![0; record.len()];

        peer(&mut group, "serde_json", record, message, &mut kept, |record, fields| {
            FieldsSeed(fields).deserialize(&mut serde_json::Deserializer::from_slice(record)).unwrap();
        });
        peer(&mut group, "sonic_rs", record, message, &mut kept, |record, fields| {
            FieldsSeed(fields).deserialize(&mut sonic_rs::Deserializer::from_slice(record)).unwrap();
        });
        peer(&mut group, "sonic_rs_lazy", record, message, &mut kept, |record, fields| {
            fn text<'a>(v: &sonic_rs::LazyValue<'a>) -> &'a str {
                // no escapes
                let std::borrow::Cow::Borrowed(raw) = v.as_raw_cow() else { panic!() };
                raw.strip_prefix('"').unwrap().strip_suffix('"').unwrap()
            }
            for field in sonic_rs::to_object_iter(record) {
                use sonic_rs::JsonValueTrait as _;
                let (name, value) = field.unwrap();
                match name.as_ref() {
                    "time" => fields.time = value.as_i64().unwrap(),
                    "topic" => fields.topic = text(&value),
                    "key" => fields.key = text(&value),
                    "value" => fields.value = Some(text(&value)),
                    "headers" => for header in value.into_object_iter().unwrap() {
                        let (_name, value) = header.unwrap();
                        fields.headers.push(("", text(&value)));
                    }
                    _ => {}
                }
            }
        });
        peer(&mut group, "jiter", record, message, &mut kept, read_jiter);

        let mut buffers = simd_json::Buffers::new(record.len());
        let mut read = |record: &mut [u8], kept: &mut [u8], then: &mut dyn FnMut(&Fields<&str>, &Decoded, &[u8])| {
            let mut fields = Fields::default();
            let mut de = simd_json::Deserializer::from_slice_with_buffers(record, &mut buffers).unwrap();
            FieldsSeed(&mut fields).deserialize(&mut de).unwrap();
            let decoded = fields.decode(kept);
            then(&fields, &decoded, kept);
        };
        read(&mut record.clone(), &mut kept, &mut |fields, decoded, kept| assert_eq!(*message, Message::of_decoded(fields, decoded, kept)));
        group.bench_function("simd_json", |b| b.iter_batched_ref(|| record.clone(), |record| read(record, &mut kept, &mut |f, d, k| {black_box((f,d,k));}), BatchSize::SmallInput));
        group.finish();
    }
}

fn peer<'de>(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, record: &'de [u8], message: &Message, kept: &mut [u8], read: impl Fn(&'de [u8], &mut Fields<'de, &'de str>)) {
    let mut fields = Fields::default();
    read(record, &mut fields);
    let decoded = fields.decode(kept);
    if name != "sonic_rs_lazy" {
    assert_eq!(*message, Message::of_decoded(&fields, &decoded, kept), "{name}");
    }
    group.bench_function(name, |b| b.iter(|| {
        let mut fields = Fields::default();
        read(black_box(record), &mut fields);
        let decoded = fields.decode(kept);
        black_box((&fields, &decoded, &kept));
    }));
}

fn read_jiter<'de>(record: &'de [u8], fields: &mut Fields<'de, &'de str>) {
    let mut jiter = Jiter::new(record);
    fn text<'de>(record: &'de [u8], jiter: &mut Jiter<'de>) -> &'de str {
        let peek = jiter.peek().unwrap();
        assert!(peek == Peek::String);
        let start = jiter.current_index();
        let s = jiter.known_str().unwrap().len();
        std::str::from_utf8(&record[start + 1..start + 1 + s]).unwrap()
    }
    let mut name = jiter.next_object_bytes().unwrap();
    while let Some(this) = name {
        match this {
            b"time" => {
                let Ok(jiter::NumberInt::Int(time)) = jiter.next_int() else { panic!() };
                fields.time = time;
            }
            b"topic" => fields.topic = text(record, &mut jiter),
            b"key" => fields.key = text(record, &mut jiter),
            b"value" => fields.value = if jiter.peek().unwrap() == Peek::Null { jiter.known_null().unwrap(); None } else { Some(text(record, &mut jiter)) },
            b"headers" => {
                let mut len = jiter.next_object_bytes().unwrap().map(<[u8]>::len);
                while let Some(n) = len {
                    // the index is behind the colon? keys: find start
                    let end = jiter.current_index();
                    let _ = n; let _ = end;
                    let mut close = end - 1;
                    while record[close] != b'"' { close -= 1; }
                    let hname = std::str::from_utf8(&record[close - n..close]).unwrap();
                    let value = text(record, &mut jiter);
                    fields.headers.push((hname, value));
                    len = jiter.next_key_bytes().unwrap().map(<[u8]>::len);
                }
            }
            _ => jiter.next_skip().unwrap(),
        }
        name = jiter.next_key_bytes().unwrap();
    }
    jiter.finish().unwrap();
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
        encode_ours(&mut group, Format::Avro, &message);
        let mut out = serde_avro_fast::to_datum(&Writable::<false>(&message), Vec::new(), &mut fast).unwrap();
        assert_eq!(out, record);
        group.bench_function("serde_avro_fast", |b| b.iter(|| {
            out.clear();
            serde_avro_fast::to_datum(black_box(&Writable::<false>(&message)), &mut out, &mut fast).unwrap();
            black_box(&out);
        }));
        let value = message.to_apache();
        let mut out = Vec::new();
        apache.write_value_ref(&mut out, &value).unwrap();
        assert_eq!(out.len(), record.len()); // the headers' order is a hash map's
        group.bench_function("apache_avro", |b| b.iter(|| {
            out.clear();
            apache.write_value_ref(&mut out, black_box(&value)).unwrap();
            black_box(&out);
        }));
        group.finish();
    }
}

fn json_encode(criterion: &mut Criterion) {
    for (name, message) in messages() {
        let record = message.record(Format::Json);
        let mut group = group(criterion, &format!("json_encode/{name}"), &record);
        encode_ours(&mut group, Format::Json, &message);
        let mut out = Vec::new();
        serde_json::to_writer(&mut out, &Writable::<true>(&message)).unwrap();
        assert_eq!(out, record);
        group.bench_function("serde_json", |b| b.iter(|| {
            out.clear();
            serde_json::to_writer(&mut out, black_box(&Writable::<true>(&message))).unwrap();
            black_box(&out);
        }));
        out.clear();
        sonic_rs::to_writer(&mut out, &Writable::<true>(&message)).unwrap();
        assert_eq!(out, record);
        group.bench_function("sonic_rs", |b| b.iter(|| {
            out.clear();
            sonic_rs::to_writer(&mut out, black_box(&Writable::<true>(&message))).unwrap();
            black_box(&out);
        }));
        out.clear();
        simd_json::to_writer(&mut out, &Writable::<true>(&message)).unwrap();
        assert_eq!(out, record);
        group.bench_function("simd_json", |b| b.iter(|| {
            out.clear();
            simd_json::to_writer(&mut out, black_box(&Writable::<true>(&message))).unwrap();
            black_box(&out);
        }));
        group.finish();
    }
}

fn group<'c>(criterion: &'c mut Criterion, name: &str, record: &[u8]) -> BenchmarkGroup<'c, WallTime> {
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::ElementsAndBytes { elements: 1, bytes: record.len() as u64 });
    group
}

fn decode_ours(group: &mut BenchmarkGroup<'_, WallTime>, format: Format, record: &[u8], message: &Message) {
    let mut scratch = Scratch::default();
    assert_eq!(*message, Message::of(&codec::decode(format, record, &mut scratch).unwrap()));
    group.bench_function("kms", |b| b.iter(|| {
        black_box(codec::decode(format, black_box(record), &mut scratch).unwrap());
    }));
}

fn encode_ours(group: &mut BenchmarkGroup<'_, WallTime>, format: Format, message: &Message) {
    message.with_schedule(|schedule| {
        let mut out = Vec::new();
        group.bench_function("kms", |b| b.iter(|| {
            out.clear();
            codec::encode(format, black_box(schedule), &mut out);
            black_box(&out);
        }));
    });
}

fn messages() -> Vec<(&'static str, Message)> {
    let key = b"9f1c2b5e-7a34-4d0c-8e21-5b6f0c9d3a17".to_vec();
    let order = Message {
        time: 1_767_225_600_000,
        topic: "orders.notifications".to_owned(),
        key,
        value: (b' '..=b'~').cycle().take(128).collect(),
        headers: headers(&[("content-type", "application/json"), ("source", "billing"), ("v", "2.1")]),
    };
    let small = Message { topic: "order.reminders!".into(), key: b"order-123456".to_vec(), value: vec![b'x'; 25], headers: vec![], ..order.clone() };
    let kib = Message { value: vec![b'x'; 128 + 1024 - 248], ..order.clone() };
    let large = Message { value: (0..=255).cycle().take(64 << 10).collect(), ..order.clone() };
    let many = Message { headers: headers(&[
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
    ]), ..order.clone() };
    let all = vec![("64B", small), ("248B", order), ("1KiB", kib), ("64KiB_value", large), ("10_headers", many)];
    for (i, len) in [(0, 64), (1, 248), (2, 1024)] {
        assert_eq!(all[i].1.record(Format::Avro).len(), len);
    }
    all
}

fn headers(pairs: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    pairs.iter().map(|(n, v)| ((*n).to_owned(), v.as_bytes().to_vec())).collect()
}

#[derive(Clone, Debug, PartialEq)]
struct Message {
    time: i64,
    topic: String,
    key: Vec<u8>,
    value: Vec<u8>,
    headers: Vec<(String, Vec<u8>)>,
}

impl Message {
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
        Self {
            time: schedule.due.epoch_ms(),
            topic: schedule.topic.to_owned(),
            key: schedule.key.to_vec(),
            value: schedule.value.unwrap().to_vec(),
            headers: schedule.headers.iter().map(|h| (h.name.to_owned(), h.value.unwrap().to_vec())).collect(),
        }
    }

    fn of_fields(fields: &Fields<'_, &[u8]>) -> Self {
        Self {
            time: fields.time,
            topic: fields.topic.to_owned(),
            key: fields.key.to_vec(),
            value: fields.value.unwrap().to_vec(),
            headers: fields.headers.iter().map(|(n, v)| ((*n).to_owned(), v.to_vec())).collect(),
        }
    }

    fn of_decoded(fields: &Fields<'_, &str>, decoded: &Decoded, kept: &[u8]) -> Self {
        let bytes = |range: &Range<usize>| kept[range.clone()].to_vec();
        Self {
            time: fields.time,
            topic: fields.topic.to_owned(),
            key: bytes(&decoded.key),
            value: bytes(decoded.value.as_ref().unwrap()),
            headers: fields.headers.iter().zip(&decoded.headers).map(|((n, _), v)| ((*n).to_owned(), bytes(v))).collect(),
        }
    }

    fn of_apache(datum: Value) -> Self {
        let Value::Record(fields) = datum else { panic!() };
        let [(_, Value::Long(time)), (_, Value::String(topic)), (_, Value::Bytes(key)), (_, Value::Union(1, value)), (_, Value::Map(headers))] =
            <[_; 5]>::try_from(fields).unwrap() else { panic!() };
        let Value::Bytes(value) = *value else { panic!() };
        let headers = headers.into_iter().map(|(name, value)| { let Value::Bytes(value) = value else { panic!() }; (name, value) }).collect();
        Self { time, topic, key, value, headers }.with_sorted_headers()
    }

    fn to_apache(&self) -> Value {
        Value::Record(vec![
            ("time".into(), Value::Long(self.time)),
            ("topic".into(), Value::String(self.topic.clone())),
            ("key".into(), Value::Bytes(self.key.clone())),
            ("value".into(), Value::Union(1, Box::new(Value::Bytes(self.value.clone())))),
            ("headers".into(), Value::Map(self.headers.iter().map(|(n, v)| (n.clone(), Value::Bytes(v.clone()))).collect())),
        ])
    }

    fn with_sorted_headers(&self) -> Self {
        let mut this = self.clone();
        this.headers.sort();
        this
    }
}

const MOST_HEADERS: usize = 10;

struct Fields<'de, B> {
    time: i64,
    topic: &'de str,
    key: B,
    value: Option<B>,
    headers: ArrayVec<(&'de str, B), MOST_HEADERS>,
}

impl<B: Default> Default for Fields<'_, B> {
    fn default() -> Self {
        Self { time: 0, topic: "", key: B::default(), value: None, headers: ArrayVec::new() }
    }
}

struct Decoded {
    key: Range<usize>,
    value: Option<Range<usize>>,
    headers: ArrayVec<Range<usize>, MOST_HEADERS>,
}

impl Fields<'_, &str> {
    #[inline]
    fn decode(&self, kept: &mut [u8]) -> Decoded {
        let mut used = 0;
        let mut decode = |text: &str| {
            let start = used;
            used += STANDARD.decode(text.as_bytes(), kept[start..].as_out()).unwrap().len();
            start..used
        };
        Decoded { key: decode(self.key), value: self.value.map(&mut decode), headers: self.headers.iter().map(|(_, v)| decode(v)).collect() }
    }
}

/// Reads text as `&str`, and bytes as `&[u8]`.
trait Borrow<'de>: Sized {
    fn read<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error>;
    fn read_option<D: Deserializer<'de>>(d: D) -> Result<Option<Self>, D::Error>;
}
impl<'de> Borrow<'de> for &'de str {
    fn read<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> { serde::Deserialize::deserialize(d) }
    fn read_option<D: Deserializer<'de>>(d: D) -> Result<Option<Self>, D::Error> { serde::Deserialize::deserialize(d) }
}
impl<'de> Borrow<'de> for &'de [u8] {
    fn read<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> { serde_bytes::deserialize(d) }
    fn read_option<D: Deserializer<'de>>(d: D) -> Result<Option<Self>, D::Error> { serde_bytes::deserialize(d) }
}
struct One<B>(B);
impl<'de, B: Borrow<'de>> serde::Deserialize<'de> for One<B> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> { B::read(d).map(One) }
}
struct Opt<B>(Option<B>);
impl<'de, B: Borrow<'de>> serde::Deserialize<'de> for Opt<B> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> { B::read_option(d).map(Opt) }
}

struct FieldsSeed<'f, 'de, B>(&'f mut Fields<'de, B>);

impl<'de, B: Borrow<'de>> DeserializeSeed<'de> for FieldsSeed<'_, 'de, B> {
    type Value = ();
    #[inline]
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> {
        d.deserialize_map(self)
    }
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "lowercase")]
enum Name { Time, Topic, Key, Value, Headers, #[serde(other)] Other }

impl<'de, B: Borrow<'de>> Visitor<'de> for FieldsSeed<'_, 'de, B> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str("a schedule") }
    #[inline]
    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some(name) = map.next_key::<Name>()? {
            match name {
                Name::Time => self.0.time = map.next_value()?,
                Name::Topic => self.0.topic = map.next_value()?,
                Name::Key => self.0.key = map.next_value::<One<B>>()?.0,
                Name::Value => self.0.value = map.next_value::<Opt<B>>()?.0,
                Name::Headers => map.next_value_seed(HeadersVisitor(&mut self.0.headers))?,
                Name::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

struct HeadersVisitor<'f, 'de, B>(&'f mut ArrayVec<(&'de str, B), MOST_HEADERS>);
impl<'de, B: Borrow<'de>> DeserializeSeed<'de> for HeadersVisitor<'_, 'de, B> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<(), D::Error> { d.deserialize_map(self) }
}
impl<'de, B: Borrow<'de>> Visitor<'de> for HeadersVisitor<'_, 'de, B> {
    type Value = ();
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str("headers") }
    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<(), M::Error> {
        while let Some((name, One(value))) = map.next_entry()? {
            self.0.push((name, value));
        }
        Ok(())
    }
}

/// As a peer writes it; whether bytes are to be base64.
struct Writable<'a, const BASE64: bool>(&'a Message);

struct Bytes<'a, const BASE64: bool>(&'a [u8]);

impl<const BASE64: bool> Serialize for Bytes<'_, BASE64> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if BASE64 {
            serializer.serialize_str(&STANDARD.encode_to_string(self.0))
        } else {
            serializer.serialize_bytes(self.0)
        }
    }
}

impl<const BASE64: bool> Serialize for Writable<'_, BASE64> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let message = self.0;
        let mut fields = serializer.serialize_struct("AvroSchedule", 5)?;
        fields.serialize_field("time", &message.time)?;
        fields.serialize_field("topic", &message.topic)?;
        fields.serialize_field("key", &Bytes::<BASE64>(&message.key))?;
        fields.serialize_field("value", &Some(Bytes::<BASE64>(&message.value)))?;
        fields.serialize_field("headers", &WritableHeaders::<BASE64>(&message.headers))?;
        fields.end()
    }
}

struct WritableHeaders<'a, const BASE64: bool>(&'a [(String, Vec<u8>)]);

impl<const BASE64: bool> Serialize for WritableHeaders<'_, BASE64> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in self.0 {
            map.serialize_entry(name, &Bytes::<BASE64>(value))?;
        }
        map.end()
    }
}
