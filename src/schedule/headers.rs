//! Kafka headers as one packed run of bytes: read in place, copied whole, never a `Vec` of pairs.

use std::ops::Range;

use super::varint;

/// One header: a name and a value; `None` is Kafka's null value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The header's name, UTF-8.
    pub name: &'a str,
    /// The header's value; no encoding is assumed.
    pub value: Option<&'a [u8]>,
}

/// A run of headers, in order, duplicates and all.
///
/// Layout, repeated to the end of the slice: zigzag varint length of the name, the name, zigzag varint length of the
/// value ([`varint::NULL_LEN`] for null), the value. The entries of an Avro map block of bytes have just this layout, so
/// the decoder hands out a slice of the record as it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Headers<'a> {
    packed: &'a [u8],
}

impl<'a> Headers<'a> {
    /// Checks that `packed` is a well-formed run of headers with UTF-8 names.
    #[must_use]
    pub fn parse(packed: &'a [u8]) -> Option<Self> {
        let mut at = 0;
        while at < packed.len() {
            let span = HeaderSpan::read(packed, at)?;
            std::str::from_utf8(&packed[span.name]).ok()?;
            at = span.end;
        }
        Some(Self { packed })
    }

    /// A run that was checked before, such as one the engine stored.
    ///
    /// Reading a malformed run panics, so use [`parse`](Self::parse) for bytes of unknown origin.
    #[must_use]
    pub fn from_trusted(packed: &'a [u8]) -> Self {
        debug_assert!(Self::parse(packed).is_some(), "packed headers are malformed");
        Self { packed }
    }

    /// The packed bytes.
    #[must_use]
    pub fn as_packed(self) -> &'a [u8] {
        self.packed
    }

    /// Whether there is no header.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.packed.is_empty()
    }

    /// The headers in order.
    pub fn iter(self) -> impl Iterator<Item = Header<'a>> {
        self.spans().map(move |span| Header {
            name: std::str::from_utf8(&self.packed[span.name]).expect(CHECKED),
            value: span.value.map(|value| &self.packed[value]),
        })
    }

    /// Where in the packed bytes each header stands, in order: quicker than [`iter`](Self::iter), which has to look at
    /// each name once more.
    pub fn spans(self) -> impl Iterator<Item = HeaderSpan> {
        let mut at = 0;
        std::iter::from_fn(move || {
            (at < self.packed.len()).then(|| {
                let span = HeaderSpan::read(self.packed, at).expect(CHECKED);
                at = span.end;
                span
            })
        })
    }
}

const CHECKED: &str = "checked when the run was made";

/// Where in a packed run one header stands, in bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderSpan {
    /// Where the header begins, with the length of its name.
    pub start: usize,
    /// The name.
    pub name: Range<usize>,
    /// The value; `None` is Kafka's null value.
    pub value: Option<Range<usize>>,
    /// Where the header ends.
    pub end: usize,
}

impl HeaderSpan {
    #[inline(never)] // or who walks over a run is large, and no quicker (counted)
    fn read(packed: &[u8], start: usize) -> Option<Self> {
        let (name, name_end) = varint::read_bytes_at(packed, start)?;
        let name = name_end - name.len()..name_end;
        Some(match varint::read_bytes_at(packed, name_end) {
            Some((value, end)) => Self { start, name, value: Some(end - value.len()..end), end },
            None => match varint::read_at(packed, name_end)? {
                (varint::NULL_LEN, end) => Self { start, name, value: None, end },
                _ => return None,
            },
        })
    }
}

/// Builds a packed run of headers; reused from record to record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeadersBuf {
    packed: Vec<u8>,
}

impl HeadersBuf {
    /// An empty run.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends all of these, as they are.
    pub fn extend(&mut self, headers: Headers<'_>) {
        self.packed.extend_from_slice(headers.as_packed());
    }

    /// Appends a header, keeping any earlier one of the same name.
    pub fn push(&mut self, name: &str, value: Option<&[u8]>) {
        varint::write_bytes(&mut self.packed, name.as_bytes());
        match value {
            None => varint::write(&mut self.packed, varint::NULL_LEN),
            Some(value) => varint::write_bytes(&mut self.packed, value),
        }
    }

    /// Empties the run, keeping its memory.
    pub fn clear(&mut self) {
        self.packed.clear();
    }

    /// The run as it stands.
    #[must_use]
    pub fn as_headers(&self) -> Headers<'_> {
        Headers { packed: &self.packed }
    }
}

impl<N: AsRef<str>, V: AsRef<[u8]>> FromIterator<(N, V)> for HeadersBuf {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut headers = Self::new();
        for (name, value) in pairs {
            headers.push(name.as_ref(), Some(value.as_ref()));
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn headers_come_back_in_order(pairs: Vec<(String, Option<Vec<u8>>)>) {
            let mut buf = HeadersBuf::new();
            for (name, value) in &pairs {
                buf.push(name, value.as_deref());
            }
            let parsed = Headers::parse(buf.as_headers().as_packed()).expect("well-formed");
            let read: Vec<_> = parsed.iter().map(|h| (h.name.to_owned(), h.value.map(<[u8]>::to_vec))).collect();
            prop_assert_eq!(read, pairs);
        }

        #[test]
        fn no_bytes_make_parse_panic(bytes: Vec<u8>) {
            if let Some(headers) = Headers::parse(&bytes) {
                headers.iter().for_each(drop);
            }
        }
    }

    #[test]
    fn malformed_runs_are_refused() {
        for bad in [
            &[1][..],
            &[3][..],
            &[2, 0xff, 0][..],
            &[2, b'a'][..],
            &[2, b'a', 3][..],
            &[2, b'a', 4, b'x'][..],
        ] {
            assert_eq!(Headers::parse(bad), None, "{bad:?}");
        }
    }
}
