//! The headers of a JSON schedule: an object of base64 strings, decoded into one packed run.

use super::Read;
use super::bytes;
use super::cursor::{Cursor, Malformed};
use super::text::NotUnicode;
use crate::codec::base64::{self, NotBase64};
use crate::codec::unique::{self, Name, Names};
use crate::codec::{DecodeError, JsonFault, JsonPlace, Scratch};
use crate::schedule::{Headers, varint};

/// The headers of which the scratch holds the run.
pub(super) struct Found {
    /// Whether two of the names may be the same.
    maybe_twice: bool,
    faulty: Vec<Faulty>,
}

/// A header whose value cannot be. In the packed run its value is null, which no valid header's is.
struct Faulty {
    /// Its place among the headers, from 1.
    number: usize,
    /// Where in the text its value begins.
    at: usize,
    fault: JsonFault,
}

/// Reads the value that begins with `first` as headers, into the scratch's run.
#[inline(always)]
pub(super) fn read(
    cursor: &mut Cursor<'_>,
    first: u8,
    scratch: &mut Scratch,
) -> Result<Read<Found>, Malformed> {
    if first != b'{' {
        return cursor.skip_value(&mut scratch.open).map(|()| Err(JsonFault::NotAnObject));
    }
    let (read, end) = read_object(*cursor, scratch)?;
    cursor.resume(end);
    Ok(read)
}

#[inline(never)]
fn read_object(mut cursor: Cursor<'_>, scratch: &mut Scratch) -> Result<(Read<Found>, usize), Malformed> {
    let Scratch { run, unescaped, open, .. } = scratch;
    run.clear();
    run.reserve(cursor.behind_quote().len()); // that of several objects would otherwise grow step by step
    let mut names = Names::default();
    let mut found = Found { maybe_twice: false, faulty: Vec::new() };
    let mut names_are_text = true;
    let mut number = 0;
    let mut goes_on = cursor.enter_object()?;
    while goes_on {
        number += 1;
        let name = match cursor.plain_name()? {
            Some(name) => name,
            None => cursor.name()?.unescaped(unescaped).unwrap_or_else(|NotUnicode| {
                names_are_text = false;
                &[]
            }),
        };
        found.maybe_twice |= names.see(Name::of_text(name));
        varint::write_bytes(run, name);

        let first = cursor.peek().ok_or(Malformed)?;
        let at = cursor.at();
        if let Err(fault) =
            bytes::read_with(&mut cursor, first, unescaped, open, |text| push_decoded(run, text))?
        {
            varint::write(run, varint::NULL_LEN);
            found.faulty.push(Faulty { number, at, fault });
        }
        goes_on = cursor.next_member()?;
    }
    Ok((if names_are_text { Ok(found) } else { Err(JsonFault::NotUnicode) }, cursor.at()))
}

/// Appends a header's value as [`base64::decode_quoted`] does, with its length before it.
///
/// How long it is shows when it is decoded, so a byte is kept for that: enough for 63 bytes, as nearly all headers are.
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

/// Puts `len` before the value, where one byte was kept for it and it takes more.
///
/// It is written behind the value. Its last byte goes where one was kept, which is right before the value; and then all that
/// begins there is rotated until the others are before that.
#[inline(never)]
fn widen_len(run: &mut Vec<u8>, at: usize, len: usize) {
    let end = run.len();
    varint::write(run, len as i64);
    run[at] = run.pop().expect("a length takes a byte at least");
    let others = run.len() - end;
    run[at..].rotate_right(others);
}

impl Found {
    /// The headers of `run` that no later one overrides; an error if one of them is faulty.
    #[inline(always)]
    pub(super) fn standing<'a>(
        &self,
        run: &'a [u8],
        unique: &'a mut unique::Scratch,
    ) -> Result<Headers<'a>, DecodeError> {
        let run = Headers::from_trusted(run);
        let headers = if self.maybe_twice { unique::last_of_each(run, unique) } else { run };
        if self.faulty.is_empty() {
            return Ok(headers);
        }
        match self.first_standing_fault(run, headers) {
            None => Ok(headers),
            Some(&Faulty { number, at, fault }) => {
                Err(DecodeError::InvalidJson { place: JsonPlace::Header(number), at, fault })
            }
        }
    }

    /// The fault of the first header in `headers` that has one; those that a later header overrode do not matter.
    #[cold]
    fn first_standing_fault(&self, run: Headers<'_>, headers: Headers<'_>) -> Option<&Faulty> {
        let standing = headers.iter().find(|header| header.value.is_none())?;
        let last_of_name = run.iter().zip(1..).filter(|(header, _)| header.name == standing.name).last();
        let (_, number) = last_of_name.expect("the headers are a part of the run");
        self.faulty.iter().find(|header| header.number == number)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::codec::sample::Sample;
    use crate::schedule::Format;

    #[test]
    fn of_several_bad_headers_the_first_that_stands_is_told() {
        let text = r#"{"time":6,"topic":"t","key":"","headers":{"a":1,"b":"*","c":null,"a":"","b":2}}"#;
        let fault = JsonFault::NotAString;
        let (place, at) = (JsonPlace::Header(3), text.find("null").unwrap());
        assert_eq!(
            Sample::decode(Format::Json, text.as_bytes()),
            Err(DecodeError::InvalidJson { place, at, fault })
        );
    }

    /// The length of a header's value is written before it is known.
    #[test]
    fn a_header_may_be_of_any_length() {
        for len in [0, 1, 47, 48, 49, 62, 63, 64, 65, 8191, 8192, 100_000] {
            let headers =
                vec![("before".into(), b"x".to_vec()), ("h".into(), vec![7; len]), ("z".into(), vec![8])];
            let sample = Sample { headers, ..Sample::default() };
            assert_eq!(Sample::decode(Format::Json, &sample.encode(Format::Json)), Ok(sample), "{len} bytes");
        }
    }
}
