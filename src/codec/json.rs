//! A JSON object with base64 fields: `{"time", "topic", "key", "value", "headers"}`.
//!
//! The text is read once, from front to back, each field as it is met. What is no JSON ends that at once; a field that
//! holds what it must not is only remembered, for a later version of it may override it, and the text may yet turn out
//! to be no JSON. So a field that comes twice, an unknown field and a nested one cost what their length costs and
//! nothing else, and no tree is kept.
//!
//! What is accepted is what the circe decoder accepted with which schedules were read before (`time` may be any
//! notation of an integer, or a string of digits; `value` and `headers` may be null or absent; a header may not be
//! null), except that text which is not Unicode (invalid UTF-8, half a surrogate pair in a field name or in a
//! field that is used) is refused instead of being replaced by question marks.
//!
//! A record decodes without allocation once the scratch has grown, unless a field of it is refused.
#![allow(
    clippy::inline_always,
    reason = "measured: a reader that is lent keeps its place in memory, not in registers"
)]

use std::fmt;
use std::num::IntErrorKind;
use std::ops::Range;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::base64::NotBase64;
use super::error::{DecodeError, JsonFault, JsonPlace};
use super::json_text::{Cursor, Malformed, NotUnicode, Text, is_plain};
use super::unique::{self, Name, Names};
use super::{Scratch, base64};
use crate::schedule::{DueTime, Headers, Schedule, varint};

pub(super) fn decode<'a>(bytes: &'a [u8], scratch: &'a mut Scratch) -> Result<Schedule<'a>, DecodeError> {
    scratch.body.clear();
    scratch.body.reserve(bytes.len() / 4 * 3); // the base64 decoder reserves exactly, which would grow step by step
    let fields = read_fields(bytes, scratch).map_err(|Malformed| not_json(bytes))?;
    let Scratch { topic, body, run, unique, .. } = scratch;

    let due = required(JsonPlace::Time, fields.time)?;
    let topic = match required(JsonPlace::Topic, fields.topic)? {
        Topic::Written(topic) => topic,
        Topic::Unescaped => topic.as_slice(),
    };
    let topic = std::str::from_utf8(topic).expect("a string's UTF-8 is checked");
    let key = required(JsonPlace::Key, fields.key)?;
    let value = optional(JsonPlace::Value, fields.value)?;
    let headers = match optional(JsonPlace::Headers, fields.headers)? {
        None => Headers::default(),
        Some(found) => standing(&found, run, unique)?,
    };
    Ok(Schedule {
        due: DueTime::from_epoch_ms(due),
        topic,
        key: &body[key],
        value: value.map(|value| &body[value]),
        headers,
    })
}

pub(super) fn encode(schedule: &Schedule<'_>, out: &mut Vec<u8>) {
    const AROUND: usize = 96; // names, punctuation and the time, with room to spare
    let raw_len = schedule.topic.len() + schedule.key.len() + schedule.value.map_or(0, <[u8]>::len);
    out.reserve(AROUND + (raw_len + schedule.headers.as_packed().len()).div_ceil(3) * 4);

    out.extend_from_slice(b"{\"time\":");
    serde_json::to_writer(&mut *out, &schedule.due.epoch_ms()).expect(MEMORY);
    out.extend_from_slice(b",\"topic\":");
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
    if is_plain(text.as_bytes()) {
        out.push(b'"');
        out.extend_from_slice(text.as_bytes());
        out.push(b'"');
    } else {
        serde_json::to_writer(out, text).expect(MEMORY);
    }
}

fn write_base64(out: &mut Vec<u8>, bytes: &[u8]) {
    out.push(b'"');
    base64::encode(bytes, out);
    out.push(b'"');
}

/// The last version of each field.
#[derive(Default)]
struct Fields<'a> {
    time: Option<Field<i64>>,
    topic: Option<Field<Topic<'a>>>,
    /// Where in the scratch's body it is.
    key: Option<Field<Range<usize>>>,
    /// Where in the scratch's body it is; `None` for null.
    value: Option<Field<Option<Range<usize>>>>,
    /// `None` for null.
    headers: Option<Field<Option<HeadersFound>>>,
}

