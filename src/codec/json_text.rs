//! The syntax of JSON (RFC 8259), read from the front of a text, one step at a time.
//!
//! Whoever steps through the whole text has checked it: each string for its escapes, its control characters and its
//! UTF-8, each number, each bracket. What a string says is for [`Text`] to tell; nothing is copied before that.
#![allow(
    clippy::inline_always,
    reason = "measured: a reader that is lent keeps its place in memory, not in registers"
)]

/// The text is not JSON. Why and where is for a slower parser to say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A place in a text.
///
/// Handed in parts to what is not inlined, or it would be kept in memory and not in registers.
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

/// A string's content, as it was written between the quotes; its syntax is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Text<'a> {
    pub(super) written: &'a [u8],
    /// Whether some of it is written with escapes; if not, `written` is what it says.
    pub(super) has_escapes: bool,
}

impl<'a> Cursor<'a> {
    #[inline(always)]
    pub(super) fn new(text: &'a [u8], at: usize) -> Self {
        Self { text, at }
    }

    #[inline(always)]
    pub(super) fn text(self) -> &'a [u8] {
        self.text
    }

    /// In bytes from the front.
    #[inline(always)]
    pub(super) fn at(self) -> usize {
        self.at
    }

    /// Steps over blanks to the next byte; `None` at the text's end.
    #[inline(always)]
    pub(super) fn peek(&mut self) -> Option<u8> {
        loop {
            match *self.text.get(self.at)? {
                b' ' | b'\n' | b'\r' | b'\t' => self.at += 1,
                byte => return Some(byte),
            }
        }
    }

    /// From an opening brace to the name of the first member, or behind the closing brace: whether there is a member.
    #[inline(always)]
    pub(super) fn enter_object(&mut self) -> Result<bool, Malformed> {
        self.at += 1;
        match self.peek() {
            Some(b'"') => Ok(true),
            Some(b'}') => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(Malformed),
        }
    }

    /// From behind a member's value to the name of the next, or behind the closing brace: whether there is another.
    #[inline(always)]
    pub(super) fn next_member(&mut self) -> Result<bool, Malformed> {
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                if self.peek() == Some(b'"') { Ok(true) } else { Err(Malformed) }
            }
            Some(b'}') => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(Malformed),
        }
    }

    /// Steps over a member's name and the colon; gives the name.
    #[inline(always)]
    pub(super) fn name(&mut self) -> Result<Text<'a>, Malformed> {
        let name = self.string()?;
        self.colon()?;
        Ok(name)
    }

    /// [`name`](Self::name) if it is plain, otherwise nothing.
    #[inline(always)]
    pub(super) fn plain_name(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        let name = self.plain_string();
        if name.is_some() {
            self.colon()?;
        }
        Ok(name)
    }

    #[inline(always)]
    fn colon(&mut self) -> Result<(), Malformed> {
        if self.peek() != Some(b':') {
            return Err(Malformed);
        }
        self.at += 1;
        Ok(())
    }

    /// Steps over `prefix` if the text goes on with it.
    #[inline(always)]
    pub(super) fn strip(&mut self, prefix: &[u8]) -> bool {
        let strips = self.text.get(self.at..).is_some_and(|rest| rest.starts_with(prefix));
        if strips {
            self.at += prefix.len();
        }
        strips
    }

    /// What follows the quote that stands here, up to the end of the text.
    #[inline(always)]
    pub(super) fn behind_quote(self) -> &'a [u8] {
        self.text.get(self.at + 1..).unwrap_or_default()
    }

    /// Steps over a quote and `len` bytes, up to the closing quote and with it, whose syntax the caller has checked.
    #[inline(always)]
    pub(super) fn accept_quoted(&mut self, len: usize) {
        self.at += 1 + len;
    }

    /// Steps over the string that begins here with its quote.
    #[inline(always)]
    pub(super) fn string(&mut self) -> Result<Text<'a>, Malformed> {
        if let Some(written) = self.plain_string() {
            return Ok(Text { written, has_escapes: false });
        }
        let (string, end) = string_bytewise(self.text, self.at + 1)?;
        self.at = end;
        Ok(string)
    }

    /// Steps over the string that begins here with its quote, if it is plain: ASCII and no escapes. (And if it is not
    /// among the last few bytes of the text.)
    #[inline(always)]
    pub(super) fn plain_string(&mut self) -> Option<&'a [u8]> {
        let rest = self.text.get(self.at + 1..)?;
        let (words, _) = rest.as_chunks();
        for (i, word) in words.iter().enumerate() {
            let stops = stops(u64::from_le_bytes(*word));
            if stops != 0 {
                let len = i * size_of::<u64>() + stops.trailing_zeros() as usize / 8;
                if *rest.get(len)? != b'"' {
                    return None;
                }
                self.at += len + 2;
                return rest.get(..len);
            }
        }
        None
    }

    /// Steps over the integer that begins here, if it has no more digits than a time has, and nothing but digits.
    #[inline(always)]
    pub(super) fn plain_integer(&mut self) -> Option<i64> {
        let rest = self.text.get(self.at..)?;
        let first = Digits::of(*rest.first_chunk()?);
        let (value, len) = if first.len < 8 {
            (first.value, first.len)
        } else {
            let then = Digits::of(*rest.get(8..)?.first_chunk()?);
            (first.value * POWERS[then.len] + then.value, 8 + then.len)
        };
        let is_whole = match rest.get(len)? {
            b'0'..=b'9' | b'.' | b'e' | b'E' => false,
            _ => len == 1 || (len > 1 && rest[0] != b'0'),
        };
        if !is_whole {
            return None;
        }
        self.at += len;
        Some(value)
    }

    /// Steps over the number that begins here; gives it as it is written.
    pub(super) fn number(&mut self) -> Result<&'a [u8], Malformed> {
        let start = self.at;
        if self.text.get(self.at) == Some(&b'-') {
            self.at += 1;
        }
        let whole = self.at;
        self.digits()?;
        if self.at > whole + 1 && self.text[whole] == b'0' {
            return Err(Malformed);
        }
        if self.text.get(self.at) == Some(&b'.') {
            self.at += 1;
            self.digits()?;
        }
        if let Some(b'e' | b'E') = self.text.get(self.at) {
            self.at += 1;
            if let Some(b'+' | b'-') = self.text.get(self.at) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(&self.text[start..self.at])
    }

    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while let Some(b'0'..=b'9') = self.text.get(self.at) {
            self.at += 1;
        }
        if self.at == start { Err(Malformed) } else { Ok(()) }
    }

    /// Steps over the literal if it begins here.
    #[inline(always)]
    pub(super) fn literal(&mut self, literal: &[u8]) -> Result<(), Malformed> {
        if self.strip(literal) { Ok(()) } else { Err(Malformed) }
    }

    /// Steps over the value that begins here, whatever it is.
    ///
    /// `open` is memory to keep a byte in for each array and object around the current place, so that depth costs no
    /// more than length.
    #[inline(always)]
    pub(super) fn skip_value(&mut self, open: &mut Vec<u8>) -> Result<(), Malformed> {
        self.at = self.end_of_value(open)?;
        Ok(())
    }

    #[inline(never)]
    fn end_of_value(mut self, open: &mut Vec<u8>) -> Result<usize, Malformed> {
        open.clear();
        loop {
            let first = self.peek().ok_or(Malformed)?;
            let enters = match first {
                b'{' => self.enter_object()?,
                b'[' => self.enter_array(),
                _ => self.skip_scalar(first).map(|()| false)?,
            };
            if enters {
                open.push(first);
                if first == b'{' {
                    self.name()?;
                }
            } else if !self.next_value(open)? {
                return Ok(self.at);
            }
        }
    }

    /// From behind a value to the next one in any of the arrays and objects that are open, or behind the last of them:
    /// whether there is another value.
    fn next_value(&mut self, open: &mut Vec<u8>) -> Result<bool, Malformed> {
        while let Some(bracket) = open.last() {
            let goes_on = if *bracket == b'{' {
                let goes_on = self.next_member()?;
                if goes_on {
                    self.name()?;
                }
                goes_on
            } else {
                self.next_element()?
            };
            if goes_on {
                return Ok(true);
            }
            open.pop();
        }
        Ok(false)
    }

    fn enter_array(&mut self) -> bool {
        self.at += 1;
        let is_empty = self.peek() == Some(b']');
        self.at += usize::from(is_empty);
        !is_empty
    }

    fn next_element(&mut self) -> Result<bool, Malformed> {
        let byte = self.peek();
        self.at += 1;
        match byte {
            Some(b',') => Ok(true),
            Some(b']') => Ok(false),
            _ => Err(Malformed),
        }
    }

    fn skip_scalar(&mut self, first: u8) -> Result<(), Malformed> {
        match first {
            b'"' => self.string().map(drop),
            b'-' | b'0'..=b'9' => self.number().map(drop),
            b't' => self.literal(b"true"),
            b'f' => self.literal(b"false"),
            b'n' => self.literal(b"null"),
            _ => Err(Malformed),
        }
    }
}

