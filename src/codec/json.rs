//! A JSON object with base64 fields: `{"time", "topic", "key", "value", "headers"}`.
//!
//! The text is checked once, as a whole, and each field is remembered as the slice that holds it; only then are the
//! five fields read, each in its last version. So a field that comes twice, an unknown field and a nested one cost what
//! their length costs and nothing else, and the parser keeps no tree.
//!
//! What is accepted is what the circe decoder accepted with which schedules were read before (`time` may be any
//! notation of an integer, or a string of digits; `value` and `headers` may be null or absent; a header may not be
//! null), except that text which is not Unicode (invalid UTF-8, half a surrogate pair in a field name or in a
//! field that is used) is refused instead of being replaced by question marks.
//!
//! An ordinary record decodes without allocation once the scratch has grown. Strings with escapes allocate.

use std::borrow::Cow;
use std::fmt;
use std::io::Write as _;
use std::num::IntErrorKind;

use serde::de::{DeserializeSeed, Deserializer as _, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::error::{DecodeError, JsonFault, JsonPlace};
use super::{Scratch, base64, unique};
use crate::schedule::{DueTime, Headers, Schedule, varint};

pub(super) fn decode<'a>(bytes: &'a [u8], scratch: &'a mut Scratch) -> Result<Schedule<'a>, DecodeError> {
    let text =
        std::str::from_utf8(bytes).map_err(|error| DecodeError::NotUtf8 { at: error.valid_up_to() })?;
    let fields = parse_fields(text)?;
    let Scratch { topic: unescaped, body, run, unique } = scratch;

    let due = DueTime::from_epoch_ms(fields.required(JsonPlace::Time, fields.time, parse_time)?);
    let topic = fields.required(JsonPlace::Topic, fields.topic, move |raw| keep_string(raw, unescaped))?;
    body.clear();
    body.reserve(text.len() / 4 * 3); // the base64 decoder reserves exactly, which would grow step by step
    fields.required(JsonPlace::Key, fields.key, |raw| decode_base64(raw, body))?;
    let key_len = body.len();
    let has_value =
        fields.optional(JsonPlace::Value, fields.value, |raw| decode_base64(raw, body))?.is_some();
    let headers = match fields.headers.filter(|raw| !is_null(raw)) {
        None => Headers::default(),
        Some(raw) => parse_headers(text, raw, run, unique)?,
    };
    let (key, value) = body.split_at(key_len);
    Ok(Schedule { due, topic, key, value: has_value.then_some(value), headers })
}

pub(super) fn encode(schedule: &Schedule<'_>, out: &mut Vec<u8>) {
    const AROUND: usize = 96; // names, punctuation and the time, with room to spare
    let raw_len = schedule.topic.len() + schedule.key.len() + schedule.value.map_or(0, <[u8]>::len);
    out.reserve(AROUND + (raw_len + schedule.headers.as_packed().len()).div_ceil(3) * 4);

    write!(out, "{{\"time\":{},\"topic\":", schedule.due.epoch_ms()).expect(MEMORY);
    write_string(out, schedule.topic);
    out.extend_from_slice(b",\"key\":");
    write_base64(out, schedule.key);
    out.extend_from_slice(b",\"value\":");
    match schedule.value {
        None => out.extend_from_slice(b"null"),
        Some(value) => write_base64(out, value),
    }
    out.extend_from_slice(b",\"headers\":{");
    for (i, header) in schedule.headers.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write_string(out, header.name);
        out.push(b':');
        write_base64(out, header.value.unwrap_or_default());
    }
    out.extend_from_slice(b"}}");
}

const MEMORY: &str = "writing to memory does not fail";

fn write_string(out: &mut Vec<u8>, text: &str) {
    serde_json::to_writer(out, text).expect(MEMORY);
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    base64::encode(bytes, out);
    out.push(b'"');
}