/// What a field says, or why it cannot be.
struct Field<T> {
    /// Where in the text its value begins.
    at: usize,
    read: Result<T, JsonFault>,
}

enum Topic<'a> {
    /// As it is written.
    Written(&'a [u8]),
    /// In the scratch, for it is written with escapes.
    Unescaped,
}

/// The headers of which the scratch holds the run.
struct HeadersFound {
    maybe_twice: bool,
    faulty: Vec<FaultyHeader>,
}

/// A header whose value cannot be. In the packed run its value is null, which no valid header's is.
struct FaultyHeader {
    /// Its place among the headers, from 1.
    number: usize,
    /// Where in the text its value begins.
    at: usize,
    fault: JsonFault,
}

fn required<T>(place: JsonPlace, field: Option<Field<T>>) -> Result<T, DecodeError> {
    let Field { at, read } = field.ok_or(DecodeError::Missing { place })?;
    read.map_err(|fault| DecodeError::InvalidJson { place, at, fault })
}

fn optional<T>(place: JsonPlace, field: Option<Field<Option<T>>>) -> Result<Option<T>, DecodeError> {
    field.map_or(Ok(None), |field| required(place, Some(field)))
}

/// Why `bytes` are no JSON object. They are read once more, by a parser that can tell.
#[cold]
#[inline(never)]
fn not_json(bytes: &[u8]) -> DecodeError {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return DecodeError::NotUtf8 { at: error.valid_up_to() },
    };
    let error = match serde_json::from_str::<AnyObject>(text) {
        Err(error) if error.is_data() => match serde_json::from_str::<IgnoredAny>(text) {
            Err(error) => error,
            Ok(_) => return DecodeError::NotAnObject,
        },
        Err(error) => error,
        Ok(AnyObject) => {
            debug_assert!(false, "two parsers disagree about what JSON is");
            return DecodeError::NotJson { reason: "malformed".to_owned(), line: 1, column: 0 };
        }
    };
    let (line, column) = (error.line(), error.column());
    let mut reason = error.to_string();
    // The place is part of the parser's text, and ours to say.
    reason.truncate(reason.rfind(" at line ").unwrap_or(reason.len()));
    DecodeError::NotJson { reason, line, column }
}

/// An object whose members' names are text.
struct AnyObject;

impl<'de> Deserialize<'de> for AnyObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(Self)
    }
}

impl<'de> Visitor<'de> for AnyObject {
    type Value = Self;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self, M::Error> {
        while map.next_entry::<String, IgnoredAny>()?.is_some() {}
        Ok(self)
    }
}

/// Steps through the whole text, which is one object.
#[inline(always)]
fn read_fields<'a>(bytes: &'a [u8], scratch: &mut Scratch) -> Result<Fields<'a>, Malformed> {
    let mut cursor = Cursor::new(bytes, 0);
    let mut fields = Fields::default();
    if cursor.peek() != Some(b'{') {
        return Err(Malformed);
    }
    let mut goes_on = cursor.enter_object()?;
    while goes_on {
        let name = read_field_name(&mut cursor, scratch)?;
        let first = cursor.peek().ok_or(Malformed)?;
        let at = cursor.at();
        match name {
            FieldName::Time => {
                fields.time = Some(Field { at, read: read_time(&mut cursor, first, scratch)? });
            }
            FieldName::Topic => {
                fields.topic = Some(Field { at, read: read_topic(&mut cursor, first, scratch)? });
            }
            FieldName::Key => {
                fields.key = Some(Field { at, read: read_base64(&mut cursor, first, scratch)? });
            }
            FieldName::Value => {
                let read = if first == b'n' {
                    cursor.literal(b"null").map(|()| Ok(None))?
                } else {
                    read_base64(&mut cursor, first, scratch)?.map(Some)
                };
                fields.value = Some(Field { at, read });
            }
            FieldName::Headers => {
                let read = if first == b'n' {
                    cursor.literal(b"null").map(|()| Ok(None))?
                } else {
                    read_headers(&mut cursor, first, scratch)?.map(Some)
                };
                fields.headers = Some(Field { at, read });
            }
            FieldName::Unknown => cursor.skip_value(&mut scratch.open)?,
        }
        goes_on = cursor.next_member()?;
    }
    if cursor.peek().is_some() { Err(Malformed) } else { Ok(fields) }
}

