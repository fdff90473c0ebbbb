//! The JSON decoder against a plain one: maps that keep the last of a name, `serde_json`'s values, another base64, and
//! integers read digit by digit.
//!
//! Each input is read as a record, as a schedule to write, and as a plan for a record that is nearly right.
#![no_main]

use std::collections::BTreeMap;

use arbitrary::{Arbitrary, Unstructured};
use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use kafka_message_scheduler::codec::DecodeError;
use kafka_message_scheduler::schedule::Format;
use kms_fuzz::{Name, Sample};
use serde_json::Value;
use serde_json::value::RawValue;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    compare(input);
    if let Ok(sample) = Sample::arbitrary_take_rest(Unstructured::new(input)) {
        let decoded = Sample::decode(Format::Json, &sample.encode(Format::Json));
        assert_eq!(decoded, Ok(sample.with_last_of_each_header()));
    }
    if let Ok(plan) = Plan::arbitrary_take_rest(Unstructured::new(input)) {
        compare(&plan.record());
    }
});

fn compare(record: &[u8]) {
    let decoded = Sample::decode(Format::Json, record);
    assert_eq!(decoded.as_ref().ok(), oracle(record).as_ref(), "{}", String::from_utf8_lossy(record));
    if let Ok(sample) = &decoded {
        sample.assert_survives(Format::Json);
    }
    // The tree's parser refuses more than the decoder: great depth, great numbers, half surrogates anywhere.
    match (serde_json::from_slice::<Value>(record), decoded) {
        (Ok(Value::Object(_)), Err(error)) => assert!(is_about_a_field(&error), "{error}"),
        (Ok(Value::Object(_)), Ok(_)) | (Err(_), _) => {}
        (Ok(_), decoded) => assert_eq!(decoded, Err(DecodeError::NotAnObject)),
    }
}

fn is_about_a_field(error: &DecodeError) -> bool {
    matches!(error, DecodeError::Missing { .. } | DecodeError::InvalidJson { .. })
}

/// The documented rules once more.
fn oracle(record: &[u8]) -> Option<Sample> {
    let fields = members(std::str::from_utf8(record).ok()?)?;
    let present = |name: &str| fields.get(name).copied().filter(|raw| raw.get() != "null");
    let value = match present("value") {
        None => None,
        Some(value) => Some(bytes(value)?),
    };
    let headers = match present("headers") {
        None => Vec::new(),
        Some(headers) => {
            let mut headers: Vec<_> = members(headers.get())?.into_iter().collect();
            // As slices of the record, so this is their order in it.
            headers.sort_by_key(|(_, raw)| raw.get().as_ptr());
            headers.into_iter().map(|(name, raw)| Some((name, bytes(raw)?))).collect::<Option<_>>()?
        }
    };
    Some(Sample {
        time: time(fields.get("time")?.get())?,
        topic: text(fields.get("topic")?)?,
        key: bytes(fields.get("key")?)?,
        value,
        headers,
    })
}

/// The members of an object, each in its last version.
fn members(object: &str) -> Option<BTreeMap<String, &RawValue>> {
    serde_json::from_str(object).ok()
}