/// The last version of each field, still as text.
struct Fields<'a> {
    text: &'a str,
    time: Option<&'a str>,
    topic: Option<&'a str>,
    key: Option<&'a str>,
    value: Option<&'a str>,
    headers: Option<&'a str>,
}

impl<'a> Fields<'a> {
    /// Reads a field that must be there.
    fn required<T>(
        &self,
        place: JsonPlace,
        raw: Option<&'a str>,
        read: impl FnOnce(&'a str) -> Result<T, JsonFault>,
    ) -> Result<T, DecodeError> {
        let raw = raw.ok_or(DecodeError::Missing { place })?;
        read(raw).map_err(|fault| DecodeError::InvalidJson { place, at: offset(self.text, raw), fault })
    }

    /// Reads a field that may be null or absent.
    fn optional<T>(
        &self,
        place: JsonPlace,
        raw: Option<&'a str>,
        read: impl FnOnce(&'a str) -> Result<T, JsonFault>,
    ) -> Result<Option<T>, DecodeError> {
        raw.filter(|raw| !is_null(raw)).map(|raw| self.required(place, Some(raw), read)).transpose()
    }
}

/// Checks that `text` is one JSON value, an object, and finds its fields.
fn parse_fields(text: &str) -> Result<Fields<'_>, DecodeError> {
    let mut parser = serde_json::Deserializer::from_str(text);
    match parser.deserialize_map(FieldsVisitor { text }).and_then(|fields| parser.end().map(|()| fields)) {
        Ok(fields) => Ok(fields),
        // The parser stops at the first byte of what is no object: whether it is JSON at all remains to be seen.
        Err(error) if error.is_data() => match serde_json::from_str::<IgnoredAny>(text) {
            Ok(_) => Err(DecodeError::NotAnObject),
            Err(error) => Err(not_json(&error)),
        },
        Err(error) => Err(not_json(&error)),
    }
}

fn not_json(error: &serde_json::Error) -> DecodeError {
    let (line, column) = (error.line(), error.column());
    let mut reason = error.to_string();
    // The place is part of the parser's text, and ours to say.
    reason.truncate(reason.rfind(" at line ").unwrap_or(reason.len()));
    DecodeError::NotJson { reason, line, column }
}

struct FieldsVisitor<'a> {
    text: &'a str,
}

impl<'a> Visitor<'a> for FieldsVisitor<'a> {
    type Value = Fields<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'a>>(self, mut map: M) -> Result<Fields<'a>, M::Error> {
        let mut fields =
            Fields { text: self.text, time: None, topic: None, key: None, value: None, headers: None };
        while let Some(slot) = map.next_key_seed(name_seed(|name| match name {
            "time" => Some(&mut fields.time),
            "topic" => Some(&mut fields.topic),
            "key" => Some(&mut fields.key),
            "value" => Some(&mut fields.value),
            "headers" => Some(&mut fields.headers),
            _ => None,
        }))? {
            match slot {
                Some(slot) => *slot = Some(map.next_value::<&RawValue>()?.get()),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(fields)
    }
}

/// Hands an object's key to a function instead of allocating it.
fn name_seed<T, F: FnOnce(&str) -> T>(read: F) -> NameSeed<F> {
    NameSeed(read)
}

struct NameSeed<F>(F);

impl<'de, T, F: FnOnce(&str) -> T> DeserializeSeed<'de> for NameSeed<F> {
    type Value = T;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<T, F: FnOnce(&str) -> T> Visitor<'_> for NameSeed<F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E>(self, name: &str) -> Result<T, E> {
        Ok((self.0)(name))
    }
}

