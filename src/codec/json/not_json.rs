//! Why a text is not JSON, or no object: for the error's text, so this may take its time.

use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::codec::DecodeError;

/// Why `bytes` are no JSON object. They are read once more, by a parser that can tell.
#[cold]
#[inline(never)]
pub(super) fn explain(bytes: &[u8]) -> DecodeError {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text,
        Err(error) => return DecodeError::NotUtf8 { at: error.valid_up_to() },
    };
    let error = match serde_json::from_str::<AnyObject>(text) {
        // It met another value than an object, and looked no further: what follows may be worse.
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

#[cfg(test)]
mod tests {
    use crate::codec::sample::Sample;
    use crate::codec::{DecodeError, JsonPlace};
    use crate::schedule::Format;

    #[test]
    fn what_is_not_utf8_is_told_first() {
        for field in ["key", "value", "note", "headers"] {
            let mut record = format!(r#"{{"time":true,"topic":"t","key":"","{field}":"?"}}"#).into_bytes();
            let at = record.iter().position(|&byte| byte == b'?').expect("it is in there");
            record[at] = 0xff;
            assert_eq!(Sample::decode(Format::Json, &record), Err(DecodeError::NotUtf8 { at }), "{field}");
        }
    }

    #[test]
    fn what_is_no_json_is_told_before_what_is_no_object() {
        let of = |text: &str| Sample::decode(Format::Json, text.as_bytes());
        for text in ["5", "[]", "null", "\"{}\""] {
            assert_eq!(of(text), Err(DecodeError::NotAnObject), "{text}");
        }
        for text in ["5 5", "[", "nul", "\"{}"] {
            assert!(matches!(of(text), Err(DecodeError::NotJson { .. })), "{text}");
        }
        assert_eq!(of("{}"), Err(DecodeError::Missing { place: JsonPlace::Time }));
    }
}