fn text(raw: &RawValue) -> Option<String> {
    match serde_json::from_str(raw.get()).ok()? {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// Base64 with padding or without, where the last bits need not be zero.
fn bytes(raw: &RawValue) -> Option<Vec<u8>> {
    let text = text(raw)?;
    [DecodePaddingMode::RequireCanonical, DecodePaddingMode::RequireNone].into_iter().find_map(|mode| {
        let config =
            GeneralPurposeConfig::new().with_decode_padding_mode(mode).with_decode_allow_trailing_bits(true);
        GeneralPurpose::new(&ALPHABET, config).decode(&text).ok()
    })
}

/// An integer in any notation, or in a string of digits.
fn time(raw: &str) -> Option<i64> {
    if let Ok(digits) = serde_json::from_str::<String>(raw) {
        let magnitude = digits.strip_prefix(['-', '+']).unwrap_or(&digits);
        let sign = if digits.starts_with('-') { "-" } else { "" };
        return integer(sign, magnitude);
    }
    let (sign, unsigned) = raw.strip_prefix('-').map_or(("", raw), |unsigned| ("-", unsigned));
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mut digits: Vec<u8> = [whole, fraction].concat().into_bytes();
    if !digits.iter().all(u8::is_ascii_digit) {
        return None; // no number at all
    }
    if digits.iter().all(|&digit| digit == b'0') {
        return Some(0);
    }
    // Further than this no digit is left on one side of the point, however far it goes.
    let reach = digits.len() as i64 + 20;
    let beyond = if exponent.starts_with('-') { -reach } else { reach };
    let exponent = exponent.parse().unwrap_or(beyond).clamp(-reach, reach);
    let point = whole.len() as i64 + exponent;
    let zeros = |count: i64| vec![b'0'; usize::try_from(count).unwrap_or(0)];
    digits.splice(0..0, zeros(-point));
    digits.extend(zeros(point - digits.len() as i64));
    let (whole, fraction) = digits.split_at(usize::try_from(point).unwrap_or(0));
    if fraction.iter().any(|&digit| digit != b'0') {
        return None;
    }
    integer(sign, std::str::from_utf8(whole).expect("digits"))
}

fn integer(sign: &str, magnitude: &str) -> Option<i64> {
    let is_number = !magnitude.is_empty() && magnitude.bytes().all(|digit| digit.is_ascii_digit());
    let significant = magnitude.trim_start_matches('0');
    if !is_number || significant.len() > 19 {
        return None;
    }
    let magnitude = significant.bytes().fold(0i128, |sum, digit| sum * 10 + i128::from(digit - b'0'));
    i64::try_from(if sign.is_empty() { magnitude } else { -magnitude }).ok()
}

/// A record as any writer may make it: five fields that are right for the most part, others between them, and what
/// then befell it.
#[derive(Arbitrary, Debug)]
struct Plan {
    fields: Option<Fields>,
    /// Each with its place among those before it, so that it overrides a field or is overridden.
    others: Vec<(u8, Text, Json)>,
    space: Space,
    damage: Option<(u16, u8)>,
}

#[derive(Arbitrary, Debug)]
struct Fields {
    time: Time,
    topic: Text,
    key: Base64,
    value: Optional<Base64>,
    headers: Optional<Vec<(Text, Header)>>,
}

#[derive(Arbitrary, Debug)]
enum Optional<T> {
    Absent,
    Null,
    Given(T),
}

#[derive(Arbitrary, Debug)]
enum Time {
    Long(i64),
    Number(Number),
    String { sign: Sign, zeros: u8, value: u64 },
}

/// A number in any notation. Digits come from integers, so that there are few enough to meet the limits of an `i64`.
#[derive(Arbitrary, Debug)]
struct Number {
    is_negative: bool,
    whole: u64,
    whole_zeros: u8,
    fraction: Option<(u8, u64, u8)>,
    exponent: Option<Exponent>,
}

#[derive(Arbitrary, Debug)]
enum Exponent {
    Small(i8),
    /// What brings the digits of the fraction before the point, and a little more or less.
    Balanced(i8),
    Any(i64),
    Absurd(Sign),
}

#[derive(Arbitrary, Debug)]
enum Sign {
    None,
    Plus,
    Minus,
}

#[derive(Arbitrary, Debug)]
enum Header {
    Base64(Base64),
    Other(Json),
}

#[derive(Arbitrary, Debug)]
struct Base64 {
    bytes: Vec<u8>,
    is_padded: bool,
    is_escaped: bool,
    /// Another character, or too much of the right one.
    foreign: Option<(u8, char)>,
}

/// A string, and how it is written.
#[derive(Arbitrary, Debug)]
enum Text {
    Field(u8, Escapes),
    Name(Name, Escapes),
    /// Not Unicode.
    HalfSurrogate {
        before: Name,
        code: u16,
    },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Escapes {
    Few,
    All,
}

#[derive(Arbitrary, Debug)]
enum Json {
    Null,
    Bool(bool),
    Number(Number),
    String(Text),
    Base64(Base64),
    Array(Vec<Json>),
    Object(Vec<(Text, Json)>),
    Nested(u16),
    /// Most likely no JSON.
    Verbatim(String),
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Space {
    None,
    Blank,
    Lines,
}

impl Plan {
    fn record(&self) -> Vec<u8> {
        let mut members = self.fields.as_ref().map(Fields::members).unwrap_or_default();
        for (place, name, value) in &self.others {
            let place = usize::from(*place) % (members.len() + 1);
            members.insert(place, (name.json(), value.json()));
        }
        let space = match self.space {
            Space::None => "",
            Space::Blank => " ",
            Space::Lines => "\r\n\t",
        };
        let mut record = object(members, space).into_bytes();
        if let Some((at, mask)) = self.damage {
            let at = usize::from(at) % record.len();
            record[at] ^= mask;
        }
        record
    }
}

impl Fields {
    fn members(&self) -> Vec<(String, String)> {
        let headers = |headers: &Vec<(Text, Header)>| {
            object(headers.iter().map(|(name, value)| (name.json(), value.json())), "")
        };
        let members = [
            ("time", Some(self.time.json())),
            ("topic", Some(self.topic.json())),
            ("key", Some(self.key.json())),
            ("value", self.value.json(Base64::json)),
            ("headers", self.headers.json(headers)),
        ];
        let member = |(name, value): (_, Option<_>)| Some((quoted(name, Escapes::Few), value?));
        members.into_iter().filter_map(member).collect()
    }
}

impl<T> Optional<T> {
    fn json(&self, given: impl FnOnce(&T) -> String) -> Option<String> {
        match self {
            Self::Absent => None,
            Self::Null => Some("null".to_owned()),
            Self::Given(value) => Some(given(value)),
        }
    }
}

impl Time {
    fn json(&self) -> String {
        match self {
            Self::Long(time) => time.to_string(),
            Self::Number(number) => number.json(),
            Self::String { sign, zeros, value } => {
                format!("\"{}{}{value}\"", sign.text(), "0".repeat(usize::from(zeros % 24)))
            }
        }
    }
}

impl Number {
    fn json(&self) -> String {
        let zeros = |count: u8| "0".repeat(usize::from(count % 24));
        let sign = if self.is_negative { "-" } else { "" };
        let whole = if self.whole == 0 {
            "0".to_owned() // a zero in front of digits is no JSON
        } else {
            format!("{}{}", self.whole, zeros(self.whole_zeros))
        };
        let fraction = self
            .fraction
            .map(|(before, digits, after)| format!(".{}{digits}{}", zeros(before), zeros(after)))
            .unwrap_or_default();
        let exponent = match &self.exponent {
            None => String::new(),
            Some(Exponent::Small(exponent)) => format!("e{exponent}"),
            Some(Exponent::Balanced(off)) => {
                format!("E{}", fraction.len().saturating_sub(1) as i64 + i64::from(off % 4))
            }
            Some(Exponent::Any(exponent)) => format!("e{exponent}"),
            Some(Exponent::Absurd(sign)) => format!("e{}{}", sign.text(), "9".repeat(30)),
        };
        format!("{sign}{whole}{fraction}{exponent}")
    }
}

impl Sign {
    fn text(&self) -> &'static str {
        match self {
            Self::None => "",
            Self::Plus => "+",
            Self::Minus => "-",
        }
    }
}

impl Header {
    fn json(&self) -> String {
        match self {
            Self::Base64(base64) => base64.json(),
            Self::Other(json) => json.json(),
        }
    }
}

impl Base64 {
    fn json(&self) -> String {
        let mut text =
            if self.is_padded { STANDARD.encode(&self.bytes) } else { STANDARD_NO_PAD.encode(&self.bytes) };
        if let Some((at, foreign)) = self.foreign {
            text.insert(usize::from(at) % (text.len() + 1), foreign);
        }
        quoted(&text, if self.is_escaped { Escapes::All } else { Escapes::Few })
    }
}

impl Text {
    fn json(&self) -> String {
        const FIELDS: [&str; 7] = ["time", "topic", "key", "value", "headers", "Time", "note"];
        match self {
            Self::Field(n, escapes) => quoted(FIELDS[usize::from(*n) % FIELDS.len()], *escapes),
            Self::Name(name, escapes) => quoted(&name.text(), *escapes),
            Self::HalfSurrogate { before, code } => {
                let mut json = quoted(&before.text(), Escapes::Few);
                json.pop();
                json + &format!("\\u{:04x}\"", 0xd800 | (code % 0x800))
            }
        }
    }
}

impl Json {
    fn json(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Number(number) => number.json(),
            Self::String(text) => text.json(),
            Self::Base64(base64) => base64.json(),
            Self::Array(items) => {
                format!("[{}]", items.iter().map(Self::json).collect::<Vec<_>>().join(","))
            }
            Self::Object(members) => {
                object(members.iter().map(|(name, value)| (name.json(), value.json())), "")
            }
            Self::Nested(depth) => {
                let depth = usize::from(depth % 1_000);
                format!("{}{}", "[".repeat(depth), "]".repeat(depth))
            }
            Self::Verbatim(text) => text.clone(),
        }
    }
}

fn object(members: impl IntoIterator<Item = (String, String)>, space: &str) -> String {
    let members: Vec<_> = members
        .into_iter()
        .map(|(name, value)| format!("{space}{name}{space}:{space}{value}{space}"))
        .collect();
    format!("{space}{{{}}}{space}", members.join(","))
}

fn quoted(text: &str, escapes: Escapes) -> String {
    match escapes {
        Escapes::Few => serde_json::to_string(text).expect("a text is JSON"),
        Escapes::All => {
            let units: Vec<_> = text.encode_utf16().map(|unit| format!("\\u{unit:04X}")).collect();
            format!("\"{}\"", units.concat())
        }
    }
}
