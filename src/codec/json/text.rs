//! What a JSON string says, its escapes resolved.

/// A string's content, as it was written between the quotes; its syntax is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Text<'a> {
    pub(super) written: &'a [u8],
    /// Whether some of it is written with escapes; if not, `written` is what it says.
    pub(super) has_escapes: bool,
}

/// Half a surrogate pair: no Unicode text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotUnicode;

impl<'a> Text<'a> {
    /// What the string says, in UTF-8: as it is written, or put into `scratch`.
    #[inline]
    pub(super) fn unescaped<'s>(self, scratch: &'s mut Vec<u8>) -> Result<&'s [u8], NotUnicode>
    where
        'a: 's,
    {
        if !self.has_escapes {
            return Ok(self.written);
        }
        self.unescape(scratch)?;
        Ok(scratch)
    }

    /// Puts what the string says into `out`, in UTF-8, and nothing else.
    #[inline(never)]
    pub(super) fn unescape(self, out: &mut Vec<u8>) -> Result<(), NotUnicode> {
        out.clear();
        let mut rest = self.written;
        while let Some(at) = memchr::memchr(b'\\', rest) {
            out.extend_from_slice(&rest[..at]);
            rest = push_escaped(&rest[at..], out)?;
        }
        out.extend_from_slice(rest);
        Ok(())
    }
}

/// Appends what the escape at the front of `text` says; gives what follows it.
fn push_escaped<'a>(text: &'a [u8], out: &mut Vec<u8>) -> Result<&'a [u8], NotUnicode> {
    let (char, rest) = match text {
        [_, b'u', rest @ ..] => code_point(rest)?,
        [_, b'b', rest @ ..] => ('\u{8}', rest),
        [_, b'f', rest @ ..] => ('\u{c}', rest),
        [_, b'n', rest @ ..] => ('\n', rest),
        [_, b'r', rest @ ..] => ('\r', rest),
        [_, b't', rest @ ..] => ('\t', rest),
        [_, itself, rest @ ..] => (char::from(*itself), rest),
        _ => return Err(NotUnicode), // no escape ends with its backslash
    };
    out.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
    Ok(rest)
}

/// The character that four hexadecimal digits say, or eight with `\u` between.
fn code_point(text: &[u8]) -> Result<(char, &[u8]), NotUnicode> {
    let (first, rest) = code_unit(text).ok_or(NotUnicode)?;
    if let Some(char) = char::from_u32(first.into()) {
        return Ok((char, rest));
    }
    let (second, rest) = rest.strip_prefix(br"\u").and_then(code_unit).ok_or(NotUnicode)?;
    let char = char::decode_utf16([first, second]).next().and_then(Result::ok).ok_or(NotUnicode)?;
    Ok((char, rest))
}

fn code_unit(text: &[u8]) -> Option<(u16, &[u8])> {
    let (digits, rest) = text.split_first_chunk::<4>()?;
    let unit = digits.iter().try_fold(0, |unit, &digit| Some(unit << 4 | char::from(digit).to_digit(16)?))?;
    Some((unit as u16, rest))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::super::cursor::Cursor;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20 * ProptestConfig::default().cases))]

        #[test]
        fn a_string_says_what_serde_json_reads(pieces in prop::collection::vec(prop::sample::select(vec![
            "a", "text", "é", "😀", "\\\"", "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t", "\\u0041", "\\u00e9", "\\u20AC",
            "\\ud83d\\ude00", "\\ud83d", "\\ude00", "\\ud83d\\n", "\\ud83du", "\\u0000", "\\u002", "\\x", "\u{1f}",
        ]), 0..6), tail: String) {
            let text = format!("\"{}\"{tail}", pieces.concat());
            let expected = serde_json::Deserializer::from_str(&text).into_iter::<String>().next().unwrap().ok();
            let string = Cursor::new(text.as_bytes()).string().ok();
            let (mut out, mut scratch) = (b"before".to_vec(), b"before".to_vec());
            let read = string.filter(|string| string.unescape(&mut out).is_ok()).map(|string| {
                assert_eq!(string.unescaped(&mut scratch), Ok(&out[..]));
                String::from_utf8(out).unwrap()
            });
            prop_assert_eq!(read, expected, "{}", text);
        }
    }
}
