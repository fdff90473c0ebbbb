//! A value that is bytes: a string of base64.

use std::ops::Range;

use super::Read;
use super::cursor::{Cursor, Malformed};
use crate::codec::base64::{self, NotBase64};
use crate::codec::{JsonFault, Scratch};

/// Decodes the value that begins with `first` into the scratch's body; gives where in it it is.
#[inline(always)]
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    first: u8,
    scratch: &mut Scratch,
) -> Result<Read<Range<usize>>, Malformed> {
    let Scratch { body, unescaped, open, .. } = scratch;
    let start = body.len();
    let read = read_with(cursor, first, unescaped, open, |text| base64::decode_quoted(text, body))?;
    Ok(read.map(|()| start..body.len()))
}

/// Reads the value that begins with `first` with `decode`, which gets what is behind the quote and tells how much of it is
/// base64 with the closing quote: that was the whole string then, for base64 has no escapes, and its syntax is checked.
#[inline(always)]
pub(super) fn read_with(
    cursor: &mut Cursor<'_>,
    first: u8,
    unescaped: &mut Vec<u8>,
    open: &mut Vec<u8>,
    mut decode: impl FnMut(&[u8]) -> Result<usize, NotBase64>,
) -> Result<Read<()>, Malformed> {
    if first == b'"'
        && let Ok(len) = decode(cursor.behind_quote())
    {
        cursor.accept_quoted(len);
        return Ok(Ok(()));
    }
    let (read, end) = read_unusual(*cursor, first, unescaped, open, &mut decode)?;
    cursor.resume(end);
    Ok(read)
}

/// Reads what is not base64 as it is written: base64 with escapes, or a fault.
#[inline(never)]
fn read_unusual(
    mut cursor: Cursor<'_>,
    first: u8,
    unescaped: &mut Vec<u8>,
    open: &mut Vec<u8>,
    decode: &mut dyn FnMut(&[u8]) -> Result<usize, NotBase64>,
) -> Result<(Read<()>, usize), Malformed> {
    if first != b'"' {
        cursor.skip_value(open)?;
        return Ok((Err(JsonFault::NotAString), cursor.at()));
    }
    let text = cursor.string()?;
    let read = if !text.has_escapes {
        Err(JsonFault::NotBase64) // or `decode` would have taken it
    } else if let Err(not_unicode) = text.unescape(unescaped) {
        Err(not_unicode.into())
    } else if unescaped.contains(&b'"') {
        Err(JsonFault::NotBase64) // which `decode` would take for the end
    } else {
        unescaped.push(b'"');
        decode(unescaped).map(drop).map_err(|NotBase64| JsonFault::NotBase64)
    };
    Ok((read, cursor.at()))
}

#[cfg(test)]
mod tests {
    use crate::codec::sample::Sample;
    use crate::codec::{DecodeError, JsonFault, JsonPlace};
    use crate::schedule::Format;

    /// As PHP writes them: a backslash before each slash.
    #[test]
    fn long_base64_may_have_escapes() {
        let value: Vec<u8> = (0..=255).chain(250..=255).cycle().take(2_000).collect();
        let sample =
            Sample { value: Some(value.clone()), headers: vec![("h".into(), value)], ..Sample::default() };
        let escaped =
            String::from_utf8(sample.encode(Format::Json)).expect("JSON is text").replace('/', r"\/");
        assert!(escaped.contains('\\'));
        assert_eq!(Sample::decode(Format::Json, escaped.as_bytes()), Ok(sample));
    }

    #[test]
    fn a_quote_in_base64_is_no_end() {
        for text in [r#"aw==\"aw=="#, r"\u0022", r#"aaaa\""#] {
            let text = format!(r#"{{"time":1,"topic":"t","key":"{text}"}}"#);
            let expected =
                DecodeError::InvalidJson { place: JsonPlace::Key, at: 28, fault: JsonFault::NotBase64 };
            assert_eq!(Sample::decode(Format::Json, text.as_bytes()), Err(expected));
        }
    }
}
