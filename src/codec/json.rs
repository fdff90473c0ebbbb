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

mod bytes;
mod cursor;
mod encode;
mod headers;
mod not_json;
mod swar;
mod text;
mod time;

pub(super) use encode::encode;

use std::ops::Range;

use cursor::{Cursor, Malformed};
use text::NotUnicode;

use super::{DecodeError, JsonFault, JsonPlace, Scratch};
use crate::schedule::{DueTime, Headers, Schedule};

#[inline(never)]
pub(super) fn decode<'a>(bytes: &'a [u8], scratch: &'a mut Scratch) -> Result<Schedule<'a>, DecodeError> {
    scratch.body.clear();
    scratch.body.reserve(bytes.len() / 4 * 3); // the base64 decoder reserves exactly, which would grow step by step
    let fields = read_fields(bytes, scratch).map_err(|Malformed| not_json::explain(bytes))?;
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
        Some(found) => found.standing(run, unique)?,
    };
    Ok(Schedule {
        due: DueTime::from_epoch_ms(due),
        topic,
        key: &body[key],
        value: value.map(|value| &body[value]),
        headers,
    })
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
    headers: Option<Field<Option<headers::Found>>>,
}

/// What a field says, or why it cannot be.
struct Field<T> {
    /// Where in the text its value begins.
    at: usize,
    read: Read<T>,
}

/// What a value says, or why it cannot be.
type Read<T> = Result<T, JsonFault>;

enum Topic<'a> {
    /// As it is written.
    Written(&'a [u8]),
    /// In the scratch, for it is written with escapes.
    Unescaped,
}

impl From<NotUnicode> for JsonFault {
    fn from(NotUnicode: NotUnicode) -> Self {
        Self::NotUnicode
    }
}

fn required<T>(place: JsonPlace, field: Option<Field<T>>) -> Result<T, DecodeError> {
    let Field { at, read } = field.ok_or(DecodeError::Missing { place })?;
    read.map_err(|fault| DecodeError::InvalidJson { place, at, fault })
}

fn optional<T>(place: JsonPlace, field: Option<Field<Option<T>>>) -> Result<Option<T>, DecodeError> {
    field.map_or(Ok(None), |field| required(place, Some(field)))
}

/// Steps through the whole text, which is one object.
#[inline(always)]
fn read_fields<'a>(bytes: &'a [u8], scratch: &mut Scratch) -> Result<Fields<'a>, Malformed> {
    let mut cursor = Cursor::new(bytes);
    let mut fields = Fields::default();
    if cursor.peek() != Some(b'{') {
        return Err(Malformed);
    }
    let mut goes_on = cursor.enter_object()?;
    while goes_on {
        let name = read_name(&mut cursor, scratch)?;
        let first = cursor.peek().ok_or(Malformed)?;
        let at = cursor.at();
        match name {
            FieldName::Time => {
                fields.time = Some(Field { at, read: time::read(&mut cursor, first, scratch)? });
            }
            FieldName::Topic => {
                fields.topic = Some(Field { at, read: read_topic(&mut cursor, first, scratch)? });
            }
            FieldName::Key => {
                fields.key = Some(Field { at, read: bytes::read(&mut cursor, first, scratch)? });
            }
            FieldName::Value => {
                fields.value =
                    Some(Field { at, read: read_nullable(&mut cursor, first, scratch, bytes::read)? });
            }
            FieldName::Headers => {
                fields.headers =
                    Some(Field { at, read: read_nullable(&mut cursor, first, scratch, headers::read)? });
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
fn read_name(cursor: &mut Cursor<'_>, scratch: &mut Scratch) -> Result<FieldName, Malformed> {
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
        let (name, end) = read_unusual_name(*cursor, &mut scratch.unescaped)?;
        cursor.resume(end);
        Ok(name)
    }
}

/// A name that is not Unicode is taken for a fault of the syntax.
#[inline(never)]
fn read_unusual_name(mut cursor: Cursor<'_>, scratch: &mut Vec<u8>) -> Result<(FieldName, usize), Malformed> {
    let name = match cursor.name()?.unescaped(scratch).map_err(|NotUnicode| Malformed)? {
        b"time" => FieldName::Time,
        b"topic" => FieldName::Topic,
        b"key" => FieldName::Key,
        b"value" => FieldName::Value,
        b"headers" => FieldName::Headers,
        _ => FieldName::Unknown,
    };
    Ok((name, cursor.at()))
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
        topic.unescape(&mut scratch.topic).map(|()| Topic::Unescaped).map_err(JsonFault::from)
    } else {
        Ok(Topic::Written(topic.written))
    })
}

/// Steps over null, or has `read` read what is something.
#[inline(always)]
fn read_nullable<T>(
    cursor: &mut Cursor<'_>,
    first: u8,
    scratch: &mut Scratch,
    read: impl FnOnce(&mut Cursor<'_>, u8, &mut Scratch) -> Result<Read<T>, Malformed>,
) -> Result<Read<Option<T>>, Malformed> {
    if first == b'n' {
        return cursor.literal(b"null").map(|()| Ok(None));
    }
    Ok(read(cursor, first, scratch)?.map(Some))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde_json::{Map, Value, json};

    use super::*;
    use crate::codec::base64;
    use crate::codec::sample::Sample;
    use crate::schedule::Format;

    fn decoded(text: &str) -> Result<Sample, DecodeError> {
        Sample::decode(Format::Json, text.as_bytes())
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
    }
}