/// Reads `raw`, the object of headers, into `run`.
fn parse_headers<'a>(
    text: &str,
    raw: &str,
    run: &'a mut Vec<u8>,
    unique: &'a mut unique::Scratch,
) -> Result<Headers<'a>, DecodeError> {
    let fail = |fault| DecodeError::InvalidJson { place: JsonPlace::Headers, at: offset(text, raw), fault };
    if !raw.starts_with('{') {
        return Err(fail(JsonFault::NotAnObject));
    }
    run.clear();
    run.reserve(raw.len());
    // The object's syntax was checked with the whole text, so only a name with half a surrogate pair can fail here.
    let faulty = serde_json::Deserializer::from_str(raw)
        .deserialize_map(HeadersVisitor { run })
        .map_err(|_| fail(JsonFault::NotUnicode))?;
    let run = Headers::from_trusted(run);
    let headers = unique::last_of_each(run, unique);
    first_standing_fault(run, headers, &faulty).map_or(Ok(headers), |standing| {
        let (place, at) = (JsonPlace::Header(standing.number), offset(text, standing.raw));
        Err(DecodeError::InvalidJson { place, at, fault: standing.fault })
    })
}

/// A header whose value cannot be. In the packed run its value is null, which no valid header's is.
struct FaultyHeader<'a> {
    /// Its place among the headers, from 1.
    number: usize,
    raw: &'a str,
    fault: JsonFault,
}

/// The fault of the first header in `headers` that has one; those that a later header overrode do not matter.
fn first_standing_fault<'f, 'a>(
    run: Headers<'_>,
    headers: Headers<'_>,
    faulty: &'f [FaultyHeader<'a>],
) -> Option<&'f FaultyHeader<'a>> {
    if faulty.is_empty() {
        return None;
    }
    let standing = headers.iter().find(|header| header.value.is_none())?;
    let last_of_name = run.iter().zip(1..).filter(|(header, _)| header.name == standing.name).last();
    let (_, number) = last_of_name.expect("the headers are a part of the run");
    faulty.iter().find(|header| header.number == number)
}

/// Appends each header to the run as it comes; gives those whose value could not be read.
struct HeadersVisitor<'r> {
    run: &'r mut Vec<u8>,
}

impl<'de> Visitor<'de> for HeadersVisitor<'_> {
    type Value = Vec<FaultyHeader<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object of headers")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let Self { run } = self;
        let mut faulty = Vec::new();
        let mut number = 0;
        while map.next_key_seed(name_seed(|name| push_bytes(run, name.as_bytes())))?.is_some() {
            number += 1;
            let raw = map.next_value::<&RawValue>()?.get();
            if let Err(fault) = push_header_value(run, raw) {
                varint::write(run, NULL_VALUE);
                faulty.push(FaultyHeader { number, raw, fault });
            }
        }
        Ok(faulty)
    }
}

/// The length that says null in a packed run.
const NULL_VALUE: i64 = -1;

fn push_bytes(run: &mut Vec<u8>, bytes: &[u8]) {
    varint::write(run, bytes.len() as i64);
    run.extend_from_slice(bytes);
}

/// Appends a header's value; on a fault nothing.
fn push_header_value(run: &mut Vec<u8>, raw: &str) -> Result<(), JsonFault> {
    let text = parse_string(raw)?;
    let start = run.len();
    varint::write(run, base64::decoded_len(text.as_bytes()) as i64);
    base64::decode(text.as_bytes(), run).map_err(|base64::NotBase64| {
        run.truncate(start);
        JsonFault::NotBase64
    })
}

fn decode_base64(raw: &str, out: &mut Vec<u8>) -> Result<(), JsonFault> {
    let text = parse_string(raw)?;
    base64::decode(text.as_bytes(), out).map_err(|base64::NotBase64| JsonFault::NotBase64)
}

/// A string, from the record where it has no escapes, otherwise kept in `unescaped`.
fn keep_string<'a>(raw: &'a str, unescaped: &'a mut String) -> Result<&'a str, JsonFault> {
    Ok(match parse_string(raw)? {
        Cow::Borrowed(text) => text,
        Cow::Owned(text) => {
            *unescaped = text;
            unescaped
        }
    })
}

