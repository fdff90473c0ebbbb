//! The Avro decoder against `apache-avro`: the same records accepted and refused, the same fields, but for the
//! differences that `src/codec/avro.rs` tells.
//!
//! Each input is read as a record, and as a plan for one that is nearly right.
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::util::max_allocation_bytes;
use arbitrary::{Arbitrary, Unstructured};
use kafka_message_scheduler::codec::{AvroFault, DecodeError, avro_schema};
use kafka_message_scheduler::schedule::Format;
use kms_fuzz::{Long, Name, Sample};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    compare(input);
    if let Ok(plan) = Plan::arbitrary_take_rest(Unstructured::new(input)) {
        compare(&plan.record());
    }
});

fn compare(record: &[u8]) {
    match Sample::decode(Format::Avro, record) {
        Ok(sample) => assert_eq!(Some(sample.with_sorted_headers()), oracle(record)),
        // It drops the bits.
        Err(DecodeError::InvalidAvro { fault: AvroFault::TooWide, .. }) => {}
        Err(error) => assert_eq!(None, oracle(record), "{error}"),
    }
}

/// What `apache-avro` makes of a record by the rule of two shapes, without its leniency at the record's end.
fn oracle(record: &[u8]) -> Option<Sample> {
    let mut rest = record;
    read(3, &mut rest)?;
    if rest.iter().all(|&byte| byte >= 0x80) {
        return None; // a value that is not there, or whose branch is cut short, is not null
    }
    if let Some(datum) = read(5, &mut &*record) {
        return sample_of(datum);
    }
    let mut rest = record;
    let datum = read(4, &mut rest)?;
    if rest.is_empty() { sample_of(datum) } else { None }
}

/// Reads a datum of the schema's first `fields` fields.
fn read(fields: usize, bytes: &mut &[u8]) -> Option<Value> {
    static SCHEMAS: LazyLock<[Schema; 3]> = LazyLock::new(|| {
        // More than a record of the fuzzer's size can need, for what is reserved on a mere count.
        max_allocation_bytes(1 << 18);
        [schema_of(3), schema_of(4), schema_of(5)]
    });
    static READERS: LazyLock<[GenericDatumReader<'static>; 3]> = LazyLock::new(|| {
        let reader = |schema| GenericDatumReader::builder(schema).build().expect("the schema is whole");
        SCHEMAS.each_ref().map(reader)
    });
    READERS[fields - 3].read_value(bytes).ok()
}

fn schema_of(fields: usize) -> Schema {
    let mut schema: serde_json::Value = serde_json::from_str(&avro_schema()).expect("JSON");
    schema["fields"].as_array_mut().expect("a record has fields").truncate(fields);
    Schema::parse(&schema).expect("a shorter record is a record")
}

/// `None` for a null `topic`, which is how it reads one that is cut short.
fn sample_of(datum: Value) -> Option<Sample> {
    let Value::Record(fields) = datum else { panic!("not a record") };
    let mut sample = Sample::default();
    for (name, field) in fields {
        match (name.as_str(), field) {
            ("time", Value::Long(time)) => sample.time = time,
            ("topic", Value::String(topic)) => sample.topic = topic,
            ("topic", Value::Null) => return None,
            ("key", Value::Bytes(key)) => sample.key = key,
            ("value", Value::Union(0, _)) => sample.value = None,
            ("value", Value::Union(1, value)) => sample.value = Some(bytes_of(*value)),
            ("headers", Value::Map(map)) => {
                let sorted: BTreeMap<_, _> = map.into_iter().collect();
                sample.headers = sorted.into_iter().map(|(name, value)| (name, bytes_of(value))).collect();
            }
            other => panic!("field {other:?}"),
        }
    }
    Some(sample)
}

fn bytes_of(value: Value) -> Vec<u8> {
    let Value::Bytes(bytes) = value else { panic!("{value:?} where bytes should be") };
    bytes
}

/// A record as any writer may make it, and what then befell it.
#[derive(Arbitrary, Debug)]
struct Plan {
    time: Long,
    topic: Text,
    key: Text,
    value: Branch,
    map: Option<Map>,
    tail: Vec<u8>,
    damage: Option<Damage>,
}

/// Bytes behind their length.
#[derive(Arbitrary, Debug)]
enum Text {
    Name(Name),
    Bytes {
        bytes: Vec<u8>,
        excess: u8,
    },
    /// The length lies.
    Lie {
        bytes: Vec<u8>,
        len: i64,
    },
}

#[derive(Arbitrary, Debug)]
enum Branch {
    Null { excess: u8 },
    Bytes(Text),
    Other(Long),
}

#[derive(Arbitrary, Debug)]
struct Map {
    blocks: Vec<Block>,
    end: Option<Long>,
}

#[derive(Arbitrary, Debug)]
struct Block {
    entries: Vec<(Name, Text)>,
    /// With a negative count comes a size in bytes, right or wrong.
    size: Option<Long>,
    /// What the count is off by, now and then.
    lie: Option<i8>,
    excess: u8,
}

#[derive(Arbitrary, Debug)]
enum Damage {
    Flip { at: u16, mask: u8 },
    Cut { at: u16 },
    Insert { at: u16, byte: u8 },
}

impl Plan {
    fn record(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.time.write(&mut out);
        self.topic.write(&mut out);
        self.key.write(&mut out);
        self.value.write(&mut out);
        if let Some(map) = &self.map {
            map.blocks.iter().for_each(|block| block.write(&mut out));
            map.end.unwrap_or(Long::plain(0)).write(&mut out);
        }
        out.extend(&self.tail);
        if let Some(damage) = &self.damage {
            damage.apply(&mut out);
        }
        out
    }
}

impl Text {
    fn write(&self, out: &mut Vec<u8>) {
        let (bytes, len) = match self {
            Self::Name(name) => (&*name.text().into_bytes(), None),
            Self::Bytes { bytes, excess } => {
                (&**bytes, Some(Long { value: bytes.len() as i64, excess: *excess }))
            }
            Self::Lie { bytes, len } => (&**bytes, Some(Long::plain(*len))),
        };
        len.unwrap_or(Long::plain(bytes.len() as i64)).write(out);
        out.extend(bytes);
    }
}

impl Branch {
    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Null { excess } => Long { value: 0, excess: *excess }.write(out),
            Self::Bytes(text) => {
                Long::plain(1).write(out);
                text.write(out);
            }
            Self::Other(branch) => branch.write(out),
        }
    }
}

impl Block {
    fn write(&self, out: &mut Vec<u8>) {
        let count = self.entries.len() as i64 + i64::from(self.lie.unwrap_or(0));
        let value = if self.size.is_some() { -count } else { count };
        Long { value, excess: self.excess }.write(out);
        if let Some(size) = self.size {
            size.write(out);
        }
        for (name, value) in &self.entries {
            let name = name.text();
            Long::plain(name.len() as i64).write(out);
            out.extend(name.bytes());
            value.write(out);
        }
    }
}

impl Damage {
    fn apply(&self, record: &mut Vec<u8>) {
        match *self {
            Self::Flip { at, mask } => {
                let at = usize::from(at) % record.len();
                record[at] ^= mask;
            }
            Self::Cut { at } => record.truncate(usize::from(at) % record.len()),
            Self::Insert { at, byte } => record.insert(usize::from(at) % record.len(), byte),
        }
    }
}
