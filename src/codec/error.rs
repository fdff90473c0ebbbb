//! Why a record is not a schedule: which part of it, at which byte. Never its content, for these texts are logged.

use std::fmt;

/// Why a record could not be decoded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Neither a five-field nor a four-field Avro datum.
    #[error("invalid Avro: {fault} ({place}, at byte {at}){}", framing_hint(*.maybe_framed))]
    InvalidAvro {
        /// The part that could not be read.
        place: AvroPlace,
        /// Where in the record that part begins, in bytes.
        at: usize,
        /// What is wrong with it.
        fault: AvroFault,
        /// Whether the record begins as one with a schema registry's prefix does (a zero byte).
        maybe_framed: bool,
    },
    /// A JSON record is UTF-8.
    #[error("not JSON: not UTF-8 at byte {at}")]
    NotUtf8 {
        /// The first byte that is not UTF-8.
        at: usize,
    },
    /// Not one JSON value.
    #[error("not JSON: {reason} at line {line} column {column}")]
    NotJson {
        /// What the parser missed or met.
        reason: String,
        /// Line, from 1.
        line: usize,
        /// Column in bytes, from 1; 0 where the line is empty.
        column: usize,
    },
    /// JSON, but no object.
    #[error("invalid JSON schedule: not an object")]
    NotAnObject,
    /// A field that must be there is not.
    #[error("invalid JSON schedule: {place} is missing")]
    Missing {
        /// The missing field.
        place: JsonPlace,
    },
    /// A field holds what it must not.
    #[error("invalid JSON schedule: {place}, at byte {at}, {fault}")]
    InvalidJson {
        /// The field.
        place: JsonPlace,
        /// Where in the record the field's value begins, in bytes.
        at: usize,
        /// What is wrong with it.
        fault: JsonFault,
    },
}

/// A part of an Avro datum. Headers are counted from 1, in the order of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the schema's
pub enum AvroPlace {
    Time,
    Topic,
    Key,
    Value,
    /// The count (or byte size) of a block of headers.
    HeaderBlock,
    HeaderName(usize),
    HeaderValue(usize),
}

impl fmt::Display for AvroPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time => f.write_str("time"),
            Self::Topic => f.write_str("topic"),
            Self::Key => f.write_str("key"),
            Self::Value => f.write_str("value"),
            Self::HeaderBlock => f.write_str("size of a block of headers"),
            Self::HeaderName(n) => write!(f, "name of header {n}"),
            Self::HeaderValue(n) => write!(f, "value of header {n}"),
        }
    }
}

/// What is wrong with a part of an Avro datum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AvroFault {
    /// The record ends where an integer should be, or inside it.
    #[error("the record ends inside an integer")]
    Cut,
    /// An integer of more than 64 bits.
    #[error("an integer of more than 64 bits")]
    TooWide,
    /// A length below zero.
    #[error("a length of {0}")]
    NegativeLength(i64),
    /// A length that reaches beyond the record's end.
    #[error("a length of {len} where {left} bytes are left")]
    PastEnd {
        /// The length, in bytes.
        len: i64,
        /// What is left of the record, in bytes.
        left: usize,
    },
    /// A text that is not UTF-8.
    #[error("a text that is not UTF-8")]
    NotUtf8,
    /// A branch that the union of null (0) and bytes (1) does not have.
    #[error("union branch {0} where there are only 0 (null) and 1 (bytes)")]
    NoSuchBranch(i64),
}

/// A field of a JSON schedule. Headers are counted from 1, in the order of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // the names are the format's
pub enum JsonPlace {
    Time,
    Topic,
    Key,
    Value,
    Headers,
    Header(usize),
}

impl fmt::Display for JsonPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time => f.write_str("\"time\""),
            Self::Topic => f.write_str("\"topic\""),
            Self::Key => f.write_str("\"key\""),
            Self::Value => f.write_str("\"value\""),
            Self::Headers => f.write_str("\"headers\""),
            Self::Header(n) => write!(f, "header {n}"),
        }
    }
}

/// What is wrong with a field of a JSON schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonFault {
    /// A time that is no integer.
    #[error("is neither an integral number nor a string of decimal digits")]
    NotIntegral,
    /// A time beyond 64 bits.
    #[error("is beyond the range of a 64-bit integer")]
    OutOfRange,
    /// Another type where a string must be.
    #[error("is not a string")]
    NotAString,
    /// A string with half a surrogate pair, which is no Unicode text.
    #[error("holds half a surrogate pair")]
    NotUnicode,
    /// Not the standard base64 alphabet, or a length or padding that cannot be.
    #[error("is not standard base64")]
    NotBase64,
    /// Another type where an object must be.
    #[error("is not an object")]
    NotAnObject,
}

/// A time of zero begins with a zero byte too, so this can only be a guess.
const fn framing_hint(maybe_framed: bool) -> &'static str {
    if maybe_framed {
        "; the first byte is 0: was it written with a schema registry's prefix? Schedules are raw Avro"
    } else {
        ""
    }
}