/// Reads `raw`, one JSON value whose syntax was checked, as a string.
fn parse_string(raw: &str) -> Result<Cow<'_, str>, JsonFault> {
    let content = raw.strip_prefix('"').and_then(|raw| raw.strip_suffix('"')).ok_or(JsonFault::NotAString)?;
    if content.contains('\\') {
        serde_json::from_str(raw).map(Cow::Owned).map_err(|_| JsonFault::NotUnicode)
    } else {
        Ok(Cow::Borrowed(content))
    }
}

/// Reads `raw`, one JSON value whose syntax was checked, as an integer.
fn parse_time(raw: &str) -> Result<i64, JsonFault> {
    if raw.starts_with('"') {
        let text = parse_string(raw)?;
        return text.parse::<i64>().map_err(|error| match error.kind() {
            IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => JsonFault::OutOfRange,
            _ => JsonFault::NotIntegral,
        });
    }
    raw.parse::<i64>().or_else(|_| parse_scientific(raw))
}

/// The integer that a JSON number of any notation denotes: exactly, for a `f64` is off by hundreds near the limits.
fn parse_scientific(number: &str) -> Result<i64, JsonFault> {
    const MOST_DIGITS: i64 = 19; // of an i64

    let (sign, unsigned) = number.strip_prefix('-').map_or((1, number), |unsigned| (-1, unsigned));
    if !unsigned.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(JsonFault::NotIntegral); // null, true, an array…
    }
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let beyond = if exponent.starts_with('-') { i64::MIN } else { i64::MAX };
    let exponent = exponent.parse().unwrap_or(beyond);

    let digits = whole.bytes().chain(fraction.bytes());
    let leading_zeros = digits.clone().take_while(|&digit| digit == b'0').count();
    if leading_zeros == whole.len() + fraction.len() {
        return Ok(0);
    }
    let trailing_zeros = digits.clone().rev().take_while(|&digit| digit == b'0').count();
    let significant = whole.len() + fraction.len() - leading_zeros - trailing_zeros;
    // How many digits the integer has: those from the first significant one to the point, where the exponent puts it.
    let wanted = (whole.len() as i64 - leading_zeros as i64).saturating_add(exponent);
    if wanted < significant as i64 {
        return Err(JsonFault::NotIntegral);
    }
    if wanted > MOST_DIGITS {
        return Err(JsonFault::OutOfRange);
    }
    let magnitude = digits
        .skip(leading_zeros)
        .chain(std::iter::repeat(b'0'))
        .take(wanted as usize)
        .fold(0i128, |sum, digit| sum * 10 + i128::from(digit - b'0'));
    i64::try_from(sign * magnitude).map_err(|_| JsonFault::OutOfRange)
}

fn is_null(raw: &str) -> bool {
    raw == "null"
}