enum FieldName {
    Time,
    Topic,
    Key,
    Value,
    Headers,
    Unknown,
}

/// Steps over the name of a field and its colon.
#[inline(always)]
fn read_field_name(cursor: &mut Cursor<'_>, scratch: &mut Scratch) -> Result<FieldName, Malformed> {
    // As everyone writes them.
    if cursor.strip(b"\"time\":") {
        Ok(FieldName::Time)
    } else if cursor.strip(b"\"topic\":") {
        Ok(FieldName::Topic)
    } else if cursor.strip(b"\"key\":") {
        Ok(FieldName::Key)
    } else if cursor.strip(b"\"value\":") {
        Ok(FieldName::Value)
    } else if cursor.strip(b"\"headers\":") {
        Ok(FieldName::Headers)
    } else {
        let (name, end) = read_unusual_field_name(cursor.text(), cursor.at(), &mut scratch.unescaped)?;
        *cursor = Cursor::new(cursor.text(), end);
        Ok(name)
    }
}

/// A name that is not Unicode is taken for a fault of the syntax.
#[inline(never)]
fn read_unusual_field_name(
    text: &[u8],
    at: usize,
    scratch: &mut Vec<u8>,
) -> Result<(FieldName, usize), Malformed> {
    let mut cursor = Cursor::new(text, at);
    let name = cursor.name()?;
    let name = match unescaped(name, scratch).map_err(|_| Malformed)? {
        b"time" => FieldName::Time,
        b"topic" => FieldName::Topic,
        b"key" => FieldName::Key,
        b"value" => FieldName::Value,
        b"headers" => FieldName::Headers,
        _ => FieldName::Unknown,
    };
    Ok((name, cursor.at()))
}

/// What a value says, or why it cannot be.
type Read<T> = Result<T, JsonFault>;

/// Reads a value that begins with `first` as an integer.
#[inline(always)]
fn read_time(cursor: &mut Cursor<'_>, first: u8, scratch: &mut Scratch) -> Result<Read<i64>, Malformed> {
    if let Some(time) = cursor.plain_integer() {
        return Ok(Ok(time));
    }
    let (read, end) = read_unusual_time(cursor.text(), cursor.at(), first, scratch)?;
    *cursor = Cursor::new(cursor.text(), end);
    Ok(read)
}

#[inline(never)]
fn read_unusual_time(
    text: &[u8],
    at: usize,
    first: u8,
    scratch: &mut Scratch,
) -> Result<(Read<i64>, usize), Malformed> {
    let mut cursor = Cursor::new(text, at);
    let read = match first {
        b'-' | b'0'..=b'9' => parse_number(cursor.number()?),
        b'"' => unescaped(cursor.string()?, &mut scratch.unescaped).and_then(parse_digits),
        _ => cursor.skip_value(&mut scratch.open).map(|()| Err(JsonFault::NotIntegral))?,
    };
    Ok((read, cursor.at()))
}

#[inline(always)]
fn read_topic<'a>(
    cursor: &mut Cursor<'a>,
    first: u8,
    scratch: &mut Scratch,
) -> Result<Read<Topic<'a>>, Malformed> {
    if first != b'"' {
        return cursor.skip_value(&mut scratch.open).map(|()| Err(JsonFault::NotAString));
    }
    let topic = cursor.string()?;
    Ok(if topic.has_escapes {
        unescaped(topic, &mut scratch.topic).map(|_| Topic::Unescaped)
    } else {
        Ok(Topic::Written(topic.written))
    })
}