/// Whether a string can be written as it is: ASCII, and nothing to escape.
pub(super) fn is_plain(string: &[u8]) -> bool {
    let (words, rest) = string.as_chunks();
    let is_stop = |byte: &u8| matches!(byte, 0..0x20 | b'"' | b'\\' | 0x80..);
    words.iter().all(|word| stops(u64::from_le_bytes(*word)) == 0) && !rest.iter().any(is_stop)
}

const EACH: u64 = 0x0101_0101_0101_0101;
const HIGH_BITS: u64 = 0x80 * EACH;

/// The bytes at which a string is no longer plain, each marked by its high bit: quotes, backslashes, control
/// characters, and what is not ASCII. Bytes behind the first of them may be marked wrongly.
#[inline(always)]
const fn stops(word: u64) -> u64 {
    let quotes = word ^ (b'"' as u64 * EACH);
    let backslashes = word ^ (b'\\' as u64 * EACH);
    let below = word.wrapping_sub(0x20 * EACH) | quotes.wrapping_sub(EACH) | backslashes.wrapping_sub(EACH);
    (below | word) & HIGH_BITS
}

/// The string that begins at `start`, behind its quote, and where it ends.
#[inline(never)]
fn string_bytewise(text: &[u8], start: usize) -> Result<(Text<'_>, usize), Malformed> {
    let mut at = start;
    let (mut has_escapes, mut is_ascii) = (false, true);
    loop {
        match text.get(at).ok_or(Malformed)? {
            b'"' => break,
            b'\\' => {
                has_escapes = true;
                at += escape_len(&text[at..])?;
            }
            0..0x20 => return Err(Malformed),
            byte => {
                is_ascii &= byte.is_ascii();
                at += 1;
            }
        }
    }
    let written = &text[start..at];
    if !is_ascii && std::str::from_utf8(written).is_err() {
        return Err(Malformed);
    }
    Ok((Text { written, has_escapes }, at + 1))
}