/// Where in `text` the slice `part` of it begins.
fn offset(text: &str, part: &str) -> usize {
    part.as_ptr().addr() - text.as_ptr().addr()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::super::sample::Sample;
    use super::*;

    fn decoded(text: &str) -> Result<Sample, DecodeError> {
        decode(text.as_bytes(), &mut Scratch::default()).map(|schedule| Sample::of(&schedule))
    }

    fn time_of(time: &str) -> Result<i64, JsonFault> {
        match decoded(&format!(r#"{{"time":{time},"topic":"t","key":""}}"#)) {
            Ok(sample) => Ok(sample.time),
            Err(DecodeError::InvalidJson { place: JsonPlace::Time, at: 8, fault }) => Err(fault),
            Err(other) => panic!("{time}: {other}"),
        }
    }

    #[test]
    fn a_time_is_any_notation_of_an_integer() {
        for (time, expected) in [
            ("0", 0),
            ("-0", 0),
            ("-0.0e-5", 0),
            ("0e99999999999999999999", 0),
            ("5.0", 5),
            ("1.7e12", 1_700_000_000_000),
            ("1.7E+12", 1_700_000_000_000),
            ("17000000000000e-1", 1_700_000_000_000),
            ("0.00005e5", 5),
            ("9223372036854775807", i64::MAX),
            ("9223372036854775807.000", i64::MAX),
            ("9.223372036854775807e18", i64::MAX),
            ("92233720368547758070e-1", i64::MAX),
            ("-9223372036854775808.0", i64::MIN),
            ("-9.223372036854775808e18", i64::MIN),
            (r#""-5""#, -5),
            (r#""9223372036854775807""#, i64::MAX),
            (r#""\u0035""#, 5),
        ] {
            assert_eq!(time_of(time), Ok(expected), "{time}");
        }
    }

    #[test]
    fn a_time_is_nothing_else() {
        use JsonFault::{NotIntegral, NotUnicode, OutOfRange};
        for (time, expected) in [
            ("1.5", NotIntegral),
            ("1700000000000.0000000001", NotIntegral),
            ("1e-1", NotIntegral),
            ("1e-99999999999999999999", NotIntegral),
            ("9223372036854775808", OutOfRange),
            ("9223372036854775808.0", OutOfRange),
            ("-9223372036854775809", OutOfRange),
            ("-9.223372036854775809e18", OutOfRange),
            ("1e19", OutOfRange),
            ("1e99999999999999999999", OutOfRange),
            ("null", NotIntegral),
            ("true", NotIntegral),
            ("[5]", NotIntegral),
            ("{}", NotIntegral),
            (r#""""#, NotIntegral),
            (r#"" 5""#, NotIntegral),
            (r#""5.0""#, NotIntegral),
            (r#""1.7e12""#, NotIntegral),
            (r#""9223372036854775808""#, OutOfRange),
            (r#""\ud800""#, NotUnicode),
        ] {
            assert_eq!(time_of(time), Err(expected), "{time}");
        }
    }

    #[test]
    fn only_the_last_of_a_field_or_header_counts() {
        let text = r#"{"time":"soon","topic":1,"key":null,"value":[],"headers":"x","headers":{"old":""},
            "time":6,"topic":"t","\u006bey":"aw==","value":"dg==","headers":{"h":1,"g":"Zw==","h":"aA=="}}"#;
        let headers = vec![("g".into(), b"g".to_vec()), ("h".into(), b"h".to_vec())];
        let expected =
            Sample { time: 6, topic: "t".into(), key: b"k".to_vec(), value: Some(b"v".to_vec()), headers };
        assert_eq!(decoded(text), Ok(expected));

        let text = r#"{"time":6,"topic":"t","key":"","value":"dg==","value":null,"time":true}"#;
        assert!(matches!(decoded(text), Err(DecodeError::InvalidJson { place: JsonPlace::Time, .. })));
    }

    #[test]
    fn of_several_bad_headers_the_first_that_stands_is_told() {
        let text = r#"{"time":6,"topic":"t","key":"","headers":{"a":1,"b":"*","c":null,"a":"","b":2}}"#;
        let fault = JsonFault::NotAString;
        let (place, at) = (JsonPlace::Header(3), text.find("null").unwrap());
        assert_eq!(decoded(text), Err(DecodeError::InvalidJson { place, at, fault }));
    }

    #[test]
    fn escapes_are_read_wherever_a_string_is() {
        let text = r#"{"time":1,"topic":"a\/\ud83d\ude00\n","key":"\/\/8=","value":"\u0061Gk=","headers":{"\u0068\t":"\/w"}}"#;
        let expected = Sample {
            time: 1,
            topic: "a/😀\n".into(),
            key: vec![0xff, 0xff],
            value: Some(b"hi".to_vec()),
            headers: vec![("h\t".into(), vec![0xff])],
        };
        assert_eq!(decoded(text), Ok(expected));
    }

    #[test]
    fn depth_is_only_length() {
        let nest = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let deep = nest(200_000);
        assert_eq!(decoded(&deep), Err(DecodeError::NotAnObject));
        assert!(matches!(decoded(&deep[..300_000]), Err(DecodeError::NotJson { .. })));
        for field in ["time", "topic", "key", "value", "headers"] {
            let text = format!(r#"{{"time":1,"topic":"t","key":"","{field}":{deep}}}"#);
            assert!(matches!(decoded(&text), Err(DecodeError::InvalidJson { .. })), "{field}");
        }
        let text = format!(r#"{{"time":1,"note":{deep},"topic":"t","key":""}}"#);
        assert!(decoded(&text).is_ok());
    }

    #[test]
    fn an_ordinary_topic_is_a_slice_of_the_record() {
        let record = br#"{"time":1,"topic":"orders","key":""}"#;
        let mut scratch = Scratch::default();
        let schedule = decode(record, &mut scratch).unwrap();
        assert!(record.as_ptr_range().contains(&schedule.topic.as_ptr()));
    }

    #[test]
    fn the_encoding_is_plain() {
        let sample = Sample {
            time: -5,
            topic: "t\"é".into(),
            key: b"k".to_vec(),
            value: None,
            headers: vec![("a".into(), b"1".to_vec()), ("\n".into(), vec![])],
        };
        let mut record = Vec::new();
        sample.with_schedule(|schedule| encode(schedule, &mut record));
        assert_eq!(
            String::from_utf8(record).unwrap(),
            r#"{"time":-5,"topic":"t\"é","key":"aw==","value":null,"headers":{"a":"MQ==","\n":""}}"#
        );
    }

    #[test]
    fn errors_say_what_where_and_why() {
        let text = |record: &[u8]| decode(record, &mut Scratch::default()).unwrap_err().to_string();
        assert_eq!(text(b""), "not JSON: EOF while parsing a value at line 1 column 0");
        assert_eq!(text(b"{\n  \"time\" 5}"), "not JSON: expected `:` at line 2 column 10");
        assert_eq!(text(b"{\"a\xff"), "not JSON: not UTF-8 at byte 3");
        assert_eq!(text(b"\xef\xbb\xbf{}"), "not JSON: expected value at line 1 column 1");
        assert_eq!(text(b"[]"), "invalid JSON schedule: not an object");
        assert_eq!(text(br#"{"time":1}"#), r#"invalid JSON schedule: "topic" is missing"#);
        assert_eq!(
            text(br#"{"time":1,"topic":"t","key":"SECRET!"}"#),
            r#"invalid JSON schedule: "key", at byte 28, is not standard base64"#
        );
        assert_eq!(
            text(br#"{"time":1,"topic":"t","key":"","headers":{"SECRET":5}}"#),
            "invalid JSON schedule: header 1, at byte 51, is not a string"
        );
        assert_eq!(
            text(br#"{"time":1,"topic":"t","key":"","headers":{"\udc00":""}}"#),
            r#"invalid JSON schedule: "headers", at byte 41, holds half a surrogate pair"#
        );
    }

    /// Values right and wrong for any field.
    fn any_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e15f64..1e15).prop_map(|time| json!(time)),
            (-1e15f64..1e15).prop_map(|time| json!(time.trunc())),
            any::<i64>().prop_map(|time| json!(time.to_string())),
            "[A-Z]{0,5}={0,2}|[\\PC\"\\\\]{0,3}".prop_map(Value::from),
            prop::collection::vec(Just(Value::Null), 0..2).prop_map(Value::from),
            prop::collection::btree_map("[ab]", Just(Value::Null), 0..2).prop_map(|map| json!(map)),
        ]
    }

    /// A value that fits the field, mostly.
    fn value_for(field: &'static str) -> BoxedStrategy<Value> {
        let base64 =
            || "([A-Za-z0-9+/]{4}){0,3}([A-Za-z0-9+/]{2}(==)?|[A-Za-z0-9+/]{3}=?)?".prop_map(Value::from);
        let header = prop_oneof![20 => base64(), 1 => any_value()];
        let fitting = match field {
            "time" => {
                prop_oneof![any::<i64>().prop_map(Value::from), Just(json!(5.0)), Just(json!("6"))].boxed()
            }
            "topic" => any::<String>().prop_map(Value::from).boxed(),
            "key" => base64().boxed(),
            "value" => prop_oneof![base64(), Just(Value::Null)].boxed(),
            "headers" => prop_oneof![
                4 => prop::collection::btree_map(any::<String>(), header, 0..4).prop_map(|map| json!(map)),
                1 => Just(Value::Null),
            ]
            .boxed(),
            _ => any_value().boxed(),
        };
        prop_oneof![9 => fitting, 1 => any_value()].boxed()
    }

    fn fields() -> impl Strategy<Value = Vec<(&'static str, Value)>> {
        const NAMES: [&str; 6] = ["time", "topic", "key", "value", "headers", "note"];
        let field = |name| value_for(name).prop_map(move |value| (name, value));
        let once: Vec<_> = NAMES.iter().map(|name| prop::option::weighted(0.95, field(name))).collect();
        let again = prop::collection::vec(prop::sample::select(&NAMES[..]).prop_flat_map(field), 0..3);
        (once, again)
            .prop_map(|(once, again)| once.into_iter().flatten().chain(again).collect::<Vec<_>>())
            .prop_shuffle()
    }

    /// The rules once more, on a tree, where a map keeps the last of a name by itself.
    fn reference(object: &Map<String, Value>) -> Option<Sample> {
        let bytes = |value: &Value| {
            let mut out = Vec::new();
            base64::decode(value.as_str()?.as_bytes(), &mut out).ok().map(|()| out)
        };
        let present = |name: &str| object.get(name).filter(|value| !value.is_null());
        let time = match object.get("time")? {
            Value::String(text) => text.parse().ok()?,
            time => time.as_i64().or_else(|| {
                let time = time.as_f64().filter(|time| time.fract() == 0.0 && time.abs() < 2f64.powi(53))?;
                Some(time as i64)
            })?,
        };
        let headers = match present("headers") {
            None => Vec::new(),
            Some(headers) => headers
                .as_object()?
                .iter()
                .map(|(name, value)| Some((name.clone(), bytes(value)?)))
                .collect::<Option<_>>()?,
        };
        Some(Sample {
            time,
            topic: object.get("topic")?.as_str()?.to_owned(),
            key: bytes(object.get("key")?)?,
            value: match present("value") {
                None => None,
                Some(value) => Some(bytes(value)?),
            },
            headers,
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4 * ProptestConfig::default().cases))]

        #[test]
        fn agrees_with_a_decoder_of_trees(fields in fields()) {
            let members: Vec<_> = fields.iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
            let text = format!("{{{}}}", members.join(","));
            let object = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            let decoded = decoded(&text).ok().map(|mut sample| {
                sample.headers.sort();
                sample
            });
            prop_assert_eq!(decoded, reference(&object), "{}", text);
        }

        /// The point moved to any place, the exponent making up for it.
        #[test]
        fn a_time_is_exact_in_any_notation(time: i64, point in 0usize..25, zeros in 0usize..3) {
            let (sign, magnitude) = (if time < 0 { "-" } else { "" }, format!("{:020}", time.unsigned_abs()));
            let digits = format!("{magnitude}{}", "0".repeat(zeros));
            let point = point.clamp(1, digits.len());
            let exponent = magnitude.len() as i64 - point as i64;
            let whole = digits[..point].trim_start_matches('0');
            let whole = if whole.is_empty() { "0" } else { whole };
            let fraction = if point == digits.len() { "0" } else { &digits[point..] };
            prop_assert_eq!(time_of(&format!("{sign}{whole}.{fraction}e{exponent}")), Ok(time));
        }
    }
}