/// What `text` says: as it is written, or put into `scratch`.
#[inline]
fn unescaped<'s>(text: Text<'s>, scratch: &'s mut Vec<u8>) -> Read<&'s [u8]> {
    if !text.has_escapes {
        return Ok(text.written);
    }
    scratch.clear();
    match text.unescape(scratch) {
        Ok(()) => Ok(scratch),
        Err(NotUnicode) => Err(JsonFault::NotUnicode),
    }
}

/// Decodes a value into the body.
#[inline(always)]
fn read_base64(
    cursor: &mut Cursor<'_>,
    first: u8,
    scratch: &mut Scratch,
) -> Result<Read<Range<usize>>, Malformed> {
    let Scratch { body, unescaped, open, .. } = scratch;
    let start = body.len();
    let read = read_encoded(cursor, first, unescaped, open, |text| base64::decode_quoted(text, body))?;
    Ok(read.map(|()| start..body.len()))
}

/// Reads a string with `decode`, which gets what is behind the quote and tells how much of it is base64 with the
/// closing quote: that was the whole string then, for base64 has no escapes, and its syntax is checked.
#[inline(always)]
fn read_encoded(
    cursor: &mut Cursor<'_>,
    first: u8,
    scratch: &mut Vec<u8>,
    open: &mut Vec<u8>,
    mut decode: impl FnMut(&[u8]) -> Result<usize, NotBase64>,
) -> Result<Read<()>, Malformed> {
    if first == b'"'
        && let Ok(len) = decode(cursor.behind_quote())
    {
        cursor.accept_quoted(len);
        return Ok(Ok(()));
    }
    let (read, end) = read_unusual_encoded(cursor.text(), cursor.at(), first, scratch, open, &mut decode)?;
    *cursor = Cursor::new(cursor.text(), end);
    Ok(read)
}

/// Reads what is not base64 as it is written: base64 with escapes, or a fault.
#[inline(never)]
fn read_unusual_encoded(
    text: &[u8],
    at: usize,
    first: u8,
    scratch: &mut Vec<u8>,
    open: &mut Vec<u8>,
    decode: &mut dyn FnMut(&[u8]) -> Result<usize, NotBase64>,
) -> Result<(Read<()>, usize), Malformed> {
    let mut cursor = Cursor::new(text, at);
    if first != b'"' {
        cursor.skip_value(open)?;
        return Ok((Err(JsonFault::NotAString), cursor.at()));
    }
    let text = cursor.string()?;
    if !text.has_escapes {
        return Ok((Err(JsonFault::NotBase64), cursor.at()));
    }
    scratch.clear();
    let read = match text.unescape(scratch) {
        Err(NotUnicode) => Err(JsonFault::NotUnicode),
        Ok(()) if scratch.contains(&b'"') => Err(JsonFault::NotBase64),
        Ok(()) => {
            scratch.push(b'"');
            decode(scratch).map(drop).map_err(|NotBase64| JsonFault::NotBase64)
        }
    };
    Ok((read, cursor.at()))
}

/// Reads an object of headers into the run.
#[inline(always)]
fn read_headers(
    cursor: &mut Cursor<'_>,
    first: u8,
    scratch: &mut Scratch,
) -> Result<Read<HeadersFound>, Malformed> {
    if first != b'{' {
        return cursor.skip_value(&mut scratch.open).map(|()| Err(JsonFault::NotAnObject));
    }
    let (read, end) = read_header_object(cursor.text(), cursor.at(), scratch)?;
    *cursor = Cursor::new(cursor.text(), end);
    Ok(read)
}