/// How long the escape is that begins here.
fn escape_len(text: &[u8]) -> Result<usize, Malformed> {
    match text {
        [_, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => Ok(2),
        [_, b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) => Ok(6),
        _ => Err(Malformed),
    }
}

/// Of ten.
const POWERS: [i64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// The digits at the front of eight bytes.
struct Digits {
    value: i64,
    len: usize,
}

impl Digits {
    #[inline(always)]
    fn of(bytes: [u8; 8]) -> Self {
        let digits = u64::from_le_bytes(bytes) ^ (u64::from(b'0') * EACH);
        let foreign = (digits | digits.wrapping_add(0x76 * EACH)) & HIGH_BITS; // right up to the first
        let len = foreign.trailing_zeros() as usize / 8;
        // Zeros before them make them eight. The first digit is in the lowest byte.
        let eight = digits.checked_shl(64 - 8 * len as u32).unwrap_or_default();
        let pairs = (eight * 10 + (eight >> 8)) & 0x00ff_00ff_00ff_00ff;
        let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
        Self { value: ((fours * 10_000 + (fours >> 32)) & 0xffff_ffff) as i64, len }
    }
}

/// Half a surrogate pair: no Unicode text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotUnicode;

impl Text<'_> {
    /// Appends what the string says to `out`, in UTF-8.
    #[inline(never)]
    pub(super) fn unescape(self, out: &mut Vec<u8>) -> Result<(), NotUnicode> {
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
    use serde::de::IgnoredAny;

    use super::*;

    fn is_json(text: &[u8]) -> bool {
        let mut cursor = Cursor::new(text, 0);
        cursor.skip_value(&mut Vec::new()).is_ok() && cursor.peek().is_none()
    }

    fn is_json_for_serde(text: &[u8]) -> bool {
        std::str::from_utf8(text).is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
    }

    /// Made of what JSON is made of, in any order.
    fn soup() -> impl Strategy<Value = Vec<u8>> {
        let morsel = prop::sample::select(vec![
            "{", "}", "[", "]", ",", ":", " ", "\n", "\"", "\\", "\\u", "\\n", "ab12", "true", "false",
            "null", "-", "0", "7", "10", ".", "e", "E+", "\"a\"", "\"a\":", "\u{1}", "é", "\u{7f}",
        ]);
        let bytes = prop_oneof![30 => morsel.prop_map(|text| text.as_bytes().to_vec()), 1 => any::<u8>().prop_map(|byte| vec![byte])];
        prop::collection::vec(bytes, 0..8).prop_map(|morsels| morsels.concat())
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(serde_json::Value::Null),
            any::<bool>().prop_map(serde_json::Value::from),
            any::<i64>().prop_map(serde_json::Value::from),
            any::<f64>().prop_map(serde_json::Value::from),
            ".{0,20}".prop_map(serde_json::Value::from),
        ];
        leaf.prop_recursive(4, 30, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(serde_json::Value::from),
                prop::collection::btree_map(".{0,9}", inner, 0..5).prop_map(serde_json::Value::from_iter),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20 * ProptestConfig::default().cases))]

        #[test]
        fn soup_is_json_when_serde_json_says_so(soup in soup()) {
            prop_assert_eq!(is_json(&soup), is_json_for_serde(&soup), "{}", String::from_utf8_lossy(&soup));
        }

        #[test]
        fn a_string_says_what_serde_json_reads(pieces in prop::collection::vec(prop::sample::select(vec![
            "a", "text", "é", "😀", "\\\"", "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t", "\\u0041", "\\u00e9", "\\u20AC",
            "\\ud83d\\ude00", "\\ud83d", "\\ude00", "\\ud83d\\n", "\\ud83du", "\\u0000", "\\u002", "\\x", "\u{1f}",
        ]), 0..6), tail: String) {
            let text = format!("\"{}\"{tail}", pieces.concat());
            let expected = serde_json::Deserializer::from_str(&text).into_iter::<String>().next().unwrap().ok();
            let string = Cursor::new(text.as_bytes(), 0).string().ok();
            let mut out = Vec::new();
            let read = string.filter(|string| string.unescape(&mut out).is_ok()).map(|string| {
                assert!(string.has_escapes || string.written == out);
                String::from_utf8(out).unwrap()
            });
            prop_assert_eq!(read, expected, "{}", text);
        }
    }

    proptest! {
        #[test]
        fn damaged_json_is_json_when_serde_json_says_so(value in value(), pretty: bool, at: prop::sample::Index, byte: u8, cut: bool) {
            let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) };
            let mut text = text.unwrap();
            prop_assert!(is_json(&text));
            let at = at.index(text.len());
            if cut { text.truncate(at) } else { text[at] = byte }
            prop_assert_eq!(is_json(&text), is_json_for_serde(&text), "{}", String::from_utf8_lossy(&text));
        }

        #[test]
        fn a_plain_integer_is_all_of_its_digits(digits in "[0-9]{1,20}", behind in "[,} .eE0-9x]{0,20}") {
            let text = format!("{digits}{behind}");
            let mut cursor = Cursor::new(text.as_bytes(), 0);
            let number = cursor.number().map(|number| String::from_utf8(number.to_vec()).unwrap());
            let mut cursor = Cursor::new(text.as_bytes(), 0);
            if let Some(integer) = cursor.plain_integer() {
                prop_assert_eq!(number, Ok(integer.to_string()));
                prop_assert_eq!(cursor.at(), integer.to_string().len());
            } else {
                prop_assert_eq!(cursor.at(), 0);
            }
        }

        #[test]
        fn a_plain_string_needs_no_escape(text: String) {
            let quoted = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(is_plain(text.as_bytes()), text.is_ascii() && quoted.len() == text.len() + 2);
        }
    }

    #[test]
    fn syntax_is_strict() {
        for text in [
            "0",
            "-0",
            "10",
            "01",
            "-01",
            "00",
            "-",
            "+1",
            "1.",
            "1.0",
            ".5",
            "1e5",
            "1E+5",
            "1e-5",
            "1e",
            "1e+",
            "0e0",
            "0x1",
            "[]",
            "[1]",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[}",
            "{]",
            "[1}",
            r#"{"a":1]"#,
            "[[]",
            "[]]",
            "[[],{}]",
            "[{},[]]",
            "{}",
            "{,}",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":1,}"#,
            r#"{"a":1 "b":2}"#,
            r#"{"a":1,"b":2}"#,
            "{1:2}",
            r#"{"a":[{"b":[]}]}"#,
            "true",
            "tru",
            "truer",
            "nul",
            "null",
            "false",
            "True",
            "\u{a0}1",
            "\u{feff}1",
            " \t\r\n1 \t\r\n",
            "\u{b}1",
            "\u{c}1",
            "\"",
            "\"\\\"",
            r#""\u12""#,
            r#""\u12g4""#,
            r#""\v""#,
            r#""\u0041""#,
            "\"\u{0}\"",
            "\"a\nb\"",
            "\"longer than a word\n\"",
            "'a'",
            "1 1",
            "",
            " ",
            ",",
            "\u{1}",
        ] {
            assert_eq!(is_json(text.as_bytes()), is_json_for_serde(text.as_bytes()), "{text:?}");
        }
    }

    #[test]
    fn a_time_is_a_plain_integer() {
        for digits in ["0", "7", "1767225600000", "9999999999999999"] {
            let text = format!("{digits},\"topic\":\"orders\"");
            let mut cursor = Cursor::new(text.as_bytes(), 0);
            assert_eq!(cursor.plain_integer(), digits.parse().ok());
        }
    }
}
