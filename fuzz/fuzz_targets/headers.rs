//! The packed run of headers: what is pushed is read, what is not well-formed is refused, and both formats carry it.
//!
//! Each input is read as a run, and as a plan of what to push.
#![no_main]

use arbitrary::{Arbitrary, Unstructured};
use kafka_message_scheduler::codec;
use kafka_message_scheduler::schedule::{DueTime, Format, Headers, HeadersBuf, Schedule, varint};
use kms_fuzz::{Name, Sample};

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    parse(input);
    if let Ok(steps) = Vec::<Step>::arbitrary_take_rest(Unstructured::new(input)) {
        build(&steps);
    }
});

type Pairs = Vec<(String, Option<Vec<u8>>)>;

#[derive(Arbitrary, Debug)]
enum Step {
    Push(Name, Option<Vec<u8>>),
    Clear,
}

fn parse(input: &[u8]) {
    let mut rest = input;
    assert_eq!(varint::read(&mut rest), take_long(&mut &*input));
    assert!(rest == input || varint::read(&mut &*input).is_some(), "moved on for nothing");

    let parsed = Headers::parse(input);
    assert_eq!(parsed.map(pairs_of), plain_parse(input));
    if let Some(headers) = parsed {
        assert_eq!((headers.as_packed(), headers.is_empty()), (input, input.is_empty()));
        let pairs = pairs_of(headers);
        assert_eq!(pairs_of(packed(&pairs).as_headers()), pairs);
        for format in [Format::Avro, Format::Json] {
            carry(format, headers);
        }
    }
}

fn build(steps: &[Step]) {
    let (mut buf, mut model) = (HeadersBuf::new(), Pairs::new());
    for step in steps {
        match step {
            Step::Push(name, value) => {
                buf.push(&name.text(), value.as_deref());
                model.push((name.text(), value.clone()));
            }
            Step::Clear => {
                buf.clear();
                model.clear();
            }
        }
    }
    let headers = buf.as_headers();
    assert_eq!(pairs_of(headers), model);
    assert_eq!(Headers::parse(headers.as_packed()), Some(headers));
    assert_eq!(Headers::from_trusted(headers.as_packed()), headers);
    if let [cut @ .., _] = headers.as_packed() {
        assert_eq!(Headers::parse(cut), None, "no header is another's beginning");
    }
    for format in [Format::Avro, Format::Json] {
        carry(format, headers);
    }
}

/// Writes and reads a schedule with the headers: of a name that comes twice the last is left, and null becomes empty.
fn carry(format: Format, headers: Headers<'_>) {
    let due = DueTime::from_epoch_ms(0);
    let schedule = Schedule { due, topic: "t", key: b"", value: None, headers };
    let mut record = Vec::new();
    codec::encode(format, &schedule, &mut record);
    let pairs = pairs_of(headers).into_iter().map(|(name, value)| (name, value.unwrap_or_default()));
    let sample = Sample { topic: "t".to_owned(), headers: pairs.collect(), ..Sample::default() };
    let decoded = Sample::decode(format, &record);
    assert_eq!(decoded, Ok(sample.with_last_of_each_header()), "{format:?}");
}

fn packed(pairs: &[(String, Option<Vec<u8>>)]) -> HeadersBuf {
    let mut buf = HeadersBuf::new();
    for (name, value) in pairs {
        buf.push(name, value.as_deref());
    }
    buf
}

fn pairs_of(headers: Headers<'_>) -> Pairs {
    headers.iter().map(|header| (header.name.to_owned(), header.value.map(<[u8]>::to_vec))).collect()
}

/// The layout's rules once more, with wide numbers and copies.
fn plain_parse(mut rest: &[u8]) -> Option<Pairs> {
    let mut pairs = Pairs::new();
    while !rest.is_empty() {
        let len = take_long(&mut rest)?;
        let name = String::from_utf8(take_bytes(&mut rest, len)?).ok()?;
        let len = take_long(&mut rest)?;
        let value = if len == -1 { None } else { Some(take_bytes(&mut rest, len)?) };
        pairs.push((name, value));
    }
    Some(pairs)
}

fn take_long(rest: &mut &[u8]) -> Option<i64> {
    let len = 1 + rest.iter().position(|&byte| byte < 0x80)?;
    let (digits, tail) = rest.split_at(len);
    if len > 10 {
        return None;
    }
    *rest = tail;
    let zigzag = digits.iter().rev().fold(0u128, |sum, byte| sum << 7 | u128::from(byte & 0x7f));
    let magnitude = i128::try_from(zigzag >> 1).ok()?;
    i64::try_from(if zigzag & 1 == 0 { magnitude } else { -1 - magnitude }).ok()
}

fn take_bytes(rest: &mut &[u8], len: i64) -> Option<Vec<u8>> {
    let len = usize::try_from(len).ok().filter(|&len| len <= rest.len())?;
    let (bytes, tail) = rest.split_at(len);
    *rest = tail;
    Some(bytes.to_vec())
}