#[inline(never)]
fn read_header_object(
    text: &[u8],
    at: usize,
    scratch: &mut Scratch,
) -> Result<(Read<HeadersFound>, usize), Malformed> {
    let mut cursor = Cursor::new(text, at);
    let Scratch { run, unescaped, open, .. } = scratch;
    run.clear();
    run.reserve(cursor.behind_quote().len()); // that of several objects would otherwise grow step by step
    let mut names = Names::default();
    let mut maybe_twice = false;
    let mut faulty = Vec::new();
    let mut names_are_text = true;
    let mut number = 0;
    let mut goes_on = cursor.enter_object()?;
    while goes_on {
        number += 1;
        let name = if let Some(name) = cursor.plain_name()? {
            name
        } else {
            unescaped.clear();
            names_are_text &= cursor.name()?.unescape(unescaped).is_ok();
            unescaped.as_slice()
        };
        maybe_twice |= names.see(Name::of_text(name));
        varint::write_bytes(run, name);

        let first = cursor.peek().ok_or(Malformed)?;
        let at = cursor.at();
        let read = read_encoded(&mut cursor, first, unescaped, open, |text| push_decoded(run, text))?;
        if let Err(fault) = read {
            varint::write(run, varint::NULL_LEN);
            faulty.push(FaultyHeader { number, at, fault });
        }
        goes_on = cursor.next_member()?;
    }
    let found = HeadersFound { maybe_twice, faulty };
    Ok((if names_are_text { Ok(found) } else { Err(JsonFault::NotUnicode) }, cursor.at()))
}

/// Appends a header's value as [`base64::decode_quoted`] does, with its length before it.
#[inline(always)]
fn push_decoded(run: &mut Vec<u8>, text: &[u8]) -> Result<usize, NotBase64> {
    let at = run.len();
    run.push(0);
    let Ok(taken) = base64::decode_quoted(text, run) else {
        run.truncate(at);
        return Err(NotBase64);
    };
    let len = run.len() - at - 1;
    match varint::single_byte(len as i64) {
        Some(byte) => run[at] = byte,
        None => widen_len(run, at, len),
    }
    Ok(taken)
}

/// Writes a length for which the one byte that was kept for it is too few: that one becomes its last.
#[inline(never)]
fn widen_len(run: &mut Vec<u8>, at: usize, len: usize) {
    let end = run.len();
    varint::write(run, len as i64);
    run[at] = run.pop().expect("a length takes a byte at least");
    let more = run.len() - end;
    run[at..].rotate_right(more);
}

/// The headers that no later one overrides; an error if one of them is faulty.
fn standing<'a>(
    found: &HeadersFound,
    run: &'a [u8],
    unique: &'a mut unique::Scratch,
) -> Result<Headers<'a>, DecodeError> {
    let run = Headers::from_trusted(run);
    let headers = if found.maybe_twice { unique::last_of_each(run, unique) } else { run };
    match first_standing_fault(run, headers, &found.faulty) {
        None => Ok(headers),
        Some(&FaultyHeader { number, at, fault }) => {
            Err(DecodeError::InvalidJson { place: JsonPlace::Header(number), at, fault })
        }
    }
}

/// The fault of the first header in `headers` that has one; those that a later header overrode do not matter.
fn first_standing_fault<'f>(
    run: Headers<'_>,
    headers: Headers<'_>,
    faulty: &'f [FaultyHeader],
) -> Option<&'f FaultyHeader> {
    if faulty.is_empty() {
        return None;
    }
    let standing = headers.iter().find(|header| header.value.is_none())?;
    let last_of_name = run.iter().zip(1..).filter(|(header, _)| header.name == standing.name).last();
    let (_, number) = last_of_name.expect("the headers are a part of the run");
    faulty.iter().find(|header| header.number == number)
}

fn parse_number(number: &[u8]) -> Result<i64, JsonFault> {
    let number = std::str::from_utf8(number).expect("a number is ASCII");
    number.parse::<i64>().or_else(|_| parse_scientific(number))
}

/// Reads a string of decimal digits.
fn parse_digits(text: &[u8]) -> Result<i64, JsonFault> {
    let text = std::str::from_utf8(text).map_err(|_| JsonFault::NotIntegral)?;
    text.parse::<i64>().map_err(|error| match error.kind() {
        IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => JsonFault::OutOfRange,
        _ => JsonFault::NotIntegral,
    })
}

