//! The syntax of JSON (RFC 8259), read from the front of a text, one step at a time.
//!
//! Whoever steps through the whole text has checked it: each string for its escapes, its control characters and its
//! UTF-8, each number, each bracket. What a string says is for [`Text`] to tell; nothing is copied before that.

use super::swar;
use super::text::Text;

/// The text is not JSON. Why and where is for a slower parser to say.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// A place in a text.
///
/// A reader that is not inlined takes a cursor by value and gives back [`at`](Self::at), where the caller
/// [resumes](Self::resume). Lent to it, a cursor would have an address, and be kept in memory instead of registers by all
/// who step on with it: a detour of some nanoseconds for each step (measured).
#[derive(Clone, Copy)]
pub(super) struct Cursor<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    #[inline(always)]
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// In bytes from the front.
    #[inline(always)]
    pub(super) fn at(self) -> usize {
        self.at
    }

    /// Goes on where a copy has come to.
    #[inline(always)]
    pub(super) fn resume(&mut self, at: usize) {
        self.at = at;
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
        let (string, end) = self.string_bytewise()?;
        self.resume(end);
        Ok(string)
    }

    /// Steps over the string that begins here with its quote, if it is plain: ASCII and no escapes. (And if it is not
    /// among the last few bytes of the text.)
    #[inline(always)]
    pub(super) fn plain_string(&mut self) -> Option<&'a [u8]> {
        let string = swar::plain_string(self.text.get(self.at + 1..)?)?;
        self.accept_quoted(string.len() + 1);
        Some(string)
    }

    #[inline(never)]
    fn string_bytewise(mut self) -> Result<(Text<'a>, usize), Malformed> {
        self.at += 1;
        let start = self.at;
        let (mut has_escapes, mut is_ascii) = (false, true);
        loop {
            match self.text.get(self.at).ok_or(Malformed)? {
                b'"' => break,
                b'\\' => {
                    has_escapes = true;
                    self.at += escape_len(&self.text[self.at..])?;
                }
                0..0x20 => return Err(Malformed),
                byte => {
                    is_ascii &= byte.is_ascii();
                    self.at += 1;
                }
            }
        }
        let written = &self.text[start..self.at];
        if !is_ascii && std::str::from_utf8(written).is_err() {
            return Err(Malformed);
        }
        self.at += 1;
        Ok((Text { written, has_escapes }, self.at))
    }

    /// Steps over the integer that begins here, if it is plain: nothing but digits, and no more than a time has. (And if
    /// it is not among the last few bytes of the text.)
    #[inline(always)]
    pub(super) fn plain_integer(&mut self) -> Option<i64> {
        let (value, len) = swar::plain_integer(self.text.get(self.at..)?)?;
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
        self.resume(self.behind_value(open)?);
        Ok(())
    }

    #[inline(never)]
    fn behind_value(mut self, open: &mut Vec<u8>) -> Result<usize, Malformed> {
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

/// How long the escape is that begins here.
fn escape_len(text: &[u8]) -> Result<usize, Malformed> {
    match text {
        [_, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => Ok(2),
        [_, b'u', a, b, c, d, ..] if [a, b, c, d].iter().all(|digit| digit.is_ascii_hexdigit()) => Ok(6),
        _ => Err(Malformed),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use serde::de::IgnoredAny;

    use super::*;

    fn is_json(text: &[u8]) -> bool {
        let mut cursor = Cursor::new(text);
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
        fn a_plain_integer_is_all_of_its_digits(digits in "[0-9]{1,20}", behind in "[,} .eE0-9x/:]{0,20}") {
            let text = format!("{digits}{behind}");
            let mut cursor = Cursor::new(text.as_bytes());
            let number = cursor.number().map(|number| String::from_utf8(number.to_vec()).unwrap());
            let mut cursor = Cursor::new(text.as_bytes());
            if let Some(integer) = cursor.plain_integer() {
                prop_assert_eq!(number, Ok(integer.to_string()));
                prop_assert_eq!(cursor.at(), integer.to_string().len());
            } else {
                prop_assert_eq!(cursor.at(), 0);
            }
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
}