/// The integer that a JSON number of any notation denotes: exactly, for a `f64` is off by hundreds near the limits.
fn parse_scientific(number: &str) -> Result<i64, JsonFault> {
    const MOST_DIGITS: i64 = 19; // of an i64

    let (sign, unsigned) = number.strip_prefix('-').map_or((1, number), |unsigned| (-1, unsigned));
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

    /// The length of a header's value is written before it is known.
    #[test]
    fn a_header_may_be_of_any_length() {
        for len in [0, 1, 47, 48, 49, 62, 63, 64, 65, 8191, 8192, 100_000] {
            let headers =
                vec![("before".into(), b"x".to_vec()), ("h".into(), vec![7; len]), ("z".into(), vec![8])];
            let sample = Sample { headers, ..Sample::default() };
            let mut record = Vec::new();
            sample.with_schedule(|schedule| encode(schedule, &mut record));
            assert_eq!(decoded(std::str::from_utf8(&record).unwrap()), Ok(sample), "{len} bytes");
        }
    }

    /// As PHP writes them: a backslash before each slash.
    #[test]
    fn long_base64_may_have_escapes() {
        let value: Vec<u8> = (0..=255).chain(250..=255).cycle().take(2_000).collect();
        let sample =
            Sample { value: Some(value.clone()), headers: vec![("h".into(), value)], ..Sample::default() };
        let mut record = Vec::new();
        sample.with_schedule(|schedule| encode(schedule, &mut record));
        let escaped = String::from_utf8(record).unwrap().replace('/', r"\/");
        assert!(escaped.contains('\\'));
        assert_eq!(decoded(&escaped), Ok(sample));
    }

    #[test]
    fn names_may_be_written_in_any_way() {
        let plain = r#"{"time":1,"topic":"t","key":"aw==","value":"dg==","headers":{"h":"aA=="}}"#;
        for (from, to) in [
            ("\":", "\" :"),
            ("\":", "\":\t"),
            (",", " ,\n"),
            ("{", "{ "),
            ("}", " }"),
            ("\"t", "\"\\u0074"),
            ("e\":", "\\u0065\":"),
            ("\"key", "\"\\u006bey"),
            ("rs\":", "\\u0072s\" :"),
        ] {
            assert_eq!(decoded(&plain.replace(from, to)), decoded(plain), "{from} as {to}");
        }
        assert!(decoded(plain).is_ok());
        for name in ["time2", "tim", "Time", "time ", "times", ""] {
            let text = plain.replace("\"time\"", &format!("\"{name}\""));
            assert_eq!(decoded(&text), Err(DecodeError::Missing { place: JsonPlace::Time }), "{name}");
        }
    }

    #[test]
    fn a_quote_in_base64_is_no_end() {
        for text in [r#"aw==\"aw=="#, r"\u0022", r#"aaaa\""#] {
            let text = format!(r#"{{"time":1,"topic":"t","key":"{text}"}}"#);
            let expected =
                DecodeError::InvalidJson { place: JsonPlace::Key, at: 28, fault: JsonFault::NotBase64 };
            assert_eq!(decoded(&text), Err(expected));
        }
    }

    #[test]
    fn what_is_not_utf8_is_told_first() {
        for field in ["key", "value", "note", "headers"] {
            let mut record = format!(r#"{{"time":true,"topic":"t","key":"","{field}":"?"}}"#).into_bytes();
            let at = record.iter().position(|&byte| byte == b'?').unwrap();
            record[at] = 0xff;
            assert_eq!(decode(&record, &mut Scratch::default()), Err(DecodeError::NotUtf8 { at }), "{field}");
        }
    }

    #[test]
    fn half_a_surrogate_pair_is_no_name() {
        let text = r#"{"time":1,"topic":"t","key":"","note\ud800":1}"#;
        assert!(matches!(decoded(text), Err(DecodeError::NotJson { .. })));
        let text = r#"{"time":1,"topic":"t","key":"","note":{"\ud800":"\udc00"}}"#;
        assert!(decoded(text).is_ok());
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
            let text = value.as_str().filter(|text| !text.contains('"'))?;
            base64::decode_quoted(format!("{text}\"").as_bytes(), &mut out).ok().map(|_| out)
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
